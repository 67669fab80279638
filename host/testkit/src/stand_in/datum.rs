//! Values as the `SQLite` files hold them. Each form compares in `SQLite` as its type compares in SQL Server:
//!
//! | T-SQL | form |
//! | --- | --- |
//! | bit … bigint | integer |
//! | real, float | real |
//! | money, smallmoney | integer, ten-thousandths |
//! | decimal, numeric | 16 bytes, big-endian, sign bit flipped |
//! | date | integer, days since 0001-01-01 |
//! | time, datetime2 | integer, 100 ns |
//! | datetime | integer, 1/300 s since 1900 |
//! | smalldatetime | integer, minutes since 1900 |
//! | datetimeoffset | 10 bytes: the instant as time, big-endian, then the offset |
//! | text of any kind | text |
//! | binary of any kind, rowversion | bytes |
//! | uniqueidentifier | 16 bytes in the order in which SQL Server compares them |
//! | `sql_variant` | bytes as on the wire |

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    Null,
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Datum {
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    pub fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(it) => Self::Int(it),
            ValueRef::Real(it) => Self::Float(it),
            ValueRef::Text(it) => Self::Text(String::from_utf8_lossy(it).into_owned()),
            ValueRef::Blob(it) => Self::Bytes(it.to_vec()),
        }
    }

    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Int(it) => ValueRef::Integer(*it),
            Self::Float(it) => ValueRef::Real(*it),
            Self::Text(it) => ValueRef::Text(it.as_bytes()),
            Self::Bytes(it) => ValueRef::Blob(it),
        }
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn flag(flag: bool) -> Self {
        Self::Int(i64::from(flag))
    }
}

impl ToSql for Datum {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.as_ref()))
    }
}

impl From<Datum> for Value {
    fn from(datum: Datum) -> Self {
        match datum {
            Datum::Null => Self::Null,
            Datum::Int(it) => Self::Integer(it),
            Datum::Float(it) => Self::Real(it),
            Datum::Text(it) => Self::Text(it),
            Datum::Bytes(it) => Self::Blob(it),
        }
    }
}

/// A decimal's digits without its point.
pub fn pack_decimal(unscaled: i128) -> Vec<u8> {
    (unscaled as u128 ^ (1 << 127)).to_be_bytes().to_vec()
}

pub fn unpack_decimal(bytes: &[u8]) -> i128 {
    let bytes: [u8; 16] = bytes.try_into().unwrap_or([0; 16]);
    (u128::from_be_bytes(bytes) ^ (1 << 127)) as i128
}

/// An instant (ticks in UTC) with the offset of its clock.
pub fn pack_offset(utc_ticks: i64, minutes: i64) -> Vec<u8> {
    let mut bytes = (utc_ticks as u64 ^ (1 << 63)).to_be_bytes().to_vec();
    bytes.extend((minutes as i16 as u16 ^ 0x8000).to_be_bytes());
    bytes
}

pub fn unpack_offset(bytes: &[u8]) -> (i64, i64) {
    let (ticks, minutes) = bytes.split_at_checked(8).unwrap_or((&[], &[]));
    let ticks = ticks
        .try_into()
        .map_or(0, |it| (u64::from_be_bytes(it) ^ (1 << 63)) as i64);
    let minutes = minutes
        .try_into()
        .map_or(0, |it| u16::from_be_bytes(it) ^ 0x8000);
    (ticks, i64::from(minutes as i16))
}

/// Which byte of the wire's form comes where, most significant first.
const GUID_ORDER: [usize; 16] = [10, 11, 12, 13, 14, 15, 8, 9, 6, 7, 4, 5, 0, 1, 2, 3];

/// From the wire's bytes to those that compare.
pub fn pack_guid(wire: &[u8]) -> Vec<u8> {
    GUID_ORDER
        .iter()
        .map(|from| wire.get(*from).copied().unwrap_or(0))
        .collect()
}

/// The wire's bytes.
pub fn unpack_guid(packed: &[u8]) -> [u8; 16] {
    let mut wire = [0; 16];
    for (byte, to) in packed.iter().zip(GUID_ORDER) {
        if let Some(place) = wire.get_mut(to) {
            *place = *byte;
        }
    }
    wire
}

/// `6F9619FF-8B86-D011-B42D-00C04FC964FF` to the wire's bytes, whose first three groups are little-endian.
pub fn parse_guid(text: &str) -> Option<[u8; 16]> {
    let text = text.trim().trim_start_matches('{').trim_end_matches('}');
    let groups: Vec<&str> = text.split('-').collect();
    if groups.iter().map(|it| it.len()).ne([8, 4, 4, 4, 12]) {
        return None;
    }
    let mut bytes = parse_hex(&groups.concat())?;
    bytes.get_mut(0..4)?.reverse();
    bytes.get_mut(4..6)?.reverse();
    bytes.get_mut(6..8)?.reverse();
    bytes.try_into().ok()
}

pub fn guid_text(wire: [u8; 16]) -> String {
    let mut bytes = wire;
    for group in [0..4, 4..6, 6..8] {
        if let Some(group) = bytes.get_mut(group) {
            group.reverse();
        }
    }
    let mut text = hex(&bytes);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    text
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02X}");
            text
        })
}

/// Hexadecimal digits; an odd number has a zero in front.
pub fn parse_hex(digits: &str) -> Option<Vec<u8>> {
    let padded = if digits.len() % 2 == 1 {
        format!("0{digits}")
    } else {
        digits.to_owned()
    };
    padded
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// UTF-16, little-endian, as the wire has it.
pub fn utf16(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_utf16(text, &mut bytes);
    bytes
}

pub fn push_utf16(text: &str, into: &mut Vec<u8>) {
    if text.is_ascii() {
        // Nearly all text of a benchmark comes here.
        let before = into.len();
        into.resize(before + text.len() * 2, 0);
        let pairs = into
            .get_mut(before..)
            .unwrap_or_default()
            .chunks_exact_mut(2);
        for (pair, byte) in pairs.zip(text.bytes()) {
            if let [low, _] = pair {
                *low = byte;
            }
        }
    } else {
        into.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    }
}

/// Half a surrogate pair becomes U+FFFD: the files hold UTF-8.
pub fn from_utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    char::decode_utf16(units)
        .map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_forms_compare_as_their_values() {
        let decimals = [i128::MIN / 2, -1, 0, 1, i128::MAX / 2];
        assert!(decimals.map(pack_decimal).is_sorted());
        assert!(
            decimals
                .iter()
                .all(|it| unpack_decimal(&pack_decimal(*it)) == *it)
        );
        assert!(pack_offset(5, 840) < pack_offset(6, -840));
        assert_eq!(unpack_offset(&pack_offset(-5, -330)), (-5, -330));
    }

    #[test]
    fn a_guid_survives_all_its_forms() {
        let text = "6F9619FF-8B86-D011-B42D-00C04FC964FF";
        let wire = parse_guid(text).unwrap();
        assert_eq!(wire[0], 0xFF);
        assert_eq!(unpack_guid(&pack_guid(&wire)), wire);
        assert_eq!(guid_text(wire), text);
        assert!(parse_guid("nonsense").is_none());
    }
}
