//! A folder as somebody who uses `etl-host` has it: `plugins/`, `data/`, the host's state, and the host itself.
//!
//! It builds plugins, writes configuration, makes and reads `SQLite` databases and runs the host in the folder. It
//! knows nothing of what a run should do, and leaves other databases to [`postgres`](crate::postgres).
//!
//! Whatever it cannot do is a panic that says what: a test without its folder cannot go on.
#![expect(
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a test whose folder cannot be prepared or read cannot go on"
)]

use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value;
use tempfile::TempDir;

use crate::artifact;
use crate::process::{Finished, Program};

/// A project folder. Dropping it removes it.
#[derive(Debug)]
pub struct Project {
    folder: TempDir,
    host: PathBuf,
}

impl Project {
    /// An empty project that is run by this host, usually `env!("CARGO_BIN_EXE_etl-host")`.
    pub fn new(host_binary: &str) -> Self {
        let folder = checked(
            tempfile::Builder::new().prefix("etl-project-").tempdir(),
            "make a temporary folder",
        );
        for name in ["plugins", "data"] {
            checked(std::fs::create_dir(folder.path().join(name)), name);
        }
        Self {
            folder,
            host: host_binary.into(),
        }
    }

    /// The folder; the host's working directory.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir().join(name)
    }

    /// Drops the plugin crate's library into `plugins/`, built when it is stale.
    pub fn plugin(&self, package: &str) -> PathBuf {
        let built = checked(artifact::plugin(package), package);
        let name = built.file_name().unwrap_or_default();
        copy(&built, self.path("plugins").join(name))
    }

    /// As [`plugin`](Self::plugin), under another file name.
    pub fn plugin_as(&self, package: &str, file_name: &str) -> PathBuf {
        let built = checked(artifact::plugin(package), package);
        copy(&built, self.path("plugins").join(file_name))
    }

    /// Writes a file, with the folders it needs.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            checked(std::fs::create_dir_all(folder), path.display());
        }
        checked(std::fs::write(&path, content), path.display());
        path
    }

    /// Writes a pipeline's configuration beside the plugins.
    pub fn config(&self, pipeline: &str, yaml: &str) -> PathBuf {
        self.write(format!("plugins/{pipeline}.yaml"), yaml)
    }

    /// Opens a `SQLite` file of the project, making it when missing: `"data/shard.db"`.
    pub fn sqlite(&self, name: impl AsRef<Path>) -> Connection {
        let path = self.path(name);
        let connection = checked(Connection::open(&path), path.display());
        checked(
            connection.busy_timeout(std::time::Duration::from_secs(30)),
            path.display(),
        );
        connection
    }

    /// Runs statements on a `SQLite` file of the project, making it when missing.
    pub fn execute(&self, name: impl AsRef<Path>, sql: &str) {
        checked(self.sqlite(name).execute_batch(sql), sql);
    }

    /// The rows of a query, as text: a line per row, `|` between the columns, `NULL` for NULL.
    pub fn query(&self, name: impl AsRef<Path>, sql: &str) -> String {
        let connection = self.sqlite(name);
        let mut statement = checked(connection.prepare(sql), sql);
        let width = statement.column_count();
        let mut rows = checked(statement.query([]), sql);
        let mut text = String::new();
        while let Some(row) = checked(rows.next(), sql) {
            let cells = (0..width).map(|column| cell(checked(row.get_ref(column), sql)));
            text.push_str(&cells.collect::<Vec<_>>().join("|"));
            text.push('\n');
        }
        text
    }

    /// The single number that a query gives.
    pub fn number(&self, name: impl AsRef<Path>, sql: &str) -> i64 {
        checked(self.sqlite(name).query_row(sql, [], |row| row.get(0)), sql)
    }

    /// The host with these arguments, in the folder, before it is started. Nothing of the test's own environment
    /// that would configure the host reaches it; add what it should see with [`Program::env`].
    pub fn program<S: AsRef<str>>(&self, args: &[S]) -> Program {
        let mut program = Program::new(&self.host)
            .current_dir(self.dir())
            .args(args.iter().map(AsRef::as_ref));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let starts = ["ETL_", "OTEL_", "SQLSERVER_", "POSTGRES_", "PG", "RUST_LOG"];
            if starts.iter().any(|start| text.starts_with(start)) || text.ends_with("_HOST") {
                program = program.env_remove(&name);
            }
        }
        program
    }

    /// Runs the host to its end, with its results as JSON.
    pub fn run<S: AsRef<str>>(&self, args: &[S]) -> Finished {
        checked(
            self.program(&["--output", "json"])
                .args(args.iter().map(AsRef::as_ref))
                .run(),
            "run the host",
        )
    }

    /// Runs the host, which must end with this code, and gives its JSON results, one per line.
    pub fn results<S: AsRef<str> + Debug>(&self, args: &[S], code: i32) -> Vec<Value> {
        let finished = checked(self.run(args).require_code(code), format!("{args:?}"));
        finished
            .stdout
            .lines()
            .map(|line| checked(serde_json::from_str(line), line))
            .collect()
    }

    /// As [`results`](Self::results), where there is one result.
    pub fn result<S: AsRef<str> + Debug>(&self, args: &[S], code: i32) -> Value {
        let mut results = self.results(args, code);
        match (results.pop(), results.is_empty()) {
            (Some(only), true) => only,
            _ => panic!("{args:?} does not give one result"),
        }
    }

    /// Text with the folder's own path replaced by `<project>`, which is the same in every test run.
    pub fn redact(&self, text: &str) -> String {
        text.replace(&self.dir().display().to_string(), "<project>")
    }
}

fn cell(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn copy(from: &Path, to: PathBuf) -> PathBuf {
    checked(std::fs::copy(from, &to), to.display());
    to
}

fn checked<T, E: Debug>(result: Result<T, E>, what: impl Display) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}
