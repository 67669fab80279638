//! `manage-pipeline.sh` and `monitor-pipelines.sh`: what people type, and what they are told.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod kinds;
mod operators;

use std::fs;
use std::path::PathBuf;

use etl_host::worker::workers_of;
use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use expect_test::expect_file;
use operators::{daemon, said, script, systemd_analyze};

const MANAGE: &str = "manage-pipeline.sh";
const MONITOR: &str = "monitor-pipelines.sh";
const FORMS: [(&[&str], &str); 5] = [
    (&["daily", "00:00"], "*-*-* 00:00:00 UTC"),
    (&["hourly", "2"], "*-*-* 00/2:00:00 UTC"),
    (&["weekly", "mon", "00:00"], "Mon *-*-* 00:00:00 UTC"),
    (&["monthly", "1", "00:00"], "*-*-01 00:00:00 UTC"),
    (
        &["cron", "*/10 8-18 * * mon-fri"],
        "Mon,Tue,Wed,Thu,Fri *-*-* 08..18:00/10:00 UTC",
    ),
];

fn project() -> Project {
    kinds::misbehaving(10)
}

/// The files in the folder of units.
fn units(project: &Project) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(project.path("units"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

fn unit(project: &Project, ending: &str) -> PathBuf {
    project.path(format!("units/etl-pipeline-misbehaving.{ending}"))
}

fn schedule(project: &Project) -> serde_json::Value {
    project.result(&["schedule", "misbehaving"], 0)
}

#[test]
fn usage_is_as_documented() {
    let project = Project::new(operators::HOST);
    let (manage, _) = said(&project, MANAGE, &["--help"], 0);
    expect_file!["golden/manage-pipeline.txt"].assert_eq(&manage);
    let (monitor, _) = said(&project, MONITOR, &["--help"], 0);
    expect_file!["golden/monitor-pipelines.txt"].assert_eq(&monitor);
    for wrong in [
        &[][..],
        &["frobnicate"],
        &["start"],
        &["info", "--now"],
        &["delete", "../plugins"],
        &["list", "more"],
    ] {
        let (_, stderr) = said(&project, MANAGE, wrong, 2);
        assert!(stderr.ends_with(&manage), "{wrong:?}: {stderr}");
    }
    for wrong in [&["--watch"][..], &["--watch", "0"], &["--frobnicate"]] {
        let (_, stderr) = said(&project, MONITOR, wrong, 2);
        assert!(stderr.ends_with(&monitor), "{wrong:?}: {stderr}");
    }
}

#[test]
fn without_a_daemon_every_form_becomes_a_timer_that_systemd_understands() {
    let project = project();
    for (form, calendar) in FORMS {
        let args = [&["schedule", "misbehaving"], form].concat();
        let (stdout, _) = said(&project, MANAGE, &args, 0);
        assert!(
            stdout.contains("type: systemctl enable --now etl-pipeline-misbehaving.timer"),
            "{stdout}"
        );
        assert_eq!(
            units(&project),
            [
                "etl-pipeline-misbehaving.service",
                "etl-pipeline-misbehaving.timer"
            ]
        );
        let timer = fs::read_to_string(unit(&project, "timer")).unwrap();
        assert!(
            timer.contains(&format!("OnCalendar={calendar}\n")),
            "{timer}"
        );
        systemd_analyze(&["calendar", calendar]);
        let [timer, service] = ["timer", "service"].map(|it| unit(&project, it));
        let verified =
            systemd_analyze(&["verify", timer.to_str().unwrap(), service.to_str().unwrap()]);
        assert_eq!(verified, "");
        // A daemon that comes later leaves it alone.
        assert_eq!(schedule(&project)["origin"], "external");
    }
    let (stdout, _) = said(&project, MANAGE, &["schedule", "misbehaving"], 0);
    assert!(stdout.contains("timer       Mon,Tue"), "{stdout}");
    said(&project, MANAGE, &["schedule", "misbehaving", "remove"], 0);
    assert_eq!(units(&project), [""; 0]);
    assert_eq!(schedule(&project)["origin"], "none");
}

#[test]
fn a_timer_runs_what_the_script_was_called_for() {
    let project = Project::new(operators::HOST);
    project.plugin_as("fixture-misbehaving", "libfixture_misbehaving.so");
    // What systemd would expand, and what would end a quoted word.
    let folder = project.path("state 100%d \"$x\"");
    let form = [
        "schedule",
        "misbehaving",
        "daily",
        "00:00",
        "--jitter",
        "5m",
    ];
    script(&project, MANAGE, &form)
        .env("ETL_STATE_DIR", &folder)
        .run()
        .unwrap()
        .require_code(0)
        .unwrap();
    let timer = fs::read_to_string(unit(&project, "timer")).unwrap();
    assert!(timer.contains("RandomizedDelaySec=300000ms\n"), "{timer}");
    let service = fs::read_to_string(unit(&project, "service")).unwrap();
    let command = service
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let written = folder.display().to_string();
    let written = written
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    let expected = format!(
        "\"{}\" --state-dir \"{written}\" run misbehaving",
        operators::HOST
    );
    assert_eq!(command, expected);
    let path = unit(&project, "service");
    assert_eq!(systemd_analyze(&["verify", path.to_str().unwrap()]), "");
}

#[test]
fn what_cannot_be_done_changes_nothing_and_says_what_to_do() {
    let project = project();
    let refused = |args: &[&str], code, words: &str| {
        let (_, stderr) = said(&project, MANAGE, args, code);
        assert!(stderr.contains(words), "{args:?}: {stderr}");
        assert_eq!(units(&project), [""; 0], "{args:?}");
    };
    let there = "the pipelines are misbehaving";
    refused(&["schedule", "nope", "daily", "00:00"], 2, there);
    refused(&["schedule", "nope", "remove"], 2, there);
    refused(&["info", "nope"], 2, there);
    let time = "a time of the day from 00:00 to 23:59";
    refused(&["schedule", "misbehaving", "daily", "25:00"], 2, time);
    refused(&["schedule", "misbehaving", "sometimes"], 2, "--help");
    let either = ["schedule", "misbehaving", "cron", "0 0 13 * fri"];
    refused(&either, 2, "let the daemon run it");
    assert_eq!(schedule(&project)["origin"], "none");
    let form = ["schedule", "misbehaving", "daily", "00:00"];
    for (name, value, words) in [
        ("ETL_SYSTEMD_DIR", "/nowhere", "ETL_SYSTEMD_DIR"),
        (
            "ETL_SERVICE_USER",
            "nobody-of-that-name",
            "ETL_SERVICE_USER",
        ),
        ("ETL_HOST", "/nowhere/etl-host", "ETL_HOST"),
    ] {
        let finished = script(&project, MANAGE, &form).env(name, value).run();
        let finished = finished.unwrap().require_code(3).unwrap();
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
        assert_eq!(schedule(&project)["origin"], "none", "{name}");
    }
    assert_eq!(units(&project), [""; 0]);
}

#[test]
fn a_daemon_and_a_timer_are_never_both() {
    let project = project();
    let daily = ["schedule", "misbehaving", "daily", "06:30"];
    said(&project, MANAGE, &daily, 0);
    assert_eq!(units(&project).len(), 2);
    let daemon = daemon(&project);
    // It leaves the pipeline to the timer, until it is told otherwise.
    assert_eq!(schedule(&project)["origin"], "external");
    let (_, stderr) = said(
        &project,
        MANAGE,
        &["schedule", "misbehaving", "daily", "7"],
        2,
    );
    assert!(stderr.contains("a time of the day"), "{stderr}");
    assert_eq!(units(&project).len(), 2);
    said(&project, MANAGE, &daily, 0);
    assert_eq!(units(&project), [""; 0]);
    let set = schedule(&project);
    assert_eq!(
        (&set["origin"], &set["schedule"]["cron"]),
        (&"set".into(), &"30 6 * * *".into())
    );
    for (change, paused) in [("pause", true), ("resume", false)] {
        said(&project, MANAGE, &["schedule", "misbehaving", change], 0);
        assert_eq!(schedule(&project)["paused"], paused);
        let (block, _) = said(&project, MONITOR, &["misbehaving"], 0);
        let (status, next) = if paused {
            ("Status: Paused\n", "Next Run: -\n")
        } else {
            ("Status: Idle\n", " 06:30:00\n")
        };
        assert!(block.contains(status) && block.contains(next), "{block}");
    }
    said(&project, MANAGE, &["schedule", "misbehaving", "remove"], 0);
    assert_eq!(schedule(&project)["origin"], "none");
    daemon.signal(Signal::TERM).unwrap();
    daemon.finish().unwrap().require_code(143).unwrap();
}

#[test]
fn a_daemon_is_told_to_start_stop_and_delete() {
    let project = project();
    project.config(
        "misbehaving",
        "settings: { misbehave: waits-until-cancelled }\n",
    );
    let mut daemon = daemon(&project);
    let (stdout, _) = said(&project, MANAGE, &["start", "misbehaving"], 0);
    assert!(stdout.contains("misbehaving: started, run "), "{stdout}");
    daemon
        .wait_for_stderr(|line| line.contains("waiting to be cancelled"))
        .unwrap();
    let status = project.result(&["status"], 0);
    assert_eq!(status["daemon"]["process"], daemon.id());
    let (block, _) = said(&project, MONITOR, &["misbehaving"], 0);
    assert!(block.contains("Status: Running\n"), "{block}");
    assert!(!block.contains("Memory Usage: 0MB"), "{block}");
    said(&project, MANAGE, &["stop", "misbehaving"], 0);
    let (block, _) = said(&project, MONITOR, &["misbehaving"], 0);
    assert!(
        block.contains("Status: Stopped\nMemory Usage: 0MB\n"),
        "{block}"
    );
    let (_, stderr) = said(&project, MANAGE, &["delete", "fixture-misbehaving"], 2);
    assert!(stderr.contains("--yes"), "{stderr}");
    daemon.signal(Signal::TERM).unwrap();
    daemon.finish().unwrap().require_code(143).unwrap();
}

#[test]
fn a_timer_is_stopped_and_removed_with_its_pipeline() {
    let project = Project::new(operators::HOST);
    let library = project.plugin("login-analytics");
    let daily = ["schedule", "login-analytics", "daily", "00:00"];
    said(&project, MANAGE, &daily, 0);
    let (stdout, _) = said(&project, MANAGE, &["stop", "login-analytics"], 0);
    let timer = "etl-pipeline-login-analytics.timer";
    assert!(
        stdout.contains(&format!("systemctl disable --now {timer}")),
        "{stdout}"
    );
    let (block, _) = said(&project, MONITOR, &["login-analytics"], 0);
    assert!(block.contains("Status: Stopped\n"), "{block}");
    let (stdout, _) = said(&project, MANAGE, &["start", "login-analytics"], 0);
    assert!(
        stdout.contains("systemctl start --no-block etl-pipeline-login-analytics.service"),
        "{stdout}"
    );
    let (block, _) = said(&project, MONITOR, &["login-analytics"], 0);
    assert!(block.contains("Status: Idle\n"), "{block}");
    said(&project, MANAGE, &["delete", "login-analytics", "--yes"], 0);
    assert_eq!(units(&project), [""; 0]);
    assert!(!library.exists());
    let (stdout, _) = said(&project, MANAGE, &["list"], 0);
    assert!(!stdout.contains("login-analytics"), "{stdout}");
}

#[test]
fn the_monitor_tells_the_true_memory_of_a_run() {
    let project = project();
    let (block, _) = said(&project, MONITOR, &["misbehaving"], 0);
    assert_eq!(
        block,
        "Pipeline: misbehaving\nStatus: Idle\nMemory Usage: 0MB\nLast Run: never\nNext Run: -\nRecent Logs:\n"
    );
    project.config(
        "misbehaving",
        "settings: { misbehave: waits-until-cancelled }\nschedule: { cron: \"0 5 * * *\" }\n",
    );
    let mut running = project
        .program(&["-vv", "--output", "json", "run", "misbehaving"])
        .start()
        .unwrap();
    running
        .wait_for_stderr(|line| line.contains("waiting to be cancelled"))
        .unwrap();
    let (block, _) = said(&project, MONITOR, &["misbehaving"], 0);
    let resident: u64 = workers_of(running.id())
        .iter()
        .map(|worker| {
            let status = fs::read_to_string(format!("/proc/{}/status", worker.process)).unwrap();
            let line = status.lines().find(|it| it.starts_with("VmRSS:")).unwrap();
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        })
        .sum();
    let truth = f64::from(u32::try_from(resident).unwrap()) / 1024.0;
    let lines: Vec<&str> = block.lines().collect();
    let shown: f64 = lines[2]
        .strip_prefix("Memory Usage: ")
        .and_then(|it| it.strip_suffix("MB"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        truth > 10.0 && (shown - truth).abs() < truth * 0.2,
        "{shown} MB, not {truth}"
    );
    let started = project.result(&["status"], 0)["running"][0]["started_at"].to_string();
    let started = started.trim_matches('"')[..19].replace('T', " ");
    assert_eq!(lines[..2], ["Pipeline: misbehaving", "Status: Running"]);
    assert_eq!(lines[3], format!("Last Run: {started}"));
    assert!(
        lines[4].starts_with("Next Run: ") && lines[4].ends_with(" 05:00:00"),
        "{block}"
    );
    assert_eq!(lines[5..7], ["Recent Logs:", "[INFO] run started"]);
    assert!(lines.len() <= 11, "{block}");
    running.signal(Signal::INT).unwrap();
    running.finish().unwrap().require_code(130).unwrap();
    // Local time, not the server's.
    let finished = script(&project, MONITOR, &["misbehaving"])
        .env("TZ", "Asia/Kolkata")
        .run()
        .unwrap();
    assert!(
        finished.stdout.contains(" 10:30:00\n"),
        "{}",
        finished.stdout
    );
}

#[test]
fn the_monitor_shows_a_failure_and_goes_on_watching() {
    let project = project();
    project.config("misbehaving", "settings: { misbehave: fatal }\n");
    let finished = project.run(&["run", "misbehaving"]);
    assert_ne!(finished.code, Some(0));
    let mut watching = script(&project, MONITOR, &["misbehaving", "--watch", "1"])
        .start()
        .unwrap();
    for _ in 0..2 {
        watching
            .wait_for_stdout(|line| line == "Status: Failed")
            .unwrap();
        watching
            .wait_for_stdout(|line| line.starts_with("[ERROR] ") || line.starts_with("[WARN] "))
            .unwrap();
    }
    watching.signal(Signal::TERM).unwrap();
    let (_, stderr) = said(&project, MONITOR, &["nope"], 2);
    assert!(stderr.contains("the pipelines are"), "{stderr}");
}
