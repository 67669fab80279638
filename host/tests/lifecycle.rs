//! `etl-host stop` and `delete`: what they refuse, and whom they leave alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod kinds;

use etl_host::state::State;
use etl_testkit::project::Project;
use kinds::{misbehaving, refusal, says};

const STATE: &str = ".etl-host/state.db";

fn state_of(project: &Project) -> String {
    let shown = project.result(&["status", "misbehaving"], 0);
    shown["pipelines"][0]["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_delete_that_is_refused_stops_nothing() {
    let project = misbehaving(1);
    project.config("misbehaving", "settings: { misbehave: panics }\n");
    let refused = project.result(&["delete", "misbehaving", "--yes"], 2);
    says(refusal(&refused), "shares its library with others");
    assert_eq!(state_of(&project), "idle");
}

/// The number of its process is the test's own here: a signal would end it.
#[test]
fn a_run_of_another_machine_gets_no_signal_and_nobody_waits_for_it() {
    let project = misbehaving(1);
    project.config("misbehaving", "settings: { misbehave: panics }\n");
    drop(State::open(&project.path(".etl-host")).unwrap());
    let run = |run_id: &str, holder: &str| {
        let process = std::process::id();
        project.execute(
            STATE,
            &format!(
                "INSERT INTO runs (run_id, pipeline, status, started_at, holder)
                 VALUES ('{run_id}', 'misbehaving', 'running', '2026-01-01T00:00:00Z',
                         '{{\"host\": {holder}, \"machine\": \"boot\", \"process\": {process}, \"started\": 1}}')"
            ),
        );
    };
    let here = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    // This machine has been started again since.
    run("earlier", &format!("{:?}", here.trim()));
    let stopped = project.result(&["stop", "misbehaving"], 0);
    assert_eq!(stopped["ended_runs"], serde_json::json!([]));
    project.result(&["start", "misbehaving", "--no-run"], 0);

    run("elsewhere", "\"another\"");
    let refused = project.result(&["stop", "misbehaving"], 3);
    says(refusal(&refused), "another machine");
    assert_eq!(
        State::open(&project.path(".etl-host"))
            .unwrap()
            .running()
            .unwrap()
            .len(),
        1
    );
}
