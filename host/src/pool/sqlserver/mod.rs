//! Connections to SQL Server: TCP or a named instance, TLS by the configuration's trust, SQL authentication.
//!
//! There are two drivers. What they have in common is here and in `client`; `mssql_tds` is the second one, which not
//! every build has.

mod client;
#[cfg(feature = "mssql-tds")]
pub mod mssql_tds;

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Pool, RecycleError, RecycleResult};
use tiberius::{AuthMethod, Client, Config, EncryptionLevel, SqlBrowser};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

pub use self::client::{ATTENTION_TIMEOUT, Arguments, SqlServerClient, tiberius_command};
use super::Guarded;
use super::guarded::Breakers;
use crate::config::{ApplicationIntent, SqlServer, SqlServerDriver, TlsMode};
use crate::error::{Error, ErrorKind, Result};

/// A connection by the driver `tiberius`.
pub type TiberiusClient = Client<Compat<TcpStream>>;

/// How often a listener may send a connection on to another server.
const REDIRECTIONS: usize = 3;

/// Makes and checks connections to one server.
pub struct SqlServerManager(SqlServer);

/// Builds the pool of one server. Opens nothing.
pub(super) fn build(
    server: &SqlServer,
    breakers: Breakers,
) -> Result<Pool<Guarded<SqlServerManager>>> {
    let limits = &server.server.pool;
    let once = limits.connect_timeout + limits.login_timeout;
    // Each redirection, and the second try of `prefer`, is a connection of its own.
    let create = once * 2 + once * u32::try_from(REDIRECTIONS).unwrap_or(1);
    let manager = SqlServerManager(server.clone());
    Pool::builder(Guarded::new(manager, breakers, create))
        .max_size(usize::try_from(limits.max_connections).unwrap_or(1))
        .wait_timeout(Some(limits.wait_timeout))
        .recycle_timeout(Some(limits.connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Error::internal("the pool cannot be built").caused_by(error))
}

/// Where the server is, as messages call it.
pub fn address(server: &SqlServer) -> String {
    format!("{}/{}", server_address(server), server.server.database)
}

/// The same without the database.
pub fn server_address(server: &SqlServer) -> String {
    let SqlServer {
        server, instance, ..
    } = server;
    match instance {
        Some(instance) => format!("{}\\{instance}", server.host),
        None => format!("{}:{}", server.host, server.port),
    }
}

fn no_tls() -> Error {
    Error::new(ErrorKind::NoTls, "the server does not encrypt").hint(
        "install a certificate in the server, or set `tls.mode: disable` where nobody can listen",
    )
}

/// Opens the network connection alone, and finds the port of a named instance.
pub async fn reach(server: &SqlServer) -> Result<TcpStream> {
    let manager = SqlServerManager(server.clone());
    let config = manager.build_config(EncryptionLevel::Required, server.instance.as_deref())?;
    manager.open_stream(&config).await
}

impl Manager for SqlServerManager {
    type Type = SqlServerClient;
    type Error = Error;

    async fn create(&self) -> Result<SqlServerClient> {
        let tls = &self.0.server.tls;
        match tls.mode {
            TlsMode::Disable => self.connect_by_driver(false).await,
            TlsMode::Require => self.connect_by_driver(true).await,
            TlsMode::Prefer => match self.connect_by_driver(true).await {
                // The two did not come to terms before the login: the server has no TLS.
                Err(error) if *error.kind() == ErrorKind::NoTls => {
                    self.connect_by_driver(false).await
                }
                result => result,
            },
        }
    }

    async fn recycle(&self, client: &mut SqlServerClient, _: &Metrics) -> RecycleResult<Error> {
        let alive = client.query("SELECT 1").await;
        alive.map(drop).map_err(RecycleError::Backend)
    }
}

impl SqlServerManager {
    async fn connect_by_driver(&self, encrypted: bool) -> Result<SqlServerClient> {
        match self.0.driver {
            SqlServerDriver::Tiberius => {
                let encryption = if encrypted {
                    EncryptionLevel::Required
                } else {
                    EncryptionLevel::NotSupported
                };
                let client = self.connect(encryption).await?;
                Ok(SqlServerClient::Tiberius(Box::new(client)))
            }
            #[cfg(feature = "mssql-tds")]
            SqlServerDriver::MssqlTds => {
                let port = self.find_port().await?;
                let client = mssql_tds::connect(&self.0, port, encrypted).await?;
                Ok(SqlServerClient::MssqlTds(Box::new(client)))
            }
            #[cfg(not(feature = "mssql-tds"))]
            SqlServerDriver::MssqlTds => Err(Error::internal("this build has no driver mssql-tds")),
        }
    }

    /// The port of a named instance, asked in the one way that both drivers have in common.
    #[cfg(feature = "mssql-tds")]
    async fn find_port(&self) -> Result<u16> {
        if self.0.instance.is_none() {
            return Ok(self.0.server.port);
        }
        let address = reach(&self.0).await?.peer_addr();
        address
            .map(|address| address.port())
            .map_err(|error| Error::new(ErrorKind::Unavailable, "no connection").caused_by(error))
    }

    async fn connect(&self, encryption: EncryptionLevel) -> Result<TiberiusClient> {
        let mut config = self.build_config(encryption, self.0.instance.as_deref())?;
        for _ in 0..=REDIRECTIONS {
            let stream = self.open_stream(&config).await?;
            // The handshake is long, and its future as large.
            let login = Box::pin(Client::connect(config.clone(), stream.compat_write()));
            match login.await {
                Err(tiberius::error::Error::Routing { host, port }) => {
                    // The port is known now, so no browser is asked for an instance.
                    config = self.build_config(encryption, None)?;
                    config.host(&host);
                    config.port(port);
                }
                // Its text for this is fixed; there is no kind.
                Err(tiberius::error::Error::Protocol(text))
                    if text.contains("encryption level") =>
                {
                    return Err(no_tls());
                }
                result => return result.map_err(Error::from),
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "the listener sends the connection on and on",
        ))
    }

    async fn open_stream(&self, config: &Config) -> Result<TcpStream> {
        let limit = self.0.server.pool.connect_timeout;
        // All addresses of the name at once: a listener has one in each subnet, and answers at one of them.
        let stream = async {
            TcpStream::connect_named(config).await.map_err(|error| {
                Error::new(ErrorKind::Unavailable, "no connection").caused_by(error)
            })
        };
        let stream = timeout(limit, stream)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, format!("no answer within {limit:?}")))??;
        let prepared = stream.set_nodelay(true);
        prepared.map_err(|error| {
            Error::new(ErrorKind::Unavailable, "no connection").caused_by(error)
        })?;
        Ok(stream)
    }

    fn build_config(&self, encryption: EncryptionLevel, instance: Option<&str>) -> Result<Config> {
        let SqlServer {
            server,
            application_intent,
            packet_size,
            ..
        } = &self.0;
        let mut config = Config::new();
        config.host(&server.host);
        match instance {
            Some(instance) => config.instance_name(instance),
            None => config.port(server.port),
        }
        config.multi_subnet_failover(true);
        config.database(&server.database);
        config.application_name("etl-host");
        config.authentication(AuthMethod::sql_server(
            &server.username,
            server.password.expose(),
        ));
        config.encryption(encryption);
        config.packet_size(*packet_size);
        config.readonly(*application_intent == ApplicationIntent::ReadOnly);
        config.handshake_timeout(Some(server.pool.login_timeout));
        // A statement's patience is its reader's.
        config.command_timeout(None::<Duration>);
        let tls = &server.tls;
        let unverified =
            tls.trust_server_certificate || (tls.mode != TlsMode::Require && tls.ca_file.is_none());
        if unverified {
            config.trust_cert();
        } else if let Some(path) = &tls.ca_file {
            let pem = std::fs::read(path).map_err(|error| {
                Error::new(
                    ErrorKind::Refused,
                    format!("cannot read tls.ca_file {}", path.display()),
                )
                .caused_by(error)
                .hint("give a PEM file with the certificates of the authorities to trust")
            })?;
            config.trust_cert_ca_bundle(pem);
        }
        Ok(config)
    }
}
