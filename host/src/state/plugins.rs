//! What is known of plugin files: the checksum of an unchanged file, and what its probe said.

use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, params};

use super::State;
use crate::error::Result;
use crate::plugin::probe::Probed;

/// What a file looked like when it was read; if it looks the same it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// Bytes.
    pub size: u64,
    /// Last change of content or attributes, nanoseconds since 1970-01-01 UTC.
    pub changed_ns: i64,
    /// Its number in the file system.
    pub inode: u64,
}

/// A probe's answer holds for the host that asked. Counted up whenever a probe looks at more than before.
const HOST: &str = concat!(env!("CARGO_PKG_VERSION"), "/", "2");

impl State {
    /// The checksum of a file that has not changed since it was last read.
    pub fn known_checksum(&self, path: &Path, stamp: FileStamp) -> Result<Option<String>> {
        let (size, inode) = (stamp.size.cast_signed(), stamp.inode.cast_signed());
        Ok(self
            .database
            .prepare_cached(
                "SELECT sha256 FROM plugin_files WHERE path = ?1 AND size = ?2 AND changed_ns = ?3 AND inode = ?4",
            )?
            .query_row(params![path.to_string_lossy(), size, stamp.changed_ns, inode], |row| row.get(0))
            .optional()?)
    }

    /// Keeps a file's checksum.
    pub fn remember_checksum(&self, path: &Path, stamp: FileStamp, sha256: &str) -> Result<()> {
        self.database.execute(
            "INSERT OR REPLACE INTO plugin_files (path, size, changed_ns, inode, sha256) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                path.to_string_lossy(),
                stamp.size.cast_signed(),
                stamp.changed_ns,
                stamp.inode.cast_signed(),
                sha256
            ],
        )?;
        Ok(())
    }

    /// All files whose checksum is kept, with it.
    pub fn known_files(&self) -> Result<Vec<(PathBuf, String)>> {
        let mut statement = self
            .database
            .prepare_cached("SELECT path, sha256 FROM plugin_files")?;
        let rows = statement.query_map([], |row| {
            Ok((PathBuf::from(row.get::<_, String>(0)?), row.get(1)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Forgets the checksum of a file that is gone.
    pub fn forget_file(&self, path: &Path) -> Result<()> {
        self.database.execute(
            "DELETE FROM plugin_files WHERE path = ?1",
            [path.to_string_lossy()],
        )?;
        Ok(())
    }

    /// What the probe of this content said.
    pub fn known_probe(&self, sha256: &str) -> Result<Option<Probed>> {
        let json: Option<String> = self
            .database
            .prepare_cached("SELECT probed FROM probes WHERE sha256 = ?1 AND host = ?2")?
            .query_row(params![sha256, HOST], |row| row.get(0))
            .optional()?;
        Ok(json.and_then(|json| serde_json::from_str(&json).ok()))
    }

    /// Keeps what the probe said.
    pub fn remember_probe(&self, sha256: &str, probed: &Probed) -> Result<()> {
        let json = serde_json::to_string(probed).map_err(|error| {
            crate::error::Error::internal("a probe cannot be written down").caused_by(error)
        })?;
        self.database.execute(
            "INSERT OR REPLACE INTO probes (sha256, host, probed) VALUES (?1, ?2, ?3)",
            params![sha256, HOST, json],
        )?;
        Ok(())
    }

    /// Forgets what the probes of this content said.
    pub fn forget_probe(&self, sha256: &str) -> Result<()> {
        self.database
            .execute("DELETE FROM probes WHERE sha256 = ?1", [sha256])?;
        Ok(())
    }
}
