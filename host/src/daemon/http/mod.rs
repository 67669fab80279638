//! The HTTP API: what the daemon shows and does, for the command line, programs and the web console, whose files it
//! serves.
//!
//! It listens on a Unix socket in the state folder, and on TCP as configured. It decides nothing about pipelines: that
//! is the daemon's, which it asks on blocking threads, so that no request holds up the scheduler.

mod api;
mod audit;
mod backfills;
mod checkpoints;
mod connection;
mod console;
mod credentials;
mod dead_letters;
mod guard;
mod logs;
mod overview;
mod pipelines;
mod problem;
mod rate;
mod runs;
mod schedules;
mod session;
pub(super) mod socket;
mod stream;
mod system;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::middleware;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::api::Api;
use self::connection::Connections;
use self::guard::Guard;
use super::Daemon;
use super::operations::Operations;
use crate::config::{Http, HttpTls};
use crate::error::{Error, ErrorKind, Result};

/// How long answers may take that are on their way when the API ends.
const DRAIN: Duration = Duration::from_secs(5);

/// The API, as it listens.
pub struct Listening {
    /// The address, if it listens on TCP.
    pub tcp: Option<SocketAddr>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    state_dir: PathBuf,
}

impl Listening {
    /// Takes nothing new, and ends when the answers on their way are sent.
    pub async fn close(self) {
        self.shutdown.cancel();
        socket::remove(&self.state_dir);
        self.tasks.close();
        // A client that does not read its answer does not hold up the daemon's end.
        let _ = tokio::time::timeout(DRAIN, self.tasks.wait()).await;
    }
}

/// Listens on the socket of the state folder, and on TCP if configured. The caller holds the folder's lock. It goes on
/// until the token is cancelled; then [`Listening::close`] sends what is on its way.
pub async fn serve(
    daemon: Arc<Daemon>,
    config: Option<&Http>,
    state_dir: &Path,
    shutdown: CancellationToken,
) -> Result<Listening> {
    open(daemon, config, state_dir, shutdown).await
}

async fn open(
    operations: Arc<dyn Operations>,
    config: Option<&Http>,
    state_dir: &Path,
    shutdown: CancellationToken,
) -> Result<Listening> {
    let tasks = TaskTracker::new();
    let router = api::router(Api::new(operations, shutdown.clone()));
    // What can fail comes before the first task.
    let tcp = match config {
        Some(config) => {
            let tls = config.tls.as_ref().map(load_tls).transpose()?;
            let listener = bind(config.listen).await?;
            let address = listener
                .local_addr()
                .map_err(|error| not_listening(config.listen, error))?;
            Some((config, listener, tls, address))
        }
        None => None,
    };
    let unix = socket::bind(state_dir).map_err(|error| {
        let place = state_dir.join(socket::NAME);
        Error::new(
            ErrorKind::Refused,
            format!("cannot listen on {}", place.display()),
        )
        .hint("choose a state folder on a file system with sockets, with --state-dir")
        .caused_by(error)
    })?;
    let local = router.clone().layer(middleware::from_fn(guard::wrap));
    let connections = Connections::new(local, shutdown.clone(), tasks.clone());
    tasks.spawn(connections.serve_unix(unix));
    let mut address = None;
    if let Some((config, listener, tls, bound)) = tcp {
        let guarded = router
            .layer(middleware::from_fn_with_state(
                Arc::new(Guard::new(config)),
                guard::guard,
            ))
            .layer(middleware::from_fn(guard::wrap));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let connections = Connections::new(guarded, shutdown.clone(), tasks.clone());
        tasks.spawn(connections.serve_tcp(listener, tls));
        tracing::info!("listening on {scheme}://{bound} (the API, and the console for a browser)");
        address = Some(bound);
    }
    Ok(Listening {
        tcp: address,
        tasks,
        shutdown,
        state_dir: state_dir.to_path_buf(),
    })
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| not_listening(address, error))
}

fn not_listening(address: SocketAddr, error: io::Error) -> Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: choose another port with `http.listen` in etl-host.yaml, 0 for any, or turn \
             it off with `http: false`"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: correct `http.listen` in etl-host.yaml"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a permission of their own: choose a higher one with `http.listen` in etl-host.yaml"
        }
        _ => "correct `http.listen` in etl-host.yaml",
    };
    Error::new(ErrorKind::Refused, format!("cannot listen on {address}"))
        .hint(hint)
        .caused_by(error)
}

/// Reads certificate and key.
fn load_tls(config: &HttpTls) -> Result<TlsAcceptor> {
    let refused = |key: &str, file: &Path, error: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Refused,
            format!("cannot use http.tls.{key} {}: {error}", file.display()),
        )
        .hint("give the certificate with its chain and its private key, both as PEM files that this user may read")
    };
    let in_certificate =
        |error: &dyn std::fmt::Display| refused("cert_file", &config.cert_file, error);
    let in_key = |error: &dyn std::fmt::Display| refused("key_file", &config.key_file, error);
    let chain = CertificateDer::pem_file_iter(&config.cert_file)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| in_certificate(&error))?;
    if chain.is_empty() {
        return Err(in_certificate(&"it holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&config.key_file).map_err(|error| in_key(&error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS has no usable protocol version").caused_by(error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| in_key(&error))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}
