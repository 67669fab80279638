//! Single values as text: times, cursors as a sink compares them with its columns, bytes as digits.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowTimestampType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_schema::{DataType, TimeUnit};
use etl_plugin_api::Cursor;
use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, ToSpan};

/// Nanoseconds in a day.
pub const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// An end of a range of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Rows behind it.
    After,
    /// Rows up to it.
    UpTo,
}

/// A cursor as both sinks compare it with a column of this type; `None` if it has no such form. The end of what was
/// loaded is cut as the loaded values were; a beginning that no value of the sink can have has no form.
pub fn in_sink(cursor: &Cursor, end: End, column: &DataType) -> Option<String> {
    match (cursor, column) {
        // All rows of the time, or none of them, are on this side of it.
        (Cursor::Keyset { time, id }, _) if end == End::UpTo || *id == i64::MAX => {
            in_sink(&Cursor::Text(time.clone()), end, column)
        }
        // Text compares by its digits: '1000' comes before '12'.
        (Cursor::Integer(value), column) if column.is_numeric() => Some(value.to_string()),
        (Cursor::Text(text), DataType::Timestamp(_, zone)) => {
            let nanos = parse_timestamp(text)?;
            let beyond = nanos.rem_euclid(1_000);
            if beyond != 0 && end == End::After {
                return None;
            }
            // Without its zone PostgreSQL would take it for the session's, and SQLite for another text.
            timestamp(nanos - beyond, zone.is_some())
        }
        (Cursor::Text(text), DataType::Utf8 | DataType::LargeUtf8 | DataType::Date32) => {
            Some(text.clone())
        }
        _ => None,
    }
}

/// A date as ISO 8601 text; `None` beyond the years 0 to 9999.
pub fn date(days: i32) -> Option<String> {
    let date = Date::constant(1970, 1, 1)
        .checked_add(i64::from(days).days())
        .ok()?;
    (date.year() >= 0).then(|| date.to_string())
}

/// A time of the day, with as many digits as it has; `None` if it is none.
pub fn time_of_day(micros: i64) -> Option<String> {
    let seconds = micros.div_euclid(1_000_000);
    (0..86_400).contains(&seconds).then(|| {
        format!(
            "{:02}:{:02}:{:02}{}",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60,
            fraction(micros.rem_euclid(1_000_000) * 1_000)
        )
    })
}

/// As many digits as there are: none, three, six or nine.
fn fraction(nanos: i64) -> String {
    match nanos {
        0 => String::new(),
        nanos if nanos % 1_000_000 == 0 => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    }
}

/// A point in time, with as many digits as it has; `None` beyond the years 0 to 9999.
pub fn timestamp(nanos: i128, zoned: bool) -> Option<String> {
    const SECOND: i128 = 1_000_000_000;
    let seconds = i64::try_from(nanos.div_euclid(SECOND)).ok()?;
    let fraction_nanos = i32::try_from(nanos.rem_euclid(SECOND)).ok()?;
    // Not as an instant: of those the library leaves out the last hours of the year 9999.
    let civil = DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
        .checked_add(SignedDuration::new(seconds, fraction_nanos))
        .ok()?;
    // Years before 0 sort wrongly as text.
    (civil.year() >= 0).then(|| {
        format!(
            "{} {:02}:{:02}:{:02}{}{}",
            civil.date(),
            civil.hour(),
            civil.minute(),
            civil.second(),
            fraction(civil.subsec_nanosecond().into()),
            if zoned { "Z" } else { "" }
        )
    })
}

/// The nanoseconds since 1970 of a timestamp array's row.
pub fn nanoseconds(array: &dyn Array, unit: TimeUnit, row: usize) -> i128 {
    fn value<T: ArrowTimestampType>(array: &dyn Array, row: usize) -> i128 {
        array.as_primitive::<T>().value(row).into()
    }
    match unit {
        TimeUnit::Second => value::<TimestampSecondType>(array, row) * 1_000_000_000,
        TimeUnit::Millisecond => value::<TimestampMillisecondType>(array, row) * 1_000_000,
        TimeUnit::Microsecond => value::<TimestampMicrosecondType>(array, row) * 1_000,
        TimeUnit::Nanosecond => value::<TimestampNanosecondType>(array, row),
    }
}

/// What [`date`] has written: days since 1970.
pub fn parse_date(text: &str) -> Option<i32> {
    let days = Date::constant(1970, 1, 1)
        .until(text.parse::<Date>().ok()?)
        .ok()?
        .get_days();
    Some(days)
}

/// What [`time_of_day`] has written: microseconds since midnight.
pub fn parse_time_of_day(text: &str) -> Option<i64> {
    let time: jiff::civil::Time = text.parse().ok()?;
    let seconds =
        (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
    Some(seconds * 1_000_000 + i64::from(time.subsec_nanosecond()) / 1_000)
}

/// What [`timestamp`] has written: nanoseconds since 1970.
pub fn parse_timestamp(text: &str) -> Option<i128> {
    let civil: DateTime = text.strip_suffix('Z').unwrap_or(text).parse().ok()?;
    let since = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    Some(civil.duration_since(since).as_nanos())
}

/// A time or a date as people write them, with or without `Z`: nanoseconds since 1970.
pub fn parse_position(text: &str) -> Option<i128> {
    const DATE: usize = "2024-01-31".len();
    if text.len() == DATE {
        return Some(i128::from(parse_date(text)?) * NANOS_PER_DAY);
    }
    parse_timestamp(text)
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_are_read_as_they_were_written(days in -719_528i32..=2_932_896, micros in 0i64..86_400_000_000, nanos in 0i128..1_000_000_000) {
            prop_assert_eq!(parse_date(&date(days).unwrap()), Some(days));
            prop_assert_eq!(parse_time_of_day(&time_of_day(micros).unwrap()), Some(micros));
            let point = i128::from(days) * 86_400_000_000_000 + i128::from(micros) * 1_000 + nanos % 1_000;
            for zoned in [false, true] {
                prop_assert_eq!(parse_timestamp(&timestamp(point, zoned).unwrap()), Some(point));
            }
        }
    }

    #[test]
    fn times_compare_as_the_sinks_write_them() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let form = |text: &str| in_sink(&Cursor::Text(text.to_owned()), End::After, &micros);
        assert_eq!(
            form("2024-01-31T10:00:00Z").as_deref(),
            Some("2024-01-31 10:00:00")
        );
        assert_eq!(
            form("2024-01-31 10:00:00.5").as_deref(),
            Some("2024-01-31 10:00:00.500")
        );
        assert_eq!(form("soon"), None);
        let loaded = Cursor::Text("2024-01-31T10:00:00.1234567".to_owned());
        assert_eq!(in_sink(&loaded, End::After, &micros), None);
        assert_eq!(
            in_sink(&loaded, End::UpTo, &micros).as_deref(),
            Some("2024-01-31 10:00:00.123456")
        );
        let keyset = |id| Cursor::Keyset {
            time: "2024-01-31T10:00:00".to_owned(),
            id,
        };
        assert_eq!(in_sink(&keyset(7), End::After, &micros), None);
        assert!(in_sink(&keyset(7), End::UpTo, &micros).is_some());
        assert!(in_sink(&keyset(i64::MAX), End::After, &micros).is_some());
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let cursor = Cursor::Text("2024-01-31 10:00:00".to_owned());
        assert_eq!(
            in_sink(&cursor, End::After, &zoned).as_deref(),
            Some("2024-01-31 10:00:00Z")
        );
        assert_eq!(
            in_sink(&Cursor::Integer(7), End::UpTo, &DataType::Int64).as_deref(),
            Some("7")
        );
    }

    #[test]
    fn a_number_is_compared_with_numbers_only() {
        let form = |column: &DataType| in_sink(&Cursor::Integer(-7), End::UpTo, column);
        for column in [
            DataType::Int16,
            DataType::UInt64,
            DataType::Decimal128(20, 0),
            DataType::Float64,
        ] {
            assert_eq!(form(&column).as_deref(), Some("-7"), "{column}");
        }
        let words = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        for column in [DataType::Utf8, DataType::LargeUtf8, words, DataType::Date32] {
            assert_eq!(form(&column), None, "{column}");
        }
    }

    #[test]
    fn a_position_is_a_date_or_a_time() {
        assert_eq!(parse_position("1970-01-02"), Some(NANOS_PER_DAY));
        let before = Some(-500_000_000);
        assert_eq!(parse_position("1969-12-31T23:59:59.5Z"), before);
        assert_eq!(parse_position("1969-12-31 23:59:59.500"), before);
        assert_eq!(parse_position("soon"), None);
    }
}
