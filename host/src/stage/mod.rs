//! A pipeline's stages as the runtime drives them, wherever the plugin's code runs.
//!
//! Stages are synchronous and may block; everything here that calls one runs on a blocking thread. Which stage is
//! called when is decided in [`runtime`](crate::runtime).

pub mod context;
pub mod extract;
mod in_process;
mod in_worker;
pub mod load;
pub mod transform;

use std::path::Path;
use std::sync::Arc;

use etl_plugin_api::{Context, Extractor, Loader, Manifest, Partition, Problem, Transformer};

use self::in_process::InProcess;
use self::in_worker::InWorker;
use crate::capabilities::Granted;
use crate::config::{Config, Isolation};
use crate::error::{Error, Result};
use crate::plugin::Plugin;
use crate::process::Usage;
use crate::task;
use crate::worker::Measure;

/// A pipeline's code, wherever it runs. Makes stages, new ones for each attempt.
pub trait Stages: Send + Sync {
    /// Every mistake in the settings.
    fn validate(&self) -> Result<Vec<Problem>>;
    /// The pipeline's own partitions; `None` for one per shard.
    fn partitions(&self, cx: &dyn Context) -> Result<Option<Vec<Partition>>>;
    /// A new extractor; `None` for the host's own.
    fn extractor(&self) -> Result<Option<Box<dyn Extractor>>>;
    /// A new transformer; `None` to load rows as they were read.
    fn transformer(&self) -> Result<Option<Box<dyn Transformer>>>;
    /// A new loader; `None` for the configured sink.
    fn loader(&self) -> Result<Option<Box<dyn Loader>>>;
    /// The same for one attempt of a partition, which shares nothing with others that can be kept apart.
    fn for_attempt(&self, partition: &str) -> Arc<dyn Stages>;
    /// Nothing is wanted of it for a while: what was started for it ends in its own time.
    fn rest(&self);
    /// Nothing more is wanted of it: what still works for it is stopped, if it does not end soon by itself.
    fn end(&self);
    /// Waits until nothing works any more for attempts of the partition that have ended. Blocks for some seconds at most.
    fn settle(&self, partition: &str);
    /// What the process uses in which the code runs, if that is not the host.
    fn usage(&self) -> Option<Usage>;
    /// What holds the code, if it does not run in the host.
    fn measures(&self) -> Result<Option<Vec<Measure>>>;
}

/// The stages of one attempt. Whatever still works for it when this is dropped is stopped.
pub struct AttemptStages(Arc<dyn Stages>);

impl AttemptStages {
    /// For one attempt of a partition.
    pub fn new(stages: &Arc<dyn Stages>, partition: &str) -> Self {
        Self(stages.for_attempt(partition))
    }

    /// No stage of the attempt is being called any more.
    pub fn rest(&self) {
        self.0.rest();
    }

    /// For whoever makes a stage on a thread of its own.
    pub fn share(&self) -> Arc<dyn Stages> {
        self.0.clone()
    }
}

impl Drop for AttemptStages {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Opens one pipeline of a plugin where its configuration wants it to run. `host_binary` is the host's own program.
pub fn open(
    plugin: &Plugin,
    manifest: &Manifest,
    config: &Config,
    granted: &Granted,
    host_binary: &Path,
) -> Result<Arc<dyn Stages>> {
    let index = plugin
        .pipelines
        .iter()
        .position(|known| known.name == manifest.name)
        .and_then(|index| u32::try_from(index).ok())
        .ok_or_else(|| {
            Error::internal(format!(
                "plugin {} lost pipeline {}",
                plugin.name, manifest.name
            ))
        })?;
    Ok(match config.isolation {
        Isolation::InProcess => Arc::new(InProcess::open(plugin, index, &config.settings)?),
        Isolation::Process => Arc::new(InWorker::new(plugin, index, config, granted, host_binary)),
    })
}

/// Runs a stage's call on a blocking thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    task::spawn_blocking(work).await?
}

/// Turns a stage's error into the host's, and keeps a panic's backtrace in the log.
pub fn stage_error(stage: &str, error: etl_plugin_api::StageError) -> Error {
    if let Some(backtrace) = error.backtrace() {
        tracing::debug!(stage, backtrace, "the plugin panicked");
    }
    Error::from(error).while_trying(stage)
}
