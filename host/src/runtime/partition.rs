//! One partition of a run: attempts until it succeeds, fails for good, or the run is asked to stop.

use std::sync::atomic::Ordering;

use etl_plugin_api::{Cursor, ErrorKind as StageErrorKind};
use jiff::Timestamp;
use tracing::Instrument;

use super::RunContext;
use super::attempt::{self, Ended, Finished, Progress};
use super::backoff;
use super::books::Activity;
use super::report::{Failure, PartitionReport, Rows, Status};
use super::spans;
use crate::checkpoint::{Ledger, display};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::PartitionPlan;
use crate::policy::{Policy, policy};
use crate::stage::blocking;

/// How a partition ended, for the report and for the swap of a `replace`.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its part of the report.
    pub report: PartitionReport,
    /// Its committed books.
    pub ledger: Ledger,
    /// Where it was read to.
    pub cursor: Option<Cursor>,
    /// The epoch of the last attempt.
    pub epoch: i64,
}

/// A panic or a crash and where it happened, to recognise it when it comes again.
#[derive(PartialEq)]
struct Panic {
    message: String,
    cursor: Option<Cursor>,
}

/// Runs a partition to its end.
pub async fn run(run: &RunContext, partition: &PartitionPlan) -> Outcome {
    let handling = &run.plan.config.error_handling;
    let mut attempts = 0;
    let mut retries = 0;
    let mut last_panic = None;
    let mut postponed = false;
    let progress = Progress::default();
    loop {
        if run.cancel.is_cancelled() {
            return with_worker(stopped(run, partition, attempts).await, &progress);
        }
        attempts += 1;
        run.books.update(&partition.name, |page| {
            page.begin_attempt(attempts, Timestamp::now());
        });
        progress.commits.store(0, Ordering::Relaxed);
        let span = spans::of_attempt(attempts);
        let trying = try_once(run, partition, attempts, &progress);
        let result = trying.instrument(span.clone()).await;
        spans::record_attempt(&span, &result);
        drop(span);
        if result.is_err() {
            settle(run, partition).await;
        }
        tell_end(run, partition, &result);
        let error = match result {
            Ok(Ended::Finished(finished)) => {
                let outcome = succeeded(run, partition, attempts, &finished);
                return with_worker(outcome, &progress);
            }
            Ok(Ended::Settled) => continue,
            // A stage that stops by itself, unasked, has failed like any other.
            Err(error)
                if *error.kind() == ErrorKind::Cancelled && run.cancel.is_cancelled() =>
            {
                return with_worker(stopped(run, partition, attempts).await, &progress);
            }
            // Whoever stops the host may have stopped its workers too.
            Err(error)
                if *error.kind() == ErrorKind::Stage(StageErrorKind::Transient)
                    && run.cancel.is_cancelled() =>
            {
                tracing::warn!(
                    attempt = attempts,
                    %error,
                    "failed while it was being stopped; the next run goes on from the last commit"
                );
                return with_worker(stopped(run, partition, attempts).await, &progress);
            }
            Err(error) if *error.kind() == ErrorKind::Cancelled => error.hint(
                "nobody asked the run to stop: a stage may say that it was cancelled only after `Context::cancelled` said so",
            ),
            Err(error) => error,
        };
        let error = doubt_commits(error, progress.commits.load(Ordering::Relaxed));
        if progress.commits.load(Ordering::Relaxed) > 0 {
            retries = 0;
        }
        let again = came_again(run, partition, &error, &mut last_panic).await;
        // Who finds that a server is left alone waits for the next trial at no cost, but only once: if the server is left
        // alone after that too, the trial has failed.
        let free = error.is_untried() && !postponed && handling.max_retries > 0;
        postponed = error.earliest_retry().is_some();
        let exhausted = retries >= handling.max_retries && !free;
        let hopeless = again || policy(&error) != Policy::Retry || exhausted;
        if hopeless || run.cancel.is_cancelled() {
            let outcome = failed(run, partition, attempts, again, &error).await;
            return with_worker(outcome, &progress);
        }
        retries += u32::from(!free);
        let wait = backoff::after(&error, handling, retries);
        tracing::warn!(
            attempt = attempts,
            error = %error,
            "attempt failed, trying again in {:.1} s ({retries} of {} retries)",
            wait.as_secs_f64(),
            handling.max_retries
        );
        run.books
            .update(&partition.name, |page| page.wait_after(&error, wait));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = run.cancel.cancelled() => {}
        }
    }
}

/// Notes for people how an attempt ended.
fn tell_end(run: &RunContext, partition: &PartitionPlan, result: &Result<Ended>) {
    let (outcome, error) = match result {
        Ok(Ended::Finished(finished)) if finished.cancelled => ("cancelled", None),
        Ok(_) => ("succeeded", None),
        Err(error) if run.cancel.is_cancelled() => ("cancelled", Some(error)),
        Err(error) => ("failed", Some(error)),
    };
    run.books.update(&partition.name, |page| {
        page.end_attempt(outcome, error, Timestamp::now());
    });
}

/// A stage that is still at work for an attempt that was given up must not meet the next one.
async fn settle(run: &RunContext, partition: &PartitionPlan) {
    let (stages, name) = (run.stages.clone(), partition.name.clone());
    let settled = blocking(move || {
        stages.settle(&name);
        Ok(())
    });
    // Nothing depends on the answer.
    let _ = settled.await;
}

fn with_worker(mut outcome: Outcome, progress: &Progress) -> Outcome {
    outcome.report.worker = progress.worker();
    outcome
}

async fn try_once(
    run: &RunContext,
    partition: &PartitionPlan,
    number: u32,
    progress: &Progress,
) -> Result<Ended> {
    let limit = run.plan.config.error_handling.attempt_timeout;
    let attempt = tokio::time::timeout(limit, attempt::run(run, partition, number, progress));
    tokio::select! {
        ended = attempt => ended.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                format!("the attempt took longer than {} s", limit.as_secs()),
            )
            .hint("raise `error_handling.attempt_timeout`, or read less at a time"))
        }),
        () = run.overdue() => {
            tracing::warn!(
                "what is in flight could not be committed within `error_handling.drain_timeout`; it is rolled back, and the next run reads it again"
            );
            Err(Error::new(ErrorKind::Cancelled, "stopped before what was in flight was committed"))
        }
    }
}

/// A row that was counted and did not arrive may be missing among those that were committed on the way, where no attempt
/// would look again. So the run must not go on to a success.
fn doubt_commits(error: Error, commits: u32) -> Error {
    if *error.kind() != ErrorKind::Miscounted || commits == 0 {
        return error;
    }
    Error::data(format!(
        "{error}; rows before that were committed already, and one may be missing among them"
    ))
    .hint(
        "find the range with `etl-host verify`, and read it again with `etl-host backfill`; look for what loses rows \
         between host and source",
    )
}

/// Whether the same panic or crash happened at the same cursor before: then it will every time.
async fn came_again(
    run: &RunContext,
    partition: &PartitionPlan,
    error: &Error,
    last: &mut Option<Panic>,
) -> bool {
    if !matches!(
        error.kind(),
        ErrorKind::Stage(
            StageErrorKind::Panicked | StageErrorKind::Crashed | StageErrorKind::Killed
        )
    ) {
        *last = None;
        return false;
    }
    let panic = Panic {
        message: error.to_string(),
        cursor: committed(run, partition)
            .await
            .and_then(|(_, cursor)| cursor),
    };
    let again = last.as_ref() == Some(&panic);
    *last = Some(panic);
    again
}

/// What this run has committed of the partition, by the sink's own word.
async fn committed(
    run: &RunContext,
    partition: &PartitionPlan,
) -> Option<(Ledger, Option<Cursor>)> {
    if run.plan.options.dry_run {
        return None;
    }
    let handling = &run.plan.config.error_handling;
    let asked = run.sink.load_checkpoints(&run.plan.config.name);
    // A report is not worth waiting for a sink that is gone.
    let mut checkpoints = tokio::time::timeout(handling.drain_timeout, asked)
        .await
        .ok()?
        .ok()?;
    let checkpoint = checkpoints.remove(&partition.name)?;
    let mine = checkpoint.run_id == Some(run.mark());
    Some((
        if mine {
            checkpoint.ledger
        } else {
            Ledger::default()
        },
        checkpoint.cursor,
    ))
}

fn succeeded(
    run: &RunContext,
    partition: &PartitionPlan,
    attempts: u32,
    finished: &Finished,
) -> Outcome {
    let (status, activity) = if finished.cancelled {
        (Status::Cancelled, Activity::Cancelled)
    } else {
        (Status::Succeeded, Activity::Succeeded)
    };
    run.books.update(&partition.name, |page| {
        page.activity = activity;
        page.ledger = finished.ledger;
    });
    Outcome {
        report: PartitionReport {
            name: partition.name.clone(),
            status,
            attempts,
            rows: Rows::from(finished.ledger),
            cursor_from: finished.from.as_ref().map(display),
            cursor_to: finished.to.as_ref().map(display),
            error: None,
            worker: None,
            ledger: finished.ledger,
            timeline: run.books.timeline(&partition.name),
        },
        ledger: finished.ledger,
        cursor: finished.to.clone(),
        epoch: finished.epoch,
    }
}

async fn stopped(run: &RunContext, partition: &PartitionPlan, attempts: u32) -> Outcome {
    ended(run, partition, attempts, Status::Cancelled, None).await
}

async fn failed(
    run: &RunContext,
    partition: &PartitionPlan,
    attempts: u32,
    again: bool,
    error: &Error,
) -> Outcome {
    let repeated = if again {
        ", the same way as before at the same position"
    } else {
        ""
    };
    let failure = Failure::new(
        format!(
            "pipeline {}, partition {}, attempt {attempts}: {error}{repeated}",
            run.plan.config.name, partition.name
        ),
        error,
    );
    spans::record_error(&tracing::Span::current(), error);
    if let Some(next) = &failure.next_step {
        tracing::error!("{}; next: {next}", failure.message);
    } else {
        tracing::error!("{}", failure.message);
    }
    ended(run, partition, attempts, Status::Failed, Some(failure)).await
}

/// A partition that did not come to its end: only what the sink says is committed counts.
async fn ended(
    run: &RunContext,
    partition: &PartitionPlan,
    attempts: u32,
    status: Status,
    error: Option<Failure>,
) -> Outcome {
    // If the sink cannot be asked, what this host saw committed is the best that is known.
    let (ledger, cursor) = match committed(run, partition).await {
        Some(known) => known,
        None => (run.books.committed(&partition.name), None),
    };
    run.books.update(&partition.name, |page| {
        page.activity = if status == Status::Failed {
            Activity::Failed
        } else {
            Activity::Cancelled
        };
        page.ledger = ledger;
    });
    Outcome {
        report: PartitionReport {
            name: partition.name.clone(),
            status,
            attempts,
            rows: Rows::from(ledger),
            cursor_from: None,
            cursor_to: cursor.as_ref().map(display),
            error,
            worker: None,
            ledger,
            timeline: run.books.timeline(&partition.name),
        },
        ledger,
        cursor,
        epoch: 0,
    }
}
