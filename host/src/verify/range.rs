//! The ranges that rows are compared by: windows over the cursor's column, as far as it is among the output.
//!
//! A window is `(k * step, (k + 1) * step]`, like the windows that are read: a row at its end belongs to it.

use arrow_schema::DataType;
use etl_plugin_api::Cursor;

use crate::config::CursorKind;
use crate::error::{Error, Result};
use crate::literal::{NANOS_PER_DAY, parse_position, timestamp};
use crate::span::Span;

/// The windows of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many nanoseconds.
    Time(i128),
    /// So many numbers.
    Number(i128),
}

/// What a range of numbers has unless it is told otherwise.
const NUMBERS: i128 = 100_000;

impl Step {
    /// The windows for a cursor; `None` if its values are no places among others.
    pub fn new(kind: CursorKind, wanted: Option<&str>) -> Result<Option<Self>> {
        Ok(match (kind, wanted) {
            (CursorKind::Timestamp, None) => Some(Self::Time(NANOS_PER_DAY)),
            (CursorKind::Integer, None) => Some(Self::Number(NUMBERS)),
            (CursorKind::Rowversion, None) => None,
            (_, Some(text)) => Some(match Span::parse(kind, text)? {
                Span::Time(nanos) => Self::Time(nanos),
                Span::Number(numbers) => Self::Number(numbers),
            }),
        })
    }

    fn length(self) -> i128 {
        match self {
            Self::Time(step) | Self::Number(step) => step,
        }
    }

    /// How its length is written if nothing was asked for.
    pub fn by_default(self) -> &'static str {
        match self {
            Self::Time(_) => "1d",
            Self::Number(_) => "100000",
        }
    }

    /// Whether a column of this type holds places.
    pub fn fits(self, column: &DataType) -> bool {
        match self {
            Self::Number(_) => column.is_integer() || matches!(column, DataType::Decimal128(..)),
            Self::Time(_) => matches!(
                column,
                DataType::Timestamp(..) | DataType::Date32 | DataType::Utf8 | DataType::LargeUtf8
            ),
        }
    }

    /// The place of a cursor, of a keyset that of its time; `None` for what an extractor made up itself.
    pub fn place(self, cursor: &Cursor) -> Option<i128> {
        match (self, cursor) {
            (Self::Number(_), Cursor::Integer(value)) => Some((*value).into()),
            (Self::Time(_), Cursor::Text(time) | Cursor::Keyset { time, .. }) => {
                parse_position(time)
            }
            _ => None,
        }
    }

    /// The window that a position lies in.
    pub fn window(self, position: i128) -> i64 {
        let window = (position - 1).div_euclid(self.length());
        i64::try_from(window).unwrap_or(if window < 0 { i64::MIN } else { i64::MAX })
    }

    /// The ends of a window, `(from, to]`.
    pub fn ends(self, window: i64) -> (i128, i128) {
        let from = i128::from(window) * self.length();
        (from, from + self.length())
    }

    /// A position as people write it.
    pub fn write(self, position: i128) -> String {
        match self {
            Self::Number(_) => position.to_string(),
            Self::Time(_) => timestamp(position, false).unwrap_or_else(|| "-".to_owned()),
        }
    }

    /// A position as people write it, read. A keyset's number has no place in an output.
    pub fn parse(self, text: &str) -> Result<i128> {
        let (read, hint) = match self {
            Self::Number(_) => (text.parse().ok(), "write a whole number"),
            // The sinks keep no more digits, so that rows on both sides of it could not be told apart.
            Self::Time(_) => (
                parse_position(text).filter(|nanos| nanos % 1_000 == 0),
                "write 2024-01-31 or 2024-01-31T23:59:59, without digits beyond a microsecond and without a keyset's number",
            ),
        };
        read.ok_or_else(|| {
            Error::config(format!("`{text}` is no place to cut the rows at")).hint(hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_at_the_end_of_a_window_belongs_to_it() {
        let step = Step::new(CursorKind::Integer, Some("10")).unwrap().unwrap();
        let windows: Vec<i64> = [-10, -9, 0, 1, 10, 11]
            .map(|position| step.window(position))
            .into();
        assert_eq!(windows, [-2, -1, -1, 0, 0, 1]);
        assert_eq!(step.ends(-1), (-10, 0));
        let days = Step::new(CursorKind::Timestamp, None).unwrap().unwrap();
        let midnight = parse_position("2024-01-31").unwrap();
        assert_eq!(days.window(midnight) + 1, days.window(midnight + 1_000));
        let (from, to) = days.ends(days.window(midnight));
        assert_eq!(
            [days.write(from), days.write(to)],
            ["2024-01-30 00:00:00", "2024-01-31 00:00:00"]
        );
    }

    #[test]
    fn a_place_to_cut_at_is_no_finer_than_the_sinks_are() {
        let days = Step::Time(NANOS_PER_DAY);
        assert_eq!(days.parse("1970-01-01T00:00:00.000001Z").unwrap(), 1_000);
        for no in ["1970-01-01T00:00:00.0000001", "1970-01-01,7", "soon"] {
            assert!(days.parse(no).is_err(), "{no}");
        }
    }
}
