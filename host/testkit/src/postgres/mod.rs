//! A real `PostgreSQL` for tests: one private server per test process, or one for a whole run, and a database
//! of its own for every test. It knows the server, not the sink that is tested against it.
//!
//! The server listens on loopback only, wants a password from everybody, and is stopped and removed when the
//! process that started it ends, whatever ends it.

mod programs;
mod supervisor;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

use crate::artifact;
use crate::certificates::Authority;
use supervisor::Supervisor;

pub use programs::BIN_VARIABLE;

/// Names a server to be used by [`PostgresServer::shared`] in place of one of its own, as
/// `postgres://user:password@host:port/postgres`. The user must be a superuser.
pub const URL_VARIABLE: &str = "ETL_TEST_POSTGRES_URL";

const ADDRESS: &str = "127.0.0.1";
const USER: &str = "etl_test";
const ADMIN: &str = "etl_admin";
const MAINTENANCE_DATABASE: &str = "postgres";
const DROP_LIMIT: Duration = Duration::from_secs(10);

/// Whether a server speaks TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tls {
    /// It refuses TLS.
    #[default]
    Off,
    /// It leaves the choice to the client.
    Offered,
    /// It lets nobody in without TLS (but for the testkit itself, which has a user of its own).
    Required,
}

/// What a server of one's own is like. The default is that of the shared server.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Whether it speaks TLS.
    pub tls: Tls,
    /// The names in its certificate; when empty, `localhost` and `127.0.0.1`.
    pub certificate_names: Vec<String>,
    /// Whether commits reach the disk. Only a test that cuts the power needs it.
    pub fsync: bool,
    /// More lines of `postgresql.conf`, in their order: name and value.
    pub settings: Vec<(String, String)>,
    /// Whether [`PostgresServer::fill_disk`] can be used, by a library that is preloaded into the server.
    pub disk_may_fill: bool,
}

/// A running server.
#[derive(Debug)]
pub struct PostgresServer {
    /// The address it listens on.
    pub host: String,
    /// The port it listens on.
    pub port: u16,
    /// A superuser.
    pub user: String,
    /// The superuser's password.
    pub password: String,
    admin: Config,
    own: Option<Own>,
}

/// What is known of a server that this process started.
#[derive(Debug)]
struct Own {
    supervisor: Supervisor,
    ca_file: Option<PathBuf>,
    running: bool,
}

/// A database of one test; dropped with this value, whoever is still connected.
#[derive(Debug)]
pub struct TestDatabase {
    /// The database's name.
    pub name: String,
    /// The server's address.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// A user who may do everything in it.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// All of it as `postgres://user:password@host:port/name`.
    pub url: String,
    admin: Config,
}

impl PostgresServer {
    /// The server of this test process, started by the first test that asks; or the one that the environment
    /// names (see [`URL_VARIABLE`]).
    ///
    /// # Panics
    ///
    /// When there is no such server and none can be started: every test of this process would fail alike.
    #[expect(clippy::panic, reason = "a test without its server cannot go on")]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<PostgresServer, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            match std::env::var(URL_VARIABLE) {
                Ok(url) if !url.is_empty() => Self::at(&url),
                _ => Self::start(&PostgresOptions::default()),
            }
            .map_err(|error| format!("{error:#}"))
        });
        match shared {
            Ok(server) => server,
            Err(error) => panic!("no PostgreSQL for this test: {error}"),
        }
    }

    /// Starts a server of one's own. Dropping it stops it and removes its directory.
    pub fn start(options: &PostgresOptions) -> Result<Self> {
        let bin = programs::Places::here().find()?;
        let password = format!("{:032x}", rand::random::<u128>());
        let mut supervisor = Supervisor::start(&bin, ADMIN)?;
        let ca_file = write_files(supervisor.dir(), options, &password)?;
        if options.disk_may_fill {
            supervisor.preload(&artifact::plugin("fixture-full-disk")?)?;
        }
        supervisor.init()?;
        let port = supervisor.listen_on_free_port(ADDRESS)?;
        let admin = config(ADDRESS, port, ADMIN, &password);
        in_background(create_user(admin.clone(), password.clone()))?;
        Ok(Self {
            host: ADDRESS.to_owned(),
            port,
            user: USER.to_owned(),
            password,
            admin,
            own: Some(Own {
                supervisor,
                ca_file,
                running: true,
            }),
        })
    }

    /// A server that runs already, by `postgres://user:password@host:port/database`.
    fn at(url: &str) -> Result<Self> {
        let parsed =
            Config::from_str(url).map_err(|_| anyhow!("{URL_VARIABLE} is not a PostgreSQL URL"))?;
        let (Some(Host::Tcp(host)), Some(user), Some(password)) = (
            parsed.get_hosts().first(),
            parsed.get_user(),
            parsed.get_password(),
        ) else {
            bail!("{URL_VARIABLE} must name host, user and password");
        };
        let port = parsed.get_ports().first().copied().unwrap_or(5432);
        let password =
            std::str::from_utf8(password).with_context(|| format!("{URL_VARIABLE}: password"))?;
        Ok(Self {
            admin: config(host, port, user, password),
            host: host.clone(),
            port,
            user: user.to_owned(),
            password: password.to_owned(),
            own: None,
        })
    }

    /// Creates an empty database with a random name.
    pub async fn create_database(&self) -> Result<TestDatabase> {
        let name = format!("etl_test_{:016x}", rand::random::<u64>());
        let client = connect(&self.admin).await?;
        let owner = &self.user;
        client
            .batch_execute(&format!(
                "CREATE DATABASE \"{name}\" OWNER \"{owner}\" TEMPLATE template0"
            ))
            .await
            .context("cannot create the test's database")?;
        Ok(TestDatabase {
            host: self.host.clone(),
            port: self.port,
            user: self.user.clone(),
            password: self.password.clone(),
            url: self.url(&name),
            admin: self.admin.clone(),
            name,
        })
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{}:{}@{}:{}/{}",
            percent_encoded(&self.user),
            percent_encoded(&self.password),
            self.host,
            self.port,
            percent_encoded(database)
        )
    }

    /// The certificate of the authority that signed the server's; `None` without TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        self.own.as_ref()?.ca_file.as_deref()
    }

    /// The directory it lives in; `None` for a server that the environment names.
    pub fn dir(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.supervisor.dir())
    }

    /// What the server has logged so far.
    pub fn log(&self) -> Result<String> {
        let Some(own) = &self.own else {
            bail!("the log of a server that the environment names is not known");
        };
        own.supervisor.log()
    }

    /// Stops it the hard way: every connection breaks, nothing is flushed, recovery runs at the next start.
    pub fn stop_immediate(&mut self) -> Result<()> {
        let own = self.own_mut()?;
        if own.running {
            own.supervisor.stop()?;
            own.running = false;
        }
        Ok(())
    }

    /// Starts it again after [`Self::stop_immediate`], on the same port and with the same data.
    pub fn start_again(&mut self) -> Result<()> {
        let port = self.port;
        let own = self.own_mut()?;
        if !own.running {
            own.supervisor.listen_on(port)?;
            own.running = true;
        }
        Ok(())
    }

    /// [`Self::stop_immediate`] and [`Self::start_again`].
    pub fn restart_immediate(&mut self) -> Result<()> {
        self.stop_immediate()?;
        self.start_again()
    }

    /// From now on what would make a table or an index longer fails as on a full disk (ENOSPC). Needs
    /// [`PostgresOptions::disk_may_fill`].
    pub fn fill_disk(&self) -> Result<()> {
        let file = self.own()?.supervisor.full_disk_file();
        std::fs::write(file, "").context("cannot fill the disk of PostgreSQL")
    }

    /// Ends [`Self::fill_disk`].
    pub fn free_disk(&self) -> Result<()> {
        let file = self.own()?.supervisor.full_disk_file();
        std::fs::remove_file(file).context("cannot free the disk of PostgreSQL")
    }

    fn own(&self) -> Result<&Own> {
        self.own
            .as_ref()
            .context("only a server that this process started can be told so")
    }

    fn own_mut(&mut self) -> Result<&mut Own> {
        self.own
            .as_mut()
            .context("only a server that this process started can be stopped")
    }
}

impl TestDatabase {
    /// Connects without TLS, whatever the server asks of others. The connection ends with the client.
    pub async fn connect(&self) -> Result<Client> {
        let mut config = self.admin.clone();
        connect(config.dbname(&self.name)).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let admin = self.admin.clone();
        let statement = format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name);
        // Best effort: the server may be down by intent, and it goes with its process anyway.
        let _ = in_background(async move {
            let client = connect(&admin).await?;
            Ok(client.batch_execute(&statement).await?)
        });
    }
}

/// Writes what the supervisor puts in place, and returns the authority's certificate if there is TLS.
fn write_files(dir: &Path, options: &PostgresOptions, password: &str) -> Result<Option<PathBuf>> {
    let write = |name: &str, content: &str| {
        std::fs::write(dir.join(name), content).with_context(|| format!("cannot write {name}"))
    };
    let mut settings = format!(
        "listen_addresses = '{ADDRESS}'\n\
         unix_socket_directories = ''\n\
         max_connections = 60\n\
         max_prepared_transactions = 4\n\
         shared_buffers = '32MB'\n\
         timezone = 'UTC'\n\
         log_timezone = 'UTC'\n"
    );
    if !options.fsync {
        settings += "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n";
    }
    let mut access = format!("host all {ADMIN} {ADDRESS}/32 scram-sha-256\n");
    access += match options.tls {
        Tls::Off => "hostnossl all all 127.0.0.1/32 scram-sha-256\n",
        Tls::Offered => "host all all 127.0.0.1/32 scram-sha-256\n",
        Tls::Required => "hostssl all all 127.0.0.1/32 scram-sha-256\n",
    };
    let mut ca_file = None;
    if options.tls != Tls::Off {
        let authority = Authority::new()?;
        let issued = if options.certificate_names.is_empty() {
            authority.issue(&["localhost", ADDRESS])?
        } else {
            authority.issue(&options.certificate_names)?
        };
        write("server.crt", &issued.certificate_pem)?;
        write("server.key", &issued.key_pem)?;
        restrict(&dir.join("server.key"))?;
        write("ca.pem", authority.certificate_pem())?;
        let dir = dir.display();
        let _ = writeln!(
            settings,
            "ssl = on\nssl_cert_file = '{dir}/server.crt'\nssl_key_file = '{dir}/server.key'"
        );
        ca_file = Some(PathBuf::from(format!("{dir}/ca.pem")));
    }
    for (name, value) in &options.settings {
        let _ = writeln!(settings, "{name} = '{}'", value.replace('\'', "''"));
    }
    write("postgresql.conf", &settings)?;
    write("pg_hba.conf", &access)?;
    write("password", password)?;
    Ok(ca_file)
}

/// The server refuses a key that others may read.
fn restrict(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot restrict {}", file.display()))
}

/// The tests' user is not the testkit's own: only the latter is let in without TLS when TLS is required.
async fn create_user(admin: Config, password: String) -> Result<()> {
    let client = connect(&admin).await?;
    let statement = format!("CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{password}'");
    client
        .batch_execute(&statement)
        .await
        .context("cannot create the tests' user")
}

fn config(host: &str, port: u16, user: &str, password: &str) -> Config {
    let mut config = Config::new();
    config
        .host(host)
        .port(port)
        .user(user)
        .password(password)
        .dbname(MAINTENANCE_DATABASE)
        .connect_timeout(DROP_LIMIT);
    config
}

async fn connect(config: &Config) -> Result<Client> {
    let (client, connection) = config
        .connect(NoTls)
        .await
        .context("cannot connect to the test's PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}

/// Runs it to its end on a thread of its own, so that it works inside and outside of a runtime, and even
/// inside one that has a single thread.
fn in_background(work: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async { tokio::time::timeout(DROP_LIMIT, work).await? })
    });
    worker
        .join()
        .map_err(|_| anyhow!("the testkit's own thread panicked"))?
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_server_is_taken_apart_and_put_together_again() {
        let url = "postgres://us%40er:p%2Fw%3A1@127.0.0.1:5499/postgres";
        let server = PostgresServer::at(url).unwrap();
        assert_eq!(server.user, "us@er");
        assert_eq!(server.password, "p/w:1");
        assert_eq!(server.port, 5499);
        assert_eq!(server.url("postgres"), url);
    }

    #[test]
    fn a_named_server_without_a_password_is_refused_and_not_repeated() {
        let message = PostgresServer::at("postgres://user@127.0.0.1/postgres")
            .unwrap_err()
            .to_string();
        assert!(message.contains(URL_VARIABLE), "{message}");
    }
}
