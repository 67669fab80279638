//! The long form: all cases over and over until the time is up, and one table at the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use etl_testkit::tally::Tally;

use crate::case::Case;

/// Cases side by side: most of the time a case waits.
const WORKERS: usize = 3;

/// As many kills as a long run owes.
const KILLS: u64 = 200;
const LONG_RUN_MINUTES: u64 = 30;

/// How long to go on; `None` if this is an ordinary test.
pub fn minutes() -> Option<u64> {
    number("SOAK_MINUTES")
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")),
    )
}

/// Runs all cases in turn, each with a seed of its own, and begins none when the time is up.
pub fn run(cases: &[Case], minutes: u64) -> ExitCode {
    let seed = number("SOAK_SEED").unwrap_or_else(rand::random);
    println!(
        "SOAK_SEED={seed}, {minutes} minutes, {} cases in turn",
        cases.len()
    );
    if let Some(only) = number("SOAK_CASE") {
        let case = &cases[usize::try_from(only).unwrap() % cases.len()];
        println!("case {only}: {}", case.name());
        let verdict = case.run_long(seed ^ only);
        println!("{verdict:#?}");
        return if verdict.is_clean() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let only = std::env::var("SOAK_ONLY").unwrap_or_default();
    let cases: Vec<&Case> = cases
        .iter()
        .filter(|case| case.name().contains(&only))
        .collect();
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let tally = Mutex::new(Tally::expecting(cases.iter().map(|case| case.fault)));
    let next = AtomicU64::new(0);
    let broken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while Instant::now() < end {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let case = &cases[usize::try_from(number).unwrap() % cases.len()];
                    let outcome = catch_unwind(AssertUnwindSafe(|| case.run_long(seed ^ number)));
                    let again = format!(
                        "SOAK_SEED={seed} SOAK_CASE={number} repeats {}",
                        case.name()
                    );
                    if let Ok(verdict) = outcome {
                        if !verdict.findings.is_empty() {
                            println!("FOUND: {again}\n{:#?}", verdict.findings);
                        }
                        tally
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .add(case.fault, verdict);
                    } else {
                        broken.fetch_add(1, Ordering::Relaxed);
                        println!("BROKEN: {again}");
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let broken = broken.into_inner();
    println!(
        "\n{tally}\n{} cases, {broken} broken off, SOAK_SEED={seed}",
        next.into_inner()
    );
    let killed = tally.injected("host: kill -9");
    let enough = killed >= KILLS || minutes < LONG_RUN_MINUTES;
    if !enough {
        println!("only {killed} kills of {KILLS}: the machine is too slow for {minutes} minutes");
    }
    if tally.is_clean() && broken == 0 && enough {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
