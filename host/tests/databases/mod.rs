//! The pipeline `copy` from `PostgreSQL` databases into another one.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fmt::Write;

use etl_testkit::postgres::{PostgresServer, TestDatabase};
use etl_testkit::project::Project;
use tokio_postgres::Client;

use crate::kinds::kinds;

/// A database with a connection of the test's own.
pub struct Database {
    pub at: TestDatabase,
    pub client: Client,
}

impl Database {
    pub async fn new() -> Self {
        let at = PostgresServer::shared().create_database().await.unwrap();
        let client = at.connect().await.unwrap();
        Self { at, client }
    }

    pub async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    pub async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The rows of a query, each as one text; in the order of the query.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until a number is as it should be.
    pub async fn wait_for(&self, sql: &str, expected: i64) {
        while self.number(sql).await != expected {
            tokio::task::yield_now().await;
        }
    }

    fn keys(&self) -> String {
        format!(
            "host: '{}', port: {}, database: '{}', credentials: {{ username: '{}', password: '${{TEST_PASSWORD}}' }}, \
             tls: {{ mode: disable }}",
            self.at.host, self.at.port, self.at.name, self.at.user
        )
    }
}

/// Connections of the host that read, in the database one is connected to.
pub const READERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                           AND application_name LIKE 'etl-host reads %'";
/// The same, as long as a statement runs.
pub const ACTIVE_READERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                                  AND application_name LIKE 'etl-host reads %' AND state = 'active'";
/// Connections of the host that wait for a lock.
pub const BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                           AND wait_event_type = 'Lock' AND application_name LIKE 'etl-host %'";

/// A project with the plugin, whose source is named by [`source`] and whose sink by [`sink`].
pub fn project() -> Project {
    let project = kinds("");
    project.write(
        ".env",
        format!("TEST_PASSWORD='{}'\n", PostgresServer::shared().password),
    );
    project
}

/// Configures the pipeline. Where nothing is said of the cursor, no test writes while it reads.
pub fn configure(project: &Project, yaml: &str) {
    let at_once = if yaml.contains("cursor:") {
        ""
    } else {
        "cursor: { settle_delay: 0s }\n"
    };
    project.config("copy", &format!("{yaml}{at_once}"));
}

/// A `source` of these shards, with a query and more keys.
pub fn source(shards: &[(&str, &Database)], query: &str, more: &str) -> String {
    let mut text = "source:\n  type: postgres\n  shards:\n".to_owned();
    for (name, database) in shards {
        writeln!(text, "    - {{ name: {name}, {} }}", database.keys()).unwrap();
    }
    if !more.is_empty() {
        writeln!(text, "  {more}").unwrap();
    }
    writeln!(text, "  query: |\n    {query}").unwrap();
    text
}

/// A `sink` with the table `copy`, and more keys.
pub fn sink(database: &Database, more: &str) -> String {
    let more = if more.is_empty() {
        String::new()
    } else {
        format!(", {more}")
    };
    format!(
        "sink: {{ type: postgres, {}, table: copy{more} }}\n",
        database.keys()
    )
}

/// A table `everything` with every type, at its limits.
pub const ALL_TYPES: &str = r#"
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE DOMAIN percent AS numeric(5,2) CHECK (value >= 0);
CREATE TABLE everything (
    id integer PRIMARY KEY, a_bool bool, a_int2 int2, a_int4 int4, a_int8 int8, a_oid oid, a_float4 float4,
    a_float8 float8, a_numeric numeric(12,3), a_wide numeric(38,38), a_high numeric(5,-2), a_small numeric(2,5),
    a_free numeric, a_long numeric(60,20), a_percent percent,
    a_text text, a_varchar varchar(20), a_bpchar char(4), a_name name, a_char "char", a_citext citext, a_bytea bytea,
    a_uuid uuid, a_json json, a_jsonb jsonb, a_xml xml, a_date date, a_time time, a_timetz timetz,
    a_timestamp timestamp, a_seconds timestamp(0), a_timestamptz timestamptz, a_interval interval,
    a_inet inet, a_cidr cidr, a_macaddr macaddr, a_macaddr8 macaddr8, a_mood mood);
INSERT INTO everything (id) VALUES (1);
INSERT INTO everything VALUES (2, true, -32768, -2147483648, -9223372036854775808, 0, '-3.4028235e38',
    '-1.7976931348623157e308', -999999999.999, -0.99999999999999999999999999999999999999, -9999900, -0.00099, '-0.1000', -0.5, 0,
    '', '', '', '', '', '', '',
    '00000000-0000-0000-0000-000000000000', 'null', '{}', '', '0001-01-01', '00:00', '00:00:00+15:59',
    '0001-01-01 00:00:00', '0001-01-01', '0001-01-01 00:00:00Z', '-178000000 years', '0.0.0.0', '0.0.0.0/0', '00:00:00:00:00:00',
    '00:00:00:00:00:00:00:00', 'sad');
INSERT INTO everything VALUES (3, false, 32767, 2147483647, 9223372036854775807, 4294967295, '3.4028235e38',
    '5e-324', 999999999.999, 0.99999999999999999999999999999999999999, 9999900, 0.00099,
    123456789012345678901234567890123456789012345678901234567890.000000000100, 1234567890123456789012345678901234567890.5, 999.99,
    'é😀' || chr(1) || E'\n', 'text', 'ab', 'a name', 'x', 'MiXed', '\x00ff',
    'ffffffff-ffff-ffff-ffff-ffffffffffff', '{"b": 1,  "a": [1, null, "\u00e9"]}', '{"b": 1, "a": 1e3}', '<a>é</a>', '9999-12-31',
    '23:59:59.999999', '23:59:59.999999-15:59:59', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59',
    '9999-12-31 23:59:59.999999Z', '1 year 2 mons -3 days +04:05:06.789', '255.255.255.255/31', '10.1.0.0/16', '08:00:2b:01:02:03',
    '08:00:2b:01:02:03:04:05', 'glad');
INSERT INTO everything (id, a_float4, a_float8, a_inet, a_cidr, a_interval)
    VALUES (4, 'NaN', 'Infinity', '2001:db8::1', '2001:db8::/32', '-1 second -500 milliseconds');
"#;
