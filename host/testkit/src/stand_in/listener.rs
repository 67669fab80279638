//! The socket that listens, a thread for each connection, and their end.

use std::collections::HashMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::ServerConfig;

use super::connection;
use super::engine::Engine;
use super::fault::Faults;
use super::observe::Observed;
use super::{ADDRESS, StandInOptions};

/// A batch may be nested, and so is what reads it.
const STACK: usize = 16 << 20;
const LIMIT: Duration = Duration::from_secs(10);

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    pub options: StandInOptions,
    pub password: String,
    pub tls: Option<Arc<ServerConfig>>,
    /// What PRELOGIN says of encryption.
    pub encryption: u8,
    pub engine: Arc<Engine>,
    pub faults: Faults,
    pub observed: Observed,
    pub closing: Arc<AtomicBool>,
    pub sockets: Mutex<HashMap<u64, TcpStream>>,
}

impl Shared {
    fn sockets(&self) -> std::sync::MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn close_sockets(&self) {
        for socket in self.sockets().values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Listens until it is stopped or dropped.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    port: u16,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub fn new(shared: Arc<Shared>, port: u16) -> Result<Self> {
        let socket = TcpListener::bind((ADDRESS, port))
            .with_context(|| format!("cannot listen on port {port}"))?;
        let port = socket.local_addr()?.port();
        let stopping = Arc::new(AtomicBool::new(false));
        shared.closing.store(false, Ordering::SeqCst);
        let thread = {
            let (shared, stopping) = (Arc::clone(&shared), Arc::clone(&stopping));
            std::thread::Builder::new()
                .name("stand-in".to_owned())
                .spawn(move || accept(&socket, &shared, &stopping))?
        };
        Ok(Self {
            shared,
            port,
            stopping,
            thread: Some(thread),
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn stop(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.stopping.store(true, Ordering::SeqCst);
        self.shared.closing.store(true, Ordering::SeqCst);
        // Wakes the one who accepts.
        let _ = TcpStream::connect((ADDRESS, self.port));
        let _ = thread.join();
        self.shared.close_sockets();
        self.shared.observed.wait_for_connections(0, LIMIT)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn accept(socket: &TcpListener, shared: &Arc<Shared>, stopping: &AtomicBool) {
    for id in 1_u64.. {
        let accepted = socket.accept();
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok((client, _)) = accepted else {
            continue;
        };
        if let Ok(kept) = client.try_clone() {
            shared.sockets().insert(id, kept);
        }
        shared.observed.connected();
        let mine = Arc::clone(shared);
        let spawned = std::thread::Builder::new()
            .name(format!("stand-in {id}"))
            .stack_size(STACK)
            .spawn(move || {
                // Counted as gone even when the connection's thread panics.
                let gone = Gone(&mine, id);
                connection::serve(&mine, client, id);
                drop(gone);
            });
        if spawned.is_err() {
            shared.sockets().remove(&id);
            shared.observed.disconnected();
        }
    }
}

struct Gone<'a>(&'a Shared, u64);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.sockets().remove(&self.1);
        self.0.observed.disconnected();
    }
}
