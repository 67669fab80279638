//! Due runs: the instants of a pipeline's schedule, claimed in its sink, so that restarts, a second daemon and a second
//! machine make no second run of one instant. The same rows are the account of every instant, also of those that were
//! skipped or missed.
//!
//! When a pipeline is due, and what becomes of an instant that was missed, is decided elsewhere.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::holder::Holder;

/// Nanoseconds in the smallest step that both sinks keep.
const STEP: i32 = 1_000;

/// One instant of one pipeline's schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DueRun {
    /// The pipeline.
    pub pipeline: String,
    /// When it is due, in whole microseconds.
    pub scheduled_for: Timestamp,
}

impl DueRun {
    /// The pipeline's run that is due then. What is finer than a microsecond is cut off.
    pub fn new(pipeline: &str, scheduled_for: Timestamp) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            scheduled_for: whole_microseconds(scheduled_for),
        }
    }
}

impl fmt::Display for DueRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the run of {} due at {}",
            self.pipeline, self.scheduled_for
        )
    }
}

/// An instant as sinks keep it: cut off, so that comparing with what was read back finds the same instant.
pub fn whole_microseconds(instant: Timestamp) -> Timestamp {
    let rest = instant.subsec_nanosecond().rem_euclid(STEP);
    // The earliest instant there is has no rest.
    instant
        .checked_sub(Duration::from_nanos(rest.unsigned_abs().into()))
        .unwrap_or(instant)
}

/// What became of a due run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DueStatus {
    /// Claimed, and not begun.
    Queued,
    /// Its run goes on.
    Running,
    /// Its run succeeded.
    Succeeded,
    /// Some partitions of its run succeeded.
    Partial,
    /// Its run failed.
    Failed,
    /// Its run was stopped.
    Cancelled,
    /// Its daemon died, and it was not tried again.
    Interrupted,
    /// Left out on purpose: the pipeline was running, paused or disabled.
    Skipped,
    /// Left out because no daemon was there.
    Missed,
}

impl DueStatus {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Partial,
        Self::Failed,
        Self::Cancelled,
        Self::Interrupted,
        Self::Skipped,
        Self::Missed,
    ];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Skipped => "skipped",
            Self::Missed => "missed",
        }
    }

    /// Nothing more happens to it.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl fmt::Display for DueStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DueStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| {
            Error::data(format!("this version knows no due run that is `{text}`"))
                .hint("a newer etl-host has written it: use that version for this sink")
        })
    }
}

/// Who claims a due run, and as what.
#[derive(Clone, Debug)]
pub struct DueClaim {
    /// The due run.
    pub due: DueRun,
    /// The process that claims it.
    pub holder: Holder,
    /// How long the claim lasts unless it is renewed.
    pub lease: Duration,
    /// Usually [`DueStatus::Queued`]; a final one only accounts for the instant.
    pub status: DueStatus,
    /// Why it has this status, for people.
    pub reason: Option<String>,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Claimed {
    /// The due run is the claimant's.
    New,
    /// Somebody was there first; the claimant itself, if the answer to an earlier claim was lost.
    Exists(Box<DueRecord>),
}

/// A due run, as the sink keeps it. Times are by the sink's clock, but for `scheduled_for`.
#[derive(Clone, Debug, PartialEq)]
pub struct DueRecord {
    /// When it was due.
    pub scheduled_for: Timestamp,
    /// Its run, once there was one.
    pub run_id: Option<String>,
    /// What became of it.
    pub status: DueStatus,
    /// The process that has it, or had it last.
    pub holder: Holder,
    /// Seconds until the claim runs out; below zero if it has.
    pub seconds_left: f64,
    /// How often it was claimed: 1, and one more for each time that it was taken over.
    pub tries: u32,
    /// When it was claimed last.
    pub claimed_at: Timestamp,
    /// When its run began.
    pub started_at: Option<Timestamp>,
    /// When it got its final status.
    pub ended_at: Option<Timestamp>,
    /// Why it has this status, for people.
    pub reason: Option<String>,
}

impl DueRecord {
    /// Whether somebody else may have it: it is not final, and its process is gone or has not renewed the claim.
    pub fn is_abandoned(&self) -> bool {
        !self.status.is_final() && (self.seconds_left <= 0.0 || self.holder.is_gone())
    }
}

/// What is to be noted of a due run.
#[derive(Clone, Debug)]
pub struct DueNote<'a> {
    /// The due run.
    pub due: &'a DueRun,
    /// The process that has claimed it.
    pub holder: &'a Holder,
    /// What it has come to.
    pub status: DueStatus,
    /// Its run; `None` leaves what is there.
    pub run_id: Option<&'a str>,
    /// Why it has this status, for people.
    pub reason: Option<&'a str>,
}

/// The due runs that a sink keeps.
#[async_trait]
pub trait DueRuns: Send + Sync {
    /// Claims a due run, unless it is claimed. Makes the host's tables where they are missing.
    async fn claim_due(&self, claim: &DueClaim) -> Result<Claimed>;

    /// Claims many with one statement; says of each whether it is the claimant's. Of one due run that is named twice, at
    /// most one is.
    async fn claim_each_due(&self, claims: &[DueClaim]) -> Result<Vec<bool>>;

    /// Takes a due run over from whom it was claimed by, as it was read, if it is abandoned still.
    async fn take_over_due(&self, claim: &DueClaim, from: &DueRecord) -> Result<bool>;

    /// Notes what a due run has come to. `false` if this process has lost it, or if it has a final status: then nothing is
    /// changed.
    async fn note_due(&self, note: &DueNote<'_>) -> Result<bool>;

    /// Prolongs all claims of a process; says how many it has.
    async fn renew_due(&self, holder: &Holder, lease: Duration) -> Result<u64>;

    /// The latest due runs of a pipeline, newest first.
    async fn due_runs(&self, pipeline: &str, limit: u32) -> Result<Vec<DueRecord>>;

    /// The newest instant of a pipeline that is accounted for.
    async fn latest_due(&self, pipeline: &str) -> Result<Option<Timestamp>>;

    /// The due runs of a pipeline that have no final status, oldest first.
    async fn unfinished_due(&self, pipeline: &str) -> Result<Vec<DueRecord>>;

    /// Forgets final ones that were due before this instant, but never the newest of the pipeline. Says how many.
    async fn prune_due(&self, pipeline: &str, before: Timestamp) -> Result<u64>;
}

/// A holder as sinks keep it.
pub fn holder_text(holder: &Holder) -> Result<String> {
    serde_json::to_string(holder)
        .map_err(|error| Error::internal("a holder cannot be written down").caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for status in DueStatus::ALL {
            assert_eq!(status.as_str().parse::<DueStatus>().unwrap(), status);
        }
        let unknown = "paused".parse::<DueStatus>().unwrap_err();
        assert!(unknown.to_string().contains("`paused`"), "{unknown}");
    }

    #[test]
    fn instants_are_cut_to_what_a_sink_keeps_before_and_after_the_epoch() {
        let cut = |text: &str| {
            DueRun::new("p", text.parse().unwrap())
                .scheduled_for
                .to_string()
        };
        assert_eq!(cut("2026-03-29T01:00:00Z"), "2026-03-29T01:00:00Z");
        assert_eq!(
            cut("2026-03-29T01:00:00.123456999Z"),
            "2026-03-29T01:00:00.123456Z"
        );
        assert_eq!(
            cut("1969-12-31T23:59:59.999999999Z"),
            "1969-12-31T23:59:59.999999Z"
        );
        assert_eq!(whole_microseconds(Timestamp::MIN), Timestamp::MIN);
        assert_eq!(cut("9999-12-30T22:00:00.9Z"), "9999-12-30T22:00:00.9Z");
    }
}
