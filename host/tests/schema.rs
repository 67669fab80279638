//! `schema`: each column's types on its way, and the statements that a run would execute, against real servers.
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
#[macro_use]
mod shards;

use databases::{ALL_TYPES, Database};
use etl_testkit::project::Project;
use expect_test::{expect, expect_file};
use kinds::{RUN, SINK, kinds, query};
use shards::{Driver, Shards};

const SCHEMA: &[&str] = &["schema", "copy"];
const TABLE: &str =
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(20), amount REAL, team TEXT);
     INSERT INTO people VALUES (1, 'ann lee', 1.5, 'red');";

fn text(project: &Project, args: &[&str]) -> String {
    let finished = project.program(args).run().unwrap();
    finished.require_code(0).unwrap().stdout
}

#[test]
fn a_sqlite_table_is_shown_as_it_would_be_made_as_it_is_and_as_it_would_grow() {
    let project = kinds(TABLE);
    let keyed = "sink: { write_mode: upsert, key: [id] }\n";
    project.config("copy", keyed);
    let mut shown = text(&project, SCHEMA);
    assert!(!project.path(SINK).exists());
    project.execute(
        SINK,
        "CREATE TABLE copy (id INTEGER NOT NULL, name TEXT, made_at TEXT DEFAULT 'now', PRIMARY KEY (id))",
    );
    // Strict: what a run would refuse, and with which statement it would not.
    shown.push_str(&text(&project, SCHEMA));
    for policy in ["ignore", "evolve"] {
        let policy = format!("error_handling: {{ on_schema_change: {policy} }}\n");
        project.config("copy", &format!("{keyed}{policy}"));
        shown.push_str(&text(&project, SCHEMA));
    }
    // What is shown is what a run does.
    let statements = project.result(SCHEMA, 0)["tables"][0]["statements"].clone();
    project.result(RUN, 0);
    assert_eq!(
        project.result(SCHEMA, 0)["tables"][0]["statements"].to_string(),
        "[]"
    );
    shown.push_str(&text(&project, SCHEMA));
    shown.push_str(&statements.to_string());
    expect![[""]].assert_eq(&shown);
}

#[test]
fn a_transformer_s_tables_and_columns_are_told_from_the_source_s() {
    let project = kinds(TABLE);
    let mut shown = String::new();
    for pipeline in ["words", "totals", "numbers", "to-file-at-least-once"] {
        let finished = project.program(&["schema", pipeline]).run().unwrap();
        shown.push_str(&finished.stdout);
        shown.push_str(&finished.stderr);
    }
    expect![[""]].assert_eq(&shown);
}

#[test]
fn a_source_without_rows_and_a_sink_that_is_gone_are_no_hindrance() {
    let project = kinds(TABLE);
    project.execute("data/people.db", "DELETE FROM people");
    project.config(
        "copy",
        "sink: { type: postgres, host: 127.0.0.1, port: 1, database: d, credentials: { username: u, password: p }, \
         tls: { mode: disable }, table: copy }\n",
    );
    let seen = project.result(SCHEMA, 0);
    assert_eq!(seen["tables"][0]["exists"], serde_json::Value::Null);
    expect![[""]].assert_eq(&seen["tables"][0]["statements"].to_string());
    let shown = text(&project, SCHEMA);
    kinds::says(
        &shown,
        "the sink cannot be asked, so this is the table as a run would make it: ",
    );
    kinds::says(&shown, "VARCHAR(20)");
}

#[tokio::test]
async fn postgres_types_are_shown_as_they_are_declared() {
    let (from, to) = (Database::new().await, Database::new().await);
    from.execute(ALL_TYPES).await;
    from.execute("ALTER TABLE everything ADD a_moment timestamptz(3), ADD a_minus numeric(5,-2)")
        .await;
    let project = databases::project();
    let query =
        "SELECT *, 1 + 1 AS two FROM everything WHERE id > @from AND id <= @until ORDER BY id";
    let source = databases::source(&[("a", &from)], query, "");
    let sink = databases::sink(&to, "write_mode: upsert, key: [id]");
    databases::configure(&project, &(source + &sink));
    let mut shown = text(&project, SCHEMA);
    project.result(RUN, 0);
    to.execute("ALTER TABLE copy DROP COLUMN a_bool, ADD COLUMN by_hand text NOT NULL DEFAULT ''")
        .await;
    shown.push_str(&text(&project, SCHEMA));
    expect_file!["golden/schema-postgres.txt"].assert_eq(&shown);
}

async fn sql_server_types_are_shown_as_they_are_declared(driver: Driver) {
    let shards = Shards::start(driver, 1).await;
    shards
        .execute(
            0,
            "CREATE TABLE orders (id bigint NOT NULL PRIMARY KEY, placed datetime2(7) NOT NULL, price numeric(10,2) NULL, \
             customer varchar(20) NULL, note nvarchar(max) NULL, paid bit NULL, token uniqueidentifier NULL)",
        )
        .await;
    let project = shards::copying();
    let source = shards.source(&project);
    let query = "SELECT * FROM orders WHERE id > @from AND id <= @until ORDER BY id";
    project.config(
        "copy",
        &format!(
            "{source}  query: {query}\ncursor: {{ column: id, kind: integer, settle_delay: 0s }}\n"
        ),
    );
    let expected = expect![[""]];
    expected.assert_eq(&text(&project, SCHEMA));
}

each_driver!(sql_server_types_are_shown_as_they_are_declared);

#[test]
fn the_columns_are_the_same_for_programs() {
    let project = kinds(TABLE);
    project.config(
        "copy",
        &query("SELECT id, name FROM people WHERE id > @from ORDER BY id"),
    );
    expect![[""]].assert_eq(&serde_json::to_string_pretty(&project.result(SCHEMA, 0)).unwrap());
}
