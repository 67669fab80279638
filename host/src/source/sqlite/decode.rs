//! Rows of `SQLite` into Arrow columns.
//!
//! A column's type comes from its declaration, since `SQLite` itself would keep any value in any column; an undeclared
//! one (an expression) takes the type of its first value that is not NULL. A value that does not fit rejects its row: nothing is
//! rounded, cut or turned into NULL.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_select::filter::filter_record_batch;
use etl_plugin_api::Cursor;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde_json::json;

use super::timestamp::{Shape, parse_days, parse_micros};
use super::wrong_cursor;
use crate::config::{Cursor as CursorConfig, CursorKind};
use crate::error::{Error, Result};
use crate::literal::hex;
use crate::source::{CursorColumn, SourceBatch, SourceRejection};

/// Integers up to here are exact as floating point numbers.
const EXACT_IN_F64: i64 = 1 << 53;

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

enum Column {
    Int64(Int64Builder),
    Float64(Float64Builder),
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
    Boolean(BooleanBuilder),
    Date32(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Decimal(Decimal128Builder, u8, i8),
}

impl Column {
    fn new(data_type: &DataType, rows: usize) -> Result<Self> {
        Ok(match data_type {
            DataType::Int64 => Self::Int64(Int64Builder::with_capacity(rows)),
            DataType::Float64 => Self::Float64(Float64Builder::with_capacity(rows)),
            DataType::Utf8 => Self::Utf8(StringBuilder::with_capacity(rows, rows * 16)),
            DataType::Binary => Self::Binary(BinaryBuilder::with_capacity(rows, rows * 16)),
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Date32 => Self::Date32(Date32Builder::with_capacity(rows)),
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows))
            }
            DataType::Decimal128(precision, scale) => Self::Decimal(
                Decimal128Builder::with_capacity(rows)
                    .with_precision_and_scale(*precision, *scale)?,
                *precision,
                *scale,
            ),
            other => {
                return Err(Error::internal(format!(
                    "SQLite has no columns of type {other}"
                )));
            }
        })
    }

    /// Appends a value, or NULL with the reason why it does not fit.
    fn append(&mut self, value: ValueRef<'_>) -> std::result::Result<(), String> {
        let wrong =
            |expected: &str| format!("{} where {expected} is expected", storage_class(value));
        macro_rules! fit {
            ($builder:expr, $fitted:expr) => {
                match $fitted {
                    Ok(value) => {
                        $builder.append_option(value);
                        Ok(())
                    }
                    Err(reason) => {
                        $builder.append_null();
                        Err(reason)
                    }
                }
            };
        }
        match self {
            Self::Int64(builder) => fit!(
                builder,
                match value {
                    ValueRef::Null => Ok(None),
                    ValueRef::Integer(value) => Ok(Some(value)),
                    _ => Err(wrong("an integer")),
                }
            ),
            Self::Float64(builder) => fit!(
                builder,
                match value {
                    ValueRef::Null => Ok(None),
                    ValueRef::Real(value) => Ok(Some(value)),
                    #[expect(clippy::cast_precision_loss, reason = "checked to be exact")]
                    ValueRef::Integer(value) if value.abs() <= EXACT_IN_F64 =>
                        Ok(Some(value as f64)),
                    ValueRef::Integer(_) => Err(
                        "an integer beyond 2^53 in a column of floating point numbers".to_owned()
                    ),
                    _ => Err(wrong("a number")),
                }
            ),
            Self::Utf8(builder) => fit!(
                builder,
                match value {
                    ValueRef::Null => Ok(None),
                    ValueRef::Text(text) => std::str::from_utf8(text)
                        .map(Some)
                        .map_err(|_| "text that is not UTF-8".to_owned()),
                    _ => Err(wrong("text")),
                }
            ),
            Self::Binary(builder) => fit!(
                builder,
                match value {
                    ValueRef::Null => Ok(None),
                    ValueRef::Blob(bytes) => Ok(Some(bytes)),
                    _ => Err(wrong("a blob")),
                }
            ),
            Self::Boolean(builder) => fit!(
                builder,
                match value {
                    ValueRef::Null => Ok(None),
                    ValueRef::Integer(value @ (0 | 1)) => Ok(Some(value == 1)),
                    _ => Err(wrong("0 or 1")),
                }
            ),
            Self::Date32(builder) => fit!(
                builder,
                match value {
                    ValueRef::Null => Ok(None),
                    _ => text(value)
                        .and_then(parse_days)
                        .map(Some)
                        .ok_or_else(|| wrong("a date YYYY-MM-DD")),
                }
            ),
            Self::Timestamp(builder) => fit!(
                builder,
                match value {
                    ValueRef::Null => Ok(None),
                    _ => text(value)
                        .and_then(parse_micros)
                        .map(Some)
                        .ok_or_else(|| wrong(
                            "a time YYYY-MM-DD HH:MM:SS with at most six digits behind the second"
                        )),
                }
            ),
            Self::Decimal(builder, precision, scale) => fit!(
                builder,
                match value {
                    ValueRef::Null => Ok(None),
                    ValueRef::Integer(number) => decimal(&number.to_string(), *precision, *scale),
                    ValueRef::Real(number) => decimal(&number.to_string(), *precision, *scale),
                    _ => text(value)
                        .ok_or_else(|| wrong("a decimal number"))
                        .and_then(|text| decimal(text, *precision, *scale)),
                }
            ),
        }
    }

    /// Takes the column, and makes room for the next batch at once: growing step by step would scatter the heap.
    fn finish(&mut self, rows: usize) -> ArrayRef {
        macro_rules! renew {
            ($builder:expr, $fresh:expr) => {{
                let fresh = $fresh;
                let mut full = std::mem::replace($builder, fresh);
                Arc::new(full.finish())
            }};
        }
        match self {
            Self::Int64(builder) => renew!(builder, Int64Builder::with_capacity(rows)),
            Self::Float64(builder) => renew!(builder, Float64Builder::with_capacity(rows)),
            Self::Utf8(builder) => {
                let bytes = builder.values_slice().len();
                renew!(
                    builder,
                    StringBuilder::with_capacity(rows, bytes + bytes / 8)
                )
            }
            Self::Binary(builder) => {
                let bytes = builder.values_slice().len();
                renew!(
                    builder,
                    BinaryBuilder::with_capacity(rows, bytes + bytes / 8)
                )
            }
            Self::Boolean(builder) => renew!(builder, BooleanBuilder::with_capacity(rows)),
            Self::Date32(builder) => renew!(builder, Date32Builder::with_capacity(rows)),
            Self::Timestamp(builder) => {
                renew!(builder, TimestampMicrosecondBuilder::with_capacity(rows))
            }
            // Its precision is set already, so it is emptied in place.
            Self::Decimal(builder, ..) => Arc::new(builder.finish()),
        }
    }
}

fn text(value: ValueRef<'_>) -> Option<&str> {
    match value {
        ValueRef::Text(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// Reads a decimal number exactly.
fn decimal(text: &str, precision: u8, scale: i8) -> std::result::Result<Option<i128>, String> {
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
    Ok(Some(if negative { -value } else { value }))
}

enum Cursors {
    Integer(Vec<i64>),
    Text(StringBuilder),
}

/// Collects rows into batches.
pub struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    cursor: Option<(usize, CursorConfig, Cursors)>,
    shape: Option<Shape>,
    batch_rows: usize,
    rows: usize,
    keep: Vec<bool>,
    rejected: Vec<SourceRejection>,
}

impl Decoder {
    pub fn new(
        types: Vec<(String, DataType)>,
        cursor: Option<&CursorConfig>,
        shape: Option<Shape>,
        batch_rows: usize,
    ) -> Result<Self> {
        let columns = types
            .iter()
            .map(|(_, data_type)| Column::new(data_type, batch_rows))
            .collect::<Result<_>>()?;
        let fields: Vec<Field> = types
            .into_iter()
            .map(|(name, data_type)| Field::new(name, data_type, true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let cursor = cursor
            .map(|cursor| {
                let index = schema.index_of(&cursor.column).map_err(|_| {
                    Error::config(format!(
                        "the query returns no column `{}`, which is the cursor",
                        cursor.column
                    ))
                    .hint("add the column to the query, or correct `cursor.column`")
                })?;
                let cursors = match cursor.kind {
                    CursorKind::Integer => Cursors::Integer(Vec::with_capacity(batch_rows)),
                    _ => Cursors::Text(StringBuilder::new()),
                };
                Ok::<_, Error>((index, cursor.clone(), cursors))
            })
            .transpose()?;
        Ok(Self {
            schema,
            columns,
            cursor,
            shape,
            batch_rows,
            rows: 0,
            keep: Vec::new(),
            rejected: Vec::new(),
        })
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn push(&mut self, row: &Row<'_>) -> Result<()> {
        let cursor = self.push_cursor(row)?;
        let mut fault: Option<(usize, String)> = None;
        for (index, column) in self.columns.iter_mut().enumerate() {
            let result = column.append(row.get_ref(index)?);
            if let (Err(reason), None) = (result, &fault) {
                fault = Some((index, reason));
            }
        }
        self.rows += 1;
        if let Some((index, reason)) = fault {
            self.keep.resize(self.rows - 1, true);
            self.keep.push(false);
            self.rejected.push(SourceRejection {
                column: self
                    .schema
                    .fields()
                    .get(index)
                    .map(|f| f.name().clone())
                    .unwrap_or_default(),
                reason,
                payload: payload(&self.schema, row)?,
                cursor,
            });
        }
        Ok(())
    }

    fn push_cursor(&mut self, row: &Row<'_>) -> Result<Option<Cursor>> {
        let Some((index, config, cursors)) = &mut self.cursor else {
            return Ok(None);
        };
        let value = row.get_ref(*index)?;
        match (cursors, value) {
            (Cursors::Integer(values), ValueRef::Integer(value)) => {
                values.push(value);
                Ok(Some(Cursor::Integer(value)))
            }
            (Cursors::Text(values), ValueRef::Text(_)) => {
                let text = text(value).unwrap_or_default();
                if self.shape.is_some_and(|shape| !shape.fits(text)) {
                    return Err(Error::data(format!(
                        "the cursor column `{}` mixes times of several forms, so their order is not that of time",
                        config.column
                    ))
                    .hint("write all times of the column in one form"));
                }
                values.append_value(text);
                Ok(Some(Cursor::Text(text.to_owned())))
            }
            (Cursors::Integer(_), other) => Err(wrong_cursor(config, "an integer", other)),
            (Cursors::Text(_), other) => Err(wrong_cursor(config, "a time as text", other)),
        }
    }

    /// Takes the rows collected so far.
    pub fn finish(&mut self) -> Result<SourceBatch> {
        let columns: Vec<ArrayRef> = self
            .columns
            .iter_mut()
            .map(|column| column.finish(self.batch_rows))
            .collect();
        let mut batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let mut cursors = self.cursor.as_mut().map(|(_, _, cursors)| match cursors {
            Cursors::Integer(values) => CursorColumn::Integer(std::mem::replace(
                values,
                Vec::with_capacity(self.batch_rows),
            )),
            Cursors::Text(values) => {
                let fresh =
                    StringBuilder::with_capacity(self.batch_rows, values.values_slice().len());
                CursorColumn::Text(std::mem::replace(values, fresh).finish())
            }
        });
        if !self.rejected.is_empty() {
            self.keep.resize(self.rows, true);
            batch = filter_record_batch(&batch, &BooleanArray::from(self.keep.clone()))?;
            cursors = cursors.map(|cursors| keep_only(&cursors, &self.keep));
        }
        self.rows = 0;
        self.keep.clear();
        Ok(SourceBatch {
            batch,
            cursors,
            rejected: std::mem::take(&mut self.rejected),
        })
    }
}

fn keep_only(cursors: &CursorColumn, keep: &[bool]) -> CursorColumn {
    let kept = |row: &usize| keep.get(*row).copied().unwrap_or(true);
    match cursors {
        CursorColumn::Integer(values) => CursorColumn::Integer(
            values
                .iter()
                .enumerate()
                .filter(|(row, _)| kept(row))
                .map(|(_, value)| *value)
                .collect(),
        ),
        CursorColumn::Text(values) => CursorColumn::Text(
            (0..keep.len())
                .filter(kept)
                .map(|row| Some(values.value(row)))
                .collect(),
        ),
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
        assert_eq!(decimal("12.50", 10, 2), Ok(Some(1250)));
        assert_eq!(decimal("-0.01", 10, 2), Ok(Some(-1)));
        assert_eq!(decimal("7", 10, 2), Ok(Some(700)));
        assert_eq!(decimal("1.500", 3, 1), Ok(Some(15)));
        assert_eq!(
            decimal("12345678901234567890123456789012345678", 38, 0),
            Ok(Some(12_345_678_901_234_567_890_123_456_789_012_345_678))
        );
        for no in ["", ".", "1.234", "1e5", "abc", "123456789.00"] {
            assert!(decimal(no, 10, 2).is_err(), "{no}");
        }
    }
}
