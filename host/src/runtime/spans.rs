//! The spans of a run: run > partition > attempt > chunk. What is logged and traced lies in the innermost.
//!
//! One span for a chunk, none for a batch or a row: a span must cost nothing to notice. Who writes logs and traces is
//! the matter of [`logs`](crate::logs).

use tracing::field::{Empty, debug};
use tracing::{Span, info_span};

use super::attempt::Ended;
use super::report::{PartitionReport, Rows, RunReport, Status};
use crate::checkpoint::Ledger;
use crate::error::{Error, ErrorKind, Result};

/// Who says how runs end.
const LOG: &str = "etl_host::runtime";

/// A run of a pipeline.
pub fn of_run(pipeline: &str, run_id: &str) -> Span {
    info_span!(
        "run",
        pipeline,
        run_id,
        status = Empty,
        rows = Empty,
        bytes = Empty,
        attempts = Empty,
        "otel.status_code" = Empty,
        "otel.status_description" = Empty,
    )
}

/// A partition of the run whose span this is in.
pub fn of_partition(partition: &str) -> Span {
    info_span!(
        "partition",
        partition,
        status = Empty,
        rows = Empty,
        attempts = Empty,
        "error.type" = Empty,
        "otel.status_code" = Empty,
        "otel.status_description" = Empty,
    )
}

/// An attempt of a partition.
pub fn of_attempt(attempt: u32) -> Span {
    let attempt = i64::from(attempt);
    info_span!(
        "attempt",
        attempt,
        rows = Empty,
        bytes = Empty,
        "error.type" = Empty,
        "otel.status_code" = Empty,
        "otel.status_description" = Empty,
    )
}

/// A chunk of an attempt: flushes and their commit.
pub fn of_chunk() -> Span {
    info_span!(
        "chunk",
        rows = Empty,
        bytes = Empty,
        "error.type" = Empty,
        "otel.status_code" = Empty,
        "otel.status_description" = Empty,
    )
}

/// Writes down why what a span is about failed.
pub fn record_error(span: &Span, error: &Error) {
    span.record("error.type", debug(error.kind()));
    // Whoever is stopped has not failed.
    if *error.kind() != ErrorKind::Cancelled {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", error.to_string());
    }
}

/// Writes down how an attempt ended.
pub fn record_attempt(span: &Span, result: &Result<Ended>) {
    match result {
        Ok(Ended::Finished(finished)) => {
            span.record("rows", number(finished.ledger.loaded));
            span.record("bytes", number(finished.ledger.bytes));
        }
        Ok(Ended::Settled) => {}
        Err(error) => record_error(span, error),
    }
}

/// Writes down what a chunk has committed, by the books before and after.
pub fn record_chunk(span: &Span, before: &Ledger, after: &Ledger) {
    span.record("rows", number(after.loaded.saturating_sub(before.loaded)));
    span.record("bytes", number(after.bytes.saturating_sub(before.bytes)));
}

/// Writes down how a partition ended, in its span and in the log.
pub fn record_partition(span: &Span, report: &PartitionReport) {
    span.record("status", report.status.word());
    span.record("rows", number(report.rows.loaded));
    span.record("attempts", i64::from(report.attempts));
    record_status(
        span,
        report.status,
        report.error.as_ref().map(|error| error.message.as_str()),
    );
    let Rows {
        extracted, loaded, ..
    } = report.rows;
    let cursor = report.cursor_to.as_deref().unwrap_or("none");
    let status = report.status.word();
    tracing::info!(
        target: LOG,
        cursor,
        attempts = report.attempts,
        "partition {status}: {extracted} rows read, {loaded} loaded"
    );
}

/// Writes down how a run ended, in its span and in the log.
pub fn record_run(span: &Span, report: &RunReport) {
    span.record("status", report.status.word());
    span.record("rows", number(report.rows.loaded));
    span.record("bytes", number(report.bytes));
    span.record("attempts", i64::from(report.attempts));
    record_status(
        span,
        report.status,
        report.failures().next().map(|error| error.message.as_str()),
    );
    if let Some(error) = &report.error {
        tracing::error!(target: LOG, "{}", error.message);
    }
    let Rows {
        extracted,
        loaded,
        quarantined,
        ..
    } = report.rows;
    let status = report.status.word();
    tracing::info!(
        target: LOG,
        quarantined,
        bytes = report.bytes,
        "run {status}: {extracted} rows read, {loaded} loaded in {:.1} s",
        report.seconds
    );
}

fn record_status(span: &Span, status: Status, why: Option<&str>) {
    if matches!(status, Status::Failed | Status::Partial) {
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", why.unwrap_or(status.word()));
    }
}

/// As a collector takes numbers.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
