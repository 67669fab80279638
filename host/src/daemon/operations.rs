//! What the HTTP API and the metrics need of a daemon, so that they can be tried without one.

use std::path::PathBuf;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::metrics::Metrics;
use super::schedules::{ScheduleChange, ScheduleView};
use super::view::{
    AuditEntry, BackfillRequest, DaemonView, Event, OriginView, PipelineView, ProcessView,
    RefusedPlugin, RunRequest, RunSummary, RunView,
};
use super::{Daemon, HistoryQuery, Refusal};
use crate::checkpoint::view::CheckpointsView;
use crate::dead_letter::view::LetterView;
use crate::pool::{BreakerState, PoolUse};
use crate::runtime::replay::ReplayReport;
use crate::sink::LetterFilter;
use crate::state::{AuditedAnswer, AuditedRequest};

/// The daemon, as the API sees it. What is not `async` may block.
#[async_trait]
pub trait Operations: Send + Sync + 'static {
    fn pipelines(&self) -> Result<Vec<PipelineView>, Refusal>;
    fn pipeline(&self, name: &str) -> Result<PipelineView, Refusal>;
    fn config(&self, name: &str) -> Result<serde_json::Value, Refusal>;
    fn config_origins(&self, name: &str) -> Result<Vec<OriginView>, Refusal>;
    fn add_recent(&self, view: &mut PipelineView) -> Result<(), Refusal>;
    async fn run(&self, name: &str, request: RunRequest) -> Result<String, Refusal>;
    fn cancel(&self, run_id: &str, now: bool) -> Result<(), Refusal>;
    async fn start(&self, name: &str) -> Result<Option<String>, Refusal>;
    async fn stop(&self, name: &str, now: bool) -> Result<(), Refusal>;
    async fn delete(&self, name: &str) -> Result<PathBuf, Refusal>;
    fn schedule(&self, name: &str) -> Result<ScheduleView, Refusal>;
    fn change_schedule(&self, name: &str, change: &ScheduleChange)
    -> Result<ScheduleView, Refusal>;
    async fn checkpoints(&self, name: &str) -> Result<CheckpointsView, Refusal>;
    async fn reset_checkpoint(
        &self,
        name: &str,
        partition: &str,
        allow_duplicates: bool,
    ) -> Result<CheckpointsView, Refusal>;
    async fn dead_letters(
        &self,
        name: &str,
        filter: &LetterFilter,
    ) -> Result<Vec<LetterView>, Refusal>;
    async fn replay(&self, name: &str, filter: LetterFilter) -> Result<ReplayReport, Refusal>;
    async fn backfill(&self, name: &str, request: BackfillRequest) -> Result<String, Refusal>;
    fn log_dir(&self) -> PathBuf;
    fn running(&self) -> Vec<RunView>;
    fn history(&self, query: &HistoryQuery) -> Result<Vec<RunSummary>, Refusal>;
    fn summary(&self, run_id: &str) -> Result<Option<RunSummary>, Refusal>;
    fn report(&self, run_id: &str) -> Result<Option<serde_json::Value>, Refusal>;
    fn refused_plugins(&self) -> Vec<RefusedPlugin>;
    fn processes(&self) -> Vec<ProcessView>;
    fn breakers(&self) -> Vec<BreakerState>;
    fn pools(&self) -> Vec<PoolUse>;
    fn view(&self) -> DaemonView;
    fn subscribe(&self) -> broadcast::Receiver<Event>;
    fn is_ready(&self) -> bool;
    fn ticked_at(&self) -> i64;
    fn metrics(&self) -> &Metrics;
    fn look_again(&self);
    fn record_request(&self, request: &AuditedRequest) -> Result<i64, Refusal>;
    fn record_answer(&self, id: i64, answer: &AuditedAnswer) -> Result<(), Refusal>;
    fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, Refusal>;
}

#[async_trait]
impl Operations for Daemon {
    fn pipelines(&self) -> Result<Vec<PipelineView>, Refusal> {
        self.pipelines()
    }
    fn pipeline(&self, name: &str) -> Result<PipelineView, Refusal> {
        self.pipeline(name)
    }
    fn config(&self, name: &str) -> Result<serde_json::Value, Refusal> {
        self.config(name)
    }
    fn config_origins(&self, name: &str) -> Result<Vec<OriginView>, Refusal> {
        self.config_origins(name)
    }
    fn add_recent(&self, view: &mut PipelineView) -> Result<(), Refusal> {
        self.add_recent(view)
    }
    async fn run(&self, name: &str, request: RunRequest) -> Result<String, Refusal> {
        self.run(name, request).await
    }
    fn cancel(&self, run_id: &str, now: bool) -> Result<(), Refusal> {
        self.cancel(run_id, now)
    }
    async fn start(&self, name: &str) -> Result<Option<String>, Refusal> {
        self.start(name).await
    }
    async fn stop(&self, name: &str, now: bool) -> Result<(), Refusal> {
        self.stop(name, now).await
    }
    async fn delete(&self, name: &str) -> Result<PathBuf, Refusal> {
        self.delete(name).await
    }
    fn schedule(&self, name: &str) -> Result<ScheduleView, Refusal> {
        self.schedule(name)
    }
    fn change_schedule(
        &self,
        name: &str,
        change: &ScheduleChange,
    ) -> Result<ScheduleView, Refusal> {
        self.change_schedule(name, change)
    }
    async fn checkpoints(&self, name: &str) -> Result<CheckpointsView, Refusal> {
        self.checkpoints(name).await
    }
    async fn reset_checkpoint(
        &self,
        name: &str,
        partition: &str,
        allow_duplicates: bool,
    ) -> Result<CheckpointsView, Refusal> {
        self.reset_checkpoint(name, partition, allow_duplicates)
            .await
    }
    async fn dead_letters(
        &self,
        name: &str,
        filter: &LetterFilter,
    ) -> Result<Vec<LetterView>, Refusal> {
        self.dead_letters(name, filter).await
    }
    async fn replay(&self, name: &str, filter: LetterFilter) -> Result<ReplayReport, Refusal> {
        self.replay(name, filter).await
    }
    async fn backfill(&self, name: &str, request: BackfillRequest) -> Result<String, Refusal> {
        self.backfill(name, request).await
    }
    fn log_dir(&self) -> PathBuf {
        self.log_dir()
    }
    fn running(&self) -> Vec<RunView> {
        self.running()
    }
    fn history(&self, query: &HistoryQuery) -> Result<Vec<RunSummary>, Refusal> {
        self.history(query)
    }
    fn summary(&self, run_id: &str) -> Result<Option<RunSummary>, Refusal> {
        self.summary(run_id)
    }
    fn report(&self, run_id: &str) -> Result<Option<serde_json::Value>, Refusal> {
        self.report(run_id)
    }
    fn refused_plugins(&self) -> Vec<RefusedPlugin> {
        self.refused_plugins()
    }
    fn processes(&self) -> Vec<ProcessView> {
        self.processes()
    }
    fn breakers(&self) -> Vec<BreakerState> {
        self.breakers()
    }
    fn pools(&self) -> Vec<PoolUse> {
        self.pools().usage()
    }
    fn view(&self) -> DaemonView {
        self.view()
    }
    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.subscribe()
    }
    fn is_ready(&self) -> bool {
        self.is_ready()
    }
    fn ticked_at(&self) -> i64 {
        self.ticked_at()
    }
    fn metrics(&self) -> &Metrics {
        self.metrics()
    }
    fn look_again(&self) {
        self.look_again();
    }
    fn record_request(&self, request: &AuditedRequest) -> Result<i64, Refusal> {
        self.record_request(request)
    }
    fn record_answer(&self, id: i64, answer: &AuditedAnswer) -> Result<(), Refusal> {
        self.record_answer(id, answer)
    }
    fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, Refusal> {
        self.audit(before, limit)
    }
}
