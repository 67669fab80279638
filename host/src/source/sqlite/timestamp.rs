//! Times as `SQLite` keeps them: text in one of several ISO 8601 forms.
//!
//! The database orders such a column by bytes, so a cursor over it is that text itself, and the upper bound must be
//! written in the very form the column uses. Columns that mix forms are refused: their order is not that of time.

use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime};

use crate::error::{Error, Result};
use crate::source::time::nanoseconds;

/// The form of a column's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `2024-01-31`.
    Date,
    /// `2024-01-31 23:59:59.999`, any number of digits behind the point, none at all too; as many as the first value had
    /// are taken for the column's resolution.
    Local { separator: u8, digits: usize },
    /// `2024-01-31T23:59:59.999Z`, always with so many digits: with a sign behind them only equal lengths sort right.
    Utc { separator: u8, digits: usize },
}

impl Shape {
    /// The form of a time; `None` if it is none.
    pub fn of(text: &str) -> Option<Self> {
        if text.parse::<Date>().is_ok() && text.len() == 10 {
            return Some(Self::Date);
        }
        parse_time(text)?;
        let separator = *text.as_bytes().get(10)?;
        // Hours and minutes alone would sort before the same with seconds.
        if text.len() < 19 {
            return None;
        }
        Some(match text.strip_suffix('Z') {
            Some(rest) => Self::Utc {
                separator,
                digits: rest.len().saturating_sub(20),
            },
            None => Self::Local {
                separator,
                digits: text.len().saturating_sub(20),
            },
        })
    }

    /// Whether a time has this form.
    pub fn fits(self, text: &str) -> bool {
        let bytes = text.as_bytes();
        match self {
            Self::Date => bytes.len() == 10,
            Self::Local { separator, .. } => {
                bytes.len() >= 19
                    && bytes.get(10) == Some(&separator)
                    && is_civil(text)
                    && !text.ends_with('Z')
            }
            Self::Utc { separator, digits } => {
                let length = if digits == 0 { 20 } else { 21 + digits };
                bytes.len() == length
                    && bytes.get(10) == Some(&separator)
                    && bytes.last() == Some(&b'Z')
            }
        }
    }

    /// The last time that is settled, in this form: `now` (`YYYY-MM-DDTHH:MM:SS.fff`) less the delay, less one unit of
    /// the column's resolution: rows with the running second's or day's value may come until its end.
    pub fn upper_bound(self, now: &str, settle_delay: Duration) -> Result<String> {
        let clock =
            |error: jiff::Error| Error::internal("the clock is out of range").caused_by(error);
        let now: DateTime = now.parse().map_err(clock)?;
        let settled = now.checked_sub(settle_delay).map_err(clock)?;
        Ok(match self {
            Self::Date => settled.date().yesterday().map_err(clock)?.to_string(),
            Self::Local { digits: 0, .. } | Self::Utc { digits: 0, .. } => {
                self.write(settled.checked_sub(1.second()).map_err(clock)?)
            }
            _ => self.write(settled.checked_sub(1.millisecond()).map_err(clock)?),
        })
    }

    /// A time or a date as people write it, in this form.
    pub fn rewrite(self, text: &str) -> Option<String> {
        let text = text.strip_suffix('Z').unwrap_or(text);
        let time = match text.parse::<DateTime>() {
            Ok(time) => time,
            Err(_) => text
                .parse::<Date>()
                .ok()?
                .to_datetime(jiff::civil::Time::midnight()),
        };
        Some(self.write(time))
    }

    fn write(self, time: DateTime) -> String {
        let nanos = time.subsec_nanosecond();
        let seconds = |separator: u8| {
            format!(
                "{}{}{:02}:{:02}:{:02}",
                time.date(),
                char::from(separator),
                time.hour(),
                time.minute(),
                time.second()
            )
        };
        match self {
            Self::Date => time.date().to_string(),
            Self::Local { separator, .. } => {
                let millis = nanos / 1_000_000;
                if millis == 0 {
                    seconds(separator)
                } else {
                    format!("{}.{millis:03}", seconds(separator))
                }
            }
            Self::Utc {
                separator,
                digits: 0,
            } => format!("{}Z", seconds(separator)),
            Self::Utc { separator, digits } => {
                let fraction: String = format!("{nanos:09}")
                    .chars()
                    .chain("0".repeat(digits).chars())
                    .take(digits)
                    .collect();
                format!("{}.{fraction}Z", seconds(separator))
            }
        }
    }
}

/// Microseconds since 1970-01-01 of a time without an offset, or with `Z`. `None` if it is no time, or has digits
/// that microseconds cannot hold.
pub fn parse_micros(text: &str) -> Option<i64> {
    let time = parse_time(text)?;
    if time.subsec_nanosecond() % 1_000 != 0 {
        return None;
    }
    i64::try_from(nanoseconds(time) / 1_000).ok()
}

fn parse_time(text: &str) -> Option<DateTime> {
    let time = text.strip_suffix('Z').unwrap_or(text);
    is_civil(text).then(|| time.parse().ok())?
}

/// Digits and their separators, at most a `Z` behind: an offset or a zone would be passed over in silence.
fn is_civil(text: &str) -> bool {
    let (date, time) = text.split_at_checked(10).unwrap_or((text, ""));
    let time = time.strip_suffix('Z').unwrap_or(time);
    date.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'-')
        && time
            .bytes()
            .skip(1)
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'))
}

/// Days since 1970-01-01.
pub fn parse_days(text: &str) -> Option<i32> {
    let date: Date = text.parse().ok()?;
    let epoch = Date::constant(1970, 1, 1);
    (text.len() == 10).then(|| {
        date.since((jiff::Unit::Day, epoch))
            .ok()
            .map(|span| span.get_days())
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_apart() {
        assert_eq!(Shape::of("2024-01-31"), Some(Shape::Date));
        assert_eq!(
            Shape::of("2024-01-31 10:00:00"),
            Some(Shape::Local {
                separator: b' ',
                digits: 0
            })
        );
        assert_eq!(
            Shape::of("2024-01-31T10:00:00.5"),
            Some(Shape::Local {
                separator: b'T',
                digits: 1
            })
        );
        assert_eq!(
            Shape::of("2024-01-31T10:00:00.123Z"),
            Some(Shape::Utc {
                separator: b'T',
                digits: 3
            })
        );
        assert_eq!(
            Shape::of("2024-01-31T10:00:00Z"),
            Some(Shape::Utc {
                separator: b'T',
                digits: 0
            })
        );
        for no in [
            "",
            "yesterday",
            "2024-01-31 10:00",
            "2024-02-30 10:00:00",
            "2024-01-31 10:00:00+02:00",
        ] {
            assert_eq!(Shape::of(no), None, "{no}");
        }
    }

    #[test]
    fn the_upper_bound_is_written_in_the_column_s_form() {
        let now = "2024-03-01T00:00:02.250";
        let bound = |text: &str| {
            let shape = Shape::of(text).unwrap();
            let bound = shape.upper_bound(now, Duration::from_secs(5)).unwrap();
            assert!(shape.fits(&bound), "{bound}");
            bound
        };
        assert_eq!(bound("2024-01-31"), "2024-02-28");
        assert_eq!(bound("2024-01-31 10:00:00"), "2024-02-29 23:59:56.250");
        assert_eq!(bound("2024-01-31T10:00:00Z"), "2024-02-29T23:59:56Z");
        assert_eq!(
            bound("2024-01-31T10:00:00.1234567Z"),
            "2024-02-29T23:59:57.2490000Z"
        );
    }

    #[test]
    fn times_are_read_exactly_or_not_at_all() {
        assert_eq!(parse_micros("1970-01-01 00:00:01.000001"), Some(1_000_001));
        assert_eq!(parse_micros("1969-12-31T23:59:59Z"), Some(-1_000_000));
        assert_eq!(parse_micros("1970-01-01 00:00:00.0000001"), None);
        assert_eq!(parse_micros("1970-01-01 00:00:00+02:00"), None);
        assert_eq!(parse_micros("1970-01-01 00:00:00[Europe/Berlin]"), None);
        assert_eq!(parse_days("1970-01-02"), Some(1));
        assert_eq!(parse_days("1969-12-31"), Some(-1));
        assert_eq!(parse_days("2024-1-1"), None);
    }
}
