//! Connectors that read. Each gives typed Arrow batches with the cursor of every row beside them.
//!
//! A source knows its server's dialect, types and clock. It knows nothing of sinks, plugins, retries or runs.

pub mod sql;
pub mod sqlite;

use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use etl_plugin_api::{Cursor, Value};

use crate::config::{Cursor as CursorConfig, Source as SourceConfig, SourceConnector};
use crate::error::{Error, Result};

/// A source: all shards of one configuration.
#[async_trait]
pub trait Source: Send + Sync {
    /// The names of the shards; one partition each unless the pipeline says otherwise.
    fn shards(&self) -> Vec<String>;

    /// Opens a session on one shard, for one attempt.
    async fn open(&self, shard: &str) -> Result<Box<dyn SourceSession>>;
}

/// One attempt's connection to one shard.
#[async_trait]
pub trait SourceSession: Send {
    /// What identifies server and database, so that a checkpoint is never applied to another one.
    async fn fingerprint(&mut self) -> Result<String>;

    /// Fixes the window's upper end by the server's own clock or data. `None` where there is nothing to read.
    async fn upper_bound(&mut self, query: &CursorQuery) -> Result<Option<Cursor>>;

    /// A position as people write it, in the form of the cursor's column. Called after [`Self::upper_bound`].
    fn parse_cursor(&self, cursor: &CursorConfig, text: &str) -> Result<Cursor>;

    /// Starts a statement. The stream holds the session's connection until it ends.
    async fn read(&mut self, request: ReadRequest) -> Result<Box<dyn RowStream>>;
}

/// A statement with its cursor and where it starts.
#[derive(Clone, Debug)]
pub struct CursorQuery {
    /// The statement, with `@from`, `@until` or `@lastRun`.
    pub sql: String,
    /// The cursor.
    pub cursor: CursorConfig,
    /// Rows after this are wanted; `None` for all.
    pub from: Option<Cursor>,
}

/// One statement to run.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// The statement.
    pub sql: String,
    /// The cursor, if rows are to be read by one.
    pub cursor: Option<CursorConfig>,
    /// Rows after this are wanted; `None` for all.
    pub from: Option<Cursor>,
    /// Rows up to this are wanted; `None` for all.
    pub until: Option<Cursor>,
    /// Further parameters, named without `@`.
    pub parameters: Vec<(String, Value)>,
    /// Rows per batch.
    pub batch_rows: usize,
}

/// The rows of one statement.
#[async_trait]
pub trait RowStream: Send {
    /// The columns.
    fn schema(&self) -> SchemaRef;

    /// Whether it is known already that there are no rows.
    fn is_empty(&self) -> bool;

    /// The next batch; `None` only at an end that the server has proven.
    async fn next(&mut self) -> Result<Option<SourceBatch>>;
}

/// Rows as they were read.
#[derive(Clone, Debug)]
pub struct SourceBatch {
    /// The rows that fit their columns.
    pub batch: RecordBatch,
    /// The cursor of each of those rows.
    pub cursors: Option<CursorColumn>,
    /// Rows that do not fit.
    pub rejected: Vec<SourceRejection>,
}

/// A row that does not fit its columns.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceRejection {
    /// The column at fault.
    pub column: String,
    /// Why.
    pub reason: String,
    /// The row, for quarantine.
    pub payload: serde_json::Value,
    /// The row's cursor.
    pub cursor: Option<Cursor>,
}

/// The cursor of each row of a batch, at the source's full precision.
#[derive(Clone, Debug)]
pub enum CursorColumn {
    /// Numbers.
    Integer(Vec<i64>),
    /// The source's own text.
    Text(StringArray),
}

impl CursorColumn {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Integer(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cursor of one row.
    pub fn get(&self, row: usize) -> Option<Cursor> {
        match self {
            Self::Integer(values) => values.get(row).map(|value| Cursor::Integer(*value)),
            Self::Text(values) => {
                (row < values.len()).then(|| Cursor::Text(values.value(row).to_owned()))
            }
        }
    }

    /// Whether two rows have the same cursor.
    pub fn same(&self, a: usize, b: usize) -> bool {
        match self {
            Self::Integer(values) => values.get(a) == values.get(b),
            Self::Text(values) => {
                a < values.len() && b < values.len() && values.value(a) == values.value(b)
            }
        }
    }
}

/// Builds the source that a configuration names. Opens nothing.
pub fn build_source(config: &SourceConfig) -> Result<Box<dyn Source>> {
    match &config.connector {
        SourceConnector::Sqlite { shards } => Ok(Box::new(sqlite::SqliteSource::new(shards))),
        other => Err(Error::config(format!(
            "this build of etl-host has no source of type `{}`",
            other.kind()
        ))
        .hint("use `type: sqlite`, or a newer etl-host")),
    }
}
