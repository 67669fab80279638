//! `etl-host status`: what runs now, with the memory and CPU time of each host and worker process.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::table::{indented, table};
use super::{Failure, Globals, Output, print, print_json};
use crate::daemon::process_of;
use crate::process::Usage;
use crate::state::{RunningRecord, State};
use crate::worker::{Running, workers_of};

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Only this pipeline
    pipeline: Option<String>,
}

/// A run that goes on, with its processes.
struct Run {
    record: RunningRecord,
    host: Option<Usage>,
    workers: Vec<Running>,
}

/// Shows the runs that go on.
pub fn status(globals: &Globals, command: &Status) -> Result<u8, Failure> {
    let state = State::open(&globals.state_dir)?;
    let runs: Vec<Run> = state
        .running()?
        .into_iter()
        .filter(|record| {
            command
                .pipeline
                .as_ref()
                .is_none_or(|name| *name == record.pipeline)
        })
        .map(|record| {
            let workers = workers_of(record.process)
                .into_iter()
                .filter(|worker| worker.label.pipeline == record.pipeline)
                .collect();
            Run {
                host: Usage::of(record.process),
                workers,
                record,
            }
        })
        .collect();
    if globals.output == Output::Json {
        print_json(&json!({
            "daemon": process_of(&globals.state_dir).map(|process| json!({ "process": process })),
            "running": runs.iter().map(to_json).collect::<Vec<_>>(),
        }))?;
    } else {
        print(&to_text(&runs));
    }
    Ok(0)
}

fn to_json(run: &Run) -> serde_json::Value {
    json!({
        "run_id": run.record.run_id,
        "pipeline": run.record.pipeline,
        "started_at": run.record.started_at,
        "process": run.record.process,
        "usage": run.host,
        "workers": workers_to_json(&run.workers),
    })
}

/// Workers as `status` and `info` give them.
pub fn workers_to_json(workers: &[Running]) -> Vec<serde_json::Value> {
    workers
        .iter()
        .map(|worker| {
            json!({
                "process": worker.process,
                "partition": worker.label.partition,
                "usage": worker.usage,
            })
        })
        .collect()
}

fn to_text(runs: &[Run]) -> String {
    if runs.is_empty() {
        return "Nothing runs.\n".to_owned();
    }
    let mut text = String::new();
    for run in runs {
        let record = &run.record;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: running since {}, run {}",
            record.pipeline,
            record.started_at.get(..19).unwrap_or(&record.started_at),
            record.run_id
        );
        let mut lines = table(&["process", "", "memory", "peak", "cpu"], &[0, 2, 3, 4]);
        let host = run
            .host
            .map(|usage| ("host".to_owned(), record.process, usage));
        let workers = run.workers.iter().map(|worker| {
            let what = if worker.label.partition.is_empty() {
                "worker".to_owned()
            } else {
                format!("worker of {}", worker.label.partition)
            };
            (what, worker.process, worker.usage)
        });
        for (what, process, usage) in host.into_iter().chain(workers) {
            lines.add_row([
                process.to_string(),
                what,
                mebibytes(usage.resident_bytes),
                mebibytes(usage.peak_bytes),
                seconds(usage.cpu_ms),
            ]);
        }
        text.push_str(&indented(&lines));
    }
    text
}

/// Bytes for people.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Milliseconds for people.
pub fn seconds(milliseconds: u64) -> String {
    format!("{:.1} s", Duration::from_millis(milliseconds).as_secs_f64())
}
