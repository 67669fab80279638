//! The types of T-SQL: names, sizes, numbers in `sys.types`, and which of two wins. It holds no values.

use super::collation::CollationRef;

/// The length of a type that may be `max` (`None`).
pub type Len = Option<u16>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SqlType {
    Bit,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Real,
    Float,
    Decimal(u8, u8),
    Numeric(u8, u8),
    Money,
    SmallMoney,
    Date,
    Time(u8),
    DateTime,
    SmallDateTime,
    DateTime2(u8),
    DateTimeOffset(u8),
    Char(u16),
    VarChar(Len),
    Text,
    NChar(u16),
    NVarChar(Len),
    NText,
    Binary(u16),
    VarBinary(Len),
    Image,
    Guid,
    Xml,
    RowVersion,
    Variant,
}

use SqlType as T;

impl SqlType {
    /// A type by its name and arguments as written; `max` is given as -1.
    pub fn parse(name: &str, arguments: &[i64]) -> Option<Self> {
        let first = arguments.first().copied();
        let scale = |default: u8| match first {
            None => Some(default),
            Some(n @ 0..=7) => Some(n as u8),
            Some(_) => None,
        };
        let fixed = |most: i64| match first.unwrap_or(1) {
            n if (1..=most).contains(&n) => Some(n as u16),
            _ => None,
        };
        let varying = |most: i64| match first.unwrap_or(1) {
            -1 => Some(None),
            n if (1..=most).contains(&n) => Some(Some(n as u16)),
            _ => None,
        };
        let exact = || {
            let precision = first.unwrap_or(18);
            let scale = arguments.get(1).copied().unwrap_or(0);
            ((1..=38).contains(&precision) && (0..=precision).contains(&scale))
                .then_some((precision as u8, scale as u8))
        };
        let plain = |ty: T| first.is_none().then_some(ty);
        match name.to_ascii_lowercase().as_str() {
            "bit" => plain(T::Bit),
            "tinyint" => plain(T::TinyInt),
            "smallint" => plain(T::SmallInt),
            "int" | "integer" => plain(T::Int),
            "bigint" => plain(T::BigInt),
            "real" => plain(T::Real),
            "float" => match first.unwrap_or(53) {
                1..=24 => Some(T::Real),
                25..=53 => Some(T::Float),
                _ => None,
            },
            "decimal" | "dec" => exact().map(|(p, s)| T::Decimal(p, s)),
            "numeric" => exact().map(|(p, s)| T::Numeric(p, s)),
            "money" => plain(T::Money),
            "smallmoney" => plain(T::SmallMoney),
            "date" => plain(T::Date),
            "time" => scale(7).map(T::Time),
            "datetime" => plain(T::DateTime),
            "smalldatetime" => plain(T::SmallDateTime),
            "datetime2" => scale(7).map(T::DateTime2),
            "datetimeoffset" => scale(7).map(T::DateTimeOffset),
            "char" | "character" => fixed(8000).map(T::Char),
            "varchar" => varying(8000).map(T::VarChar),
            "text" => plain(T::Text),
            "nchar" => fixed(4000).map(T::NChar),
            "nvarchar" => varying(4000).map(T::NVarChar),
            "sysname" => plain(T::NVarChar(Some(128))),
            "ntext" => plain(T::NText),
            "binary" => fixed(8000).map(T::Binary),
            "varbinary" => varying(8000).map(T::VarBinary),
            "image" => plain(T::Image),
            "uniqueidentifier" => plain(T::Guid),
            "xml" => plain(T::Xml),
            "rowversion" | "timestamp" => plain(T::RowVersion),
            "sql_variant" => plain(T::Variant),
            _ => None,
        }
    }

    /// The name without arguments.
    pub fn base_name(self) -> &'static str {
        match self {
            T::Bit => "bit",
            T::TinyInt => "tinyint",
            T::SmallInt => "smallint",
            T::Int => "int",
            T::BigInt => "bigint",
            T::Real => "real",
            T::Float => "float",
            T::Decimal(..) => "decimal",
            T::Numeric(..) => "numeric",
            T::Money => "money",
            T::SmallMoney => "smallmoney",
            T::Date => "date",
            T::Time(_) => "time",
            T::DateTime => "datetime",
            T::SmallDateTime => "smalldatetime",
            T::DateTime2(_) => "datetime2",
            T::DateTimeOffset(_) => "datetimeoffset",
            T::Char(_) => "char",
            T::VarChar(_) => "varchar",
            T::Text => "text",
            T::NChar(_) => "nchar",
            T::NVarChar(_) => "nvarchar",
            T::NText => "ntext",
            T::Binary(_) => "binary",
            T::VarBinary(_) => "varbinary",
            T::Image => "image",
            T::Guid => "uniqueidentifier",
            T::Xml => "xml",
            T::RowVersion => "timestamp",
            T::Variant => "sql_variant",
        }
    }

    /// The name as `sp_describe_first_result_set` writes it.
    pub fn full_name(self) -> String {
        let base = self.base_name();
        match self {
            T::Decimal(p, s) | T::Numeric(p, s) => format!("{base}({p},{s})"),
            T::Time(s) | T::DateTime2(s) | T::DateTimeOffset(s) => format!("{base}({s})"),
            T::Char(n) | T::NChar(n) | T::Binary(n) => format!("{base}({n})"),
            T::VarChar(Some(n)) | T::NVarChar(Some(n)) | T::VarBinary(Some(n)) => {
                format!("{base}({n})")
            }
            T::VarChar(None) | T::NVarChar(None) | T::VarBinary(None) => format!("{base}(max)"),
            _ => base.to_owned(),
        }
    }

    /// `system_type_id` of `sys.types`.
    pub fn system_type_id(self) -> i64 {
        match self {
            T::Image => 34,
            T::Text => 35,
            T::Guid => 36,
            T::Date => 40,
            T::Time(_) => 41,
            T::DateTime2(_) => 42,
            T::DateTimeOffset(_) => 43,
            T::TinyInt => 48,
            T::SmallInt => 52,
            T::Int => 56,
            T::SmallDateTime => 58,
            T::Real => 59,
            T::Money => 60,
            T::DateTime => 61,
            T::Float => 62,
            T::Variant => 98,
            T::NText => 99,
            T::Bit => 104,
            T::Decimal(..) => 106,
            T::Numeric(..) => 108,
            T::SmallMoney => 122,
            T::BigInt => 127,
            T::VarBinary(_) => 165,
            T::VarChar(_) => 167,
            T::Binary(_) => 173,
            T::Char(_) => 175,
            T::RowVersion => 189,
            T::NVarChar(_) => 231,
            T::NChar(_) => 239,
            T::Xml => 241,
        }
    }

    /// `max_length` in bytes, -1 for `max`; `precision`; `scale`.
    pub fn sizes(self) -> (i64, i64, i64) {
        let fraction = |scale: u8| if scale == 0 { 0 } else { i64::from(scale) + 1 };
        match self {
            T::Bit => (1, 1, 0),
            T::TinyInt => (1, 3, 0),
            T::SmallInt => (2, 5, 0),
            T::Int => (4, 10, 0),
            T::BigInt => (8, 19, 0),
            T::Real => (4, 24, 0),
            T::Float => (8, 53, 0),
            T::Decimal(p, s) | T::Numeric(p, s) => {
                (i64::from(decimal_bytes(p)), i64::from(p), i64::from(s))
            }
            T::Money => (8, 19, 4),
            T::SmallMoney => (4, 10, 4),
            T::Date => (3, 10, 0),
            T::Time(s) => (i64::from(time_bytes(s)), 8 + fraction(s), i64::from(s)),
            T::DateTime => (8, 23, 3),
            T::SmallDateTime => (4, 16, 0),
            T::DateTime2(s) => (i64::from(time_bytes(s)) + 3, 19 + fraction(s), i64::from(s)),
            T::DateTimeOffset(s) => (i64::from(time_bytes(s)) + 5, 26 + fraction(s), i64::from(s)),
            T::Char(n) | T::Binary(n) | T::VarChar(Some(n)) | T::VarBinary(Some(n)) => {
                (i64::from(n), 0, 0)
            }
            T::NChar(n) | T::NVarChar(Some(n)) => (i64::from(n) * 2, 0, 0),
            T::VarChar(None) | T::NVarChar(None) | T::VarBinary(None) | T::Xml => (-1, 0, 0),
            T::Text | T::NText | T::Image => (16, 0, 0),
            T::Guid => (16, 0, 0),
            T::RowVersion => (8, 0, 0),
            T::Variant => (8016, 0, 0),
        }
    }

    /// The greater one is what the other is converted to, where two meet.
    pub fn precedence(self) -> u8 {
        match self {
            T::Variant => 30,
            T::Xml => 29,
            T::DateTimeOffset(_) => 28,
            T::DateTime2(_) => 27,
            T::DateTime => 26,
            T::SmallDateTime => 25,
            T::Date => 24,
            T::Time(_) => 23,
            T::Float => 22,
            T::Real => 21,
            T::Decimal(..) | T::Numeric(..) => 20,
            T::Money => 19,
            T::SmallMoney => 18,
            T::BigInt => 17,
            T::Int => 16,
            T::SmallInt => 15,
            T::TinyInt => 14,
            T::Bit => 13,
            T::NText => 12,
            T::Text => 11,
            T::Image => 10,
            T::RowVersion => 9,
            T::Guid => 8,
            T::NVarChar(_) => 7,
            T::NChar(_) => 6,
            T::VarChar(_) => 5,
            T::Char(_) => 4,
            T::VarBinary(_) => 3,
            T::Binary(_) => 2,
        }
    }

    /// What two expressions have in common: of CASE, COALESCE, comparisons.
    pub fn common(self, other: Self) -> Self {
        let (low, high) = if self.precedence() <= other.precedence() {
            (self, other)
        } else {
            (other, self)
        };
        match (low, high) {
            (T::DateTime | T::SmallDateTime, T::DateTime2(_)) => T::DateTime2(7),
            (T::DateTime | T::SmallDateTime | T::DateTime2(_), T::DateTimeOffset(_)) => {
                T::DateTimeOffset(7)
            }
            (T::DateTime2(a), T::DateTime2(b)) => T::DateTime2(a.max(b)),
            (T::DateTimeOffset(a), T::DateTimeOffset(b)) => T::DateTimeOffset(a.max(b)),
            (T::Time(a), T::Time(b)) => T::Time(a.max(b)),
            (a, T::Decimal(..) | T::Numeric(..)) => match (a.as_exact(), high.as_exact()) {
                (Some((p1, s1)), Some((p2, s2))) => {
                    let scale = s1.max(s2);
                    let whole = (p1 - s1).max(p2 - s2);
                    let precision = (whole + scale).min(38);
                    let scale = scale.min(38 - whole.min(38));
                    T::Decimal(precision, scale)
                }
                _ => high,
            },
            _ => match (low.chars(), high.chars()) {
                (Some(a), Some(b)) => high.with_chars(a.zip(b).map(|(a, b)| a.max(b))),
                _ => match (low.bytes(), high.bytes()) {
                    (Some(a), Some(b)) => T::VarBinary(a.zip(b).map(|(a, b)| a.max(b))),
                    _ => high,
                },
            },
        }
    }

    /// Precision and scale as the number types have them when they meet a decimal.
    pub fn as_exact(self) -> Option<(u8, u8)> {
        match self {
            T::Decimal(p, s) | T::Numeric(p, s) => Some((p, s)),
            T::Bit => Some((1, 0)),
            T::TinyInt => Some((3, 0)),
            T::SmallInt => Some((5, 0)),
            T::Int => Some((10, 0)),
            T::BigInt => Some((19, 0)),
            T::Money => Some((19, 4)),
            T::SmallMoney => Some((10, 4)),
            _ => None,
        }
    }

    /// The length in characters, where it is a text.
    pub fn chars(self) -> Option<Len> {
        match self {
            T::Char(n) | T::NChar(n) => Some(Some(n)),
            T::VarChar(n) | T::NVarChar(n) => Some(n),
            T::Text | T::NText | T::Xml => Some(None),
            _ => None,
        }
    }

    fn bytes(self) -> Option<Len> {
        match self {
            T::Binary(n) => Some(Some(n)),
            T::VarBinary(n) => Some(n),
            T::RowVersion => Some(Some(8)),
            T::Image => Some(None),
            _ => None,
        }
    }

    /// A varying text of the same kind.
    pub fn with_chars(self, chars: Len) -> Self {
        match self {
            T::NChar(_) | T::NVarChar(_) => T::NVarChar(chars.filter(|n| *n <= 4000)),
            T::Char(_) | T::VarChar(_) => T::VarChar(chars.filter(|n| *n <= 8000)),
            other => other,
        }
    }

    pub fn is_text(self) -> bool {
        self.chars().is_some()
    }

    pub fn is_bytes(self) -> bool {
        self.bytes().is_some()
    }

    pub fn is_unicode(self) -> bool {
        matches!(self, T::NChar(_) | T::NVarChar(_) | T::NText | T::Xml)
    }

    /// Types that cannot be compared or sorted.
    pub fn is_large_object(self) -> bool {
        matches!(self, T::Text | T::NText | T::Image | T::Xml)
    }

    pub fn is_integer(self) -> bool {
        matches!(self, T::Bit | T::TinyInt | T::SmallInt | T::Int | T::BigInt)
    }

    pub fn is_number(self) -> bool {
        self.as_exact().is_some() || matches!(self, T::Real | T::Float)
    }

    pub fn is_temporal(self) -> bool {
        matches!(
            self,
            T::Date
                | T::Time(_)
                | T::DateTime
                | T::SmallDateTime
                | T::DateTime2(_)
                | T::DateTimeOffset(_)
        )
    }

    /// Least and greatest value of an integer type.
    pub fn integer_range(self) -> Option<(i64, i64)> {
        match self {
            T::Bit => Some((0, 1)),
            T::TinyInt => Some((0, 255)),
            T::SmallInt => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
            T::Int => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
            T::BigInt => Some((i64::MIN, i64::MAX)),
            _ => None,
        }
    }
}

/// A type as a number, for functions of `SQLite`.
pub fn code(ty: SqlType) -> i64 {
    let len = |len: Len| i64::from(len.unwrap_or(u16::MAX));
    let (tag, detail) = match ty {
        T::Bit => (0, 0),
        T::TinyInt => (1, 0),
        T::SmallInt => (2, 0),
        T::Int => (3, 0),
        T::BigInt => (4, 0),
        T::Real => (5, 0),
        T::Float => (6, 0),
        T::Decimal(p, s) => (7, i64::from(p) << 8 | i64::from(s)),
        T::Numeric(p, s) => (8, i64::from(p) << 8 | i64::from(s)),
        T::Money => (9, 0),
        T::SmallMoney => (10, 0),
        T::Date => (11, 0),
        T::Time(s) => (12, i64::from(s)),
        T::DateTime => (13, 0),
        T::SmallDateTime => (14, 0),
        T::DateTime2(s) => (15, i64::from(s)),
        T::DateTimeOffset(s) => (16, i64::from(s)),
        T::Char(n) => (17, i64::from(n)),
        T::VarChar(n) => (18, len(n)),
        T::Text => (19, 0),
        T::NChar(n) => (20, i64::from(n)),
        T::NVarChar(n) => (21, len(n)),
        T::NText => (22, 0),
        T::Binary(n) => (23, i64::from(n)),
        T::VarBinary(n) => (24, len(n)),
        T::Image => (25, 0),
        T::Guid => (26, 0),
        T::Xml => (27, 0),
        T::RowVersion => (28, 0),
        T::Variant => (29, 0),
    };
    tag << 16 | detail
}

/// The type of a number made by [`code`].
pub fn decode(code: i64) -> SqlType {
    let detail = (code & 0xffff) as u16;
    let [high, low] = detail.to_be_bytes();
    let len = (detail != u16::MAX).then_some(detail);
    match code >> 16 {
        0 => T::Bit,
        1 => T::TinyInt,
        2 => T::SmallInt,
        3 => T::Int,
        4 => T::BigInt,
        5 => T::Real,
        6 => T::Float,
        7 => T::Decimal(high, low),
        8 => T::Numeric(high, low),
        9 => T::Money,
        10 => T::SmallMoney,
        11 => T::Date,
        12 => T::Time(low),
        13 => T::DateTime,
        14 => T::SmallDateTime,
        15 => T::DateTime2(low),
        16 => T::DateTimeOffset(low),
        17 => T::Char(detail),
        18 => T::VarChar(len),
        19 => T::Text,
        20 => T::NChar(detail),
        21 => T::NVarChar(len),
        22 => T::NText,
        23 => T::Binary(detail),
        24 => T::VarBinary(len),
        25 => T::Image,
        26 => T::Guid,
        27 => T::Xml,
        28 => T::RowVersion,
        _ => T::Variant,
    }
}

/// A type with what else an expression or a column is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Typed {
    pub ty: SqlType,
    pub nullable: bool,
    pub collation: CollationRef,
}

impl Typed {
    /// The type as a client is sent it: text of a UTF-8 collation comes as UTF-16 to one that did not ask for
    /// `UTF8_SUPPORT` (MS-TDS 2.2.6.4).
    pub fn for_client(&self, reads_utf8: bool) -> Self {
        let mut sent = *self;
        if self.collation.utf8 && !reads_utf8 {
            sent.ty = match self.ty {
                SqlType::Char(length) => SqlType::NChar(length.min(4_000)),
                SqlType::VarChar(length) => {
                    SqlType::NVarChar(length.map(|length| length.min(4_000)))
                }
                SqlType::Text => SqlType::NText,
                other => other,
            };
        }
        sent
    }
}

/// Bytes of a decimal's value with its sign (MS-TDS 2.2.5.5.1.6).
pub fn decimal_bytes(precision: u8) -> u8 {
    match precision {
        0..=9 => 5,
        10..=19 => 9,
        20..=28 => 13,
        _ => 17,
    }
}

/// Bytes of a time of day (MS-TDS 2.2.5.5.1.8).
pub fn time_bytes(scale: u8) -> u8 {
    match scale {
        0..=2 => 3,
        3..=4 => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in [
            "decimal(38,10)",
            "nvarchar(max)",
            "datetime2(3)",
            "int",
            "binary(16)",
        ] {
            let (base, arguments) = name.split_once('(').unwrap_or((name, ")"));
            let arguments: Vec<i64> = arguments
                .trim_end_matches(')')
                .split(',')
                .filter(|it| !it.is_empty())
                .map(|it| if it == "max" { -1 } else { it.parse().unwrap() })
                .collect();
            assert_eq!(SqlType::parse(base, &arguments).unwrap().full_name(), name);
        }
        assert_eq!(SqlType::parse("datetime2", &[8]), None);
        assert_eq!(SqlType::parse("nvarchar", &[4001]), None);
    }

    #[test]
    fn the_common_type_keeps_what_both_hold() {
        assert_eq!(T::DateTime.common(T::DateTime2(3)), T::DateTime2(7));
        assert_eq!(T::Int.common(T::Decimal(5, 2)), T::Decimal(12, 2));
        assert_eq!(
            T::VarChar(Some(3)).common(T::NVarChar(Some(9))),
            T::NVarChar(Some(9))
        );
        assert_eq!(T::VarChar(None).common(T::Char(5)), T::VarChar(None));
    }
}
