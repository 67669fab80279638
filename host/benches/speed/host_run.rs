//! A run of `etl-host`, as somebody would start it.

use std::fmt::Write;

use etl_testkit::project::Project;

use super::measure::{self, Line};
use super::servers::{Servers, Sink};

/// What it reads; the server's name tells the shards apart in a key.
pub const COLUMNS: &str = "@@SERVERNAME AS shard, user_id, login_time, ip_address, user_agent";
pub const KEY: &str = "shard, user_id, login_time";

/// The pipeline of the fixture that makes its rows itself.
const MADE: &str = "made-logins";

#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    Append,
    Upsert,
}

#[derive(Clone, Copy)]
pub struct HostRun {
    pipeline: &'static str,
    mode: Mode,
    inside: bool,
    tls: bool,
    driver: &'static str,
    /// The rows are there already.
    again: bool,
}

impl HostRun {
    /// A pipeline without stages: the host's own work.
    pub fn new(mode: Mode) -> Self {
        Self {
            pipeline: "copy",
            mode,
            inside: false,
            tls: false,
            driver: "tiberius",
            again: false,
        }
    }

    /// Rows from memory, made by a plugin's extractor.
    pub fn made(mode: Mode) -> Self {
        Self::new(mode).pipeline(MADE).inside()
    }

    pub fn flagship() -> Self {
        Self::new(Mode::Append).pipeline("login-analytics")
    }

    pub fn pipeline(self, pipeline: &'static str) -> Self {
        Self { pipeline, ..self }
    }

    pub fn inside(self) -> Self {
        Self {
            inside: true,
            ..self
        }
    }

    pub fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// By the other driver, which is in builds with the feature `mssql-tds`.
    #[cfg(feature = "mssql-tds")]
    pub fn second_driver(self) -> Self {
        Self {
            driver: "mssql-tds",
            ..self
        }
    }

    pub fn again(self) -> Self {
        Self {
            again: true,
            ..self
        }
    }

    pub fn take(&self, servers: &Servers, sink: &Sink) -> Line {
        let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
        project.plugin(if self.pipeline == "login-analytics" {
            "login-analytics"
        } else {
            "fixture-kinds"
        });
        project.config(self.pipeline, &self.config(servers, sink));
        // An extractor of its own needs a source all the same.
        project.execute("empty.db", "PRAGMA user_version = 1");
        // Plugins are examined once after they were dropped, not in every run.
        project
            .program(&["list"])
            .run()
            .unwrap()
            .require_code(0)
            .unwrap();
        let table = format!("host_{}", self.mode as u8);
        if !self.again {
            servers.execute(sink, &format!("DROP TABLE IF EXISTS {table}"));
        }
        servers.execute(sink, "DROP SCHEMA IF EXISTS etl_host CASCADE; CHECKPOINT");
        let isolation = if self.inside { "in-process" } else { "process" };
        let arguments = [
            "--output",
            "json",
            "run",
            self.pipeline,
            "--isolation",
            isolation,
        ];
        measure::line(servers, project.program(&arguments), |output| {
            let report: serde_json::Value = serde_json::from_str(output).unwrap();
            report["rows"]["loaded"].as_u64().unwrap()
        })
    }

    fn config(&self, servers: &Servers, sink: &Sink) -> String {
        let read = if self.pipeline == MADE {
            format!(
                "source: {{ type: sqlite, shards: [{{ path: empty.db }}] }}\ncursor: null\nsettings: {{ rows: {} }}\n",
                servers.rows_per_shard
            )
        } else {
            self.source(servers)
        };
        read + &self.sink(sink)
    }

    fn source(&self, servers: &Servers) -> String {
        let columns = match self.mode {
            Mode::Append => COLUMNS.split_once(", ").unwrap().1,
            Mode::Upsert => COLUMNS,
        };
        let mut yaml = format!(
            "source:\n  type: sqlserver\n  driver: {}\n  query: |\n    SELECT {columns} FROM user_logins\n    \
             WHERE login_time > @from AND login_time <= @until ORDER BY login_time\n  shards:\n",
            self.driver
        );
        let mode = if self.tls { "require" } else { "disable" };
        for shard in &servers.shards {
            let ca_file = shard.ca_file.as_ref().filter(|_| self.tls);
            let ca_file = ca_file.map_or(String::new(), |path| {
                format!(", ca_file: '{}'", path.display())
            });
            writeln!(
                yaml,
                "    - {{ host: '{}', port: {}, database: '{}', credentials: {{ username: '{}', password: '{}' }}, tls: {{ mode: {mode}{ca_file} }} }}",
                shard.host, shard.port, shard.database, shard.user, shard.password
            )
            .unwrap();
        }
        yaml + "cursor: { column: login_time, kind: timestamp }\n"
    }

    fn sink(&self, sink: &Sink) -> String {
        let mode = match self.mode {
            Mode::Append => "append".to_owned(),
            Mode::Upsert => format!("upsert\n  key: [{KEY}]\n  partition_column: shard"),
        };
        format!(
            "sink:\n  type: postgres\n  host: '{}'\n  port: {}\n  database: '{}'\n  credentials: {{ username: '{}', password: '{}' }}\n  \
             table: host_{}\n  write_mode: {mode}\n",
            sink.host, sink.port, sink.name, sink.user, sink.password, self.mode as u8
        )
    }
}
