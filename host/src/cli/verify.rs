//! `etl-host verify`: proves that the sink holds what the source gives.

use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::run::failure_to_text;
use super::table::{indented, table, thousands};
use super::{Failure, Globals, Output, print, print_json, progress, signals};
use crate::error::Result;
use crate::launch::build_plan;
use crate::plan::{Purpose, RunOptions};
use crate::pool::Pools;
use crate::runtime;
use crate::runtime::report::{RunReport, Status};
use crate::session::Session;
use crate::sink::build_sink;
use crate::source::build_source;
use crate::verify::report::{Difference, Kind, PartitionReport, TableReport, VerifyReport};
use crate::verify::{Verification, VerifyOptions};

/// Ranges that are shown one by one.
const SHOWN: usize = 50;

/// Flags of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The pipeline
    pipeline: String,
    /// Only this partition; may be given again
    #[arg(long, value_name = "NAME")]
    partition: Vec<String>,
    /// Do not compare this column of the output, such as a time of loading; may be given again
    #[arg(long, value_name = "COLUMN")]
    exclude: Vec<String>,
    /// Length of the ranges: 1d, 6h for times, a number for integers; 1d and 100000 if not given
    #[arg(long, value_name = "LENGTH")]
    window: Option<String>,
    /// Compare rows after this position only
    #[arg(long, value_name = "CURSOR")]
    from: Option<String>,
    /// Compare rows up to this position only
    #[arg(long, value_name = "CURSOR")]
    to: Option<String>,
}

/// How a comparison ended.
enum Verified {
    /// Both sides were read.
    Compared(VerifyReport),
    /// The source's side could not be read.
    NotRead(Box<RunReport>),
}

/// Compares one pipeline's rows.
pub fn verify(globals: &Globals, command: Verify) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let found = session.find_one(&command.pipeline)?;
    let loaded = session.load_config(&found)?;
    let stages = Session::open_stages(&found, &loaded)?;
    let options = RunOptions {
        purpose: Purpose::Verify,
        partitions: command.partition,
        since: command.from,
        until: command.to,
        ..RunOptions::default()
    };
    let wanted = VerifyOptions {
        exclude: command.exclude,
        window: command.window,
    };
    let (verified, stopped_by) = signals::drive_reading(async |cancel| {
        let pools = Arc::new(Pools::new());
        let plan = build_plan(found, loaded, &stages, options, &cancel).await?;
        let source = build_source(&plan.config.source, &pools);
        let sink = Arc::from(build_sink(&plan.config.sink, &pools));
        let name = plan.config.name.clone();
        let verification = Verification::open(plan, sink, &pools, wanted).await?;
        let context = Arc::new(verification.context(stages, source, cancel.clone()));
        let bars = globals.output == Output::Text && std::io::stderr().is_terminal();
        let watcher = bars.then(|| progress::watch(&name, context.books.clone()));
        let report = runtime::run(context).await;
        drop(watcher);
        if report.status != Status::Succeeded {
            return Ok(Verified::NotRead(Box::new(report)));
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(Verified::NotRead(Box::new(RunReport { status: Status::Cancelled, ..report }))),
            compared = verification.finish() => compared.map(Verified::Compared),
        }
    })?;
    match verified {
        Verified::Compared(report) => {
            if globals.output == Output::Json {
                print_json(&report)?;
            } else {
                print(&to_text(&report));
            }
            Ok(u8::from(!report.agrees))
        }
        Verified::NotRead(report) => {
            tell_failure(globals, &report)?;
            Ok(stopped_by.unwrap_or_else(|| match report.exit_code() {
                // Part of the source's side is no side to compare with.
                4 => 1,
                code => code,
            }))
        }
    }
}

fn tell_failure(globals: &Globals, report: &RunReport) -> Result<()> {
    let stopped = "the comparison was stopped";
    if globals.output == Output::Json {
        let first = report.failures().next();
        let message = first.map_or(stopped, |failure| failure.message.as_str());
        let next_step = first.and_then(|failure| failure.next_step.as_deref());
        return print_json(&json!({ "error": { "message": message, "next_step": next_step } }));
    }
    let mut text = String::new();
    for failure in report.failures() {
        text.push_str(&failure_to_text(failure));
    }
    if text.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {stopped}", report.pipeline);
    }
    progress::around_bars(|| eprint!("{text}"));
    Ok(())
}

fn to_text(report: &VerifyReport) -> String {
    let mut text = String::new();
    for table in &report.tables {
        text.push_str(&table_to_text(&report.pipeline, table));
    }
    if report.changed_meanwhile {
        text.push_str("  a run or a replay has committed meanwhile; what it changed may differ: compare again when none is under way\n");
    }
    text
}

fn table_to_text(pipeline: &str, report: &TableReport) -> String {
    let mut text = String::new();
    let sum = |count: fn(&PartitionReport) -> u64| report.partitions.iter().map(count).sum();
    let listed = sum(|partition| partition.differences.len() as u64);
    let differing = sum(wrong_ranges);
    let ranges: u64 = sum(|partition| partition.ranges);
    let verdict = if report.agrees {
        "agrees".to_owned()
    } else {
        format!(
            "DIFFERS in {} of {} ranges",
            thousands(differing),
            thousands(ranges)
        )
    };
    let _ = writeln!(
        text,
        "{pipeline}: table {} {verdict}\n  {} rows by the source, {} in the sink",
        report.table,
        thousands(sum(|partition| partition.expected)),
        thousands(sum(|partition| partition.found)),
    );
    if !report.left_out.is_empty() {
        let _ = writeln!(text, "  not compared: {}", report.left_out.join(", "));
    }
    let mut lines = table(
        &[
            "partition",
            "by the source",
            "in the sink",
            "quarantined",
            "ranges",
            "differ",
        ],
        &[1, 2, 3, 4, 5],
    );
    for partition in &report.partitions {
        lines.add_row([
            name(partition),
            thousands(partition.expected),
            thousands(partition.found),
            thousands(partition.quarantined),
            thousands(partition.ranges),
            thousands(wrong_ranges(partition)),
        ]);
    }
    text.push_str(&indented(&lines));
    if listed == 0 {
        return text;
    }
    let mut lines = table(
        &[
            "partition",
            "after",
            "up to",
            "by the source",
            "in the sink",
            "what",
        ],
        &[3, 4],
    );
    let all = report.partitions.iter().flat_map(|partition| {
        let differences = partition.differences.iter();
        differences.map(move |difference| (partition, difference))
    });
    for (partition, difference) in all.take(SHOWN) {
        let end = |end: &Option<String>| end.clone().unwrap_or_else(|| "-".to_owned());
        lines.add_row([
            name(partition),
            end(&difference.from),
            end(&difference.to),
            thousands(difference.expected),
            thousands(difference.found),
            describe(difference),
        ]);
    }
    text.push_str(&indented(&lines));
    let left = usize::try_from(differing)
        .unwrap_or(usize::MAX)
        .saturating_sub(SHOWN);
    if left > 0 {
        let _ = writeln!(
            text,
            "  and {} more; --output json has all of them",
            thousands(left as u64)
        );
    }
    text
}

/// Ranges with more wrong than rows in quarantine.
fn wrong_ranges(partition: &PartitionReport) -> u64 {
    let wrong = partition.differences.iter();
    wrong
        .filter(|found| found.kind != Kind::Quarantined)
        .count() as u64
}

fn name(partition: &PartitionReport) -> String {
    let name = partition.partition.clone();
    name.unwrap_or_else(|| "(all together)".to_owned())
}

fn describe(difference: &Difference) -> String {
    let (expected, found) = (difference.expected, difference.found);
    match difference.kind {
        Kind::Missing => format!("{} missing", thousands(expected - found)),
        Kind::Surplus => format!("{} more than expected", thousands(found - expected)),
        Kind::Values => "other values".to_owned(),
        Kind::BeyondCheckpoint => "behind the checkpoint".to_owned(),
        Kind::Quarantined => format!("{} in quarantine", thousands(expected - found)),
    }
}
