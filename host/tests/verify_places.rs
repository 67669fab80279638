//! `etl-host verify`: no row of the sink is passed over, whatever its table, its type or the case of its columns.
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
use kinds::{RUN, SINK, kinds, query, refusal, says};
use serde_json::{Value, json};

const AT_ID: &str = "cursor: { settle_delay: 0s }\n";
const FIVE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT);
    INSERT INTO people (id, name) VALUES (1, 'ann lee'), (2, 'bob'), (3, NULL), (4, 'skip'), (5, 'dee');";
const ALL: &str = "SELECT * FROM people WHERE id > @from AND id <= @until ORDER BY id";

/// Runs the command, which must end with this code.
fn verify(project: &Project, flags: &[&str], code: i32) -> Value {
    let args: Vec<&str> = ["verify", "copy"].iter().chain(flags).copied().collect();
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

/// The table's own catalogue tells where the rows lie, whether or not the partitions remember what they have written.
#[tokio::test]
async fn rows_in_a_range_that_the_source_has_emptied_are_surplus() {
    const THREE: &[&str] = &["--from", "2", "--to", "4"];
    let to = Database::new().await;
    let project = kinds(FIVE);
    project.write(".env", format!("TEST_PASSWORD='{}'\n", to.at.password));
    let server = sink(&to, "");
    for config in [query(ALL), query(ALL) + &server] {
        let server = config.contains("postgres");
        project.execute("data/people.db", "DROP TABLE people");
        project.execute("data/people.db", FIVE);
        project.config("copy", &config);
        project.result(RUN, 0);
        verify(&project, THREE, 0);
        project.execute("data/people.db", "DELETE FROM people WHERE id IN (3, 4)");
        for remembered in [true, false] {
            if !remembered && server {
                to.execute("UPDATE etl_host.checkpoints SET columns = NULL")
                    .await;
            } else if !remembered {
                project.execute(SINK, "UPDATE etl_host_checkpoints SET columns = NULL");
            }
            let report = verify(&project, THREE, 1);
            assert_eq!(
                differences(&report, 0),
                json!([["eu", "0", "100000", "surplus", 0, 2]])
            );
        }
        verify(&project, &["--from", "5", "--to", "9"], 0);
        // What tells the places is gone.
        let rename = "ALTER TABLE copy RENAME COLUMN id TO number";
        if server {
            to.execute(rename).await;
        } else {
            project.execute(SINK, rename);
        }
        says(
            refusal(&verify(&project, THREE, 2)),
            "need the cursor's column `id`",
        );
    }
}

#[test]
fn each_table_of_a_transformer_is_looked_at_when_the_source_is_empty() {
    let project = kinds(FIVE);
    project.result(&["run", "words"], 0);
    project.execute("data/people.db", "DELETE FROM people");
    project.execute(SINK, "DELETE FROM words");
    for flags in [&[][..], &["--from", "0", "--to", "1"]] {
        let args: Vec<&str> = ["verify", "words"].iter().chain(flags).copied().collect();
        let report = project.result(&args, 1);
        assert_eq!(report["tables"][1]["table"], "words_of_names");
        assert_eq!(differences(&report, 0), json!([]));
        assert_eq!(differences(&report, 1)[0][3], "surplus");
    }
}

/// A file keeps a decimal as text, which has another order.
#[tokio::test]
async fn a_decimal_may_tell_where_a_row_lies() {
    let (from, to) = (Database::new().await, Database::new().await);
    from.execute(
        "CREATE TABLE people (id numeric(18,0), name text);
         INSERT INTO people SELECT i, 'old' FROM unnest('{2,12,100,150,200,1000}'::bigint[]) i",
    )
    .await;
    let by_id = "SELECT id, name FROM people WHERE id > @from AND id <= @until ORDER BY id";
    let project = project();
    let file = format!("sink: {{ type: sqlite, path: {SINK}, table: copy }}\n");
    for (to_file, config) in [(true, file), (false, sink(&to, ""))] {
        configure(&project, &(source(&[("a", &from)], by_id, "") + &config));
        project.result(RUN, 0);
        verify(&project, &[], 0);
        let range = ["--from", "100", "--to", "200", "--window", "50"];
        let report = verify(&project, &range, 0);
        assert_eq!(report["tables"][0]["partitions"][0]["found"], 2);
        let change = "UPDATE copy SET name = 'new' WHERE id IN ('150', '1000')";
        if to_file {
            project.execute(SINK, change);
        } else {
            to.execute(change).await;
        }
        let report = verify(&project, &range, 1);
        assert_eq!(
            differences(&report, 0),
            json!([["a", "100", "150", "values", 1, 1]])
        );
    }
}

/// To `SQLite` `ID` and `id` are one column.
#[test]
fn the_case_of_a_name_does_not_matter_in_a_file() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT); INSERT INTO people VALUES (1, 'ann'), (2, 'bob')",
    );
    project.execute(SINK, "CREATE TABLE copy (ID INTEGER, NAME TEXT)");
    project.config("copy", &query(ALL));
    project.result(RUN, 0);
    let report = verify(&project, &["--window", "1"], 0);
    assert_eq!(report["tables"][0]["left_out"], json!([]));
    project.execute(SINK, "UPDATE copy SET name = 'cid' WHERE id = 2");
    let report = verify(&project, &["--window", "1"], 1);
    assert_eq!(
        differences(&report, 0),
        json!([["eu", "1", "2", "values", 1, 1]])
    );
}

/// A file's merge sets a row aside as it was staged, without the column that the table does not have.
#[test]
fn a_row_that_was_set_aside_without_a_column_excuses_no_other() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT, team TEXT);
         INSERT INTO people VALUES (1, 'ann', 'red'), (2, 'bob', 'red'), (3, 'cid', 'blue')",
    );
    project.execute(
        SINK,
        "CREATE TABLE copy (id INTEGER, name TEXT CHECK (name <> 'bob'))",
    );
    project.config(
        "copy",
        &(query(ALL) + "error_handling: { max_bad_rows: 1, on_schema_change: ignore }\n"),
    );
    project.result(RUN, 0);
    assert_eq!(kinds::copied(&project), 2);
    let report = verify(&project, &["--window", "1"], 0);
    assert_eq!(differences(&report, 0), json!([]));
    project.execute(SINK, "DELETE FROM copy WHERE id = 3");
    let report = verify(&project, &["--window", "1"], 1);
    let missing = json!([["eu", "2", "3", "missing", 1, 0]]);
    assert_eq!(differences(&report, 0), missing);
    // The row in quarantine is there after all; it excuses nothing then.
    project.execute(
        SINK,
        "PRAGMA ignore_check_constraints = ON; INSERT INTO copy VALUES (2, 'bob')",
    );
    let report = verify(&project, &["--window", "1"], 1);
    assert_eq!(differences(&report, 0), missing);
}

/// A replay moves no cursor; what it loads meanwhile is told all the same.
#[tokio::test]
async fn a_replay_meanwhile_is_told() {
    let (from, to) = (Database::new().await, Database::new().await);
    from.execute("CREATE TABLE people (id bigint); INSERT INTO people VALUES (1), (2), (3)")
        .await;
    to.execute("CREATE TABLE copy (id bigint CONSTRAINT strict CHECK (id <> 2))")
        .await;
    let waiting = "SELECT id FROM people WHERE id > @from AND id <= @until \
                   AND pg_advisory_xact_lock_shared(42)::text = '' ORDER BY id";
    let project = project();
    let bad = "error_handling: { max_bad_rows: 1 }\n";
    configure(
        &project,
        &(source(&[("a", &from)], waiting, "") + &sink(&to, "") + AT_ID + bad),
    );
    project.result(RUN, 0);
    to.execute("ALTER TABLE copy DROP CONSTRAINT strict").await;
    from.execute("SELECT pg_advisory_lock(42)").await;
    let running = project
        .program(&["--output", "json", "verify", "copy"])
        .start()
        .unwrap();
    from.wait_for(BLOCKED, 1).await;
    project.result(&["dead-letters", "replay", "copy"], 0);
    // Behind the checkpoint it is a difference: no run accounts for it.
    to.execute("INSERT INTO copy VALUES (9)").await;
    from.execute("SELECT pg_advisory_unlock(42)").await;
    let report = running.finish().unwrap().require_code(1).unwrap();
    let report = report.json().unwrap();
    assert_eq!(report["changed_meanwhile"], true);
    assert_eq!(
        differences(&report, 0),
        json!([["a", null, null, "beyond-checkpoint", 0, 1]])
    );
    to.execute("DELETE FROM copy WHERE id = 9").await;
    let report = verify(&project, &[], 0);
    assert_eq!(report["changed_meanwhile"], false);
}
