//! Which `PostgreSQL` type holds which Arrow type, and which pairs can be loaded without losing anything.

use arrow_schema::{DataType, Field, TimeUnit};

use crate::extension::Meaning;

/// The types that the binary encoder writes, by their object id
/// (<https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// Precision and scale, if the column has them.
    Numeric(Option<(u16, i16)>),
    /// Most characters, if the column has a limit.
    Text(Option<usize>),
    Json,
    Jsonb,
    Bytea,
    Uuid,
    Date,
    /// Digits behind the second, as for the next two.
    Time(u8),
    Timestamp(u8),
    Timestamptz(u8),
}

impl PgType {
    /// The type of a column by its object id and modifier.
    pub fn from_oid(oid: u32, modifier: i32) -> Option<Self> {
        Some(match oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            25 => Self::Text(None),
            1042 | 1043 => Self::Text(usize::try_from(modifier - 4).ok()),
            114 => Self::Json,
            3802 => Self::Jsonb,
            700 => Self::Float4,
            701 => Self::Float8,
            1082 => Self::Date,
            1083 => Self::Time(digits(modifier)),
            1114 => Self::Timestamp(digits(modifier)),
            1184 => Self::Timestamptz(digits(modifier)),
            1700 => Self::Numeric(numeric_modifier(modifier)),
            2950 => Self::Uuid,
            _ => return None,
        })
    }
}

/// Digits behind the second that a column keeps: all six without a modifier.
fn digits(modifier: i32) -> u8 {
    u8::try_from(modifier).map_or(6, |digits| digits.min(6))
}

/// numeric's modifier holds precision and scale: `((p << 16) | (s & 0x7ff)) + 4`, the scale with a sign.
fn numeric_modifier(modifier: i32) -> Option<(u16, i16)> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    let scale = i16::try_from(packed & 0x7ff).ok()?;
    let scale = if scale & 0x400 == 0 {
        scale
    } else {
        scale - 0x800
    };
    Some((u16::try_from(packed >> 16).ok()?, scale))
}

/// Digits behind the second that values of a unit have at most.
fn unit_digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        // Finer than microseconds is refused row by row.
        TimeUnit::Microsecond | TimeUnit::Nanosecond => 6,
    }
}

/// The type of a column that the sink creates for a field, with what its text is said to mean.
pub fn field_type(field: &Field) -> Option<String> {
    let meaning = Meaning::of(field).filter(|_| is_text(field.data_type()));
    match meaning {
        Some(Meaning::Uuid) => Some("uuid".to_owned()),
        Some(Meaning::Json) => Some("jsonb".to_owned()),
        None => column_type(field.data_type()),
    }
}

/// The type of a column that the sink creates; `None` for Arrow types that no column can hold.
pub fn column_type(arrow: &DataType) -> Option<String> {
    let fixed = match arrow {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 => "bigint",
        DataType::UInt64 => "numeric(20,0)",
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Dictionary(_, value) if value.as_ref() == &DataType::Utf8 => "text",
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "bytea",
        DataType::Date32 => "date",
        DataType::Time64(_) => "time",
        DataType::Timestamp(_, None) => "timestamp",
        DataType::Timestamp(_, Some(_)) => "timestamptz",
        DataType::Decimal128(precision, scale) => {
            return Some(format!("numeric({precision},{scale})"));
        }
        _ => return None,
    };
    Some(fixed.to_owned())
}

fn is_text(arrow: &DataType) -> bool {
    match arrow {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => value.as_ref() == &DataType::Utf8,
        _ => false,
    }
}

/// Whether every value of the Arrow type that fits the column's range arrives in it unchanged.
pub fn accepts(column: PgType, arrow: &DataType) -> bool {
    match column {
        PgType::Bool => arrow == &DataType::Boolean,
        PgType::Int2 | PgType::Int4 | PgType::Int8 => arrow.is_integer(),
        PgType::Float4 => arrow == &DataType::Float32,
        PgType::Float8 => matches!(arrow, DataType::Float32 | DataType::Float64),
        PgType::Numeric(limit) => match arrow {
            DataType::Decimal128(_, scale) => {
                limit.is_none_or(|(_, places)| places >= i16::from(*scale))
            }
            other => other.is_integer() && limit.is_none_or(|(_, places)| places >= 0),
        },
        PgType::Text(_) | PgType::Json | PgType::Jsonb => is_text(arrow),
        PgType::Bytea => matches!(
            arrow,
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_)
        ),
        // Text that is no UUID is refused row by row.
        PgType::Uuid => arrow == &DataType::FixedSizeBinary(16) || is_text(arrow),
        PgType::Date => arrow == &DataType::Date32,
        PgType::Time(digits) => matches!(
            arrow,
            DataType::Time64(unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond)) if digits >= unit_digits(*unit)
        ),
        PgType::Timestamp(digits) => {
            matches!(arrow, DataType::Timestamp(unit, None) if digits >= unit_digits(*unit))
        }
        PgType::Timestamptz(digits) => {
            matches!(arrow, DataType::Timestamp(unit, Some(_)) if digits >= unit_digits(*unit))
        }
    }
}

/// What keeps a column from holding every value of an Arrow type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Widening {
    /// Nothing.
    None,
    /// This type would hold them, and the server changes the column without touching a row.
    InPlace(String),
    /// This type would hold them, and the server would write every row anew.
    Rewrite(String),
}

/// What would have to be done to a column, so that it holds every value of the field. `type_name` is the column's, as
/// the server writes it.
pub fn widening(column: PgType, type_name: &str, field: &Field) -> Widening {
    use Widening::{InPlace, None, Rewrite};
    let arrow = field.data_type();
    match (column, arrow) {
        (PgType::Numeric(Some((precision, scale))), _) if accepts(column, arrow) => {
            let Some(digits) = digits_before_point(arrow) else {
                return None;
            };
            let needed = i32::from(digits) + i32::from(scale);
            if needed > i32::from(precision) {
                InPlace(format!("numeric({needed},{scale})"))
            } else {
                None
            }
        }
        (PgType::Numeric(Some((precision, scale))), DataType::Decimal128(p, s)) => {
            // The digits that the column has, and those that the values have.
            let before =
                (i32::from(precision) - i32::from(scale)).max(i32::from(*p) - i32::from(*s));
            Rewrite(format!("numeric({},{s})", before + i32::from(*s)))
        }
        (PgType::Int2 | PgType::Int4 | PgType::Int8, _) if arrow.is_integer() => {
            if bits(arrow) > int_bits(column) {
                column_type(arrow).map_or(None, Rewrite)
            } else {
                None
            }
        }
        // Text knows no longest value. char(n) pads its values, so its rows would change.
        (PgType::Text(Some(_)), _) if is_text(arrow) => {
            if type_name.starts_with("character(") {
                Rewrite("text".to_owned())
            } else {
                InPlace("text".to_owned())
            }
        }
        (PgType::Time(_), DataType::Time64(_)) if !accepts(column, arrow) => {
            InPlace("time".to_owned())
        }
        (PgType::Timestamp(_), DataType::Timestamp(_, Option::None)) if !accepts(column, arrow) => {
            InPlace("timestamp".to_owned())
        }
        (PgType::Timestamptz(_), DataType::Timestamp(_, Some(_))) if !accepts(column, arrow) => {
            InPlace("timestamptz".to_owned())
        }
        _ if accepts(column, arrow) => None,
        _ => field_type(field).map_or(None, Rewrite),
    }
}

/// Digits in front of the point that values of a type have at most.
fn digits_before_point(arrow: &DataType) -> Option<u8> {
    Some(match arrow {
        DataType::Decimal128(precision, scale) => {
            u8::try_from(i16::from(*precision) - i16::from(*scale)).unwrap_or(0)
        }
        DataType::Int8 | DataType::UInt8 => 3,
        DataType::Int16 | DataType::UInt16 => 5,
        DataType::Int32 | DataType::UInt32 => 10,
        DataType::Int64 => 19,
        DataType::UInt64 => 20,
        _ => return None,
    })
}

/// Bits that a signed integer needs for every value of an integer type.
fn bits(arrow: &DataType) -> u8 {
    match arrow {
        DataType::Int8 => 8,
        DataType::Int16 | DataType::UInt8 => 16,
        DataType::Int32 | DataType::UInt16 => 32,
        DataType::UInt64 => 65,
        _ => 64,
    }
}

fn int_bits(column: PgType) -> u8 {
    match column {
        PgType::Int2 => 16,
        PgType::Int4 => 32,
        _ => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn a_column_is_widened_in_place_where_the_server_can_and_no_further_than_needed() {
        use Widening::{InPlace, Rewrite};
        let numeric = |p, s| PgType::Numeric(Some((p, s)));
        let of = |column, type_name: &str, arrow: DataType| {
            widening(column, type_name, &Field::new("c", arrow, true))
        };
        let in_place = |to: &str| InPlace(to.to_owned());
        let rewrite = |to: &str| Rewrite(to.to_owned());
        let micros =
            |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        for (column, name, arrow, expected) in [
            (
                numeric(10, 2),
                "",
                DataType::Decimal128(10, 2),
                Widening::None,
            ),
            (
                numeric(12, 4),
                "",
                DataType::Decimal128(10, 2),
                Widening::None,
            ),
            (
                numeric(10, 2),
                "",
                DataType::Decimal128(12, 2),
                in_place("numeric(12,2)"),
            ),
            (
                numeric(10, 4),
                "",
                DataType::Decimal128(10, 2),
                in_place("numeric(12,4)"),
            ),
            (
                numeric(10, 2),
                "",
                DataType::Decimal128(12, 4),
                rewrite("numeric(12,4)"),
            ),
            (
                numeric(10, 0),
                "",
                DataType::Int64,
                in_place("numeric(19,0)"),
            ),
            (
                PgType::Numeric(None),
                "",
                DataType::Decimal128(38, 9),
                Widening::None,
            ),
            (PgType::Int4, "", DataType::Int32, Widening::None),
            (PgType::Int4, "", DataType::UInt16, Widening::None),
            (PgType::Int4, "", DataType::Int64, rewrite("bigint")),
            (PgType::Int8, "", DataType::UInt64, rewrite("numeric(20,0)")),
            (
                PgType::Int8,
                "",
                DataType::Decimal128(12, 2),
                rewrite("numeric(12,2)"),
            ),
            (
                PgType::Float4,
                "",
                DataType::Float64,
                rewrite("double precision"),
            ),
            (PgType::Text(None), "text", DataType::Utf8, Widening::None),
            (
                PgType::Text(Some(5)),
                "character varying(5)",
                DataType::Utf8,
                in_place("text"),
            ),
            (
                PgType::Text(Some(5)),
                "character(5)",
                DataType::Utf8,
                rewrite("text"),
            ),
            (
                PgType::Timestamp(3),
                "",
                micros(None),
                in_place("timestamp"),
            ),
            (
                PgType::Timestamp(3),
                "",
                micros(Some("UTC")),
                rewrite("timestamptz"),
            ),
            (
                PgType::Timestamptz(0),
                "",
                micros(Some("UTC")),
                in_place("timestamptz"),
            ),
            (
                PgType::Time(0),
                "",
                DataType::Time64(TimeUnit::Microsecond),
                in_place("time"),
            ),
            (PgType::Date, "", DataType::Date32, Widening::None),
            (PgType::Date, "", micros(None), rewrite("timestamp")),
            (PgType::Bool, "", DataType::Utf8, rewrite("text")),
        ] {
            assert_eq!(
                of(column, name, arrow.clone()),
                expected,
                "{column:?} {arrow}"
            );
        }
    }

    #[test]
    fn a_column_the_sink_creates_accepts_what_it_was_created_for() {
        // object id and modifier of each type name used by `column_type`
        let oid = |name: &str| match name {
            "boolean" => (16, -1),
            "smallint" => (21, -1),
            "integer" => (23, -1),
            "bigint" => (20, -1),
            "numeric(20,0)" => (1700, (20 << 16) + 4),
            "numeric(12,3)" => (1700, (12 << 16 | 3) + 4),
            "real" => (700, -1),
            "double precision" => (701, -1),
            "text" => (25, -1),
            "bytea" => (17, -1),
            "date" => (1082, -1),
            "time" => (1083, -1),
            "timestamp" => (1114, -1),
            "timestamptz" => (1184, -1),
            other => panic!("{other}"),
        };
        for arrow in [
            DataType::Boolean,
            DataType::Int8,
            DataType::Int64,
            DataType::UInt16,
            DataType::UInt64,
            DataType::Float32,
            DataType::Float64,
            DataType::Utf8,
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            DataType::Binary,
            DataType::Date32,
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            DataType::Decimal128(12, 3),
        ] {
            let (oid, modifier) = oid(&column_type(&arrow).unwrap());
            let column = PgType::from_oid(oid, modifier).unwrap();
            assert!(accepts(column, &arrow), "{arrow} into {column:?}");
        }
        assert_eq!(column_type(&DataType::Null), None);
    }

    #[test]
    fn what_would_lose_something_is_not_accepted() {
        assert!(!accepts(PgType::Float4, &DataType::Float64));
        assert!(!accepts(
            PgType::Numeric(Some((10, 2))),
            &DataType::Decimal128(12, 4)
        ));
        assert!(!accepts(
            PgType::Timestamptz(6),
            &DataType::Timestamp(TimeUnit::Microsecond, None)
        ));
        assert!(!accepts(PgType::Text(None), &DataType::Int64));
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        assert!(!accepts(PgType::from_oid(1114, 3).unwrap(), &micros));
        assert!(accepts(PgType::from_oid(1114, -1).unwrap(), &micros));
        // numeric(5,-2)
        let hundreds = PgType::from_oid(1700, ((5 << 16) | (0x7ff & -2)) + 4).unwrap();
        assert_eq!(hundreds, PgType::Numeric(Some((5, -2))));
        assert!(!accepts(hundreds, &DataType::Int64));
    }
}
