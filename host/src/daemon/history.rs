//! Runs of the past, as the state folder has them, and who asked for what.

use super::metrics::time_of;
use super::view::{AuditEntry, PipelineView, RecentRun, RunSummary};
use super::{Daemon, HistoryQuery, Refusal, lock};
use crate::state::{AuditRecord, AuditedAnswer, AuditedRequest, RunDetails};

/// Runs of a pipeline that are shown beside each other.
const RECENT: u32 = 30;

impl Daemon {
    /// Runs of the past, newest first.
    pub fn history(&self, query: &HistoryQuery) -> Result<Vec<RunSummary>, Refusal> {
        let runs = lock(&self.reading).run_details(query)?;
        Ok(runs.into_iter().map(RunSummary::from).collect())
    }

    /// A run as history has it, or one of the last dry runs; `None` if there is none of that identifier.
    pub fn summary(&self, run_id: &str) -> Result<Option<RunSummary>, Refusal> {
        let run = lock(&self.reading).details_of_run(run_id)?;
        Ok(run
            .map(RunSummary::from)
            .or_else(|| self.dry_runs.summary(run_id)))
    }

    /// The report of a run that is over.
    pub fn report(&self, run_id: &str) -> Result<Option<serde_json::Value>, Refusal> {
        let report = lock(&self.reading).report(run_id)?;
        Ok(report.or_else(|| self.dry_runs.report(run_id)))
    }

    /// Adds what takes longer to find out: the last runs, and how far behind the source it is.
    pub fn add_recent(&self, view: &mut PipelineView) -> Result<(), Refusal> {
        let query = HistoryQuery {
            pipeline: Some(view.name.clone()),
            // One may still go on.
            limit: RECENT + 1,
            ..HistoryQuery::default()
        };
        let reading = lock(&self.reading);
        let runs = reading.run_details(&query)?;
        let cursors = reading.last_cursors(&view.name)?;
        drop(reading);
        let over = runs
            .into_iter()
            .filter(|run| run.record.status != "running");
        view.recent = over.take(RECENT as usize).map(RecentRun::from).collect();
        view.recent.reverse();
        let now = self.shared.clock.now();
        let oldest = cursors.iter().filter_map(|cursor| time_of(cursor)).min();
        view.lag_seconds = oldest.map(|time| now.duration_since(time).as_secs_f64().max(0.0));
        Ok(())
    }

    /// The last run of a pipeline that is over.
    pub(super) fn last_run(&self, pipeline: &str) -> Result<Option<RunSummary>, Refusal> {
        let reading = lock(&self.reading);
        let Some(last) = reading.last_ended(pipeline)? else {
            return Ok(None);
        };
        let details = reading.details_of_run(&last.run_id)?;
        Ok(details.map(RunSummary::from))
    }

    /// Notes what is about to be done; gives the number of the entry.
    pub fn record_request(&self, request: &AuditedRequest) -> Result<i64, Refusal> {
        let now = self.shared.clock.now();
        Ok(lock(&self.auditing).record_request(request, now)?)
    }

    /// Notes what became of it.
    pub fn record_answer(&self, id: i64, answer: &AuditedAnswer) -> Result<(), Refusal> {
        Ok(lock(&self.auditing).record_answer(id, answer)?)
    }

    /// Who changed what through the API, newest first.
    pub fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, Refusal> {
        let records = lock(&self.auditing).audit(before, limit)?;
        Ok(records.into_iter().map(AuditEntry::from).collect())
    }
}

impl From<RunDetails> for RunSummary {
    fn from(details: RunDetails) -> Self {
        let record = details.record;
        Self {
            run_id: record.run_id,
            pipeline: details.pipeline,
            status: record.status,
            trigger: record.trigger,
            scheduled_for: record.scheduled_for,
            started_at: record.started_at,
            finished_at: record.finished_at,
            loaded: record.loaded,
            seconds: details.seconds,
            extracted: details.extracted,
            quarantined: details.quarantined,
            attempts: details.attempts,
            error: details.error,
        }
    }
}

impl From<RunDetails> for RecentRun {
    fn from(details: RunDetails) -> Self {
        Self {
            run_id: details.record.run_id,
            status: details.record.status,
            started_at: details.record.started_at,
            seconds: details.seconds,
            extracted: details.extracted,
            loaded: details.record.loaded,
            quarantined: details.quarantined,
        }
    }
}

impl From<AuditRecord> for AuditEntry {
    fn from(record: AuditRecord) -> Self {
        let request = record.request.as_deref();
        Self {
            id: record.id,
            at: record.at,
            peer: record.peer,
            via: record.via,
            method: record.method,
            path: record.path,
            request: request.and_then(|text| serde_json::from_str(text).ok()),
            status: record.status,
            error: record.error,
            run_id: record.run_id,
        }
    }
}
