//! Stages inside this process: a call is a call. What a plugin breaks here is broken for the host.

use std::sync::Arc;

use etl_plugin_api::abi::ForeignPipeline;
use etl_plugin_api::{Context, Extractor, Loader, Partition, Problem, Transformer};

use super::{Stages, stage_error};
use crate::error::{Error, ErrorKind, Result};
use crate::plugin::{Plugin, load};
use crate::process::Usage;
use crate::worker::Measure;

/// A plugin's pipeline, loaded into the host.
#[derive(Clone)]
pub struct InProcess {
    pipeline: Arc<ForeignPipeline>,
    settings: Arc<str>,
}

impl InProcess {
    /// Loads the plugin into this process, if it is not.
    pub fn open(plugin: &Plugin, index: u32, settings: &serde_json::Value) -> Result<Self> {
        let handle = load::load_into_host(&plugin.copy).map_err(|refused| {
            Error::new(
                ErrorKind::Plugin,
                format!("plugin {}: {}", plugin.name, refused.reason),
            )
            .hint(refused.fix)
        })?;
        Ok(Self {
            pipeline: Arc::new(handle.pipeline(index)?),
            settings: settings.to_string().into(),
        })
    }
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

    fn for_attempt(&self, _partition: &str) -> Arc<dyn Stages> {
        Arc::new(self.clone())
    }

    fn rest(&self) {}

    fn end(&self) {
        // Code of this process cannot be stopped; a stage that looks at `cancelled` stops by itself.
    }

    fn settle(&self, _partition: &str) {}

    fn usage(&self) -> Option<Usage> {
        None
    }

    fn measures(&self) -> Result<Option<Vec<Measure>>> {
        Ok(None)
    }
}
