//! What people see of runs that go on, and of plugins that crash in run after run.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests, which look into JSON"
)]

mod kinds;

use std::fs::OpenOptions;
use std::io::Write;

use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use kinds::{loaded, message, misbehaving, says};
use serde_json::Value;

const BASE: &str = "source:\n  shards: [{ name: eu, path: data/eu.db }]\n";
const CRASHES: &str = "settings: { misbehave: segfault }\n";
const WAITS: &str = "settings: { misbehave: waits-until-cancelled }\n";

fn configure(project: &Project, more: &str) {
    project.config("misbehaving", &format!("{BASE}{more}"));
}

fn pipeline(project: &Project, name: &str) -> Value {
    let list = project.result(&["list"], 0);
    let pipelines = list["pipelines"].as_array().unwrap();
    let found = pipelines.iter().find(|pipeline| pipeline["name"] == name);
    found.unwrap().clone()
}

fn refused(report: &Value) -> &str {
    report["error"]["message"].as_str().unwrap_or_default()
}

#[test]
fn a_plugin_that_crashes_in_three_runs_in_a_row_is_parked_until_it_is_enabled_or_replaced() {
    let project = misbehaving(50);
    configure(&project, CRASHES);
    for _ in 0..2 {
        let report = project.result(&["run", "misbehaving"], 1);
        says(message(&report), "SIGSEGV");
    }
    // A run that goes well starts the count again.
    configure(&project, "");
    assert_eq!(loaded(&project.result(&["run", "misbehaving"], 0)), 50);
    project.result(
        &[
            "checkpoint",
            "reset",
            "misbehaving",
            "--partition",
            "eu",
            "--allow-duplicates",
        ],
        0,
    );
    configure(&project, CRASHES);
    for runs in 1..=3 {
        assert_eq!(pipeline(&project, "misbehaving")["parked"], false, "{runs}");
        let report = project.result(&["run", "misbehaving"], 1);
        says(message(&report), "SIGSEGV");
    }
    assert_eq!(pipeline(&project, "misbehaving")["parked"], true);

    // Parked, it is not tried, whatever would become of it now; others are.
    configure(&project, "");
    let finished = project
        .program(&["--output", "json", "run", "misbehaving", "steady"])
        .run()
        .unwrap()
        .require_code(4)
        .unwrap();
    let reports: Vec<Value> = finished
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    says(
        refused(&reports[0]),
        "parked: its plugin crashed in 3 runs in a row",
    );
    assert_eq!(reports[0]["attempts"], 0);
    assert_eq!(reports[1]["status"], "succeeded");
    let info = project.result(&["info", "misbehaving"], 0);
    assert_eq!(info["parked"], true);
    assert_eq!(info["crashes"]["runs"], 3);
    let backfill = ["backfill", "misbehaving", "--from", "0", "--to", "5"];
    says(refused(&project.result(&backfill, 1)), "parked");

    assert_eq!(
        project.result(&["enable", "misbehaving"], 0)["had_crashed"],
        true
    );
    assert_eq!(
        project.result(&["enable", "misbehaving"], 0)["had_crashed"],
        false
    );
    assert_eq!(
        project.result(&["run", "misbehaving"], 0)["status"],
        "succeeded"
    );

    configure(
        &project,
        &format!("{CRASHES}error_handling: {{ park_after: 1 }}\n"),
    );
    project.execute(
        "data/eu.db",
        "INSERT INTO people (id, name) VALUES (1000, 'new')",
    );
    says(
        message(&project.result(&["run", "misbehaving"], 1)),
        "SIGSEGV",
    );
    says(
        refused(&project.result(&["run", "misbehaving"], 1)),
        "parked",
    );
    // Another version of the plugin: the same code, but another file.
    let file = project.path("plugins/libfixture_misbehaving.so");
    let mut file = OpenOptions::new().append(true).open(file).unwrap();
    file.write_all(b"another version").unwrap();
    drop(file);
    says(
        message(&project.result(&["run", "misbehaving"], 1)),
        "SIGSEGV",
    );
}

#[test]
fn what_runs_is_shown_with_the_memory_and_cpu_time_of_each_process() {
    let project = misbehaving(50);
    configure(&project, WAITS);
    assert_eq!(
        project.result(&["status"], 0)["running"],
        Value::Array(Vec::new())
    );
    let mut running = project
        .program(&["--output", "json", "run", "misbehaving"])
        .start()
        .unwrap();
    running
        .wait_for_stderr(|line| line.contains("waiting to be cancelled"))
        .unwrap();
    let status = project.result(&["status"], 0);
    let run = &status["running"][0];
    assert_eq!(run["pipeline"], "misbehaving");
    let workers = run["workers"].as_array().unwrap();
    let worker = workers
        .iter()
        .find(|worker| worker["partition"] == "eu")
        .unwrap();
    for usage in [&run["usage"], &worker["usage"]] {
        assert!(
            usage["resident_bytes"].as_u64().unwrap() > 1 << 20,
            "{status}"
        );
        assert!(usage["cpu_ms"].is_u64(), "{status}");
    }
    assert_ne!(worker["process"], run["process"]);
    let info = project.result(&["info", "misbehaving"], 0);
    assert_eq!(info["workers"][0]["process"], worker["process"]);
    let text = project
        .program(&["status"])
        .run()
        .unwrap()
        .require_code(0)
        .unwrap()
        .stdout;
    says(&text, "worker of eu");
    let other = project.result(&["status", "steady"], 0);
    assert_eq!(other["running"], Value::Array(Vec::new()));

    running.signal(Signal::KILL).unwrap();
    running.finish().unwrap();
    assert_eq!(
        project.result(&["status"], 0)["running"],
        Value::Array(Vec::new())
    );
    assert_eq!(
        pipeline(&project, "misbehaving")["last_run"]["status"],
        "interrupted"
    );
}

#[test]
fn a_report_tells_what_the_workers_of_each_partition_used() {
    let project = misbehaving(50);
    configure(&project, "");
    let report = project.result(&["run", "misbehaving"], 0);
    let worker = &report["partitions"][0]["worker"];
    assert!(
        worker["peak_memory_bytes"].as_u64().unwrap() > 1 << 20,
        "{report}"
    );
    let report = project.result(&["run", "misbehaving", "--isolation", "in-process"], 0);
    assert!(report["partitions"][0]["worker"].is_null(), "{report}");
}
