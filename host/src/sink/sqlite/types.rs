//! Arrow values as `SQLite` keeps them.
//!
//! Times are written as ISO 8601 text with as many digits as they have (none, three or six), decimals as exact text,
//! so that nothing is rounded; the order of the times as text is that of time.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use arrow_select::take::take;
use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, ToSpan};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

/// The declared type of a column that the sink creates; `None` for Arrow types that no column can hold.
pub fn column_type(arrow: &DataType) -> Option<String> {
    let fixed = match arrow {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => "INTEGER",
        DataType::Float32 | DataType::Float64 => "REAL",
        // Text affinity: a numeric one would round them.
        DataType::UInt64
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Time64(TimeUnit::Microsecond) => "TEXT",
        DataType::Dictionary(_, value) if value.as_ref() == &DataType::Utf8 => "TEXT",
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "BLOB",
        DataType::Date32 => "DATE",
        DataType::Timestamp(..) => "TIMESTAMP",
        _ => return None,
    };
    Some(fixed.to_owned())
}

/// Whether a column declared like this keeps values of the Arrow type as they are. A declared type gives a column an
/// affinity, which turns text that looks like a number into one
/// (<https://www.sqlite.org/datatype3.html#determination_of_column_affinity>).
pub fn keeps(declaration: &str, arrow: &DataType) -> bool {
    let word = declaration.to_ascii_uppercase();
    let contains = |parts: &[&str]| parts.iter().any(|part| word.contains(part));
    let integer = contains(&["INT"]);
    let text = !integer && contains(&["CHAR", "CLOB", "TEXT"]);
    let none = !integer && !text && (word.is_empty() || contains(&["BLOB"]));
    let real = !integer && !text && !none && contains(&["REAL", "FLOA", "DOUB"]);
    match arrow {
        _ if none => true,
        // Bytes, and text that is no number, whatever the affinity.
        DataType::Binary
        | DataType::LargeBinary
        | DataType::FixedSizeBinary(_)
        | DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Time64(_) => true,
        DataType::Float32 | DataType::Float64 => !text,
        DataType::UInt64 | DataType::Decimal128(..) => text,
        other if other.is_integer() || other == &DataType::Boolean => !text && !real,
        _ => text,
    }
}

/// The batch with each dictionary replaced by the words it stands for.
pub fn plain(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch
        .columns()
        .iter()
        .map(|column| match column.as_any_dictionary_opt() {
            Some(dictionary) => take(dictionary.values(), dictionary.keys(), None),
            None => Ok(column.clone()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let fields: Vec<_> = batch
        .schema_ref()
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

/// One value, or why it cannot be kept.
pub fn value(array: &dyn Array, row: usize) -> Result<ToSqlOutput<'_>, &'static str> {
    if array.is_null(row) {
        return Ok(ToSqlOutput::Owned(Value::Null));
    }
    let integer = |value: i64| Ok(ToSqlOutput::Owned(Value::Integer(value)));
    let text = |value: String| Ok(ToSqlOutput::Owned(Value::Text(value)));
    match array.data_type() {
        DataType::Boolean => integer(i64::from(array.as_boolean().value(row))),
        DataType::Int8 => integer(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => integer(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => integer(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => integer(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => integer(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => integer(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => integer(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => text(array.as_primitive::<UInt64Type>().value(row).to_string()),
        DataType::Float32 => real(array.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => real(array.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => {
            text(array.as_primitive::<Decimal128Type>().value_as_string(row))
        }
        DataType::Utf8 => Ok(borrowed_text(array.as_string::<i32>().value(row))),
        DataType::LargeUtf8 => Ok(borrowed_text(array.as_string::<i64>().value(row))),
        DataType::Binary => Ok(ToSqlOutput::Borrowed(ValueRef::Blob(
            array.as_binary::<i32>().value(row),
        ))),
        DataType::LargeBinary => Ok(ToSqlOutput::Borrowed(ValueRef::Blob(
            array.as_binary::<i64>().value(row),
        ))),
        DataType::FixedSizeBinary(_) => Ok(ToSqlOutput::Borrowed(ValueRef::Blob(
            array.as_fixed_size_binary().value(row),
        ))),
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value(row))
            .map_or(Err("a date out of range"), text),
        DataType::Time64(TimeUnit::Microsecond) => {
            time_of_day(array.as_primitive::<Time64MicrosecondType>().value(row))
                .map_or(Err("a time out of range"), text)
        }
        DataType::Timestamp(unit, zone) => {
            let nanos = match unit {
                TimeUnit::Second => {
                    i128::from(array.as_primitive::<TimestampSecondType>().value(row))
                        * 1_000_000_000
                }
                TimeUnit::Millisecond => {
                    i128::from(array.as_primitive::<TimestampMillisecondType>().value(row))
                        * 1_000_000
                }
                TimeUnit::Microsecond => {
                    i128::from(array.as_primitive::<TimestampMicrosecondType>().value(row)) * 1_000
                }
                TimeUnit::Nanosecond => array
                    .as_primitive::<TimestampNanosecondType>()
                    .value(row)
                    .into(),
            };
            timestamp(nanos, zone.is_some()).map_or(Err("a time out of range"), text)
        }
        _ => Err("a type that SQLite cannot hold"),
    }
}

/// Whether this is text with U+0000.
pub fn has_nul(value: &ToSqlOutput<'_>) -> bool {
    matches!(value, ToSqlOutput::Borrowed(ValueRef::Text(text)) if text.contains(&0))
}

fn borrowed_text(text: &str) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()))
}

fn real(value: f64) -> Result<ToSqlOutput<'static>, &'static str> {
    // SQLite would store NULL in its place.
    if value.is_nan() {
        return Err("NaN, which SQLite cannot hold");
    }
    Ok(ToSqlOutput::Owned(Value::Real(value)))
}

fn date(days: i32) -> Option<String> {
    let date = Date::constant(1970, 1, 1)
        .checked_add(i64::from(days).days())
        .ok()?;
    (date.year() >= 0).then(|| date.to_string())
}

fn time_of_day(micros: i64) -> Option<String> {
    let seconds = micros.div_euclid(1_000_000);
    (0..86_400).contains(&seconds).then(|| {
        format!(
            "{:02}:{:02}:{:02}{}",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60,
            fraction(micros.rem_euclid(1_000_000) * 1_000)
        )
    })
}

/// As many digits as there are: none, three, six or nine.
fn fraction(nanos: i64) -> String {
    match nanos {
        0 => String::new(),
        nanos if nanos % 1_000_000 == 0 => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    }
}

fn timestamp(nanos: i128, zoned: bool) -> Option<String> {
    const SECOND: i128 = 1_000_000_000;
    let seconds = i64::try_from(nanos.div_euclid(SECOND)).ok()?;
    let fraction_nanos = i32::try_from(nanos.rem_euclid(SECOND)).ok()?;
    // Not as an instant: of those the library leaves out the last hours of the year 9999.
    let civil = DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
        .checked_add(SignedDuration::new(seconds, fraction_nanos))
        .ok()?;
    // Years before 0 sort wrongly as text.
    (civil.year() >= 0).then(|| {
        format!(
            "{} {:02}:{:02}:{:02}{}{}",
            civil.date(),
            civil.hour(),
            civil.minute(),
            civil.second(),
            fraction(civil.subsec_nanosecond().into()),
            if zoned { "Z" } else { "" }
        )
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::{Decimal128Array, Float64Array, TimestampMicrosecondArray};

    use super::*;

    fn text_of(array: &dyn Array) -> String {
        match value(array, 0) {
            Ok(ToSqlOutput::Owned(Value::Text(text))) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn times_keep_their_digits() {
        let micros = |value| TimestampMicrosecondArray::from(vec![value]);
        assert_eq!(text_of(&micros(0)), "1970-01-01 00:00:00");
        assert_eq!(text_of(&micros(1_500_000)), "1970-01-01 00:00:01.500");
        assert_eq!(text_of(&micros(-1)), "1969-12-31 23:59:59.999999");
        assert_eq!(
            text_of(&micros(-62_135_596_800_000_000)),
            "0001-01-01 00:00:00"
        );
        assert_eq!(
            text_of(&micros(253_402_300_799_999_999)),
            "9999-12-31 23:59:59.999999"
        );
        assert_eq!(
            text_of(&micros(1).with_timezone("UTC")),
            "1970-01-01 00:00:00.000001Z"
        );
    }

    #[test]
    fn a_column_that_would_change_values_is_not_accepted() {
        assert!(keeps("TEXT", &DataType::Utf8));
        assert!(keeps(
            "TIMESTAMP",
            &DataType::Timestamp(TimeUnit::Microsecond, None)
        ));
        assert!(!keeps("INTEGER", &DataType::Utf8));
        assert!(!keeps("DECIMAL(10,2)", &DataType::Decimal128(10, 2)));
        assert!(!keeps("REAL", &DataType::Int64));
        for arrow in [
            DataType::Boolean,
            DataType::Int64,
            DataType::UInt64,
            DataType::Float64,
            DataType::Utf8,
            DataType::Binary,
        ] {
            assert!(keeps(&column_type(&arrow).unwrap(), &arrow), "{arrow}");
        }
    }

    #[test]
    fn decimals_stay_exact_and_nan_is_refused() {
        let decimal = Decimal128Array::from(vec![-12_345])
            .with_precision_and_scale(10, 2)
            .unwrap();
        assert_eq!(text_of(&decimal), "-123.45");
        assert!(value(&Float64Array::from(vec![f64::NAN]), 0).is_err());
    }
}
