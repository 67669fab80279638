//! Connectors that read. Each gives typed Arrow batches with the cursor of every row beside them.
//!
//! A source knows its server's dialect, types and clock. It knows nothing of sinks, plugins, retries or runs.

mod batch;
mod channel;
mod cursor;
mod examine;
pub mod postgres;
pub mod ranges;
pub mod sql;
pub mod sqlite;
pub mod sqlserver;
pub mod time;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use etl_plugin_api::{Cursor, Value};

pub use self::cursor::{CursorColumn, parse_position, parse_rowversion, rowversion};
pub use self::ranges::{Range, Survey, Surveyed};
use self::ranges::{no_split_column, no_whole_numbers};
use crate::config::{Cursor as CursorConfig, Source as SourceConfig, SourceConnector};
use crate::error::Result;
use crate::finding::Finding;
use crate::pool::{Places, Pools};

/// A source: all shards of one configuration.
#[async_trait]
pub trait Source: Send + Sync {
    /// The names of the shards; one partition each unless the pipeline says otherwise.
    fn shards(&self) -> Vec<String>;

    /// The places of partitions that read from a shard, if its connections are limited: none must wait for one that
    /// another partition holds.
    fn places(&self, _shard: &str) -> Option<Places> {
        None
    }

    /// Opens a session on one shard, for one attempt.
    async fn open(&self, shard: &str) -> Result<Box<dyn SourceSession>>;

    /// Looks whether a shard can be read, check by check. Changes nothing; `query` is `None` where a plugin asks its own.
    async fn examine(&self, shard: &str, query: Option<&ShardQuery>) -> Examination;
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

    /// Counts values of a column of whole numbers among all rows of a query. Refuses columns of other types.
    async fn survey(&mut self, survey: &Survey) -> Result<Surveyed>;

    /// Starts a statement. The stream holds the session's connection until it ends.
    async fn read(&mut self, request: ReadRequest) -> Result<Box<dyn RowStream>>;
}

/// What is asked of each shard.
#[derive(Clone, Debug)]
pub struct ShardQuery {
    /// The statement.
    pub sql: String,
    /// Its cursor; without one every run reads everything.
    pub cursor: Option<CursorConfig>,
}

/// What was found out about a shard.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// Check by check.
    pub findings: Vec<Finding>,
    /// What identifies server and database; `None` if it could not be asked.
    pub fingerprint: Option<String>,
    /// The columns of the query; `None` if they are not known.
    pub schema: Option<SchemaRef>,
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
    /// The range that the statement is restricted to.
    pub range: Option<Range>,
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
    /// The range that the statement is restricted to.
    pub range: Option<Range>,
    /// Most rows per batch.
    pub batch_rows: usize,
    /// A batch ends with the row that reaches so many bytes, however few rows it has.
    pub batch_bytes: usize,
}

/// The rows of one statement.
#[async_trait]
pub trait RowStream: Send {
    /// The columns.
    fn schema(&self) -> SchemaRef;

    /// The types of the columns as the server declares them, such as `datetime2(7)`; `None` for an expression of which it
    /// does not say any. Empty where nothing is known.
    fn declared(&self) -> Vec<Option<String>> {
        Vec::new()
    }

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

/// Builds the source that a configuration names. Opens nothing.
pub fn build_source(config: &SourceConfig, pools: &Arc<Pools>) -> Box<dyn Source> {
    match &config.connector {
        SourceConnector::Sqlite { shards } => Box::new(sqlite::SqliteSource::new(shards)),
        SourceConnector::SqlServer { shards } => Box::new(sqlserver::SqlServerSource::new(
            shards,
            config.beyond_microseconds,
            pools.clone(),
        )),
        SourceConnector::Postgres { shards } => {
            Box::new(postgres::PostgresSource::new(shards, pools.clone()))
        }
    }
}
