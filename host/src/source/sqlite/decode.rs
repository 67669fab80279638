//! Rows of `SQLite` into Arrow columns.
//!
//! A column's type comes from its declaration, since `SQLite` itself would keep any value in any column; an undeclared
//! one (an expression) takes the type of its first value that is not NULL. A value that does not fit rejects its row: nothing is
//! rounded, cut or turned into NULL.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde_json::json;

use super::timestamp::{Shape, parse_days, parse_micros};
use super::wrong_cursor;
use crate::config::{Cursor as CursorConfig, CursorKind};
use crate::error::{Error, Result};
use crate::literal::hex;
use crate::source::batch::{BatchBuilder, ColumnBuilder, CursorBuilder, Misfit, cursor_index};
use crate::source::{ReadRequest, SourceBatch};

/// Integers up to here are exact as floating point numbers.
const EXACT_IN_F64: u64 = 1 << 53;

/// The Arrow type of a declared column type, <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>
/// extended by the words people declare times, dates, decimals and truth values with.
pub fn declared_type(declaration: &str) -> Option<DataType> {
    let word = declaration.trim().to_ascii_uppercase();
    if word.starts_with("TIMESTAMP") || word.starts_with("DATETIME") {
        return Some(DataType::Timestamp(TimeUnit::Microsecond, None));
    }
    if word == "DATE" {
        return Some(DataType::Date32);
    }
    if word.starts_with("BOOL") {
        return Some(DataType::Boolean);
    }
    if word.starts_with("DECIMAL") || word.starts_with("NUMERIC") {
        return Some(decimal_type(&word).unwrap_or(DataType::Float64));
    }
    let contains = |parts: &[&str]| parts.iter().any(|part| word.contains(part));
    if contains(&["INT"]) {
        Some(DataType::Int64)
    } else if contains(&["CHAR", "CLOB", "TEXT"]) {
        Some(DataType::Utf8)
    } else if contains(&["BLOB"]) {
        Some(DataType::Binary)
    } else if contains(&["REAL", "FLOA", "DOUB"]) {
        Some(DataType::Float64)
    } else {
        None
    }
}

/// `DECIMAL(p)` or `DECIMAL(p, s)` with at most 38 digits.
fn decimal_type(word: &str) -> Option<DataType> {
    let inner = word.split_once('(')?.1.strip_suffix(')')?;
    let (precision, scale) = inner.split_once(',').unwrap_or((inner, "0"));
    let precision: u8 = precision.trim().parse().ok()?;
    let scale: i8 = scale.trim().parse().ok()?;
    let valid = (1..=38).contains(&precision) && (0..=38).contains(&scale);
    (valid && i16::from(scale) <= i16::from(precision))
        .then_some(DataType::Decimal128(precision, scale))
}

/// The type of a value, for columns without a declaration.
pub fn value_type(value: ValueRef<'_>) -> DataType {
    match value {
        ValueRef::Integer(_) => DataType::Int64,
        ValueRef::Real(_) => DataType::Float64,
        ValueRef::Blob(_) => DataType::Binary,
        ValueRef::Null | ValueRef::Text(_) => DataType::Utf8,
    }
}

/// What `SQLite` calls the kind of a value.
pub fn storage_class(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Null => "NULL",
        ValueRef::Integer(_) => "an INTEGER",
        ValueRef::Real(_) => "a REAL",
        ValueRef::Text(_) => "a TEXT",
        ValueRef::Blob(_) => "a BLOB",
    }
}

/// Appends a value, or NULL with the reason why it does not fit.
fn append(column: &mut ColumnBuilder, value: ValueRef<'_>) -> std::result::Result<(), String> {
    if value == ValueRef::Null {
        column.append_null();
        return Ok(());
    }
    let appended = append_value(column, value);
    if appended.is_err() {
        column.append_null();
    }
    appended
}

fn append_value(
    column: &mut ColumnBuilder,
    value: ValueRef<'_>,
) -> std::result::Result<(), String> {
    let wrong = |expected: &str| format!("{} where {expected} is expected", storage_class(value));
    match column {
        ColumnBuilder::Int64(builder) => match value {
            ValueRef::Integer(value) => builder.append_value(value),
            _ => return Err(wrong("an integer")),
        },
        ColumnBuilder::Float64(builder) => match value {
            ValueRef::Real(value) => builder.append_value(value),
            #[expect(clippy::cast_precision_loss, reason = "checked to be exact")]
            ValueRef::Integer(value) if value.unsigned_abs() <= EXACT_IN_F64 => {
                builder.append_value(value as f64);
            }
            ValueRef::Integer(_) => {
                return Err("an integer beyond 2^53 in a column of floating point numbers".into());
            }
            _ => return Err(wrong("a number")),
        },
        ColumnBuilder::Utf8(builder) => match value {
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => builder.append_value(text),
                Err(_) => return Err("text that is not UTF-8".into()),
            },
            _ => return Err(wrong("text")),
        },
        ColumnBuilder::Binary(builder) => match value {
            ValueRef::Blob(bytes) => builder.append_value(bytes),
            _ => return Err(wrong("a blob")),
        },
        ColumnBuilder::Boolean(builder) => match value {
            ValueRef::Integer(value @ (0 | 1)) => builder.append_value(value == 1),
            _ => return Err(wrong("0 or 1")),
        },
        ColumnBuilder::Date32(builder) => match text(value).and_then(parse_days) {
            Some(days) => builder.append_value(days),
            None => return Err(wrong("a date YYYY-MM-DD")),
        },
        ColumnBuilder::Timestamp(builder, _) => {
            let form = "a time YYYY-MM-DD HH:MM:SS with at most six digits behind the second";
            let micros = text(value).and_then(parse_micros);
            builder.append_value(micros.ok_or_else(|| wrong(form))?);
        }
        ColumnBuilder::Decimal(builder, precision, scale) => {
            let number = match value {
                ValueRef::Integer(number) => decimal(&number.to_string(), *precision, *scale)?,
                ValueRef::Real(number) => decimal(&number.to_string(), *precision, *scale)?,
                _ => {
                    let text = text(value).ok_or_else(|| wrong("a decimal number"))?;
                    decimal(text, *precision, *scale)?
                }
            };
            builder.append_value(number);
        }
        ColumnBuilder::Int16(_)
        | ColumnBuilder::Int32(_)
        | ColumnBuilder::Float32(_)
        | ColumnBuilder::Time(_) => return Err(wrong("nothing")),
    }
    Ok(())
}

fn text(value: ValueRef<'_>) -> Option<&str> {
    match value {
        ValueRef::Text(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// Reads a decimal number exactly.
fn decimal(text: &str, precision: u8, scale: i8) -> std::result::Result<i128, String> {
    let wrong = || format!("a number that does not fit decimal({precision}, {scale})");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let places = usize::try_from(scale).unwrap_or(0);
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !all_digits(whole)
        || !all_digits(fraction)
        || fraction.len() > places
    {
        return Err(wrong());
    }
    let padded = format!("{whole}{fraction}{}", "0".repeat(places - fraction.len()));
    let significant = padded.trim_start_matches('0');
    if significant.len() > usize::from(precision) {
        return Err(wrong());
    }
    let value: i128 = if significant.is_empty() {
        0
    } else {
        significant.parse().map_err(|_| wrong())?
    };
    Ok(if negative { -value } else { value })
}

/// Turns rows into batches.
pub struct Decoder {
    builder: BatchBuilder,
    cursor: Option<DecodedCursor>,
    shape: Option<Shape>,
}

/// Where the cursor is in a row.
struct DecodedCursor {
    config: CursorConfig,
    column: usize,
    /// For a keyset.
    id: Option<usize>,
}

impl Decoder {
    pub fn new(
        types: Vec<(String, DataType)>,
        request: &ReadRequest,
        shape: Option<Shape>,
    ) -> Result<Self> {
        let fields: Vec<Field> = types
            .into_iter()
            .map(|(name, data_type)| Field::new(name, data_type, true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let cursor = match &request.cursor {
            Some(config) => Some(DecodedCursor {
                config: config.clone(),
                column: cursor_index(&schema, &config.column)?,
                id: config
                    .id
                    .as_ref()
                    .map(|id| cursor_index(&schema, id))
                    .transpose()?,
            }),
            None => None,
        };
        let cursors = cursor
            .as_ref()
            .map(|cursor| match (cursor.config.kind, cursor.id) {
                (CursorKind::Integer, _) => CursorBuilder::Integer(Vec::new()),
                (_, None) => CursorBuilder::Text(StringBuilder::new()),
                (_, Some(_)) => {
                    let times = CursorBuilder::Text(StringBuilder::new());
                    CursorBuilder::Keyset(Box::new(times), Vec::new())
                }
            });
        Ok(Self {
            builder: BatchBuilder::new(schema, cursors, request)?,
            cursor,
            shape,
        })
    }

    pub fn schema(&self) -> SchemaRef {
        self.builder.schema().clone()
    }

    pub fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.builder.is_full()
    }

    pub fn push(&mut self, row: &Row<'_>) -> Result<()> {
        self.push_cursor(row)?;
        let mut misfit = None;
        let mut size = 0;
        for (index, column) in self.builder.columns.iter_mut().enumerate() {
            let value = row.get_ref(index)?;
            size += match value {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
                _ => size_of::<i64>(),
            };
            if let (Err(reason), None) = (append(column, value), &misfit) {
                misfit = Some((index, reason));
            }
        }
        let misfit = misfit
            .map(|(column, reason)| {
                Ok::<_, Error>(Misfit {
                    column,
                    reason,
                    payload: payload(self.builder.schema(), row)?,
                })
            })
            .transpose()?;
        self.builder.end_row(size, misfit);
        Ok(())
    }

    fn push_cursor(&mut self, row: &Row<'_>) -> Result<()> {
        let (Some(cursor), Some(cursors)) = (&self.cursor, &mut self.builder.cursors) else {
            return Ok(());
        };
        let column = &cursor.config.column;
        let times = match cursors {
            CursorBuilder::Integer(values) => match row.get_ref(cursor.column)? {
                ValueRef::Integer(value) => {
                    values.push(value);
                    return Ok(());
                }
                other => return Err(wrong_cursor(column, "an integer", other)),
            },
            CursorBuilder::Keyset(times, ids) => {
                match row.get_ref(cursor.id.unwrap_or_default())? {
                    ValueRef::Integer(id) => ids.push(id),
                    other => {
                        let column = cursor.config.id.as_deref().unwrap_or_default();
                        return Err(wrong_cursor(column, "an integer", other));
                    }
                }
                times.as_mut()
            }
            times => times,
        };
        match (times, row.get_ref(cursor.column)?) {
            (CursorBuilder::Text(values), ValueRef::Text(bytes)) => {
                let text = std::str::from_utf8(bytes).unwrap_or_default();
                if self.shape.is_some_and(|shape| !shape.fits(text)) {
                    return Err(Error::data(format!(
                        "the cursor column `{column}` mixes times of several forms, so their order is not that of time"
                    ))
                    .hint("write all times of the column in one form"));
                }
                values.append_value(text);
                Ok(())
            }
            (_, other) => Err(wrong_cursor(column, "a time as text", other)),
        }
    }

    /// Takes the rows collected so far.
    pub fn finish(&mut self) -> Result<SourceBatch> {
        self.builder.finish()
    }
}

/// The row as JSON, in a form that loses nothing: bytes that are no text as hexadecimal digits.
fn payload(schema: &Schema, row: &Row<'_>) -> Result<serde_json::Value> {
    let mut object = serde_json::Map::new();
    for (index, field) in schema.fields().iter().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Null => serde_json::Value::Null,
            ValueRef::Integer(value) => json!(value),
            ValueRef::Real(value) => json!(value),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!({ "hex": hex(bytes) }),
            },
            ValueRef::Blob(bytes) => json!({ "hex": hex(bytes) }),
        };
        object.insert(field.name().clone(), value);
    }
    Ok(object.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_decide_the_type() {
        for (declared, expected) in [
            ("INTEGER", DataType::Int64),
            ("unsigned big int", DataType::Int64),
            ("VARCHAR(20)", DataType::Utf8),
            (
                "TIMESTAMP",
                DataType::Timestamp(TimeUnit::Microsecond, None),
            ),
            (
                "datetime2(7)",
                DataType::Timestamp(TimeUnit::Microsecond, None),
            ),
            ("DATE", DataType::Date32),
            ("DECIMAL(10, 2)", DataType::Decimal128(10, 2)),
            ("NUMERIC", DataType::Float64),
            ("DECIMAL(50,2)", DataType::Float64),
            ("DOUBLE PRECISION", DataType::Float64),
            ("BLOB", DataType::Binary),
            ("BOOLEAN", DataType::Boolean),
        ] {
            assert_eq!(declared_type(declared), Some(expected), "{declared}");
        }
        assert_eq!(declared_type("GEOMETRY"), None);
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(decimal("12.50", 10, 2), Ok(1250));
        assert_eq!(decimal("-0.01", 10, 2), Ok(-1));
        assert_eq!(decimal("7", 10, 2), Ok(700));
        assert_eq!(decimal("1.500", 3, 1), Ok(15));
        assert_eq!(
            decimal("12345678901234567890123456789012345678", 38, 0),
            Ok(12_345_678_901_234_567_890_123_456_789_012_345_678)
        );
        for no in ["", ".", "1.234", "1e5", "abc", "123456789.00"] {
            assert!(decimal(no, 10, 2).is_err(), "{no}");
        }
    }
}
