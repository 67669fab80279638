//! What ran, when, and how it ended.

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use super::State;
use crate::error::Result;

/// One run as history keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// Its identifier.
    pub run_id: String,
    /// `running`, `succeeded`, `partial`, `failed` or `cancelled`.
    pub status: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended; `None` while it goes on, or if the host died.
    pub finished_at: Option<String>,
    /// Rows loaded.
    pub loaded: Option<u64>,
}

const COLUMNS: &str =
    "run_id, status, started_at, finished_at, json_extract(report, '$.rows.loaded') AS loaded";

impl State {
    /// Notes that a run began.
    pub fn record_start(&self, run_id: &str, pipeline: &str, started_at: &str) -> Result<()> {
        self.database.execute(
            "INSERT INTO runs (run_id, pipeline, status, started_at) VALUES (?1, ?2, 'running', ?3)",
            params![run_id, pipeline, started_at],
        )?;
        Ok(())
    }

    /// Notes how it ended; `report` is its JSON.
    pub fn record_end(
        &self,
        run_id: &str,
        status: &str,
        finished_at: &str,
        report: &str,
    ) -> Result<()> {
        self.database.execute(
            "UPDATE runs SET status = ?2, finished_at = ?3, report = ?4 WHERE run_id = ?1",
            params![run_id, status, finished_at, report],
        )?;
        Ok(())
    }

    /// The latest runs of a pipeline, newest first.
    pub fn recent_runs(&self, pipeline: &str, limit: u32) -> Result<Vec<RunRecord>> {
        let mut statement = self.database.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM runs WHERE pipeline = ?1 ORDER BY started_at DESC, run_id DESC LIMIT ?2"
        ))?;
        let rows = statement.query_map(params![pipeline, limit], record)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The latest run of a pipeline.
    pub fn last_run(&self, pipeline: &str) -> Result<Option<RunRecord>> {
        let mut statement = self.database.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM runs WHERE pipeline = ?1 ORDER BY started_at DESC, run_id DESC LIMIT 1"
        ))?;
        Ok(statement.query_row([pipeline], record).optional()?)
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    Ok(RunRecord {
        run_id: row.get("run_id")?,
        status: row.get("status")?,
        started_at: row.get("started_at")?,
        finished_at: row.get("finished_at")?,
        loaded: row
            .get::<_, Option<i64>>("loaded")?
            .and_then(|rows| u64::try_from(rows).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_is_the_newest_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        {
            let state = State::open(folder.path()).unwrap();
            state
                .record_start("1", "p", "2024-01-01T00:00:00Z")
                .unwrap();
            state
                .record_end(
                    "1",
                    "succeeded",
                    "2024-01-01T00:00:01Z",
                    r#"{"rows":{"loaded":7}}"#,
                )
                .unwrap();
            state
                .record_start("2", "p", "2024-01-02T00:00:00Z")
                .unwrap();
        }
        let state = State::open(folder.path()).unwrap();
        assert_eq!(state.last_run("p").unwrap().unwrap().status, "running");
        assert_eq!(state.recent_runs("p", 5).unwrap()[1].loaded, Some(7));
        assert_eq!(state.last_run("q").unwrap(), None);
    }
}
