//! The flagship case: SQL Server shards into a real `PostgreSQL`, every row once, whatever cursor they are read by.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[macro_use]
mod shards;

use etl_testkit::postgres::{PostgresServer, TestDatabase};
use etl_testkit::project::Project;
use etl_testkit::stand_in::{StandInOptions, StandInServer, StandInTls};
use serde_json::Value;
use shards::{
    DATABASE, Driver, LOGINS, Login, PASSWORD, RUN, Shards, assert_same, copying, expected,
    flagship, logins, postgres_sink, sink_rows,
};

async fn database() -> TestDatabase {
    PostgresServer::shared().create_database().await.unwrap()
}

fn loaded(report: &Value) -> u64 {
    report["rows"]["loaded"].as_u64().unwrap()
}

fn message(report: &Value) -> &str {
    report["partitions"][0]["error"]["message"]
        .as_str()
        .unwrap()
}

/// Two shards with so many logins each.
async fn two_shards(driver: Driver, count: u32) -> (Shards, Vec<Login>, Vec<Login>) {
    filled(Shards::start(driver, 2).await, count).await
}

async fn filled(shards: Shards, count: u32) -> (Shards, Vec<Login>, Vec<Login>) {
    let (eu, us) = (logins(3_600, count), logins(7_200, count));
    for (index, rows) in [&eu, &us].into_iter().enumerate() {
        shards.execute(index, LOGINS).await;
        shards.insert(index, rows).await;
    }
    (shards, eu, us)
}

async fn two_shards_arrive_exactly_and_then_only_what_is_new(driver: Driver) {
    let (shards, mut eu, us) = two_shards(driver, 5_000).await;
    let (project, database) = (flagship(), database().await);
    shards.flagship(&project, &database, "");
    let report = project.result(RUN, 0);
    assert_eq!(
        (report["status"].as_str(), loaded(&report)),
        (Some("succeeded"), 10_000),
        "{report}"
    );
    assert_same(
        &sink_rows(&database).await,
        &expected([("eu", &eu[..]), ("us", &us[..])]),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 0);

    let newer = logins(10_800, 700);
    shards.insert(0, &newer).await;
    eu.extend(newer);
    assert_eq!(loaded(&project.result(RUN, 0)), 700);
    assert_same(
        &sink_rows(&database).await,
        &expected([("eu", &eu[..]), ("us", &us[..])]),
    );
}

async fn a_limit_never_cuts_rows_of_the_same_time_apart(driver: Driver) {
    let (shards, eu, us) = two_shards(driver, 1_000).await;
    let (project, database) = (flagship(), database().await);
    shards.flagship(&project, &database, "");
    for _ in 0..9 {
        project.result(&["run", "login-analytics", "--limit", "124"], 0);
    }
    project.result(RUN, 0);
    assert_same(
        &sink_rows(&database).await,
        &expected([("eu", &eu[..]), ("us", &us[..])]),
    );
}

async fn a_late_row_within_the_settle_delay_is_not_lost(driver: Driver) {
    let shards = Shards::start(driver, 1).await;
    shards.execute(0, LOGINS).await;
    let add = |minutes: u32, user: u32| {
        format!(
            "INSERT INTO user_logins (user_id, login_time) VALUES ({user}, DATEADD(minute, -{minutes}, SYSUTCDATETIME()))"
        )
    };
    shards.execute(0, &add(90, 1)).await;
    shards.execute(0, &add(30, 2)).await;
    let (project, database) = (flagship(), database().await);
    let patient = "cursor: { column: login_time, kind: timestamp, settle_delay: 1h }\n";
    shards.flagship(&project, &database, patient);
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    // It was written before the second row became visible to a reader without patience.
    shards.execute(0, &add(40, 3)).await;
    let eager = "cursor: { column: login_time, kind: timestamp, settle_delay: 0s }\n";
    shards.flagship(&project, &database, eager);
    assert_eq!(loaded(&project.result(RUN, 0)), 2);
    assert_eq!(sink_rows(&database).await.len(), 3);
}

/// A pipeline that copies `t` by `cursor`, into `copy`.
fn copy_by(
    shards: &Shards,
    project: &Project,
    database: &TestDatabase,
    cursor: &str,
    query: &str,
    sink: &str,
) {
    let delay = if cursor.contains("integer") {
        "0s"
    } else {
        "5s"
    };
    let source = shards.source(project);
    let target = postgres_sink(project, database, "copy");
    project.config(
        "copy",
        &format!("{source}  query: \"{query}\"\n{target}{sink}cursor: {{ {cursor}, settle_delay: {delay} }}\n"),
    );
}

async fn ids(database: &TestDatabase) -> Vec<i64> {
    let client = database.connect().await.unwrap();
    let rows = client
        .query("SELECT id::bigint FROM copy ORDER BY id", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// The boundary row must not come back, and the next tick must not be lost, whatever the column's type.
async fn each_type_of_time_is_a_cursor_to_its_last_digit(driver: Driver) {
    for (declared, times, next) in [
        (
            "datetime",
            ["2024-01-31T10:00:00.000", "2024-01-31T10:00:00.003"],
            "2024-01-31T10:00:00.007",
        ),
        (
            "smalldatetime",
            ["2024-01-31T10:00:00", "2024-01-31T10:01:00"],
            "2024-01-31T10:02:00",
        ),
        ("date", ["2024-01-30", "2024-01-31"], "2024-02-01"),
        (
            "datetime2(0)",
            ["2024-01-31T10:00:00", "2024-01-31T10:00:01"],
            "2024-01-31T10:00:02",
        ),
        (
            "datetime2(7)",
            ["2024-01-31T10:00:00.1234567", "2024-01-31T10:00:00.1234568"],
            "2024-01-31T10:00:00.1234569",
        ),
        (
            "datetimeoffset(7)",
            [
                "2024-01-31T10:00:00.1234567+02:00",
                "2024-01-31T08:00:00.1234568+00:00",
            ],
            "2024-01-31T03:00:00.1234569-05:00",
        ),
    ] {
        let shards = Shards::start(driver, 1).await;
        let seed = format!(
            "CREATE TABLE t (id int NOT NULL PRIMARY KEY, at {declared} NOT NULL); INSERT INTO t VALUES (1, '{}'), (2, '{}')",
            times[0], times[1]
        );
        shards.execute(0, &seed).await;
        let (project, database) = (copying(), database().await);
        let query = "SELECT id, at FROM t WHERE at > @from AND at <= @until ORDER BY at";
        copy_by(
            &shards,
            &project,
            &database,
            "column: at, kind: timestamp",
            query,
            "",
        );
        assert_eq!(
            loaded(&project.result(&["run", "copy"], 0)),
            2,
            "{declared}"
        );
        assert_eq!(
            loaded(&project.result(&["run", "copy"], 0)),
            0,
            "{declared}"
        );
        shards
            .execute(0, &format!("INSERT INTO t VALUES (3, '{next}')"))
            .await;
        assert_eq!(
            loaded(&project.result(&["run", "copy"], 0)),
            1,
            "{declared}"
        );
        assert_eq!(ids(&database).await, [1, 2, 3], "{declared}");
    }
}

async fn whole_numbers_are_a_cursor_whether_or_not_the_query_is_ordered(driver: Driver) {
    for (declared, order) in [
        ("int", " ORDER BY id"),
        ("bigint", ""),
        ("smallint", " ORDER BY id"),
        ("decimal(18,0)", " ORDER BY id"),
    ] {
        let shards = Shards::start(driver, 1).await;
        let seed = format!(
            "CREATE TABLE t (id {declared} NOT NULL PRIMARY KEY, v varchar(9)); INSERT INTO t VALUES (1, 'a'), (300, 'b')"
        );
        shards.execute(0, &seed).await;
        let (project, database) = (copying(), database().await);
        let query = format!("SELECT id, v FROM t WHERE id > @from AND id <= @until{order}");
        copy_by(
            &shards,
            &project,
            &database,
            "column: id, kind: integer",
            &query,
            "",
        );
        assert_eq!(
            loaded(&project.result(&["run", "copy"], 0)),
            2,
            "{declared}"
        );
        shards.execute(0, "INSERT INTO t VALUES (301, 'c')").await;
        assert_eq!(
            loaded(&project.result(&["run", "copy"], 0)),
            1,
            "{declared}"
        );
        assert_eq!(
            loaded(&project.result(&["run", "copy"], 0)),
            0,
            "{declared}"
        );
        assert_eq!(ids(&database).await, [1, 300, 301], "{declared}");
    }
}

/// A transaction that commits after the reader has passed leaves no hole: `MIN_ACTIVE_ROWVERSION` holds the reader back.
async fn a_rowversion_cursor_finds_updates_and_waits_for_open_transactions(driver: Driver) {
    let shards = Shards::start(driver, 1).await;
    shards.execute(0, "CREATE TABLE t (id int NOT NULL PRIMARY KEY, v varchar(9), version rowversion NOT NULL)").await;
    shards
        .execute(
            0,
            "INSERT INTO t (id, v) VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        )
        .await;
    let (project, database) = (copying(), database().await);
    let query =
        "SELECT id, v, version FROM t WHERE version > @from AND version <= @until ORDER BY version";
    let upsert = "  write_mode: upsert\n  key: [id]\n";
    copy_by(
        &shards,
        &project,
        &database,
        "column: version, kind: rowversion",
        query,
        upsert,
    );
    assert_eq!(loaded(&project.result(&["run", "copy"], 0)), 3);

    let mut slow = shards.connect(0).await;
    shards::say(&mut slow, "BEGIN TRANSACTION").await;
    shards::say(&mut slow, "INSERT INTO t (id, v) VALUES (4, 'slow')").await;
    shards
        .execute(0, "INSERT INTO t (id, v) VALUES (5, 'fast')")
        .await;
    shards
        .execute(0, "UPDATE t SET v = 'new' WHERE id = 1")
        .await;
    assert_eq!(
        loaded(&project.result(&["run", "copy"], 0)),
        0,
        "nothing is settled yet"
    );
    shards::say(&mut slow, "COMMIT").await;
    assert_eq!(loaded(&project.result(&["run", "copy"], 0)), 3);
    assert_eq!(loaded(&project.result(&["run", "copy"], 0)), 0);
    let client = database.connect().await.unwrap();
    let rows = client
        .query("SELECT id, v FROM copy ORDER BY id", &[])
        .await
        .unwrap();
    let found: Vec<(i32, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let wanted = [(1, "new"), (2, "b"), (3, "c"), (4, "slow"), (5, "fast")];
    assert_eq!(found, wanted.map(|(id, v)| (id, v.to_owned())));
}

async fn a_keyset_goes_on_inside_a_time(driver: Driver) {
    let shards = Shards::start(driver, 1).await;
    shards
        .execute(
            0,
            "CREATE TABLE t (id int NOT NULL PRIMARY KEY, at datetime2(0) NOT NULL)",
        )
        .await;
    shards.execute(0, "INSERT INTO t VALUES (1, '2024-01-31T10:00:00'), (2, '2024-01-31T10:00:00'), (9, '2024-01-31T09:00:00')").await;
    let (project, database) = (copying(), database().await);
    let query = "SELECT id, at FROM t WHERE (at > @from OR (at = @from AND id > @fromId)) AND at <= @until ORDER BY at, id";
    copy_by(
        &shards,
        &project,
        &database,
        "column: at, kind: timestamp, id: id",
        query,
        "",
    );
    let report = project.result(&["run", "copy", "--limit", "3"], 0);
    assert_eq!(
        report["partitions"][0]["cursor_to"], "2024-01-31T10:00:00,1",
        "{report}"
    );
    shards
        .execute(0, "INSERT INTO t VALUES (3, '2024-01-31T10:00:00')")
        .await;
    assert_eq!(loaded(&project.result(&["run", "copy"], 0)), 2);
    shards
        .execute(0, "INSERT INTO t VALUES (4, '2024-01-31T10:00:00')")
        .await;
    assert_eq!(loaded(&project.result(&["run", "copy"], 0)), 1);
    assert_eq!(ids(&database).await, [1, 2, 3, 4, 9]);
}

async fn shards_that_swapped_places_stop_the_run(driver: Driver) {
    let (shards, eu, us) = filled(Shards::stand_in(driver, 2), 100).await;
    let (project, database) = (flagship(), database().await);
    shards.flagship(&project, &database, "");
    project.result(RUN, 0);
    shards.flagship_in_order(&project, &database, &[1, 0], "");
    let report = project.result(RUN, 1);
    let text = message(&report);
    assert!(text.contains("belongs to sqlserver:SHARD1/logins, but the configuration now names sqlserver:SHARD2/logins"), "{text}");
    assert!(
        report["partitions"][0]["error"]["next_step"]
            .as_str()
            .unwrap()
            .contains("swap them back")
    );
    assert_same(
        &sink_rows(&database).await,
        &expected([("eu", &eu[..]), ("us", &us[..])]),
    );
}

async fn one_shard_down_is_a_partial_run_and_the_next_one_catches_up(driver: Driver) {
    let (mut shards, eu, us) = filled(Shards::stand_in(driver, 2), 300).await;
    let (project, database) = (flagship(), database().await);
    shards.flagship(
        &project,
        &database,
        "error_handling: { max_retries: 1, retry_delay: 10ms }\n",
    );
    shards.server_mut(1).stop().unwrap();
    let report = project.result(RUN, 4);
    assert_eq!(report["status"], "partial");
    assert_same(&sink_rows(&database).await, &expected([("eu", &eu[..])]));
    shards.server_mut(1).start_again().unwrap();
    assert_eq!(loaded(&project.result(RUN, 0)), 300);
    assert_same(
        &sink_rows(&database).await,
        &expected([("eu", &eu[..]), ("us", &us[..])]),
    );
}

async fn a_wrong_password_is_tried_once_and_shown_nowhere(driver: Driver) {
    let (shards, ..) = filled(Shards::stand_in(driver, 2), 10).await;
    let (project, database) = (flagship(), database().await);
    shards.flagship(&project, &database, "");
    let path = project.path("plugins/login-analytics.yaml");
    let yaml = std::fs::read_to_string(&path)
        .unwrap()
        .replace(PASSWORD, "not-the-Passw0rd");
    std::fs::write(&path, yaml).unwrap();
    let finished = project.run(RUN).require_code(3).unwrap();
    let report = finished.json().unwrap();
    assert!(
        message(&report).contains("SQL Server error 18456"),
        "{report}"
    );
    assert_eq!(report["partitions"][0]["attempts"], 1);
    for server in [shards.server(0), shards.server(1)] {
        assert_eq!(server.logins().len(), 1);
    }
    for said in [&finished.stdout, &finished.stderr] {
        assert!(!said.contains("Passw0rd") && !said.contains(PASSWORD));
    }
}

/// A shard with other TLS than usual, and what the configuration says of it. `AUTHORITY` stands for trust in the one that
/// the server has its certificate from: by `ca_file`, or by the environment where the driver knows no other way.
async fn run_with_tls(
    driver: Driver,
    offered: StandInTls,
    tls: &str,
    code: i32,
) -> (StandInServer, Value) {
    let server = StandInServer::start(StandInOptions {
        databases: vec![DATABASE.to_owned()],
        tls: offered,
        ..StandInOptions::default()
    })
    .unwrap();
    server
        .execute(
            DATABASE,
            "CREATE TABLE t (id int NOT NULL PRIMARY KEY); INSERT INTO t VALUES (1)",
        )
        .unwrap();
    let (project, database) = (copying(), database().await);
    let ca = project.write("ca.pem", server.ca_pem().unwrap_or_default());
    let sink = postgres_sink(&project, &database, "copy");
    let by_environment = driver != Driver::Tiberius && tls.contains("AUTHORITY");
    let tls = if by_environment {
        tls.replace(", AUTHORITY", "")
    } else {
        tls.replace("AUTHORITY", &format!("ca_file: '{}'", ca.display()))
    };
    project.config("copy", &format!(
        "source:\n  type: sqlserver\n  driver: {}\n  query: SELECT id FROM t WHERE id > @from AND id <= @until ORDER BY id\n  shards:\n    \
         - {{ name: eu, host: \"{}\", port: {}, database: {DATABASE}, application_intent: read-only, packet_size: 8000, tls: {{ {tls} }} }}\n  \
         credentials: {{ username: sa, password: \"{}\" }}\n{sink}error_handling: {{ max_retries: 0 }}\n",
        driver.name(), server.host, server.port, server.password
    ));
    let mut program = project.program(&["--output", "json", "run", "copy"]);
    if by_environment {
        program = program.env("SSL_CERT_FILE", ca);
    }
    let finished = program.run().unwrap().require_code(code).unwrap();
    (server, finished.json().unwrap())
}

async fn tls_is_what_the_configuration_says(driver: Driver) {
    for (offered, tls, encrypted) in [
        (StandInTls::OptionalFresh, "mode: require, AUTHORITY", true),
        (StandInTls::RequiredFresh, "mode: require, AUTHORITY", true),
        (
            StandInTls::RequiredFresh,
            "mode: require, trust_server_certificate: true",
            true,
        ),
        (StandInTls::OptionalFresh, "mode: prefer", true),
        (StandInTls::Off, "mode: prefer", false),
        (StandInTls::OptionalFresh, "mode: disable", false),
        (StandInTls::Off, "mode: disable", false),
    ] {
        let case = format!("{offered:?} {tls}");
        let (server, _) = run_with_tls(driver, offered, tls, 0).await;
        let facts = server.logins().pop().unwrap();
        assert_eq!(facts.encrypted, encrypted, "{case}");
        assert!(
            facts.read_only_intent && facts.app_name == "etl-host" && facts.packet_size == 8_000,
            "{facts:?}"
        );
    }
    let (_, report) = run_with_tls(driver, StandInTls::Off, "mode: require", 3).await;
    assert!(
        message(&report).contains("the server does not encrypt"),
        "{report}"
    );
    let (server, report) =
        run_with_tls(driver, StandInTls::RequiredFresh, "mode: disable", 3).await;
    assert_eq!(
        report["partitions"][0]["rows"]["extracted"], 0,
        "no row may travel against the configuration: {report}"
    );
    drop(server);
    // Signed by an authority that the system does not know.
    let (server, report) =
        run_with_tls(driver, StandInTls::RequiredFresh, "mode: require", 3).await;
    assert!(message(&report).contains("certificate"), "{report}");
    assert!(
        server.logins().is_empty(),
        "no password may go to a server that is not trusted"
    );
}

async fn mistakes_in_the_query_are_named(driver: Driver) {
    let shards = Shards::start(driver, 1).await;
    shards
        .execute(
            0,
            "CREATE TABLE t (id int NOT NULL PRIMARY KEY, at datetime2(3), v int)",
        )
        .await;
    for (cursor, query, words) in [
        (
            "column: id, kind: integer",
            "SELECT id FROM missing WHERE id > @from",
            "Invalid object name",
        ),
        (
            "column: id, kind: integer",
            "SELECT nope FROM t WHERE id > @from",
            "Invalid column name",
        ),
        (
            "column: id, kind: timestamp",
            "SELECT id FROM t WHERE id > @from",
            "does not hold times",
        ),
        (
            "column: at, kind: integer",
            "SELECT at FROM t WHERE at > @from",
            "does not hold whole numbers",
        ),
        (
            "column: v, kind: rowversion",
            "SELECT v FROM t WHERE v > @from",
            "does not hold a rowversion",
        ),
        (
            "column: id, kind: integer",
            "SELECT at FROM t WHERE id > @from",
            "returns no column `id`",
        ),
        (
            "column: id, kind: integer",
            "SELECT id, v + 1 FROM t WHERE id > @from",
            "column 2 of the query has no name",
        ),
    ] {
        let (project, database) = (copying(), database().await);
        copy_by(&shards, &project, &database, cursor, query, "");
        let finished = project.run(&["run", "copy"]);
        let report = finished.json().unwrap();
        assert!(message(&report).contains(words), "{query}: {report}");
        assert_eq!(report["partitions"][0]["attempts"], 1, "{query}");
    }
}

/// Whoever takes a lower number and commits later is found all the same, if that is within the delay.
async fn numbers_of_open_transactions_are_waited_for(driver: Driver) {
    let shards = Shards::stand_in(driver, 1);
    let seed = "CREATE TABLE t (id int NOT NULL PRIMARY KEY); INSERT INTO t VALUES (1)";
    shards.execute(0, seed).await;
    let (project, database) = (copying(), database().await);
    let source = shards.source(&project);
    let query = "SELECT id FROM t WHERE id > @from AND id <= @until ORDER BY id";
    let sink = postgres_sink(&project, &database, "copy");
    project.config(
        "copy",
        &format!("{source}  query: \"{query}\"\n{sink}cursor: {{ settle_delay: 3s }}\n"),
    );
    let mut slow = shards.connect(0).await;
    shards::say(&mut slow, "BEGIN TRANSACTION").await;
    shards::say(&mut slow, "INSERT INTO t VALUES (2)").await;
    shards.execute(0, "INSERT INTO t VALUES (3)").await;
    let running = project
        .program(&["--output", "json", "run", "copy"])
        .start()
        .unwrap();
    let limit = std::time::Duration::from_mins(1);
    shards
        .server(0)
        .wait_for_statement("MAX(q.", limit)
        .unwrap();
    shards::say(&mut slow, "COMMIT").await;
    running.finish().unwrap().require_code(0).unwrap();
    assert_eq!(ids(&database).await, [1, 2, 3]);
}

/// The bound lies between two values of the column, and what is deleted must be what is read again.
async fn what_since_deletes_it_reads_again(driver: Driver) {
    let shards = Shards::start(driver, 1).await;
    let seed = "CREATE TABLE t (id int NOT NULL PRIMARY KEY, at datetime NOT NULL, part varchar(9) NOT NULL); \
                INSERT INTO t VALUES (1, '2024-01-31T10:00:00', 'eu'), (2, '2024-01-31T10:00:01', 'eu'), (3, '2024-01-31T10:00:02', 'eu')";
    shards.execute(0, seed).await;
    let (project, database) = (copying(), database().await);
    let query = "SELECT id, at, part FROM t WHERE at > @from AND at <= @until ORDER BY at";
    let sink = "  partition_column: part\n";
    copy_by(
        &shards,
        &project,
        &database,
        "column: at, kind: timestamp",
        query,
        sink,
    );
    assert_eq!(loaded(&project.result(&["run", "copy"], 0)), 3);
    for since in [
        "2024-01-31T10:00:00.999",
        "2024-01-31T10:00:00.002",
        "2024-01-31T10:00:01",
    ] {
        project.result(&["run", "copy", "--since", since], 0);
        assert_eq!(ids(&database).await, [1, 2, 3], "{since}");
    }
}

each_driver!(
    two_shards_arrive_exactly_and_then_only_what_is_new,
    a_limit_never_cuts_rows_of_the_same_time_apart,
    a_late_row_within_the_settle_delay_is_not_lost,
    each_type_of_time_is_a_cursor_to_its_last_digit,
    whole_numbers_are_a_cursor_whether_or_not_the_query_is_ordered,
    a_rowversion_cursor_finds_updates_and_waits_for_open_transactions,
    a_keyset_goes_on_inside_a_time,
    shards_that_swapped_places_stop_the_run,
    one_shard_down_is_a_partial_run_and_the_next_one_catches_up,
    a_wrong_password_is_tried_once_and_shown_nowhere,
    tls_is_what_the_configuration_says,
    mistakes_in_the_query_are_named,
    numbers_of_open_transactions_are_waited_for,
    what_since_deletes_it_reads_again,
);
