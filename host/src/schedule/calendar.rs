//! A schedule as an `OnCalendar=` of systemd, for pipelines that a timer starts.
//!
//! The two agree on everything but the changes to daylight saving time, where systemd has rules of its own.

use super::cron::Cron;

/// In the order of a week of systemd, with the numbers of cron.
const DAYS: [(u16, &str); 7] = [
    (1, "Mon"),
    (2, "Tue"),
    (3, "Wed"),
    (4, "Thu"),
    (5, "Fri"),
    (6, "Sat"),
    (0, "Sun"),
];

/// What systemd has no words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Cron runs on either, systemd on days that are both.
    #[error(
        "systemd cannot say \"this day of the month or that day of the week\": name only one of them, or let the daemon run it"
    )]
    EitherDay,
    /// `L` among other days, the second or the last Friday.
    #[error(
        "systemd cannot say which days of a month `L` and `#` mean here: name the days, or let the daemon run it"
    )]
    Modifier,
}

/// The words of systemd for when a schedule is due. Jitter is not part of it: it is `RandomizedDelaySec=`.
pub(super) fn to_calendar(cron: &Cron, zone: &str) -> Result<String, CalendarError> {
    let pattern = cron.pattern();
    let (days, weekdays) = (pattern.days.values(), pattern.days_of_week.values());
    // A list of all days is no choice either, and makes the other field void.
    let any_day = days.len() == 31;
    let any_weekday = weekdays.len() == 7;
    let only_weekday = pattern.is_dom_wildcard();
    let only_day = pattern.is_dow_wildcard();
    let (mut day, mut weekday) = ("-*".to_owned(), String::new());
    if only_weekday && !only_day && !any_weekday {
        if pattern.days_of_week.has_modifiers() {
            return Err(CalendarError::Modifier);
        }
        weekday = weekdays_to_text(&weekdays);
    } else if only_day && !any_day {
        day = match (pattern.days.has_modifiers(), days.is_empty()) {
            (false, _) => format!("-{}", values_to_text(&days, 1, 31)),
            (true, true) => "~01".to_owned(),
            (true, false) => return Err(CalendarError::Modifier),
        };
    } else if !only_day && !only_weekday && !any_day && !any_weekday {
        return Err(CalendarError::EitherDay);
    }
    Ok(format!(
        "{weekday}*-{}{day} {}:{}:{} {zone}",
        values_to_text(&pattern.months.values(), 1, 12),
        values_to_text(&pattern.hours.values(), 0, 23),
        values_to_text(&pattern.minutes.values(), 0, 59),
        values_to_text(&pattern.seconds.values(), 0, 59),
    ))
}

fn weekdays_to_text(weekdays: &[u16]) -> String {
    let named: Vec<&str> = DAYS
        .iter()
        .filter(|(number, _)| weekdays.contains(number))
        .map(|(_, name)| *name)
        .collect();
    format!("{} ", named.join(","))
}

/// Some values of a field as `*`, `0/15`, `9..17` or `1,2,5`.
fn values_to_text(values: &[u16], first: u16, last: u16) -> String {
    let two = |value: u16| format!("{value:02}");
    if values.len() == usize::from(last - first) + 1 {
        return "*".to_owned();
    }
    if let [from, next, .., to] = values
        && values.len() > 2
        && let step = next - from
        && (*from..=*to)
            .step_by(usize::from(step))
            .eq(values.iter().copied())
    {
        if step == 1 {
            return format!("{}..{}", two(*from), two(*to));
        }
        // Some versions of systemd lose the first value of the next round unless the steps go around evenly.
        if *from == first && to + step == last + 1 {
            return format!("{}/{step}", two(*from));
        }
    }
    values
        .iter()
        .map(|value| two(*value))
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(cron: &str, zone: &str) -> Result<String, CalendarError> {
        to_calendar(&Cron::parse(cron).unwrap(), zone)
    }

    #[test]
    fn systemd_is_told_in_its_own_words() {
        for (cron, text) in [
            ("0 0 * * *", "*-*-* 00:00:00 UTC"),
            ("*/15 * * * *", "*-*-* *:00/15:00 UTC"),
            ("*/7 8 * * *", "*-*-* 08:00,07,14,21,28,35,42,49,56:00 UTC"),
            ("10 30 2 * * *", "*-*-* 02:30:10 UTC"),
            ("0 */5 * * *", "*-*-* 00,05,10,15,20:00:00 UTC"),
            (
                "0 9-17 * * mon-fri",
                "Mon,Tue,Wed,Thu,Fri *-*-* 09..17:00:00 UTC",
            ),
            ("0 0-12/4 * * *", "*-*-* 00,04,08,12:00:00 UTC"),
            ("0 0 1,15 * *", "*-*-01,15 00:00:00 UTC"),
            ("0 0 1-31 * mon", "*-*-* 00:00:00 UTC"),
            ("0 0 L * *", "*-*~01 00:00:00 UTC"),
            ("0 0 * */3 sun", "Sun *-01/3-* 00:00:00 UTC"),
        ] {
            assert_eq!(calendar(cron, "UTC").as_deref(), Ok(text), "{cron}");
        }
        assert_eq!(
            calendar("@daily", "Europe/Berlin").as_deref(),
            Ok("*-*-* 00:00:00 Europe/Berlin")
        );
    }

    #[test]
    fn what_it_cannot_say_is_refused() {
        use CalendarError::{EitherDay, Modifier};
        for (cron, error) in [
            ("0 0 13 * fri", EitherDay),
            ("0 0 */2 * mon", EitherDay),
            ("0 0 L * fri", EitherDay),
            ("0 0 15,L * *", Modifier),
            ("0 0 * * fri#2", Modifier),
            ("0 0 * * friL,mon", Modifier),
        ] {
            assert_eq!(calendar(cron, "UTC"), Err(error), "{cron}");
        }
    }
}
