//! Rows of the pipeline's output that lie in quarantine: they may be missing in the sink.
//!
//! Only those of stage `load` matter. What source or transformer refuse is refused again when the rows are read for the
//! comparison, and is on neither side.

use std::collections::HashMap;

use super::table::ComparedTable;
use super::tally::{Cell, Checksum, Place, Tallies};
use crate::config::NulCharacters;
use crate::dead_letter::{Stage, decode};
use crate::error::Result;
use crate::sink::{LetterFilter, Sink};

/// Dead letters that are read at a time.
const PAGE: u32 = 1_000;

/// The dead letters of a pipeline that were not replayed.
#[derive(Clone, Debug, Default)]
pub struct Letters {
    /// How many there are of each row, by table and checksum.
    rows: HashMap<(usize, Checksum), u64>,
    /// How many there are by table and partition whose rows are not known: an older host has written them, or the
    /// pipeline's columns have changed since.
    unknown: HashMap<(String, String), u64>,
}

impl Letters {
    /// Reads what the sink has of a pipeline.
    pub async fn load(
        sink: &dyn Sink,
        pipeline: &str,
        tables: &[ComparedTable],
        nuls: NulCharacters,
    ) -> Result<Self> {
        let mut letters = Self::default();
        let mut filter = LetterFilter {
            stage: Some(Stage::Load.name().to_owned()),
            limit: PAGE,
            ..LetterFilter::default()
        };
        loop {
            let page = sink.load_dead_letters(pipeline, &filter).await?;
            let Some(last) = page.last() else {
                return Ok(letters);
            };
            filter.after = last.id;
            for letter in page {
                let Some(name) = letter.table else { continue };
                let target = tables
                    .iter()
                    .enumerate()
                    .find(|(_, table)| table.spec.name.to_string() == name);
                let row = letter.arrow.as_deref().map(decode).transpose()?;
                let known = target
                    .zip(row)
                    .and_then(|((index, table), row)| Some((index, table, table.of_row(&row)?)));
                let Some((index, table, arrays)) = known else {
                    *letters.unknown.entry((name, letter.partition)).or_default() += 1;
                    continue;
                };
                table.digest(&arrays, 1, nuls, |row| {
                    *letters.rows.entry((index, row.checksum)).or_default() += 1;
                    Ok(())
                })?;
            }
        }
    }

    /// Whether such a row lies in quarantine.
    pub fn hold(&self, table: usize, checksum: Checksum) -> bool {
        !self.rows.is_empty() && self.rows.contains_key(&(table, checksum))
    }

    /// How many of a table's rows are not known, of one partition or of all.
    pub fn unknown(&self, table: &str, partition: Option<&str>) -> u64 {
        let of_table = self
            .unknown
            .iter()
            .filter(|((target, _), _)| target == table);
        of_table
            .filter(|((_, known), _)| partition.is_none_or(|partition| partition == known))
            .map(|(_, count)| count)
            .sum()
    }

    /// Takes rows that lie in quarantine, and are not in the sink, out of what is expected there. Gives their number by
    /// partition.
    pub fn take_out(
        &self,
        table: usize,
        expected: &mut Tallies,
        given: &Sightings,
        found: &HashMap<Checksum, u64>,
    ) -> HashMap<Option<String>, u64> {
        let mut taken: HashMap<Option<String>, u64> = HashMap::new();
        for ((_, checksum), sighting) in given.0.iter().filter(|((known, _), _)| *known == table) {
            let letters = self.rows.get(&(table, *checksum)).copied().unwrap_or(0);
            let there = found.get(checksum).copied().unwrap_or(0);
            let missing = sighting.rows.saturating_sub(there).min(letters);
            if missing == 0 {
                continue;
            }
            let cell = Cell {
                partition: expected.partition(sighting.partition.as_deref()),
                range: sighting.place,
            };
            expected.take_out(cell, missing, *checksum);
            *taken.entry(sighting.partition.clone()).or_default() += missing;
        }
        taken
    }
}

/// Rows of the source's side that lie in quarantine as well.
#[derive(Clone, Debug, Default)]
pub struct Sightings(HashMap<(usize, Checksum), Sighting>);

#[derive(Clone, Debug)]
struct Sighting {
    rows: u64,
    partition: Option<String>,
    place: Place,
}

impl Sightings {
    /// Notes one.
    pub fn add(&mut self, table: usize, checksum: Checksum, partition: Option<&str>, place: Place) {
        let known = self.0.entry((table, checksum)).or_insert_with(|| Sighting {
            rows: 0,
            partition: partition.map(str::to_owned),
            place,
        });
        known.rows += 1;
    }

    /// Adds those of another attempt.
    pub fn merge(&mut self, other: &Self) {
        for (row, sighting) in &other.0 {
            match self.0.get_mut(row) {
                Some(known) => known.rows += sighting.rows,
                None => {
                    self.0.insert(*row, sighting.clone());
                }
            }
        }
    }
}
