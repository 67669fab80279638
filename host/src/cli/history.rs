//! `etl-host history`: the runs of the past, newest first, with how long they took and what they loaded.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use serde_json::json;

use super::logs::since;
use super::sparkline::{is_unicode, sparkline};
use super::table::{indented, table, thousands};
use super::{Failure, Globals, Output, print, print_json};
use crate::error::Error;
use crate::state::{HistoryQuery, RunDetails, State};

/// Longer reasons are cut in the table.
const REASON_CHARS: usize = 100;

/// Flags of `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Only this pipeline
    pipeline: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only those that ended like this
    #[arg(long, value_parser = ["running", "succeeded", "partial", "failed", "cancelled", "interrupted"])]
    status: Option<String>,
    /// Only from this time on: a length such as 7d, or a time such as 2026-11-23T04:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<jiff::Timestamp>,
    /// Only those before this run: the next page
    #[arg(long, value_name = "RUN_ID")]
    before: Option<String>,
}

/// Shows runs of the past.
pub fn history(globals: &Globals, command: &History) -> Result<u8, Failure> {
    let state = State::open(&globals.state_dir)?;
    if let Some(before) = &command.before
        && !state.knows_run(before)?
    {
        return Err(Error::config(format!("there is no run {before}"))
            .hint("give --before the identifier of a run that `etl-host history` has shown")
            .into());
    }
    // One more, to know whether there are more.
    let query = HistoryQuery {
        pipeline: command.pipeline.clone(),
        status: command.status.clone(),
        before: command.before.clone(),
        since: command.since,
        limit: command.limit + 1,
    };
    let mut runs = state.run_details(&query)?;
    let more = runs.len() > command.limit as usize;
    runs.truncate(command.limit as usize);
    let next = runs.last().filter(|_| more).map(|run| &run.record.run_id);
    if globals.output == Output::Json {
        print_json(&json!({ "runs": runs, "next": next }))?;
    } else {
        let unicode = is_unicode(|name| std::env::var(name).ok());
        print(&to_text(&runs, next.map(String::as_str), unicode));
    }
    Ok(0)
}

fn to_text(runs: &[RunDetails], next: Option<&str>, unicode: bool) -> String {
    if runs.is_empty() {
        return "No runs.\n".to_owned();
    }
    let mut text = String::new();
    let table = indented(&rows(runs));
    let mut lines = table.lines();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "{}", lines.next().unwrap_or_default());
    for (line, run) in lines.zip(runs) {
        let _ = writeln!(text, "{line}");
        if let Some(error) = &run.error {
            let _ = writeln!(text, "    {}", in_short(&run.pipeline, error));
        }
    }
    let _ = write!(text, "\n{}", summaries(runs, unicode));
    if let Some(next) = next {
        let _ = writeln!(text, "\nThere are more: --before {next}");
    }
    text
}

fn rows(runs: &[RunDetails]) -> comfy_table::Table {
    let headings = [
        "started", "pipeline", "status", "seconds", "read", "loaded", "bad", "attempts", "by",
        "run",
    ];
    let mut lines = table(&headings, &[3, 4, 5, 6, 7]);
    for run in runs {
        let record = &run.record;
        let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), thousands);
        lines.add_row([
            record.started_at.get(..19).unwrap_or(&record.started_at),
            &run.pipeline,
            &record.status,
            &run.seconds
                .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}")),
            &count(run.extracted),
            &count(record.loaded),
            &count(run.quarantined),
            &count(run.attempts.map(u64::from)),
            &record.trigger,
            &record.run_id,
        ]);
    }
    lines
}

/// One line, without what the row above it says already.
fn in_short(pipeline: &str, error: &str) -> String {
    let line = error.lines().next().unwrap_or_default();
    let line = line
        .strip_prefix(&format!("pipeline {pipeline}, "))
        .unwrap_or(line);
    match line.char_indices().nth(REASON_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default().trim_end()),
        None => line.to_owned(),
    }
}

/// Each pipeline's runs that are shown, oldest first, as little bars.
fn summaries(runs: &[RunDetails], unicode: bool) -> String {
    let mut pipelines: BTreeMap<&str, Vec<&RunDetails>> = BTreeMap::new();
    for run in runs.iter().rev() {
        pipelines.entry(&run.pipeline).or_default().push(run);
    }
    let mut text = String::new();
    for (pipeline, runs) in pipelines {
        let succeeded = runs.iter().filter(|run| run.record.status == "succeeded");
        let _ = writeln!(
            text,
            "{pipeline}: {} of {} succeeded; oldest first",
            succeeded.count(),
            runs.len()
        );
        let seconds: Vec<Option<f64>> = runs.iter().map(|run| run.seconds).collect();
        #[expect(clippy::cast_precision_loss, reason = "a bar is rounded anyway")]
        let loaded: Vec<Option<f64>> = runs
            .iter()
            .map(|run| run.record.loaded.map(|rows| rows as f64))
            .collect();
        let numbers = runs.iter().filter_map(|run| run.record.loaded);
        let most = numbers.max().map_or_else(|| "-".to_owned(), thousands);
        let longest = seconds.iter().flatten().copied().fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "  seconds  {}  at most {longest:.1}",
            sparkline(&seconds, unicode)
        );
        let _ = writeln!(
            text,
            "  loaded   {}  at most {most}",
            sparkline(&loaded, unicode)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::state::RunRecord;

    fn run(number: u64, status: &str, seconds: Option<f64>) -> RunDetails {
        RunDetails {
            pipeline: "orders".to_owned(),
            record: RunRecord {
                run_id: format!("run-{number}"),
                status: status.to_owned(),
                started_at: format!("2026-11-23T01:0{number}:00.123Z"),
                finished_at: None,
                loaded: seconds.map(|_| number * 1_000),
                trigger: "schedule".to_owned(),
                scheduled_for: None,
            },
            seconds,
            extracted: seconds.map(|_| number * 1_001),
            quarantined: seconds.map(|_| 0),
            attempts: seconds.map(|_| 2),
            error: (status == "failed").then(|| {
                "pipeline orders, partition eu, attempt 1: the table orders has no column amount\nmore".to_owned()
            }),
        }
    }

    #[test]
    fn the_table_the_bars_and_the_next_page() {
        let runs = [
            run(3, "interrupted", None),
            run(2, "failed", Some(0.5)),
            run(1, "succeeded", Some(12.34)),
        ];
        expect![[r#"
              STARTED              PIPELINE  STATUS       SECONDS   READ  LOADED  BAD  ATTEMPTS  BY        RUN
              2026-11-23T01:03:00  orders    interrupted        -      -       -    -         -  schedule  run-3
              2026-11-23T01:02:00  orders    failed           0.5  2,002   2,000    0         2  schedule  run-2
                partition eu, attempt 1: the table orders has no column amount
              2026-11-23T01:01:00  orders    succeeded       12.3  1,001   1,000    0         2  schedule  run-1

            orders: 1 of 3 succeeded; oldest first
              seconds  █▁   at most 12.3
              loaded   ▅█   at most 2,000

            There are more: --before run-1
        "#]].assert_eq(&to_text(&runs, Some("run-1"), true));
        assert_eq!(to_text(&[], None, true), "No runs.\n");
    }
}
