//! A TCP proxy between a client and a server that breaks connections in every way a network can, to order.
//!
//! It forwards bytes and does not know what they mean. Orders say what goes wrong, where and how often; afterwards
//! the proxy is honest. It counts what it did, so that a test can insist that its fault happened at all.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use etl_testkit::fault_proxy::{Direction, Fault, FaultProxy};
//!
//! let proxy = FaultProxy::start("127.0.0.1", 5432)?;
//! let lost = proxy.order(Fault::LoseAnswer.after(Direction::ToServer, *b"COMMIT\0"));
//! // … a client connects to proxy.port …
//! assert_eq!(lost.count(), 1);
//! # Ok(())
//! # }
//! ```

mod connection;
mod order;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use order::Orders;
pub use order::{Direction, Fault, Fired, Order};

const ADDRESS: &str = "127.0.0.1";

/// A running proxy. Dropping it breaks all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    /// The address it listens on.
    pub host: String,
    /// The port it listens on.
    pub port: u16,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    upstream: (String, u16),
    orders: Orders,
    released: watch::Sender<u64>,
    connections: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    /// Wakes those that wait for a number to grow.
    changed: Condvar,
    gate: Mutex<()>,
}

impl FaultProxy {
    /// Listens on loopback and forwards to this server, which need not be there yet.
    pub fn start(host: impl Into<String>, port: u16) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fault-proxy")
            .enable_all()
            .build()
            .context("cannot start the fault proxy")?;
        let shared = Arc::new(Shared {
            upstream: (host.into(), port),
            orders: Orders::default(),
            released: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            changed: Condvar::new(),
            gate: Mutex::new(()),
        });
        let listener = std::net::TcpListener::bind((ADDRESS, 0))
            .context("no free port on loopback for the fault proxy")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            host: ADDRESS.to_owned(),
            port,
            shared,
            runtime: Some(runtime),
        })
    }

    /// Lets something go wrong. Of several orders at one place the earlier one comes first.
    pub fn order(&self, order: Order) -> Fired {
        self.shared.orders.push(order)
    }

    /// Takes back all orders. What has struck goes on: a throttle throttles, a half-open connection stays so.
    pub fn clear(&self) {
        self.shared.orders.clear();
    }

    /// Lets go on what is held, and ends what is half open.
    pub fn release(&self) {
        self.shared.released.send_modify(|times| *times += 1);
    }

    /// How often any fault has struck.
    pub fn fired(&self) -> u64 {
        self.shared.orders.fired()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many bytes went that way, on all connections together.
    pub fn forwarded(&self, direction: Direction) -> u64 {
        self.shared.forwarded(direction).load(Ordering::SeqCst)
    }

    /// Waits until faults have struck so often.
    pub fn wait_until_fired(&self, times: u64, limit: Duration) -> Result<()> {
        let enough = self.shared.wait(limit, || self.fired() >= times);
        if !enough {
            bail!(
                "of {times} faults {} have struck within {limit:?}",
                self.fired()
            );
        }
        Ok(())
    }

    /// Waits until so many bytes went that way; false if that did not happen within the limit.
    pub fn wait_for_bytes(&self, direction: Direction, bytes: u64, limit: Duration) -> bool {
        self.shared
            .wait(limit, || self.forwarded(direction) >= bytes)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // In an async test the runtime may not be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn forwarded(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn count(&self, direction: Direction, bytes: u64) {
        self.forwarded(direction).fetch_add(bytes, Ordering::SeqCst);
        self.notify();
    }

    fn notify(&self) {
        // Whoever is between its look and its wait holds the gate.
        drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration, enough: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        while !enough() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            gate = self
                .changed
                .wait_timeout(gate, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, or a client that left again: the next one may do better.
            tokio::task::yield_now().await;
            continue;
        };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        if shared.orders.strike_connect().is_some() {
            connection::reset(client);
            shared.notify();
            continue;
        }
        tokio::spawn(connection::serve(Arc::clone(&shared), client));
    }
}
