//! Values that a sink treats in a way of its own: U+0000, UUIDs, JSON, and times at their ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod kinds;

use databases::{Database, project, sink, source};
use kinds::{RUN, SINK, loaded, message, says};

const WITH_NUL: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, team TEXT);
    INSERT INTO people VALUES (1, 'Ann', 'a'), (2, 'B' || char(0) || 'ob', 'b' || char(0)), (3, char(0), NULL),
                              (4, 'B' || char(0) || 'ob', 'a');";
const FROM_FILE: &str = "source:\n  query: SELECT id, name, team FROM people WHERE id > @from AND id <= @until ORDER BY id\n";
const SOME_BAD: &str = "error_handling: { max_bad_rows: 5, max_retries: 0 }\n";

fn sqlite_sink(more: &str) -> String {
    format!("sink: {{ type: sqlite, path: {SINK}, table: copy{more} }}\n")
}

#[tokio::test]
async fn postgres_never_holds_nul_and_does_with_it_what_it_is_told() {
    let to = Database::new().await;
    let project = project();
    project.execute("data/people.db", WITH_NUL);
    let rows = "SELECT concat_ws('|', id, name, coalesce(team, 'NULL')) FROM copy ORDER BY id";
    for (wanted, quarantined, expected) in [
        ("", 3, &["1|Ann|a"][..]),
        ("nul_characters: quarantine", 3, &["1|Ann|a"]),
        (
            "nul_characters: strip",
            0,
            &["1|Ann|a", "2|Bob|b", "3||NULL", "4|Bob|a"],
        ),
        (
            "nul_characters: replace",
            0,
            &[
                "1|Ann|a",
                "2|B\u{fffd}ob|b\u{fffd}",
                "3|\u{fffd}|NULL",
                "4|B\u{fffd}ob|a",
            ],
        ),
    ] {
        to.execute("DROP TABLE IF EXISTS copy; DROP SCHEMA IF EXISTS etl_host CASCADE")
            .await;
        project.config(
            "copy",
            &(FROM_FILE.to_owned() + &sink(&to, wanted) + SOME_BAD),
        );
        let finished = project.run(RUN).require_code(0).unwrap();
        let report = finished.json().unwrap();
        assert_eq!(report["rows"]["quarantined"], quarantined, "{wanted}");
        assert_eq!(to.texts(rows).await, expected, "{wanted}");
        let told = finished.stderr.matches("in text").count();
        assert_eq!(told, usize::from(quarantined == 0), "{}", finished.stderr);
        if quarantined == 0 {
            says(&finished.stderr, "copy.name: 3, copy.team: 1");
        }
    }

    to.execute("TRUNCATE copy; DROP SCHEMA etl_host CASCADE")
        .await;
    let config = FROM_FILE.to_owned() + &sink(&to, "nul_characters: fail") + SOME_BAD;
    project.config("copy", &config);
    let report = project.result(RUN, 1);
    says(
        message(&report),
        "table copy, column `name`, row 2 of its batch: text with U+0000",
    );
    assert_eq!(
        (
            to.number("SELECT count(*) FROM copy").await,
            &report["attempts"]
        ),
        (0, &1.into())
    );
}

/// Two keys that are the same without it are one key.
#[tokio::test]
async fn a_key_is_compared_as_it_is_written() {
    let to = Database::new().await;
    let project = project();
    project.execute(
        "data/people.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, team TEXT);
         INSERT INTO people VALUES (1, 'Ann', 'a'), (2, 'Ann' || char(0), 'b');",
    );
    let upsert = "write_mode: upsert, key: [name], nul_characters: strip";
    project.config("copy", &(FROM_FILE.to_owned() + &sink(&to, upsert)));
    let report = project.result(RUN, 0);
    assert_eq!(
        (loaded(&report), &report["rows"]["superseded"]),
        (1, &1.into())
    );
    let rows = "SELECT concat_ws('|', id, name, team) FROM copy";
    assert_eq!(to.texts(rows).await, ["2|Ann|b"]);
}

#[test]
fn sqlite_keeps_nul_unless_it_is_told_otherwise() {
    let project = project();
    project.execute("data/people.db", WITH_NUL);
    for (wanted, rows) in [
        ("", "1|416E6E\n2|42006F62\n3|00\n4|42006F62\n"),
        ("keep", "1|416E6E\n2|42006F62\n3|00\n4|42006F62\n"),
        ("strip", "1|416E6E\n2|426F62\n3|\n4|426F62\n"),
        (
            "replace",
            "1|416E6E\n2|42EFBFBD6F62\n3|EFBFBD\n4|42EFBFBD6F62\n",
        ),
        ("quarantine", "1|416E6E\n"),
    ] {
        let _ = std::fs::remove_file(project.path(SINK));
        let nuls = if wanted.is_empty() {
            String::new()
        } else {
            format!(", nul_characters: {wanted}")
        };
        project.config(
            "copy",
            &(FROM_FILE.to_owned() + &sqlite_sink(&nuls) + SOME_BAD),
        );
        project.result(RUN, 0);
        assert_eq!(
            project.query(SINK, "SELECT id, hex(name) FROM copy ORDER BY id"),
            rows,
            "{wanted}"
        );
    }
    project.execute(SINK, "DROP TABLE copy; DROP TABLE etl_host_checkpoints");
    project.config(
        "copy",
        &(FROM_FILE.to_owned() + &sqlite_sink(", nul_characters: fail") + SOME_BAD),
    );
    says(message(&project.result(RUN, 1)), "row 2 of its batch");
    assert_eq!(project.number(SINK, "SELECT count(*) FROM copy"), 0);
}

const MARKED: &str = r#"CREATE TABLE people (id bigint, a uuid, b json, c jsonb);
    INSERT INTO people VALUES (1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a":1}', '[1, 2]'), (2, NULL, NULL, NULL);"#;
const BY_ID: &str = "SELECT * FROM people WHERE id > @from AND id <= @until ORDER BY id";

#[tokio::test]
async fn uuids_and_json_load_into_text_and_text_loads_into_theirs() {
    let (from, to) = (Database::new().await, Database::new().await);
    from.execute(MARKED).await;
    to.execute("CREATE TABLE copy (id bigint, a text, b varchar(20), c json)")
        .await;
    let project = project();
    project.config(
        "copy",
        &(source(&[("a", &from)], BY_ID, "") + &sink(&to, "")),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 2);
    let rows = "SELECT concat_ws('|', id, a, b, c) FROM copy ORDER BY id";
    assert_eq!(
        to.texts(rows).await,
        [
            "1|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|{\"a\":1}|[1, 2]",
            "2"
        ]
    );

    // Text, where what is no UUID and no JSON is a bad row and not a failure.
    from.execute(
        r#"DROP TABLE people; CREATE TABLE people (id bigint, a text, b text, c text);
           INSERT INTO people VALUES (1, '{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}', '{"a": "\u0000"}', '{"a": "é"}'),
               (2, 'no', NULL, NULL), (3, NULL, '{', NULL), (4, NULL, NULL, '{"a": "\u0000"}'), (5, NULL, NULL, 'no'),
               (6, NULL, NULL, '"\ud800"');"#,
    )
    .await;
    to.execute("DROP TABLE copy; DROP SCHEMA etl_host CASCADE; CREATE TABLE copy (id bigint, a uuid, b json, c jsonb)")
        .await;
    project.config(
        "copy",
        &(source(&[("a", &from)], BY_ID, "") + &sink(&to, "") + SOME_BAD),
    );
    let report = project.result(RUN, 0);
    assert_eq!(
        (loaded(&report), &report["rows"]["quarantined"]),
        (1, &5.into())
    );
    assert_eq!(
        to.texts(rows).await,
        ["1|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|{\"a\": \"\\u0000\"}|{\"a\": \"é\"}"]
    );
}

/// One shard knows that a column holds UUIDs, the other one keeps them as text.
#[tokio::test]
async fn what_a_column_means_does_not_make_partitions_differ() {
    let (one, two, to) = (
        Database::new().await,
        Database::new().await,
        Database::new().await,
    );
    one.execute(MARKED).await;
    two.execute(
        &MARKED
            .replace("uuid", "text")
            .replace("jsonb", "text")
            .replace("json", "text"),
    )
    .await;
    let project = project();
    let shards = [("one", &one), ("two", &two)];
    project.config("copy", &(source(&shards, BY_ID, "") + &sink(&to, "")));
    assert_eq!(loaded(&project.result(RUN, 0)), 4);
}

#[tokio::test]
async fn times_at_their_ends_arrive_in_both_sinks() {
    let (from, to) = (Database::new().await, Database::new().await);
    from.execute(
        "CREATE TABLE people (id bigint, a uuid, b json, daily time, day date, at timestamp, moment timestamptz);
         INSERT INTO people VALUES (1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{}', '00:00', '0001-01-01', '0001-01-01', '0001-01-01 00:00Z'),
            (2, NULL, NULL, '23:59:59.999999', '9999-12-31', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999Z');",
    )
    .await;
    let project = project();
    let base = source(&[("a", &from)], BY_ID, "");
    project.config("copy", &(base.clone() + &sqlite_sink("")));
    assert_eq!(loaded(&project.result(RUN, 0)), 2);
    assert_eq!(
        project.query(SINK, "SELECT * FROM copy ORDER BY id"),
        "1|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|{}|00:00:00|0001-01-01|0001-01-01 00:00:00|0001-01-01 00:00:00Z\n\
         2|NULL|NULL|23:59:59.999999|9999-12-31|9999-12-31 23:59:59.999999|9999-12-31 23:59:59.999999Z\n"
    );
    let types = "SELECT group_concat(type) FROM pragma_table_info('copy') WHERE name IN ('a', 'b', 'daily')";
    assert_eq!(project.query(SINK, types), "TEXT,TEXT,TEXT\n");

    project.config("copy", &(base + &sink(&to, "")));
    assert_eq!(loaded(&project.result(RUN, 0)), 2);
    let rows = "SELECT concat_ws('|', id, daily, day, at, moment) FROM {} ORDER BY id";
    assert_eq!(
        to.texts(&rows.replace("{}", "copy")).await,
        from.texts(&rows.replace("{}", "people")).await
    );
}
