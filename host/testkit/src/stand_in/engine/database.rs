//! One database: its `SQLite` file, its catalogue, its counter of row versions and the one connection that writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rusqlite::{Connection, OpenFlags};

use super::catalog::Catalog;
use super::functions;
use crate::stand_in::collation::CollationRef;
use crate::stand_in::error::SqlResult;

#[derive(Debug)]
pub struct Database {
    pub id: i64,
    pub name: String,
    pub collation: CollationRef,
    pub broker_guid: [u8; 16],
    path: PathBuf,
    catalog: RwLock<Arc<Catalog>>,
    versions: Mutex<Versions>,
    options: Mutex<Options>,
    writer: Mutex<Connection>,
}

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub allow_snapshot: bool,
    pub read_committed_snapshot: bool,
}

/// The row versions handed out, and by whom that is still at work.
#[derive(Debug, Default)]
struct Versions {
    last: u64,
    /// The lowest one of each open transaction.
    open: BTreeMap<u64, u64>,
}

impl Database {
    pub fn make(
        dir: &Path,
        id: i64,
        name: &str,
        collation: CollationRef,
        allow_snapshot: bool,
    ) -> SqlResult<Self> {
        let path = dir.join(format!("database-{id}.sqlite"));
        let writer = open(&path, true)?;
        writer.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 4000",
        )?;
        Ok(Self {
            id,
            name: name.to_owned(),
            collation,
            broker_guid: rand::random(),
            path,
            catalog: RwLock::default(),
            // The first version of a new database on a real server is 2000 and something.
            versions: Mutex::new(Versions {
                last: 2_000,
                open: BTreeMap::new(),
            }),
            options: Mutex::new(Options {
                allow_snapshot,
                read_committed_snapshot: false,
            }),
            writer: Mutex::new(writer),
        })
    }

    /// A connection that only reads.
    pub fn reader(&self) -> SqlResult<Connection> {
        open(&self.path, false)
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the catalogue; who holds the old one keeps it. Call it with the writer held.
    pub fn change_catalog<R>(&self, change: impl FnOnce(&mut Catalog) -> R) -> R {
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut catalog))
    }

    pub fn writer(&self) -> MutexGuard<'_, Connection> {
        lock(&self.writer)
    }

    pub fn options(&self) -> Options {
        *lock(&self.options)
    }

    pub fn set_options(&self, set: impl FnOnce(&mut Options)) {
        set(&mut lock(&self.options));
    }

    /// A new row version, for the writer with this number.
    pub fn next_version(&self, writer: u64) -> u64 {
        let mut versions = lock(&self.versions);
        versions.last += 1;
        let version = versions.last;
        versions.open.entry(writer).or_insert(version);
        version
    }

    /// The writer has committed or rolled back.
    pub fn versions_done(&self, writer: u64) {
        lock(&self.versions).open.remove(&writer);
    }

    /// `@@DBTS`.
    pub fn last_version(&self) -> u64 {
        lock(&self.versions).last
    }

    /// `MIN_ACTIVE_ROWVERSION()`.
    pub fn lowest_open_version(&self) -> u64 {
        let versions = lock(&self.versions);
        versions
            .open
            .values()
            .min()
            .copied()
            .unwrap_or(versions.last + 1)
    }
}

fn open(path: &Path, write: bool) -> SqlResult<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
    if write {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(30))?;
    connection.execute_batch("PRAGMA cache_size = -16000; PRAGMA mmap_size = 1073741824")?;
    connection.set_prepared_statement_cache_capacity(64);
    functions::register(&connection)?;
    Ok(connection)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
