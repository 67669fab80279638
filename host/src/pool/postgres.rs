//! Connections to `PostgreSQL`.

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{Server, TlsMode};
use crate::error::{Error, Result};
use crate::tls;

/// Builds the pool of one server. Opens nothing.
pub fn build(server: &Server) -> Result<Pool> {
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
        .create_timeout(Some(
            server.pool.connect_timeout + server.pool.login_timeout,
        ))
        .recycle_timeout(Some(server.pool.connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Error::internal("the pool cannot be built").caused_by(error))
}
