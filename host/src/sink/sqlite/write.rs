//! One attempt's rows: staged in TEMP tables, merged with the cursor in one short transaction.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::merge::Merge;
use super::table::{SqliteTable, require_unchanged};
use super::types;
use super::{checkpoint, dead_letters};
use crate::config::WriteMode;
use crate::error::{Error, ErrorKind, Result};
use crate::identifier::quote;
use crate::sink::drift;
use crate::sink::key::{Order, reduce};
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
    let one_per_key;
    let (batches, reduced) = match &table.spec.mode {
        WriteMode::Upsert { key, .. } => {
            one_per_key = reduce(batches, key, Order::Arrival)?;
            written.superseded = one_per_key.superseded;
            written.refused.extend(one_per_key.refused.iter().cloned());
            (one_per_key.batches.as_slice(), Some(&one_per_key))
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
                let (batch, row) =
                    reduced.map_or((index, row), |reduced| reduced.origin(index, row));
                written.refused.push(Refusal {
                    batch,
                    row,
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
    chunk: &mut Chunk,
) -> Result<Committed> {
    let committed = transaction(connection, || {
        for range in &staged.deletes {
            delete_range(connection, tables, claim, range)?;
            if let Some(table) = tables.get(range.table) {
                dead_letters::close(connection, claim, &table.spec.name, range)?;
            }
        }
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
        dead_letters::write(connection, claim, &chunk.dead_letters)?;
        dead_letters::write(connection, claim, &committed.refused)?;
        dead_letters::mark_replayed(connection, claim, &chunk.replayed)?;
        let columns = if claim.replay {
            Vec::new()
        } else {
            drift::written(tables.iter().map(|table| {
                let columns = table.columns.iter().map(|(index, _)| *index);
                (&table.spec, columns.collect())
            }))
        };
        if checkpoint::write(connection, claim, epoch, &columns, chunk)? {
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
    let mut parameters = vec![Value::Text(claim.partition.clone())];
    if let Some((column, after, until)) = &range.range {
        let field = table.spec.schema.field_with_name(column);
        let arrow = field.map_or(&DataType::Null, Field::data_type);
        for (bound, operator) in [(after, ">"), (until, "<=")] {
            if let Some(bound) = bound {
                let (column, bound) = compared(column, bound, arrow)?;
                // Writing to a String cannot fail.
                let _ = write!(sql, " AND {column} {operator} ?");
                parameters.push(bound);
            }
        }
    }
    connection.execute(&sql, params_from_iter(parameters))?;
    Ok(())
}

/// A column and an end of a range, so that they compare as the values do, whatever the column is declared as.
fn compared(column: &str, bound: &str, arrow: &DataType) -> Result<(String, Value)> {
    let name = quote(column);
    if !arrow.is_numeric() {
        return Ok(match bound.strip_suffix('Z') {
            Some(time) => (types::without_zone(&name), Value::Text(time.to_owned())),
            None => (name, Value::Text(bound.to_owned())),
        });
    }
    let whole: i64 = bound.parse().map_err(|error| {
        Error::internal("an end of a range of numbers is no whole number").caused_by(error)
    })?;
    Ok((types::as_number(&name, arrow), Value::Integer(whole)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_as_numbers_however_a_column_keeps_them() {
        let connection = Connection::open_in_memory().unwrap();
        let decimals = [
            "-150", "-3.50", "-0.50", "0.00", "0.50", "2", "12", "100", "100.01", "150.00", "200",
            "200.01", "1000",
        ];
        let whole = ["-150", "2", "12", "100", "150", "200", "1000"];
        let cases: [(DataType, &str, &[&str]); 5] = [
            (DataType::Decimal128(20, 2), "TEXT", &decimals),
            (DataType::Decimal128(20, 2), "", &decimals),
            (DataType::UInt64, "TEXT", &whole[1..]),
            (DataType::Int64, "INTEGER", &whole),
            (DataType::Int64, "BLOB", &whole),
        ];
        for (arrow, declared, values) in cases {
            connection
                .execute_batch(&format!("CREATE TABLE t (c {declared})"))
                .unwrap();
            for text in values {
                let value = match arrow {
                    DataType::Int64 => Value::Integer(text.parse().unwrap()),
                    _ => Value::Text((*text).to_owned()),
                };
                connection
                    .execute("INSERT INTO t VALUES (?1)", [value])
                    .unwrap();
            }
            for bound in [-150, -4, -3, -1, 0, 1, 99, 100, 150, 200, 999] {
                for (operator, up_to) in [(">", false), ("<=", true)] {
                    let (column, value) = compared("c", &bound.to_string(), &arrow).unwrap();
                    let sql = format!("SELECT count(*) FROM t WHERE {column} {operator} ?1");
                    let found: i64 = connection
                        .query_row(&sql, [value], |row| row.get(0))
                        .unwrap();
                    let within =
                        |text: &&&str| (text.parse::<f64>().unwrap() <= f64::from(bound)) == up_to;
                    let expected = values.iter().filter(within).count();
                    assert_eq!(
                        found,
                        i64::try_from(expected).unwrap(),
                        "{arrow} {declared} {operator} {bound}"
                    );
                }
            }
            connection.execute_batch("DROP TABLE t").unwrap();
        }
    }
}
