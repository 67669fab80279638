//! Adds location and device to user logins.
//!
//! Keeps every column it reads and adds `country_code`, `location`, `region`, `city` (see [`enrich::location`]), `device`,
//! `os`, `browser` (see [`enrich::device`]) and `source_shard`. What it reads and where the rows go is the
//! configuration's business.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use enrich::device::Devices;
use enrich::location::Locator;
use etl_plugin_api::arrow::array::ArrayRef;
use etl_plugin_api::columns::{self, Expected, texts};
use etl_plugin_api::prelude::*;

const ADDRESS: &str = "ip_address";
const USER_AGENT: &str = "user_agent";
/// The columns added, and whether they may be NULL.
const ADDED: [(&str, bool); 8] = [
    ("country_code", true),
    ("location", false),
    ("region", true),
    ("city", true),
    ("device", false),
    ("os", true),
    ("browser", true),
    ("source_shard", false),
];

/// The pipeline.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoginAnalytics;

etl_plugin_api::export_pipelines!(LoginAnalytics);

/// `settings:` of the configuration.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// An MMDB file (layout of `GeoLite2`, DB-IP, ip-location-db or `IPinfo`) to take locations from. Without it the country
    /// is the one to which the address block was allocated. The operator grants it under `capabilities.paths`.
    pub geoip_database: Option<PathBuf>,
}

impl Pipeline for LoginAnalytics {
    type Settings = Settings;

    fn manifest(&self) -> Manifest {
        Manifest::new("login-analytics", env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .default_config(include_str!("../config.yaml"))
            .capabilities(Capabilities::none().path("settings.geoip_database"))
            .stateless()
    }

    fn validate(&self, settings: &Settings) -> Vec<Problem> {
        let empty = |path: &PathBuf| path.as_os_str().is_empty();
        let advice = "expected a path; leave the key out to use the built-in table";
        Vec::from_iter(
            settings
                .geoip_database
                .as_ref()
                .filter(|path| empty(path))
                .map(|_| Problem::new("geoip_database", advice)),
        )
    }

    fn transformer(&self, settings: &Settings) -> Result<Option<Box<dyn Transformer>>> {
        let locator = match &settings.geoip_database {
            Some(path) => {
                Locator::open(path).map_err(|error| StageError::config(error.to_string()))?
            }
            None => Locator::embedded(),
        };
        let mut devices = Devices::new().map_err(|error| StageError::fatal(error.to_string()))?;
        Ok(Some(Box::new(columns::add(
            [(ADDRESS, Expected::Text), (USER_AGENT, Expected::Text)],
            ADDED.map(|(name, nullable)| Distinct::field(name, nullable)),
            move |cx, logins| {
                let mut columns = locations(&locator, logins)?.to_vec();
                columns.extend(devices_of(&mut devices, logins)?);
                let shard = Distinct::one(cx.partition(), logins.num_rows());
                columns.push(shard.column(|name| Some(*name))?);
                Ok(columns)
            },
        ))))
    }
}

fn locations(locator: &Locator, logins: &RecordBatch) -> Result<[ArrayRef; 4]> {
    let places = Distinct::try_of(texts(logins, ADDRESS)?.map(|address| locator.locate(address)))
        .map_err(|error| StageError::fatal(error.to_string()))?;
    Ok([
        places.column(|place| place.country_code)?,
        places.column(|place| Some(place.to_string()))?,
        places.column(|place| place.region)?,
        places.column(|place| place.city)?,
    ])
}

fn devices_of(known: &mut Devices, logins: &RecordBatch) -> Result<[ArrayRef; 3]> {
    let devices = Distinct::of(texts(logins, USER_AGENT)?).map(|text| known.recognise(*text));
    Ok([
        devices.column(|device| Some(device.class.as_str()))?,
        devices.column(|device| device.os.as_deref())?,
        devices.column(|device| device.browser.as_deref())?,
    ])
}
