//! `etl-host schedule`: shows when a pipeline runs by itself, and changes it.
//!
//! A change goes into the state folder, where a running daemon sees it within a second.

mod shown;
mod timer;

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;

pub(super) use self::shown::Shown;
use super::{Failure, Globals, Output, print, print_json};
use crate::config::{self, CatchUp, Overlap, duration};
use crate::error::{Error, Result};
use crate::schedule::{Effective, Form, FormError, Origin, Schedule, Setting, effective};
use crate::session::{Found, Session};
use crate::state::State;

/// Instants that are shown if nothing else is asked for.
pub(super) const NEXT: usize = 3;

/// Flags of `schedule`.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub struct ScheduleCommand {
    /// The pipeline
    pipeline: String,
    /// What to do; without it the schedule is shown
    #[command(subcommand)]
    change: Option<Change>,
    /// Zone of the schedule, such as Europe/Berlin [default: the configuration's, or UTC]
    #[arg(long, global = true, value_name = "ZONE")]
    timezone: Option<String>,
    /// Start each run later by less than this, such as 5m [default: the configuration's, or 0s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration::parse)]
    jitter: Option<Duration>,
    /// Runs that were missed: none, last, all (at most 100), or all:N [default: the configuration's, or last]
    #[arg(long, global = true, value_name = "WHICH")]
    catch_up: Option<CatchUp>,
    /// While the last run still goes on: skip, queue or cancel [default: the configuration's, or skip]
    #[arg(long, global = true, value_name = "WHAT")]
    overlap: Option<Overlap>,
    /// Change nothing, and show the next so many instants of the schedule
    #[arg(long, global = true, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    preview: Option<u16>,
    /// With --preview: the instants after this one, RFC 3339 [default: now]
    #[arg(long, global = true, value_name = "INSTANT", requires = "preview")]
    from: Option<Timestamp>,
    /// Change nothing, and show the schedule as lines of a systemd timer
    #[arg(long, global = true, conflicts_with = "preview")]
    timer: bool,
}

/// What to change.
#[derive(Debug, Subcommand)]
enum Change {
    /// Once a day: `daily 00:00`
    Daily {
        /// Time of the day, HH:MM
        time: String,
    },
    /// Every so many hours, counted from midnight: `hourly 2`
    Hourly {
        /// Hours
        #[arg(default_value = "1")]
        hours: String,
    },
    /// Once a week: `weekly mon 00:00`
    Weekly {
        /// Day of the week, mon to sun
        day: String,
        /// Time of the day, HH:MM
        time: String,
    },
    /// Once a month: `monthly 1 00:00`
    Monthly {
        /// Day of the month, or `last`
        day: String,
        /// Time of the day, HH:MM
        time: String,
    },
    /// By a cron pattern: `cron "*/10 8-18 * * mon-fri"`
    Cron {
        /// Five fields, six with the second in front, or a name such as @daily
        #[arg(required = true, num_args = 1.., value_name = "PATTERN")]
        pattern: Vec<String>,
    },
    /// Start no runs for now; what is due meanwhile is not made up for
    Pause,
    /// Start runs again
    Resume,
    /// Go back to the configuration's schedule
    Remove,
    /// No schedule, although the configuration has one
    Off,
    /// No schedule here: something else starts the pipeline, such as a timer of systemd
    External,
}

impl Change {
    /// The form that is to be set, in one text.
    fn form(&self) -> Option<String> {
        match self {
            Self::Daily { time } => Some(format!("daily {time}")),
            Self::Hourly { hours } => Some(format!("hourly {hours}")),
            Self::Weekly { day, time } => Some(format!("weekly {day} {time}")),
            Self::Monthly { day, time } => Some(format!("monthly {day} {time}")),
            Self::Cron { pattern } => Some(format!("cron {}", pattern.join(" "))),
            Self::Pause | Self::Resume | Self::Remove | Self::Off | Self::External => None,
        }
    }
}

/// Shows, previews or changes the schedule of one pipeline.
pub fn schedule(globals: &Globals, command: &ScheduleCommand) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let found = session.find_one(&command.pipeline)?;
    let pipeline = &found.manifest.name;
    let configured = session.load_config(&found)?.config.schedule;
    let (form, notice) = command.form(configured.as_ref())?.unzip();
    let now = Timestamp::now();
    let holding = || holding(&session, &found, configured.as_ref());
    if command.timer {
        let effective = command.preview_of(form, holding)?;
        let none = || {
            Error::config(format!("{pipeline} has no schedule"))
                .hint("name one, such as `daily 00:00`")
        };
        print(&timer::to_timer(&effective.schedule.ok_or_else(none)?)?);
        return Ok(0);
    }
    let mut shown = if let Some(count) = command.preview {
        let effective = command.preview_of(form, holding)?;
        let from = command.from.unwrap_or(now);
        Shown::new(pipeline, effective, from, usize::from(count))?
    } else {
        command.apply(&session.state, pipeline, form, now)?;
        Shown::new(pipeline, holding()?, now, NEXT)?
    };
    shown.is_preview = command.preview.is_some();
    shown.notice = notice.flatten();
    if globals.output == Output::Json {
        print_json(&shown.to_json())?;
    } else {
        let headline = shown.headline();
        print(&format!("{pipeline}: {headline}\n{}", shown.lines()));
    }
    Ok(0)
}

/// The schedule that holds for a pipeline.
pub(super) fn holding(
    session: &Session,
    found: &Found,
    configured: Option<&config::Schedule>,
) -> Result<Effective> {
    let set = session.state.schedule_of(&found.manifest.name)?;
    Ok(effective(configured, set.as_ref()))
}

impl ScheduleCommand {
    /// The schedule that is asked for, with what may not be meant about it.
    fn form(
        &self,
        configured: Option<&config::Schedule>,
    ) -> Result<Option<(config::Schedule, Option<String>)>> {
        let Some(form) = self.change.as_ref().and_then(Change::form) else {
            let with = [
                ("--timezone", self.timezone.is_some()),
                ("--jitter", self.jitter.is_some()),
                ("--catch-up", self.catch_up.is_some()),
                ("--overlap", self.overlap.is_some()),
            ];
            return match with.iter().find(|(_, given)| *given) {
                Some((flag, _)) => Err(Error::config(format!("{flag} goes with a schedule"))
                    .hint("name the schedule too, such as `daily 00:00`; it is set as a whole")),
                None => Ok(None),
            };
        };
        let form: Form = form
            .parse()
            .map_err(|error: FormError| Error::config(error.to_string()))?;
        let mut schedule = configured.cloned().unwrap_or_default();
        schedule.cron = form.cron;
        if let Some(timezone) = &self.timezone {
            schedule.timezone.clone_from(timezone);
        }
        schedule.jitter = self.jitter.unwrap_or(schedule.jitter);
        schedule.catch_up = self.catch_up.unwrap_or(schedule.catch_up);
        schedule.overlap = self.overlap.unwrap_or(schedule.overlap);
        if schedule.jitter > config::Schedule::LONGEST_JITTER {
            return Err(Error::config("--jitter is at most 1d"));
        }
        Schedule::new(&schedule)?;
        Ok(Some((schedule, form.notice)))
    }

    /// What a preview shows: what is asked for, or else what holds.
    fn preview_of(
        &self,
        form: Option<config::Schedule>,
        holding: impl FnOnce() -> Result<Effective>,
    ) -> Result<Effective> {
        match form {
            Some(schedule) => Ok(Effective {
                schedule: Some(schedule),
                origin: Origin::Set,
                paused: false,
                changed_at: None,
            }),
            None if self.change.is_some() => Err(Error::config(
                "--preview and --timer go with a schedule",
            )
            .hint("name one, such as `daily 00:00 --preview 10`, or none for the one that holds")),
            None => Ok(Effective {
                paused: false,
                ..holding()?
            }),
        }
    }

    fn apply(
        &self,
        state: &State,
        pipeline: &str,
        form: Option<config::Schedule>,
        now: Timestamp,
    ) -> Result<()> {
        if let Some(schedule) = form {
            return state.set_schedule(pipeline, &Setting::Set(schedule), now);
        }
        match &self.change {
            Some(Change::Pause) => state.pause_schedule(pipeline, true, now).map(|_| ()),
            Some(Change::Resume) => state.pause_schedule(pipeline, false, now).map(|_| ()),
            Some(Change::Remove) => state.remove_schedule(pipeline, now).map(|_| ()),
            Some(Change::Off) => state.set_schedule(pipeline, &Setting::Off, now),
            Some(Change::External) => state.set_schedule(pipeline, &Setting::External, now),
            _ => Ok(()),
        }
    }
}
