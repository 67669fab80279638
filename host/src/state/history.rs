//! What ran, when, and how it ended.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Row, params, params_from_iter};
use serde::Serialize;

use super::State;
use crate::error::{Error, Result};
use crate::holder::Holder;

/// One run as history keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// Its identifier.
    pub run_id: String,
    /// `running`, `interrupted` (its host died), `succeeded`, `partial`, `failed` or `cancelled`.
    pub status: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended; `None` while it goes on, or if the host died.
    pub finished_at: Option<String>,
    /// Rows loaded.
    pub loaded: Option<u64>,
    /// What made it start: `manual`, `schedule`, `dependency` or `backfill`.
    pub trigger: String,
    /// The due instant that it is for, RFC 3339.
    pub scheduled_for: Option<String>,
}

/// What made a run start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// Somebody, by the command line or the HTTP API.
    Manual,
    /// The pipeline's schedule.
    Schedule,
    /// Pipelines that it depends on have run.
    Dependency,
    /// Somebody, to load a past range again.
    Backfill,
}

impl Trigger {
    /// As it is stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Schedule => "schedule",
            Self::Dependency => "dependency",
            Self::Backfill => "backfill",
        }
    }
}

/// A run that begins now.
#[derive(Clone, Debug)]
pub struct RunStart {
    /// Its identifier.
    pub run_id: String,
    /// The pipeline.
    pub pipeline: String,
    /// What made it start.
    pub trigger: Trigger,
    /// The due instant that it is for.
    pub scheduled_for: Option<Timestamp>,
}

impl RunStart {
    /// A run that somebody asked for.
    pub fn by_hand(run_id: &str, pipeline: &str) -> Self {
        Self {
            run_id: run_id.to_owned(),
            pipeline: pipeline.to_owned(),
            trigger: Trigger::Manual,
            scheduled_for: None,
        }
    }
}

/// A run that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningRecord {
    /// Its identifier.
    pub run_id: String,
    /// The pipeline.
    pub pipeline: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// The number of the host's process.
    pub process: u32,
    /// Whether a signal to that process reaches it: it is of this machine, and certainly lives.
    pub is_here: bool,
}

/// Which runs are wanted.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Only this pipeline's.
    pub pipeline: Option<String>,
    /// Only those that ended like this.
    pub status: Option<String>,
    /// Only those that began before this run.
    pub before: Option<String>,
    /// Only those that began at this time or later.
    pub since: Option<Timestamp>,
    /// At most so many.
    pub limit: u32,
}

/// One run with what its report says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunDetails {
    /// The pipeline.
    pub pipeline: String,
    /// The run.
    #[serde(flatten)]
    pub record: RunRecord,
    /// How long it took.
    pub seconds: Option<f64>,
    /// Rows read.
    pub extracted: Option<u64>,
    /// Rows set aside.
    pub quarantined: Option<u64>,
    /// Attempts of all partitions.
    pub attempts: Option<u32>,
    /// Why it did not succeed: the first reason.
    pub error: Option<String>,
}

/// How long runs are remembered.
const KEPT_DAYS: i64 = 90;

/// So many runs of each pipeline are remembered however old they are.
const KEPT_RUNS: u32 = 1_000;

const COLUMNS: &str = "run_id, status, started_at, finished_at, holder, cause, scheduled_for, json_extract(report, '$.rows.loaded') AS loaded";

/// What [`RunDetails`] needs besides.
const DETAILS: &str = ", json_extract(report, '$.seconds') AS seconds, json_extract(report, '$.rows.extracted') AS extracted, \
     json_extract(report, '$.rows.quarantined') AS quarantined, json_extract(report, '$.attempts') AS attempts, \
     coalesce((SELECT json_extract(value, '$.error.message') FROM json_each(report, '$.partitions') \
         WHERE json_extract(value, '$.error.message') IS NOT NULL LIMIT 1), json_extract(report, '$.error.message')) AS error";

impl State {
    /// Notes that a run began.
    pub fn record_start(&self, start: &RunStart) -> Result<()> {
        let holder = serde_json::to_string(&Holder::of_this_process()).map_err(|error| {
            Error::internal("this process cannot be written down").caused_by(error)
        })?;
        self.database.execute(
            "INSERT INTO runs (run_id, pipeline, status, started_at, holder, cause, scheduled_for)
             VALUES (?1, ?2, 'running', ?3, ?4, ?5, ?6)",
            params![
                start.run_id,
                start.pipeline,
                Timestamp::now().to_string(),
                holder,
                start.trigger.word(),
                start.scheduled_for.map(|instant| instant.to_string())
            ],
        )?;
        Ok(())
    }

    /// Notes how it ended; `report` is its JSON.
    pub fn record_end(
        &self,
        run_id: &str,
        status: &str,
        finished_at: &str,
        report: &str,
    ) -> Result<()> {
        self.database.execute(
            "UPDATE runs SET status = ?2, finished_at = ?3, report = ?4 WHERE run_id = ?1",
            params![run_id, status, finished_at, report],
        )?;
        Ok(())
    }

    /// The runs that go on, oldest first.
    pub fn running(&self) -> Result<Vec<RunningRecord>> {
        let mut statement = self.database.prepare_cached(
            "SELECT run_id, pipeline, started_at, holder FROM runs WHERE status = 'running' ORDER BY started_at, run_id",
        )?;
        let rows = statement.query_map([], |row| {
            let record = RunningRecord {
                run_id: row.get("run_id")?,
                pipeline: row.get("pipeline")?,
                started_at: row.get("started_at")?,
                process: 0,
                is_here: false,
            };
            Ok((record, row.get::<_, Option<String>>("holder")?))
        })?;
        let mut running = Vec::new();
        for row in rows {
            let (record, holder) = row?;
            if let Some(holder) = living(holder.as_deref()) {
                running.push(RunningRecord {
                    process: holder.process(),
                    is_here: holder.is_here(),
                    ..record
                });
            }
        }
        Ok(running)
    }

    /// Notes of runs whose host died that they are interrupted; gives them, each with its pipeline.
    pub fn record_interrupted(&self) -> Result<Vec<(String, RunRecord)>> {
        let mut statement = self.database.prepare(&format!(
            "SELECT pipeline, {COLUMNS} FROM runs WHERE status = 'running' ORDER BY started_at"
        ))?;
        let rows = statement.query_map([], |row| Ok((row.get("pipeline")?, record(row)?)))?;
        let mut interrupted: Vec<(String, RunRecord)> = rows.collect::<rusqlite::Result<_>>()?;
        interrupted.retain(|(_, run)| run.status == "interrupted");
        for (_, run) in &interrupted {
            self.database.execute(
                "UPDATE runs SET status = 'interrupted' WHERE run_id = ?1 AND status = 'running'",
                [&run.run_id],
            )?;
        }
        Ok(interrupted)
    }

    /// Forgets runs that are older than 90 days, except the last 1,000 of each pipeline. Gives how many.
    pub fn prune_runs(&self, now: Timestamp) -> Result<usize> {
        let Ok(before) = now.checked_sub(SignedDuration::from_hours(24 * KEPT_DAYS)) else {
            return Ok(0);
        };
        // Counted for pipelines that have old runs, and only then.
        Ok(self.database.execute(
            "DELETE FROM runs WHERE run_id IN (
                 SELECT run_id FROM (
                     SELECT run_id, started_at, status,
                            row_number() OVER (PARTITION BY pipeline ORDER BY started_at DESC, run_id DESC) AS place
                     FROM runs
                     WHERE pipeline IN (SELECT pipeline FROM runs WHERE started_at < ?1)
                 ) WHERE place > ?2 AND started_at < ?1 AND status <> 'running')",
            params![whole_second(before), KEPT_RUNS],
        )?)
    }

    /// The report of a run that is over.
    pub fn report(&self, run_id: &str) -> Result<Option<serde_json::Value>> {
        let report: Option<Option<String>> = self
            .database
            .prepare_cached("SELECT report FROM runs WHERE run_id = ?1")?
            .query_row([run_id], |row| row.get(0))
            .optional()?;
        Ok(report
            .flatten()
            .and_then(|report| serde_json::from_str(&report).ok()))
    }

    /// One run, with its pipeline.
    pub fn run(&self, run_id: &str) -> Result<Option<(String, RunRecord)>> {
        let mut statement = self.database.prepare_cached(&format!(
            "SELECT pipeline, {COLUMNS} FROM runs WHERE run_id = ?1"
        ))?;
        let found = statement.query_row([run_id], |row| Ok((row.get("pipeline")?, record(row)?)));
        Ok(found.optional()?)
    }

    /// The latest runs of a pipeline, newest first.
    pub fn recent_runs(&self, pipeline: &str, limit: u32) -> Result<Vec<RunRecord>> {
        let mut statement = self.database.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM runs WHERE pipeline = ?1 ORDER BY started_at DESC, run_id DESC LIMIT ?2"
        ))?;
        let rows = statement.query_map(params![pipeline, limit], record)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Runs of any pipeline, newest first, each with its pipeline.
    pub fn runs(&self, query: &HistoryQuery) -> Result<Vec<(String, RunRecord)>> {
        self.page("", query, |row| Ok((row.get("pipeline")?, record(row)?)))
    }

    /// The same, with what their reports say.
    pub fn run_details(&self, query: &HistoryQuery) -> Result<Vec<RunDetails>> {
        self.page(DETAILS, query, details)
    }

    /// One run, with what its report says.
    pub fn details_of_run(&self, run_id: &str) -> Result<Option<RunDetails>> {
        let mut statement = self.database.prepare_cached(&format!(
            "SELECT pipeline, {COLUMNS}{DETAILS} FROM runs WHERE run_id = ?1"
        ))?;
        Ok(statement.query_row([run_id], details).optional()?)
    }

    /// How far the partitions of a pipeline had come when its last run ended that was no backfill, as its report says.
    pub fn last_cursors(&self, pipeline: &str) -> Result<Vec<String>> {
        let mut statement = self.database.prepare_cached(
            "SELECT json_extract(value, '$.cursor_to') AS cursor FROM json_each((
                 SELECT report FROM runs WHERE pipeline = ?1 AND report IS NOT NULL AND cause <> 'backfill'
                 ORDER BY started_at DESC, run_id DESC LIMIT 1), '$.partitions')
             WHERE cursor IS NOT NULL",
        )?;
        let cursors = statement.query_map([pipeline], |row| row.get(0))?;
        Ok(cursors.collect::<rusqlite::Result<_>>()?)
    }

    /// A run that is still noted as running may be interrupted, which only its holder tells. So the rows are counted here.
    fn page<T>(
        &self,
        columns: &str,
        query: &HistoryQuery,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let (conditions, values) = conditions(query);
        let mut statement = self.database.prepare_cached(&format!(
            "SELECT pipeline, {COLUMNS}{columns} FROM runs{conditions} ORDER BY started_at DESC, run_id DESC"
        ))?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut page = Vec::new();
        while page.len() < query.limit as usize
            && let Some(row) = rows.next()?
        {
            let wanted = query.status.as_deref();
            if wanted.is_none_or(|wanted| record(row).is_ok_and(|run| run.status == wanted)) {
                page.push(read(row)?);
            }
        }
        Ok(page)
    }

    /// The latest run of a pipeline that is over, one way or another.
    pub fn last_ended(&self, pipeline: &str) -> Result<Option<RunRecord>> {
        // At most those that go on come before it.
        let mut runs = self.recent_runs(pipeline, 20)?.into_iter();
        Ok(runs.find(|run| run.status != "running"))
    }

    /// The latest run of a pipeline that was no backfill: how far it is loaded follows from that one.
    pub fn last_load(&self, pipeline: &str) -> Result<Option<RunRecord>> {
        let mut statement = self.database.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM runs WHERE pipeline = ?1 AND cause <> 'backfill'
             ORDER BY started_at DESC, run_id DESC LIMIT 1"
        ))?;
        Ok(statement.query_row([pipeline], record).optional()?)
    }

    /// Whether there was such a run.
    pub fn knows_run(&self, run_id: &str) -> Result<bool> {
        Ok(self
            .database
            .prepare_cached("SELECT count(*) > 0 FROM runs WHERE run_id = ?1")?
            .query_row([run_id], |row| row.get(0))?)
    }

    /// The latest run of a pipeline.
    pub fn last_run(&self, pipeline: &str) -> Result<Option<RunRecord>> {
        let mut statement = self.database.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM runs WHERE pipeline = ?1 ORDER BY started_at DESC, run_id DESC LIMIT 1"
        ))?;
        Ok(statement.query_row([pipeline], record).optional()?)
    }
}

/// Only what is asked for is compared, so that an index serves it. With the values to compare with.
fn conditions(query: &HistoryQuery) -> (String, Vec<String>) {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let mut add = |condition: &'static str, value: String| {
        conditions.push(condition);
        values.push(value);
    };
    if let Some(pipeline) = &query.pipeline {
        add("pipeline = ?", pipeline.clone());
    }
    match query.status.as_deref() {
        Some("interrupted") => add("status IN (?, 'running')", "interrupted".to_owned()),
        Some(status) => add("status = ?", status.to_owned()),
        None => {}
    }
    if let Some(run) = &query.before {
        add(
            "(started_at, run_id) < (SELECT started_at, run_id FROM runs WHERE run_id = ?)",
            run.clone(),
        );
    }
    if let Some(since) = query.since {
        // As text, times are in order up to the second.
        add("started_at >= ?", whole_second(since));
        add("julianday(started_at) >= julianday(?)", since.to_string());
    }
    if conditions.is_empty() {
        return (String::new(), values);
    }
    (format!(" WHERE {}", conditions.join(" AND ")), values)
}

/// The beginning that all times of its second have, and that is not behind any later one.
fn whole_second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// The process that runs it, unless it is gone. The state folder is this machine's own, so what ran before it was started
/// again is gone too.
fn living(holder: Option<&str>) -> Option<Holder> {
    let holder: Holder = serde_json::from_str(holder?).ok()?;
    let gone = holder.is_gone() || holder.is_of_another_boot();
    (!gone).then_some(holder)
}

fn details(row: &Row<'_>) -> rusqlite::Result<RunDetails> {
    let count = |name: &str| -> rusqlite::Result<Option<u64>> {
        let count: Option<i64> = row.get(name)?;
        Ok(count.and_then(|count| u64::try_from(count).ok()))
    };
    Ok(RunDetails {
        pipeline: row.get("pipeline")?,
        record: record(row)?,
        seconds: row.get("seconds")?,
        extracted: count("extracted")?,
        quarantined: count("quarantined")?,
        attempts: row.get("attempts")?,
        error: row.get("error")?,
    })
}

fn record(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let mut status: String = row.get("status")?;
    if status == "running" && living(row.get::<_, Option<String>>("holder")?.as_deref()).is_none() {
        "interrupted".clone_into(&mut status);
    }
    Ok(RunRecord {
        run_id: row.get("run_id")?,
        status,
        started_at: row.get("started_at")?,
        finished_at: row.get("finished_at")?,
        loaded: row
            .get::<_, Option<i64>>("loaded")?
            .and_then(|rows| u64::try_from(rows).ok()),
        trigger: row.get("cause")?,
        scheduled_for: row.get("scheduled_for")?,
    })
}

#[cfg(test)]
mod tests;
