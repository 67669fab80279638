//! What a worker process may use, and what the operator lets a plugin reach.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::super::duration::DisplayDuration;
use super::super::secret::Secret;

/// What one worker process may use. Nothing of it holds for a plugin inside the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of memory for data.
    pub memory: usize,
    /// CPU time of one worker, which is one attempt of one partition; `None` for any.
    #[serde(serialize_with = "duration_or_none")]
    pub cpu_time: Option<Duration>,
    /// Longest single call of the plugin, without the time that it waits for the host's services.
    #[serde(serialize_with = "super::super::duration::serialize")]
    pub call_timeout: Duration,
    /// Files, sockets and the like that are open at a time.
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            cpu_time: None,
            call_timeout: Duration::from_mins(10),
            open_files: 256,
        }
    }
}

/// What the operator lets a plugin reach beyond its batches. It gets what its manifest asks for among this.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Grants {
    /// Network hosts, `name:port`.
    pub hosts: Vec<String>,
    /// Files and folders; relative paths start at the working directory.
    pub paths: Vec<PathBuf>,
    /// Folders in which files are made, written and removed; relative as above.
    pub writable: Vec<PathBuf>,
    /// Values by the names under which the plugin asks for them.
    pub secrets: BTreeMap<String, Secret>,
}

#[expect(
    clippy::ref_option,
    reason = "serde hands over a reference to the field"
)]
fn duration_or_none<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.collect_str(&DisplayDuration(*duration)),
        None => serializer.serialize_str("none"),
    }
}
