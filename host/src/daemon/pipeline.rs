//! One pipeline of the daemon: claims its due instants, and has one run at a time carried out.
//!
//! When an instant is due is the [`Agenda`](super::Agenda)'s business, how a run is carried out the [`Executor`](super::shared::Executor)'s. That no instant is run
//! twice is ensured by the claim in the sink (`sink::due`), not by anything here.

mod account;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::active::ActiveRun;
use super::carry_out::{Outcome, carry_out};
use super::notify::Observation;
use super::shared::{Ended, FIRST_WAIT, LAST_WAIT, PATIENCE, RunOrder, Shared, Spec};
use super::standing::Standing;
use super::view::Event;
use crate::error::{Error, ErrorKind};
use crate::plan::RunOptions;
use crate::runtime::report::Status;
use crate::sink::due::{DueRun, DueStatus};
use crate::state::Trigger;

/// How often one due instant is begun: a run that takes the daemon down with it must not do so for ever.
const MOST_TRIES: u32 = 10;
/// How late an instant is claimed that is on time all the same.
const ON_TIME: Duration = Duration::from_secs(5);
/// Due instants that wait behind a run; more are claimed when there is room.
const MOST_QUEUED: usize = 100;
/// How long finished due runs are kept in the sink, and how often older ones are removed.
const KEEP: Duration = Duration::from_hours(24 * 90);
const PRUNE_EVERY: Duration = Duration::from_hours(24);

/// A due run that is claimed and waits for the one before it.
struct Queued {
    run: Arc<ActiveRun>,
    due: Option<DueRun>,
    options: RunOptions,
}

/// The run that is being carried out, waiting included.
struct Current {
    run: Arc<ActiveRun>,
    due: Option<DueRun>,
    task: JoinHandle<Outcome>,
}

/// What the sink has yet to be told.
struct Unnoted {
    due: DueRun,
    status: DueStatus,
    run_id: Option<String>,
    reason: Option<String>,
}

/// The task of one pipeline.
pub struct PipelineTask {
    name: String,
    shared: Arc<Shared>,
    spec: watch::Receiver<Arc<Spec>>,
    orders: mpsc::Receiver<RunOrder>,
    queue: VecDeque<Queued>,
    current: Option<Current>,
    /// Due runs of other daemons that are not over, as of the last look.
    foreign: BTreeMap<Timestamp, DueStatus>,
    unnoted: Vec<Unnoted>,
    /// All instants up to this one have a row in the sink, or need none.
    seen: Option<Timestamp>,
    last: Option<DueStatus>,
    /// Another daemon may have run it since.
    is_last_stale: bool,
    looked_at: Option<Timestamp>,
    pruned_at: Option<Timestamp>,
    failures: u32,
}

impl PipelineTask {
    /// The task of a pipeline. [`run`](Self::run) does its work.
    pub fn new(
        name: &str,
        shared: Arc<Shared>,
        spec: watch::Receiver<Arc<Spec>>,
        orders: mpsc::Receiver<RunOrder>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            shared,
            spec,
            orders,
            queue: VecDeque::new(),
            current: None,
            foreign: BTreeMap::new(),
            unnoted: Vec::new(),
            seen: None,
            last: None,
            is_last_stale: false,
            looked_at: None,
            pruned_at: None,
            failures: 0,
        }
    }

    /// Works until the daemon ends or the pipeline is gone, and then until its run has ended.
    pub async fn run(mut self) {
        let shutdown = self.shared.shutdown.clone();
        loop {
            let spec = self.spec.borrow_and_update().clone();
            if !spec.enabled {
                self.stop_all("the pipeline was stopped");
            }
            self.start_next(&spec);
            self.publish(&spec);
            let wake = self.wake(&spec);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                outcome = outcome(&mut self.current) => self.note_outcome(outcome),
                changed = self.spec.changed() => if changed.is_err() { break },
                Some(order) = self.orders.recv() => self.take(order, &spec),
                () = self.shared.clock.sleep_until(wake) => self.look(&spec).await,
            }
        }
        self.finish(shutdown.is_cancelled()).await;
    }

    /// When to look at the sink next.
    fn wake(&self, spec: &Spec) -> Timestamp {
        let after = |moment: Option<Timestamp>, pause: Duration| {
            // A clock that was set back must not put the next look off.
            let now = self.shared.clock.now();
            let moment = moment.map_or(now, |moment| moment.min(now));
            moment.saturating_add(pause).unwrap_or(Timestamp::MAX)
        };
        if self.looked_at.is_none() {
            return Timestamp::MIN;
        }
        if self.failures > 0 {
            let doubled = FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(10));
            return after(self.looked_at, doubled.min(LAST_WAIT));
        }
        let pace = &self.shared.pace;
        let pause = if !self.foreign.is_empty() {
            pace.foreign
        } else if !self.unnoted.is_empty() {
            FIRST_WAIT
        } else if self.is_busy() {
            pace.busy
        } else {
            pace.idle
        };
        let due = match self.next_due(spec) {
            // The end of a run makes room.
            Some(due) if self.queue.len() < MOST_QUEUED => due,
            _ => Timestamp::MAX,
        };
        after(self.looked_at, pause).min(due)
    }

    /// The next instant that is claimed.
    fn next_due(&self, spec: &Spec) -> Option<Timestamp> {
        if !spec.enabled {
            return None;
        }
        spec.agenda.next_after(self.seen?.max(spec.since))
    }

    fn is_busy(&self) -> bool {
        self.current.is_some() || !self.queue.is_empty()
    }

    /// Brings the sink's account of due instants and this task together.
    async fn look(&mut self, spec: &Spec) {
        let looked = tokio::time::timeout(PATIENCE, self.reconcile(spec)).await;
        let looked = looked.unwrap_or_else(|_| {
            let error = Error::new(ErrorKind::Timeout, "the sink did not answer in time");
            Err(error)
        });
        self.looked_at = Some(self.shared.clock.now());
        match looked {
            Ok(()) => self.failures = 0,
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                tracing::warn!(
                    pipeline = self.name,
                    "due runs cannot be claimed: {error}; trying again"
                );
            }
        }
    }

    /// Whether a due run of this daemon waits, goes on, or has ended and is yet to be noted.
    fn knows(&self, due: &DueRun) -> bool {
        let current = self
            .current
            .iter()
            .filter_map(|current| current.due.as_ref());
        let queued = self.queue.iter().filter_map(|queued| queued.due.as_ref());
        let unnoted = self.unnoted.iter().map(|unnoted| &unnoted.due);
        current
            .chain(queued)
            .chain(unnoted)
            .any(|known| known == due)
    }

    fn push(&mut self, due: DueRun, spec: &Spec) {
        let run = ActiveRun::new(&self.name, spec.trigger, Some(due.scheduled_for));
        if let Some(late_after) = spec.late_after {
            let due = due.clone();
            self.shared
                .notifier
                .tell(Observation::Due { due, late_after });
        }
        // What is taken over from another daemon may be older than what waits here.
        let later = |queued: &Queued| {
            let known = queued.due.as_ref();
            known.is_some_and(|known| known.scheduled_for > due.scheduled_for)
        };
        let place = self.queue.iter().position(later);
        let queued = Queued {
            run: Arc::new(run),
            due: Some(due),
            options: RunOptions::default(),
        };
        self.queue.insert(place.unwrap_or(self.queue.len()), queued);
    }

    /// Accepts a run that somebody asks for, unless one goes on.
    fn take(&mut self, order: RunOrder, spec: &Spec) {
        let refusal = if !spec.enabled {
            Some(format!(
                "{0} is stopped; start it with `etl-host start {0}`",
                self.name
            ))
        } else if self.is_busy() {
            Some(format!("a run of {} goes on already", self.name))
        } else {
            None
        };
        if refusal.is_none() {
            self.queue.push_back(Queued {
                run: order.run,
                due: None,
                options: order.options,
            });
        }
        // Whoever does not wait for the answer does not need it.
        let _ = order.reply.send(refusal.map_or(Ok(()), Err));
    }

    fn start_next(&mut self, spec: &Arc<Spec>) {
        if self.current.is_some() {
            return;
        }
        // What somebody asks for by hand is left to the leases of its partitions.
        let first = self.queue.front().and_then(|queued| queued.due.as_ref());
        if first.is_some_and(|due| !is_next(due.scheduled_for, &self.foreign)) {
            return;
        }
        let Some(Queued { run, due, options }) = self.queue.pop_front() else {
            return;
        };
        self.shared.active.add(&run);
        let work = carry_out(
            self.shared.clone(),
            spec.clone(),
            run.clone(),
            due.clone(),
            options,
        );
        self.current = Some(Current {
            run,
            due,
            task: tokio::spawn(work),
        });
    }

    /// Asks the run that goes on to stop, and gives up those that wait.
    fn stop_all(&mut self, reason: &str) {
        if let Some(current) = &self.current {
            current.run.stop.drain.cancel();
        }
        for queued in std::mem::take(&mut self.queue) {
            if let Some(due) = queued.due {
                self.shared.notifier.tell(Observation::Settled(due.clone()));
                self.tell_not_run(&due, DueStatus::Cancelled, Some(reason));
                self.unnoted.push(Unnoted {
                    due,
                    status: DueStatus::Cancelled,
                    run_id: None,
                    reason: Some(reason.to_owned()),
                });
            }
        }
    }

    fn note_outcome(&mut self, outcome: Outcome) {
        let Some(current) = self.current.take() else {
            return;
        };
        self.shared.active.remove(&current.run);
        if let (Some(due), false) = (&current.due, matches!(outcome, Outcome::Ended(_))) {
            self.shared.notifier.tell(Observation::Settled(due.clone()));
        }
        let (status, reason) = match outcome {
            Outcome::Ended(ended) => {
                let status = of_run(ended.status);
                // Nothing depends on a range of the past.
                if current.run.trigger != Trigger::Backfill {
                    self.last = Some(status);
                }
                (status, ended.error)
            }
            Outcome::Skipped(reason) => (DueStatus::Skipped, Some(reason)),
            Outcome::Stopped => (DueStatus::Cancelled, None),
            Outcome::Lost => {
                let lost = current
                    .due
                    .map(|due| (due.scheduled_for, DueStatus::Running));
                self.foreign.extend(lost);
                return;
            }
        };
        let Some(due) = current.due else { return };
        if status == DueStatus::Skipped && !self.shared.shutdown.is_cancelled() {
            self.tell_not_run(&due, status, reason.as_deref());
        }
        // What the end of the daemon has cut short is for the next one to take up.
        let cut_short = matches!(status, DueStatus::Cancelled | DueStatus::Skipped);
        let resumed = cut_short && self.shared.shutdown.is_cancelled();
        self.unnoted.push(Unnoted {
            due,
            status: if resumed { DueStatus::Queued } else { status },
            run_id: current.run.has_begun().then(|| current.run.run_id.clone()),
            reason,
        });
        // The sink is told at once.
        self.looked_at = None;
    }

    fn tell_not_run(&self, due: &DueRun, status: DueStatus, reason: Option<&str>) {
        let reason = reason.unwrap_or_default();
        tracing::info!(pipeline = self.name, "{due} is {status}: {reason}");
        self.shared.metrics.not_run(&self.name, status.as_str());
        // Nobody may be listening.
        let _ = self.shared.events.send(Event::Skipped {
            pipeline: self.name.clone(),
            scheduled_for: due.scheduled_for,
            status: status.as_str().to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Tells those that depend on it where it stands.
    fn publish(&self, spec: &Spec) {
        let own = self
            .current
            .iter()
            .filter_map(|current| current.due.as_ref());
        let queued = self.queue.iter().filter_map(|queued| queued.due.as_ref());
        let open = own.chain(queued).map(|due| due.scheduled_for);
        let held = self
            .current
            .iter()
            .filter(|current| !current.run.has_begun());
        let waiting: Vec<Timestamp> = held
            .filter_map(|current| current.run.scheduled_for)
            .chain(
                self.queue
                    .iter()
                    .filter_map(|queued| queued.run.scheduled_for),
            )
            .collect();
        let next = self.next_due(spec);
        let step = Duration::from_micros(1);
        self.shared.standings.publish(
            &self.name,
            Standing {
                known: self.seen.is_some(),
                broken: false,
                scheduled: next.is_some(),
                settled_until: next.and_then(|next| next.checked_sub(step).ok()),
                next,
                waiting: waiting.into_iter().min(),
                open: open.chain(self.foreign.keys().copied()).collect(),
                last: self.last,
            },
        );
    }

    /// Lets the run that goes on end, and tells the sink.
    async fn finish(mut self, shutdown: bool) {
        if let Some(current) = &self.current {
            current.run.stop.drain.cancel();
            let outcome = outcome(&mut self.current).await;
            self.note_outcome(outcome);
        }
        if !shutdown {
            self.stop_all("the pipeline is gone");
        }
        let spec = self.spec.borrow().clone();
        let noted = tokio::time::timeout(PATIENCE, self.note_all(&spec)).await;
        if !matches!(noted, Ok(Ok(()))) {
            tracing::warn!(
                pipeline = self.name,
                "the sink could not be told how its due runs ended; the next daemon takes them up"
            );
        }
        // The end of the daemon is no reason to leave out those that depend on it: the next daemon takes them up.
        if !shutdown {
            self.shared.standings.forget(&self.name);
        }
    }
}

/// Whether it is the turn of a due run that waits here: one at a time, the oldest first, whoever has claimed it. Of all
/// that wait, wherever they do, one is the oldest, so that no two daemons wait for each other.
fn is_next(instant: Timestamp, foreign: &BTreeMap<Timestamp, DueStatus>) -> bool {
    let runs = foreign.values().any(|status| *status == DueStatus::Running);
    !runs && foreign.range(..instant).next().is_none()
}

/// Ends when the run that goes on has; never if there is none.
async fn outcome(current: &mut Option<Current>) -> Outcome {
    let Some(current) = current else {
        return std::future::pending().await;
    };
    (&mut current.task).await.unwrap_or_else(|_| {
        Outcome::Ended(Ended {
            status: Status::Failed,
            error: Some("the host itself panicked; look at its log".to_owned()),
        })
    })
}

fn of_run(status: Status) -> DueStatus {
    match status {
        Status::Succeeded => DueStatus::Succeeded,
        Status::Partial => DueStatus::Partial,
        Status::Failed => DueStatus::Failed,
        Status::Cancelled => DueStatus::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_oldest_that_waits_anywhere_is_next() {
        use DueStatus::{Queued, Running};
        let foreign = |all: &[(i64, DueStatus)]| -> BTreeMap<Timestamp, DueStatus> {
            all.iter().map(|(second, it)| (at(*second), *it)).collect()
        };
        assert!(is_next(at(5), &foreign(&[])));
        assert!(is_next(at(5), &foreign(&[(6, Queued), (7, Queued)])));
        assert!(!is_next(at(5), &foreign(&[(4, Queued)])));
        assert!(!is_next(at(5), &foreign(&[(4, Running)])));
        assert!(!is_next(at(5), &foreign(&[(6, Running)])));
    }

    #[test]
    fn of_daemons_that_wait_one_may_go_on() {
        // Instants that are claimed by three daemons in any way.
        for claims in 1..3_u32.pow(6) {
            let daemon_of = |instant: u32| claims / 3_u32.pow(instant) % 3;
            let of = |daemon: u32| (0..6).filter(move |instant| daemon_of(*instant) == daemon);
            let next = (0..3).filter(|daemon| {
                let others = (0..6).filter(|instant| daemon_of(*instant) != *daemon);
                let foreign = others
                    .map(|instant| (at(instant.into()), DueStatus::Queued))
                    .collect();
                let first = of(*daemon).next();
                first.is_some_and(|first| is_next(at(first.into()), &foreign))
            });
            assert_eq!(next.count(), 1, "{claims}");
        }
    }
}
