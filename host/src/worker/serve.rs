//! The worker process itself: closes the fence, loads the plugin, answers calls.
//!
//! Its stdin is the socket to the host. By it come the first word, and then one more socket for each stage; each is
//! served by a thread of its own. When the host closes the first socket, the worker ends.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arrow_array::RecordBatch;
use etl_plugin_api::abi::{ForeignPipeline, PluginHandle};
use etl_plugin_api::{
    AttemptInfo, ErrorKind, Extractor, Loader, Partition, StageError, Transformer,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value as Json, json};

use super::context::{Cancelled, WorkerContext, lost_host};
use super::ending::LOST_HOST;
use super::fence;
use super::frame::{Broken, Channel, Kind};
use super::message::{
    Batches, Call, Fault, Loaded, StageKind, Start, join_output, join_tables, split_schema,
    split_tables, split_transformed,
};
use crate::plugin::load;

/// The whole life of a worker.
pub fn serve() -> ExitCode {
    fence::close_inherited_descriptors();
    fence::leave_signals_to_the_host();
    // What `top` shows in place of the name of the file.
    let _ = rustix::thread::set_name(c"etl-worker");
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(LOST_HOST),
    }
}

fn run() -> Result<(), Broken> {
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut channel = Channel::new(control);
    let start: Start = channel.receive(None)?.head()?;
    let measures = fence::close(&start.fence, &start.copy);
    // A host that died before the fence was closed will not take this process along any more.
    if std::os::unix::process::parent_id() != start.host {
        return Err(Broken::Garbage("the host is gone".to_owned()));
    }
    // Told before any code of the plugin can have a say in it.
    channel.send(Kind::Tell, &measures, &[], None)?;
    let handle = load::load(&start.copy);
    let loaded: Loaded = handle
        .as_ref()
        .map(|handle| handle.description().clone())
        .map_err(Clone::clone);
    channel.send(Kind::Answer, &loaded, &[], None)?;
    let control = channel.into_stream();
    let mut seats: Vec<JoinHandle<()>> = Vec::new();
    if let (Ok(handle), Some(pipeline)) = (handle, start.pipeline) {
        let settings: Arc<str> = start.settings.into();
        while let Some(stream) = next_channel(&control)? {
            // Each keeps its stack until it is joined.
            let (ended, going): (Vec<_>, Vec<_>) =
                seats.into_iter().partition(JoinHandle::is_finished);
            join(ended);
            seats = going;
            let (handle, settings, own) = (handle.clone(), settings.clone(), stream.try_clone()?);
            let seat = thread::Builder::new()
                .name("stage".to_owned())
                .spawn(move || serve_channel(stream, &handle, pipeline, &settings));
            match seat {
                Ok(seat) => seats.push(seat),
                Err(error) => refuse_channel(own, &error)?,
            }
        }
    }
    join(seats);
    Ok(())
}

fn join(seats: Vec<JoinHandle<()>>) {
    for seat in seats {
        // A thread that panicked has told its host so by closing the socket.
        let _ = seat.join();
    }
}

/// Answers the first call on a socket that no thread can be had for.
fn refuse_channel(stream: UnixStream, error: &io::Error) -> Result<(), Broken> {
    let mut channel = Channel::new(stream);
    channel.receive(None)?;
    let error = StageError::new(
        ErrorKind::Killed,
        format!("the worker process cannot start a thread, perhaps for `limits.memory`: {error}"),
    );
    channel.send(Kind::Failure, &Fault::from(&error), &[], None)
}

/// The socket for one more stage; `None` once the host has no more.
fn next_channel(control: &UnixStream) -> io::Result<Option<UnixStream>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(
        control,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptor: Option<OwnedFd> = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptor
        .filter(|_| received.bytes > 0)
        .map(UnixStream::from))
}

fn serve_channel(stream: UnixStream, handle: &PluginHandle, pipeline: u32, settings: &str) {
    let channel = RefCell::new(Channel::new(stream));
    let mut seat = Seat {
        handle,
        pipeline,
        settings,
        opened: None,
        stage: Stage::None,
        attempt: AttemptInfo::default(),
        cancelled: Cancelled::default(),
    };
    loop {
        let frame = match channel.borrow_mut().receive(None) {
            Ok(frame) => frame,
            // The host needs this stage no more.
            Err(Broken::Gone(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            Err(_) => lost_host(),
        };
        let (Ok(call), Ok(batches)) = (frame.head::<Call>(), frame.into_batches()) else {
            lost_host()
        };
        let answer = seat.answer(call, Batches::new(batches), &channel);
        let mut channel = channel.borrow_mut();
        let delivered = match answer {
            Ok((head, batches)) => {
                let batches: Vec<&RecordBatch> = batches.iter().collect();
                channel.send(Kind::Answer, &head, &batches, None)
            }
            Err(error) => channel.send(Kind::Failure, &Fault::from(&error), &[], None),
        };
        if delivered.is_err() {
            lost_host()
        }
    }
}

/// What one socket is for.
struct Seat<'a> {
    handle: &'a PluginHandle,
    pipeline: u32,
    settings: &'a str,
    opened: Option<ForeignPipeline>,
    stage: Stage,
    attempt: AttemptInfo,
    cancelled: Cancelled,
}

enum Stage {
    None,
    Extractor(Box<dyn Extractor>),
    Transformer(Box<dyn Transformer>),
    Loader(Box<dyn Loader>),
}

type Answer = (Json, Vec<RecordBatch>);

impl Seat<'_> {
    fn pipeline(&mut self) -> Result<&ForeignPipeline, StageError> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.handle.pipeline(self.pipeline)?,
        };
        Ok(self.opened.insert(opened))
    }

    fn answer(
        &mut self,
        call: Call,
        mut batches: Batches,
        channel: &RefCell<Channel>,
    ) -> Result<Answer, StageError> {
        let only = |head: Json| (head, Vec::new());
        let settings = self.settings;
        match call {
            Call::Validate => return Ok(only(json!(self.pipeline()?.validate(settings)?))),
            Call::Partitions(attempt) => {
                let cancelled = Cancelled::default();
                let cx = WorkerContext::new(channel, &attempt, &cancelled);
                let partitions: Option<Vec<Partition>> =
                    self.pipeline()?.partitions(settings, &cx)?;
                return Ok(only(json!(partitions)));
            }
            Call::Make(kind) => return Ok(only(json!(self.make(kind)?))),
            Call::Open {
                attempt,
                ref tables,
            } => {
                self.attempt = attempt;
                let tables = tables.clone();
                return self.open(tables, batches, channel);
            }
            _ => {}
        }
        let cx = WorkerContext::new(channel, &self.attempt, &self.cancelled);
        match (&mut self.stage, call) {
            (Stage::Extractor(stage), Call::Next) => Ok(match stage.next(&cx)? {
                Some(extracted) => (json!(extracted.resume), vec![extracted.batch]),
                None => only(Json::Null),
            }),
            (Stage::Transformer(stage), Call::Transform) => {
                let input = batches.take().map_err(|broken| nonsense(&broken))?;
                transformed(stage.transform(&cx, input)?)
            }
            (Stage::Transformer(stage), Call::Finish) => transformed(stage.finish(&cx)?),
            (Stage::Loader(stage), Call::Load(head)) => {
                let output =
                    join_output(&head, &mut batches).map_err(|broken| nonsense(&broken))?;
                Ok(only(json!(stage.load(&cx, &output)?)))
            }
            (Stage::Loader(stage), Call::Commit(token)) => {
                Ok(only(json!(stage.commit(&cx, &token)?)))
            }
            (Stage::Extractor(stage), Call::Close(outcome)) => {
                Ok(only(json!(stage.close(outcome)?)))
            }
            (Stage::Transformer(stage), Call::Close(outcome)) => {
                Ok(only(json!(stage.close(outcome)?)))
            }
            (Stage::Loader(stage), Call::Close(outcome)) => Ok(only(json!(stage.close(outcome)?))),
            (_, call) => Err(StageError::fatal(format!(
                "there is no stage that could be called for `{}`",
                call.word()
            ))),
        }
    }

    fn make(&mut self, kind: StageKind) -> Result<bool, StageError> {
        let settings = self.settings;
        let pipeline = self.pipeline()?;
        self.stage = match kind {
            StageKind::Extractor => pipeline
                .extractor(settings)?
                .map_or(Stage::None, Stage::Extractor),
            StageKind::Transformer => pipeline
                .transformer(settings)?
                .map_or(Stage::None, Stage::Transformer),
            StageKind::Loader => pipeline
                .loader(settings)?
                .map_or(Stage::None, Stage::Loader),
        };
        Ok(!matches!(self.stage, Stage::None))
    }

    fn open(
        &mut self,
        tables: Vec<Option<String>>,
        mut batches: Batches,
        channel: &RefCell<Channel>,
    ) -> Result<Answer, StageError> {
        let cx = WorkerContext::new(channel, &self.attempt, &self.cancelled);
        match &mut self.stage {
            Stage::None => Err(StageError::fatal("there is no stage to open")),
            Stage::Extractor(stage) => {
                let schema = stage.open(&cx)?;
                Ok((Json::Null, vec![split_schema(&schema)]))
            }
            Stage::Transformer(stage) => {
                let input = batches.take().map_err(|broken| nonsense(&broken))?.schema();
                let (names, schemas) = split_tables(&stage.open(&cx, &input)?);
                Ok((json!(names), schemas))
            }
            Stage::Loader(stage) => {
                let tables =
                    join_tables(tables, &mut batches).map_err(|broken| nonsense(&broken))?;
                Ok((json!(stage.open(&cx, &tables)?), Vec::new()))
            }
        }
    }
}

fn transformed(transformed: etl_plugin_api::Transformed) -> Result<Answer, StageError> {
    let (head, batches) = split_transformed(transformed).map_err(|broken| nonsense(&broken))?;
    Ok((json!(head), batches))
}

fn nonsense(broken: &Broken) -> StageError {
    StageError::fatal(broken.to_string())
}
