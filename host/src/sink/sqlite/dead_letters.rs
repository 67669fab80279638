//! Dead letters in the sink: written and marked as replayed in the transaction of a commit, and read by themselves.

use rusqlite::{Connection, Row, params};

use super::host_tables::find_columns;
use crate::config::TableName;
use crate::dead_letter::{DeadLetter, StoredLetter};
use crate::error::Result;
use crate::sink::{Claim, LetterFilter, RangeDelete, replayed_before};

/// Writes dead letters inside the current transaction.
pub fn write(connection: &Connection, claim: &Claim, letters: &[DeadLetter]) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO etl_host_dead_letters (pipeline, partition, run_id, stage, target, column_name, reason, payload, arrow, position) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for letter in letters {
        statement.execute(params![
            claim.tenure.pipeline,
            claim.partition,
            claim.tenure.run_id,
            letter.stage.name(),
            letter.table,
            letter.column,
            letter.reason,
            letter.payload,
            letter.arrow,
            letter.position
        ])?;
    }
    Ok(())
}

/// Marks dead letters as loaded by this run, inside the current transaction. Fails if another replay was faster.
pub fn mark_replayed(connection: &Connection, claim: &Claim, ids: &[i64]) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE etl_host_dead_letters SET replayed_by = ?3 WHERE pipeline = ?1 AND id = ?2 AND replayed_by IS NULL",
    )?;
    for id in ids {
        let marked = statement.execute(params![claim.tenure.pipeline, id, claim.tenure.run_id])?;
        if marked != 1 {
            return Err(replayed_before());
        }
    }
    Ok(())
}

/// Closes the letters of rows that are deleted, because they are read again, inside the current transaction. Those that are
/// still refused become letters anew; replayed, the old ones would double their rows.
pub fn close(
    connection: &Connection,
    claim: &Claim,
    table: &TableName,
    range: &RangeDelete,
) -> Result<()> {
    let mut filter = LetterFilter::open_of(&claim.partition);
    loop {
        let letters = load(connection, &claim.tenure.pipeline, &filter)?;
        let Some(last) = letters.last() else {
            return Ok(());
        };
        filter.after = last.id;
        let ids = range.covered(&letters, table);
        mark_replayed(connection, claim, &ids)?;
    }
}

/// Reads dead letters in the order of their numbers. Creates nothing.
pub fn load(
    connection: &Connection,
    pipeline: &str,
    filter: &LetterFilter,
) -> Result<Vec<StoredLetter>> {
    let later = ["arrow", "position", "replayed_by"];
    let found = find_columns(connection, "etl_host_dead_letters", later)?;
    let Some([arrow, position, replayed_by]) = found else {
        return Ok(Vec::new());
    };
    let mut statement = connection.prepare(&format!(
        "SELECT id, partition, run_id, stage, target, column_name, reason, payload, {arrow}, {position}, {replayed_by}, created_at \
         FROM etl_host_dead_letters WHERE pipeline = ?1 AND id > ?2 \
         AND (?3 = '[]' OR id IN (SELECT value FROM json_each(?3))) \
         AND (?4 = '[]' OR partition IN (SELECT value FROM json_each(?4))) \
         AND (?5 IS NULL OR run_id = ?5) AND (?6 IS NULL OR stage = ?6) AND (?7 OR {replayed_by} IS NULL) ORDER BY id LIMIT ?8",
    ))?;
    let list = |values: serde_json::Value| values.to_string();
    let rows = statement.query_map(
        params![
            pipeline,
            filter.after,
            list(filter.ids.clone().into()),
            list(filter.partitions.clone().into()),
            filter.run_id,
            filter.stage,
            filter.replayed,
            filter.limit
        ],
        letter,
    )?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn letter(row: &Row<'_>) -> rusqlite::Result<StoredLetter> {
    Ok(StoredLetter {
        id: row.get(0)?,
        partition: row.get(1)?,
        run_id: row.get(2)?,
        stage: row.get(3)?,
        table: row.get(4)?,
        column: row.get(5)?,
        reason: row.get(6)?,
        payload: row.get(7)?,
        arrow: row.get(8)?,
        position: row.get(9)?,
        replayed_by: row.get(10)?,
        created_at: row.get(11)?,
    })
}
