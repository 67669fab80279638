//! Adds location and device to user logins.
//!
//! Keeps every column it reads and adds `country_code`, `location`, `region`, `city` (see [`location`]), `device`, `os`,
//! `browser` (see [`device`]) and `source_shard`. What it reads and where the rows go is the configuration's business.

pub mod device;
pub mod distinct;
pub mod location;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use etl_plugin_api::arrow::array::cast::AsArray;
use etl_plugin_api::arrow::array::{Array, ArrayRef};
use etl_plugin_api::prelude::*;

use crate::device::Devices;
use crate::distinct::Distinct;
use crate::location::Locator;

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
        let empty = settings
            .geoip_database
            .iter()
            .filter(|path| path.as_os_str().is_empty());
        empty
            .map(|_| {
                Problem::new(
                    "geoip_database",
                    "expected a path; leave the key out to use the built-in table",
                )
            })
            .collect()
    }

    fn transformer(&self, settings: &Settings) -> Result<Option<Box<dyn Transformer>>> {
        let locator = match &settings.geoip_database {
            Some(path) => {
                Locator::open(path).map_err(|error| StageError::config(error.to_string()))?
            }
            None => Locator::embedded(),
        };
        let devices = Devices::new().map_err(|error| StageError::fatal(error.to_string()))?;
        Ok(Some(Box::new(Enrich { locator, devices })))
    }
}

struct Enrich {
    locator: Locator,
    devices: Devices,
}

impl Transformer for Enrich {
    fn open(&mut self, _: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
        for name in [ADDRESS, USER_AGENT] {
            let field = input.field_with_name(name).map_err(|_| {
                StageError::config(format!(
                    "the query returns no column {name}; add it to source.query"
                ))
            })?;
            if !is_text(field.data_type()) {
                let found = field.data_type();
                return Err(StageError::config(format!(
                    "the column {name} is {found}; cast it to text in source.query"
                )));
            }
        }
        if let Some((name, _)) = ADDED
            .iter()
            .find(|(name, _)| input.field_with_name(name).is_ok())
        {
            return Err(StageError::config(format!(
                "the query returns a column {name}, which this pipeline adds; rename it in source.query"
            )));
        }
        Ok(vec![TableSchema::configured(output_schema(input))])
    }

    fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        let mut columns = input.columns().to_vec();
        columns.extend(self.locations(texts(&input, ADDRESS)?)?);
        columns.extend(self.devices(texts(&input, USER_AGENT)?)?);
        let shard = Distinct::one(cx.partition(), input.num_rows());
        columns.push(shard.column(shard.values.iter().map(Some))?);
        let batch = RecordBatch::try_new(output_schema(&input.schema()), columns)?;
        Ok(Transformed::same_rows(batch))
    }
}

impl Enrich {
    fn locations(&self, addresses: Texts<'_>) -> Result<[ArrayRef; 4]> {
        let found = Distinct::of(addresses.map(|address| self.locator.locate(address)))
            .map_err(|error| StageError::fatal(error.to_string()))?;
        let each = || found.values.iter();
        Ok([
            found.column(each().map(|place| place.country_code))?,
            found.column(each().map(|place| Some(place.to_string())))?,
            found.column(each().map(|place| place.region))?,
            found.column(each().map(|place| place.city))?,
        ])
    }

    fn devices(&mut self, user_agents: Texts<'_>) -> Result<[ArrayRef; 3]> {
        let found = Distinct::of(user_agents.map(Ok::<_, StageError>))?;
        let recognised = found
            .values
            .iter()
            .map(|text| self.devices.recognise(*text));
        let devices: Vec<_> = recognised.collect();
        let each = || devices.iter();
        Ok([
            found.column(each().map(|device| Some(device.class.as_str())))?,
            found.column(each().map(|device| device.os.as_deref()))?,
            found.column(each().map(|device| device.browser.as_deref()))?,
        ])
    }
}

type Texts<'a> = Box<dyn Iterator<Item = Option<&'a str>> + 'a>;

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<Texts<'a>> {
    let column = batch
        .column_by_name(name)
        .ok_or_else(|| StageError::fatal(format!("a batch has no column {name}")))?;
    Ok(match column.data_type() {
        DataType::Utf8 => Box::new(column.as_string::<i32>().iter()),
        DataType::LargeUtf8 => Box::new(column.as_string::<i64>().iter()),
        DataType::Utf8View => Box::new(column.as_string_view().iter()),
        // A column of nothing but NULLs.
        DataType::Null => Box::new(std::iter::repeat_n(None, column.len())),
        other => {
            return Err(StageError::fatal(format!(
                "a batch has column {name} as {other}"
            )));
        }
    })
}

fn is_text(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null
    )
}

fn output_schema(input: &Schema) -> SchemaRef {
    let added =
        ADDED.map(|(name, nullable)| Arc::new(Field::new(name, distinct::column_type(), nullable)));
    let fields: Vec<_> = input.fields().iter().cloned().chain(added).collect();
    Arc::new(Schema::new(fields))
}
