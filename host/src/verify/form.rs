//! The one form of a value: what the source's side would write and what the sink holds become the same bytes.
//!
//! What a column makes of a value is decided by the sink's type of it: a number is the same with two decimal places or
//! with three, a UUID in capitals or not, JSON with its keys in any order. How rows are read or summed up lies elsewhere.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};
use uuid::Uuid;

use super::json;
use crate::config::NulCharacters;
use crate::error::{Error, Result};
use crate::literal::{
    NANOS_PER_DAY, parse_date, parse_position, parse_time_of_day, parse_timestamp,
};

/// What a column of the sink makes of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Truth values too: 0 and 1.
    Number,
    Float,
    Text,
    /// Blanks at the end mean nothing.
    Padded,
    Uuid,
    Json,
    Bytes,
    Date,
    /// Of the day.
    Time,
    /// Text of an instant must say so with `Z`.
    Timestamp {
        zoned: bool,
    },
}

impl Form {
    /// The form of a `PostgreSQL` type, by its name in `pg_type`.
    pub fn of_postgres(name: &str) -> Self {
        match name {
            "bool" | "int2" | "int4" | "int8" | "numeric" => Self::Number,
            "float4" | "float8" => Self::Float,
            "bpchar" => Self::Padded,
            "uuid" => Self::Uuid,
            "jsonb" => Self::Json,
            "bytea" => Self::Bytes,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp { zoned: false },
            "timestamptz" => Self::Timestamp { zoned: true },
            // `json` keeps its text as it is.
            _ => Self::Text,
        }
    }

    /// The form of what `SQLite` keeps of an Arrow type, whatever the column is declared as.
    pub fn of_sqlite(arrow: &DataType) -> Self {
        match arrow {
            DataType::Boolean | DataType::Decimal128(..) => Self::Number,
            other if other.is_integer() => Self::Number,
            DataType::Float32 | DataType::Float64 => Self::Float,
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => Self::Bytes,
            DataType::Date32 => Self::Date,
            DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, zone) => Self::Timestamp {
                zoned: zone.is_some(),
            },
            _ => Self::Text,
        }
    }
}

/// The values of one column of one batch.
pub struct Values<'a> {
    form: Form,
    nuls: NulCharacters,
    nulls: Option<NullBuffer>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    /// Numbers with so many decimal places.
    Numbers(Vec<i128>, i8),
    Floats(Vec<f64>),
    Texts(Vec<&'a str>),
    Bytes(Vec<&'a [u8]>),
    Days(&'a [i32]),
    /// Nanoseconds since midnight, or since 1970.
    Nanos(Vec<i128>),
}

impl<'a> Values<'a> {
    /// The values of an array in a form. `nuls` says what the sink does with U+0000.
    pub fn new(array: &'a dyn Array, form: Form, nuls: NulCharacters) -> Result<Self> {
        Ok(Self {
            form,
            nuls,
            // A dictionary's value may be NULL where its key is not.
            nulls: array.logical_nulls(),
            kind: kind(array)?,
        })
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// The text of a row; `None` for NULL and for what is no text.
    pub fn text(&self, row: usize) -> Option<&'a str> {
        match &self.kind {
            Kind::Texts(texts) if !self.is_null(row) => texts.get(row).copied(),
            _ => None,
        }
    }

    /// Whether a row holds NULL.
    pub fn is_missing(&self, row: usize) -> bool {
        self.is_null(row)
    }

    /// The place of a row among the others: the number, or nanoseconds since 1970.
    pub fn position(&self, row: usize) -> Option<i128> {
        if self.is_null(row) {
            return None;
        }
        match &self.kind {
            Kind::Numbers(values, scale) => whole_from(*values.get(row)?, *scale),
            Kind::Days(days) => Some(i128::from(*days.get(row)?) * NANOS_PER_DAY),
            Kind::Nanos(nanos) => nanos.get(row).copied(),
            Kind::Texts(texts) if self.form == Form::Number => {
                let (value, scale) = parse_decimal(texts.get(row)?)?;
                whole_from(value, scale)
            }
            Kind::Texts(texts) => parse_position(texts.get(row)?),
            _ => None,
        }
    }

    /// Appends a row's value, so that two values have the same bytes only if they are the same.
    pub fn append(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.push(b'0');
            return;
        }
        match &self.kind {
            Kind::Numbers(values, scale) => {
                let value = values.get(row).copied().unwrap_or_default();
                match self.form {
                    // The server counts microseconds.
                    Form::Time => nanos(b't', value * 1_000, out),
                    _ => number(value, *scale, out),
                }
            }
            Kind::Floats(values) => float(values.get(row).copied().unwrap_or_default(), out),
            Kind::Texts(texts) => self.append_text(texts.get(row).copied().unwrap_or(""), out),
            Kind::Bytes(values) => {
                let bytes = values.get(row).copied().unwrap_or_default();
                match Uuid::from_slice(bytes) {
                    Ok(uuid) if self.form == Form::Uuid => field(b'u', uuid.as_bytes(), out),
                    _ => field(b'b', bytes, out),
                }
            }
            Kind::Days(days) => {
                let days = days.get(row).copied().unwrap_or_default();
                field(b'd', &i64::from(days).to_le_bytes(), out);
            }
            Kind::Nanos(values) => {
                let tag = if self.form == Form::Time { b't' } else { b's' };
                nanos(tag, values.get(row).copied().unwrap_or_default(), out);
            }
        }
    }

    fn append_text(&self, text: &str, out: &mut Vec<u8>) {
        let replaced = match self.nuls {
            NulCharacters::Strip if text.contains('\0') => Some(text.replace('\0', "")),
            NulCharacters::Replace if text.contains('\0') => Some(text.replace('\0', "\u{fffd}")),
            _ => None,
        };
        let text = replaced.as_deref().unwrap_or(text);
        // What cannot be read as what it should be stays text, which is no value of its form.
        let read = match self.form {
            Form::Number => parse_decimal(text).map(|(value, scale)| number(value, scale, out)),
            Form::Uuid => Uuid::try_parse(text)
                .ok()
                .map(|uuid| field(b'u', uuid.as_bytes(), out)),
            Form::Json => json::canonical(text).map(|json| field(b'j', json.as_bytes(), out)),
            // Not a date with a time behind it.
            Form::Date if text.len() == 10 => {
                parse_date(text).map(|days| field(b'd', &i64::from(days).to_le_bytes(), out))
            }
            Form::Time => {
                parse_time_of_day(text).map(|micros| nanos(b't', i128::from(micros) * 1_000, out))
            }
            Form::Timestamp { zoned } if zoned == text.ends_with('Z') => {
                parse_timestamp(text).map(|time| nanos(b's', time, out))
            }
            Form::Padded => {
                field(b'x', text.trim_end_matches(' ').as_bytes(), out);
                Some(())
            }
            _ => None,
        };
        if read.is_none() {
            field(b'x', text.as_bytes(), out);
        }
    }
}

fn kind(array: &dyn Array) -> Result<Kind<'_>> {
    Ok(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            let values = (0..values.len()).map(|row| i128::from(values.value(row)));
            Kind::Numbers(values.collect(), 0)
        }
        DataType::Int8 => whole::<Int8Type>(array),
        DataType::Int16 => whole::<Int16Type>(array),
        DataType::Int32 => whole::<Int32Type>(array),
        DataType::Int64 => whole::<Int64Type>(array),
        DataType::UInt8 => whole::<UInt8Type>(array),
        DataType::UInt16 => whole::<UInt16Type>(array),
        DataType::UInt32 => whole::<UInt32Type>(array),
        DataType::UInt64 => whole::<UInt64Type>(array),
        DataType::Decimal128(_, scale) => Kind::Numbers(
            array.as_primitive::<Decimal128Type>().values().to_vec(),
            *scale,
        ),
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values().iter();
            Kind::Floats(values.map(|value| f64::from(*value)).collect())
        }
        DataType::Float64 => Kind::Floats(array.as_primitive::<Float64Type>().values().to_vec()),
        DataType::Utf8 => Kind::Texts(texts(array.as_string::<i32>().iter())),
        DataType::LargeUtf8 => Kind::Texts(texts(array.as_string::<i64>().iter())),
        DataType::Utf8View => Kind::Texts(texts(array.as_string_view().iter())),
        DataType::Dictionary(_, value) if value.as_ref() == &DataType::Utf8 => {
            let dictionary = array.as_any_dictionary();
            let words = texts(dictionary.values().as_string::<i32>().iter());
            // A dictionary without words has only rows of NULL.
            let word = |key: usize| words.get(key).copied().unwrap_or_default();
            let keys = if words.is_empty() {
                vec![0; array.len()]
            } else {
                dictionary.normalized_keys()
            };
            Kind::Texts(keys.into_iter().map(word).collect())
        }
        DataType::Binary => Kind::Bytes(bytes(array.as_binary::<i32>().iter())),
        DataType::LargeBinary => Kind::Bytes(bytes(array.as_binary::<i64>().iter())),
        DataType::FixedSizeBinary(_) => Kind::Bytes(bytes(array.as_fixed_size_binary().iter())),
        DataType::Date32 => Kind::Days(array.as_primitive::<Date32Type>().values()),
        DataType::Time64(TimeUnit::Microsecond) => ticks::<Time64MicrosecondType>(array, 1_000),
        DataType::Time64(TimeUnit::Nanosecond) => ticks::<Time64NanosecondType>(array, 1),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => ticks::<TimestampSecondType>(array, 1_000_000_000),
            TimeUnit::Millisecond => ticks::<TimestampMillisecondType>(array, 1_000_000),
            TimeUnit::Microsecond => ticks::<TimestampMicrosecondType>(array, 1_000),
            TimeUnit::Nanosecond => ticks::<TimestampNanosecondType>(array, 1),
        },
        other => {
            return Err(
                Error::data(format!("values of Arrow type {other} cannot be compared"))
                    .hint("leave the column out with --exclude"),
            );
        }
    })
}

fn whole<T>(array: &dyn Array) -> Kind<'static>
where
    T: ArrowPrimitiveType,
    T::Native: Into<i128>,
{
    let values = array.as_primitive::<T>().values().iter();
    Kind::Numbers(values.map(|value| (*value).into()).collect(), 0)
}

fn ticks<T: ArrowPrimitiveType<Native = i64>>(array: &dyn Array, nanos: i128) -> Kind<'static> {
    let values = array.as_primitive::<T>().values().iter();
    Kind::Nanos(values.map(|value| i128::from(*value) * nanos).collect())
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Vec<&'a str> {
    values.map(Option::unwrap_or_default).collect()
}

fn bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> Vec<&'a [u8]> {
    values.map(Option::unwrap_or_default).collect()
}

fn field(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn nanos(tag: u8, value: i128, out: &mut Vec<u8>) {
    field(tag, &value.to_le_bytes(), out);
}

/// A number without zeros at its end: 1.50 is 1.5.
fn number(mut value: i128, mut scale: i8, out: &mut Vec<u8>) {
    while scale > 0 && value % 10 == 0 {
        value /= 10;
        scale -= 1;
    }
    out.push(b'n');
    out.push(scale.cast_unsigned());
    out.extend_from_slice(&value.to_le_bytes());
}

/// The first whole number from a decimal on: it lies behind, or up to, the same whole numbers.
fn whole_from(value: i128, scale: i8) -> Option<i128> {
    let power = 10_i128.checked_pow(scale.unsigned_abs().into())?;
    if scale <= 0 {
        return value.checked_mul(power);
    }
    Some(value.div_euclid(power) + i128::from(value.rem_euclid(power) > 0))
}

/// There is one NaN, and zero has no sign: not every sink keeps it.
fn float(value: f64, out: &mut Vec<u8>) {
    let value = if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    };
    out.push(b'f');
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// A decimal number and its places; `None` for what has more than 38 digits, or is none.
fn parse_decimal(text: &str) -> Option<(i128, i8)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i128 = all.parse().ok()?;
    let scale = i8::try_from(fraction.len()).ok()?;
    Some((if negative { -value } else { value }, scale))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::StringDictionaryBuilder;
    use arrow_array::{
        ArrayRef, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float32Array, Float64Array,
        Int16Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampSecondArray,
        UInt64Array,
    };

    use super::*;

    fn written(array: &ArrayRef, form: Form) -> Vec<u8> {
        let values = Values::new(array.as_ref(), form, NulCharacters::Strip).unwrap();
        let mut out = Vec::new();
        values.append(0, &mut out);
        out
    }

    fn text(value: &str) -> ArrayRef {
        Arc::new(StringArray::from(vec![value]))
    }

    fn decimal(value: i128, scale: i8) -> ArrayRef {
        let array = Decimal128Array::from(vec![value]);
        Arc::new(array.with_precision_and_scale(38, scale).unwrap())
    }

    #[test]
    fn the_same_value_has_the_same_bytes_whatever_carries_it() {
        let mut words = StringDictionaryBuilder::<Int32Type>::new();
        words.append_value("Ann");
        let id = Uuid::from_u128(0xab);
        let raw = FixedSizeBinaryArray::try_from_iter([id.as_bytes()].into_iter()).unwrap();
        let time = "2024-01-31 10:00:00";
        let seconds = 1_706_695_200;
        let same: [(Form, ArrayRef, ArrayRef); 16] = [
            (
                Form::Number,
                Arc::new(Int16Array::from(vec![7])),
                Arc::new(Int64Array::from(vec![7])),
            ),
            (
                Form::Number,
                Arc::new(BooleanArray::from(vec![true])),
                Arc::new(Int64Array::from(vec![1])),
            ),
            (Form::Number, decimal(-1_500, 3), decimal(-15, 1)),
            (Form::Number, decimal(-1_500, 3), text("-1.50")),
            (
                Form::Number,
                Arc::new(UInt64Array::from(vec![u64::MAX])),
                text("18446744073709551615"),
            ),
            (
                Form::Float,
                Arc::new(Float32Array::from(vec![0.5])),
                Arc::new(Float64Array::from(vec![0.5])),
            ),
            (
                Form::Float,
                Arc::new(Float64Array::from(vec![-f64::NAN])),
                Arc::new(Float64Array::from(vec![f64::NAN])),
            ),
            (
                Form::Float,
                Arc::new(Float64Array::from(vec![-0.0])),
                Arc::new(Float64Array::from(vec![0.0])),
            ),
            (Form::Text, Arc::new(words.finish()), text("Ann")),
            (Form::Text, text("A\0nn"), text("Ann")),
            (Form::Padded, text("Ann  "), text("Ann")),
            (
                Form::Uuid,
                text(&id.to_string().to_uppercase()),
                Arc::new(raw),
            ),
            (
                Form::Json,
                text(r#"{"b": 1e2, "a": [1.50, "é"]}"#),
                text(r#"{"a":[1.5,"\u00e9"],"b":100}"#),
            ),
            (
                Form::Date,
                Arc::new(arrow_array::Date32Array::from(vec![-1])),
                text("1969-12-31"),
            ),
            (
                Form::Time,
                Arc::new(Int64Array::from(vec![86_399_000_001])),
                text("23:59:59.000001"),
            ),
            (
                Form::Timestamp { zoned: false },
                Arc::new(TimestampMicrosecondArray::from(vec![seconds * 1_000_000])),
                text(time),
            ),
        ];
        for (form, a, b) in &same {
            assert_eq!(written(a, *form), written(b, *form), "{form:?} {a:?} {b:?}");
        }
        let coarse: ArrayRef = Arc::new(TimestampSecondArray::from(vec![seconds]));
        let zoned = Form::Timestamp { zoned: true };
        assert_eq!(
            written(&coarse, zoned),
            written(&text(&format!("{time}Z")), zoned)
        );
        assert_ne!(written(&coarse, zoned), written(&text(time), zoned));
    }

    #[test]
    fn different_values_have_different_bytes() {
        let null: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
        let different: [(Form, ArrayRef, ArrayRef); 8] = [
            (Form::Text, null, text("")),
            (Form::Text, text("Ann  "), text("Ann")),
            (Form::Number, decimal(15, 1), decimal(15, 2)),
            (
                Form::Number,
                Arc::new(Int64Array::from(vec![1])),
                Arc::new(Float64Array::from(vec![1.0])),
            ),
            (
                Form::Float,
                Arc::new(Float64Array::from(vec![f64::INFINITY])),
                Arc::new(Float64Array::from(vec![f64::NEG_INFINITY])),
            ),
            (
                Form::Json,
                text(r#"{"a": [1, 2]}"#),
                text(r#"{"a": [2, 1]}"#),
            ),
            (Form::Json, text("\"1\""), text("1")),
            (Form::Date, text("2024-01-31 10:00:00"), text("2024-01-31")),
        ];
        for (form, a, b) in &different {
            assert_ne!(written(a, *form), written(b, *form), "{form:?} {a:?} {b:?}");
        }
    }

    #[test]
    fn positions_are_numbers_or_nanoseconds() {
        let position = |array: ArrayRef| {
            Values::new(array.as_ref(), Form::Text, NulCharacters::Keep)
                .unwrap()
                .position(0)
        };
        assert_eq!(position(Arc::new(Int64Array::from(vec![-3]))), Some(-3));
        assert_eq!(position(text("1970-01-02")), Some(NANOS_PER_DAY));
        assert_eq!(position(text("1970-01-01T00:00:00.5Z")), Some(500_000_000));
        assert_eq!(position(text("soon")), None);
        let decimals = [
            (1_500, 1, 150),
            (1_501, 1, 151),
            (-1_509, 1, -150),
            (15, -1, 150),
        ];
        for (value, scale, expected) in decimals {
            assert_eq!(position(decimal(value, scale)), Some(expected));
        }
        let kept = text("150.1");
        let kept = Values::new(kept.as_ref(), Form::Number, NulCharacters::Keep).unwrap();
        assert_eq!(kept.position(0), Some(151));
        assert_eq!(position(Arc::new(Int64Array::from(vec![None]))), None);
    }
}
