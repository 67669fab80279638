//! Schedules compared with the slowest way to find the same instants: look at every second or minute.
//!
//! The cron fields are read here once more, by other means, and the clock's jumps are seen from offsets alone.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::schedule;

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "Africa/Cairo",
];

/// Days around which clocks jump, and some on which they do not.
const DAYS: [&str; 18] = [
    "2026-03-28T12:00:00Z",
    "2026-10-24T12:00:00Z",
    "2026-03-07T18:00:00Z",
    "2026-10-31T18:00:00Z",
    "2026-04-04T03:00:00Z",
    "2026-10-03T03:00:00Z",
    "2011-12-29T20:00:00Z",
    "2012-03-31T00:00:00Z",
    "2018-02-17T16:00:00Z",
    "2018-11-03T16:00:00Z",
    "2010-09-29T20:00:00Z",
    "2023-04-27T12:00:00Z",
    "2023-10-26T12:00:00Z",
    "2026-04-23T12:00:00Z",
    "1985-12-31T12:00:00Z",
    "2028-02-28T12:00:00Z",
    "2026-12-31T12:00:00Z",
    "2026-05-31T12:00:00Z",
];

/// One field: the values it names.
fn values(field: &str, min: u8, max: u8) -> BTreeSet<u8> {
    let mut values = BTreeSet::new();
    for item in field.split(',') {
        let (range, step) = item.split_once('/').unwrap_or((item, "1"));
        let (from, to) = if range == "*" {
            (min, max)
        } else {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            (from.parse().unwrap(), to.parse().unwrap())
        };
        values.extend((from..=to).step_by(step.parse().unwrap()));
    }
    values
}

struct Fields {
    second: BTreeSet<u8>,
    minute: BTreeSet<u8>,
    hour: BTreeSet<u8>,
    day: BTreeSet<u8>,
    month: BTreeSet<u8>,
    weekday: BTreeSet<u8>,
    any_day: bool,
    any_weekday: bool,
    last_day: bool,
}

/// A local time, in seconds since 1970 of the clock on the wall.
type Wall = i64;

impl Fields {
    fn new(cron: &str) -> Self {
        let fields: Vec<&str> = cron.split(' ').collect();
        let last_day = fields[3] == "L";
        Self {
            second: values(fields[0], 0, 59),
            minute: values(fields[1], 0, 59),
            hour: values(fields[2], 0, 23),
            day: if last_day {
                BTreeSet::new()
            } else {
                values(fields[3], 1, 31)
            },
            month: values(fields[4], 1, 12),
            weekday: values(fields[5], 0, 7)
                .into_iter()
                .map(|day| day % 7)
                .collect(),
            any_day: fields[3] == "*",
            any_weekday: fields[5] == "*",
            last_day,
        }
    }

    fn matches(&self, wall: Wall) -> bool {
        let has = |set: &BTreeSet<u8>, value: i64| set.contains(&u8::try_from(value).unwrap());
        has(&self.second, wall.rem_euclid(60))
            && has(&self.minute, wall.div_euclid(60).rem_euclid(60))
            && has(&self.hour, wall.div_euclid(3_600).rem_euclid(24))
            && self.matches_day(Timestamp::from_second(wall).unwrap())
    }

    fn matches_day(&self, wall: Timestamp) -> bool {
        let date = TimeZone::UTC.to_datetime(wall).date();
        let has = |set: &BTreeSet<u8>, value: i8| set.contains(&u8::try_from(value).unwrap());
        let day = has(&self.day, date.day()) || self.last_day && date == date.last_of_month();
        let weekday = has(&self.weekday, date.weekday().to_sunday_zero_offset());
        has(&self.month, date.month())
            && match (self.any_day, self.any_weekday) {
                (true, true) => true,
                (true, false) => weekday,
                (false, true) => day,
                (false, false) => day || weekday,
            }
    }
}

/// Every due instant in `from..=until`, found by looking at each instant, `step` seconds apart, and at each local time
/// that a jump of the clock leaves out.
fn look_at_all(
    cron: &str,
    zone: &str,
    from: Timestamp,
    until: Timestamp,
    step: i64,
) -> Vec<Timestamp> {
    let fields = Fields::new(cron);
    let interval = fields.hour.len() == 24;
    let zone = TimeZone::get(zone).unwrap();
    let mut offset = 0;
    let mut wall_at = |at: i64| {
        // No clock of our days jumps between two quarters of an hour.
        if at % 900 < step {
            offset = zone
                .to_offset(Timestamp::from_second(at).unwrap())
                .seconds()
                .into();
        }
        at + offset
    };
    // It starts early enough to know whether an hour is there for the second time.
    let mut at = (from.as_second() - 14_400).div_euclid(900) * 900;
    // The latest local time that the clock has shown so far.
    let mut shown = wall_at(at);
    let mut due = Vec::new();
    while at < until.as_second() {
        at += step;
        let wall = wall_at(at);
        let is_new = wall > shown;
        let mut is_due = (is_new || interval) && fields.matches(wall);
        let mut skipped = shown + step;
        while is_new && skipped < wall {
            is_due = is_due || fields.matches(skipped);
            skipped += step;
        }
        shown = shown.max(wall);
        if is_due && at >= from.as_second() {
            due.push(Timestamp::from_second(at).unwrap());
        }
    }
    due
}

fn field(min: u8, max: u8) -> impl Strategy<Value = String> {
    let pair = move || (min..=max, min..=max).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        4 => Just("*".to_owned()),
        3 => (min..=max).prop_map(|value| value.to_string()),
        2 => (2..=max).prop_map(|step| format!("*/{step}")),
        1 => pair().prop_map(|(a, b)| format!("{a}-{b}")),
        1 => (pair(), 1..=max).prop_map(|((a, b), step)| format!("{a}-{b}/{step}")),
        1 => proptest::collection::vec(min..=max, 2..4)
            .prop_map(|values| values.iter().map(u8::to_string).collect::<Vec<_>>().join(",")),
    ]
}

fn day() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("*".to_owned()), 2 => field(1, 31), 1 => Just("L".to_owned())]
}

fn check(cron: &str, zone: &str, from: Timestamp, until: Timestamp, step: i64) {
    let expected = look_at_all(cron, zone, from, until, step);
    let schedule = schedule(cron, zone);
    let before = from - SignedDuration::from_nanos(1);
    let found: Vec<Timestamp> = schedule.between(before, until).collect();
    if found != expected {
        let expected: BTreeSet<_> = expected.into_iter().collect();
        let found: BTreeSet<_> = found.into_iter().collect();
        let missing: Vec<_> = expected.difference(&found).take(5).collect();
        let surplus: Vec<_> = found.difference(&expected).take(5).collect();
        panic!("{cron} in {zone}: missing {missing:?}, surplus {surplus:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The hours around a change, second by second.
    #[test]
    fn second_by_second(
        (second, minute, hour) in (field(0, 59), field(0, 59), field(0, 23)),
        zone in prop::sample::select(&ZONES[..]),
        day in prop::sample::select(&DAYS[..]),
        offset in -3_600_i64..3_600,
    ) {
        let from: Timestamp = day.parse().unwrap();
        let from = from + SignedDuration::from_secs(offset);
        let until = from + SignedDuration::from_hours(16);
        let cron = format!("{second} {minute} {hour} * * *");
        check(&cron, zone, from, until, 1);
    }

    /// A year, minute by minute, with the calendar.
    #[test]
    fn minute_by_minute(
        (minute, hour) in (field(0, 59), field(0, 23)),
        (day, month, weekday) in (day(), field(1, 12), field(0, 7)),
        zone in prop::sample::select(&ZONES[..]),
        year in prop::sample::select(&[2010, 2011, 2018, 2023, 2026, 2027][..]),
    ) {
        let cron = format!("0 {minute} {hour} {day} {month} {weekday}");
        // The rest never comes.
        prop_assume!(super::super::Cron::parse(&cron).is_ok());
        let from: Timestamp = format!("{year}-01-01T00:00:00Z").parse().unwrap();
        let until = from + SignedDuration::from_hours(24 * 366);
        check(&cron, zone, from, until, 60);
    }

    /// Wherever one asks from, also between due instants and with parts of a second.
    #[test]
    fn the_next_instant_is_the_first_of_all_that_follow(
        (minute, hour) in (field(0, 59), field(0, 23)),
        zone in prop::sample::select(&ZONES[..]),
        day in prop::sample::select(&DAYS[..]),
        asked in proptest::collection::vec(0..108_000_000_u64, 20),
    ) {
        let from: Timestamp = day.parse().unwrap();
        let until = from + SignedDuration::from_hours(24 * 3);
        let cron = format!("0 {minute} {hour} * * *");
        let all = look_at_all(&cron, zone, from, until, 60);
        let schedule = schedule(&cron, zone);
        for millis in asked {
            let at = from + std::time::Duration::from_millis(millis);
            let expected = all.iter().copied().find(|due| *due > at);
            if expected.is_some() {
                prop_assert_eq!(schedule.next_after(at), expected, "{} in {} after {}", cron, zone, at);
            }
        }
    }
}
