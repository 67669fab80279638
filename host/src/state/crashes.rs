//! In how many runs in a row a plugin has crashed. It belongs to the file's content, so a replaced plugin starts anew.

use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::State;
use crate::error::Result;

/// Crashes of a pipeline in runs that followed each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Crashes {
    /// Runs in a row that a crash failed.
    pub runs: u32,
    /// What the last one said.
    pub message: String,
    /// When it was, RFC 3339.
    pub at: String,
}

impl State {
    /// Notes that a run failed because the plugin crashed; returns how many in a row that makes.
    pub fn record_crash(
        &self,
        sha256: &str,
        pipeline: &str,
        message: &str,
        at: &str,
    ) -> Result<u32> {
        Ok(self
            .database
            .prepare_cached(
                "INSERT INTO crashes (sha256, pipeline, runs, message, at) VALUES (?1, ?2, 1, ?3, ?4)
                 ON CONFLICT (sha256, pipeline) DO UPDATE SET runs = runs + 1, message = ?3, at = ?4
                 RETURNING runs",
            )?
            .query_row(params![sha256, pipeline, message, at], |row| row.get(0))?)
    }

    /// The crashes since the pipeline last ran well; `None` if there was none.
    pub fn crashes(&self, sha256: &str, pipeline: &str) -> Result<Option<Crashes>> {
        Ok(self
            .database
            .prepare_cached(
                "SELECT runs, message, at FROM crashes WHERE sha256 = ?1 AND pipeline = ?2",
            )?
            .query_row([sha256, pipeline], |row| {
                Ok(Crashes {
                    runs: row.get(0)?,
                    message: row.get(1)?,
                    at: row.get(2)?,
                })
            })
            .optional()?)
    }

    /// Forgets all crashes of a pipeline: it ran well, or somebody wants it tried again. Says whether there were any.
    pub fn forget_crashes(&self, pipeline: &str) -> Result<bool> {
        let forgotten = self
            .database
            .execute("DELETE FROM crashes WHERE pipeline = ?1", [pipeline])?;
        Ok(forgotten > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crashes_are_counted_until_a_run_goes_well_or_the_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let crash = |sha: &str| state.record_crash(sha, "p", "signal 11", "2024").unwrap();
        assert_eq!([crash("a"), crash("a"), crash("b")], [1, 2, 1]);
        assert_eq!(state.crashes("a", "p").unwrap().unwrap().runs, 2);
        assert_eq!(state.crashes("a", "q").unwrap(), None);
        assert!(state.forget_crashes("p").unwrap());
        assert!(!state.forget_crashes("p").unwrap());
        assert_eq!(crash("a"), 1);
    }
}
