//! Instants that were worked out by hand, around the changes of 2026, and what holds for all schedules.

mod brute;

use std::time::Duration;

use jiff::Timestamp;

use super::Schedule;
use crate::config;

pub(super) fn config(cron: &str, timezone: &str) -> config::Schedule {
    config::Schedule {
        cron: cron.to_owned(),
        timezone: timezone.to_owned(),
        ..config::Schedule::default()
    }
}

pub(super) fn schedule(cron: &str, timezone: &str) -> Schedule {
    Schedule::new(&config(cron, timezone)).unwrap()
}

/// The instants from the first one given on are exactly these.
fn check(cron: &str, timezone: &str, expected: &[&str]) {
    let schedule = schedule(cron, timezone);
    let instants: Vec<Timestamp> = expected.iter().map(|text| text.parse().unwrap()).collect();
    let before = instants[0] - jiff::SignedDuration::from_nanos(1);
    let found: Vec<String> = schedule
        .between(before, *instants.last().unwrap())
        .map(|due| due.to_string())
        .collect();
    assert_eq!(found, expected, "{cron} in {timezone}");
    // Wherever one asks from, the answer is the same.
    for pair in instants.windows(2) {
        assert_eq!(schedule.next_after(pair[0]), Some(pair[1]));
        let just_before = pair[1] - jiff::SignedDuration::from_nanos(1);
        assert_eq!(schedule.next_after(just_before), Some(pair[1]));
    }
}

#[test]
fn berlin_skips_02_to_03_on_29_march() {
    // 02:30 does not exist on the 29th: 03:00 CEST is 01:00 UTC.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        &[
            "2026-03-27T01:30:00Z",
            "2026-03-28T01:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z",
            "2026-03-31T00:30:00Z",
        ],
    );
    // Four times of the gap are one run, and 03:00 itself is the same instant.
    check(
        "*/15 2,3 * * *",
        "Europe/Berlin",
        &[
            "2026-03-28T02:45:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:15:00Z",
            "2026-03-29T01:30:00Z",
            "2026-03-29T01:45:00Z",
            "2026-03-30T00:00:00Z",
        ],
    );
    // An interval goes on as if nothing had been.
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        &[
            "2026-03-29T00:00:00Z",
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:30:00Z",
            "2026-03-29T02:00:00Z",
        ],
    );
    check(
        "0 0 * * *",
        "Europe/Berlin",
        &[
            "2026-03-27T23:00:00Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
        ],
    );
}

#[test]
fn berlin_shows_02_to_03_twice_on_25_october() {
    check(
        "30 2 * * *",
        "Europe/Berlin",
        &[
            "2026-10-24T00:30:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-26T01:30:00Z",
        ],
    );
    check(
        "0 1-4 * * *",
        "Europe/Berlin",
        &[
            "2026-10-24T23:00:00Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T02:00:00Z",
            "2026-10-25T03:00:00Z",
            "2026-10-26T00:00:00Z",
        ],
    );
    // An interval does not stall for an hour.
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        &[
            "2026-10-24T23:30:00Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z",
        ],
    );
}

#[test]
fn new_york_skips_02_to_03_on_8_march() {
    check(
        "30 2 * * *",
        "America/New_York",
        &[
            "2026-03-07T07:30:00Z",
            "2026-03-08T07:00:00Z",
            "2026-03-09T06:30:00Z",
        ],
    );
    check(
        "0 * * * *",
        "America/New_York",
        &[
            "2026-03-08T06:00:00Z",
            "2026-03-08T07:00:00Z",
            "2026-03-08T08:00:00Z",
        ],
    );
}

#[test]
fn new_york_shows_01_to_02_twice_on_1_november() {
    check(
        "30 1 * * *",
        "America/New_York",
        &[
            "2026-10-31T05:30:00Z",
            "2026-11-01T05:30:00Z",
            "2026-11-02T06:30:00Z",
        ],
    );
    check(
        "0 * * * *",
        "America/New_York",
        &[
            "2026-11-01T04:00:00Z",
            "2026-11-01T05:00:00Z",
            "2026-11-01T06:00:00Z",
            "2026-11-01T07:00:00Z",
        ],
    );
    check(
        "15 1,2 * * *",
        "America/New_York",
        &[
            "2026-10-31T06:15:00Z",
            "2026-11-01T05:15:00Z",
            "2026-11-01T07:15:00Z",
            "2026-11-02T06:15:00Z",
        ],
    );
}

#[test]
fn lord_howe_moves_by_half_an_hour() {
    // From +11:00 to +10:30 on 5 April at 02:00: 01:30 to 02:00 are there twice.
    check(
        "45 1 * * *",
        "Australia/Lord_Howe",
        &[
            "2026-04-03T14:45:00Z",
            "2026-04-04T14:45:00Z",
            "2026-04-05T15:15:00Z",
        ],
    );
    check(
        "*/15 * * * *",
        "Australia/Lord_Howe",
        &[
            "2026-04-04T14:30:00Z",
            "2026-04-04T14:45:00Z",
            "2026-04-04T15:00:00Z",
            "2026-04-04T15:15:00Z",
            "2026-04-04T15:30:00Z",
        ],
    );
    // From +10:30 to +11:00 on 4 October at 02:00: 02:00 to 02:30 are not there.
    check(
        "10 2 * * *",
        "Australia/Lord_Howe",
        &[
            "2026-10-02T15:40:00Z",
            "2026-10-03T15:30:00Z",
            "2026-10-04T15:10:00Z",
        ],
    );
    check(
        "0 */2 * * *",
        "Australia/Lord_Howe",
        &[
            "2026-10-03T13:30:00Z",
            "2026-10-03T15:30:00Z",
            "2026-10-03T17:00:00Z",
        ],
    );
}

#[test]
fn utc_knows_no_changes() {
    check(
        "30 2 * * *",
        "UTC",
        &[
            "2026-03-28T02:30:00Z",
            "2026-03-29T02:30:00Z",
            "2026-03-30T02:30:00Z",
        ],
    );
    check(
        "30 2 * * *",
        "UTC",
        &[
            "2026-10-24T02:30:00Z",
            "2026-10-25T02:30:00Z",
            "2026-10-26T02:30:00Z",
        ],
    );
    check(
        "0 0 29 2 *",
        "UTC",
        &["2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"],
    );
}

#[test]
fn odd_zones_have_their_instants_too() {
    // Samoa had no 30 December 2011.
    check(
        "0 12 * * *",
        "Pacific/Apia",
        &[
            "2011-12-29T22:00:00Z",
            "2011-12-30T10:00:00Z",
            "2011-12-30T22:00:00Z",
        ],
    );
    // São Paulo had no midnight on 4 November 2018.
    check(
        "0 0 * * *",
        "America/Sao_Paulo",
        &[
            "2018-11-03T03:00:00Z",
            "2018-11-04T03:00:00Z",
            "2018-11-05T02:00:00Z",
        ],
    );
    // Cairo shows the last hour of 29 October 2026 twice.
    check(
        "30 23 * * *",
        "Africa/Cairo",
        &[
            "2026-10-28T20:30:00Z",
            "2026-10-29T20:30:00Z",
            "2026-10-30T21:30:00Z",
        ],
    );
    check(
        "0 6 * * *",
        "Asia/Kathmandu",
        &["2026-05-01T00:15:00Z", "2026-05-02T00:15:00Z"],
    );
}

#[test]
fn parts_of_a_second_do_not_count() {
    let every_second = schedule("* * * * * *", "UTC");
    for (from, due) in [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"),
        ("2026-01-01T00:00:00.999999999Z", "2026-01-01T00:00:01Z"),
        ("1969-12-31T23:59:58.5Z", "1969-12-31T23:59:59Z"),
    ] {
        let found = every_second.next_after(from.parse().unwrap()).unwrap();
        assert_eq!(found.to_string(), due, "after {from}");
    }
}

#[test]
fn the_end_of_time_is_no_panic() {
    for zone in ["UTC", "Europe/Berlin", "Australia/Lord_Howe"] {
        for cron in ["* * * * * *", "0 0 29 2 *", "30 2 * * *"] {
            let schedule = schedule(cron, zone);
            assert_eq!(schedule.next_after(Timestamp::MAX), None);
            assert!(
                schedule
                    .next_after(Timestamp::MIN)
                    .is_none_or(|due| due > Timestamp::MIN)
            );
        }
    }
}

#[test]
fn the_delay_is_less_than_the_jitter_and_the_same_for_all_who_ask() {
    let mut config = config("0 0 * * *", "UTC");
    let none = Schedule::new(&config).unwrap();
    config.jitter = Duration::from_mins(5);
    let some = Schedule::new(&config).unwrap();
    let from: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let until = from + Duration::from_hours(24 * 1000);
    let mut delays = Vec::new();
    for due in some.between(from, until) {
        assert_eq!(none.start_delay("p", due), Duration::ZERO);
        let delay = some.start_delay("p", due);
        assert!(delay < config.jitter);
        assert_eq!(delay, some.start_delay("p", due));
        delays.push(delay);
    }
    // A thousand draws of five minutes come close to both ends.
    assert!(delays.iter().min().unwrap() < &Duration::from_secs(5));
    assert!(delays.iter().max().unwrap() > &Duration::from_secs(295));
    assert_ne!(some.start_delay("p", from), some.start_delay("q", from));
}

#[test]
fn people_are_told_in_words() {
    for (cron, words) in [
        ("0 0 * * *", "every day at 00:00"),
        ("30 0 0 * * *", "every day at 00:00:30"),
        ("30 6 * * 1", "every Monday at 06:30"),
        ("0 0 1 * *", "on day 1 of every month at 00:00"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0 * * * *", "every hour"),
        ("7 */1 * * *", "every hour at minute 7"),
        ("0 */2 * * *", "every 2 hours"),
        ("0 0,12 * * *", "every 12 hours"),
        ("30 */10 * * *", "every day at 00:30, 10:30, 20:30"),
        ("* * * * * *", "every second"),
        ("*/10 * * * * *", "every 10 seconds"),
        ("0 0 L * *", "at 00:00, on the last day of the month"),
        ("0 0 13 * fri", "at 00:00, on day 13 or Friday"),
        ("0 0 1 1 *", "at 00:00, on day 1, in January"),
    ] {
        let described = schedule(cron, "Europe/Berlin").describe();
        assert_eq!(described, format!("{words}, Europe/Berlin"), "{cron}");
    }
}
