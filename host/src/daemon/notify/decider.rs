//! Decides what is told, to whom, and when it is too much. Pure: time is given, nothing is sent.
//!
//! What it knows is a [`Memory`] that outlives the process, so that a restart tells nothing twice and forgets nothing
//! that was not delivered.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::notice::{EndedRun, Notice, Observation};
use crate::config::notifications::{NoticeKind, Notification};
use crate::sink::due::{DueRun, DueStatus};

/// Most notices of one notification that wait to be delivered.
const OUTBOX: usize = 100;

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Pipelines that fail, run after run.
    streaks: BTreeMap<String, Streak>,
    /// By pipeline, the newest instant that was late.
    late: BTreeMap<String, Timestamp>,
    /// By notification.
    told: BTreeMap<String, Told>,
    /// What is not delivered yet, oldest first.
    outbox: Vec<Delivery>,
    last_id: u64,
}

/// Runs of a pipeline that failed one after another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Streak {
    runs: u64,
    since: String,
    last_run: String,
}

/// What one notification has told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Told {
    /// By pipeline that fails, when that was told last.
    failures: BTreeMap<String, Timestamp>,
    /// When it told something, as far back as its limit looks.
    sent: VecDeque<Timestamp>,
    left_out: u64,
}

/// A notice on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its number.
    pub id: u64,
    /// The notification that it goes by.
    pub notification: String,
    /// The notice.
    pub notice: Notice,
}

/// A due run that has not ended.
#[derive(Debug)]
struct Awaited {
    late_at: Timestamp,
    late_after: Duration,
    run_id: Option<String>,
}

/// Decides what is told.
#[derive(Debug)]
pub struct Decider {
    notifications: Vec<Notification>,
    host: String,
    memory: Memory,
    awaited: BTreeMap<DueRun, Awaited>,
}

impl Decider {
    /// Goes on from what is remembered. What waits for a notification that is gone is forgotten.
    pub fn new(notifications: Vec<Notification>, host: String, mut memory: Memory) -> Self {
        let known = |name: &str| notifications.iter().any(|one| one.name == name);
        memory.told.retain(|name, _| known(name));
        memory
            .outbox
            .retain(|delivery| known(&delivery.notification));
        Self {
            notifications,
            host,
            memory,
            awaited: BTreeMap::new(),
        }
    }

    /// What is to be kept.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What is not delivered yet, oldest first.
    pub fn outbox(&self) -> &[Delivery] {
        &self.memory.outbox
    }

    /// When [`look`](Self::look) has something to do.
    pub fn next_look(&self) -> Option<Timestamp> {
        self.awaited.values().map(|awaited| awaited.late_at).min()
    }

    /// Takes in what was seen; gives what is to be delivered now.
    pub fn observe(&mut self, now: Timestamp, observation: Observation) -> Vec<Delivery> {
        match observation {
            Observation::Due { due, late_after } => {
                let told = self.memory.late.get(&due.pipeline);
                if told.is_none_or(|told| *told < due.scheduled_for) {
                    let late_at = due.scheduled_for.saturating_add(late_after);
                    let awaited = Awaited {
                        late_at: late_at.unwrap_or(Timestamp::MAX),
                        late_after,
                        run_id: None,
                    };
                    self.awaited.insert(due, awaited);
                }
                self.look(now)
            }
            Observation::Begun { due, run_id } => {
                if let Some(awaited) = self.awaited.get_mut(&due) {
                    awaited.run_id = Some(run_id);
                }
                Vec::new()
            }
            Observation::Settled(due) => {
                self.awaited.remove(&due);
                Vec::new()
            }
            Observation::Ended(run) => {
                if let Some(scheduled_for) = run.scheduled_for {
                    self.awaited
                        .remove(&DueRun::new(&run.pipeline, scheduled_for));
                }
                self.judge(now, &run)
            }
        }
    }

    /// Looks for due runs that are late by now.
    pub fn look(&mut self, now: Timestamp) -> Vec<Delivery> {
        let late: Vec<DueRun> = self
            .awaited
            .iter()
            .filter(|(_, awaited)| awaited.late_at <= now)
            .map(|(due, _)| due.clone())
            .collect();
        let mut deliveries = Vec::new();
        for due in late {
            let Some(awaited) = self.awaited.remove(&due) else {
                continue;
            };
            let told = self.memory.late.entry(due.pipeline.clone());
            let told = told.or_insert(due.scheduled_for);
            *told = due.scheduled_for.max(*told);
            let notice = Notice::of_late(&due, awaited.late_after, awaited.run_id, &self.host, now);
            deliveries.extend(self.offer_to_all(now, &notice));
        }
        deliveries
    }

    /// A delivery has ended, well or not.
    pub fn delivered(&mut self, id: u64) {
        self.memory.outbox.retain(|delivery| delivery.id != id);
    }

    fn judge(&mut self, now: Timestamp, run: &EndedRun) -> Vec<Delivery> {
        match run.status {
            DueStatus::Failed | DueStatus::Partial | DueStatus::Interrupted => {
                self.failed(now, run)
            }
            DueStatus::Succeeded => self.succeeded(now, run),
            // Whoever stops a run knows of it.
            _ => Vec::new(),
        }
    }

    fn failed(&mut self, now: Timestamp, run: &EndedRun) -> Vec<Delivery> {
        let streak = self.memory.streaks.entry(run.pipeline.clone());
        let streak = streak.or_insert_with(|| Streak {
            runs: 0,
            since: run.started_at.clone(),
            last_run: String::new(),
        });
        if streak.last_run == run.run_id {
            return Vec::new();
        }
        streak.runs += 1;
        streak.last_run.clone_from(&run.run_id);
        let streak = (streak.runs, streak.since.clone());
        let streak = (streak.0, streak.1.as_str());
        let notice = Notice::of_run(NoticeKind::Failure, run, streak, &self.host, now);
        let mut deliveries = Vec::new();
        for index in self.concerned(&notice) {
            let Some(notification) = self.notifications.get(index) else {
                continue;
            };
            let told = self.memory.told.get(&notification.name);
            let last = told.and_then(|told| told.failures.get(&run.pipeline));
            let again = notification.repeat_after;
            // A time to come was told before the clock was set back.
            let due = |last: &Timestamp| {
                *last > now || !last.saturating_add(again).is_ok_and(|then| then > now)
            };
            if last.is_none_or(due)
                && let Some(delivery) = self.offer(now, index, &notice)
            {
                let told = self.memory.told.entry(delivery.notification.clone());
                let failures = &mut told.or_default().failures;
                failures.insert(run.pipeline.clone(), now);
                deliveries.push(delivery);
            }
        }
        deliveries
    }

    fn succeeded(&mut self, now: Timestamp, run: &EndedRun) -> Vec<Delivery> {
        let Some(streak) = self.memory.streaks.remove(&run.pipeline) else {
            return Vec::new();
        };
        for told in self.memory.told.values_mut() {
            told.failures.remove(&run.pipeline);
        }
        let streak = (streak.runs, streak.since.as_str());
        let notice = Notice::of_run(NoticeKind::Recovery, run, streak, &self.host, now);
        self.offer_to_all(now, &notice)
    }

    /// The notifications that a notice is for.
    fn concerned(&self, notice: &Notice) -> Vec<usize> {
        let is_for = |one: &Notification| {
            one.events.contains(&notice.event)
                && (one.pipelines.is_empty() || one.pipelines.contains(&notice.pipeline))
        };
        let all = self.notifications.iter().enumerate();
        all.filter(|(_, one)| is_for(one))
            .map(|(index, _)| index)
            .collect()
    }

    fn offer_to_all(&mut self, now: Timestamp, notice: &Notice) -> Vec<Delivery> {
        let concerned = self.concerned(notice).into_iter();
        concerned
            .filter_map(|index| self.offer(now, index, notice))
            .collect()
    }

    /// Puts a notice on its way, unless there were too many.
    fn offer(&mut self, now: Timestamp, index: usize, notice: &Notice) -> Option<Delivery> {
        let notification = self.notifications.get(index)?;
        let (name, limit) = (&notification.name, notification.at_most);
        let waiting = self.memory.outbox.iter();
        let waiting = waiting
            .filter(|delivery| delivery.notification == *name)
            .count();
        let told = self.memory.told.entry(name.clone()).or_default();
        let since = now.saturating_sub(limit.per).unwrap_or(Timestamp::MIN);
        told.sent
            .retain(|at| (since..=now).contains(at) && *at != since);
        if waiting >= OUTBOX || told.sent.len() >= limit.times as usize {
            told.left_out += 1;
            return None;
        }
        told.sent.push_back(now);
        let mut notice = notice.clone();
        notice.after_others(std::mem::take(&mut told.left_out));
        self.memory.last_id += 1;
        let delivery = Delivery {
            id: self.memory.last_id,
            notification: name.clone(),
            notice,
        };
        self.memory.outbox.push(delivery.clone());
        Some(delivery)
    }
}

#[cfg(test)]
mod tests;
