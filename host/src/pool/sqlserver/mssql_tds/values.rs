//! Values of the driver as values of `tiberius`, which all other code about SQL Server knows, and parameters the other way.

use std::borrow::Cow;

use mssql_tds::datatypes::column_values::{
    ColumnValues, SqlDate, SqlDateTime, SqlDateTime2, SqlDateTimeOffset, SqlMoney,
    SqlSmallDateTime, SqlTime,
};
use mssql_tds::datatypes::decoder::DecimalParts;
use mssql_tds::datatypes::sql_string::{EncodingType, SqlString};
use mssql_tds::datatypes::sqldatatypes::TdsDataType;
use mssql_tds::datatypes::sqltypes::SqlType;
use mssql_tds::encoding_rs::{DecoderResult, UTF_16LE};
use mssql_tds::message::parameters::rpc_parameters::{RpcParameter, StatusFlags};
use mssql_tds::query::metadata::ColumnMetadata;
use tiberius::numeric::Numeric;
use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime, Time};
use tiberius::{ColumnData, ColumnType};

use crate::error::{Error, Result};

/// Digits of `money` behind the point.
const MONEY_SCALE: u8 = 4;
/// Characters of a text that is no `max`.
const SHORT_TEXT: usize = 4_000;

/// The type of a column, as `tiberius` says it.
pub fn column_type(column: &ColumnMetadata) -> ColumnType {
    use TdsDataType as T;
    let length = column.type_info.length;
    match (column.data_type, length) {
        (T::Bit | T::BitN, _) => ColumnType::Bit,
        (T::Int1, _) | (T::IntN, 1) => ColumnType::Int1,
        (T::Int2, _) | (T::IntN, 2) => ColumnType::Int2,
        (T::Int4, _) | (T::IntN, 4) => ColumnType::Int4,
        (T::Int8 | T::IntN, _) => ColumnType::Int8,
        (T::Flt4, _) | (T::FltN, 4) => ColumnType::Float4,
        (T::Flt8 | T::FltN, _) => ColumnType::Float8,
        (T::Money4, _) | (T::MoneyN, 4) => ColumnType::Money4,
        (T::Money | T::MoneyN, _) => ColumnType::Money,
        (T::DateTim4, _) | (T::DateTimeN, 4) => ColumnType::Datetime4,
        (T::DateTime | T::DateTimeN, _) => ColumnType::Datetime,
        (T::Decimal | T::DecimalN, _) => ColumnType::Decimaln,
        (T::Numeric | T::NumericN, _) => ColumnType::Numericn,
        (T::DateN, _) => ColumnType::Daten,
        (T::TimeN, _) => ColumnType::Timen,
        (T::DateTime2N, _) => ColumnType::Datetime2,
        (T::DateTimeOffsetN, _) => ColumnType::DatetimeOffsetn,
        (T::Guid, _) => ColumnType::Guid,
        (T::BigVarChar | T::VarChar, _) => ColumnType::BigVarChar,
        (T::BigChar | T::Char, _) => ColumnType::BigChar,
        (T::NVarChar, _) => ColumnType::NVarchar,
        (T::NChar, _) => ColumnType::NChar,
        (T::Text, _) => ColumnType::Text,
        (T::NText, _) => ColumnType::NText,
        (T::Xml, _) => ColumnType::Xml,
        (T::BigVarBinary | T::VarBinary, _) => ColumnType::BigVarBin,
        (T::BigBinary | T::Binary, _) => ColumnType::BigBinary,
        (T::Image, _) => ColumnType::Image,
        (T::SsVariant, _) => ColumnType::SSVariant,
        // Of these, as of types of an assembly, nobody can read the bytes.
        (T::Udt | T::Json | T::Vector | T::SqlTable, _) => ColumnType::Udt,
        (T::Void | T::None, _) => ColumnType::Null,
    }
}

/// A value. Money is exact, with four digits behind the point.
pub fn column_data(value: ColumnValues) -> Result<ColumnData<'static>> {
    Ok(match value {
        ColumnValues::Null => ColumnData::I64(None),
        ColumnValues::TinyInt(value) => ColumnData::U8(Some(value)),
        ColumnValues::SmallInt(value) => ColumnData::I16(Some(value)),
        ColumnValues::Int(value) => ColumnData::I32(Some(value)),
        ColumnValues::BigInt(value) => ColumnData::I64(Some(value)),
        ColumnValues::Real(value) => ColumnData::F32(Some(value)),
        ColumnValues::Float(value) => ColumnData::F64(Some(value)),
        ColumnValues::Bit(value) => ColumnData::Bit(Some(value)),
        ColumnValues::Decimal(value) | ColumnValues::Numeric(value) => {
            numeric(signed(&value)?, value.scale)?
        }
        ColumnValues::Money(value) => numeric(i128::from(ten_thousandths(&value)), MONEY_SCALE)?,
        ColumnValues::SmallMoney(value) => numeric(i128::from(value.int_val), MONEY_SCALE)?,
        ColumnValues::String(value) => {
            let (bytes, encoding) = value.into_parts();
            let mut text = String::new();
            decode_text(&bytes, encoding, &mut text)?;
            ColumnData::String(Some(Cow::Owned(text)))
        }
        ColumnValues::Xml(value) => {
            let mut text = String::new();
            decode_xml(&value.bytes, &mut text)?;
            ColumnData::String(Some(Cow::Owned(text)))
        }
        ColumnValues::Bytes(value) => ColumnData::Binary(Some(Cow::Owned(value))),
        ColumnValues::Uuid(value) => {
            ColumnData::Guid(Some(tiberius::Uuid::from_bytes(value.into_bytes())))
        }
        ColumnValues::Date(value) => ColumnData::Date(Some(Date::new(value.get_days()))),
        ColumnValues::Time(value) => ColumnData::Time(Some(time(&value))),
        ColumnValues::DateTime(value) => {
            ColumnData::DateTime(Some(DateTime::new(value.days, value.time)))
        }
        ColumnValues::SmallDateTime(value) => {
            ColumnData::SmallDateTime(Some(SmallDateTime::new(value.days, value.time)))
        }
        ColumnValues::DateTime2(value) => ColumnData::DateTime2(Some(datetime2(&value))),
        ColumnValues::DateTimeOffset(value) => ColumnData::DateTimeOffset(Some(
            DateTimeOffset::new(datetime2(&value.datetime2), value.offset),
        )),
        ColumnValues::Json(_) | ColumnValues::Vector(_) => {
            return Err(Error::data("a value of a type that is not read"));
        }
    })
}

fn numeric(value: i128, scale: u8) -> Result<ColumnData<'static>> {
    if scale > Numeric::MAX_NUMERIC_SCALE {
        return Err(Error::data("a decimal with more than 38 digits"));
    }
    Ok(ColumnData::Numeric(Some(Numeric::new_with_scale(
        value, scale,
    ))))
}

/// The digits of a decimal without their point.
pub fn signed(value: &DecimalParts) -> Result<i128> {
    let magnitude = i128::try_from(value.magnitude())
        .map_err(|_| Error::data("a decimal of more than 38 digits"))?;
    Ok(if value.is_positive {
        magnitude
    } else {
        -magnitude
    })
}

/// The ten-thousandths in an amount of money, of which the protocol sends the upper half first.
pub fn ten_thousandths(value: &SqlMoney) -> i64 {
    (i64::from(value.msb_part) << 32) | i64::from(value.lsb_part.cast_unsigned())
}

/// The driver counts hundreds of nanoseconds, whatever the name says, and `tiberius` what the scale says.
fn time(value: &SqlTime) -> Time {
    let scale = value.scale.min(7);
    let step = 10_u64.pow(7 - u32::from(scale));
    Time::new(value.time_nanoseconds / step, scale)
}

fn datetime2(value: &SqlDateTime2) -> DateTime2 {
    DateTime2::new(Date::new(value.days), time(&value.time))
}

/// Appends a text of the server. Bytes that are no text are an error, and never another text.
pub fn decode_text(bytes: &[u8], encoding: EncodingType, to: &mut String) -> Result<()> {
    match encoding {
        EncodingType::Utf16 => decode_utf16(bytes, to),
        EncodingType::Utf8 => {
            let text = std::str::from_utf8(bytes);
            to.push_str(text.map_err(|_| Error::wrong_code_page("no UTF-8"))?);
            Ok(())
        }
        // All of the server's code pages begin with ASCII.
        EncodingType::LcidBased(_) if bytes.is_ascii() => {
            to.push_str(&String::from_utf8_lossy(bytes));
            Ok(())
        }
        EncodingType::LcidBased(_) | EncodingType::DelayedSet => {
            let page = encoding.resolved_encoding();
            let page = page.ok_or_else(|| Error::wrong_code_page("it is not known"))?;
            let (text, wrong) = page.decode_without_bom_handling(bytes);
            if wrong {
                return Err(Error::wrong_code_page(page.name()));
            }
            to.push_str(&text);
            Ok(())
        }
    }
}

/// Appends a value of type `xml`, which may begin with the mark of its byte order.
pub fn decode_xml(bytes: &[u8], to: &mut String) -> Result<()> {
    decode_utf16(bytes.strip_prefix(&[0xFF, 0xFE]).unwrap_or(bytes), to)
}

fn decode_utf16(bytes: &[u8], to: &mut String) -> Result<()> {
    let mut decoder = UTF_16LE.new_decoder_without_bom_handling();
    let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len());
    to.reserve(room.unwrap_or(bytes.len()));
    match decoder.decode_to_string_without_replacement(bytes, to, true) {
        (DecoderResult::InputEmpty, _) => Ok(()),
        _ => Err(Error::half_a_pair()),
    }
}

/// A named parameter. Of the many types there are those that are ever bound.
pub fn parameter((name, value): (String, ColumnData<'static>)) -> Result<RpcParameter> {
    let value = match value {
        ColumnData::U8(value) => SqlType::TinyInt(value),
        ColumnData::I16(value) => SqlType::SmallInt(value),
        ColumnData::I32(value) => SqlType::Int(value),
        ColumnData::I64(value) => SqlType::BigInt(value),
        ColumnData::F32(value) => SqlType::Real(value),
        ColumnData::F64(value) => SqlType::Float(value),
        ColumnData::Bit(value) => SqlType::Bit(value),
        ColumnData::String(None) => SqlType::NVarchar(None, 4_000),
        ColumnData::String(Some(text)) => {
            let short = text.encode_utf16().nth(SHORT_TEXT).is_none();
            let text = Some(SqlString::from_utf8_string(text.into_owned()));
            if short {
                SqlType::NVarchar(text, 4_000)
            } else {
                SqlType::NVarcharMax(text)
            }
        }
        ColumnData::Binary(value) => SqlType::VarBinary(value.map(Cow::into_owned), 8_000),
        ColumnData::Date(value) => SqlType::Date(value.map(sql_date).transpose()?),
        ColumnData::DateTime(value) => SqlType::DateTime(value.map(|value| SqlDateTime {
            days: value.days(),
            time: value.seconds_fragments(),
        })),
        ColumnData::SmallDateTime(value) => {
            SqlType::SmallDateTime(value.map(|value| SqlSmallDateTime {
                days: value.days(),
                time: value.seconds_fragments(),
            }))
        }
        ColumnData::DateTime2(value) => SqlType::DateTime2(value.map(sql_datetime2)),
        ColumnData::DateTimeOffset(value) => {
            SqlType::DateTimeOffset(value.map(|value| SqlDateTimeOffset {
                datetime2: sql_datetime2(value.datetime2()),
                offset: value.offset(),
            }))
        }
        _ => return Err(Error::internal("a parameter of a type that is not bound")),
    };
    Ok(RpcParameter::new(Some(name), StatusFlags::NONE, value))
}

fn sql_date(value: Date) -> Result<SqlDate> {
    SqlDate::create(value.days()).map_err(|_| Error::data("a bound that no calendar has"))
}

fn sql_datetime2(value: DateTime2) -> SqlDateTime2 {
    let time = value.time();
    let step = 10_u64.pow(7 - u32::from(time.scale().min(7)));
    SqlDateTime2 {
        days: value.date().days(),
        time: SqlTime {
            time_nanoseconds: time.increments() * step,
            scale: time.scale(),
        },
    }
}
