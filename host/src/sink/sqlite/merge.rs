//! The merge of staged rows into the table, inside the transaction of a commit. Rows that the table refuses are found by
//! halving, and told instead of merged.

use arrow_schema::DataType;
use rusqlite::{Connection, params};

use super::table::SqliteTable;
use super::types;
use super::write::{shadow_name, stage_name};
use crate::config::WriteMode;
use crate::dead_letter::{self, DeadLetter};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::key::{Comparison, on_conflict};
use crate::sink::{Claim, Committed, Keep, Refusal};

/// `SQLITE_CONSTRAINT`, `SQLITE_MISMATCH` and `SQLITE_TOOBIG`, <https://www.sqlite.org/rescode.html>.
const ABOUT_A_ROW: [i32; 3] = [19, 20, 18];

/// Rows staged for one table, on their way into it.
pub struct Merge<'a> {
    connection: &'a Connection,
    table: &'a SqliteTable,
    stage: String,
    statement: String,
    /// Every row that does not fail is written: none has to yield to another one.
    every: bool,
}

impl<'a> Merge<'a> {
    /// The merge of what an attempt has staged for a table.
    pub fn new(
        connection: &'a Connection,
        table: &'a SqliteTable,
        claim: &Claim,
        index: usize,
    ) -> Self {
        let columns = table.column_list();
        let stage = stage_name(index);
        let at_once = |target| (target, String::new(), true);
        let (target, conflict, every) = match &table.spec.mode {
            WriteMode::Append => at_once(table.name()),
            WriteMode::Replace => at_once(shadow_name(&claim.tenure.pipeline, claim.index, index)),
            WriteMode::Upsert { key, .. } => {
                let keep = &table.spec.keep;
                let cursor = match keep {
                    Keep::Newer(Some(column)) => column.as_str(),
                    _ => "",
                };
                let written = table.columns.iter().map(|(_, name)| name.as_str());
                let compare = Comparison {
                    in_order: &in_order(table, cursor),
                    differ: None,
                };
                let conflict = on_conflict(written, key, keep, &compare);
                (table.name(), conflict.clause, conflict.every)
            }
        };
        // `WHERE` also keeps the parser from reading ON CONFLICT as a join.
        let statement = format!(
            "INSERT INTO {target} AS t ({columns}) SELECT {columns} FROM temp.{stage} WHERE rowid BETWEEN ?1 AND ?2 \
             ORDER BY rowid{conflict}"
        );
        Self {
            connection,
            table,
            stage,
            statement,
            every,
        }
    }

    /// Merges so many staged rows.
    pub fn run(&self, staged: u64, most_refused: u64) -> Result<Committed> {
        let (first, last): (i64, i64) = self.connection.query_row(
            &format!("SELECT min(rowid), max(rowid) FROM temp.{}", self.stage),
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let mut merged = Committed::default();
        let mut taken = 0;
        let mut waiting = vec![(first, last)];
        // Rows that lack another one, which may be a later row of the same merge.
        let mut orphans: Vec<(i64, String)> = Vec::new();
        let mut taken_before = 0;
        loop {
            let Some((first, last)) = waiting.pop() else {
                // As long as rows come in, others may find what they lack.
                if orphans.is_empty() || taken == taken_before {
                    break;
                }
                taken_before = taken;
                waiting = orphans.drain(..).rev().map(|(row, _)| (row, row)).collect();
                continue;
            };
            let error = match self.merge_range(first, last) {
                Ok(rows) => {
                    taken += rows;
                    continue;
                }
                Err(error) => error,
            };
            let Some(reason) = refusal(&error) else {
                return Err(error.into());
            };
            if self.connection.is_autocommit() {
                return Err(error.into());
            }
            if first < last {
                let middle = first + (last - first) / 2;
                waiting.extend([(middle + 1, last), (first, middle)]);
                continue;
            }
            if is_foreign_key(&error) {
                orphans.push((first, reason));
                continue;
            }
            merged.refused.push(self.letter(first, &reason)?);
            require_few(&merged, most_refused)?;
        }
        for (row, reason) in orphans {
            merged.refused.push(self.letter(row, &reason)?);
        }
        require_few(&merged, most_refused)?;
        let refused = merged.refused.len() as u64;
        let expected = staged.saturating_sub(refused);
        if self.every && taken != expected {
            return Err(Error::new(
                ErrorKind::Ledger,
                format!("staged {staged} rows, of which {refused} were refused and {taken} merged"),
            ));
        }
        if self.table.spec.keep != Keep::Last {
            merged.superseded = expected.saturating_sub(taken);
        }
        Ok(merged)
    }

    fn merge_range(&self, first: i64, last: i64) -> rusqlite::Result<u64> {
        self.connection.execute_batch("SAVEPOINT part")?;
        let merged = self
            .connection
            .prepare_cached(&self.statement)
            .and_then(|mut statement| statement.execute(params![first, last]));
        match merged {
            Ok(rows) => {
                self.connection.execute_batch("RELEASE part")?;
                Ok(rows as u64)
            }
            Err(error) => {
                // Some failures end the whole transaction, and the savepoint with it.
                if !self.connection.is_autocommit() {
                    self.connection
                        .execute_batch("ROLLBACK TO part; RELEASE part")?;
                }
                Err(error)
            }
        }
    }

    /// The staged row, as it was to be written.
    fn letter(&self, rowid: i64, reason: &str) -> Result<DeadLetter> {
        let columns = self.table.column_list();
        let schema = self.table.written_schema();
        let sql = format!("SELECT {columns} FROM temp.{} WHERE rowid = ?1", self.stage);
        let row = self
            .connection
            .query_row(&sql, [rowid], |row| Ok(types::read_row(&schema, row)))??;
        let refusal = Refusal {
            batch: 0,
            row: 0,
            column: String::new(),
            reason: reason.to_owned(),
            told: String::new(),
        };
        dead_letter::from_sink(&row, &self.table.spec.name.to_string(), refusal)
    }
}

fn require_few(merged: &Committed, most_refused: u64) -> Result<()> {
    if merged.refused.len() as u64 <= most_refused {
        return Ok(());
    }
    let error = Error::new(
        ErrorKind::TooManyBadRows,
        "the sink refuses more rows than `max_bad_rows` allows",
    )
    .hint(
        "look at the reason, mend the rows or the pipeline, or raise `error_handling.max_bad_rows`",
    );
    Err(dead_letter::explain(error, merged.refused.last()))
}

/// `SQLITE_CONSTRAINT_FOREIGNKEY`.
fn is_foreign_key(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _) if failure.extended_code == 787)
}

/// A cursor column, so that it compares as its values mean.
fn in_order(table: &SqliteTable, column: &str) -> impl Fn(&str) -> String {
    let field = table.spec.schema.field_with_name(column).ok();
    let arrow = field.map_or(DataType::Null, |field| field.data_type().clone());
    move |column| match &arrow {
        DataType::Timestamp(..) => types::without_zone(column),
        arrow if arrow.is_numeric() => types::as_number(column, arrow),
        _ => column.to_owned(),
    }
}

/// What the table says of a row, if it is a row that it refuses. Its messages name columns and constraints, not values.
fn refusal(error: &rusqlite::Error) -> Option<String> {
    match error {
        rusqlite::Error::SqliteFailure(failure, message)
            if ABOUT_A_ROW.contains(&(failure.extended_code & 0xff)) =>
        {
            Some(message.clone().unwrap_or_else(|| failure.to_string()))
        }
        _ => None,
    }
}
