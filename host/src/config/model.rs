//! The validated configuration of one pipeline: what every other room may rely on.
//!
//! A value of these types has passed every check that needs no I/O. How it is read from YAML lives in the
//! neighbouring files; nothing here parses, connects or prints.

mod isolation;
mod schedule;
mod secrets;
mod split;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

pub use self::isolation::{Grants, Limits};
pub use self::schedule::{CatchUp, Overlap, Schedule};
pub use self::split::Split;
use super::secret::Secret;

/// One pipeline, ready to be planned.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// The pipeline's name, kebab-case.
    pub name: String,
    /// What the pipeline is for, in a sentence.
    pub description: String,
    /// Where rows come from.
    pub source: Source,
    /// Where rows go.
    pub sink: Sink,
    /// How far reading has come; without one every run reads everything.
    pub cursor: Option<Cursor>,
    /// Retries and limits.
    pub error_handling: ErrorHandling,
    /// When the pipeline runs by itself.
    pub schedule: Option<Schedule>,
    /// Pipelines whose runs go before this one's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// Where the plugin's code runs.
    pub isolation: Isolation,
    /// What a worker process may use.
    pub limits: Limits,
    /// What the plugin is let reach.
    pub capabilities: Grants,
    /// Sizes that trade memory for speed.
    pub tuning: Tuning,
    /// The pipeline's own settings, checked by the plugin.
    pub settings: serde_json::Value,
}

/// The reading side.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// Which connector, with its shards.
    #[serde(flatten)]
    pub connector: SourceConnector,
    /// The statement each shard runs; `@from`, `@until` and `@lastRun` are bound by the host.
    pub query: Option<String>,
    /// Into which ranges each shard is cut; whole without it.
    #[serde(flatten)]
    pub split: Option<Split>,
    /// What happens to a time with digits beyond a microsecond, which no sink could hold.
    pub beyond_microseconds: BeyondMicroseconds,
}

/// The kinds of source the configuration knows.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SourceConnector {
    /// `SQLite` database files.
    Sqlite {
        /// One file each.
        shards: Vec<FileShard>,
    },
    /// `PostgreSQL` servers.
    Postgres {
        /// One server or database each.
        shards: Vec<PostgresShard>,
    },
    /// SQL Server instances.
    SqlServer {
        /// One server or database each.
        shards: Vec<SqlServerShard>,
    },
    /// Nothing that the host could open: the pipeline's extractor reaches for its rows itself.
    None,
}

impl SourceConnector {
    /// The word that names this connector in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres { .. } => "postgres",
            Self::SqlServer { .. } => "sqlserver",
            Self::None => "none",
        }
    }

    /// The names of the shards, in the order of the configuration.
    pub fn shard_names(&self) -> Vec<&str> {
        match self {
            Self::Sqlite { shards } => shards.iter().map(|shard| shard.name.as_str()).collect(),
            Self::Postgres { shards } => shards.iter().map(|shard| shard.name.as_str()).collect(),
            Self::SqlServer { shards } => shards.iter().map(|shard| shard.name.as_str()).collect(),
            Self::None => Vec::new(),
        }
    }
}

/// A shard that is a file.
#[derive(Clone, Debug, Serialize)]
pub struct FileShard {
    /// The shard's name, unique within the pipeline.
    pub name: String,
    /// The database file; relative paths start at the working directory.
    pub path: PathBuf,
}

/// A shard that is a `PostgreSQL` database.
#[derive(Clone, Debug, Serialize)]
pub struct PostgresShard {
    /// The shard's name, unique within the pipeline.
    pub name: String,
    /// How to reach it.
    #[serde(flatten)]
    pub server: Server,
    /// How long it may keep a reader waiting.
    pub timeouts: ReadTimeouts,
}

/// A shard that is a SQL Server database.
#[derive(Clone, Debug, Serialize)]
pub struct SqlServerShard {
    /// The shard's name, unique within the pipeline.
    pub name: String,
    /// How to reach it.
    #[serde(flatten)]
    pub server: SqlServer,
    /// What it sees of transactions that are under way.
    pub read_isolation: ReadIsolation,
    /// How long it may keep a reader waiting.
    pub timeouts: ReadTimeouts,
}

/// What a reader sees of transactions that are under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadIsolation {
    /// SNAPSHOT where the database allows it, else as below: a statement sees what was committed when it began.
    #[default]
    Snapshot,
    /// READ COMMITTED, for queries over databases or tables that do not know SNAPSHOT.
    ReadCommitted,
}

/// How to reach one SQL Server database.
#[derive(Clone, Debug, Serialize)]
pub struct SqlServer {
    /// What every server has.
    #[serde(flatten)]
    pub server: Server,
    /// A named instance, whose port the SQL Server Browser at the host tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What the connection says it is for; an availability group may send readers to a secondary.
    pub application_intent: ApplicationIntent,
    /// Bytes per network packet.
    pub packet_size: u32,
    /// The library that speaks with it.
    pub driver: SqlServerDriver,
}

/// A library that speaks SQL Server's protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SqlServerDriver {
    /// `tiberius`, with TLS by `rustls`.
    #[default]
    Tiberius,
    /// Microsoft's `mssql-tds`, with TLS by `OpenSSL`. Only in builds with the feature of that name.
    MssqlTds,
}

/// What a connection to an availability group says it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApplicationIntent {
    /// The primary answers, which knows every committed row.
    #[default]
    ReadWrite,
    /// A secondary may answer, which may lag behind.
    ReadOnly,
}

/// How long a server may keep a reader waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadTimeouts {
    /// From the statement to its first row.
    #[serde(serialize_with = "super::duration::serialize")]
    pub statement: Duration,
    /// From one row to the next.
    #[serde(serialize_with = "super::duration::serialize")]
    pub idle_read: Duration,
}

impl Default for ReadTimeouts {
    fn default() -> Self {
        Self {
            statement: Duration::from_mins(10),
            idle_read: Duration::from_mins(2),
        }
    }
}

/// What happens to a time with digits beyond a microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BeyondMicroseconds {
    /// They are cut, and the run's log says in how many values.
    #[default]
    Truncate,
    /// The row is set aside.
    Quarantine,
    /// The run fails.
    Fail,
}

/// How to reach one database on one server.
#[derive(Clone, Debug, Serialize)]
pub struct Server {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database name.
    pub database: String,
    /// Login name.
    pub username: String,
    /// Password; redacted wherever it is shown.
    pub password: Secret,
    /// Encryption of the connection.
    pub tls: Tls,
    /// Limits of the pool that all pipelines share for this server.
    pub pool: PoolLimits,
}

/// Encryption of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// Whether the connection must be encrypted.
    pub mode: TlsMode,
    /// Accept any certificate. Protects against nobody who can sit in between.
    pub trust_server_certificate: bool,
    /// A PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Never.
    Disable,
    /// When the server offers it.
    Prefer,
    /// Always; a server without TLS is refused.
    #[default]
    Require,
}

/// Limits of one server's connection pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolLimits {
    /// Most connections open at a time.
    pub max_connections: u32,
    /// Longest wait for a free connection.
    #[serde(serialize_with = "super::duration::serialize")]
    pub wait_timeout: Duration,
    /// Longest time until the server accepts a connection.
    #[serde(serialize_with = "super::duration::serialize")]
    pub connect_timeout: Duration,
    /// Longest time from there to the end of the login, with TLS.
    #[serde(serialize_with = "super::duration::serialize")]
    pub login_timeout: Duration,
    /// Failures in a row after which the server is left alone for a while.
    pub breaker_failures: u32,
    /// How long it is left alone at first.
    #[serde(serialize_with = "super::duration::serialize")]
    pub breaker_pause: Duration,
    /// How long it is left alone at most.
    #[serde(serialize_with = "super::duration::serialize")]
    pub breaker_max_pause: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            max_connections: 16,
            wait_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(15),
            login_timeout: Duration::from_secs(15),
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(30),
            breaker_max_pause: Duration::from_mins(5),
        }
    }
}

/// The writing side.
#[derive(Clone, Debug, Serialize)]
pub struct Sink {
    /// Which connector.
    #[serde(flatten)]
    pub connector: SinkConnector,
    /// The table that receives the pipeline's first output.
    pub table: TableName,
    /// What happens to rows that are there already.
    #[serde(flatten)]
    pub write_mode: WriteMode,
    /// The output column that holds the partition's name; lets the host delete one partition's range.
    pub partition_column: Option<String>,
    /// What happens to text with U+0000.
    pub nul_characters: NulCharacters,
    /// How long a server may take; a file needs no such limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<WriteTimeouts>,
}

/// How long a server may keep a writer waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WriteTimeouts {
    /// For one step: to claim a partition, to look at the tables, to take one flush, to commit.
    #[serde(serialize_with = "super::duration::serialize")]
    pub step: Duration,
}

impl Default for WriteTimeouts {
    fn default() -> Self {
        Self {
            step: Duration::from_mins(10),
        }
    }
}

/// What happens to text with U+0000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NulCharacters {
    /// It is written as it is, where the sink can hold it.
    Keep,
    /// The character is left out.
    Strip,
    /// U+FFFD takes its place.
    Replace,
    /// The row is set aside.
    Quarantine,
    /// The run fails.
    Fail,
}

/// The kinds of sink.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SinkConnector {
    /// A `PostgreSQL` database.
    Postgres(Server),
    /// A `SQLite` database file.
    Sqlite {
        /// The file; created when missing.
        path: PathBuf,
    },
}

impl SinkConnector {
    /// The word that names this connector in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Sqlite { .. } => "sqlite",
        }
    }
}

/// A table's name, with its schema where one was given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    /// The schema; the connection's default without one.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

/// What happens to rows that are there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "write_mode", rename_all = "lowercase")]
pub enum WriteMode {
    /// Rows are added.
    Append,
    /// Rows replace those with the same key.
    Upsert {
        /// The columns of the key.
        key: Vec<String>,
        /// Whether a key belongs to one partition or to all.
        key_scope: KeyScope,
    },
    /// A run's rows replace all that was there, in one step.
    Replace,
}

impl WriteMode {
    /// The word that names it in the configuration.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Upsert { .. } => "upsert",
            Self::Replace => "replace",
        }
    }
}

/// Whether a key identifies a row within its partition or across all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyScope {
    /// The key contains the partition column, so partitions never meet.
    #[default]
    Partition,
    /// The same key may come from several partitions: the last writer wins.
    Global,
}

/// How far reading has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cursor {
    /// The extracted column that orders the rows.
    pub column: String,
    /// What the column holds.
    pub kind: CursorKind,
    /// A whole number that is unique among rows of the same time, so that a commit may fall between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What a time without a zone means.
    pub clock: Clock,
    /// How long a row may take to become visible after its cursor value was taken.
    #[serde(serialize_with = "super::duration::serialize")]
    pub settle_delay: Duration,
}

/// What a cursor column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CursorKind {
    /// A point in time.
    Timestamp,
    /// A growing number.
    Integer,
    /// SQL Server's `rowversion`.
    Rowversion,
}

/// What a time without a zone means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// Coordinated universal time.
    #[default]
    Utc,
    /// The source server's local time.
    ServerLocal,
}

/// Retries and limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ErrorHandling {
    /// Attempts after the first one, per partition, since the last commit that made progress.
    pub max_retries: u32,
    /// Wait before the first retry.
    #[serde(serialize_with = "super::duration::serialize")]
    pub retry_delay: Duration,
    /// Longest wait before a retry.
    #[serde(serialize_with = "super::duration::serialize")]
    pub max_retry_delay: Duration,
    /// Whether waits double.
    pub exponential_backoff: bool,
    /// Rows that may be quarantined before the run fails.
    pub max_bad_rows: BadRowLimit,
    /// Longest time one attempt may take.
    #[serde(serialize_with = "super::duration::serialize")]
    pub attempt_timeout: Duration,
    /// Longest time to commit what is in flight, once the run was asked to stop.
    #[serde(serialize_with = "super::duration::serialize")]
    pub drain_timeout: Duration,
    /// What happens when the columns differ from the table's.
    pub on_schema_change: SchemaChange,
    /// Runs in a row that a crash of the plugin may fail before the plugin is parked; 0 never parks it.
    pub park_after: u32,
}

impl Default for ErrorHandling {
    fn default() -> Self {
        Self {
            max_retries: 3,
            retry_delay: Duration::from_secs(5),
            max_retry_delay: Duration::from_mins(15),
            exponential_backoff: true,
            max_bad_rows: BadRowLimit::Rows(0),
            attempt_timeout: Duration::from_hours(2),
            drain_timeout: Duration::from_mins(1),
            on_schema_change: SchemaChange::Strict,
            park_after: 3,
        }
    }
}

/// How many rows may be quarantined in a run. Serialized as it is written: `10` or `"0.5%"`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BadRowLimit {
    /// So many rows.
    Rows(u64),
    /// So many in a hundred of the rows extracted.
    Percent(f64),
}

/// What happens when the columns differ from the table's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemaChange {
    /// The run stops.
    #[default]
    Strict,
    /// Columns are added.
    Evolve,
    /// Columns unknown to the table are left out.
    Ignore,
}

/// A pipeline that has to run first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependency {
    /// Its name.
    pub pipeline: String,
    /// Whether this one runs although that one failed.
    pub run_after_failed: bool,
    /// Whether this one runs although some partitions of that one failed.
    pub run_after_partial: bool,
}

impl Dependency {
    /// The usual one: only a success will do.
    pub fn on(pipeline: String) -> Self {
        Self {
            pipeline,
            run_after_failed: false,
            run_after_partial: false,
        }
    }
}

/// Where the plugin's code runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Inside the host.
    InProcess,
    /// In a worker process of its own.
    #[default]
    Process,
}

/// Sizes that trade memory for speed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tuning {
    /// Rows per batch.
    pub batch_rows: usize,
    /// Bytes of Arrow data that are written to the sink at once.
    pub flush_bytes: usize,
    /// Flushes per commit.
    pub flushes_per_commit: u32,
    /// How long a run keeps its partitions from other runs when nothing is heard of it any more.
    #[serde(serialize_with = "super::duration::serialize")]
    pub lease: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            batch_rows: 8_192,
            flush_bytes: 4 * 1024 * 1024,
            flushes_per_commit: 16,
            lease: Duration::from_mins(1),
        }
    }
}
