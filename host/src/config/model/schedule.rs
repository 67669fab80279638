//! When a pipeline runs by itself, as it is configured.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::duration;

/// When a pipeline runs by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Five or six cron fields, or a name such as `@daily`.
    pub cron: String,
    /// IANA name of the zone the fields are in.
    pub timezone: String,
    /// How much later than due a run may start, so that many pipelines do not start at once.
    #[serde(
        serialize_with = "duration::serialize",
        deserialize_with = "duration::deserialize"
    )]
    pub jitter: Duration,
    /// What happens with runs that were missed.
    pub catch_up: CatchUp,
    /// What happens when the last run still goes on.
    pub overlap: Overlap,
    /// How long after its instant a due run is late; `None` is as the daemon says.
    #[serde(
        default,
        with = "duration::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub late_after: Option<Duration>,
}

impl Schedule {
    /// The longest jitter that may be asked for.
    pub const LONGEST_JITTER: Duration = Duration::from_hours(24);
}

/// Every day at midnight, as nothing else is said.
impl Default for Schedule {
    fn default() -> Self {
        Self {
            cron: "@daily".to_owned(),
            timezone: "UTC".to_owned(),
            jitter: Duration::ZERO,
            catch_up: CatchUp::default(),
            overlap: Overlap::default(),
            late_after: None,
        }
    }
}

/// What happens with runs that were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// Nothing.
    None,
    /// One run, for the last of them.
    #[default]
    Last,
    /// Each of the last so many.
    All(u32),
}

impl CatchUp {
    /// How many runs `all` makes up for at most, if nothing else is said.
    pub const ALL: Self = Self::All(100);
    /// The highest number that may be asked for.
    pub const MOST: u32 = 1_000;
}

/// What happens when the last run still goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// The new one is left out.
    #[default]
    Skip,
    /// The new one waits.
    Queue,
    /// The old one is cancelled.
    Cancel,
}
