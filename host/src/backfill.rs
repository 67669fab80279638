//! Loads a past range again, window by window, oldest first: the same for `etl-host backfill` and for the daemon.
//!
//! What a window does is the runtime's, how far a backfill has come the state's. Nothing here moves a checkpoint.

mod windows;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use self::windows::{Windows, place};
use crate::checkpoint::{Checkpoint, display};
use crate::config::{Config, CursorKind};
use crate::error::{Error, Result};
use crate::plan::{PartitionPlan, Plan, Purpose, RunOptions, WindowOptions};
use crate::pool::Pools;
use crate::runtime::report::{Rows, RunReport, Status, peak_memory};
use crate::runtime::{self, RunContext};
use crate::sink::build_sink;
use crate::source::build_source;
use crate::stage::{Stages, blocking};
use crate::state::State;

/// The options of a run that loads the rows after `from` up to `to` again.
pub fn options(
    from: String,
    to: String,
    window: Option<String>,
    mut partitions: Vec<String>,
    restart: bool,
) -> RunOptions {
    partitions.sort_unstable();
    partitions.dedup();
    RunOptions {
        purpose: Purpose::Backfill,
        partitions,
        since: Some(from),
        until: Some(to),
        windows: WindowOptions {
            length: window,
            restart,
        },
        ..RunOptions::default()
    }
}

/// How far a backfill has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// Rows after this are loaded.
    pub from: String,
    /// Rows up to this are loaded.
    pub to: String,
    /// The length of a window; `null` if the range is one.
    pub window: Option<String>,
    /// Windows of the range.
    pub windows: u64,
    /// Those that are done.
    pub windows_done: u64,
}

/// Who looks on while windows are loaded.
pub trait Onlooker: Send + Sync {
    /// It begins, or goes on where it was stopped.
    fn begins(&self, progress: &Progress);
    /// The run of the next window begins.
    fn window_begins(&self, run: &RunContext);
    /// The run of a window, after `from` up to `to`, has ended. If it has succeeded, it is among those that are done.
    fn window_ended(&self, from: &str, to: &str, run: &RunReport, progress: &Progress);
}

/// How windows are asked to stop, and whose they are.
#[derive(Clone, Debug)]
pub struct Order {
    /// Asks the window to finish what is in flight.
    pub cancel: CancellationToken,
    /// Asks it, once it is to stop, to roll back what is in flight.
    pub abort: CancellationToken,
    /// The run that all windows belong to; each is one of its own without.
    pub run_id: Option<String>,
}

/// How a backfill ended.
#[derive(Debug)]
pub struct Ended {
    /// All windows of this time as one run: its rows are theirs, its partitions those of the last.
    pub report: RunReport,
    /// How far it has come.
    pub progress: Progress,
    /// Windows that were done before.
    pub windows_done_before: u64,
    /// The partitions.
    pub partitions: Vec<String>,
    /// Those whose checkpoint lies before the range's end: nothing behind it is loaded.
    pub cut_at_checkpoint: Vec<String>,
    /// The window that was not done.
    pub stopped_at: Option<StoppedAt>,
}

/// A window that was not done.
#[derive(Debug, Serialize)]
pub struct StoppedAt {
    from: String,
    to: String,
    /// Its run.
    pub run: RunReport,
}

/// A range to load again.
pub struct Backfill {
    plan: Plan,
    stages: Arc<dyn Stages>,
    pools: Arc<Pools>,
    state: Arc<Mutex<State>>,
    windows: Windows,
    kind: CursorKind,
    /// All that its progress depends on.
    task: String,
    progress: Progress,
}

impl Backfill {
    /// The range that the plan's options name. Opens nothing. `state` knows how far it has come.
    pub fn new(
        plan: Plan,
        stages: Arc<dyn Stages>,
        pools: Arc<Pools>,
        state: State,
    ) -> Result<Self> {
        let options = &plan.options;
        let (windows, kind) = windows_of(&plan.config, options)?;
        let (Some(from), Some(to)) = (&options.since, &options.until) else {
            return Err(Error::internal("a backfill without a range"));
        };
        let window = &options.windows.length;
        let facts = (from, to, window, &options.partitions, &plan.query_digest);
        let task = serde_json::to_string(&facts).map_err(|error| {
            Error::internal("a backfill cannot be written down").caused_by(error)
        })?;
        Ok(Self {
            progress: Progress {
                from: from.clone(),
                to: to.clone(),
                window: window.clone(),
                windows: windows.count(),
                windows_done: 0,
            },
            state: Arc::new(Mutex::new(state)),
            windows,
            kind,
            task,
            plan,
            stages,
            pools,
        })
    }

    /// Loads windows until the last is done, one is not, or it is asked to stop.
    pub async fn run(mut self, order: &Order, onlooker: &dyn Onlooker) -> Result<Ended> {
        let clock = Instant::now();
        let sink = build_sink(&self.plan.config.sink, &self.pools);
        let checkpoints = sink.load_checkpoints(&self.plan.config.name).await?;
        let cut_at_checkpoint = self.cut_at_checkpoint(&checkpoints)?;
        let before = self.begin().await?;
        self.progress.windows_done = before;
        onlooker.begins(&self.progress);
        let mut report = self.begun(order);
        let mut stopped_at = None;
        while let Some((from, to)) = self.windows.get(self.progress.windows_done) {
            if order.cancel.is_cancelled() {
                report.status = Status::Cancelled;
                break;
            }
            let run = self.run_window(&from, &to, order, onlooker).await;
            add(&mut report, &run);
            if run.status != Status::Succeeded {
                report.status = run.status;
                onlooker.window_ended(&from, &to, &run, &self.progress);
                stopped_at = Some(StoppedAt { from, to, run });
                break;
            }
            self.progress.windows_done += 1;
            self.note_done().await?;
            onlooker.window_ended(&from, &to, &run, &self.progress);
        }
        report.finished_at = Timestamp::now().to_string();
        report.seconds = clock.elapsed().as_secs_f64();
        report.rows_per_second = rate(report.rows.extracted, report.seconds);
        report.peak_memory_bytes = peak_memory();
        report.backfill = Some(self.progress.clone());
        let partitions = self.plan.partitions.iter();
        Ok(Ended {
            report,
            windows_done_before: before,
            partitions: partitions.map(|it| it.name.clone()).collect(),
            cut_at_checkpoint,
            stopped_at,
            progress: self.progress,
        })
    }

    /// How many windows are done already.
    async fn begin(&self) -> Result<u64> {
        let restart = self.plan.options.windows.restart;
        self.with_state(move |state, pipeline, task| {
            if restart {
                state.forget_backfill(pipeline, task)?;
            }
            state.windows_done(pipeline, task)
        })
        .await
    }

    /// Notes how many are done. Once all are, the same order loads the range once more.
    async fn note_done(&self) -> Result<()> {
        let (done, all) = (self.progress.windows_done, self.progress.windows);
        self.with_state(move |state, pipeline, task| {
            if done == all {
                state.forget_backfill(pipeline, task)
            } else {
                state.record_windows_done(pipeline, task, done)
            }
        })
        .await
    }

    async fn with_state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&State, &str, &str) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = self.state.clone();
        let (pipeline, task) = (self.plan.config.name.clone(), self.task.clone());
        blocking(move || {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            work(&state, &pipeline, &task)
        })
        .await
    }

    async fn run_window(
        &self,
        from: &str,
        to: &str,
        order: &Order,
        onlooker: &dyn Onlooker,
    ) -> RunReport {
        let mut plan = self.plan.clone();
        plan.options.since = Some(from.to_owned());
        plan.options.until = Some(to.to_owned());
        let source = build_source(&plan.config.source, &self.pools);
        let sink = Arc::from(build_sink(&plan.config.sink, &self.pools));
        let cancel = order.cancel.clone();
        let mut context = RunContext::new(plan, self.stages.clone(), source, sink, cancel);
        context.abort = order.abort.clone();
        if let Some(run_id) = &order.run_id {
            context.run_id.clone_from(run_id);
            context.window = Some(self.progress.windows_done + 1);
        }
        let context = Arc::new(context);
        onlooker.window_begins(&context);
        runtime::run(context).await
    }

    /// The report of a backfill that has loaded nothing so far.
    fn begun(&self, order: &Order) -> RunReport {
        let now = Timestamp::now().to_string();
        RunReport {
            run_id: order.run_id.clone().unwrap_or_default(),
            pipeline: self.plan.config.name.clone(),
            status: Status::Succeeded,
            dry_run: false,
            delivery: self.plan.manifest.delivery,
            started_at: now.clone(),
            finished_at: now,
            seconds: 0.0,
            rows: Rows::default(),
            bytes: 0,
            rows_per_second: 0,
            peak_memory_bytes: None,
            attempts: 0,
            partitions: Vec::new(),
            error: None,
            counters: BTreeMap::new(),
            backfill: Some(self.progress.clone()),
        }
    }

    /// The partitions that are not loaded as far as the range goes. One that was never loaded has nothing to load again.
    fn cut_at_checkpoint(&self, checkpoints: &BTreeMap<String, Checkpoint>) -> Result<Vec<String>> {
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
            let cursor = cursor
                .ok_or_else(|| never_loaded(&self.plan.config.name, Some(&partition.name)))?;
            let to = &self.progress.to;
            let ends = place(self.kind, &display(cursor)).zip(place(self.kind, to));
            if ends.is_some_and(|(loaded, to)| loaded < to) {
                cut.push(partition.name.clone());
            }
        }
        Ok(cut)
    }
}

/// Finds mistakes of an order without asking the plugin or the source. `checkpoints` are the sink's, if it has answered.
pub fn check(
    config: &Config,
    options: &RunOptions,
    checkpoints: Option<&BTreeMap<String, Checkpoint>>,
) -> Result<()> {
    windows_of(config, options)?;
    let Some(checkpoints) = checkpoints else {
        return Ok(());
    };
    let is_loaded = |name: &str| checkpoints.get(name).is_some_and(Checkpoint::was_loaded);
    if !checkpoints.values().any(Checkpoint::was_loaded) {
        return Err(never_loaded(&config.name, None));
    }
    // A split shard's name stands for its ranges, and a plugin may name partitions of its own.
    let configured = config.source.partition_names();
    let shards = config.source.connector.shard_names();
    for wanted in &options.partitions {
        let is_shard = config.source.split.is_some() && shards.contains(&wanted.as_str());
        if is_loaded(wanted) || is_shard {
            continue;
        }
        if configured.contains(wanted) || checkpoints.contains_key(wanted) {
            if config.source.split.is_none() {
                return Err(never_loaded(&config.name, Some(wanted)));
            }
            continue;
        }
        let names: Vec<&str> = checkpoints.keys().map(String::as_str).collect();
        return Err(Error::config(format!("there is no partition `{wanted}`"))
            .hint(format!("there are {}", names.join(", "))));
    }
    Ok(())
}

fn windows_of(config: &Config, options: &RunOptions) -> Result<(Windows, CursorKind)> {
    let (Some(from), Some(to)) = (&options.since, &options.until) else {
        return Err(Error::internal("a backfill without a range"));
    };
    let Some(cursor) = &config.cursor else {
        let (_, bounds) = options.words();
        return Err(Error::config(format!(
            "{bounds} need a `cursor` in the configuration of pipeline {}",
            config.name
        )));
    };
    let windows = Windows::new(cursor, from, to, options.windows.length.as_deref())?;
    Ok((windows, cursor.kind))
}

fn never_loaded(pipeline: &str, partition: Option<&str>) -> Error {
    let (what, or) = match partition {
        Some(partition) => (
            format!("partition {partition} was never loaded"),
            "; or name other partitions",
        ),
        None => (format!("pipeline {pipeline} was never loaded"), ""),
    };
    Error::config(format!("{what}, so there is nothing to load again")).hint(format!(
        "run the pipeline first: etl-host run {pipeline}{or}"
    ))
}

/// Adds a window's run.
fn add(report: &mut RunReport, run: &RunReport) {
    report.rows.add(&run.rows);
    report.bytes += run.bytes;
    report.attempts += run.attempts;
    report.partitions.clone_from(&run.partitions);
    report.error.clone_from(&run.error);
    for (name, count) in &run.counters {
        *report.counters.entry(name.clone()).or_default() += count;
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is rounded"
)]
fn rate(rows: u64, seconds: f64) -> u64 {
    (rows as f64 / seconds.max(0.001)) as u64
}

#[cfg(test)]
mod tests {
    use etl_plugin_api::Cursor;

    use super::*;
    use crate::config::{self, Layer};

    fn config(more: &str) -> Config {
        let layer = Layer {
            name: "logins.yaml".to_owned(),
            text: format!(
                "name: logins\nsource: {{ type: sqlite, shards: [{{ name: eu, path: a }}, {{ name: us, path: b }}], query: SELECT 1 }}\n\
                 sink: {{ type: sqlite, path: c, table: t }}\n{more}"
            ),
            of_plugin: false,
        };
        config::load(&[layer], &|_| None).unwrap().config
    }

    fn asked(from: &str, to: &str, partitions: &[&str]) -> RunOptions {
        let partitions = partitions.iter().map(|name| (*name).to_owned()).collect();
        options(from.to_owned(), to.to_owned(), None, partitions, false)
    }

    #[test]
    fn mistakes_are_found_before_anything_is_opened() {
        let by_id = config("cursor: { column: id, kind: integer }\n");
        let loaded = Checkpoint {
            cursor: Some(Cursor::Integer(9)),
            ..Checkpoint::default()
        };
        let stored: BTreeMap<String, Checkpoint> = [
            ("eu".to_owned(), loaded),
            ("us".to_owned(), Checkpoint::default()),
        ]
        .into();
        let of = |config: &Config, options: &RunOptions, stored| {
            check(config, options, stored).map_err(|error| error.to_string())
        };
        assert_eq!(of(&by_id, &asked("0", "9", &[]), Some(&stored)), Ok(()));
        assert_eq!(of(&by_id, &asked("0", "9", &["eu"]), Some(&stored)), Ok(()));
        let nothing = BTreeMap::new();
        for (config, options, stored, words) in [
            (&by_id, asked("9", "9", &[]), None, "is not before"),
            (&config(""), asked("0", "9", &[]), None, "need a `cursor`"),
            (
                &by_id,
                asked("0", "9", &["us"]),
                Some(&stored),
                "partition us was never loaded",
            ),
            (
                &by_id,
                asked("0", "9", &["asia"]),
                Some(&stored),
                "there is no partition `asia`",
            ),
            (
                &by_id,
                asked("0", "9", &[]),
                Some(&nothing),
                "pipeline logins was never loaded",
            ),
        ] {
            let said = of(config, &options, stored).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn partitions_are_the_same_in_any_order() {
        let options = asked("0", "9", &["us", "eu", "us"]);
        assert_eq!(options.partitions, ["eu", "us"]);
    }
}
