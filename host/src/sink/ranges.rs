//! The bounds of a split shard, as a sink keeps them.

use crate::error::{Error, Result};

/// How a shard was cut into ranges, when that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRanges {
    /// The column.
    pub column: String,
    /// The bounds between the ranges, in ascending order: one less than there are ranges.
    pub bounds: Vec<i64>,
}

impl StoredRanges {
    /// How many ranges there are.
    pub fn count(&self) -> usize {
        self.bounds.len() + 1
    }

    /// The bounds as they are stored.
    pub fn text(&self) -> String {
        let bounds: Vec<String> = self.bounds.iter().map(i64::to_string).collect();
        bounds.join(",")
    }

    /// Reads what [`Self::text`] has written.
    pub fn parse(column: String, text: &str) -> Result<Self> {
        let bounds: Option<Vec<i64>> = text.split(',').map(|bound| bound.parse().ok()).collect();
        let bounds = bounds.filter(|bounds| bounds.is_sorted()).ok_or_else(|| {
            Error::data("the bounds of a split shard in the sink's table `ranges` are damaged")
                .hint("start the shard over with `etl-host checkpoint reset PIPELINE --partition SHARD`")
        })?;
        Ok(Self { column, bounds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_come_back_as_they_were() {
        let stored = StoredRanges {
            column: "id".into(),
            bounds: vec![i64::MIN, -1, 7, i64::MAX],
        };
        let read = StoredRanges::parse("id".into(), &stored.text()).unwrap();
        assert_eq!((read.count(), read), (5, stored));
        for damaged in ["", "1,", "2,1", "1,x"] {
            assert!(
                StoredRanges::parse("id".into(), damaged).is_err(),
                "{damaged}"
            );
        }
    }
}
