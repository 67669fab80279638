//! Packets: messages read whole, responses written in packets of the agreed size (MS-TDS 2.2.3). Here the faults of a
//! response meet its bytes.

use std::io::{self, Read, Write};
use std::time::Duration;

use super::transport::Transport;
use crate::stand_in::fault::Release;

pub const BATCH: u8 = 0x01;
pub const RPC: u8 = 0x03;
pub const RESPONSE: u8 = 0x04;
pub const ATTENTION: u8 = 0x06;
pub const BULK: u8 = 0x07;
pub const TRANSACTION: u8 = 0x0e;
pub const LOGIN: u8 = 0x10;
pub const PRELOGIN: u8 = 0x12;

const END_OF_MESSAGE: u8 = 0x01;
const HEADER: usize = 8;
/// More than any statement or bulk load of a test.
const LARGEST_MESSAGE: usize = 1 << 30;

/// A message, put together from its packets.
#[derive(Debug)]
pub struct Message {
    pub kind: u8,
    /// The connection is to be as new (RESETCONNECTION).
    pub reset: bool,
    pub body: Vec<u8>,
}

/// What happens to the bytes of one response.
#[derive(Debug, Default)]
pub struct Plan {
    pub cut: Option<u64>,
    pub reset: Option<u64>,
    pub stall: Option<(u64, Release)>,
}

/// One side of a connection.
#[derive(Debug)]
pub struct Channel {
    pub transport: Transport,
    pub packet_size: usize,
    /// The packet being filled, its header included.
    packet: Vec<u8>,
    number: u8,
    sent: u64,
    pub plan: Plan,
    /// An attention that came while a response was written.
    pub attention: bool,
    /// An attention is possible: a response to a request, not to a login.
    pub watch: bool,
    /// The client reads UTF-8; for others the server turns it into UTF-16.
    pub utf8: bool,
    /// What was read too early.
    early: Vec<u8>,
    pub closing: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Channel {
    pub fn new(
        transport: Transport,
        closing: std::sync::Arc<std::sync::atomic::AtomicBool>,
    ) -> Self {
        Self {
            transport,
            packet_size: 4096,
            packet: vec![0; HEADER],
            number: 0,
            sent: 0,
            plan: Plan::default(),
            attention: false,
            watch: false,
            utf8: false,
            early: Vec::new(),
            closing,
        }
    }

    /// Reads a whole message; `None` when the client has left.
    pub fn read(&mut self) -> io::Result<Option<Message>> {
        let mut message: Option<Message> = None;
        loop {
            let mut header = [0; HEADER];
            if let Err(error) = self.read_exact(&mut header) {
                return if message.is_none() && error.kind() == io::ErrorKind::UnexpectedEof {
                    Ok(None)
                } else {
                    Err(error)
                };
            }
            let [kind, status, high, low, ..] = header;
            let length = usize::from(u16::from_be_bytes([high, low]));
            let Some(length) = length.checked_sub(HEADER) else {
                return Err(io::Error::other("a packet shorter than its header"));
            };
            let it = message.get_or_insert(Message {
                kind,
                reset: status & 0x18 != 0,
                body: Vec::new(),
            });
            let before = it.body.len();
            if before + length > LARGEST_MESSAGE {
                return Err(io::Error::other("a message that is too long"));
            }
            it.body.resize(before + length, 0);
            let mut body = std::mem::take(&mut it.body);
            self.read_exact(body.get_mut(before..).unwrap_or_default())?;
            it.body = body;
            // An attention may come between the packets of a request that is given up; it takes its place.
            if kind == ATTENTION {
                it.kind = ATTENTION;
            }
            if status & END_OF_MESSAGE != 0 {
                return Ok(message);
            }
        }
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let early = self.early.len().min(buffer.len());
        let (first, rest) = buffer.split_at_mut(early);
        first.copy_from_slice(self.early.get(..early).unwrap_or_default());
        self.early.drain(..early);
        self.transport.read_exact(rest)
    }

    /// Begins the response to a request.
    pub fn begin(&mut self, plan: Plan, watch: bool) {
        self.packet.truncate(HEADER);
        self.number = 0;
        self.sent = 0;
        self.plan = plan;
        self.attention = false;
        self.watch = watch;
    }

    pub fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let room = self.packet_size.saturating_sub(self.packet.len());
            let Some((now, later)) = bytes.split_at_checked(room) else {
                self.packet.extend(bytes);
                return Ok(());
            };
            self.packet.extend(now);
            if later.is_empty() {
                return Ok(());
            }
            self.send(false)?;
            bytes = later;
        }
    }

    /// Sends what is left as the last packet.
    pub fn end(&mut self) -> io::Result<()> {
        self.send(true)?;
        self.plan = Plan::default();
        self.transport.flush()
    }

    fn send(&mut self, last: bool) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let [high, low] = (self.packet.len() as u16).to_be_bytes();
        let header = [RESPONSE, u8::from(last), high, low, 0, 55, self.number, 0];
        let mut packet = std::mem::take(&mut self.packet);
        packet.splice(..HEADER, header);
        let result = self.write(&packet);
        packet.truncate(HEADER);
        self.packet = packet;
        result?;
        if self.watch && !last && !self.attention {
            self.look_for_attention()?;
        }
        Ok(())
    }

    fn write(&mut self, packet: &[u8]) -> io::Result<()> {
        let (before, after) = (self.sent, self.sent + packet.len() as u64);
        self.sent = after;
        let inside = |at: u64| at < after || at == 0;
        let limit = |at: u64| {
            packet
                .get(..at.saturating_sub(before) as usize)
                .unwrap_or(packet)
        };
        if let Some(at) = self.plan.cut.filter(|at| inside(*at)) {
            self.transport.write_all(limit(at))?;
            self.transport.flush()?;
            self.transport.close();
            return Err(io::Error::other("cut by a fault"));
        }
        if let Some(at) = self.plan.reset.filter(|at| inside(*at)) {
            self.transport.write_all(limit(at))?;
            self.transport.flush()?;
            self.transport.reset();
            return Err(io::Error::other("reset by a fault"));
        }
        if self.plan.stall.as_ref().is_some_and(|(at, _)| inside(*at))
            && let Some((at, release)) = self.plan.stall.take()
        {
            let first = limit(at);
            self.transport.write_all(first)?;
            self.transport.flush()?;
            self.wait(&release, false)?;
            return self
                .transport
                .write_all(packet.get(first.len()..).unwrap_or_default());
        }
        self.transport.write_all(packet)
    }

    /// Waits for the test, or for the client to leave, or for the server to stop; with `answering`, also for an
    /// attention.
    pub fn wait(&mut self, release: &Release, answering: bool) -> io::Result<()> {
        release.reach();
        while !release.wait(Duration::from_millis(10)) {
            if self.closing.load(std::sync::atomic::Ordering::SeqCst)
                || self.transport.has_ended(Duration::from_millis(1))
            {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if answering {
                self.look_for_attention()?;
                if self.attention {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub fn look_for_attention(&mut self) -> io::Result<()> {
        if !self.early.is_empty() || !self.transport.is_readable() {
            return Ok(());
        }
        let mut header = [0; HEADER];
        self.transport.read_exact(&mut header)?;
        if header.first() == Some(&ATTENTION) {
            self.attention = true;
        } else {
            self.early = header.to_vec();
        }
        Ok(())
    }
}
