//! `etl-host doctor` against real databases: what is wrong is named with its fix, and nothing is written.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests"
)]

mod findings;
mod kinds;
mod logins;

use etl_testkit::postgres::{PostgresOptions, PostgresServer, TestDatabase, Tls};
use etl_testkit::project::Project;
use expect_test::{Expect, expect};
use findings::{checks, complaints, word};
use kinds::{SINK, query};
use logins::{config, project};
use serde_json::Value;

const DOCTOR: &[&str] = &["doctor", "login-analytics"];
const RUN: &[&str] = &["run", "login-analytics"];

async fn database() -> TestDatabase {
    PostgresServer::shared().create_database().await.unwrap()
}

async fn execute(database: &TestDatabase, sql: &str) {
    let client = database.connect().await.unwrap();
    client.batch_execute(sql).await.unwrap();
}

/// A login that may do only what it is granted, and a configuration that uses it. Dropped with its database's rights.
struct Reader {
    name: String,
    database: TestDatabase,
}

impl Reader {
    async fn new(project: &Project, sink: &str) -> Self {
        let database = database().await;
        let name = format!("u_{}", database.name);
        execute(
            &database,
            &format!(
                "CREATE ROLE {name} LOGIN PASSWORD 'very-Secret-42'; REVOKE ALL ON DATABASE {} FROM PUBLIC; \
                 GRANT CONNECT ON DATABASE {} TO {name}",
                database.name, database.name
            ),
        )
        .await;
        let reader = Self { name, database };
        reader.configure(project, sink, "");
        reader
    }

    fn configure(&self, project: &Project, sink: &str, rest: &str) {
        let Self { name, database } = self;
        project.config(
            "login-analytics",
            &format!(
                "sink:\n  type: postgres\n  host: \"{}\"\n  port: {}\n  database: {}\n  table: login_analytics\n  \
                 credentials: {{ username: {name}, password: very-Secret-42 }}\n  {sink}\n{rest}",
                database.host, database.port, database.name
            ),
        );
    }

    async fn execute(&self, sql: &str) {
        execute(&self.database, &sql.replace("$user", &self.name)).await;
    }

    /// The tests' server outlives the test; its roles must not pile up.
    async fn drop(self) {
        self.execute("DROP OWNED BY $user CASCADE; DROP ROLE $user")
            .await;
    }
}

/// Fails unless this, and only this, is not well. `$user`, `$database` and `$port` stand for the test's own.
fn complains(project: &Project, code: i32, reader: &Reader, expected: &Expect) {
    let text = complaints(project, "login-analytics", code)
        .replace(&reader.name, "$user")
        .replace(&reader.database.name, "$database")
        .replace(&reader.database.port.to_string(), "$port");
    expected.assert_eq(&text);
}

/// Times, ports and random names replaced, so that the text is the same in every test run.
fn masked(project: &Project, database: &TestDatabase, text: &str) -> String {
    let text = project
        .redact(text)
        .replace(&database.name, "<database>")
        .replace(&database.user, "<user>")
        .replace(&database.port.to_string(), "<port>");
    let lines = text
        .lines()
        .map(|line| match line.split_once(" answered in ") {
            Some((before, _)) => format!("{before} answered in <n> ms\n"),
            None => format!("{line}\n"),
        });
    lines.collect()
}

/// The names of everything in the database that a run could have made.
async fn objects(database: &TestDatabase) -> Vec<String> {
    let client = database.connect().await.unwrap();
    let sql = "SELECT relname::text FROM pg_class WHERE oid >= 16384 UNION ALL SELECT nspname::text FROM pg_namespace \
               WHERE oid >= 16384 ORDER BY 1";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn all_is_well_before_and_after_the_first_run_and_nothing_is_written() {
    let (project, database) = (project(200), database().await);
    config(&project, &database, "", "");
    let shown = project.program(DOCTOR).run().unwrap();
    let shown = shown.require_code(0).unwrap();
    expect![[r"
        login-analytics
          shard-1  file         ok  data/shard-1.db
          shard-1  database     ok  journal mode delete: who writes waits while rows are read
          shard-1  query        ok  4 columns
          shard-1  index        ok  an index serves the cursor
          shard-1  read         ok  the query runs
          shard-2  file         ok  data/shard-2.db
          shard-2  database     ok  journal mode delete: who writes waits while rows are read
          shard-2  query        ok  4 columns
          shard-2  index        ok  an index serves the cursor
          shard-2  read         ok  the query runs
          sink     reachable    ok  127.0.0.1:<port> answered in <n> ms
          sink     tls          ok  not encrypted; the server is on this machine
          sink     login        ok  as `<user>`
          sink     database     ok  `<database>`
          sink     writable     ok  the server takes writes
          sink     connections  ok  at most 16 of the 57 that the server gives
          sink     host-tables  ok  the first run creates the schema etl_host
          sink     checkpoints  ok  none yet: the first run begins at the beginning
          sink     privileges   ok  login_analytics: CREATE
          sink     table        ok  login_analytics: is not there; the first run creates it with 12 columns

        20 checks, all is well
    "]].assert_eq(&masked(&project, &database, &shown.stdout));
    assert_eq!(objects(&database).await, Vec::<String>::new());

    project.result(RUN, 0);
    let before = objects(&database).await;
    let shown = project.program(DOCTOR).run().unwrap();
    let shown = shown.require_code(0).unwrap();
    expect![[r"
        login-analytics
          shard-1  file         ok  data/shard-1.db
          shard-1  database     ok  journal mode delete: who writes waits while rows are read
          shard-1  query        ok  4 columns
          shard-1  index        ok  an index serves the cursor
          shard-1  read         ok  the query runs
          shard-1  checkpoint   ok  belongs to this shard and this query
          shard-2  file         ok  data/shard-2.db
          shard-2  database     ok  journal mode delete: who writes waits while rows are read
          shard-2  query        ok  4 columns
          shard-2  index        ok  an index serves the cursor
          shard-2  read         ok  the query runs
          shard-2  checkpoint   ok  belongs to this shard and this query
          sink     reachable    ok  127.0.0.1:<port> answered in <n> ms
          sink     tls          ok  not encrypted; the server is on this machine
          sink     login        ok  as `<user>`
          sink     database     ok  `<database>`
          sink     writable     ok  the server takes writes
          sink     connections  ok  at most 16 of the 57 that the server gives
          sink     host-tables  ok  checkpoints and dead letters can be written
          sink     checkpoints  ok  of 2 partitions
          sink     privileges   ok  login_analytics: INSERT
          sink     table        ok  login_analytics: takes the 12 columns of the pipeline

        22 checks, all is well
    "]]
    .assert_eq(&masked(&project, &database, &shown.stdout));
    assert_eq!(objects(&database).await, before);
}

#[tokio::test]
async fn a_wrong_password_is_a_finding_and_shown_nowhere() {
    let project = project(10);
    let reader = Reader::new(&project, "").await;
    reader.execute("ALTER ROLE $user PASSWORD 'another'").await;
    complains(
        &project,
        3,
        &reader,
        &expect![[r#"
        sink login failed: password authentication failed for user "$user" (SQLSTATE 28P01)
          fix: check username and password, and the server's pg_hba.conf
    "#]],
    );
    for args in [
        &["-vv", "doctor", "login-analytics"][..],
        &["-vv", "--output", "json", "doctor"],
    ] {
        let shown = project.program(args).run().unwrap();
        let shown = shown.require_code(3).unwrap();
        assert!(!format!("{}{}", shown.stdout, shown.stderr).contains("very-Secret-42"));
    }
    reader.drop().await;
}

#[tokio::test]
async fn the_shards_are_examined_although_the_sink_is_down() {
    let project = project(10);
    let mut server = PostgresServer::start(&PostgresOptions::default()).unwrap();
    let database = server.create_database().await.unwrap();
    config(&project, &database, "", "");
    server.stop_immediate().unwrap();
    let report = project.result(DOCTOR, 3);
    let of_sink: Vec<&Value> = checks(&report)
        .iter()
        .filter(|check| check["where"] == "sink")
        .collect();
    assert_eq!(of_sink.len(), 1, "{report}");
    assert_eq!(of_sink[0]["check"], "reachable");
    assert!(word(&of_sink[0]["detail"]).contains("nobody listens"));
    let read = |check: &&Value| check["check"] == "read" && check["verdict"] == "ok";
    assert_eq!(checks(&report).iter().filter(read).count(), 2);
    // The database goes with its server.
    server.start_again().unwrap();
}

#[tokio::test]
async fn a_database_that_is_missing_or_closed() {
    let project = project(10);
    let reader = Reader::new(&project, "").await;
    reader
        .execute(&format!(
            "REVOKE CONNECT ON DATABASE {} FROM $user",
            reader.database.name
        ))
        .await;
    complains(
        &project,
        3,
        &reader,
        &expect![[r#"
            sink database failed: permission denied for database "$database" (SQLSTATE 42501)
              fix: GRANT CONNECT ON DATABASE "$database" TO "$user"
        "#]],
    );
    let name = project.path("plugins/login-analytics.yaml");
    let yaml = std::fs::read_to_string(&name).unwrap();
    let named = format!("database: {}", reader.database.name);
    let missing = yaml.replace(&named, "database: no_such_database");
    project.config("login-analytics", &missing);
    let text = complaints(&project, "login-analytics", 3);
    assert!(
        text.contains("sink database failed") && text.contains("3D000"),
        "{text}"
    );
    reader.drop().await;
}

#[tokio::test]
async fn privileges_that_the_first_run_lacks_are_all_named() {
    let project = project(10);
    let reader = Reader::new(&project, "").await;
    complains(
        &project,
        3,
        &reader,
        &expect![[r#"
            sink host-tables failed: there is no schema etl_host, and the user may not create it
              fix: GRANT CREATE ON DATABASE "$database" TO "$user", or see the privileges in docs/operations.md
            sink privileges failed: the user lacks CREATE on the schema public, where login_analytics is to be
              fix: GRANT CREATE ON SCHEMA "public" TO "$user"
        "#]],
    );
    let database = &reader.database.name;
    reader
        .execute(&format!(
            "GRANT CREATE ON DATABASE {database} TO $user; GRANT CREATE ON SCHEMA public TO $user"
        ))
        .await;
    complains(&project, 0, &reader, &expect![[r""]]);
    project.result(RUN, 0);
    reader.drop().await;
}

#[tokio::test]
async fn privileges_on_a_table_that_is_there() {
    let project = project(10);
    let reader = Reader::new(&project, "").await;
    let database = &reader.database.name;
    reader
        .execute(&format!(
            "GRANT CREATE ON DATABASE {database} TO $user; GRANT CREATE ON SCHEMA public TO $user; \
             CREATE TABLE login_analytics (user_id bigint); GRANT SELECT ON login_analytics TO $user"
        ))
        .await;
    let upsert = "write_mode: upsert\n  key: [user_id]\n  key_scope: global";
    let ignore = "error_handling: { on_schema_change: ignore }";
    reader.configure(&project, upsert, ignore);
    complains(
        &project,
        3,
        &reader,
        &expect![[r#"
        sink privileges failed: the user lacks INSERT, UPDATE on the table login_analytics; TEMPORARY on the database, where an upsert stages its rows
          fix: GRANT INSERT, UPDATE ON "login_analytics" TO "$user"; GRANT TEMPORARY ON DATABASE "$database" TO "$user"
        sink table failed: the table login_analytics has no unique index on the key (user_id)
          fix: run CREATE UNIQUE INDEX CONCURRENTLY ON "login_analytics" ("user_id")
    "#]],
    );
    reader
        .execute(&format!(
            "GRANT TEMPORARY ON DATABASE {database} TO $user; GRANT INSERT, UPDATE ON login_analytics TO $user; \
             CREATE UNIQUE INDEX ON login_analytics (user_id)"
        ))
        .await;
    complains(&project, 0, &reader, &expect![[r""]]);
    project.result(RUN, 0);

    reader
        .execute("ALTER TABLE login_analytics ADD COLUMN login_time timestamp, ADD COLUMN ip_address text")
        .await;
    let evolve = "error_handling: { on_schema_change: evolve }";
    reader.configure(&project, upsert, evolve);
    let text = complaints(&project, "login-analytics", 3);
    let only = "sink table failed: the table login_analytics has to be changed, and only its owner may do it";
    assert!(
        text.starts_with(only) && text.lines().count() == 2,
        "{text}"
    );
    reader
        .execute("REVOKE SELECT, UPDATE ON etl_host.checkpoints FROM $user")
        .await;
    reader.configure(&project, upsert, ignore);
    complains(
        &project,
        3,
        &reader,
        &expect![[r#"
        sink host-tables failed: the user may not read and write etl_host.checkpoints
          fix: GRANT SELECT, INSERT, UPDATE ON etl_host.checkpoints TO "$user", or see the privileges in docs/operations.md
    "#]],
    );
    reader.drop().await;
}

#[tokio::test]
async fn a_table_that_does_not_fit() {
    let (project, database) = (project(10), database().await);
    config(&project, &database, "", "");
    project.result(RUN, 0);
    execute(
        &database,
        "ALTER TABLE login_analytics ALTER COLUMN user_id TYPE text, DROP COLUMN ip_address",
    )
    .await;
    let complaint = complaints(&project, "login-analytics", 3);
    assert!(complaint.contains("no column ip_address"), "{complaint}");
    execute(
        &database,
        "ALTER TABLE login_analytics ADD COLUMN ip_address text",
    )
    .await;
    expect![[r#"
        sink table failed: the table login_analytics does not fit the pipeline: column `user_id` is text, which cannot take Arrow type Int64 without loss (the sink would create bigint)
          fix: run ALTER TABLE "login_analytics" ALTER COLUMN "user_id" TYPE bigint; (it rewrites the table; add USING where the server asks for it); or change the table or the transformer, or name another `sink.table`
    "#]].assert_eq(&complaints(&project, "login-analytics", 3));
    execute(
        &database,
        "ALTER TABLE login_analytics ALTER COLUMN user_id TYPE bigint USING user_id::bigint",
    )
    .await;
    config(
        &project,
        &database,
        "write_mode: upsert\n  key: [source_shard, login_id]",
        logins::QUERY_WITH_ID,
    );
    execute(
        &database,
        "ALTER TABLE login_analytics ADD COLUMN login_id bigint",
    )
    .await;
    expect![[r#"
        shard-1 checkpoint failed: the checkpoint of partition shard-1 was read by another query or cursor column
          fix: if this is meant, take the position over with `etl-host checkpoint set login-analytics --partition shard-1 --accept-fingerprint`, or start at the beginning with `etl-host checkpoint reset login-analytics --partition shard-1`; if two shards swapped places in the configuration, swap them back
        shard-2 checkpoint failed: the checkpoint of partition shard-2 was read by another query or cursor column
          fix: if this is meant, take the position over with `etl-host checkpoint set login-analytics --partition shard-2 --accept-fingerprint`, or start at the beginning with `etl-host checkpoint reset login-analytics --partition shard-2`; if two shards swapped places in the configuration, swap them back
        sink table failed: the table login_analytics has no unique index on the key (source_shard, login_id)
          fix: run CREATE UNIQUE INDEX CONCURRENTLY ON "login_analytics" ("source_shard", "login_id")
    "#]].assert_eq(&complaints(&project, "login-analytics", 3));
}

#[tokio::test]
async fn a_sink_that_cannot_be_written_or_has_few_connections() {
    let project = project(10);
    let reader = Reader::new(&project, "pool: { max_connections: 5 }").await;
    let database = &reader.database.name;
    reader
        .execute(&format!(
            "GRANT CREATE ON DATABASE {database} TO $user; GRANT CREATE ON SCHEMA public TO $user; \
             ALTER ROLE $user SET default_transaction_read_only = on; ALTER ROLE $user CONNECTION LIMIT 3"
        ))
        .await;
    complains(
        &project,
        3,
        &reader,
        &expect![[r"
        sink writable failed: transactions are read-only for this user or database
          fix: ALTER ROLE … or ALTER DATABASE … RESET default_transaction_read_only
        sink connections warning: the pool may open 5, but the server gives 3 at most
          fix: set `pool.max_connections` to 3 or less, or raise the server's limit
    "]],
    );
    reader.drop().await;
}

#[tokio::test]
async fn tls_that_is_missing_or_not_trusted() {
    let project = project(10);
    let database = database().await;
    config(&project, &database, "tls: { mode: require }", "");
    expect![[r"
        sink tls failed: the server does not encrypt
          fix: give it a certificate and set `ssl = on`, or set `tls.mode: disable` where nobody can listen
    "]].assert_eq(&complaints(&project, "login-analytics", 3));

    let server = PostgresServer::start(&PostgresOptions {
        tls: Tls::Required,
        certificate_names: vec!["db.example".to_owned()],
        ..PostgresOptions::default()
    })
    .unwrap();
    let database = server.create_database().await.unwrap();
    config(&project, &database, "tls: { mode: require }", "");
    expect![[r"
        sink tls failed: TLS: invalid peer certificate: UnknownIssuer
          fix: name the server's authority with `tls.ca_file`, or set `tls.trust_server_certificate: true` where nobody can sit in between
    "]].assert_eq(&complaints(&project, "login-analytics", 3));
    let ca_file = server.ca_file().unwrap().display().to_string();
    let verify = format!("tls: {{ mode: require, ca_file: \"{ca_file}\" }}");
    config(&project, &database, &verify, "");
    expect![[r#"
        sink tls failed: TLS: invalid peer certificate: certificate not valid for name "127.0.0.1"; certificate is only valid for DnsName("db.example")
          fix: connect by a name that is in the certificate, or have it issued with the name in `host`
    "#]].assert_eq(&complaints(&project, "login-analytics", 3));
    let trust = "tls: { mode: require, trust_server_certificate: true }";
    config(&project, &database, trust, "");
    expect![[r""]].assert_eq(&complaints(&project, "login-analytics", 0));
}

#[tokio::test]
async fn shards_that_swapped_places() {
    let (project, database) = (project(10), database().await);
    config(&project, &database, "", "");
    project.result(RUN, 0);
    let swapped = "source: { shards: [{ path: data/shard-2.db }, { path: data/shard-1.db }] }";
    config(&project, &database, "", swapped);
    expect![[r"
        shard-1 checkpoint failed: the checkpoint of partition shard-1 belongs to sqlite:<project>/data/shard-1.db, but the configuration now names sqlite:<project>/data/shard-2.db
          fix: if this is meant, take the position over with `etl-host checkpoint set login-analytics --partition shard-1 --accept-fingerprint`, or start at the beginning with `etl-host checkpoint reset login-analytics --partition shard-1`; if two shards swapped places in the configuration, swap them back
        shard-2 checkpoint failed: the checkpoint of partition shard-2 belongs to sqlite:<project>/data/shard-2.db, but the configuration now names sqlite:<project>/data/shard-1.db
          fix: if this is meant, take the position over with `etl-host checkpoint set login-analytics --partition shard-2 --accept-fingerprint`, or start at the beginning with `etl-host checkpoint reset login-analytics --partition shard-2`; if two shards swapped places in the configuration, swap them back
    "]].assert_eq(&complaints(&project, "login-analytics", 3));
}

#[test]
fn files_that_are_missing_or_something_else() {
    let project = project(10);
    std::fs::remove_file(project.path("data/shard-1.db")).unwrap();
    project.write("data/shard-2.db", "no database");
    project.write("data/warehouse.db", "no database either");
    expect![[r"
        shard-1 file failed: cannot read data/shard-1.db: No such file or directory (os error 2)
          fix: correct `path` in the configuration; relative paths start at the working directory
        shard-2 database failed: open the shard data/shard-2.db: SQLite: file is not a database: Error code 26: file is not a database
          fix: this is no SQLite database, or a damaged one: restore it from a backup
        sink database failed: SQLite: file is not a database: Error code 26: file is not a database
          fix: this is no SQLite database, or a damaged one: restore it from a backup
    "]].assert_eq(&complaints(&project, "login-analytics", 3));
    project.config("login-analytics", "sink: { path: data/shard-2.db/x.db }");
    let text = complaints(&project, "login-analytics", 3);
    assert!(text.contains("data/shard-2.db is no folder"), "{text}");
}

const PEOPLE: &str =
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team INTEGER, at TEXT);";

#[test]
fn a_query_and_a_cursor_that_do_not_fit() {
    let project = kinds::kinds(PEOPLE);
    project.execute(
        "data/people.db",
        "INSERT INTO people VALUES (1, 'a', 1, 1, '31.01.2024 10:00')",
    );
    project.config("copy", &query("SELECT id FROM peopl WHERE id > @from"));
    expect![[r#"
        eu query failed: SQLite: no such table: peopl: Error code 1: SQL logic error
          fix: correct `source.query`
        sink table warning: copy: its columns are not checked, because what the pipeline would write is not known
          fix: mend what failed, and ask again
    "#]].assert_eq(&complaints(&project, "copy", 3));
    project.config("copy", &query("SELECT name FROM people WHERE id > @from"));
    expect![[r#"
        eu query failed: the query returns no column `id`, which is the cursor
          fix: add the column to the query, or correct `cursor` in the configuration
        sink table warning: copy: its columns are not checked, because what the pipeline would write is not known
          fix: mend what failed, and ask again
    "#]].assert_eq(&complaints(&project, "copy", 3));
    let by_time = "SELECT at, name FROM people WHERE at > @from AND at <= @until ORDER BY at";
    project.config("copy", &format!("{}{}", query(by_time), kinds::BY_TIME));
    expect![[r#"
        eu index warning: no index serves the cursor: every run reads the whole table
          fix: CREATE INDEX "ix_people_at" ON "people" ("at")
        eu read failed: the cursor column `at` does not hold times of the form YYYY-MM-DD HH:MM:SS, without an offset
          fix: use a column with ISO 8601 times, or `kind: integer`
        sink table warning: copy: its columns are not checked, because what the pipeline would write is not known
          fix: mend what failed, and ask again
    "#]].assert_eq(&complaints(&project, "copy", 3));
    // A time now; what is left is a warning.
    project.execute(
        "data/people.db",
        "UPDATE people SET at = '2024-01-31 10:00:00'",
    );
    expect![[r#"
        eu index warning: no index serves the cursor: every run reads the whole table
          fix: CREATE INDEX "ix_people_at" ON "people" ("at")
    "#]]
    .assert_eq(&complaints(&project, "copy", 0));
}

#[test]
fn columns_that_are_known_only_from_rows_are_not_guessed() {
    let project = kinds::kinds(PEOPLE);
    project.execute(SINK, "CREATE TABLE copy (id INTEGER, many INTEGER)");
    let sql = "SELECT id, count(*) AS many FROM people WHERE id > @from GROUP BY id ORDER BY id";
    project.config("copy", &query(sql));
    assert_eq!(complaints(&project, "copy", 0), "");
    project.execute("data/people.db", "INSERT INTO people (id) VALUES (1)");
    assert_eq!(complaints(&project, "copy", 0), "");
    project.execute(SINK, "DROP TABLE copy; CREATE TABLE copy (id INTEGER)");
    expect![[r#"
        sink table failed: the table copy has no column many
          fix: run ALTER TABLE "copy" ADD COLUMN "many" INTEGER; or set `error_handling.on_schema_change` to `evolve` or `ignore`
    "#]].assert_eq(&complaints(&project, "copy", 3));
}

#[test]
fn shards_with_other_columns() {
    let project = kinds::kinds(PEOPLE);
    project.execute(
        "data/us.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount TEXT, team INTEGER)",
    );
    project.config(
        "copy",
        "source: { shards: [{ name: eu, path: data/people.db }, { name: us, path: data/us.db }] }",
    );
    expect![[r#"
        us columns failed: its columns are not those of the other shards
          fix: make the shards' tables alike, or name and cast the columns in the query
    "#]]
    .assert_eq(&complaints(&project, "copy", 3));
}

#[test]
fn one_sick_configuration_does_not_hide_the_other_pipelines() {
    let project = kinds::kinds(PEOPLE);
    project.config("copy", "sink: { tabel: x }");
    let report = project.result(&["doctor"], 2);
    let pipelines = report["pipelines"].as_array().unwrap();
    let of = |name: &str| {
        pipelines
            .iter()
            .find(|found| found["pipeline"] == name)
            .unwrap()
    };
    assert!(of("copy")["checks"].as_array().unwrap().is_empty());
    assert!(of("copy")["error"]["problems"][0]["message"].is_string());
    // Some of the fixture's pipelines want settings.
    let well: Vec<&Value> = pipelines
        .iter()
        .filter(|found| found["error"].is_null())
        .collect();
    assert!(well.len() >= 6, "{report}");
    for pipeline in well {
        let checks = pipeline["checks"].as_array().unwrap();
        let verdict = |check: &Value| check["verdict"] == "ok";
        assert!(checks.len() > 3 && checks.iter().all(verdict), "{pipeline}");
    }
    assert!(!project.path(SINK).exists(), "nothing is made");
}

#[test]
fn a_plugin_that_panics_is_a_finding() {
    let project = kinds::misbehaving(3);
    project.config("misbehaving", "settings: { misbehave: panic-in-open }");
    let report = project.result(&["doctor", "misbehaving"], 3);
    let found = checks(&report)
        .iter()
        .find(|check| check["where"] == "plugin")
        .unwrap();
    assert_eq!(found["verdict"], "failed");
    assert!(word(&found["detail"]).contains("panicked"), "{found}");
}
