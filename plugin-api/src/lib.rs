//! Everything the author of an etl-host pipeline sees.
//!
//! A plugin is a `cdylib` that supplies one or more pipelines. The host reads, retries, loads and keeps the
//! position; the plugin says what to read and how to change it. The shortest plugin is a manifest and one function:
//!
//! ```
//! use etl_plugin_api::prelude::*;
//!
//! struct Signups;
//!
//! impl Pipeline for Signups {
//!     type Settings = NoSettings;
//!
//!     fn manifest(&self) -> Manifest {
//!         Manifest::new("signups", env!("CARGO_PKG_VERSION"))
//!             .description("Copies new users, without their notes")
//!             .default_config(
//!                 r"
//! source:
//!   type: sqlite
//!   shards: [{ path: users.db }]
//!   query: SELECT id, name, notes FROM users WHERE id > @from AND id <= @until ORDER BY id
//! cursor: { column: id, kind: integer }
//! sink: { type: sqlite, path: warehouse.db, table: signups }
//! ",
//!             )
//!             .stateless()
//!     }
//!
//!     fn transformer(&self, _: &NoSettings) -> Result<Option<Box<dyn Transformer>>> {
//!         Ok(Some(Box::new(map_batches(|_, batch: RecordBatch| {
//!             Ok(batch.project(&[0, 1])?)
//!         }))))
//!     }
//! }
//!
//! etl_plugin_api::export_pipelines!(Signups);
//! # fn main() {}
//! ```
//!
//! With `config.yaml` in a file of its own, and tests, `etl-host generate --name signups` writes such a crate;
//! `etl-host install signups` builds it and puts it into the plugins folder, and `etl-host run signups` runs it. The
//! [guide] goes on from here, a page for each part.
//!
//! What the rest is for:
//!
//! - [`Pipeline`] and its stages [`Extractor`], [`Transformer`], [`Loader`]: leave a stage out and the host's own is
//!   used.
//! - [`RowTransformer`] with [`rows`]: one struct in, one struct out.
//! - [`columns`] and [`Distinct`]: whole columns, with less to write.
//! - [`Context`]: the attempt's facts, secrets, logs, counters, cancellation.
//! - `testkit` (a feature): tests without a host.
//! - [`StageError`]: says whether trying again makes sense.
//!
//! A plugin built with 1.x of this crate runs in a host of every 1.y, older or newer: a service that an older host lacks
//! does as its documentation says. Take arrow from [`arrow`], since a minor may raise it.
//!
//! Nothing here needs `unsafe`. A panic is caught at the boundary and fails the attempt, not the host.

#[cfg(panic = "abort")]
compile_error!(
    "a plugin must be built with panic = \"unwind\": with \"abort\" its panics would end the host"
);

#[doc(hidden)]
pub mod abi;
pub mod columns;
mod context;
mod distinct;
mod error;
#[doc(hidden)]
pub mod export;
pub mod guide;
#[doc(hidden)]
pub mod ledger;
mod manifest;
mod pipeline;
mod row;
// The guide tells of it, whatever is switched on.
#[cfg(any(feature = "testkit", doc))]
pub mod testkit;

pub use context::{
    AttemptInfo, BatchReader, Context, Cursor, ExtractContext, Level, LoadContext, Value,
};
pub use distinct::Distinct;
pub use error::{ErrorKind, Result, ResultExt, StageError};
pub use manifest::{Capabilities, Cardinality, Delivery, Manifest, Problem};
pub use pipeline::{
    CommitToken, Extracted, Extractor, Loaded, Loader, MapBatches, Origin, Outcome, Output,
    Partition, Pipeline, Rejection, Resume, TableSchema, Transformed, Transformer, map_batches,
};
pub use row::{RowTransformer, Rows, rows};

/// The Arrow crates this version is built with.
pub mod arrow {
    pub use arrow_array as array;
    pub use arrow_buffer as buffer;
    pub use arrow_schema as schema;
    pub use arrow_select as select;
}

pub use schemars;
pub use serde;

/// Settings of a pipeline that has none.
#[derive(
    Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// What nearly every plugin imports.
pub mod prelude {
    pub use arrow_array::RecordBatch;
    pub use arrow_schema::{DataType, Field, Schema, SchemaRef};
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};

    pub use crate::{
        BatchReader, Capabilities, Cardinality, Context, Cursor, Delivery, Distinct, ErrorKind,
        ExtractContext, Extracted, Extractor, Level, LoadContext, Loaded, Loader, Manifest,
        NoSettings, Origin, Outcome, Output, Partition, Pipeline, Problem, Rejection, Result,
        ResultExt, Resume, RowTransformer, StageError, TableSchema, Transformed, Transformer,
        Value, map_batches, rows,
    };
}
