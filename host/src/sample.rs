//! The first rows of a run that writes nothing, kept so that they can be shown.
//!
//! It keeps and turns into values; how they are laid out is the matter of the command line.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::{FieldRef, Schema};
use serde::Serialize;
use serde_json::Value;

use crate::dead_letter::{self, DeadLetter};
use crate::error::Result;
use crate::sink::{Flush, TableSpec};

/// Rows of a table that a dry run shows.
pub const SHOWN_ROWS: u64 = 20;

/// The first rows of each partition and table.
#[derive(Debug)]
pub struct Sample {
    /// Rows that are kept of each partition, for each table, and rows set aside.
    most: usize,
    taken: Mutex<BTreeMap<String, Taken>>,
}

/// What an attempt of one partition has given so far.
#[derive(Clone, Debug, Default)]
struct Taken {
    input: Vec<ShownColumn>,
    tables: Vec<TableSpec>,
    untouched: bool,
    rows: Vec<Vec<RecordBatch>>,
    total: Vec<u64>,
    set_aside: Vec<DeadLetter>,
    set_aside_total: u64,
    begins_anew: Option<String>,
}

/// What is shown of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Shown {
    /// Each output table.
    pub tables: Vec<ShownTable>,
    /// The first rows that were set aside.
    pub set_aside: Vec<ShownLetter>,
    /// How many were.
    pub set_aside_total: u64,
}

/// The first rows of an output table.
#[derive(Clone, Debug, Serialize)]
pub struct ShownTable {
    /// Its name.
    pub table: String,
    /// Its columns.
    pub columns: Vec<ShownColumn>,
    /// The first rows, value by value in the order of the columns.
    pub rows: Vec<Vec<Value>>,
    /// How many rows there were.
    pub total: u64,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShownColumn {
    /// Its name.
    pub name: String,
    /// The Arrow type.
    #[serde(rename = "type")]
    pub data_type: String,
    /// The type as the source declares it; `None` where no source has the column, or does not say.
    pub source_type: Option<String>,
    /// Its values are numbers.
    #[serde(skip)]
    pub numeric: bool,
}

/// A row set aside.
#[derive(Clone, Debug, Serialize)]
pub struct ShownLetter {
    /// Which stage refused it.
    pub stage: &'static str,
    /// The column at fault.
    pub column: Option<String>,
    /// Why.
    pub reason: String,
    /// The row as it was read; for `load` as it was to be written.
    pub row: Value,
}

impl Sample {
    /// Keeps at most so many rows of each table.
    pub fn new(most: u64) -> Self {
        Self {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            taken: Mutex::default(),
        }
    }

    fn of<T>(&self, partition: &str, work: impl FnOnce(&mut Taken) -> T) -> T {
        // Whoever panicked while it took rows has left them whole.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        work(taken.entry(partition.to_owned()).or_default())
    }

    /// An attempt begins: what the one before has given does not count.
    pub fn begin(&self, partition: &str) {
        self.of(partition, |taken| *taken = Taken::default());
    }

    /// The position that was stored is not gone on from, for this reason.
    pub fn begin_anew(&self, partition: &str, why: String) {
        self.of(partition, |taken| taken.begins_anew = Some(why));
    }

    /// Why the stored position was not gone on from, if it was not.
    pub fn why_anew(&self, partition: &str) -> Option<String> {
        self.of(partition, |taken| taken.begins_anew.clone())
    }

    /// The columns as they are read. `declared` are the source's own types.
    pub fn open_input(&self, partition: &str, schema: &Schema, declared: &[Option<String>]) {
        let mut columns = shown_columns(schema);
        for (column, declared) in columns.iter_mut().zip(declared) {
            column.source_type.clone_from(declared);
        }
        self.of(partition, |taken| taken.input = columns);
    }

    /// The tables that are written. `untouched` says that no transformer stands before them.
    pub fn open_tables(&self, partition: &str, tables: &[TableSpec], untouched: bool) {
        self.of(partition, |taken| {
            taken.tables = tables.to_vec();
            taken.untouched = untouched;
            taken.rows.resize(tables.len(), Vec::new());
            taken.total.resize(tables.len(), 0);
        });
    }

    /// Takes the first rows of a flush, as far as they are wanted.
    pub fn take(&self, partition: &str, flush: &Flush) {
        self.of(partition, |taken| {
            let (Some(rows), Some(total)) = (
                taken.rows.get_mut(flush.table),
                taken.total.get_mut(flush.table),
            ) else {
                return;
            };
            for batch in &flush.batches {
                let kept = usize::try_from(*total).unwrap_or(usize::MAX);
                let wanted = self.most.saturating_sub(kept).min(batch.num_rows());
                if wanted > 0 {
                    rows.push(batch.slice(0, wanted));
                }
                *total += batch.num_rows() as u64;
            }
        });
    }

    /// Takes rows that were set aside.
    pub fn set_aside(&self, partition: &str, letters: &[DeadLetter]) {
        self.of(partition, |taken| {
            let wanted = self.most.saturating_sub(taken.set_aside.len());
            taken.set_aside.extend(letters.iter().take(wanted).cloned());
            taken.set_aside_total += letters.len() as u64;
        });
    }

    /// The columns of a partition as they were read.
    pub fn input(&self, partition: &str) -> Vec<ShownColumn> {
        self.of(partition, |taken| taken.input.clone())
    }

    /// The tables of a partition.
    pub fn tables(&self, partition: &str) -> Vec<TableSpec> {
        self.of(partition, |taken| taken.tables.clone())
    }

    /// What was kept of these partitions, in their order.
    pub fn show<'a>(&self, partitions: impl IntoIterator<Item = &'a str>) -> Result<Shown> {
        let mut shown = Shown::default();
        for partition in partitions {
            let taken = self.of(partition, |taken| taken.clone());
            for (index, spec) in taken.tables.iter().enumerate() {
                let name = spec.name.to_string();
                let known = shown.tables.iter().position(|table| table.table == name);
                let at = known.unwrap_or_else(|| {
                    shown.tables.push(ShownTable {
                        table: name,
                        columns: if taken.untouched {
                            taken.input.clone()
                        } else {
                            shown_columns(&spec.schema)
                        },
                        rows: Vec::new(),
                        total: 0,
                    });
                    shown.tables.len() - 1
                });
                let Some(table) = shown.tables.get_mut(at) else {
                    continue;
                };
                table.total += taken.total.get(index).copied().unwrap_or_default();
                for batch in taken.rows.get(index).into_iter().flatten() {
                    let left = self.most.saturating_sub(table.rows.len());
                    for row in 0..left.min(batch.num_rows()) {
                        table.rows.push(values(batch, row)?);
                    }
                }
            }
            let left = self.most.saturating_sub(shown.set_aside.len());
            let letters = taken.set_aside.iter().take(left);
            shown.set_aside.extend(letters.map(|letter| ShownLetter {
                stage: letter.stage.name(),
                column: letter.column.clone(),
                reason: letter.reason.clone(),
                row: serde_json::from_slice(&letter.payload).unwrap_or_default(),
            }));
            shown.set_aside_total += taken.set_aside_total;
        }
        Ok(shown)
    }
}

fn shown_columns(schema: &Schema) -> Vec<ShownColumn> {
    let column = |field: &FieldRef| ShownColumn {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        source_type: None,
        numeric: field.data_type().is_numeric(),
    };
    schema.fields().iter().map(column).collect()
}

fn values(batch: &RecordBatch, row: usize) -> Result<Vec<Value>> {
    let one = batch.slice(row, 1);
    let schema = one.schema();
    let columns = schema.fields().iter().zip(one.columns());
    columns
        .map(|(field, column)| dead_letter::value(field, column))
        .collect()
}
