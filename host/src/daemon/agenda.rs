//! When a pipeline is due, and which of the instants that have passed are run. Pure.
//!
//! A pipeline with a schedule of its own is due by that; one that only depends on others is due whenever one of them is.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{self, CatchUp};
use crate::schedule::Schedule;

/// How late an instant is run whatever `catch_up` says: a restart of the daemon is not an outage.
pub const GRACE: Duration = Duration::from_mins(1);
/// How many instants are looked at in one go.
const MOST: usize = CatchUp::MOST as usize;
/// How far back they are looked for at first.
const WINDOWS: [Duration; 3] = [
    Duration::from_hours(1),
    Duration::from_hours(24),
    Duration::from_hours(24 * 31),
];

/// The schedules that a pipeline goes by.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    schedules: Vec<Schedule>,
    patterns: Vec<String>,
    /// They are those of the pipelines that it depends on.
    is_inherited: bool,
}

/// What becomes of an instant that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is run.
    Run,
    /// It is only accounted for.
    Missed,
}

impl Agenda {
    /// Due whenever one of these is. One that makes no sense is never due; that is told where it is configured.
    pub fn new(schedules: &[config::Schedule]) -> Self {
        let pattern = |it: &config::Schedule| format!("{} {}", it.cron, it.timezone);
        Self {
            patterns: schedules.iter().map(pattern).collect(),
            schedules: schedules.iter().flat_map(Schedule::new).collect(),
            is_inherited: false,
        }
    }

    /// Due whenever one of those is that go before it. They have waited for their jitter already.
    pub fn inherited(schedules: &[config::Schedule]) -> Self {
        Self {
            is_inherited: true,
            ..Self::new(schedules)
        }
    }

    /// What its instants follow from, as text.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// How long after an instant its run starts.
    pub fn start_delay(&self, pipeline: &str, instant: Timestamp) -> Duration {
        let own = self.schedules.first().filter(|_| !self.is_inherited);
        own.map_or(Duration::ZERO, |own| own.start_delay(pipeline, instant))
    }

    /// The first instant after this one.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let next = |schedule: &Schedule| schedule.next_after(after);
        self.schedules.iter().filter_map(next).min()
    }

    /// The instants after one and up to another, oldest first; of very many the latest.
    pub fn passed(&self, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        // Of a schedule of seconds, nobody counts the months.
        for window in WINDOWS {
            let from = until.saturating_sub(window).unwrap_or(Timestamp::MIN);
            if from <= after {
                break;
            }
            let latest = self.walk(from, until);
            if latest.len() == MOST {
                return latest;
            }
        }
        self.walk(after, until)
    }

    fn walk(&self, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let mut passed = VecDeque::new();
        let mut last = after;
        while let Some(next) = self.next_after(last)
            && next <= until
        {
            if passed.len() == MOST {
                passed.pop_front();
            }
            passed.push_back(next);
            last = next;
        }
        passed.into()
    }
}

/// Decides about instants that have passed, oldest first. Those of the last minute are run; of older ones, which nobody
/// could start when they were due, what `catch_up` says.
pub fn fates(passed: &[Timestamp], now: Timestamp, catch_up: CatchUp) -> Vec<(Timestamp, Fate)> {
    let fresh = now.saturating_sub(GRACE).unwrap_or(Timestamp::MIN);
    let missed = passed.iter().filter(|instant| **instant < fresh).count();
    let on_time = passed.len() - missed;
    let run = match catch_up {
        CatchUp::None => 0,
        // One run does for all of them, and one that is on time does too.
        CatchUp::Last => usize::from(on_time == 0),
        CatchUp::All(most) => usize::try_from(most).unwrap_or(usize::MAX),
    };
    let left_out = missed.saturating_sub(run);
    passed
        .iter()
        .enumerate()
        .map(|(index, instant)| {
            let fate = if index < left_out {
                Fate::Missed
            } else {
                Fate::Run
            };
            (*instant, fate)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_instants_the_latest_count() {
        let schedule = |cron: &str| config::Schedule {
            cron: cron.to_owned(),
            ..config::Schedule::default()
        };
        let until: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let year = Duration::from_hours(24 * 365);
        let agenda = Agenda::new(&[schedule("* * * * * *")]);
        let passed = agenda.passed(until - year, until);
        assert_eq!((passed.len(), passed.last()), (MOST, Some(&until)));
        assert_eq!(passed[0], until - Duration::from_secs(999));
        let daily = Agenda::new(&[schedule("0 0 * * *")]);
        assert_eq!(daily.passed(until - year, until).len(), 365);
    }

    fn fates_at(seconds: &[i64], catch_up: CatchUp) -> Vec<i64> {
        let at = |second| Timestamp::from_second(second).unwrap();
        let passed: Vec<Timestamp> = seconds.iter().map(|second| at(*second)).collect();
        fates(&passed, at(1_000), catch_up)
            .into_iter()
            .filter(|(_, fate)| *fate == Fate::Run)
            .map(|(instant, _)| instant.as_second())
            .collect()
    }

    #[test]
    fn catch_up_decides_about_what_is_older_than_a_minute() {
        let old = [100, 200, 300];
        assert_eq!(fates_at(&old, CatchUp::None), [0; 0]);
        assert_eq!(fates_at(&old, CatchUp::Last), [300]);
        assert_eq!(fates_at(&old, CatchUp::All(2)), [200, 300]);
        assert_eq!(fates_at(&old, CatchUp::All(9)), old);
        let mixed = [100, 200, 950, 1_000];
        assert_eq!(fates_at(&mixed, CatchUp::None), [950, 1_000]);
        assert_eq!(fates_at(&mixed, CatchUp::Last), [950, 1_000]);
        assert_eq!(fates_at(&mixed, CatchUp::All(1)), [200, 950, 1_000]);
        assert_eq!(fates_at(&[], CatchUp::All(1)), [0; 0]);
    }
}
