//! One pool per server identity, shared by every pipeline and run of this process.
//!
//! A pool limits connections, limits the wait for one, checks a connection's health before it gives it out, and leaves
//! a server alone that does not answer. It does not know transactions, so a connection goes back only when its user
//! says that none is open.

mod breaker;
pub mod examine;
mod guarded;
mod places;
mod postgres;
mod sqlserver;
mod usage;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use deadpool::managed::{Manager, Object, Pool, PoolError, TimeoutType};
use deadpool_postgres::Manager as PostgresManager;
use tokio_postgres::Client;

pub use self::breaker::{BreakerState, Condition};
use self::guarded::Breakers;
pub use self::guarded::Guarded;
pub use self::places::Places;
#[cfg(feature = "mssql-tds")]
pub use self::sqlserver::mssql_tds;
pub use self::sqlserver::{
    ATTENTION_TIMEOUT, Arguments, SqlServerClient, SqlServerManager, TiberiusClient,
    address as sqlserver_address, tiberius_command,
};
pub use self::usage::PoolUse;
use crate::config::{Server, SqlServer, Tls};
use crate::error::{Error, ErrorKind, Result};

/// A connection on loan. Dropped, it is closed and the server rolls back whatever was open; only
/// [`give_back`](Self::give_back) returns it to the pool. So an error, a timeout or a panic never leaves a transaction
/// or a lock behind in a connection that somebody else gets.
pub struct Lease<M: Manager>(Option<Object<M>>);

/// A `PostgreSQL` connection on loan.
pub type PostgresLease = Lease<Guarded<PostgresManager>>;
/// A SQL Server connection on loan.
pub type SqlServerLease = Lease<Guarded<SqlServerManager>>;

impl<M: Manager> Lease<M> {
    /// Returns the connection to the pool. No transaction is open and no setting is changed that its next user does not
    /// set itself.
    pub fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl PostgresLease {
    /// The connection.
    pub fn client(&self) -> Result<&Client> {
        self.0
            .as_ref()
            .map(|object| &***object)
            .ok_or_else(given_back)
    }
}

impl SqlServerLease {
    /// The connection, which does one thing at a time.
    pub fn client(&mut self) -> Result<&mut SqlServerClient> {
        self.0.as_deref_mut().ok_or_else(given_back)
    }
}

impl<M: Manager> Drop for Lease<M> {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

fn given_back() -> Error {
    Error::internal("a connection was used after it was given back")
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
    postgres: PoolTable<Guarded<PostgresManager>>,
    postgres_asides: PoolTable<Guarded<PostgresManager>>,
    sqlserver: PoolTable<Guarded<SqlServerManager>>,
    postgres_places: places::PlacesTable,
    sqlserver_places: places::PlacesTable,
    breakers: guarded::BreakerTable,
}

impl Pools {
    /// No pools yet; each is made when first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection to a `PostgreSQL` server. Waits for a free one as long as the configuration allows.
    pub async fn postgres(&self, server: &Server) -> Result<PostgresLease> {
        self.lease_postgres(server).await.map_err(|error| {
            let address = format!("{}:{}/{}", server.host, server.port, server.database);
            error.while_trying(format!("connect to PostgreSQL at {address}"))
        })
    }

    /// The one connection per server beside the pool, for what must not wait until a partition is done: leases. Its user
    /// gives it back at once. Once it is open it is given out whatever the breakers say of new connections: a server that
    /// has none left for others must not cost those that work their leases.
    pub async fn postgres_aside(&self, server: &Server) -> Result<PostgresLease> {
        let mut server = server.clone();
        server.pool.max_connections = 1;
        let build = || postgres::build(&server, self.postgres_breakers(&server));
        let pool = self
            .postgres_asides
            .pool(identity(&server, "aside"), build)?;
        open(&pool).await
    }

    /// A connection to a SQL Server. Waits for a free one as long as the configuration allows.
    pub async fn sqlserver(&self, server: &SqlServer) -> Result<SqlServerLease> {
        self.lease_sqlserver(server).await.map_err(|error| {
            let address = sqlserver::address(server);
            error.while_trying(format!("connect to SQL Server at {address}"))
        })
    }

    async fn lease_postgres(&self, server: &Server) -> Result<PostgresLease> {
        let build = || postgres::build(server, self.postgres_breakers(server));
        let pool = self.postgres.pool(identity(server, ""), build)?;
        lease(&pool).await
    }

    fn postgres_breakers(&self, server: &Server) -> Breakers {
        let address = format!("{}:{}", server.host, server.port);
        let identity = identity(server, "");
        self.breakers
            .of("PostgreSQL", &address, identity, &server.pool)
    }

    async fn lease_sqlserver(&self, server: &SqlServer) -> Result<SqlServerLease> {
        let identity = sqlserver_identity(server);
        let build = || {
            let address = sqlserver::server_address(server);
            let limits = &server.server.pool;
            let breakers = self
                .breakers
                .of("SQL Server", &address, identity.clone(), limits);
            sqlserver::build(server, breakers)
        };
        let pool = self.sqlserver.pool(identity.clone(), build)?;
        lease(&pool).await
    }
}

/// The pools of one kind of server.
struct PoolTable<M: Manager>(Mutex<HashMap<Identity, Pool<M>>>);

impl<M: Manager> Default for PoolTable<M> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<M: Manager> PoolTable<M> {
    fn pool(&self, identity: Identity, build: impl FnOnce() -> Result<Pool<M>>) -> Result<Pool<M>> {
        // Nothing panics between two changes of the table, so it is whole even if somebody did.
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&identity) {
            return Ok(pool.clone());
        }
        let pool = build()?;
        pools.insert(identity, pool.clone());
        Ok(pool)
    }
}

/// A connection of a pool with several, where the breakers let new ones be tried.
async fn lease<M>(pool: &Pool<Guarded<M>>) -> Result<Lease<Guarded<M>>>
where
    M: Manager,
    Error: From<M::Error>,
{
    // Before the pool is asked: it would look at each of its connections, and a server that is gone does not answer.
    pool.manager().breakers().check()?;
    open(pool).await
}

/// A connection of the pool: an idle one, or a new one where the breakers let it be tried.
async fn open<M>(pool: &Pool<Guarded<M>>) -> Result<Lease<Guarded<M>>>
where
    M: Manager,
    Error: From<M::Error>,
{
    Ok(Lease(Some(pool.get().await.map_err(describe)?)))
}

fn identity(server: &Server, options: &str) -> Identity {
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
        access: format!("{mode:?} {trust_server_certificate} {ca_file:?} {secret:?} {options}"),
    }
}

fn sqlserver_identity(server: &SqlServer) -> Identity {
    let options = format!(
        "{:?} {:?} {} {:?}",
        server.instance, server.application_intent, server.packet_size, server.driver
    );
    identity(&server.server, &options)
}

fn describe(error: PoolError<Error>) -> Error {
    match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(TimeoutType::Wait) => Error::new(
            ErrorKind::Timeout,
            "no connection became free in time",
        )
        .hint(
            "raise `pool.max_connections` or `pool.wait_timeout`, or run fewer pipelines at a time",
        ),
        PoolError::Timeout(_) => {
            Error::new(ErrorKind::Timeout, "the server did not answer in time")
        }
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            Error::internal("the pool is closed")
        }
    }
}
