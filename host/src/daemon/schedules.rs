//! Schedules, as the API shows and changes them. A change goes into the state folder, as that of the command line does.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Daemon, Refusal, lock};
use crate::config::{self, duration};
use crate::error::Error;
use crate::schedule::{Effective, Form, FormError, Origin, Schedule, Setting, effective};

/// Instants that are shown.
const NEXT: usize = 10;

/// A pipeline's schedule.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ScheduleView {
    /// The pipeline.
    pub pipeline: String,
    /// Where it comes from: `none`, `config`, `set`, `off` or `external`.
    #[schema(value_type = String)]
    pub origin: Origin,
    /// Nothing is started by itself for now.
    pub paused: bool,
    /// When it was changed by hand, RFC 3339.
    #[schema(value_type = Option<String>)]
    pub changed_at: Option<Timestamp>,
    /// The schedule, as in a configuration.
    #[schema(value_type = Option<Object>)]
    pub schedule: Option<Value>,
    /// The schedule in words.
    pub description: Option<String>,
    /// When it is due next, RFC 3339; never while it is paused.
    #[schema(value_type = Vec<String>)]
    pub next: Vec<Timestamp>,
}

/// A schedule that is to hold in place of the configuration's.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleRequest {
    /// As for `etl-host schedule`, such as `daily 00:00`, `cron */5 * * * *`, `off` or `external`.
    pub form: String,
    /// The zone, such as `Europe/Berlin`; the configuration's if it is left out, like all below.
    pub timezone: Option<String>,
    /// How much later a run may start, such as `5m`.
    pub jitter: Option<String>,
    /// Runs that were missed: `none`, `last`, `all` or `all:N`.
    pub catch_up: Option<String>,
    /// While the last run goes on: `skip`, `queue` or `cancel`.
    pub overlap: Option<String>,
}

/// What to change.
#[derive(Clone, Debug)]
pub enum ScheduleChange {
    /// Another one is to hold.
    Set(ScheduleRequest),
    /// The configuration's is to hold again.
    Remove,
    /// Nothing is to be started for now.
    Pause,
    /// Runs are to be started again.
    Resume,
}

impl Daemon {
    /// The schedule that holds.
    pub fn schedule(&self, name: &str) -> Result<ScheduleView, Refusal> {
        let known = self.known(name)?;
        let configured = known
            .loaded
            .and_then(|loaded| loaded.config.schedule.clone());
        let set = lock(&self.session).state.schedule_of(name)?;
        view(name, &effective(configured.as_ref(), set.as_ref()))
    }

    /// Changes the schedule, and says which one holds.
    pub fn change_schedule(
        &self,
        name: &str,
        change: &ScheduleChange,
    ) -> Result<ScheduleView, Refusal> {
        let known = self.known(name)?;
        let configured = known
            .loaded
            .and_then(|loaded| loaded.config.schedule.clone());
        let setting = match change {
            ScheduleChange::Set(request) => Some(request.setting(configured)?),
            _ => None,
        };
        let now = Timestamp::now();
        {
            let session = lock(&self.session);
            let state = &session.state;
            match change {
                ScheduleChange::Set(_) => {
                    if let Some(setting) = setting {
                        state.set_schedule(name, &setting, now)?;
                    }
                }
                ScheduleChange::Remove => drop(state.remove_schedule(name, now)?),
                ScheduleChange::Pause => drop(state.pause_schedule(name, true, now)?),
                ScheduleChange::Resume => drop(state.pause_schedule(name, false, now)?),
            }
        }
        self.look_again();
        self.schedule(name)
    }
}

fn view(name: &str, effective: &Effective) -> Result<ScheduleView, Refusal> {
    let wrong = |error| Refusal::Invalid(Error::from(error).into());
    let schedule = effective.schedule.as_ref().map(Schedule::new).transpose();
    let schedule = schedule.map_err(wrong)?;
    let followed = effective.followed().map_err(wrong)?;
    let next = followed.map_or_else(Vec::new, |followed| {
        let due = followed.between(Timestamp::now(), Timestamp::MAX);
        due.take(NEXT).collect()
    });
    Ok(ScheduleView {
        pipeline: name.to_owned(),
        origin: effective.origin,
        paused: effective.paused,
        changed_at: effective.changed_at,
        schedule: effective
            .schedule
            .as_ref()
            .and_then(|schedule| serde_json::to_value(schedule).ok()),
        description: schedule.as_ref().map(Schedule::describe),
        next,
    })
}

impl ScheduleRequest {
    /// What is to be set; all that it leaves out is the configuration's.
    fn setting(&self, configured: Option<config::Schedule>) -> Result<Setting, Refusal> {
        match self.form.as_str() {
            "off" => return Ok(Setting::Off),
            "external" => return Ok(Setting::External),
            _ => {}
        }
        let form: Form = self
            .form
            .parse()
            .map_err(|error: FormError| wrong("form", &error))?;
        let mut schedule = configured.unwrap_or_default();
        schedule.cron = form.cron;
        if let Some(timezone) = &self.timezone {
            schedule.timezone.clone_from(timezone);
        }
        if let Some(jitter) = &self.jitter {
            schedule.jitter = duration::parse(jitter).map_err(|error| wrong("jitter", &error))?;
        }
        if let Some(which) = &self.catch_up {
            schedule.catch_up = which.parse().map_err(|error| wrong("catch_up", &error))?;
        }
        if let Some(what) = &self.overlap {
            schedule.overlap = what.parse().map_err(|error| wrong("overlap", &error))?;
        }
        if schedule.jitter > config::Schedule::LONGEST_JITTER {
            return Err(wrong("jitter", &"it is at most 1d"));
        }
        Schedule::new(&schedule).map_err(|error| Refusal::Invalid(Error::from(error).into()))?;
        Ok(Setting::Set(schedule))
    }
}

fn wrong(key: &str, error: &dyn std::fmt::Display) -> Refusal {
    let error = Error::config(format!("{key}: {error}"))
        .hint("`etl-host schedule --help` shows the forms of schedules");
    Refusal::Invalid(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_configurations() {
        let configured = config::Schedule {
            timezone: "Europe/Berlin".to_owned(),
            ..config::Schedule::default()
        };
        let request = ScheduleRequest {
            form: "daily 03:00".to_owned(),
            jitter: Some("5m".to_owned()),
            ..ScheduleRequest::default()
        };
        let Ok(Setting::Set(set)) = request.setting(Some(configured)) else {
            panic!("it is a schedule");
        };
        assert_eq!(set.timezone, "Europe/Berlin");
        assert_eq!(set.jitter.as_secs(), 300);
    }

    #[test]
    fn mistakes_are_told_by_their_key() {
        let usual = || ScheduleRequest {
            form: "daily 03:00".to_owned(),
            ..ScheduleRequest::default()
        };
        let some = |text: &str| Some(text.to_owned());
        for (request, key) in [
            (ScheduleRequest::default(), "form"),
            (
                ScheduleRequest {
                    jitter: some("long"),
                    ..usual()
                },
                "jitter",
            ),
            (
                ScheduleRequest {
                    jitter: some("2d"),
                    ..usual()
                },
                "jitter",
            ),
            (
                ScheduleRequest {
                    catch_up: some("x"),
                    ..usual()
                },
                "catch_up",
            ),
            (
                ScheduleRequest {
                    overlap: some("x"),
                    ..usual()
                },
                "overlap",
            ),
            (
                ScheduleRequest {
                    timezone: some("Moon"),
                    ..usual()
                },
                "zone",
            ),
        ] {
            let Err(Refusal::Invalid(failure)) = request.setting(None) else {
                panic!("{request:?} is wrong");
            };
            assert!(failure.to_text().contains(key), "{}", failure.to_text());
        }
    }
}
