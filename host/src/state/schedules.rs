//! Schedules that were set by hand, and whether they are paused.
//!
//! Which schedule holds in the end is decided by `schedule::effective`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};

use super::State;
use crate::error::{Error, Result};
use crate::schedule::{SetSchedule, Setting};

impl State {
    /// What was set for a pipeline; `None` if nothing ever was.
    pub fn schedule_of(&self, pipeline: &str) -> Result<Option<SetSchedule>> {
        self.database
            .prepare_cached(
                "SELECT source, schedule, paused, changed_at, pipeline FROM schedules WHERE pipeline = ?1",
            )?
            .query_row([pipeline], columns)
            .optional()?
            .map(|stored| stored.read().map(|(_, set)| set))
            .transpose()
    }

    /// What was set for any pipeline.
    pub fn schedules(&self) -> Result<BTreeMap<String, SetSchedule>> {
        self.database
            .prepare_cached("SELECT source, schedule, paused, changed_at, pipeline FROM schedules")?
            .query_map([], columns)?
            .map(|stored| stored?.read())
            .collect()
    }

    /// Sets what holds in place of the configuration's schedule. Paused stays paused.
    pub fn set_schedule(&self, pipeline: &str, setting: &Setting, now: Timestamp) -> Result<()> {
        let (source, schedule) = match setting {
            Setting::Config => ("config", None),
            Setting::Set(schedule) => {
                let json = serde_json::to_string(schedule).map_err(|error| {
                    Error::internal("a schedule cannot be written as JSON").caused_by(error)
                })?;
                ("set", Some(json))
            }
            Setting::Off => ("off", None),
            Setting::External => ("external", None),
        };
        self.database.execute(
            "INSERT INTO schedules (pipeline, schedule, source, paused, changed_at) VALUES (?1, ?2, ?3, 0, ?4)
             ON CONFLICT (pipeline) DO UPDATE SET schedule = ?2, source = ?3, changed_at = ?4",
            params![pipeline, schedule, source, now.to_string()],
        )?;
        Ok(())
    }

    /// Pauses or resumes a pipeline's schedule, wherever it comes from. Says whether that changed anything.
    pub fn pause_schedule(&self, pipeline: &str, paused: bool, now: Timestamp) -> Result<bool> {
        let changed = if paused {
            self.database.execute(
                "INSERT INTO schedules (pipeline, source, paused, changed_at) VALUES (?1, 'config', 1, ?2)
                 ON CONFLICT (pipeline) DO UPDATE SET paused = 1, changed_at = ?2 WHERE NOT paused",
                params![pipeline, now.to_string()],
            )?
        } else {
            self.database.execute(
                "UPDATE schedules SET paused = 0, changed_at = ?2 WHERE pipeline = ?1 AND paused",
                params![pipeline, now.to_string()],
            )?
        };
        Ok(changed > 0)
    }

    /// Goes back to the configuration's schedule. Says whether anything else was set.
    pub fn remove_schedule(&self, pipeline: &str, now: Timestamp) -> Result<bool> {
        let removed = self.database.execute(
            "UPDATE schedules SET schedule = NULL, source = 'config', changed_at = ?2
             WHERE pipeline = ?1 AND source <> 'config'",
            params![pipeline, now.to_string()],
        )?;
        Ok(removed > 0)
    }

    /// Forgets all that was set for a pipeline: it is deleted.
    pub fn forget_schedule(&self, pipeline: &str) -> Result<()> {
        self.database
            .execute("DELETE FROM schedules WHERE pipeline = ?1", [pipeline])?;
        Ok(())
    }
}

/// A row as it is stored.
struct Stored {
    pipeline: String,
    source: String,
    schedule: Option<String>,
    paused: bool,
    changed_at: String,
}

fn columns(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        source: row.get(0)?,
        schedule: row.get(1)?,
        paused: row.get(2)?,
        changed_at: row.get(3)?,
        pipeline: row.get(4)?,
    })
}

impl Stored {
    fn read(self) -> Result<(String, SetSchedule)> {
        let unreadable = || {
            Error::data(format!(
                "the schedule that was set for {} cannot be read",
                self.pipeline
            ))
            .hint(format!(
                "set it again with `etl-host schedule {}`, or remove it",
                self.pipeline
            ))
        };
        let setting = match (self.source.as_str(), &self.schedule) {
            ("config", _) => Setting::Config,
            ("off", _) => Setting::Off,
            ("external", _) => Setting::External,
            ("set", Some(json)) => Setting::Set(
                serde_json::from_str(json).map_err(|error| unreadable().caused_by(error))?,
            ),
            _ => return Err(unreadable()),
        };
        let changed_at = self
            .changed_at
            .parse()
            .map_err(|error: jiff::Error| unreadable().caused_by(error))?;
        let set = SetSchedule {
            setting,
            paused: self.paused,
            changed_at,
        };
        Ok((self.pipeline, set))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{CatchUp, Overlap, Schedule};

    #[test]
    fn what_is_set_is_kept_and_a_pause_outlives_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let schedule = Schedule {
            cron: "30 2 * * *".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
            jitter: Duration::from_mins(5),
            catch_up: CatchUp::All(3),
            overlap: Overlap::Queue,
            late_after: Some(Duration::from_hours(1)),
        };
        {
            let state = State::open(folder.path()).unwrap();
            assert_eq!(state.schedule_of("p").unwrap(), None);
            assert!(!state.pause_schedule("p", false, at(1)).unwrap());
            assert!(!state.remove_schedule("p", at(1)).unwrap());
            assert!(state.pause_schedule("p", true, at(2)).unwrap());
            assert!(!state.pause_schedule("p", true, at(3)).unwrap());
            state
                .set_schedule("p", &Setting::Set(schedule.clone()), at(4))
                .unwrap();
            state.set_schedule("q", &Setting::Off, at(5)).unwrap();
            state.set_schedule("r", &Setting::External, at(5)).unwrap();
        }
        let state = State::open(folder.path()).unwrap();
        let set = |setting, paused, second| SetSchedule {
            setting,
            paused,
            changed_at: at(second),
        };
        let of = |pipeline: &str| state.schedule_of(pipeline).unwrap();
        assert_eq!(of("p"), Some(set(Setting::Set(schedule), true, 4)));
        assert_eq!(of("q"), Some(set(Setting::Off, false, 5)));
        assert_eq!(of("r"), Some(set(Setting::External, false, 5)));
        assert_eq!(state.schedules().unwrap().len(), 3);
        assert!(state.remove_schedule("p", at(6)).unwrap());
        assert_eq!(of("p"), Some(set(Setting::Config, true, 6)));
        assert!(state.pause_schedule("p", false, at(7)).unwrap());
        assert_eq!(of("p"), Some(set(Setting::Config, false, 7)));
        state.forget_schedule("p").unwrap();
        assert_eq!(of("p"), None);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_pipeline() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        state
            .set_schedule("p", &Setting::Off, Timestamp::UNIX_EPOCH)
            .unwrap();
        state
            .database
            .execute("UPDATE schedules SET source = 'set', schedule = '{}'", [])
            .unwrap();
        let error = state.schedule_of("p").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the schedule that was set for p cannot be read")
        );
    }
}
