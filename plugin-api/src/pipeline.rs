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
///
/// ```
/// use etl_plugin_api::prelude::*;
///
/// /// Loads what the query returns as it is: no stage of its own.
/// struct Copy;
///
/// impl Pipeline for Copy {
///     type Settings = NoSettings;
///
///     fn manifest(&self) -> Manifest {
///         Manifest::new("copy", "1.0.0").description("Copies users")
///     }
/// }
/// ```
pub trait Pipeline: Send + Sync + 'static {
    /// The pipeline's own settings, from `settings:` of the configuration. Give them defaults with
    /// `#[serde(default)]` and refuse unknown keys with `#[serde(deny_unknown_fields)]`.
    type Settings: DeserializeOwned + JsonSchema;

    /// What the pipeline says of itself. Called once, in a child process too; it must not do I/O.
    fn manifest(&self) -> Manifest;

    /// Every mistake in settings that have the right shape, all at once. It must not do I/O. See
    /// [settings](crate::guide::settings).
    fn validate(&self, _settings: &Self::Settings) -> Vec<Problem> {
        Vec::new()
    }

    /// The partitions to read side by side; `None` for one per configured shard. Only for a pipeline with an extractor.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from knowing them; no partition is read then.
    fn partitions(
        &self,
        _settings: &Self::Settings,
        _cx: &dyn Context,
    ) -> Result<Option<Vec<Partition>>> {
        Ok(None)
    }

    /// A new extractor, one for each attempt; `None` to run the configured query on the configured source.
    fn extractor(&self, _settings: &Self::Settings) -> Result<Option<Box<dyn Extractor>>> {
        Ok(None)
    }

    /// A new transformer, one for each attempt; `None` to load the rows as they were read.
    fn transformer(&self, _settings: &Self::Settings) -> Result<Option<Box<dyn Transformer>>> {
        Ok(None)
    }

    /// A new loader, one for each attempt; `None` to write to the configured sink.
    ///
    /// # Errors
    ///
    /// What keeps it from being made, usually of kind `Config`; so it is for the other two.
    fn loader(&self, _settings: &Self::Settings) -> Result<Option<Box<dyn Loader>>> {
        Ok(None)
    }
}

/// An independently readable slice of the source.
///
/// ```
/// use etl_plugin_api::Partition;
///
/// let partitions: Vec<Partition> = ["eu", "us"].map(Partition::new).into();
/// assert_eq!(partitions[1].name, "us");
/// ```
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
///
/// ```
/// use etl_plugin_api::{Outcome, Result};
///
/// fn close(outcome: Outcome) -> Result<()> {
///     if outcome == Outcome::Succeeded {
///         // Say so to whoever waits for it.
///     }
///     Ok(())
/// }
/// # close(Outcome::Failed).unwrap();
/// ```
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

/// Reads one partition. See [extractors](crate::guide::extractors).
///
/// ```
/// use std::sync::Arc;
/// use etl_plugin_api::arrow::array::{ArrayRef, Int64Array};
/// use etl_plugin_api::prelude::*;
///
/// /// The numbers up to ten, each once in the life of the pipeline.
/// struct Numbers {
///     next: i64,
/// }
///
/// impl Extractor for Numbers {
///     fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef> {
///         if let Some(Cursor::Integer(last)) = cx.attempt().from {
///             self.next = last + 1;
///         }
///         Ok(Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)])))
///     }
///
///     fn next(&mut self, _: &dyn ExtractContext) -> Result<Option<Extracted>> {
///         if self.next > 10 {
///             return Ok(None);
///         }
///         let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(self.next..=10));
///         self.next = 11;
///         Ok(Some(Extracted {
///             batch: RecordBatch::try_from_iter([("n", numbers)])?,
///             resume: Resume::After(Cursor::Integer(10)),
///         }))
///     }
/// }
/// ```
///
/// # Errors
///
/// Of every call: a kind says whether trying again makes sense ([errors](crate::guide::errors)). The instance is not
/// called again then.
pub trait Extractor: Send {
    /// Called once, first. Returns the columns of every batch that follows.
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef>;

    /// The next rows, in the order of the cursor; `None` at the end. Some thousand rows at a time are a good size.
    fn next(&mut self, cx: &dyn ExtractContext) -> Result<Option<Extracted>>;

    /// Called once, last, unless the instance failed.
    fn close(&mut self, _outcome: Outcome) -> Result<()> {
        Ok(())
    }
}

/// Rows, and where to go on after them; see [`Extractor`].
#[derive(Clone, Debug)]
pub struct Extracted {
    /// The rows; the schema is that of [`Extractor::open`].
    pub batch: RecordBatch,
    /// The position that may be committed once these rows are loaded.
    pub resume: Resume,
}

/// The position after a batch; see [extractors](crate::guide::extractors).
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

/// Changes rows. See [batches](crate::guide::batches).
///
/// ```
/// use std::sync::Arc;
/// use etl_plugin_api::prelude::*;
///
/// /// Leaves out the last row of each batch.
/// struct AllButLast;
///
/// impl Transformer for AllButLast {
///     fn open(&mut self, _: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
///         Ok(vec![TableSchema::configured(Arc::new(input.clone()))])
///     }
///
///     fn transform(&mut self, _: &dyn Context, input: RecordBatch) -> Result<Transformed> {
///         let rows = u32::try_from(input.num_rows()).unwrap_or(u32::MAX);
///         let kept = rows.saturating_sub(1);
///         Ok(Transformed {
///             outputs: vec![Output {
///                 table: 0,
///                 batch: input.slice(0, kept as usize),
///                 origin: Origin::Rows((0..kept).collect()),
///             }],
///             filtered: (kept..rows).collect(),
///             ..Transformed::default()
///         })
///     }
/// }
/// ```
///
/// # Errors
///
/// Of every call: a kind says whether trying again makes sense ([errors](crate::guide::errors)). The instance is not
/// called again then.
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
///
/// ```
/// use std::sync::Arc;
/// use etl_plugin_api::prelude::*;
///
/// let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
/// assert_eq!(TableSchema::configured(schema.clone()).name, None);
/// assert_eq!(TableSchema::named("order_taxes", schema).name.as_deref(), Some("order_taxes"));
/// ```
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

/// What became of a batch: every row of it is an origin of output, filtered, or rejected.
///
/// ```
/// use etl_plugin_api::prelude::*;
/// use etl_plugin_api::testkit::{batch, json};
///
/// let rows = batch(&[("id", DataType::Int64)], json!([[1], [2]]));
/// let unchanged = Transformed::same_rows(rows);
/// assert_eq!(unchanged.outputs[0].origin, Origin::SameRows);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Transformed {
    /// Rows to load.
    pub outputs: Vec<Output>,
    /// Input rows left out on purpose, by their index in the batch.
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

/// Rows for one table; see [`Transformer`].
#[derive(Clone, Debug)]
pub struct Output {
    /// Which of the tables that [`Transformer::open`] returned, counted from 0.
    pub table: u32,
    /// The rows.
    pub batch: RecordBatch,
    /// Which input rows they were made of.
    pub origin: Origin,
}

/// The input row of each output row.
///
/// ```
/// use etl_plugin_api::Origin;
///
/// // Three output rows: two of the first input row, one of the third.
/// let origin = Origin::Rows(vec![0, 0, 2]);
/// # assert_ne!(origin, Origin::SameRows);
/// ```
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
///
/// ```
/// use etl_plugin_api::Rejection;
///
/// let rejection = Rejection {
///     row: 3,
///     column: Some("currency".to_owned()),
///     reason: "an unknown currency".to_owned(),
/// };
/// # assert_eq!(rejection.row, 3);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Its index in the batch, counted from 0.
    pub row: u32,
    /// The column at fault, where there is one.
    pub column: Option<String>,
    /// Why; without the row's values.
    pub reason: String,
}

/// What became of rows handed to a sink: the three add up to the rows that it was given.
///
/// ```
/// use etl_plugin_api::Loaded;
///
/// let all = Loaded { loaded: 8_192, ..Loaded::default() };
/// assert_eq!(all.superseded, 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Rows written.
    pub loaded: u64,
    /// Rows that a later one with the same key made needless.
    pub superseded: u64,
    /// Rows the sink refuses.
    pub rejected: Vec<Rejection>,
}

/// Identifies a commit to a loader that keeps its own state: one line of text, to be kept as it is.
///
/// ```
/// use etl_plugin_api::CommitToken;
///
/// let token = CommitToken("from the host".to_owned());
/// let stored = token.0.clone();
/// assert_eq!(CommitToken(stored), token);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitToken(pub String);

/// Writes one partition's rows. See [loaders](crate::guide::loaders), with an example of each kind of delivery.
///
/// # Errors
///
/// Of every call: a kind says whether trying again makes sense ([errors](crate::guide::errors)). The instance is not
/// called again then, and nothing since the last commit counts.
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
