//! A stand-in for SQL Server: a TDS 7.4 server over `SQLite`, for tests only.
//!
//! It speaks the protocol as MS-TDS describes it and knows the part of T-SQL that the tests and the host use; all else
//! is refused loudly, with SQL Server's error number and the words "the stand-in does not know". It is no SQL Server:
//! it has no locks, no plans, no users but one, and it says nothing about speed.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use etl_testkit::stand_in::{Fault, StandInOptions, StandInServer};
//!
//! let server = StandInServer::start(StandInOptions::default())?;
//! server.execute("master", "CREATE DATABASE logins")?;
//! server.execute("logins", "CREATE TABLE t (id int NOT NULL PRIMARY KEY); INSERT INTO t VALUES (1), (2)")?;
//! server.faults().push(Fault::Cut { after_bytes: 40 }.on("FROM t"));
//! # Ok(())
//! # }
//! ```
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the wire's integers are narrowed where their range is known; a stand-in needs no proof of each"
)]
#![allow(
    clippy::match_same_arms,
    clippy::too_many_lines,
    reason = "tables of types, tokens and functions read best whole, a line for each"
)]
#![allow(
    clippy::format_push_string,
    reason = "statements are short, and read best as they are put together"
)]

mod bulk;
mod calendar;
mod collation;
mod connection;
mod convert;
mod datum;
mod engine;
mod error;
mod fault;
mod listener;
mod logins;
mod observe;
mod output;
mod session;
mod sql;
mod sql_server;
mod types;
mod variant;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates::{Authority, Issued};
use engine::Engine;
use engine::binder::Variables;
use listener::{Listener, Shared};
use observe::Observed;
use output::Collected;
use session::{Session, Stop, Struck};
use wire::prelogin::{ENCRYPT_NOT_SUP, ENCRYPT_OFF, ENCRYPT_REQ};

pub use bulk::BulkValue;
pub use fault::{Armed, Fault, Faults, Release, ServerError};
pub use observe::LoginFacts;
pub use sql_server::{SqlServer, URL_VARIABLE};

const ADDRESS: &str = "127.0.0.1";

/// Whether the server speaks TLS, with which certificate (MS-TDS 2.2.6.5).
#[derive(Debug, Clone, Default)]
pub enum StandInTls {
    /// `ENCRYPT_NOT_SUP`.
    Off,
    /// `ENCRYPT_OFF`, with a certificate of its own from a fresh authority: the login is encrypted, and the rest when the client wants it.
    #[default]
    OptionalFresh,
    /// As before with this certificate.
    Optional(Issued),
    /// `ENCRYPT_REQ`, with a fresh certificate: everything is encrypted.
    RequiredFresh,
    /// As before with this certificate.
    Required(Issued),
}

/// What a server is like.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are switches, not states"
)]
pub struct StandInOptions {
    /// `@@SERVERNAME`.
    pub server_name: String,
    /// The port on loopback; 0 takes a free one.
    pub port: u16,
    /// Databases that exist from the start, beside `master`.
    pub databases: Vec<String>,
    /// The only login.
    pub user: String,
    /// Its password; a random one where `None`.
    pub password: Option<String>,
    /// Whether it speaks TLS.
    pub tls: StandInTls,
    /// Whether new databases allow SNAPSHOT isolation.
    pub snapshot_isolation: bool,
    /// The largest packet it agrees to.
    pub largest_packet: usize,
    /// How far the server's clock is ahead of the machine's.
    pub clock_offset: Duration,
    /// It is behind by that instead.
    pub clock_is_behind: bool,
    /// How many minutes local time (`GETDATE()`) is ahead of UTC.
    pub time_zone_minutes: i16,
    /// Whether long values are sent with an unknown length (MS-TDS 2.2.5.2.3).
    pub unknown_lengths: bool,
    /// Whether the statements that arrive are kept for [`StandInServer::statements`].
    pub keep_statements: bool,
}

impl Default for StandInOptions {
    fn default() -> Self {
        Self {
            server_name: "STANDIN".to_owned(),
            port: 0,
            databases: Vec::new(),
            user: "sa".to_owned(),
            password: None,
            tls: StandInTls::default(),
            snapshot_isolation: true,
            largest_packet: 32_767,
            clock_offset: Duration::ZERO,
            clock_is_behind: false,
            time_zone_minutes: 0,
            unknown_lengths: false,
            keep_statements: true,
        }
    }
}

/// A running server. Dropping it closes every connection and removes its files.
#[derive(Debug)]
pub struct StandInServer {
    /// The address it listens on.
    pub host: String,
    /// The port it listens on.
    pub port: u16,
    /// The only login.
    pub user: String,
    /// Its password.
    pub password: String,
    ca_pem: Option<String>,
    shared: Arc<Shared>,
    listener: Listener,
}

impl StandInServer {
    /// Starts a server on loopback.
    pub fn start(mut options: StandInOptions) -> Result<Self> {
        let password = options
            .password
            .take()
            .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let (encryption, issued, ca_pem) = match &options.tls {
            StandInTls::Off => (ENCRYPT_NOT_SUP, None, None),
            StandInTls::Optional(issued) => (ENCRYPT_OFF, Some(issued.clone()), None),
            StandInTls::Required(issued) => (ENCRYPT_REQ, Some(issued.clone()), None),
            fresh @ (StandInTls::OptionalFresh | StandInTls::RequiredFresh) => {
                let authority = Authority::new()?;
                let issued = authority.issue(&["localhost", ADDRESS])?;
                let encryption = if matches!(fresh, StandInTls::RequiredFresh) {
                    ENCRYPT_REQ
                } else {
                    ENCRYPT_OFF
                };
                (
                    encryption,
                    Some(issued),
                    Some(authority.certificate_pem().to_owned()),
                )
            }
        };
        let engine = Engine::new(
            &options.server_name,
            // Hundreds of nanoseconds.
            options.clock_offset.as_nanos() as i64 / 100
                * if options.clock_is_behind { -1 } else { 1 },
            i64::from(options.time_zone_minutes),
            options.snapshot_isolation,
        )?;
        for database in &options.databases {
            engine.create_database(database, collation::default())?;
        }
        let shared = Arc::new(Shared {
            password: password.clone(),
            tls: issued.as_ref().map(tls_config).transpose()?,
            encryption,
            engine: Arc::new(engine),
            faults: Faults::default(),
            observed: Observed::default(),
            closing: Arc::default(),
            sockets: std::sync::Mutex::default(),
            options,
        });
        let listener = Listener::new(Arc::clone(&shared), shared.options.port)?;
        Ok(Self {
            host: ADDRESS.to_owned(),
            port: listener.port(),
            user: shared.options.user.clone(),
            password,
            ca_pem,
            shared,
            listener,
        })
    }

    /// The authority that signed the server's certificate, as PEM, where the server made it.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Where faults are armed.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Makes an empty database.
    pub fn create_database(&self, name: &str) -> Result<()> {
        Ok(self
            .shared
            .engine
            .create_database(name, collation::default())?)
    }

    /// Runs a batch of T-SQL in a database without TDS; the first error is returned.
    pub fn execute(&self, database: &str, sql: &str) -> Result<()> {
        self.query(database, sql).map(drop)
    }

    /// The rows of the last query of a batch without TDS, as text; NULL is `None`.
    pub fn query(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let database = self.shared.engine.database(database)?;
        let mut session = Session::new(&self.shared.engine, database, 1);
        let mut collected = Collected::default();
        let result = session.batch(
            sql,
            &mut Variables::new(),
            &mut collected,
            &mut Struck::default(),
        );
        if let Err(Stop::Error(error)) = result {
            return Err(error.into());
        }
        match collected.error {
            Some(error) => Err(anyhow!(error).context(format!(
                "cannot run {}",
                sql.chars().take(200).collect::<String>()
            ))),
            None => Ok(collected.rows),
        }
    }

    /// Inserts many rows fast, in one transaction, and gives their number. `columns` names what each row holds; other
    /// columns get their identity, their row version or NULL.
    pub fn bulk(
        &self,
        database: &str,
        table: &str,
        columns: &[&str],
        rows: impl IntoIterator<Item = Vec<BulkValue>>,
    ) -> Result<u64> {
        let database = self.shared.engine.database(database)?;
        bulk::insert(&self.shared.engine, &database, table, columns, rows)
    }

    /// Makes the table `dbo.user_logins` in a database and fills it with so many rows, the same ones for the same name
    /// of a server.
    pub fn make_logins(&self, database: &str, rows: u64) -> Result<()> {
        self.execute(database, logins::TABLE)?;
        let rows = logins::rows(&self.shared.options.server_name, rows);
        self.bulk(database, "dbo.user_logins", logins::COLUMNS, rows)?;
        Ok(())
    }

    /// Makes the table `dbo.user_logins` in a database with so many rows, of which only the first few thousand are kept:
    /// those come again and again, each 10 ms after the one before, from 2020 on. Only ranges of `login_time` can be
    /// asked for.
    pub fn synthesise_logins(&self, database: &str, rows: u64) -> Result<()> {
        self.make_logins(database, logins::KEPT.min(rows))?;
        let database = self.shared.engine.database(database)?;
        self.shared
            .engine
            .synthesise(logins::synthesised(&database, rows)?);
        Ok(())
    }

    /// The texts of batches and of `sp_executesql` that arrived, in their order.
    pub fn statements(&self) -> Vec<String> {
        self.shared.observed.statements()
    }

    /// Forgets the statements so far.
    pub fn forget_statements(&self) {
        self.shared.observed.forget_statements();
    }

    /// The logins that were tried, in their order.
    pub fn logins(&self) -> Vec<LoginFacts> {
        self.shared.observed.logins()
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.observed.connections()
    }

    /// How many connections were ever made.
    pub fn accepted_connections(&self) -> u64 {
        self.shared.observed.accepted()
    }

    /// How many attentions (cancellations) arrived.
    pub fn attentions(&self) -> u64 {
        self.shared.observed.attentions()
    }

    /// Waits until a statement has arrived whose text contains this.
    pub fn wait_for_statement(&self, text: &str, limit: Duration) -> Result<()> {
        self.shared.observed.wait_for_statement(text, limit)
    }

    /// Waits until so many connections are open, usually 0.
    pub fn wait_for_connections(&self, count: usize, limit: Duration) -> Result<()> {
        self.shared.observed.wait_for_connections(count, limit)
    }

    /// Waits until so many attentions have arrived.
    pub fn wait_for_attentions(&self, count: u64, limit: Duration) -> Result<()> {
        self.shared.observed.wait_for_attentions(count, limit)
    }

    /// Moves the server's clock by so many seconds, forward or back, as an administrator may.
    pub fn shift_clock(&self, seconds: i64) {
        self.shared.engine.shift_clock(seconds * 10_000_000);
    }

    /// Breaks every connection, as a restart does, and goes on listening.
    pub fn close_connections(&self) {
        self.shared.close_sockets();
    }

    /// Stops listening and breaks every connection; the data stays.
    pub fn stop(&mut self) -> Result<()> {
        self.listener.stop()
    }

    /// Listens again on the same port, after [`Self::stop`].
    pub fn start_again(&mut self) -> Result<()> {
        self.listener = Listener::new(Arc::clone(&self.shared), self.port)?;
        Ok(())
    }
}

impl Drop for StandInServer {
    fn drop(&mut self) {
        // A connection's thread may end after the process's own, and would leave the files behind.
        let _ = self.listener.stop();
        self.shared.engine.remove_files();
    }
}

/// TLS inside of PRELOGIN packets ends with version 1.2.
fn tls_config(issued: &Issued) -> Result<Arc<ServerConfig>> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())
        .context("cannot read the server's key")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(
            certificates.context("cannot read the server's certificate")?,
            key,
        )
        .context("the server's certificate and key do not fit")?;
    Ok(Arc::new(config))
}
