//! Plugin files: found, proven safe to load, loaded. The only place that calls `dlopen`.
//!
//! A file passes four doors: [`gate`] looks at it without running it, [`probe`] lets a child process load it,
//! [`load`] loads a read-only copy of the [`cache`], and the boundary's own layout check has the last word. A
//! [`Registry`] is the folder at one moment, [`LivePlugins`] follows it. What a pipeline does once it is loaded is not
//! decided here.

pub mod cache;
mod change;
mod file;
pub mod gate;
pub mod live;
pub mod load;
pub mod probe;
pub mod registry;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use change::Change;
pub use file::Plugin;
pub use live::LivePlugins;
pub use registry::{Entry, Registry};

use crate::error;
use crate::state::State;

/// Why a file is not used, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub fix: String,
    /// It says as much about this machine as about the file, so the file is tried again each time.
    #[serde(default)]
    pub for_now: bool,
}

impl Refused {
    fn new(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            fix: fix.into(),
            for_now: false,
        }
    }

    fn for_now(mut self) -> Self {
        self.for_now = true;
        self
    }
}

/// Brings a file through the doors before it has its place, as what it will be there.
pub fn examine_as(
    file: &Path,
    place: &Path,
    state: &State,
    host_binary: &Path,
) -> error::Result<Result<Arc<Plugin>, Refused>> {
    let found = file::examine(file, &file::look(file), state, host_binary)?;
    Ok(found.map(|plugin| {
        let mut plugin = Plugin::clone(&plugin);
        plugin.name = file::plugin_name(place);
        Arc::new(plugin)
    }))
}
