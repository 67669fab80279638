//! `TYPE_INFO` of columns and parameters, and the lengths before their values (MS-TDS 2.2.5.4 to 2.2.5.6).

use rusqlite::types::ValueRef;

use super::bytes::Bytes;
use super::value::{decode, encode};
use crate::stand_in::collation::{self, CollationRef};
use crate::stand_in::datum::Datum;
use crate::stand_in::types::{SqlType as T, Typed, decimal_bytes, time_bytes};

/// What stands before a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Nothing: the type says the length.
    Fixed,
    /// One byte, 0 for NULL.
    Byte,
    /// Two bytes, 0xFFFF for NULL.
    Short,
    /// In parts (PLP).
    Parts,
    /// A text pointer and four bytes.
    Pointer,
    /// Four bytes, 0 for NULL.
    Long,
}

/// How a column's values are written.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub ty: T,
    pub frame: Frame,
    pub collation: CollationRef,
    /// Parts are sent with their whole length unknown.
    pub unknown_length: bool,
}

const POINTER: [u8; 24] = *b"stand-in text\0\0\0timestmp";

impl Layout {
    pub fn of(typed: &Typed, unknown_length: bool) -> Self {
        let ty = typed.ty;
        let frame = match ty {
            T::Bit
            | T::TinyInt
            | T::SmallInt
            | T::Int
            | T::BigInt
            | T::Real
            | T::Float
            | T::Money
            | T::SmallMoney
            | T::DateTime
            | T::SmallDateTime
                if !typed.nullable =>
            {
                Frame::Fixed
            }
            T::Char(_) | T::NChar(_) | T::Binary(_) | T::RowVersion => Frame::Short,
            T::VarChar(Some(_)) | T::NVarChar(Some(_)) | T::VarBinary(Some(_)) => Frame::Short,
            T::VarChar(None) | T::NVarChar(None) | T::VarBinary(None) | T::Xml => Frame::Parts,
            T::Text | T::NText | T::Image => Frame::Pointer,
            T::Variant => Frame::Long,
            _ => Frame::Byte,
        };
        Self {
            ty,
            frame,
            collation: typed.collation,
            unknown_length,
        }
    }

    /// Writes `TYPE_INFO`, without the table name of the old large types.
    pub fn put_type(&self, into: &mut Vec<u8>) {
        let fixed = self.frame == Frame::Fixed;
        let size = self.ty.sizes().0;
        let short = |bytes: u16| bytes.to_le_bytes();
        match self.ty {
            T::Bit if fixed => into.push(0x32),
            T::TinyInt if fixed => into.push(0x30),
            T::SmallInt if fixed => into.push(0x34),
            T::Int if fixed => into.push(0x38),
            T::BigInt if fixed => into.push(0x7f),
            T::Real if fixed => into.push(0x3b),
            T::Float if fixed => into.push(0x3e),
            T::Money if fixed => into.push(0x3c),
            T::SmallMoney if fixed => into.push(0x7a),
            T::DateTime if fixed => into.push(0x3d),
            T::SmallDateTime if fixed => into.push(0x3a),
            T::Bit => into.extend([0x68, 1]),
            T::TinyInt | T::SmallInt | T::Int | T::BigInt => into.extend([0x26, size as u8]),
            T::Real | T::Float => into.extend([0x6d, size as u8]),
            T::Money | T::SmallMoney => into.extend([0x6e, size as u8]),
            T::DateTime | T::SmallDateTime => into.extend([0x6f, size as u8]),
            T::Decimal(p, s) => into.extend([0x6a, decimal_bytes(p), p, s]),
            T::Numeric(p, s) => into.extend([0x6c, decimal_bytes(p), p, s]),
            T::Date => into.push(0x28),
            T::Time(s) => into.extend([0x29, s]),
            T::DateTime2(s) => into.extend([0x2a, s]),
            T::DateTimeOffset(s) => into.extend([0x2b, s]),
            T::Guid => into.extend([0x24, 16]),
            T::Binary(n) => {
                into.push(0xad);
                into.extend(short(n));
            }
            T::RowVersion => {
                into.push(0xad);
                into.extend(short(8));
            }
            T::VarBinary(n) => {
                into.push(0xa5);
                into.extend(short(n.unwrap_or(u16::MAX)));
            }
            T::Char(n) => self.put_text_type(0xaf, n, into),
            T::VarChar(n) => self.put_text_type(0xa7, n.unwrap_or(u16::MAX), into),
            T::NChar(n) => self.put_text_type(0xef, n * 2, into),
            T::NVarChar(n) => self.put_text_type(0xe7, n.map_or(u16::MAX, |it| it * 2), into),
            T::Text => {
                into.push(0x23);
                into.extend(0x7fff_ffff_u32.to_le_bytes());
                into.extend(self.collation.wire);
            }
            T::NText => {
                into.push(0x63);
                into.extend(0x7fff_fffe_u32.to_le_bytes());
                into.extend(self.collation.wire);
            }
            T::Image => {
                into.push(0x22);
                into.extend(0x7fff_ffff_u32.to_le_bytes());
            }
            T::Xml => into.extend([0xf1, 0]),
            T::Variant => {
                into.push(0x62);
                into.extend(8009_u32.to_le_bytes());
            }
        }
    }

    fn put_text_type(&self, token: u8, bytes: u16, into: &mut Vec<u8>) {
        into.push(token);
        into.extend(bytes.to_le_bytes());
        into.extend(self.collation.wire);
    }

    /// How many bytes a NULL takes in a ROW.
    pub fn null_bytes(&self) -> usize {
        match self.frame {
            Frame::Fixed => 0,
            Frame::Byte | Frame::Pointer => 1,
            Frame::Short => 2,
            Frame::Long => 4,
            Frame::Parts => 8,
        }
    }

    pub fn put_null(&self, into: &mut Vec<u8>) {
        match self.frame {
            Frame::Fixed => {}
            Frame::Byte | Frame::Pointer => into.push(0),
            Frame::Short => into.extend([0xff; 2]),
            Frame::Long => into.extend([0; 4]),
            Frame::Parts => into.extend([0xff; 8]),
        }
    }

    /// Writes a value that is not NULL, with its length.
    pub fn put(&self, value: ValueRef<'_>, into: &mut Vec<u8>) {
        let before = into.len();
        match self.frame {
            Frame::Fixed => encode(value, self.ty, self.collation, into),
            Frame::Byte => {
                into.push(0);
                encode(value, self.ty, self.collation, into);
                let length = into.len() - before - 1;
                set(into, before, &[length as u8]);
            }
            Frame::Short => {
                into.extend([0; 2]);
                encode(value, self.ty, self.collation, into);
                let length = into.len() - before - 2;
                set(into, before, &(length as u16).to_le_bytes());
            }
            Frame::Long => {
                into.extend([0; 4]);
                encode(value, self.ty, self.collation, into);
                let length = into.len() - before - 4;
                set(into, before, &(length as u32).to_le_bytes());
            }
            Frame::Pointer => {
                into.push(16);
                into.extend(POINTER);
                into.extend([0; 4]);
                encode(value, self.ty, self.collation, into);
                let length = into.len() - before - 29;
                set(into, before + 25, &(length as u32).to_le_bytes());
            }
            Frame::Parts => self.put_parts(value, into),
        }
    }

    fn put_parts(&self, value: ValueRef<'_>, into: &mut Vec<u8>) {
        if self.unknown_length {
            let mut bytes = Vec::new();
            encode(value, self.ty, self.collation, &mut bytes);
            into.extend(0xffff_ffff_ffff_fffe_u64.to_le_bytes());
            // Parts of an odd length, so that they end within characters.
            for part in bytes.chunks(4_001) {
                into.extend((part.len() as u32).to_le_bytes());
                into.extend(part);
            }
            into.extend([0; 4]);
            return;
        }
        let before = into.len();
        into.extend([0; 12]);
        encode(value, self.ty, self.collation, into);
        let length = into.len() - before - 12;
        set(into, before, &(length as u64).to_le_bytes());
        if length == 0 {
            // An empty value has no part; the four zeros end it.
            return;
        }
        if length <= PART {
            set(into, before + 8, &(length as u32).to_le_bytes());
        } else {
            let bytes = into.split_off(before + 12);
            into.truncate(before + 8);
            for part in bytes.chunks(PART) {
                into.extend((part.len() as u32).to_le_bytes());
                into.extend(part);
            }
        }
        into.extend([0; 4]);
    }
}

/// The real server sends no longer parts, and drivers take none of any length.
const PART: usize = 8_000;

fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// A parameter's type and value.
pub fn read_parameter(bytes: &mut Bytes<'_>) -> Option<(T, Datum)> {
    let token = bytes.u8()?;
    let (ty, frame, collation) = read_type(token, bytes)?;
    read_value(bytes, ty, frame, collation)
}

/// A value of a parameter, or of a row that a client sends; and its type.
pub fn read_value(
    bytes: &mut Bytes<'_>,
    ty: T,
    frame: Frame,
    collation: CollationRef,
) -> Option<(T, Datum)> {
    let raw = match frame {
        Frame::Fixed => Some(bytes.take(ty.sizes().0 as usize)?.to_vec()),
        Frame::Byte => match bytes.u8()? {
            0 => None,
            length => Some(bytes.take(usize::from(length))?.to_vec()),
        },
        Frame::Short => match bytes.u16()? {
            0xffff => None,
            length => Some(bytes.take(usize::from(length))?.to_vec()),
        },
        Frame::Long | Frame::Pointer => match bytes.u32()? {
            0xffff_ffff => None,
            length => Some(bytes.take(length as usize)?.to_vec()),
        },
        Frame::Parts => read_parts(bytes)?,
    };
    let Some(raw) = raw else {
        return Some((ty, Datum::Null));
    };
    // A nullable number says its size only with its value.
    let ty = match (ty, raw.len()) {
        (T::BigInt, 1) => T::TinyInt,
        (T::BigInt, 2) => T::SmallInt,
        (T::BigInt, 4) => T::Int,
        (T::Float, 4) => T::Real,
        (T::Money, 4) => T::SmallMoney,
        (T::DateTime, 4) => T::SmallDateTime,
        (other, _) => other,
    };
    decode(&raw, ty, collation).map(|value| (ty, value))
}

#[expect(clippy::option_option, reason = "too little to read, NULL, or a value")]
fn read_parts(bytes: &mut Bytes<'_>) -> Option<Option<Vec<u8>>> {
    if bytes.u64()? == u64::MAX {
        return Some(None);
    }
    let mut whole = Vec::new();
    loop {
        match bytes.u32()? {
            0 => return Some(Some(whole)),
            length => whole.extend(bytes.take(length as usize)?),
        }
    }
}

pub fn read_type(token: u8, bytes: &mut Bytes<'_>) -> Option<(T, Frame, CollationRef)> {
    let mut collation = collation::default();
    let (ty, frame) = match token {
        0x32 => (T::Bit, Frame::Fixed),
        0x30 => (T::TinyInt, Frame::Fixed),
        0x34 => (T::SmallInt, Frame::Fixed),
        0x38 => (T::Int, Frame::Fixed),
        0x7f => (T::BigInt, Frame::Fixed),
        0x3b => (T::Real, Frame::Fixed),
        0x3e => (T::Float, Frame::Fixed),
        0x3c => (T::Money, Frame::Fixed),
        0x7a => (T::SmallMoney, Frame::Fixed),
        0x3d => (T::DateTime, Frame::Fixed),
        0x3a => (T::SmallDateTime, Frame::Fixed),
        0x1f => (T::Int, Frame::Byte),
        0x68 => (sized(bytes, |_| Some(T::Bit))?, Frame::Byte),
        0x26 => (
            sized(bytes, |size| match size {
                1 => Some(T::TinyInt),
                2 => Some(T::SmallInt),
                4 => Some(T::Int),
                8 => Some(T::BigInt),
                _ => None,
            })?,
            Frame::Byte,
        ),
        0x6d => (
            sized(bytes, |size| {
                Some(if size == 4 { T::Real } else { T::Float })
            })?,
            Frame::Byte,
        ),
        0x6e => (
            sized(bytes, |size| {
                Some(if size == 4 { T::SmallMoney } else { T::Money })
            })?,
            Frame::Byte,
        ),
        0x6f => (
            sized(bytes, |size| {
                Some(if size == 4 {
                    T::SmallDateTime
                } else {
                    T::DateTime
                })
            })?,
            Frame::Byte,
        ),
        0x24 => (sized(bytes, |_| Some(T::Guid))?, Frame::Byte),
        0x6a | 0x6c => {
            bytes.u8()?;
            let (p, s) = (bytes.u8()?, bytes.u8()?);
            if !(1..=38).contains(&p) || s > p {
                return None;
            }
            (
                if token == 0x6a {
                    T::Decimal(p, s)
                } else {
                    T::Numeric(p, s)
                },
                Frame::Byte,
            )
        }
        0x28 => (T::Date, Frame::Byte),
        0x29..=0x2b => {
            let scale = bytes.u8().filter(|it| *it <= 7)?;
            debug_assert!(time_bytes(scale) <= 5);
            let ty = match token {
                0x29 => T::Time(scale),
                0x2a => T::DateTime2(scale),
                _ => T::DateTimeOffset(scale),
            };
            (ty, Frame::Byte)
        }
        0xa5 | 0xad => binary(bytes.u16()?, token == 0xad),
        0xa7 | 0xaf | 0xe7 | 0xef => {
            let length = bytes.u16()?;
            collation = read_collation(bytes)?;
            text(token, length)
        }
        0x22 => {
            bytes.u32()?;
            (T::Image, Frame::Pointer)
        }
        0x23 | 0x63 => {
            bytes.u32()?;
            collation = read_collation(bytes)?;
            (
                if token == 0x23 { T::Text } else { T::NText },
                Frame::Pointer,
            )
        }
        0xf1 => {
            if bytes.u8()? != 0 {
                return None;
            }
            (T::Xml, Frame::Parts)
        }
        _ => return None,
    };
    Some((ty, frame, collation))
}

fn sized(bytes: &mut Bytes<'_>, of: impl FnOnce(u8) -> Option<T>) -> Option<T> {
    of(bytes.u8()?)
}

fn binary(length: u16, fixed: bool) -> (T, Frame) {
    match length {
        u16::MAX => (T::VarBinary(None), Frame::Parts),
        n if fixed => (T::Binary(n.clamp(1, 8000)), Frame::Short),
        n => (T::VarBinary(Some(n.clamp(1, 8000))), Frame::Short),
    }
}

fn text(token: u8, length: u16) -> (T, Frame) {
    let wide = matches!(token, 0xe7 | 0xef);
    let frame = if length == u16::MAX {
        Frame::Parts
    } else {
        Frame::Short
    };
    let most = if wide { 4000 } else { 8000 };
    let units =
        (length != u16::MAX).then_some((if wide { length / 2 } else { length }).clamp(1, most));
    let ty = match (token, units) {
        (0xaf, Some(n)) => T::Char(n),
        (0xef, Some(n)) => T::NChar(n),
        (0xa7 | 0xaf, n) => T::VarChar(n),
        (_, n) => T::NVarChar(n),
    };
    (ty, frame)
}

/// A collation by what is known of its bytes: the locale decides the code page.
fn read_collation(bytes: &mut Bytes<'_>) -> Option<CollationRef> {
    let bits = bytes.u32()?;
    let sort = bytes.u8()?;
    if bits >> 26 & 1 == 1 {
        return collation::named("Latin1_General_100_CI_AS_SC_UTF8");
    }
    let family = match bits & 0xffff {
        0x0415 => "Polish_CI_AS",
        0x0405 => "Czech_CI_AS",
        0x0419 => "Cyrillic_General_CI_AS",
        0x0411 => "Japanese_CI_AS",
        _ if sort != 0 => collation::DEFAULT,
        _ => "Latin1_General_CI_AS",
    };
    collation::named(family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_as_it_is_written() {
        for ty in [
            T::Bit,
            T::BigInt,
            T::Real,
            T::Decimal(9, 2),
            T::Money,
            T::Date,
            T::Time(3),
            T::DateTime,
            T::SmallDateTime,
            T::DateTime2(7),
            T::DateTimeOffset(0),
            T::VarChar(Some(10)),
            T::VarChar(None),
            T::NVarChar(Some(3)),
            T::NVarChar(None),
            T::VarBinary(Some(4)),
            T::VarBinary(None),
            T::Guid,
            T::Xml,
        ] {
            for unknown_length in [false, true] {
                let typed = Typed {
                    ty,
                    nullable: true,
                    collation: collation::default(),
                };
                let layout = Layout::of(&typed, unknown_length);
                let mut bytes = Vec::new();
                layout.put_type(&mut bytes);
                layout.put_null(&mut bytes);
                assert_eq!(read_parameter(&mut Bytes(&bytes)), Some((ty, Datum::Null)));
                let value = match ty {
                    T::Decimal(..) => Datum::Bytes(crate::stand_in::datum::pack_decimal(5)),
                    T::DateTimeOffset(_) => Datum::Bytes(crate::stand_in::datum::pack_offset(0, 0)),
                    T::Guid => Datum::Bytes(vec![7; 16]),
                    T::Real => Datum::Float(0.5),
                    _ if ty.is_text() => Datum::text("ab"),
                    _ if ty.is_bytes() => Datum::Bytes(vec![1, 2]),
                    _ => Datum::Int(0),
                };
                bytes.clear();
                layout.put_type(&mut bytes);
                layout.put(value.as_ref(), &mut bytes);
                assert_eq!(read_parameter(&mut Bytes(&bytes)), Some((ty, value)));
            }
        }
    }
}
