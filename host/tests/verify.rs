//! `etl-host verify`: what agrees agrees, and each difference is found in its range and nowhere else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod kinds;

use databases::{ALL_TYPES, BLOCKED, Database, configure, project, sink, source};
use etl_testkit::project::Project;
use kinds::{RUN, SINK, kinds, query, refusal, says};
use serde_json::{Value, json};

const VERIFY: &[&str] = &["verify", "copy"];
const AT: &str = "cursor: { column: at, kind: timestamp, settle_delay: 0s }\n";
const AT_ONCE: &str = "error_handling: { max_retries: 0 }\n";
const BY_TIME: &str =
    "SELECT id, shard, name, amount, at FROM people WHERE at > @from AND at <= @until ORDER BY at";

/// Twenty-four people an hour apart on each of ten days.
fn people(shard: &str) -> String {
    format!(
        "CREATE TABLE people (id bigint PRIMARY KEY, shard text, name text, amount float8, at timestamp NOT NULL);
         INSERT INTO people SELECT i, '{shard}', 'name ' || i,
             CASE i % 4 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' ELSE i / 7.0 END::float8,
             timestamp '2024-01-01 00:30' + interval '1 hour' * i
         FROM generate_series(0, 239) AS i;"
    )
}

/// Runs the command, which must end with this code.
fn verify(project: &Project, flags: &[&str], code: i32) -> Value {
    let args: Vec<&str> = VERIFY.iter().chain(flags).copied().collect();
    project.result(&args, code)
}

/// All differences of a table: partition, ends, kind, rows expected and found.
fn differences(report: &Value, table: usize) -> Value {
    let mut all = Vec::new();
    for partition in report["tables"][table]["partitions"].as_array().unwrap() {
        for found in partition["differences"].as_array().unwrap() {
            all.push(json!([
                partition["partition"],
                found["from"],
                found["to"],
                found["kind"],
                found["expected"],
                found["found"]
            ]));
        }
    }
    all.into()
}

async fn two_shards(more: &str) -> (Database, Database, Database, Project) {
    let (eu, us, to) = (
        Database::new().await,
        Database::new().await,
        Database::new().await,
    );
    eu.execute(&people("eu")).await;
    us.execute(&people("us")).await;
    let project = project();
    let shards = source(&[("eu", &eu), ("us", &us)], BY_TIME, "");
    configure(&project, &(shards + &sink(&to, more) + AT + AT_ONCE));
    assert_eq!(kinds::loaded(&project.result(RUN, 0)), 480);
    (eu, us, to, project)
}

#[tokio::test]
async fn each_difference_is_named_by_partition_and_range() {
    let (eu, _us, to, project) = two_shards("partition_column: shard").await;
    let checkpoints = "SELECT concat_ws('|', partition, epoch, cursor, run_id) FROM etl_host.checkpoints ORDER BY 1";
    let before = to.texts(checkpoints).await;
    // What is not loaded yet is not compared.
    eu.execute("INSERT INTO people VALUES (999, 'eu', 'new', 1, '2024-06-01')")
        .await;
    let report = verify(&project, &[], 0);
    assert_eq!(
        (&report["agrees"], &report["window"]),
        (&true.into(), &"1d".into())
    );
    for (index, name) in ["eu", "us"].into_iter().enumerate() {
        let partition = &report["tables"][0]["partitions"][index];
        assert_eq!(
            partition,
            &json!({ "partition": name, "agrees": true, "expected": 240, "found": 240, "quarantined": 0, "ranges": 10,
                     "differences": [] })
        );
    }

    to.execute(
        "DELETE FROM copy WHERE shard = 'eu' AND at = '2024-01-03 07:30';
         UPDATE copy SET name = 'Name 150' WHERE shard = 'eu' AND id = 150;
         INSERT INTO copy SELECT * FROM copy WHERE shard = 'us' AND at = '2024-01-05 23:30';
         UPDATE copy SET amount = '-Infinity' WHERE shard = 'us' AND id = 169;
         INSERT INTO copy VALUES (1, 'us', 'from nowhere', 1, '2024-05-01'), (1, 'asia', 'from nowhere', 1, '2024-01-01 12:00');",
    )
    .await;
    let report = verify(&project, &[], 1);
    let day = |day: u32| format!("2024-01-{day:02} 00:00:00");
    let all = json!([
        ["asia", day(1), day(2), "surplus", 0, 1],
        ["eu", day(3), day(4), "missing", 24, 23],
        ["eu", day(7), day(8), "values", 24, 24],
        ["us", day(5), day(6), "surplus", 24, 25],
        ["us", day(8), day(9), "values", 24, 24],
        ["us", null, null, "beyond-checkpoint", 0, 1],
    ]);
    assert_eq!(differences(&report, 0), all);

    let report = verify(&project, &["--partition", "eu", "--window", "6h"], 1);
    let six_hours = json!([
        [
            "eu",
            "2024-01-03 06:00:00",
            "2024-01-03 12:00:00",
            "missing",
            6,
            5
        ],
        [
            "eu",
            "2024-01-07 06:00:00",
            "2024-01-07 12:00:00",
            "values",
            6,
            6
        ],
    ]);
    assert_eq!(differences(&report, 0), six_hours);

    let part = [
        "--from",
        "2024-01-03",
        "--to",
        "2024-01-05",
        "--partition",
        "eu",
    ];
    let report = verify(&project, &part, 1);
    assert_eq!(differences(&report, 0), json!([all[1]]));
    assert_eq!(report["tables"][0]["partitions"][0]["expected"], 48);
    verify(
        &project,
        &[
            "--from",
            "2024-01-03 07:30",
            "--to",
            "2024-01-04",
            "--partition",
            "eu",
        ],
        0,
    );

    let report = verify(&project, &["--exclude", "name", "--exclude", "amount"], 1);
    assert_eq!(
        differences(&report, 0),
        json!([all[0], all[1], all[3], all[5]])
    );
    assert_eq!(report["tables"][0]["left_out"], json!(["name", "amount"]));
    assert_eq!(to.texts(checkpoints).await, before);

    let shown = project
        .program(VERIFY)
        .run()
        .unwrap()
        .require_code(1)
        .unwrap();
    for words in [
        "copy: table copy DIFFERS in 6 of 22 ranges",
        "2024-01-03 00:00:00  2024-01-04 00:00:00             24           23  1 missing",
        "behind the checkpoint",
    ] {
        says(&shown.stdout, words);
    }
}

#[tokio::test]
async fn partitions_that_cannot_be_told_apart_are_compared_together() {
    let (_eu, _us, to, project) = two_shards("").await;
    let report = verify(&project, &[], 0);
    let all = &report["tables"][0]["partitions"];
    assert_eq!(
        (&all[0]["partition"], &all[0]["found"]),
        (&Value::Null, &480.into())
    );
    to.execute("DELETE FROM copy WHERE shard = 'us' AND id = 0")
        .await;
    let report = verify(&project, &[], 1);
    assert_eq!(
        differences(&report, 0),
        json!([[
            null,
            "2024-01-01 00:00:00",
            "2024-01-02 00:00:00",
            "missing",
            48,
            47
        ]])
    );
    let answer = verify(&project, &["--partition", "us"], 2);
    says(refusal(&answer), "all are compared together");
}

#[tokio::test]
async fn a_value_that_no_pipeline_writes_is_a_difference() {
    let (_eu, _us, to, project) = two_shards("partition_column: shard").await;
    to.execute("UPDATE copy SET at = 'infinity' WHERE shard = 'us' AND id = 0")
        .await;
    let report = verify(&project, &[], 1);
    assert_eq!(
        differences(&report, 0),
        json!([
            [
                "us",
                "2024-01-01 00:00:00",
                "2024-01-02 00:00:00",
                "missing",
                24,
                23
            ],
            ["us", null, null, "surplus", 0, 1]
        ])
    );
}

/// What the connectors' own tests load, at its limits.
#[tokio::test]
async fn every_type_agrees_with_itself() {
    let (from, to) = (Database::new().await, Database::new().await);
    from.execute(ALL_TYPES).await;
    // A row for each column, to change it there.
    from.execute(
        "CREATE TEMP TABLE third AS SELECT * FROM everything WHERE id = 3;
         DO $$ BEGIN FOR i IN 11..47 LOOP UPDATE third SET id = i; INSERT INTO everything SELECT * FROM third; END LOOP; END $$",
    )
    .await;
    let project = project();
    let read = |more: &str| {
        let query =
            format!("SELECT * FROM everything WHERE id > @from AND id <= @until{more} ORDER BY id");
        source(&[("a", &from)], &query, "") + "cursor: { settle_delay: 0s }\n" + AT_ONCE
    };
    configure(&project, &(read("") + &sink(&to, "")));
    project.result(RUN, 0);
    let report = verify(&project, &["--window", "1"], 0);
    assert_eq!(report["tables"][0]["partitions"][0]["found"], 4 + 37);
    let columns = "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'copy' AND column_name <> 'id'";
    let columns = to.texts(columns).await;
    assert_eq!(columns.len(), 37);
    let mut expected = Vec::new();
    for (id, column) in (11..).zip(&columns) {
        to.execute(&format!("UPDATE copy SET {column} = NULL WHERE id = {id}"))
            .await;
        expected.push(json!([
            "a",
            (id - 1).to_string(),
            id.to_string(),
            "values",
            1,
            1
        ]));
    }
    let report = verify(&project, &["--window", "1"], 1);
    assert_eq!(differences(&report, 0), Value::from(expected));

    // SQLite has no NaN.
    configure(
        &project,
        &(read(" AND id <> 4") + "sink: { type: sqlite, path: data/warehouse.db, table: copy }\n"),
    );
    project.result(RUN, 0);
    verify(&project, &["--window", "1"], 0);
    let mut expected = Vec::new();
    for (id, column) in (11..).zip(&columns) {
        // Neither NULL nor any value of the third row.
        project.execute(
            SINK,
            &format!("UPDATE copy SET {column} = 7 WHERE id = {id}"),
        );
        expected.push(json!([
            "a",
            (id - 1).to_string(),
            id.to_string(),
            "values",
            1,
            1
        ]));
    }
    let report = verify(&project, &["--window", "1"], 1);
    assert_eq!(differences(&report, 0), Value::from(expected));
}

/// Tables that somebody else has made: other widths, padding, JSON that is kept in another order.
#[tokio::test]
async fn a_table_of_other_types_holds_the_same_values() {
    let (from, to) = (Database::new().await, Database::new().await);
    from.execute(
        r#"CREATE TABLE people (id integer, a smallint, b numeric(10,2), c text, d real, e text, f text, g timestamp(3), h time);
           INSERT INTO people VALUES (1, 7, 1.50, 'ab', 0.1, '{"b":1, "a":2.0}', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '2024-01-31 10:00:00.5', '10:00');"#,
    )
    .await;
    to.execute(
        "CREATE TABLE copy (extra text DEFAULT 'x', id bigint, a numeric, b numeric(20,5), c char(8), d double precision, e jsonb, f uuid, g timestamp, h time);",
    )
    .await;
    let project = project();
    let by_id = "SELECT * FROM people WHERE id > @from AND id <= @until ORDER BY id";
    configure(
        &project,
        &(source(&[("a", &from)], by_id, "") + &sink(&to, "") + "cursor: { settle_delay: 0s }\n"),
    );
    project.result(RUN, 0);
    verify(&project, &[], 0);
    to.execute("UPDATE copy SET h = '24:00'").await;
    verify(&project, &[], 1);
    verify(&project, &["--exclude", "h"], 0);
}

const FIVE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT, yes BOOLEAN, price DECIMAL(10,2),
                                         raw BLOB, born DATE, at TIMESTAMP);
    INSERT INTO people VALUES
        (1, 'ann lee', 1, 'red', 1, '1.50', x'00ff', '2000-02-29', '2024-01-31 10:00:00'),
        (2, 'bob', 9e999, 'blue', 0, '-0.01', x'', '0001-01-01', '2024-01-31 10:00:00.123456'),
        (3, NULL, -0.0, 'red', NULL, NULL, NULL, NULL, NULL),
        (4, 'skip', 0.25, NULL, 1, '12345678.90', x'01', '9999-12-31', '9999-12-31 23:59:59.999999'),
        (5, 'b' || char(0) || 'd', 4.0, 'blue', 1, '7', x'02', '1969-12-31', '0001-01-01 00:00:00');";
const ALL_OF_FIVE: &str = "SELECT * FROM people WHERE id > @from AND id <= @until ORDER BY id";

#[tokio::test]
async fn a_sqlite_file_is_compared_like_a_server() {
    let project = kinds(FIVE);
    project.config("copy", &query(ALL_OF_FIVE));
    project.result(RUN, 0);
    verify(&project, &[], 0);
    for (change, back, found) in [
        (
            "DELETE FROM copy WHERE id = 4",
            "",
            json!(["eu", "2", "4", "missing", 2, 1]),
        ),
        (
            "INSERT INTO copy SELECT * FROM copy WHERE id = 1",
            "DELETE FROM copy WHERE rowid = (SELECT max(rowid) FROM copy)",
            json!(["eu", "0", "2", "surplus", 2, 3]),
        ),
        (
            "UPDATE copy SET amount = 'text' WHERE id = 3",
            "",
            json!(["eu", "2", "4", "values", 2, 2]),
        ),
        (
            "UPDATE copy SET at = '2024-01-31 10:00:00.123457' WHERE id = 2",
            "",
            json!(["eu", "0", "2", "values", 2, 2]),
        ),
        (
            "UPDATE copy SET price = '1.51' WHERE id = 1",
            "UPDATE copy SET price = '1.500' WHERE id = 1",
            json!(["eu", "0", "2", "values", 2, 2]),
        ),
        (
            "UPDATE copy SET yes = 2 WHERE id = 1",
            "UPDATE copy SET yes = 1 WHERE id = 1",
            json!(["eu", "0", "2", "values", 2, 2]),
        ),
    ] {
        project.execute(
            SINK,
            "DROP TABLE IF EXISTS saved; CREATE TABLE saved AS SELECT * FROM copy",
        );
        project.execute(SINK, change);
        let report = verify(&project, &["--window", "2"], 1);
        assert_eq!(differences(&report, 0), json!([found]), "{change}");
        let undo = if back.is_empty() {
            "DELETE FROM copy; INSERT INTO copy SELECT * FROM saved"
        } else {
            back
        };
        project.execute(SINK, undo);
        verify(&project, &[], 0);
    }

    let to = Database::new().await;
    project.write(".env", format!("TEST_PASSWORD='{}'\n", to.at.password));
    project.config(
        "copy",
        &(query(ALL_OF_FIVE) + &sink(&to, "nul_characters: strip")),
    );
    project.result(RUN, 0);
    verify(&project, &[], 0);
}

#[test]
fn a_column_that_differs_in_every_reading_can_be_left_out() {
    let project = kinds(FIVE);
    project.config(
        "copy",
        &query("SELECT id, hex(randomblob(8)) AS salt FROM people WHERE id > @from AND id <= @until ORDER BY id"),
    );
    project.result(RUN, 0);
    let report = verify(&project, &[], 1);
    assert_eq!(differences(&report, 0)[0][3], "values");
    verify(&project, &["--exclude", "salt"], 0);
    let answer = verify(&project, &["--exclude", "sugar"], 2);
    says(refusal(&answer), "no column `sugar`");
}

#[test]
fn an_upsert_is_compared_by_the_last_row_of_each_key() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, team TEXT);
         INSERT INTO people VALUES (1, 'ann', 'red'), (2, 'bob', 'red'), (3, 'ann', 'blue'), (4, NULL, 'red');",
    );
    let upsert = "sink: { write_mode: upsert, key: [name], key_scope: global }\nerror_handling: { max_bad_rows: 1 }\n";
    let by_id = "SELECT id, name, team FROM people WHERE id > @from AND id <= @until ORDER BY id";
    project.config(
        "copy",
        &(query(&format!("{by_id} LIMIT 3").replace(" LIMIT 3", "")) + upsert),
    );
    project.execute("data/people.db", "DELETE FROM people WHERE id = 4");
    project.result(RUN, 0);
    let report = verify(&project, &["--window", "1"], 0);
    assert_eq!(report["tables"][0]["partitions"][0]["expected"], 2);
    project.execute(SINK, "UPDATE copy SET team = 'red' WHERE name = 'ann'");
    let report = verify(&project, &["--window", "1"], 1);
    assert_eq!(
        differences(&report, 0),
        json!([["eu", "2", "3", "values", 1, 1]])
    );
}

/// Which of the two was last nobody knows.
#[test]
fn a_key_of_several_partitions_may_hold_the_row_of_either() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT); INSERT INTO people VALUES (1, 'ann'), (2, 'bob'), (3, 'cid')",
    );
    project.execute(
        "data/us.db",
        "CREATE TABLE people (id INTEGER, name TEXT); INSERT INTO people VALUES (1, 'ANN'), (2, 'bob'), (4, 'dee')",
    );
    project.config(
        "copy",
        "source:\n  shards: [{ name: eu, path: data/people.db }, { name: us, path: data/us.db }]\n  \
         query: SELECT id, name FROM people WHERE id > @from AND id <= @until ORDER BY id\n\
         sink: { write_mode: upsert, key: [id], key_scope: global }\n",
    );
    project.result(RUN, 0);
    for name in ["ann", "ANN"] {
        project.execute(
            SINK,
            &format!("UPDATE copy SET name = '{name}' WHERE id = 1"),
        );
        let report = verify(&project, &[], 0);
        assert_eq!(report["tables"][0]["partitions"][0]["found"], 4);
    }
    project.execute(SINK, "UPDATE copy SET name = 'neither' WHERE id = 1");
    let report = verify(&project, &[], 1);
    assert_eq!(
        differences(&report, 0),
        json!([
            [null, "0", "100000", "surplus", 3, 4],
            [null, null, null, "missing", 1, 0]
        ])
    );
}

#[test]
fn the_pipelines_own_stages_take_part() {
    let project = kinds(FIVE);
    project.config("row-style", "error_handling: { max_bad_rows: 5 }\n");
    for pipeline in [
        "upper",
        "row-style",
        "even",
        "words",
        "numbers",
        "queried",
        "through-host",
    ] {
        project.result(&["run", pipeline], 0);
        project.result(&["verify", pipeline], 0);
    }
    project.execute(SINK, "UPDATE words_of_names SET word = 'an' WHERE word = 'ann'; UPDATE numbers SET number = 0 WHERE number = 7");
    let report = project.result(&["verify", "words"], 1);
    assert_eq!(
        (
            differences(&report, 0),
            report["tables"][0]["agrees"].clone()
        ),
        (json!([]), true.into())
    );
    assert_eq!(differences(&report, 1)[0][3], "values");
    project.result(&["verify", "numbers"], 1);
    // An extractor reads as far as it can; only what is loaded is compared.
    project.execute("data/people.db", "INSERT INTO people (id) VALUES (600)");
    project.result(&["verify", "queried"], 0);

    for (pipeline, words) in [
        ("totals", "aggregating pipeline"),
        (
            "to-file-at-least-once",
            "the pipeline's loader does not write to it",
        ),
        ("to-file", "the pipeline's loader does not write to it"),
    ] {
        project.config(
            "to-file",
            "settings: { path: data/ids.txt }\ncapabilities: { writable: [data] }\n",
        );
        project.config(
            "to-file-at-least-once",
            "settings: { path: data/ids.txt }\ncapabilities: { writable: [data] }\n",
        );
        let answer = project.result(&["verify", pipeline], 2);
        says(refusal(&answer), words);
    }
}

#[test]
fn what_cannot_be_compared_is_said() {
    let project = kinds(FIVE);
    project.config("copy", &query(ALL_OF_FIVE));
    says(
        refusal(&verify(&project, &[], 2)),
        "nothing was ever loaded",
    );
    project.result(RUN, 0);
    for (flags, words) in [
        (&["--window", "1d"][..], "--window `1d`"),
        (&["--from", "soon"], "no place to cut"),
        (&["--partition", "us"], "there is no partition `us`"),
    ] {
        says(refusal(&verify(&project, flags, 2)), words);
    }
    // Another query is another result.
    project.config("copy", &query(&ALL_OF_FIVE.replace('*', "id")));
    says(
        refusal(&verify(&project, &[], 1)),
        "was read by another query",
    );
    project.config("copy", &query(ALL_OF_FIVE));
    std::fs::remove_file(project.path("data/people.db")).unwrap();
    says(refusal(&verify(&project, &[], 3)), "does not exist");
}

#[test]
fn a_source_that_lost_its_rows_and_a_table_that_is_gone_are_differences() {
    let project = kinds(FIVE);
    project.config("copy", &query(ALL_OF_FIVE));
    project.result(RUN, 0);
    project.execute("data/people.db", "DELETE FROM people");
    let report = verify(&project, &[], 1);
    assert_eq!(
        differences(&report, 0),
        json!([["eu", "0", "100000", "surplus", 0, 5]])
    );
    project.execute(SINK, "DROP TABLE copy");
    verify(&project, &[], 0);
    project.execute("data/people.db", "INSERT INTO people (id) VALUES (3)");
    let report = verify(&project, &[], 1);
    assert_eq!(
        differences(&report, 0),
        json!([["eu", "0", "100000", "missing", 1, 0]])
    );
}

#[tokio::test]
async fn rows_in_quarantine_may_be_missing_and_no_others() {
    let to = Database::new().await;
    let project = kinds(FIVE);
    project.write(".env", format!("TEST_PASSWORD='{}'\n", to.at.password));
    let bad = "error_handling: { max_bad_rows: 1 }\n";
    project.config("copy", &(query(ALL_OF_FIVE) + &sink(&to, "") + bad));
    project.result(RUN, 0);
    let counts = |report: &Value| {
        let partition = &report["tables"][0]["partitions"][0];
        ["expected", "found", "quarantined"].map(|name| partition[name].as_u64().unwrap())
    };
    let report = verify(&project, &["--window", "1"], 0);
    assert_eq!(
        (counts(&report), differences(&report, 0)),
        ([4, 4, 1], json!([]))
    );
    // In the same range as the one in quarantine.
    to.execute("UPDATE copy SET name = 'other' WHERE id = 4")
        .await;
    let report = verify(&project, &[], 1);
    assert_eq!(
        differences(&report, 0),
        json!([["eu", "0", "100000", "values", 4, 4]])
    );
    to.execute("UPDATE copy SET name = 'skip' WHERE id = 4; DELETE FROM copy WHERE id = 2")
        .await;
    let report = verify(&project, &["--window", "1"], 1);
    assert_eq!(
        differences(&report, 0),
        json!([["eu", "1", "2", "missing", 1, 0]])
    );
    // What was mended and loaded is expected again.
    to.execute("UPDATE etl_host.dead_letters SET replayed_by = 'x'")
        .await;
    let report = verify(&project, &[], 1);
    assert_eq!(
        (counts(&report), &differences(&report, 0)[0][3]),
        ([5, 3, 0], &"missing".into())
    );

    // Of rows that an older host has set aside only the number is known.
    to.execute("UPDATE etl_host.dead_letters SET replayed_by = NULL, arrow = NULL")
        .await;
    let report = verify(&project, &["--window", "1"], 1);
    let missing = |id: u32| json!(["eu", (id - 1).to_string(), id.to_string(), "missing", 1, 0]);
    assert_eq!(differences(&report, 0), json!([missing(2), missing(5)]));
    to.execute("INSERT INTO etl_host.dead_letters (pipeline, partition, run_id, stage, target, reason, payload) \
                SELECT pipeline, partition, run_id, stage, target, reason, payload FROM etl_host.dead_letters")
        .await;
    let report = verify(&project, &["--window", "1"], 0);
    assert_eq!(
        (counts(&report), &differences(&report, 0)[0][3]),
        ([5, 3, 2], &"quarantined".into())
    );
}

/// What a run commits while the source is read again lies behind the checkpoint that is compared up to.
#[tokio::test]
async fn a_run_meanwhile_is_no_difference() {
    let (from, to) = (Database::new().await, Database::new().await);
    from.execute("CREATE TABLE people (id bigint); INSERT INTO people VALUES (1), (2), (3)")
        .await;
    let waiting = "SELECT id FROM people WHERE id > @from AND id <= @until \
                   AND pg_advisory_xact_lock_shared(42)::text = '' ORDER BY id";
    let project = project();
    configure(
        &project,
        &(source(&[("a", &from)], waiting, "") + &sink(&to, "") + "cursor: { settle_delay: 0s }\n"),
    );
    project.result(RUN, 0);
    from.execute("SELECT pg_advisory_lock(42)").await;
    let running = project
        .program(&["--output", "json", "verify", "copy"])
        .start()
        .unwrap();
    from.wait_for(BLOCKED, 1).await;
    to.execute(
        "INSERT INTO copy VALUES (4);
         UPDATE etl_host.checkpoints SET cursor = replace(cursor, '3', '4'), run_id = 'another'",
    )
    .await;
    from.execute("SELECT pg_advisory_unlock(42)").await;
    let report = running.finish().unwrap().require_code(0).unwrap();
    let report = report.json().unwrap();
    let found = &report["tables"][0]["partitions"][0]["found"];
    assert_eq!(
        (&report["changed_meanwhile"], found),
        (&true.into(), &3.into())
    );

    // Without a run nobody accounts for it.
    to.execute("UPDATE etl_host.checkpoints SET cursor = replace(cursor, '4', '3')")
        .await;
    let report = verify(&project, &[], 1);
    assert_eq!(
        differences(&report, 0),
        json!([["a", null, null, "beyond-checkpoint", 0, 1]])
    );
}
