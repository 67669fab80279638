//! Which schedule holds for a pipeline: its configuration's, or what was set by hand.
//!
//! What was set is kept by `state`; who follows the schedule is the daemon.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Schedule, ScheduleError};
use crate::config;

/// What somebody has set for one pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSchedule {
    /// What holds in place of the configuration's schedule.
    pub setting: Setting,
    /// Nothing is started by itself for now.
    pub paused: bool,
    /// When any of this was changed last. What was due before was not missed: nobody wanted it, or it was wanted otherwise.
    pub changed_at: Timestamp,
}

/// What holds in place of the configuration's schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Setting {
    /// Nothing: the configuration's schedule holds.
    #[default]
    Config,
    /// Another schedule.
    Set(config::Schedule),
    /// No schedule at all.
    Off,
    /// Somebody else starts the pipeline, such as a timer of systemd.
    External,
}

/// Where a pipeline's schedule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// There is none, and nobody has said anything about it.
    None,
    /// The configuration.
    Config,
    /// It was set by hand.
    Set,
    /// There is none, because somebody has said so.
    Off,
    /// There is none, because something else starts the pipeline.
    External,
}

/// The schedule that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The schedule, also while it is paused.
    pub schedule: Option<config::Schedule>,
    /// Where it comes from.
    pub origin: Origin,
    /// Nothing is started by itself for now.
    pub paused: bool,
    /// Since when it is as it is; `None` if nobody has changed anything.
    pub changed_at: Option<Timestamp>,
}

/// The schedule that holds.
pub fn effective(config: Option<&config::Schedule>, set: Option<&SetSchedule>) -> Effective {
    let (schedule, origin) = match set.map(|set| &set.setting) {
        None | Some(Setting::Config) => (config, config.map_or(Origin::None, |_| Origin::Config)),
        Some(Setting::Set(schedule)) => (Some(schedule), Origin::Set),
        Some(Setting::Off) => (None, Origin::Off),
        Some(Setting::External) => (None, Origin::External),
    };
    Effective {
        schedule: schedule.cloned(),
        origin,
        paused: set.is_some_and(|set| set.paused),
        changed_at: set.map(|set| set.changed_at),
    }
}

impl Effective {
    /// The schedule that is followed: none while it is paused.
    pub fn followed(&self) -> Result<Option<Schedule>, ScheduleError> {
        self.schedule
            .as_ref()
            .filter(|_| !self.paused)
            .map(Schedule::new)
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::tests::config;

    #[test]
    fn what_was_set_goes_before_the_configuration() {
        let nightly = config("0 0 * * *", "UTC");
        let hourly = config("0 * * * *", "UTC");
        let now = Timestamp::UNIX_EPOCH;
        let set = |setting, paused| SetSchedule {
            setting,
            paused,
            changed_at: now,
        };
        let of = |config, set: Option<SetSchedule>| {
            let effective = effective(config, set.as_ref());
            let cron = effective.schedule.clone().map(|schedule| schedule.cron);
            let is_followed = effective.followed().unwrap().is_some();
            (cron, effective.origin, is_followed)
        };
        let cron = |text: &str| Some(text.to_owned());
        let nightly = Some(&nightly);
        assert_eq!(of(None, None), (None, Origin::None, false));
        assert_eq!(of(nightly, None), (cron("0 0 * * *"), Origin::Config, true));
        let by_hand = || Some(set(Setting::Set(hourly.clone()), false));
        for config in [None, nightly] {
            assert_eq!(
                of(config, by_hand()),
                (cron("0 * * * *"), Origin::Set, true)
            );
            let off = Some(set(Setting::Off, false));
            assert_eq!(of(config, off), (None, Origin::Off, false));
            let external = Some(set(Setting::External, false));
            assert_eq!(of(config, external), (None, Origin::External, false));
        }
        let paused = Some(set(Setting::Config, true));
        assert_eq!(
            of(nightly, paused),
            (cron("0 0 * * *"), Origin::Config, false)
        );
        let resumed = Some(set(Setting::Config, false));
        assert_eq!(
            of(nightly, resumed),
            (cron("0 0 * * *"), Origin::Config, true)
        );
    }
}
