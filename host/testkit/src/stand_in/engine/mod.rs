//! What the server has: databases with tables, and how T-SQL becomes statements of `SQLite`. It knows no connections
//! and no wire.

pub mod arithmetic;
pub mod binder;
pub mod builtins;
pub mod catalog;
pub mod database;
pub mod ddl;
pub mod describe;
pub mod functions;
pub mod query;
pub mod synthesised;
pub mod views;
pub mod write;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tempfile::TempDir;

use super::calendar;
use super::collation::{self, CollationRef};
use super::error::{SqlError, SqlResult};
use catalog::Table;
use database::Database;
use synthesised::Synthesised;

/// The databases of one server.
#[derive(Debug)]
pub struct Engine {
    dir: TempDir,
    server_name: String,
    /// Ticks that the server's clock is ahead.
    clock_offset: AtomicI64,
    time_zone_minutes: i64,
    allow_snapshot: bool,
    databases: RwLock<BTreeMap<String, Arc<Database>>>,
    synthesised: RwLock<Vec<Arc<Synthesised>>>,
    next_database: AtomicI64,
    next_writer: AtomicU64,
}

impl Engine {
    pub fn new(
        server_name: &str,
        clock_offset: i64,
        time_zone_minutes: i64,
        allow_snapshot: bool,
    ) -> anyhow::Result<Self> {
        let engine = Self {
            dir: tempfile::Builder::new().prefix("etl-stand-in-").tempdir()?,
            server_name: server_name.to_owned(),
            clock_offset: AtomicI64::new(clock_offset),
            time_zone_minutes,
            allow_snapshot,
            databases: RwLock::default(),
            synthesised: RwLock::default(),
            next_database: AtomicI64::new(1),
            next_writer: AtomicU64::new(1),
        };
        engine.create_database("master", collation::default())?;
        // The numbers of tempdb, model and msdb are taken.
        engine.next_database.store(5, Ordering::SeqCst);
        Ok(engine)
    }

    pub fn server_name(&self) -> String {
        self.server_name.clone()
    }

    pub fn time_zone_minutes(&self) -> i64 {
        self.time_zone_minutes
    }

    /// Now in UTC, in ticks.
    pub fn now(&self) -> i64 {
        calendar::now() + self.clock_offset.load(Ordering::SeqCst)
    }

    /// Moves the clock by so many ticks.
    pub fn shift_clock(&self, ticks: i64) {
        self.clock_offset.fetch_add(ticks, Ordering::SeqCst);
    }

    pub fn database(&self, name: &str) -> SqlResult<Arc<Database>> {
        let databases = self
            .databases
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        databases.get(&name.to_lowercase()).cloned().ok_or_else(|| {
            SqlError::new(911, format!("Database '{name}' does not exist. Make sure that the name is entered correctly."))
        })
    }

    pub fn databases(&self) -> Vec<Arc<Database>> {
        let databases = self
            .databases
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = databases.values().cloned().collect();
        all.sort_by_key(|it| it.id);
        all
    }

    pub fn create_database(&self, name: &str, collation: CollationRef) -> SqlResult<()> {
        let mut databases = self
            .databases
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let key = name.to_lowercase();
        if databases.contains_key(&key) {
            return Err(SqlError::new(
                1801,
                format!("Database '{name}' already exists. Choose a different database name."),
            ));
        }
        let id = self.next_database.fetch_add(1, Ordering::SeqCst);
        let made = Database::make(self.dir.path(), id, name, collation, self.allow_snapshot)?;
        databases.insert(key, Arc::new(made));
        Ok(())
    }

    pub fn drop_database(&self, name: &str, if_exists: bool) -> SqlResult<()> {
        let mut databases = self
            .databases
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if databases.remove(&name.to_lowercase()).is_none() && !if_exists {
            return Err(SqlError::new(
                3701,
                format!(
                    "Cannot drop the database '{name}', because it does not exist or you do not have permission."
                ),
            ));
        }
        Ok(())
    }

    /// From now on the table has as many rows as that.
    pub fn synthesise(&self, table: Synthesised) {
        let mut tables = self
            .synthesised
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        tables.push(Arc::new(table));
    }

    /// The one of these tables that is synthesised.
    pub fn synthesised(&self, of: &[(Arc<Database>, Arc<Table>)]) -> Option<Arc<Synthesised>> {
        let tables = self
            .synthesised
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let is = |it: &&Arc<Synthesised>| {
            of.iter()
                .any(|(database, table)| (database.id, table.id) == (it.database, it.table))
        };
        tables.iter().find(is).cloned()
    }

    /// Removes the files; nothing works after it.
    pub fn remove_files(&self) {
        let _ = std::fs::remove_dir_all(self.dir.path());
    }

    /// A number for one who takes row versions.
    pub fn next_writer(&self) -> u64 {
        self.next_writer.fetch_add(1, Ordering::SeqCst)
    }
}
