//! `etl-host status`: what each pipeline does, and how far the runs of other processes are.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod kinds;

use databases::{BLOCKED, Database, configure, project, sink as sink_of, source as source_of};
use etl_host::state::State;
use etl_testkit::process::Signal;
use kinds::{RUN, kinds, loaded, query, says};
use serde_json::{Value, json};

const ALL: &str = "SELECT id, name FROM people WHERE id > @from AND id <= @until ORDER BY id";

#[tokio::test]
async fn a_run_of_another_process_is_shown_with_its_progress_until_it_ends() {
    let (project, source, sink) = (project(), Database::new().await, Database::new().await);
    source
        .execute("CREATE TABLE people (id bigint, name text); INSERT INTO people SELECT i, 'x' FROM generate_series(1, 500) i")
        .await;
    configure(
        &project,
        &(source_of(&[("eu", &source)], ALL, "") + &sink_of(&sink, "")),
    );
    sink.execute("CREATE TABLE copy (id bigint, name text)")
        .await;
    let status = || project.result(&["status"], 0);
    assert_eq!(status()["running"], json!([]));

    // The run cannot go on as long as this lock is held.
    let lock = sink.at.connect().await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE copy IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let running = project
        .program(&["--output", "json", "run", "copy"])
        .start()
        .unwrap();
    sink.wait_for(BLOCKED, 1).await;
    // It is told each second, at once for the first time.
    let shown = loop {
        let shown = status();
        if shown["running"][0]["partitions"][0]["activity"] == "running" {
            break shown;
        }
    };
    let run = &shown["running"][0];
    assert_eq!(
        (&run["pipeline"], &run["process"]),
        (&json!("copy"), &json!(running.id()))
    );
    assert_eq!(run["partitions"][0]["name"], "eu");
    assert_eq!(run["partitions"][0]["attempt"], 1);
    assert!(run["rows_per_second"].is_u64());
    let copy = |shown: &Value| {
        let all = shown["pipelines"].as_array().unwrap();
        all.iter().find(|it| it["name"] == "copy").unwrap().clone()
    };
    assert_eq!(copy(&shown)["state"], "running");
    assert_eq!(copy(&shown)["last_run"], Value::Null);
    assert_eq!(shown["daemon"], Value::Null);
    let text = project.program(&["status", "copy"]).run().unwrap();
    let text = text.require_code(0).unwrap().stdout;
    says(&text, "No daemon works with this state folder");
    says(&text, "copy: running since ");
    assert!(
        text.lines()
            .any(|line| line.trim_start().starts_with("eu") && line.contains("running")),
        "{text}"
    );

    running.signal(Signal::KILL).unwrap();
    running.finish().unwrap();
    let dead = status();
    assert_eq!(
        (&dead["running"], &copy(&dead)["state"]),
        (&json!([]), &json!("idle"))
    );
    assert_eq!(copy(&dead)["last_run"]["status"], "interrupted");
    let left = std::fs::read_dir(project.path(".etl-host/progress")).unwrap();
    let files = left
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|it| it == "json"));
    assert_eq!(files.count(), 0, "what a dead process told is gone");

    lock.batch_execute("COMMIT").await.unwrap();
    assert_eq!(loaded(&project.result(RUN, 0)), 500);
    assert_eq!(copy(&status())["last_run"]["status"], "succeeded");
}

#[test]
fn pipelines_that_do_not_run_say_why() {
    let project = kinds("CREATE TABLE people (id INTEGER, name TEXT)");
    let yaml = query(ALL) + "schedule: { cron: '0 2 * * *' }\n";
    project.config("copy", &yaml);
    let copy = || {
        let shown = project.result(&["status", "copy"], 0);
        let [copy] = shown["pipelines"].as_array().unwrap().as_slice() else {
            panic!("{shown}");
        };
        copy.clone()
    };
    let idle = copy();
    assert_eq!(idle["state"], "idle");
    // Nobody would start it.
    assert_eq!(idle["next_run"], Value::Null);
    assert!(idle["schedule"].is_string());
    let state = State::open(&project.path(".etl-host")).unwrap();
    state
        .pause_schedule("copy", true, jiff::Timestamp::now())
        .unwrap();
    assert_eq!(copy()["state"], "paused");
    state.set_disabled("copy", true).unwrap();
    assert_eq!(copy()["state"], "disabled");
    state.set_disabled("copy", false).unwrap();
    project.config("copy", &(yaml + "nonsense: 1\n"));
    assert_eq!(copy()["state"], "broken");
    let text = project
        .program(&["status"])
        .run()
        .unwrap()
        .require_code(0)
        .unwrap();
    says(&text.stdout, "broken");
    says(&text.stdout, "Nothing runs.");

    let refused = project.program(&["status", "--watch"]).run().unwrap();
    says(
        &refused.require_code(2).unwrap().stderr,
        "there is none here",
    );
}
