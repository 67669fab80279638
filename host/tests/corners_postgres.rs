//! Corner cases that need a real `PostgreSQL`: claims, pools, types and a stopped `replace`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod kinds;

use std::fmt::Write;

use etl_testkit::postgres::{PostgresServer, TestDatabase};
use etl_testkit::process::{Running, Signal};
use etl_testkit::project::Project;
use kinds::{RUN, kinds, loaded, message, misbehaving, query, says};
use tokio_postgres::Client;

async fn database() -> (TestDatabase, Client) {
    let database = PostgresServer::shared().create_database().await.unwrap();
    let client = database.connect().await.unwrap();
    (database, client)
}

/// Configuration that loads into the database's table `copy`, with more keys under `sink:`.
fn sink(project: &Project, database: &TestDatabase, more: &str) -> String {
    project.write(".env", format!("SINK_PASSWORD='{}'\n", database.password));
    format!(
        "sink:\n  type: postgres\n  host: '{}'\n  port: {}\n  database: '{}'\n  \
         credentials: {{ username: '{}', password: '${{SINK_PASSWORD}}' }}\n  tls: {{ mode: disable }}\n  table: copy\n  {more}\n",
        database.host, database.port, database.name, database.user
    )
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Waits until so many connections of the host wait for a lock.
async fn wait_for_blocked(client: &Client, connections: i64) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
               AND wait_event_type = 'Lock' AND application_name LIKE 'etl-host %'";
    while number(client, sql).await != connections {
        tokio::task::yield_now().await;
    }
}

/// A source with so many rows in each of these shards, and the configuration that names them.
fn shards(project: &Project, names: &[&str], rows: u32) -> String {
    let mut listed = String::new();
    for name in names {
        project.execute(
            format!("data/{name}.db"),
            &format!(
                "CREATE TABLE IF NOT EXISTS people (id INTEGER PRIMARY KEY);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                 INSERT INTO people SELECT (SELECT count(*) FROM people) + i FROM n;"
            ),
        );
        write!(listed, "{{ name: {name}, path: data/{name}.db }}, ").unwrap();
    }
    format!(
        "source:\n  shards: [{listed}]\n  query: SELECT id FROM people WHERE id > @from AND id <= @until ORDER BY id\n"
    )
}

#[tokio::test]
async fn a_run_that_lost_its_partitions_does_not_take_them_back() {
    let (database, client) = database().await;
    let project = kinds("");
    let source = shards(&project, &["eu", "us"], 10);
    let config = source
        + &sink(&project, &database, "")
        + "error_handling: { max_retries: 100000, retry_delay: 1ms, max_retry_delay: 1ms }\ntuning: { lease: 1s }\n";
    project.config("copy", &config);
    assert_eq!(loaded(&project.result(RUN, 0)), 20);
    shards(&project, &["eu", "us"], 100);

    // Both runs stand still inside their transactions until the table is free. The first one is stopped, so that its
    // leases run out.
    client
        .batch_execute("BEGIN; LOCK TABLE copy IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let watching = database.connect().await.unwrap();
    let start = || -> Running {
        let args = ["--output", "json", "run", "copy"];
        project.program(&args).start().unwrap()
    };
    let first = start();
    wait_for_blocked(&watching, 2).await;
    first.signal(Signal::STOP).unwrap();
    let taken = format!(
        "SELECT count(*) FROM etl_host.leases WHERE until > now() AND (holder::json->>'process')::bigint <> {}",
        first.id()
    );
    let second = start();
    while number(&watching, &taken).await < 2 {
        tokio::task::yield_now().await;
    }
    first.signal(Signal::CONT).unwrap();
    let lost = first.finish().unwrap().require_code(1).unwrap();
    for partition in lost.json().unwrap()["partitions"].as_array().unwrap() {
        says(
            partition["error"]["message"].as_str().unwrap(),
            "taken over",
        );
        assert_eq!(partition["attempts"], 2, "{partition}");
    }
    wait_for_blocked(&watching, 2).await;
    client.batch_execute("COMMIT").await.unwrap();
    let won = second.finish().unwrap().require_code(0).unwrap();
    let won = won.json().unwrap();
    assert_eq!(loaded(&won), 200);
    assert_eq!(loaded(&project.result(RUN, 0)), 0);
    let twice = "SELECT count(*) FROM (SELECT id FROM copy GROUP BY id HAVING count(*) = 2) x";
    assert_eq!(number(&client, twice).await, 110);
    assert_eq!(number(&client, "SELECT count(*) FROM copy").await, 220);
}

#[tokio::test]
async fn a_small_pool_is_shared_by_many_partitions() {
    let (database, client) = database().await;
    let project = kinds("");
    let source = shards(&project, &["a", "b", "c", "d", "e", "f"], 5_000);
    let pool = "pool: { max_connections: 2, wait_timeout: 50ms }";
    project.config(
        "copy",
        &(source + &sink(&project, &database, pool) + "error_handling: { max_retries: 0 }\n"),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 30_000);
    assert_eq!(number(&client, "SELECT count(*) FROM copy").await, 30_000);
}

const PRICES: &str = "CREATE TABLE people (id INTEGER, at TIMESTAMP, price DECIMAL(12, 2));
    INSERT INTO people VALUES (1, '2026-01-01 10:00:00.5', 999.99), (2, '2026-01-01 10:00:00', 1000.00),
                              (3, NULL, -999.99), (4, '2026-01-01 10:00:00', NULL);";
const PRICED: &str =
    "SELECT id, at, price FROM people WHERE id > @from AND id <= @until ORDER BY id";

#[tokio::test]
async fn columns_that_would_round_are_refused() {
    let (database, client) = database().await;
    let project = kinds(PRICES);
    client
        .batch_execute("CREATE TABLE copy (id numeric(5,-2), at timestamp(0), price numeric(12,1))")
        .await
        .unwrap();
    project.config("copy", &(query(PRICED) + &sink(&project, &database, "")));
    let report = project.result(RUN, 1);
    for column in [
        "`id` is numeric(5,-2)",
        "`at` is timestamp(0)",
        "`price` is numeric(12,1)",
    ] {
        says(message(&report), column);
    }
    assert_eq!(number(&client, "SELECT count(*) FROM copy").await, 0);
}

#[tokio::test]
async fn a_number_too_large_for_its_column_goes_into_quarantine() {
    let (database, client) = database().await;
    let project = kinds(PRICES);
    client
        .batch_execute("CREATE TABLE copy (id bigint, at timestamp, price numeric(5,2))")
        .await
        .unwrap();
    let handling = "error_handling: { max_bad_rows: 1, max_retries: 0 }\n";
    project.config(
        "copy",
        &(query(PRICED) + &sink(&project, &database, "") + handling),
    );
    let report = project.result(RUN, 0);
    assert_eq!(
        (loaded(&report), &report["rows"]["quarantined"]),
        (3, &1.into())
    );
    let kept = "SELECT sum(id)::bigint FROM copy WHERE id <> 2";
    assert_eq!(number(&client, kept).await, 8);
    let letters =
        "SELECT count(*) FROM etl_host.dead_letters WHERE stage = 'load' AND column_name = 'price'";
    assert_eq!(number(&client, letters).await, 1);
}

#[tokio::test]
async fn a_stopped_replace_leaves_the_table_as_it_was_and_no_shadow() {
    let (database, client) = database().await;
    let project = misbehaving(100);
    let base =
        "source: { shards: [{ name: eu, path: data/eu.db }, { name: us, path: data/us.db }] }\n\
                tuning: { batch_rows: 10, flush_bytes: 64KiB, flushes_per_commit: 1 }\n"
            .to_owned()
            + &sink(&project, &database, "write_mode: replace");
    project.config("misbehaving", &base);
    assert_eq!(loaded(&project.result(&["run", "misbehaving"], 0)), 200);
    project.execute("data/us.db", "DELETE FROM people WHERE id <= 50");
    project.config(
        "misbehaving",
        &format!(
            "{base}settings: {{ misbehave: waits-until-cancelled, only_for: eu, at_id: 75 }}\n"
        ),
    );
    let mut running = project
        .program(&["--output", "json", "run", "misbehaving"])
        .start()
        .unwrap();
    running
        .wait_for_stderr(|line| line.contains("waiting to be cancelled"))
        .unwrap();
    running.signal(Signal::TERM).unwrap();
    let finished = running.finish().unwrap().require_code(143).unwrap();
    let report = finished.json().unwrap();
    assert_eq!(
        (&report["status"], loaded(&report)),
        (&"cancelled".into(), 0)
    );
    assert_eq!(number(&client, "SELECT count(*) FROM copy").await, 200);
    let shadows =
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'etl_host' AND tablename LIKE 'shadow%'";
    assert_eq!(number(&client, shadows).await, 0);

    project.config("misbehaving", &base);
    assert_eq!(loaded(&project.result(&["run", "misbehaving"], 0)), 150);
    assert_eq!(number(&client, "SELECT count(*) FROM copy").await, 150);
}
