//! `etl-host backfill`: loads a past range again, window by window, oldest first.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::run::failure_to_text;
use super::signals::SIGINT_CODE;
use super::table::thousands;
use super::{Failure, Globals, Output, print, print_json, progress, signals};
use crate::backfill::{self, Backfill as Windowed, Ended, Onlooker, Order, Progress, StoppedAt};
use crate::launch::build_plan;
use crate::pool::Pools;
use crate::runtime::RunContext;
use crate::runtime::report::{self, RunReport, Status};
use crate::session::Session;
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

/// Loads one pipeline's range.
pub fn backfill(globals: &Globals, command: Backfill) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let found = session.find_one(&command.pipeline)?;
    let loaded = session.load_config(&found)?;
    session.refuse_parked(&found, &loaded)?;
    let stages = Session::open_stages(&found, &loaded)?;
    let options = backfill::options(
        command.from,
        command.to,
        command.window,
        command.partition,
        command.restart,
    );
    let name = found.manifest.name.clone();
    let state = State::open(&globals.state_dir)?;
    let (ended, stopped_by) = signals::drive(async |cancel| {
        let plan = build_plan(found, loaded, &stages, options, &cancel).await?;
        let told = Told {
            pipeline: &name,
            text: globals.output == Output::Text,
            bars: Mutex::default(),
        };
        let order = Order {
            cancel,
            abort: CancellationToken::new(),
            run_id: None,
        };
        let backfill = Windowed::new(plan, stages, Arc::new(Pools::new()), state)?;
        backfill.run(&order, &told).await
    })?;
    let report = BackfillReport::of(ended);
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

/// Says how the windows come along.
struct Told<'a> {
    pipeline: &'a str,
    text: bool,
    bars: Mutex<Option<progress::Watcher>>,
}

impl Told<'_> {
    fn show(&self, bars: Option<progress::Watcher>) {
        *self.bars.lock().unwrap_or_else(PoisonError::into_inner) = bars;
    }
}

impl Onlooker for Told<'_> {
    fn begins(&self, progress: &Progress) {
        if self.text && progress.windows_done > 0 {
            print(&format!(
                "{}: goes on after {} of {} windows\n",
                self.pipeline, progress.windows_done, progress.windows
            ));
        }
    }

    fn window_begins(&self, run: &RunContext) {
        let bars = self.text && std::io::stderr().is_terminal();
        self.show(bars.then(|| progress::watch(self.pipeline, run.books.clone())));
    }

    fn window_ended(&self, from: &str, to: &str, run: &RunReport, progress: &Progress) {
        self.show(None);
        if self.text && run.status == Status::Succeeded {
            print(&format!(
                "  window {} of {}: after {from} up to {to}: {} rows read, {} loaded\n",
                progress.windows_done,
                progress.windows,
                thousands(run.rows.extracted),
                thousands(run.rows.loaded)
            ));
        }
    }
}

impl BackfillReport {
    fn of(ended: Ended) -> Self {
        let (report, progress) = (ended.report, ended.progress);
        Self {
            pipeline: report.pipeline,
            status: report.status,
            from: progress.from,
            to: progress.to,
            window: progress.window,
            partitions: ended.partitions,
            cut_at_checkpoint: ended.cut_at_checkpoint,
            windows: progress.windows,
            windows_done: progress.windows_done,
            windows_done_before: ended.windows_done_before,
            seconds: report.seconds,
            rows: report.rows,
            stopped_at: ended.stopped_at,
        }
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
