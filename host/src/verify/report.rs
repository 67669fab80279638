//! What a comparison found: the stable JSON of `verify --output json`.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::letters::Letters;
use super::range::Step;
use super::table::ComparedTable;
use super::tally::{Place, Tallies, Tally};

/// How a range differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The sink holds fewer rows.
    Missing,
    /// It holds more.
    Surplus,
    /// It holds as many, but not the same.
    Values,
    /// It holds rows behind the checkpoint.
    BeyondCheckpoint,
    /// It holds fewer, but as many lie in quarantine; their values are not known. That is no disagreement.
    Quarantined,
}

/// A range that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Rows behind this; `None` where there are no ranges.
    pub from: Option<String>,
    /// Rows up to this.
    pub to: Option<String>,
    /// How it differs.
    pub kind: Kind,
    /// Rows by the source.
    pub expected: u64,
    /// Rows in the sink.
    pub found: u64,
}

/// One partition of one table.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    /// Its name; `None` for several that cannot be told apart.
    pub partition: Option<String>,
    /// Both sides are the same.
    pub agrees: bool,
    /// Rows by the source, without those in quarantine.
    pub expected: u64,
    /// Rows in the sink.
    pub found: u64,
    /// Rows by the source that are not in the sink, but in quarantine.
    pub quarantined: u64,
    /// Ranges with rows.
    pub ranges: u64,
    /// Those that differ.
    pub differences: Vec<Difference>,
}

/// One table.
#[derive(Clone, Debug, Serialize)]
pub struct TableReport {
    /// Its name.
    pub table: String,
    /// Both sides are the same.
    pub agrees: bool,
    /// Columns of the output that were not compared.
    pub left_out: Vec<String>,
    /// Its partitions.
    pub partitions: Vec<PartitionReport>,
}

impl TableReport {
    /// Leaves out what lies behind the checkpoint.
    pub fn forget_beyond(&mut self) {
        for partition in &mut self.partitions {
            partition.differences.retain(|difference| {
                let beyond = difference.kind == Kind::BeyondCheckpoint;
                if beyond {
                    partition.found -= difference.found;
                    partition.ranges -= 1;
                }
                !beyond
            });
            partition.agrees = agree(&partition.differences);
        }
        self.agrees = self.partitions.iter().all(|partition| partition.agrees);
    }
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// The pipeline.
    pub pipeline: String,
    /// Both sides are the same.
    pub agrees: bool,
    /// The windows' length; `None` where there are no ranges.
    pub window: Option<String>,
    /// A run or a replay has committed meanwhile.
    pub changed_meanwhile: bool,
    /// Each table.
    pub tables: Vec<TableReport>,
}

/// What was added up.
pub struct Sides<'a> {
    /// By the source.
    pub expected: &'a Tallies,
    /// In the sink.
    pub found: &'a Tallies,
    /// Rows by the source that are not expected, because they lie in quarantine, by partition.
    pub quarantined: &'a HashMap<Option<String>, u64>,
}

/// Compares what was added up on both sides. `only` is the pipeline's one partition, if it has one.
pub fn compare(
    table: &ComparedTable,
    step: Option<Step>,
    sides: &Sides<'_>,
    letters: &Letters,
    only: Option<&str>,
) -> TableReport {
    type Both = (Tally, Tally);
    let (expected, found) = (sides.expected, sides.found);
    let mut all: BTreeMap<Option<String>, BTreeMap<Place, Both>> = BTreeMap::new();
    for (cell, tally) in expected.cells() {
        let name = expected.name(cell.partition).map(str::to_owned);
        all.entry(name)
            .or_default()
            .entry(cell.range)
            .or_default()
            .0 = tally;
    }
    for (cell, tally) in found.cells() {
        let name = found.name(cell.partition).map(str::to_owned);
        all.entry(name)
            .or_default()
            .entry(cell.range)
            .or_default()
            .1 = tally;
    }
    let name = table.spec.name.to_string();
    let partitions: Vec<PartitionReport> = all
        .into_iter()
        .map(|(partition, ranges)| {
            let mut differences: Vec<Difference> = ranges
                .iter()
                .filter(|(_, (expected, found))| expected != found)
                .map(|(place, (expected, found))| difference(*place, step, *expected, *found))
                .collect();
            let excused = excuse(
                &mut differences,
                letters.unknown(&name, partition.as_deref()),
            );
            let known = sides.quarantined.get(&partition);
            PartitionReport {
                agrees: agree(&differences),
                expected: ranges.values().map(|(expected, _)| expected.rows).sum(),
                found: ranges.values().map(|(_, found)| found.rows).sum(),
                quarantined: known.copied().unwrap_or(0) + excused,
                ranges: ranges.len() as u64,
                differences,
                partition: partition.or_else(|| only.map(str::to_owned)),
            }
        })
        .collect();
    TableReport {
        agrees: partitions.iter().all(|partition| partition.agrees),
        left_out: table.left_out.clone(),
        table: name,
        partitions,
    }
}

/// Rows of which no more is known than that they lie in quarantine may be missing, if nothing else is wrong. Gives the
/// number of those that are.
fn excuse(differences: &mut [Difference], unknown: u64) -> u64 {
    let missing: Option<u64> = differences
        .iter()
        .map(|found| (found.kind == Kind::Missing).then(|| found.expected - found.found))
        .sum();
    let excused = missing.filter(|missing| *missing <= unknown).unwrap_or(0);
    if excused > 0 {
        for difference in differences {
            difference.kind = Kind::Quarantined;
        }
    }
    excused
}

fn agree(differences: &[Difference]) -> bool {
    differences
        .iter()
        .all(|found| found.kind == Kind::Quarantined)
}

fn difference(place: Place, step: Option<Step>, expected: Tally, found: Tally) -> Difference {
    let ends = match (place, step) {
        (Place::Window(window), Some(step)) => {
            let (from, to) = step.ends(window);
            Some((step.write(from), step.write(to)))
        }
        _ => None,
    };
    let (from, to) = ends.unzip();
    let kind = match place {
        Place::Beyond => Kind::BeyondCheckpoint,
        _ if expected.rows > found.rows => Kind::Missing,
        _ if expected.rows < found.rows => Kind::Surplus,
        _ => Kind::Values,
    };
    Difference {
        from,
        to,
        kind,
        expected: expected.rows,
        found: found.rows,
    }
}
