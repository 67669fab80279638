//! The host's services, as a stage in a worker asks for them while it is called.
//!
//! What the services do is decided by the context that the runtime lends to the call; nothing is kept from one call to
//! the next.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use etl_plugin_api::{BatchReader, Context, ExtractContext, LoadContext, StageError, Value};
use serde_json::{Value as Json, json};

use super::frame::Broken;
use super::message::{Ask, Batches, Tell, join_output, split_schema};

/// What is lent to one call.
pub enum Lent<'a> {
    Nothing,
    Basic(&'a dyn Context),
    Extract(&'a dyn ExtractContext),
    Load(&'a dyn LoadContext),
}

/// The services during one call.
pub struct Services<'a> {
    lent: Lent<'a>,
    readers: HashMap<u32, Box<dyn BatchReader + 'a>>,
    next_reader: u32,
}

/// What the host answers: a head and batches.
pub type Answer = (Json, Vec<RecordBatch>);

impl<'a> Services<'a> {
    pub fn new(lent: Lent<'a>) -> Self {
        Self {
            lent,
            readers: HashMap::new(),
            next_reader: 0,
        }
    }

    fn context(&self) -> Result<&'a dyn Context, StageError> {
        match self.lent {
            Lent::Nothing => Err(StageError::fatal("the host offers nothing to this call")),
            Lent::Basic(cx) => Ok(cx),
            Lent::Extract(cx) => Ok(cx),
            Lent::Load(cx) => Ok(cx),
        }
    }

    /// Answers what was asked. The outer error is a message that makes no sense.
    pub fn answer(
        &mut self,
        ask: Ask,
        batches: Vec<RecordBatch>,
    ) -> Result<Result<Answer, StageError>, Broken> {
        Ok(match ask {
            Ask::Secret(name) => self
                .context()
                .and_then(|cx| cx.secret(&name))
                .map(|secret| (json!(secret), Vec::new())),
            Ask::Cancelled => self.context().map(|cx| (json!(cx.cancelled()), Vec::new())),
            Ask::Query(sql, parameters) => self.query(&sql, &parameters),
            Ask::ReadNext(reader) => self.read_next(reader),
            Ask::Write(head) => {
                let output = join_output(&head, &mut Batches::new(batches))?;
                match self.lent {
                    Lent::Load(cx) => cx.write(&output).map(|loaded| (json!(loaded), Vec::new())),
                    _ => Err(StageError::fatal("only a loader may write")),
                }
            }
        })
    }

    /// Takes what was told.
    pub fn take(&mut self, tell: Tell) {
        match tell {
            Tell::Log(level, message) => {
                if let Ok(cx) = self.context() {
                    cx.log(level, &message);
                }
            }
            Tell::Count(name, n) => {
                if let Ok(cx) = self.context() {
                    cx.count(&name, n);
                }
            }
            Tell::ReadNoMore(reader) => {
                self.readers.remove(&reader);
            }
        }
    }

    fn query(&mut self, sql: &str, parameters: &[(String, Value)]) -> Result<Answer, StageError> {
        let Lent::Extract(cx) = self.lent else {
            return Err(StageError::fatal("only an extractor may run queries"));
        };
        let parameters: Vec<(&str, Value)> = parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        let reader = cx.query(sql, &parameters)?;
        let schema = split_schema(&reader.schema());
        let number = self.next_reader;
        self.next_reader += 1;
        self.readers.insert(number, reader);
        Ok((json!(number), vec![schema]))
    }

    fn read_next(&mut self, reader: u32) -> Result<Answer, StageError> {
        let reader = self
            .readers
            .get_mut(&reader)
            .ok_or_else(|| StageError::fatal("there is no such query"))?;
        let batch: Vec<RecordBatch> = reader.next()?.into_iter().collect();
        Ok((json!(!batch.is_empty()), batch))
    }
}
