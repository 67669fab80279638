//! What `scripts/monitor-pipelines.sh` shows of each pipeline, in the form that people and their scripts know.
//!
//! The form is fixed; `status` is where more is shown, and in other forms. It only reads, with or without a daemon.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::schedule::holding;
use super::{Failure, Globals, build_runtime, print};
use crate::config::Isolation;
use crate::daemon::client::Client;
use crate::daemon::view::PipelineState;
use crate::error::Result;
use crate::logs::{Filter, Level, Reader, Record};
use crate::process::Usage;
use crate::schedule::Origin;
use crate::session::{Found, Session};
use crate::state::{RunRecord, RunningRecord};
use crate::worker::workers_of;

/// Lines of the log that are shown.
const LINES: usize = 5;

/// Flags of `monitor`.
#[derive(Debug, Args)]
pub struct Monitor {
    /// Only these pipelines, or all of these plugins
    pipelines: Vec<String>,
}

/// What is shown of a pipeline.
struct Block {
    pipeline: String,
    status: &'static str,
    memory_bytes: u64,
    last_run: Option<Timestamp>,
    next_run: Option<Timestamp>,
    schedule_is_of_others: bool,
    lines: Vec<String>,
}

/// What only the daemon knows of a pipeline.
#[derive(Clone, Debug, Deserialize)]
struct Live {
    name: String,
    state: PipelineState,
    next_run: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
struct Answer {
    pipelines: Vec<Live>,
}

/// Shows a block for each pipeline.
pub fn monitor(globals: &Globals, command: &Monitor) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let mut found = Vec::new();
    if command.pipelines.is_empty() {
        found = session.find_or_all(None)?;
    }
    for name in &command.pipelines {
        found.extend(session.find(name)?);
    }
    let running = session.state.running()?;
    let live = ask_daemon(globals);
    let mut text = String::new();
    for found in &found {
        if !text.is_empty() {
            text.push('\n');
        }
        let run = running
            .iter()
            .find(|run| run.pipeline == found.manifest.name);
        let mut block = block(globals, &session, found, run)?;
        if let Some(live) = live.get(&block.pipeline) {
            // One that only depends on others is due with them. Of changes the daemon knows a second later than this.
            if block.schedule_is_of_others {
                block.next_run = live.next_run;
            }
            if live.state == PipelineState::Queued {
                block.status = "Queued";
            }
        }
        text.push_str(&block.to_text(&TimeZone::system()));
    }
    print(&text);
    Ok(0)
}

/// The daemon's pipelines. Without one, or without the right to ask it, what the state folder tells is all there is.
fn ask_daemon(globals: &Globals) -> BTreeMap<String, Live> {
    let answer = build_runtime().ok().and_then(|runtime| {
        runtime.block_on(async {
            let client = Client::open(&globals.state_dir).await.ok()??;
            client.get("/api/v1/pipelines").await.ok()
        })
    });
    let answer: Answer = answer
        .and_then(|answer| serde_json::from_value(answer).ok())
        .unwrap_or_default();
    let pipelines = answer.pipelines.into_iter();
    pipelines.map(|live| (live.name.clone(), live)).collect()
}

fn block(
    globals: &Globals,
    session: &Session,
    found: &Found,
    run: Option<&RunningRecord>,
) -> Result<Block, Failure> {
    let pipeline = &found.manifest.name;
    let loaded = session.load_config(found).ok();
    let disabled = session.state.is_disabled(pipeline)?;
    let parked = match &loaded {
        Some(loaded) => session.parked(found, loaded)?.is_some(),
        None => false,
    };
    let last_run = session.state.last_run(pipeline)?;
    let config = loaded.as_ref().map(|loaded| &loaded.config);
    let configured = config.and_then(|config| config.schedule.as_ref());
    let effective = holding(session, found, configured)?;
    let status = match &last_run {
        _ if run.is_some() => "Running",
        _ if disabled => "Stopped",
        _ if config.is_none() => "Broken",
        _ if parked => "Parked",
        _ if effective.paused => "Paused",
        Some(last) if has_failed(last) => "Failed",
        _ => "Idle",
    };
    let next_run = effective
        .followed()
        .ok()
        .flatten()
        .filter(|_| !disabled && !parked)
        .and_then(|schedule| schedule.next_after(Timestamp::now()));
    let in_process = config.is_some_and(|config| config.isolation == Isolation::InProcess);
    Ok(Block {
        pipeline: pipeline.clone(),
        status,
        memory_bytes: run.map_or(0, |run| resident_bytes(run, in_process)),
        last_run: last_run.and_then(|last| last.started_at.parse().ok()),
        next_run,
        schedule_is_of_others: effective.origin == Origin::None && !disabled && !parked,
        lines: last_lines(globals, pipeline)?,
    })
}

fn has_failed(last: &RunRecord) -> bool {
    matches!(last.status.as_str(), "failed" | "partial" | "interrupted")
}

/// The memory of a run's workers; of its host, where that runs the plugin itself.
fn resident_bytes(run: &RunningRecord, in_process: bool) -> u64 {
    let host = Usage::of(run.process).filter(|_| in_process);
    let workers = workers_of(run.process);
    let of_run = workers
        .iter()
        .filter(|worker| worker.label.pipeline == run.pipeline);
    let usages = of_run.map(|worker| worker.usage).chain(host);
    usages.map(|usage| usage.resident_bytes).sum()
}

/// What its log says last. A pipeline that never ran has none.
fn last_lines(globals: &Globals, pipeline: &str) -> Result<Vec<String>> {
    let filter = Filter {
        level: Some(Level::Info),
        ..Filter::default()
    };
    let Some(mut reader) = Reader::find(&globals.log_dir(), pipeline, filter)? else {
        return Ok(Vec::new());
    };
    let lines = reader.last_lines(LINES)?;
    Ok(lines.into_iter().map(|line| brief(line.record)).collect())
}

/// A line of the log, without what is above it and what few people want to know.
fn brief(mut record: Record) -> String {
    record.facts.pipeline = None;
    if record.level == Level::Info {
        record.fields.clear();
    }
    let message = record.to_message().replace(['\n', '\t'], " ");
    format!("[{}] {message}", record.level.word())
}

impl Block {
    /// In the local time of this machine.
    fn to_text(&self, zone: &TimeZone) -> String {
        let time = |instant: Option<Timestamp>, without: &str| {
            instant.map_or_else(
                || without.to_owned(),
                |instant| {
                    let local = instant.to_zoned(zone.clone());
                    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
                },
            )
        };
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "Pipeline: {}", self.pipeline);
        let _ = writeln!(text, "Status: {}", self.status);
        let _ = writeln!(text, "Memory Usage: {}MB", megabytes(self.memory_bytes));
        let _ = writeln!(text, "Last Run: {}", time(self.last_run, "never"));
        let _ = writeln!(text, "Next Run: {}", time(self.next_run, "-"));
        text.push_str("Recent Logs:\n");
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// The nearest number of 2^20 bytes.
fn megabytes(bytes: u64) -> u64 {
    bytes.saturating_add(1 << 19) >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_that_people_know() {
        let at = |text: &str| Some(text.parse().unwrap());
        let block = Block {
            pipeline: "login-analytics".to_owned(),
            status: "Running",
            memory_bytes: 129_600_000,
            last_run: at("2024-01-20T15:30:00Z"),
            next_run: at("2024-01-20T16:00:00.9Z"),
            schedule_is_of_others: false,
            lines: vec![
                "[INFO] Processed 1000 records".to_owned(),
                "[INFO] Successfully loaded to PostgreSQL".to_owned(),
            ],
        };
        expect_test::expect![[r"
            Pipeline: login-analytics
            Status: Running
            Memory Usage: 124MB
            Last Run: 2024-01-20 15:30:00
            Next Run: 2024-01-20 16:00:00
            Recent Logs:
            [INFO] Processed 1000 records
            [INFO] Successfully loaded to PostgreSQL
        "]]
        .assert_eq(&block.to_text(&TimeZone::UTC));
        let never = Block {
            status: "Idle",
            memory_bytes: 0,
            last_run: None,
            next_run: None,
            lines: Vec::new(),
            ..block
        };
        expect_test::expect![[r"
            Pipeline: login-analytics
            Status: Idle
            Memory Usage: 0MB
            Last Run: never
            Next Run: -
            Recent Logs:
        "]]
        .assert_eq(&never.to_text(&TimeZone::UTC));
    }
}
