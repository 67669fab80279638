//! For the tests of a plugin: runs a pipeline without a host, on rows given by the test. Feature `testkit`.
//!
//! ```toml
//! [dev-dependencies]
//! etl-plugin-api = { path = "../etl-host/plugin-api", features = ["testkit"] }
//! ```
//!
//! [`TestRun`] takes rows through all stages of a pipeline and holds them to what the host would hold them to;
//! [`conformance!`](crate::conformance) makes tests of everything that the host relies on. Nothing here connects to
//! anything, and no test of a plugin needs a server.
//!
//! ```
//! use etl_plugin_api::prelude::*;
//! use etl_plugin_api::testkit::{TestRun, batch, json};
//!
//! # struct Signups;
//! # impl Pipeline for Signups {
//! #     type Settings = NoSettings;
//! #     fn manifest(&self) -> Manifest { Manifest::new("signups", "1.0.0") }
//! #     fn transformer(&self, _: &NoSettings) -> Result<Option<Box<dyn Transformer>>> {
//! #         Ok(Some(Box::new(map_batches(|_, batch: RecordBatch| Ok(batch.project(&[0, 1])?)))))
//! #     }
//! # }
//! let users = batch(
//!     &[("id", DataType::Int64), ("name", DataType::Utf8), ("notes", DataType::Utf8)],
//!     json!([[1, "ann", "likes tea"], [2, null, null]]),
//! );
//! let ran = TestRun::new(Signups).input(users).run()?;
//! assert_eq!(
//!     ran.to_string(),
//!     "\
//! (the configured table): 2 rows
//!   id  name
//!   1   ann
//!   2   NULL
//! "
//! );
//! # Ok::<(), etl_plugin_api::StageError>(())
//! ```

mod batches;
mod conformance;
mod context;
mod run;

pub use serde_json::json;

pub use self::batches::{batch, text};
#[doc(hidden)]
pub use self::conformance::Conformance;
pub use self::context::Query;
pub use self::run::{Ran, Table, TestRun};
