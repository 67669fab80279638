//! Collects decoded rows into Arrow batches of bounded size, with the cursor of each row and the rows that do not fit.
//!
//! What a source's value becomes is decided in that source; here is what all of them do with the result.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder,
    Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use arrow_select::filter::filter_record_batch;
use etl_plugin_api::Cursor;

use super::cursor::{CursorColumn, rowversion};
use super::time::TimeForm;
use super::{ReadRequest, SourceBatch, SourceRejection};
use crate::error::{Error, Result};

/// A column in the making.
#[derive(Debug)]
pub enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    /// With precision and scale.
    Decimal(Decimal128Builder, u8, i8),
    /// Days since 1970-01-01.
    Date32(Date32Builder),
    /// Microseconds since midnight.
    Time(Time64MicrosecondBuilder),
    /// Microseconds since 1970-01-01.
    Timestamp(TimestampMicrosecondBuilder, DataType),
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
}

impl ColumnBuilder {
    fn new(data_type: &DataType, rows: usize) -> Result<Self> {
        Ok(match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int16 => Self::Int16(Int16Builder::with_capacity(rows)),
            DataType::Int32 => Self::Int32(Int32Builder::with_capacity(rows)),
            DataType::Int64 => Self::Int64(Int64Builder::with_capacity(rows)),
            DataType::Float32 => Self::Float32(Float32Builder::with_capacity(rows)),
            DataType::Float64 => Self::Float64(Float64Builder::with_capacity(rows)),
            DataType::Decimal128(precision, scale) => Self::Decimal(
                Decimal128Builder::with_capacity(rows).with_data_type(data_type.clone()),
                *precision,
                *scale,
            ),
            DataType::Date32 => Self::Date32(Date32Builder::with_capacity(rows)),
            DataType::Time64(TimeUnit::Microsecond) => {
                Self::Time(Time64MicrosecondBuilder::with_capacity(rows))
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Timestamp(timestamps(data_type, rows), data_type.clone())
            }
            DataType::Utf8 => Self::Utf8(StringBuilder::with_capacity(rows, rows * 16)),
            DataType::Binary => Self::Binary(BinaryBuilder::with_capacity(rows, rows * 16)),
            other => {
                return Err(Error::internal(format!(
                    "no source makes columns of {other}"
                )));
            }
        })
    }

    /// Appends NULL.
    pub fn append_null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Decimal(builder, ..) => builder.append_null(),
            Self::Date32(builder) => builder.append_null(),
            Self::Time(builder) => builder.append_null(),
            Self::Timestamp(builder, _) => builder.append_null(),
            Self::Utf8(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
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
            Self::Boolean(builder) => renew!(builder, BooleanBuilder::with_capacity(rows)),
            Self::Int16(builder) => renew!(builder, Int16Builder::with_capacity(rows)),
            Self::Int32(builder) => renew!(builder, Int32Builder::with_capacity(rows)),
            Self::Int64(builder) => renew!(builder, Int64Builder::with_capacity(rows)),
            Self::Float32(builder) => renew!(builder, Float32Builder::with_capacity(rows)),
            Self::Float64(builder) => renew!(builder, Float64Builder::with_capacity(rows)),
            // Its precision is set already, so it is emptied in place.
            Self::Decimal(builder, ..) => Arc::new(builder.finish()),
            Self::Date32(builder) => renew!(builder, Date32Builder::with_capacity(rows)),
            Self::Time(builder) => renew!(builder, Time64MicrosecondBuilder::with_capacity(rows)),
            Self::Timestamp(builder, data_type) => renew!(builder, timestamps(data_type, rows)),
            Self::Utf8(builder) => {
                let bytes = room_for_text(builder.values_slice().len());
                renew!(builder, StringBuilder::with_capacity(rows, bytes))
            }
            Self::Binary(builder) => {
                let bytes = room_for_text(builder.values_slice().len());
                renew!(builder, BinaryBuilder::with_capacity(rows, bytes))
            }
        }
    }
}

fn timestamps(data_type: &DataType, rows: usize) -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(data_type.clone())
}

/// A little more than the last batch had; one with a huge value says nothing about the next.
fn room_for_text(last: usize) -> usize {
    (last + last / 8).min(8 << 20)
}

/// The cursors of a batch in the making.
#[derive(Debug)]
pub enum CursorBuilder {
    /// Numbers.
    Integer(Vec<i64>),
    /// The source's own text.
    Text(StringBuilder),
    /// Ticks.
    Time(Vec<i64>, TimeForm),
    /// SQL Server's `rowversion`.
    Rowversion(Vec<u64>),
    /// Times and numbers.
    Keyset(Box<CursorBuilder>, Vec<i64>),
}

impl CursorBuilder {
    fn finish(&mut self, rows: usize) -> CursorColumn {
        match self {
            Self::Integer(values) => CursorColumn::Integer(renew(values, rows)),
            Self::Text(values) => {
                let fresh = StringBuilder::with_capacity(rows, values.values_slice().len());
                CursorColumn::Text(std::mem::replace(values, fresh).finish())
            }
            Self::Time(values, form) => CursorColumn::Time(renew(values, rows), *form),
            Self::Rowversion(values) => CursorColumn::Rowversion(renew(values, rows)),
            Self::Keyset(times, ids) => {
                CursorColumn::Keyset(Box::new(times.finish(rows)), renew(ids, rows))
            }
        }
    }

    /// The cursor of the last row.
    fn last(&self) -> Option<Cursor> {
        match self {
            Self::Integer(values) => values.last().map(|value| Cursor::Integer(*value)),
            Self::Text(values) => {
                let start = *values.offsets_slice().iter().rev().nth(1)?;
                let bytes = values.values_slice().get(usize::try_from(start).ok()?..)?;
                Some(Cursor::Text(std::str::from_utf8(bytes).ok()?.to_owned()))
            }
            Self::Time(values, form) => values.last().map(|ticks| Cursor::Text(form.write(*ticks))),
            Self::Rowversion(values) => values.last().map(|value| rowversion(*value)),
            Self::Keyset(times, ids) => match (times.last()?, ids.last()?) {
                (Cursor::Text(time), id) => Some(Cursor::Keyset { time, id: *id }),
                _ => None,
            },
        }
    }
}

fn renew<T>(values: &mut Vec<T>, rows: usize) -> Vec<T> {
    std::mem::replace(values, Vec::with_capacity(rows))
}

/// A value that does not fit its column.
#[derive(Debug)]
pub struct Misfit {
    /// The column's place.
    pub column: usize,
    /// Why.
    pub reason: String,
    /// The whole row, for quarantine.
    pub payload: serde_json::Value,
}

/// Collects rows into batches.
#[derive(Debug)]
pub struct BatchBuilder {
    schema: SchemaRef,
    /// The columns; every row appends to each of them once, then calls [`Self::end_row`].
    pub columns: Vec<ColumnBuilder>,
    /// The cursors; every row appends to them once.
    pub cursors: Option<CursorBuilder>,
    most_rows: usize,
    most_bytes: usize,
    rows: usize,
    bytes: usize,
    keep: Vec<bool>,
    rejected: Vec<SourceRejection>,
}

impl BatchBuilder {
    /// A builder of batches as large as the request allows.
    pub fn new(
        schema: SchemaRef,
        cursors: Option<CursorBuilder>,
        request: &ReadRequest,
    ) -> Result<Self> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| ColumnBuilder::new(field.data_type(), request.batch_rows))
            .collect::<Result<_>>()?;
        Ok(Self {
            schema,
            columns,
            cursors,
            most_rows: request.batch_rows,
            most_bytes: request.batch_bytes,
            rows: 0,
            bytes: 0,
            keep: Vec::new(),
            rejected: Vec::new(),
        })
    }

    /// The columns' names and types.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether the batch should be taken before the next row.
    pub fn is_full(&self) -> bool {
        self.rows >= self.most_rows || self.bytes >= self.most_bytes
    }

    /// Ends a row of about so many bytes. One with a misfit goes to quarantine.
    pub fn end_row(&mut self, bytes: usize, misfit: Option<Misfit>) {
        self.rows += 1;
        self.bytes += bytes;
        let Some(misfit) = misfit else { return };
        self.keep.resize(self.rows - 1, true);
        self.keep.push(false);
        let field = self.schema.fields().get(misfit.column);
        self.rejected.push(SourceRejection {
            column: field.map(|field| field.name().clone()).unwrap_or_default(),
            reason: misfit.reason,
            payload: misfit.payload,
            cursor: self.cursors.as_ref().and_then(CursorBuilder::last),
        });
    }

    /// Takes the rows collected so far.
    pub fn finish(&mut self) -> Result<SourceBatch> {
        let most = self.most_rows;
        let columns = self
            .columns
            .iter_mut()
            .map(|column| column.finish(most))
            .collect();
        let mut batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let mut cursors = self.cursors.as_mut().map(|cursors| cursors.finish(most));
        if !self.rejected.is_empty() {
            self.keep.resize(self.rows, true);
            batch = filter_record_batch(&batch, &BooleanArray::from(self.keep.clone()))?;
            cursors = cursors.map(|cursors| cursors.select(&self.keep));
        }
        self.rows = 0;
        self.bytes = 0;
        self.keep.clear();
        Ok(SourceBatch {
            batch,
            cursors,
            rejected: std::mem::take(&mut self.rejected),
        })
    }
}

/// The place of the cursor's column among those of a statement.
pub fn cursor_index(schema: &SchemaRef, column: &str) -> Result<usize> {
    schema.index_of(column).map_err(|_| {
        Error::config(format!(
            "the query returns no column `{column}`, which is the cursor"
        ))
        .hint("add the column to the query, or correct `cursor` in the configuration")
    })
}
