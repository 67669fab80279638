//! Leases: a partition that a living run works on is left to it; one whose run has died is taken over.
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
use etl_host::holder::Holder;
use etl_testkit::process::Signal;
use kinds::{RUN, SINK, copied, kinds, loaded, message, query, says};
use serde_json::{Value, json};

const THREE: &str = "CREATE TABLE people (id INTEGER, name TEXT, amount REAL, team TEXT);
     INSERT INTO people (id) VALUES (1), (2), (3);";
const ALL: &str = "SELECT id FROM people WHERE id > @from AND id <= @until ORDER BY id";
const ONCE: &str = "error_handling: { max_retries: 0 }\n";

#[test]
fn a_sqlite_partition_is_left_to_whoever_may_still_live() {
    let project = kinds(THREE);
    project.config("copy", &(query(ALL) + ONCE));
    assert_eq!(loaded(&project.result(RUN, 0)), 3);
    let leases = || project.number(SINK, "SELECT count(*) FROM etl_host_leases");
    assert_eq!(leases(), 0, "a run that has ended leaves no lease");
    project.execute("data/people.db", "INSERT INTO people (id) VALUES (4)");
    let hold = |holder: &Value, seconds: i64| {
        project.execute(
            SINK,
            &format!(
                "INSERT OR REPLACE INTO etl_host_leases SELECT pipeline, partition, 'other', '{holder}', \
                 unixepoch('subsec') + {seconds} FROM etl_host_checkpoints"
            ),
        );
    };
    let elsewhere = json!({ "host": "db9", "machine": "another", "process": 7, "started": 1 });
    hold(&elsewhere, 600);
    let report = project.result(RUN, 1);
    says(
        message(&report),
        "run other (process 7 on db9) works on partition",
    );
    says(
        report["partitions"][0]["error"]["next_step"]
            .as_str()
            .unwrap(),
        "wait until that run has ended",
    );
    assert_eq!(copied(&project), 3);

    hold(&elsewhere, -1);
    assert_eq!(
        loaded(&project.result(RUN, 0)),
        1,
        "a lease that has run out"
    );

    // A process of this machine that is certainly gone is not waited for.
    project.execute("data/people.db", "INSERT INTO people (id) VALUES (5)");
    let mut gone = serde_json::to_value(Holder::of_this_process()).unwrap();
    gone["started"] = json!(1);
    hold(&gone, 600);
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    assert_eq!((copied(&project), leases()), (5, 0));
}

#[test]
fn a_retry_waits_until_the_lease_has_run_out() {
    let project = kinds(THREE);
    let handling = "error_handling: { max_retries: 1, retry_delay: 1ms }\n";
    project.config("copy", &(query(ALL) + handling));
    assert_eq!(loaded(&project.result(RUN, 0)), 3);
    project.execute("data/people.db", "INSERT INTO people (id) VALUES (4)");
    let elsewhere = json!({ "host": "db9", "machine": "another", "process": 7, "started": 1 });
    project.execute(
        SINK,
        &format!(
            "INSERT INTO etl_host_leases SELECT pipeline, partition, 'other', '{elsewhere}', \
             unixepoch('subsec') + 2 FROM etl_host_checkpoints"
        ),
    );
    let report = project.result(RUN, 0);
    assert_eq!((loaded(&report), &report["attempts"]), (1, &json!(2)));
}

#[tokio::test]
async fn a_second_host_waits_for_the_first_and_takes_over_when_it_is_killed() {
    let (project, source, sink) = (project(), Database::new().await, Database::new().await);
    source
        .execute("CREATE TABLE people (id bigint, name text); INSERT INTO people SELECT i, 'x' FROM generate_series(1, 500) i")
        .await;
    let yaml = format!(
        "{}{}{ONCE}tuning: {{ lease: 1s }}\n",
        source_of(
            &[("a", &source)],
            "SELECT id, name FROM people WHERE id > @from AND id <= @until ORDER BY id",
            ""
        ),
        sink_of(&sink, "")
    );
    configure(&project, &yaml);
    sink.execute("CREATE TABLE copy (id bigint, name text)")
        .await;
    // The first run cannot load a row as long as this lock is held; it lives, and renews its lease meanwhile.
    let lock = sink.at.connect().await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE copy IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let args = ["--output", "json", "run", "copy"];
    let first = project.program(&args).start().unwrap();
    sink.wait_for(BLOCKED, 1).await;
    let until = "SELECT (extract(epoch FROM until) * 1000)::bigint FROM etl_host.leases";
    let began = sink.number(until).await;
    while sink.number(until).await == began {
        tokio::task::yield_now().await;
    }
    let second = project
        .program(&args)
        .run()
        .unwrap()
        .require_code(1)
        .unwrap();
    says(
        message(&second.json().unwrap()),
        &format!("(process {} on ", first.id()),
    );

    first.signal(Signal::KILL).unwrap();
    first.finish().unwrap();
    let third = project.program(&args).start().unwrap();
    sink.wait_for(BLOCKED, 1).await;
    lock.batch_execute("COMMIT").await.unwrap();
    third.finish().unwrap().require_code(0).unwrap();
    assert_eq!(sink.number("SELECT count(*) FROM copy").await, 500);
    assert_eq!(
        sink.number("SELECT count(DISTINCT id) FROM copy").await,
        500
    );
    assert_eq!(sink.number("SELECT count(*) FROM etl_host.leases").await, 0);
}

/// Otherwise two runs that have one partition each would wait for each other.
#[tokio::test]
async fn a_partition_that_has_ended_is_free_while_its_run_waits_for_another_one() {
    let (project, source, sink) = (project(), Database::new().await, Database::new().await);
    source
        .execute("CREATE TABLE people (id bigint, name text); INSERT INTO people SELECT i, 'x' FROM generate_series(1, 5) i")
        .await;
    let yaml = source_of(
        &[("a", &source), ("b", &source)],
        "SELECT id, name FROM people WHERE id > @from AND id <= @until ORDER BY id",
        "",
    ) + &sink_of(&sink, "");
    configure(&project, &yaml);
    project.result(RUN, 0);
    source.execute("INSERT INTO people VALUES (6, 'x')").await;
    let elsewhere = json!({ "host": "db9", "machine": "another", "process": 7, "started": 1 });
    sink.execute(&format!(
        "INSERT INTO etl_host.leases SELECT pipeline, partition, 'other', '{elsewhere}', now() + interval '1 hour' \
         FROM etl_host.checkpoints WHERE partition = 'b'"
    ))
    .await;
    let mut first = project.program(RUN).start().unwrap();
    first
        .wait_for_stderr(|line| line.contains("works on partition b"))
        .unwrap();
    // The lease of `other` is left, and nothing of the first run's.
    sink.wait_for(
        "SELECT count(*) FROM copy WHERE id = 6 AND (SELECT count(*) FROM etl_host.leases) = 1",
        1,
    )
    .await;
    let again = project.result(&["run", "copy", "--partition", "a"], 0);
    assert_eq!(loaded(&again), 0);
    first.signal(Signal::KILL).unwrap();
    first.finish().unwrap();
}
