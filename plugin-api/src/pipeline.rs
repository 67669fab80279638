//! The traits that an author implements: a pipeline and its stages.
//!
//! Only [`Pipeline::manifest`] is required; each stage left out is the host's own, and then the batch never leaves
//! the host. One stage instance serves one attempt, on one thread at a time, and is never called again after it
//! returned an error or panicked.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::{Context, Cursor, ExtractContext, LoadContext};
use crate::error::{Result, StageError};
use crate::manifest::{Manifest, Problem};

/// A declared flow extract -> transform -> load.
pub trait Pipeline: Send + Sync + 'static {
    /// The pipeline's own settings, from `settings:` of the configuration. Give them defaults with
    /// `#[serde(default)]` and refuse unknown keys with `#[serde(deny_unknown_fields)]`.
    type Settings: DeserializeOwned + JsonSchema;

    /// What the pipeline says of itself. Called once, in a child process too; it must not do I/O.
    fn manifest(&self) -> Manifest;

    /// Every mistake in settings that have the right shape. It must not do I/O.
    fn validate(&self, _settings: &Self::Settings) -> Vec<Problem> {
        Vec::new()
    }

    /// The partitions to read side by side; `None` for one per configured shard.
    fn partitions(
        &self,
        _settings: &Self::Settings,
        _cx: &dyn Context,
    ) -> Result<Option<Vec<Partition>>> {
        Ok(None)
    }

    /// A new extractor; `None` to run the configured query on the configured source.
    fn extractor(&self, _settings: &Self::Settings) -> Result<Option<Box<dyn Extractor>>> {
        Ok(None)
    }

    /// A new transformer; `None` to load the rows as they were read.
    fn transformer(&self, _settings: &Self::Settings) -> Result<Option<Box<dyn Transformer>>> {
        Ok(None)
    }

    /// A new loader; `None` to write to the configured sink.
    fn loader(&self, _settings: &Self::Settings) -> Result<Option<Box<dyn Loader>>> {
        Ok(None)
    }
}

/// An independently readable slice of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Partition {
    /// Its name, unique within the pipeline; checkpoints are kept under it.
    pub name: String,
}

impl Partition {
    /// A partition with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// How an attempt ended, told to a stage when it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All rows are committed.
    Succeeded,
    /// The attempt failed; what was not committed is rolled back.
    Failed,
    /// The run was asked to stop.
    Cancelled,
}

/// Reads one partition.
pub trait Extractor: Send {
    /// Called once, first. Returns the columns of every batch that follows.
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef>;

    /// The next rows, in the order of the cursor; `None` at the end.
    fn next(&mut self, cx: &dyn ExtractContext) -> Result<Option<Extracted>>;

    /// Called once, last, unless the instance failed.
    fn close(&mut self, _outcome: Outcome) -> Result<()> {
        Ok(())
    }
}

/// Rows, and where to go on after them.
#[derive(Clone, Debug)]
pub struct Extracted {
    /// The rows; the schema is that of [`Extractor::open`].
    pub batch: RecordBatch,
    /// The position that may be committed once these rows are loaded.
    pub resume: Resume,
}

/// The position after a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "resume", content = "cursor", rename_all = "kebab-case")]
pub enum Resume {
    /// The host takes it from the configured cursor column.
    CursorColumn,
    /// Reading goes on after this.
    After(Cursor),
    /// Nothing may be committed between this batch and the next.
    NotHere,
}

/// Changes rows.
pub trait Transformer: Send {
    /// Called once, first. Returns the tables it writes; the first one is the configured sink table.
    fn open(&mut self, cx: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>>;

    /// Changes one batch. Every input row must be the origin of output, filtered, or rejected.
    fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed>;

    /// Called once after the last batch: whatever is still held back.
    fn finish(&mut self, _cx: &dyn Context) -> Result<Transformed> {
        Ok(Transformed::default())
    }

    /// Called once, last, unless the instance failed.
    fn close(&mut self, _outcome: Outcome) -> Result<()> {
        Ok(())
    }
}

/// The name and columns of a table that a transformer writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// The table; `None` for the configured one, which only the first may be.
    pub name: Option<String>,
    /// The columns of every batch for it.
    pub schema: SchemaRef,
}

impl TableSchema {
    /// The configured table with these columns.
    pub fn configured(schema: SchemaRef) -> Self {
        Self { name: None, schema }
    }

    /// A further table.
    pub fn named(name: impl Into<String>, schema: SchemaRef) -> Self {
        Self {
            name: Some(name.into()),
            schema,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default)]
pub struct Transformed {
    /// Rows to load.
    pub outputs: Vec<Output>,
    /// Input rows left out on purpose.
    pub filtered: Vec<u32>,
    /// Input rows that are bad.
    pub rejected: Vec<Rejection>,
}

impl Transformed {
    /// Each input row became the output row at the same place.
    pub fn same_rows(batch: RecordBatch) -> Self {
        Self {
            outputs: vec![Output {
                table: 0,
                batch,
                origin: Origin::SameRows,
            }],
            ..Self::default()
        }
    }
}

/// Rows for one table.
#[derive(Clone, Debug)]
pub struct Output {
    /// Which of the tables that [`Transformer::open`] returned.
    pub table: u32,
    /// The rows.
    pub batch: RecordBatch,
    /// Which input rows they were made of.
    pub origin: Origin,
}

/// The input row of each output row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The row at the same place.
    SameRows,
    /// The row with this index, one for each output row.
    Rows(Vec<u32>),
    /// Many rows; see [`Cardinality::Aggregate`](crate::Cardinality::Aggregate).
    Aggregated,
}

/// A row set aside, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Its index in the batch.
    pub row: u32,
    /// The column at fault, where there is one.
    pub column: Option<String>,
    /// Why; without the row's values.
    pub reason: String,
}

/// What became of rows handed to a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Rows written.
    pub loaded: u64,
    /// Rows that a later one with the same key made needless.
    pub superseded: u64,
    /// Rows the sink refuses.
    pub rejected: Vec<Rejection>,
}

/// Identifies a commit to a loader that keeps its own state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitToken(pub String);

/// Writes one partition's rows.
pub trait Loader: Send {
    /// Called once, first. An idempotent loader returns the token of the last commit that it holds.
    fn open(&mut self, cx: &dyn LoadContext, tables: &[TableSchema])
    -> Result<Option<CommitToken>>;

    /// Takes rows. Transactional loaders pass them on to [`LoadContext::write`].
    fn load(&mut self, cx: &dyn LoadContext, output: &Output) -> Result<Loaded>;

    /// Makes all rows since the last commit durable, under this token.
    fn commit(&mut self, cx: &dyn LoadContext, token: &CommitToken) -> Result<()>;

    /// Called once, last, unless the instance failed.
    fn close(&mut self, _outcome: Outcome) -> Result<()> {
        Ok(())
    }
}

/// A transformer made of one function, see [`map_batches`].
pub struct MapBatches<F>(F);

/// A transformer that makes one row of each row, in order.
///
/// The output's columns are learned by calling the function with an empty batch.
///
/// ```
/// use etl_plugin_api::prelude::*;
///
/// let transformer = map_batches(|_cx, batch: RecordBatch| Ok(batch.project(&[0])?));
/// # fn check(_: impl Transformer) {}
/// # check(transformer);
/// ```
pub fn map_batches<F>(function: F) -> MapBatches<F>
where
    F: FnMut(&dyn Context, RecordBatch) -> Result<RecordBatch> + Send,
{
    MapBatches(function)
}

impl<F> Transformer for MapBatches<F>
where
    F: FnMut(&dyn Context, RecordBatch) -> Result<RecordBatch> + Send,
{
    fn open(&mut self, cx: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
        let empty = RecordBatch::new_empty(Arc::new(input.clone()));
        let output = (self.0)(cx, empty)?;
        Ok(vec![TableSchema::configured(output.schema())])
    }

    fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        let rows = input.num_rows();
        let output = (self.0)(cx, input)?;
        if output.num_rows() != rows {
            return Err(StageError::fatal(format!(
                "the transform made {} rows of {rows}; one that filters or expands implements `Transformer` itself",
                output.num_rows()
            )));
        }
        Ok(Transformed::same_rows(output))
    }
}
