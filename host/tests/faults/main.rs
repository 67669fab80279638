//! Every fault there is, against the real program: after any of them the sink holds each row of the source once, or
//! the row lies in quarantine; and no run claims more than it did.
//!
//! As a test each case runs once or a few times, with the same choices every time. With `SOAK_MINUTES` set, the same
//! cases run over and over with choices of their own (`make soak`), and the outcome is one table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod case;
mod lies;
mod messages;
mod network;
mod processes;
mod rig;
mod servers;
mod shared;
mod soak;
mod source;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let cases: Vec<case::Case> = [
        network::cases(),
        servers::cases(),
        processes::cases(),
        lies::cases(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(minutes) = soak::minutes() {
        return soak::run(&cases, minutes);
    }
    let trials = cases.into_iter().map(|case| {
        Trial::test(case.name(), move || {
            let verdict = case.run_short();
            assert!(verdict.is_clean(), "{verdict:#?}");
            Ok(())
        })
    });
    let trials = trials.chain(messages::trials()).collect();
    let mut arguments = Arguments::from_args();
    // Most of the time a case waits.
    arguments.test_threads.get_or_insert(4);
    libtest_mimic::run(&arguments, trials).exit_code()
}
