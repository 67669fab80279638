//! When a pipeline is due.
//!
//! It is all arithmetic: a schedule and an instant give the next instant. What time it is, what runs, and what becomes
//! of instants that were missed is decided by the daemon.

mod calendar;
mod cron;
mod describe;
mod effective;
mod form;
#[cfg(test)]
mod tests;
mod zone;

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use sha2::{Digest, Sha256};

pub use self::calendar::CalendarError;
use self::calendar::to_calendar;
pub use self::cron::{Cron, CronError, Field};
pub use self::effective::{Effective, Origin, SetSchedule, Setting, effective};
pub use self::form::{Form, FormError};
use self::zone::{Instants, instants};
pub use self::zone::{UnknownZone, zone};
use crate::config;
use crate::error::Error;

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Its pattern.
    #[error(transparent)]
    Cron(#[from] CronError),
    /// Its zone.
    #[error(transparent)]
    Zone(#[from] UnknownZone),
    /// Its short form.
    #[error(transparent)]
    Form(#[from] FormError),
}

impl From<ScheduleError> for Error {
    fn from(error: ScheduleError) -> Self {
        let refused = Self::config(error.to_string());
        match error {
            ScheduleError::Zone(UnknownZone { meant: Some(zone) }) => {
                refused.hint(format!("did you mean {zone}?"))
            }
            _ => refused,
        }
    }
}

/// When a pipeline is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    jitter: Duration,
}

impl Schedule {
    /// The schedule that a configuration means.
    pub fn new(config: &config::Schedule) -> Result<Self, ScheduleError> {
        Ok(Self {
            cron: Cron::parse(&config.cron)?,
            zone: zone(&config.timezone)?,
            jitter: config.jitter,
        })
    }

    /// The first due instant after `instant`; `None` after the last year that there is.
    ///
    /// A local time that the clock skips is due at the first instant after the gap, and only once, however many of them
    /// there are. One that it shows twice is due at the first; only a pattern that names every hour is due both times.
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let local = self.zone.to_datetime(instant);
        if self.cron.is_interval()
            && let Some(due) = self.in_second_pass(instant, local)
        {
            return Some(due);
        }
        let mut civil = self.cron.next_after(local)?;
        // One step leaves an hour that is shown twice. No zone needs more, and none may hold a daemon up.
        for _ in 0..4 {
            let (due, resume) = match instants(&self.zone, civil)? {
                Instants::One(due) | Instants::Gap(due) => (due, None),
                Instants::Two {
                    first,
                    repeated: [_, end],
                    ..
                } => (first, Some(end)),
            };
            if due > instant {
                return Some(due);
            }
            civil = match resume {
                Some(end) => self.cron.next_from(end)?,
                None => self.cron.next_after(civil)?,
            };
        }
        None
    }

    /// For an interval: the next instant of an hour's second pass, if `instant` lies in that hour and the first pass
    /// has no more.
    fn in_second_pass(&self, instant: Timestamp, local: DateTime) -> Option<Timestamp> {
        let Instants::Two {
            second,
            repeated: [start, end],
            ..
        } = instants(&self.zone, local)?
        else {
            return None;
        };
        let is_first_pass = instant < second;
        let mut civil = self.cron.next_after(local)?;
        if civil >= end && is_first_pass {
            civil = self.cron.next_from(start)?;
        } else if is_first_pass {
            return None;
        }
        if civil >= end {
            return None;
        }
        match instants(&self.zone, civil)? {
            Instants::Two { second, .. } => Some(second),
            _ => None,
        }
    }

    /// The schedule in the words of systemd, an `OnCalendar=`.
    pub fn to_calendar(&self) -> Result<String, CalendarError> {
        to_calendar(&self.cron, self.zone_name())
    }

    /// The name of its zone.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The due instants after `after`, up to and with `until`.
    pub fn between(
        &self,
        after: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.next_after(after), |due| self.next_after(*due))
            .take_while(move |due| *due <= until)
    }

    /// An instant as the schedule's zone shows it.
    pub fn local(&self, instant: Timestamp) -> Zoned {
        instant.to_zoned(self.zone.clone())
    }

    /// How long after a due instant the run starts: less than the jitter, and the same whoever asks, so that two
    /// daemons agree. The due instant itself stays what it is.
    pub fn start_delay(&self, pipeline: &str, due: Timestamp) -> Duration {
        let millis = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return Duration::ZERO;
        }
        let digest = Sha256::new()
            .chain_update(pipeline)
            .chain_update(due.as_nanosecond().to_be_bytes())
            .finalize();
        let drawn = digest
            .iter()
            .take(8)
            .fold(0, |drawn: u64, byte| drawn << 8 | u64::from(*byte));
        Duration::from_millis(drawn % millis)
    }
}
