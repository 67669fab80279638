//! Arrow values as `SQLite` keeps them.
//!
//! Times are written as ISO 8601 text with as many digits as they have (none, three or six), decimals as exact text,
//! so that nothing is rounded; the order of the times as text is that of time.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowTimestampType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array,
    FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray, new_null_array,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_select::take::take;
use rusqlite::Row;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use crate::literal::{
    date, nanoseconds, parse_date, parse_time_of_day, parse_timestamp, time_of_day, timestamp,
};

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
            let nanos = nanoseconds(array, *unit, row);
            timestamp(nanos, zone.is_some()).map_or(Err("a time out of range"), text)
        }
        _ => Err("a type that SQLite cannot hold"),
    }
}

/// A row as [`value`] has written it, in the Arrow types it came in.
pub fn read_row(schema: &SchemaRef, row: &Row<'_>) -> Result<RecordBatch, ArrowError> {
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let value = row
                .get_ref(index)
                .map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
            array(field.data_type(), value).ok_or_else(|| {
                ArrowError::ParseError(format!(
                    "the staged value of column `{}` is no {}",
                    field.name(),
                    field.data_type()
                ))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema.clone(), columns)
}

/// One value as an array. `None` if [`value`] does not write such a one.
fn array(arrow: &DataType, value: ValueRef<'_>) -> Option<ArrayRef> {
    if value == ValueRef::Null {
        return Some(new_null_array(arrow, 1));
    }
    let text = || value.as_str().ok();
    let int = || value.as_i64().ok();
    let float = || match value {
        #[expect(
            clippy::cast_precision_loss,
            reason = "it was a float when it was written"
        )]
        ValueRef::Integer(value) => Some(value as f64),
        other => other.as_f64().ok(),
    };
    let bytes = || value.as_blob().ok();
    Some(match arrow {
        DataType::Boolean => Arc::new(BooleanArray::from(vec![int()? != 0])),
        DataType::Int8 => one::<Int8Type>(int()?.try_into().ok()?),
        DataType::Int16 => one::<Int16Type>(int()?.try_into().ok()?),
        DataType::Int32 => one::<Int32Type>(int()?.try_into().ok()?),
        DataType::Int64 => one::<Int64Type>(int()?),
        DataType::UInt8 => one::<UInt8Type>(int()?.try_into().ok()?),
        DataType::UInt16 => one::<UInt16Type>(int()?.try_into().ok()?),
        DataType::UInt32 => one::<UInt32Type>(int()?.try_into().ok()?),
        DataType::UInt64 => one::<UInt64Type>(text()?.parse().ok()?),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it was widened when it was written"
        )]
        DataType::Float32 => one::<Float32Type>(float()? as f32),
        DataType::Float64 => one::<Float64Type>(float()?),
        DataType::Decimal128(precision, scale) => Arc::new(
            Decimal128Array::from(vec![parse_decimal(text()?, *scale)?])
                .with_precision_and_scale(*precision, *scale)
                .ok()?,
        ),
        DataType::Utf8 => Arc::new(StringArray::from(vec![text()?])),
        DataType::LargeUtf8 => Arc::new(LargeStringArray::from(vec![text()?])),
        DataType::Binary => Arc::new(BinaryArray::from_vec(vec![bytes()?])),
        DataType::LargeBinary => Arc::new(LargeBinaryArray::from_vec(vec![bytes()?])),
        DataType::FixedSizeBinary(_) => {
            Arc::new(FixedSizeBinaryArray::try_from_iter(std::iter::once(bytes()?)).ok()?)
        }
        DataType::Date32 => one::<Date32Type>(parse_date(text()?)?),
        DataType::Time64(TimeUnit::Microsecond) => {
            one::<Time64MicrosecondType>(parse_time_of_day(text()?)?)
        }
        DataType::Timestamp(unit, zone) => {
            let nanos = parse_timestamp(text()?)?;
            let count = |per: i128| i64::try_from(nanos / per).ok();
            match unit {
                TimeUnit::Second => {
                    zoned::<TimestampSecondType>(count(1_000_000_000)?, zone.as_ref())
                }
                TimeUnit::Millisecond => {
                    zoned::<TimestampMillisecondType>(count(1_000_000)?, zone.as_ref())
                }
                TimeUnit::Microsecond => {
                    zoned::<TimestampMicrosecondType>(count(1_000)?, zone.as_ref())
                }
                TimeUnit::Nanosecond => zoned::<TimestampNanosecondType>(count(1)?, zone.as_ref()),
            }
        }
        _ => return None,
    })
}

fn one<T: ArrowPrimitiveType>(value: T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values([value]))
}

fn zoned<T: ArrowTimestampType>(value: i64, zone: Option<&Arc<str>>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values([value]).with_timezone_opt(zone.cloned()))
}

/// Decimal text as a number of units of the scale.
fn parse_decimal(text: &str, scale: i8) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = usize::try_from(scale).ok()?;
    if fraction.len() > scale {
        return None;
    }
    format!("{whole}{fraction}{}", "0".repeat(scale - fraction.len()))
        .parse()
        .ok()
}

/// A column of whole numbers, so that it compares as they do.
pub fn as_number(column: &str, arrow: &DataType) -> String {
    if matches!(arrow, DataType::UInt64 | DataType::Decimal128(..)) {
        // They are kept as text. A whole number is at least a fraction if it is at least the next whole one.
        format!("CAST({column} AS INTEGER) + ({column} GLOB '[^-]*.*[1-9]*')")
    } else {
        column.to_owned()
    }
}

/// A column of times, so that it compares as they do: with the sign of a zone behind its digits a longer time would come
/// before a shorter one.
pub fn without_zone(column: &str) -> String {
    format!("rtrim({column}, 'Z')")
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

#[cfg(test)]
mod tests {
    use arrow_array::{Float64Array, TimestampMicrosecondArray};
    use proptest::prelude::*;

    use super::*;

    fn text_of(array: &dyn Array) -> String {
        match value(array, 0) {
            Ok(ToSqlOutput::Owned(Value::Text(text))) => text,
            other => panic!("{other:?}"),
        }
    }

    /// Writes the row into a file's table and reads it back.
    fn round_trip(columns: Vec<ArrayRef>) -> RecordBatch {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let batch = RecordBatch::try_from_iter_with_nullable(
            names
                .into_iter()
                .zip(columns)
                .map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let declared: Vec<String> = batch
            .schema()
            .fields()
            .iter()
            .map(|field| {
                format!(
                    "{} {}",
                    field.name(),
                    column_type(field.data_type()).unwrap()
                )
            })
            .collect();
        connection
            .execute_batch(&format!("CREATE TABLE t ({})", declared.join(", ")))
            .unwrap();
        let marks = vec!["?"; declared.len()].join(", ");
        let values: Vec<_> = batch
            .columns()
            .iter()
            .map(|column| value(column, 0).unwrap())
            .collect();
        connection
            .execute(
                &format!("INSERT INTO t VALUES ({marks})"),
                rusqlite::params_from_iter(values),
            )
            .unwrap();
        let read = connection
            .query_row("SELECT * FROM t", [], |row| {
                Ok(read_row(&batch.schema(), row))
            })
            .unwrap()
            .unwrap();
        assert_eq!(read, batch);
        read
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back_as_it_was(
            number: i64, small: i8, unsigned: u64, whole: u32, truth: bool, float in prop::num::f64::NORMAL | prop::num::f64::ZERO,
            single in prop::num::f32::NORMAL, text: String, bytes: Vec<u8>, decimal in -99_999_999_999_999_999_999_999_999_999_999_999_999i128..,
            scale in 0i8..=38, days in -719_528i32..=2_932_896, micros in 0i64..86_400_000_000, instant in -62_167_219_200_000_000i64..=253_402_300_799_999_999,
        ) {
            let decimal = decimal.min(99_999_999_999_999_999_999_999_999_999_999_999_999);
            round_trip(vec![
                Arc::new(BooleanArray::from(vec![truth])),
                one::<Int64Type>(number),
                one::<Int8Type>(small),
                one::<UInt64Type>(unsigned),
                one::<UInt32Type>(whole),
                one::<Float64Type>(float),
                one::<Float32Type>(single),
                Arc::new(StringArray::from(vec![text.as_str()])),
                Arc::new(LargeStringArray::from(vec![text.as_str()])),
                Arc::new(BinaryArray::from_vec(vec![&bytes])),
            ]);
            round_trip(vec![
                Arc::new(LargeBinaryArray::from_vec(vec![&bytes])),
                Arc::new(Decimal128Array::from(vec![decimal]).with_precision_and_scale(38, scale).unwrap()),
                one::<Date32Type>(days),
                one::<Time64MicrosecondType>(micros),
                zoned::<TimestampSecondType>(instant / 1_000_000, None),
                zoned::<TimestampMillisecondType>(instant / 1_000, Some(&"UTC".into())),
                zoned::<TimestampMicrosecondType>(instant, None),
                zoned::<TimestampMicrosecondType>(instant, Some(&"UTC".into())),
                zoned::<TimestampNanosecondType>(number, None),
                new_null_array(&DataType::Decimal128(5, 2), 1),
            ]);
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
