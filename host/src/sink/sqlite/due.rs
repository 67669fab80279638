//! Due runs in `etl_host_due_runs`. Instants are texts of one length, whose order is that of time.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{SqliteSink, host_tables, write};
use crate::error::{Error, Result};
use crate::holder::Holder;
use crate::sink::due::{
    Claimed, DueClaim, DueNote, DueRecord, DueRuns, holder_text, whole_microseconds,
};

const COLUMNS: &str = "scheduled_for, run_id, status, holder, until - unixepoch('subsec') AS seconds_left, tries, \
                       claimed_at, started_at, ended_at, reason";
/// The file's clock, as instants are written.
const NOW: &str = "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')";

#[async_trait]
impl DueRuns for SqliteSink {
    async fn claim_due(&self, claim: &DueClaim) -> Result<Claimed> {
        let claim = claim.clone();
        self.as_writer(move |connection| {
            host_tables::ensure(connection)?;
            write::transaction(connection, || {
                if insert(connection, &claim)? {
                    return Ok(Claimed::New);
                }
                let sql = format!(
                    "SELECT {COLUMNS} FROM etl_host_due_runs WHERE pipeline = ?1 AND scheduled_for = ?2"
                );
                let at = instant_text(claim.due.scheduled_for);
                let row = connection.query_row(&sql, params![claim.due.pipeline, at], raw)?;
                Ok(Claimed::Exists(Box::new(record(row)?)))
            })
        })
        .await
    }

    async fn claim_each_due(&self, claims: &[DueClaim]) -> Result<Vec<bool>> {
        let claims = claims.to_vec();
        self.as_writer(move |connection| {
            host_tables::ensure(connection)?;
            // One transaction; a statement costs next to nothing inside.
            write::transaction(connection, || {
                claims
                    .iter()
                    .map(|claim| insert(connection, claim))
                    .collect()
            })
        })
        .await
    }

    async fn take_over_due(&self, claim: &DueClaim, from: &DueRecord) -> Result<bool> {
        let (claim, tries, gone) = (claim.clone(), from.tries, from.holder.is_gone());
        self.as_writer(move |connection| {
            // The count of tries is another one as soon as somebody else has taken it over.
            let sql = format!(
                "UPDATE etl_host_due_runs SET holder = ?3, until = unixepoch('subsec') + ?4, status = ?5, reason = ?6, \
                 tries = tries + 1, run_id = NULL, claimed_at = {NOW}, started_at = NULL, ended_at = iif(?7, {NOW}, NULL) \
                 WHERE pipeline = ?1 AND scheduled_for = ?2 AND tries = ?8 AND ended_at IS NULL \
                 AND (?9 OR until <= unixepoch('subsec'))"
            );
            let taken = connection.execute(
                &sql,
                params![
                    claim.due.pipeline,
                    instant_text(claim.due.scheduled_for),
                    holder_text(&claim.holder)?,
                    claim.lease.as_secs_f64(),
                    claim.status.as_str(),
                    claim.reason,
                    claim.status.is_final(),
                    tries,
                    gone
                ],
            )?;
            Ok(taken == 1)
        })
        .await
    }

    async fn note_due(&self, note: &DueNote<'_>) -> Result<bool> {
        let (due, status) = (note.due.clone(), note.status);
        let holder = holder_text(note.holder)?;
        let (run_id, reason) = (
            note.run_id.map(str::to_owned),
            note.reason.map(str::to_owned),
        );
        self.as_writer(move |connection| {
            let sql = format!(
                "UPDATE etl_host_due_runs SET status = ?4, run_id = coalesce(?5, run_id), reason = ?6, \
                 started_at = iif(?4 = 'running', coalesce(started_at, {NOW}), started_at), ended_at = iif(?7, {NOW}, NULL) \
                 WHERE pipeline = ?1 AND scheduled_for = ?2 AND holder = ?3 AND ended_at IS NULL"
            );
            let noted = connection.execute(
                &sql,
                params![
                    due.pipeline,
                    instant_text(due.scheduled_for),
                    holder,
                    status.as_str(),
                    run_id,
                    reason,
                    status.is_final()
                ],
            )?;
            Ok(noted == 1)
        })
        .await
    }

    async fn renew_due(&self, holder: &Holder, lease: Duration) -> Result<u64> {
        if !self.path.exists() {
            return Ok(0);
        }
        let holder = holder_text(holder)?;
        let sql = "UPDATE etl_host_due_runs SET until = unixepoch('subsec') + ?2 WHERE holder = ?1 AND ended_at IS NULL";
        self.as_writer(move |connection| {
            if !exist(connection)? {
                return Ok(0);
            }
            Ok(connection.execute(sql, params![holder, lease.as_secs_f64()])? as u64)
        })
        .await
    }

    async fn due_runs(&self, pipeline: &str, limit: u32) -> Result<Vec<DueRecord>> {
        let pipeline = pipeline.to_owned();
        self.as_reader(move |connection| {
            load(
                connection,
                "WHERE pipeline = ?1 ORDER BY scheduled_for DESC LIMIT ?2",
                params![pipeline, limit],
            )
        })
        .await
    }

    async fn latest_due(&self, pipeline: &str) -> Result<Option<Timestamp>> {
        let pipeline = pipeline.to_owned();
        let sql = "SELECT scheduled_for FROM etl_host_due_runs WHERE pipeline = ?1 ORDER BY scheduled_for DESC LIMIT 1";
        self.as_reader(move |connection| {
            if !exist(connection)? {
                return Ok(None);
            }
            let latest: Option<String> = connection
                .query_row(sql, [pipeline], |row| row.get(0))
                .optional()?;
            latest.as_deref().map(parse_instant).transpose()
        })
        .await
    }

    async fn unfinished_due(&self, pipeline: &str) -> Result<Vec<DueRecord>> {
        let pipeline = pipeline.to_owned();
        self.as_reader(move |connection| {
            load(
                connection,
                "WHERE pipeline = ?1 AND ended_at IS NULL ORDER BY scheduled_for",
                params![pipeline],
            )
        })
        .await
    }

    async fn prune_due(&self, pipeline: &str, before: Timestamp) -> Result<u64> {
        if !self.path.exists() {
            return Ok(0);
        }
        let pipeline = pipeline.to_owned();
        let before = instant_text(whole_microseconds(before));
        let sql = "DELETE FROM etl_host_due_runs WHERE pipeline = ?1 AND scheduled_for < ?2 AND ended_at IS NOT NULL \
                   AND scheduled_for < (SELECT max(scheduled_for) FROM etl_host_due_runs WHERE pipeline = ?1)";
        self.as_writer(move |connection| {
            if !exist(connection)? {
                return Ok(0);
            }
            Ok(connection.execute(sql, params![pipeline, before])? as u64)
        })
        .await
    }
}

/// Whoever only reads makes no table.
fn exist(connection: &Connection) -> Result<bool> {
    Ok(connection.query_row(
        "SELECT count(*) > 0 FROM pragma_table_info('etl_host_due_runs')",
        [],
        |row| row.get(0),
    )?)
}

/// Whether its row is new.
fn insert(connection: &Connection, claim: &DueClaim) -> Result<bool> {
    let mut statement = connection.prepare_cached(&format!(
        "INSERT INTO etl_host_due_runs (pipeline, scheduled_for, holder, until, status, reason, claimed_at, ended_at) \
         VALUES (?1, ?2, ?3, unixepoch('subsec') + ?4, ?5, ?6, {NOW}, iif(?7, {NOW}, NULL)) ON CONFLICT DO NOTHING"
    ))?;
    let inserted = statement.execute(params![
        claim.due.pipeline,
        instant_text(claim.due.scheduled_for),
        holder_text(&claim.holder)?,
        claim.lease.as_secs_f64(),
        claim.status.as_str(),
        claim.reason,
        claim.status.is_final()
    ])?;
    Ok(inserted == 1)
}

fn load(
    connection: &Connection,
    condition: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<DueRecord>> {
    if !exist(connection)? {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT {COLUMNS} FROM etl_host_due_runs {condition}");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(values, raw)?;
    rows.map(|row| record(row?)).collect()
}

/// A row as it is stored.
struct RawRecord {
    scheduled_for: String,
    run_id: Option<String>,
    status: String,
    holder: String,
    seconds_left: f64,
    tries: u32,
    claimed_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    reason: Option<String>,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<RawRecord> {
    Ok(RawRecord {
        scheduled_for: row.get(0)?,
        run_id: row.get(1)?,
        status: row.get(2)?,
        holder: row.get(3)?,
        seconds_left: row.get(4)?,
        tries: row.get(5)?,
        claimed_at: row.get(6)?,
        started_at: row.get(7)?,
        ended_at: row.get(8)?,
        reason: row.get(9)?,
    })
}

fn record(row: RawRecord) -> Result<DueRecord> {
    let optional = |text: Option<String>| text.as_deref().map(parse_instant).transpose();
    Ok(DueRecord {
        scheduled_for: parse_instant(&row.scheduled_for)?,
        run_id: row.run_id,
        status: row.status.parse()?,
        // What cannot be read says nothing: its claim has to run out.
        holder: serde_json::from_str(&row.holder).unwrap_or_default(),
        seconds_left: row.seconds_left,
        tries: row.tries,
        claimed_at: parse_instant(&row.claimed_at)?,
        started_at: optional(row.started_at)?,
        ended_at: optional(row.ended_at)?,
        reason: row.reason,
    })
}

fn instant_text(instant: Timestamp) -> String {
    format!("{instant:.6}")
}

fn parse_instant(text: &str) -> Result<Timestamp> {
    text.parse().map_err(|error: jiff::Error| {
        Error::data(format!("`{text}` in etl_host_due_runs is no instant")).caused_by(error)
    })
}
