//! Shards that are read as ranges of a column, each a partition.

use serde::Serialize;

use super::Source;

/// Into which ranges each shard is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Split {
    /// A column of whole numbers that the query returns.
    #[serde(rename = "split_by")]
    pub column: String,
    /// How many ranges.
    #[serde(rename = "splits")]
    pub ranges: u32,
}

impl Split {
    /// The names of a shard's partitions, in the order of their ranges.
    pub fn partitions(&self, shard: &str) -> Vec<String> {
        (1..=self.ranges)
            .map(|number| format!("{shard}/{number}"))
            .collect()
    }

    /// Whether a partition of this name is, or was, a range of a shard.
    pub fn is_range_of(shard: &str, partition: &str) -> bool {
        let number = partition
            .strip_prefix(shard)
            .and_then(|rest| rest.strip_prefix('/'));
        number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    }
}

impl Source {
    /// The names of the partitions, unless the pipeline says which it has: a shard each, or a range of one.
    pub fn partition_names(&self) -> Vec<String> {
        let shards = self.connector.shard_names().into_iter();
        match &self.split {
            None => shards.map(str::to_owned).collect(),
            Some(split) => shards.flat_map(|shard| split.partitions(shard)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_numbered_behind_the_shards_name() {
        let split = Split {
            column: "id".into(),
            ranges: 2,
        };
        assert_eq!(split.partitions("eu"), ["eu/1", "eu/2"]);
        for (partition, expected) in [
            ("eu/1", true),
            ("eu/12", true),
            ("eu", false),
            ("eu/", false),
            ("eu/a", false),
            ("eu/1/1", false),
            ("us/1", false),
        ] {
            assert_eq!(Split::is_range_of("eu", partition), expected, "{partition}");
        }
    }
}
