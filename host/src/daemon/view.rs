//! What the daemon shows of itself, in the form that the HTTP API gives it to programs and to the web console.
//!
//! Everything here is data; it is gathered in [`Daemon`](super::Daemon).

use etl_plugin_api::Delivery;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::backfill;
use crate::checkpoint::Ledger;
use crate::config::Isolation;
use crate::process::Usage;
use crate::runtime::books::Attempt;

/// What a pipeline does, or why it does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PipelineState {
    /// A run goes on.
    Running,
    /// A run waits for its turn, for pipelines that it depends on, or for its jitter.
    Queued,
    /// It waits for its next instant, or for somebody to start it.
    Idle,
    /// Its schedule is paused.
    Paused,
    /// It was stopped.
    Disabled,
    /// Its plugin crashed in too many runs in a row.
    Parked,
    /// Its configuration has mistakes.
    Broken,
}

/// A pipeline.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PipelineView {
    /// Its name.
    pub name: String,
    /// Its version, by its plugin.
    pub version: String,
    /// What it is for.
    pub description: String,
    /// The plugin that supplies it.
    pub plugin: String,
    /// The checksum of the plugin's file.
    pub sha256: String,
    /// What it does.
    pub state: PipelineState,
    /// The schedule in words; `null` if it has none.
    pub schedule: Option<String>,
    /// The next instant at which it is due, RFC 3339.
    #[schema(value_type = Option<String>)]
    pub next_run: Option<Timestamp>,
    /// The oldest instant that has come and has not begun.
    #[schema(value_type = Option<String>)]
    pub overdue_since: Option<Timestamp>,
    /// Pipelines that go before it.
    pub depends_on: Vec<String>,
    /// The run that goes on or waits.
    pub current_run: Option<RunView>,
    /// The last run that is over.
    pub last_run: Option<RunSummary>,
    /// How the last run ended that was no backfill: loading a past range again mends nothing of what is new.
    pub last_load: Option<String>,
    /// The last runs that are over, at most 30, oldest first; only where pipelines are listed or one is shown.
    pub recent: Vec<RecentRun>,
    /// How old the oldest cursor of its partitions is, where cursors are times; `null` before the first run.
    pub lag_seconds: Option<f64>,
    /// What the loader promises: `transactional`, `idempotent` or `at-least-once`.
    #[schema(value_type = String)]
    pub delivery: Delivery,
    /// Where the plugin runs: `process` or `in-process`; `null` as long as its configuration has mistakes.
    #[schema(value_type = Option<String>)]
    pub isolation: Option<Isolation>,
    /// What it reads from and writes to, in words; `null` as long as its configuration has mistakes.
    pub route: Option<RouteView>,
    /// What is wrong with its configuration.
    pub config_error: Option<String>,
}

/// What a pipeline reads from and writes to, in words.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RouteView {
    /// The source: its kind and its shards.
    pub source: String,
    /// The sink: its kind and its table.
    pub sink: String,
}

/// A run that is over, as a point among others.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RecentRun {
    /// Its identifier.
    pub run_id: String,
    /// How it ended.
    pub status: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// How long it took.
    pub seconds: Option<f64>,
    /// Rows read.
    pub extracted: Option<u64>,
    /// Rows loaded.
    pub loaded: Option<u64>,
    /// Rows set aside.
    pub quarantined: Option<u64>,
}

/// A run that goes on, or waits for its turn.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// Its identifier.
    pub run_id: String,
    /// The pipeline.
    pub pipeline: String,
    /// What made it start: `manual`, `schedule`, `dependency` or `backfill`.
    pub trigger: String,
    /// The due instant that it is for.
    #[schema(value_type = Option<String>)]
    pub scheduled_for: Option<Timestamp>,
    /// When it began; `null` as long as it waits.
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Timestamp>,
    /// What it waits for.
    pub waits_for: Option<String>,
    /// It was asked to stop.
    pub stopping: bool,
    /// How far it has come, for a backfill. The partitions are those of the window that is loaded now.
    #[serde(default)]
    pub backfill: Option<backfill::Progress>,
    /// Where its partitions stand.
    pub partitions: Vec<PartitionView>,
}

/// Where a partition stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PartitionView {
    /// Its name.
    pub name: String,
    /// `waiting`, `running`, `retrying`, `succeeded`, `failed` or `cancelled`.
    pub activity: String,
    /// Why it is tried again.
    pub reason: Option<String>,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Rows read.
    pub extracted: u64,
    /// Rows written, committed or not.
    pub loaded: u64,
    /// Rows set aside.
    pub quarantined: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Both ledgers, with what is not committed yet.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub ledger: Ledger,
    /// Its attempts so far.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub timeline: Vec<Attempt>,
}

/// A run that is over, or that a dead host has left.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunSummary {
    /// Its identifier.
    pub run_id: String,
    /// The pipeline.
    pub pipeline: String,
    /// `running` (by another process), `succeeded`, `partial`, `failed`, `cancelled` or `interrupted`.
    pub status: String,
    /// What made it start.
    pub trigger: String,
    /// The due instant that it was for, RFC 3339.
    pub scheduled_for: Option<String>,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended, RFC 3339.
    pub finished_at: Option<String>,
    /// Rows loaded.
    pub loaded: Option<u64>,
    /// How long it took; `null` if it goes on or was interrupted, like all below.
    pub seconds: Option<f64>,
    /// Rows read.
    pub extracted: Option<u64>,
    /// Rows set aside.
    pub quarantined: Option<u64>,
    /// Attempts of all partitions.
    pub attempts: Option<u32>,
    /// The first reason why it did not succeed.
    pub error: Option<String>,
}

/// Something that was asked of the API and may change something.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// Its number.
    pub id: i64,
    /// When it was asked, RFC 3339.
    pub at: String,
    /// The client's address; `null` on the Unix socket.
    pub peer: Option<String>,
    /// How the client has proven itself: `token`, `session`, `loopback` (no token is configured), `socket` (it may open
    /// the Unix socket) or `open` (it signs in or out).
    pub via: String,
    /// The method.
    pub method: String,
    /// The address.
    pub path: String,
    /// The body.
    #[schema(value_type = Option<Object>)]
    pub request: Option<serde_json::Value>,
    /// The status of the answer; `null` if it was never given.
    pub status: Option<u16>,
    /// Why it was refused.
    pub error: Option<String>,
    /// The run that it started.
    pub run_id: Option<String>,
}

/// Where the value of a configuration's key comes from.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OriginView {
    /// The key, such as `source.shards[0].host`.
    pub key: String,
    /// The value that holds, secrets as `***`.
    #[schema(value_type = Object)]
    pub value: serde_json::Value,
    /// File and line, or `default`.
    pub origin: String,
    /// Variables of the environment that the value is made of.
    pub variables: Vec<String>,
}

/// A file of the plugins folder that does not serve.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RefusedPlugin {
    /// The file.
    pub path: String,
    /// Why.
    pub reason: String,
    /// What to do.
    pub fix: String,
    /// Whether an earlier version serves on.
    pub serving: bool,
}

/// A process of the daemon.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProcessView {
    /// Its number.
    pub process: u32,
    /// The pipeline, for a worker.
    pub pipeline: Option<String>,
    /// The partition, for a worker.
    pub partition: Option<String>,
    /// Memory and CPU time.
    #[schema(value_type = Object)]
    pub usage: Option<Usage>,
}

/// The daemon as a whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DaemonView {
    /// The version of etl-host.
    pub version: String,
    /// The number of its process.
    pub process: u32,
    /// Since when it serves.
    #[schema(value_type = String)]
    pub started_at: Timestamp,
    /// Runs that go on.
    pub running: usize,
    /// Most runs at once.
    pub max_concurrent_runs: usize,
    /// It ends when what is in flight is done.
    pub draining: bool,
}

/// How a run that somebody asks for differs from the usual one. The flags of `etl-host run`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunRequest {
    /// Only these partitions.
    pub partitions: Vec<String>,
    /// Start at the beginning instead of the checkpoint.
    pub full_refresh: bool,
    /// Start after this position, without moving the checkpoint.
    pub since: Option<String>,
    /// Stop at this position.
    pub until: Option<String>,
    /// Most rows per partition.
    pub limit: Option<u64>,
    /// Read and transform, but write nothing.
    pub dry_run: bool,
    /// Let `append` load rows again that may be there already.
    pub allow_duplicates: bool,
}

/// A past range that is to be loaded again. The flags of `etl-host backfill`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillRequest {
    /// Load rows after this position.
    pub from: String,
    /// Load rows up to this position, but none behind the checkpoint.
    pub to: String,
    /// The length of a window: `1d`, `6h` for times, a number for integers; the whole range if not given.
    #[serde(default)]
    pub window: Option<String>,
    /// Only these partitions.
    #[serde(default)]
    pub partitions: Vec<String>,
    /// Begin with the first window, also where the same range was stopped before.
    #[serde(default)]
    pub restart: bool,
}

/// Something happened. Sent as server-sent events.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run has begun.
    RunStarted {
        /// The run.
        run_id: String,
        /// Its pipeline.
        pipeline: String,
    },
    /// A run is over.
    RunEnded {
        /// The run.
        run_id: String,
        /// Its pipeline.
        pipeline: String,
        /// How it ended.
        status: String,
    },
    /// A due instant was not run.
    Skipped {
        /// The pipeline.
        pipeline: String,
        /// The instant.
        #[schema(value_type = String)]
        scheduled_for: Timestamp,
        /// `skipped` or `missed`.
        status: String,
        /// Why.
        reason: String,
    },
    /// A pipeline's state, schedule or configuration has changed.
    PipelineChanged {
        /// The pipeline.
        pipeline: String,
    },
    /// The plugins folder has changed.
    PluginsChanged {
        /// What has changed, for people.
        message: String,
    },
}
