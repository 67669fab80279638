//! Cron patterns over the calendar: which times of a clock without a zone are meant.
//!
//! The calendar is that of the crate `croner`. What is written is checked here first, field by field, so that a
//! mistake is told with the field it is in. Zones are the part of [`super::zone`].

use std::fmt;

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;

/// Names for patterns that everybody needs.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One of the six fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The seconds, which may be left out.
    Second,
    /// The minutes.
    Minute,
    /// The hours.
    Hour,
    /// The days of the month.
    DayOfMonth,
    /// The months.
    Month,
    /// The days of the week.
    DayOfWeek,
}

impl Field {
    const ALL: [Self; 6] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::DayOfMonth,
        Self::Month,
        Self::DayOfWeek,
    ];

    /// What may stand there.
    fn allowed(self) -> &'static str {
        match self {
            Self::Second | Self::Minute => {
                "numbers from 0 to 59 such as 0, */5, 10-20 or 0,15,30,45"
            }
            Self::Hour => "numbers from 0 to 23 such as 6, */2, 9-17 or 8,20",
            Self::DayOfMonth => {
                "numbers from 1 to 31 such as 1, */2, 1-7 or 1,15, or L for the last"
            }
            Self::Month => "numbers from 1 to 12 or names such as 1, */3 or jan-mar",
            Self::DayOfWeek => {
                "numbers from 0 (Sunday) to 7 (Sunday) or names such as mon-fri, fri#2 (the second of a month) or friL (its last)"
            }
        }
    }

    /// A field is a list of items.
    fn is_well_formed(self, text: &str) -> bool {
        match self {
            Self::DayOfMonth | Self::DayOfWeek if text == "?" => true,
            _ => text.split(',').all(|item| self.is_item(item)),
        }
    }

    fn is_item(self, item: &str) -> bool {
        match self {
            Self::DayOfMonth if item.eq_ignore_ascii_case("l") => return true,
            Self::DayOfWeek => {
                if let Some((day, nth)) = item.split_once('#') {
                    return self.is_value(day)
                        && matches!(nth.parse(), Ok(1..=5))
                        && nth.len() == 1;
                }
                if let Some(day) = item.strip_suffix(['l', 'L']) {
                    return self.is_value(day);
                }
            }
            _ => {}
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let is_range = match range.split_once('-') {
            Some((from, to)) => self.is_value(from) && self.is_value(to),
            // A step needs something to step through.
            None => range == "*" || (step.is_none() && self.is_value(range)),
        };
        is_range && step.is_none_or(is_number)
    }

    fn is_value(self, text: &str) -> bool {
        let names: &[&str] = match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &DAYS,
            _ => &[],
        };
        is_number(text) || names.iter().any(|name| name.eq_ignore_ascii_case(text))
    }
}

fn is_number(text: &str) -> bool {
    (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of the month",
            Self::Month => "month",
            Self::DayOfWeek => "day of the week",
        })
    }
}

/// Why a text is no cron pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five or six fields.
    #[error(
        r#"expected five or six cron fields such as "0 0 * * *" (minute, hour, day of the month, month, day of the week; a sixth in front is the second)"#
    )]
    Count,
    /// `@something`.
    #[error("expected @hourly, @daily, @weekly, @monthly, @yearly or cron fields")]
    Nickname,
    /// A field holds what it may not.
    #[error("expected {} for the {field} instead of {text:?}", field.allowed())]
    Field {
        /// Which.
        field: Field,
        /// What stands there.
        text: String,
    },
    /// There is no such day, in any year.
    #[error("expected a time that comes: no month has such a day")]
    Never,
}

/// A pattern that has been read.
#[derive(Clone, Debug)]
pub struct Cron {
    cron: croner::Cron,
}

impl Cron {
    /// Reads five fields, six with the seconds first, or a name such as `@daily`.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let written = text.trim();
        let written = if written.starts_with('@') {
            NICKNAMES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(written))
                .ok_or(CronError::Nickname)?
                .1
        } else {
            written
        };
        let mut fields: Vec<&str> = written.split_ascii_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        if fields.len() != Field::ALL.len() {
            return Err(CronError::Count);
        }
        let parser = CronParser::builder()
            .seconds(Seconds::Required)
            .year(Year::Disallowed)
            .build();
        for (index, (field, text)) in Field::ALL.into_iter().zip(&fields).enumerate() {
            // The crate does not say which field it refuses; with all others open it can be none but this.
            let mut alone = ["*"; Field::ALL.len()];
            if let Some(place) = alone.get_mut(index) {
                *place = text;
            }
            if !field.is_well_formed(text) || parser.parse(&alone.join(" ")).is_err() {
                return Err(CronError::Field {
                    field,
                    text: (*text).to_owned(),
                });
            }
        }
        let cron = parser
            .parse(&fields.join(" "))
            .map_err(|_| CronError::Count)?;
        let cron = Self { cron };
        // The calendar repeats itself every 400 years, the crate looks ahead for 3000.
        let some_day = DateTime::constant(2000, 1, 1, 0, 0, 0, 0);
        cron.next_from(some_day).ok_or(CronError::Never)?;
        Ok(cron)
    }

    /// The first time after `civil`. Parts of a second do not count.
    pub fn next_after(&self, civil: DateTime) -> Option<DateTime> {
        self.cron.find_next_occurrence(&civil, false).ok()
    }

    /// The first time at `civil` or after it.
    pub fn next_from(&self, civil: DateTime) -> Option<DateTime> {
        self.cron.find_next_occurrence(&civil, true).ok()
    }

    /// Whether the hours are not chosen: such a pattern means an interval, not a time of the day.
    pub fn is_interval(&self) -> bool {
        self.cron.pattern.hours.values().len() == 24
    }

    /// What is known of the fields.
    pub fn pattern(&self) -> &croner::CronPattern {
        &self.cron.pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Cron::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn reads_fields_names_ranges_steps_lists_and_nicknames() {
        for text in [
            "0 0 * * *",
            "*/5 * * * *",
            "30 0 0 * * *",
            "0 9-17/2 * jan-mar,DEC mon-FRI",
            "0 0 L * ?",
            "0 0 ? * 5L",
            "0 0 * * friL,mon#1",
            "0 0 1,15,L * *",
            "00 05 * * 7",
            "@daily",
            " @Hourly ",
            "0\t0  * * sun",
            "0 0 29 2 *",
        ] {
            assert!(Cron::parse(text).is_ok(), "{text}: {:?}", Cron::parse(text));
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_field() {
        for (text, field) in [
            ("60 0 * * *", Field::Minute),
            ("0 24 * * *", Field::Hour),
            ("0 0 0 * *", Field::DayOfMonth),
            ("0 0 32 * *", Field::DayOfMonth),
            ("0 0 * 13 *", Field::Month),
            ("0 0 * * 8", Field::DayOfWeek),
            ("61 0 0 * * *", Field::Second),
            ("jan 0 * * *", Field::Minute),
            ("0 mon * * *", Field::Hour),
            ("0 0 mon * *", Field::DayOfMonth),
            ("0 0 * mon *", Field::Month),
            ("0 0 * * 1mon", Field::DayOfWeek),
            ("0 0 * * jan", Field::DayOfWeek),
            ("0 0 * * mon#6", Field::DayOfWeek),
            ("0 0 * * L", Field::DayOfWeek),
            ("0 0 * * +mon", Field::DayOfWeek),
            ("0 0 15W * *", Field::DayOfMonth),
            ("0 0 L-3 * *", Field::DayOfMonth),
            ("0,,5 0 * * *", Field::Minute),
            ("5/15 0 * * *", Field::Minute),
            ("/15 0 * * *", Field::Minute),
            ("*/0 0 * * *", Field::Minute),
            ("0 17-9 * * *", Field::Hour),
            ("0 ? * * *", Field::Hour),
            ("-5 0 * * *", Field::Minute),
            ("0 0 * * fri-", Field::DayOfWeek),
            ("0 1.5 * * *", Field::Hour),
        ] {
            match Cron::parse(text) {
                Err(CronError::Field { field: found, .. }) => assert_eq!(found, field, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(
            refusal("0 25 * * *"),
            r#"expected numbers from 0 to 23 such as 6, */2, 9-17 or 8,20 for the hour instead of "25""#
        );
    }

    #[test]
    fn what_never_comes_is_refused() {
        for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 30,31 2 ?"] {
            assert_eq!(Cron::parse(text).unwrap_err(), CronError::Never, "{text}");
        }
        for text in ["", "* * * *", "0 0 0 * * * 2026", "daily"] {
            assert_eq!(Cron::parse(text).unwrap_err(), CronError::Count, "{text}");
        }
        for text in ["@", "@dayly", "@daily 5", "@reboot"] {
            assert_eq!(
                Cron::parse(text).unwrap_err(),
                CronError::Nickname,
                "{text}"
            );
        }
    }

    #[test]
    fn an_interval_is_a_pattern_that_does_not_choose_hours() {
        for (text, is_interval) in [
            ("*/5 * * * *", true),
            ("0 */1 * * *", true),
            ("30 0-23 * * 1", true),
            ("0 */2 * * *", false),
            ("0 0-22 * * *", false),
            ("* 2 * * *", false),
        ] {
            assert_eq!(
                Cron::parse(text).unwrap().is_interval(),
                is_interval,
                "{text}"
            );
        }
    }
}
