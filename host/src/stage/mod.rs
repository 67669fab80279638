//! A pipeline's stages as the runtime drives them, wherever the plugin's code runs.
//!
//! Stages are synchronous and may block; everything here that calls one runs on a blocking thread. Which stage is
//! called when is decided in [`runtime`](crate::runtime).

pub mod context;
pub mod extract;
pub mod load;
pub mod transform;

use std::sync::Arc;

use etl_plugin_api::abi::ForeignPipeline;
use etl_plugin_api::{Context, Extractor, Loader, Manifest, Partition, Problem, Transformer};

use crate::error::{Error, ErrorKind, Result};
use crate::plugin::{Plugin, load as plugin_load};

/// Makes the stages of one pipeline, new ones for each attempt.
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
}

/// Stages inside this process.
struct InProcess {
    pipeline: ForeignPipeline,
    settings: String,
}

/// Loads a plugin into this process and gives one of its pipelines.
pub fn open_in_process(
    plugin: &Plugin,
    manifest: &Manifest,
    settings: &serde_json::Value,
) -> Result<Arc<dyn Stages>> {
    let handle = plugin_load::load(&plugin.copy).map_err(|refused| {
        Error::new(
            ErrorKind::Plugin,
            format!("plugin {}: {}", plugin.name, refused.reason),
        )
        .hint(refused.fix)
    })?;
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
    Ok(Arc::new(InProcess {
        pipeline: handle.pipeline(index)?,
        settings: settings.to_string(),
    }))
}

impl Stages for InProcess {
    fn validate(&self) -> Result<Vec<Problem>> {
        self.pipeline
            .validate(&self.settings)
            .map_err(|error| stage_error("validate the settings", error))
    }

    fn partitions(&self, cx: &dyn Context) -> Result<Option<Vec<Partition>>> {
        self.pipeline
            .partitions(&self.settings, cx)
            .map_err(|error| stage_error("name the partitions", error))
    }

    fn extractor(&self) -> Result<Option<Box<dyn Extractor>>> {
        self.pipeline
            .extractor(&self.settings)
            .map_err(|error| stage_error("make the extractor", error))
    }

    fn transformer(&self) -> Result<Option<Box<dyn Transformer>>> {
        self.pipeline
            .transformer(&self.settings)
            .map_err(|error| stage_error("make the transformer", error))
    }

    fn loader(&self) -> Result<Option<Box<dyn Loader>>> {
        self.pipeline
            .loader(&self.settings)
            .map_err(|error| stage_error("make the loader", error))
    }
}

/// Runs a stage's call on a blocking thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Turns a stage's error into the host's, and keeps a panic's backtrace in the log.
pub fn stage_error(stage: &str, error: etl_plugin_api::StageError) -> Error {
    if let Some(backtrace) = error.backtrace() {
        tracing::debug!(stage, backtrace, "the plugin panicked");
    }
    Error::from(error).while_trying(stage)
}
