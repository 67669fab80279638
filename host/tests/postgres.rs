//! The main job into a real `PostgreSQL`: every row once, in every write mode.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod logins;

use etl_testkit::postgres::{PostgresOptions, PostgresServer, TestDatabase, Tls};
use etl_testkit::project::Project;
use logins::{append, assert_same, config, project, sink_rows, source_rows};

async fn database() -> TestDatabase {
    PostgresServer::shared().create_database().await.unwrap()
}

async fn execute(database: &TestDatabase, sql: &str) {
    database
        .connect()
        .await
        .unwrap()
        .batch_execute(sql)
        .await
        .unwrap();
}

async fn number(database: &TestDatabase, sql: &str) -> i64 {
    database
        .connect()
        .await
        .unwrap()
        .query_one(sql, &[])
        .await
        .unwrap()
        .get(0)
}

fn loaded(report: &serde_json::Value) -> u64 {
    report["rows"]["loaded"].as_u64().unwrap()
}

const RUN: &[&str] = &["run", "login-analytics"];

#[tokio::test]
async fn append_loads_every_row_once_and_then_only_the_new_ones() {
    let (project, database) = (project(5_000), database().await);
    config(&project, &database, "", "");
    let first = project.result(RUN, 0);
    assert_eq!(first["status"], "succeeded");
    assert_eq!(loaded(&first), 10_000);
    assert_same(&sink_rows(&database).await, &source_rows(&project));

    assert_eq!(loaded(&project.result(RUN, 0)), 0);
    append(&project, 1_000);
    let third = project.result(RUN, 0);
    assert_eq!(loaded(&third), 1_000);
    assert_eq!(third["partitions"][0]["rows"]["loaded"], 1_000);
    assert_same(&sink_rows(&database).await, &source_rows(&project));
}

#[tokio::test]
async fn upsert_keeps_one_row_per_key_however_often_it_runs() {
    let (project, database) = (project(3_000), database().await);
    config(
        &project,
        &database,
        "write_mode: upsert\n  key: [source_shard, login_id]",
        logins::QUERY_WITH_ID,
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 6_000);
    assert_same(&sink_rows(&database).await, &source_rows(&project));

    // Rows that were there before come again, changed, and are read again from the start.
    project.execute(
        "data/shard-2.db",
        "UPDATE user_logins SET user_agent = 'changed' WHERE login_id % 7 = 0",
    );
    append(&project, 100);
    let report = project.result(&["run", "login-analytics", "--full-refresh"], 0);
    assert_eq!(loaded(&report), 6_100);
    assert_same(&sink_rows(&database).await, &source_rows(&project));
}

#[tokio::test]
async fn replace_swaps_the_rows_in_only_when_all_partitions_succeeded() {
    let (project, database) = (project(2_000), database().await);
    config(
        &project,
        &database,
        "write_mode: replace",
        "error_handling: { max_retries: 0 }",
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 4_000);
    let before = source_rows(&project);
    assert_same(&sink_rows(&database).await, &before);

    // One shard fails: the table stays as it was, and the report does not claim rows.
    append(&project, 500);
    std::fs::rename(
        project.path("data/shard-2.db"),
        project.path("data/away.db"),
    )
    .unwrap();
    let failed = project.result(RUN, 3);
    assert_eq!(failed["status"], "failed");
    assert_eq!(loaded(&failed), 0);
    assert_same(&sink_rows(&database).await, &before);

    // Rows that are gone from the source are gone from the sink.
    std::fs::rename(
        project.path("data/away.db"),
        project.path("data/shard-2.db"),
    )
    .unwrap();
    project.execute(
        "data/shard-2.db",
        "DELETE FROM user_logins WHERE login_id <= 100",
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 4_400);
    assert_same(&sink_rows(&database).await, &source_rows(&project));
    let shadows =
        "SELECT count(*) FROM pg_tables WHERE schemaname = 'etl_host' AND tablename LIKE 'shadow%'";
    assert_eq!(number(&database, shadows).await, 0);
}

#[tokio::test]
async fn a_sick_shard_neither_stops_the_other_nor_loses_its_rows() {
    let (project, database) = (project(1_000), database().await);
    config(
        &project,
        &database,
        "",
        "error_handling: { max_retries: 1, retry_delay: 10ms }",
    );
    std::fs::rename(
        project.path("data/shard-1.db"),
        project.path("data/away.db"),
    )
    .unwrap();
    let report = project.result(RUN, 4);
    assert_eq!(report["status"], "partial");
    assert_eq!(loaded(&report), 1_000);
    let error = report["partitions"][0]["error"]["message"]
        .as_str()
        .unwrap();
    assert!(
        error.contains("partition shard-1, attempt 1") && error.contains("does not exist"),
        "{error}"
    );

    std::fs::rename(
        project.path("data/away.db"),
        project.path("data/shard-1.db"),
    )
    .unwrap();
    assert_eq!(loaded(&project.result(RUN, 0)), 1_000);
    assert_same(&sink_rows(&database).await, &source_rows(&project));
}

#[tokio::test]
async fn going_back_with_append_deletes_before_it_loads() {
    let (project, database) = (project(1_000), database().await);
    config(&project, &database, "", "");
    project.result(RUN, 0);
    let checkpoints =
        "SELECT string_agg(partition || cursor, ',' ORDER BY partition) FROM etl_host.checkpoints";
    let cursor = |row: tokio_postgres::Row| -> String { row.get(0) };
    let client = database.connect().await.unwrap();
    let before = cursor(client.query_one(checkpoints, &[]).await.unwrap());

    for flags in [
        &["--full-refresh"][..],
        &["--since", "2026-01-15"],
        &["--since", "2026-01-15", "--until", "2026-01-20T12:00:00"],
    ] {
        let args: Vec<&str> = RUN.iter().chain(flags).copied().collect();
        let report = project.result(&args, 0);
        assert!(loaded(&report) > 0, "{flags:?}");
        assert_same(&sink_rows(&database).await, &source_rows(&project));
        assert_eq!(
            cursor(client.query_one(checkpoints, &[]).await.unwrap()),
            before,
            "{flags:?}"
        );
    }
}

#[tokio::test]
async fn going_back_without_a_partition_column_is_refused() {
    let (project, database) = (project(10), database().await);
    config(&project, &database, "", "");
    let yaml = std::fs::read_to_string(project.path("plugins/login-analytics.yaml")).unwrap();
    project.config(
        "login-analytics",
        &yaml.replace("partition_column: source_shard", "partition_column: null"),
    );
    project.result(RUN, 0);
    let refused = project.result(&["run", "login-analytics", "--full-refresh"], 2);
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("partition_column")
    );
    let doubled = project.result(
        &[
            "run",
            "login-analytics",
            "--full-refresh",
            "--allow-duplicates",
        ],
        0,
    );
    assert_eq!(loaded(&doubled), 20);
    assert_eq!(
        number(&database, "SELECT count(*) FROM login_analytics").await,
        40
    );
}

#[tokio::test]
async fn until_and_limit_move_the_checkpoint_no_further_than_they_read() {
    let (project, database) = (project(1_000), database().await);
    config(&project, &database, "", "");
    let part = project.result(&["run", "login-analytics", "--until", "2026-01-10"], 0);
    assert!(loaded(&part) > 0 && loaded(&part) < 2_000);
    let limited = project.result(&["run", "login-analytics", "--limit", "100"], 0);
    assert!(
        loaded(&limited) > 100 && loaded(&limited) <= 200,
        "{}",
        loaded(&limited)
    );
    project.result(RUN, 0);
    assert_same(&sink_rows(&database).await, &source_rows(&project));
}

#[tokio::test]
async fn a_dry_run_writes_nothing_at_all() {
    let (project, database) = (project(100), database().await);
    config(&project, &database, "", "");
    let report = project.result(&["run", "login-analytics", "--dry-run"], 0);
    assert_eq!(report["rows"]["extracted"], 200);
    assert_eq!(report["dry_run"], true);
    let made = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE n.nspname = 'etl_host' OR c.relname = 'login_analytics'";
    assert_eq!(number(&database, made).await, 0);
}

#[tokio::test]
async fn names_are_quoted_and_schemas_are_honoured() {
    let (project, database) = (project(50), database().await);
    execute(&database, r#"CREATE SCHEMA "Odd ""Schema""; DROP""#).await;
    config(&project, &database, "", "");
    let yaml = std::fs::read_to_string(project.path("plugins/login-analytics.yaml")).unwrap();
    let table = r#""Odd ""Schema""; DROP"."Select""#;
    project.config(
        "login-analytics",
        &yaml.replace("table: login_analytics", &format!("table: '{table}'")),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 100);
    assert_eq!(
        number(&database, &format!("SELECT count(*) FROM {table}")).await,
        100
    );
}

#[tokio::test]
async fn a_table_that_does_not_fit_is_named_with_what_to_run() {
    let (project, database) = (project(10), database().await);
    config(&project, &database, "", "");
    execute(
        &database,
        "CREATE TABLE login_analytics (user_id text, login_time timestamp, must_have int NOT NULL)",
    )
    .await;
    let missing = project.result(RUN, 1);
    let failure = &missing["partitions"][0]["error"];
    assert!(
        failure["message"]
            .as_str()
            .unwrap()
            .contains("has no column"),
        "{failure}"
    );
    assert!(
        failure["next_step"]
            .as_str()
            .unwrap()
            .contains("ALTER TABLE"),
        "{failure}"
    );

    config(
        &project,
        &database,
        "",
        "error_handling: { on_schema_change: evolve }",
    );
    let unfit = project.result(RUN, 1);
    let message = unfit["partitions"][0]["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("`user_id` is text") && message.contains("`must_have` is NOT NULL"),
        "{message}"
    );

    execute(
        &database,
        "ALTER TABLE login_analytics ALTER user_id TYPE numeric USING NULL, DROP must_have",
    )
    .await;
    assert_eq!(loaded(&project.result(RUN, 0)), 20);
    assert_same(&sink_rows(&database).await, &source_rows(&project));
}

#[tokio::test]
async fn an_upsert_into_a_table_without_the_key_says_which_index_to_make() {
    let (project, database) = (project(10), database().await);
    config(&project, &database, "", logins::QUERY_WITH_ID);
    project.result(RUN, 0);
    config(
        &project,
        &database,
        "write_mode: upsert\n  key: [source_shard, login_id]",
        logins::QUERY_WITH_ID,
    );
    let report = project.result(RUN, 0);
    assert_eq!(loaded(&report), 0);
    append(&project, 5);
    let report = project.result(RUN, 4);
    let next = report["partitions"][0]["error"]["next_step"]
        .as_str()
        .unwrap();
    assert!(next.contains("CREATE UNIQUE INDEX"), "{next}");
    execute(
        &database,
        "CREATE UNIQUE INDEX ON login_analytics (login_id, source_shard)",
    )
    .await;
    assert_eq!(loaded(&project.result(RUN, 0)), 5);
}

#[tokio::test]
async fn rows_that_postgres_cannot_hold_go_into_quarantine_with_their_bytes() {
    let (project, database) = (project(100), database().await);
    project.execute(
        "data/shard-1.db",
        "UPDATE user_logins SET user_agent = 'evil' || char(0) || 'agent' WHERE login_id = 50;
         UPDATE user_logins SET ip_address = x'ff' WHERE login_id = 60",
    );
    config(
        &project,
        &database,
        "",
        "error_handling: { max_bad_rows: 1, max_retries: 0 }",
    );
    let report = project.result(RUN, 4);
    assert!(
        report["partitions"][0]["error"]["message"]
            .as_str()
            .unwrap()
            .contains("2 of"),
        "{report}"
    );

    config(
        &project,
        &database,
        "",
        "error_handling: { max_bad_rows: 2, max_retries: 0 }",
    );
    let report = project.result(RUN, 0);
    assert_eq!(report["rows"]["quarantined"], 2);
    assert_eq!(report["rows"]["extracted"], 100);
    assert_eq!(
        number(&database, "SELECT count(*) FROM login_analytics").await,
        198
    );
    let client = database.connect().await.unwrap();
    let letters = client
        .query(
            "SELECT stage, column_name, reason, payload FROM etl_host.dead_letters ORDER BY stage",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(letters.len(), 2);
    let text = |row: usize, column: &str| -> String { letters[row].get(column) };
    assert_eq!(
        (text(0, "stage"), text(0, "column_name")),
        ("extract".into(), "ip_address".into())
    );
    assert_eq!(
        (text(1, "stage"), text(1, "column_name")),
        ("load".into(), "user_agent".into())
    );
    assert!(text(1, "reason").contains("U+0000"));
    let payload: serde_json::Value = serde_json::from_slice(letters[1].get("payload")).unwrap();
    assert_eq!(payload["user_agent"], "evil\0agent");
}

#[tokio::test]
async fn a_wrong_password_is_not_tried_again_and_shown_nowhere() {
    let (project, database) = (project(10), database().await);
    config(&project, &database, "", "");
    project.write(".env", "SINK_PASSWORD=very-Secret-42\n");
    let finished = project
        .program(&["-vv", "--output", "json", "run", "login-analytics"])
        .run()
        .unwrap();
    let finished = finished.require_code(3).unwrap();
    let report = finished.json().unwrap();
    assert_eq!(report["attempts"], 2, "one for each partition");
    assert!(
        report["partitions"][0]["error"]["next_step"]
            .as_str()
            .unwrap()
            .contains("password")
    );
    for args in [
        &["info", "login-analytics"][..],
        &["--output", "json", "info", "login-analytics"],
        &["list"],
    ] {
        let shown = project.program(args).run().unwrap();
        assert!(
            !format!("{}{}", shown.stdout, shown.stderr).contains("very-Secret-42"),
            "{args:?}"
        );
    }
    assert!(!format!("{}{}", finished.stdout, finished.stderr).contains("very-Secret-42"));
}

#[tokio::test]
async fn shards_that_swap_places_do_not_inherit_each_other_s_position() {
    let (project, database) = (project(100), database().await);
    config(&project, &database, "", "");
    project.result(RUN, 0);
    let swapped = "source: { shards: [{ path: data/shard-2.db }, { path: data/shard-1.db }] }";
    config(&project, &database, "", swapped);
    let report = project.result(RUN, 1);
    let failure = &report["partitions"][0]["error"];
    assert!(
        failure["message"]
            .as_str()
            .unwrap()
            .contains("belongs to sqlite:"),
        "{failure}"
    );
    assert!(
        failure["next_step"]
            .as_str()
            .unwrap()
            .contains("--accept-fingerprint"),
        "{failure}"
    );
    config(&project, &database, "", "");
    assert_eq!(loaded(&project.result(RUN, 0)), 0);

    // A shard that really moved is accepted by hand.
    std::fs::rename(
        project.path("data/shard-2.db"),
        project.path("data/moved.db"),
    )
    .unwrap();
    config(
        &project,
        &database,
        "",
        "source: { shards: [{ path: data/shard-1.db }, { path: data/moved.db }] }",
    );
    project.result(RUN, 4);
    project.result(
        &[
            "checkpoint",
            "set",
            "login-analytics",
            "--partition",
            "shard-2",
            "--accept-fingerprint",
        ],
        0,
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 0);
    // The run has taken the new place over, although it had no rows: another one is refused again.
    config(
        &project,
        &database,
        "",
        "source: { shards: [{ path: data/shard-1.db }, { path: data/shard-1.db }] }",
    );
    project.result(RUN, 4);
    assert_eq!(
        number(&database, "SELECT count(*) FROM login_analytics").await,
        200
    );
}

#[tokio::test]
async fn two_runs_at_once_load_every_row_once() {
    for mode in ["append", "replace"] {
        two_runs_at_once(mode).await;
    }
}

async fn two_runs_at_once(mode: &str) {
    let (project, database) = (project(4_000), database().await);
    config(
        &project,
        &database,
        &format!("write_mode: {mode}"),
        "tuning: { batch_rows: 64, flush_bytes: 65536, flushes_per_commit: 1, lease: 3s }",
    );
    let start = || {
        project
            .program(&["--output", "json", "run", "login-analytics"])
            .start()
            .unwrap()
    };
    let (one, other) = (start(), start());
    for finished in [one.finish().unwrap(), other.finish().unwrap()] {
        // Whoever came second waits for the first, or says so; it never claims a success that it did not have.
        let report = finished.json().unwrap();
        let fenced = report["partitions"]
            .as_array()
            .unwrap_or_else(|| panic!("{report}"))
            .iter()
            .filter(|partition| partition["status"] == "failed");
        for partition in fenced {
            let message = partition["error"]["message"].as_str().unwrap();
            assert!(message.contains("works on partition"), "{message}");
        }
    }
    project.result(RUN, 0);
    assert_same(&sink_rows(&database).await, &source_rows(&project));
}

#[tokio::test]
async fn tls_is_required_and_verified_against_the_authority() {
    let options = PostgresOptions {
        tls: Tls::Required,
        ..PostgresOptions::default()
    };
    let server = PostgresServer::start(&options).unwrap();
    let database = server.create_database().await.unwrap();
    let project = project(10);
    let run = |tls: &str, code: i32| {
        config(
            &project,
            &database,
            tls,
            "error_handling: { max_retries: 0 }",
        );
        project.result(RUN, code)
    };
    let ca = server.ca_file().unwrap().display().to_string();
    run("tls: { mode: disable }", 3);
    let unknown = run("tls: { mode: require }", 3);
    let message = unknown["partitions"][0]["error"]["message"]
        .as_str()
        .unwrap();
    assert!(message.to_lowercase().contains("certificate"), "{message}");
    assert_eq!(
        loaded(&run(
            &format!("tls: {{ mode: require, ca_file: '{ca}' }}"),
            0
        )),
        20
    );
    assert_eq!(
        loaded(&run(
            "tls: { mode: require, trust_server_certificate: true }",
            0
        )),
        0
    );
}

#[tokio::test]
async fn a_stop_signal_commits_what_is_in_flight_and_the_next_run_goes_on() {
    for (signal, code) in [
        (etl_testkit::process::Signal::INT, 130),
        (etl_testkit::process::Signal::TERM, 143),
    ] {
        let (project, database) = (project(20_000), database().await);
        config(
            &project,
            &database,
            "",
            "tuning: { batch_rows: 16, flush_bytes: 65536, flushes_per_commit: 1 }",
        );
        let mut running = project
            .program(&["--output", "json", "run", "login-analytics"])
            .start()
            .unwrap();
        wait_for_rows(&database).await;
        running.signal(signal).unwrap();
        running
            .wait_for_stderr(|line| line.starts_with("stopping"))
            .unwrap();
        let finished = running.finish().unwrap().require_code(code).unwrap();
        let report = finished.json().unwrap();
        assert_eq!(report["status"], "cancelled");
        let there = number(&database, "SELECT count(*) FROM login_analytics").await;
        assert_eq!(there.cast_unsigned(), loaded(&report));
        project.result(RUN, 0);
        assert_same(&sink_rows(&database).await, &source_rows(&project));
    }
}

#[tokio::test]
async fn a_server_that_restarts_in_the_middle_of_a_run_is_waited_for() {
    // One that keeps what it has committed: the other tests' servers trade that for speed.
    let options = PostgresOptions {
        fsync: true,
        ..PostgresOptions::default()
    };
    let mut server = PostgresServer::start(&options).unwrap();
    let database = server.create_database().await.unwrap();
    let project = project(20_000);
    config(
        &project,
        &database,
        "",
        "tuning: { batch_rows: 16, flush_bytes: 65536, flushes_per_commit: 1 }
error_handling: { max_retries: 20, retry_delay: 200ms, max_retry_delay: 1s }",
    );
    let running = project
        .program(&["--output", "json", "run", "login-analytics"])
        .start()
        .unwrap();
    wait_for_rows(&database).await;
    server.restart_immediate().unwrap();
    let report = running
        .finish()
        .unwrap()
        .require_code(0)
        .unwrap()
        .json()
        .unwrap();
    assert!(report["attempts"].as_u64().unwrap() > 2, "{report}");
    assert_eq!(loaded(&report), 40_000);
    assert_same(&sink_rows(&database).await, &source_rows(&project));
}

/// Waits until a first chunk is committed.
async fn wait_for_rows(database: &TestDatabase) {
    let client = database.connect().await.unwrap();
    loop {
        let there: bool = client
            .query_one("SELECT to_regclass('login_analytics') IS NOT NULL", &[])
            .await
            .unwrap()
            .get(0);
        if there {
            let rows: i64 = client
                .query_one("SELECT count(*) FROM login_analytics", &[])
                .await
                .unwrap()
                .get(0);
            if rows > 0 {
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn five_mistakes_are_told_together_with_their_places() {
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("login-analytics");
    project.config(
        "login-analytics",
        "sink:
  type: postgres
  host: db
  port: 70000
  database: d
  credentials: { username: u, password: hunter2-hunter2 }
  tabel: x
  write_mode: upsrt
cursor: { column: login_time, kind: timestamp, settle_delay: 5x }
settings: { geoip_databas: /tmp/x }
error_handling: { max_retries: many }
",
    );
    let finished = project
        .run(&["validate", "login-analytics"])
        .require_code(2)
        .unwrap();
    let problems = finished.json().unwrap()["pipelines"][0]["error"]["problems"].clone();
    let lines: Vec<u64> = problems
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [4, 7, 8, 9, 11], "{problems:#}");
    assert!(!finished.stdout.contains("hunter2"));
    let text = project
        .program(&["run", "login-analytics"])
        .run()
        .unwrap()
        .require_code(2)
        .unwrap();
    assert!(
        text.stderr.contains("plugins/login-analytics.yaml:4:"),
        "{}",
        text.stderr
    );
    assert!(!text.stderr.contains("hunter2"));
}
