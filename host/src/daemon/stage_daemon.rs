//! A daemon that only plays its part: what tests of the API and of the metrics ask instead of a real one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use etl_plugin_api::Delivery;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::broadcast;

use super::metrics::Metrics;
use super::operations::Operations;
use super::schedules::{ScheduleChange, ScheduleView};
use super::view::{
    AuditEntry, BackfillRequest, DaemonView, Event, OriginView, PartitionView, PipelineState,
    PipelineView, ProcessView, RefusedPlugin, RunRequest, RunSummary, RunView,
};
use super::{HistoryQuery, Refusal};
use crate::checkpoint::Ledger;
use crate::checkpoint::view::CheckpointsView;
use crate::dead_letter::StoredLetter;
use crate::dead_letter::view::LetterView;
use crate::error::Error;
use crate::pool::{BreakerState, Condition, PoolUse};
use crate::process::Usage;
use crate::runtime::replay::ReplayReport;
use crate::schedule::Origin;
use crate::sink::LetterFilter;
use crate::state::{AuditedAnswer, AuditedRequest};

/// The run that goes on until [`StageDaemon::end`].
pub const CURRENT: &str = "run-current";
/// The pipeline whose every question fails.
pub const FAILING: &str = "failing";
/// The pipeline at which the daemon panics.
pub const PANICKING: &str = "panicking";

/// A daemon with one pipeline `logins`, one run that goes on and three of the past.
pub struct StageDaemon {
    pub ready: AtomicBool,
    pub ticked_at: AtomicI64,
    pub metrics: Metrics,
    pub events: broadcast::Sender<Event>,
    /// What it was asked to do.
    pub asked: Mutex<Vec<String>>,
    /// The logs of pipelines.
    pub logs: tempfile::TempDir,
    audit: Mutex<Vec<AuditEntry>>,
    over: Mutex<bool>,
}

impl Default for StageDaemon {
    fn default() -> Self {
        Self {
            ready: AtomicBool::new(true),
            ticked_at: AtomicI64::new(Timestamp::now().as_second()),
            metrics: Metrics::default(),
            events: broadcast::channel(4).0,
            asked: Mutex::default(),
            logs: tempfile::tempdir().unwrap(),
            audit: Mutex::default(),
            over: Mutex::default(),
        }
    }
}

impl StageDaemon {
    /// The run that goes on has ended.
    pub fn end(&self) {
        *self.over.lock().unwrap() = true;
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    fn known(name: &str) -> Result<(), Refusal> {
        match name {
            "logins" => Ok(()),
            "busy" => Err(Refusal::Conflict("a run goes on already".to_owned())),
            "wrong" => Err(Refusal::Invalid(Error::config("no such partition").into())),
            FAILING => Err(Refusal::Failed(
                Error::internal("the disk is on fire").into(),
            )),
            PANICKING => panic!("s3cret in a panic"),
            _ => Err(Refusal::NotFound(format!("there is no pipeline `{name}`"))),
        }
    }

    fn run() -> RunView {
        RunView {
            run_id: CURRENT.to_owned(),
            pipeline: "logins".to_owned(),
            trigger: "manual".to_owned(),
            scheduled_for: None,
            started_at: Some(Timestamp::UNIX_EPOCH),
            waits_for: None,
            stopping: false,
            backfill: None,
            partitions: vec![PartitionView {
                name: "eu".to_owned(),
                activity: "running".to_owned(),
                reason: None,
                attempt: 1,
                extracted: 7,
                loaded: 6,
                quarantined: 1,
                bytes: 100,
                ledger: Ledger::default(),
                timeline: Vec::new(),
            }],
        }
    }

    fn past(run_id: &str, status: &str) -> RunSummary {
        RunSummary {
            run_id: run_id.to_owned(),
            pipeline: "logins".to_owned(),
            status: status.to_owned(),
            trigger: "schedule".to_owned(),
            scheduled_for: Some("2026-03-01T00:00:00Z".to_owned()),
            started_at: "2026-03-01T00:00:01Z".to_owned(),
            finished_at: Some("2026-03-01T00:00:02Z".to_owned()),
            loaded: Some(42),
            seconds: Some(1.0),
            extracted: Some(42),
            quarantined: Some(0),
            attempts: Some(1),
            error: None,
        }
    }
}

#[async_trait]
impl Operations for StageDaemon {
    fn pipelines(&self) -> Result<Vec<PipelineView>, Refusal> {
        Ok(vec![self.pipeline("logins")?])
    }
    fn pipeline(&self, name: &str) -> Result<PipelineView, Refusal> {
        Self::known(name)?;
        let running = self.running();
        Ok(PipelineView {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            description: "logins".to_owned(),
            plugin: "logins".to_owned(),
            sha256: "00".to_owned(),
            state: if running.is_empty() {
                PipelineState::Idle
            } else {
                PipelineState::Running
            },
            schedule: Some("every hour".to_owned()),
            next_run: Timestamp::from_second(1_800_000_000).ok(),
            overdue_since: None,
            depends_on: Vec::new(),
            current_run: running.into_iter().next(),
            last_run: Some(Self::past("run-3", "succeeded")),
            recent: Vec::new(),
            lag_seconds: None,
            delivery: Delivery::Transactional,
            isolation: None,
            route: None,
            config_error: None,
        })
    }
    fn add_recent(&self, view: &mut PipelineView) -> Result<(), Refusal> {
        view.lag_seconds = Some(60.0);
        Ok(())
    }
    fn config_origins(&self, name: &str) -> Result<Vec<OriginView>, Refusal> {
        Self::known(name)?;
        Ok(Vec::new())
    }
    fn record_request(&self, request: &AuditedRequest) -> Result<i64, Refusal> {
        let mut audit = self.audit.lock().unwrap();
        let id = i64::try_from(audit.len()).unwrap() + 1;
        audit.push(AuditEntry {
            id,
            at: "2026-03-01T00:00:00Z".to_owned(),
            peer: request.peer.clone(),
            via: request.via.to_owned(),
            method: request.method.clone(),
            path: request.path.clone(),
            request: request
                .request
                .as_deref()
                .map(|text| serde_json::from_str(text).unwrap()),
            status: None,
            error: None,
            run_id: None,
        });
        Ok(id)
    }
    fn record_answer(&self, id: i64, answer: &AuditedAnswer) -> Result<(), Refusal> {
        let mut audit = self.audit.lock().unwrap();
        let entry = audit.iter_mut().find(|entry| entry.id == id).unwrap();
        entry.status = Some(answer.status);
        entry.error.clone_from(&answer.error);
        entry.run_id.clone_from(&answer.run_id);
        Ok(())
    }
    fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, Refusal> {
        let audit = self.audit.lock().unwrap();
        let before = before.unwrap_or(i64::MAX);
        let entries = audit.iter().rev().filter(|entry| entry.id < before);
        Ok(entries
            .take(usize::try_from(limit).unwrap())
            .cloned()
            .collect())
    }
    fn config(&self, name: &str) -> Result<serde_json::Value, Refusal> {
        Self::known(name)?;
        Ok(json!({"sink": {"password": "***"}}))
    }
    async fn run(&self, name: &str, request: RunRequest) -> Result<String, Refusal> {
        Self::known(name)?;
        self.note(format!(
            "run {name} {:?} {}",
            request.limit, request.dry_run
        ));
        Ok("run-new".to_owned())
    }
    fn cancel(&self, run_id: &str, now: bool) -> Result<(), Refusal> {
        if run_id != CURRENT {
            return Err(Refusal::NotFound(format!("no run `{run_id}` goes on")));
        }
        self.note(format!("cancel {run_id} {now}"));
        Ok(())
    }
    async fn start(&self, name: &str) -> Result<Option<String>, Refusal> {
        Self::known(name)?;
        self.note(format!("start {name}"));
        Ok(None)
    }
    async fn stop(&self, name: &str, now: bool) -> Result<(), Refusal> {
        Self::known(name)?;
        self.note(format!("stop {name} {now}"));
        if !now {
            // It drains until the run ends.
            while !self.running().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    }
    async fn delete(&self, name: &str) -> Result<PathBuf, Refusal> {
        Self::known(name)?;
        self.note(format!("delete {name}"));
        Ok(PathBuf::from("trash/logins"))
    }
    fn schedule(&self, name: &str) -> Result<ScheduleView, Refusal> {
        Self::known(name)?;
        Ok(ScheduleView {
            pipeline: name.to_owned(),
            origin: Origin::None,
            paused: false,
            changed_at: None,
            schedule: None,
            description: None,
            next: Vec::new(),
        })
    }
    fn change_schedule(
        &self,
        name: &str,
        change: &ScheduleChange,
    ) -> Result<ScheduleView, Refusal> {
        let view = self.schedule(name)?;
        self.note(match change {
            ScheduleChange::Set(request) => format!("schedule {name} {}", request.form),
            other => format!("schedule {name} {other:?}"),
        });
        Ok(view)
    }
    async fn checkpoints(&self, name: &str) -> Result<CheckpointsView, Refusal> {
        Self::known(name)?;
        Ok(CheckpointsView::of(name, &BTreeMap::new()))
    }
    async fn reset_checkpoint(
        &self,
        name: &str,
        partition: &str,
        allow_duplicates: bool,
    ) -> Result<CheckpointsView, Refusal> {
        self.note(format!("reset {name} {partition} {allow_duplicates}"));
        self.checkpoints(name).await
    }
    async fn dead_letters(
        &self,
        name: &str,
        filter: &LetterFilter,
    ) -> Result<Vec<LetterView>, Refusal> {
        Self::known(name)?;
        let letter = |id| StoredLetter {
            id,
            partition: "eu".to_owned(),
            run_id: "run-1".to_owned(),
            stage: "load".to_owned(),
            table: Some("logins".to_owned()),
            column: None,
            reason: "no such boss".to_owned(),
            payload: br#"{"id":7}"#.to_vec(),
            arrow: None,
            position: None,
            replayed_by: None,
            created_at: "2026-03-01 00:00:01".to_owned(),
        };
        let most = usize::try_from(filter.limit).unwrap();
        let letters = (filter.after + 1..=3).take(most).map(letter);
        Ok(letters.map(|it| LetterView::with_row(&it)).collect())
    }
    async fn replay(&self, name: &str, filter: LetterFilter) -> Result<ReplayReport, Refusal> {
        Self::known(name)?;
        self.note(format!("replay {name} {:?} {:?}", filter.ids, filter.stage));
        // It takes until the run ends.
        while !self.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(ReplayReport::default())
    }
    async fn backfill(&self, name: &str, request: BackfillRequest) -> Result<String, Refusal> {
        Self::known(name)?;
        self.note(format!("backfill {name} {} {}", request.from, request.to));
        Ok("run-new".to_owned())
    }
    fn log_dir(&self) -> PathBuf {
        self.logs.path().to_owned()
    }
    fn running(&self) -> Vec<RunView> {
        let over = *self.over.lock().unwrap();
        if over { Vec::new() } else { vec![Self::run()] }
    }
    fn history(&self, query: &HistoryQuery) -> Result<Vec<RunSummary>, Refusal> {
        let statuses = [
            ("run-3", "succeeded"),
            ("run-2", "failed"),
            ("run-1", "succeeded"),
        ];
        let before = query.before.as_deref();
        Ok(statuses
            .iter()
            .filter(|(id, _)| before.is_none_or(|before| *id < before))
            .filter(|(_, status)| {
                query
                    .status
                    .as_deref()
                    .is_none_or(|wanted| wanted == *status)
            })
            .filter(|_| {
                query
                    .pipeline
                    .as_deref()
                    .is_none_or(|wanted| wanted == "logins")
            })
            .take(usize::try_from(query.limit).unwrap())
            .map(|(id, status)| Self::past(id, status))
            .collect())
    }
    fn summary(&self, run_id: &str) -> Result<Option<RunSummary>, Refusal> {
        if run_id == CURRENT {
            let status = if self.running().is_empty() {
                "succeeded"
            } else {
                "running"
            };
            return Ok(Some(Self::past(CURRENT, status)));
        }
        let all = self.history(&HistoryQuery {
            limit: 9,
            ..HistoryQuery::default()
        })?;
        Ok(all.into_iter().find(|run| run.run_id == run_id))
    }
    fn report(&self, run_id: &str) -> Result<Option<serde_json::Value>, Refusal> {
        Ok(Some(json!({"run_id": run_id, "status": "succeeded"})))
    }
    fn refused_plugins(&self) -> Vec<RefusedPlugin> {
        Vec::new()
    }
    fn processes(&self) -> Vec<ProcessView> {
        let usage = Some(Usage {
            resident_bytes: 1 << 20,
            peak_bytes: 2 << 20,
            cpu_ms: 5,
        });
        let worker = ProcessView {
            process: 2,
            pipeline: Some("logins".to_owned()),
            partition: Some("eu".to_owned()),
            usage,
        };
        let host = ProcessView {
            process: 1,
            pipeline: None,
            partition: None,
            usage,
        };
        vec![host, worker]
    }
    fn breakers(&self) -> Vec<BreakerState> {
        vec![BreakerState {
            guards: "PostgreSQL at db:5432".to_owned(),
            condition: Condition::Open,
            failures: 3,
            since: Some(Timestamp::UNIX_EPOCH),
            next_trial_seconds: Some(5),
            cause: None,
        }]
    }
    fn pools(&self) -> Vec<PoolUse> {
        vec![PoolUse {
            server: "PostgreSQL at db:5432/etl".to_owned(),
            in_use: 2,
            idle: 1,
            waiting: 0,
            max: 8,
        }]
    }
    fn view(&self) -> DaemonView {
        DaemonView {
            version: "1.0.0".to_owned(),
            process: 1,
            started_at: Timestamp::UNIX_EPOCH,
            running: self.running().len(),
            max_concurrent_runs: 4,
            draining: false,
        }
    }
    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
    fn ticked_at(&self) -> i64 {
        self.ticked_at.load(Ordering::Relaxed)
    }
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    fn look_again(&self) {
        self.note("look again".to_owned());
    }
}
