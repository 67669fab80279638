//! Loads the access logs of Apache and nginx: the one that the server writes now, and the rotated ones beside it.
//!
//! [`extract`] reads lines, each once whatever the rotation does; [`mod@rows`] makes columns of them. Where the rows go is the
//! configuration's business.

pub mod extract;
pub mod folder;
pub mod line;
pub mod lines;
pub mod position;
pub mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use enrich::device::Devices;
use enrich::location::Locator;
use etl_plugin_api::prelude::*;

use crate::extract::LogReader;
use crate::rows::ParseLines;

/// The pipeline.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessLog;

etl_plugin_api::export_pipelines!(AccessLog);

/// `settings:` of the configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The folder in which the logs lie. The operator grants it under `capabilities.paths`.
    pub folder: PathBuf,
    /// The logs: a name for each, and the file that the server writes now. Its rotated files lie beside it.
    pub logs: BTreeMap<String, String>,
    /// Whether what follows the user agent is passed over, as in formats of one's own that begin with the combined one.
    pub ignore_further_fields: bool,
    /// An MMDB file to take locations from. Without it the country is the one to which the address block was allocated. The
    /// operator grants it under `capabilities.paths`.
    pub geoip_database: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            folder: "/var/log/nginx".into(),
            logs: BTreeMap::from([("access".to_owned(), "access.log".to_owned())]),
            ignore_further_fields: false,
            geoip_database: None,
        }
    }
}

impl Pipeline for AccessLog {
    type Settings = Settings;

    fn manifest(&self) -> Manifest {
        Manifest::new("access-log", env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .default_config(include_str!("../config.yaml"))
            .capabilities(
                Capabilities::none()
                    .path("settings.folder")
                    .path("settings.geoip_database"),
            )
            .stateless()
    }

    fn validate(&self, settings: &Settings) -> Vec<Problem> {
        let mut problems = Vec::new();
        if settings.logs.is_empty() {
            problems.push(Problem::new(
                "logs",
                "name at least one log: { shop: \"access.log\" }",
            ));
        }
        for (name, file) in &settings.logs {
            if file.is_empty() || file.contains('/') {
                problems.push(Problem::new(
                    format!("logs.{name}"),
                    "expected the name of a file in settings.folder, without a path",
                ));
            }
        }
        if settings.geoip_database.as_deref() == Some("".as_ref()) {
            problems.push(Problem::new(
                "geoip_database",
                "expected a path; leave the key out to use the built-in table",
            ));
        }
        problems
    }

    fn partitions(&self, settings: &Settings, _: &dyn Context) -> Result<Option<Vec<Partition>>> {
        Ok(Some(settings.logs.keys().map(Partition::new).collect()))
    }

    fn extractor(&self, settings: &Settings) -> Result<Option<Box<dyn Extractor>>> {
        Ok(Some(Box::new(LogReader::new(
            settings.folder.clone(),
            settings.logs.clone(),
        ))))
    }

    fn transformer(&self, settings: &Settings) -> Result<Option<Box<dyn Transformer>>> {
        let locator = match &settings.geoip_database {
            Some(path) => {
                Locator::open(path).map_err(|error| StageError::config(error.to_string()))?
            }
            None => Locator::embedded(),
        };
        let devices = Devices::new().map_err(|error| StageError::fatal(error.to_string()))?;
        Ok(Some(Box::new(ParseLines::new(
            locator,
            devices,
            settings.ignore_further_fields,
        ))))
    }
}
