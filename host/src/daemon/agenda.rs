//! When a pipeline is due, and which of the instants that have passed are run. Pure.
//!
//! A pipeline with a schedule of its own is due by that; one that only depends on others is due whenever one of them is.

use std::time::Duration;

use jiff::Timestamp;

use crate::config::{self, CatchUp};
use crate::schedule::Schedule;

/// How late an instant is run whatever `catch_up` says: a restart of the daemon is not an outage.
pub const GRACE: Duration = Duration::from_mins(1);
/// How many instants are looked at in one go.
const MOST: usize = 1_000;

/// The schedules that a pipeline goes by.
#[derive(Clone, Debug, Default)]
pub struct Agenda {
    schedules: Vec<Schedule>,
    patterns: Vec<String>,
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
        }
    }

    /// What its instants follow from, as text.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// How long after an instant its run starts.
    pub fn start_delay(&self, pipeline: &str, instant: Timestamp) -> Duration {
        match self.schedules.as_slice() {
            [own] => own.start_delay(pipeline, instant),
            // Those that it depends on have waited already.
            _ => Duration::ZERO,
        }
    }

    /// The first instant after this one.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let next = |schedule: &Schedule| schedule.next_after(after);
        self.schedules.iter().filter_map(next).min()
    }

    /// The instants after one and up to another, oldest first; of very many the latest.
    pub fn passed(&self, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let mut passed = std::collections::VecDeque::new();
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
