//! A run: every partition side by side, each with attempts of its own.
//!
//! The one place where source, stages and sink meet. What a connector or a plugin does inside is theirs; when it is
//! done, how often, and what counts as success is decided here.

mod attempt;
mod backoff;
pub mod books;
mod chunk;
mod feed;
mod lease;
mod partition;
pub mod preview;
mod ranges;
pub mod replay;
pub mod report;
mod spans;
mod ties;
mod transform;
mod window;

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::books::Books;
use self::partition::Outcome;
use self::preview::Known;
use self::ranges::SharedShards;
pub use self::ranges::require_same_split;
use self::report::{Failure, PartitionReport, Rows, RunReport, Status, overall, peak_memory};
pub use self::window::{check_fingerprint, with_query};
use crate::checkpoint::Ledger;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::policy::{Policy, policy};
use crate::pool::Places;
use crate::sample::{SHOWN_ROWS, Sample};
use crate::sink::{Sink, Swap, SwapPartition, Tenure};
use crate::source::Source;
use crate::stage::Stages;
use crate::stage::context::Counters;

/// Everything the attempts of one run share.
pub struct RunContext {
    /// What to do.
    pub plan: Arc<Plan>,
    /// The pipeline's stages.
    pub stages: Arc<dyn Stages>,
    /// Where rows come from; `None` if the pipeline's extractor needs no source.
    pub source: Option<Arc<dyn Source>>,
    /// Where rows go.
    pub sink: Arc<dyn Sink>,
    /// The run's identifier.
    pub run_id: String,
    /// For a backfill whose windows share the identifier: the window's number, from 1.
    pub window: Option<u64>,
    /// Asks the run to finish what is in flight and take nothing new.
    pub cancel: CancellationToken,
    /// Asks it, once it is to stop, to roll back what is in flight.
    pub abort: CancellationToken,
    /// The books, shared with whoever watches.
    pub books: Arc<Books>,
    /// The plugin's counters.
    pub counters: Counters,
    /// The first rows of a run that writes nothing.
    pub sample: Option<Arc<Sample>>,
    /// What the sink has said beforehand, if it is not to be asked again.
    known: Option<Known>,
    /// What the ranges of a shard share.
    shared: SharedShards,
}

impl RunContext {
    /// A run of a plan. Opens nothing.
    pub fn new(
        plan: Plan,
        stages: Arc<dyn Stages>,
        source: Option<Arc<dyn Source>>,
        sink: Arc<dyn Sink>,
        cancel: CancellationToken,
    ) -> Self {
        let names = plan
            .partitions
            .iter()
            .map(|partition| partition.name.clone());
        let books = Arc::new(Books::new(plan.config.error_handling.max_bad_rows, names));
        let options = &plan.options;
        let shown = match (options.limit, plan.previews()) {
            (Some(limit), true) => limit,
            _ => SHOWN_ROWS,
        };
        let sample = options.dry_run.then(|| Arc::new(Sample::new(shown)));
        Self {
            plan: Arc::new(plan),
            stages,
            source,
            sink,
            run_id: uuid::Uuid::now_v7().to_string(),
            window: None,
            cancel,
            abort: CancellationToken::new(),
            books,
            counters: Counters::default(),
            sample,
            known: None,
            shared: SharedShards::default(),
        }
    }

    /// What its commits are marked with in the checkpoint. What an earlier window has committed must not pass for this
    /// one's.
    fn mark(&self) -> String {
        match self.window {
            Some(window) => format!("{}/window-{window}", self.run_id),
            None => self.run_id.clone(),
        }
    }

    /// Ends when the run was asked to stop and has had the time that it may take for it.
    async fn overdue(&self) {
        self.cancel.cancelled().await;
        tokio::select! {
            () = tokio::time::sleep(self.plan.config.error_handling.drain_timeout) => {}
            () = self.abort.cancelled() => {}
        }
    }

    /// This run, as the holder of leases.
    fn tenure(&self) -> Tenure {
        Tenure::of_this_process(&self.plan.config, &self.run_id)
    }
}

/// Runs all partitions to their end. Failures are in the report, not in a `Result`: a run always has one.
pub async fn run(context: Arc<RunContext>) -> RunReport {
    let span = spans::of_run(&context.plan.config.name, &context.run_id);
    let recorded = span.clone();
    async {
        let report = run_in_span(&context).await;
        spans::record_run(&recorded, &report);
        report
    }
    .instrument(span)
    .await
}

async fn run_in_span(context: &Arc<RunContext>) -> RunReport {
    let (plan, options) = (&context.plan, &context.plan.options);
    tracing::info!(
        partitions = plan.partitions.len(),
        write_mode = plan.config.sink.write_mode.word(),
        since = options.since,
        until = options.until,
        full_refresh = options.full_refresh.then_some(true),
        dry_run = options.dry_run.then_some(true),
        plugin = plan.manifest.version,
        "run started"
    );
    if context.plan.options.dry_run {
        return run_to_its_end(context).await;
    }
    let report = tokio::select! {
        report = run_to_its_end(context) => report,
        never = lease::keep(context) => match never {},
    };
    lease::release_all(context).await;
    report
}

async fn run_to_its_end(context: &Arc<RunContext>) -> RunReport {
    let started_at = jiff::Timestamp::now();
    let clock = Instant::now();
    let mut outcomes = run_partitions(context).await;
    let plan = &context.plan;
    let statuses: Vec<Status> = outcomes
        .iter()
        .map(|outcome| outcome.report.status)
        .collect();
    let mut status = overall(&statuses, plan.replaces());
    let mut error = None;
    if plan.replaces() && !plan.options.dry_run {
        let swap = build_swap(context, &outcomes);
        if status == Status::Succeeded
            && let Err(failure) = swap_in(context, &swap).await
        {
            status = if context.cancel.is_cancelled() {
                Status::Cancelled
            } else {
                Status::Failed
            };
            error = Some(failure);
        }
        if status != Status::Succeeded {
            // What was loaded lies in the shadows: the table is as it was.
            for outcome in &mut outcomes {
                outcome.ledger.loaded = 0;
                outcome.report.rows.loaded = 0;
            }
            if let Err(error) = context.sink.discard(&swap).await {
                tracing::warn!(%error, "the shadow tables of a failed run could not be dropped");
            }
        }
    }
    if status == Status::Succeeded
        && let Err(too_many) = context.books.check_at_end()
    {
        status = Status::Failed;
        error = Some(Failure::new(
            format!(
                "pipeline {}: {too_many}; the rows are committed",
                plan.config.name
            ),
            &too_many,
        ));
    }
    let mut total = Ledger::default();
    for outcome in &outcomes {
        total.add(&outcome.ledger);
    }
    let seconds = clock.elapsed().as_secs_f64();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is rounded"
    )]
    let rows_per_second = (total.extracted as f64 / seconds.max(0.001)) as u64;
    RunReport {
        run_id: context.run_id.clone(),
        pipeline: plan.config.name.clone(),
        status,
        dry_run: plan.options.dry_run,
        delivery: plan.manifest.delivery,
        started_at: started_at.to_string(),
        finished_at: jiff::Timestamp::now().to_string(),
        seconds,
        rows: Rows::from(total),
        bytes: total.bytes,
        rows_per_second,
        peak_memory_bytes: peak_memory(),
        attempts: outcomes.iter().map(|outcome| outcome.report.attempts).sum(),
        partitions: outcomes.into_iter().map(|outcome| outcome.report).collect(),
        error,
        counters: context.counters.snapshot(),
        backfill: None,
    }
}

async fn run_partitions(context: &Arc<RunContext>) -> Vec<Outcome> {
    let mut tasks = JoinSet::new();
    for (position, partition) in context.plan.partitions.iter().cloned().enumerate() {
        let context = context.clone();
        let span = spans::of_partition(&partition.name);
        let recorded = span.clone();
        let work = async move {
            let source = context.source.as_ref().zip(partition.shard.as_ref());
            let source = source.and_then(|(source, shard)| source.places(shard));
            // A partition waits here, not for a connection that another one keeps until it is done.
            let places = source.into_iter().chain([context.sink.places()]);
            let _taken = tokio::select! {
                taken = Places::take(places) => Some(taken),
                // Its partition ends before it opens anything.
                () = context.cancel.cancelled() => None,
            };
            let outcome = partition::run(&context, &partition).await;
            lease::release(&context, &partition.name).await;
            spans::record_partition(&recorded, &outcome.report);
            (position, outcome)
        };
        tasks.spawn(work.instrument(span));
    }
    let mut outcomes: Vec<Option<Outcome>> = context.plan.partitions.iter().map(|_| None).collect();
    while let Some(ended) = tasks.join_next().await {
        // A task that panicked leaves its place empty, which is a failure below.
        if let Ok((position, outcome)) = ended
            && let Some(slot) = outcomes.get_mut(position)
        {
            *slot = Some(outcome);
        }
    }
    outcomes
        .into_iter()
        .zip(&context.plan.partitions)
        .map(|(outcome, partition)| {
            outcome.unwrap_or_else(|| Outcome {
                report: PartitionReport {
                    name: partition.name.clone(),
                    status: Status::Failed,
                    attempts: 1,
                    rows: Rows::default(),
                    cursor_from: None,
                    cursor_to: None,
                    error: Some(Failure {
                        message: format!(
                            "pipeline {}, partition {}: the host itself panicked; uncommitted rows are rolled back",
                            context.plan.config.name, partition.name
                        ),
                        next_step: Some("run again, and report this as a bug with the log".to_owned()),
                        environment: false,
                        configuration: false,
                        details: None,
                        crashed: false,
                    }),
                    worker: None,
                    ledger: Ledger::default(),
                    timeline: context.books.timeline(&partition.name),
                },
                ledger: Ledger::default(),
                cursor: None,
                epoch: 0,
            })
        })
        .collect()
}

fn build_swap(context: &RunContext, outcomes: &[Outcome]) -> Swap {
    let plan = &context.plan;
    Swap {
        pipeline: plan.config.name.clone(),
        run_id: context.run_id.clone(),
        partitions: plan
            .partitions
            .iter()
            .zip(outcomes)
            .map(|(partition, outcome)| SwapPartition {
                index: partition.index,
                name: partition.name.clone(),
                epoch: outcome.epoch,
                rows: outcome.ledger.loaded,
                cursor: outcome.cursor.clone(),
            })
            .collect(),
    }
}

/// Swaps in the rows of a `replace`, with the same patience as an attempt.
async fn swap_in(context: &RunContext, swap: &Swap) -> Result<(), Failure> {
    let plan = &context.plan;
    let handling = &plan.config.error_handling;
    let mut retries = 0;
    loop {
        let swapping = tokio::time::timeout(handling.attempt_timeout, context.sink.swap(swap));
        let swapped = tokio::select! {
            swapped = swapping => swapped.unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Timeout,
                    "it took longer than `attempt_timeout`",
                ))
            }),
            () = context.overdue() => Err(Error::new(
                ErrorKind::Cancelled,
                "stopped before it was done",
            )),
        };
        let Err(error) = swapped else { return Ok(()) };
        let hopeless = policy(&error) != Policy::Retry || retries >= handling.max_retries;
        if hopeless || context.cancel.is_cancelled() {
            return swap_failure(context, swap, &error).await;
        }
        retries += 1;
        tracing::warn!(%error, "the rows could not be swapped in, trying again");
        tokio::select! {
            () = tokio::time::sleep(backoff::after(&error, handling, retries)) => {}
            () = context.cancel.cancelled() => {}
        }
    }
}

/// A commit whose answer was lost may have happened all the same: the sink is asked before anything is claimed.
async fn swap_failure(context: &RunContext, swap: &Swap, error: &Error) -> Result<(), Failure> {
    let name = &context.plan.config.name;
    let state = match context.sink.load_checkpoints(name).await {
        Ok(checkpoints) => {
            let mark = swap.mark();
            if checkpoints
                .values()
                .any(|checkpoint| checkpoint.run_id.as_ref() == Some(&mark))
            {
                return Ok(());
            }
            "the table is as it was"
        }
        Err(_) => "whether the table holds the old or the new rows is not known",
    };
    Err(Failure::new(
        format!("pipeline {name}: swap the new rows in: {error}; {state}"),
        error,
    ))
}
