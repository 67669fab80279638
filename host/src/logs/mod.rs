//! What runs say: one file of JSON lines per pipeline, written, rotated and read back.
//!
//! An event becomes a [`Record`] with what its spans say, and without secrets. Which events there are is the matter of
//! whoever emits them; what stderr shows is in [`cli::telemetry`](crate::cli::telemetry).

mod append;
mod facts;
mod folder;
mod layer;
mod reader;
mod record;
mod secrets;

pub use self::facts::Facts;
pub use self::folder::{DAEMON, Folder};
pub use self::layer::{Told, is_span_of_host};
pub use self::reader::{Filter, Line, Reader};
pub use self::record::{Level, Record};
pub use self::secrets::{hide, redact};
