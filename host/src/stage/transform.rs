//! Drives a transformer and holds it to the input ledger: every row is accounted for, once.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use etl_plugin_api::{
    Cardinality, Origin, Outcome, Output, Rejection, TableSchema, Transformed, Transformer,
};

use super::context::HostContext;
use crate::error::{Error, ErrorKind, Result};

/// A transformer that was opened, or none.
pub struct TransformStage {
    transformer: Option<Box<dyn Transformer>>,
    cardinality: Cardinality,
    tables: Vec<TableSchema>,
    cx: HostContext,
    search: Option<Search>,
}

/// Makes a transformer, or none where the pipeline has none.
pub type Another = Box<dyn Fn() -> Result<Option<Box<dyn Transformer>>> + Send>;

/// How to look for the rows that a stateless transformer fails at.
pub struct Search {
    /// Makes another transformer: one that has failed is never called again.
    pub another: Another,
    /// More bad rows than these in a batch are not looked for.
    pub most: u64,
}

/// A batch behind the transformer, with its share of the input ledger.
#[derive(Debug, Default)]
pub struct TransformedBatch {
    /// Rows to load.
    pub outputs: Vec<Output>,
    /// Input rows that output was made of.
    pub transformed: u64,
    /// Input rows left out.
    pub filtered: u64,
    /// Input rows that are bad.
    pub rejected: Vec<Rejection>,
}

impl TransformStage {
    /// Opens a transformer for rows of these columns.
    pub fn open(
        mut transformer: Option<Box<dyn Transformer>>,
        cardinality: Cardinality,
        input: &SchemaRef,
        cx: HostContext,
    ) -> Result<Self> {
        let tables = match &mut transformer {
            Some(transformer) => transformer
                .open(&cx, input)
                .map_err(|error| cx.stage_error("open the transformer", error))?,
            None => vec![TableSchema::configured(input.clone())],
        };
        let unnamed = tables.iter().skip(1).any(|table| table.name.is_none());
        if tables.is_empty() || unnamed {
            return Err(Error::data(
                "the transformer must return at least one table, and a name for each after the first",
            ));
        }
        Ok(Self {
            transformer,
            cardinality,
            tables,
            cx,
            search: None,
        })
    }

    /// Looks for the row where the transformer fails, instead of failing with it. Only for one that keeps nothing from
    /// one row to the next.
    #[must_use]
    pub fn searching(mut self, search: Search) -> Self {
        self.search = Some(search);
        self
    }

    /// The tables it writes.
    pub fn tables(&self) -> &[TableSchema] {
        &self.tables
    }

    /// Whether there is a transformer; without one, rows are loaded as they were read.
    pub fn calls_plugin(&self) -> bool {
        self.transformer.is_some()
    }

    /// Whether its output stands for many input rows each.
    pub fn aggregates(&self) -> bool {
        self.transformer.is_some() && self.cardinality == Cardinality::Aggregate
    }

    /// Changes one batch. Rows at which a transformer that is searched fails are rejected.
    pub fn transform(&mut self, batch: RecordBatch) -> Result<TransformedBatch> {
        let Some(most) = self.search.as_ref().map(|search| search.most) else {
            return self.transform_at_once(batch);
        };
        let rows = batch.num_rows();
        let first = match self.transform_at_once(batch.clone()) {
            Ok(done) => return Ok(done),
            Err(error) if rows == 0 || !may_be_a_row(&error) => return Err(error),
            Err(error) => error,
        };
        let mut result = TransformedBatch::default();
        let mut waiting = vec![(0, rows)];
        let mut failure = Some(first);
        while let Some((start, length)) = waiting.pop() {
            let error = match failure.take() {
                Some(error) => error,
                None => match self.transform_at_once(batch.slice(start, length)) {
                    Ok(part) => {
                        result.add(part, start);
                        continue;
                    }
                    Err(error) if !may_be_a_row(&error) => return Err(error),
                    Err(error) => error,
                },
            };
            self.renew(&batch.schema())?;
            if length > 1 {
                let half = length / 2;
                waiting.extend([(start + half, length - half), (start, half)]);
            } else if result.rejected.len() as u64 >= most {
                return Err(error);
            } else {
                result.rejected.push(rejection(start, &error));
            }
        }
        Ok(result)
    }

    /// Another transformer in place of one that has failed.
    fn renew(&mut self, input: &SchemaRef) -> Result<()> {
        let Some(search) = &self.search else {
            return Ok(());
        };
        let mut another = (search.another)()?;
        if let Some(transformer) = &mut another {
            transformer
                .open(&self.cx, input)
                .map_err(|error| self.cx.stage_error("open the transformer", error))?;
        }
        self.transformer = another;
        Ok(())
    }

    fn transform_at_once(&mut self, batch: RecordBatch) -> Result<TransformedBatch> {
        let rows = batch.num_rows();
        let output = match &mut self.transformer {
            Some(transformer) => transformer
                .transform(&self.cx, batch)
                .map_err(|error| self.cx.stage_error("transform", error))?,
            None => Transformed::same_rows(batch),
        };
        self.account(output, rows)
    }

    /// Takes what is still held back.
    pub fn finish(&mut self) -> Result<TransformedBatch> {
        let Some(transformer) = &mut self.transformer else {
            return Ok(TransformedBatch::default());
        };
        let output = transformer
            .finish(&self.cx)
            .map_err(|error| self.cx.stage_error("finish the transformer", error))?;
        self.account(output, 0)
    }

    /// Closes the transformer. It was called to the end, so this is its last word.
    pub fn close(&mut self, outcome: Outcome) -> Result<()> {
        match &mut self.transformer {
            Some(transformer) => transformer
                .close(outcome)
                .map_err(|error| self.cx.stage_error("close the transformer", error)),
            None => Ok(()),
        }
    }

    fn account(&self, transformed: Transformed, rows: usize) -> Result<TransformedBatch> {
        for output in &transformed.outputs {
            self.check_output(output)?;
        }
        let mut result = TransformedBatch {
            filtered: transformed.filtered.len() as u64,
            ..TransformedBatch::default()
        };
        if !self.aggregates() {
            result.transformed = check_origins(&transformed, rows, self.cardinality)?;
        }
        result.outputs = transformed.outputs;
        result.rejected = transformed
            .rejected
            .into_iter()
            .map(|rejection| self.cx.redact_rejection(rejection))
            .collect();
        Ok(result)
    }

    fn check_output(&self, output: &Output) -> Result<()> {
        let table = usize::try_from(output.table)
            .ok()
            .and_then(|index| self.tables.get(index));
        let Some(table) = table else {
            return Err(Error::data(format!(
                "the transformer wrote to table number {}, but opened {}",
                output.table,
                self.tables.len()
            )));
        };
        let expected = table.schema.fields();
        let found = output.batch.schema_ref().fields();
        let same = expected.len() == found.len()
            && expected
                .iter()
                .zip(found)
                .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type());
        if same {
            return Ok(());
        }
        let difference = expected
            .iter()
            .zip(found)
            .find(|(a, b)| a.name() != b.name() || a.data_type() != b.data_type())
            .map_or_else(
                || {
                    format!(
                        "{} columns where {} were announced",
                        found.len(),
                        expected.len()
                    )
                },
                |(a, b)| {
                    format!(
                        "`{}` {} where `{}` {} was announced",
                        b.name(),
                        b.data_type(),
                        a.name(),
                        a.data_type()
                    )
                },
            );
        Err(Error::data(format!(
            "the transformer returned other columns than it announced: {difference}"
        ))
        .hint("return batches with the schema that `open` returned"))
    }
}

impl TransformedBatch {
    /// Adds what became of a part of the batch, which begins at this row.
    fn add(&mut self, part: Self, start: usize) {
        self.outputs.extend(part.outputs);
        self.transformed += part.transformed;
        self.filtered += part.filtered;
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        self.rejected
            .extend(part.rejected.into_iter().map(|rejection| Rejection {
                row: rejection.row.saturating_add(start),
                ..rejection
            }));
    }
}

/// Whether a failure may come from a single row, rather than from the plugin's settings or what it depends on. A process
/// that was ended is not taken for one: each try would take as long as its limits allow, or whoever ended it would go on.
fn may_be_a_row(error: &Error) -> bool {
    use etl_plugin_api::ErrorKind as Stage;
    matches!(
        error.kind(),
        ErrorKind::Stage(Stage::Fatal | Stage::Panicked | Stage::Crashed)
    )
}

fn rejection(row: usize, error: &Error) -> Rejection {
    Rejection {
        row: u32::try_from(row).unwrap_or(u32::MAX),
        column: None,
        reason: error.to_string(),
    }
}

/// What became of an input row.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Unknown,
    Output,
    Aside,
}

/// Checks that every input row is the origin of output, filtered, or rejected, and counts the first kind.
fn check_origins(transformed: &Transformed, rows: usize, cardinality: Cardinality) -> Result<u64> {
    // The common case needs no table of rows.
    if let [output] = transformed.outputs.as_slice()
        && output.origin == Origin::SameRows
        && transformed.filtered.is_empty()
        && transformed.rejected.is_empty()
        && output.batch.num_rows() == rows
    {
        return Ok(rows as u64);
    }
    let broken = |what: String| {
        Err(Error::new(
            ErrorKind::Ledger,
            format!("the transformer does not account for its rows: {what}"),
        )
        .hint("name each input row as the origin of output, as filtered, or as rejected"))
    };
    let mut fate = vec![Fate::Unknown; rows];
    let mut counted = 0u64;
    for output in &transformed.outputs {
        let mut mark = |row: usize| -> Option<()> {
            let slot = fate.get_mut(row)?;
            if *slot == Fate::Unknown {
                *slot = Fate::Output;
                counted += 1;
            }
            Some(())
        };
        match &output.origin {
            Origin::SameRows if output.batch.num_rows() == rows => (0..rows).for_each(|row| {
                mark(row);
            }),
            Origin::SameRows => {
                return broken(format!(
                    "{} output rows of {rows} are said to be the same rows",
                    output.batch.num_rows()
                ));
            }
            Origin::Rows(origins) => {
                if origins.len() != output.batch.num_rows() {
                    return broken(format!(
                        "{} origins for {} output rows",
                        origins.len(),
                        output.batch.num_rows()
                    ));
                }
                for row in origins {
                    if mark(*row as usize).is_none() {
                        return broken(format!("row {row} of {rows} is named as an origin"));
                    }
                }
            }
            Origin::Aggregated => {
                return broken("it aggregates, but its manifest does not say so".to_owned());
            }
        }
    }
    let made: usize = transformed
        .outputs
        .iter()
        .map(|output| output.batch.num_rows())
        .sum();
    if cardinality != Cardinality::Expand && made as u64 > counted {
        return broken(format!(
            "{made} rows are made of {counted}, but its manifest does not say that it expands"
        ));
    }
    let aside = transformed
        .filtered
        .iter()
        .chain(transformed.rejected.iter().map(|rejection| &rejection.row));
    for row in aside {
        match fate.get_mut(*row as usize) {
            Some(slot) if *slot == Fate::Unknown => *slot = Fate::Aside,
            Some(_) => return broken(format!("row {row} is set aside, but has another fate too")),
            None => return broken(format!("row {row} of {rows} is set aside")),
        }
    }
    if let Some(lost) = fate.iter().position(|fate| *fate == Fate::Unknown) {
        let count = fate.iter().filter(|fate| **fate == Fate::Unknown).count();
        return broken(format!(
            "{count} of {rows} rows are missing, the first is row {lost}"
        ));
    }
    if cardinality == Cardinality::OnePerRow && !transformed.filtered.is_empty() {
        return broken("it filters rows, but its manifest says one per row".to_owned());
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    fn batch(rows: i64) -> RecordBatch {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("v", values)]).unwrap()
    }

    fn output(rows: i64, origin: Origin) -> Output {
        Output {
            table: 0,
            batch: batch(rows),
            origin,
        }
    }

    fn rejection(row: u32) -> Rejection {
        Rejection {
            row,
            column: None,
            reason: "bad".to_owned(),
        }
    }

    #[test]
    fn every_row_needs_exactly_one_fate() {
        let check = |outputs: Vec<Output>, filtered: Vec<u32>, rejected: Vec<u32>| {
            let transformed = Transformed {
                outputs,
                filtered,
                rejected: rejected.into_iter().map(rejection).collect(),
            };
            check_origins(&transformed, 3, Cardinality::Expand).map_err(|error| error.to_string())
        };
        assert_eq!(
            check(vec![output(3, Origin::SameRows)], vec![], vec![]),
            Ok(3)
        );
        assert_eq!(
            check(vec![output(1, Origin::Rows(vec![1]))], vec![0], vec![2]),
            Ok(1)
        );
        assert_eq!(
            check(
                vec![output(4, Origin::Rows(vec![0, 0, 1, 2]))],
                vec![],
                vec![]
            ),
            Ok(3)
        );
        assert!(
            check(vec![output(2, Origin::Rows(vec![0, 1]))], vec![], vec![])
                .unwrap_err()
                .contains("row 2")
        );
        assert!(
            check(vec![output(3, Origin::SameRows)], vec![1], vec![])
                .unwrap_err()
                .contains("another fate")
        );
        assert!(check(vec![output(2, Origin::SameRows)], vec![], vec![]).is_err());
        assert!(check(vec![output(1, Origin::Rows(vec![7]))], vec![], vec![]).is_err());
        assert!(check(vec![], vec![0, 1, 9], vec![]).is_err());
        assert!(check(vec![output(1, Origin::Aggregated)], vec![], vec![]).is_err());
    }

    #[test]
    fn a_manifest_that_says_one_per_row_is_held_to_it() {
        let transformed = Transformed {
            outputs: vec![output(1, Origin::Rows(vec![0]))],
            filtered: vec![1],
            rejected: vec![],
        };
        assert!(check_origins(&transformed, 2, Cardinality::OnePerRow).is_err());
        assert!(check_origins(&transformed, 2, Cardinality::Filter).is_ok());
    }
}
