//! Drives a transformer and holds it to the input ledger: every row is accounted for, once.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use etl_plugin_api::ledger::{self, Breach};
use etl_plugin_api::{
    Cardinality, Outcome, Output, Rejection, TableSchema, Transformed, Transformer,
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
        let cardinality = match &self.transformer {
            Some(_) => self.cardinality,
            None => Cardinality::OnePerRow,
        };
        let made_of =
            ledger::check(&transformed, rows, &self.tables, cardinality).map_err(broken)?;
        Ok(TransformedBatch {
            outputs: transformed.outputs,
            transformed: made_of,
            filtered: transformed.filtered.len() as u64,
            rejected: transformed
                .rejected
                .into_iter()
                .map(|rejection| self.cx.redact_rejection(rejection))
                .collect(),
        })
    }
}

fn broken(breach: Breach) -> Error {
    match breach {
        Breach::Table(what) => {
            Error::data(what).hint("return each table from `open`, and name it by its place there")
        }
        Breach::Rows(what) => Error::new(
            ErrorKind::Ledger,
            format!("the transformer does not account for its rows: {what}"),
        )
        .hint("name each input row as the origin of output, as filtered, or as rejected"),
        Breach::Columns(what) => Error::data(format!(
            "the transformer returned other columns than it announced: {what}"
        ))
        .hint("return batches with the schema that `open` returned"),
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
