//! What the host offers a stage while it runs.
//!
//! A stage never sees a connection, a pool or a password; it asks for rows, hands rows over, and reports.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pipeline::{Loaded, Output};

/// A position within a partition.
///
/// Cursors keep the source's full precision. Two cursors of one partition are always of the same variant.
///
/// ```
/// use etl_plugin_api::Cursor;
///
/// let after = match Some(Cursor::Integer(41)) {
///     Some(Cursor::Integer(id)) => id,
///     // The first run, or the position of an earlier version of the plugin.
///     _ => 0,
/// };
/// assert_eq!(after, 41);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cursor {
    /// A growing number.
    Integer(i64),
    /// The source's own text, ordered byte by byte.
    Text(String),
    /// A time, and a number that is unique among rows of the same time.
    Keyset {
        /// The time, in the source's own text, ordered byte by byte.
        time: String,
        /// The number.
        id: i64,
    },
    /// Whatever a custom extractor needs to go on; the host keeps it and never compares it.
    Opaque(String),
}

/// A parameter of a query, for [`ExtractContext::query`].
///
/// ```
/// use etl_plugin_api::Value;
///
/// let params = [("after", Value::Int(41)), ("country", Value::Text("FR".to_owned()))];
/// # assert_eq!(params.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// Text.
    Text(String),
}

/// The importance of a message, for [`Context::log`].
///
/// ```
/// use etl_plugin_api::{Context, Level};
///
/// fn tell(cx: &dyn Context, pages: u64) {
///     cx.log(Level::Info, &format!("{pages} pages"));
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// Something worth knowing happened.
    Info,
    /// For the author.
    Debug,
}

/// The facts of the attempt a stage works for.
///
/// ```
/// use etl_plugin_api::Context;
///
/// fn day_of_run(cx: &dyn Context) -> i64 {
///     cx.attempt().started_at.div_euclid(86_400_000_000)
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AttemptInfo {
    /// The run's identifier.
    pub run_id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The partition's name; for shards the shard's.
    pub partition: String,
    /// 1 for the first try of this partition in this run.
    pub attempt: u32,
    /// Rows up to and including this position are in the sink already; `None` on the first run.
    pub from: Option<Cursor>,
    /// Rows beyond this position belong to the next run; `None` where the source has no such bound.
    pub until: Option<Cursor>,
    /// When the attempt began, microseconds since 1970-01-01 UTC.
    pub started_at: i64,
}

/// What every stage may use. See [reporting](crate::guide::reporting); in tests [`TestRun`](crate::testkit::TestRun) gives
/// one.
pub trait Context {
    /// The facts of this attempt.
    fn attempt(&self) -> &AttemptInfo;

    /// A secret that the manifest names and the configuration grants. It belongs into no log, error, counter or row.
    ///
    /// # Errors
    ///
    /// Of kind `Config`, if the manifest does not name it.
    fn secret(&self, name: &str) -> Result<String>;

    /// Whether the run was asked to stop. A stage that works for long on one batch looks at it now and then and
    /// returns [`StageError::cancelled`](crate::StageError::cancelled).
    fn cancelled(&self) -> bool;

    /// Writes to the run's log. No secrets, no row values.
    fn log(&self, level: Level, message: &str);

    /// Adds to a counter that the run's report shows.
    fn count(&self, name: &str, n: u64);

    /// The partition's name.
    fn partition(&self) -> &str {
        &self.attempt().partition
    }
}

/// Rows of a query, batch by batch; what [`ExtractContext::query`] returns.
///
/// ```
/// use etl_plugin_api::prelude::*;
///
/// fn count(reader: &mut dyn BatchReader) -> Result<usize> {
///     let mut rows = 0;
///     while let Some(batch) = reader.next()? {
///         rows += batch.num_rows();
///     }
///     Ok(rows)
/// }
/// ```
pub trait BatchReader {
    /// The columns.
    fn schema(&self) -> SchemaRef;

    /// The next batch, `None` at the proven end.
    ///
    /// # Errors
    ///
    /// What the source says, and what the connection does: transient where trying again makes sense. Pass it on.
    fn next(&mut self) -> Result<Option<RecordBatch>>;
}

/// What an extractor may use.
pub trait ExtractContext: Context {
    /// Runs a statement on this partition's source. Parameters are named without `@`; `from`, `until` and `lastRun`
    /// are bound by the host with the cursor column's own type. Drop the reader before the next query. An example:
    /// [extractors](crate::guide::extractors).
    ///
    /// # Errors
    ///
    /// What the source says of the statement. Pass it on.
    fn query(&self, sql: &str, params: &[(&str, Value)]) -> Result<Box<dyn BatchReader + '_>>;
}

/// What a loader may use.
pub trait LoadContext: Context {
    /// Writes rows inside the host's transaction, where the configured sink puts them. An example:
    /// [loaders](crate::guide::loaders).
    ///
    /// # Errors
    ///
    /// What the sink says. Pass it on; of kind `Fatal`, if the manifest does not say `Delivery::Transactional`.
    fn write(&self, output: &Output) -> Result<Loaded>;
}
