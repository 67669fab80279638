//! Rows set aside, in the two forms they are kept: JSON for people, because bytes that a database refuses must survive
//! in it, and one row of Arrow for the host, from which it can be loaded again.
//!
//! What may be set aside is decided by the runtime, where it is kept by the sinks.

pub mod view;

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float32Type, Float64Type, Time64MicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, FieldRef, TimeUnit};
use arrow_select::dictionary::garbage_collect_any_dictionary;
use etl_plugin_api::Rejection;
use serde::Deserialize;
use serde_json::json;

use crate::checkpoint::display;
use crate::error::{Error, Result};
use crate::literal::{date, hex, nanoseconds, parse_timestamp, time_of_day, timestamp};
use crate::sink::Refusal;
use crate::source::SourceRejection;

/// A row set aside with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which stage refused it.
    pub stage: Stage,
    /// For `load` the table.
    pub table: Option<String>,
    /// The column at fault.
    pub column: Option<String>,
    /// Why.
    pub reason: String,
    /// For the log: the same without what may be the row's values. Empty where the reason holds none.
    pub told: String,
    /// The row as JSON: the source's for `extract` and `transform`, the output's for `load`.
    pub payload: Vec<u8>,
    /// The same row as an Arrow IPC stream; `None` if it never became one.
    pub arrow: Option<Vec<u8>>,
    /// Where it lies in the source, if it never became a row.
    pub position: Option<String>,
}

impl DeadLetter {
    /// Why, in words for the log.
    pub fn told(&self) -> &str {
        if self.told.is_empty() {
            &self.reason
        } else {
            &self.told
        }
    }
}

/// Which stage refused a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A value did not fit its column when it was read.
    Extract,
    /// The transformer rejected it.
    Transform,
    /// The sink, or the pipeline's loader, refused it.
    Load,
}

impl Stage {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Extract => "extract",
            Self::Transform => "transform",
            Self::Load => "load",
        }
    }
}

/// A dead letter as the sink keeps it.
#[derive(Clone, Debug)]
pub struct StoredLetter {
    /// Its number in the sink.
    pub id: i64,
    /// The partition.
    pub partition: String,
    /// The run that set it aside.
    pub run_id: String,
    /// Which stage refused it.
    pub stage: String,
    /// For `load` the table.
    pub table: Option<String>,
    /// The column at fault.
    pub column: Option<String>,
    /// Why.
    pub reason: String,
    /// The row as JSON.
    pub payload: Vec<u8>,
    /// The row as an Arrow IPC stream.
    pub arrow: Option<Vec<u8>>,
    /// Where it lies in the source.
    pub position: Option<String>,
    /// The replay that loaded it.
    pub replayed_by: Option<String>,
    /// When it was set aside, as the sink writes it.
    pub created_at: String,
}

/// A row that did not fit its columns when it was read.
pub fn from_source(rejection: SourceRejection) -> DeadLetter {
    DeadLetter {
        stage: Stage::Extract,
        table: None,
        column: Some(rejection.column),
        reason: rejection.reason,
        told: String::new(),
        payload: rejection.payload.to_string().into_bytes(),
        arrow: None,
        position: rejection.cursor.as_ref().map(display),
    }
}

/// A row that the transformer rejected: the row as it was read.
pub fn from_transform(input: &RecordBatch, rejection: Rejection) -> Result<DeadLetter> {
    let row = one_row(input, rejection.row as usize)?;
    Ok(DeadLetter {
        stage: Stage::Transform,
        table: None,
        column: rejection.column,
        reason: rejection.reason,
        told: String::new(),
        payload: row_as_json(&row)?,
        arrow: Some(encode(&row)?),
        position: None,
    })
}

/// A row that the sink refused: the row as it was to be written. An empty column stands for none.
pub fn from_sink(batch: &RecordBatch, table: &str, refusal: Refusal) -> Result<DeadLetter> {
    let row = one_row(batch, refusal.row)?;
    Ok(DeadLetter {
        stage: Stage::Load,
        table: Some(table.to_owned()),
        column: Some(refusal.column).filter(|column| !column.is_empty()),
        reason: refusal.reason,
        told: refusal.told,
        payload: row_as_json(&row)?,
        arrow: Some(encode(&row)?),
        position: None,
    })
}

/// Adds to the error about too many bad rows what is wrong with one of them.
pub fn explain(error: Error, letter: Option<&DeadLetter>) -> Error {
    let Some(letter) = letter else { return error };
    let told = letter.told();
    error.caused_by(match &letter.column {
        Some(column) => format!("the last one in column `{column}`: {told}"),
        None => format!("the last one: {told}"),
    })
}

/// Whether the row of a letter lies in a range of this column, `(after, until]`. A row whose value cannot be told lies in
/// none.
pub fn lies_within(payload: &[u8], column: &str, after: Option<&str>, until: Option<&str>) -> bool {
    let row: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
    let value = match row.get(column) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(serde_json::Value::Number(number)) => number.to_string(),
        _ => return false,
    };
    let place = |bound: &str| in_order(&value, bound);
    after.is_none_or(|after| place(after).is_some_and(Ordering::is_gt))
        && until.is_none_or(|until| place(until).is_some_and(Ordering::is_le))
}

/// Numbers as numbers, times as times, and other text as text.
fn in_order(a: &str, b: &str) -> Option<Ordering> {
    let number = |text: &str| text.parse::<i128>().ok();
    match (number(a), number(b)) {
        (Some(a), Some(b)) => return Some(a.cmp(&b)),
        (None, None) => {}
        _ => return None,
    }
    match (parse_timestamp(a), parse_timestamp(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (None, None) => Some(a.cmp(b)),
        _ => None,
    }
}

/// The row of an Arrow IPC stream that [`DeadLetter::arrow`] holds.
pub fn decode(bytes: &[u8]) -> Result<RecordBatch> {
    let damaged = || Error::data("the row of a dead letter cannot be read");
    StreamReader::try_new(bytes, None)
        .and_then(|mut reader| reader.next().transpose())
        .map_err(|error| damaged().caused_by(error))?
        .ok_or_else(damaged)
}

fn encode(row: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), row.schema_ref())?;
    writer.write(row)?;
    Ok(writer.into_inner()?)
}

/// One row by itself, without the words of its dictionaries that it does not use.
fn one_row(batch: &RecordBatch, row: usize) -> Result<RecordBatch> {
    if row >= batch.num_rows() {
        return Err(Error::internal(format!(
            "row {row} of {} is to be set aside",
            batch.num_rows()
        )));
    }
    let one = batch.slice(row, 1);
    let columns = one
        .columns()
        .iter()
        .map(|column| match column.as_any_dictionary_opt() {
            Some(dictionary) => garbage_collect_any_dictionary(dictionary),
            None => Ok(column.clone()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(one.schema_ref()), columns)?)
}

fn row_as_json(row: &RecordBatch) -> Result<Vec<u8>> {
    let mut object = serde_json::Map::new();
    for (field, column) in row.schema_ref().fields().iter().zip(row.columns()) {
        object.insert(field.name().clone(), value(field, column)?);
    }
    Ok(serde_json::Value::Object(object).to_string().into_bytes())
}

/// The one value of a column, as the payload of a letter has it.
pub fn value(field: &FieldRef, column: &ArrayRef) -> Result<serde_json::Value> {
    match text(column) {
        Some(value) => Ok(value),
        None => any_value(field, column),
    }
}

/// A value that JSON has no form for, or none that people read: bytes, times, and what is no number.
fn text(column: &ArrayRef) -> Option<serde_json::Value> {
    if column.is_null(0) {
        return None;
    }
    let bytes = |bytes: &[u8]| Some(json!({ "hex": hex(bytes) }));
    let infinite = |value: f64| (!value.is_finite()).then(|| json!(value.to_string()));
    match column.data_type() {
        DataType::Binary => bytes(column.as_binary::<i32>().value(0)),
        DataType::LargeBinary => bytes(column.as_binary::<i64>().value(0)),
        DataType::FixedSizeBinary(_) => bytes(column.as_fixed_size_binary().value(0)),
        DataType::Float32 => infinite(column.as_primitive::<Float32Type>().value(0).into()),
        DataType::Float64 => infinite(column.as_primitive::<Float64Type>().value(0)),
        DataType::Date32 => date(column.as_primitive::<Date32Type>().value(0)).map(Into::into),
        DataType::Time64(TimeUnit::Microsecond) => {
            time_of_day(column.as_primitive::<Time64MicrosecondType>().value(0)).map(Into::into)
        }
        DataType::Timestamp(unit, zone) => {
            timestamp(nanoseconds(column, *unit, 0), zone.is_some()).map(Into::into)
        }
        _ => None,
    }
}

fn any_value(field: &FieldRef, column: &ArrayRef) -> Result<serde_json::Value> {
    let describe = |error: serde_arrow::Error| {
        Error::internal("a row cannot be written down for quarantine").caused_by(error)
    };
    let columns = [column];
    let fields = std::slice::from_ref(field);
    let source = serde_arrow::Deserializer::from_arrow(fields, &columns).map_err(describe)?;
    let item = source
        .get(0)
        .ok_or_else(|| Error::internal("a row is missing from its own batch"))?;
    let mut row = serde_json::Map::deserialize(item).map_err(describe)?;
    Ok(row.remove(field.name()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Int32Type;
    use arrow_array::{
        BinaryArray, Decimal128Array, DictionaryArray, Float64Array, Int64Array, StringArray,
        TimestampMicrosecondArray,
    };

    use super::*;

    fn refused(row: usize) -> Refusal {
        Refusal {
            batch: 0,
            row,
            column: String::new(),
            reason: "bad".to_owned(),
            told: String::new(),
        }
    }

    #[test]
    fn a_row_lies_in_a_range_by_what_its_value_means() {
        let within = |value: serde_json::Value, after, until| {
            let payload = json!({ "c": value }).to_string();
            lies_within(payload.as_bytes(), "c", after, until)
        };
        assert!(within(json!(150), Some("100"), Some("200")));
        assert!(!within(json!(1_000), Some("100"), Some("200")));
        assert!(!within(json!(100), Some("100"), None) && within(json!("100"), None, Some("100")));
        let day = Some("2024-01-31 10:00:00");
        assert!(within(json!("2024-01-31T10:00:00.500Z"), day, None));
        assert!(!within(json!("2024-01-31 10:00:00Z"), day, None));
        assert!(within(json!("b"), Some("a"), Some("b")));
        for odd in [json!(null), json!({ "hex": "00" }), json!("soon")] {
            assert!(!within(odd, Some("100"), None));
        }
    }

    #[test]
    fn a_row_survives_with_nul_bytes_and_exact_numbers() {
        let words: DictionaryArray<Int32Type> = ["unused", "used"].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![1, i64::MAX]))),
            ("text", Arc::new(StringArray::from(vec!["a", "b\0c"]))),
            ("word", Arc::new(words)),
            ("none", Arc::new(StringArray::from(vec![Some("a"), None]))),
            (
                "bytes",
                Arc::new(BinaryArray::from_vec(vec![b"x", b"\xff\x00"])),
            ),
            (
                "at",
                Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000])),
            ),
            ("nan", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
            (
                "amount",
                Arc::new(
                    Decimal128Array::from(vec![1, 12_345])
                        .with_precision_and_scale(38, 2)
                        .unwrap(),
                ),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let letter = from_sink(&batch, "t", refused(1)).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&letter.payload).unwrap();
        let expected = json!({
            "id": i64::MAX, "text": "b\0c", "word": "used", "none": null, "bytes": { "hex": "ff00" },
            "at": "1970-01-01 00:00:01.500", "nan": "NaN", "amount": "123.45",
        });
        assert_eq!(json, expected);
        assert_eq!(letter.column, None);

        let arrow = letter.arrow.unwrap();
        let row = decode(&arrow).unwrap();
        assert_eq!(row.schema(), batch.schema());
        assert!(!format!("{row:?}").contains("unused"));
        for (index, column) in row.columns().iter().enumerate() {
            if index != 2 {
                assert_eq!(column, &batch.column(index).slice(1, 1), "{index}");
            }
        }
        assert!(decode(&arrow[..20]).is_err());
        assert!(decode(b"").is_err());
    }

    #[test]
    fn a_row_that_is_not_there_is_no_letter() {
        let batch =
            RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)])
                .unwrap();
        assert!(from_sink(&batch, "t", refused(1)).is_err());
    }
}
