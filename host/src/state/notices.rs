//! What has been told to whom, so that a restart does not tell it again. The text is the notifier's own.

use rusqlite::OptionalExtension;

use super::State;
use crate::error::Result;

impl State {
    /// What was kept last.
    pub fn notices(&self) -> Result<Option<String>> {
        Ok(self
            .database
            .prepare_cached("SELECT memory FROM notices")?
            .query_row([], |row| row.get(0))
            .optional()?)
    }

    /// Keeps it, in place of what was kept before.
    pub fn record_notices(&self, memory: &str) -> Result<()> {
        self.database
            .prepare_cached("INSERT OR REPLACE INTO notices (only_row, memory) VALUES (1, ?1)")?
            .execute([memory])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        assert_eq!(state.notices().unwrap(), None);
        state.record_notices("a").unwrap();
        state.record_notices("b").unwrap();
        drop(state);
        let state = State::open(folder.path()).unwrap();
        assert_eq!(state.notices().unwrap().as_deref(), Some("b"));
    }
}
