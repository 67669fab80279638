//! `etl-host schedule`, and what `list` and `info` say of schedules; the words of systemd, checked by systemd.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, which look into JSON"
)]

mod kinds;

use std::collections::BTreeSet;
use std::time::Duration;

use etl_host::config;
use etl_host::schedule::Schedule;
use etl_testkit::process::Program;
use etl_testkit::project::Project;
use expect_test::{Expect, expect};
use jiff::Timestamp;
use kinds::{kinds, refusal};
use serde_json::{Value, json};

const NIGHTLY: &str =
    "schedule: { cron: '30 2 * * *', timezone: Europe/Berlin, jitter: 5m, overlap: queue }\n";

fn project() -> Project {
    kinds("")
}

fn text(project: &Project, args: &[&str]) -> String {
    let finished = project.program(args).run().unwrap();
    finished.require_code(0).unwrap().stdout
}

fn schedule(project: &Project, args: &[&str]) -> Value {
    project.result(&[&["schedule", "copy"], args].concat(), 0)
}

fn refused(project: &Project, args: &[&str], expected: &Expect) {
    let answer = project.result(&[&["schedule", "copy"], args].concat(), 2);
    expected.assert_eq(refusal(&answer));
}

/// What `list` says of the pipeline.
fn listed(project: &Project) -> [Value; 4] {
    let list = project.result(&["list"], 0);
    let pipelines = list["pipelines"].as_array().unwrap();
    let copy = pipelines.iter().find(|row| row["name"] == "copy").unwrap();
    ["schedule", "schedule_origin", "schedule_paused", "next_run"].map(|key| copy[key].clone())
}

#[test]
fn a_preview_shows_the_clock_change_and_writes_nothing() {
    let project = project();
    let shown = text(
        &project,
        &[
            "schedule",
            "copy",
            "daily",
            "02:30",
            "--timezone",
            "Europe/Berlin",
            "--preview",
            "3",
            "--from",
            "2026-03-28T00:00:00Z",
        ],
    );
    expect![[r"
        copy: every day at 02:30, Europe/Berlin
          preview     nothing is changed
          cron        30 2 * * *
          timezone    Europe/Berlin
          jitter      0s
          catch up    last
          overlap     skip
          NEXT  UTC                   LOCAL
          1     2026-03-28T01:30:00Z  2026-03-28 02:30:00+01:00
          2     2026-03-29T01:00:00Z  2026-03-29 03:00:00+02:00
          3     2026-03-30T00:30:00Z  2026-03-30 02:30:00+02:00
    "]]
    .assert_eq(&shown);
    let shown = schedule(
        &project,
        &[
            "hourly",
            "5",
            "--preview",
            "2",
            "--from",
            "2026-01-01T16:00:00+01:00",
        ],
    );
    expect![[r#"{"changed_at":null,"description":"every day at 00:00, 05:00, 10:00, 15:00, 20:00, UTC","next":[{"at":"2026-01-01T20:00:00Z","local":"2026-01-01 20:00:00+00:00"},{"at":"2026-01-02T00:00:00Z","local":"2026-01-02 00:00:00+00:00"}],"notice":"the hours are counted from midnight: the last run of a day is at 20:00, 4 hours before the first of the next","on_calendar":"*-*-* 00,05,10,15,20:00:00 UTC","origin":"set","paused":false,"pipeline":"copy","preview":true,"schedule":{"catch_up":"last","cron":"0 */5 * * *","jitter":"0s","overlap":"skip","timezone":"UTC"}}"#]].assert_eq(&shown.to_string());
    assert_eq!(schedule(&project, &[])["origin"], "none");
    expect![[r"
        copy: no schedule
          comes from  nobody has set one
    "]]
    .assert_eq(&text(&project, &["schedule", "copy"]));

    // The one that holds may be looked at as well.
    project.config("copy", NIGHTLY);
    let args = ["--preview", "1000", "--from", "2026-01-01T00:00:00Z"];
    let shown = schedule(&project, &args);
    assert_eq!(shown["next"].as_array().unwrap().len(), 1000);
    assert_eq!(shown["next"][0]["at"], "2026-01-01T01:30:00Z");
}

#[test]
fn what_is_set_by_hand_holds_until_it_is_removed() {
    let project = project();
    assert_eq!(
        listed(&project),
        [json!(null), json!("none"), json!(false), json!(null)]
    );
    project.config("copy", NIGHTLY);
    let [cron, origin, _, next] = listed(&project);
    assert_eq!((cron, origin), (json!("30 2 * * *"), json!("config")));
    let due: Timestamp = next.as_str().unwrap().parse().unwrap();
    assert!(due > Timestamp::now());

    // What is not said is as the configuration has it.
    let set = schedule(&project, &["weekly", "mon", "06:00", "--catch-up", "all:3"]);
    assert_eq!(set["origin"], "set");
    assert_eq!(
        set["schedule"],
        json!({
            "cron": "0 6 * * mon",
            "timezone": "Europe/Berlin",
            "jitter": "5m",
            "catch_up": { "all": 3 },
            "overlap": "queue",
        })
    );
    assert_eq!(set["description"], "every Monday at 06:00, Europe/Berlin");
    assert_eq!(set["on_calendar"], "Mon *-*-* 06:00:00 Europe/Berlin");
    assert_eq!(set["next"].as_array().unwrap().len(), 3);
    assert_eq!(schedule(&project, &[]), set);

    // Paused, whichever schedule it is.
    let paused = schedule(&project, &["pause"]);
    assert_eq!(
        (&paused["paused"], &paused["next"]),
        (&json!(true), &json!([]))
    );
    let [cron, _, is_paused, next] = listed(&project);
    assert_eq!(
        (cron, is_paused, next),
        (json!("0 6 * * mon"), json!(true), json!(null))
    );
    let list = text(&project, &["list"]);
    assert!(list.contains("0 6 * * mon (paused)"), "{list}");
    let info = text(&project, &["info", "copy"]);
    assert!(info.contains("etl-host schedule copy resume"), "{info}");
    assert_eq!(schedule(&project, &["daily", "07:00"])["paused"], true);
    let resumed = schedule(&project, &["resume"]);
    assert_eq!(resumed["paused"], false);
    assert_eq!(resumed["schedule"]["cron"], "0 7 * * *");
    let info = project.result(&["info", "copy"], 0);
    assert_eq!(info["schedule"]["next"], schedule(&project, &[])["next"]);

    let external = schedule(&project, &["external"]);
    assert_eq!(
        (&external["origin"], &external["schedule"]),
        (&json!("external"), &json!(null))
    );
    assert_eq!(listed(&project)[3], json!(null));
    let off = schedule(&project, &["off"]);
    assert_eq!((&off["origin"], &off["next"]), (&json!("off"), &json!([])));
    let removed = schedule(&project, &["remove"]);
    assert_eq!(removed["origin"], "config");
    assert_eq!(removed["schedule"]["cron"], "30 2 * * *");
}

#[test]
fn mistakes_say_what_was_expected() {
    let project = project();
    refused(
        &project,
        &["daily", "25:00"],
        &expect!["expected a time of the day from 00:00 to 23:59 instead of `25:00`"],
    );
    refused(
        &project,
        &["hourly", "24"],
        &expect![
            "expected a number of hours from 1 to 23 instead of `24`; once a day is `daily 00:00`"
        ],
    );
    refused(
        &project,
        &["weekly", "mo", "00:00"],
        &expect!["expected a day of the week from mon to sun instead of `mo`"],
    );
    refused(
        &project,
        &["monthly", "32", "00:00"],
        &expect!["expected a day of the month from 1 to 31, or `last`, instead of `32`"],
    );
    refused(
        &project,
        &["cron", "0 0 30 2 *"],
        &expect!["expected a time that comes: no month has such a day"],
    );
    refused(
        &project,
        &["cron", "0", "25", "*", "*", "*"],
        &expect![[
            r#"expected numbers from 0 to 23 such as 6, */2, 9-17 or 8,20 for the hour instead of "25""#
        ]],
    );
    refused(
        &project,
        &["daily", "00:00", "--timezone", "europe/berlin"],
        &expect![[r#"expected the name of a time zone such as "UTC" or "Europe/Berlin""#]],
    );
    refused(
        &project,
        &["daily", "00:00", "--jitter", "2d"],
        &expect!["--jitter is at most 1d"],
    );
    refused(
        &project,
        &["pause", "--timezone", "UTC"],
        &expect!["--timezone goes with a schedule"],
    );
    refused(
        &project,
        &["--overlap", "skip"],
        &expect!["--overlap goes with a schedule"],
    );
    refused(
        &project,
        &["resume", "--preview", "3"],
        &expect!["--preview and --timer go with a schedule"],
    );
    assert_eq!(schedule(&project, &[])["origin"], "none");
}

/// The next instants by systemd, all in UTC.
fn elapses(calendar: &str, from: Timestamp) -> Vec<String> {
    let base = from.strftime("%Y-%m-%d %H:%M:%S UTC");
    let finished = Program::new("systemd-analyze")
        .env("TZ", "UTC")
        .args(["calendar", "--iterations=40"])
        .arg(format!("--base-time={base}"))
        .arg(calendar)
        .run()
        .and_then(|finished| finished.require_code(0))
        .unwrap_or_else(|error| {
            panic!("systemd-analyze, of the package systemd, cannot check {calendar}: {error:#}")
        });
    finished
        .stdout
        .lines()
        .filter(|line| line.contains("Next elapse:") || line.contains("Iter"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [.., day, time, "UTC"] = words.as_slice() else {
                panic!("{line}");
            };
            format!("{day}T{time}Z")
        })
        .collect()
}

#[test]
fn systemd_reads_the_same_instants_out_of_its_own_words() {
    let mut seen = BTreeSet::new();
    for (cron, zone) in [
        ("0 0 * * *", "UTC"),
        ("30 2 * * *", "Europe/Berlin"),
        ("0 * * * *", "UTC"),
        ("*/5 * * * *", "America/New_York"),
        ("*/7 * * * *", "UTC"),
        ("*/10 * * * * *", "UTC"),
        ("15 30 6 * * *", "Asia/Kathmandu"),
        ("0 */2 * * *", "UTC"),
        ("0 */5 * * *", "UTC"),
        ("0 9-17 * * mon-fri", "Europe/Berlin"),
        ("*/20 8,12,18 * * 1,3,5", "Australia/Lord_Howe"),
        ("0 0 * * 0", "UTC"),
        ("0 0 * * 7", "Pacific/Apia"),
        ("0 0 1 * *", "UTC"),
        ("0 0 1,15 * *", "America/Sao_Paulo"),
        ("0 0 */10 * *", "UTC"),
        ("0 0 31 * *", "UTC"),
        ("30 23 L * *", "Europe/Berlin"),
        ("0 0 29 2 *", "UTC"),
        ("0 0 1 jan-mar *", "UTC"),
        ("0 12 * */3 sun", "Africa/Cairo"),
        ("59 59 23 31 12 *", "UTC"),
        ("5-45/10 0-12/4 10-20 6-9 *", "UTC"),
    ] {
        let schedule = Schedule::new(&config::Schedule {
            cron: cron.to_owned(),
            timezone: zone.to_owned(),
            ..config::Schedule::default()
        })
        .unwrap();
        let calendar = schedule.to_calendar().unwrap();
        for from in ["2026-05-31T11:07:13Z", "2026-12-31T22:59:59Z"] {
            let from: Timestamp = from.parse().unwrap();
            let own: Vec<String> = schedule
                .between(from, Timestamp::MAX)
                .take(40)
                .map(|due| due.to_string())
                .collect();
            assert_eq!(
                elapses(&calendar, from),
                own,
                "{cron} as {calendar} after {from}"
            );
        }
        seen.insert(calendar);
    }
    assert_eq!(seen.len(), 23);
}

#[test]
fn rare_days_are_found_at_once() {
    // Far too slow for what it is, so that it fails only where something is searched second by second.
    let started = std::time::Instant::now();
    for cron in [
        "0 0 29 2 *",
        "0 0 29 2 ?",
        "59 59 23 * 2 mon#5",
        "0 0 L 2 *",
    ] {
        let schedule = Schedule::new(&config::Schedule {
            cron: cron.to_owned(),
            timezone: "Europe/Berlin".to_owned(),
            ..config::Schedule::default()
        })
        .unwrap();
        let from: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let many = schedule.between(from, Timestamp::MAX).take(50).count();
        assert_eq!(many, 50, "{cron}");
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}
