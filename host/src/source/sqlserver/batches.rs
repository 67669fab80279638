//! Rows of a statement into batches, once their types are known, each with its cursor.
//!
//! What a value becomes is decided in `decode`; where the rows come from is no concern of this file.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use tiberius::{Column, Row};

use super::bind::wrong_column;
use super::decode::{Decoder, Fault, append_cursor, payload};
use super::types::SqlType;
use crate::config::{BeyondMicroseconds, Cursor as CursorConfig, CursorKind};
use crate::error::{Error, Result};
use crate::source::ReadRequest;
use crate::source::batch::{BatchBuilder, CursorBuilder, Misfit, cursor_index};

/// Batches in the making.
pub struct Batches {
    pub builder: BatchBuilder,
    pub decoder: Decoder,
    /// Where the cursor is in a row, and the number of a keyset.
    pub cursor: Option<(usize, Option<usize>)>,
}

impl Batches {
    /// Batches of these columns, as large as the request allows.
    pub fn new(
        names: &[String],
        types: Vec<SqlType>,
        request: &ReadRequest,
        beyond: BeyondMicroseconds,
    ) -> Result<Self> {
        let fields: Vec<_> = names
            .iter()
            .zip(&types)
            .map(|(name, sql_type)| sql_type.field(name))
            .collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let cursor = request.cursor.as_ref();
        let places = cursor
            .map(|cursor| {
                let id = cursor
                    .id
                    .as_ref()
                    .map(|id| cursor_index(&schema, id))
                    .transpose()?;
                Ok::<_, Error>((cursor_index(&schema, &cursor.column)?, id))
            })
            .transpose()?;
        let cursors = match (cursor, places) {
            (Some(cursor), Some((column, _))) => {
                let sql_type = types.get(column).copied().unwrap_or(SqlType::Text);
                Some(build_cursors(cursor, sql_type)?)
            }
            _ => None,
        };
        Ok(Self {
            builder: BatchBuilder::new(schema, cursors, request)?,
            decoder: Decoder::new(types, beyond),
            cursor: places,
        })
    }

    /// Adds a row.
    pub fn push(&mut self, row: &Row) -> Result<()> {
        if let (Some((column, id)), Some(cursors)) = (self.cursor, &mut self.builder.cursors) {
            append_cursor(cursors, row, column, id)?;
        }
        let mut size = 0;
        let mut misfit = None;
        let cells = row.cells().map(|(_, value)| value);
        for (index, (column, value)) in self.builder.columns.iter_mut().zip(cells).enumerate() {
            let (bytes, appended) = self.decoder.append(index, column, value);
            size += bytes;
            match appended {
                Err(Fault::Run(reason)) => {
                    let name = row
                        .columns()
                        .get(index)
                        .map(Column::name)
                        .unwrap_or_default();
                    return Err(beyond_refused(name, &reason));
                }
                Err(Fault::Row(reason)) if misfit.is_none() => misfit = Some((index, reason)),
                _ => {}
            }
        }
        let misfit = misfit.map(|(column, reason)| Misfit {
            column,
            reason,
            payload: payload(row),
        });
        self.builder.end_row(size, misfit);
        Ok(())
    }
}

/// The error for a value that ends the run, as the configuration wants it.
pub fn beyond_refused(column: &str, reason: &str) -> Error {
    Error::data(format!("column `{column}` holds {reason}")).hint(
        "set `source.beyond_microseconds: truncate`, or keep the digits as text with CONVERT(varchar(33), …, 126)",
    )
}

/// The error for a row whose cursor is none.
pub fn misplaced_cursor(column: &str, null: bool) -> Error {
    let what = if null {
        "NULL"
    } else {
        "a value of another type, or out of its range"
    };
    Error::data(format!("the cursor column `{column}` holds {what}")).hint(
        "compare it with `> @from` in the query, which leaves NULL out; a keyset's number must not be NULL either",
    )
}

/// The builder for a cursor over a column of this type.
pub fn build_cursors(cursor: &CursorConfig, column: SqlType) -> Result<CursorBuilder> {
    let cursors = match cursor.kind {
        CursorKind::Integer if column.is_whole() => CursorBuilder::Integer(Vec::new()),
        CursorKind::Rowversion if matches!(column, SqlType::Rowversion | SqlType::Binary) => {
            CursorBuilder::Rowversion(Vec::new())
        }
        CursorKind::Timestamp => match column.time_form() {
            Some(form) => CursorBuilder::Time(Vec::new(), form),
            None => return Err(wrong_column(cursor, column)),
        },
        _ => return Err(wrong_column(cursor, column)),
    };
    Ok(match cursor.id {
        None => cursors,
        Some(_) => CursorBuilder::Keyset(Box::new(cursors), Vec::new()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime, Time};
    use tiberius::{ColumnData, ColumnType};

    use super::*;
    use crate::config::Clock;

    fn batches(sql_type: SqlType, cursor: bool) -> Batches {
        let request = ReadRequest {
            sql: String::new(),
            cursor: cursor.then(|| CursorConfig {
                column: "it".into(),
                kind: CursorKind::Timestamp,
                id: None,
                clock: Clock::Utc,
                settle_delay: Duration::ZERO,
            }),
            from: None,
            until: None,
            parameters: Vec::new(),
            range: None,
            batch_rows: 8,
            batch_bytes: 1 << 20,
        };
        let names = ["it".to_owned()];
        Batches::new(
            &names,
            vec![sql_type],
            &request,
            BeyondMicroseconds::Truncate,
        )
        .unwrap()
    }

    fn row(value: ColumnData<'static>) -> Row {
        Row::builder()
            .column("it", ColumnType::SSVariant, value)
            .build()
    }

    /// Times that the protocol has room for, but no server.
    fn no_times() -> Vec<(SqlType, ColumnData<'static>)> {
        let last = Date::new(0xFF_FFFF);
        let after = DateTime2::new(last, Time::new(0, 7));
        let late = DateTime2::new(Date::new(1), Time::new(864_000_000_000, 7));
        vec![
            (SqlType::Date, ColumnData::Date(Some(last))),
            (
                SqlType::Time(7),
                ColumnData::Time(Some(Time::new(u64::MAX, 0))),
            ),
            (
                SqlType::Time(0),
                ColumnData::Time(Some(Time::new(86_400, 0))),
            ),
            (
                SqlType::DateTime,
                ColumnData::DateTime(Some(DateTime::new(i32::MAX, 0))),
            ),
            (
                SqlType::DateTime,
                ColumnData::DateTime(Some(DateTime::new(i32::MIN, 0))),
            ),
            (
                SqlType::DateTime,
                ColumnData::DateTime(Some(DateTime::new(0, u32::MAX))),
            ),
            (
                SqlType::SmallDateTime,
                ColumnData::SmallDateTime(Some(SmallDateTime::new(0, 1_440))),
            ),
            (SqlType::DateTime2(7), ColumnData::DateTime2(Some(after))),
            (SqlType::DateTime2(7), ColumnData::DateTime2(Some(late))),
            (
                SqlType::DateTimeOffset(7),
                ColumnData::DateTimeOffset(Some(DateTimeOffset::new(after, 0))),
            ),
        ]
    }

    #[test]
    fn a_time_that_there_is_not_sets_its_row_aside() {
        for (sql_type, value) in no_times() {
            let mut batches = batches(sql_type, false);
            batches.push(&row(value.clone())).unwrap();
            batches.push(&row(ColumnData::I32(None))).unwrap();
            let batch = batches.builder.finish().unwrap();
            assert_eq!(batch.batch.num_rows(), 1, "{value:?}");
            let rejected = batch.rejected.first().unwrap();
            assert_eq!(rejected.reason, "a time out of range");
            assert_eq!(rejected.payload["it"], format!("{value:?}").as_str());
        }
    }

    #[test]
    fn a_time_that_there_is_not_is_no_cursor() {
        for (sql_type, value) in no_times() {
            if sql_type.time_form().is_some() {
                let error = batches(sql_type, true).push(&row(value)).unwrap_err();
                assert!(error.to_string().contains("out of its range"), "{error}");
            }
        }
    }

    #[test]
    fn money_that_is_no_number_is_not_zero() {
        let mut batches = batches(SqlType::Money, false);
        batches.push(&row(ColumnData::F64(Some(f64::NAN)))).unwrap();
        let batch = batches.builder.finish().unwrap();
        assert_eq!((batch.batch.num_rows(), batch.rejected.len()), (0, 1));
    }
}
