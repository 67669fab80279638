//! What `etl-host doctor` found, as a test reads it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fmt::Write as _;

use etl_testkit::project::Project;
use serde_json::Value;

/// The checks of the only pipeline.
pub fn checks(report: &Value) -> &Vec<Value> {
    report["pipelines"][0]["checks"].as_array().unwrap()
}

/// A text, or none.
pub fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Everything that is not well with a pipeline, a line each, with its fix. Doctor must end with this code.
pub fn complaints(project: &Project, pipeline: &str, code: i32) -> String {
    let report = project.result(&["doctor", pipeline], code);
    let mut text = String::new();
    for check in checks(&report)
        .iter()
        .filter(|check| check["verdict"] != "ok")
    {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{} {} {}: {}\n  fix: {}",
            word(&check["where"]),
            word(&check["check"]),
            word(&check["verdict"]),
            word(&check["detail"]),
            word(&check["fix"])
        );
    }
    project.redact(&text)
}

/// What was looked at in one place, and how it ended: `reachable ok`.
pub fn verdicts(report: &Value, place: &str) -> Vec<String> {
    let there = checks(report)
        .iter()
        .filter(|check| check["where"] == place);
    let verdict = |check: &Value| format!("{} {}", word(&check["check"]), word(&check["verdict"]));
    there.map(verdict).collect()
}
