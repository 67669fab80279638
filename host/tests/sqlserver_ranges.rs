//! SQL Server shards that are read as ranges, into `PostgreSQL`.
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
use serde_json::Value;
use shards::{
    Driver, LOGINS, Login, RUN, Shards, assert_same, copying, expected, flagship, logins,
    postgres_sink, sink_rows,
};

const SPLIT: &str = "  split_by: user_id\n  splits: 4\n";

async fn database() -> TestDatabase {
    PostgresServer::shared().create_database().await.unwrap()
}

fn loaded(report: &Value) -> u64 {
    report["rows"]["loaded"].as_u64().unwrap()
}

fn split_flagship(shards: &Shards, project: &Project, database: &TestDatabase, rest: &str) {
    let source = shards.source(project);
    let sink = postgres_sink(project, database, "login_analytics");
    project.config(
        "login-analytics",
        &format!("{source}{SPLIT}{sink}  partition_column: source_shard\n{rest}"),
    );
}

/// The rows of the sink, by their shards.
async fn rows(database: &TestDatabase) -> Vec<String> {
    let mut rows: Vec<String> = sink_rows(database)
        .await
        .iter()
        .map(|row| {
            let (partition, rest) = row.split_once('|').unwrap();
            let (shard, number) = partition.split_once('/').unwrap();
            assert!(["1", "2", "3", "4"].contains(&number), "{partition}");
            format!("{shard}|{rest}")
        })
        .collect();
    rows.sort_unstable();
    rows
}

/// Logins of which most are of few users.
fn skewed(start: u32, count: u32) -> Vec<Login> {
    let mut rows = logins(start, count);
    for (index, login) in rows.iter_mut().enumerate() {
        login.user = match index % 10 {
            0 => -2_000_000_000 + login.user,
            9 => 2_000_000_000 + login.user,
            _ => login.user % 50,
        };
    }
    rows
}

async fn two_shards_in_ranges_arrive_exactly_and_go_back_exactly(driver: Driver) {
    let shards = Shards::start(driver, 2).await;
    let (mut eu, us) = (skewed(3_600, 3_000), skewed(7_200, 3_000));
    for (index, rows) in [&eu, &us].into_iter().enumerate() {
        shards.execute(index, LOGINS).await;
        shards.insert(index, rows).await;
    }
    let (project, database) = (flagship(), database().await);
    // What it loads is asked for here, not where.
    let inside = "isolation: in-process\n";
    split_flagship(&shards, &project, &database, inside);
    let report = project.result(RUN, 0);
    assert_eq!(loaded(&report), 6_000, "{report}");
    let partitions = report["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 8);
    for partition in partitions {
        let read = partition["rows"]["extracted"].as_u64().unwrap();
        assert!((300..=1_500).contains(&read), "{partition}");
    }
    assert_same(
        &rows(&database).await,
        &expected([("eu", &eu[..]), ("us", &us[..])]),
    );

    let mut newer = logins(10_800, 500);
    newer[0].user = i64::from(i32::MIN);
    newer[1].user = i64::from(i32::MAX);
    shards.insert(0, &newer).await;
    eu.extend(newer);
    assert_eq!(loaded(&project.result(RUN, 0)), 500);
    let all = expected([("eu", &eu[..]), ("us", &us[..])]);
    assert_same(&rows(&database).await, &all);

    // Each range deletes its own rows and reads them again.
    for again in [
        &["--full-refresh"][..],
        &["--since", "2024-01-31T02:00:00.100"],
    ] {
        project.result(&[RUN, again].concat(), 0);
        assert_same(&rows(&database).await, &all);
    }
    let backfill = [
        "backfill",
        "login-analytics",
        "--from",
        "2024-01-31T01:00:00",
        "--to",
        "2024-01-31T02:00:00.500",
    ];
    project.result(&backfill, 0);
    assert_same(&rows(&database).await, &all);
    for partition in [&[][..], &["--partition", "eu"], &["--partition", "us/2"]] {
        let verified = project.result(&[&["verify", "login-analytics"], partition].concat(), 0);
        assert_eq!(verified["agrees"], true, "{verified}");
    }
    project.result(&["doctor", "login-analytics"], 0);
}

async fn values_that_may_be_null_and_every_kind_of_cursor_are_split(driver: Driver) {
    for (cursor, query) in [
        (
            "column: id, kind: integer, settle_delay: 0s",
            "SELECT id, team, at FROM t WHERE id > @from AND id <= @until ORDER BY id",
        ),
        (
            "column: at, kind: timestamp, settle_delay: 1s",
            "SELECT id, team, at FROM t WHERE at > @from AND at <= @until ORDER BY at",
        ),
        (
            "column: version, kind: rowversion",
            "SELECT id, team, at, version FROM t WHERE version > @from AND version <= @until ORDER BY version",
        ),
        (
            "column: at, kind: timestamp, id: id, settle_delay: 1s",
            "SELECT id, team, at FROM t WHERE (at > @from OR (at = @from AND id > @fromId)) AND at <= @until ORDER BY at, id",
        ),
    ] {
        let shards = Shards::start(driver, 1).await;
        shards
            .execute(0, "CREATE TABLE t (id int NOT NULL PRIMARY KEY, team smallint NULL, at datetime2(3) NOT NULL, version rowversion)")
            .await;
        let row = |id: i32| match id % 5 {
            0 => format!("({id}, NULL, '2024-01-31T10:00:00')"),
            _ => format!("({id}, {}, '2024-01-31T10:00:00')", id * 7 % 300 - 100),
        };
        let insert = |ids: std::ops::Range<i32>| {
            let rows: Vec<String> = ids.map(row).collect();
            format!("INSERT INTO t (id, team, at) VALUES {}", rows.join(", "))
        };
        shards.execute(0, &insert(1..301)).await;
        let (project, database) = (copying(), database().await);
        let source = shards.source(&project);
        let target = postgres_sink(&project, &database, "copy");
        project.config(
            "copy",
            &format!(
                "{source}  query: \"{query}\"\n  split_by: team\n  splits: 3\n{target}cursor: {{ {cursor} }}\n"
            ),
        );
        let report = project.result(&["run", "copy"], 0);
        assert_eq!(loaded(&report), 300, "{cursor}: {report}");
        shards
            .execute(0, "INSERT INTO t (id, team, at) VALUES (401, 32767, '2024-01-31T11:00:00'), (402, NULL, '2024-01-31T11:00:00')")
            .await;
        assert_eq!(loaded(&project.result(&["run", "copy"], 0)), 2, "{cursor}");
        let client = database.connect().await.unwrap();
        let sql = "SELECT count(*), count(DISTINCT id), count(team), min(pg_typeof(team)::text) FROM copy";
        let row = client.query_one(sql, &[]).await.unwrap();
        let counts: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
        assert_eq!(counts, [302, 302, 241], "{cursor}");
        assert_eq!(row.get::<_, &str>(3), "smallint");
    }
}

each_driver!(
    two_shards_in_ranges_arrive_exactly_and_go_back_exactly,
    values_that_may_be_null_and_every_kind_of_cursor_are_split,
);
