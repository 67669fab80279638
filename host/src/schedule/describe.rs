//! A schedule in words, for people.

use super::Schedule;

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// So many times of a day are told one by one.
const MOST_TIMES: usize = 6;

impl Schedule {
    /// The schedule in words, such as `every day at 00:00, UTC`.
    pub fn describe(&self) -> String {
        format!("{}, {}", self.describe_cron(), self.zone_name())
    }

    fn describe_cron(&self) -> String {
        let pattern = self.cron.pattern();
        let (seconds, minutes) = (pattern.seconds.values(), pattern.minutes.values());
        let hours = pattern.hours.values();
        let every_day = pattern.is_dom_wildcard() && pattern.is_dow_wildcard();
        let every_month = pattern.months.values().len() == 12;
        if every_day && every_month && seconds == [0] {
            match (minutes.as_slice(), step(&hours)) {
                ([0], Some(1)) => return "every hour".to_owned(),
                ([minute], Some(1)) => return format!("every hour at minute {minute}"),
                ([0], Some(step)) => return format!("every {step} hours"),
                ([minute], None) if (2..=MOST_TIMES).contains(&hours.len()) => {
                    let times: Vec<String> = hours
                        .iter()
                        .map(|hour| format!("{hour:02}:{minute:02}"))
                        .collect();
                    return format!("every day at {}", times.join(", "));
                }
                _ => {}
            }
        }
        let time = match (seconds.as_slice(), minutes.as_slice(), hours.as_slice()) {
            ([0], [minute], [hour]) => Some(format!("{hour:02}:{minute:02}")),
            ([second], [minute], [hour]) => Some(format!("{hour:02}:{minute:02}:{second:02}")),
            _ => None,
        };
        let modified = pattern.days.has_modifiers() || pattern.days_of_week.has_modifiers();
        if let (Some(time), true, false) = (time, every_month, modified) {
            let any = (pattern.is_dom_wildcard(), pattern.is_dow_wildcard());
            match (
                any,
                pattern.days.values().as_slice(),
                pattern.days_of_week.values().as_slice(),
            ) {
                ((true, true), ..) => return format!("every day at {time}"),
                ((true, false), _, [day]) => {
                    if let Some(day) = DAYS.get(usize::from(*day)) {
                        return format!("every {day} at {time}");
                    }
                }
                ((false, true), [day], _) => {
                    return format!("on day {day} of every month at {time}");
                }
                _ => {}
            }
        }
        // "Every 5 minutes." in the middle of a sentence.
        let words = pattern.describe();
        let words = words.trim_end_matches('.');
        let words = words
            .strip_prefix("At every")
            .map_or_else(|| words.to_owned(), |rest| format!("every{rest}"));
        let mut letters = words.chars();
        letters.next().map_or_else(String::new, |first| {
            format!("{}{}", first.to_lowercase(), letters.as_str())
        })
    }
}

/// The length of the steps that go around the clock, if they do.
fn step(hours: &[u16]) -> Option<u16> {
    let step = 24 / u16::try_from(hours.len()).ok()?;
    let around = (0..24).step_by(usize::from(step));
    (hours.len() > 1 && around.eq(hours.iter().copied())).then_some(step)
}
