//! What `etl-host.yaml` configures: the daemon as a whole, as opposed to one pipeline.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Secret;
use super::duration;
use super::notifications::Notification;

/// The daemon's configuration. `docs/configuration.md` has every key.
#[derive(Clone, Debug, Serialize)]
pub struct Daemon {
    /// Most runs that go on at once, of all pipelines.
    pub max_concurrent_runs: usize,
    /// The HTTP API; `None` leaves only the socket in the state folder.
    pub http: Option<Http>,
    /// Who is told of failures, recoveries and late runs.
    pub notifications: Vec<Notification>,
    /// How long after its instant a due run is late, unless its pipeline says otherwise; `None` is never.
    #[serde(with = "duration::optional")]
    pub lateness: Option<Duration>,
    /// The log files.
    pub logs: Logs,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            max_concurrent_runs: 4,
            http: Some(Http::default()),
            notifications: Vec::new(),
            lateness: None,
            logs: Logs::default(),
        }
    }
}

impl Daemon {
    /// All that must never be shown.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let told = self.notifications.iter();
        let hooks = told.flat_map(|notification| notification.channel.secrets());
        let token = self.http.iter().filter_map(|http| http.token.as_ref());
        token.chain(hooks)
    }
}

/// The log files that the daemon writes.
#[derive(Clone, Debug, Serialize)]
pub struct Logs {
    /// Whether it rotates them itself; logrotate does it otherwise.
    pub rotate: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Self { rotate: true }
    }
}

/// The HTTP API over TCP.
#[derive(Clone, Debug, Serialize)]
pub struct Http {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What every request must bring; needed for any address but loopback.
    pub token: Option<Secret>,
    /// TLS; needed for any address but loopback, unless `allow_plain` says otherwise.
    pub tls: Option<HttpTls>,
    /// Another address than loopback without TLS: something in front of the host encrypts.
    pub allow_plain: bool,
    /// Most requests per second of one client, on the average.
    pub requests_per_second: u32,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8484),
            token: None,
            tls: None,
            allow_plain: false,
            requests_per_second: 50,
        }
    }
}

/// The certificate of the HTTP API.
#[derive(Clone, Debug, Serialize)]
pub struct HttpTls {
    /// The certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
}
