//! Rows set aside, in the form they are kept: JSON, because bytes that a database refuses must survive in it.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use etl_plugin_api::Rejection;
use serde::Deserialize;
use serde_json::json;

use crate::error::{Error, Result};
use crate::literal::hex;
use crate::sink::{DeadLetter, Flush, Refusal};
use crate::source::SourceRejection;

/// A row that did not fit its columns when it was read.
pub fn from_source(rejection: SourceRejection) -> DeadLetter {
    DeadLetter {
        stage: "extract",
        table: None,
        column: Some(rejection.column),
        reason: rejection.reason,
        payload: rejection.payload.to_string().into_bytes(),
    }
}

/// A row that the transformer rejected: the row as it was read.
pub fn from_transform(input: &RecordBatch, rejection: Rejection) -> Result<DeadLetter> {
    Ok(DeadLetter {
        stage: "transform",
        table: None,
        column: rejection.column,
        reason: rejection.reason,
        payload: row_as_json(input, rejection.row as usize)?,
    })
}

/// A row that the sink refused: the row as it was to be written.
pub fn from_sink(flush: &Flush, table: &str, refusal: Refusal) -> Result<DeadLetter> {
    let batch = flush
        .batches
        .get(refusal.batch)
        .ok_or_else(|| Error::internal("the sink refused a row that it was not given"))?;
    Ok(DeadLetter {
        stage: "load",
        table: Some(table.to_owned()),
        column: Some(refusal.column).filter(|column| !column.is_empty()),
        reason: refusal.reason,
        payload: row_as_json(batch, refusal.row)?,
    })
}

/// Adds to the error about too many bad rows what is wrong with one of them.
pub fn explain(error: Error, letter: Option<&DeadLetter>) -> Error {
    match letter {
        Some(DeadLetter {
            column: Some(column),
            reason,
            ..
        }) => error.caused_by(format!("the last one in column `{column}`: {reason}")),
        Some(DeadLetter { reason, .. }) => error.caused_by(format!("the last one: {reason}")),
        None => error,
    }
}

fn row_as_json(batch: &RecordBatch, row: usize) -> Result<Vec<u8>> {
    if row >= batch.num_rows() {
        return Err(Error::internal(format!(
            "row {row} of {} is to be set aside",
            batch.num_rows()
        )));
    }
    let describe = |error: serde_arrow::Error| {
        Error::internal("a row cannot be written down for quarantine").caused_by(error)
    };
    let one = batch.slice(row, 1);
    let mut object = serde_json::Map::new();
    for (field, column) in one.schema_ref().fields().iter().zip(one.columns()) {
        let value = if let Some(bytes) = bytes(column) {
            json!({ "hex": hex(bytes) })
        } else {
            let columns = [column];
            let fields = std::slice::from_ref(field);
            let source =
                serde_arrow::Deserializer::from_arrow(fields, &columns).map_err(describe)?;
            let item = source
                .get(0)
                .ok_or_else(|| Error::internal("a row is missing from its own batch"))?;
            let mut row = serde_json::Map::deserialize(item).map_err(describe)?;
            row.remove(field.name()).unwrap_or_default()
        };
        object.insert(field.name().clone(), value);
    }
    Ok(serde_json::Value::Object(object).to_string().into_bytes())
}

/// The bytes of a single binary value, which JSON has no form for.
fn bytes(column: &ArrayRef) -> Option<&[u8]> {
    if column.is_null(0) {
        return None;
    }
    match column.data_type() {
        DataType::Binary => Some(column.as_binary::<i32>().value(0)),
        DataType::LargeBinary => Some(column.as_binary::<i64>().value(0)),
        DataType::FixedSizeBinary(_) => Some(column.as_fixed_size_binary().value(0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, BinaryArray, Decimal128Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };

    use super::*;

    #[test]
    fn a_row_survives_with_nul_bytes_and_exact_numbers() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![1, i64::MAX]))),
            ("text", Arc::new(StringArray::from(vec!["a", "b\0c"]))),
            (
                "bytes",
                Arc::new(BinaryArray::from_vec(vec![b"x", b"\xff\x00"])),
            ),
            (
                "at",
                Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000])),
            ),
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
        let json: serde_json::Value =
            serde_json::from_slice(&row_as_json(&batch, 1).unwrap()).unwrap();
        assert_eq!(json["id"], i64::MAX);
        assert_eq!(json["text"], "b\0c");
        assert_eq!(json["amount"], "123.45");
        assert_eq!(json["bytes"], json!({ "hex": "ff00" }));
        assert_eq!(json["at"], 1_500_000, "a count of the column's unit");
    }
}
