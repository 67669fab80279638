//! One pipeline of the daemon: claims its due instants, and has one run at a time carried out.
//!
//! When an instant is due is the [`Agenda`]'s business, how a run is carried out the [`Executor`]'s. That no instant is run
//! twice is ensured by the claim in the sink (`sink::due`), not by anything here.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::active::{ActiveRun, ActiveRuns};
use super::agenda::{Agenda, Fate, fates};
use super::clock::Clock;
use super::metrics::Metrics;
use super::notify::{EndedRun, Notifier, Observation};
use super::standing::{Standing, Standings};
use super::view::Event;
use crate::config::{CatchUp, Dependency, Overlap};
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Holder;
use crate::plan::RunOptions;
use crate::runtime::report::Status;
use crate::sink::due::{Claimed, DueClaim, DueNote, DueRecord, DueRun, DueRuns, DueStatus};
use crate::state::Trigger;

/// How long a claim lasts unless it is renewed.
const LEASE: Duration = Duration::from_mins(1);
/// How often one due instant is begun: a run that takes the daemon down with it must not do so for ever.
const MOST_TRIES: u32 = 10;
/// How late an instant is claimed that is on time all the same.
const ON_TIME: Duration = Duration::from_secs(5);
/// Due instants that wait behind a run; more are claimed when there is room.
const MOST_QUEUED: usize = 100;
/// How long the sink may take for all that is asked of it at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// The waits after a failure of the sink: doubled from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_mins(1);
/// How long finished due runs are kept in the sink, and how often older ones are removed.
const KEEP: Duration = Duration::from_hours(24 * 90);
const PRUNE_EVERY: Duration = Duration::from_hours(24);

/// How often a pipeline's task looks at its sink when nothing is due.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// While nothing goes on: another daemon may have left a claim.
    pub idle: Duration,
    /// While a run of its own goes on: the claim is renewed.
    pub busy: Duration,
    /// While another daemon runs it.
    pub foreign: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            idle: Duration::from_mins(1),
            busy: LEASE / 3,
            foreign: Duration::from_secs(5),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// Why it did not succeed, in a line.
    pub error: Option<String>,
}

/// Carries runs out.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Carries a run out to its end, whatever that is.
    async fn run(&self, run: &ActiveRun, options: RunOptions) -> Ended;

    /// How the last run of a pipeline ended that this machine knows of.
    async fn last_status(&self, pipeline: &str) -> Option<DueStatus>;
}

/// What all pipelines of a daemon share.
pub struct Shared {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The daemon, as the holder of claims.
    pub holder: Holder,
    /// Who carries runs out.
    pub executor: Arc<dyn Executor>,
    /// Permits of runs that go on at once.
    pub permits: Arc<Semaphore>,
    /// Runs that go on or wait.
    pub active: ActiveRuns,
    /// Where each pipeline stands.
    pub standings: Standings,
    /// Who wants to know what happens.
    pub events: broadcast::Sender<Event>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who is told of late runs.
    pub notifier: Arc<Notifier>,
    /// How often sinks are looked at.
    pub pace: Pace,
    /// The daemon ends when its runs have.
    pub shutdown: CancellationToken,
}

impl Shared {
    /// A place among the runs that go on at once.
    async fn place(&self, run: &ActiveRun) -> Result<OwnedSemaphorePermit, String> {
        run.wait_for("a run of another pipeline to end");
        let permit = self.permits.clone().acquire_owned().await;
        permit.map_err(|_| "the daemon has ended".to_owned())
    }
}

/// What a pipeline's task has to know of it.
pub struct Spec {
    /// It was not stopped.
    pub enabled: bool,
    /// When it is due; nothing if it is paused, or somebody else starts it.
    pub agenda: Agenda,
    /// Instants up to this one are none of its business: the schedule was set, resumed or first seen then.
    pub since: Timestamp,
    /// What happens with instants that nobody was there for.
    pub catch_up: CatchUp,
    /// What happens with an instant while a run goes on.
    pub overlap: Overlap,
    /// How long after its instant a due run is late; `None` is never.
    pub late_after: Option<Duration>,
    /// What goes before it.
    pub depends_on: Vec<Dependency>,
    /// What makes its due runs start.
    pub trigger: Trigger,
    /// Where its due instants are claimed.
    pub due_runs: Arc<dyn DueRuns>,
}

/// What somebody asks of a pipeline's task.
pub struct RunOrder {
    /// The run.
    pub run: Arc<ActiveRun>,
    /// How it differs from the usual one.
    pub options: RunOptions,
    /// Whether it is accepted; if not, why.
    pub reply: oneshot::Sender<Result<(), String>>,
}

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

/// What became of an order.
enum Outcome {
    Ended(Ended),
    /// It was left out, for this reason.
    Skipped(String),
    /// It was stopped before it began.
    Stopped,
    /// Another daemon has it.
    Lost,
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
    /// Due runs of other daemons that are not over.
    foreign: BTreeSet<Timestamp>,
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
            foreign: BTreeSet::new(),
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

    async fn reconcile(&mut self, spec: &Spec) -> Result<()> {
        let now = self.shared.clock.now();
        self.note_all(spec).await?;
        if self.seen.is_none() {
            let latest = self.latest_due(spec, now).await?;
            self.last = self.last_of_sink(spec).await?;
            self.seen = Some(latest.unwrap_or(spec.since).max(spec.since));
        }
        if self.is_busy() {
            spec.due_runs.renew_due(&self.shared.holder, LEASE).await?;
        }
        if !spec.enabled {
            return Ok(());
        }
        self.recover(spec).await?;
        self.claim_passed(spec, now).await?;
        if std::mem::take(&mut self.is_last_stale) {
            self.last = self.last_of_sink(spec).await?;
        }
        let prune_at = self.pruned_at.map(|at| at.saturating_add(PRUNE_EVERY));
        if prune_at.is_none_or(|at| at.unwrap_or(Timestamp::MAX) <= now) {
            let before = now.saturating_sub(KEEP).unwrap_or(Timestamp::MIN);
            spec.due_runs.prune_due(&self.name, before).await?;
            self.pruned_at = Some(now);
        }
        Ok(())
    }

    /// The newest instant that is accounted for. One in the future was claimed by a clock that was wrong; it is met again
    /// when its time comes.
    async fn latest_due(&self, spec: &Spec, now: Timestamp) -> Result<Option<Timestamp>> {
        let latest = spec.due_runs.latest_due(&self.name).await?;
        let Some(ahead) = latest.filter(|latest| *latest > now) else {
            return Ok(latest);
        };
        tracing::warn!(
            pipeline = self.name,
            "a due run of the future is claimed already, for {ahead}: look at the clocks of the machines"
        );
        let records = spec.due_runs.due_runs(&self.name, 1_000).await?;
        let past = records.into_iter().find(|it| it.scheduled_for <= now);
        Ok(past.map(|it| it.scheduled_for))
    }

    /// How the last run ended: by the sink, which other machines write too, or by this machine's history.
    async fn last_of_sink(&self, spec: &Spec) -> Result<Option<DueStatus>> {
        let records = spec.due_runs.due_runs(&self.name, 200).await?;
        let ran = records.iter().map(|record| record.status).find(|status| {
            matches!(
                status,
                DueStatus::Succeeded
                    | DueStatus::Partial
                    | DueStatus::Failed
                    | DueStatus::Cancelled
                    | DueStatus::Interrupted
            )
        });
        match ran {
            Some(status) => Ok(Some(status)),
            None => Ok(self.shared.executor.last_status(&self.name).await),
        }
    }

    /// Takes up what a daemon that died has left, and looks what other daemons do.
    async fn recover(&mut self, spec: &Spec) -> Result<()> {
        let before = std::mem::take(&mut self.foreign);
        for record in spec.due_runs.unfinished_due(&self.name).await? {
            let due = DueRun::new(&self.name, record.scheduled_for);
            if record.holder == self.shared.holder {
                // The answer to a claim was lost.
                if !self.knows(&due) {
                    self.push(due, spec);
                }
            } else if record.is_abandoned() {
                self.take_over(due, &record, spec).await?;
            } else {
                self.foreign.insert(record.scheduled_for);
            }
        }
        // Another daemon's run is over.
        self.is_last_stale |= !before.is_subset(&self.foreign);
        Ok(())
    }

    async fn take_over(&mut self, due: DueRun, record: &DueRecord, spec: &Spec) -> Result<()> {
        let claim = self.claim(due.clone(), DueStatus::Queued, None);
        if !spec.due_runs.take_over_due(&claim, record).await? {
            return Ok(());
        }
        if record.status == DueStatus::Running && record.tries >= MOST_TRIES {
            let reason = format!(
                "the daemon died in each of {MOST_TRIES} tries; look at the log of run {}",
                record.run_id.as_deref().unwrap_or("-")
            );
            tracing::error!(pipeline = self.name, "{due} is given up: {reason}");
            self.shared
                .notifier
                .tell(Observation::Ended(EndedRun::interrupted(
                    &self.name,
                    record.run_id.as_deref().unwrap_or("-"),
                    &record.started_at.unwrap_or(record.claimed_at).to_string(),
                    Some(due.scheduled_for),
                )));
            self.unnoted.push(Unnoted {
                due,
                status: DueStatus::Interrupted,
                run_id: None,
                reason: Some(reason),
            });
            return Ok(());
        }
        tracing::info!(
            pipeline = self.name,
            "{due} was left by {} and is taken up",
            record.holder
        );
        self.push(due, spec);
        Ok(())
    }

    /// Claims the instants that have passed.
    async fn claim_passed(&mut self, spec: &Spec, now: Timestamp) -> Result<()> {
        let seen = self.seen.unwrap_or(spec.since).max(spec.since);
        self.seen = Some(seen);
        let decided = fates(&spec.agenda.passed(seen, now), now, spec.catch_up);
        let missed: Vec<DueClaim> = decided
            .iter()
            .filter(|(_, fate)| *fate == Fate::Missed)
            .map(|(instant, _)| {
                let reason = "nobody could start it when it was due, and `catch_up` leaves it out";
                let due = DueRun::new(&self.name, *instant);
                self.claim(due, DueStatus::Missed, Some(reason))
            })
            .collect();
        if let Some(last) = missed.last() {
            let claimed = spec.due_runs.claim_each_due(&missed).await?;
            self.seen = Some(last.due.scheduled_for);
            for (claim, claimed) in missed.iter().zip(claimed) {
                if claimed {
                    self.tell_not_run(&claim.due, DueStatus::Missed, claim.reason.as_deref());
                }
            }
        }
        for (instant, fate) in decided {
            if fate == Fate::Missed {
                continue;
            }
            // Those that are made up for are not in each other's way.
            let on_time = instant.saturating_add(ON_TIME).unwrap_or(instant) >= now;
            let overlap = match spec.catch_up {
                CatchUp::All(_) if !on_time => Overlap::Queue,
                _ => spec.overlap,
            };
            if overlap == Overlap::Queue && self.queue.len() >= MOST_QUEUED {
                break;
            }
            let due = DueRun::new(&self.name, instant);
            self.claim_due(due, overlap, spec).await?;
            self.seen = Some(instant);
        }
        Ok(())
    }

    async fn claim_due(&mut self, due: DueRun, overlap: Overlap, spec: &Spec) -> Result<()> {
        let busy = self.is_busy() || !self.foreign.is_empty();
        let left_out = match overlap {
            Overlap::Skip if busy => Some("an earlier run was not over"),
            _ => None,
        };
        let status = match left_out {
            Some(_) => DueStatus::Skipped,
            None => DueStatus::Queued,
        };
        let claim = self.claim(due, status, left_out);
        match spec.due_runs.claim_due(&claim).await? {
            Claimed::New if left_out.is_some() => {
                self.tell_not_run(&claim.due, status, left_out);
            }
            Claimed::New => {
                if overlap == Overlap::Cancel {
                    self.stop_all("a newer run was due");
                }
                self.push(claim.due, spec);
            }
            Claimed::Exists(record) if record.status.is_final() => self.is_last_stale = true,
            Claimed::Exists(record) if record.holder == self.shared.holder => {
                if !self.knows(&claim.due) {
                    self.push(claim.due, spec);
                }
            }
            Claimed::Exists(record) => {
                self.foreign.insert(record.scheduled_for);
            }
        }
        Ok(())
    }

    fn claim(&self, due: DueRun, status: DueStatus, reason: Option<&str>) -> DueClaim {
        DueClaim {
            due,
            holder: self.shared.holder.clone(),
            lease: LEASE,
            status,
            reason: reason.map(str::to_owned),
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
        self.queue.push_back(Queued {
            run: Arc::new(run),
            due: Some(due),
            options: RunOptions::default(),
        });
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
        let foreign = !self.foreign.is_empty();
        if foreign
            && self
                .queue
                .front()
                .is_some_and(|queued| queued.due.is_some())
        {
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
                self.last = Some(status);
                (status, ended.error)
            }
            Outcome::Skipped(reason) => (DueStatus::Skipped, Some(reason)),
            Outcome::Stopped => (DueStatus::Cancelled, None),
            Outcome::Lost => {
                self.foreign
                    .extend(current.due.map(|due| due.scheduled_for));
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

    /// Tells the sink what it has not been told yet.
    async fn note_all(&mut self, spec: &Spec) -> Result<()> {
        while let Some(unnoted) = self.unnoted.first() {
            let note = DueNote {
                due: &unnoted.due,
                holder: &self.shared.holder,
                status: unnoted.status,
                run_id: unnoted.run_id.as_deref(),
                reason: unnoted.reason.as_deref(),
            };
            if !spec.due_runs.note_due(&note).await? {
                tracing::warn!(
                    pipeline = self.name,
                    "{} ended as {}, and another daemon has it by now",
                    unnoted.due,
                    unnoted.status
                );
            }
            self.unnoted.remove(0);
        }
        Ok(())
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
                open: open.chain(self.foreign.iter().copied()).collect(),
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

/// A run from its claim to its end: waits for its jitter, for what goes before it, and for its turn.
async fn carry_out(
    shared: Arc<Shared>,
    spec: Arc<Spec>,
    run: Arc<ActiveRun>,
    due: Option<DueRun>,
    options: RunOptions,
) -> Outcome {
    let ready = async {
        let Some(due) = &due else {
            return shared.place(&run).await.map(Begin::Place);
        };
        let instant = due.scheduled_for;
        run.wait_for("its jitter");
        let delay = spec.agenda.start_delay(&run.pipeline, instant);
        let start = instant.saturating_add(delay).unwrap_or(instant);
        shared.clock.sleep_until(start).await;
        for dependency in &spec.depends_on {
            run.wait_for(format!("the pipeline {}", dependency.pipeline));
            shared.standings.wait(dependency, instant).await?;
        }
        begin_due(&shared, &spec, &run, due).await
    };
    let _place = tokio::select! {
        biased;
        () = run.stop.drain.cancelled() => return Outcome::Stopped,
        ready = ready => match ready {
            Ok(Begin::Place(place)) => place,
            Ok(Begin::Lost) => return Outcome::Lost,
            Err(reason) => return Outcome::Skipped(reason),
        },
    };
    run.begin(shared.clock.now());
    if let Some(due) = &due {
        shared.notifier.tell(Observation::Begun {
            due: due.clone(),
            run_id: run.run_id.clone(),
        });
    }
    let delay = due.as_ref().and_then(|due| {
        let late = shared.clock.now().duration_since(due.scheduled_for);
        Duration::try_from(late).ok()
    });
    shared.metrics.run_started(&run.pipeline, delay);
    // Nobody may be listening, here and below.
    let _ = shared.events.send(Event::RunStarted {
        run_id: run.run_id.clone(),
        pipeline: run.pipeline.clone(),
    });
    let ended = shared.executor.run(&run, options).await;
    let _ = shared.events.send(Event::RunEnded {
        run_id: run.run_id.clone(),
        pipeline: run.pipeline.clone(),
        status: ended.status.word().to_owned(),
    });
    Outcome::Ended(ended)
}

/// What a run that wants to begin gets.
enum Begin {
    /// A place among the runs that go on at once, for as long as it is kept.
    Place(OwnedSemaphorePermit),
    /// Another daemon has its due run.
    Lost,
}

/// Notes in the sink that a run begins. Without that it does not: the sink may know of another daemon that has it. While
/// the sink does not answer, the place is left to others.
async fn begin_due(
    shared: &Shared,
    spec: &Spec,
    run: &ActiveRun,
    due: &DueRun,
) -> Result<Begin, String> {
    let note = DueNote {
        due,
        holder: &shared.holder,
        status: DueStatus::Running,
        run_id: Some(&run.run_id),
        reason: None,
    };
    let mut wait = FIRST_WAIT;
    loop {
        let place = shared.place(run).await?;
        run.wait_for("the sink to note that it begins");
        let noted = tokio::time::timeout(PATIENCE, spec.due_runs.note_due(&note)).await;
        match noted {
            Ok(Ok(true)) => return Ok(Begin::Place(place)),
            Ok(Ok(false)) => return Ok(Begin::Lost),
            Ok(Err(error)) => tracing::warn!(
                pipeline = run.pipeline,
                "the sink cannot be told that {due} begins: {error}; trying again"
            ),
            Err(_) => {
                tracing::warn!(
                    pipeline = run.pipeline,
                    "the sink does not answer; trying again"
                );
            }
        }
        drop(place);
        shared.clock.sleep(wait).await;
        wait = wait.saturating_mul(2).min(LAST_WAIT);
    }
}

fn of_run(status: Status) -> DueStatus {
    match status {
        Status::Succeeded => DueStatus::Succeeded,
        Status::Partial => DueStatus::Partial,
        Status::Failed => DueStatus::Failed,
        Status::Cancelled => DueStatus::Cancelled,
    }
}
