//! A shard that is read as ranges: what its partitions are, and what may not be.

use super::{PartitionPlan, Query, RunOptions, StageFacts};
use crate::config::{Config, SourceConnector, Split};
use crate::source::ranges::{Dialect, RangeStatements};

/// Which range of its shard a partition reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangePlace {
    /// Its number, counted from 0.
    pub number: usize,
}

/// The only partition of an extractor that reads from no shard and names none.
const WHOLE: &str = "all";

/// The partitions of the shards, in the order of the configuration.
pub fn partitions_of_shards(config: &Config) -> Vec<PartitionPlan> {
    if let SourceConnector::None = config.source.connector {
        return vec![PartitionPlan {
            index: 0,
            name: WHOLE.to_owned(),
            shard: None,
            range: None,
        }];
    }
    let mut all: Vec<PartitionPlan> = Vec::new();
    for shard in config.source.connector.shard_names() {
        let ranges = match &config.source.split {
            None => vec![(shard.to_owned(), None)],
            Some(split) => {
                let names = split.partitions(shard).into_iter();
                names
                    .enumerate()
                    .map(|(number, name)| (name, Some(RangePlace { number })))
                    .collect()
            }
        };
        for (name, range) in ranges {
            all.push(PartitionPlan {
                index: all.len(),
                name,
                shard: Some(shard.to_owned()),
                range,
            });
        }
    }
    all
}

/// The statements of the ranges; `None` where shards are read as a whole.
pub fn build_statements(
    config: &Config,
    facts: &StageFacts,
    query: Option<&Query>,
    problems: &mut Vec<String>,
) -> Option<RangeStatements> {
    let split = config.source.split.as_ref()?;
    if facts.extractor || facts.partitions.is_some() {
        problems.push(
            "`source.split_by` splits what the host reads, but the pipeline has an extractor or partitions of its own: \
             remove `split_by` and `splits`"
                .to_owned(),
        );
        return None;
    }
    let query = query?;
    let order: Vec<&str> = config
        .cursor
        .iter()
        .flat_map(|cursor| std::iter::once(&cursor.column).chain(&cursor.id))
        .map(String::as_str)
        .filter(|_| query.ordered)
        .collect();
    let dialect = Dialect::from(&config.source.connector);
    dialect
        .restrict(&query.sql, &split.column, &order)
        .map_err(|reason| {
            problems.push(format!(
                "`source.query` cannot be restricted to ranges of `{}`: {reason}; write it as one SELECT, or remove \
                 `split_by` and `splits`",
                split.column
            ));
        })
        .ok()
}

/// The names that `--partition` asks for: a shard's stands for all its ranges.
pub fn expand(config: &Config, options: &mut RunOptions) {
    let Some(split) = &config.source.split else {
        return;
    };
    let shards = config.source.connector.shard_names();
    options.partitions = std::mem::take(&mut options.partitions)
        .into_iter()
        .flat_map(|name| {
            if shards.contains(&name.as_str()) {
                Split::partitions(split, &name)
            } else {
                vec![name]
            }
        })
        .collect();
}
