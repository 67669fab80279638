//! The column of days: dates, or text as `SQLite` has them.

use etl_plugin_api::arrow::array::cast::AsArray;
use etl_plugin_api::arrow::array::types::Date32Type;
use etl_plugin_api::arrow::array::{ArrayRef, Date32Array, StringArray};
use etl_plugin_api::prelude::*;
use jiff::Unit;
use jiff::civil::Date;

/// The days of a batch's rows.
pub enum Days<'a> {
    /// Of a type of its own.
    Date(&'a Date32Array),
    /// `2026-10-10`.
    Text(&'a StringArray),
}

impl<'a> Days<'a> {
    /// Those of a column.
    pub fn of(column: &'a ArrayRef) -> Result<Self> {
        match column.data_type() {
            DataType::Date32 => Ok(Self::Date(column.as_primitive::<Date32Type>())),
            DataType::Utf8 => Ok(Self::Text(column.as_string::<i32>())),
            other => Err(StageError::fatal(format!(
                "a batch has column day as {other}"
            ))),
        }
    }

    /// The day of a row, counted from 1970-01-01.
    pub fn value(&self, row: usize) -> Result<i32> {
        let text = match self {
            Self::Date(days) => return Ok(days.value(row)),
            Self::Text(days) => days.value(row),
        };
        let day: Date = text
            .parse()
            .config("the column day holds no day such as 2026-10-10")?;
        let epoch = Date::constant(1970, 1, 1);
        let since = day.since((Unit::Day, epoch)).fatal("count the days")?;
        Ok(since.get_days())
    }
}
