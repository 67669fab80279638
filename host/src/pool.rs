//! One pool per server identity, shared by every pipeline and run of this process.
//!
//! A pool limits connections, limits the wait for one, and checks a connection's health before it gives it out. It
//! does not know transactions, so a connection goes back only when its user says that none is open.

use std::collections::HashMap;
use std::sync::Mutex;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tokio_postgres::Client;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{Server, Tls, TlsMode};
use crate::error::{Error, ErrorKind, Result};
use crate::tls;

/// A connection on loan. Dropped, it is closed and the server rolls back whatever was open; only
/// [`give_back`](Self::give_back) returns it to the pool. So an error, a timeout or a panic never leaves a transaction
/// or a lock behind in a connection that somebody else gets.
pub struct Lease(Option<Object>);

impl Lease {
    /// The connection.
    pub fn client(&self) -> Result<&Client> {
        self.0
            .as_ref()
            .map(|object| &***object)
            .ok_or_else(|| Error::internal("a connection was used after it was given back"))
    }

    /// Returns the connection to the pool. No transaction is open and no setting is changed.
    pub fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

/// What makes two configurations mean the same server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    host: String,
    port: u16,
    database: String,
    username: String,
    // Two configurations with different passwords or trust must not share what one of them could not open.
    access: String,
}

/// The pools of this process.
#[derive(Default)]
pub struct Pools {
    postgres: Mutex<HashMap<Identity, Pool>>,
}

impl Pools {
    /// No pools yet; each is made when first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection to a `PostgreSQL` server. Waits for a free one as long as the configuration allows.
    pub async fn postgres(&self, server: &Server) -> Result<Lease> {
        let pool = self.postgres_pool(server)?;
        let address = format!("{}:{}/{}", server.host, server.port, server.database);
        let object = pool.get().await.map_err(|error| {
            describe(error).while_trying(format!("connect to PostgreSQL at {address}"))
        })?;
        Ok(Lease(Some(object)))
    }

    fn postgres_pool(&self, server: &Server) -> Result<Pool> {
        let identity = identity(server);
        let mut pools = self
            .postgres
            .lock()
            .map_err(|_| Error::internal("the table of pools is broken"))?;
        if let Some(pool) = pools.get(&identity) {
            return Ok(pool.clone());
        }
        let pool = build_postgres_pool(server)?;
        pools.insert(identity, pool.clone());
        Ok(pool)
    }
}

fn identity(server: &Server) -> Identity {
    use sha2::{Digest, Sha256};
    let Tls {
        mode,
        trust_server_certificate,
        ca_file,
    } = &server.tls;
    let secret = Sha256::digest(server.password.expose().as_bytes());
    Identity {
        host: server.host.clone(),
        port: server.port,
        database: server.database.clone(),
        username: server.username.clone(),
        access: format!("{mode:?} {trust_server_certificate} {ca_file:?} {secret:?}"),
    }
}

fn build_postgres_pool(server: &Server) -> Result<Pool> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&server.host)
        .port(server.port)
        .dbname(&server.database)
        .user(&server.username)
        .application_name("etl-host")
        .connect_timeout(server.pool.connect_timeout)
        .keepalives(true)
        .keepalives_idle(std::time::Duration::from_secs(30))
        .ssl_mode(match server.tls.mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require => SslMode::Require,
        });
    if !server.password.expose().is_empty() {
        config.password(server.password.expose());
    }
    let manager = Manager::from_config(
        config,
        MakeRustlsConnect::new(tls::build_client(&server.tls)?),
        ManagerConfig {
            // A health check: one empty statement, so that a dead connection is never given out.
            recycling_method: RecyclingMethod::Verified,
        },
    );
    Pool::builder(manager)
        .max_size(usize::try_from(server.pool.max_connections).unwrap_or(1))
        .wait_timeout(Some(server.pool.wait_timeout))
        .create_timeout(Some(server.pool.connect_timeout))
        .recycle_timeout(Some(server.pool.connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Error::internal("the pool cannot be built").caused_by(error))
}

fn describe(error: PoolError) -> Error {
    match error {
        PoolError::Backend(error) => error.into(),
        PoolError::Timeout(deadpool_postgres::TimeoutType::Wait) => Error::new(
            ErrorKind::Timeout,
            "no connection became free in time",
        )
        .hint(
            "raise `pool.max_connections` or `pool.wait_timeout`, or run fewer pipelines at a time",
        ),
        PoolError::Timeout(_) => {
            Error::new(ErrorKind::Timeout, "the server did not answer in time")
        }
        other => Error::internal("the pool failed").caused_by(other),
    }
}
