//! Which pipelines were stopped, and since when each one's schedule is followed.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::State;
use crate::error::{Error, Result};

impl State {
    /// Whether somebody has stopped the pipeline.
    pub fn is_disabled(&self, pipeline: &str) -> Result<bool> {
        Ok(self
            .database
            .prepare_cached("SELECT disabled FROM pipelines WHERE pipeline = ?1")?
            .query_row([pipeline], |row| row.get(0))
            .optional()?
            .unwrap_or(false))
    }

    /// Stops a pipeline, or lets it run again. Says whether that is a change. Instants that pass in between are not made up
    /// for, so its schedule counts as new.
    pub fn set_disabled(&self, pipeline: &str, disabled: bool) -> Result<bool> {
        let changed = self.database.execute(
            "INSERT INTO pipelines (pipeline, disabled) SELECT ?1, ?2 WHERE ?2 OR EXISTS
                 (SELECT 1 FROM pipelines WHERE pipeline = ?1)
             ON CONFLICT (pipeline) DO UPDATE SET disabled = ?2, watched = NULL WHERE disabled <> ?2",
            params![pipeline, disabled],
        )?;
        Ok(changed > 0)
    }

    /// Since when the pipeline's schedule is as `watched` describes it: since `now` if it was another one before.
    /// Instants before that are none of its business.
    pub fn watched_since(
        &self,
        pipeline: &str,
        watched: &str,
        now: Timestamp,
    ) -> Result<Timestamp> {
        self.database.execute(
            "INSERT INTO pipelines (pipeline, watched, watched_since) VALUES (?1, ?2, ?3)
             ON CONFLICT (pipeline) DO UPDATE SET watched = ?2, watched_since = ?3 WHERE watched IS NOT ?2",
            params![pipeline, watched, now.to_string()],
        )?;
        let since: String = self
            .database
            .prepare_cached("SELECT watched_since FROM pipelines WHERE pipeline = ?1")?
            .query_row([pipeline], |row| row.get(0))?;
        let since: Timestamp = since.parse().map_err(|error| {
            Error::data("the state folder holds a time that cannot be read").caused_by(error)
        })?;
        if since > now {
            // The clock was wrong then, or is wrong now.
            self.database.execute(
                "UPDATE pipelines SET watched_since = ?2 WHERE pipeline = ?1",
                params![pipeline, now.to_string()],
            )?;
        }
        Ok(since.min(now))
    }

    /// Forgets everything about a pipeline but what is known of plugin files.
    pub fn forget_pipeline(&self, pipeline: &str) -> Result<()> {
        let of_pipeline: Vec<String> = self
            .database
            .prepare(
                "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
                 WHERE m.type = 'table' AND c.name = 'pipeline'",
            )?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let transaction = self.database.unchecked_transaction()?;
        for table in of_pipeline {
            transaction.execute(
                &format!("DELETE FROM {table} WHERE pipeline = ?1"),
                [pipeline],
            )?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Counts up with every change that another connection commits, also one of another process.
    pub fn version(&self) -> Result<i64> {
        Ok(self
            .database
            .query_row("PRAGMA data_version", [], |row| row.get(0))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::RunStart;

    #[test]
    fn a_schedule_is_followed_since_it_is_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let since = |watched: &str, now| state.watched_since("p", watched, at(now)).unwrap();
        assert_eq!(since("a", 1), at(1));
        assert_eq!(since("a", 2), at(1));
        assert_eq!(since("b", 3), at(3));
        assert_eq!(since("a", 4), at(4));
        assert!(state.set_disabled("p", true).unwrap());
        assert!(!state.set_disabled("p", true).unwrap());
        assert_eq!(since("a", 5), at(5));
        assert!(state.set_disabled("p", false).unwrap());
        assert_eq!([since("a", 6), since("a", 7)], [at(6), at(6)]);
        assert!(!state.set_disabled("q", false).unwrap());
    }

    #[test]
    fn a_pipeline_that_is_forgotten_leaves_no_row() {
        let folder = tempfile::tempdir().unwrap();
        let (state, other) = (
            State::open(folder.path()).unwrap(),
            State::open(folder.path()).unwrap(),
        );
        let version = other.version().unwrap();
        for name in ["p", "q"] {
            state.record_start(&RunStart::by_hand(name, name)).unwrap();
            state.set_disabled(name, true).unwrap();
            state
                .record_crash("sha", name, "signal 11", "2024")
                .unwrap();
        }
        assert_ne!(other.version().unwrap(), version);
        state.forget_pipeline("p").unwrap();
        let rows = |name: &str| {
            (
                state.last_run(name).unwrap().is_some(),
                state.is_disabled(name).unwrap(),
                state.crashes("sha", name).unwrap().is_some(),
            )
        };
        assert_eq!(rows("p"), (false, false, false));
        assert_eq!(rows("q"), (true, true, true));
    }
}
