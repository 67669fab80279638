//! Arrow columns as rows of PostgreSQL's binary COPY format
//! (<https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4>).
//!
//! A value that its column cannot hold refuses its row, before a byte of it is sent.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, BinaryArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray, LargeStringArray,
    PrimitiveArray, StringArray, StringViewArray,
};
use arrow_buffer::{ArrowNativeType, NullBuffer};
use arrow_schema::{DataType, TimeUnit};
use uuid::Uuid;

use super::json;
use super::types::PgType;
use crate::error::{Error, Result};

/// What every binary COPY starts with: signature, flags, length of the (empty) header extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What it ends with.
pub const TRAILER: &[u8] = &(-1i16).to_be_bytes();

/// 2000-01-01, PostgreSQL's zero of time, in microseconds and days since 1970-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;
/// The first microsecond of 4714-11-24 BC and of 294277-01-01, between which timestamps lie, relative to 2000-01-01
/// (`MIN_TIMESTAMP` and `END_TIMESTAMP` in the server's datatype/timestamp.h).
const MIN_TIMESTAMP: i64 = -211_813_488_000_000_000;
const END_TIMESTAMP: i64 = 9_223_371_331_200_000_000;
/// Days of a date, from the same place.
const MIN_DATE: i32 = -2_451_545;
const END_DATE: i32 = 2_145_031_949;

type Fit = std::result::Result<(), &'static str>;

/// One column of one batch, with the type it is written as.
pub struct Encoder<'a> {
    values: Values<'a>,
    column: PgType,
    nulls: Option<NullBuffer>,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Integer(Integers<'a>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>, i8),
    Text(Texts<'a>),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    FixedBinary(&'a FixedSizeBinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    /// Values and how many of them are a microsecond: negative for units longer than one.
    Time(&'a [i64], i64),
    Timestamp(&'a [i64], Unit),
}

enum Integers<'a> {
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
}

enum Texts<'a> {
    Small(&'a StringArray),
    Large(&'a LargeStringArray),
    View(&'a StringViewArray),
    /// Keys and the words they stand for.
    Dictionary(Keys<'a>, &'a StringArray),
}

/// The place of each row's word.
enum Keys<'a> {
    Int32(&'a [i32]),
    Other(Vec<usize>),
}

#[derive(Clone, Copy)]
enum Unit {
    MicrosPer(i64),
    PerMicro(i64),
}

impl<'a> Encoder<'a> {
    /// An encoder for a pair that [`accepts`](super::types::accepts) allows.
    pub fn new(array: &'a dyn Array, column: PgType) -> Result<Self> {
        let values = match array.data_type() {
            DataType::Boolean => Values::Boolean(array.as_boolean()),
            DataType::Int8 => {
                Values::Integer(Integers::I8(array.as_primitive::<Int8Type>().values()))
            }
            DataType::Int16 => {
                Values::Integer(Integers::I16(array.as_primitive::<Int16Type>().values()))
            }
            DataType::Int32 => {
                Values::Integer(Integers::I32(array.as_primitive::<Int32Type>().values()))
            }
            DataType::Int64 => {
                Values::Integer(Integers::I64(array.as_primitive::<Int64Type>().values()))
            }
            DataType::UInt8 => {
                Values::Integer(Integers::U8(array.as_primitive::<UInt8Type>().values()))
            }
            DataType::UInt16 => {
                Values::Integer(Integers::U16(array.as_primitive::<UInt16Type>().values()))
            }
            DataType::UInt32 => {
                Values::Integer(Integers::U32(array.as_primitive::<UInt32Type>().values()))
            }
            DataType::UInt64 => {
                Values::Integer(Integers::U64(array.as_primitive::<UInt64Type>().values()))
            }
            DataType::Float32 => Values::Float32(array.as_primitive()),
            DataType::Float64 => Values::Float64(array.as_primitive()),
            DataType::Decimal128(_, scale) => Values::Decimal(array.as_primitive(), *scale),
            DataType::Utf8 => Values::Text(Texts::Small(array.as_string())),
            DataType::LargeUtf8 => Values::Text(Texts::Large(array.as_string())),
            DataType::Utf8View => Values::Text(Texts::View(array.as_string_view())),
            DataType::Dictionary(_, value) if value.as_ref() == &DataType::Utf8 => {
                let dictionary = array.as_any_dictionary();
                let words: &StringArray = dictionary.values().as_string();
                let keys = match dictionary.keys().as_primitive_opt::<Int32Type>() {
                    Some(keys) => Keys::Int32(keys.values()),
                    // Without words all rows are NULL.
                    None if words.is_empty() => Keys::Other(Vec::new()),
                    None => Keys::Other(dictionary.normalized_keys()),
                };
                Values::Text(Texts::Dictionary(keys, words))
            }
            DataType::Binary => Values::Binary(array.as_binary()),
            DataType::LargeBinary => Values::LargeBinary(array.as_binary()),
            DataType::FixedSizeBinary(_) => Values::FixedBinary(array.as_fixed_size_binary()),
            DataType::Date32 => Values::Date(array.as_primitive()),
            DataType::Time64(TimeUnit::Microsecond) => {
                Values::Time(array.as_primitive::<Time64MicrosecondType>().values(), 1)
            }
            DataType::Time64(TimeUnit::Nanosecond) => {
                Values::Time(array.as_primitive::<Time64NanosecondType>().values(), 1_000)
            }
            DataType::Timestamp(TimeUnit::Second, _) => Values::Timestamp(
                array.as_primitive::<TimestampSecondType>().values(),
                Unit::MicrosPer(1_000_000),
            ),
            DataType::Timestamp(TimeUnit::Millisecond, _) => Values::Timestamp(
                array.as_primitive::<TimestampMillisecondType>().values(),
                Unit::MicrosPer(1_000),
            ),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Timestamp(
                array.as_primitive::<TimestampMicrosecondType>().values(),
                Unit::MicrosPer(1),
            ),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Values::Timestamp(
                array.as_primitive::<TimestampNanosecondType>().values(),
                Unit::PerMicro(1_000),
            ),
            other => {
                return Err(Error::data(format!(
                    "PostgreSQL has no column for Arrow type {other}"
                )));
            }
        };
        Ok(Self {
            values,
            column,
            // A dictionary's value may be NULL where its key is not.
            nulls: array.logical_nulls(),
        })
    }

    /// Appends one field: its length and its bytes, or -1 for NULL.
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) -> Fit {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(&(-1i32).to_be_bytes());
            return Ok(());
        }
        match &self.values {
            Values::Boolean(values) => put(out, &[u8::from(values.value(row))]),
            Values::Integer(values) => self.integer(values.get(row), out),
            Values::Float32(values) if self.column == PgType::Float4 => {
                put(out, &values.value(row).to_be_bytes())
            }
            Values::Float32(values) => put(out, &f64::from(values.value(row)).to_be_bytes()),
            Values::Float64(values) => put(out, &values.value(row).to_be_bytes()),
            Values::Decimal(values, scale) => self.numeric(values.value(row), *scale, out),
            Values::Text(values) => self.text(values.get(row), out),
            Values::Binary(values) => put(out, values.value(row)),
            Values::LargeBinary(values) => put(out, values.value(row)),
            Values::FixedBinary(values) => put(out, values.value(row)),
            Values::Date(values) => {
                let days = values.value(row).checked_sub(EPOCH_DAYS);
                let days = days.filter(|days| (MIN_DATE..END_DATE).contains(days));
                put(out, &days.ok_or("a date out of range")?.to_be_bytes())
            }
            Values::Time(values, per_micro) => {
                let value = at(values, row);
                if value % per_micro != 0 {
                    return Err("a time with more than microseconds");
                }
                let micros = value / per_micro;
                if !(0..=86_400_000_000).contains(&micros) {
                    return Err("a time out of range");
                }
                put(out, &micros.to_be_bytes())
            }
            Values::Timestamp(values, unit) => timestamp(at(values, row), *unit, out),
        }
    }

    fn integer(&self, value: i128, out: &mut Vec<u8>) -> Fit {
        const RANGE: &str = "a number out of the column's range";
        match self.column {
            PgType::Int2 => put(out, &i16::try_from(value).map_err(|_| RANGE)?.to_be_bytes()),
            PgType::Int4 => put(out, &i32::try_from(value).map_err(|_| RANGE)?.to_be_bytes()),
            PgType::Int8 => put(out, &i64::try_from(value).map_err(|_| RANGE)?.to_be_bytes()),
            _ => self.numeric(value, 0, out),
        }
    }

    fn numeric(&self, value: i128, scale: i8, out: &mut Vec<u8>) -> Fit {
        if let PgType::Numeric(Some((precision, places))) = self.column {
            let digits = i32::try_from(value.unsigned_abs().to_string().len()).unwrap_or(i32::MAX);
            // Both may be less than nothing: 0.00012 has no digit before the point, nor the first three behind it.
            let whole = digits - i32::from(scale);
            let allowed = i32::from(precision) - i32::from(places);
            if value != 0 && whole > allowed {
                return Err("a number with too many digits for the column");
            }
        }
        numeric(value, scale, out)
    }

    fn text(&self, value: &str, out: &mut Vec<u8>) -> Fit {
        if memchr_nul(value) {
            return Err("U+0000, which PostgreSQL text cannot hold");
        }
        match self.column {
            PgType::Uuid => {
                let uuid = Uuid::try_parse(value).map_err(|_| "text that is no UUID")?;
                put(out, uuid.as_bytes())
            }
            PgType::Json => {
                json::check(value)?;
                put(out, value.as_bytes())
            }
            // The version of jsonb's binary form.
            PgType::Jsonb => {
                json::check(value)?;
                json::check_escapes(value)?;
                length(value.len() + 1, out)?;
                out.push(1);
                out.extend_from_slice(value.as_bytes());
                Ok(())
            }
            PgType::Text(Some(limit)) if value.len() > limit && value.chars().count() > limit => {
                Err("text longer than the column")
            }
            _ => put(out, value.as_bytes()),
        }
    }
}

impl Integers<'_> {
    fn get(&self, row: usize) -> i128 {
        match self {
            Self::I8(values) => at(values, row).into(),
            Self::I16(values) => at(values, row).into(),
            Self::I32(values) => at(values, row).into(),
            Self::I64(values) => at(values, row).into(),
            Self::U8(values) => at(values, row).into(),
            Self::U16(values) => at(values, row).into(),
            Self::U32(values) => at(values, row).into(),
            Self::U64(values) => at(values, row).into(),
        }
    }
}

impl Texts<'_> {
    fn get(&self, row: usize) -> &str {
        match self {
            Self::Small(values) => values.value(row),
            Self::Large(values) => values.value(row),
            Self::View(values) => values.value(row),
            Self::Dictionary(keys, words) => {
                let key = match keys {
                    Keys::Int32(keys) => keys.get(row).and_then(|key| usize::try_from(*key).ok()),
                    Keys::Other(keys) => keys.get(row).copied(),
                };
                key.filter(|key| *key < words.len())
                    .map_or("", |key| words.value(key))
            }
        }
    }
}

/// Rows are counted by the batch, so the default is never seen.
fn at<T: ArrowNativeType>(values: &[T], row: usize) -> T {
    values.get(row).copied().unwrap_or_default()
}

fn memchr_nul(text: &str) -> bool {
    text.as_bytes().contains(&0)
}

fn length(bytes: usize, out: &mut Vec<u8>) -> Fit {
    let length = i32::try_from(bytes).map_err(|_| "a value of more than 2 GiB")?;
    out.extend_from_slice(&length.to_be_bytes());
    Ok(())
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Fit {
    length(bytes.len(), out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

fn timestamp(value: i64, unit: Unit, out: &mut Vec<u8>) -> Fit {
    let micros = match unit {
        Unit::MicrosPer(factor) => value.checked_mul(factor),
        Unit::PerMicro(factor) if value % factor == 0 => Some(value / factor),
        Unit::PerMicro(_) => return Err("a time with more than microseconds"),
    };
    let since_2000 = micros
        .and_then(|micros| micros.checked_sub(EPOCH_MICROS))
        .filter(|micros| (MIN_TIMESTAMP..END_TIMESTAMP).contains(micros));
    put(out, &since_2000.ok_or("a time out of range")?.to_be_bytes())
}

/// numeric: digits to the base 10,000, the weight of the first, the sign, the decimal places
/// (`numeric_send` in the server's utils/adt/numeric.c).
fn numeric(value: i128, scale: i8, out: &mut Vec<u8>) -> Fit {
    let places = usize::try_from(scale).map_err(|_| "a decimal with a negative scale")?;
    let digits = value.unsigned_abs().to_string();
    let (whole, fraction) = if digits.len() > places {
        digits.split_at(digits.len() - places)
    } else {
        ("", digits.as_str())
    };
    let fraction = format!("{}{fraction}", "0".repeat(places - fraction.len()));
    // Groups of four, aligned at the decimal point.
    let lead = (4 - whole.len() % 4) % 4;
    let trail = (4 - fraction.len() % 4) % 4;
    let aligned = format!("{}{whole}{fraction}{}", "0".repeat(lead), "0".repeat(trail));
    let mut groups: Vec<i16> = aligned
        .as_bytes()
        .chunks(4)
        .map(|group| {
            group
                .iter()
                .fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0'))
        })
        .collect();
    let mut weight = i16::try_from(whole.len().div_ceil(4)).unwrap_or(0) - 1;
    let zeros = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..zeros);
    weight -= i16::try_from(zeros).unwrap_or(0);
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    let sign: u16 = if value < 0 { 0x4000 } else { 0 };
    length(8 + 2 * groups.len(), out)?;
    let count = i16::try_from(groups.len()).map_err(|_| "a number with too many digits")?;
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&i16::from(scale).to_be_bytes());
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod against_the_server;

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric_words(value: i128, scale: i8) -> Vec<i16> {
        let mut out = Vec::new();
        numeric(value, scale, &mut out).unwrap();
        out[4..]
            .chunks(2)
            .map(|pair| i16::from_be_bytes([pair[0], pair[1]]))
            .collect()
    }

    #[test]
    fn numbers_are_written_as_the_server_writes_them() {
        assert_eq!(numeric_words(0, 0), [0, 0, 0, 0]);
        assert_eq!(numeric_words(1, 0), [1, 0, 0, 0, 1]);
        assert_eq!(numeric_words(-12_345, 2), [2, 0, 0x4000, 2, 123, 4500]);
        assert_eq!(numeric_words(10_000, 0), [1, 1, 0, 0, 1]);
        assert_eq!(numeric_words(5, 6), [1, -2, 0, 6, 500]);
    }

    #[test]
    fn times_are_refused_rather_than_rounded() {
        let mut out = Vec::new();
        assert!(timestamp(1_500, Unit::PerMicro(1_000), &mut out).is_err());
        assert!(timestamp(i64::MIN, Unit::MicrosPer(1), &mut out).is_err());
        assert!(timestamp(i64::MAX, Unit::MicrosPer(1_000), &mut out).is_err());
        assert!(timestamp(0, Unit::MicrosPer(1), &mut out).is_ok());
        assert_eq!(
            out,
            [&[0, 0, 0, 8][..], &(-EPOCH_MICROS).to_be_bytes()].concat()
        );
    }

    #[test]
    fn nul_in_text_is_refused() {
        let array = StringArray::from(vec!["fine", "not\0fine"]);
        let encoder = Encoder::new(&array, PgType::Text(None)).unwrap();
        let mut out = Vec::new();
        assert!(encoder.encode(0, &mut out).is_ok());
        assert!(encoder.encode(1, &mut out).unwrap_err().contains("U+0000"));
    }

    fn encoded<K: arrow_array::types::ArrowDictionaryKeyType>(
        keys: PrimitiveArray<K>,
        words: Vec<Option<&str>>,
    ) -> Vec<u8> {
        let words = std::sync::Arc::new(StringArray::from(words));
        let array = arrow_array::DictionaryArray::new(keys, words);
        let encoder = Encoder::new(&array, PgType::Text(None)).unwrap();
        let mut out = Vec::new();
        for row in 0..array.len() {
            encoder.encode(row, &mut out).unwrap();
        }
        out
    }

    #[test]
    fn a_dictionary_is_written_as_its_words() {
        let [a, b, null] = [&b"\0\0\0\x01a"[..], b"\0\0\0\x01b", b"\xff\xff\xff\xff"];
        // NULL by its key, and by its word.
        let words = || vec![Some("a"), None, Some("b")];
        let expected = [b, null, a, null].concat();
        let keys = [Some(2), None, Some(0), Some(1)];
        assert_eq!(
            encoded::<Int32Type>(keys.into_iter().collect(), words()),
            expected
        );
        let keys = [Some(2), None, Some(0), Some(1)];
        assert_eq!(
            encoded::<UInt8Type>(keys.into_iter().collect(), words()),
            expected
        );
        let nothing = [null, null].concat();
        let keys = PrimitiveArray::<Int32Type>::new_null(2);
        assert_eq!(encoded(keys, vec![]), nothing);
        let keys = PrimitiveArray::<Int8Type>::new_null(2);
        assert_eq!(encoded(keys, vec![]), nothing);
    }

    #[test]
    fn a_decimal_with_too_many_digits_is_refused() {
        let array = arrow_array::Decimal128Array::from(vec![99_999, 100_000, -99_999, 1, 0])
            .with_precision_and_scale(10, 2)
            .unwrap();
        let encoder = Encoder::new(&array, PgType::Numeric(Some((5, 2)))).unwrap();
        let fits: Vec<bool> = (0..5)
            .map(|row| encoder.encode(row, &mut Vec::new()).is_ok())
            .collect();
        assert_eq!(fits, [true, false, true, true, true]);
    }

    #[test]
    fn a_number_that_does_not_fit_is_refused() {
        let array = arrow_array::Int64Array::from(vec![32_767, 32_768]);
        let encoder = Encoder::new(&array, PgType::Int2).unwrap();
        let mut out = Vec::new();
        assert!(encoder.encode(0, &mut out).is_ok());
        assert!(encoder.encode(1, &mut out).is_err());
    }
}
