//! Due runs in `etl_host.due_runs`. All go over the connection beside the pool, so that none waits for a partition.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::{Client, Row};

use super::{PostgresSink, host_tables};
use crate::error::{Error, Result};
use crate::holder::Holder;
use crate::pool::PostgresLease;
use crate::sink::due::{
    Claimed, DueClaim, DueNote, DueRecord, DueRuns, holder_text, whole_microseconds,
};
use crate::sink::timed::within;

const COLUMNS: &str = "scheduled_for, run_id, status, holder, extract(epoch FROM until - now())::float8 AS seconds_left, \
                       tries, claimed_at, started_at, ended_at, reason";

impl PostgresSink {
    /// Does one thing with due runs, within the time of a step.
    async fn on_due_runs<T, W>(
        &self,
        what: &str,
        work: impl FnOnce(PostgresLease) -> W,
    ) -> Result<T>
    where
        W: Future<Output = Result<(PostgresLease, T)>>,
    {
        let working = async {
            let (connection, done) = work(self.pools.postgres_aside(&self.server).await?).await?;
            connection.give_back();
            Ok(done)
        };
        within(self.timeouts.step, what, working).await
    }
}

#[async_trait]
impl DueRuns for PostgresSink {
    async fn claim_due(&self, claim: &DueClaim) -> Result<Claimed> {
        self.on_due_runs("claim a due run", |connection| async {
            let client = connection.client()?;
            host_tables::ensure(client).await?;
            let claimed = loop {
                if insert(client, std::slice::from_ref(claim)).await? == [true] {
                    break Claimed::New;
                }
                // It may have been pruned in between.
                if let Some(record) = find(client, claim).await? {
                    break Claimed::Exists(Box::new(record));
                }
            };
            Ok((connection, claimed))
        })
        .await
    }

    async fn claim_each_due(&self, claims: &[DueClaim]) -> Result<Vec<bool>> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        self.on_due_runs("claim due runs", |connection| async {
            host_tables::ensure(connection.client()?).await?;
            let new = insert(connection.client()?, claims).await?;
            Ok((connection, new))
        })
        .await
    }

    async fn take_over_due(&self, claim: &DueClaim, from: &DueRecord) -> Result<bool> {
        // The count of tries is another one as soon as somebody else has taken it over.
        let sql = "UPDATE etl_host.due_runs SET holder = $3, until = now() + make_interval(secs => $4), status = $5, \
                   reason = $6, tries = tries + 1, run_id = NULL, claimed_at = now(), started_at = NULL, \
                   ended_at = CASE WHEN $7 THEN now() END \
                   WHERE pipeline = $1 AND scheduled_for = $2 AND tries = $8 AND ended_at IS NULL AND ($9 OR until <= now())";
        let holder = holder_text(&claim.holder)?;
        self.on_due_runs("take a due run over", |connection| async {
            let taken = connection
                .client()?
                .execute(
                    sql,
                    &[
                        &claim.due.pipeline,
                        &SystemTime::from(claim.due.scheduled_for),
                        &holder,
                        &claim.lease.as_secs_f64(),
                        &claim.status.as_str(),
                        &claim.reason,
                        &claim.status.is_final(),
                        &i64::from(from.tries),
                        &from.holder.is_gone(),
                    ],
                )
                .await?;
            Ok((connection, taken == 1))
        })
        .await
    }

    async fn note_due(&self, note: &DueNote<'_>) -> Result<bool> {
        let sql = "UPDATE etl_host.due_runs SET status = $4, run_id = coalesce($5, run_id), reason = $6, \
                   started_at = CASE WHEN $4 = 'running' THEN coalesce(started_at, now()) ELSE started_at END, \
                   ended_at = CASE WHEN $7 THEN now() END \
                   WHERE pipeline = $1 AND scheduled_for = $2 AND holder = $3 AND ended_at IS NULL";
        let holder = holder_text(note.holder)?;
        self.on_due_runs("note what became of a due run", |connection| async {
            let noted = connection
                .client()?
                .execute(
                    sql,
                    &[
                        &note.due.pipeline,
                        &SystemTime::from(note.due.scheduled_for),
                        &holder,
                        &note.status.as_str(),
                        &note.run_id,
                        &note.reason,
                        &note.status.is_final(),
                    ],
                )
                .await?;
            Ok((connection, noted == 1))
        })
        .await
    }

    async fn renew_due(&self, holder: &Holder, lease: Duration) -> Result<u64> {
        let sql = "UPDATE etl_host.due_runs SET until = now() + make_interval(secs => $2) WHERE holder = $1 AND ended_at IS NULL";
        let holder = holder_text(holder)?;
        self.on_due_runs("renew the claims of due runs", |connection| async {
            let client = connection.client()?;
            let renewed = if exist(client).await? {
                client
                    .execute(sql, &[&holder, &lease.as_secs_f64()])
                    .await?
            } else {
                0
            };
            Ok((connection, renewed))
        })
        .await
    }

    async fn due_runs(&self, pipeline: &str, limit: u32) -> Result<Vec<DueRecord>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM etl_host.due_runs WHERE pipeline = $1 ORDER BY scheduled_for DESC LIMIT $2"
        );
        self.on_due_runs("read the due runs", |connection| async {
            let client = connection.client()?;
            let rows = if exist(client).await? {
                client.query(&sql, &[&pipeline, &i64::from(limit)]).await?
            } else {
                Vec::new()
            };
            Ok((connection, rows.iter().map(record).collect::<Result<_>>()?))
        })
        .await
    }

    async fn latest_due(&self, pipeline: &str) -> Result<Option<Timestamp>> {
        let sql = "SELECT max(scheduled_for) FROM etl_host.due_runs WHERE pipeline = $1";
        self.on_due_runs("read the latest due run", |connection| async {
            let client = connection.client()?;
            let latest = if exist(client).await? {
                instant(client.query_one(sql, &[&pipeline]).await?.try_get(0)?)?
            } else {
                None
            };
            Ok((connection, latest))
        })
        .await
    }

    async fn unfinished_due(&self, pipeline: &str) -> Result<Vec<DueRecord>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM etl_host.due_runs WHERE pipeline = $1 AND ended_at IS NULL ORDER BY scheduled_for"
        );
        self.on_due_runs("read the due runs", |connection| async {
            let client = connection.client()?;
            let rows = if exist(client).await? {
                client.query(&sql, &[&pipeline]).await?
            } else {
                Vec::new()
            };
            Ok((connection, rows.iter().map(record).collect::<Result<_>>()?))
        })
        .await
    }

    async fn prune_due(&self, pipeline: &str, before: Timestamp) -> Result<u64> {
        let sql = "DELETE FROM etl_host.due_runs WHERE pipeline = $1 AND scheduled_for < $2 AND ended_at IS NOT NULL \
                   AND scheduled_for < (SELECT max(scheduled_for) FROM etl_host.due_runs WHERE pipeline = $1)";
        let before = SystemTime::from(whole_microseconds(before));
        self.on_due_runs("forget old due runs", |connection| async {
            let client = connection.client()?;
            let pruned = if exist(client).await? {
                client.execute(sql, &[&pipeline, &before]).await?
            } else {
                0
            };
            Ok((connection, pruned))
        })
        .await
    }
}

/// Whoever only reads makes no table.
async fn exist(client: &Client) -> Result<bool> {
    let sql = "SELECT to_regclass('etl_host.due_runs') IS NOT NULL";
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

/// Says of each claim whether its row is new.
async fn insert(client: &Client, claims: &[DueClaim]) -> Result<Vec<bool>> {
    // Waits for others that insert the same ones, and sees what became of them.
    let sql = "INSERT INTO etl_host.due_runs (pipeline, scheduled_for, holder, until, status, reason, ended_at) \
               SELECT pipeline, scheduled_for, holder, now() + make_interval(secs => lease), status, reason, \
               CASE WHEN is_final THEN now() END \
               FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::float8[], $5::text[], $6::text[], $7::bool[]) \
               AS c (pipeline, scheduled_for, holder, lease, status, reason, is_final) ORDER BY pipeline, scheduled_for \
               ON CONFLICT DO NOTHING RETURNING pipeline, scheduled_for";
    let each = |claim: fn(&DueClaim) -> &str| -> Vec<&str> { claims.iter().map(claim).collect() };
    let instants: Vec<SystemTime> = claims
        .iter()
        .map(|claim| claim.due.scheduled_for.into())
        .collect();
    let holders: Vec<String> = claims
        .iter()
        .map(|claim| holder_text(&claim.holder))
        .collect::<Result<_>>()?;
    let leases: Vec<f64> = claims
        .iter()
        .map(|claim| claim.lease.as_secs_f64())
        .collect();
    let reasons: Vec<Option<&str>> = claims.iter().map(|claim| claim.reason.as_deref()).collect();
    let finals: Vec<bool> = claims.iter().map(|claim| claim.status.is_final()).collect();
    let rows = client
        .query(
            sql,
            &[
                &each(|claim| &claim.due.pipeline),
                &instants,
                &holders,
                &leases,
                &each(|claim| claim.status.as_str()),
                &reasons,
                &finals,
            ],
        )
        .await?;
    let mut new = std::collections::HashSet::with_capacity(rows.len());
    for row in &rows {
        new.insert((
            row.try_get::<_, String>(0)?,
            row.try_get::<_, SystemTime>(1)?,
        ));
    }
    Ok(claims
        .iter()
        .zip(instants)
        .map(|(claim, instant)| new.remove(&(claim.due.pipeline.clone(), instant)))
        .collect())
}

async fn find(client: &Client, claim: &DueClaim) -> Result<Option<DueRecord>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM etl_host.due_runs WHERE pipeline = $1 AND scheduled_for = $2"
    );
    let at = SystemTime::from(claim.due.scheduled_for);
    let row = client.query_opt(&sql, &[&claim.due.pipeline, &at]).await?;
    row.as_ref().map(record).transpose()
}

fn record(row: &Row) -> Result<DueRecord> {
    let time = |column: &str| instant(row.try_get(column)?);
    let required = |column: &str| {
        time(column)?.ok_or_else(|| Error::internal(format!("a due run without {column}")))
    };
    let holder: String = row.try_get("holder")?;
    let tries: i64 = row.try_get("tries")?;
    Ok(DueRecord {
        scheduled_for: required("scheduled_for")?,
        run_id: row.try_get("run_id")?,
        status: row.try_get::<_, String>("status")?.parse()?,
        // What cannot be read says nothing: its claim has to run out.
        holder: serde_json::from_str(&holder).unwrap_or_default(),
        seconds_left: row.try_get("seconds_left")?,
        tries: u32::try_from(tries).unwrap_or(u32::MAX),
        claimed_at: required("claimed_at")?,
        started_at: time("started_at")?,
        ended_at: time("ended_at")?,
        reason: row.try_get("reason")?,
    })
}

fn instant(time: Option<SystemTime>) -> Result<Option<Timestamp>> {
    time.map(Timestamp::try_from).transpose().map_err(|error| {
        Error::data("a time in etl_host.due_runs is beyond the year 9999").caused_by(error)
    })
}
