//! What host and worker say to each other: the heads of their messages.
//!
//! Both are the same program, so nothing here is kept stable. Batches travel beside the heads, in the order in which
//! a head speaks of them; a schema travels as a batch without rows.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::Schema;
use etl_plugin_api::abi::Description;
use etl_plugin_api::{
    AttemptInfo, CommitToken, ErrorKind, Level, Origin, Outcome, Output, Rejection, StageError,
    TableSchema, Transformed, Value,
};
use serde::{Deserialize, Serialize};

use super::fence::{Fence, Measure};
use super::frame::Broken;
use crate::plugin::Refused;

/// The host's first word to a worker.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// The plugin's file.
    pub copy: PathBuf,
    /// The pipeline's number; `None` to learn only what the plugin says of itself.
    pub pipeline: Option<u32>,
    /// The pipeline's settings, JSON.
    pub settings: String,
    /// What the worker may do.
    pub fence: Fence,
    /// The host's process.
    pub host: u32,
}

/// What became of loading the plugin behind the fence.
pub type Loaded = Result<Description, Refused>;

/// A worker's first words to the host.
#[derive(Clone, Debug)]
pub struct Hello {
    /// What holds the worker, and what this system cannot.
    pub measures: Vec<Measure>,
    /// What the plugin says of itself.
    pub loaded: Loaded,
}

/// One of the three stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageKind {
    Extractor,
    Transformer,
    Loader,
}

/// What the host has the worker do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Call {
    /// Answers `Vec<Problem>`.
    Validate,
    /// Answers `Option<Vec<Partition>>`.
    Partitions(AttemptInfo),
    /// Answers whether the pipeline has such a stage.
    Make(StageKind),
    /// With the schema of the input for a transformer, the schemas of the tables for a loader. Answers nothing and a
    /// schema, `Vec<Option<String>>` and schemas, or `Option<CommitToken>`.
    Open {
        attempt: AttemptInfo,
        tables: Vec<Option<String>>,
    },
    /// Answers `Option<Resume>`, and a batch.
    Next,
    /// With a batch. Answers `TransformedHead`, and batches.
    Transform,
    /// Answers `TransformedHead`, and batches.
    Finish,
    /// With the batches of one output. Answers `Loaded`.
    Load(OutputHead),
    /// Answers nothing.
    Commit(CommitToken),
    /// Answers nothing.
    Close(Outcome),
}

impl Call {
    /// What is being done, for messages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Partitions(_) => "partitions",
            Self::Make(_) => "new",
            Self::Open { .. } => "open",
            Self::Next => "next",
            Self::Transform => "transform",
            Self::Finish => "finish",
            Self::Load(_) => "load",
            Self::Commit(_) => "commit",
            Self::Close(_) => "close",
        }
    }
}

/// What a stage asks of the host while it is called.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Answers a text.
    Secret(String),
    /// Answers whether the run was asked to stop.
    Cancelled,
    /// Answers the reader's number, and a schema.
    Query(String, Vec<(String, Value)>),
    /// Answers whether there is a batch, and the batch.
    ReadNext(u32),
    /// With the batches of one output. Answers `Loaded`.
    Write(OutputHead),
}

/// What a stage tells the host while it is called.
#[derive(Debug, Serialize, Deserialize)]
pub enum Tell {
    Log(Level, String),
    Count(String, u64),
    /// The reader is not needed any more.
    ReadNoMore(u32),
}

/// An error on its way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fault {
    kind: ErrorKind,
    message: String,
    column: Option<String>,
    backtrace: Option<String>,
}

impl From<&StageError> for Fault {
    fn from(error: &StageError) -> Self {
        Self {
            kind: error.kind(),
            message: error.message().to_owned(),
            column: error.column().map(str::to_owned),
            backtrace: error.backtrace().map(str::to_owned),
        }
    }
}

impl From<Fault> for StageError {
    fn from(fault: Fault) -> Self {
        let mut error = Self::new(fault.kind, fault.message);
        if let Some(column) = fault.column {
            error = error.in_column(column);
        }
        if let Some(backtrace) = fault.backtrace {
            error = error.with_backtrace(backtrace);
        }
        error
    }
}

/// An output without its rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct OutputHead {
    table: u32,
    origin: OriginHead,
}

#[derive(Debug, Serialize, Deserialize)]
enum OriginHead {
    SameRows,
    /// In a batch of one column behind the rows.
    Rows,
    Aggregated,
}

/// What became of a batch, without the rows.
#[derive(Debug, Serialize, Deserialize)]
pub struct TransformedHead {
    outputs: Vec<OutputHead>,
    filtered: Vec<u32>,
    rejected: Vec<Rejection>,
}

/// Batches that a message brought, taken one by one.
pub struct Batches(std::vec::IntoIter<RecordBatch>);

impl Batches {
    pub fn new(batches: Vec<RecordBatch>) -> Self {
        Self(batches.into_iter())
    }

    /// The next one.
    pub fn take(&mut self) -> Result<RecordBatch, Broken> {
        self.0
            .next()
            .ok_or_else(|| Broken::Garbage("a message with too few batches".to_owned()))
    }
}

/// Splits an output into head and batches.
pub fn split_output(output: &Output, batches: &mut Vec<RecordBatch>) -> Result<OutputHead, Broken> {
    batches.push(output.batch.clone());
    let origin = match &output.origin {
        Origin::SameRows => OriginHead::SameRows,
        Origin::Aggregated => OriginHead::Aggregated,
        Origin::Rows(rows) => {
            let rows: ArrayRef = Arc::new(UInt32Array::from_iter_values(rows.iter().copied()));
            let rows = RecordBatch::try_from_iter([("row", rows)])
                .map_err(|error| Broken::Garbage(error.to_string()))?;
            batches.push(rows);
            OriginHead::Rows
        }
    };
    Ok(OutputHead {
        table: output.table,
        origin,
    })
}

/// Joins an output again.
pub fn join_output(head: &OutputHead, batches: &mut Batches) -> Result<Output, Broken> {
    let batch = batches.take()?;
    let origin = match head.origin {
        OriginHead::SameRows => Origin::SameRows,
        OriginHead::Aggregated => Origin::Aggregated,
        OriginHead::Rows => {
            let rows = batches.take()?;
            let rows = rows
                .columns()
                .first()
                .and_then(|column| column.as_any().downcast_ref::<UInt32Array>())
                .ok_or_else(|| Broken::Garbage("origins that are no row numbers".to_owned()))?;
            Origin::Rows(rows.values().to_vec())
        }
    };
    Ok(Output {
        table: head.table,
        batch,
        origin,
    })
}

/// Splits what became of a batch.
pub fn split_transformed(
    transformed: Transformed,
) -> Result<(TransformedHead, Vec<RecordBatch>), Broken> {
    let mut batches = Vec::new();
    let outputs: Result<_, _> = transformed
        .outputs
        .iter()
        .map(|output| split_output(output, &mut batches))
        .collect();
    let head = TransformedHead {
        outputs: outputs?,
        filtered: transformed.filtered,
        rejected: transformed.rejected,
    };
    Ok((head, batches))
}

/// Joins it again.
pub fn join_transformed(
    head: TransformedHead,
    batches: &mut Batches,
) -> Result<Transformed, Broken> {
    let outputs: Result<_, _> = head
        .outputs
        .iter()
        .map(|output| join_output(output, batches))
        .collect();
    Ok(Transformed {
        outputs: outputs?,
        filtered: head.filtered,
        rejected: head.rejected,
    })
}

/// A schema, as it travels.
pub fn split_schema(schema: &Schema) -> RecordBatch {
    RecordBatch::new_empty(Arc::new(schema.clone()))
}

/// Splits tables into names and schemas.
pub fn split_tables(tables: &[TableSchema]) -> (Vec<Option<String>>, Vec<RecordBatch>) {
    tables
        .iter()
        .map(|table| (table.name.clone(), split_schema(&table.schema)))
        .unzip()
}

/// Joins them again.
pub fn join_tables(
    names: Vec<Option<String>>,
    batches: &mut Batches,
) -> Result<Vec<TableSchema>, Broken> {
    names
        .into_iter()
        .map(|name| {
            Ok(TableSchema {
                name,
                schema: batches.take()?.schema(),
            })
        })
        .collect()
}
