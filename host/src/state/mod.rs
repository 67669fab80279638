//! What the host keeps for itself between runs, in the state folder: history, how far backfills have come, what it
//! knows of plugin files, which of them have crashed, schedules that were set by hand, and who changed what.
//!
//! Nothing here decides about rows. The folder may be deleted: checkpoints live in the sinks, a window of a backfill
//! that is done twice does no harm, and without a schedule of its own a pipeline has its configuration's.

mod audit;
mod backfills;
mod crashes;
mod history;
mod notices;
mod pipelines;
mod plugins;
mod schedules;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

pub use audit::{AuditRecord, AuditedAnswer, AuditedRequest, OPEN};
pub use crashes::Crashes;
pub use history::{HistoryQuery, RunDetails, RunRecord, RunStart, RunningRecord, Trigger};
pub use plugins::FileStamp;

use crate::error::{Error, ErrorKind, Result};

/// How long another process may hold the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// Each entry brings the database one version further.
const MIGRATIONS: &[&str] = &[
    r"
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    report TEXT
);
CREATE INDEX runs_by_pipeline ON runs (pipeline, started_at);
CREATE TABLE plugin_files (
    path TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    sha256 TEXT NOT NULL
);
CREATE TABLE probes (
    sha256 TEXT NOT NULL,
    host TEXT NOT NULL,
    probed TEXT NOT NULL,
    PRIMARY KEY (sha256, host)
);
",
    r"
CREATE TABLE backfills (
    pipeline TEXT NOT NULL,
    task TEXT NOT NULL,
    windows_done INTEGER NOT NULL,
    PRIMARY KEY (pipeline, task)
) WITHOUT ROWID;
",
    r"
ALTER TABLE runs ADD COLUMN holder TEXT;
CREATE TABLE crashes (
    sha256 TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    runs INTEGER NOT NULL,
    message TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (sha256, pipeline)
) WITHOUT ROWID;
",
    r"
ALTER TABLE runs ADD COLUMN cause TEXT NOT NULL DEFAULT 'manual';
ALTER TABLE runs ADD COLUMN scheduled_for TEXT;
CREATE TABLE pipelines (
    pipeline TEXT PRIMARY KEY,
    disabled INTEGER NOT NULL DEFAULT 0,
    watched TEXT,
    watched_since TEXT
) WITHOUT ROWID;
",
    r"
CREATE TABLE schedules (
    pipeline TEXT PRIMARY KEY,
    schedule TEXT,
    source TEXT NOT NULL,
    paused INTEGER NOT NULL,
    changed_at TEXT NOT NULL
) WITHOUT ROWID;
",
    r"
CREATE TABLE notices (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    memory TEXT NOT NULL
);
",
    r"
DROP INDEX runs_by_pipeline;
CREATE INDEX runs_by_pipeline ON runs (pipeline, started_at, run_id);
CREATE INDEX runs_by_start ON runs (started_at, run_id);
CREATE INDEX runs_that_go_on ON runs (started_at, run_id) WHERE status = 'running';
",
    r"
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    peer TEXT,
    via TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    request TEXT,
    status INTEGER,
    error TEXT,
    run_id TEXT
);
",
];

/// The state folder, open.
pub struct State {
    folder: PathBuf,
    database: Connection,
}

impl State {
    /// Opens the folder, creating what is missing.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| Self::refused(folder, "create", &error))?;
        let mut database = Connection::open(folder.join("state.db"))
            .map_err(|error| Self::refused(folder, "open", &error))?;
        database.busy_timeout(PATIENCE)?;
        set_journal(&database).map_err(|error| Self::refused(folder, "open", &error))?;
        migrate(&mut database)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            database,
        })
    }

    /// The error of one who cannot use the folder.
    pub fn refused(folder: &Path, what: &str, error: &dyn std::fmt::Display) -> Error {
        Error::new(
            ErrorKind::Refused,
            format!(
                "cannot {what} the state folder {}: {error}",
                folder.display()
            ),
        )
        .hint("choose a writable folder with --state-dir or ETL_STATE_DIR")
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where copies of plugin files are kept.
    pub fn plugin_cache(&self) -> PathBuf {
        // Plugins are loaded by absolute path, whatever the working directory of the child.
        fs::canonicalize(&self.folder)
            .unwrap_or_else(|_| self.folder.clone())
            .join("plugins")
    }
}

/// The journal is changed by the first who opens the database. SQLite lets nobody wait for that, so it is tried again.
fn set_journal(database: &Connection) -> rusqlite::Result<()> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let set = database.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
        let busy = set.as_ref().is_err_and(|error| {
            error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
        });
        if !busy || Instant::now() > give_up {
            return set;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn migrate(database: &mut Connection) -> Result<()> {
    let version = |database: &Connection| {
        database
            .query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))
            .map(|version| usize::try_from(version).unwrap_or(usize::MAX))
    };
    if version(database)? == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction =
        database.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Another process may have done it while this one waited.
    let current = version(&transaction)?;
    if current > MIGRATIONS.len() {
        return Err(
            Error::config("the state folder belongs to a newer etl-host")
                .hint("use that version, or choose another folder with --state-dir"),
        );
    }
    for migration in MIGRATIONS.iter().skip(current) {
        transaction.execute_batch(migration)?;
    }
    transaction.execute_batch(&format!("PRAGMA user_version = {}", MIGRATIONS.len()))?;
    transaction.commit()?;
    Ok(())
}
