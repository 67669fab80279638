//! `etl-host backfill`: loads a past range again, window by window, oldest first.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::run::failure_to_text;
use super::signals::SIGINT_CODE;
use super::table::thousands;
use super::{Failure, Globals, Output, print, print_json, progress, signals};
use crate::backfill::{Windows, place};
use crate::checkpoint::display;
use crate::config::CursorKind;
use crate::error::{Error, Result};
use crate::launch::build_plan;
use crate::plan::{PartitionPlan, Plan, Purpose, RunOptions};
use crate::pool::Pools;
use crate::runtime::report::{self, RunReport, Status};
use crate::runtime::{self, RunContext};
use crate::session::Session;
use crate::sink::{Sink, build_sink};
use crate::source::{Source, build_source};
use crate::stage::Stages;
use crate::state::State;

/// Flags of `backfill`.
#[derive(Debug, Args)]
pub struct Backfill {
    /// The pipeline
    pipeline: String,
    /// Load rows after this position
    #[arg(long, value_name = "CURSOR")]
    from: String,
    /// Load rows up to this position, but none behind the checkpoint
    #[arg(long, value_name = "CURSOR")]
    to: String,
    /// Length of a window: 1d, 6h for times, a number for integers; the whole range if not given
    #[arg(long, value_name = "LENGTH")]
    window: Option<String>,
    /// Only this partition; may be given again
    #[arg(long, value_name = "NAME")]
    partition: Vec<String>,
    /// Begin with the first window, also where the same command was stopped before
    #[arg(long)]
    restart: bool,
}

/// The stable JSON of `backfill --output json`.
#[derive(Debug, Serialize)]
struct BackfillReport {
    pipeline: String,
    status: Status,
    from: String,
    to: String,
    window: Option<String>,
    partitions: Vec<String>,
    cut_at_checkpoint: Vec<String>,
    windows: u64,
    windows_done: u64,
    windows_done_before: u64,
    seconds: f64,
    rows: report::Rows,
    /// The run of the window that was not done.
    stopped_at: Option<StoppedAt>,
}

#[derive(Debug, Serialize)]
struct StoppedAt {
    from: String,
    to: String,
    run: RunReport,
}

/// Loads one pipeline's range.
pub fn backfill(globals: &Globals, command: Backfill) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let found = session.find_one(&command.pipeline)?;
    let loaded = session.load_config(&found)?;
    session.refuse_parked(&found, &loaded)?;
    let stages = Session::open_stages(&found, &loaded)?;
    let mut partitions = command.partition;
    partitions.sort_unstable();
    partitions.dedup();
    let options = RunOptions {
        purpose: Purpose::Backfill,
        partitions,
        since: Some(command.from),
        until: Some(command.to),
        ..RunOptions::default()
    };
    let (report, stopped_by) = signals::drive(async |cancel| {
        let pools = Arc::new(Pools::new());
        let plan = build_plan(found, loaded, &stages, options, &cancel).await?;
        let source = build_source(&plan.config.source, &pools);
        let task = Task::new(
            globals,
            &session.state,
            plan,
            command.window,
            command.restart,
        )?;
        task.run(&stages, source.as_ref(), &pools, &cancel).await
    })?;
    if globals.output == Output::Json {
        print_json(&report)?;
    } else {
        print(&to_text(&report));
    }
    Ok(match (&report.stopped_at, stopped_by) {
        (None, _) if report.status == Status::Succeeded => 0,
        (_, Some(code)) if report.status == Status::Cancelled => code,
        (Some(stopped), _) => stopped.run.exit_code(),
        (None, _) => SIGINT_CODE,
    })
}

/// A range to load, and how far it has come.
struct Task<'a> {
    state: &'a State,
    plan: Plan,
    window: Option<String>,
    windows: Windows,
    kind: CursorKind,
    from: String,
    to: String,
    /// All that its progress depends on.
    name: String,
    restart: bool,
    text: bool,
}

impl<'a> Task<'a> {
    fn new(
        globals: &Globals,
        state: &'a State,
        plan: Plan,
        window: Option<String>,
        restart: bool,
    ) -> Result<Self> {
        let options = &plan.options;
        let (Some(cursor), Some(from), Some(to)) =
            (&plan.config.cursor, &options.since, &options.until)
        else {
            return Err(Error::internal("a backfill without a range"));
        };
        let windows = Windows::new(cursor, from, to, window.as_deref())?;
        let facts = (from, to, &window, &options.partitions, &plan.query_digest);
        let name = serde_json::to_string(&facts).map_err(|error| {
            Error::internal("a backfill cannot be written down").caused_by(error)
        })?;
        Ok(Self {
            state,
            windows,
            kind: cursor.kind,
            from: from.clone(),
            to: to.clone(),
            name,
            window,
            restart,
            text: globals.output == Output::Text,
            plan,
        })
    }

    async fn run(
        &self,
        stages: &Arc<dyn Stages>,
        source: Option<&Arc<dyn Source>>,
        pools: &Arc<Pools>,
        cancel: &CancellationToken,
    ) -> Result<BackfillReport> {
        let clock = Instant::now();
        let pipeline = &self.plan.config.name;
        let sink = build_sink(&self.plan.config.sink, pools);
        let cut_at_checkpoint = self.cut_at_checkpoint(sink.as_ref()).await?;
        if self.restart {
            self.state.forget_backfill(pipeline, &self.name)?;
        }
        let before = self.state.windows_done(pipeline, &self.name)?;
        let count = self.windows.count();
        if self.text && before > 0 {
            print(&format!(
                "{pipeline}: goes on after {before} of {count} windows\n"
            ));
        }
        let mut report = BackfillReport {
            pipeline: pipeline.clone(),
            status: Status::Succeeded,
            from: self.from.clone(),
            to: self.to.clone(),
            window: self.window.clone(),
            partitions: self
                .plan
                .partitions
                .iter()
                .map(|partition| partition.name.clone())
                .collect(),
            cut_at_checkpoint,
            windows: count,
            windows_done: before,
            windows_done_before: before,
            seconds: 0.0,
            rows: report::Rows::default(),
            stopped_at: None,
        };
        while let Some((from, to)) = self.windows.get(report.windows_done) {
            if cancel.is_cancelled() {
                report.status = Status::Cancelled;
                break;
            }
            let run = self
                .run_window(&from, &to, stages, source, pools, cancel)
                .await;
            report.rows.add(&run.rows);
            if run.status != Status::Succeeded {
                report.status = run.status;
                report.stopped_at = Some(StoppedAt { from, to, run });
                break;
            }
            report.windows_done += 1;
            self.state
                .record_windows_done(pipeline, &self.name, report.windows_done)?;
            if self.text {
                print(&format!(
                    "  window {} of {count}: after {from} up to {to}: {} rows read, {} loaded\n",
                    report.windows_done,
                    thousands(run.rows.extracted),
                    thousands(run.rows.loaded)
                ));
            }
        }
        if report.windows_done == count {
            // The same command loads the range once more.
            self.state.forget_backfill(pipeline, &self.name)?;
        }
        report.seconds = clock.elapsed().as_secs_f64();
        Ok(report)
    }

    /// One window is a run of its own.
    async fn run_window(
        &self,
        from: &str,
        to: &str,
        stages: &Arc<dyn Stages>,
        source: Option<&Arc<dyn Source>>,
        pools: &Arc<Pools>,
        cancel: &CancellationToken,
    ) -> RunReport {
        let mut plan = self.plan.clone();
        plan.options.since = Some(from.to_owned());
        plan.options.until = Some(to.to_owned());
        let sink = Arc::from(build_sink(&plan.config.sink, pools));
        let context = RunContext::new(plan, stages.clone(), source.cloned(), sink, cancel.clone());
        let context = Arc::new(context);
        let bars = self.text && std::io::stderr().is_terminal();
        let _watcher = bars.then(|| progress::watch(&self.plan.config.name, context.books.clone()));
        runtime::run(context).await
    }

    /// The partitions that are not loaded as far as the range goes. One that was never loaded has nothing to load again.
    async fn cut_at_checkpoint(&self, sink: &dyn Sink) -> Result<Vec<String>> {
        let name = &self.plan.config.name;
        let checkpoints = sink.load_checkpoints(name).await?;
        let mut cut = Vec::new();
        for partition in &self.plan.partitions {
            let checkpoint = checkpoints.get(&partition.name);
            let cursor = checkpoint.and_then(|checkpoint| checkpoint.cursor.as_ref());
            // A range may have had no rows so far.
            let sibling = |other: &PartitionPlan| {
                other.shard == partition.shard
                    && checkpoints
                        .get(&other.name)
                        .is_some_and(|checkpoint| checkpoint.cursor.is_some())
            };
            let ranges = partition.range.is_some();
            if cursor.is_none() && ranges && self.plan.partitions.iter().any(sibling) {
                continue;
            }
            let cursor = cursor.ok_or_else(|| {
                Error::config(format!(
                    "partition {} was never loaded, so there is nothing to load again",
                    partition.name
                ))
                .hint(format!(
                    "run the pipeline first: etl-host run {name}; or name other partitions with --partition"
                ))
            })?;
            let ends = place(self.kind, &display(cursor)).zip(place(self.kind, &self.to));
            if ends.is_some_and(|(loaded, to)| loaded < to) {
                cut.push(partition.name.clone());
            }
        }
        Ok(cut)
    }
}

fn to_text(report: &BackfillReport) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        text,
        "{}: {} after {} of {} windows in {:.1} s\n  {} rows read, {} loaded, {} quarantined, {} filtered",
        report.pipeline,
        report.status.word(),
        report.windows_done,
        report.windows,
        report.seconds,
        thousands(report.rows.extracted),
        thousands(report.rows.loaded),
        thousands(report.rows.quarantined),
        thousands(report.rows.filtered),
    );
    if !report.cut_at_checkpoint.is_empty() {
        let _ = writeln!(
            text,
            "  up to the checkpoint only, which lies before --to: {}",
            report.cut_at_checkpoint.join(", ")
        );
    }
    if let Some(stopped) = &report.stopped_at {
        for failure in stopped.run.failures() {
            text.push_str(&failure_to_text(failure));
        }
    }
    if report.windows_done < report.windows {
        let _ = writeln!(
            text,
            "  the same command goes on after window {}; --restart begins with the first",
            report.windows_done
        );
    }
    text
}
