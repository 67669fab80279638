//! One message on a socket between host and worker: a head in JSON, and record batches as Arrow IPC streams.
//!
//! What a message means is not known here. Neither side trusts the other: lengths are limited, memory grows only with
//! what has really arrived, batches are checked value by value when they are decoded, and messages are counted, so that
//! bytes which somebody else has written to the socket are noticed.
//!
//! Layout, all numbers little-endian: mark (4), number of the message (4), kind (1), zero (1), batches (2), length of
//! the head (4); then the length (8) of each batch; then the head; then the batches.
//!
//! Batches are copied into the socket and out of it. Memory that both sides see would save the copies, but a plugin
//! could then change a batch after the host has checked it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use etl_plugin_api::export::guard;
use serde::Serialize;
use serde::de::DeserializeOwned;

const MARK: [u8; 4] = *b"etlw";
const HEADER: usize = 16;
const LENGTH: usize = 8;
/// More than any list of rejections of a batch needs.
const LONGEST_HEAD: usize = 256 << 20;
const LONGEST_MESSAGE: u64 = 16 << 30;
/// Memory grows by this much at a time while a batch arrives.
const STEP: usize = 16 << 20;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Do something.
    Call,
    /// It is done.
    Answer,
    /// It could not be done.
    Failure,
    /// Asked while something is being done; needs an answer.
    Ask,
    /// Said while something is being done.
    Tell,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Call => 1,
            Self::Answer => 2,
            Self::Failure => 3,
            Self::Ask => 4,
            Self::Tell => 5,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Call,
            2 => Self::Answer,
            3 => Self::Failure,
            4 => Self::Ask,
            5 => Self::Tell,
            _ => return None,
        })
    }
}

/// Why nothing more can be said over a socket.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The other side has closed it, or is gone.
    #[error("the other side is gone: {0}")]
    Gone(io::Error),
    /// The other side takes too long.
    #[error("no answer in time")]
    TooLate,
    /// What was to be sent is no message; nothing was sent.
    #[error("{0}")]
    Unsendable(String),
    /// What came is no message.
    #[error("{0}")]
    Garbage(String),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TooLate,
            _ => Self::Gone(error),
        }
    }
}

fn garbage(what: impl Into<String>) -> Broken {
    Broken::Garbage(what.into())
}

fn unsendable(what: impl Into<String>) -> Broken {
    Broken::Unsendable(what.into())
}

/// A message that has arrived.
#[derive(Debug)]
pub struct Frame {
    pub kind: Kind,
    head: Buffer,
    batches: Vec<Buffer>,
}

impl Frame {
    /// Its head.
    pub fn head<T: DeserializeOwned>(&self) -> Result<T, Broken> {
        serde_json::from_slice(&self.head)
            .map_err(|error| garbage(format!("a head that is not understood: {error}")))
    }

    /// Its batches, checked.
    pub fn into_batches(self) -> Result<Vec<RecordBatch>, Broken> {
        self.batches.into_iter().map(decode).collect()
    }
}

/// One end of the socket.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    sent: u32,
    received: u32,
    out: Vec<u8>,
    most: u64,
}

impl Channel {
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            sent: 0,
            received: 0,
            out: Vec::new(),
            most: LONGEST_MESSAGE,
        }
    }

    /// The same, when the other side has no more memory than this to make a message in.
    #[must_use]
    pub fn holding(mut self, memory: u64) -> Self {
        self.most = memory;
        self
    }

    /// The socket itself, for what is no message.
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// Sends one message, which the other side must have taken by this time.
    pub fn send(
        &mut self,
        kind: Kind,
        head: &impl Serialize,
        batches: &[&RecordBatch],
        deadline: Option<Instant>,
    ) -> Result<(), Broken> {
        let out = &mut self.out;
        out.clear();
        let count = u16::try_from(batches.len())
            .map_err(|_| unsendable("more batches than a message can hold"))?;
        out.extend_from_slice(&MARK);
        out.extend_from_slice(&self.sent.to_le_bytes());
        out.extend_from_slice(&[kind.code(), 0]);
        out.extend_from_slice(&count.to_le_bytes());
        let lengths = HEADER + LENGTH * batches.len();
        out.resize(lengths, 0);
        serde_json::to_writer(&mut *out, head)
            .map_err(|error| unsendable(format!("a head that cannot be written: {error}")))?;
        let head = u32::try_from(out.len() - lengths)
            .map_err(|_| unsendable("a head that is too long to be sent"))?;
        put(out, HEADER - 4, &head.to_le_bytes());
        for (index, batch) in batches.iter().enumerate() {
            let start = out.len();
            encode(batch, out)?;
            let length = (out.len() - start) as u64;
            put(out, HEADER + LENGTH * index, &length.to_le_bytes());
        }
        self.sent = self.sent.wrapping_add(1);
        write(&mut self.stream, out, deadline)?;
        // A rare giant must not be kept for ever.
        out.shrink_to(STEP);
        Ok(())
    }

    /// The next message, by this time at the latest.
    pub fn receive(&mut self, deadline: Option<Instant>) -> Result<Frame, Broken> {
        let mut header = [0; HEADER];
        read(&mut self.stream, &mut header, deadline)?;
        let [
            m0,
            m1,
            m2,
            m3,
            n0,
            n1,
            n2,
            n3,
            kind,
            zero,
            b0,
            b1,
            h0,
            h1,
            h2,
            h3,
        ] = header;
        let number = u32::from_le_bytes([n0, n1, n2, n3]);
        if [m0, m1, m2, m3] != MARK || zero != 0 || number != self.received {
            return Err(garbage("bytes that are no message"));
        }
        self.received = self.received.wrapping_add(1);
        let kind = Kind::from_code(kind).ok_or_else(|| garbage("a message of an unknown kind"))?;
        let count = usize::from(u16::from_le_bytes([b0, b1]));
        let head = usize::try_from(u32::from_le_bytes([h0, h1, h2, h3])).unwrap_or(usize::MAX);
        if head > LONGEST_HEAD || head as u64 > self.most {
            return Err(garbage("a message that is too long"));
        }
        let mut lengths = vec![0; LENGTH * count];
        read(&mut self.stream, &mut lengths, deadline)?;
        let head = read_growing(&mut self.stream, head as u64, deadline)?.into();
        let lengths: Vec<u64> = lengths
            .chunks_exact(LENGTH)
            .map(|length| u64::from_le_bytes(length.try_into().unwrap_or_default()))
            .collect();
        let all = lengths
            .iter()
            .fold(0, |all: u64, one| all.saturating_add(*one));
        if all > self.most {
            return Err(garbage("a message that is too long"));
        }
        let mut batches = Vec::with_capacity(count);
        for length in lengths {
            batches.push(read_growing(&mut self.stream, length, deadline)?.into());
        }
        Ok(Frame {
            kind,
            head,
            batches,
        })
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn read(
    stream: &mut UnixStream,
    buffer: &mut [u8],
    deadline: Option<Instant>,
) -> Result<(), Broken> {
    let Some(deadline) = deadline else {
        return Ok(stream.read_exact(buffer)?);
    };
    // Each piece has what is left of the time, or bytes that drip would have it over and over.
    let mut rest = buffer;
    while !rest.is_empty() {
        stream.set_read_timeout(Some(time_left(deadline)?))?;
        match stream.read(rest) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(read) => rest = rest.get_mut(read..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write(
    stream: &mut UnixStream,
    mut bytes: &[u8],
    deadline: Option<Instant>,
) -> Result<(), Broken> {
    let Some(deadline) = deadline else {
        return Ok(stream.write_all(bytes)?);
    };
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(time_left(deadline)?))?;
        match stream.write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn time_left(deadline: Instant) -> Result<Duration, Broken> {
    let left = deadline.saturating_duration_since(Instant::now());
    // The system takes no time for unlimited time, and counts in microseconds.
    if left < Duration::from_micros(1) {
        return Err(Broken::TooLate);
    }
    Ok(left)
}

fn read_growing(
    stream: &mut UnixStream,
    length: u64,
    deadline: Option<Instant>,
) -> Result<MutableBuffer, Broken> {
    let length = usize::try_from(length).map_err(|_| garbage("a message that is too long"))?;
    let mut buffer = MutableBuffer::from_len_zeroed(length.min(STEP));
    let mut filled = 0;
    loop {
        let end = buffer.len();
        let part = buffer.as_slice_mut().get_mut(filled..).unwrap_or_default();
        read(stream, part, deadline)?;
        if end == length {
            return Ok(buffer);
        }
        filled = end;
        buffer.resize(length.min(end + STEP), 0);
    }
}

fn encode(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Broken> {
    let cannot = |error: arrow_schema::ArrowError| {
        unsendable(format!("a batch that cannot be written: {error}"))
    };
    let mut writer = StreamWriter::try_new(out, batch.schema_ref()).map_err(cannot)?;
    writer.write(batch).map_err(cannot)?;
    writer.finish().map_err(cannot)
}

fn decode(mut stream: Buffer) -> Result<RecordBatch, Broken> {
    // The decoder is made for streams that may be broken, but nothing here may depend on it.
    let decoded = guard(|| Ok(StreamDecoder::new().decode(&mut stream)?));
    match decoded {
        Ok(Some(batch)) => Ok(batch),
        Ok(None) => Err(garbage("a batch that is incomplete")),
        Err(error) => Err(garbage(format!("a batch that is broken: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, DictionaryArray, Int64Array, RecordBatchOptions, StringArray};
    use arrow_schema::{Field, Schema};
    use proptest::prelude::*;

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (a, b) = UnixStream::pair().unwrap();
        (Channel::new(a), Channel::new(b))
    }

    fn names(rows: usize) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(
            0..i64::try_from(rows).unwrap(),
        ));
        let names: ArrayRef = Arc::new(
            (0..rows)
                .map(|n| (n % 3 != 0).then(|| format!("name {n}")))
                .collect::<StringArray>(),
        );
        let words: DictionaryArray<arrow_array::types::Int32Type> = (0..rows)
            .map(|n| if n % 2 == 0 { "a" } else { "b" })
            .collect();
        let schema = Schema::new(vec![
            Field::new("id", arrow_schema::DataType::Int64, false),
            Field::new("name", arrow_schema::DataType::Utf8, true),
            Field::new("word", arrow_array::Array::data_type(&words).clone(), true),
        ])
        .with_metadata([("origin".to_owned(), "test".to_owned())]);
        RecordBatch::try_new(Arc::new(schema), vec![ids, names, Arc::new(words)]).unwrap()
    }

    #[test]
    fn batches_cross_with_slices_dictionaries_metadata_and_without_columns() {
        let (mut one, mut other) = pair();
        let options = RecordBatchOptions::new().with_row_count(Some(5));
        let bare =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        let slice = names(100).slice(17, 40);
        one.send(Kind::Call, &"hello", &[&slice, &bare], None)
            .unwrap();
        let frame = other.receive(None).unwrap();
        assert_eq!(frame.kind, Kind::Call);
        assert_eq!(frame.head::<String>().unwrap(), "hello");
        assert_eq!(frame.into_batches().unwrap(), [slice, bare]);
        one.send(Kind::Tell, &7, &[], None).unwrap();
        assert_eq!(other.receive(None).unwrap().head::<u8>().unwrap(), 7);
    }

    #[test]
    fn a_batch_that_is_larger_than_the_steps_crosses() {
        let (mut one, mut other) = pair();
        let text = "x".repeat(STEP + 12_345);
        let wide: ArrayRef = Arc::new(StringArray::from(vec![text.as_str(), "y"]));
        let batch = RecordBatch::try_from_iter([("text", wide)]).unwrap();
        let sent = batch.clone();
        let sender =
            std::thread::spawn(move || one.send(Kind::Answer, &(), &[&sent], None).unwrap());
        let frame = other.receive(None).unwrap();
        assert_eq!(frame.into_batches().unwrap(), [batch]);
        sender.join().unwrap();
    }

    #[test]
    fn whoever_is_gone_late_or_speaks_nonsense_is_told_apart() {
        let (one, mut other) = pair();
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(matches!(other.receive(Some(soon)), Err(Broken::TooLate)));
        drop(one);
        assert!(matches!(other.receive(None), Err(Broken::Gone(_))));
        let (mut one, mut other) = pair();
        one.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(matches!(other.receive(None), Err(Broken::Garbage(_))));
    }

    #[test]
    fn a_message_that_was_put_in_between_is_noticed() {
        let (mut one, mut other) = pair();
        one.send(Kind::Answer, &(), &[], None).unwrap();
        other.receive(None).unwrap();
        let mut forged = Channel::new(one.stream.try_clone().unwrap());
        forged.send(Kind::Answer, &(), &[], None).unwrap();
        assert!(matches!(other.receive(None), Err(Broken::Garbage(_))));
    }

    #[test]
    fn a_length_that_is_a_lie_costs_no_memory() {
        let (mut one, mut other) = pair();
        let mut header = Vec::from(MARK);
        header.extend_from_slice(&[0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0]);
        header.extend_from_slice(&LONGEST_MESSAGE.to_le_bytes());
        one.stream.write_all(&header).unwrap();
        drop(one);
        assert!(matches!(other.receive(None), Err(Broken::Gone(_))));
    }

    #[test]
    fn a_message_that_is_larger_than_the_other_side_is_refused_before_it_is_read() {
        let (one, other) = pair();
        let mut other = other.holding(64 << 20);
        let mut header = Vec::from(MARK);
        header.extend_from_slice(&[0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 0, 0]);
        for _ in 0..2 {
            header.extend_from_slice(&(33_u64 << 20).to_le_bytes());
        }
        (&one.stream).write_all(&header).unwrap();
        assert!(matches!(other.receive(None), Err(Broken::Garbage(_))));
    }

    #[test]
    fn whoever_does_not_read_is_not_waited_for_longer_than_said() {
        let (mut one, _other) = pair();
        let wide: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(STEP)]));
        let batch = RecordBatch::try_from_iter([("text", wide)]).unwrap();
        let soon = Some(Instant::now() + Duration::from_millis(20));
        let sent = one.send(Kind::Call, &(), &[&batch], soon);
        assert!(matches!(sent, Err(Broken::TooLate)), "{sent:?}");
    }

    #[test]
    fn bytes_that_drip_and_talk_without_end_come_to_an_end_all_the_same() {
        let (one, mut other) = pair();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let drip = std::thread::spawn(move || {
            let header = [&MARK[..], &[0; 12]].concat();
            for byte in header {
                let _ = (&one.stream).write_all(&[byte]);
                if stopped.recv_timeout(Duration::from_millis(10))
                    != Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    return;
                }
            }
        });
        let soon = Some(Instant::now() + Duration::from_millis(50));
        assert!(matches!(other.receive(soon), Err(Broken::TooLate)));
        drop(stop);
        drip.join().unwrap();
        let (mut one, mut other) = pair();
        one.send(Kind::Tell, &(), &[], None).unwrap();
        let past = Some(Instant::now());
        assert!(matches!(other.receive(past), Err(Broken::TooLate)));
    }

    proptest! {
        /// Bits that flip on the way end in an error or in another batch, never in a panic.
        #[test]
        fn a_broken_batch_is_survived(flips in proptest::collection::vec((0usize..4096, any::<u8>()), 1..8)) {
            let mut bytes = Vec::new();
            encode(&names(50), &mut bytes).unwrap();
            for (at, mask) in flips {
                let at = at % bytes.len();
                bytes[at] ^= mask;
            }
            let mut aligned = MutableBuffer::new(bytes.len());
            aligned.extend_from_slice(&bytes);
            let _ = decode(aligned.into());
        }
    }
}
