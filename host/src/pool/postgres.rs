//! Connections to `PostgreSQL`.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::Pool;
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Guarded;
use super::guarded::Breakers;
use crate::config::{Server, TlsMode};
use crate::error::{Error, Result};
use crate::tls;

// A server whose machine has gone is known for it after a minute, while nothing is on the way to it. What is on the way
// is its sender's to wait for: `tcp_user_timeout` would also cut a connection to a server that is only slow to take
// more, as one that waits for a lock in the middle of a COPY.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

/// Builds the pool of one server. Opens nothing.
pub(super) fn build(server: &Server, breakers: Breakers) -> Result<Pool<Guarded<Manager>>> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&server.host)
        .port(server.port)
        .dbname(&server.database)
        .user(&server.username)
        .application_name("etl-host")
        .connect_timeout(server.pool.connect_timeout)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
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
    let once = server.pool.connect_timeout + server.pool.login_timeout;
    Pool::builder(Guarded::new(manager, breakers, once))
        .max_size(usize::try_from(server.pool.max_connections).unwrap_or(1))
        .wait_timeout(Some(server.pool.wait_timeout))
        .recycle_timeout(Some(server.pool.connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Error::internal("the pool cannot be built").caused_by(error))
}
