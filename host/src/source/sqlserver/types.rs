//! SQL Server's types, and the Arrow type that holds each without losing anything. `docs/types.md` has the table.

use std::time::Duration;

use arrow_schema::{DataType, Field, TimeUnit};
use tiberius::ColumnType;

use crate::extension::Meaning;
use crate::source::time::{TICKS_PER_SECOND, TimeForm};

/// Digits of `money` and `smallmoney` behind the point.
pub const MONEY_SCALE: u8 = 4;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlType {
    Bit,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    Real,
    Float,
    /// Precision and scale.
    Decimal(u8, u8),
    Money,
    SmallMoney,
    Date,
    /// Digits behind the second, as for those below.
    Time(u8),
    DateTime,
    SmallDateTime,
    DateTime2(u8),
    DateTimeOffset(u8),
    /// All character types: the driver has read their code pages.
    Text,
    Xml,
    Binary,
    Uuid,
    Rowversion,
    /// A value of any of the other types; text of it.
    Variant,
}

impl SqlType {
    /// The type by its name as `sp_describe_first_result_set` gives it, such as `decimal(38,10)` or `nvarchar(max)`.
    /// `None` for types of an assembly and others that the protocol gives as bytes only their library can read.
    pub fn parse(name: &str) -> Option<Self> {
        let (word, arguments) = name.split_once('(').unwrap_or((name, ""));
        let mut arguments = arguments
            .trim_end_matches(')')
            .split(',')
            .map(|argument| argument.trim().parse::<u8>().ok());
        let mut argument = |default: u8| arguments.next().flatten().unwrap_or(default);
        Some(match word.trim().to_ascii_lowercase().as_str() {
            "bit" => Self::Bit,
            "tinyint" => Self::TinyInt,
            "smallint" => Self::SmallInt,
            "int" => Self::Int,
            "bigint" => Self::BigInt,
            "real" => Self::Real,
            // float(1) to float(24) are four bytes.
            "float" if argument(53) <= 24 => Self::Real,
            "float" => Self::Float,
            "decimal" | "numeric" => decimal(argument(18), argument(0))?,
            "money" => Self::Money,
            "smallmoney" => Self::SmallMoney,
            "date" => Self::Date,
            "time" => Self::Time(time_digits(argument(7))?),
            "datetime" => Self::DateTime,
            "smalldatetime" => Self::SmallDateTime,
            "datetime2" => Self::DateTime2(time_digits(argument(7))?),
            "datetimeoffset" => Self::DateTimeOffset(time_digits(argument(7))?),
            "char" | "varchar" | "text" | "nchar" | "nvarchar" | "ntext" | "sysname" => Self::Text,
            "xml" => Self::Xml,
            "binary" | "varbinary" | "image" => Self::Binary,
            "uniqueidentifier" => Self::Uuid,
            "timestamp" | "rowversion" => Self::Rowversion,
            "sql_variant" => Self::Variant,
            _ => return None,
        })
    }

    /// The type by what the driver says of a result's column, for servers that do not describe a statement. It does
    /// not say scales: those of times are taken as the finest, that of a decimal must come from its values.
    pub fn of(column: ColumnType, decimal_scale: Option<u8>) -> Option<Self> {
        Some(match column {
            ColumnType::Bit | ColumnType::Bitn => Self::Bit,
            ColumnType::Int1 => Self::TinyInt,
            ColumnType::Int2 => Self::SmallInt,
            ColumnType::Int4 => Self::Int,
            ColumnType::Int8 | ColumnType::Intn => Self::BigInt,
            ColumnType::Float4 => Self::Real,
            ColumnType::Float8 | ColumnType::Floatn => Self::Float,
            ColumnType::Money => Self::Money,
            ColumnType::Money4 => Self::SmallMoney,
            ColumnType::Decimaln | ColumnType::Numericn => decimal(38, decimal_scale?)?,
            ColumnType::Datetime | ColumnType::Datetimen => Self::DateTime,
            ColumnType::Datetime4 => Self::SmallDateTime,
            ColumnType::Daten => Self::Date,
            ColumnType::Timen => Self::Time(7),
            ColumnType::Datetime2 => Self::DateTime2(7),
            ColumnType::DatetimeOffsetn => Self::DateTimeOffset(7),
            ColumnType::Guid => Self::Uuid,
            ColumnType::BigVarChar
            | ColumnType::BigChar
            | ColumnType::NVarchar
            | ColumnType::NChar
            | ColumnType::Text
            | ColumnType::NText => Self::Text,
            ColumnType::Xml => Self::Xml,
            ColumnType::BigVarBin | ColumnType::BigBinary | ColumnType::Image => Self::Binary,
            ColumnType::SSVariant => Self::Variant,
            ColumnType::Null | ColumnType::Udt => return None,
        })
    }

    /// The Arrow type.
    pub fn arrow(self) -> DataType {
        let scale = |scale: u8| i8::try_from(scale).unwrap_or(i8::MAX);
        match self {
            Self::Bit => DataType::Boolean,
            Self::TinyInt | Self::SmallInt => DataType::Int16,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Real => DataType::Float32,
            Self::Float => DataType::Float64,
            Self::Decimal(precision, digits) => DataType::Decimal128(precision, scale(digits)),
            Self::Money => DataType::Decimal128(19, scale(MONEY_SCALE)),
            Self::SmallMoney => DataType::Decimal128(10, scale(MONEY_SCALE)),
            Self::Date => DataType::Date32,
            Self::Time(_) => DataType::Time64(TimeUnit::Microsecond),
            Self::DateTime | Self::SmallDateTime | Self::DateTime2(_) => {
                DataType::Timestamp(TimeUnit::Microsecond, None)
            }
            Self::DateTimeOffset(_) => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            Self::Text | Self::Xml | Self::Uuid | Self::Variant => DataType::Utf8,
            Self::Binary | Self::Rowversion => DataType::Binary,
        }
    }

    /// The Arrow field of a column of this type. Always with NULL: one shard may declare NOT NULL where another does not.
    pub fn field(self, name: &str) -> Field {
        let field = Field::new(name, self.arrow(), true);
        if self == Self::Uuid {
            return Meaning::Uuid.mark(field);
        }
        field
    }

    /// How a cursor over such a column is written; `None` if it holds no times.
    pub fn time_form(self) -> Option<TimeForm> {
        Some(match self {
            Self::Date => TimeForm::DATE,
            // The server itself shows thirds of a hundredth as .000, .003 and .007.
            Self::DateTime => TimeForm::local(3),
            Self::SmallDateTime => TimeForm::local(0),
            Self::DateTime2(digits) => TimeForm::local(digits),
            Self::DateTimeOffset(digits) => TimeForm::utc(digits),
            _ => return None,
        })
    }

    /// The last time of such a column that is settled: before `now` less the delay, and before all values that this
    /// moment may still be given.
    pub fn settled(self, now: i64, delay: Duration) -> Option<i64> {
        let form = self.time_form()?;
        let step = match self {
            // Rounded to the nearest minute.
            Self::SmallDateTime => 60 * TICKS_PER_SECOND,
            // Rounded to the nearest third of a hundredth of a second, which the form does not have.
            Self::DateTime => TICKS_PER_SECOND / 250,
            _ => return Some(form.settled(now, delay)),
        };
        let settled = form.settled(now, delay);
        Some(((settled.div_euclid(step) - 1) * step).max(0))
    }

    /// Whether a cursor of whole numbers may be over such a column.
    pub fn is_whole(self) -> bool {
        matches!(
            self,
            Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt | Self::Decimal(..=18, 0)
        )
    }

    /// The name that a parameter of this type is declared with.
    pub fn declaration(self) -> String {
        match self {
            Self::Bit => "bit".to_owned(),
            Self::TinyInt => "tinyint".to_owned(),
            Self::SmallInt => "smallint".to_owned(),
            Self::Int => "int".to_owned(),
            Self::BigInt => "bigint".to_owned(),
            Self::Real => "real".to_owned(),
            Self::Float => "float".to_owned(),
            Self::Decimal(precision, scale) => format!("decimal({precision},{scale})"),
            Self::Money => "money".to_owned(),
            Self::SmallMoney => "smallmoney".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Time(digits) => format!("time({digits})"),
            Self::DateTime => "datetime".to_owned(),
            Self::SmallDateTime => "smalldatetime".to_owned(),
            Self::DateTime2(digits) => format!("datetime2({digits})"),
            Self::DateTimeOffset(digits) => format!("datetimeoffset({digits})"),
            Self::Text | Self::Xml => "nvarchar(max)".to_owned(),
            Self::Binary => "varbinary(max)".to_owned(),
            Self::Uuid => "uniqueidentifier".to_owned(),
            Self::Rowversion => "binary(8)".to_owned(),
            Self::Variant => "sql_variant".to_owned(),
        }
    }
}

/// A decimal that Arrow can hold, as all of the server's are.
fn decimal(precision: u8, scale: u8) -> Option<SqlType> {
    let fits = (1..=38).contains(&precision) && scale <= precision;
    fits.then_some(SqlType::Decimal(precision, scale))
}

fn time_digits(digits: u8) -> Option<u8> {
    (digits <= 7).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_their_arguments() {
        for (name, expected) in [
            ("decimal(38,10)", SqlType::Decimal(38, 10)),
            ("numeric(18,0)", SqlType::Decimal(18, 0)),
            ("datetime2(3)", SqlType::DateTime2(3)),
            ("datetime2", SqlType::DateTime2(7)),
            ("nvarchar(max)", SqlType::Text),
            ("timestamp", SqlType::Rowversion),
            ("float", SqlType::Float),
            ("real", SqlType::Real),
        ] {
            assert_eq!(SqlType::parse(name), Some(expected), "{name}");
        }
        for no in [
            "geometry",
            "hierarchyid",
            "",
            "(",
            "decimal(39,0)",
            "decimal(0)",
            "decimal(5,6)",
            "time(8)",
        ] {
            assert_eq!(SqlType::parse(no), None, "{no}");
        }
    }

    #[test]
    fn no_value_that_may_still_be_given_is_settled() {
        let form = TimeForm::local(7);
        let settled = |sql_type: SqlType, now: &str| {
            let now = form.parse_any(now).unwrap();
            let ticks = sql_type.settled(now, Duration::ZERO).unwrap();
            sql_type.time_form().unwrap().write(ticks)
        };
        // Until 19:15:29.998 a row may get 19:15:00, from 19:14:30 on.
        for now in ["2024-01-31T19:15:15", "2024-01-31T19:15:59"] {
            assert_eq!(settled(SqlType::SmallDateTime, now), "2024-01-31T19:14:00");
        }
        // .0083333 may still become .007.
        let before = settled(SqlType::DateTime, "2024-01-31T19:15:00.0083333");
        assert!(before.as_str() < "2024-01-31T19:15:00.007", "{before}");
        assert_eq!(settled(SqlType::Date, "2024-01-31T19:15:00"), "2024-01-30");
    }

    #[test]
    fn a_parameter_is_declared_as_its_column_is() {
        for name in [
            "bit",
            "tinyint",
            "int",
            "decimal(38,10)",
            "money",
            "date",
            "time(3)",
            "datetime",
            "smalldatetime",
            "datetime2(5)",
            "datetimeoffset(0)",
            "uniqueidentifier",
        ] {
            let parsed = SqlType::parse(name).unwrap();
            assert_eq!(parsed.declaration(), name);
        }
    }
}
