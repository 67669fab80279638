//! `etl-host doctor` on shards that are servers: one that stands in for SQL Server, and `PostgreSQL`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests"
)]

mod databases;
mod findings;
mod kinds;
mod shards;

use std::time::Duration;

use databases::Database;
use etl_testkit::project::Project;
use etl_testkit::stand_in::{Fault, ServerError, SqlServer, StandInOptions};
use expect_test::expect;
use findings::{complaints, verdicts};
use shards::{DATABASE, Driver, LOGINS, PASSWORD, RUN, Shard, Shards, flagship, logins};

const DOCTOR: &[&str] = &["doctor", "login-analytics"];
/// What follows the source: a sink that needs no server, and how the shards are read.
const REST: &str = "sink: { type: sqlite, path: data/warehouse.db }\n";

/// Two shards with some logins, and a project that reads them.
async fn two_shards() -> (Shards, Project) {
    let (shards, project) = (Shards::stand_in(Driver::Tiberius, 2), flagship());
    for index in 0..2 {
        shards.execute(index, LOGINS).await;
        shards.insert(index, &logins(3_600, 10)).await;
    }
    project.config(
        "login-analytics",
        &format!("{}{REST}", shards.source(&project)),
    );
    (shards, project)
}

#[tokio::test]
async fn shards_that_are_well_are_only_read() {
    let (shards, project) = two_shards().await;
    let report = project.result(DOCTOR, 0);
    for place in ["eu", "us"] {
        assert_eq!(
            verdicts(&report, place),
            [
                "reachable ok",
                "tls ok",
                "login ok",
                "database ok",
                "isolation ok",
                "clock ok",
                "query ok",
                "cursor ok",
                "index ok",
                "read ok"
            ]
        );
    }
    for statement in shards.server(0).statements() {
        let upper = statement.to_uppercase();
        for word in [
            "INSERT ",
            "UPDATE ",
            "DELETE ",
            "CREATE ",
            "ALTER ",
            "BEGIN TRAN",
        ] {
            assert!(!upper.contains(word), "{statement}");
        }
    }
    project.result(RUN, 0);
    assert!(verdicts(&project.result(DOCTOR, 0), "us").contains(&"checkpoint ok".to_owned()));

    let swapped = shards.source_in_order(&project, &[1, 0]);
    project.config("login-analytics", &format!("{swapped}{REST}"));
    let text = complaints(&project, "login-analytics", 3);
    let says = |place: &str| {
        text.contains(&format!(
            "{place} checkpoint failed: the checkpoint of partition {place} belongs to sqlserver:"
        ))
    };
    assert!(
        says("eu") && says("us") && text.lines().count() == 4,
        "{text}"
    );
}

#[tokio::test]
async fn what_slows_or_blurs_reading_is_a_warning() {
    let server = SqlServer::stand_in_with(StandInOptions {
        databases: vec![DATABASE.to_owned()],
        password: Some(PASSWORD.to_owned()),
        snapshot_isolation: false,
        clock_offset: Duration::from_mins(10),
        ..StandInOptions::default()
    })
    .unwrap();
    let shard = Shard {
        server,
        database: DATABASE.to_owned(),
    };
    let shards = Shards(vec![shard], Driver::Tiberius);
    // Without its index.
    let (table, _) = LOGINS.split_once(";CREATE").unwrap();
    shards.execute(0, table).await;
    let project = flagship();
    project.config(
        "login-analytics",
        &format!("{}{REST}", shards.source(&project)),
    );
    let text = complaints(&project, "login-analytics", 0);
    let clock = text
        .lines()
        .find(|line| line.starts_with("eu clock warning"));
    assert!(
        clock.unwrap().contains(" s ahead of this machine's"),
        "{text}"
    );
    // How far ahead, to the tenth of a second, differs.
    let text = text.replace(clock.unwrap(), "eu clock warning");
    expect![[r#"
        eu isolation warning: the database does not allow SNAPSHOT: readers and writers wait for each other, and rows that change meanwhile may be read twice or not at all
          fix: ALTER DATABASE [logins] SET ALLOW_SNAPSHOT_ISOLATION ON
        eu clock warning
          fix: synchronise the clocks of all machines, for example by NTP
        eu index warning: no index of [dbo].[user_logins] begins with `login_time`: every run reads and sorts the whole table
          fix: CREATE INDEX [ix_login_time] ON [dbo].[user_logins] ([login_time])
    "#]].assert_eq(&text);
}

#[tokio::test]
async fn what_keeps_a_login_from_reading() {
    let (shards, project) = two_shards().await;
    let refused = Fault::ErrorAfterRows {
        rows: 0,
        error: ServerError {
            number: 229,
            state: 5,
            class: 14,
            message: "The SELECT permission was denied on the object 'user_logins'.".to_owned(),
        },
    };
    shards.server(0).faults().push(refused.on("etl_host_rows"));
    let config = format!("{}{REST}", shards.source(&project));
    let (eu, us) = config.split_once("name: us").unwrap();
    let elsewhere = us.replacen(DATABASE, "nope", 1);
    project.config("login-analytics", &format!("{eu}name: us{elsewhere}"));
    expect![[r#"
        eu read failed: run the query: The SELECT permission was denied on the object 'user_logins'. (SQL Server error 229, state 5)
          fix: grant the source's login SELECT on the tables of the query
        us database failed: Cannot open database "nope" requested by the login. The login failed. (SQL Server error 4060, state 1)
          fix: create the database, correct its name, or let the login use it
        sink table warning: login_analytics: its columns are not checked, because what the pipeline would write is not known
          fix: mend what failed, and ask again
    "#]].assert_eq(&complaints(&project, "login-analytics", 3));

    project.config("login-analytics", &config.replace(PASSWORD, "another one"));
    let text = complaints(&project, "login-analytics", 3);
    assert!(
        text.contains("eu login failed: Login failed for user 'sa'. (SQL Server error 18456"),
        "{text}"
    );
    assert!(!text.contains("another one"), "{text}");

    // Each server has an authority of its own.
    let swapped = config
        .replace("ca-0", "ca-x")
        .replace("ca-1", "ca-0")
        .replace("ca-x", "ca-1");
    project.config("login-analytics", &swapped);
    expect![[r#"
        eu tls failed: TLS: the server's certificate was rejected during the TLS handshake: BadSignature.
          fix: name the server's authority with `tls.ca_file`, connect by the name in its certificate, or set `tls.trust_server_certificate: true` where nobody can sit in between
        us tls failed: TLS: the server's certificate was rejected during the TLS handshake: BadSignature.
          fix: name the server's authority with `tls.ca_file`, connect by the name in its certificate, or set `tls.trust_server_certificate: true` where nobody can sit in between
        sink table warning: login_analytics: its columns are not checked, because what the pipeline would write is not known
          fix: mend what failed, and ask again
    "#]].assert_eq(&complaints(&project, "login-analytics", 3));
}

#[tokio::test]
async fn a_query_that_the_server_does_not_take() {
    let (_shards, project) = two_shards().await;
    let path = project.path("plugins/login-analytics.yaml");
    let config = std::fs::read_to_string(path).unwrap();
    let with = |query: &str, cursor: &str| {
        let text = config.replace("  shards:", &format!("  query: {query}\n  shards:"));
        // One shard is enough.
        let one: Vec<&str> = text
            .lines()
            .filter(|line| !line.contains("name: us"))
            .collect();
        project.config("login-analytics", &format!("{}\n{cursor}", one.join("\n")));
        complaints(&project, "login-analytics", 3)
    };
    let text = with(
        "SELECT login_time FROM user_login WHERE login_time > @from",
        "",
    );
    expect![[r#"
        eu query failed: describe the query: Invalid object name 'user_login'. (SQL Server error 208, state 1)
          fix: correct the table's name in `source.query`, or grant the login SELECT on it
        sink table warning: login_analytics: its columns are not checked, because what the pipeline would write is not known
          fix: mend what failed, and ask again
    "#]].assert_eq(&text);
    let text = with(
        "SELECT user_agent FROM user_logins WHERE user_agent > @from",
        "cursor: { column: user_agent, kind: timestamp }",
    );
    expect![[r#"
        eu cursor failed: the cursor column `user_agent` is nvarchar(max), which does not hold times
          fix: correct `cursor.column` or `cursor.kind`
        sink table warning: login_analytics: its columns are not checked, because what the pipeline would write is not known
          fix: mend what failed, and ask again
    "#]].assert_eq(&text);
    let text = with(
        "SELECT login_id FROM user_logins WHERE login_time > @from",
        "",
    );
    expect![[r#"
        eu cursor failed: the query returns no column `login_time`, which is the cursor
          fix: add the column to the query, or correct `cursor` in the configuration
        sink table warning: login_analytics: its columns are not checked, because what the pipeline would write is not known
          fix: mend what failed, and ask again
    "#]].assert_eq(&text);
}

#[tokio::test]
async fn a_postgres_shard() {
    let (project, shard) = (databases::project(), Database::new().await);
    shard
        .execute("CREATE TABLE people (id bigint, name text, at timestamptz(3))")
        .await;
    let configure = |query: &str| {
        let source = databases::source(&[("eu", &shard)], query, "");
        let cursor = "cursor: { column: at, kind: timestamp, id: id }\n";
        project.config(
            "copy",
            &format!("{source}{cursor}sink: {{ type: sqlite, path: data/w.db }}\n"),
        );
    };
    let query = "SELECT id, name, at FROM people WHERE (at > @from OR (at = @from AND id > @fromId)) AND at <= @until \
                 ORDER BY at, id";
    configure(query);
    expect![[r#"
        eu index warning: no index of people begins with `at`: every run reads and sorts the whole table
          fix: CREATE INDEX CONCURRENTLY ON people ("at", "id")
    "#]].assert_eq(&complaints(&project, "copy", 0));
    shard.execute("CREATE INDEX ON people (at, id)").await;
    let report = project.result(&["doctor", "copy"], 0);
    assert_eq!(
        verdicts(&report, "eu"),
        [
            "reachable ok",
            "tls ok",
            "login ok",
            "database ok",
            "clock ok",
            "query ok",
            "cursor ok",
            "index ok",
            "read ok"
        ]
    );
    configure(&query.replace("id, name", "id, nam"));
    expect![[r#"
        eu query failed: run the query: column "nam" does not exist (SQLSTATE 42703)
          fix: correct the column's name in `source.query`
        sink table warning: copy: its columns are not checked, because what the pipeline would write is not known
          fix: mend what failed, and ask again
    "#]].assert_eq(&complaints(&project, "copy", 3));
    configure(&query.replace("at FROM", "at::text AS at FROM"));
    expect![[r#"
        eu query failed: the cursor column `at` is text, but must be date, timestamp or timestamptz
          fix: correct `cursor`, or cast the column in `source.query`: at::… AS at
        sink table warning: copy: its columns are not checked, because what the pipeline would write is not known
          fix: mend what failed, and ask again
    "#]].assert_eq(&complaints(&project, "copy", 3));
}
