//! Counts logins and users per day, country and device.
//!
//! An aggregating pipeline: [`Rollup`] gives a day's rows when the next day begins, so it remembers one day, however many it
//! reads. Which days are over, and that each is read as a whole, is the configuration's business: its cursor is the day.

mod days;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use etl_plugin_api::arrow::array::types::Int64Type;
use etl_plugin_api::arrow::array::{ArrayRef, Date32Array, Int64Array, StringArray};
use etl_plugin_api::columns::{self, Expected, texts};
use etl_plugin_api::prelude::*;

use crate::days::days;

/// The country where none is known: a key must not be NULL.
const UNKNOWN: &str = "unknown";

/// The pipeline.
#[derive(Debug, Clone, Copy, Default)]
pub struct DailyRollup;

etl_plugin_api::export_pipelines!(DailyRollup);

impl Pipeline for DailyRollup {
    type Settings = NoSettings;

    fn manifest(&self) -> Manifest {
        Manifest::new("daily-rollup", env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .default_config(include_str!("../config.yaml"))
            .cardinality(Cardinality::Aggregate)
    }

    fn transformer(&self, _: &NoSettings) -> Result<Option<Box<dyn Transformer>>> {
        Ok(Some(Box::new(Rollup::default())))
    }
}

/// The transformer.
#[derive(Debug, Default)]
pub struct Rollup {
    /// The day that is being read.
    day: Option<i32>,
    /// What is counted of it, by country and device.
    groups: BTreeMap<(String, String), Group>,
}

#[derive(Debug, Default)]
struct Group {
    logins: i64,
    users: HashSet<i64>,
}

/// A finished row: day, country, device, logins, users.
type Row = (i32, String, String, i64, i64);

impl Transformer for Rollup {
    fn open(&mut self, _: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
        // As `SQLite` and as servers have it.
        let day = match input.field_with_name("day").map(Field::data_type) {
            Ok(DataType::Date32) => Expected::Type(DataType::Date32),
            _ => Expected::Text,
        };
        let needed = [
            ("day", day),
            ("user_id", Expected::Type(DataType::Int64)),
            ("country_code", Expected::Text),
            ("device", Expected::Text),
        ];
        columns::require(input, &needed)?;
        Ok(vec![TableSchema::configured(schema())])
    }

    fn transform(&mut self, _: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        let users = columns::values::<Int64Type>(&input, "user_id")?;
        let countries = texts(&input, "country_code")?;
        let devices = texts(&input, "device")?;
        let mut finished = Vec::new();
        for (((day, user), country), device) in days(&input)?.zip(users).zip(countries).zip(devices)
        {
            self.turn_to(day?, &mut finished)?;
            let or_unknown = |known: Option<&str>| known.unwrap_or(UNKNOWN).to_owned();
            let group = (or_unknown(country), or_unknown(device));
            let group = self.groups.entry(group).or_default();
            group.logins += 1;
            // A login of nobody counts, but not as a user.
            group.users.extend(user);
        }
        transformed(&finished)
    }

    fn finish(&mut self, _: &dyn Context) -> Result<Transformed> {
        let mut finished = Vec::new();
        self.close_day(&mut finished);
        transformed(&finished)
    }
}

impl Rollup {
    /// Goes on with a day. A day that came before would get new rows in the place of those that are counted.
    fn turn_to(&mut self, day: i32, finished: &mut Vec<Row>) -> Result<()> {
        if self.day.is_some_and(|before| day < before) {
            return Err(StageError::config(
                "the days do not come in order; end source.query in ORDER BY day",
            ));
        }
        if self.day != Some(day) {
            self.close_day(finished);
            self.day = Some(day);
        }
        Ok(())
    }

    fn close_day(&mut self, finished: &mut Vec<Row>) {
        let Some(day) = self.day.take() else { return };
        for ((country, device), group) in std::mem::take(&mut self.groups) {
            let users = i64::try_from(group.users.len()).unwrap_or(i64::MAX);
            finished.push((day, country, device, group.logins, users));
        }
    }
}

fn transformed(rows: &[Row]) -> Result<Transformed> {
    if rows.is_empty() {
        return Ok(Transformed::default());
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.2))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.3))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.4))),
    ];
    let output = Output {
        table: 0,
        batch: RecordBatch::try_new(schema(), columns)?,
        origin: Origin::Aggregated,
    };
    Ok(Transformed {
        outputs: vec![output],
        ..Transformed::default()
    })
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("day", DataType::Date32, false),
        Field::new("country", DataType::Utf8, false),
        Field::new("device", DataType::Utf8, false),
        Field::new("logins", DataType::Int64, false),
        Field::new("users", DataType::Int64, false),
    ]))
}
