//! How far backfills have come, so that one that was stopped goes on.

use rusqlite::{OptionalExtension, params};

use super::State;
use crate::error::Result;

impl State {
    /// How many windows of a task are done. `task` names all that it depends on.
    pub fn windows_done(&self, pipeline: &str, task: &str) -> Result<u64> {
        let done: Option<i64> = self
            .database
            .prepare_cached("SELECT windows_done FROM backfills WHERE pipeline = ?1 AND task = ?2")?
            .query_row([pipeline, task], |row| row.get(0))
            .optional()?;
        Ok(done.and_then(|done| u64::try_from(done).ok()).unwrap_or(0))
    }

    /// Notes that so many windows are done.
    pub fn record_windows_done(&self, pipeline: &str, task: &str, done: u64) -> Result<()> {
        self.database.execute(
            "INSERT OR REPLACE INTO backfills (pipeline, task, windows_done) VALUES (?1, ?2, ?3)",
            params![pipeline, task, done.cast_signed()],
        )?;
        Ok(())
    }

    /// Forgets a task: all its windows are done, or it starts over.
    pub fn forget_backfill(&self, pipeline: &str, task: &str) -> Result<()> {
        self.database.execute(
            "DELETE FROM backfills WHERE pipeline = ?1 AND task = ?2",
            [pipeline, task],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_goes_on_after_a_restart_and_others_do_not() {
        let folder = tempfile::tempdir().unwrap();
        {
            let state = State::open(folder.path()).unwrap();
            state.record_windows_done("p", "a", 1).unwrap();
            state.record_windows_done("p", "a", 2).unwrap();
        }
        let state = State::open(folder.path()).unwrap();
        let done = |pipeline, task| state.windows_done(pipeline, task).unwrap();
        assert_eq!([done("p", "a"), done("p", "b"), done("q", "a")], [2, 0, 0]);
        state.forget_backfill("p", "a").unwrap();
        assert_eq!(done("p", "a"), 0);
    }
}
