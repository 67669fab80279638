//! Turns rows in the server's binary form into Arrow batches, straight from the bytes they came in.
//!
//! A value that its Arrow type cannot hold (an infinite date, NaN as a decimal) sets its row aside. In the cursor's
//! column it ends the attempt: nothing can be read after it.

use std::error::Error as StdError;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use serde_json::{Value as Json, json};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
use uuid::Uuid;

use super::describe::{Prepared, Window};
use super::text::{Numeric, address, hardware_address, interval, time_of_day, time_with_zone};
use super::types::{CursorType, SqlType};
use crate::config::Cursor as CursorConfig;
use crate::error::{Error, Result};
use crate::literal::hex;
use crate::source::batch::{BatchBuilder, ColumnBuilder, CursorBuilder, Misfit, cursor_index};
use crate::source::time::{DAYS_TO_1970, LAST_TICK, TICKS_PER_DAY, TICKS_TO_1970, TimeForm};
use crate::source::{ReadRequest, SourceBatch};

/// 2000-01-01, the server's zero of time, in days and microseconds since 1970-01-01.
const DAYS_TO_2000: i32 = 10_957;
const MICROS_TO_2000: i64 = 946_684_800_000_000;
const TICKS_PER_MICRO: i64 = 10;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A value, or why it does not fit.
pub type Fit<T> = std::result::Result<T, &'static str>;

/// A value as it came, whatever its type.
#[derive(Clone, Copy)]
pub struct Raw<'a>(pub &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(
        _: &Type,
        raw: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// So many bytes.
pub fn fixed<const N: usize>(raw: &[u8]) -> Fit<[u8; N]> {
    raw.try_into()
        .map_err(|_| "a value of an unexpected length")
}

/// The ticks of an instant or a time, in microseconds since 2000-01-01, without a look at its limits.
pub fn ticks_of_micros(micros: i64) -> Option<i64> {
    micros
        .checked_add(MICROS_TO_2000)?
        .checked_mul(TICKS_PER_MICRO)?
        .checked_add(TICKS_TO_1970)
}

/// Turns rows into batches.
pub struct Decoder {
    builder: BatchBuilder,
    types: Vec<SqlType>,
    cursor: Option<DecodedCursor>,
}

/// Where the cursor is in a row.
struct DecodedCursor {
    config: CursorConfig,
    column: usize,
    /// For a keyset.
    id: usize,
}

impl Decoder {
    /// A decoder for the rows of a statement.
    pub fn new(prepared: &Prepared, request: &ReadRequest) -> Result<Self> {
        let fields: Vec<_> = prepared
            .columns
            .iter()
            .map(|(name, sql_type)| sql_type.field(name))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let cursor = match &request.cursor {
            Some(config) => Some(DecodedCursor {
                column: cursor_index(&schema, &config.column)?,
                id: match &config.id {
                    Some(id) => cursor_index(&schema, id)?,
                    None => 0,
                },
                config: config.clone(),
            }),
            None => None,
        };
        let cursors = prepared.window.map(|Window { cursor, id }| {
            let values = cursor.form().map_or_else(
                || CursorBuilder::Integer(Vec::new()),
                |form| CursorBuilder::Time(Vec::new(), form),
            );
            match id {
                Some(_) => CursorBuilder::Keyset(Box::new(values), Vec::new()),
                None => values,
            }
        });
        Ok(Self {
            builder: BatchBuilder::new(schema, cursors, request)?,
            types: prepared.columns.iter().map(|(_, known)| *known).collect(),
            cursor,
        })
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.builder.schema().clone()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// Whether the batch should be taken before the next row.
    pub fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    /// Takes a row.
    pub fn push(&mut self, row: &Row) -> Result<()> {
        self.push_cursor(row)?;
        let mut misfit = None;
        let columns = self.builder.columns.iter_mut().zip(&self.types);
        for (index, (column, sql_type)) in columns.enumerate() {
            let appended = match raw(row, index)? {
                None => {
                    column.append_null();
                    Ok(())
                }
                Some(raw) => append(column, *sql_type, raw).inspect_err(|_| column.append_null()),
            };
            if let (Err(reason), None) = (appended, &misfit) {
                misfit = Some((index, reason));
            }
        }
        let misfit = misfit
            .map(|(column, reason)| {
                Ok::<_, Error>(Misfit {
                    column,
                    reason: reason.to_owned(),
                    payload: payload(self.builder.schema(), &self.types, row)?,
                })
            })
            .transpose()?;
        self.builder.end_row(row.raw_size_bytes(), misfit);
        Ok(())
    }

    fn push_cursor(&mut self, row: &Row) -> Result<()> {
        let (Some(cursor), Some(cursors)) = (&self.cursor, &mut self.builder.cursors) else {
            return Ok(());
        };
        let name = &cursor.config.column;
        let value = |name: &str, index: usize, read: fn(SqlType, &[u8]) -> Fit<i64>| {
            let sql_type = self.types.get(index).copied().unwrap_or(SqlType::Text);
            raw(row, index)?
                .map_or(Err("NULL"), |raw| read(sql_type, raw))
                .map_err(|reason| no_cursor(name, reason))
        };
        match cursors {
            CursorBuilder::Integer(values) => values.push(value(name, cursor.column, whole)?),
            CursorBuilder::Time(values, _) => values.push(value(name, cursor.column, ticks)?),
            CursorBuilder::Keyset(times, ids) => {
                let id = cursor.config.id.as_deref().unwrap_or_default();
                ids.push(value(id, cursor.id, whole)?);
                if let CursorBuilder::Time(values, _) = times.as_mut() {
                    values.push(value(name, cursor.column, ticks)?);
                }
            }
            CursorBuilder::Text(_) | CursorBuilder::Rowversion(_) => {
                return Err(Error::internal("a cursor of another source"));
            }
        }
        Ok(())
    }

    /// Takes the rows collected so far.
    pub fn finish(&mut self) -> Result<SourceBatch> {
        self.builder.finish()
    }
}

/// The error for a row that has no position.
fn no_cursor(column: &str, reason: &str) -> Error {
    Error::data(format!(
        "the cursor column `{column}` holds {reason}, after which no row can be read"
    ))
    .hint("leave such rows out in `source.query`, or put them right")
}

fn raw(row: &Row, index: usize) -> Result<Option<&[u8]>> {
    Ok(row.try_get::<_, Option<Raw<'_>>>(index)?.map(|raw| raw.0))
}

/// A whole number of a cursor's column.
pub fn whole(sql_type: SqlType, raw: &[u8]) -> Fit<i64> {
    match sql_type {
        SqlType::Int2 => Ok(i16::from_be_bytes(fixed(raw)?).into()),
        SqlType::Int4 => Ok(i32::from_be_bytes(fixed(raw)?).into()),
        SqlType::Int8 => Ok(i64::from_be_bytes(fixed(raw)?)),
        SqlType::Decimal(precision, 0) => {
            let value = Numeric::read(raw)?.decimal(precision, 0)?;
            i64::try_from(value).map_err(|_| "a number beyond 64 bits")
        }
        _ => Err("no whole number"),
    }
}

/// A time of a cursor's column, in ticks.
fn ticks(sql_type: SqlType, raw: &[u8]) -> Fit<i64> {
    let ticks = if sql_type == SqlType::Date {
        let days = i32::from_be_bytes(fixed(raw)?);
        match days {
            i32::MAX => return Err("infinity"),
            i32::MIN => return Err("-infinity"),
            days => (i64::from(days) + i64::from(DAYS_TO_2000) + DAYS_TO_1970)
                .saturating_mul(TICKS_PER_DAY),
        }
    } else {
        match i64::from_be_bytes(fixed(raw)?) {
            i64::MAX => return Err("infinity"),
            i64::MIN => return Err("-infinity"),
            micros => ticks_of_micros(micros).unwrap_or(if micros < 0 { -1 } else { i64::MAX }),
        }
    };
    match ticks {
        ..0 => Err("a time before the year 1"),
        0..=LAST_TICK => Ok(ticks),
        _ => Err("a time after the year 9999"),
    }
}

fn append(column: &mut ColumnBuilder, sql_type: SqlType, raw: &[u8]) -> Fit<()> {
    match column {
        ColumnBuilder::Boolean(builder) => builder.append_value(fixed(raw)? != [0]),
        ColumnBuilder::Int16(builder) => builder.append_value(i16::from_be_bytes(fixed(raw)?)),
        ColumnBuilder::Int32(builder) => builder.append_value(i32::from_be_bytes(fixed(raw)?)),
        ColumnBuilder::Int64(builder) => builder.append_value(match sql_type {
            SqlType::Oid => u32::from_be_bytes(fixed(raw)?).into(),
            _ => i64::from_be_bytes(fixed(raw)?),
        }),
        ColumnBuilder::Float32(builder) => builder.append_value(f32::from_be_bytes(fixed(raw)?)),
        ColumnBuilder::Float64(builder) => builder.append_value(f64::from_be_bytes(fixed(raw)?)),
        ColumnBuilder::Decimal(builder, precision, scale) => {
            builder.append_value(Numeric::read(raw)?.decimal(*precision, *scale)?);
        }
        ColumnBuilder::Date32(builder) => builder.append_value(days(raw)?),
        ColumnBuilder::Time(builder) => builder.append_value(time(raw)?),
        ColumnBuilder::Timestamp(builder, _) => builder.append_value(micros(raw)?),
        ColumnBuilder::Binary(builder) => builder.append_value(raw),
        ColumnBuilder::Utf8(builder) => match sql_type {
            SqlType::Char if raw == [0] => builder.append_value(""),
            SqlType::Text | SqlType::Char | SqlType::Json => builder.append_value(utf8(raw)?),
            SqlType::Jsonb => builder.append_value(utf8(jsonb(raw)?)?),
            SqlType::Uuid => {
                let mut buffer = Uuid::encode_buffer();
                let uuid = Uuid::from_bytes(fixed(raw)?);
                builder.append_value(uuid.hyphenated().encode_lower(&mut buffer));
            }
            other => builder.append_value(written(other, raw)?),
        },
    }
    Ok(())
}

/// Days since 1970-01-01.
fn days(raw: &[u8]) -> Fit<i32> {
    match i32::from_be_bytes(fixed(raw)?) {
        i32::MAX | i32::MIN => Err("an infinite date"),
        days => days.checked_add(DAYS_TO_2000).ok_or("a date out of range"),
    }
}

/// Microseconds since 1970-01-01.
fn micros(raw: &[u8]) -> Fit<i64> {
    match i64::from_be_bytes(fixed(raw)?) {
        i64::MAX | i64::MIN => Err("an infinite time"),
        micros => micros
            .checked_add(MICROS_TO_2000)
            .ok_or("a time out of range"),
    }
}

/// Microseconds since midnight.
fn time(raw: &[u8]) -> Fit<i64> {
    match i64::from_be_bytes(fixed(raw)?) {
        micros @ 0..MICROS_PER_DAY => Ok(micros),
        _ => Err("24:00:00, which is no time of a day"),
    }
}

fn utf8(raw: &[u8]) -> Fit<&str> {
    std::str::from_utf8(raw).map_err(|_| "text that is not UTF-8")
}

/// The text behind the version of the binary form.
fn jsonb(raw: &[u8]) -> Fit<&[u8]> {
    raw.strip_prefix(&[1]).ok_or("jsonb of an unknown version")
}

/// A value that is not text by itself.
fn written(sql_type: SqlType, raw: &[u8]) -> Fit<String> {
    match sql_type {
        SqlType::Decimal(..) | SqlType::Number => Ok(Numeric::read(raw)?.write()),
        SqlType::Time => fixed(raw).map(|raw| time_of_day(i64::from_be_bytes(raw))),
        SqlType::TimeTz => time_with_zone(raw),
        SqlType::Interval => interval(raw),
        SqlType::Inet => address(raw),
        SqlType::MacAddr => Ok(hardware_address(raw)),
        SqlType::Uuid => Ok(Uuid::from_bytes(fixed(raw)?).to_string()),
        SqlType::Jsonb => utf8(jsonb(raw)?).map(str::to_owned),
        SqlType::Date | SqlType::Timestamp(_) | SqlType::Timestamptz(_) => {
            let form = sql_type.cursor().and_then(CursorType::form);
            ticks(sql_type, raw).map(|ticks| form.unwrap_or(TimeForm::DATE).write(ticks))
        }
        _ => utf8(raw).map(str::to_owned),
    }
}

/// The row as JSON, in a form that loses nothing: what has no text of its own as hexadecimal digits of its bytes.
fn payload(schema: &Schema, types: &[SqlType], row: &Row) -> Result<Json> {
    let mut object = serde_json::Map::new();
    for (index, (field, sql_type)) in schema.fields().iter().zip(types).enumerate() {
        let value = raw(row, index)?.map_or(Json::Null, |raw| as_json(*sql_type, raw));
        object.insert(field.name().clone(), value);
    }
    Ok(object.into())
}

fn as_json(sql_type: SqlType, raw: &[u8]) -> Json {
    let value = match sql_type {
        SqlType::Bool => fixed(raw).map(|raw| json!(raw != [0])),
        SqlType::Int2 | SqlType::Int4 | SqlType::Int8 => {
            whole(sql_type, raw).map(|value| json!(value))
        }
        SqlType::Oid => fixed(raw).map(|raw| json!(u32::from_be_bytes(raw))),
        SqlType::Float4 => fixed(raw).map(|raw| float(f32::from_be_bytes(raw).into())),
        SqlType::Float8 => fixed(raw).map(|raw| float(f64::from_be_bytes(raw))),
        SqlType::Bytea => Err("bytes"),
        other => written(other, raw).map(Json::String),
    };
    // NaN and the infinities by their name, as the server writes them.
    value.unwrap_or_else(|reason| match (sql_type, reason) {
        (SqlType::Decimal(..) | SqlType::Number, _) => json!(special_number(raw)),
        (
            SqlType::Date | SqlType::Timestamp(_) | SqlType::Timestamptz(_),
            "infinity" | "-infinity",
        ) => {
            json!(reason)
        }
        _ => json!({ "hex": hex(raw) }),
    })
}

fn float(value: f64) -> Json {
    if value.is_finite() {
        json!(value)
    } else {
        json!(value.to_string())
    }
}

fn special_number(raw: &[u8]) -> &'static str {
    match raw.get(4) {
        Some(0xd0) => "Infinity",
        Some(0xf0) => "-Infinity",
        _ => "NaN",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_place_in_a_cursor_is_told() {
        for (value, reason) in [
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
            (i64::MIN + 1, "a time before the year 1"),
            (i64::MAX - 1, "a time after the year 9999"),
        ] {
            let raw = value.to_be_bytes();
            assert_eq!(ticks(SqlType::Timestamp(6), &raw), Err(reason));
        }
        assert_eq!(
            ticks(SqlType::Date, &i32::MAX.to_be_bytes()),
            Err("infinity")
        );
        assert_eq!(
            ticks(SqlType::Date, &(i32::MAX - 1).to_be_bytes()),
            Err("a time after the year 9999")
        );
        assert!(ticks(SqlType::Date, &[0; 3]).is_err());
    }

    #[test]
    fn the_server_s_zero_is_the_year_2000() {
        let form = TimeForm::utc(6);
        let zero = ticks(SqlType::Timestamptz(6), &[0; 8]).unwrap();
        assert_eq!(form.write(zero), "2000-01-01T00:00:00.000000Z");
        assert_eq!(
            ticks(SqlType::Date, &[0; 4]).map(|ticks| TimeForm::DATE.write(ticks)),
            Ok("2000-01-01".to_owned())
        );
        assert_eq!(days(&[0; 4]), Ok(10_957));
    }

    #[test]
    fn a_row_set_aside_keeps_what_it_held() {
        assert_eq!(as_json(SqlType::Bytea, &[1, 255]), json!({ "hex": "01ff" }));
        assert_eq!(as_json(SqlType::Text, &[255]), json!({ "hex": "ff" }));
        let infinite = [0, 0, 0, 0, 0xf0, 0, 0, 0];
        assert_eq!(as_json(SqlType::Number, &infinite), json!("-Infinity"));
        let infinite = i64::MAX.to_be_bytes();
        assert_eq!(as_json(SqlType::Timestamp(6), &infinite), json!("infinity"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            for sql_type in [
                SqlType::Bool, SqlType::Int2, SqlType::Int4, SqlType::Int8, SqlType::Oid, SqlType::Float4,
                SqlType::Float8, SqlType::Decimal(38, 10), SqlType::Decimal(5, 0), SqlType::Number, SqlType::Text,
                SqlType::Bytea, SqlType::Uuid, SqlType::Json, SqlType::Jsonb, SqlType::Date, SqlType::Time,
                SqlType::TimeTz, SqlType::Timestamp(6), SqlType::Timestamptz(3), SqlType::Interval, SqlType::Inet,
                SqlType::MacAddr,
            ] {
                let _ = (as_json(sql_type, &raw), whole(sql_type, &raw), ticks(sql_type, &raw));
                if let Ok(number) = Numeric::read(&raw) {
                    let _ = number.decimal(38, 10);
                }
            }
        }

        #[test]
        fn microseconds_and_ticks_are_the_same_time(micros in -63_082_281_600_000_000i64..252_455_616_000_000_000) {
            let form = TimeForm::local(6);
            let ticks = ticks(SqlType::Timestamp(6), &micros.to_be_bytes()).unwrap();
            prop_assert_eq!(form.parse(&form.write(ticks)), Some(ticks));
            prop_assert_eq!((ticks - TICKS_TO_1970) / 10, micros + MICROS_TO_2000);
        }
    }
}
