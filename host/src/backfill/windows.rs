//! A past range cut into windows, oldest first. Pure.

use crate::config::{Cursor, CursorKind};
use crate::error::{Error, Result};
use crate::literal::{parse_position, timestamp};
use crate::span::Span;

/// The windows `(from, to]` of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    from: String,
    to: String,
    cuts: Option<Cuts>,
}

/// Where the windows end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cuts {
    /// Times in nanoseconds since 1970, or numbers.
    times: bool,
    from: i128,
    to: i128,
    length: i128,
}

impl Windows {
    /// Cuts a range. Without a length it is one window.
    pub fn new(cursor: &Cursor, from: &str, to: &str, length: Option<&str>) -> Result<Self> {
        let span = length
            .map(|length| Span::parse(cursor.kind, length))
            .transpose()?;
        let ends = place(cursor.kind, from).zip(place(cursor.kind, to));
        if ends.is_some_and(|(from, to)| from >= to) {
            return Err(Error::config(format!(
                "the range begins at {from}, which is not before its end {to}"
            )));
        }
        let cuts = match (span, ends) {
            (None, _) => None,
            (Some(Span::Time(length)), Some((from, to))) => Some(Cuts {
                times: true,
                from,
                to,
                length,
            }),
            (Some(Span::Number(length)), Some((from, to))) => Some(Cuts {
                times: false,
                from,
                to,
                length,
            }),
            (Some(_), None) => {
                return Err(Error::config("the range cannot be cut into windows").hint(
                    "write both ends as 2024-01-31 or 2024-01-31T23:59:59, or as whole numbers if the cursor is one",
                ));
            }
        };
        Ok(Self {
            from: from.to_owned(),
            to: to.to_owned(),
            cuts,
        })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.cuts.map_or(1, |cuts| {
            let length = cuts.to - cuts.from;
            let count = length / cuts.length + i128::from(length % cuts.length > 0);
            u64::try_from(count).unwrap_or(u64::MAX)
        })
    }

    /// The ends of one of them. The outermost are written as they were given.
    pub fn get(&self, index: u64) -> Option<(String, String)> {
        if index >= self.count() {
            return None;
        }
        let cut = |index: u64| {
            let cuts = self.cuts?;
            let place = cuts.from + cuts.length * i128::from(index);
            if index == 0 || place >= cuts.to {
                None
            } else if cuts.times {
                timestamp(place, false)
            } else {
                Some(place.to_string())
            }
        };
        Some((
            cut(index).unwrap_or_else(|| self.from.clone()),
            cut(index + 1).unwrap_or_else(|| self.to.clone()),
        ))
    }
}

/// A position as a place among others, where it is one.
pub fn place(kind: CursorKind, text: &str) -> Option<i128> {
    match kind {
        CursorKind::Timestamp => parse_position(text),
        CursorKind::Integer => text.parse().ok(),
        CursorKind::Rowversion => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Clock;

    fn cursor(kind: CursorKind) -> Cursor {
        Cursor {
            column: "at".to_owned(),
            kind,
            id: None,
            clock: Clock::Utc,
            settle_delay: Duration::ZERO,
        }
    }

    fn all(kind: CursorKind, from: &str, to: &str, length: Option<&str>) -> Vec<String> {
        let windows = Windows::new(&cursor(kind), from, to, length).unwrap();
        (0..=windows.count())
            .filter_map(|index| windows.get(index))
            .map(|(from, to)| format!("{from} {to}"))
            .collect()
    }

    #[test]
    fn windows_touch_and_cover_the_range() {
        use CursorKind::{Integer, Rowversion, Timestamp};
        assert_eq!(
            all(Integer, "-5", "20", Some("10")),
            ["-5 5", "5 15", "15 20"]
        );
        assert_eq!(all(Integer, "0", "20", Some("10")), ["0 10", "10 20"]);
        assert_eq!(all(Integer, "0", "20", Some("100")), ["0 20"]);
        assert_eq!(
            all(Timestamp, "2024-01-30 12:00", "2024-02-01Z", Some("1d")),
            [
                "2024-01-30 12:00 2024-01-31 12:00:00",
                "2024-01-31 12:00:00 2024-02-01Z"
            ]
        );
        assert_eq!(all(Timestamp, "a", "b", None), ["a b"]);
        assert_eq!(all(Rowversion, "0x0", "0x1", None), ["0x0 0x1"]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (kind, from, to, length) in [
            (CursorKind::Integer, "5", "5", None),
            (CursorKind::Timestamp, "2024-02-01", "2024-01-01", None),
            (CursorKind::Timestamp, "soon", "2024-01-01", Some("1d")),
            (CursorKind::Rowversion, "0x0", "0x1", Some("1")),
        ] {
            assert!(
                Windows::new(&cursor(kind), from, to, length).is_err(),
                "{from} {to}"
            );
        }
    }
}
