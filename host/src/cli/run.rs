//! `etl-host run`: one run of each named pipeline, in the foreground.

use std::collections::HashMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Arc;

use clap::Args;
use etl_plugin_api::Delivery;
use jiff::Timestamp;
use serde::Serialize;

use super::rows::{self, Room};
use super::signals::SIGINT_CODE;
use super::table::{indented, shortened, table, thousands};
use super::{Failure, Globals, Output, print, print_json, progress, signals};
use crate::config::Isolation;
use crate::daemon::partitions;
use crate::daemon::view::RunView;
use crate::error::Result;
use crate::launch::{Launch, is_fault_of_plugin, never_started, record_end, record_start};
use crate::plan::{Purpose, RunOptions};
use crate::pool::Pools;
use crate::progress::Teller;
use crate::runtime::report::{self, RunReport, Status};
use crate::runtime::{self, RunContext};
use crate::sample::Shown;
use crate::session::{Found, Session};
use crate::state::{RunStart, Trigger};

/// Flags of `run`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_field_names,
    reason = "they are flags, named as they are typed"
)]
pub struct Run {
    /// Pipelines, or plugins for all of their pipelines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Only this partition; may be given again
    #[arg(long, value_name = "NAME")]
    partition: Vec<String>,
    /// Start at the beginning instead of the checkpoint
    #[arg(long)]
    full_refresh: bool,
    /// Start after this position, without moving the checkpoint
    #[arg(long, value_name = "CURSOR")]
    since: Option<String>,
    /// Stop at this position
    #[arg(long, value_name = "CURSOR")]
    until: Option<String>,
    /// Most rows per partition; stops at the last complete group of equal cursors
    #[arg(long, value_name = "ROWS")]
    limit: Option<u64>,
    /// Read and transform, show the first rows, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Let `append` load rows again that may be there already
    #[arg(long)]
    allow_duplicates: bool,
    /// Where the plugin's code runs, in place of what the configuration says
    #[arg(long, value_enum)]
    isolation: Option<IsolationFlag>,
}

/// Where the plugin's code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IsolationFlag {
    /// Inside the host.
    InProcess,
    /// In a worker process of its own.
    Process,
}

impl From<IsolationFlag> for Isolation {
    fn from(flag: IsolationFlag) -> Self {
        match flag {
            IsolationFlag::InProcess => Self::InProcess,
            IsolationFlag::Process => Self::Process,
        }
    }
}

/// Runs the pipelines side by side and reports each.
pub fn run(globals: &Globals, command: Run) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let mut all = Vec::new();
    for name in &command.names {
        for found in session.find(name)? {
            if !all
                .iter()
                .any(|known: &Found| known.manifest.name == found.manifest.name)
            {
                all.push(found);
            }
        }
    }
    let options = RunOptions {
        purpose: Purpose::Load,
        partitions: command.partition,
        full_refresh: command.full_refresh,
        since: command.since,
        until: command.until,
        limit: command.limit,
        dry_run: command.dry_run,
        allow_duplicates: command.allow_duplicates,
        ..RunOptions::default()
    };
    // Everything that can be wrong before the first row is told before the first row, for all pipelines.
    // But a plugin's own fault is its pipeline's alone.
    let names: Vec<String> = all
        .iter()
        .map(|found| found.manifest.name.clone())
        .collect();
    let mut prepared = Vec::new();
    let mut broken = Vec::new();
    for found in all {
        let manifest = found.manifest.clone();
        let isolation = command.isolation.map(Isolation::from);
        let opened = Launch::load(&session, found, isolation)
            .and_then(|launch| Ok((launch.open()?, launch)));
        match opened {
            Ok((stages, launch)) => prepared.push((launch, stages)),
            Err(Failure::Host(error)) if is_fault_of_plugin(&error) => {
                broken.push(never_started(&manifest, options.dry_run, error));
            }
            Err(failure) => return Err(failure),
        }
    }
    let (reports, stopped_by) = signals::drive(async |cancel| {
        let pools = Arc::new(Pools::new());
        let mut contexts = Vec::new();
        for (launch, stages) in prepared {
            let manifest = launch.found.manifest.clone();
            match launch.build(stages, options.clone(), &pools, &cancel).await {
                Ok(context) => contexts.push(context),
                Err(error) if is_fault_of_plugin(&error) => {
                    broken.push(never_started(&manifest, options.dry_run, error));
                }
                Err(error) => return Err(error),
            }
        }
        run_all(globals, &session, contexts, broken, &names).await
    })?;
    Ok(exit_code(&reports, stopped_by))
}

async fn run_all(
    globals: &Globals,
    session: &Session,
    contexts: Vec<RunContext>,
    broken: Vec<RunReport>,
    order: &[String],
) -> Result<Vec<RunReport>> {
    let bars = globals.output == Output::Text && std::io::stderr().is_terminal();
    let mut watchers = Vec::new();
    let mut told: Vec<(Arc<RunContext>, Timestamp)> = Vec::new();
    let mut shown = HashMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    for context in contexts {
        let context = Arc::new(context);
        let name = context.plan.config.name.clone();
        if !context.plan.options.dry_run {
            record_start(session, &RunStart::by_hand(&context.run_id, &name));
        }
        if bars {
            watchers.push(progress::watch(&name, context.books.clone()));
        }
        if context.plan.options.dry_run {
            shown.insert(context.run_id.clone(), context.clone());
        } else {
            told.push((context.clone(), Timestamp::now()));
        }
        tasks.spawn(runtime::run(context));
    }
    let _teller = Teller::start(&globals.state_dir, move || {
        (None, told.iter().map(view).collect())
    });
    for report in &broken {
        if !report.dry_run {
            record_start(
                session,
                &RunStart::by_hand(&report.run_id, &report.pipeline),
            );
            record_end(session, report)?;
        }
    }
    let mut reports = broken;
    while let Some(ended) = tasks.join_next().await {
        let report = ended?;
        if !report.dry_run {
            record_end(session, &report)?;
        }
        reports.push(report);
    }
    drop(watchers);
    // In the order they were asked for, whoever was first.
    reports.sort_by_key(|report| order.iter().position(|name| name == &report.pipeline));
    for report in &reports {
        let preview = shown
            .get(&report.run_id)
            .map(|run| sampled(run))
            .transpose()?;
        if globals.output == Output::Json {
            print_json(&Told { report, preview })?;
        } else {
            print(&to_text(report));
            print(&preview.map_or_else(String::new, |shown| {
                rows::to_text(&shown, Room::of_stdout(false))
            }));
        }
    }
    Ok(reports)
}

/// A report, and for a dry run the rows that would have been written.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    report: &'a RunReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview: Option<Shown>,
}

fn sampled(run: &RunContext) -> Result<Shown> {
    let Some(sample) = &run.sample else {
        return Ok(Shown::default());
    };
    let partitions = run.plan.partitions.iter();
    sample.show(partitions.map(|partition| partition.name.as_str()))
}

/// A run as other processes see it.
fn view((run, started_at): &(Arc<RunContext>, Timestamp)) -> RunView {
    RunView {
        run_id: run.run_id.clone(),
        pipeline: run.plan.config.name.clone(),
        trigger: Trigger::Manual.word().to_owned(),
        scheduled_for: None,
        started_at: Some(*started_at),
        waits_for: None,
        stopping: run.cancel.is_cancelled(),
        backfill: None,
        partitions: partitions(&run.books),
    }
}

fn to_text(report: &RunReport) -> String {
    let mut text = String::new();
    let rows = report.rows;
    let dry = if report.dry_run {
        " (dry run: nothing was written)"
    } else {
        ""
    };
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        text,
        "{}: {} in {:.1} s{dry}\n  {} rows read, {} loaded, {} quarantined, {} filtered; {} rows/s",
        report.pipeline,
        report.status.word(),
        report.seconds,
        thousands(rows.extracted),
        thousands(rows.loaded),
        thousands(rows.quarantined),
        thousands(rows.filtered),
        thousands(report.rows_per_second),
    );
    let mut lines = table(
        &[
            "partition",
            "status",
            "attempts",
            "read",
            "loaded",
            "quarantined",
            "cursor",
        ],
        &[2, 3, 4, 5],
    );
    for partition in &report.partitions {
        lines.add_row([
            partition.name.clone(),
            partition.status.word().to_owned(),
            partition.attempts.to_string(),
            thousands(partition.rows.extracted),
            thousands(partition.rows.loaded),
            thousands(partition.rows.quarantined),
            partition
                .cursor_to
                .as_deref()
                .map_or_else(|| "-".to_owned(), shortened),
        ]);
    }
    text.push_str(&indented(&lines));
    for (name, count) in &report.counters {
        let _ = writeln!(text, "  {name}: {}", thousands(*count));
    }
    if report.delivery != Delivery::Transactional {
        let word = match report.delivery {
            Delivery::AtLeastOnce => "at least once: after a fault rows may arrive again",
            _ => "idempotent: exactly once by the loader's own token",
        };
        let _ = writeln!(text, "  delivery: {word}");
    }
    for failure in report.failures() {
        text.push_str(&failure_to_text(failure));
    }
    text
}

/// A failure as people read it.
pub fn failure_to_text(failure: &report::Failure) -> String {
    let mut text = format!("error: {}\n", failure.message);
    if let Some(next) = &failure.next_step {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  next: {next}");
    }
    for line in failure.details.iter().flat_map(|details| details.lines()) {
        let _ = writeln!(text, "  | {line}");
    }
    text
}

/// One code for all: the common one, or 4 where some succeeded and some did not.
fn exit_code(reports: &[RunReport], stopped_by: Option<u8>) -> u8 {
    if reports
        .iter()
        .any(|report| report.status == Status::Cancelled)
    {
        return stopped_by.unwrap_or(SIGINT_CODE);
    }
    let codes: Vec<u8> = reports.iter().map(RunReport::exit_code).collect();
    match codes.as_slice() {
        [first, rest @ ..] if rest.iter().all(|code| code == first) => *first,
        many if many.iter().any(|code| *code == 0 || *code == 4) => 4,
        _ => 1,
    }
}
