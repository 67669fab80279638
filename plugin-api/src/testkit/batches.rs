//! Batches from literals, and as text.

use std::fmt::{self, Write};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A batch of rows, each a JSON array with a value for each column. Every column may be NULL.
///
/// Times and dates are texts as in RFC 3339 (`2026-03-29T01:30:00Z`; without `Z` for a column without a zone), decimals
/// texts too.
///
/// ```
/// use etl_plugin_api::prelude::*;
/// use etl_plugin_api::testkit::{batch, json};
///
/// let orders = batch(
///     &[("id", DataType::Int64), ("currency", DataType::Utf8)],
///     json!([[1, "EUR"], [2, null]]),
/// );
/// assert_eq!(orders.num_rows(), 2);
/// ```
///
/// # Panics
///
/// If the rows do not fit the columns, with the row and the reason: it is for tests.
#[expect(clippy::panic, reason = "for tests")]
pub fn batch(columns: &[(&str, DataType)], rows: Value) -> RecordBatch {
    let fields: Vec<FieldRef> = columns
        .iter()
        .map(|(name, kind)| Arc::new(Field::new(*name, kind.clone(), true)))
        .collect();
    let Value::Array(rows) = rows else {
        panic!("expected an array of rows");
    };
    let objects: Vec<Map<String, Value>> = rows
        .into_iter()
        .enumerate()
        .map(|(row, values)| match values {
            Value::Array(values) if values.len() == columns.len() => columns
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .zip(values)
                .collect(),
            Value::Array(values) => panic!(
                "row {row} has {} values, expected {}",
                values.len(),
                columns.len()
            ),
            _ => panic!("row {row} is no array of values"),
        })
        .collect();
    match serde_arrow::to_record_batch(&fields, &objects) {
        Ok(batch) => batch,
        Err(error) => panic!("the rows do not fit the columns: {}", error.message()),
    }
}

/// A batch as aligned text: a line of names, then one for each row. NULL is `NULL`, a time is as in RFC 3339.
pub fn text(batch: &RecordBatch) -> String {
    Aligned(batch).to_string()
}

/// See [`text`].
pub struct Aligned<'a>(pub &'a RecordBatch);

impl fmt::Display for Aligned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut columns = Vec::new();
        for (field, values) in self.0.schema_ref().fields().iter().zip(self.0.columns()) {
            let column = RecordBatch::try_from_iter_with_nullable([("v", values.clone(), true)]);
            let cells = column.map_err(|_| fmt::Error).and_then(|column| {
                // A time is a number, unless it is asked for as a text.
                if let Some(bytes) = bytes(values) {
                    Ok(bytes)
                } else if field.data_type().is_temporal() {
                    cells::<Option<String>>(&column, |text| {
                        text.unwrap_or_else(|| "NULL".to_owned())
                    })
                } else {
                    cells::<Value>(&column, cell)
                }
            })?;
            columns.push((field.name(), cells));
        }
        let mut lines: Vec<Vec<&str>> =
            vec![columns.iter().map(|(name, _)| name.as_str()).collect()];
        for row in 0..self.0.num_rows() {
            let cells = columns.iter().filter_map(|(_, cells)| cells.get(row));
            lines.push(cells.map(String::as_str).collect());
        }
        let widths: Vec<usize> = (0..columns.len())
            .map(|column| {
                let cells = lines.iter().filter_map(|line| line.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        for line in lines {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                write!(text, "  {cell:<width$}")?;
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Binary values in hexadecimal digits, if it is a column of such.
fn bytes(column: &ArrayRef) -> Option<Vec<String>> {
    let values: Vec<Option<&[u8]>> = match column.data_type() {
        DataType::Binary => column.as_binary::<i32>().iter().collect(),
        DataType::LargeBinary => column.as_binary::<i64>().iter().collect(),
        DataType::BinaryView => column.as_binary_view().iter().collect(),
        DataType::FixedSizeBinary(_) => column.as_fixed_size_binary().iter().collect(),
        _ => return None,
    };
    let digits = |value: &[u8]| {
        value
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    };
    let cells = values.into_iter();
    Some(
        cells
            .map(|value| value.map_or_else(|| "NULL".to_owned(), digits))
            .collect(),
    )
}

#[derive(Deserialize)]
struct Row<T> {
    v: T,
}

fn cells<T: DeserializeOwned>(
    column: &RecordBatch,
    text: impl Fn(T) -> String,
) -> Result<Vec<String>, fmt::Error> {
    let rows: Vec<Row<T>> = serde_arrow::from_record_batch(column).map_err(|_| fmt::Error)?;
    Ok(rows.into_iter().map(|row| text(row.v)).collect())
}

fn cell(value: Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => text.replace('\n', "\\n"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::TimeUnit;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_every_common_type_go_in_and_come_out() {
        let words = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let columns = [
            ("whole", DataType::Int16),
            ("float", DataType::Float64),
            ("yes", DataType::Boolean),
            ("money", DataType::Decimal128(12, 2)),
            (
                "at",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ),
            ("local", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("day", DataType::Date32),
            ("word", words),
        ];
        let rows = json!([
            [
                1,
                1.5,
                true,
                "12.50",
                "2026-03-29T01:30:00Z",
                "2026-03-29T01:30:00.25",
                "2026-03-29",
                "a"
            ],
            [null, null, null, null, null, null, null, null],
        ]);
        let batch = batch(&columns, rows);
        assert_eq!(
            text(&batch),
            "  whole  float  yes   money  at                    local                    day         word\n  \
             1      1.5    true  12.50  2026-03-29T01:30:00Z  2026-03-29T01:30:00.250  2026-03-29  a\n  \
             NULL   NULL   NULL  NULL   NULL                  NULL                     NULL        NULL\n"
        );
    }

    #[test]
    fn bytes_are_digits() {
        let bytes: ArrayRef = Arc::new(arrow_array::BinaryArray::from_opt_vec(vec![
            Some(&[1, 255][..]),
            None,
        ]));
        let batch = RecordBatch::try_from_iter([("hash", bytes)]).unwrap();
        assert_eq!(text(&batch), "  hash\n  01ff\n  NULL\n");
    }

    #[test]
    #[should_panic(expected = "row 1 has 1 values, expected 2")]
    fn a_row_that_is_too_short_is_named() {
        let columns = [("a", DataType::Int64), ("b", DataType::Int64)];
        batch(&columns, json!([[1, 2], [3]]));
    }
}
