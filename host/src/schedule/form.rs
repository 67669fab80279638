//! The short forms that people give on the command line: `daily 00:00`, `hourly 2`, `weekly mon 00:00`.
//!
//! Each is a cron pattern in other words.

use std::str::FromStr;

use super::cron::{Cron, CronError};

const DAYS: [&str; 7] = [
    "sunday",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
];

/// Why a text is no form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Not one of the forms.
    #[error(
        r#"expected `daily HH:MM`, `hourly N`, `weekly DAY HH:MM`, `monthly DAY HH:MM` or `cron "…"` instead of `{0}`"#
    )]
    Form(String),
    /// Not a time of the day.
    #[error("expected a time of the day from 00:00 to 23:59 instead of `{0}`")]
    Time(String),
    /// Not a number of hours.
    #[error(
        "expected a number of hours from 1 to 23 instead of `{0}`; once a day is `daily 00:00`"
    )]
    Hours(String),
    /// Not a day of the week.
    #[error("expected a day of the week from mon to sun instead of `{0}`")]
    Weekday(String),
    /// Not a day of the month.
    #[error("expected a day of the month from 1 to 31, or `last`, instead of `{0}`")]
    MonthDay(String),
    /// Not a cron pattern.
    #[error(transparent)]
    Cron(#[from] CronError),
}

/// A form that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The cron pattern that it means.
    pub cron: String,
    /// What is true of it, but may not be meant.
    pub notice: Option<String>,
}

impl Form {
    fn new(cron: impl Into<String>) -> Self {
        Self {
            cron: cron.into(),
            notice: None,
        }
    }
}

impl FromStr for Form {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let text = text.trim();
        if let Some(cron) = text.strip_prefix("cron ") {
            let cron = cron.trim();
            Cron::parse(cron)?;
            return Ok(Self::new(cron));
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["daily", time] => Ok(Self::new(format!("{} * * *", minute_and_hour(time)?))),
            ["hourly"] => hourly("1"),
            ["hourly", hours] => hourly(hours),
            ["weekly", day, time] => {
                let day = weekday(day)?;
                Ok(Self::new(format!("{} * * {day}", minute_and_hour(time)?)))
            }
            ["monthly", day, time] => monthly(day, time),
            _ => Err(FormError::Form(text.to_owned())),
        }
    }
}

fn hourly(text: &str) -> Result<Form, FormError> {
    let hours = number(text)
        .filter(|hours| (1..=23).contains(hours))
        .ok_or_else(|| FormError::Hours(text.to_owned()))?;
    if hours == 1 {
        return Ok(Form::new("0 * * * *"));
    }
    let last = 23 / hours * hours;
    let notice = (24 % hours != 0).then(|| {
        format!(
            "the hours are counted from midnight: the last run of a day is at {last:02}:00, {} hours before the first of the next",
            24 - last
        )
    });
    Ok(Form {
        cron: format!("0 */{hours} * * *"),
        notice,
    })
}

fn monthly(day: &str, time: &str) -> Result<Form, FormError> {
    let at = minute_and_hour(time)?;
    if day.eq_ignore_ascii_case("last") {
        return Ok(Form::new(format!("{at} L * *")));
    }
    let number = number(day)
        .filter(|day| (1..=31).contains(day))
        .ok_or_else(|| FormError::MonthDay(day.to_owned()))?;
    let notice = (number > 28).then(|| {
        format!(
            "months without a day {number} are left out; `monthly last` is the last day of each"
        )
    });
    Ok(Form {
        cron: format!("{at} {number} * *"),
        notice,
    })
}

/// `07:05` as `5 7`.
fn minute_and_hour(text: &str) -> Result<String, FormError> {
    text.split_once(':')
        .filter(|(_, minute)| minute.len() == 2)
        .and_then(|(hour, minute)| Some((number(hour)?, number(minute)?)))
        .filter(|(hour, minute)| *hour < 24 && *minute < 60)
        .map(|(hour, minute)| format!("{minute} {hour}"))
        .ok_or_else(|| FormError::Time(text.to_owned()))
}

fn number(text: &str) -> Option<u8> {
    let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// The short name of a day that is given by either name.
fn weekday(text: &str) -> Result<&'static str, FormError> {
    let lower = text.to_ascii_lowercase();
    DAYS.iter()
        .find_map(|day| {
            let short = day.get(..3)?;
            (lower == *day || lower == short).then_some(short)
        })
        .ok_or_else(|| FormError::Weekday(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_a_pattern() {
        for (form, cron) in [
            ("daily 00:00", "0 0 * * *"),
            ("daily 7:05", "5 7 * * *"),
            ("hourly", "0 * * * *"),
            ("hourly 1", "0 * * * *"),
            ("hourly 2", "0 */2 * * *"),
            ("weekly mon 00:00", "0 0 * * mon"),
            ("weekly Sunday 23:59", "59 23 * * sun"),
            ("monthly 1 00:00", "0 0 1 * *"),
            ("monthly last 06:30", "30 6 L * *"),
            ("cron 0 0 * * *", "0 0 * * *"),
            ("cron  @daily ", "@daily"),
        ] {
            let read: Form = form.parse().unwrap();
            assert_eq!((read.cron.as_str(), read.notice), (cron, None), "{form}");
            assert!(Cron::parse(cron).is_ok(), "{cron}");
        }
    }

    #[test]
    fn what_may_not_be_meant_is_told() {
        let notice = |form: &str| form.parse::<Form>().unwrap().notice.unwrap();
        assert_eq!(
            notice("hourly 5"),
            "the hours are counted from midnight: the last run of a day is at 20:00, 4 hours before the first of the next"
        );
        assert_eq!(
            notice("monthly 31 00:00"),
            "months without a day 31 are left out; `monthly last` is the last day of each"
        );
        for hours in [2, 3, 4, 6, 8, 12] {
            let form: Form = format!("hourly {hours}").parse().unwrap();
            assert_eq!(form.notice, None, "{hours}");
        }
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        for (form, error) in [
            ("", FormError::Form(String::new())),
            ("cron", FormError::Form("cron".into())),
            ("daily", FormError::Form("daily".into())),
            ("yearly 1", FormError::Form("yearly 1".into())),
            ("daily 24:00", FormError::Time("24:00".into())),
            ("daily 0", FormError::Time("0".into())),
            ("daily 1:2", FormError::Time("1:2".into())),
            ("daily +1:00", FormError::Time("+1:00".into())),
            ("hourly 0", FormError::Hours("0".into())),
            ("hourly 24", FormError::Hours("24".into())),
            ("weekly mo 00:00", FormError::Weekday("mo".into())),
            ("monthly 32 00:00", FormError::MonthDay("32".into())),
            ("monthly 0 00:00", FormError::MonthDay("0".into())),
            ("cron * * *", FormError::Cron(CronError::Count)),
            ("cron 0 0 30 2 *", FormError::Cron(CronError::Never)),
        ] {
            assert_eq!(form.parse::<Form>(), Err(error), "{form}");
        }
    }
}
