//! Runs that go on or wait, as others see and stop them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::view::{PartitionView, RunView};
use crate::backfill;
use crate::runtime::RunContext;
use crate::runtime::books::{Activity, Books};
use crate::runtime::report::RunReport;
use crate::state::Trigger;

/// How a run is asked to end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Finish what is in flight, take nothing new.
    pub drain: CancellationToken,
    /// Roll back what is in flight.
    pub now: CancellationToken,
}

/// A run from the moment that it is accepted until it is over.
pub struct ActiveRun {
    /// Its identifier.
    pub run_id: String,
    /// The pipeline.
    pub pipeline: String,
    /// What made it start.
    pub trigger: Trigger,
    /// The due instant that it is for.
    pub scheduled_for: Option<Timestamp>,
    /// How it is asked to end.
    pub stop: Stop,
    over: CancellationToken,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    started_at: Option<Timestamp>,
    waits_for: Option<String>,
    books: Option<Arc<Books>>,
    backfill: Option<backfill::Progress>,
}

impl ActiveRun {
    /// A run that waits for its turn.
    pub fn new(pipeline: &str, trigger: Trigger, scheduled_for: Option<Timestamp>) -> Self {
        Self {
            run_id: uuid::Uuid::now_v7().to_string(),
            pipeline: pipeline.to_owned(),
            trigger,
            scheduled_for,
            stop: Stop::default(),
            over: CancellationToken::new(),
            progress: Mutex::default(),
        }
    }

    /// Asks it to end: what is in flight is committed, or rolled back with `now`.
    pub fn cancel(&self, now: bool) {
        self.stop.drain.cancel();
        if now {
            self.stop.now.cancel();
        }
    }

    /// Ends when the run is over.
    pub async fn wait_until_over(&self) {
        self.over.cancelled().await;
    }

    /// Notes what it waits for.
    pub fn wait_for(&self, what: impl Into<String>) {
        self.progress().waits_for = Some(what.into());
    }

    /// Notes that it has begun.
    pub fn begin(&self, now: Timestamp) {
        let mut progress = self.progress();
        progress.started_at = Some(now);
        progress.waits_for = None;
    }

    /// Shows its books from now on.
    pub fn show(&self, books: Arc<Books>) {
        self.progress().books = Some(books);
    }

    /// Shows from now on how far its backfill is.
    fn show_backfill(&self, backfill: &backfill::Progress) {
        self.progress().backfill = Some(backfill.clone());
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.progress().started_at.is_some()
    }

    /// As others see it.
    pub fn view(&self) -> RunView {
        let progress = self.progress();
        RunView {
            run_id: self.run_id.clone(),
            pipeline: self.pipeline.clone(),
            trigger: self.trigger.word().to_owned(),
            scheduled_for: self.scheduled_for,
            started_at: progress.started_at,
            waits_for: progress.waits_for.clone(),
            stopping: self.stop.drain.is_cancelled(),
            backfill: progress.backfill.clone(),
            partitions: progress
                .books
                .as_deref()
                .map(partitions)
                .unwrap_or_default(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever looks at a backfill sees the window that is loaded now.
impl backfill::Onlooker for ActiveRun {
    fn begins(&self, progress: &backfill::Progress) {
        self.show_backfill(progress);
    }

    fn window_begins(&self, run: &RunContext) {
        self.show(run.books.clone());
    }

    fn window_ended(&self, _: &str, _: &str, _: &RunReport, progress: &backfill::Progress) {
        self.show_backfill(progress);
    }
}

/// The partitions of a run, by its books.
pub fn partitions(books: &Books) -> Vec<PartitionView> {
    let view = |page: crate::runtime::books::Page| {
        let (activity, reason) = match page.activity {
            Activity::Waiting => ("waiting", None),
            Activity::Running => ("running", None),
            Activity::Retrying { reason } => ("retrying", Some(reason)),
            Activity::Succeeded => ("succeeded", None),
            Activity::Failed => ("failed", None),
            Activity::Cancelled => ("cancelled", None),
        };
        PartitionView {
            name: page.partition,
            activity: activity.to_owned(),
            reason,
            attempt: page.attempt,
            extracted: page.ledger.extracted,
            loaded: page.ledger.loaded,
            quarantined: page.ledger.quarantined() + page.held,
            bytes: page.ledger.bytes,
            ledger: page.ledger,
            timeline: page.timeline,
        }
    };
    books.pages().into_iter().map(view).collect()
}

/// All runs that go on or wait, one of each pipeline at most.
#[derive(Default)]
pub struct ActiveRuns(Mutex<BTreeMap<String, Arc<ActiveRun>>>);

impl ActiveRuns {
    /// A pipeline's.
    pub fn of(&self, pipeline: &str) -> Option<Arc<ActiveRun>> {
        self.lock().get(pipeline).cloned()
    }

    /// The one with this identifier.
    pub fn find(&self, run_id: &str) -> Option<Arc<ActiveRun>> {
        self.lock()
            .values()
            .find(|run| run.run_id == run_id)
            .cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<ActiveRun>> {
        self.lock().values().cloned().collect()
    }

    /// Adds one.
    pub fn add(&self, run: &Arc<ActiveRun>) {
        self.lock().insert(run.pipeline.clone(), run.clone());
    }

    /// Takes one out that is over.
    pub fn remove(&self, run: &ActiveRun) {
        run.over.cancel();
        let mut runs = self.lock();
        if runs
            .get(&run.pipeline)
            .is_some_and(|known| known.run_id == run.run_id)
        {
            runs.remove(&run.pipeline);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<ActiveRun>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
