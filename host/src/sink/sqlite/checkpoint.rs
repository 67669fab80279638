//! Checkpoints in the sink, and the epoch that fences attempts; dead letters beside them.

use std::collections::BTreeMap;

use etl_plugin_api::Cursor;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::lease;
use crate::checkpoint::{Checkpoint, WrittenTable, columns_text, parse_columns};
use crate::error::{Error, Result};
use crate::sink::{
    CheckpointEdit, Chunk, Claim, CursorChange, EditIf, Swap, SwapPartition, fenced,
};

/// All checkpoints of a pipeline. Creates nothing.
pub fn load(connection: &Connection, pipeline: &str) -> Result<BTreeMap<String, Checkpoint>> {
    let exists: bool = connection.query_row(
        "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'etl_host_checkpoints'",
        [],
        |row| row.get(0),
    )?;
    if !exists {
        return Ok(BTreeMap::new());
    }
    let mut statement =
        connection.prepare("SELECT * FROM etl_host_checkpoints WHERE pipeline = ?1")?;
    let mut rows = statement.query([pipeline])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        found.insert(row.get("partition")?, checkpoint(row)?);
    }
    Ok(found)
}

fn checkpoint(row: &Row<'_>) -> Result<Checkpoint> {
    let cursor: Option<String> = row.get("cursor")?;
    // Tables of an older host have none before the first run.
    let columns: Option<String> = row.get("columns").unwrap_or_default();
    let ledger: Option<String> = row.get("ledger")?;
    let cursor = cursor
        .map(|text| {
            serde_json::from_str::<Cursor>(&text).map_err(|error| {
                Error::data("a checkpoint in etl_host_checkpoints is damaged")
                    .caused_by(error)
                    .hint("put it right with `etl-host checkpoint set`")
            })
        })
        .transpose()?;
    Ok(Checkpoint {
        epoch: row.get("epoch")?,
        cursor,
        fingerprint: row.get("fingerprint")?,
        run_id: row.get("run_id")?,
        ledger: ledger
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default(),
        columns: parse_columns(columns.as_deref()),
        edited_epoch: row.get("edited_epoch")?,
        updated_at: row.get("updated_at")?,
    })
}

/// Counts the epoch up and gives the checkpoint, inside a transaction that the caller holds. A retry that finds another
/// run's claim has lost the partition.
pub fn begin(connection: &Connection, claim: &Claim) -> Result<Checkpoint> {
    lease::take(connection, claim)?;
    make_row(connection, &claim.tenure.pipeline, &claim.partition)?;
    let mut statement = connection.prepare(
        "UPDATE etl_host_checkpoints SET epoch = epoch + 1, claimed_by = ?3 \
         WHERE pipeline = ?1 AND partition = ?2 AND (NOT ?4 OR claimed_by = ?3 OR claimed_by IS NULL) RETURNING *",
    )?;
    let mut rows = statement.query(params![
        claim.tenure.pipeline,
        claim.partition,
        claim.tenure.run_id,
        claim.retry
    ])?;
    match rows.next()? {
        Some(row) => checkpoint(row),
        None => Err(fenced(&claim.partition)),
    }
}

fn make_row(connection: &Connection, pipeline: &str, partition: &str) -> Result<()> {
    connection.execute(
        "INSERT INTO etl_host_checkpoints (pipeline, partition) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        params![pipeline, partition],
    )?;
    Ok(())
}

/// Changes a checkpoint by hand, inside a transaction that the caller holds. The epoch counts up, so that an attempt
/// under way cannot undo the change.
pub fn edit(
    connection: &Connection,
    pipeline: &str,
    partition: &str,
    edit: &CheckpointEdit,
    edit_if: &EditIf,
) -> Result<bool> {
    make_row(connection, pipeline, partition)?;
    let (assignment, value) = match edit {
        CheckpointEdit::Set(cursor) => ("cursor = ?3", Some(cursor_text(cursor)?)),
        CheckpointEdit::Reset => ("cursor = ?3, fingerprint = NULL, columns = NULL", None),
        // Another query may have other columns.
        CheckpointEdit::AcceptFingerprint => ("fingerprint = ?3, columns = NULL", None),
    };
    let (always, expected) = match edit_if {
        EditIf::Always => (true, None),
        EditIf::CursorIs(cursor) => (false, cursor.as_ref().map(cursor_text).transpose()?),
    };
    let edited = connection.execute(
        &format!(
            "UPDATE etl_host_checkpoints SET epoch = epoch + 1, edited_epoch = epoch + 1, claimed_by = NULL, \
             updated_at = strftime('%Y-%m-%d %H:%M:%fZ', 'now'), {assignment} \
             WHERE pipeline = ?1 AND partition = ?2 AND (?4 OR cursor IS ?5)"
        ),
        params![pipeline, partition, value, always, expected],
    )?;
    Ok(edited > 0)
}

fn cursor_text(cursor: &Cursor) -> Result<String> {
    serde_json::to_string(cursor)
        .map_err(|error| Error::internal("a cursor cannot be written down").caused_by(error))
}

/// Writes the checkpoint as the last statement before COMMIT. `false` if another attempt has taken over.
pub fn write(
    connection: &Connection,
    claim: &Claim,
    epoch: i64,
    columns: &[WrittenTable],
    chunk: &Chunk,
) -> Result<bool> {
    let (keep, cursor) = match &chunk.cursor {
        CursorChange::Keep => (true, None),
        CursorChange::Clear => (false, None),
        CursorChange::Set(cursor) => (false, Some(cursor_text(cursor)?)),
    };
    let ledger = serde_json::to_string(&chunk.ledger)
        .map_err(|error| Error::internal("a ledger cannot be written down").caused_by(error))?;
    let mine = connection.execute(
        "UPDATE etl_host_checkpoints SET cursor = iif(?4, cursor, ?5), fingerprint = coalesce(?6, fingerprint), run_id = ?7, ledger = ?8, \
         columns = coalesce(?9, columns), updated_at = strftime('%Y-%m-%d %H:%M:%fZ', 'now') \
         WHERE pipeline = ?1 AND partition = ?2 AND epoch = ?3",
        params![
            claim.tenure.pipeline,
            claim.partition,
            epoch,
            keep,
            cursor,
            chunk.fingerprint,
            chunk.run_id,
            ledger,
            columns_text(columns)
        ],
    )?;
    Ok(mine == 1)
}

/// Marks a partition's rows as swapped in. `false` if another attempt has taken over.
pub fn mark_swapped(
    connection: &Connection,
    swap: &Swap,
    partition: &SwapPartition,
) -> Result<bool> {
    let cursor = partition.cursor.as_ref().map(cursor_text).transpose()?;
    let mine = connection.execute(
        "UPDATE etl_host_checkpoints SET run_id = ?4, cursor = ?5 WHERE pipeline = ?1 AND partition = ?2 AND epoch = ?3",
        params![swap.pipeline, partition.name, partition.epoch, swap.mark(), cursor],
    )?;
    Ok(mine == 1)
}

/// Whether the run still has the partition.
pub fn is_claimed(connection: &Connection, swap: &Swap, partition: &SwapPartition) -> Result<bool> {
    let found = connection
        .query_row(
            "SELECT 1 FROM etl_host_checkpoints WHERE pipeline = ?1 AND partition = ?2 AND claimed_by = ?3",
            params![swap.pipeline, partition.name, swap.run_id],
            |_| Ok(()),
        )
        .optional()?;
    Ok(found.is_some())
}

/// Whether some partition carries the mark.
pub fn is_swapped(connection: &Connection, pipeline: &str, mark: &str) -> Result<bool> {
    let found = connection
        .query_row(
            "SELECT 1 FROM etl_host_checkpoints WHERE pipeline = ?1 AND run_id = ?2",
            params![pipeline, mark],
            |_| Ok(()),
        )
        .optional()?;
    Ok(found.is_some())
}
