//! The worker's side of the host's services: each is asked over the socket that the call came by.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use etl_plugin_api::{
    AttemptInfo, BatchReader, Context, ExtractContext, Level, LoadContext, Loaded, Output, Result,
    StageError, Value,
};
use serde::de::DeserializeOwned;

use super::ending::LOST_HOST;
use super::frame::{Broken, Channel, Kind};
use super::message::{Ask, Batches, Fault, Tell, split_output};

/// How long the host's word that nobody asked to stop is believed: stages may ask for every row.
const BELIEVED: Duration = Duration::from_millis(10);

/// The services during one call.
pub struct WorkerContext<'a> {
    channel: &'a RefCell<Channel>,
    attempt: &'a AttemptInfo,
    cancelled: &'a Cancelled,
}

/// What the host last said about stopping.
#[derive(Default)]
pub struct Cancelled {
    said: Cell<bool>,
    asked: Cell<Option<Instant>>,
}

impl<'a> WorkerContext<'a> {
    pub fn new(
        channel: &'a RefCell<Channel>,
        attempt: &'a AttemptInfo,
        cancelled: &'a Cancelled,
    ) -> Self {
        Self {
            channel,
            attempt,
            cancelled,
        }
    }

    fn ask<R: DeserializeOwned>(
        &self,
        ask: &Ask,
        batches: &[&RecordBatch],
    ) -> Result<(R, Batches)> {
        self.converse(ask, batches).unwrap_or_else(|_| lost_host())
    }

    fn converse<R: DeserializeOwned>(
        &self,
        ask: &Ask,
        batches: &[&RecordBatch],
    ) -> Result<Result<(R, Batches)>, Broken> {
        let mut channel = self.channel.borrow_mut();
        channel.send(Kind::Ask, ask, batches, None)?;
        let frame = channel.receive(None)?;
        match frame.kind {
            Kind::Answer => {
                let head = frame.head()?;
                Ok(Ok((head, Batches::new(frame.into_batches()?))))
            }
            Kind::Failure => Ok(Err(frame.head::<Fault>()?.into())),
            _ => Err(Broken::Garbage("no answer".to_owned())),
        }
    }

    fn tell(&self, tell: &Tell) {
        if self
            .channel
            .borrow_mut()
            .send(Kind::Tell, tell, &[], None)
            .is_err()
        {
            lost_host()
        }
    }
}

/// Without the host there is nothing left to do, and nobody to tell.
pub fn lost_host() -> ! {
    std::process::exit(i32::from(LOST_HOST))
}

impl Context for WorkerContext<'_> {
    fn attempt(&self) -> &AttemptInfo {
        self.attempt
    }

    fn secret(&self, name: &str) -> Result<String> {
        Ok(self.ask(&Ask::Secret(name.to_owned()), &[])?.0)
    }

    fn cancelled(&self) -> bool {
        let fresh = |asked: Instant| asked.elapsed() < BELIEVED;
        if !self.cancelled.said.get() && !self.cancelled.asked.get().is_some_and(fresh) {
            let said = self
                .ask::<bool>(&Ask::Cancelled, &[])
                .is_ok_and(|(said, _)| said);
            self.cancelled.said.set(said);
            self.cancelled.asked.set(Some(Instant::now()));
        }
        self.cancelled.said.get()
    }

    fn log(&self, level: Level, message: &str) {
        self.tell(&Tell::Log(level, message.to_owned()));
    }

    fn count(&self, name: &str, n: u64) {
        self.tell(&Tell::Count(name.to_owned(), n));
    }
}

impl ExtractContext for WorkerContext<'_> {
    fn query(&self, sql: &str, params: &[(&str, Value)]) -> Result<Box<dyn BatchReader + '_>> {
        let params = params
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let (number, mut batches) = self.ask(&Ask::Query(sql.to_owned(), params), &[])?;
        let Ok(schema) = batches.take() else {
            lost_host()
        };
        Ok(Box::new(Reader {
            cx: self,
            number,
            schema: schema.schema(),
        }))
    }
}

impl LoadContext for WorkerContext<'_> {
    fn write(&self, output: &Output) -> Result<Loaded> {
        let mut batches = Vec::new();
        let head = split_output(output, &mut batches)
            .map_err(|broken| StageError::fatal(broken.to_string()))?;
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        Ok(self.ask(&Ask::Write(head), &batches)?.0)
    }
}

struct Reader<'a> {
    cx: &'a WorkerContext<'a>,
    number: u32,
    schema: SchemaRef,
}

impl BatchReader for Reader<'_> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let (any, mut batches) = self.cx.ask::<bool>(&Ask::ReadNext(self.number), &[])?;
        if !any {
            return Ok(None);
        }
        match batches.take() {
            Ok(batch) => Ok(Some(batch)),
            Err(_) => lost_host(),
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.cx.tell(&Tell::ReadNoMore(self.number));
    }
}
