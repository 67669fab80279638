//! What a run tells when it is over: the stable JSON of `run --output json`, and the truth about its success.

use std::borrow::Cow;
use std::collections::BTreeMap;

use etl_plugin_api::{Delivery, ErrorKind as StageErrorKind};
use serde::Serialize;

use super::books::Attempt;
use crate::backfill::Progress;
use crate::checkpoint::Ledger;
use crate::error::{Error, ErrorKind};
use crate::logs::redact;
use crate::policy::next_step_of_failure;
use crate::process::Usage;

/// How a run or a partition ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All rows are committed.
    Succeeded,
    /// Some partitions succeeded and some failed.
    Partial,
    /// It failed.
    Failed,
    /// It was asked to stop.
    Cancelled,
}

impl Status {
    /// The word in reports and history.
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Rows, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Read from the source.
    pub extracted: u64,
    /// Made by the transformer.
    pub transformed: u64,
    /// Written to the sink.
    pub loaded: u64,
    /// Set aside with a reason.
    pub quarantined: u64,
    /// Left out by the transformer.
    pub filtered: u64,
    /// Made needless by a later row with the same key.
    pub superseded: u64,
}

impl Rows {
    /// Adds another run's rows.
    pub fn add(&mut self, other: &Self) {
        self.extracted += other.extracted;
        self.transformed += other.transformed;
        self.loaded += other.loaded;
        self.quarantined += other.quarantined;
        self.filtered += other.filtered;
        self.superseded += other.superseded;
    }
}

impl From<Ledger> for Rows {
    fn from(ledger: Ledger) -> Self {
        Self {
            extracted: ledger.extracted,
            transformed: ledger.emitted,
            loaded: ledger.loaded,
            quarantined: ledger.quarantined(),
            filtered: ledger.filtered,
            superseded: ledger.superseded,
        }
    }
}

/// Why something failed, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What went wrong, with pipeline, partition and attempt.
    pub message: String,
    /// What to do next.
    pub next_step: Option<String>,
    /// Where the plugin panicked, or what it printed last before it crashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// The process that ran the plugin has ended.
    #[serde(skip)]
    pub crashed: bool,
    /// The fault lies in the environment.
    #[serde(skip)]
    pub environment: bool,
    /// The fault lies in the configuration.
    #[serde(skip)]
    pub configuration: bool,
}

impl Failure {
    /// A failure with what to do about its cause.
    pub fn new(message: String, cause: &Error) -> Self {
        let redacted = |text: &str| redact(text).into_owned();
        let changed = match redact(&message) {
            Cow::Owned(changed) => Some(changed),
            Cow::Borrowed(_) => None,
        };
        Self {
            message: changed.unwrap_or(message),
            next_step: next_step_of_failure(cause).map(|next| redacted(&next)),
            details: cause.details().map(redacted),
            crashed: matches!(
                cause.kind(),
                ErrorKind::Stage(StageErrorKind::Crashed | StageErrorKind::Killed)
            ),
            environment: cause.is_environment(),
            configuration: *cause.kind() == ErrorKind::Config,
        }
    }
}

/// One partition's part.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// How often it was tried.
    pub attempts: u32,
    /// Its committed rows.
    pub rows: Rows,
    /// Where it began.
    pub cursor_from: Option<String>,
    /// Where it ended.
    pub cursor_to: Option<String>,
    /// Why it failed.
    pub error: Option<Failure>,
    /// What its worker processes used; `None` if the plugin ran inside the host.
    pub worker: Option<WorkerUsage>,
    /// Both ledgers of its committed rows.
    pub ledger: Ledger,
    /// Its attempts.
    pub timeline: Vec<Attempt>,
}

/// What the worker processes of one partition used, one for each attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerUsage {
    /// The most memory that one of them had resident, bytes.
    pub peak_memory_bytes: u64,
    /// Their CPU time, milliseconds.
    pub cpu_ms: u64,
}

impl WorkerUsage {
    /// Adds another process.
    pub fn add(&mut self, other: Usage) {
        self.peak_memory_bytes = self.peak_memory_bytes.max(other.peak_bytes);
        self.cpu_ms += other.cpu_ms;
    }
}

/// A run's report.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// Its identifier.
    pub run_id: String,
    /// The pipeline.
    pub pipeline: String,
    /// How it ended.
    pub status: Status,
    /// Nothing was written.
    pub dry_run: bool,
    /// What the loader promises.
    pub delivery: Delivery,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended, RFC 3339.
    pub finished_at: String,
    /// How long it took.
    pub seconds: f64,
    /// Committed rows of all partitions.
    pub rows: Rows,
    /// Bytes of Arrow data written.
    pub bytes: u64,
    /// Rows read per second, over the whole run.
    pub rows_per_second: u64,
    /// The most memory that the host's process had resident so far, all its runs together; `None` where the system does
    /// not tell.
    pub peak_memory_bytes: Option<u64>,
    /// Attempts of all partitions.
    pub attempts: u32,
    /// Each partition.
    pub partitions: Vec<PartitionReport>,
    /// What failed beside the partitions.
    pub error: Option<Failure>,
    /// The plugin's counters.
    pub counters: BTreeMap<String, u64>,
    /// Of a backfill, how far it has come. The rows are those of all its windows, the partitions those of the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Progress>,
}

impl RunReport {
    /// The report of a run that failed before its first attempt.
    pub fn never_started(
        pipeline: &str,
        delivery: Delivery,
        dry_run: bool,
        error: Failure,
    ) -> Self {
        let now = jiff::Timestamp::now().to_string();
        Self {
            run_id: uuid::Uuid::now_v7().to_string(),
            pipeline: pipeline.to_owned(),
            status: Status::Failed,
            dry_run,
            delivery,
            started_at: now.clone(),
            finished_at: now,
            seconds: 0.0,
            rows: Rows::default(),
            bytes: 0,
            rows_per_second: 0,
            peak_memory_bytes: peak_memory(),
            attempts: 0,
            partitions: Vec::new(),
            error: Some(error),
            counters: BTreeMap::new(),
            backfill: None,
        }
    }

    /// All failures: those of the partitions, and that of the run.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.partitions
            .iter()
            .filter_map(|partition| partition.error.as_ref())
            .chain(&self.error)
    }

    /// The exit code that a run of this report alone ends with, except for one that a signal stopped.
    pub fn exit_code(&self) -> u8 {
        match self.status {
            Status::Succeeded => 0,
            Status::Partial => 4,
            Status::Cancelled => 130,
            Status::Failed => {
                let failures: Vec<&Failure> = self.failures().collect();
                let all = |is: fn(&Failure) -> bool| {
                    !failures.is_empty() && failures.iter().all(|failure| is(failure))
                };
                if all(|failure| failure.configuration) {
                    2
                } else if all(|failure| failure.environment) {
                    3
                } else {
                    1
                }
            }
        }
    }
}

/// The most memory that this process had resident, in bytes.
pub fn peak_memory() -> Option<u64> {
    Usage::of_this_process().map(|usage| usage.peak_bytes)
}

/// The status of a run by those of its partitions.
pub fn overall(statuses: &[Status], all_or_nothing: bool) -> Status {
    let any = |status: Status| statuses.contains(&status);
    if any(Status::Cancelled) {
        Status::Cancelled
    } else if !any(Status::Failed) {
        Status::Succeeded
    } else if any(Status::Succeeded) && !all_or_nothing {
        Status::Partial
    } else {
        Status::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_only_as_good_as_its_partitions() {
        use Status::{Cancelled, Failed, Partial, Succeeded};
        assert_eq!(overall(&[Succeeded, Succeeded], false), Succeeded);
        assert_eq!(overall(&[Succeeded, Failed], false), Partial);
        assert_eq!(overall(&[Succeeded, Failed], true), Failed);
        assert_eq!(overall(&[Failed, Failed], false), Failed);
        assert_eq!(overall(&[Succeeded, Cancelled, Failed], false), Cancelled);
    }
}
