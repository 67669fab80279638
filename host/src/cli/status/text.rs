//! What `status` shows, as text: once and plainly, or for a terminal of a certain size. Pure.

use std::fmt::Write;
use std::time::Duration;

use comfy_table::Table;
use jiff::Timestamp;

use super::overview::{Overview, PipelineLine, RunLine};
use crate::cli::table::{indented, table, thousands};
use crate::daemon::view::{PartitionView, PipelineState};
use crate::process::Usage;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// So much room a live table has for what a run waits for; `status --once` has all of it.
const STATE_COLUMNS: usize = 28;
/// Lines above the first pipeline.
const HEAD: usize = 3;

/// All of it, once.
pub fn plain(overview: &Overview) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "{}", daemon_line(overview));
    if !overview.pipelines.is_empty() {
        let headings = ["pipeline", "state", "schedule", "last run", "next run"];
        let mut lines = table(&headings, &[]);
        for line in &overview.pipelines {
            let last = line.last_run.as_ref().map_or_else(
                || "never".to_owned(),
                |run| format!("{} {}", moment(&run.started_at), run.status),
            );
            let next = line
                .next_run
                .map(|next| moment(&next.to_string()).to_owned());
            lines.add_row([
                line.name.as_str(),
                word(line.state),
                line.schedule.as_deref().unwrap_or("-"),
                &last,
                next.as_deref().unwrap_or("-"),
            ]);
        }
        text.push_str(&indented(&lines));
    }
    for run in &overview.queued {
        let waits = run.waits_for.as_deref().unwrap_or("its turn");
        let _ = writeln!(
            text,
            "\n{}: waits for {waits}, run {}",
            run.pipeline, run.run_id
        );
    }
    for run in &overview.running {
        let _ = write!(text, "\n{}", run_in_full(run));
    }
    if overview.running.is_empty() {
        text.push_str("\nNothing runs.\n");
    }
    text
}

fn daemon_line(overview: &Overview) -> String {
    match &overview.daemon {
        None => "No daemon works with this state folder: `etl-host serve`.".to_owned(),
        Some((daemon, usage)) => {
            let memory = usage.map_or_else(String::new, |usage| {
                format!(", {}", mebibytes(usage.resident_bytes))
            });
            let drains = if daemon.draining { ", stopping" } else { "" };
            format!(
                "Daemon: process {} since {}{memory}; {} of {} runs{drains}",
                daemon.process,
                moment(&daemon.started_at.to_string()),
                overview.running.len(),
                daemon.max_concurrent_runs
            )
        }
    }
}

fn run_in_full(run: &RunLine) -> String {
    let record = &run.record;
    let mut text = format!(
        "{}: running since {}, run {}\n",
        record.pipeline,
        moment(&record.started_at),
        record.run_id
    );
    if !run.partitions().is_empty() {
        let headings = ["partition", "does", "attempt", "read", "loaded", "bad"];
        let mut lines = table(&headings, &[2, 3, 4, 5]);
        for partition in run.partitions() {
            lines.add_row([
                partition.name.clone(),
                does(partition),
                partition.attempt.to_string(),
                thousands(partition.extracted),
                thousands(partition.loaded),
                thousands(partition.quarantined),
            ]);
        }
        text.push_str(&indented(&lines));
    }
    text.push_str(&indented(&processes(run)));
    text
}

fn processes(run: &RunLine) -> Table {
    let mut lines = table(&["process", "", "memory", "peak", "cpu"], &[0, 2, 3, 4]);
    let host = run
        .host
        .map(|usage| ("host".to_owned(), run.record.process, usage));
    let workers = run.workers.iter().map(|worker| {
        let what = if worker.label.partition.is_empty() {
            "worker".to_owned()
        } else {
            format!("worker of {}", worker.label.partition)
        };
        (what, worker.process, worker.usage)
    });
    for (what, process, usage) in host.into_iter().chain(workers) {
        let Usage {
            resident_bytes,
            peak_bytes,
            cpu_ms,
        } = usage;
        lines.add_row([
            process.to_string(),
            what,
            mebibytes(resident_bytes),
            mebibytes(peak_bytes),
            seconds(cpu_ms),
        ]);
    }
    lines
}

/// A page for a terminal with so many columns and lines.
pub fn live(overview: &Overview, columns: usize, lines: usize, colour: bool) -> Vec<String> {
    let headings = [
        "pipeline", "state", "read", "rows/s", "memory", "since", "last run", "next run",
    ];
    let mut rows = table(&headings, &[2, 3, 4, 5]);
    let mut paints = vec![BOLD];
    let mut pipelines: Vec<(&PipelineLine, Option<&RunLine>)> = Vec::new();
    for line in &overview.pipelines {
        let run = overview.running.iter();
        let mut run = run.filter(|run| run.record.pipeline == line.name);
        pipelines.push((line, run.next()));
    }
    let partitions = pipelines.iter().flat_map(|(_, run)| *run);
    let partitions: usize = partitions.map(|run| run.partitions().len()).sum();
    if HEAD + pipelines.len() + partitions > lines {
        // What goes on must not be what is hidden.
        pipelines.sort_by_key(|(line, _)| match line.state {
            PipelineState::Running => 0,
            PipelineState::Queued => 1,
            _ => 2,
        });
    }
    for (line, run) in pipelines {
        rows.add_row(summary(overview, line, run));
        paints.push(paint(line.state));
        for partition in run.into_iter().flat_map(RunLine::partitions) {
            let read = thousands(partition.extracted);
            let name = format!("  {}", partition.name);
            rows.add_row([name, cut(&does(partition), STATE_COLUMNS), read]);
            paints.push(DIM);
        }
    }
    let clock = overview.at.to_string();
    let head = format!(
        "{} UTC   {}   q: quit",
        clock.get(11..19).unwrap_or_default(),
        daemon_line(overview)
    );
    let mut page = vec![cut(&head, columns), String::new()];
    let table = indented(&rows);
    for (line, paint) in table.lines().zip(paints) {
        let line = cut(line, columns);
        page.push(if colour && !paint.is_empty() {
            format!("{paint}{line}{PLAIN}")
        } else {
            line
        });
    }
    if page.len() > lines {
        let hidden = page.len() + 1 - lines;
        page.truncate(lines.saturating_sub(1));
        page.push(cut(&format!("… {hidden} more lines"), columns));
    }
    page
}

fn summary(overview: &Overview, line: &PipelineLine, run: Option<&RunLine>) -> [String; 8] {
    let none = || "-".to_owned();
    let state = match overview.queued.iter().find(|run| run.pipeline == line.name) {
        Some(queued) if line.state == PipelineState::Queued => {
            format!(
                "waits for {}",
                queued.waits_for.as_deref().unwrap_or("its turn")
            )
        }
        _ => word(line.state).to_owned(),
    };
    let state = cut(&state, STATE_COLUMNS);
    let since = run.and_then(|run| run.record.started_at.parse::<Timestamp>().ok());
    let last = line.last_run.as_ref().map_or_else(
        || "never".to_owned(),
        |run| {
            let ended = run.finished_at.as_ref().unwrap_or(&run.started_at);
            let ended = ended.parse::<Timestamp>().ok();
            let ago = ended.map_or_else(String::new, |ended| {
                format!(
                    " {} ago",
                    length(overview.at.duration_since(ended).unsigned_abs())
                )
            });
            format!("{}{ago}", run.status)
        },
    );
    let next = line.next_run.map(|next| {
        let left = Duration::try_from(next.duration_since(overview.at)).unwrap_or_default();
        format!("in {}", length(left))
    });
    [
        line.name.clone(),
        state,
        run.and_then(RunLine::extracted)
            .map_or_else(none, thousands),
        run.and_then(|run| run.rows_per_second)
            .map_or_else(none, thousands),
        run.and_then(RunLine::memory).map_or_else(none, mebibytes),
        since.map_or_else(none, |since| {
            length(overview.at.duration_since(since).unsigned_abs())
        }),
        last,
        next.unwrap_or_else(none),
    ]
}

fn does(partition: &PartitionView) -> String {
    match &partition.reason {
        Some(reason) => format!(
            "waits for attempt {}: {}",
            partition.attempt + 1,
            reason.lines().next().unwrap_or_default()
        ),
        None => partition.activity.clone(),
    }
}

fn word(state: PipelineState) -> &'static str {
    match state {
        PipelineState::Running => "running",
        PipelineState::Queued => "queued",
        PipelineState::Idle => "idle",
        PipelineState::Paused => "paused",
        PipelineState::Disabled => "disabled",
        PipelineState::Parked => "parked",
        PipelineState::Broken => "broken",
    }
}

fn paint(state: PipelineState) -> &'static str {
    match state {
        PipelineState::Running => GREEN,
        PipelineState::Queued | PipelineState::Paused => YELLOW,
        PipelineState::Parked | PipelineState::Broken => RED,
        PipelineState::Disabled => DIM,
        PipelineState::Idle => "",
    }
}

/// The first so many characters.
fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

/// A time to the second.
fn moment(time: &str) -> &str {
    time.get(..19).unwrap_or(time)
}

/// A length of time at a glance.
fn length(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Bytes for people.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Milliseconds for people.
pub fn seconds(milliseconds: u64) -> String {
    format!("{:.1} s", Duration::from_millis(milliseconds).as_secs_f64())
}

#[cfg(test)]
mod tests;
