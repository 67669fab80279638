//! Rows of the pipeline's output that lie in quarantine: they may be missing in the sink.
//!
//! Only those of stage `load` matter. What source or transformer refuse is refused again when the rows are read for the
//! comparison, and is on neither side.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use etl_plugin_api::Value;

use super::holding::Holding;
use crate::config::{Config, SinkConnector, TableName};
use crate::error::{Error, Result};

/// The dead letters of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct Letters {
    /// How many there are by table and partition.
    counts: HashMap<(String, String), u64>,
}

impl Letters {
    /// Counts what the sink has of a pipeline.
    pub async fn load(holding: &Holding, config: &Config) -> Result<Self> {
        let (table, place) = match config.sink.connector {
            SinkConnector::Postgres(_) => (
                TableName {
                    schema: Some("etl_host".to_owned()),
                    name: "dead_letters".to_owned(),
                },
                "etl_host.dead_letters",
            ),
            SinkConnector::Sqlite { .. } => (
                TableName {
                    schema: None,
                    name: "etl_host_dead_letters".to_owned(),
                },
                "etl_host_dead_letters",
            ),
        };
        let mut letters = Self::default();
        if holding.columns(&table).await?.is_empty() {
            return Ok(letters);
        }
        let sql = format!(
            "SELECT target, partition, count(*) FROM {place} WHERE pipeline = @pipeline AND stage = 'load' \
             AND target IS NOT NULL GROUP BY target, partition"
        );
        let pipeline = ("pipeline".to_owned(), Value::Text(config.name.clone()));
        let mut rows = holding
            .read(&sql, vec![pipeline])
            .await
            .map_err(|error| error.while_trying("count the dead letters"))?;
        while let Some((batch, _)) = rows.next().await? {
            let [targets, partitions, counts] = batch.columns() else {
                return Err(Error::internal(
                    "dead letters have other columns than expected",
                ));
            };
            let (Some(targets), Some(partitions), Some(counts)) = (
                targets.as_string_opt::<i32>(),
                partitions.as_string_opt::<i32>(),
                counts.as_primitive_opt::<Int64Type>(),
            ) else {
                return Err(Error::internal(
                    "dead letters have other types than expected",
                ));
            };
            for ((target, partition), count) in targets.iter().zip(partitions).zip(counts) {
                let key = (
                    target.unwrap_or_default().to_owned(),
                    partition.unwrap_or_default().to_owned(),
                );
                letters
                    .counts
                    .insert(key, count.unwrap_or_default().unsigned_abs());
            }
        }
        Ok(letters)
    }

    /// How many there are of a table's rows, of one partition or of all.
    pub fn count(&self, table: &str, partition: Option<&str>) -> u64 {
        let of_table = self
            .counts
            .iter()
            .filter(|((target, _), _)| target == table);
        of_table
            .filter(|((_, known), _)| partition.is_none_or(|partition| partition == known))
            .map(|(_, count)| count)
            .sum()
    }
}
