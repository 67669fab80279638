//! Rows that the sink's table refuses: found one by one, set aside with their reason, all others loaded.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod kinds;

use databases::{BLOCKED, Database, configure, project, sink, source};
use etl_testkit::project::Project;
use kinds::{RUN, SINK, copied, kinds, loaded, message, query, says};
use serde_json::Value;

/// Small flushes, several per commit: bad rows lie in different ones.
const TUNING: &str = "tuning: { batch_rows: 512, flush_bytes: 65536, flushes_per_commit: 3 }\n";
const ROWS: i64 = 20_000;

fn rows(report: &Value) -> (u64, u64, u64) {
    let count = |name: &str| report["rows"][name].as_u64().unwrap();
    (count("extracted"), count("loaded"), count("quarantined"))
}

fn allow(rows: &str) -> String {
    format!("error_handling: {{ max_bad_rows: {rows}, max_retries: 0 }}\n")
}

/// People with a mood each; those of `bad` are given something that the table refuses.
async fn people() -> Database {
    let source = Database::new().await;
    source
        .execute(&format!(
            "CREATE TABLE people (id bigint, name text, mood text, boss bigint);
             INSERT INTO people SELECT i, 'name ' || i, 'fine', 1 FROM generate_series(1, {ROWS}) i;
             UPDATE people SET name = '' WHERE id = 7;
             UPDATE people SET boss = 99 WHERE id = 8000;
             UPDATE people SET mood = 'secret' WHERE id = 8001;
             UPDATE people SET name = 'name 1' WHERE id = {ROWS};"
        ))
        .await;
    source
}

const ALL: &str =
    "SELECT id, name, mood, boss FROM people WHERE id > @from AND id <= @until ORDER BY id";
const BAD: &str = "7, 8000, 8001, 20000";

/// A table that refuses the bad ones, each for a reason of its own.
const CHOOSY: &str = "CREATE DOMAIN mood AS text CHECK (VALUE = 'fine');
     CREATE TABLE bosses (id bigint PRIMARY KEY); INSERT INTO bosses VALUES (1);
     CREATE TABLE copy (id bigint PRIMARY KEY, name text UNIQUE CHECK (name <> ''), mood mood, boss bigint REFERENCES bosses);";

async fn assert_quarantined(sink: &Database) {
    let good = format!("SELECT count(*) FROM copy WHERE id NOT IN ({BAD})");
    assert_eq!(sink.number(&good).await, ROWS - 4);
    let letters = "SELECT (convert_from(payload, 'UTF8')::json->>'id') || ': ' || reason FROM etl_host.dead_letters \
                   WHERE stage = 'load' AND target = 'copy' AND arrow IS NOT NULL ORDER BY id";
    assert_eq!(
        sink.texts(letters).await,
        [
            "7: new row for relation \"copy\" violates check constraint \"copy_name_check\" (SQLSTATE 23514)",
            "8000: insert or update on table \"copy\" violates foreign key constraint \"copy_boss_fkey\" (SQLSTATE 23503)",
            "8001: value for domain mood violates check constraint \"mood_check\" (SQLSTATE 23514)",
            "20000: duplicate key value violates unique constraint \"copy_name_key\" (SQLSTATE 23505)",
        ]
    );
}

#[tokio::test]
async fn postgres_sets_each_refused_row_aside_and_loads_all_others() {
    for mode in ["", "write_mode: upsert, key: [id]"] {
        let (project, from, to) = (project(), people().await, Database::new().await);
        to.execute(CHOOSY).await;
        let yaml = |allowed: &str| {
            source(&[("a", &from)], ALL, "") + &sink(&to, mode) + TUNING + &allow(allowed)
        };
        // One too few: nothing of that chunk is committed, and the run says why.
        configure(&project, &yaml("3"));
        let report = project.result(RUN, 1);
        says(message(&report), "4 of ");
        says(message(&report), "`max_bad_rows` allows 3");
        says(message(&report), "copy_name_key");
        assert_eq!(
            to.number("SELECT count(*) FROM copy WHERE id = 20000")
                .await,
            0
        );

        let (project, to) = (databases::project(), Database::new().await);
        to.execute(CHOOSY).await;
        configure(
            &project,
            &(source(&[("a", &from)], ALL, "") + &sink(&to, mode) + TUNING + &allow("4")),
        );
        let report = project.result(RUN, 0);
        assert_eq!(rows(&report), (20_000, 19_996, 4), "{mode}");
        assert_quarantined(&to).await;
        assert_eq!(loaded(&project.result(RUN, 0)), 0);
    }
}

#[tokio::test]
async fn what_a_trigger_or_a_type_refuses_is_told_without_the_value() {
    let (project, from, to) = (project(), people().await, Database::new().await);
    to.execute(
        "CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE copy (id bigint, name varchar(10), mood text, boss bigint);
         CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.boss = 99 THEN RAISE EXCEPTION 'not this boss'; END IF;
           IF NEW.mood::mood = 'fine' THEN RETURN NEW; END IF; END $$;
         CREATE TRIGGER no BEFORE INSERT ON copy FOR EACH ROW EXECUTE FUNCTION no();",
    )
    .await;
    configure(
        &project,
        &(source(&[("a", &from)], ALL, "") + &sink(&to, "") + TUNING + &allow("1%")),
    );
    let run = project.program(&["--output", "json", "run", "copy"]);
    let finished = run.run().unwrap().require_code(0).unwrap();
    says(&finished.stderr, "a trigger refused it (SQLSTATE P0001)");
    assert!(
        !finished.stderr.contains("secret") && !finished.stderr.contains("boss"),
        "{}",
        finished.stderr
    );
    let report = finished.json().unwrap();
    // Names of ten characters fit, and all of these have at most that.
    assert_eq!(rows(&report), (20_000, 19_998, 2));
    let letters = "SELECT reason FROM etl_host.dead_letters ORDER BY id";
    assert_eq!(
        to.texts(letters).await,
        [
            "not this boss (SQLSTATE P0001)",
            "invalid input value for enum mood: \"secret\" (SQLSTATE 22P02)"
        ]
    );
}

#[tokio::test]
async fn an_upsert_merges_what_is_known_and_copies_what_is_new() {
    let (project, from, to) = (project(), people().await, Database::new().await);
    from.execute("UPDATE people SET name = 'n' || id, mood = 'fine', boss = 1")
        .await;
    to.execute("CREATE TABLE copy (id bigint PRIMARY KEY, name text, mood text, boss bigint, loads int DEFAULT 1);
        CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.loads = OLD.loads + 1; RETURN NEW; END $$;
        CREATE TRIGGER counted BEFORE UPDATE ON copy FOR EACH ROW EXECUTE FUNCTION counted();
        INSERT INTO copy (id, name) SELECT i, 'old' FROM generate_series(1, 20000, 100) i;").await;
    configure(
        &project,
        &(source(&[("a", &from)], ALL, "") + &sink(&to, "write_mode: upsert, key: [id]") + TUNING),
    );
    assert_eq!(rows(&project.result(RUN, 0)), (20_000, 20_000, 0));
    assert_eq!(
        to.number("SELECT count(*) FROM copy WHERE name = 'n' || id")
            .await,
        ROWS
    );
    assert_eq!(
        to.number("SELECT count(*) FROM copy WHERE loads = 2 AND id % 100 = 1")
            .await,
        200
    );
    assert_eq!(
        to.number("SELECT count(*) FROM copy WHERE loads = 1 AND id % 100 <> 1")
            .await,
        19_800
    );
}

/// Also what only its bytes tell apart: letters that a collation takes for equal, and JSON, which PostgreSQL does not
/// compare.
#[tokio::test]
async fn a_row_that_is_there_as_it_is_is_not_written_again() {
    let (project, from, to) = (project(), people().await, Database::new().await);
    to.execute("CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE copy (id bigint PRIMARY KEY, name text COLLATE any_case, mood json, boss bigint)")
        .await;
    from.execute("UPDATE people SET mood = '{\"mood\": 1}'")
        .await;
    configure(
        &project,
        &(source(&[("a", &from)], ALL, "") + &sink(&to, "write_mode: upsert, key: [id]") + TUNING),
    );
    assert_eq!(rows(&project.result(RUN, 0)), (20_000, 20_000, 0));
    let before = to.number("SELECT pg_current_xact_id()::text::bigint").await;
    from.execute(
        "UPDATE people SET name = upper(name) WHERE id = 100; UPDATE people SET mood = '{\"mood\":1}' WHERE id = 200;
         UPDATE people SET boss = NULL WHERE id = 300; UPDATE people SET boss = 1 WHERE id = 400",
    )
    .await;
    let again = project.result(&["run", "copy", "--full-refresh"], 0);
    assert_eq!(rows(&again), (20_000, 20_000, 0));
    let written =
        format!("SELECT id::text FROM copy WHERE xmin::text::bigint > {before} ORDER BY id");
    assert_eq!(to.texts(&written).await, ["100", "200", "300"]);
    let name = "SELECT name COLLATE \"C\" FROM copy WHERE id = 100";
    assert_eq!(to.texts(name).await, ["NAME 100"]);
}

fn sqlite(table: &str, more: &str) -> Project {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT, amount REAL, team TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO people SELECT i, 'name ' || i, i / 8.0, 'red' FROM n;
         UPDATE people SET name = 'name 1' WHERE id = 2; UPDATE people SET amount = -0.5 WHERE id = 4999;
         UPDATE people SET team = NULL WHERE id = 5000;",
    );
    project.execute(SINK, table);
    project.config(
        "copy",
        &(query("SELECT id, name, amount, team FROM people WHERE id > @from AND id <= @until ORDER BY id")
            + TUNING
            + more),
    );
    project
}

const CHOOSY_SQLITE: &str = "CREATE TABLE copy (id INTEGER PRIMARY KEY, name TEXT UNIQUE, amount REAL CHECK (amount > 0), team TEXT NOT NULL)";

#[test]
fn sqlite_sets_each_refused_row_aside_and_loads_all_others() {
    for mode in ["", "sink: { write_mode: upsert, key: [id] }\n"] {
        let project = sqlite(CHOOSY_SQLITE, &(mode.to_owned() + &allow("3")));
        let report = project.result(RUN, 0);
        assert_eq!(rows(&report), (5_000, 4_997, 3), "{mode}");
        assert_eq!(copied(&project), 4_997);
        let letters = "SELECT group_concat(json_extract(payload, '$.id') || ': ' || reason || ' ' || json_extract(payload, '$.amount'), '; ') \
                       FROM (SELECT * FROM etl_host_dead_letters WHERE arrow IS NOT NULL ORDER BY id)";
        assert_eq!(
            project.query(SINK, letters).trim_end(),
            "2: UNIQUE constraint failed: copy.name 0.25; \
             4999: CHECK constraint failed: amount > 0 -0.5; \
             5000: NOT NULL constraint failed: copy.team 625.0"
        );
        assert_eq!(loaded(&project.result(RUN, 0)), 0);
    }
}

#[test]
fn sqlite_commits_nothing_of_a_chunk_with_too_many_refused_rows() {
    let project = sqlite(CHOOSY_SQLITE, &allow("1"));
    let config = std::fs::read_to_string(project.path("plugins/copy.yaml")).unwrap();
    project.config(
        "copy",
        &config.replace("flushes_per_commit: 3", "flushes_per_commit: 1"),
    );
    let report = project.result(RUN, 1);
    says(message(&report), "CHECK constraint failed");
    // The first chunk held one bad row, and is committed.
    let (loaded, quarantined) = (
        copied(&project),
        project.number(SINK, "SELECT count(*) FROM etl_host_dead_letters"),
    );
    assert_eq!(quarantined, 1);
    assert_eq!(report["rows"]["loaded"].as_i64().unwrap(), loaded);
    assert_eq!(report["rows"]["quarantined"], 1);
    assert!(loaded > 0 && loaded < 4_999, "{loaded}");
}

/// Replays what is in quarantine, and says what became of it: replayed, superseded, left.
fn replay(project: &Project, pipeline: &str, ids: &[&str], code: i32) -> (u64, u64, Vec<String>) {
    let args = [&["dead-letters", "replay", pipeline][..], ids].concat();
    let report = project.result(&args, code);
    let count = |name: &str| report[name].as_u64().unwrap();
    let left = report["left"].as_array().unwrap().iter();
    let left = left.map(|left| left["reason"].as_str().unwrap().to_owned());
    (count("replayed"), count("superseded"), left.collect())
}

fn listed(project: &Project, pipeline: &str) -> usize {
    let list = project.result(&["dead-letters", "list", pipeline], 0);
    list["dead_letters"].as_array().unwrap().len()
}

#[tokio::test]
async fn mended_rows_are_replayed_into_postgres_once() {
    let (project, from, to) = (project(), people().await, Database::new().await);
    to.execute(CHOOSY).await;
    configure(
        &project,
        &(source(&[("a", &from)], ALL, "") + &sink(&to, "") + TUNING + &allow("4")),
    );
    project.result(RUN, 0);
    assert_eq!(listed(&project, "copy"), 4);

    // Nothing was mended: everything stays, each with its reason, and nothing is half done.
    let (replayed, superseded, left) = replay(&project, "copy", &[], 1);
    assert_eq!((replayed, superseded, left.len()), (0, 0, 4));
    says(&left[3], "copy_name_key");
    to.execute("ALTER TABLE copy DROP CONSTRAINT copy_name_check; INSERT INTO bosses VALUES (99)")
        .await;
    assert_eq!(replay(&project, "copy", &["1"], 0), (1, 0, vec![]));
    let (replayed, _, left) = replay(&project, "copy", &[], 1);
    assert_eq!((replayed, left.len()), (1, 2));
    to.execute("ALTER DOMAIN mood DROP CONSTRAINT mood_check; ALTER TABLE copy DROP CONSTRAINT copy_name_key").await;
    assert_eq!(replay(&project, "copy", &[], 0), (2, 0, vec![]));
    assert_eq!(replay(&project, "copy", &[], 0), (0, 0, vec![]));
    assert_eq!(listed(&project, "copy"), 0);
    assert_eq!(to.number("SELECT count(*) FROM copy").await, ROWS);
    let row = "SELECT concat_ws(',', id, name, mood, boss) FROM copy WHERE id = 8001";
    assert_eq!(to.texts(row).await, ["8001,name 8001,secret,1"]);
    assert_eq!(
        loaded(&project.result(RUN, 0)),
        0,
        "the checkpoint stays where it is"
    );
    assert_eq!(to.number("SELECT count(*) FROM etl_host.leases").await, 0);
}

#[tokio::test]
async fn a_replay_never_overwrites_a_newer_row() {
    let (project, from, to) = (project(), Database::new().await, Database::new().await);
    from.execute("CREATE TABLE people (id bigint, name text, version bigint); INSERT INTO people VALUES (1, 'old', 1), (2, 'old', 2)").await;
    to.execute("CREATE TABLE copy (id bigint PRIMARY KEY, name text CHECK (name <> 'old'), version bigint)").await;
    let query = "SELECT id, name, version FROM people WHERE version > @from AND version <= @until ORDER BY version";
    configure(
        &project,
        &(source(&[("a", &from)], query, "")
            + &sink(&to, "write_mode: upsert, key: [id]")
            + &allow("9")
            + "cursor: { column: version, kind: integer, settle_delay: 0s }\n"),
    );
    assert_eq!(rows(&project.result(RUN, 0)), (2, 0, 2));
    from.execute("UPDATE people SET name = 'new', version = 3 WHERE id = 1")
        .await;
    assert_eq!(rows(&project.result(RUN, 0)), (1, 1, 0));
    to.execute("ALTER TABLE copy DROP CONSTRAINT copy_name_check")
        .await;
    assert_eq!(replay(&project, "copy", &[], 0), (1, 1, vec![]));
    let names = "SELECT name FROM copy ORDER BY id";
    assert_eq!(to.texts(names).await, ["new", "old"]);
}

#[test]
fn mended_rows_are_replayed_into_sqlite_once() {
    let project = sqlite(
        "CREATE TABLE copy (id INTEGER PRIMARY KEY, name TEXT UNIQUE, amount REAL, team TEXT)",
        &allow("1"),
    );
    assert_eq!(rows(&project.result(RUN, 0)), (5_000, 4_999, 1));
    let (replayed, _, left) = replay(&project, "copy", &[], 1);
    assert_eq!((replayed, left.len()), (0, 1));
    says(&left[0], "UNIQUE constraint failed: copy.name");
    project.execute(
        SINK,
        "UPDATE copy SET name = 'somebody else' WHERE name = 'name 1'",
    );
    assert_eq!(replay(&project, "copy", &[], 0), (1, 0, vec![]));
    assert_eq!(replay(&project, "copy", &[], 0), (0, 0, vec![]));
    assert_eq!(copied(&project), 5_000);
    assert_eq!(
        project
            .query(SINK, "SELECT * FROM copy WHERE id = 2")
            .trim_end(),
        "2|name 1|0.25|red"
    );
}

#[test]
fn rows_that_the_transformer_rejected_go_through_it_again() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT, amount REAL, team TEXT);
         INSERT INTO people VALUES (1, 'ann', 1.5, 'red'), (2, 'bad', 2.5, 'red')",
    );
    let config = "error_handling: { max_bad_rows: 1 }\n";
    project.config("row-style", config);
    assert_eq!(rows(&project.result(&["run", "row-style"], 0)), (2, 1, 1));
    let (_, _, left) = replay(&project, "row-style", &[], 1);
    assert_eq!(left, ["nobody greets the bad one"]);
    project.config(
        "row-style",
        &format!("{config}settings: {{ rejects: nobody }}\n"),
    );
    assert_eq!(replay(&project, "row-style", &[], 0), (1, 0, vec![]));
    let greeted = project.query(SINK, "SELECT * FROM row_style WHERE id = 2");
    assert_eq!(greeted.trim_end(), "2|hello bad|5");
}

#[test]
fn dead_letters_are_listed_and_shown() {
    let project = sqlite(CHOOSY_SQLITE, &allow("3"));
    let nothing = project
        .program(&["dead-letters", "list", "copy"])
        .run()
        .unwrap();
    assert_eq!(
        nothing.require_code(0).unwrap().stdout,
        "copy: nothing in quarantine\n"
    );
    project.result(RUN, 0);
    let list = project
        .program(&["dead-letters", "list", "copy", "--limit", "2"])
        .run()
        .unwrap();
    let text = list.require_code(0).unwrap().stdout;
    says(&text, "CHECK constraint failed: amount > 0");
    says(&text, "the first 2; --limit shows more");
    let show = project
        .program(&["dead-letters", "show", "copy", "3"])
        .run()
        .unwrap();
    let text = show.require_code(0).unwrap().stdout;
    for words in [
        "dead letter 3\n",
        "  stage: load\n",
        "  table: copy\n",
        "    id: 5000\n",
        "    team: null\n",
    ] {
        says(&text, words);
    }
    let missing = project
        .program(&["dead-letters", "show", "copy", "3", "77"])
        .run()
        .unwrap()
        .require_code(2)
        .unwrap();
    says(&missing.stderr, "pipeline copy has no dead letter 77");
    let shown = project.result(&["dead-letters", "show", "copy", "1"], 0);
    assert_eq!(shown["dead_letters"][0]["row"]["name"], "name 1");
    assert_eq!(shown["dead_letters"][0]["can_be_replayed"], true);
}

#[tokio::test]
async fn a_known_row_is_merged_whichever_of_its_indexes_the_server_names() {
    let tables = [
        // An index that is older than the key's own, and violated too.
        "CREATE TABLE copy (id bigint, name text UNIQUE, mood text, boss bigint); CREATE UNIQUE INDEX ON copy (id)",
        // The server names the index of the part.
        "CREATE TABLE copy (id bigint PRIMARY KEY, name text, mood text, boss bigint) PARTITION BY RANGE (id);
         CREATE TABLE copy_1 PARTITION OF copy FOR VALUES FROM (0) TO (10000);
         CREATE TABLE copy_2 PARTITION OF copy FOR VALUES FROM (10000) TO (99999)",
    ];
    for table in tables {
        let (project, from, to) = (project(), people().await, Database::new().await);
        from.execute("UPDATE people SET name = 'n' || id").await;
        to.execute(table).await;
        let upsert = sink(&to, "write_mode: upsert, key: [id]");
        configure(
            &project,
            &(source(&[("a", &from)], ALL, "") + &upsert + TUNING),
        );
        assert_eq!(rows(&project.result(RUN, 0)), (20_000, 20_000, 0));
        from.execute("UPDATE people SET mood = 'changed' WHERE id % 7 = 0")
            .await;
        let again = project.result(&["run", "copy", "--full-refresh"], 0);
        assert_eq!(rows(&again), (20_000, 20_000, 0), "{table}");
        let changed = "SELECT count(*) FROM copy WHERE mood = 'changed'";
        assert_eq!(to.number(changed).await, ROWS / 7);
    }
}

#[tokio::test]
async fn what_is_read_again_is_not_replayed_as_well() {
    let (project, from, to) = (project(), people().await, Database::new().await);
    to.execute(&CHOOSY.replace("boss bigint", "part text, boss bigint"))
        .await;
    let query = "SELECT id, name, mood, boss, 'a' AS part FROM people WHERE id > @from AND id <= @until ORDER BY id";
    configure(
        &project,
        &(source(&[("a", &from)], query, "")
            + &sink(&to, "partition_column: part")
            + TUNING
            + &allow("4")),
    );
    assert_eq!(rows(&project.result(RUN, 0)), (20_000, 19_996, 4));
    to.execute("ALTER DOMAIN mood DROP CONSTRAINT mood_check; INSERT INTO bosses VALUES (99)")
        .await;
    // Rows 8000 and 8001 are loaded; row 7 lies elsewhere, row 20000 is refused again.
    let backfill =
        |from: &str, to: &str| project.result(&["backfill", "copy", "--from", from, "--to", to], 0);
    backfill("7999", "8001");
    backfill("19999", "20000");
    assert_eq!(listed(&project, "copy"), 2);
    to.execute("ALTER TABLE copy DROP CONSTRAINT copy_name_key; ALTER TABLE copy DROP CONSTRAINT copy_name_check").await;
    assert_eq!(replay(&project, "copy", &[], 0), (2, 0, vec![]));
    let both = "SELECT count(*) || ' ' || count(DISTINCT id) FROM copy";
    assert_eq!(to.texts(both).await, ["20000 20000"]);
}

#[tokio::test]
async fn rows_that_need_each_other_are_loaded_beside_a_bad_one() {
    let (project, from, to) = (project(), people().await, Database::new().await);
    // Everybody's boss comes later, in the same flush; the last has none.
    from.execute("DELETE FROM people WHERE id > 200; UPDATE people SET name = 'n' || id, boss = nullif(id + 1, 201); UPDATE people SET name = '' WHERE id = 100").await;
    to.execute("CREATE TABLE copy (id bigint PRIMARY KEY, name text CHECK (name <> ''), mood text, boss bigint REFERENCES copy)").await;
    configure(
        &project,
        &(source(&[("a", &from)], ALL, "") + &sink(&to, "") + &allow("100")),
    );
    // The bad one takes along those whose chain of bosses it breaks, and nobody else.
    assert_eq!(rows(&project.result(RUN, 0)), (200, 100, 100));
    assert_eq!(to.number("SELECT min(id) FROM copy").await, 101);
}

#[test]
fn sqlite_rows_that_need_each_other_are_loaded_beside_a_bad_one() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT, amount REAL, team TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
         INSERT INTO people SELECT i, iif(i = 100, '', 'x'), NULL, iif(i < 200, i + 1, NULL) FROM n;",
    );
    project.execute(SINK, "CREATE TABLE copy (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> ''), boss INTEGER REFERENCES copy)");
    let query = query(
        "SELECT id, name, CAST(team AS INTEGER) AS boss FROM people WHERE id > @from AND id <= @until ORDER BY id",
    );
    project.config("copy", &(query + &allow("100")));
    assert_eq!(rows(&project.result(RUN, 0)), (200, 100, 100));
}

#[test]
fn a_replay_into_sqlite_compares_times_as_times() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT, at TIMESTAMP);
         INSERT INTO people VALUES (1, 'old', '2024-01-31 10:00:00Z'), (2, 'old', '2024-01-31 10:00:01Z');",
    );
    project.execute(
        SINK,
        "CREATE TABLE copy (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'old'), at TIMESTAMP)",
    );
    let query =
        query("SELECT id, name, at FROM people WHERE at > @from AND at <= @until ORDER BY at");
    let upsert = "sink: { write_mode: upsert, key: [id] }\n";
    project.config("copy", &(query + kinds::BY_TIME + upsert + &allow("2")));
    assert_eq!(rows(&project.result(RUN, 0)), (2, 0, 2));
    // Somebody has loaded a row of half a second later, and mended the table.
    project.execute(
        SINK,
        "DROP TABLE copy; CREATE TABLE copy (id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMP);
         INSERT INTO copy VALUES (1, 'new', '2024-01-31 10:00:00.500Z')",
    );
    assert_eq!(replay(&project, "copy", &[], 0), (1, 1, vec![]));
    let names = project.query(
        SINK,
        "SELECT group_concat(name) FROM (SELECT name FROM copy ORDER BY id)",
    );
    assert_eq!(names.trim_end(), "new,old");
}

#[test]
fn a_replay_makes_no_table() {
    let project = sqlite(
        "CREATE TABLE copy (id INTEGER PRIMARY KEY, name TEXT UNIQUE, amount REAL, team TEXT)",
        &allow("1"),
    );
    project.result(RUN, 0);
    project.execute(SINK, "ALTER TABLE copy RENAME TO renamed");
    let (replayed, _, left) = replay(&project, "copy", &[], 1);
    assert_eq!(
        (replayed, left.as_slice()),
        (0, &["there is no table copy any more".to_owned()][..])
    );
}

#[tokio::test]
async fn a_copy_that_races_with_another_writer_for_a_key_becomes_a_merge() {
    let (project, from, to) = (project(), people().await, Database::new().await);
    from.execute("UPDATE people SET name = 'n' || id").await;
    to.execute("CREATE TABLE copy (id bigint PRIMARY KEY, name text, mood text, boss bigint)")
        .await;
    let upsert = sink(&to, "write_mode: upsert, key: [id]");
    configure(
        &project,
        &(source(&[("a", &from)], ALL, "") + &upsert + TUNING + &allow("0")),
    );
    // Somebody else has put the key in, and has not committed yet: the COPY waits for him.
    let other = to.at.connect().await.unwrap();
    let put = "BEGIN; INSERT INTO copy (id, name) VALUES (5000, 'theirs')";
    other.batch_execute(put).await.unwrap();
    let run = project
        .program(&["--output", "json", "run", "copy"])
        .start()
        .unwrap();
    to.wait_for(BLOCKED, 1).await;
    other.batch_execute("COMMIT").await.unwrap();
    let report = run
        .finish()
        .unwrap()
        .require_code(0)
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(rows(&report), (20_000, 20_000, 0));
    assert_eq!(report["attempts"], 1);
    let both = "SELECT count(*) || ' ' || count(*) FILTER (WHERE name = 'n' || id) FROM copy";
    assert_eq!(to.texts(both).await, ["20000 20000"]);
}

#[test]
fn the_row_at_which_a_stateless_plugin_panics_is_found_and_set_aside() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT, amount REAL, team TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO people SELECT i, CASE i WHEN 300 THEN 'boom' WHEN 700 THEN 'bad' WHEN 701 THEN 'skip' ELSE 'x' END, 1, 'red' FROM n;",
    );
    let settings = "settings: { panics_at: boom }\n";
    let run = &["run", "row-style"];
    // Where no row may be set aside, the panic is told as it is.
    project.config("row-style", settings);
    says(message(&project.result(run, 1)), "a name too many");
    project.config(
        "row-style",
        &format!("{settings}error_handling: {{ max_bad_rows: 2 }}\n"),
    );
    let report = project.result(run, 0);
    assert_eq!(rows(&report), (1_000, 997, 2));
    assert_eq!(report["rows"]["filtered"], 1);
    let letters = "SELECT json_extract(payload, '$.id') || ' ' || (reason LIKE '%a name too many%') FROM etl_host_dead_letters \
                   WHERE stage = 'transform' ORDER BY 1";
    assert_eq!(project.query(SINK, letters), "300 1\n700 0\n");
    // The mended plugin loads it.
    project.config("row-style", "settings: { rejects: nobody }\n");
    assert_eq!(replay(&project, "row-style", &[], 0), (2, 0, vec![]));
}
