//! A real daemon with a schedule of seconds, real signals and a real PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod kinds;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use databases::{Database, configure, project, sink as sink_of, source as source_of};
use etl_testkit::process::{Running, Signal};
use etl_testkit::project::Project;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const QUERY: &str = "SELECT id, name FROM people WHERE id > @from AND id <= @until ORDER BY id";
const SOURCE: &str = "CREATE TABLE people (id bigint, name text);
     INSERT INTO people SELECT i, 'x' FROM generate_series(1, 500) i";

/// How long the daemons live in all: as long as `ETL_TEST_DAEMON_SECONDS` says, a short while in `make test`.
fn lifetime() -> Duration {
    let seconds = std::env::var("ETL_TEST_DAEMON_SECONDS").ok();
    Duration::from_secs(seconds.map_or(30, |seconds| seconds.parse().unwrap()))
}

/// No port that another test may have.
fn without_tcp(project: &Project) {
    project.write("config/etl-host.yaml", "http: off\n");
}

fn serve(project: &Project) -> Running {
    let mut daemon = project
        .program(&["--config-dir", "config", "serve"])
        .deadline(Duration::from_mins(10))
        .start()
        .unwrap();
    daemon
        .wait_for_stderr(|line| line.contains("is in use"))
        .unwrap();
    daemon
}

#[tokio::test]
async fn killed_twice_it_claims_each_due_instant_once_and_loads_each_row_once() {
    let (project, source, sink) = (project(), Database::new().await, Database::new().await);
    without_tcp(&project);
    source.execute(SOURCE).await;
    let schedule = "schedule: { cron: '*/2 * * * * *', catch_up: all, overlap: queue }\n";
    let yaml = source_of(&[("a", &source)], QUERY, "") + &sink_of(&sink, "") + schedule;
    configure(&project, &yaml);

    let third = lifetime() / 3;
    let mut rows = 500;
    for life in 0..3 {
        let daemon = serve(&project);
        let until = Instant::now() + third;
        while Instant::now() < until {
            rows += 1;
            source
                .execute(&format!("INSERT INTO people VALUES ({rows}, 'x')"))
                .await;
            // Something new for every run.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        if life < 2 {
            // In the middle of a run.
            let lock = sink.at.connect().await.unwrap();
            lock.batch_execute("BEGIN; LOCK TABLE copy IN ACCESS EXCLUSIVE MODE")
                .await
                .unwrap();
            rows += 1;
            source
                .execute(&format!("INSERT INTO people VALUES ({rows}, 'x')"))
                .await;
            sink.wait_for(databases::BLOCKED, 1).await;
            daemon.signal(Signal::KILL).unwrap();
            drop(lock);
            daemon.finish().unwrap();
        } else {
            daemon.signal(Signal::TERM).unwrap();
            daemon.finish().unwrap().require_code(143).unwrap();
        }
    }
    let due_runs = "FROM etl_host.due_runs WHERE pipeline = 'copy'";
    let number = |sql: String| {
        let sink = &sink;
        async move { sink.number(&sql).await }
    };
    let claimed = number(format!("SELECT count(*) {due_runs}")).await;
    let span = number(format!(
        "SELECT (extract(epoch FROM max(scheduled_for) - min(scheduled_for)) / 2)::bigint + 1 {due_runs}"
    ))
    .await;
    assert_eq!(claimed, span, "each instant has a row");
    assert!(
        claimed >= lifetime().as_secs().cast_signed() / 2,
        "{claimed}"
    );
    let others = number(format!(
        "SELECT count(*) {due_runs} AND status NOT IN ('succeeded', 'queued')"
    ))
    .await;
    assert_eq!(
        others, 0,
        "each was run, but for those that the end left to the next daemon"
    );
    let taken_over = number(format!("SELECT count(*) {due_runs} AND tries > 1")).await;
    assert!(taken_over >= 1, "what a kill interrupted was taken up");
    project.result(&["run", "copy"], 0);
    assert_eq!(sink.number("SELECT count(*) FROM copy").await, rows);
    assert_eq!(
        sink.number("SELECT count(DISTINCT id) FROM copy").await,
        rows
    );
    let interrupted = project.result(&["history", "copy", "--status", "interrupted"], 0);
    assert!(!interrupted["runs"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn two_daemons_of_one_sink_share_the_instants() {
    let (source, sink) = (Database::new().await, Database::new().await);
    source.execute(SOURCE).await;
    let schedule = "schedule: { cron: '* * * * * *', catch_up: all, overlap: queue }\n";
    let yaml = source_of(&[("a", &source)], QUERY, "") + &sink_of(&sink, "") + schedule;
    let projects = [project(), project()];
    let daemons: Vec<Running> = projects
        .iter()
        .map(|project| {
            without_tcp(project);
            configure(project, &yaml);
            serve(project)
        })
        .collect();
    sink.wait_for(
        "SELECT count(*) FROM pg_tables WHERE tablename = 'due_runs'",
        1,
    )
    .await;
    sink.wait_for(
        "SELECT least(count(*), 8) FROM etl_host.due_runs WHERE status = 'succeeded'",
        8,
    )
    .await;
    for daemon in daemons {
        daemon.signal(Signal::TERM).unwrap();
        daemon.finish().unwrap().require_code(143).unwrap();
    }
    assert_eq!(sink.number("SELECT count(*) FROM copy").await, 500);
    let twice = "SELECT count(*) FROM etl_host.due_runs WHERE tries > 1";
    assert_eq!(sink.number(twice).await, 0);
}

#[tokio::test]
async fn a_pipeline_is_stopped_started_and_deleted_under_a_daemon() {
    let (project, source, sink) = (project(), Database::new().await, Database::new().await);
    without_tcp(&project);
    source.execute(SOURCE).await;
    let yaml = source_of(&[("a", &source)], QUERY, "") + &sink_of(&sink, "");
    configure(&project, &yaml);
    let refused = project.result(&["start", "copy"], 3);
    assert!(
        refused["error"]["next_step"]
            .as_str()
            .unwrap()
            .contains("etl-host serve")
    );

    let daemon = serve(&project);
    let second = project.result(&["--config-dir", "config", "serve"], 3);
    let message = second["error"]["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("(process {})", daemon.id())),
        "{message}"
    );

    sink.execute("CREATE TABLE copy (id bigint, name text)")
        .await;
    let lock = sink.at.connect().await.unwrap();
    lock.batch_execute("BEGIN; LOCK TABLE copy IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let started = project.result(&["start", "copy"], 0);
    let run_id = started["run_id"].as_str().unwrap().to_owned();
    sink.wait_for(databases::BLOCKED, 1).await;
    assert_eq!(
        project.result(&["start", "copy"], 0)["run_id"],
        serde_json::Value::Null
    );
    // Draining would wait for the lock for ever.
    project.result(&["stop", "copy", "--now"], 0);
    lock.batch_execute("COMMIT").await.unwrap();
    let history = project.result(&["history", "copy"], 0);
    assert_eq!(history["runs"][0]["run_id"], run_id.as_str());
    assert_eq!(history["runs"][0]["status"], "cancelled");
    assert_eq!(sink.number("SELECT count(*) FROM copy").await, 0);

    let again = project.result(&["start", "copy"], 0);
    let run_id = again["run_id"].as_str().unwrap().to_owned();
    sink.wait_for("SELECT count(*) FROM copy", 500).await;
    project.result(&["stop", "copy"], 0);
    assert_eq!(
        project.result(&["list"], 0)["pipelines"][0]["disabled"],
        true
    );
    let history = project.result(&["history", "copy"], 0);
    assert_eq!(
        (
            history["runs"][0]["run_id"].as_str(),
            history["runs"][0]["status"].as_str()
        ),
        (Some(run_id.as_str()), Some("succeeded"))
    );

    for (name, advice) in [
        ("copy", "etl-host delete fixture-kinds"),
        ("fixture-kinds", "--yes"),
    ] {
        let refused = project.result(&["delete", name], 2);
        let next_step = refused["error"]["next_step"].as_str().unwrap();
        assert!(next_step.contains(advice), "{next_step}");
    }
    let library = project.path("plugins/libfixture_kinds.so");
    assert!(library.exists());
    let deleted = project.result(&["delete", "fixture-kinds", "--yes"], 0);
    assert!(!library.exists());
    let trash = project.path(deleted["trash"].as_str().unwrap());
    assert!(trash.join("libfixture_kinds.so").exists(), "{deleted}");
    assert_eq!(sink.number("SELECT count(*) FROM copy").await, 500);
    assert!(
        project.result(&["list"], 0)["pipelines"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    daemon.signal(Signal::TERM).unwrap();
    daemon.finish().unwrap().require_code(143).unwrap();
}

/// Says something to the API, and gives the status line of the answer, if there is one.
fn say(address: &str, words: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // It may hang up in the middle of it.
    let _ = stream.write_all(words);
    let mut answer = Vec::new();
    let _ = stream.take(64).read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn noise_at_the_api_is_refused_and_holds_up_no_schedule() {
    const TOKEN: &str = "a-token-nobody-guesses-0123456789";
    let (project, source, sink) = (project(), Database::new().await, Database::new().await);
    project.write(
        "config/etl-host.yaml",
        format!(
            "http: {{ listen: '127.0.0.1:0', token: '{TOKEN}', requests_per_second: 100000 }}\n"
        ),
    );
    source.execute(SOURCE).await;
    let schedule = "schedule: { cron: '* * * * * *', catch_up: all, overlap: queue }\n";
    let yaml = source_of(&[("a", &source)], QUERY, "") + &sink_of(&sink, "") + schedule;
    configure(&project, &yaml);
    let mut daemon = project
        .program(&["--config-dir", "config", "serve"])
        .start()
        .unwrap();
    let line = daemon
        .wait_for_stderr(|line| line.contains("listening on http://"))
        .unwrap();
    let (_, address) = line.split_once("http://").unwrap();
    let address = address.split_whitespace().next().unwrap().to_owned();
    sink.wait_for(
        "SELECT count(*) FROM pg_tables WHERE tablename = 'due_runs'",
        1,
    )
    .await;
    let ended = "SELECT least(count(*), 12) FROM etl_host.due_runs WHERE status = 'succeeded'";
    let mut random = StdRng::seed_from_u64(7);
    let mut refused = 0;
    while sink.number(ended).await < 12 {
        let path = "/api/v1/pipelines/copy/runs";
        let large = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: 9000000\r\n\r\n{}",
            "x".repeat(100_000)
        );
        let wrong = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}x\r\n\r\n"
        );
        let none = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let bytes: Vec<u8> = (0..random.random_range(1..5_000))
            .map(|_| random.random())
            .collect();
        for (words, expected) in [
            (large.into_bytes(), &["413"][..]),
            (wrong.into_bytes(), &["401"]),
            (none.into_bytes(), &["401"]),
            // It may hang up on what is no HTTP.
            (bytes, &["400", ""]),
        ] {
            let status = say(&address, &words);
            let status = status.split(' ').nth(1).unwrap_or_default();
            assert!(
                expected.contains(&status),
                "{status:?} to {:?}",
                String::from_utf8_lossy(&words[..60.min(words.len())])
            );
            refused += 1;
        }
    }
    assert!(refused > 40, "{refused}");
    daemon.signal(Signal::TERM).unwrap();
    let ended = daemon.finish().unwrap().require_code(143).unwrap();
    assert!(!ended.stderr.contains(TOKEN));
    let late =
        "SELECT count(*) FROM etl_host.due_runs WHERE started_at > scheduled_for + interval '10 s'";
    assert_eq!(sink.number(late).await, 0);
    let missing = "SELECT count(*) - extract(epoch FROM max(scheduled_for) - min(scheduled_for))::bigint - 1 \
                   FROM etl_host.due_runs";
    assert_eq!(sink.number(missing).await, 0, "each instant has a row");
}
