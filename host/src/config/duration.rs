//! Durations as people write them: `500ms`, `5s`, `15m`, `1h`, `2d`.
//!
//! One number and one unit; no fractions and no sums such as `1h30m` (that is `90m`).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a number followed by a unit.
    #[error(r#"expected a duration such as "500ms", "5s", "15m", "1h" or "2d""#)]
    Malformed,
    /// More milliseconds than fit into 64 bits.
    #[error("expected a duration of less than 500 million years")]
    TooLong,
}

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError::Malformed);
    }
    let (_, unit_ms) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(DurationError::Malformed)?;
    let count: u64 = digits.parse().map_err(|_| DurationError::TooLong)?;
    count
        .checked_mul(*unit_ms)
        .map(Duration::from_millis)
        .ok_or(DurationError::TooLong)
}

/// Writes a duration so that [`parse`] reads the same one back. What is smaller than a millisecond is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DisplayDuration(pub Duration);

impl fmt::Display for DisplayDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let fits = |unit_ms: u64| millis != 0 && millis.is_multiple_of(u128::from(unit_ms));
        match UNITS.into_iter().find(|(_, unit_ms)| fits(*unit_ms)) {
            Some((name, unit_ms)) => write!(f, "{}{name}", millis / u128::from(unit_ms)),
            None => f.write_str("0s"),
        }
    }
}

/// For `#[serde(serialize_with = …)]`.
pub(super) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&DisplayDuration(*duration))
}

/// For `#[serde(deserialize_with = …)]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// For `#[serde(with = …)]`: a duration, or none.
pub(super) mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "what serde calls")]
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let parsed = text.as_deref().map(super::parse).transpose();
        parsed.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("15m", 900_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("2d"), Ok(Duration::from_hours(48)));
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in [
            "", "5", "s", "5 s", "-5s", "+5s", "1.5h", "5S", "5 ", "1h30m", "5µs", "٥s",
        ] {
            assert_eq!(parse(text), Err(DurationError::Malformed), "{text}");
        }
        for text in [
            "18446744073709551616ms",
            "18446744073709551615s",
            "99999999999999999999999d",
        ] {
            assert_eq!(parse(text), Err(DurationError::TooLong), "{text}");
        }
    }

    #[test]
    fn prints_the_largest_unit_that_fits() {
        let shown = |millis| DisplayDuration(Duration::from_millis(millis)).to_string();
        assert_eq!(
            [shown(0), shown(1), shown(90_000), shown(3_600_000)],
            ["0s", "1ms", "90s", "1h"]
        );
        assert_eq!(
            DisplayDuration(Duration::from_micros(1_999)).to_string(),
            "1ms"
        );
    }

    proptest! {
        #[test]
        fn round_trips(millis: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&DisplayDuration(duration).to_string()), Ok(duration));
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
