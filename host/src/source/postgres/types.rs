//! `PostgreSQL`'s types, and the Arrow type that holds each without losing anything.

use arrow_schema::{DataType, Field, TimeUnit};
use tokio_postgres::types::{Kind, Type};

use crate::extension::Meaning;
use crate::source::time::TimeForm;

/// Most digits of an Arrow decimal.
const MOST_DIGITS: u16 = 38;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlType {
    Bool,
    Int2,
    Int4,
    Int8,
    /// An object's number, 32 bits without a sign.
    Oid,
    Float4,
    Float8,
    /// Precision and scale, such as Arrow has them.
    Decimal(u8, i8),
    /// A numeric without limits, or with too many digits: exact, as text.
    Number,
    /// All character types, enumerations and XML.
    Text,
    /// The server's own `"char"`, a single byte; zero stands for none.
    Char,
    Bytea,
    Uuid,
    Json,
    Jsonb,
    Date,
    Time,
    TimeTz,
    /// Digits behind the second, as for the next one.
    Timestamp(u8),
    Timestamptz(u8),
    Interval,
    /// A network address, with or without its mask.
    Inet,
    /// A hardware address of six or eight bytes.
    MacAddr,
}

impl SqlType {
    /// The type of a result's column; `None` for those that are not read.
    pub fn of(column: &Type, modifier: i32) -> Option<Self> {
        match column.kind() {
            Kind::Enum(_) => return Some(Self::Text),
            Kind::Domain(base) => return Self::of(base, modifier),
            _ => {}
        }
        Some(match *column {
            Type::BOOL => Self::Bool,
            Type::INT2 => Self::Int2,
            Type::INT4 => Self::Int4,
            Type::INT8 => Self::Int8,
            Type::OID => Self::Oid,
            Type::FLOAT4 => Self::Float4,
            Type::FLOAT8 => Self::Float8,
            Type::NUMERIC => numeric(modifier),
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::XML => Self::Text,
            Type::CHAR => Self::Char,
            Type::BYTEA => Self::Bytea,
            Type::UUID => Self::Uuid,
            Type::JSON => Self::Json,
            Type::JSONB => Self::Jsonb,
            Type::DATE => Self::Date,
            Type::TIME => Self::Time,
            Type::TIMETZ => Self::TimeTz,
            Type::TIMESTAMP => Self::Timestamp(digits(modifier)),
            Type::TIMESTAMPTZ => Self::Timestamptz(digits(modifier)),
            Type::INTERVAL => Self::Interval,
            Type::INET | Type::CIDR => Self::Inet,
            Type::MACADDR | Type::MACADDR8 => Self::MacAddr,
            // Of an extension, so its object id differs from database to database.
            _ if column.name() == "citext" => Self::Text,
            _ => return None,
        })
    }

    /// The Arrow type.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 | Self::Oid => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Number
            | Self::Text
            | Self::Char
            | Self::Uuid
            | Self::Json
            | Self::Jsonb
            | Self::TimeTz
            | Self::Interval
            | Self::Inet
            | Self::MacAddr => DataType::Utf8,
        }
    }

    /// The Arrow field of a column of this type. Whether a result's column may hold NULL is not told by the server.
    pub fn field(self, name: &str) -> Field {
        let field = Field::new(name, self.arrow(), true);
        match self {
            Self::Uuid => Meaning::Uuid.mark(field),
            Self::Json | Self::Jsonb => Meaning::Json.mark(field),
            _ => field,
        }
    }

    /// What a cursor over such a column is; `None` if there can be none.
    pub fn cursor(self) -> Option<CursorType> {
        Some(match self {
            Self::Date => CursorType::Date,
            Self::Timestamp(digits) => CursorType::Timestamp(digits),
            Self::Timestamptz(digits) => CursorType::Timestamptz(digits),
            Self::Int2 => CursorType::Int2,
            Self::Int4 => CursorType::Int4,
            Self::Int8 => CursorType::Int8,
            Self::Decimal(digits @ ..=18, 0) => CursorType::Decimal(digits),
            _ => return None,
        })
    }
}

/// The type of a result's column as one declares it, such as `varchar(20)` or `numeric(10,2)`.
pub fn declaration(column: &Type, modifier: i32) -> String {
    let word = match *column {
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::BOOL => "boolean",
        Type::BPCHAR => "char",
        Type::CHAR => "\"char\"",
        _ => column.name(),
    };
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0);
    match (column, packed) {
        // A scale of 11 bits with a sign.
        (&Type::NUMERIC, Some(packed)) => {
            let scale = ((packed & 0x7ff) ^ 0x400) - 0x400;
            format!("{word}({},{scale})", packed >> 16)
        }
        (&(Type::VARCHAR | Type::BPCHAR), Some(length)) => format!("{word}({length})"),
        (&(Type::TIME | Type::TIMETZ | Type::TIMESTAMP | Type::TIMESTAMPTZ), _)
            if modifier >= 0 =>
        {
            format!("{word}({modifier})")
        }
        _ => word.to_owned(),
    }
}

/// The modifier of numeric: `((p << 16) | (s & 0x7ff)) + 4`, the scale with a sign.
fn numeric(modifier: i32) -> SqlType {
    let Some(packed) = modifier.checked_sub(4).filter(|packed| *packed >= 0) else {
        return SqlType::Number;
    };
    let precision = u16::try_from(packed >> 16).unwrap_or(u16::MAX);
    let scale = i16::try_from(packed & 0x7ff).unwrap_or(0);
    let scale = if scale & 0x400 == 0 {
        scale
    } else {
        scale - 0x800
    };
    // numeric(5,-2) has seven digits before the point, numeric(2,5) five behind it.
    let precision = precision.saturating_add(scale.min(0).unsigned_abs());
    let scale = scale.max(0);
    let precision = precision.max(scale.unsigned_abs());
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(digits), Ok(scale)) if precision <= MOST_DIGITS => SqlType::Decimal(digits, scale),
        _ => SqlType::Number,
    }
}

/// Digits behind the second that a column keeps: all six without a modifier.
fn digits(modifier: i32) -> u8 {
    u8::try_from(modifier).map_or(6, |digits| digits.min(6))
}

/// The type of a cursor's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorType {
    Date,
    /// Digits behind the second that the column keeps, as for the next one.
    Timestamp(u8),
    Timestamptz(u8),
    Int2,
    Int4,
    Int8,
    /// Whole numbers of so many digits.
    Decimal(u8),
}

impl CursorType {
    /// The type that a parameter is declared with, so that the server compares like with like.
    pub fn parameter(self) -> Type {
        match self {
            Self::Date => Type::DATE,
            Self::Timestamp(_) => Type::TIMESTAMP,
            Self::Timestamptz(_) => Type::TIMESTAMPTZ,
            Self::Int2 => Type::INT2,
            Self::Int4 => Type::INT4,
            Self::Int8 => Type::INT8,
            Self::Decimal(_) => Type::NUMERIC,
        }
    }

    /// How its times are written, always with all six digits; `None` if it holds numbers.
    pub fn form(self) -> Option<TimeForm> {
        match self {
            Self::Date => Some(TimeForm::DATE),
            Self::Timestamp(_) => Some(TimeForm::local(6)),
            Self::Timestamptz(_) => Some(TimeForm::utc(6)),
            _ => None,
        }
    }

    /// The form whose unit is that of the column: one that keeps seconds rounds a time up to the next.
    pub fn resolution(self) -> Option<TimeForm> {
        match self {
            Self::Timestamp(digits) => Some(TimeForm::local(digits)),
            Self::Timestamptz(digits) => Some(TimeForm::utc(digits)),
            other => other.form(),
        }
    }

    /// The least and the greatest value that a parameter of numbers may have, beyond all values of the column where the
    /// type has room for it; `None` if it holds times.
    pub fn range(self) -> Option<(i64, i64)> {
        match self {
            Self::Int2 => Some((i16::MIN.into(), i16::MAX.into())),
            Self::Int4 => Some((i32::MIN.into(), i32::MAX.into())),
            Self::Int8 => Some((i64::MIN, i64::MAX)),
            Self::Decimal(digits) => {
                let beyond = 10_i64.checked_pow(digits.into()).unwrap_or(i64::MAX);
                Some((-beyond, beyond))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(precision: i32, scale: i32) -> i32 {
        ((precision << 16) | (scale & 0x7ff)) + 4
    }

    #[test]
    fn a_numeric_is_a_decimal_as_long_as_it_fits_one() {
        for (precision, scale, expected) in [
            (10, 2, SqlType::Decimal(10, 2)),
            (38, 38, SqlType::Decimal(38, 38)),
            (39, 0, SqlType::Number),
            (5, -2, SqlType::Decimal(7, 0)),
            (2, 5, SqlType::Decimal(5, 5)),
            (37, -2, SqlType::Number),
        ] {
            let found = SqlType::of(&Type::NUMERIC, packed(precision, scale));
            assert_eq!(found, Some(expected), "{precision},{scale}");
        }
        assert_eq!(SqlType::of(&Type::NUMERIC, -1), Some(SqlType::Number));
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        for column in [Type::INT4_ARRAY, Type::POINT, Type::MONEY, Type::TS_VECTOR] {
            assert_eq!(SqlType::of(&column, -1), None, "{column}");
        }
    }

    #[test]
    fn cursors_are_whole_numbers_and_times() {
        assert_eq!(
            SqlType::Decimal(18, 0).cursor(),
            Some(CursorType::Decimal(18))
        );
        assert_eq!(SqlType::Decimal(19, 0).cursor(), None);
        assert_eq!(SqlType::Decimal(10, 2).cursor(), None);
        assert_eq!(SqlType::Text.cursor(), None);
        assert_eq!(CursorType::Decimal(3).range(), Some((-1_000, 1_000)));
    }
}
