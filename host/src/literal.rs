//! Single values as text: cursors taken from Arrow columns, and cursors as a sink compares them.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow_schema::{DataType, TimeUnit};
use etl_plugin_api::Cursor;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::error::{Error, Result};

/// A value as text whose order by bytes is the order of the values: times with nine digits behind the second.
pub fn text(array: &dyn Array, row: usize) -> Result<String> {
    let nanos = match array.data_type() {
        DataType::Utf8 => return Ok(array.as_string::<i32>().value(row).to_owned()),
        DataType::Int64 => return Ok(array.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::Timestamp(TimeUnit::Second, _) => {
            i128::from(array.as_primitive::<TimestampSecondType>().value(row)) * 1_000_000_000
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            i128::from(array.as_primitive::<TimestampMillisecondType>().value(row)) * 1_000_000
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            i128::from(array.as_primitive::<TimestampMicrosecondType>().value(row)) * 1_000
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => array
            .as_primitive::<TimestampNanosecondType>()
            .value(row)
            .into(),
        other => {
            return Err(Error::data(format!(
                "a value of Arrow type {other} is no cursor"
            )));
        }
    };
    let instant = Timestamp::from_nanosecond(nanos)
        .map_err(|error| Error::data("a cursor is out of range").caused_by(error))?;
    Ok(written(instant.to_zoned(TimeZone::UTC).datetime(), 'T', 9))
}

/// A cursor as both sinks compare it with a column of this type; `None` if it has no such form.
pub fn in_sink(cursor: &Cursor, column: &DataType) -> Option<String> {
    match (cursor, column) {
        (Cursor::Integer(value), _) => Some(value.to_string()),
        (Cursor::Text(text), DataType::Timestamp(..)) => {
            let time: DateTime = text.strip_suffix('Z').unwrap_or(text).parse().ok()?;
            let nanos = time.subsec_nanosecond();
            let digits = match nanos {
                0 => 0,
                nanos if nanos % 1_000_000 == 0 => 3,
                nanos if nanos % 1_000 == 0 => 6,
                _ => return None,
            };
            Some(written(time, ' ', digits))
        }
        (Cursor::Text(text), DataType::Utf8 | DataType::LargeUtf8 | DataType::Date32) => {
            Some(text.clone())
        }
        _ => None,
    }
}

fn written(time: DateTime, separator: char, digits: usize) -> String {
    let fraction = format!("{:09}", time.subsec_nanosecond());
    let fraction = fraction.get(..digits).unwrap_or_default();
    let point = if digits == 0 { "" } else { "." };
    format!(
        "{}{separator}{:02}:{:02}:{:02}{point}{fraction}",
        time.date(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_compare_as_the_sinks_write_them() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let form = |text: &str| in_sink(&Cursor::Text(text.to_owned()), &micros);
        assert_eq!(
            form("2024-01-31T10:00:00Z").as_deref(),
            Some("2024-01-31 10:00:00")
        );
        assert_eq!(
            form("2024-01-31 10:00:00.5").as_deref(),
            Some("2024-01-31 10:00:00.500")
        );
        assert_eq!(form("soon"), None);
        assert_eq!(
            in_sink(&Cursor::Integer(7), &DataType::Int64).as_deref(),
            Some("7")
        );
    }

    #[test]
    fn times_as_text_keep_their_order() {
        let array = arrow_array::TimestampMicrosecondArray::from(vec![-1, 0, 1_500_000]);
        let texts: Vec<String> = (0..3).map(|row| text(&array, row).unwrap()).collect();
        assert_eq!(texts[2], "1970-01-01T00:00:01.500000000");
        assert!(texts.is_sorted());
    }
}
