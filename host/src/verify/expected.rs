//! The source's side: a sink that takes a run's rows, adds them up and keeps nothing.
//!
//! The run is one like any other, with the pipeline's own stages, its retries and its limits. An attempt's sums count
//! when it has come to its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::holding::Holding;
use super::keys::{KeyFile, KeyedRow, put};
use super::letters::{Letters, Sightings};
use super::table::{ComparedTable, Scope, Wanted};
use super::tally::{Cell, Place, Tallies};
use crate::checkpoint::{Checkpoint, WrittenTable};
use crate::config::{NulCharacters, WriteMode};
use crate::dead_letter::StoredLetter;
use crate::error::{Error, Result};
use crate::extension::same_columns;
use crate::finding::Finding;
use crate::pool::Places;
use crate::sink::{
    CheckpointEdit, Chunk, Claim, Committed, EditIf, Examination, Flush, LetterFilter,
    PartitionWriter, RangeDelete, Sink, StoredRanges, Swap, TableLayout, TablePreview, TableSpec,
    Tenure, Written,
};
use crate::task;

/// What both sides share.
pub struct Comparison {
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// The pipeline.
    pub pipeline: String,
    /// The sink, to read.
    pub holding: Holding,
    /// The checkpoints, as they were at the start.
    pub checkpoints: BTreeMap<String, Checkpoint>,
    /// Which rows are compared.
    pub scope: Scope,
    /// What the sink does with U+0000.
    pub nuls: NulCharacters,
    /// Columns whose values do not count.
    pub exclude: Vec<String>,
    /// The column with the partition's name, if partitions are told apart.
    pub partition_column: Option<String>,
    /// The cursor's column.
    pub cursor_column: Option<String>,
    /// The tables and what lies in quarantine, once the first partition has opened its transformer.
    pub opened: OnceCell<(Vec<ComparedTable>, Letters)>,
    /// What the source's side gave.
    pub expected: Mutex<Expected>,
    /// The keys of an upsert.
    pub keys: Mutex<Option<KeyFile>>,
}

/// What the source's side gave.
#[derive(Debug, Default)]
pub struct Expected {
    /// By table.
    pub tallies: Vec<Tallies>,
    /// Rows that lie in quarantine as well.
    pub quarantined: Sightings,
    /// A row's cursor, as it is written, is not where it was read.
    pub strays: bool,
}

impl Expected {
    fn merge(&mut self, other: &Self) -> Result<()> {
        self.tallies.resize_with(
            self.tallies.len().max(other.tallies.len()),
            Tallies::default,
        );
        for (sum, tallies) in self.tallies.iter_mut().zip(&other.tallies) {
            sum.merge(tallies)?;
        }
        self.quarantined.merge(&other.quarantined);
        self.strays |= other.strays;
        Ok(())
    }
}

impl Comparison {
    /// What is wanted of each table.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            exclude: &self.exclude,
            partition_column: self.partition_column.as_deref(),
            cursor_column: self.cursor_column.as_deref(),
            step: self.scope.step,
        }
    }

    async fn open_tables(&self, specs: &[TableSpec]) -> Result<&[ComparedTable]> {
        let (tables, _) = self
            .opened
            .get_or_try_init(|| async {
                let unknown = self.exclude.iter().find(|name| {
                    let known = |spec: &TableSpec| spec.schema.column_with_name(name).is_some();
                    !specs.iter().any(known)
                });
                if let Some(unknown) = unknown {
                    return Err(Error::config(format!(
                        "there is no column `{unknown}` in the output to leave out"
                    ))
                    .hint("correct --exclude"));
                }
                let mut tables = Vec::new();
                for spec in specs {
                    tables.push(self.holding.match_table(spec, &self.wanted()).await?);
                }
                let letters =
                    Letters::load(self.sink.as_ref(), &self.pipeline, &tables, self.nuls).await?;
                Ok::<_, Error>((tables, letters))
            })
            .await?;
        let alike = tables.len() == specs.len()
            && tables.iter().zip(specs).all(|(table, spec)| {
                table.spec.name == spec.name && same_columns(&table.spec.schema, &spec.schema)
            });
        if alike {
            Ok(tables)
        } else {
            Err(Error::data("the partitions do not give the same columns")
                .hint("make the shards' tables alike, or name and cast the columns in the query"))
        }
    }
}

/// A sink that only adds up.
pub struct ComparingSink {
    comparison: Arc<Comparison>,
}

impl ComparingSink {
    /// Stands in front of the sink that holds the rows.
    pub fn new(comparison: Arc<Comparison>) -> Self {
        Self { comparison }
    }
}

#[async_trait]
impl Sink for ComparingSink {
    async fn load_checkpoints(&self, _: &str) -> Result<BTreeMap<String, Checkpoint>> {
        Ok(self.comparison.checkpoints.clone())
    }

    async fn load_dead_letters(&self, _: &str, _: &LetterFilter) -> Result<Vec<StoredLetter>> {
        Ok(Vec::new())
    }

    async fn edit_checkpoint(
        &self,
        _: &str,
        _: &str,
        _: &CheckpointEdit,
        _: &EditIf,
    ) -> Result<bool> {
        Err(Error::internal("a comparison changes no checkpoint"))
    }

    async fn load_ranges(&self, pipeline: &str) -> Result<BTreeMap<String, StoredRanges>> {
        self.comparison.sink.load_ranges(pipeline).await
    }

    async fn keep_ranges(&self, _: &str, _: &str, _: &StoredRanges) -> Result<StoredRanges> {
        Err(Error::internal("a comparison keeps no bounds"))
    }

    async fn forget_ranges(&self, _: &str, _: &str, _: bool) -> Result<bool> {
        Err(Error::internal("a comparison forgets no bounds"))
    }

    async fn begin(&self, claim: &Claim) -> Result<Box<dyn PartitionWriter>> {
        let known = self.comparison.checkpoints.get(&claim.partition);
        Ok(Box::new(AddingWriter {
            comparison: self.comparison.clone(),
            index: claim.index,
            checkpoint: known.cloned().unwrap_or_default(),
            sums: Expected::default(),
        }))
    }

    async fn renew(&self, _: &Tenure) -> Result<()> {
        Ok(())
    }

    async fn release(&self, _: &Tenure, _: Option<&str>) -> Result<()> {
        Ok(())
    }

    fn places(&self) -> Places {
        self.comparison.sink.places()
    }

    async fn swap(&self, _: &Swap) -> Result<()> {
        Ok(())
    }

    async fn discard(&self, _: &Swap) -> Result<()> {
        Ok(())
    }

    async fn examine(&self, mode: &WriteMode) -> Examination {
        self.comparison.sink.examine(mode).await
    }

    async fn examine_tables(&self, tables: &[TableSpec]) -> Vec<Finding> {
        self.comparison.sink.examine_tables(tables).await
    }

    async fn preview_tables(
        &self,
        partition: &str,
        before: &[WrittenTable],
        tables: &[TableSpec],
    ) -> Result<TablePreview> {
        let sink = &self.comparison.sink;
        sink.preview_tables(partition, before, tables).await
    }

    async fn load_layouts(&self, tables: &[TableSpec]) -> Result<Vec<TableLayout>> {
        self.comparison.sink.load_layouts(tables).await
    }
}

struct AddingWriter {
    comparison: Arc<Comparison>,
    /// The partition's number.
    index: usize,
    checkpoint: Checkpoint,
    sums: Expected,
}

#[async_trait]
impl PartitionWriter for AddingWriter {
    fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    async fn open_tables(&mut self, specs: &[TableSpec]) -> Result<()> {
        let tables = self.comparison.open_tables(specs).await?;
        self.sums.tallies = vec![Tallies::default(); tables.len()];
        let keys = self.comparison.keys.lock();
        match keys.unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(keys) => keys.forget(self.index),
            None => Ok(()),
        }
    }

    async fn delete_range(&mut self, _: &RangeDelete) -> Result<()> {
        Err(Error::internal("a comparison deletes nothing"))
    }

    async fn write(&mut self, flush: &Flush, _: u64) -> Result<Written> {
        let mut sums = std::mem::take(&mut self.sums);
        let (comparison, index, flush) = (self.comparison.clone(), self.index, flush.clone());
        let (sums, rows) = task::spawn_blocking(move || {
            let rows = add(&comparison, index, &flush, &mut sums)?;
            Ok::<_, Error>((sums, rows))
        })
        .await??;
        self.sums = sums;
        Ok(Written {
            loaded: rows,
            ..Written::default()
        })
    }

    async fn commit(&mut self, _: &Chunk) -> Result<Committed> {
        Ok(Committed::default())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let expected = self.comparison.expected.lock();
        expected
            .unwrap_or_else(PoisonError::into_inner)
            .merge(&self.sums)
    }
}

/// Adds a flush up, and gives the number of its rows.
fn add(comparison: &Comparison, index: usize, flush: &Flush, sums: &mut Expected) -> Result<u64> {
    let scope = &comparison.scope;
    let opened = comparison.opened.get();
    let (tables, letters) = opened.ok_or_else(|| Error::internal("rows before their tables"))?;
    let (Some(table), Some(tallies)) = (tables.get(flush.table), sums.tallies.get_mut(flush.table))
    else {
        return Err(Error::internal(format!(
            "there is no output table number {}",
            flush.table
        )));
    };
    let mut keys = comparison
        .keys
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let keys = match keys.as_mut() {
        Some(keys) => Some(keys.begin()?),
        None => None,
    };
    let mut rows = 0;
    for batch in &flush.batches {
        rows += batch.num_rows() as u64;
        let arrays = table.of_output(batch);
        table.digest(&arrays, batch.num_rows(), comparison.nuls, |row| {
            sums.strays |= scope.is_stray(row.partition, row.position);
            let place = match (scope.place(row.partition, row.position), row.position) {
                (None, _) => return Ok(()),
                // The transformer has moved it; the sink must hold it there.
                (Some(Place::Beyond), Some(position)) => scope
                    .step
                    .map_or(Place::Anywhere, |step| Place::Window(step.window(position))),
                (Some(place), _) => place,
            };
            if letters.hold(flush.table, row.checksum) {
                let seen = &mut sums.quarantined;
                seen.add(flush.table, row.checksum, row.partition, place);
            } else if let (Some(keys), Some(key)) = (&keys, row.key) {
                return put(
                    keys,
                    index,
                    &KeyedRow {
                        table: flush.table,
                        key,
                        checksum: row.checksum,
                        partition: row.partition,
                        place,
                    },
                );
            }
            let partition = tallies.partition(row.partition);
            tallies.add(
                Cell {
                    partition,
                    range: place,
                },
                row.checksum,
            )
        })?;
    }
    if let Some(keys) = keys {
        keys.commit()?;
    }
    Ok(rows)
}
