//! Many rows into a table without SQL, fast.

use anyhow::{Context, Result, anyhow};
use rusqlite::{TransactionBehavior, params_from_iter};

use super::convert::{How, convert, instant_as};
use super::datum::Datum;
use super::engine::Engine;
use super::engine::builtins::object_name;
use super::engine::catalog::Column;
use super::engine::database::Database;
use super::engine::write::{duplicate, insert_sql};
use super::error::{SqlError, SqlResult};
use super::types::SqlType as T;

/// A value for [`StandInServer::bulk`](super::StandInServer::bulk); it is converted to its column's type as an INSERT
/// would.
#[derive(Debug, Clone, PartialEq)]
pub enum BulkValue {
    /// NULL.
    Null,
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A text; also for decimals and dates.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// 100 ns since 0001-01-01, for every type with a date.
    Ticks(i64),
}

fn cell(value: BulkValue, column: &Column) -> SqlResult<Datum> {
    let how = How {
        style: 0,
        assign: true,
        collation: column.collation,
    };
    match value {
        BulkValue::Null => Ok(Datum::Null),
        BulkValue::Int(it) => convert(&Datum::Int(it), T::BigInt, column.ty, how),
        BulkValue::Float(it) => convert(&Datum::Float(it), T::Float, column.ty, how),
        BulkValue::Text(it) => convert(&Datum::Text(it), T::NVarChar(None), column.ty, how),
        BulkValue::Bytes(it) => convert(&Datum::Bytes(it), T::VarBinary(None), column.ty, how),
        BulkValue::Ticks(it) => {
            instant_as(it, None, column.ty).ok_or_else(|| SqlError::overflow(column.ty.base_name()))
        }
    }
}

pub fn insert(
    engine: &Engine,
    database: &Database,
    table: &str,
    columns: &[&str],
    rows: impl IntoIterator<Item = Vec<BulkValue>>,
) -> Result<u64> {
    let name = object_name(table).with_context(|| format!("{table:?} is no name"))?;
    let table = database
        .catalog()
        .find(&name)
        .cloned()
        .ok_or_else(|| SqlError::no_object(table))?;
    let mut places = Vec::new();
    for column in &table.columns {
        places.push(
            columns
                .iter()
                .position(|it| it.eq_ignore_ascii_case(&column.name)),
        );
    }
    if let Some(unknown) = columns.iter().find(|it| table.column(it).is_none()) {
        return Err(SqlError::no_column(unknown).into());
    }
    let taker = engine.next_writer();
    let mut writer = database.writer();
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut count = 0;
    {
        let mut statement = transaction.prepare(&insert_sql(&table))?;
        for row in rows {
            if row.len() != columns.len() {
                return Err(anyhow!(
                    "a row has {} values for {} columns",
                    row.len(),
                    columns.len()
                ));
            }
            let mut row: Vec<Option<BulkValue>> = row.into_iter().map(Some).collect();
            let mut cells = Vec::with_capacity(places.len());
            for (column, place) in table.columns.iter().zip(&places) {
                let given = place.and_then(|at| row.get_mut(at)).and_then(Option::take);
                let value = match (given, column.identity) {
                    (Some(value), _) => cell(value, column)?,
                    (None, _) if column.ty == T::RowVersion => {
                        Datum::Bytes(database.next_version(taker).to_be_bytes().to_vec())
                    }
                    (None, Some((_, step))) => Datum::Int(table.take_identity(step)),
                    (None, None) => Datum::Null,
                };
                if let (Some((_, step)), Datum::Int(value)) = (column.identity, &value) {
                    table.saw_identity(*value, step);
                }
                if value.is_null() && !column.nullable {
                    return Err(anyhow!("column {} does not allow nulls", column.name));
                }
                cells.push(value);
            }
            statement
                .execute(params_from_iter(&cells))
                .map_err(|error| {
                    duplicate(&error, &table).unwrap_or_else(|| SqlError::internal(error))
                })?;
            count += 1;
        }
    }
    transaction.commit()?;
    database.versions_done(taker);
    Ok(count)
}
