//! A real `PostgreSQL` as the source: every row once, and an end that is proven.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod kinds;

use databases::{
    ACTIVE_READERS, ALL_TYPES, BLOCKED, Database, READERS, configure, project, sink, source,
};
use kinds::{RUN, loaded, message, says};

const BY_ID: &str = "SELECT * FROM people WHERE id > @from AND id <= @until ORDER BY id";
const BY_TIME: &str = "SELECT * FROM people WHERE at > @from AND at <= @until ORDER BY at";
const AT: &str = "cursor: { column: at, kind: timestamp, settle_delay: 0s }\n";
const AT_ONCE: &str = "error_handling: { max_retries: 0 }\n";
const IDS: &str = "SELECT id::text FROM copy ORDER BY id";

/// So many people, a second from one to the next, the last ones a day ago.
fn people(rows: u32) -> String {
    format!(
        "CREATE TABLE people (id bigint PRIMARY KEY, name text, at timestamptz NOT NULL);
         INSERT INTO people SELECT i, 'name ' || i, now() - interval '1 day' - interval '1 second' * ({rows} - i)
         FROM generate_series(1, {rows}) AS i;"
    )
}

async fn filled(sql: &str) -> (Database, Database) {
    let from = Database::new().await;
    from.execute(sql).await;
    (from, Database::new().await)
}

fn cursor_to(report: &serde_json::Value) -> &str {
    report["partitions"][0]["cursor_to"].as_str().unwrap()
}

#[tokio::test]
async fn every_type_arrives_as_it_was() {
    let (from, to) = filled(ALL_TYPES).await;
    let project = project();
    let query = "SELECT * FROM everything";
    configure(
        &project,
        &(source(&[("a", &from)], query, "")
            + &sink(&to, "write_mode: replace")
            + "cursor: null\n"
            + AT_ONCE),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 4);

    let columns = "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'copy' ORDER BY ordinal_position";
    let columns = to.texts(columns).await;
    assert_eq!(columns.len(), 38);
    for column in columns {
        // As the value that its text stands for, where Arrow has no type of its own.
        let value = match column.as_str() {
            "a_timetz" | "a_interval" | "a_inet" | "a_cidr" | "a_macaddr" | "a_macaddr8" => {
                format!("{column}::{}", column.trim_start_matches("a_"))
            }
            "a_json" => "a_json::jsonb".to_owned(),
            "a_bpchar" => "rpad(a_bpchar, 4)".to_owned(),
            _ => column.clone(),
        };
        let [there, here] = ["everything", "copy"].map(|table| {
            format!("SELECT coalesce({value}::text, 'NULL') FROM {table} ORDER BY id")
        });
        assert_eq!(to.texts(&here).await, from.texts(&there).await, "{column}");
    }
    let types = "SELECT column_name || ' ' || data_type FROM information_schema.columns WHERE table_name = 'copy' \
                 AND column_name IN ('a_uuid', 'a_json', 'a_jsonb', 'a_time', 'a_numeric', 'a_free', 'a_timestamptz', 'a_interval') ORDER BY 1";
    assert_eq!(
        to.texts(types).await,
        [
            "a_free text",
            "a_interval text",
            "a_json jsonb",
            "a_jsonb jsonb",
            "a_numeric numeric",
            "a_time time without time zone",
            "a_timestamptz timestamp with time zone",
            "a_uuid uuid",
        ]
    );
}

#[tokio::test]
async fn values_that_arrow_cannot_hold_set_their_rows_aside() {
    let (from, to) = filled(
        "CREATE TABLE people (id bigint, born date, seen timestamp, at timestamptz, worth numeric(10,2), free numeric, daily time);
         INSERT INTO people VALUES (1, '2000-01-01', '2000-01-01', '2000-01-01', 1, 1, '10:00'),
            (2, 'infinity', NULL, NULL, NULL, NULL, NULL), (3, NULL, '-infinity', NULL, NULL, NULL, NULL),
            (4, NULL, NULL, 'infinity', NULL, NULL, NULL), (5, NULL, NULL, NULL, 'NaN', NULL, NULL),
            (6, NULL, NULL, NULL, NULL, '-Infinity', NULL), (7, NULL, NULL, NULL, NULL, NULL, '24:00');",
    )
    .await;
    let project = project();
    configure(
        &project,
        &(source(&[("a", &from)], BY_ID, "")
            + &sink(&to, "")
            + "error_handling: { max_bad_rows: 6, max_retries: 0 }\n"),
    );
    let report = project.result(RUN, 0);
    assert_eq!(
        (loaded(&report), &report["rows"]["quarantined"]),
        (1, &6.into())
    );
    let letters = "SELECT concat_ws('|', column_name, reason, convert_from(payload, 'UTF8')::jsonb ->> column_name) \
                   FROM etl_host.dead_letters ORDER BY id";
    assert_eq!(
        to.texts(letters).await,
        [
            "born|an infinite date|infinity",
            "seen|an infinite time|-infinity",
            "at|an infinite time|infinity",
            "worth|NaN, which no decimal can hold|NaN",
            "free|an infinite number, which no decimal can hold|-Infinity",
            "daily|24:00:00, which is no time of a day|24:00:00",
        ]
    );
}

#[tokio::test]
async fn append_reads_each_row_once_whatever_the_times_are_kept_as() {
    for column in [
        "timestamptz",
        "timestamp",
        "timestamp(0)",
        "timestamp(3)",
        "date",
    ] {
        let (from, to) = filled(&format!(
            "CREATE TABLE people (id bigint, at {column});
             INSERT INTO people VALUES (1, '2024-01-30 10:00:00.5+00'), (2, '2024-01-31 10:00:00.123456+00'),
                                       (3, '2024-01-31 10:00:00.123456+00'), (4, now() + interval '1 day');"
        ))
        .await;
        let project = project();
        configure(
            &project,
            &(source(&[("a", &from)], BY_TIME, "") + &sink(&to, "") + AT + AT_ONCE),
        );
        assert_eq!(loaded(&project.result(RUN, 0)), 3, "{column}");
        let again = project.result(RUN, 0);
        assert_eq!(loaded(&again), 0, "{column}");
        let at = again["partitions"][0]["cursor_from"].as_str().unwrap();
        let form = match column {
            "date" => "2024-01-31",
            "timestamp(0)" => "2024-01-31T10:00:00.000000",
            "timestamp(3)" => "2024-01-31T10:00:00.123000",
            "timestamp" => "2024-01-31T10:00:00.123456",
            _ => "2024-01-31T10:00:00.123456Z",
        };
        assert_eq!(at, form);
        from.execute("INSERT INTO people VALUES (5, '2024-02-01'), (6, '2024-02-01 00:00:01')")
            .await;
        assert_eq!(loaded(&project.result(RUN, 0)), 2, "{column}");
        assert_eq!(to.texts(IDS).await, ["1", "2", "3", "5", "6"], "{column}");
    }
}

#[tokio::test]
async fn rows_within_the_settle_delay_wait_for_the_next_run() {
    let (from, to) = filled(
        "CREATE TABLE people (id bigint, at timestamptz);
         INSERT INTO people VALUES (1, now() - interval '2 hours'), (3, now() - interval '10 minutes');",
    )
    .await;
    let project = project();
    let config = source(&[("a", &from)], BY_TIME, "") + &sink(&to, "") + AT_ONCE;
    configure(
        &project,
        &(config.clone() + "cursor: { column: at, kind: timestamp, settle_delay: 1h }\n"),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    // A transaction that began before the newest row and commits after it was read.
    from.execute("INSERT INTO people VALUES (2, now() - interval '20 minutes')")
        .await;
    configure(&project, &(config + AT));
    assert_eq!(loaded(&project.result(RUN, 0)), 2);
    assert_eq!(to.texts(IDS).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn the_server_s_own_clock_bounds_times_without_a_zone() {
    let (from, to) = filled(
        "CREATE TABLE people (id bigint, at timestamp);
         INSERT INTO people VALUES (1, now() AT TIME ZONE 'Asia/Tokyo' - interval '1 minute');",
    )
    .await;
    let name = &from.at.name;
    from.execute(&format!(
        "ALTER DATABASE \"{name}\" SET timezone = 'Asia/Tokyo'"
    ))
    .await;
    let project = project();
    let config = source(&[("a", &from)], BY_TIME, "") + &sink(&to, "") + AT_ONCE;
    configure(&project, &(config.clone() + AT));
    assert_eq!(loaded(&project.result(RUN, 0)), 0);
    configure(
        &project,
        &(config
            + "cursor: { column: at, kind: timestamp, clock: server-local, settle_delay: 0s }\n"),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
}

#[tokio::test]
async fn upsert_and_replace_follow_the_source() {
    let (from, to) = filled(&people(3_000)).await;
    let project = project();
    let source = source(&[("a", &from)], BY_TIME, "");
    let config = source.clone() + &sink(&to, "write_mode: upsert, key: [id]") + AT;
    configure(&project, &config);
    assert_eq!(loaded(&project.result(RUN, 0)), 3_000);
    from.execute("UPDATE people SET name = 'changed', at = now() - interval '1 hour' WHERE id % 10 = 0; INSERT INTO people VALUES (3001, 'new', now() - interval '1 hour')")
        .await;
    assert_eq!(loaded(&project.result(RUN, 0)), 301);
    let all = "SELECT concat_ws('|', id, name, at) FROM ";
    let (people, copy) = (
        format!("{all} people ORDER BY id"),
        format!("{all} copy ORDER BY id"),
    );
    assert_eq!(to.texts(&copy).await, from.texts(&people).await);

    from.execute("DELETE FROM people WHERE id % 2 = 0").await;
    configure(&project, &(source + &sink(&to, "write_mode: replace") + AT));
    assert_eq!(loaded(&project.result(RUN, 0)), 1_501);
    assert_eq!(to.texts(&copy).await, from.texts(&people).await);
}

#[tokio::test]
async fn a_keyset_commits_inside_a_time() {
    let (from, to) = filled(
        "CREATE TABLE people (id bigint, name text, at timestamp);
         INSERT INTO people SELECT i, repeat('x', 1000), '2024-01-31 10:00:00' FROM generate_series(1, 2000) AS i;",
    )
    .await;
    let project = project();
    let query = "SELECT * FROM people WHERE (at > @from OR (at = @from AND id > @fromId)) AND at <= @until ORDER BY at, id";
    let config = source(&[("a", &from)], query, "")
        + &sink(&to, "")
        + "cursor: { column: at, kind: timestamp, id: id, settle_delay: 0s }\n";
    configure(
        &project,
        &(config + "tuning: { batch_rows: 100, flush_bytes: 64KiB, flushes_per_commit: 1 }\n"),
    );
    // A commit falls between rows of the same time, and the next run goes on from there.
    let part = project.result(&["run", "copy", "--limit", "700"], 0);
    assert_eq!(
        (loaded(&part), cursor_to(&part)),
        (699, "2024-01-31T10:00:00.000000,699")
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 1_301);
    assert_eq!(loaded(&project.result(RUN, 0)), 0);
    from.execute("INSERT INTO people VALUES (2001, '', '2024-01-31 10:00:00')")
        .await;
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    let once = "SELECT count(*) FROM (SELECT DISTINCT id FROM copy) AS ids";
    assert_eq!(
        (
            to.number(once).await,
            to.number("SELECT count(*) FROM copy").await
        ),
        (2_001, 2_001)
    );
}

#[tokio::test]
async fn numbers_of_every_size_are_cursors() {
    for column in [
        "smallint",
        "integer",
        "bigint",
        "numeric(18,0)",
        "numeric(4,0)",
    ] {
        let (from, to) = filled(&format!(
            "CREATE TABLE people (id {column}); INSERT INTO people VALUES (-9999), (0), (7), (9999);"
        ))
        .await;
        let project = project();
        configure(
            &project,
            &(source(&[("a", &from)], BY_ID, "") + &sink(&to, "") + AT_ONCE),
        );
        let first = project.result(RUN, 0);
        assert_eq!((loaded(&first), cursor_to(&first)), (4, "9999"), "{column}");
        assert_eq!(loaded(&project.result(RUN, 0)), 0, "{column}");
        let since = project.result(
            &[
                "run",
                "copy",
                "--since",
                "0",
                "--until",
                "99999999999",
                "--allow-duplicates",
            ],
            0,
        );
        assert_eq!(loaded(&since), 2, "{column}");
    }
}

#[tokio::test]
async fn since_and_until_take_a_time_as_people_write_it() {
    let (from, to) = filled(
        "CREATE TABLE people (id bigint, at timestamptz);
         INSERT INTO people SELECT i, timestamptz '2024-01-01 00:00Z' + interval '1 hour' * i FROM generate_series(1, 48) AS i;",
    )
    .await;
    let project = project();
    configure(
        &project,
        &(source(&[("a", &from)], BY_TIME, "") + &sink(&to, "") + AT + AT_ONCE),
    );
    let report = project.result(&["run", "copy", "--until", "2024-01-02"], 0);
    assert_eq!(
        (loaded(&report), cursor_to(&report)),
        (24, "2024-01-02T00:00:00.000000Z")
    );
    let range = [
        "run",
        "copy",
        "--since",
        "2024-01-01T22:00:00+02:00",
        "--until",
        "2024-01-01 22:00",
        "--dry-run",
    ];
    assert_eq!(project.result(&range, 0)["rows"]["extracted"], 2);
    let report = project.result(&["run", "copy", "--until", "soon"], 2);
    says(message(&report), "`soon` is no time");
    assert_eq!(loaded(&project.result(RUN, 0)), 24);
}

#[tokio::test]
async fn a_plugin_s_own_queries_follow_each_other_in_one_transaction() {
    let (from, to) = filled(
        "CREATE TABLE people (id bigint, amount float8); INSERT INTO people SELECT i, i FROM generate_series(1, 100) AS i;",
    )
    .await;
    let project = project();
    let config = source(&[("a", &from)], "SELECT 1", "") + &sink(&to, "") + AT_ONCE;
    project.config("queried", &config);
    let report = project.result(&["run", "queried"], 0);
    assert_eq!((loaded(&report), cursor_to(&report)), (50, "100"));
    from.execute("INSERT INTO people VALUES (101, 1), (102, 1)")
        .await;
    assert_eq!(loaded(&project.result(&["run", "queried"], 0)), 1);
    from.wait_for(READERS, 0).await;
}

#[tokio::test]
async fn a_query_that_gives_the_boundary_again_is_refused() {
    let (from, to) = filled(&people(10)).await;
    let project = project();
    let query = "SELECT * FROM people WHERE at >= @from AND at <= @until ORDER BY at";
    configure(
        &project,
        &(source(&[("a", &from)], query, "") + &sink(&to, "") + AT + AT_ONCE),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 10);
    project.result(RUN, 1);
    assert_eq!(to.number("SELECT count(*) FROM copy").await, 10);
}

#[tokio::test]
async fn shards_that_swap_places_are_refused() {
    let (eu, to) = filled(&people(10)).await;
    let us = Database::new().await;
    us.execute(&people(20)).await;
    let project = project();
    let with = |first, second| {
        source(&[("eu", first), ("us", second)], BY_TIME, "") + &sink(&to, "") + AT + AT_ONCE
    };
    configure(&project, &with(&eu, &us));
    assert_eq!(loaded(&project.result(RUN, 0)), 30);
    configure(&project, &with(&us, &eu));
    let report = project.result(RUN, 1);
    says(
        message(&report),
        "the checkpoint of partition eu belongs to postgres:",
    );
    configure(&project, &with(&eu, &us));
    assert_eq!(loaded(&project.result(RUN, 0)), 0);
}

#[tokio::test]
async fn no_rows_are_no_failure() {
    let (from, to) = filled("CREATE TABLE people (id bigint, at timestamptz)").await;
    let project = project();
    for (query, cursor) in [(BY_ID, ""), (BY_TIME, AT)] {
        configure(
            &project,
            &(source(&[("a", &from)], query, "") + &sink(&to, "") + cursor + AT_ONCE),
        );
        let report = project.result(RUN, 0);
        assert_eq!(
            (loaded(&report), &report["status"]),
            (0, &"succeeded".into())
        );
    }
    let replace = sink(&to, "write_mode: replace");
    configure(
        &project,
        &(source(&[("a", &from)], BY_TIME, "") + &replace + AT),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 0);
    assert_eq!(to.number("SELECT count(*) FROM copy").await, 0);
}

#[tokio::test]
async fn a_connection_that_is_cut_while_it_reads_is_made_good_exactly() {
    let (from, to) = filled(
        "CREATE TABLE people (id bigint PRIMARY KEY, name text);
         INSERT INTO people SELECT i, repeat('x', 5000) FROM generate_series(1, 20000) AS i;",
    )
    .await;
    to.execute("CREATE TABLE copy (id bigint, name text)").await;
    let project = project();
    configure(
        &project,
        &(source(&[("a", &from)], BY_ID, "")
            + &sink(&to, "")
            + "error_handling: { max_retries: 1, retry_delay: 1ms }\n"
            + "tuning: { batch_rows: 100, flush_bytes: 1MiB, flushes_per_commit: 1 }\n"),
    );
    let watching = to.at.connect().await.unwrap();
    to.execute("BEGIN; LOCK TABLE copy IN ACCESS EXCLUSIVE MODE")
        .await;
    let running = project
        .program(&["--output", "json", "run", "copy"])
        .start()
        .unwrap();
    let blocked = || async {
        watching
            .query_one(BLOCKED, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
    };
    while blocked().await != 1 {
        tokio::task::yield_now().await;
    }
    // The sink stands still, so the source cannot have sent all of its 100 MB.
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
               AND application_name LIKE 'etl-host reads %' AND state = 'active'";
    assert_eq!(from.number(cut).await, 1);
    to.execute("COMMIT").await;
    let report = running
        .finish()
        .unwrap()
        .require_code(0)
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(report["attempts"], 2);
    let rows = "SELECT count(*) FROM (SELECT DISTINCT id FROM copy) AS ids";
    assert_eq!(
        (
            to.number(rows).await,
            to.number("SELECT count(*) FROM copy").await
        ),
        (20_000, 20_000)
    );
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_ended_on_the_server_too() {
    let (from, to) = filled(
        "CREATE TABLE people (id bigint); INSERT INTO people SELECT generate_series(1, 5000)",
    )
    .await;
    let project = project();
    for (query, timeouts, what) in [
        (
            "SELECT id, pg_sleep(id * 0 + 600)::text FROM people WHERE id > @from",
            "timeouts: { statement: 300ms }",
            "no first row within 0.3 s",
        ),
        (
            "SELECT id, CASE WHEN id > 4000 THEN pg_sleep(600)::text END AS slept FROM people WHERE id > @from",
            "timeouts: { idle_read: 300ms }",
            "no further row within 0.3 s",
        ),
    ] {
        // A window by time needs no look at the rows.
        let query = query.replace(
            "SELECT id",
            "SELECT id, timestamp '2024-01-01' + interval '1 s' * id AS at",
        );
        let query = format!(
            "SELECT * FROM ({query_all}) AS q WHERE at > @from",
            query_all = query.replace(" WHERE id > @from", "")
        );
        configure(
            &project,
            &(source(&[("a", &from)], &query, timeouts) + &sink(&to, "") + AT + AT_ONCE),
        );
        let report = project.result(RUN, 1);
        says(message(&report), what);
        from.wait_for(READERS, 0).await;
    }
    assert_eq!(from.number(ACTIVE_READERS).await, 0);
}

#[tokio::test]
async fn one_pool_for_source_and_sink_is_enough_for_many_partitions() {
    let (both, _) = filled(&people(2_000)).await;
    let project = project();
    let names = ["a", "b", "c", "d", "e", "f"];
    for connections in [2, 3, 5] {
        both.execute("DROP TABLE IF EXISTS copy; DROP SCHEMA IF EXISTS etl_host CASCADE")
            .await;
        let pool = format!("pool: {{ max_connections: {connections}, wait_timeout: 100ms }}");
        let shards: Vec<_> = names.iter().map(|name| (*name, &both)).collect();
        configure(
            &project,
            &(source(&shards, BY_ID, &pool) + &sink(&both, &pool) + AT_ONCE),
        );
        assert_eq!(loaded(&project.result(RUN, 0)), 12_000, "{connections}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_says_what_to_do() {
    let (from, to) = filled(
        "CREATE TABLE people (id bigint, tags int[], at timestamptz); INSERT INTO people VALUES (1, '{1}', 'infinity');
         CREATE SEQUENCE counted;",
    )
    .await;
    let project = project();
    for (code, query, cursor, what, hint) in [
        (
            2,
            "SELECT id, tags FROM people WHERE id > @from",
            "",
            "column `tags` is int4[], which cannot be read",
            "tags::text AS tags",
        ),
        (
            1,
            "SELECT id FROM nobody WHERE id > @from",
            "",
            "relation \"nobody\" does not exist",
            "correct the table's name",
        ),
        (
            2,
            "SELECT nextval('counted') AS id WHERE 1 > @from",
            "",
            "would change the source",
            "SELECT",
        ),
        (
            2,
            "SELECT tags::text AS id FROM people WHERE id > @from",
            "",
            "the cursor column `id` is text, but must be smallint",
            "cast the column",
        ),
        (
            1,
            "SELECT id, (tags::text || 'secret')::int AS tag FROM people WHERE id > @from",
            "",
            "the query failed on a value (SQLSTATE 22P02)",
            "cast",
        ),
        (
            1,
            "SELECT id, at FROM people WHERE id > @from",
            AT,
            "the cursor column `at` holds infinity",
            "leave such rows out",
        ),
        (
            2,
            "SELECT id FROM people WHERE at > @from",
            AT,
            "the query returns no column `at`",
            "add the column",
        ),
    ] {
        let query = query.replace(
            "id > @from",
            if cursor.is_empty() {
                "id > @from"
            } else {
                "at > @from"
            },
        );
        configure(
            &project,
            &(source(&[("a", &from)], &query, "") + &sink(&to, "") + cursor + AT_ONCE),
        );
        let report = project.result(RUN, code);
        says(message(&report), what);
        let told = report["partitions"][0]["error"].to_string();
        says(&told, hint);
        assert!(!told.contains("secret"), "{told}");
    }
}

#[tokio::test]
async fn a_position_in_another_form_stops_the_run_and_says_which_is_right() {
    let (from, to) = filled(&people(10)).await;
    let project = project();
    configure(
        &project,
        &(source(&[("a", &from)], BY_TIME, "") + &sink(&to, "") + AT + AT_ONCE),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 10);
    let set = [
        "checkpoint",
        "set",
        "copy",
        "--partition",
        "a",
        "--allow-duplicates",
        "--cursor",
        "2024-01-31 10:00",
    ];
    project.result(&set, 0);
    let report = project.result(RUN, 1);
    says(
        message(&report),
        "the position `2024-01-31 10:00` is not written as",
    );
    says(
        &report["partitions"][0]["error"].to_string(),
        "2024-01-31T10:00:00.000000Z",
    );
}

/// Whoever takes a lower number and commits later is found all the same, if that is within the delay.
#[tokio::test]
async fn numbers_of_open_transactions_are_waited_for() {
    let (from, to) = (Database::new().await, Database::new().await);
    from.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
        .await;
    let project = project();
    let query = "SELECT id FROM t WHERE id > @from AND id <= @until ORDER BY id";
    configure(
        &project,
        &(source(&[("a", &from)], query, "") + &sink(&to, "") + "cursor: { settle_delay: 3s }\n"),
    );
    let slow = from.at.connect().await.unwrap();
    slow.batch_execute("BEGIN; INSERT INTO t VALUES (2)")
        .await
        .unwrap();
    from.execute("INSERT INTO t VALUES (3)").await;
    let running = project
        .program(&["--output", "json", "run", "copy"])
        .start()
        .unwrap();
    let waits = format!("{READERS} AND state = 'idle' AND query = 'ROLLBACK'");
    from.wait_for(&waits, 1).await;
    slow.batch_execute("COMMIT").await.unwrap();
    running.finish().unwrap().require_code(0).unwrap();
    assert_eq!(
        to.texts("SELECT id::text FROM copy ORDER BY id").await,
        ["1", "2", "3"]
    );
}
