//! One attempt's rows: staged in TEMP tables, merged with the cursor in one short transaction.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::RecordBatch;
use rusqlite::{Connection, params_from_iter};

use super::merge::Merge;
use super::table::{SqliteTable, require_unchanged};
use super::types;
use super::{checkpoint, dead_letters};
use crate::config::WriteMode;
use crate::error::{Error, ErrorKind, Result};
use crate::identifier::quote;
use crate::sink::drift;
use crate::sink::key::reduce;
use crate::sink::{Chunk, Claim, Committed, RangeDelete, Refusal, Swap, Written, fenced};

/// Rows per INSERT statement, and most bound values of one (`SQLITE_LIMIT_VARIABLE_NUMBER` is 32,766 by default).
const ROWS_PER_STATEMENT: usize = 128;
const VALUES_PER_STATEMENT: usize = 8_000;

/// Makes the staging tables of an attempt.
pub fn open_tables(connection: &Connection, tables: &[SqliteTable], claim: &Claim) -> Result<()> {
    // Staged rows go to a file when they are many, not to memory.
    connection.execute_batch("PRAGMA temp_store = FILE")?;
    for (index, table) in tables.iter().enumerate() {
        let (columns, name) = (table.column_list(), table.name());
        connection.execute_batch(&format!(
            "DROP TABLE IF EXISTS temp.{0}; CREATE TEMP TABLE {0} AS SELECT {columns} FROM {name} WHERE false",
            stage_name(index)
        ))?;
        if table.spec.mode == WriteMode::Replace {
            let shadow = shadow_name(&claim.tenure.pipeline, claim.index, index);
            connection.execute_batch(&format!(
                "DROP TABLE IF EXISTS {shadow}; CREATE TABLE {shadow} AS SELECT {columns} FROM {name} WHERE false"
            ))?;
        }
    }
    Ok(())
}

/// Stages a flush. The file itself is not touched.
pub fn stage(
    connection: &Connection,
    table: &SqliteTable,
    index: usize,
    batches: &[RecordBatch],
    refuse_nul: bool,
) -> Result<Written> {
    let mut written = Written::default();
    let reduced;
    let (batches, origin) = match &table.spec.mode {
        WriteMode::Upsert { key, .. } => {
            reduced = reduce(batches, key)?;
            written.superseded = reduced.superseded;
            written.refused.extend(reduced.refused.iter().cloned());
            (reduced.batches.as_slice(), Some(&reduced.origin))
        }
        _ => (batches, None),
    };
    let stage = stage_name(index);
    let columns = table.column_list();
    let width = table.columns.len().max(1);
    let rows_at_once = ROWS_PER_STATEMENT.min(VALUES_PER_STATEMENT / width).max(1);
    let insert = |rows: usize| {
        let row = format!("({})", vec!["?"; width].join(","));
        format!(
            "INSERT INTO temp.{stage} ({columns}) VALUES {}",
            vec![row; rows].join(",")
        )
    };
    let full = insert(rows_at_once);
    connection.execute_batch("SAVEPOINT stage")?;
    for (index, batch) in batches.iter().enumerate() {
        let batch = &types::plain(batch)?;
        let mut values = Vec::with_capacity(rows_at_once * width);
        for row in 0..batch.num_rows() {
            let start = values.len();
            let mut fault = None;
            for (column, name) in &table.columns {
                match types::value(batch.column(*column), row) {
                    Ok(value) if refuse_nul && types::has_nul(&value) => {
                        fault = Some((name, "text with U+0000"));
                        break;
                    }
                    Ok(value) => values.push(value),
                    Err(reason) => {
                        fault = Some((name, reason));
                        break;
                    }
                }
            }
            if let Some((column, reason)) = fault {
                values.truncate(start);
                let original = origin
                    .and_then(|origin| origin.get(index)?.get(row))
                    .copied();
                written.refused.push(Refusal {
                    batch: index,
                    row: original.unwrap_or(row),
                    column: column.clone(),
                    reason: reason.to_owned(),
                    told: String::new(),
                });
                continue;
            }
            written.loaded += 1;
            if values.len() == rows_at_once * width {
                connection
                    .prepare_cached(&full)?
                    .execute(params_from_iter(values.drain(..)))?;
            }
        }
        if !values.is_empty() {
            let rows = values.len() / width;
            connection
                .prepare_cached(&insert(rows))?
                .execute(params_from_iter(values.drain(..)))?;
        }
    }
    connection.execute_batch("RELEASE stage")?;
    Ok(written)
}

/// What an attempt has staged since its last commit.
#[derive(Default)]
pub struct Staged {
    /// Rows per table.
    pub rows: Vec<u64>,
    /// Ranges to delete first.
    pub deletes: Vec<RangeDelete>,
}

/// Merges what is staged and writes the checkpoint, in one transaction. Gives the rows that only the merge refused.
pub fn commit(
    connection: &Connection,
    tables: &Arc<Vec<SqliteTable>>,
    claim: &Claim,
    epoch: i64,
    staged: &Staged,
    chunk: &Chunk,
) -> Result<Committed> {
    let committed = transaction(connection, || {
        for range in &staged.deletes {
            delete_range(connection, tables, claim, range)?;
            if let Some(table) = tables.get(range.table) {
                dead_letters::close(connection, claim, &table.spec.name, range)?;
            }
        }
        let mut chunk = chunk.clone();
        let mut committed = Committed::default();
        for (index, table) in tables.iter().enumerate() {
            let rows = staged.rows.get(index).copied().unwrap_or(0);
            if rows == 0 {
                continue;
            }
            // The rows of a `replace` wait in a shadow.
            if table.spec.mode != WriteMode::Replace {
                require_unchanged(connection, table)?;
            }
            let merge = Merge::new(connection, table, claim, index);
            let allowance = chunk.most_refused - committed.refused.len() as u64;
            committed.add(merge.run(rows, allowance)?);
        }
        // A replay's rows are in no run's books.
        if !claim.replay {
            let refused = committed.refused.len() as u64;
            chunk.ledger.settle(committed.superseded, refused);
        }
        dead_letters::write(connection, claim, &chunk.run_id, &chunk.dead_letters)?;
        dead_letters::write(connection, claim, &chunk.run_id, &committed.refused)?;
        dead_letters::mark_replayed(connection, claim, &chunk.replayed)?;
        let columns = if claim.replay {
            Vec::new()
        } else {
            drift::written(tables.iter().map(|table| {
                let columns = table.columns.iter().map(|(index, _)| *index);
                (&table.spec, columns.collect())
            }))
        };
        if checkpoint::write(connection, claim, epoch, &columns, &chunk)? {
            Ok(committed)
        } else {
            Err(fenced(&claim.partition))
        }
    })?;
    for index in 0..tables.len() {
        connection.execute_batch(&format!("DELETE FROM temp.{}", stage_name(index)))?;
    }
    Ok(committed)
}

/// Runs work in a transaction that has the file's write lock from the start.
pub fn transaction<T>(connection: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let result = work().and_then(|value| {
        connection.execute_batch("COMMIT")?;
        Ok(value)
    });
    if result.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    result
}

fn delete_range(
    connection: &Connection,
    tables: &[SqliteTable],
    claim: &Claim,
    range: &RangeDelete,
) -> Result<()> {
    let Some(table) = tables.get(range.table) else {
        return Err(Error::internal(format!(
            "there is no output table number {}",
            range.table
        )));
    };
    let mut sql = format!(
        "DELETE FROM {} WHERE {} = ?",
        table.name(),
        quote(&range.partition_column)
    );
    let mut parameters = vec![claim.partition.as_str()];
    if let Some((column, after, until)) = &range.range {
        for (bound, operator) in [(after, ">"), (until, "<=")] {
            if let Some(bound) = bound {
                // The column's affinity applies to the text: numbers are compared as numbers. With the sign of a zone behind
                // its digits a longer time would come before a shorter one.
                let time = bound.strip_suffix('Z');
                let column = match time {
                    Some(_) => format!("rtrim({}, 'Z')", quote(column)),
                    None => quote(column),
                };
                // Writing to a String cannot fail.
                let _ = write!(sql, " AND {column} {operator} ?");
                parameters.push(time.unwrap_or(bound));
            }
        }
    }
    connection.execute(&sql, params_from_iter(parameters))?;
    Ok(())
}

/// Puts the shadows' rows in place of the old ones.
pub fn swap(connection: &Connection, tables: &[SqliteTable], swap: &Swap) -> Result<()> {
    transaction(connection, || {
        if checkpoint::is_swapped(connection, &swap.pipeline, &swap.mark())? {
            return Ok(());
        }
        let mut moved = 0;
        for (index, table) in tables.iter().enumerate() {
            let (name, columns) = (table.name(), table.column_list());
            connection.execute(&format!("DELETE FROM {name}"), [])?;
            for partition in &swap.partitions {
                let shadow = shadow_name(&swap.pipeline, partition.index, index);
                moved += connection.execute(
                    &format!("INSERT INTO {name} ({columns}) SELECT {columns} FROM {shadow} ORDER BY rowid"),
                    [],
                )? as u64;
                connection.execute_batch(&format!("DROP TABLE {shadow}"))?;
            }
        }
        let expected: u64 = swap.partitions.iter().map(|partition| partition.rows).sum();
        if moved != expected {
            return Err(Error::new(
                ErrorKind::Ledger,
                format!("the partitions loaded {expected} rows, but {moved} are there to swap in"),
            ));
        }
        for partition in &swap.partitions {
            if !checkpoint::mark_swapped(connection, swap, partition)? {
                return Err(fenced(&partition.name));
            }
        }
        Ok(())
    })
}

/// Drops the shadows of partitions that this run still owns.
pub fn discard(connection: &Connection, tables: usize, swap: &Swap) -> Result<()> {
    transaction(connection, || {
        for partition in &swap.partitions {
            if checkpoint::is_claimed(connection, swap, partition)? {
                for table in 0..tables {
                    let shadow = shadow_name(&swap.pipeline, partition.index, table);
                    connection.execute_batch(&format!("DROP TABLE IF EXISTS {shadow}"))?;
                }
            }
        }
        Ok(())
    })
}

pub fn stage_name(table: usize) -> String {
    format!("etl_stage_{table}")
}

pub fn shadow_name(pipeline: &str, partition: usize, table: usize) -> String {
    quote(&format!("etl_host_shadow_{pipeline}_{partition}_{table}"))
}
