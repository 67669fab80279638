//! `preview`, and the rows of a dry run: what authors see of their rows before anything is written.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

mod databases;
mod kinds;

use std::fs;

use databases::Database;
use etl_testkit::project::Project;
use expect_test::{expect, expect_file};
use kinds::{RUN, SINK, kinds, misbehaving, query, refusal, says};

const PEOPLE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT);
     INSERT INTO people VALUES (1, 'ann lee', 1.5, 'red'), (2, '', NULL, 'blue'), (3, NULL, 2.0, 'red'),
                               (4, 'skip', 0.25, NULL), (5, 'bad', 'much', 'blue');";
const PREVIEW: &[&str] = &["preview", "copy"];

/// What people see.
fn text(project: &Project, args: &[&str]) -> String {
    let finished = project.program(args).run().unwrap();
    let finished = finished.require_code(0).unwrap();
    assert_eq!(finished.stderr, "", "{args:?}");
    finished.stdout
}

#[test]
fn the_first_rows_of_every_kind_are_shown() {
    let project = kinds(PEOPLE);
    let mut shown = String::new();
    for args in [
        "copy",
        "copy --stage extract --limit 2",
        "words --limit 1",
        "even --limit 4 --isolation in-process",
        "totals --limit 3",
        "upper",
        "numbers --limit 2",
        "numbers --limit 2 --partition right --isolation in-process",
        "queried --limit 1",
        "row-style --since 1 --until 2",
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        let told = text(&project, &[&["preview"], args.as_slice()].concat());
        // How far an extractor is ahead is nobody's matter.
        for line in told.lines().filter(|line| !line.starts_with("  numbers: ")) {
            shown.push_str(line);
            shown.push('\n');
        }
        shown.push_str("----\n");
    }
    expect_file!["golden/preview.txt"].assert_eq(&shown);
}

#[test]
fn times_bytes_and_numbers_are_shown_as_they_are() {
    let project = kinds(
        "CREATE TABLE t (at DATETIME, day DATE, price DECIMAL(10, 2), raw BLOB, said TEXT);
         INSERT INTO t VALUES ('2026-01-30 23:59:30.226', '2026-01-30', '12.50', x'00ff', 'NULL'),
                              (NULL, NULL, -1, x'', char(27) || '[31mred');",
    );
    project.config(
        "copy",
        &format!("{}cursor: null\n", query("SELECT * FROM t")),
    );
    expect![[r#"
        copy, after transform: partition eu
          rows from the beginning: nothing is loaded yet
          2 rows read

        copy: 2 rows
          at                       day                     price  raw     said
          Timestamp(µs)            Date32      Decimal128(10, 2)  Binary  Utf8
          DATETIME                 DATE           DECIMAL(10, 2)  BLOB    TEXT
          -----------------------  ----------  -----------------  ------  ---------------
          2026-01-30 23:59:30.226  2026-01-30              12.50  0x00ff  "NULL"
          NULL                     NULL                    -1.00  0x      "\u{1b}[31mred"
    "#]]
    .assert_eq(&text(&project, PREVIEW));
    let rows = &project.result(PREVIEW, 0)["tables"][0]["rows"];
    expect![[r#"[["2026-01-30 23:59:30.226","2026-01-30","12.50",{"hex":"00ff"},"NULL"],[null,null,"-1.00",{"hex":""},"\u001b[31mred"]]"#]].assert_eq(&rows.to_string());
}

#[test]
fn it_begins_where_the_next_run_begins_unless_nothing_is_new() {
    let project = kinds(&PEOPLE.replace("'much'", "4"));
    project.result(&["run", "copy", "--limit", "3"], 0);
    let begins = |args: &[&str]| {
        let seen = project.result(&[PREVIEW, args].concat(), 0);
        let rows = seen["tables"][0]["rows"].as_array().unwrap();
        let ids: Vec<String> = rows.iter().map(|row| row[0].to_string()).collect();
        format!("{} {}", seen["begins"], ids.join(" "))
    };
    let mut told = vec![
        begins(&[]),
        begins(&["--full-refresh"]),
        begins(&["--since", "3"]),
    ];
    project.execute("data/people.db", "DELETE FROM people WHERE id > 2");
    told.push(begins(&[]));
    // Another query than the one that was loaded.
    project.config(
        "copy",
        &query("SELECT id, name FROM people WHERE id > @from ORDER BY id"),
    );
    told.push(begins(&[]));
    project.execute("data/people.db", "DELETE FROM people");
    told.push(begins_of_nothing(&project));
    expect![[r#"
        {"at":"checkpoint","position":"2","reason":null} 3 4 5
        {"at":"beginning","position":null,"reason":null} 1 2 3 4 5
        {"at":"since","position":"3","reason":null} 4 5
        {"at":"beginning","position":null,"reason":"there is nothing new after 2, where the next run begins"} 1 2
        {"at":"beginning","position":null,"reason":"the checkpoint of partition eu was read by another query or cursor column, so a run would stop"} 1 2
        {"at":"beginning","position":null,"reason":"the checkpoint of partition eu was read by another query or cursor column, so a run would stop"} [{"name":"id","source_type":"INTEGER","type":"Int64"},{"name":"name","source_type":"TEXT","type":"Utf8"}]
        copy, after transform: partition eu
          rows from the beginning: the checkpoint of partition eu was read by another query or cursor column, so a run would stop
          0 rows read

        the source has no rows; its columns are
               id  name
            Int64  Utf8
          INTEGER  TEXT
          -------  ----
    "#]].assert_eq(&told.join("\n"));
}

fn begins_of_nothing(project: &Project) -> String {
    let seen = project.result(PREVIEW, 0);
    assert_eq!(seen["tables"].as_array().unwrap().len(), 0, "{seen}");
    format!(
        "{} {}\n{}",
        seen["begins"],
        seen["source_columns"],
        text(project, PREVIEW)
    )
}

#[test]
fn it_leaves_nothing_behind() {
    let project = kinds(PEOPLE);
    text(&project, PREVIEW);
    assert!(!project.path(SINK).exists());
    assert!(!project.path(".etl-host/logs").exists());

    project.config("copy", "error_handling: { max_bad_rows: 5 }\n");
    project.result(RUN, 0);
    let everything = |project: &Project| {
        let log = fs::read(project.path(".etl-host/logs/copy.log")).unwrap();
        let history = project.run(&["history", "copy"]).stdout;
        (fs::read(project.path(SINK)).unwrap(), log, history)
    };
    let before = everything(&project);
    for args in [
        &["--full-refresh"][..],
        &["--stage", "extract"],
        &["--since", "1"],
    ] {
        project.result(&[PREVIEW, args].concat(), 0);
    }
    text(&project, &["schema", "copy"]);
    assert!(everything(&project) == before, "something was written");
}

#[test]
fn rows_without_an_end_are_not_waited_for() {
    let project = kinds("");
    // Each row takes a step of the statement; there is no last one.
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                   SELECT i AS id FROM n WHERE i > @from AND i <= @until";
    project.config("copy", &query(endless));
    let seen = project.result(&["preview", "copy", "--limit", "3"], 0);
    assert_eq!(seen["tables"][0]["rows"].to_string(), "[[1],[2],[3]]");
    project.result(&["schema", "copy"], 0);

    project.config("numbers", "settings: { count: 9000000000000000000 }\n");
    for isolation in ["process", "in-process"] {
        let seen = project.result(&["preview", "numbers", "--isolation", isolation], 0);
        assert_eq!(seen["rows"]["extracted"], 20);
        // In batches of 30, and never more than a few of them ahead.
        let made = seen["counters"]["numbers"].as_u64().unwrap();
        assert!(made <= 30 * 5, "{made} rows were made");
    }
    let dry = project.result(&["run", "numbers", "--dry-run", "--limit", "5"], 0);
    assert_eq!(dry["rows"]["extracted"], 10);
}

#[tokio::test]
async fn a_table_of_a_server_is_not_read_to_its_end() {
    let (from, to) = (Database::new().await, Database::new().await);
    let project = databases::project();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1::bigint UNION ALL SELECT i + 1 FROM n) \
                   SELECT i AS id FROM n WHERE i > @from AND i <= @until";
    let source = databases::source(&[("a", &from)], endless, "");
    databases::configure(&project, &(source + &databases::sink(&to, "")));
    let seen = project.result(&["preview", "copy", "--limit", "2"], 0);
    assert_eq!(seen["tables"][0]["rows"].to_string(), "[[1],[2]]");
    from.wait_for(databases::ACTIVE_READERS, 0).await;
    let made = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE n.nspname = 'etl_host' OR c.relname = 'copy'";
    assert_eq!(to.number(made).await, 0);
}

#[test]
fn it_needs_no_sink() {
    let project = kinds(PEOPLE);
    project.config(
        "copy",
        "sink: { type: postgres, host: 127.0.0.1, port: 1, database: d, credentials: { username: u, password: p }, \
         tls: { mode: disable }, table: copy }\n",
    );
    let seen = project.result(&["preview", "copy", "--limit", "1"], 0);
    assert_eq!(seen["tables"][0]["rows"][0][0], 1);
    says(
        seen["begins"]["reason"].as_str().unwrap(),
        "how far it is loaded cannot be read from the sink",
    );
}

#[test]
fn a_shard_that_is_not_cut_yet_is_shown_as_a_whole() {
    let project = kinds(PEOPLE);
    project.config("copy", "source: { split_by: id, splits: 2 }\n");
    let ids = |partition: &str| {
        let args = [
            "preview",
            "copy",
            "--stage",
            "extract",
            "--full-refresh",
            "--partition",
            partition,
        ];
        let seen = project.result(&args, 0);
        seen["tables"][0]["rows"].as_array().unwrap().len()
    };
    assert_eq!(ids("eu/2"), 4);
    project.config(
        "copy",
        "source: { split_by: id, splits: 2 }\nerror_handling: { max_bad_rows: 5 }\n",
    );
    project.result(RUN, 0);
    assert!(ids("eu/2") < 4);
}

#[test]
fn a_dry_run_shows_the_rows_that_it_would_write() {
    let project = kinds(PEOPLE);
    project.config("copy", "error_handling: { max_bad_rows: 5 }\n");
    let finished = project
        .program(&["run", "copy", "--dry-run"])
        .run()
        .unwrap();
    let shown = finished.require_code(0).unwrap().stdout;
    let (_, rows) = shown.split_once("\n\n").unwrap();
    expect![[r#"
        copy: 4 rows
               id  name      amount  team
            Int64  Utf8     Float64  Utf8
          INTEGER  TEXT        REAL  TEXT
          -------  -------  -------  ----
                1  ann lee      1.5  red
                2  ""          NULL  blue
                3  NULL         2.0  red
                4  skip        0.25  NULL

        set aside: 1 row
          extract, column amount: a TEXT where a number is expected
            {"amount":"much","id":5,"name":"bad","team":"blue"}
    "#]]
    .assert_eq(rows);

    // Of each partition as many as are shown, in the order of the partitions.
    let report = project.result(&["run", "numbers", "--dry-run"], 0);
    let table = &report["preview"]["tables"][0];
    assert_eq!(table["total"], 200);
    assert_eq!(table["rows"].as_array().unwrap().len(), 20);
    assert_eq!(table["rows"][19].to_string(), r#"["left",20]"#);
    // A run that writes shows no rows.
    assert_eq!(project.result(&["run", "numbers"], 0).get("preview"), None);
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let project = kinds(PEOPLE);
    let answer = project.result(&["preview", "copy", "--partition", "asia"], 2);
    expect!["there is no partition `asia`; there are eu"].assert_eq(refusal(&answer));
    let answer = project.result(&["preview", "numbers", "--since", "3"], 2);
    expect![
        "--since and --until need the host's own extractor, but the pipeline has one of its own"
    ]
    .assert_eq(refusal(&answer));
    let finished = project
        .program(&["preview", "copy", "--limit", "0"])
        .run()
        .unwrap();
    finished.require_code(2).unwrap();

    // With where it panicked, and at once: nothing is tried again.
    let project = misbehaving(3);
    let shards =
        "source: { shards: [{ name: eu, path: data/eu.db }, { name: us, path: data/us.db }] }\n";
    for isolation in ["process", "in-process"] {
        project.config(
            "misbehaving",
            &format!(
                "{shards}isolation: {isolation}\nsettings: {{ misbehave: panic-in-transform }}\n"
            ),
        );
        let answer = project.result(&["preview", "misbehaving", "--partition", "us"], 1);
        says(
            refusal(&answer),
            "pipeline misbehaving, partition us: transform: panicked:",
        );
        assert!(answer["error"]["details"].is_string(), "{answer}");
        // What is read is shown all the same.
        project.result(&["preview", "misbehaving", "--stage", "extract"], 0);
    }
}
