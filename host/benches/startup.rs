//! How long the program takes where there is nothing to do: `list` with twenty plugins, and `run` of an empty increment.
//!
//! By the clock, from the start of the process to its end. Fails if the median of the rounds is above the limit. A
//! server's own time is not taken off: the run connects to a PostgreSQL and commits there, so its limit is kept with some
//! room. Run it with `make bench`, while the machine does nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark"
)]

use std::fs;
use std::time::{Duration, Instant};

use etl_testkit::artifact;
use etl_testkit::postgres::{PostgresOptions, PostgresServer, TestDatabase};
use etl_testkit::project::Project;
use serde_json::Value;

const PLUGINS: usize = 20;
const ROUNDS: usize = 15;
const MOST_FOR_LIST: Duration = Duration::from_millis(50);
const MOST_FOR_RUN: Duration = Duration::from_millis(150);
const PIPELINE: &str = "login-analytics";

fn main() {
    // `cargo test --all-targets` runs benchmarks too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(
        "{:<40} {:>10} {:>10} {:>10}",
        "start-up, ms", "fastest", "median", "limit"
    );
    let late = [list(), run("in-process"), run("process")];
    let late: Vec<_> = late.into_iter().flatten().collect();
    assert!(late.is_empty(), "starting takes too long: {late:?}");
}

/// Twenty files of twenty contents: one library, whose pipeline has another name of the same length in each.
fn list() -> Option<String> {
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    let library = fs::read(artifact::plugin(PIPELINE).unwrap()).unwrap();
    for number in 0..PLUGINS {
        let name = format!("login-analyti{number:02}");
        let content = renamed(&library, PIPELINE.as_bytes(), name.as_bytes());
        project.write(format!("plugins/{name}.so"), content);
    }
    let begin = Instant::now();
    project.result(&["list"], 0);
    println!(
        "list, {PLUGINS} plugins, never seen before: {} ms",
        begin.elapsed().as_millis()
    );
    measure(&format!("list, {PLUGINS} plugins"), MOST_FOR_LIST, || {
        let listed = project.result(&["list"], 0);
        let count = |key: &str| listed[key].as_array().unwrap().len();
        assert_eq!((count("pipelines"), count("refused")), (PLUGINS, 0));
    })
}

fn renamed(library: &[u8], name: &[u8], other: &[u8]) -> Vec<u8> {
    assert_eq!(name.len(), other.len());
    let mut content = library.to_vec();
    let mut at = 0;
    while let Some(rest) = content.get_mut(at..) {
        if rest.starts_with(name) {
            rest[..name.len()].copy_from_slice(other);
        }
        at += 1;
    }
    content
}

/// Two shards without a new row, into PostgreSQL.
fn run(isolation: &str) -> Option<String> {
    let options = PostgresOptions {
        fsync: true,
        ..PostgresOptions::default()
    };
    let server = PostgresServer::start(&options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let database = runtime.block_on(server.create_database()).unwrap();
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin(PIPELINE);
    project.config(PIPELINE, &config(&database));
    for shard in 1..=2 {
        project.execute(
            format!("data/shard-{shard}.db"),
            "CREATE TABLE user_logins (user_id INTEGER NOT NULL, login_time TIMESTAMP NOT NULL, ip_address TEXT, user_agent TEXT);\
             INSERT INTO user_logins VALUES (1, '2026-01-01 00:00:00.000', '8.8.8.8', 'curl/8.5.0')",
        );
    }
    let arguments = ["run", PIPELINE, "--isolation", isolation];
    let read = |report: &Value| report["rows"]["extracted"].as_u64().unwrap();
    assert_eq!(read(&project.result(&arguments, 0)), 2);
    measure(
        &format!("run, nothing new, {isolation}"),
        MOST_FOR_RUN,
        || {
            assert_eq!(read(&project.result(&arguments, 0)), 0);
        },
    )
}

fn config(database: &TestDatabase) -> String {
    format!(
        "sink:\n  type: postgres\n  host: '{}'\n  port: {}\n  database: '{}'\n  \
         credentials: {{ username: '{}', password: '{}' }}\n  table: login_analytics\n",
        database.host, database.port, database.name, database.user, database.password
    )
}

/// What is wrong with the median, if anything.
fn measure(what: &str, limit: Duration, work: impl Fn()) -> Option<String> {
    let mut taken: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed()
        })
        .collect();
    taken.sort_unstable();
    let (fastest, median) = (taken[0], taken[ROUNDS / 2]);
    println!(
        "{what:<40} {:>10.1} {:>10.1} {:>10}",
        fastest.as_secs_f64() * 1_000.0,
        median.as_secs_f64() * 1_000.0,
        limit.as_millis()
    );
    (median > limit).then(|| format!("{what}: {} ms", median.as_millis()))
}
