//! The length of a window over a cursor, as people write it: `1d`, `6h`, `100000`.

use crate::config::{CursorKind, duration};
use crate::error::{Error, Result};

/// A length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// So many nanoseconds.
    Time(i128),
    /// So many numbers.
    Number(i128),
}

impl Span {
    /// Reads a length that fits a cursor.
    pub fn parse(kind: CursorKind, text: &str) -> Result<Self> {
        let (read, hint) = match kind {
            CursorKind::Timestamp => (
                duration::parse(text)
                    .ok()
                    .map(|length| Self::Time(length.as_nanos().cast_signed())),
                "write 1d, 6h or 30m: the cursor is a time",
            ),
            CursorKind::Integer => (
                text.parse::<u64>()
                    .ok()
                    .map(|length| Self::Number(length.into())),
                "write a number such as 100000: the cursor is an integer",
            ),
            CursorKind::Rowversion => (None, "leave --window out: the cursor is a `rowversion`"),
        };
        read.filter(|span| !matches!(span, Self::Time(0) | Self::Number(0)))
            .ok_or_else(|| {
                Error::config(format!("--window `{text}` is no length of a window")).hint(hint)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_fits_its_cursor() {
        use CursorKind::{Integer, Rowversion, Timestamp};
        assert_eq!(
            Span::parse(Timestamp, "2s").unwrap(),
            Span::Time(2_000_000_000)
        );
        assert_eq!(Span::parse(Integer, "10").unwrap(), Span::Number(10));
        for (kind, text) in [
            (Integer, "1d"),
            (Integer, "0"),
            (Integer, "-1"),
            (Timestamp, "100"),
            (Timestamp, "0s"),
            (Rowversion, "1d"),
        ] {
            assert!(Span::parse(kind, text).is_err(), "{kind:?} {text}");
        }
    }
}
