//! Values as bytes, without the length before them (MS-TDS 2.2.5.5).

use rusqlite::types::ValueRef;

use crate::stand_in::calendar::{DATETIME_PER_DAY, TICKS_PER_DAY, TICKS_PER_SECOND};
use crate::stand_in::collation::CollationRef;
use crate::stand_in::datum::{
    Datum, from_utf16, pack_decimal, pack_guid, pack_offset, push_utf16, unpack_decimal,
    unpack_guid, unpack_offset,
};
use crate::stand_in::types::{SqlType as T, decimal_bytes, time_bytes};

/// Days from 0001-01-01 are three bytes.
fn put_day(days: i64, into: &mut Vec<u8>) {
    let [a, b, c, ..] = days.to_le_bytes();
    into.extend([a, b, c]);
}

fn put_time(ticks: i64, scale: u8, into: &mut Vec<u8>) {
    let units = ticks / 10_i64.pow(7 - u32::from(scale.min(7)));
    into.extend(
        units
            .to_le_bytes()
            .iter()
            .take(usize::from(time_bytes(scale))),
    );
}

/// Writes a value that is not NULL, as its column's type wants it.
pub fn encode(value: ValueRef<'_>, ty: T, collation: CollationRef, into: &mut Vec<u8>) {
    match (value, ty) {
        (ValueRef::Integer(it), T::Bit | T::TinyInt) => into.push(it as u8),
        (ValueRef::Integer(it), T::SmallInt) => into.extend((it as i16).to_le_bytes()),
        (ValueRef::Integer(it), T::Int | T::SmallMoney) => into.extend((it as i32).to_le_bytes()),
        (ValueRef::Integer(it), T::BigInt) => into.extend(it.to_le_bytes()),
        (ValueRef::Real(it), T::Real) => into.extend((it as f32).to_le_bytes()),
        (ValueRef::Real(it), _) => into.extend(it.to_le_bytes()),
        (ValueRef::Integer(it), T::Real) => into.extend((it as f32).to_le_bytes()),
        (ValueRef::Integer(it), T::Float) => into.extend((it as f64).to_le_bytes()),
        (ValueRef::Integer(it), T::Money) => {
            // The more significant half comes first.
            into.extend(((it >> 32) as i32).to_le_bytes());
            into.extend((it as u32).to_le_bytes());
        }
        (ValueRef::Blob(bytes), T::Decimal(p, _) | T::Numeric(p, _)) => {
            let unscaled = unpack_decimal(bytes);
            into.push(u8::from(unscaled >= 0));
            into.extend(
                unscaled
                    .unsigned_abs()
                    .to_le_bytes()
                    .iter()
                    .take(usize::from(decimal_bytes(p)) - 1),
            );
        }
        (ValueRef::Integer(days), T::Date) => put_day(days, into),
        (ValueRef::Integer(ticks), T::Time(scale)) => put_time(ticks, scale, into),
        (ValueRef::Integer(ticks), T::DateTime2(scale)) => {
            put_time(ticks.rem_euclid(TICKS_PER_DAY), scale, into);
            put_day(ticks.div_euclid(TICKS_PER_DAY), into);
        }
        (ValueRef::Blob(bytes), T::DateTimeOffset(scale)) => {
            let (utc, minutes) = unpack_offset(bytes);
            put_time(utc.rem_euclid(TICKS_PER_DAY), scale, into);
            put_day(utc.div_euclid(TICKS_PER_DAY), into);
            into.extend((minutes as i16).to_le_bytes());
        }
        (ValueRef::Integer(it), T::DateTime) => {
            into.extend((it.div_euclid(DATETIME_PER_DAY) as i32).to_le_bytes());
            into.extend((it.rem_euclid(DATETIME_PER_DAY) as u32).to_le_bytes());
        }
        (ValueRef::Integer(it), T::SmallDateTime) => {
            into.extend((it.div_euclid(1440) as u16).to_le_bytes());
            into.extend((it.rem_euclid(1440) as u16).to_le_bytes());
        }
        (ValueRef::Blob(bytes), T::Guid) => into.extend(unpack_guid(bytes)),
        (ValueRef::Text(text), _) => {
            // The files hold only what was a Rust string before.
            let text = std::str::from_utf8(text).unwrap_or_default();
            if ty.is_unicode() {
                push_utf16(text, into);
            } else if collation.utf8 || text.is_ascii() {
                into.extend(text.as_bytes());
            } else {
                into.extend(collation.encode(text));
            }
        }
        (ValueRef::Blob(bytes), _) => into.extend(bytes),
        (ValueRef::Integer(it), _) => into.extend(it.to_le_bytes()),
        (ValueRef::Null, _) => {}
    }
}

fn little(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .take(8)
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn get_time(bytes: &[u8], scale: u8) -> i64 {
    little(bytes) as i64 * 10_i64.pow(7 - u32::from(scale.min(7)))
}

/// Reads a value; `None` when the bytes cannot be one.
pub fn decode(bytes: &[u8], ty: T, collation: CollationRef) -> Option<Datum> {
    let size = |expected: usize| (bytes.len() == expected).then_some(());
    Some(match ty {
        T::Bit => Datum::flag(*bytes.first()? != 0),
        T::TinyInt => Datum::Int(i64::from(*bytes.first()?)),
        T::SmallInt => Datum::Int(i64::from(i16::from_le_bytes(bytes.try_into().ok()?))),
        T::Int | T::SmallMoney => Datum::Int(i64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
        T::BigInt => Datum::Int(i64::from_le_bytes(bytes.try_into().ok()?)),
        T::Real => Datum::Float(f64::from(f32::from_le_bytes(bytes.try_into().ok()?))),
        T::Float => Datum::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
        T::Money => {
            size(8)?;
            let (high, low) = bytes.split_at_checked(4)?;
            Datum::Int((little(high) << 32 | little(low)) as i64)
        }
        T::Decimal(..) | T::Numeric(..) => {
            let (sign, magnitude) = bytes.split_first()?;
            if magnitude.len() > 16 {
                return None;
            }
            let value = magnitude
                .iter()
                .rev()
                .fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
            let value = i128::try_from(value).ok()?;
            Datum::Bytes(pack_decimal(if *sign == 0 { -value } else { value }))
        }
        T::Date => {
            size(3)?;
            day(bytes).map(Datum::Int)?
        }
        T::Time(scale) => Datum::Int(in_day(get_time(bytes.get(..bytes.len().min(5))?, scale))?),
        T::DateTime2(scale) => {
            let (time, date) = bytes.split_at_checked(bytes.len().checked_sub(3)?)?;
            Datum::Int(
                day(date)? * TICKS_PER_DAY
                    + in_day(get_time(time.get(..time.len().min(5))?, scale))?,
            )
        }
        T::DateTimeOffset(scale) => {
            let (rest, offset) = bytes.split_at_checked(bytes.len().checked_sub(2)?)?;
            let (time, date) = rest.split_at_checked(rest.len().checked_sub(3)?)?;
            let utc = day(date)? * TICKS_PER_DAY
                + in_day(get_time(time.get(..time.len().min(5))?, scale))?;
            let minutes = i64::from(little(offset) as i16);
            if minutes.abs() > 840 {
                return None;
            }
            Datum::Bytes(pack_offset(utc, minutes))
        }
        T::DateTime => {
            size(8)?;
            let (days, part) = bytes.split_at_checked(4)?;
            let days = i64::from(little(days) as i32);
            if !(-53_690..=2_958_463).contains(&days) {
                return None;
            }
            Datum::Int(days * DATETIME_PER_DAY + i64::from(little(part) as u32))
        }
        T::SmallDateTime => {
            size(4)?;
            let (days, minutes) = bytes.split_at_checked(2)?;
            Datum::Int(little(days) as i64 * 1440 + little(minutes) as i64)
        }
        T::Guid => {
            size(16)?;
            Datum::Bytes(pack_guid(bytes))
        }
        _ if ty.is_unicode() => Datum::Text(from_utf16(bytes)),
        _ if ty.is_text() => Datum::Text(collation.decode(bytes)),
        _ => Datum::Bytes(bytes.to_vec()),
    })
}

fn day(bytes: &[u8]) -> Option<i64> {
    Some(little(bytes) as i64).filter(|it| (0..=3_652_058).contains(it))
}

fn in_day(ticks: i64) -> Option<i64> {
    (0..86_400 * TICKS_PER_SECOND)
        .contains(&ticks)
        .then_some(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stand_in::collation;

    #[test]
    fn what_is_written_is_read_again() {
        let collation = collation::default();
        for (ty, value) in [
            (T::Money, Datum::Int(-1)),
            (T::Money, Datum::Int(i64::MIN)),
            (
                T::Decimal(38, 0),
                Datum::Bytes(pack_decimal(-(10_i128.pow(38) - 1))),
            ),
            (T::DateTime, Datum::Int(-53_690 * DATETIME_PER_DAY)),
            (T::DateTime2(7), Datum::Int(3_155_378_975_999_999_999)),
            (
                T::DateTimeOffset(7),
                Datum::Bytes(pack_offset(3_155_378_975_999_999_999, 840)),
            ),
            (T::Time(0), Datum::Int(86_399 * TICKS_PER_SECOND)),
            (T::SmallDateTime, Datum::Int(65_535 * 1440 + 1439)),
            (T::VarChar(None), Datum::text("é")),
            (T::NVarChar(None), Datum::text("😀")),
        ] {
            let mut bytes = Vec::new();
            encode(value.as_ref(), ty, collation, &mut bytes);
            assert_eq!(decode(&bytes, ty, collation), Some(value), "{ty:?}");
        }
    }
}
