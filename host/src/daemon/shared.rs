//! What the tasks of all pipelines share, and what each is told.
//!
//! It is data; what a task does with it is decided in [`pipeline`](super::pipeline).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Semaphore, broadcast, oneshot};
use tokio_util::sync::CancellationToken;

use super::active::{ActiveRun, ActiveRuns};
use super::agenda::Agenda;
use super::clock::Clock;
use super::metrics::Metrics;
use super::notify::Notifier;
use super::standing::Standings;
use super::view::Event;
use crate::config::{CatchUp, Dependency, Overlap};
use crate::holder::Holder;
use crate::plan::RunOptions;
use crate::runtime::report::Status;
use crate::sink::due::{DueRuns, DueStatus};
use crate::state::Trigger;

/// How long a claim lasts unless it is renewed.
pub(super) const LEASE: Duration = Duration::from_mins(1);
/// How long the sink may take for all that is asked of it at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The waits after a failure of the sink: doubled from the first to the last.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(1);
pub(super) const LAST_WAIT: Duration = Duration::from_mins(1);

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
