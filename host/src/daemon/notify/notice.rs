//! What the daemon has seen, and what somebody is told of it. The JSON of a [`Notice`] is stable: `docs/json.md`.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::duration::DisplayDuration;
use crate::config::notifications::NoticeKind;
use crate::runtime::report::RunReport;
use crate::sink::due::{DueRun, DueStatus};

/// What the daemon has seen.
#[derive(Clone, Debug)]
pub enum Observation {
    /// An instant of a schedule has come. Its run is late if it has not ended so long after it. A restart that finds it
    /// unfinished says it again.
    Due {
        /// The due run.
        due: DueRun,
        /// When it is late.
        late_after: Duration,
    },
    /// The run of an instant has begun.
    Begun {
        /// The due run.
        due: DueRun,
        /// Its run.
        run_id: String,
    },
    /// An instant gets no run: it was skipped, or stopped before it began.
    Settled(DueRun),
    /// A run is over.
    Ended(EndedRun),
}

/// A run that is over.
#[derive(Clone, Debug)]
pub struct EndedRun {
    /// Its pipeline.
    pub pipeline: String,
    /// Its identifier.
    pub run_id: String,
    /// How it ended.
    pub status: DueStatus,
    /// The due instant that it was for.
    pub scheduled_for: Option<Timestamp>,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended, RFC 3339; `None` if its host died.
    pub finished_at: Option<String>,
    /// What went wrong.
    pub error: Option<Fault>,
}

/// What went wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub next_step: Option<String>,
}

impl EndedRun {
    /// The run of this report; `None` for a dry run, of which nobody is told.
    pub fn of_report(report: &RunReport, scheduled_for: Option<Timestamp>) -> Option<Self> {
        if report.dry_run {
            return None;
        }
        let mut failures = report.failures();
        let error = failures.next().map(|failure| Fault {
            message: failure.message.clone(),
            next_step: failure.next_step.clone(),
        });
        let more = failures.count();
        Some(Self {
            pipeline: report.pipeline.clone(),
            run_id: report.run_id.clone(),
            status: report.status.word().parse().unwrap_or(DueStatus::Failed),
            scheduled_for,
            started_at: report.started_at.clone(),
            finished_at: Some(report.finished_at.clone()),
            error: error.map(|mut error| {
                if more > 0 {
                    let _ = write!(error.message, " (and {more} more)");
                }
                error
            }),
        })
    }

    /// The same of a backfill, which another run does not carry on.
    #[must_use]
    pub fn as_backfill(mut self) -> Self {
        if let Some(error) = &mut self.error {
            error.next_step = Some(
                "ask for the same backfill again: it goes on after the windows that are done"
                    .to_owned(),
            );
        }
        self
    }

    /// A run whose host died, and that is not resumed.
    pub fn interrupted(
        pipeline: &str,
        run_id: &str,
        started_at: &str,
        scheduled_for: Option<Timestamp>,
    ) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            run_id: run_id.to_owned(),
            status: DueStatus::Interrupted,
            scheduled_for,
            started_at: started_at.to_owned(),
            finished_at: None,
            error: Some(Fault {
                message: "the host died while it ran".to_owned(),
                next_step: Some(format!(
                    "`etl-host run {pipeline}` goes on from the last commit"
                )),
            }),
        }
    }
}

/// What somebody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What happened.
    pub event: NoticeKind,
    /// All of it in words, for chats that show nothing else.
    pub text: String,
    /// The pipeline.
    pub pipeline: String,
    /// The run, if there is one.
    pub run_id: Option<String>,
    /// How the run ended; of a late one `queued` or `running`.
    pub status: String,
    /// The due instant that it is for.
    pub scheduled_for: Option<Timestamp>,
    /// When the run began, RFC 3339.
    pub started_at: Option<String>,
    /// When the run ended, RFC 3339.
    pub finished_at: Option<String>,
    /// Failed runs in a row; of a recovery those before it.
    pub failed_runs: u64,
    /// When the first of them began, RFC 3339.
    pub failing_since: Option<String>,
    /// What went wrong.
    pub error: Option<Fault>,
    /// How many notices were left out before this one, because there were too many.
    pub left_out: u64,
    /// The machine.
    pub host: String,
    /// When this was found out.
    pub at: Timestamp,
}

impl Notice {
    /// Of a run that failed, or that is the first to succeed again.
    pub fn of_run(
        event: NoticeKind,
        run: &EndedRun,
        (failed_runs, failing_since): (u64, &str),
        host: &str,
        at: Timestamp,
    ) -> Self {
        let mut text = match event {
            NoticeKind::Recovery => format!("{} runs again", run.pipeline),
            _ => match run.status {
                DueStatus::Partial => format!("{} failed for some partitions", run.pipeline),
                DueStatus::Interrupted => format!("{} was interrupted", run.pipeline),
                _ => format!("{} failed", run.pipeline),
            },
        };
        match (event, failed_runs) {
            (NoticeKind::Recovery, 1) => text.push_str(", after a failed run"),
            (NoticeKind::Recovery, runs) => {
                let _ = write!(text, ", after {runs} failed runs since {failing_since}");
            }
            (_, 1) => {}
            (_, runs) => {
                let _ = write!(text, ", {runs} runs in a row since {failing_since}");
            }
        }
        if let Some(error) = &run.error {
            let _ = write!(text, ": {}", error.message);
            if let Some(next) = &error.next_step {
                let _ = write!(text, ". Next: {next}");
            }
        }
        Self {
            event,
            text,
            pipeline: run.pipeline.clone(),
            run_id: Some(run.run_id.clone()),
            status: run.status.to_string(),
            scheduled_for: run.scheduled_for,
            started_at: Some(run.started_at.clone()),
            finished_at: run.finished_at.clone(),
            failed_runs,
            failing_since: Some(failing_since.to_owned()),
            error: run.error.clone(),
            left_out: 0,
            host: host.to_owned(),
            at,
        }
    }

    /// Of a due run that has not ended in time.
    pub fn of_late(
        due: &DueRun,
        late_after: Duration,
        run_id: Option<String>,
        host: &str,
        at: Timestamp,
    ) -> Self {
        let (status, does) = match run_id {
            Some(_) => (DueStatus::Running, "still runs"),
            None => (DueStatus::Queued, "has not begun"),
        };
        Self {
            event: NoticeKind::Lateness,
            text: format!(
                "{} is late: the run due at {} {does} {} later",
                due.pipeline,
                due.scheduled_for,
                DisplayDuration(late_after)
            ),
            pipeline: due.pipeline.clone(),
            run_id,
            status: status.to_string(),
            scheduled_for: Some(due.scheduled_for),
            started_at: None,
            finished_at: None,
            failed_runs: 0,
            failing_since: None,
            error: None,
            left_out: 0,
            host: host.to_owned(),
            at,
        }
    }

    /// Says that others were left out before it.
    pub fn after_others(&mut self, left_out: u64) {
        self.left_out = left_out;
        match left_out {
            0 => {}
            1 => self.text.push_str(" (one notice before this was left out)"),
            _ => {
                let _ = write!(self.text, " ({left_out} notices before this were left out)");
            }
        }
    }
}
