//! The host's side of stages that are in a worker process. They look like any other stage.
//!
//! A call is one message there and one back; in between the stage may ask for the host's services. Once a worker has
//! ended, was too slow or has sent nonsense, nothing more is said to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use etl_plugin_api::{
    CommitToken, Context, ErrorKind, ExtractContext, Extracted, Extractor, LoadContext, Loaded,
    Loader, Outcome, Output, Partition, Problem, Result, Resume, StageError, TableSchema,
    Transformed, Transformer,
};
use serde::de::DeserializeOwned;

use super::frame::{Broken, Channel, Kind};
use super::launch::{Process, Worker};
use super::message::{
    Ask, Batches, Call, Fault, StageKind, Tell, TransformedHead, join_tables, join_transformed,
    split_output, split_schema, split_tables,
};
use super::services::{Lent, Services};

/// A place in a worker that takes calls: for one stage, or for the pipeline itself.
pub struct Seat {
    channel: Channel,
    process: Arc<Process>,
    call_timeout: Duration,
    broken: bool,
}

impl Seat {
    /// A new place.
    pub fn open(worker: &Worker, call_timeout: Duration) -> Result<Self> {
        let channel = worker.open_channel().map_err(|error| {
            let ending = worker.process().ending();
            let message = format!("the worker process {}: {error}", ending.words());
            ending.error(ending.kind(), message)
        })?;
        let most = worker.process().limits().memory;
        Ok(Self {
            channel: channel.holding(most),
            process: worker.process().clone(),
            call_timeout,
            broken: false,
        })
    }

    /// Every mistake in the settings.
    pub fn validate(&mut self) -> Result<Vec<Problem>> {
        Ok(self.call(&Call::Validate, &[], Lent::Nothing)?.0)
    }

    /// The pipeline's own partitions.
    pub fn partitions(&mut self, cx: &dyn Context) -> Result<Option<Vec<Partition>>> {
        let call = Call::Partitions(cx.attempt().clone());
        Ok(self.call(&call, &[], Lent::Basic(cx))?.0)
    }

    /// A new extractor.
    pub fn extractor(mut self) -> Result<Option<Box<dyn Extractor>>> {
        Ok(self
            .make(StageKind::Extractor)?
            .then(|| Box::new(Remote(self)) as Box<dyn Extractor>))
    }

    /// A new transformer.
    pub fn transformer(mut self) -> Result<Option<Box<dyn Transformer>>> {
        Ok(self
            .make(StageKind::Transformer)?
            .then(|| Box::new(Remote(self)) as Box<dyn Transformer>))
    }

    /// A new loader.
    pub fn loader(mut self) -> Result<Option<Box<dyn Loader>>> {
        Ok(self
            .make(StageKind::Loader)?
            .then(|| Box::new(Remote(self)) as Box<dyn Loader>))
    }

    fn make(&mut self, kind: StageKind) -> Result<bool> {
        Ok(self.call(&Call::Make(kind), &[], Lent::Nothing)?.0)
    }

    fn call<R: DeserializeOwned>(
        &mut self,
        call: &Call,
        batches: &[&RecordBatch],
        lent: Lent<'_>,
    ) -> Result<(R, Batches)> {
        if self.broken {
            return Err(StageError::fatal(
                "the worker process of this stage has ended and is not called again",
            ));
        }
        let answer = self.converse(call, batches, Services::new(lent));
        answer.unwrap_or_else(|broken| {
            self.broken = true;
            Err(self.explain(call, broken))
        })
    }

    fn converse<R: DeserializeOwned>(
        &mut self,
        call: &Call,
        batches: &[&RecordBatch],
        mut services: Services<'_>,
    ) -> Result<Result<(R, Batches)>, Broken> {
        // What the host takes for its services is not the plugin's time.
        let mut left = self.call_timeout;
        let mut since = Instant::now();
        self.channel
            .send(Kind::Call, call, batches, Some(since + left))?;
        loop {
            let frame = self.channel.receive(Some(since + left))?;
            match frame.kind {
                Kind::Answer => {
                    let head = frame.head()?;
                    return Ok(Ok((head, Batches::new(frame.into_batches()?))));
                }
                Kind::Failure => return Ok(Err(frame.head::<Fault>()?.into())),
                Kind::Tell => {
                    // Listening is not stopped for: whoever only talks runs out of time too.
                    services.take(frame.head::<Tell>()?);
                }
                Kind::Ask => {
                    left = left.saturating_sub(since.elapsed());
                    let ask = frame.head::<Ask>()?;
                    let answer = services.answer(ask, frame.into_batches()?)?;
                    since = Instant::now();
                    let deadline = Some(since + left);
                    match answer {
                        Ok((head, batches)) => {
                            let batches: Vec<&RecordBatch> = batches.iter().collect();
                            self.channel.send(Kind::Answer, &head, &batches, deadline)?;
                        }
                        Err(error) => {
                            let fault = Fault::from(&error);
                            self.channel.send(Kind::Failure, &fault, &[], deadline)?;
                        }
                    }
                }
                Kind::Call => {
                    return Err(Broken::Garbage("a worker that calls its host".to_owned()));
                }
            }
        }
    }

    fn explain(&self, call: &Call, broken: Broken) -> StageError {
        if let Broken::Unsendable(what) = broken {
            return StageError::fatal(format!(
                "what the stage is given cannot cross to its worker process: {what}"
            ));
        }
        if !matches!(broken, Broken::Gone(_)) {
            self.process.kill();
        }
        let ended = self.process.ending();
        let (kind, message) = match broken {
            Broken::Gone(_) => (
                ended.kind(),
                format!("the worker process {}", ended.words()),
            ),
            Broken::TooLate => (
                ErrorKind::Killed,
                format!(
                    "`{}` did not come back within {} s (`limits.call_timeout`): the worker process was ended",
                    call.word(),
                    self.call_timeout.as_secs_f64()
                ),
            ),
            Broken::Garbage(what) | Broken::Unsendable(what) => (
                ErrorKind::Crashed,
                format!(
                    "the worker process sent {what}, perhaps because something wrote to a descriptor that was not its own: it was ended"
                ),
            ),
        };
        ended.error(kind, message)
    }
}

/// A stage in a worker.
struct Remote(Seat);

impl Remote {
    fn nonsense(&mut self, call: &Call, broken: Broken) -> StageError {
        self.0.broken = true;
        self.0.explain(call, broken)
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        let ((), _) = self.0.call(&Call::Close(outcome), &[], Lent::Nothing)?;
        Ok(())
    }

    fn transformed(
        &mut self,
        call: &Call,
        input: &[&RecordBatch],
        cx: &dyn Context,
    ) -> Result<Transformed> {
        let (head, mut batches) = self
            .0
            .call::<TransformedHead>(call, input, Lent::Basic(cx))?;
        join_transformed(head, &mut batches).map_err(|broken| self.nonsense(call, broken))
    }
}

impl Extractor for Remote {
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef> {
        let call = Call::Open {
            attempt: cx.attempt().clone(),
            tables: Vec::new(),
        };
        let ((), mut batches) = self.0.call(&call, &[], Lent::Extract(cx))?;
        match batches.take() {
            Ok(schema) => Ok(schema.schema()),
            Err(broken) => Err(self.nonsense(&call, broken)),
        }
    }

    fn next(&mut self, cx: &dyn ExtractContext) -> Result<Option<Extracted>> {
        let call = Call::Next;
        let (resume, mut batches) = self
            .0
            .call::<Option<Resume>>(&call, &[], Lent::Extract(cx))?;
        let Some(resume) = resume else {
            return Ok(None);
        };
        match batches.take() {
            Ok(batch) => Ok(Some(Extracted { batch, resume })),
            Err(broken) => Err(self.nonsense(&call, broken)),
        }
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        self.close(outcome)
    }
}

impl Transformer for Remote {
    fn open(&mut self, cx: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
        let call = Call::Open {
            attempt: cx.attempt().clone(),
            tables: Vec::new(),
        };
        let input = split_schema(input);
        let (names, mut batches) = self.0.call(&call, &[&input], Lent::Basic(cx))?;
        join_tables(names, &mut batches).map_err(|broken| self.nonsense(&call, broken))
    }

    fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        self.transformed(&Call::Transform, &[&input], cx)
    }

    fn finish(&mut self, cx: &dyn Context) -> Result<Transformed> {
        self.transformed(&Call::Finish, &[], cx)
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        self.close(outcome)
    }
}

impl Loader for Remote {
    fn open(
        &mut self,
        cx: &dyn LoadContext,
        tables: &[TableSchema],
    ) -> Result<Option<CommitToken>> {
        let (tables, schemas) = split_tables(tables);
        let call = Call::Open {
            attempt: cx.attempt().clone(),
            tables,
        };
        let schemas: Vec<&RecordBatch> = schemas.iter().collect();
        Ok(self.0.call(&call, &schemas, Lent::Load(cx))?.0)
    }

    fn load(&mut self, cx: &dyn LoadContext, output: &Output) -> Result<Loaded> {
        let mut batches = Vec::new();
        let head = split_output(output, &mut batches)
            .map_err(|broken| StageError::fatal(broken.to_string()))?;
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        Ok(self.0.call(&Call::Load(head), &batches, Lent::Load(cx))?.0)
    }

    fn commit(&mut self, cx: &dyn LoadContext, token: &CommitToken) -> Result<()> {
        let call = Call::Commit(token.clone());
        let ((), _) = self.0.call(&call, &[], Lent::Load(cx))?;
        Ok(())
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        self.close(outcome)
    }
}
