//! How the limit of bad rows is written: `10` or `"0.5%"`.
//!
//! Counting rows against the limit is the runtime's part.

use std::fmt;

use serde::{Serialize, Serializer};

use super::model::BadRowLimit;

/// The text is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(r#"expected a number of rows such as 10, or a share of the rows from "0%" to "100%""#)]
pub struct NotALimit;

impl std::str::FromStr for BadRowLimit {
    type Err = NotALimit;

    fn from_str(text: &str) -> Result<Self, NotALimit> {
        // Rust also reads "+1", "1e3" and "inf"; nobody means those here.
        let number = text.strip_suffix('%').unwrap_or(text);
        if !number
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
        {
            return Err(NotALimit);
        }
        if number.len() == text.len() {
            return text.parse().map(Self::Rows).map_err(|_| NotALimit);
        }
        match number.parse() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self::Percent(percent)),
            _ => Err(NotALimit),
        }
    }
}

impl fmt::Display for BadRowLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for BadRowLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Rows(rows) => serializer.serialize_u64(*rows),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_rows_and_shares() {
        assert_eq!("10".parse(), Ok(BadRowLimit::Rows(10)));
        assert_eq!("0.5%".parse(), Ok(BadRowLimit::Percent(0.5)));
        for text in [
            "",
            "%",
            "-1",
            "+1",
            "1e3",
            "0.5",
            "100.1%",
            "NaN%",
            "inf%",
            "1 %",
            "18446744073709551616",
        ] {
            assert_eq!(text.parse::<BadRowLimit>(), Err(NotALimit), "{text}");
        }
    }

    #[test]
    fn is_serialized_as_it_is_written() {
        let json = [BadRowLimit::Rows(10), BadRowLimit::Percent(0.5)]
            .map(|limit| serde_json::to_string(&limit).unwrap());
        assert_eq!(json, ["10", r#""0.5%""#]);
    }

    proptest! {
        #[test]
        fn round_trips(rows: u64, percent in 0.0..=100.0) {
            for limit in [BadRowLimit::Rows(rows), BadRowLimit::Percent(percent)] {
                prop_assert_eq!(limit.to_string().parse(), Ok(limit));
            }
        }
    }
}
