//! Single values as text: cursors as a sink compares them with its columns, times as people write them, bytes as digits.

use arrow_schema::DataType;
use etl_plugin_api::Cursor;
use jiff::SignedDuration;
use jiff::civil::{Date, DateTime};

/// Nanoseconds in a day.
pub const NANOS_PER_DAY: i128 = 86_400_000_000_000;
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

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
        (Cursor::Integer(value), _) => Some(value.to_string()),
        (Cursor::Text(text), DataType::Timestamp(_, zone)) => {
            let time: DateTime = text.strip_suffix('Z').unwrap_or(text).parse().ok()?;
            let nanos = time.subsec_nanosecond();
            let digits = match nanos {
                0 => 0,
                nanos if nanos % 1_000_000 == 0 => 3,
                nanos if nanos % 1_000 == 0 || end == End::UpTo => 6,
                _ => return None,
            };
            // Without its zone PostgreSQL would take it for the session's, and SQLite for another text.
            let zone = if zone.is_some() { "Z" } else { "" };
            Some(format!("{}{zone}", written(time, digits)))
        }
        (Cursor::Text(text), DataType::Utf8 | DataType::LargeUtf8 | DataType::Date32) => {
            Some(text.clone())
        }
        _ => None,
    }
}

/// Days since 1970-01-01 of a date.
pub fn parse_date(text: &str) -> Option<i64> {
    let date: Date = text.parse().ok().filter(|_| text.len() == 10)?;
    let since = date.duration_since(EPOCH.date());
    Some(since.as_hours() / 24)
}

/// Nanoseconds since 1970 of a time or a date, with or without `Z`.
pub fn parse_time(text: &str) -> Option<i128> {
    if let Some(days) = parse_date(text) {
        return Some(i128::from(days) * NANOS_PER_DAY);
    }
    let time: DateTime = text.strip_suffix('Z').unwrap_or(text).parse().ok()?;
    let since = time.duration_since(EPOCH);
    Some(since.as_nanos())
}

/// Nanoseconds since 1970 as a time, `2024-01-31T23:59:59.5`; `-` for years before -9999 and after 9999.
pub fn write_time(nanos: i128) -> String {
    let time = i64::try_from(nanos.div_euclid(1_000_000_000))
        .ok()
        .zip(i32::try_from(nanos.rem_euclid(1_000_000_000)).ok())
        .and_then(|(seconds, nanos)| EPOCH.checked_add(SignedDuration::new(seconds, nanos)).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
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

fn written(time: DateTime, digits: usize) -> String {
    let fraction = format!("{:09}", time.subsec_nanosecond());
    let fraction = fraction.get(..digits).unwrap_or_default();
    let point = if digits == 0 { "" } else { "." };
    format!(
        "{} {:02}:{:02}:{:02}{point}{fraction}",
        time.date(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use arrow_schema::TimeUnit;

    use super::*;

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
    fn times_are_read_and_written() {
        assert_eq!(parse_time("1970-01-02"), Some(NANOS_PER_DAY));
        assert_eq!(parse_time("1969-12-31 23:59:59.5Z"), Some(-500_000_000));
        assert_eq!(parse_time("soon"), None);
        for text in ["1969-12-31T23:59:59.5", "2024-01-31T00:00:00"] {
            assert_eq!(parse_time(text).map(write_time).as_deref(), Some(text));
        }
        assert_eq!(write_time(i128::MAX), "-");
    }
}
