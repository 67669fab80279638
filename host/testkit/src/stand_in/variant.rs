//! `sql_variant`: a value that carries its type, in the form that the wire has (MS-TDS 2.2.5.5.4), which is also how
//! the files keep it.

use super::collation::CollationRef;
use super::datum::Datum;
use super::error::{SqlError, SqlResult};
use super::types::SqlType as T;
use super::wire::value::{decode, encode};

/// A value with its type.
pub fn wrap(value: &Datum, ty: T, collation: CollationRef) -> SqlResult<Datum> {
    let (token, properties): (u8, Vec<u8>) = match ty {
        T::Bit => (0x32, vec![]),
        T::TinyInt => (0x30, vec![]),
        T::SmallInt => (0x34, vec![]),
        T::Int => (0x38, vec![]),
        T::BigInt => (0x7f, vec![]),
        T::Real => (0x3b, vec![]),
        T::Float => (0x3e, vec![]),
        T::Money => (0x3c, vec![]),
        T::SmallMoney => (0x7a, vec![]),
        T::DateTime => (0x3d, vec![]),
        T::SmallDateTime => (0x3a, vec![]),
        T::Guid => (0x24, vec![]),
        T::Date => (0x28, vec![]),
        T::Time(s) => (0x29, vec![s]),
        T::DateTime2(s) => (0x2a, vec![s]),
        T::DateTimeOffset(s) => (0x2b, vec![s]),
        T::Decimal(p, s) => (0x6a, vec![p, s]),
        T::Numeric(p, s) => (0x6c, vec![p, s]),
        T::Binary(n) => (0xad, n.to_le_bytes().to_vec()),
        T::VarBinary(Some(n)) => (0xa5, n.to_le_bytes().to_vec()),
        T::Char(n) => (0xaf, text_properties(n, collation)),
        T::VarChar(Some(n)) => (0xa7, text_properties(n, collation)),
        T::NChar(n) => (0xef, text_properties(n * 2, collation)),
        T::NVarChar(Some(n)) => (0xe7, text_properties(n * 2, collation)),
        _ => {
            return Err(SqlError::new(
                206,
                format!(
                    "Operand type clash: {} is incompatible with sql_variant",
                    ty.full_name()
                ),
            ));
        }
    };
    let mut bytes = vec![token, properties.len() as u8];
    bytes.extend(properties);
    encode(value.as_ref(), ty, collation, &mut bytes);
    Ok(Datum::Bytes(bytes))
}

fn text_properties(bytes: u16, collation: CollationRef) -> Vec<u8> {
    let mut properties = collation.wire.to_vec();
    properties.extend(bytes.to_le_bytes());
    properties
}

/// The type and the value inside.
pub fn open(variant: &Datum, collation: CollationRef) -> SqlResult<(T, Datum)> {
    let Datum::Bytes(bytes) = variant else {
        return Ok((T::Int, Datum::Null));
    };
    inside(bytes, collation).ok_or_else(|| SqlError::internal("a sql_variant that is none"))
}

fn inside(bytes: &[u8], collation: CollationRef) -> Option<(T, Datum)> {
    let [token, length, rest @ ..] = bytes else {
        return None;
    };
    let (properties, value) = rest.split_at_checked(usize::from(*length))?;
    let first = properties.first().copied().unwrap_or(0);
    let word = |at: usize| {
        let pair = properties.get(at..at + 2)?;
        Some(u16::from_le_bytes(pair.try_into().ok()?))
    };
    let ty = match token {
        0x32 => T::Bit,
        0x30 => T::TinyInt,
        0x34 => T::SmallInt,
        0x38 => T::Int,
        0x7f => T::BigInt,
        0x3b => T::Real,
        0x3e => T::Float,
        0x3c => T::Money,
        0x7a => T::SmallMoney,
        0x3d => T::DateTime,
        0x3a => T::SmallDateTime,
        0x24 => T::Guid,
        0x28 => T::Date,
        0x29 => T::Time(first),
        0x2a => T::DateTime2(first),
        0x2b => T::DateTimeOffset(first),
        0x6a => T::Decimal(first, *properties.get(1)?),
        0x6c => T::Numeric(first, *properties.get(1)?),
        0xad => T::Binary(word(0)?),
        0xa5 => T::VarBinary(word(0)),
        0xaf => T::Char(word(5)?),
        0xa7 => T::VarChar(word(5)),
        0xef => T::NChar(word(5)? / 2),
        0xe7 => T::NVarChar(Some(word(5)? / 2)),
        _ => return None,
    };
    Some((ty, decode(value, ty, collation)?))
}

#[cfg(test)]
mod tests {
    use super::super::collation;
    use super::*;

    #[test]
    fn a_value_comes_out_as_it_went_in() {
        let collation = collation::default();
        for (ty, value) in [
            (T::Int, Datum::Int(-5)),
            (T::NVarChar(Some(5)), Datum::text("añ😀")),
            (T::DateTime2(3), Datum::Int(638_000_000_000_000_000)),
            (T::VarBinary(Some(3)), Datum::Bytes(vec![1, 2])),
        ] {
            let wrapped = wrap(&value, ty, collation).unwrap();
            assert_eq!(open(&wrapped, collation).unwrap(), (ty, value));
        }
        assert_eq!(
            wrap(&Datum::text("x"), T::Xml, collation)
                .unwrap_err()
                .number,
            206
        );
    }
}
