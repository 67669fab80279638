//! The column of days: dates, or text as `SQLite` has them.

use etl_plugin_api::arrow::array::types::Date32Type;
use etl_plugin_api::columns;
use etl_plugin_api::prelude::*;
use jiff::Unit;
use jiff::civil::Date;

/// The day of each row, counted from 1970-01-01.
type Days<'a> = Box<dyn Iterator<Item = Result<i32>> + 'a>;

/// The days of a batch.
pub fn days(batch: &RecordBatch) -> Result<Days<'_>> {
    let is_date = batch.schema().field_with_name("day")?.data_type() == &DataType::Date32;
    if is_date {
        let days = columns::values::<Date32Type>(batch, "day")?;
        return Ok(Box::new(days.iter().map(|day| day.ok_or_else(no_day))));
    }
    let days = columns::texts(batch, "day")?;
    Ok(Box::new(
        days.map(|day| day.and_then(parse).ok_or_else(no_day)),
    ))
}

fn parse(text: &str) -> Option<i32> {
    let day: Date = text.parse().ok()?;
    let epoch = Date::constant(1970, 1, 1);
    Some(day.since((Unit::Day, epoch)).ok()?.get_days())
}

fn no_day() -> StageError {
    StageError::config(
        "the column day holds no day such as 2026-10-10; make one of it in source.query",
    )
}
