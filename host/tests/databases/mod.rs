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
