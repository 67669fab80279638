//! What was counted: rows and the sum of their checksums, by partition and range.
//!
//! The sum does not depend on the order of the rows, and rows can be taken out of it again. One tally per range is all
//! that is kept, however many rows there are.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Most ranges of a comparison, so that it stays small.
const MOST_RANGES: usize = 1_000_000;

/// A row's checksum.
pub type Checksum = u128;

/// The checksum of a row's bytes.
pub fn checksum(bytes: &[u8]) -> Checksum {
    let digest = Sha256::digest(bytes);
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(digest.iter()) {
        *to = *from;
    }
    u128::from_le_bytes(half)
}

/// Rows of one range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub rows: u64,
    /// Their checksums, added up modulo 2^128.
    pub sum: Checksum,
}

impl Tally {
    fn add(&mut self, rows: u64, sum: Checksum) {
        self.rows += rows;
        self.sum = self.sum.wrapping_add(sum);
    }

    /// Takes the same row out so many times.
    pub fn take_out(&mut self, rows: u64, checksum: Checksum) {
        self.rows = self.rows.saturating_sub(rows);
        self.sum = self
            .sum
            .wrapping_sub(checksum.wrapping_mul(u128::from(rows)));
    }
}

/// Where a row is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    /// The partition's number in [`Tallies::partitions`].
    pub partition: u32,
    /// Its range.
    pub range: Place,
}

/// A row's place among the ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// In a window.
    Window(i64),
    /// There are no windows, or the row has no position.
    Anywhere,
    /// Behind the checkpoint, where nothing should be.
    Beyond,
    /// Its key comes from several partitions with different values.
    Contested,
}

/// All that was counted of one table on one side.
#[derive(Clone, Debug, Default)]
pub struct Tallies {
    partitions: Vec<Option<String>>,
    numbers: HashMap<String, u32>,
    cells: HashMap<Cell, Tally>,
}

impl Tallies {
    /// The number of a partition; `None` stands for all together.
    pub fn partition(&mut self, name: Option<&str>) -> u32 {
        let known = match name {
            Some(name) => self.numbers.get(name).copied(),
            None => self.position_of_all(),
        };
        known.unwrap_or_else(|| {
            let number = u32::try_from(self.partitions.len()).unwrap_or(u32::MAX);
            self.partitions.push(name.map(str::to_owned));
            if let Some(name) = name {
                self.numbers.insert(name.to_owned(), number);
            }
            number
        })
    }

    fn position_of_all(&self) -> Option<u32> {
        let place = self.partitions.iter().position(Option::is_none)?;
        u32::try_from(place).ok()
    }

    /// The name of a partition.
    pub fn name(&self, partition: u32) -> Option<&str> {
        let name = self.partitions.get(partition as usize)?;
        name.as_deref()
    }

    /// Counts a row.
    pub fn add(&mut self, cell: Cell, checksum: Checksum) -> Result<()> {
        self.add_all(
            cell,
            Tally {
                rows: 1,
                sum: checksum,
            },
        )
    }

    fn add_all(&mut self, cell: Cell, tally: Tally) -> Result<()> {
        if self.cells.len() >= MOST_RANGES && !self.cells.contains_key(&cell) {
            return Err(Error::config(format!(
                "there are more than {MOST_RANGES} ranges with rows"
            ))
            .hint("give a longer --window"));
        }
        self.cells
            .entry(cell)
            .or_default()
            .add(tally.rows, tally.sum);
        Ok(())
    }

    /// Takes rows out that were counted.
    pub fn take_out(&mut self, cell: Cell, rows: u64, checksum: Checksum) {
        self.cells.entry(cell).or_default().take_out(rows, checksum);
    }

    /// Adds what was counted elsewhere, whose partitions may have other numbers.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        for (cell, tally) in &other.cells {
            let partition = self.partition(other.name(cell.partition));
            self.add_all(Cell { partition, ..*cell }, *tally)?;
        }
        Ok(())
    }

    /// Every cell with rows, and what it holds.
    pub fn cells(&self) -> impl Iterator<Item = (Cell, Tally)> {
        self.cells.iter().map(|(cell, tally)| (*cell, *tally))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rows_does_not_matter_and_their_number_does() {
        let cell = |tallies: &mut Tallies, name| Cell {
            partition: tallies.partition(Some(name)),
            range: Place::Window(0),
        };
        let counted = |rows: &[&[u8]]| {
            let mut tallies = Tallies::default();
            let cell = cell(&mut tallies, "eu");
            for row in rows {
                tallies.add(cell, checksum(row)).unwrap();
            }
            tallies.cells().next().unwrap().1
        };
        let all = counted(&[b"a", b"b", b"b"]);
        assert_eq!(all, counted(&[b"b", b"a", b"b"]));
        assert_ne!(all, counted(&[b"a", b"a", b"b"]));
        assert_ne!(all.sum, counted(&[b"a", b"b"]).sum);
        let mut fewer = all;
        fewer.take_out(2, checksum(b"b"));
        assert_eq!(fewer, counted(&[b"a"]));
    }

    #[test]
    fn partitions_are_told_apart_by_name() {
        let mut one = Tallies::default();
        let mut other = Tallies::default();
        assert_eq!((one.partition(None), one.partition(Some("eu"))), (0, 1));
        let cell = Cell {
            partition: other.partition(Some("eu")),
            range: Place::Anywhere,
        };
        other.add(cell, 7).unwrap();
        one.merge(&other).unwrap();
        let (cell, tally) = one.cells().next().unwrap();
        assert_eq!((one.name(cell.partition), tally.rows), (Some("eu"), 1));
        assert_eq!(one.partition(None), 0);
    }
}
