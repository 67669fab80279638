//! What bad rows cost: a million rows from PostgreSQL into a table that refuses none, one, and a hundred of them.
//!
//! Exactly the refused rows must lie in quarantine, and all others in the table. Run it with `make bench`; it takes about
//! a minute and starts its server itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark"
)]

use etl_testkit::postgres::{PostgresOptions, PostgresServer, TestDatabase};
use etl_testkit::project::Project;

const ROWS: u64 = 1_000_000;
const QUERY: &str =
    "SELECT id, name, amount FROM people WHERE id > @from AND id <= @until ORDER BY id";

fn main() {
    // `cargo test --all-targets` runs benchmarks too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let postgres = PostgresServer::start(&PostgresOptions {
        fsync: true,
        ..PostgresOptions::default()
    })
    .unwrap();
    println!(
        "{:<34} {:>12} {:>10} {:>14}",
        "1,000,000 rows, append", "rows/s", "bad rows", "peak memory"
    );
    for bad in [0, 1, 100] {
        runtime.block_on(measure(&postgres, bad));
    }
}

async fn measure(postgres: &PostgresServer, bad: u64) {
    let (from, to) = (
        postgres.create_database().await.unwrap(),
        postgres.create_database().await.unwrap(),
    );
    // Spread over the table, none at its very beginning.
    let spread = ROWS / (bad + 1);
    let client = from.connect().await.unwrap();
    client
        .batch_execute(&format!(
            "CREATE TABLE people AS SELECT i AS id, 'name ' || i AS name, (i % 1000)::float8 AS amount \
             FROM generate_series(1::bigint, {ROWS}) i; CREATE INDEX ON people (id); ANALYZE people; \
             UPDATE people SET amount = -1 WHERE {bad} > 0 AND id % {spread} = 0 AND id / {spread} BETWEEN 1 AND {bad}"
        ))
        .await
        .unwrap();
    let sink = to.connect().await.unwrap();
    sink.batch_execute(
        "CREATE TABLE copy (id bigint, name text, amount float8 CHECK (amount >= 0))",
    )
    .await
    .unwrap();
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("fixture-kinds");
    project.config("copy", &config(&from, &to, bad));
    let report = project.result(&["run", "copy"], 0);
    let count = |path: &[&str]| {
        path.iter()
            .fold(&report, |value, key| &value[*key])
            .as_u64()
            .unwrap()
    };
    assert_eq!(count(&["rows", "loaded"]), ROWS - bad);
    let held = "SELECT count(*) FROM etl_host.dead_letters";
    for (sql, expected) in [
        (held, bad),
        ("SELECT count(DISTINCT id) FROM copy", ROWS - bad),
    ] {
        let found: i64 = sink.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(u64::try_from(found).unwrap(), expected, "{sql}");
    }
    println!(
        "{:<34} {:>12} {bad:>10} {:>10.1} MiB",
        "",
        count(&["rows_per_second"]),
        count(&["peak_memory_bytes"]) as f64 / (1024.0 * 1024.0)
    );
}

fn config(from: &TestDatabase, to: &TestDatabase, bad: u64) -> String {
    let server = |at: &TestDatabase| {
        format!(
            "host: \"{}\", port: {}, database: \"{}\", credentials: {{ username: \"{}\", password: \"{}\" }}, tls: {{ mode: disable }}",
            at.host, at.port, at.name, at.user, at.password
        )
    };
    format!(
        "source:\n  type: postgres\n  shards: [{{ name: a, {} }}]\n  query: {QUERY}\n\
         sink: {{ type: postgres, {}, table: copy }}\ncursor: {{ settle_delay: 0s }}\n\
         error_handling: {{ max_bad_rows: {bad} }}\n",
        server(from),
        server(to)
    )
}
