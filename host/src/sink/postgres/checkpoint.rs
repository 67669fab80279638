//! Checkpoints in the sink, and the epoch that fences attempts; dead letters beside them.

use std::collections::BTreeMap;

use etl_plugin_api::Cursor;
use tokio_postgres::{Client, Row};

use super::lease;
use crate::checkpoint::{Checkpoint, Ledger, parse_columns};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{CheckpointEdit, Claim, EditIf, fenced};

/// Serialises DDL of all hosts; any fixed number would do.
pub const DDL_LOCK: i64 = 0x0065_746c_686f_7374;
/// Longest wait for a lock. Whoever holds one longer is stuck.
pub const LOCK_TIMEOUT: &str = "10s";
/// Longest pause between two statements of the host's own short transactions. Whoever pauses longer is gone, and its
/// locks go with it.
pub const IDLE_TIMEOUT: &str = "30s";
/// SQLSTATE `lock_not_available`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Tables of an older host have no `columns` before the first run.
const COLUMNS: &str = "epoch, cursor, fingerprint, run_id, ledger, to_jsonb(c) ->> 'columns' AS columns, edited_epoch, updated_at::text";

/// All checkpoints of a pipeline. Creates nothing.
pub async fn load(client: &Client, pipeline: &str) -> Result<BTreeMap<String, Checkpoint>> {
    let exists = client.query_one(
        "SELECT to_regclass('etl_host.checkpoints') IS NOT NULL",
        &[],
    );
    // Whatever else an older host has not made.
    if !exists.await?.try_get::<_, bool>(0)? {
        return Ok(BTreeMap::new());
    }
    let rows = client
        .query(
            &format!("SELECT partition, {COLUMNS} FROM etl_host.checkpoints c WHERE pipeline = $1"),
            &[&pipeline],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, checkpoint(row)?)))
        .collect()
}

fn checkpoint(row: &Row) -> Result<Checkpoint> {
    let cursor: Option<String> = row.try_get("cursor")?;
    let ledger: Option<String> = row.try_get("ledger")?;
    Ok(Checkpoint {
        epoch: row.try_get("epoch")?,
        cursor: cursor.as_deref().map(parse_cursor).transpose()?,
        fingerprint: row.try_get("fingerprint")?,
        run_id: row.try_get("run_id")?,
        ledger: ledger
            .and_then(|text| serde_json::from_str::<Ledger>(&text).ok())
            .unwrap_or_default(),
        columns: parse_columns(row.try_get("columns")?),
        edited_epoch: row.try_get("edited_epoch")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn parse_cursor(text: &str) -> Result<Cursor> {
    serde_json::from_str(text).map_err(|error| {
        Error::data("a checkpoint in etl_host.checkpoints is damaged")
            .caused_by(error)
            .hint("put it right with `etl-host checkpoint set`")
    })
}

/// Counts the epoch up, in a transaction of its own, and takes the partition from any predecessor.
///
/// The update waits for a predecessor whose commit is in doubt, and so learns the true cursor. A predecessor that
/// does not move (a stopped process) is ended by its backend's id; one that still works is ended too, since it could
/// not commit any more and might hold locks this attempt will need. A retry that finds another run's claim has lost
/// the partition: two runs must not take it from each other in turns.
pub async fn begin(client: &Client, claim: &Claim) -> Result<Checkpoint> {
    let key: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
        [&claim.tenure.pipeline, &claim.partition];
    // Only where it is missing: a conflict would wait for a predecessor that has changed the row and does not move.
    client
        .execute(
            "INSERT INTO etl_host.checkpoints (pipeline, partition) SELECT $1::text, $2::text WHERE NOT EXISTS \
             (SELECT FROM etl_host.checkpoints WHERE pipeline = $1 AND partition = $2) ON CONFLICT DO NOTHING",
            &key,
        )
        .await?;
    if claim.retry {
        let mine: Option<String> = client
            .query_one(
                "SELECT claimed_by FROM etl_host.checkpoints WHERE pipeline = $1 AND partition = $2",
                &key,
            )
            .await?
            .try_get(0)?;
        // None: a hand has changed the checkpoint, or a failover has lost the claim. Nobody else has it.
        if mine.is_some_and(|mine| mine != claim.tenure.run_id) {
            return Err(fenced(&claim.partition));
        }
    }
    lease::take(client, claim).await?;
    terminate_predecessor(client, claim).await?;
    let row = match count_up(client, claim).await {
        Err(error) if *error.kind() == ErrorKind::SqlState(LOCK_NOT_AVAILABLE.to_owned()) => {
            terminate_predecessor(client, claim).await?;
            count_up(client, claim).await?
        }
        other => other?,
    };
    checkpoint(&row.ok_or_else(|| fenced(&claim.partition))?)
}

/// `None` if another run has claimed the partition in between.
async fn count_up(client: &Client, claim: &Claim) -> Result<Option<Row>> {
    client
        .batch_execute(&format!(
            "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; \
             SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}'"
        ))
        .await?;
    let row = client
        .query_opt(
            &format!(
                "UPDATE etl_host.checkpoints c SET epoch = epoch + 1, claimed_by = $3, backend_pid = pg_backend_pid(), \
                 backend_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) \
                 WHERE pipeline = $1 AND partition = $2 AND (NOT $4 OR claimed_by = $3 OR claimed_by IS NULL) RETURNING {COLUMNS}"
            ),
            &[&claim.tenure.pipeline, &claim.partition, &claim.tenure.run_id, &claim.retry],
        )
        .await;
    client
        .batch_execute(if row.is_ok() { "COMMIT" } else { "ROLLBACK" })
        .await?;
    Ok(row?)
}

async fn terminate_predecessor(client: &Client, claim: &Claim) -> Result<()> {
    client
        .execute(
            "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN etl_host.checkpoints c \
             ON a.pid = c.backend_pid AND a.backend_start = c.backend_start \
             WHERE c.pipeline = $1 AND c.partition = $2 AND a.pid <> pg_backend_pid()",
            &[&claim.tenure.pipeline, &claim.partition],
        )
        .await?;
    Ok(())
}

/// Notes that this attempt's connection goes back to the pool: nobody may end it any more.
pub async fn release(client: &Client, claim: &Claim, epoch: i64) -> Result<()> {
    client
        .execute(
            "UPDATE etl_host.checkpoints SET backend_pid = NULL, backend_start = NULL \
             WHERE pipeline = $1 AND partition = $2 AND epoch = $3",
            &[&claim.tenure.pipeline, &claim.partition, &epoch],
        )
        .await?;
    Ok(())
}

/// Changes a checkpoint by hand. The epoch counts up, so that an attempt under way cannot undo the change.
pub async fn edit(
    client: &Client,
    pipeline: &str,
    partition: &str,
    edit: &CheckpointEdit,
    edit_if: &EditIf,
) -> Result<bool> {
    client
        .execute(
            "INSERT INTO etl_host.checkpoints (pipeline, partition) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &[&pipeline, &partition],
        )
        .await?;
    let assignment = match edit {
        CheckpointEdit::Set(_) => "cursor = $3",
        CheckpointEdit::Reset => "cursor = $3, fingerprint = NULL, columns = NULL",
        // Another query may have other columns.
        CheckpointEdit::AcceptFingerprint => "fingerprint = $3, columns = NULL",
    };
    let value = match edit {
        CheckpointEdit::Set(cursor) => Some(cursor_text(cursor)?),
        _ => None,
    };
    let (always, expected) = match edit_if {
        EditIf::Always => (true, None),
        EditIf::CursorIs(cursor) => (false, cursor.as_ref().map(cursor_text).transpose()?),
    };
    let edited = client
        .execute(
            &format!(
                "UPDATE etl_host.checkpoints SET epoch = epoch + 1, edited_epoch = epoch + 1, claimed_by = NULL, updated_at = now(), {assignment} \
                 WHERE pipeline = $1 AND partition = $2 AND ($4 OR cursor IS NOT DISTINCT FROM $5)"
            ),
            &[&pipeline, &partition, &value, &always, &expected],
        )
        .await?;
    Ok(edited > 0)
}

/// A cursor as it is stored.
pub fn cursor_text(cursor: &Cursor) -> Result<String> {
    serde_json::to_string(cursor)
        .map_err(|error| Error::internal("a cursor cannot be written down").caused_by(error))
}
