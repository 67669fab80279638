//! Rows of the driver into Arrow columns.
//!
//! What a column cannot hold without losing something rejects its row. The one thing that may be cut are digits beyond
//! a microsecond, which no sink has; `source.beyond_microseconds` decides, and cut values are counted.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tiberius::time::DateTime2;
use tiberius::{ColumnData, Row};

use super::batches::misplaced_cursor;
use super::bind::{DATETIME_PARTS, DAYS_TO_1900};
use super::types::{MONEY_SCALE, SqlType};
use crate::config::BeyondMicroseconds;
use crate::error::{Error, Result};
use crate::literal::hex;
use crate::source::batch::{ColumnBuilder, CursorBuilder};
use crate::source::time::{
    DAYS_TO_1970, LAST_TICK, TICKS_PER_DAY, TICKS_PER_SECOND, TICKS_TO_1970, TimeForm,
};

/// The driver reads `money` as a floating point number, which is exact up to here: 2^51 ten-thousandths.
const EXACT_MONEY: f64 = 225_179_981_368.524_8;
const TICKS_PER_MICROSECOND: i64 = 10;
const BEYOND: &str = "a time with digits beyond a microsecond";

/// Why a value does not fit.
#[derive(Debug)]
pub enum Fault {
    /// Its row is set aside.
    Row(String),
    /// The run fails, as the configuration wants it.
    Run(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Row(reason)
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self::Row(reason.to_owned())
    }
}

/// Appends values to columns, and counts what was cut.
pub struct Decoder {
    types: Vec<SqlType>,
    beyond: BeyondMicroseconds,
    /// By column: values whose digits beyond a microsecond were cut.
    pub cut: BTreeMap<usize, u64>,
}

impl Decoder {
    pub fn new(types: Vec<SqlType>, beyond: BeyondMicroseconds) -> Self {
        Self {
            types,
            beyond,
            cut: BTreeMap::new(),
        }
    }

    /// Appends a value, or NULL with the reason why it does not fit; both with the bytes it takes.
    pub fn append(
        &mut self,
        index: usize,
        column: &mut ColumnBuilder,
        value: &ColumnData<'static>,
    ) -> (usize, std::result::Result<(), Fault>) {
        let sql_type = self.types.get(index).copied().unwrap_or(SqlType::Text);
        if is_null(value) {
            column.append_null();
            return (1, Ok(()));
        }
        let appended = self.append_value(index, sql_type, column, value);
        if appended.is_err() {
            column.append_null();
        }
        (size(value), appended)
    }

    fn append_value(
        &mut self,
        index: usize,
        sql_type: SqlType,
        column: &mut ColumnBuilder,
        value: &ColumnData<'static>,
    ) -> std::result::Result<(), Fault> {
        use ColumnBuilder as To;
        if sql_type == SqlType::Variant {
            let To::Utf8(builder) = column else {
                return Err(wrong(value));
            };
            // It may have been money, which the driver does not tell from a float here.
            if let ColumnData::F64(Some(value)) = value {
                money(*value)?;
            }
            builder.append_value(text_of(value).ok_or_else(|| wrong(value))?);
            return Ok(());
        }
        match (column, value) {
            (To::Boolean(builder), ColumnData::Bit(Some(value))) => builder.append_value(*value),
            (To::Int16(builder), ColumnData::U8(Some(value))) => {
                builder.append_value(i16::from(*value));
            }
            (To::Int16(builder), ColumnData::I16(Some(value))) => builder.append_value(*value),
            (To::Int32(builder), ColumnData::I32(Some(value))) => builder.append_value(*value),
            (To::Int64(builder), ColumnData::I64(Some(value))) => builder.append_value(*value),
            (To::Float32(builder), ColumnData::F32(Some(value))) => builder.append_value(*value),
            (To::Float64(builder), ColumnData::F64(Some(value))) => builder.append_value(*value),
            (To::Decimal(builder, _, scale), ColumnData::Numeric(Some(value))) => {
                if i16::from(value.scale()) != i16::from(*scale) {
                    let found = value.scale();
                    return Err(
                        format!("a decimal of scale {found} in a column of scale {scale}").into(),
                    );
                }
                builder.append_value(value.value());
            }
            (To::Decimal(builder, ..), ColumnData::F64(Some(value))) => {
                builder.append_value(money(*value)?);
            }
            (To::Utf8(builder), ColumnData::String(Some(value))) => builder.append_value(value),
            (To::Utf8(builder), ColumnData::Xml(Some(value))) => {
                builder.append_value(value.as_ref());
            }
            (To::Utf8(builder), ColumnData::Guid(Some(value))) => {
                let mut buffer = tiberius::Uuid::encode_buffer();
                builder.append_value(value.hyphenated().encode_lower(&mut buffer));
            }
            (To::Binary(builder), ColumnData::Binary(Some(value))) => builder.append_value(value),
            (To::Date32(builder), ColumnData::Date(_)) => {
                let days = ticks(value).ok_or_else(wrong_time)? / TICKS_PER_DAY - DAYS_TO_1970;
                builder.append_value(i32::try_from(days).map_err(|_| wrong_time())?);
            }
            (To::Time(builder), ColumnData::Time(Some(value))) => {
                let ticks =
                    ticks_in_day(value.increments(), value.scale()).ok_or_else(wrong_time)?;
                builder.append_value(self.micros(index, ticks)?);
            }
            (
                To::Timestamp(builder, _),
                ColumnData::Date(_)
                | ColumnData::DateTime(_)
                | ColumnData::SmallDateTime(_)
                | ColumnData::DateTime2(_)
                | ColumnData::DateTimeOffset(_),
            ) => {
                let ticks = ticks(value).ok_or_else(wrong_time)?;
                builder.append_value(self.micros(index, ticks - TICKS_TO_1970)?);
            }
            _ => return Err(wrong(value)),
        }
        Ok(())
    }

    /// The microseconds in so many ticks; what becomes of further digits is configured.
    pub fn micros(&mut self, index: usize, ticks: i64) -> std::result::Result<i64, Fault> {
        if ticks % TICKS_PER_MICROSECOND != 0 {
            match self.beyond {
                BeyondMicroseconds::Truncate => *self.cut.entry(index).or_default() += 1,
                BeyondMicroseconds::Quarantine => return Err(BEYOND.into()),
                BeyondMicroseconds::Fail => return Err(Fault::Run(BEYOND.to_owned())),
            }
        }
        Ok(ticks.div_euclid(TICKS_PER_MICROSECOND))
    }
}

/// Appends the cursor of a row.
pub fn append_cursor(
    cursors: &mut CursorBuilder,
    row: &Row,
    column: usize,
    id: Option<usize>,
) -> Result<()> {
    let value = row.get_column_data(column).map_err(Error::from)?;
    let appended = match cursors {
        CursorBuilder::Integer(values) => whole(value).map(|value| values.push(value)),
        CursorBuilder::Time(values, _) => ticks(value).map(|ticks| values.push(ticks)),
        CursorBuilder::Rowversion(values) => match value {
            ColumnData::Binary(Some(bytes)) => bytes
                .as_ref()
                .try_into()
                .ok()
                .map(|bytes| values.push(u64::from_be_bytes(bytes))),
            _ => None,
        },
        CursorBuilder::Keyset(times, ids) => {
            let id = row
                .get_column_data(id.unwrap_or_default())
                .map_err(Error::from)?;
            match (times.as_mut(), ticks(value), whole(id)) {
                (CursorBuilder::Time(values, _), Some(ticks), Some(id)) => {
                    values.push(ticks);
                    ids.push(id);
                    Some(())
                }
                _ => None,
            }
        }
        CursorBuilder::Text(_) => None,
    };
    appended.ok_or_else(|| {
        let name = row
            .columns()
            .get(column)
            .map(tiberius::Column::name)
            .unwrap_or_default();
        misplaced_cursor(name, is_null(value))
    })
}

/// The row as JSON, in a form that loses nothing that the driver gave.
pub fn payload(row: &Row) -> Json {
    let cells = row
        .cells()
        .map(|(column, value)| (column.name().to_owned(), json_of(value)));
    Json::Object(cells.collect())
}

/// A value as JSON.
pub fn json_of(value: &ColumnData<'static>) -> Json {
    match value {
        value if is_null(value) => Json::Null,
        ColumnData::Binary(Some(bytes)) => json!({ "hex": hex(bytes) }),
        ColumnData::Bit(Some(value)) => json!(value),
        ColumnData::F64(Some(value)) if value.is_finite() => json!(value),
        ColumnData::F32(Some(value)) if value.is_finite() => json!(value),
        other => whole(other).map_or_else(
            // A time that no calendar has is told as the driver holds it.
            || json!(text_of(other).unwrap_or_else(|| format!("{other:?}"))),
            |value| json!(value),
        ),
    }
}

/// Ticks since 0001-01-01 of a value that is a time up to the year 9999; the protocol has room for others. A `datetime`
/// counts as what the server shows: whole milliseconds.
pub fn ticks(value: &ColumnData<'_>) -> Option<i64> {
    let (days, in_day) = match value {
        ColumnData::Date(Some(value)) => (i64::from(value.days()), 0),
        ColumnData::DateTime(Some(value)) => {
            let days = i64::from(value.days()) + DAYS_TO_1900;
            let parts = i64::from(value.seconds_fragments());
            // 1/300 s rounded to 1/1000 s: .000, .003, .007.
            let millis = (parts * 1_000 + DATETIME_PARTS / 2) / DATETIME_PARTS;
            (days, millis * (TICKS_PER_SECOND / 1_000))
        }
        ColumnData::SmallDateTime(Some(value)) => {
            let days = i64::from(value.days()) + DAYS_TO_1900;
            let minutes = i64::from(value.seconds_fragments());
            (days, minutes * 60 * TICKS_PER_SECOND)
        }
        ColumnData::DateTime2(Some(value)) => split(*value)?,
        // On the wire it is in UTC already (MS-TDS 2.2.5.5.1.9).
        ColumnData::DateTimeOffset(Some(value)) => split(value.datetime2())?,
        _ => return None,
    };
    let in_day = Some(in_day).filter(|ticks| *ticks < TICKS_PER_DAY)?;
    let ticks = days.checked_mul(TICKS_PER_DAY)?.checked_add(in_day)?;
    (0..=LAST_TICK).contains(&ticks).then_some(ticks)
}

/// Days and ticks in the day.
fn split(value: DateTime2) -> Option<(i64, i64)> {
    let in_day = ticks_in_day(value.time().increments(), value.time().scale())?;
    Some((i64::from(value.date().days()), in_day))
}

fn ticks_in_day(increments: u64, scale: u8) -> Option<i64> {
    let factor = 10_i64.checked_pow(7_u32.checked_sub(u32::from(scale))?)?;
    let ticks = i64::try_from(increments).ok()?.checked_mul(factor)?;
    (ticks < TICKS_PER_DAY).then_some(ticks)
}

/// A value that is a whole number.
pub fn whole(value: &ColumnData<'_>) -> Option<i64> {
    match value {
        ColumnData::U8(Some(value)) => Some(i64::from(*value)),
        ColumnData::I16(Some(value)) => Some(i64::from(*value)),
        ColumnData::I32(Some(value)) => Some(i64::from(*value)),
        ColumnData::I64(Some(value)) => Some(*value),
        ColumnData::Numeric(Some(value)) if value.scale() == 0 => i64::try_from(value.value()).ok(),
        _ => None,
    }
}

/// Ten-thousandths, exact or not at all.
fn money(value: f64) -> std::result::Result<i128, Fault> {
    if value.is_nan() || value.abs() > EXACT_MONEY {
        return Err("an amount of money beyond 225 thousand million, which the driver reads inexactly: CAST it AS decimal(19,4) in the query".into());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "far inside the range of i64"
    )]
    let scaled = (value * 10_f64.powi(i32::from(MONEY_SCALE))).round() as i64;
    Ok(i128::from(scaled))
}

/// The text of a value, for a `sql_variant` and for quarantine.
pub fn text_of(value: &ColumnData<'_>) -> Option<String> {
    Some(match value {
        ColumnData::String(Some(value)) => value.to_string(),
        ColumnData::Xml(Some(value)) => value.to_string(),
        ColumnData::Guid(Some(value)) => value.to_string(),
        ColumnData::Numeric(Some(value)) => decimal(value.value(), value.scale()),
        ColumnData::Bit(Some(value)) => u8::from(*value).to_string(),
        ColumnData::F32(Some(value)) => value.to_string(),
        ColumnData::F64(Some(value)) => value.to_string(),
        ColumnData::Binary(Some(value)) => format!("0x{}", hex(value)),
        ColumnData::Time(Some(value)) => {
            let ticks = ticks_in_day(value.increments(), value.scale())?;
            TimeForm::local(value.scale())
                .write(ticks)
                .get(11..)?
                .to_owned()
        }
        ColumnData::Date(_) => TimeForm::DATE.write(ticks(value)?),
        ColumnData::DateTime(_) => TimeForm::local(3).write(ticks(value)?),
        ColumnData::SmallDateTime(_) => TimeForm::local(0).write(ticks(value)?),
        ColumnData::DateTime2(Some(time)) => {
            TimeForm::local(time.time().scale()).write(ticks(value)?)
        }
        ColumnData::DateTimeOffset(Some(time)) => {
            TimeForm::utc(time.datetime2().time().scale()).write(ticks(value)?)
        }
        other => whole(other)?.to_string(),
    })
}

/// A decimal as text.
pub fn decimal(value: i128, scale: u8) -> String {
    let (sign, digits) = (
        if value < 0 { "-" } else { "" },
        value.unsigned_abs().to_string(),
    );
    let scale = usize::from(scale);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// A value of another type than the column's.
pub fn wrong(value: &ColumnData<'_>) -> Fault {
    // The variant's name alone: the value is nobody's business.
    let debug = format!("{value:?}");
    let name = debug.split('(').next().unwrap_or_default();
    format!("a value of another type ({name}) than the server announced").into()
}

/// A time that no calendar has.
pub fn wrong_time() -> Fault {
    "a time out of range".into()
}

/// About the bytes of a value.
pub fn size(value: &ColumnData<'_>) -> usize {
    match value {
        ColumnData::String(Some(value)) => value.len(),
        ColumnData::Binary(Some(value)) => value.len(),
        ColumnData::Xml(Some(value)) => value.as_ref().as_ref().len(),
        _ => size_of::<i64>(),
    }
}

fn is_null(value: &ColumnData<'_>) -> bool {
    matches!(
        value,
        ColumnData::U8(None)
            | ColumnData::I16(None)
            | ColumnData::I32(None)
            | ColumnData::I64(None)
            | ColumnData::F32(None)
            | ColumnData::F64(None)
            | ColumnData::Bit(None)
            | ColumnData::String(None)
            | ColumnData::Guid(None)
            | ColumnData::Binary(None)
            | ColumnData::Numeric(None)
            | ColumnData::Xml(None)
            | ColumnData::DateTime(None)
            | ColumnData::SmallDateTime(None)
            | ColumnData::Time(None)
            | ColumnData::Date(None)
            | ColumnData::DateTime2(None)
            | ColumnData::DateTimeOffset(None)
    )
}
