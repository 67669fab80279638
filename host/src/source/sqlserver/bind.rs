//! Parameters of a statement: the window in the type of the cursor's column, and what a plugin adds.
//!
//! The type decides what compares equal: a `datetime` of .003 is .0033333 beside a `datetime2`, so the boundary row would
//! come back for ever.

use std::borrow::Cow;

use etl_plugin_api::{Cursor, Value};
use tiberius::ColumnData;
use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime, Time};

use super::types::SqlType;
use crate::config::{Cursor as CursorConfig, CursorKind};
use crate::error::{Error, Result};
use crate::pool::Arguments;
use crate::source::time::{LAST_TICK, TICKS_PER_DAY, TICKS_PER_SECOND};
use crate::source::{Range, parse_rowversion, sql};

/// Days from 0001-01-01 to 1900-01-01, where the old types begin to count.
pub const DAYS_TO_1900: i64 = 693_595;
/// Thirds of a hundredth in a second: what `datetime` counts.
pub const DATETIME_PARTS: i64 = 300;

/// A parameter with the type it is declared with.
#[derive(Clone, Debug)]
pub struct Parameter {
    name: String,
    declaration: String,
    value: ColumnData<'static>,
}

/// The declarations of all parameters, as `sp_executesql` wants them.
pub fn declarations(parameters: &[Parameter]) -> String {
    let declared = parameters
        .iter()
        .map(|parameter| format!("@{} {}", parameter.name, parameter.declaration));
    declared.collect::<Vec<_>>().join(", ")
}

/// The procedure that runs a statement with parameters.
pub const EXECUTE: &str = "sp_executesql";

/// What [`EXECUTE`] is called with for a statement and its parameters.
pub fn build_arguments(sql: &str, parameters: &[Parameter]) -> Arguments {
    let mut arguments = vec![("@stmt".to_owned(), text(sql.to_owned()))];
    if !parameters.is_empty() {
        arguments.push(("@params".to_owned(), text(declarations(parameters))));
    }
    let own = |parameter: &Parameter| (format!("@{}", parameter.name), parameter.value.clone());
    arguments.extend(parameters.iter().map(own));
    arguments
}

/// A text as a value.
pub fn text(text: String) -> ColumnData<'static> {
    ColumnData::String(Some(Cow::Owned(text)))
}

/// The bounds of a read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds<'a> {
    pub from: Option<&'a Cursor>,
    pub until: Option<&'a Cursor>,
}

/// The window's parameters, as far as the statement uses them. Without a column's type the widest of the kind is taken.
pub fn window(
    statement: &str,
    cursor: &CursorConfig,
    column: Option<SqlType>,
    bounds: Bounds<'_>,
) -> Result<Vec<Parameter>> {
    let mut parameters = Vec::new();
    for name in sql::parameters(statement) {
        let value = match name.as_str() {
            "from" | "lastRun" => bound(cursor, column, bounds.from, End::First)?,
            "until" => bound(cursor, column, bounds.until, End::Last)?,
            "fromId" => {
                let id = match bounds.from {
                    Some(Cursor::Keyset { id, .. }) => *id,
                    _ => i64::MIN,
                };
                (SqlType::BigInt, ColumnData::I64(Some(id)))
            }
            _ => continue,
        };
        parameters.push(Parameter {
            name,
            declaration: value.0.declaration(),
            value: value.1,
        });
    }
    Ok(parameters)
}

/// The bounds of a range, in the type of its column: another one could keep an index from being used.
pub fn of_range(range: &Range, column: Option<SqlType>) -> Vec<Parameter> {
    let bind = |(name, value): (&str, i64)| {
        let own = column.filter(|column| fits(*column, value));
        Parameter {
            name: name.to_owned(),
            declaration: own.unwrap_or(SqlType::BigInt).declaration(),
            value: ColumnData::I64(Some(value)),
        }
    };
    range.parameters().map(bind).collect()
}

/// What a plugin's own query adds.
pub fn further(parameters: &[(String, Value)]) -> Result<Vec<Parameter>> {
    let bind = |(name, value): &(String, Value)| {
        let (declaration, value) = match value {
            Value::Null => ("nvarchar(4000)", ColumnData::String(None)),
            Value::Bool(value) => ("bit", ColumnData::Bit(Some(*value))),
            Value::Int(value) => ("bigint", ColumnData::I64(Some(*value))),
            Value::Float(value) => ("float", ColumnData::F64(Some(*value))),
            Value::Text(value) => {
                let declaration = if value.len() <= 4_000 {
                    "nvarchar(4000)"
                } else {
                    "nvarchar(max)"
                };
                (declaration, text(value.clone()))
            }
            _ => {
                return Err(Error::data(format!(
                    "parameter `{name}` has an unknown type"
                )));
            }
        };
        Ok(Parameter {
            name: name.clone(),
            declaration: declaration.to_owned(),
            value,
        })
    };
    parameters.iter().map(bind).collect()
}

/// Which end of the window, where it has none.
#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

fn bound(
    cursor: &CursorConfig,
    column: Option<SqlType>,
    bound: Option<&Cursor>,
    end: End,
) -> Result<(SqlType, ColumnData<'static>)> {
    match cursor.kind {
        CursorKind::Integer => {
            let (sql_type, value) = match (bound, end) {
                (Some(Cursor::Integer(value)), _) => {
                    let own = column.filter(|column| fits(*column, *value));
                    (own.unwrap_or(SqlType::BigInt), *value)
                }
                (Some(other), _) => return Err(foreign(cursor, other)),
                (None, End::First) => (SqlType::BigInt, i64::MIN),
                (None, End::Last) => (SqlType::BigInt, i64::MAX),
            };
            Ok((sql_type, ColumnData::I64(Some(value))))
        }
        CursorKind::Rowversion => {
            let value = match (bound, end) {
                (Some(Cursor::Text(text)), _) => parse_rowversion(text)
                    .ok_or_else(|| foreign(cursor, &Cursor::Text(text.clone())))?,
                (Some(other), _) => return Err(foreign(cursor, other)),
                (None, End::First) => 0,
                (None, End::Last) => u64::MAX,
            };
            let bytes = value.to_be_bytes().to_vec();
            Ok((
                SqlType::Rowversion,
                ColumnData::Binary(Some(Cow::Owned(bytes))),
            ))
        }
        CursorKind::Timestamp => {
            let text = match bound {
                Some(Cursor::Text(time) | Cursor::Keyset { time, .. }) => Some(time),
                Some(other) => return Err(foreign(cursor, other)),
                None => None,
            };
            let column = column.or_else(|| text.map(|text| type_of(text)));
            let sql_type = match (column, text) {
                // Before the first time of the old types there is one of the new.
                (Some(SqlType::DateTimeOffset(_)), None) => SqlType::DateTimeOffset(7),
                (_, None) | (None, _) => SqlType::DateTime2(7),
                (Some(column), Some(_)) => column,
            };
            let ticks = match (text, end) {
                (Some(text), _) => position(cursor, column.unwrap_or(SqlType::DateTime2(7)), text)?,
                (None, End::First) => 0,
                (None, End::Last) => LAST_TICK,
            };
            Ok((sql_type, time(sql_type, ticks)?))
        }
    }
}

/// The ticks of a checkpoint's text, which must be written as the column's times are, or it would compare wrongly.
pub fn position(cursor: &CursorConfig, column: SqlType, text: &str) -> Result<i64> {
    let form = column
        .time_form()
        .ok_or_else(|| wrong_column(cursor, column))?;
    form.parse(text).ok_or_else(|| {
        let error = Error::data(format!(
            "the position `{text}` is not written as the times of the cursor column `{}` ({}) are",
            cursor.column,
            column.declaration()
        ));
        match form.parse_any(text) {
            Some(ticks) => error.hint(format!(
                "set it as `{}` with `etl-host checkpoint set`",
                form.write(ticks)
            )),
            None => error.hint(format!(
                "set one such as `{}` with `etl-host checkpoint set`",
                form.write(crate::source::time::TICKS_TO_1970)
            )),
        }
    })
}

/// The type of the column that a checkpoint was taken from, where the server does not describe the statement: by what
/// [`SqlType::of`] makes of the driver's types, each is written in a form of its own.
pub fn type_of(position: &str) -> SqlType {
    match position.len() {
        10 => SqlType::Date,
        19 => SqlType::SmallDateTime,
        23 => SqlType::DateTime,
        _ if position.ends_with('Z') => SqlType::DateTimeOffset(7),
        _ => SqlType::DateTime2(7),
    }
}

/// The error for a cursor whose kind does not fit its column.
pub fn wrong_column(cursor: &CursorConfig, column: SqlType) -> Error {
    let kind = match cursor.kind {
        CursorKind::Timestamp => "times",
        CursorKind::Integer => "whole numbers",
        CursorKind::Rowversion => "a rowversion",
    };
    Error::config(format!(
        "the cursor column `{}` is {}, which does not hold {kind}",
        cursor.column,
        column.declaration()
    ))
    .hint("correct `cursor.column` or `cursor.kind`")
}

fn foreign(cursor: &CursorConfig, position: &Cursor) -> Error {
    Error::data(format!(
        "the checkpoint's position `{}` does not fit the cursor column `{}`",
        crate::checkpoint::display(position),
        cursor.column
    ))
    .hint("set one with `etl-host checkpoint set`, or start over with `etl-host checkpoint reset`")
}

fn fits(column: SqlType, value: i64) -> bool {
    match column {
        SqlType::TinyInt => u8::try_from(value).is_ok(),
        SqlType::SmallInt => i16::try_from(value).is_ok(),
        SqlType::Int => i32::try_from(value).is_ok(),
        SqlType::Decimal(precision, 0) => {
            value.unsigned_abs() < 10_u64.saturating_pow(u32::from(precision))
        }
        _ => false,
    }
}

/// A time in its column's type.
fn time(column: SqlType, ticks: i64) -> Result<ColumnData<'static>> {
    let out_of_range = || Error::data(format!("a time does not fit {}", column.declaration()));
    let (days, in_day) = (ticks / TICKS_PER_DAY, ticks % TICKS_PER_DAY);
    let date = u32::try_from(days)
        .map(Date::new)
        .map_err(|_| out_of_range())?;
    let datetime2 = |digits: u8| {
        let resolution = 10_i64.pow(7 - u32::from(digits.min(7)));
        let increments = u64::try_from(in_day / resolution).map_err(|_| out_of_range())?;
        Ok::<_, Error>(DateTime2::new(date, Time::new(increments, digits)))
    };
    Ok(match column {
        SqlType::Date => ColumnData::Date(Some(date)),
        SqlType::DateTime => {
            let days = i32::try_from(days - DAYS_TO_1900).map_err(|_| out_of_range())?;
            // Down to the value that is shown as at most these milliseconds: rounded up, a bound would pass rows by.
            let millis = in_day / (TICKS_PER_SECOND / 1_000);
            let parts = (3 * millis + 1) / 10;
            let parts = u32::try_from(parts).map_err(|_| out_of_range())?;
            ColumnData::DateTime(Some(DateTime::new(days, parts)))
        }
        SqlType::SmallDateTime => {
            let days = u16::try_from(days - DAYS_TO_1900).map_err(|_| out_of_range())?;
            let minutes =
                u16::try_from(in_day / (60 * TICKS_PER_SECOND)).map_err(|_| out_of_range())?;
            ColumnData::SmallDateTime(Some(SmallDateTime::new(days, minutes)))
        }
        SqlType::DateTime2(digits) => ColumnData::DateTime2(Some(datetime2(digits)?)),
        SqlType::DateTimeOffset(digits) => {
            ColumnData::DateTimeOffset(Some(DateTimeOffset::new(datetime2(digits)?, 0)))
        }
        _ => return Err(out_of_range()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Clock;

    fn cursor(kind: CursorKind) -> CursorConfig {
        CursorConfig {
            column: "at".into(),
            kind,
            id: None,
            clock: Clock::Utc,
            settle_delay: Duration::ZERO,
        }
    }

    fn bind(kind: CursorKind, column: SqlType, from: Option<&Cursor>) -> Result<Parameter> {
        let bounds = Bounds { from, until: None };
        let mut parameters = window("SELECT @from", &cursor(kind), Some(column), bounds)?;
        Ok(parameters.remove(0))
    }

    fn text(text: &str) -> Cursor {
        Cursor::Text(text.into())
    }

    #[test]
    fn every_part_of_a_datetime_comes_back_as_it_was() {
        for parts in 0..300_i64 {
            // As the server shows it: rounded to milliseconds.
            let millis = (parts * 10 + 1) / 3;
            let from = text(&format!("2024-01-31T10:00:00.{millis:03}"));
            let bound = bind(CursorKind::Timestamp, SqlType::DateTime, Some(&from)).unwrap();
            assert_eq!(bound.declaration, "datetime");
            let ColumnData::DateTime(Some(value)) = bound.value else {
                panic!("{bound:?}")
            };
            assert_eq!(i64::from(value.seconds_fragments()), 36_000 * 300 + parts);
        }
    }

    #[test]
    fn a_bound_between_two_values_of_a_datetime_is_the_lower_one() {
        for (millis, parts) in [
            ("000", 0),
            ("002", 0),
            ("003", 1),
            ("006", 1),
            ("007", 2),
            ("009", 2),
            ("999", 299),
        ] {
            let from = text(&format!("2024-01-31T23:59:59.{millis}"));
            let bound = bind(CursorKind::Timestamp, SqlType::DateTime, Some(&from)).unwrap();
            let ColumnData::DateTime(Some(value)) = bound.value else {
                panic!("{bound:?}")
            };
            assert_eq!(value.seconds_fragments(), 86_399 * 300 + parts, "{millis}");
        }
    }

    #[test]
    fn a_bound_has_the_type_of_its_column() {
        let bound = bind(
            CursorKind::Timestamp,
            SqlType::DateTime2(3),
            Some(&text("2024-01-31T10:00:00.123")),
        )
        .unwrap();
        assert_eq!(bound.declaration, "datetime2(3)");
        let bound = bind(
            CursorKind::Timestamp,
            SqlType::Date,
            Some(&text("2024-01-31")),
        )
        .unwrap();
        assert_eq!(bound.declaration, "date");
        let bound = bind(CursorKind::Integer, SqlType::Int, Some(&Cursor::Integer(7))).unwrap();
        assert_eq!(bound.declaration, "int");
        let bound = bind(
            CursorKind::Rowversion,
            SqlType::Rowversion,
            Some(&text("0x00000000000007D1")),
        )
        .unwrap();
        assert_eq!(bound.declaration, "binary(8)");
        // What lies before every row fits no narrow type.
        let bound = bind(CursorKind::Integer, SqlType::Int, None).unwrap();
        assert_eq!(bound.declaration, "bigint");
        let bound = bind(CursorKind::Timestamp, SqlType::DateTime, None).unwrap();
        assert_eq!(bound.declaration, "datetime2(7)");
    }

    #[test]
    fn bounds_of_a_range_have_the_type_of_its_column() {
        let range = Range::between("id", &[7, 3_000_000_000], 1);
        let declared = |column| declarations(&of_range(&range, column));
        assert_eq!(
            declared(Some(SqlType::Int)),
            "@rangeFrom int, @rangeUntil bigint"
        );
        assert_eq!(
            declared(Some(SqlType::Decimal(18, 0))),
            "@rangeFrom decimal(18,0), @rangeUntil decimal(18,0)"
        );
        let last = Range::between("id", &[7], 1);
        assert_eq!(declarations(&of_range(&last, None)), "@rangeFrom bigint");
    }

    #[test]
    fn a_position_tells_the_type_it_was_taken_from() {
        for column in [
            SqlType::Date,
            SqlType::SmallDateTime,
            SqlType::DateTime,
            SqlType::DateTime2(7),
            SqlType::DateTimeOffset(7),
        ] {
            let form = column.time_form().unwrap();
            assert_eq!(type_of(&form.write(0)), column);
        }
    }

    #[test]
    fn a_position_of_another_form_is_refused_with_the_right_one() {
        let error = bind(
            CursorKind::Timestamp,
            SqlType::DateTime2(3),
            Some(&text("2024-01-31")),
        )
        .unwrap_err();
        assert!(
            error
                .own_hint()
                .unwrap()
                .contains("`2024-01-31T00:00:00.000`")
        );
        assert!(
            bind(
                CursorKind::Timestamp,
                SqlType::Int,
                Some(&text("2024-01-31"))
            )
            .is_err()
        );
        assert!(bind(CursorKind::Integer, SqlType::Int, Some(&text("7"))).is_err());
    }
}
