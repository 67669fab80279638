//! What stands in for the host: facts, secrets and answers that the test gave, and a memory of what was asked of it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::context::{
    AttemptInfo, BatchReader, Context, ExtractContext, Level, LoadContext, Value,
};
use crate::error::{Result, StageError};
use crate::pipeline::{Loaded, Output};

/// A statement that an extractor ran, with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The statement.
    pub sql: String,
    /// Names and values.
    pub params: Vec<(String, Value)>,
}

/// Stands in for the host.
#[derive(Debug, Default)]
pub struct FakeHost {
    pub attempt: AttemptInfo,
    pub secrets: BTreeMap<String, String>,
    /// What statements that contain a text are answered, one batch for each time.
    pub answers: Vec<(String, RefCell<VecDeque<RecordBatch>>)>,
    pub cancelled: Cell<bool>,
    pub logs: RefCell<Vec<(Level, String)>>,
    pub counters: RefCell<BTreeMap<String, u64>>,
    pub queries: RefCell<Vec<Query>>,
    /// What a loader wrote through the host.
    pub written: RefCell<Vec<Output>>,
}

impl FakeHost {
    pub fn answer(&mut self, part_of_sql: &str, rows: RecordBatch) {
        match self.answers.iter().find(|(part, _)| part == part_of_sql) {
            Some((_, batches)) => batches.borrow_mut().push_back(rows),
            None => self
                .answers
                .push((part_of_sql.to_owned(), RefCell::new([rows].into()))),
        }
    }
}

impl Context for FakeHost {
    fn attempt(&self) -> &AttemptInfo {
        &self.attempt
    }

    fn secret(&self, name: &str) -> Result<String> {
        self.secrets.get(name).cloned().ok_or_else(|| {
            StageError::config(format!(
                "the test gives no secret {name}: add `.secret(\"{name}\", …)`"
            ))
        })
    }

    fn cancelled(&self) -> bool {
        self.cancelled.get()
    }

    fn log(&self, level: Level, message: &str) {
        self.logs.borrow_mut().push((level, message.to_owned()));
    }

    fn count(&self, name: &str, n: u64) {
        *self
            .counters
            .borrow_mut()
            .entry(name.to_owned())
            .or_default() += n;
    }
}

impl ExtractContext for FakeHost {
    fn query(&self, sql: &str, params: &[(&str, Value)]) -> Result<Box<dyn BatchReader + '_>> {
        self.queries.borrow_mut().push(Query {
            sql: sql.to_owned(),
            params: params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        });
        let Some((_, batches)) = self.answers.iter().find(|(part, _)| sql.contains(part)) else {
            return Err(StageError::fatal(format!(
                "the test gives no answer to the statement `{sql}`: add `.answer(\"part of it\", rows)`"
            )));
        };
        let mut batches = batches.borrow_mut();
        // The last answer stays, for its columns.
        let batch = match batches.len() {
            0 | 1 => batches.front_mut().map(|last| {
                let rows = last.clone();
                *last = rows.slice(0, 0);
                rows
            }),
            _ => batches.pop_front(),
        };
        let batch = batch.ok_or_else(|| StageError::fatal("an answer without columns"))?;
        Ok(Box::new(Answer {
            schema: batch.schema(),
            batch: (batch.num_rows() > 0).then_some(batch),
        }))
    }
}

impl LoadContext for FakeHost {
    fn write(&self, output: &Output) -> Result<Loaded> {
        self.written.borrow_mut().push(output.clone());
        Ok(Loaded {
            loaded: output.batch.num_rows() as u64,
            ..Loaded::default()
        })
    }
}

struct Answer {
    schema: SchemaRef,
    batch: Option<RecordBatch>,
}

impl BatchReader for Answer {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn next(&mut self) -> Result<Option<RecordBatch>> {
        Ok(self.batch.take())
    }
}
