//! The HTTP API of a real daemon: the commands of docs/api.md, a run from its start to its report, metrics.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, which look into JSON"
)]

mod kinds;
mod served;

use std::path::Path;

use etl_testkit::process::{Program, Signal};
use kinds::{copied, kinds};
use serde_json::Value;
use served::Served;

/// A daemon with the pipeline `copy` of three rows.
fn start() -> Served {
    Served::start(kinds(
        "CREATE TABLE people (id INTEGER, name TEXT, amount REAL, team TEXT);
         INSERT INTO people (id) VALUES (1), (2), (3);",
    ))
}

#[test]
fn a_run_is_started_followed_and_reported() {
    let served = start();
    let accepted = served.post("/api/v1/pipelines/copy/runs");
    let run_id = accepted["run_id"].as_str().unwrap();
    let details = served.end_of(run_id);
    assert_eq!(details["summary"]["status"], "succeeded");
    assert_eq!(details["report"]["rows"]["loaded"], 3);
    assert_eq!(copied(&served.project), 3);

    let stopped = served.post("/api/v1/pipelines/copy/stop");
    assert_eq!(stopped["state"], "disabled");
    let started = served.post("/api/v1/pipelines/copy/start");
    served.end_of(started["run_id"].as_str().unwrap());
    let history = served.get("/api/v1/runs?pipeline=copy&limit=1");
    assert_eq!(history["runs"][0]["run_id"], started["run_id"]);
    let next = served.get(history["next"].as_str().unwrap());
    assert_eq!(next["runs"][0]["run_id"], run_id);
    let log = served.get(&format!("/api/v1/pipelines/copy/logs?run={run_id}"));
    let lines = log["lines"].as_array().unwrap();
    assert!(!lines.is_empty() && lines.iter().all(|line| line["run_id"] == run_id));

    let metrics = served.curl("/metrics", &[]).require_code(0).unwrap().stdout;
    for line in [
        r#"etl_runs_total{pipeline="copy",status="succeeded"} 2"#,
        r#"etl_rows_total{pipeline="copy",outcome="loaded"} 3"#,
        r#"etl_pipeline_enabled{pipeline="copy"} 1.0"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
    let host = r#"etl_process_resident_bytes{process="host",pipeline="",partition=""} "#;
    let resident = metrics
        .lines()
        .find_map(|line| line.strip_prefix(host))
        .unwrap();
    assert!(resident.parse::<f64>().unwrap() > 1e6, "{resident}");

    served.daemon.signal(Signal::TERM).unwrap();
    let ended = served.daemon.finish().unwrap();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    let socket = served.project.path(".etl-host/daemon.sock");
    assert!(!socket.exists());
}

#[test]
fn the_commands_of_the_page_work() {
    let served = start();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let page = std::fs::read_to_string(page).unwrap();
    let commands: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("curl "))
        .collect();
    assert!(commands.len() > 6);
    for command in commands {
        let command = command
            .replace("http://127.0.0.1:8484", &served.address)
            .replace("login-analytics", "copy")
            .replace("curl ", "curl --fail-with-body ");
        let finished = Program::new("bash")
            .args(["-c", &command])
            .env("ETL_STATE_DIR", served.project.path(".etl-host"))
            .run()
            .unwrap();
        let finished = finished.require_code(0).unwrap();
        let is_json = serde_json::from_str::<Value>(&finished.stdout).is_ok();
        assert!(is_json || command.contains("/metrics"), "{command}");
        // A run that goes on would be in the way of the next one.
        served.wait_until_idle("copy");
    }
}
