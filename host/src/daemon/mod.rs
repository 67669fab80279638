//! The daemon: many pipelines on their schedules, in one process, until it is asked to stop.
//!
//! It decides when a pipeline runs, and shows what goes on. What a run does is decided in
//! [`runtime`](crate::runtime), when an instant is due in `schedule`.

pub mod client;
pub mod clock;
pub mod health;
pub mod http;
pub mod metrics;
mod operations;
#[cfg(test)]
mod stage_daemon;
pub mod view;

use std::path::PathBuf;

use tokio::sync::broadcast;

use self::health::Health;
use self::metrics::Metrics;
use self::view::{
    DaemonView, Event, PipelineView, ProcessView, RefusedPlugin, RunRequest, RunSummary, RunView,
};
use crate::failure::Failure;
use crate::pool::{BreakerState, PoolUse};

/// Why the daemon did not do what somebody asked for.
#[derive(Debug)]
pub enum Refusal {
    /// There is no such pipeline or run.
    NotFound(String),
    /// Not now: what it needs is in another state.
    Conflict(String),
    /// What was asked for is wrong.
    Invalid(Failure),
    /// Something failed on the way.
    Failed(Failure),
}

/// Which runs of the history are wanted.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Only this pipeline's.
    pub pipeline: Option<String>,
    /// Only those that ended like this.
    pub status: Option<String>,
    /// Only those that began before this run.
    pub before: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// The daemon.
pub struct Daemon {
    metrics: Metrics,
    health: Health,
    events: broadcast::Sender<Event>,
}

#[expect(clippy::todo, unused_variables, reason = "written next")]
impl Daemon {
    /// All pipelines, by name.
    pub fn pipelines(&self) -> Result<Vec<PipelineView>, Refusal> {
        todo!()
    }
    /// One pipeline.
    pub fn pipeline(&self, name: &str) -> Result<PipelineView, Refusal> {
        todo!()
    }
    /// The configuration that is in force, secrets as `***`.
    pub fn config(&self, name: &str) -> Result<serde_json::Value, Refusal> {
        todo!()
    }
    /// Starts a run that somebody asks for; answers with its identifier once it is accepted.
    pub async fn run(&self, name: &str, request: RunRequest) -> Result<String, Refusal> {
        todo!()
    }
    /// Asks a run to stop: what is in flight is committed, or rolled back with `now`.
    pub fn cancel(&self, run_id: &str, now: bool) -> Result<(), Refusal> {
        todo!()
    }
    /// Enables a pipeline, also one that was parked, and starts a run of it unless one goes on.
    pub async fn start(&self, name: &str) -> Result<Option<String>, Refusal> {
        todo!()
    }
    /// Disables a pipeline and stops its run; ends when that has ended.
    pub async fn stop(&self, name: &str, now: bool) -> Result<(), Refusal> {
        todo!()
    }
    /// Stops a pipeline and moves its files to the trash. Says where they are.
    pub async fn delete(&self, name: &str) -> Result<PathBuf, Refusal> {
        todo!()
    }
    /// Runs that go on or wait.
    pub fn running(&self) -> Vec<RunView> {
        todo!()
    }
    /// Runs of the past, newest first.
    pub fn history(&self, query: &HistoryQuery) -> Result<Vec<RunSummary>, Refusal> {
        todo!()
    }
    /// A run as history has it; `None` if it knows none of that name.
    pub fn summary(&self, run_id: &str) -> Result<Option<RunSummary>, Refusal> {
        todo!()
    }
    /// The report of a run that is over.
    pub fn report(&self, run_id: &str) -> Result<Option<serde_json::Value>, Refusal> {
        todo!()
    }
    /// Files of the plugins folder that do not serve.
    pub fn refused_plugins(&self) -> Vec<RefusedPlugin> {
        todo!()
    }
    /// The daemon's own process and its workers.
    pub fn processes(&self) -> Vec<ProcessView> {
        todo!()
    }
    /// Connections of the servers' pools.
    pub fn pools(&self) -> Vec<PoolUse> {
        todo!()
    }
    /// The servers' circuit breakers.
    pub fn breakers(&self) -> Vec<BreakerState> {
        todo!()
    }
    /// The daemon as a whole.
    pub fn view(&self) -> DaemonView {
        todo!()
    }
    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
    /// Whether it lives and serves.
    pub fn health(&self) -> &Health {
        &self.health
    }
    /// Counters and gauges.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    /// Tells the daemon that state or configuration was changed by somebody else, and should be read now.
    pub fn look_again(&self) {
        todo!()
    }
}
