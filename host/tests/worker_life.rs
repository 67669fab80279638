//! The life of worker processes: what they are started with, how they end, and what a run makes of their ends.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod workers;

use std::fs;
use std::time::Duration;

use etl_host::worker::{Running as RunningWorker, workers_of};
use etl_testkit::process::{Running, Signal, wait_for_stranger};
use etl_testkit::project::Project;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal as OwnSignal, geteuid, kill_process};
use workers::{loaded, message, people, program, project};

const RUN: &[&str] = &["run", "misbehaving"];
const SINK: &str = "data/misbehaving.db";

/// The worker of the partition, once the plugin has said that it is at work.
fn at_work(running: &mut Running, says: &str) -> RunningWorker {
    running.wait_for_stderr(|line| line.contains(says)).unwrap();
    workers_of(running.id())
        .into_iter()
        .find(|worker| worker.label.partition == "eu")
        .unwrap_or_else(|| panic!("there is no worker"))
}

fn start(project: &Project, settings: &str) -> Running {
    project.config("misbehaving", &format!("isolation: process\n{settings}"));
    program(project, RUN).own_group().start().unwrap()
}

#[test]
fn a_worker_that_wants_to_outlive_its_host_dies_with_it() {
    let project = project();
    let mut running = start(&project, "settings: { misbehave: outlives }\n");
    let worker = at_work(&mut running, "outliving");
    running.signal(Signal::KILL).unwrap();
    wait_for_stranger(worker.process, Duration::from_mins(1)).unwrap();
    drop(running);
    // What the killed host held is taken over.
    project.config("misbehaving", "isolation: process\n");
    project.result(RUN, 0);
    assert_eq!(loaded(&project, SINK), "300|300\n");
}

#[test]
fn ctrl_c_reaches_the_host_and_not_its_workers() {
    let project = project();
    let mut running = start(&project, "settings: { misbehave: waits-until-cancelled }\n");
    let worker = at_work(&mut running, "waiting to be cancelled");
    running.signal_group(Signal::INT).unwrap();
    let finished = running.finish().unwrap().require_code(130).unwrap();
    // A worker that had been reached would not have been told anything any more.
    assert!(
        finished.stderr.contains("was told to stop"),
        "{}",
        finished.stderr
    );
    assert_eq!(finished.json().unwrap()["status"], "cancelled");
    wait_for_stranger(worker.process, Duration::from_mins(1)).unwrap();
}

#[test]
fn a_worker_that_is_killed_from_outside_is_replaced_and_nothing_comes_twice() {
    let project = project();
    let mut running = start(
        &project,
        "settings: { misbehave: waits-until-cancelled, only_attempt: 1 }\n",
    );
    let worker = at_work(&mut running, "waiting to be cancelled");
    let process = Pid::from_raw(worker.process.try_into().unwrap()).unwrap();
    kill_process(process, Signal::KILL).unwrap();
    let finished = running.finish().unwrap().require_code(0).unwrap();
    assert!(
        finished.stderr.contains("was killed from outside"),
        "{}",
        finished.stderr
    );
    assert_eq!(finished.json().unwrap()["partitions"][0]["attempts"], 2);
    assert_eq!(loaded(&project, SINK), "300|300\n");
}

#[test]
fn the_same_crash_at_the_same_position_is_not_tried_a_third_time() {
    let project = project();
    let running = start(
        &project,
        "settings: { misbehave: segfault }\nerror_handling: { max_retries: 9 }\n",
    );
    let finished = running.finish().unwrap().require_code(1).unwrap();
    let report = finished.json().unwrap();
    assert_eq!(report["partitions"][0]["attempts"], 2);
    let said = message(&report);
    assert!(said.contains("the same way as before"), "{said}");
}

#[test]
fn a_crash_with_commits_in_between_is_tried_again() {
    let project = project();
    // Rows so wide that each batch is committed for itself.
    project.execute(
        "data/eu.db",
        "DELETE FROM people;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
         INSERT INTO people SELECT i, printf('%020000d', i) FROM n;",
    );
    let running = start(
        &project,
        "settings: { misbehave: segfault, after_batches: 6 }\nerror_handling: { max_retries: 1 }\n\
         tuning: { batch_rows: 10, flush_bytes: 64KiB, flushes_per_commit: 1 }\n",
    );
    let finished = running.finish().unwrap().require_code(0).unwrap();
    let report = finished.json().unwrap();
    let attempts = report["partitions"][0]["attempts"].as_u64().unwrap();
    assert!(attempts > 2, "{report:#}");
    assert_eq!(loaded(&project, SINK), "300|300\n");
}

#[test]
fn the_row_at_which_a_stateless_plugin_crashes_is_found_and_set_aside() {
    let project = project();
    let handling = "error_handling: { max_bad_rows: 1 }\n";
    let at = |fault: &str| format!("settings: {{ misbehave: {fault}, at_id: 150 }}\n{handling}");
    let running = start(&project, &at("segfault"));
    let finished = running.finish().unwrap().require_code(0).unwrap();
    let report = finished.json().unwrap();
    assert_eq!(report["rows"]["loaded"], 299);
    assert_eq!(report["rows"]["quarantined"], 1);
    let letters = "SELECT json_extract(payload, '$.id'), reason FROM etl_host_dead_letters";
    let letters = project.query(SINK, letters);
    assert!(letters.starts_with("150|"), "{letters}");
    assert!(letters.contains("signal 11 (SIGSEGV)"), "{letters}");
    let missing = "SELECT count(*) FROM loaded WHERE id = 150";
    assert_eq!(project.number(SINK, missing), 0);
}

#[test]
fn a_row_that_takes_too_long_is_not_searched_for() {
    let project = project();
    let running = start(
        &project,
        "settings: { misbehave: endless-loop, at_id: 150 }\nlimits: { call_timeout: 1s }\n\
         error_handling: { max_bad_rows: 1, max_retries: 0 }\n",
    );
    // Found, it would have been set aside, and the run had succeeded.
    let finished = running.finish().unwrap().require_code(1).unwrap();
    let report = finished.json().unwrap();
    let said = message(&report);
    assert!(said.contains("limits.call_timeout"), "{said}");
}

#[test]
fn a_worker_is_given_no_variable_and_no_descriptor_that_the_host_had() {
    let project = project();
    people(&project, "data/extra.db", 1);
    let extra = fs::File::open(project.path("data/extra.db")).unwrap();
    // From now on every program that this test starts has it.
    fcntl_setfd(&extra, FdFlags::empty()).unwrap();
    let run = |isolation: &str| {
        project.config(
            "misbehaving",
            &format!("isolation: {isolation}\nsettings: {{ misbehave: looks-around }}\n"),
        );
        let finished = program(&project, RUN).run().unwrap();
        let finished = finished.require_code(1).unwrap();
        message(&finished.json().unwrap()).to_owned()
    };
    let inside = run("in-process");
    assert!(!inside.contains(": 0 variables;"), "{inside}");
    assert!(inside.contains("of kind 100000"), "{inside}");
    let outside = run("process");
    assert!(
        outside.ends_with(": 0 variables; socket, pipe, pipe, socket, socket"),
        "{outside}"
    );

    // Nobody but root may look at such a process from outside.
    if geteuid().is_root() {
        let mut running = start(&project, "settings: { misbehave: waits-until-cancelled }\n");
        let worker = at_work(&mut running, "waiting to be cancelled");
        let of_host = descriptors(running.id());
        let extra = project.path("data/extra.db").display().to_string();
        assert!(of_host.contains(&extra), "{of_host:?}");
        let of_worker = descriptors(worker.process);
        let kinds: Vec<&str> = of_worker
            .iter()
            .map(|target| target.split(':').next().unwrap())
            .collect();
        assert_eq!(kinds, ["socket", "pipe", "pipe", "socket", "socket"]);
        let environment = fs::read(format!("/proc/{}/environ", worker.process)).unwrap();
        assert!(environment.is_empty(), "{environment:?}");
        running.signal(Signal::INT).unwrap();
        running.finish().unwrap().require_code(130).unwrap();
    }
}

/// What the descriptors of a process are, in the order of their numbers.
fn descriptors(process: u32) -> Vec<String> {
    let mut all: Vec<(u32, String)> = fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            let target = fs::read_link(entry.path()).unwrap();
            (number, target.display().to_string())
        })
        .collect();
    all.sort();
    all.into_iter().map(|(_, target)| target).collect()
}

#[test]
fn whoever_stops_all_processes_at_once_means_the_host() {
    let project = project();
    let mut running = start(&project, "settings: { misbehave: waits-until-cancelled }\n");
    let worker = at_work(&mut running, "waiting to be cancelled");
    // As a service manager does it: the workers first would be the worst.
    let process = Pid::from_raw(worker.process.cast_signed()).unwrap();
    kill_process(process, OwnSignal::TERM).unwrap();
    running.signal(Signal::TERM).unwrap();
    let finished = running.finish().unwrap().require_code(143).unwrap();
    assert!(
        finished.stderr.contains("was told to stop"),
        "{}",
        finished.stderr
    );
    assert_eq!(finished.json().unwrap()["status"], "cancelled");
}

#[test]
fn an_attempt_that_is_given_up_leaves_no_worker_to_meet_the_next_one() {
    let project = project();
    let mut running = start(
        &project,
        "settings: { misbehave: endless-loop, only_attempt: 1 }\n\
         error_handling: { attempt_timeout: 2s, max_retries: 1, retry_delay: 4s, max_retry_delay: 4s }\n",
    );
    running
        .wait_for_stderr(|line| line.contains("took longer than 2 s"))
        .unwrap();
    // The next one begins two seconds from now at the earliest.
    assert_eq!(workers_of(running.id()), []);
    let finished = running.finish().unwrap().require_code(0).unwrap();
    let report = finished.json().unwrap();
    assert_eq!(report["partitions"][0]["attempts"], 2);
    assert_eq!(loaded(&project, SINK), "300|300\n");
}

#[test]
fn the_search_for_bad_rows_may_be_long() {
    let project = project();
    let running = start(
        &project,
        "settings: { misbehave: fatal }\nlimits: { memory: 64MiB }\n\
         error_handling: { max_bad_rows: 10000 }\n",
    );
    let finished = running.finish().unwrap().require_code(0).unwrap();
    let report = finished.json().unwrap();
    assert_eq!(report["rows"]["quarantined"], 300);
}
