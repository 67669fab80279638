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
    expect![[r#"
        copy: partition eu, into sqlite table copy, which is not there yet
          COLUMN  SOURCE       EXTRACT  TRANSFORM  SINK
          id      INTEGER      Int64    Int64      INTEGER, key
          name    VARCHAR(20)  Utf8     Utf8       TEXT
          amount  REAL         Float64  Float64    REAL
          team    TEXT         Utf8     Utf8       TEXT
        a run would execute
          CREATE TABLE "copy" ("id" INTEGER, "name" TEXT, "amount" REAL, "team" TEXT, PRIMARY KEY ("id"))
        copy: partition eu, into sqlite table copy
          COLUMN   SOURCE       EXTRACT  TRANSFORM  SINK
          id       INTEGER      Int64    Int64      INTEGER NOT NULL, key
          name     VARCHAR(20)  Utf8     Utf8       TEXT
          amount   REAL         Float64  Float64    REAL
          team     TEXT         Utf8     Utf8       TEXT
          made_at  -            -        -          TEXT
        a run would fail: the table copy has no column amount, team
          next: run ALTER TABLE "copy" ADD COLUMN "amount" REAL; ALTER TABLE "copy" ADD COLUMN "team" TEXT; or set `error_handling.on_schema_change` to `evolve` or `ignore`
        copy: partition eu, into sqlite table copy
          COLUMN   SOURCE       EXTRACT  TRANSFORM  SINK
          id       INTEGER      Int64    Int64      INTEGER NOT NULL, key
          name     VARCHAR(20)  Utf8     Utf8       TEXT
          amount   REAL         Float64  Float64    -
          team     TEXT         Utf8     Utf8       -
          made_at  -            -        -          TEXT
        a run would leave out amount, team, which the table does not have
        copy: partition eu, into sqlite table copy
          COLUMN   SOURCE       EXTRACT  TRANSFORM  SINK
          id       INTEGER      Int64    Int64      INTEGER NOT NULL, key
          name     VARCHAR(20)  Utf8     Utf8       TEXT
          amount   REAL         Float64  Float64    REAL
          team     TEXT         Utf8     Utf8       TEXT
          made_at  -            -        -          TEXT
        a run would execute
          ALTER TABLE "copy" ADD COLUMN "amount" REAL; ALTER TABLE "copy" ADD COLUMN "team" TEXT;
        copy: partition eu, into sqlite table copy
          COLUMN   SOURCE       EXTRACT  TRANSFORM  SINK
          id       INTEGER      Int64    Int64      INTEGER NOT NULL, key
          name     VARCHAR(20)  Utf8     Utf8       TEXT
          amount   REAL         Float64  Float64    REAL
          team     TEXT         Utf8     Utf8       TEXT
          made_at  -            -        -          TEXT
        the table takes these columns as it is
        ["ALTER TABLE \"copy\" ADD COLUMN \"amount\" REAL; ALTER TABLE \"copy\" ADD COLUMN \"team\" TEXT;"]"#]].assert_eq(&shown);
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
    expect![[r#"
        words: partition eu, into sqlite table words, which is not there yet
          COLUMN  SOURCE       EXTRACT  TRANSFORM  SINK
          id      INTEGER      Int64    Int64      INTEGER
          name    VARCHAR(20)  Utf8     Utf8       TEXT
          amount  REAL         Float64  -          -
          team    TEXT         Utf8     -          -
        a run would execute
          CREATE TABLE "words" ("id" INTEGER, "name" TEXT)
        words: partition eu, into sqlite table words_of_names, which is not there yet
          COLUMN  SOURCE       EXTRACT  TRANSFORM  SINK
          id      INTEGER      Int64    Int64      INTEGER
          word    -            -        Utf8       TEXT
          name    VARCHAR(20)  Utf8     -          -
          amount  REAL         Float64  -          -
          team    TEXT         Utf8     -          -
        a run would execute
          CREATE TABLE "words_of_names" ("id" INTEGER, "word" TEXT)
        totals: partition eu, into sqlite table totals, which is not there yet
          COLUMN  SOURCE       EXTRACT  TRANSFORM  SINK
          team    TEXT         Utf8     Utf8       TEXT
          people  -            -        Int64      INTEGER
          amount  REAL         Float64  Float64    REAL
          id      INTEGER      Int64    -          -
          name    VARCHAR(20)  Utf8     -          -
        a run would execute
          CREATE TABLE "totals" ("team" TEXT, "people" INTEGER, "amount" REAL)
        numbers: partition left, into sqlite table numbers, which is not there yet
          COLUMN     SOURCE  EXTRACT  TRANSFORM  SINK
          partition  -       Utf8     Utf8       TEXT
          number     -       Int64    Int64      INTEGER
        a run would execute
          CREATE TABLE "numbers" ("partition" TEXT, "number" INTEGER)
        error: to-file-at-least-once (the plugin's default config):1:1: settings.path: is required but not given (give it: text, Where the ids go.)
    "#]].assert_eq(&shown);
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
    expect![[r#"["CREATE TABLE \"copy\" (\"id\" bigint, \"name\" text, \"amount\" double precision, \"team\" text)"]"#]].assert_eq(&seen["tables"][0]["statements"].to_string());
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
    let expected = expect![[r#"
        copy: partition eu, into sqlite table copy, which is not there yet
          COLUMN    SOURCE            EXTRACT            TRANSFORM          SINK
          id        bigint            Int64              Int64              INTEGER
          placed    datetime2(7)      Timestamp(µs)      Timestamp(µs)      TIMESTAMP
          price     numeric(10,2)     Decimal128(10, 2)  Decimal128(10, 2)  TEXT
          customer  varchar(20)       Utf8               Utf8               TEXT
          note      nvarchar(max)     Utf8               Utf8               TEXT
          paid      bit               Boolean            Boolean            BOOLEAN
          token     uniqueidentifier  Utf8               Utf8               TEXT
        a run would execute
          CREATE TABLE "copy" ("id" INTEGER, "placed" TIMESTAMP, "price" TEXT, "customer" TEXT, "note" TEXT, "paid" BOOLEAN, "token" TEXT)
    "#]];
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
    expect![[r#"
        {
          "partition": "eu",
          "pipeline": "copy",
          "sink": "sqlite",
          "sink_error": null,
          "tables": [
            {
              "columns": [
                {
                  "extract_type": "Int64",
                  "key": false,
                  "name": "id",
                  "not_null": false,
                  "sink_type": "INTEGER",
                  "source_type": "INTEGER",
                  "transform_type": "Int64"
                },
                {
                  "extract_type": "Utf8",
                  "key": false,
                  "name": "name",
                  "not_null": false,
                  "sink_type": "TEXT",
                  "source_type": "VARCHAR(20)",
                  "transform_type": "Utf8"
                }
              ],
              "exists": false,
              "problem": null,
              "statements": [
                "CREATE TABLE \"copy\" (\"id\" INTEGER, \"name\" TEXT)"
              ],
              "table": "copy",
              "warnings": []
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&project.result(SCHEMA, 0)).unwrap());
}
