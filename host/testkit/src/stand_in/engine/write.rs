//! INSERT, UPDATE and DELETE. A statement is evaluated at once (values, defaults, identities and row versions are those
//! of its own time) into a list of writes, which is applied now or, inside of a transaction, at its commit. That is
//! how several transactions write at once over a file with one writer.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, TransactionBehavior, params_from_iter};

use super::binder::{Binder, Bound, Surroundings};
use super::catalog::{Column, Table};
use super::database::Database;
use super::query;
use crate::stand_in::convert::{How, convert};
use crate::stand_in::datum::Datum;
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::sql::tree::{Expr, Name, Rows};
use crate::stand_in::types::SqlType as T;
use crate::stand_in::wire::bulk_load::BulkLoad;

/// One row's change, with all its values known.
#[derive(Debug, Clone)]
pub enum Write {
    Insert {
        table: Arc<Table>,
        cells: Vec<Datum>,
    },
    Update {
        table: Arc<Table>,
        row: i64,
        cells: Vec<(String, Datum)>,
    },
    Delete {
        table: Arc<Table>,
        row: i64,
    },
}

impl Write {
    pub fn table(&self) -> &Arc<Table> {
        match self {
            Self::Insert { table, .. }
            | Self::Update { table, .. }
            | Self::Delete { table, .. } => table,
        }
    }
}

/// What a statement works with.
pub struct Work<'a> {
    pub around: &'a Surroundings<'a>,
    pub database: &'a Arc<Database>,
    pub reader: &'a Connection,
    /// Who takes the row versions.
    pub writer: u64,
    pub identity_insert: bool,
}

/// Applies writes in one transaction.
pub fn apply(connection: &mut Connection, writes: &[Write]) -> SqlResult<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for write in writes {
        let table = write.table();
        let name = table.in_sqlite();
        let done = match write {
            Write::Insert { cells, .. } => transaction
                .prepare_cached(&insert_sql(table))?
                .execute(params_from_iter(cells)),
            Write::Update { row, cells, .. } => {
                let sets: Vec<String> = cells
                    .iter()
                    .enumerate()
                    .map(|(at, (column, _))| format!("{column} = ?{}", at + 2))
                    .collect();
                let sql = format!("UPDATE {name} SET {} WHERE rowid = ?1", sets.join(", "));
                let values =
                    std::iter::once(Datum::Int(*row)).chain(cells.iter().map(|it| it.1.clone()));
                transaction
                    .prepare_cached(&sql)?
                    .execute(params_from_iter(values))
            }
            Write::Delete { row, .. } => transaction
                .prepare_cached(&format!("DELETE FROM {name} WHERE rowid = ?1"))?
                .execute([row]),
        };
        done.map_err(|error| {
            duplicate(&error, table).unwrap_or_else(|| SqlError::internal(error))
        })?;
    }
    transaction.commit()?;
    Ok(())
}

pub fn insert_sql(table: &Table) -> String {
    let columns: Vec<String> = table.columns.iter().map(Column::in_sqlite).collect();
    let marks: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
    format!(
        "INSERT INTO {} ({}) VALUES ({})",
        table.in_sqlite(),
        columns.join(", "),
        marks.join(", ")
    )
}

/// A key that is there already.
pub fn duplicate(error: &rusqlite::Error, table: &Table) -> Option<SqlError> {
    if error.sqlite_error_code() != Some(ErrorCode::ConstraintViolation) {
        return None;
    }
    let text = error.to_string();
    let of = |index: &&super::catalog::Index| {
        index
            .columns
            .iter()
            .all(|(id, _)| text.contains(&format!("{}.c{id}", table.in_sqlite())))
    };
    let index = table.indexes.iter().filter(|it| it.unique).find(of);
    let name = index.map_or("", |it| it.name.as_str());
    Some(match index {
        Some(index) if !index.primary => SqlError::new(
            2601,
            format!(
                "Cannot insert duplicate key row in object '{}' with unique index '{name}'.",
                table.full_name()
            ),
        ),
        _ => SqlError::new(
            2627,
            format!(
                "Violation of PRIMARY KEY constraint '{name}'. Cannot insert duplicate key in object '{}'.",
                table.full_name()
            ),
        ),
    })
}

impl Work<'_> {
    fn table(&self, name: &Name) -> SqlResult<Arc<Table>> {
        self.database
            .catalog()
            .find(name)
            .cloned()
            .ok_or_else(|| SqlError::no_object(&name.to_string()))
    }

    /// The value of something that is no column.
    fn evaluate(&self, binder: &Binder<'_>, bound: &Bound) -> SqlResult<Datum> {
        if let Some(constant) = &bound.constant {
            return Ok(constant.clone());
        }
        let mut statement = self
            .reader
            .prepare_cached(&format!("SELECT {}", bound.sql))?;
        let used = statement.parameter_count();
        let binds = binder.binds.iter().take(used);
        Ok(statement.query_row(params_from_iter(binds), |row| {
            Ok(Datum::of(row.get_ref(0)?))
        })?)
    }

    fn default(&self, column: &Column) -> SqlResult<Datum> {
        let Some(default) = &column.default else {
            return Ok(Datum::Null);
        };
        let mut binder = Binder::new(self.around);
        let bound = binder.scalar(default)?;
        let bound = assigned(&mut binder, bound, column)?;
        self.evaluate(&binder, &bound)
    }

    fn made(&self, table: &Table, column: &Column) -> SqlResult<Datum> {
        if column.ty == T::RowVersion {
            let version = self.database.next_version(self.writer);
            return Ok(Datum::Bytes(version.to_be_bytes().to_vec()));
        }
        match column.identity {
            Some((_, step)) => Ok(Datum::Int(table.take_identity(step))),
            None => self.default(column),
        }
    }

    fn checked(
        &self,
        table: &Table,
        column: &Column,
        value: Datum,
        verb: &str,
    ) -> SqlResult<Datum> {
        if value.is_null() && !column.nullable {
            return Err(SqlError::new(
                515,
                format!(
                    "Cannot insert the value NULL into column '{}', table '{}.{}'; column does not allow nulls. {verb} fails.",
                    column.name,
                    self.database.name,
                    table.full_name()
                ),
            ));
        }
        Ok(value)
    }

    pub fn insert(
        &self,
        name: &Name,
        columns: Option<&[String]>,
        rows: &Rows,
    ) -> SqlResult<Vec<Write>> {
        let table = self.table(name)?;
        let targets = self.targets(&table, columns)?;
        let given: Vec<Vec<Option<Datum>>> = match rows {
            Rows::Defaults => vec![Vec::new()],
            Rows::Values(rows) => {
                let evaluated: SqlResult<_> = rows
                    .iter()
                    .map(|row| self.row_of_values(&table, &targets, row))
                    .collect();
                evaluated?
            }
            Rows::Select(select) => {
                let query = query::bind(select, self.around)?;
                if query.columns.len() != targets.len() {
                    return Err(mismatch());
                }
                self.rows_of_select(&table, &targets, &query)?
            }
        };
        let targets = if *rows == Rows::Defaults {
            Vec::new()
        } else {
            targets
        };
        self.complete(&table, &targets, given)
    }

    /// Rows that a client sends in bulk.
    pub fn insert_bulk(&self, name: &Name, load: &BulkLoad) -> SqlResult<Vec<Write>> {
        let table = self.table(name)?;
        let targets = self.targets(&table, Some(&load.columns))?;
        let columns: Vec<&Column> = targets
            .iter()
            .filter_map(|at| table.columns.get(*at))
            .collect();
        let mut given = Vec::with_capacity(load.rows.len());
        for row in &load.rows {
            let cells = row.iter().zip(&columns).map(|((ty, value), column)| {
                convert(
                    value,
                    *ty,
                    column.ty,
                    How {
                        style: 0,
                        assign: true,
                        collation: column.collation,
                    },
                )
                .map(Some)
            });
            given.push(cells.collect::<SqlResult<_>>()?);
        }
        self.complete(&table, &targets, given)
    }

    /// Adds to each row what the server makes, and checks it.
    fn complete(
        &self,
        table: &Arc<Table>,
        targets: &[usize],
        given: Vec<Vec<Option<Datum>>>,
    ) -> SqlResult<Vec<Write>> {
        let mut writes = Vec::with_capacity(given.len());
        for row in given {
            let mut cells: Vec<Option<Datum>> = vec![None; table.columns.len()];
            for (target, value) in targets.iter().zip(row) {
                if let Some(cell) = cells.get_mut(*target) {
                    *cell = value;
                }
            }
            let mut complete = Vec::with_capacity(cells.len());
            for (column, cell) in table.columns.iter().zip(cells) {
                let value = match cell {
                    Some(value) => {
                        if let (Some((_, step)), Datum::Int(value)) = (column.identity, &value) {
                            table.saw_identity(*value, step);
                        }
                        value
                    }
                    None => self.made(table, column)?,
                };
                complete.push(self.checked(table, column, value, "INSERT")?);
            }
            writes.push(Write::Insert {
                table: Arc::clone(table),
                cells: complete,
            });
        }
        Ok(writes)
    }

    /// The positions of the columns that are given values.
    fn targets(&self, table: &Table, columns: Option<&[String]>) -> SqlResult<Vec<usize>> {
        let Some(columns) = columns else {
            let by_position = table.columns.iter().enumerate();
            return Ok(by_position
                .filter(|(_, it)| {
                    it.ty != T::RowVersion && (it.identity.is_none() || self.identity_insert)
                })
                .map(|it| it.0)
                .collect());
        };
        columns
            .iter()
            .map(|name| {
                let (at, column) = table.column(name).ok_or_else(|| SqlError::no_column(name))?;
                if column.ty == T::RowVersion {
                    return Err(SqlError::new(273, "Cannot insert an explicit value into a timestamp column. Use INSERT with a column list to exclude the timestamp column, or insert a DEFAULT into the timestamp column."));
                }
                if column.identity.is_some() && !self.identity_insert {
                    return Err(SqlError::new(544, format!("Cannot insert explicit value for identity column in table '{}' when IDENTITY_INSERT is set to OFF.", table.name)));
                }
                Ok(at)
            })
            .collect()
    }

    fn row_of_values(
        &self,
        table: &Table,
        targets: &[usize],
        row: &[Option<Expr>],
    ) -> SqlResult<Vec<Option<Datum>>> {
        // Without a list of columns, DEFAULT may stand for a rowversion.
        if row.len() != targets.len() {
            return Err(mismatch());
        }
        let columns = targets.iter().filter_map(|at| table.columns.get(*at));
        row.iter()
            .zip(columns)
            .map(|(expr, column)| {
                let Some(expr) = expr else {
                    return Ok(None);
                };
                let mut binder = Binder::new(self.around);
                let bound = binder.scalar(expr)?;
                let bound = assigned(&mut binder, bound, column)?;
                self.evaluate(&binder, &bound).map(Some)
            })
            .collect()
    }

    fn rows_of_select(
        &self,
        table: &Table,
        targets: &[usize],
        query: &query::Query,
    ) -> SqlResult<Vec<Vec<Option<Datum>>>> {
        let mut binder = Binder::new(self.around);
        binder.binds.clone_from(&query.binds);
        let columns = targets.iter().filter_map(|at| table.columns.get(*at));
        let mut list = Vec::new();
        for (at, (source, column)) in query.columns.iter().zip(columns).enumerate() {
            let value = Bound {
                sql: format!("q{at}"),
                typed: source.typed,
                condition: false,
                constant: None,
                origin: None,
                identity: false,
            };
            list.push(assigned(&mut binder, value, column)?.sql);
        }
        let mut statement =
            self.reader
                .prepare(&format!("SELECT {} FROM ({})", list.join(", "), query.sql))?;
        let mut rows = statement.query(params_from_iter(&binder.binds))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let cells: rusqlite::Result<_> = (0..list.len())
                .map(|at| Ok(Some(Datum::of(row.get_ref(at)?))))
                .collect();
            all.push(cells?);
        }
        Ok(all)
    }

    /// The rows that a condition holds for, with the values of some expressions.
    fn matching(
        &self,
        name: &Name,
        filter: Option<&Expr>,
        values: impl FnOnce(&mut Binder<'_>) -> SqlResult<Vec<String>>,
    ) -> SqlResult<Vec<(i64, Vec<Datum>)>> {
        let mut binder = Binder::new(self.around);
        let (text, scope) = binder.table(name, "s0")?;
        binder.scopes.push(vec![scope]);
        let mut list = vec!["s0.rowid".to_owned()];
        list.extend(values(&mut binder)?);
        let mut sql = format!("SELECT {} FROM {text}", list.join(", "));
        if let Some(filter) = filter {
            sql += &format!(" WHERE {}", binder.filter(filter)?);
        }
        let mut statement = self.reader.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&binder.binds))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let values: rusqlite::Result<_> = (1..list.len())
                .map(|at| Ok(Datum::of(row.get_ref(at)?)))
                .collect();
            found.push((row.get(0)?, values?));
        }
        Ok(found)
    }

    pub fn update(
        &self,
        name: &Name,
        sets: &[(String, Option<Expr>)],
        filter: Option<&Expr>,
    ) -> SqlResult<Vec<Write>> {
        let table = self.table(name)?;
        let mut columns = Vec::new();
        for (set, _) in sets {
            let (_, column) = table.column(set).ok_or_else(|| SqlError::no_column(set))?;
            if column.is_made() {
                return Err(SqlError::new(
                    if column.identity.is_some() { 8102 } else { 272 },
                    format!("Cannot update column '{set}'."),
                ));
            }
            columns.push(column);
        }
        let rows = self.matching(name, filter, |binder| {
            let mut list = Vec::new();
            for ((_, value), column) in sets.iter().zip(&columns) {
                let bound = if let Some(value) = value {
                    binder.scalar(value)?
                } else {
                    let default = self.default(column)?;
                    binder.value(default, column.ty, true)
                };
                list.push(assigned(binder, bound, column)?.sql);
            }
            Ok(list)
        })?;
        let version = table.columns.iter().find(|it| it.ty == T::RowVersion);
        let mut writes = Vec::with_capacity(rows.len());
        for (row, values) in rows {
            let mut cells = Vec::new();
            for (column, value) in columns.iter().zip(values) {
                cells.push((
                    column.in_sqlite(),
                    self.checked(&table, column, value, "UPDATE")?,
                ));
            }
            if let Some(column) = version {
                cells.push((column.in_sqlite(), self.made(&table, column)?));
            }
            writes.push(Write::Update {
                table: Arc::clone(&table),
                row,
                cells,
            });
        }
        Ok(writes)
    }

    pub fn delete(&self, name: &Name, filter: Option<&Expr>) -> SqlResult<Vec<Write>> {
        let table = self.table(name)?;
        let rows = self.matching(name, filter, |_| Ok(Vec::new()))?;
        Ok(rows
            .into_iter()
            .map(|(row, _)| Write::Delete {
                table: Arc::clone(&table),
                row,
            })
            .collect())
    }
}

/// A value in the type of the column that takes it.
fn assigned(binder: &mut Binder<'_>, value: Bound, column: &Column) -> SqlResult<Bound> {
    let mut value = value;
    if column.ty.is_text() {
        value.typed.collation = column.collation;
    }
    if value.constant != Some(Datum::Null)
        && !value.typed.ty.is_text()
        && !value.typed.ty.is_bytes()
        && value.typed.ty.precedence() > column.ty.precedence()
        && column.ty.is_bytes()
    {
        return Err(SqlError::new(
            257,
            format!(
                "Implicit conversion from data type {} to {} is not allowed. Use the CONVERT function to run this query.",
                value.typed.ty.base_name(),
                column.ty.base_name()
            ),
        ));
    }
    binder.cast(value, column.ty, 0, true, false)
}

fn mismatch() -> SqlError {
    SqlError::new(
        213,
        "Column name or number of supplied values does not match table definition.",
    )
}
