//! The socket, with or without TLS, and the ways in which a test breaks it. TLS handshakes travel inside PRELOGIN
//! packets (MS-TDS 2.2.6.5).

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, recv, sockopt};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Type of the packets around a handshake.
const PRELOGIN: u8 = 0x12;

#[derive(Debug)]
pub enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Transport {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The handshake, as the server.
    pub fn with_tls(self, config: &Arc<ServerConfig>) -> io::Result<Self> {
        let Self::Plain(socket) = self else {
            return Ok(self);
        };
        let mut connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        let mut wrapped = Wrapped {
            socket: &socket,
            left: 0,
            out: Vec::new(),
        };
        while connection.is_handshaking() {
            if connection.wants_write() {
                connection.write_tls(&mut wrapped)?;
                continue;
            }
            wrapped.flush()?;
            if connection.read_tls(&mut wrapped)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Err(error) = connection.process_new_packets() {
                // The client learns what was wrong.
                let _ = connection.write_tls(&mut wrapped);
                let _ = wrapped.flush();
                return Err(io::Error::other(error));
            }
        }
        while connection.wants_write() {
            connection.write_tls(&mut wrapped)?;
        }
        wrapped.flush()?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    /// Goes on without TLS, as after a login under `ENCRYPT_OFF`.
    pub fn without_tls(self) -> Self {
        match self {
            Self::Tls(stream) => Self::Plain(stream.sock),
            plain @ Self::Plain(_) => plain,
        }
    }

    /// Whether something can be read without waiting; an end counts.
    pub fn is_readable(&mut self) -> bool {
        if let Self::Tls(stream) = self {
            let buffered = stream
                .conn
                .process_new_packets()
                .map_or(0, |state| state.plaintext_bytes_to_read());
            if buffered > 0 {
                return true;
            }
        }
        let mut byte = [0_u8; 1];
        let peeked = recv(
            self.socket(),
            &mut byte,
            RecvFlags::PEEK | RecvFlags::DONTWAIT,
        );
        !matches!(peeked, Err(error) if error == rustix::io::Errno::WOULDBLOCK || error == rustix::io::Errno::INTR)
    }

    /// Waits for a moment; whether the client has gone.
    pub fn has_ended(&self, moment: Duration) -> bool {
        let socket = self.socket();
        let _ = socket.set_read_timeout(Some(moment));
        let ended = match socket.peek(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
            ),
        };
        let _ = socket.set_read_timeout(None);
        ended
    }

    pub fn close(&self) {
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    /// Closes with RST instead of FIN: what was not sent is lost.
    pub fn reset(&self) {
        let _ = sockopt::set_socket_linger(self.socket(), Some(Duration::ZERO));
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buffer),
            Self::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Puts TLS records into packets and takes them out of packets.
struct Wrapped<'a> {
    socket: &'a TcpStream,
    /// What is left of the packet being read.
    left: usize,
    out: Vec<u8>,
}

impl Read for Wrapped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = self.socket;
        while self.left == 0 {
            let mut header = [0; 8];
            socket.read_exact(&mut header)?;
            let [kind, _, high, low, ..] = header;
            if kind != PRELOGIN {
                return Err(io::Error::other("a handshake outside of PRELOGIN packets"));
            }
            self.left = usize::from(u16::from_be_bytes([high, low])).saturating_sub(8);
        }
        let wanted = buffer.len().min(self.left);
        let read = socket.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        self.left -= read;
        Ok(read)
    }
}

impl Write for Wrapped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        let mut parts = out.chunks(4_088).peekable();
        let mut number = 0_u8;
        let mut packets = Vec::new();
        while let Some(part) = parts.next() {
            number = number.wrapping_add(1);
            let [high, low] = ((part.len() + 8) as u16).to_be_bytes();
            packets.extend([
                PRELOGIN,
                u8::from(parts.peek().is_none()),
                high,
                low,
                0,
                0,
                number,
                0,
            ]);
            packets.extend(part);
        }
        let mut socket = self.socket;
        socket.write_all(&packets)
    }
}
