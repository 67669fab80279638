//! Times of servers that have types for them: exact ticks, and the one text that stands for each.
//!
//! A tick is 100 ns, the finest unit any of the sources has, counted from 0001-01-01T00:00:00. The text of a column has
//! always the same length, so that its order by bytes is that of time. Times as `SQLite` keeps them are in
//! [`sqlite`](super::sqlite).

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::{Span, Timestamp};

/// Ticks in a second.
pub const TICKS_PER_SECOND: i64 = 10_000_000;
/// Ticks in a day.
pub const TICKS_PER_DAY: i64 = 86_400 * TICKS_PER_SECOND;
/// Ticks from 0001-01-01 to 1970-01-01.
pub const TICKS_TO_1970: i64 = DAYS_TO_1970 * TICKS_PER_DAY;
/// Days from 0001-01-01 to 1970-01-01.
pub const DAYS_TO_1970: i64 = 719_162;
/// The last tick of the year 9999.
pub const LAST_TICK: i64 = 3_652_059 * TICKS_PER_DAY - 1;

/// How the times of a column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeForm {
    /// Digits behind the second, at most 7; `None` for a date.
    digits: Option<u8>,
    /// Whether the column holds instants rather than readings of some clock.
    utc: bool,
}

impl TimeForm {
    /// A date, `2024-01-31`.
    pub const DATE: Self = Self {
        digits: None,
        utc: false,
    };

    /// A time without a zone, `2024-01-31T23:59:59.999`, with so many digits behind the second.
    pub const fn local(digits: u8) -> Self {
        Self {
            digits: Some(digits),
            utc: false,
        }
    }

    /// An instant, `2024-01-31T23:59:59.999Z`.
    pub const fn utc(digits: u8) -> Self {
        Self {
            digits: Some(digits),
            utc: true,
        }
    }

    /// The text of a time. Digits that the form does not have are cut.
    pub fn write(self, ticks: i64) -> String {
        let ticks = ticks.clamp(0, LAST_TICK);
        let date = date_of(ticks / TICKS_PER_DAY);
        let Some(digits) = self.digits else {
            return date.to_string();
        };
        let in_day = ticks % TICKS_PER_DAY;
        let (seconds, fraction) = (in_day / TICKS_PER_SECOND, in_day % TICKS_PER_SECOND);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let mut text = format!("{date}T{hour:02}:{minute:02}:{second:02}");
        if digits > 0 {
            let fraction = format!(".{fraction:07}");
            text.push_str(fraction.get(..=usize::from(digits)).unwrap_or(&fraction));
        }
        if self.utc {
            text.push('Z');
        }
        text
    }

    /// The ticks of a text in exactly this form.
    pub fn parse(self, text: &str) -> Option<i64> {
        let ticks = self.parse_any(text)?;
        (self.write(ticks) == text).then_some(ticks)
    }

    /// The ticks of a time as people write one: a date, or a date and a time, with `Z` or an offset where the column
    /// holds instants. `None` also if it has digits that the column cannot hold.
    pub fn parse_any(self, text: &str) -> Option<i64> {
        let text = text.trim();
        let nanos_since_1970 = if let Ok(date) = text.parse::<Date>()
            && text.len() == 10
        {
            nanoseconds(date.to_datetime(Time::midnight()))
        } else if let Some(instant) = self.utc.then(|| text.parse::<Timestamp>().ok()).flatten() {
            instant.as_nanosecond()
        } else {
            // Without a zone, `Z` is only the word of somebody who thinks in UTC.
            let local: DateTime = text.strip_suffix('Z').unwrap_or(text).parse().ok()?;
            nanoseconds(local)
        };
        if nanos_since_1970 % 100 != 0 {
            return None;
        }
        let ticks = i64::try_from(nanos_since_1970 / 100)
            .ok()?
            .checked_add(TICKS_TO_1970)?;
        ((0..=LAST_TICK).contains(&ticks) && ticks % self.resolution() == 0).then_some(ticks)
    }

    /// Ticks between one value of the column and the next.
    pub fn resolution(self) -> i64 {
        self.digits.map_or(TICKS_PER_DAY, |digits| {
            10_i64.pow(7 - u32::from(digits.min(7)))
        })
    }

    /// The last time that is settled: `now` less the delay, and less one value of the column, since rows may still come
    /// with the running one.
    pub fn settled(self, now: i64, delay: Duration) -> i64 {
        let delay = i64::try_from(delay.as_nanos() / 100).unwrap_or(i64::MAX);
        let settled = now.saturating_sub(delay);
        let resolution = self.resolution();
        (settled.div_euclid(resolution) - 1)
            .saturating_mul(resolution)
            .max(0)
    }
}

/// The date so many days after 0001-01-01; the last one there is for later ones.
pub fn date_of(days: i64) -> Date {
    Span::new()
        .try_days(days)
        .and_then(|span| Date::constant(1, 1, 1).checked_add(span))
        .unwrap_or(Date::MAX)
}

/// Nanoseconds since 1970-01-01. By days and not as an instant: of those the library leaves out the last hours of 9999.
pub fn nanoseconds(local: DateTime) -> i128 {
    local
        .duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0))
        .as_nanos()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_instants() {
        assert_eq!(TimeForm::local(7).write(0), "0001-01-01T00:00:00.0000000");
        assert_eq!(
            TimeForm::local(0).write(TICKS_TO_1970),
            "1970-01-01T00:00:00"
        );
        assert_eq!(
            TimeForm::utc(3).write(LAST_TICK),
            "9999-12-31T23:59:59.999Z"
        );
        assert_eq!(
            TimeForm::DATE.write(TICKS_TO_1970 + TICKS_PER_DAY),
            "1970-01-02"
        );
    }

    #[test]
    fn people_write_times_in_several_ways() {
        let form = TimeForm::local(3);
        let ticks = form.parse_any("2024-01-31 10:00").unwrap();
        for same in [
            "2024-01-31T10:00:00",
            "2024-01-31T10:00:00.000",
            "2024-01-31T10:00:00Z",
        ] {
            assert_eq!(form.parse_any(same), Some(ticks), "{same}");
        }
        assert_eq!(
            TimeForm::utc(0).parse_any("2024-01-31T12:00:00+02:00"),
            Some(ticks)
        );
        for no in [
            "",
            "soon",
            "2024-02-30",
            "2024-01-31T10:00:00.0001",
            "12024-01-01",
        ] {
            assert_eq!(form.parse_any(no), None, "{no}");
        }
        for last in ["9999-12-31T23:59:59.999", "9999-12-31T23:59:59.999Z"] {
            assert_eq!(form.parse_any(last), Some(LAST_TICK - LAST_TICK % 10_000));
        }
        assert_eq!(form.parse("2024-01-31T10:00:00"), None);
        assert_eq!(form.parse("2024-01-31T10:00:00.000"), Some(ticks));
    }

    #[test]
    fn the_running_value_is_not_settled() {
        let seconds = TimeForm::local(0);
        let now = seconds.parse_any("2024-01-31T10:00:05").unwrap() + 1;
        let settled = seconds.settled(now, Duration::from_secs(2));
        assert_eq!(seconds.write(settled), "2024-01-31T10:00:02");
        let settled = TimeForm::DATE.settled(now, Duration::ZERO);
        assert_eq!(TimeForm::DATE.write(settled), "2024-01-30");
    }

    proptest! {
        #[test]
        fn text_and_ticks_are_the_same_time(ticks in 0..=LAST_TICK, digits in 0u8..=7, utc: bool) {
            let form = if utc { TimeForm::utc(digits) } else { TimeForm::local(digits) };
            let cut = ticks - ticks % form.resolution();
            prop_assert_eq!(form.parse(&form.write(ticks)), Some(cut));
        }

        #[test]
        fn the_order_of_the_text_is_that_of_time(a in 0..=LAST_TICK, b in 0..=LAST_TICK) {
            let form = TimeForm::local(7);
            prop_assert_eq!(a.cmp(&b), form.write(a).cmp(&form.write(b)));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = TimeForm::local(7).parse_any(&text);
            let _ = TimeForm::utc(7).parse_any(&text);
        }
    }
}
