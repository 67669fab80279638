//! Connectors that write. Each loads flushes and commits them together with the checkpoint, in one transaction.
//!
//! A sink knows its server's types, DDL and merge statements. It knows nothing of sources, plugins or retries.

mod ddl;
mod drift;
mod dry_run;
pub mod due;
pub mod key;
mod layout;
mod nul;
mod part;
pub mod postgres;
mod ranges;
pub mod sqlite;
mod timed;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use etl_plugin_api::Cursor;
use tokio::time::Instant;

pub use self::dry_run::DryRunWriter;
pub use self::layout::{ColumnLayout, TableLayout};
pub use self::ranges::StoredRanges;
use crate::checkpoint::{Checkpoint, Ledger, WrittenTable};
use crate::config::{
    Config, SchemaChange, Server, Sink as SinkConfig, SinkConnector, TableName, WriteMode,
};
use crate::dead_letter::{DeadLetter, Stage, StoredLetter, lies_within};
use crate::error::{Error, ErrorKind, Result};
use crate::extension::same_columns;
use crate::finding::Finding;
use crate::holder::Holder;
use crate::pool::{Places, Pools};

/// A sink, for one run.
#[async_trait]
pub trait Sink: Send + Sync {
    /// The checkpoints of a pipeline by partition. Writes nothing; empty if nothing was ever committed.
    async fn load_checkpoints(&self, pipeline: &str) -> Result<BTreeMap<String, Checkpoint>>;

    /// Dead letters of a pipeline, in the order of their numbers. Writes nothing.
    async fn load_dead_letters(
        &self,
        pipeline: &str,
        filter: &LetterFilter,
    ) -> Result<Vec<StoredLetter>>;

    /// Changes a checkpoint by hand, and takes it from any attempt that may be under way.
    async fn edit_checkpoint(
        &self,
        pipeline: &str,
        partition: &str,
        edit: &CheckpointEdit,
    ) -> Result<()>;

    /// How the shards of a pipeline were cut into ranges. Writes nothing.
    async fn load_ranges(&self, pipeline: &str) -> Result<BTreeMap<String, StoredRanges>>;

    /// Keeps how a shard is cut, unless that is decided already; gives what is decided, whoever did.
    async fn keep_ranges(
        &self,
        pipeline: &str,
        shard: &str,
        chosen: &StoredRanges,
    ) -> Result<StoredRanges>;

    /// Forgets how a shard is cut and how far it and its ranges have been read, in one transaction.
    async fn forget_ranges(&self, pipeline: &str, shard: &str) -> Result<()>;

    /// Begins an attempt: takes the partition over from any predecessor and learns the true cursor. Fails while another
    /// run's lease on the partition has not run out.
    async fn begin(&self, claim: &Claim) -> Result<Box<dyn PartitionWriter>>;

    /// Prolongs the leases of a run.
    async fn renew(&self, tenure: &Tenure) -> Result<()>;

    /// Gives up leases of a run: the one of this name, whose partition has ended, or all of them.
    async fn release(&self, tenure: &Tenure, leased: Option<&str>) -> Result<()>;

    /// The places of partitions that write, so that none waits for a connection that another one holds.
    fn places(&self) -> Places;

    /// For `replace`: puts the rows that all partitions have loaded in place of the old ones, in one transaction.
    async fn swap(&self, swap: &Swap) -> Result<()>;

    /// For `replace`: removes what a run that did not succeed has loaded.
    async fn discard(&self, swap: &Swap) -> Result<()>;

    /// Looks whether the sink can be written in this mode, check by check. Writes nothing.
    async fn examine(&self, mode: &WriteMode) -> Examination;

    /// Looks whether these tables can take the pipeline's rows. Writes nothing. A table without columns stands for one
    /// whose columns are not known: only what needs none is looked at.
    async fn examine_tables(&self, tables: &[TableSpec]) -> Vec<Finding>;

    /// What [`open_tables`](PartitionWriter::open_tables) would do for a partition that has written these columns before.
    /// Writes nothing.
    async fn preview_tables(
        &self,
        partition: &str,
        before: &[WrittenTable],
        tables: &[TableSpec],
    ) -> Result<TablePreview>;

    /// The tables as they are, with the columns that a run would add. Writes nothing.
    async fn load_layouts(&self, tables: &[TableSpec]) -> Result<Vec<TableLayout>>;
}

/// What was found out about a sink.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// Check by check.
    pub findings: Vec<Finding>,
    /// It answers, so that there is more to ask.
    pub usable: bool,
}

/// What opening tables would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablePreview {
    /// The statements that would make or change them.
    pub statements: Vec<String>,
    /// What would be logged.
    pub warnings: Vec<String>,
}

/// One attempt's hold on one partition.
#[async_trait]
pub trait PartitionWriter: Send {
    /// The checkpoint as this attempt found it.
    fn checkpoint(&self) -> &Checkpoint;

    /// Makes the tables ready: creates, checks and extends them. All partitions of a run must give the same columns.
    async fn open_tables(&mut self, tables: &[TableSpec]) -> Result<()>;

    /// Deletes this partition's rows of a range, inside the transaction of the next commit.
    async fn delete_range(&mut self, range: &RangeDelete) -> Result<()>;

    /// Loads a flush, inside the transaction of the next commit. Rows that the sink refuses are left out and told, the
    /// others are loaded. With more than `most_refused` of them it stops before the flush is done; then nothing may be
    /// committed.
    async fn write(&mut self, flush: &Flush, most_refused: u64) -> Result<Written>;

    /// Commits everything since the last commit together with the checkpoint, unless another attempt took over. Gives what
    /// was found out only now; more than [`Chunk::most_refused`] refused rows are an error.
    async fn commit(&mut self, chunk: &Chunk) -> Result<Committed>;

    /// Lets the partition go, after the last commit.
    async fn close(self: Box<Self>) -> Result<()>;
}

/// A run, as the holder of leases.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// The pipeline.
    pub pipeline: String,
    /// The run.
    pub run_id: String,
    /// The process that runs it.
    pub holder: Holder,
    /// How long a lease lasts unless it is renewed.
    pub lease: Duration,
}

impl Tenure {
    /// A run of a pipeline by this process.
    pub fn of_this_process(config: &Config, run_id: &str) -> Self {
        Self {
            pipeline: config.name.clone(),
            run_id: run_id.to_owned(),
            holder: Holder::of_this_process(),
            lease: config.tuning.lease,
        }
    }
}

/// Who begins an attempt.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The pipeline and the run.
    pub tenure: Tenure,
    /// The partition.
    pub partition: String,
    /// The lease that it needs ([`crate::plan::Plan::leased`]).
    pub leased: String,
    /// Its number in the configuration's order; names the shadow of a `replace`.
    pub index: usize,
    /// The run has had the partition before: if another run has it now, this one has lost it.
    pub retry: bool,
    /// It loads dead letters, whose columns may be those of another time: they are not compared with the last ones, and
    /// not remembered.
    pub replay: bool,
}

impl Claim {
    /// The columns that those of this attempt are compared with.
    fn columns_before<'a>(&self, checkpoint: &'a Checkpoint) -> &'a [WrittenTable] {
        if self.replay {
            &[]
        } else {
            &checkpoint.columns
        }
    }
}

/// A change of a checkpoint by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointEdit {
    /// Go on after this.
    Set(Cursor),
    /// Forget it: the next run starts at the beginning.
    Reset,
    /// Take the next run's server, database and query for the right ones.
    AcceptFingerprint,
}

/// A table that a pipeline writes.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Its name.
    pub name: TableName,
    /// The columns it is given.
    pub schema: SchemaRef,
    /// What happens to rows that are there already.
    pub mode: WriteMode,
    /// For `upsert`: which of two rows with one key stays.
    pub keep: Keep,
    /// What happens when the columns differ.
    pub on_schema_change: SchemaChange,
}

/// Which of two rows with one key stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The one that comes last.
    #[default]
    Last,
    /// The one that is there already, unless this column says that it is older.
    Newer(Option<String>),
}

impl PartialEq for TableSpec {
    /// Partitions agree on names and types. One source may know more of a column than another one: that it holds UUIDs,
    /// or never NULL.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.mode == other.mode
            && self.on_schema_change == other.on_schema_change
            && same_columns(&self.schema, &other.schema)
    }
}

/// Rows for one table, kept in memory until they are loaded.
#[derive(Clone, Debug)]
pub struct Flush {
    /// Which table.
    pub table: usize,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

/// What became of a flush.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows written.
    pub loaded: u64,
    /// Rows that a later one with the same key made needless.
    pub superseded: u64,
    /// Rows the sink cannot hold.
    pub refused: Vec<Refusal>,
}

impl Written {
    /// Adds what became of another part of the flush.
    fn add(&mut self, other: Self) {
        self.loaded += other.loaded;
        self.superseded += other.superseded;
        self.refused.extend(other.refused);
    }
}

/// What a commit found out about rows that had counted as loaded.
#[derive(Debug, Default)]
pub struct Committed {
    /// Rows that yielded to others.
    pub superseded: u64,
    /// Rows that the table refused; they are in quarantine.
    pub refused: Vec<DeadLetter>,
}

impl Committed {
    fn add(&mut self, other: Self) {
        self.superseded += other.superseded;
        self.refused.extend(other.refused);
    }
}

/// A row that the sink cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which batch of the flush.
    pub batch: usize,
    /// Which row of the batch.
    pub row: usize,
    /// The column at fault.
    pub column: String,
    /// Why.
    pub reason: String,
    /// For the log: the same without what may be the row's values. Empty where the reason holds none.
    pub told: String,
}

/// What is committed besides rows.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// What happens to the cursor.
    pub cursor: CursorChange,
    /// The server, database and query it belongs to; `None` leaves what is there.
    pub fingerprint: Option<String>,
    /// What marks the run in the checkpoint: its identifier, or a part of it.
    pub run_id: String,
    /// The run's books of this partition so far.
    pub ledger: Ledger,
    /// Rows set aside since the last commit.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters that are loaded with this commit.
    pub replayed: Vec<i64>,
    /// How many more rows may be refused.
    pub most_refused: u64,
}

/// What a commit does to the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorChange {
    /// It stays.
    Keep,
    /// It moves here.
    Set(Cursor),
    /// Nothing is loaded any more.
    Clear,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    /// Only numbers above this.
    pub after: i64,
    /// Only these; all if empty.
    pub ids: Vec<i64>,
    /// Only those of these partitions; all if empty.
    pub partitions: Vec<String>,
    /// Only those of this run.
    pub run_id: Option<String>,
    /// Only those of this stage.
    pub stage: Option<String>,
    /// Also those that were replayed.
    pub replayed: bool,
    /// At most so many.
    pub limit: u32,
}

/// Rows of one partition to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeDelete {
    /// Which table.
    pub table: usize,
    /// The column that holds the partition's name.
    pub partition_column: String,
    /// The cursor column with the range's ends, `(after, until]`, as the sink writes such values; `None` for all rows.
    pub range: Option<(String, Option<String>, Option<String>)>,
}

impl RangeDelete {
    /// The letters whose rows are among those that are deleted and read again.
    fn covered(&self, letters: &[StoredLetter], table: &TableName) -> Vec<i64> {
        let table = table.to_string();
        let here = |letter: &&StoredLetter| {
            letter.stage != Stage::Load.name() || letter.table.as_deref() == Some(table.as_str())
        };
        let within = |letter: &&StoredLetter| {
            self.range.as_ref().is_none_or(|(column, after, until)| {
                lies_within(&letter.payload, column, after.as_deref(), until.as_deref())
            })
        };
        let covered = letters.iter().filter(here).filter(within);
        covered.map(|letter| letter.id).collect()
    }
}

impl LetterFilter {
    /// The letters of a partition that were not replayed, a page at a time.
    fn open_of(partition: &str) -> Self {
        Self {
            partitions: vec![partition.to_owned()],
            limit: 500,
            ..Self::default()
        }
    }
}

/// The last step of a `replace`.
#[derive(Clone, Debug)]
pub struct Swap {
    /// The pipeline.
    pub pipeline: String,
    /// The run.
    pub run_id: String,
    /// Each partition: number, name, the epoch of its successful attempt, and rows loaded per table.
    pub partitions: Vec<SwapPartition>,
}

/// One partition's part of a [`Swap`].
#[derive(Clone, Debug)]
pub struct SwapPartition {
    /// Its number.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The epoch of the attempt that loaded it.
    pub epoch: i64,
    /// Its rows, all tables together.
    pub rows: u64,
    /// Where it was read to.
    pub cursor: Option<Cursor>,
}

/// Builds the account of due runs in the sink that a configuration names. Opens nothing.
pub fn build_due_runs(config: &SinkConfig, pools: &Arc<Pools>) -> Box<dyn due::DueRuns> {
    match &config.connector {
        SinkConnector::Postgres(server) => Box::new(build_postgres(config, server, pools)),
        SinkConnector::Sqlite { path } => Box::new(build_sqlite(config, path)),
    }
}

/// A table as a run would make it, and the statement that it would execute, by what is known without the sink itself.
pub fn build_layout(config: &SinkConfig, spec: &TableSpec) -> Result<(TableLayout, String)> {
    let dialect = match &config.connector {
        SinkConnector::Postgres(_) => &postgres::table::DIALECT,
        SinkConnector::Sqlite { .. } => &sqlite::table::DIALECT,
    };
    let layout = dialect.layout(spec, Vec::new(), str::eq_ignore_ascii_case);
    Ok((layout, dialect.create_table(spec)?))
}

/// Builds the sink that a configuration names. Opens nothing.
pub fn build_sink(config: &SinkConfig, pools: &Arc<Pools>) -> Box<dyn Sink> {
    match &config.connector {
        SinkConnector::Postgres(server) => Box::new(build_postgres(config, server, pools)),
        SinkConnector::Sqlite { path } => Box::new(build_sqlite(config, path)),
    }
}

fn build_postgres(
    config: &SinkConfig,
    server: &Server,
    pools: &Arc<Pools>,
) -> postgres::PostgresSink {
    let timeouts = config.timeouts.unwrap_or_default();
    postgres::PostgresSink::new(
        server.clone(),
        config.nul_characters,
        timeouts,
        pools.clone(),
    )
}

fn build_sqlite(config: &SinkConfig, path: &Path) -> sqlite::SqliteSink {
    sqlite::SqliteSink::new(path.to_path_buf(), config.nul_characters)
}

impl Swap {
    /// The mark that a finished swap leaves in the checkpoints, in place of the run's identifier.
    pub fn mark(&self) -> String {
        format!("{}/swapped", self.run_id)
    }
}

/// The error of one who comes while another run works on the partition. Before the lease ends a retry is of no use,
/// unless that run has ended by then; it costs a retry all the same, since a run that lives renews its lease.
fn held(claim: &Claim, run_id: &str, holder: &Holder, seconds: f64) -> Error {
    let error = Error::new(
        ErrorKind::Busy,
        format!(
            "run {run_id} ({holder}) works on partition {}; its lease ends in {} s unless it is renewed",
            claim.partition,
            seconds.ceil()
        ),
    )
    .hint("wait until that run has ended, or stop it; a run that died is taken over when its lease has run out");
    let left = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    match Instant::now().checked_add(left) {
        Some(end) => error.not_before(end),
        None => error,
    }
}

/// The error of a replay that comes second.
fn replayed_before() -> Error {
    Error::new(
        ErrorKind::Fenced,
        "a dead letter was replayed by somebody else meanwhile",
    )
    .hint("look at `etl-host dead-letters list`; what is left there can be replayed")
}

/// The error of a replay whose table is not there any more.
fn table_gone(spec: &TableSpec) -> Error {
    Error::data(format!("there is no table {} any more", spec.name))
}

/// The error of a loser: another attempt has counted the epoch up.
fn fenced(partition: &str) -> Error {
    Error::new(
        ErrorKind::Fenced,
        format!(
            "another run has taken over partition {partition}; this attempt's rows since its last commit are rolled back"
        ),
    )
    .hint("let only one run of a pipeline go on at a time; the other one carries on from the same position")
}
