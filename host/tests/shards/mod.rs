//! SQL Server shards for tests, and configuration that reads them: databases on the server that the environment names,
//! or else servers that stand in for it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fmt::Write;

use etl_testkit::postgres::TestDatabase;
use etl_testkit::project::Project;
use etl_testkit::stand_in::{SqlServer, StandInOptions, StandInServer};
use tiberius::{AuthMethod, Client, Config};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

/// The database on every stand-in.
pub const DATABASE: &str = "logins";
/// A password that must be seen nowhere.
pub const PASSWORD: &str = "S3cret-of-the-shards!";

/// The driver that the host reads a shard with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Tiberius,
    #[cfg(feature = "mssql-tds")]
    MssqlTds,
}

impl Driver {
    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiberius => "tiberius",
            #[cfg(feature = "mssql-tds")]
            Self::MssqlTds => "mssql-tds",
        }
    }
}

/// Makes a test of each function that takes a driver, once for every driver that this build has.
#[macro_export]
macro_rules! each_driver {
    ($($test:ident),+ $(,)?) => {
        mod tiberius {
            $(#[tokio::test]
            async fn $test() {
                Box::pin(super::$test(super::Driver::Tiberius)).await;
            })+
        }

        #[cfg(feature = "mssql-tds")]
        mod mssql_tds {
            $(#[tokio::test]
            async fn $test() {
                Box::pin(super::$test(super::Driver::MssqlTds)).await;
            })+
        }
    };
}

/// One shard: a database on a server.
pub struct Shard {
    pub server: SqlServer,
    pub database: String,
}

/// Shards, each with TLS, and the driver that they are read with.
pub struct Shards(pub Vec<Shard>, pub Driver);

/// A client of the test's own.
pub type TestClient = Client<Compat<TcpStream>>;

impl Shards {
    /// So many shards with an empty database, on the server that the environment names if it names one.
    pub async fn start(driver: Driver, count: usize) -> Self {
        let named = std::env::var_os(etl_testkit::stand_in::URL_VARIABLE);
        if named.is_none_or(|url| url.is_empty()) {
            return Self::stand_in(driver, count);
        }
        let mut shards = Vec::new();
        for _ in 0..count {
            let server = SqlServer::start_or_env().unwrap();
            let mut client = connect(&server, &server.database).await;
            let database = server.create_database(async |sql| {
                say(&mut client, &sql).await;
                Ok(())
            });
            let database = database.await.unwrap();
            shards.push(Shard { server, database });
        }
        Self(shards, driver)
    }

    /// So many servers that stand in, whatever the environment says: for tests with faults.
    pub fn stand_in(driver: Driver, count: usize) -> Self {
        let start = |index: usize| {
            let options = StandInOptions {
                server_name: format!("SHARD{}", index + 1),
                databases: vec![DATABASE.to_owned()],
                password: Some(PASSWORD.to_owned()),
                ..StandInOptions::default()
            };
            Shard {
                server: SqlServer::stand_in_with(options).unwrap(),
                database: DATABASE.to_owned(),
            }
        };
        Self((0..count).map(start).collect(), driver)
    }

    /// The server of one of them, which stands in.
    pub fn server(&self, shard: usize) -> &StandInServer {
        self.0[shard].server.stand_in().unwrap()
    }

    /// The same, to stop it.
    pub fn server_mut(&mut self, shard: usize) -> &mut StandInServer {
        self.0[shard].server.stand_in_mut().unwrap()
    }

    /// Runs T-SQL on one of them.
    pub async fn execute(&self, shard: usize, sql: &str) {
        let Shard { server, database } = &self.0[shard];
        match server.stand_in() {
            Some(stand_in) => stand_in.execute(database, sql).unwrap(),
            None => say(&mut self.connect(shard).await, sql).await,
        }
    }

    /// A client on one of them.
    pub async fn connect(&self, shard: usize) -> TestClient {
        let Shard { server, database } = &self.0[shard];
        connect(server, database).await
    }

    /// The `source` section up to its query, certificates verified where the authority is known.
    pub fn source(&self, project: &Project) -> String {
        let order: Vec<usize> = (0..self.0.len()).collect();
        self.source_in_order(project, &order)
    }

    /// The same with the servers at each other's place: the first name has the address of the first number.
    pub fn source_in_order(&self, project: &Project, order: &[usize]) -> String {
        let mut yaml = format!(
            "source:\n  type: sqlserver\n  driver: {}\n  timeouts: {{ statement: 20s, idle_read: 20s }}\n  shards:\n",
            self.1.name()
        );
        for (name, index) in ["eu", "us", "asia"].iter().zip(order) {
            let Shard { server, database } = &self.0[*index];
            let trust = match &server.ca_pem {
                // The other driver knows the authorities of the machine alone.
                Some(pem) if self.1 == Driver::Tiberius => {
                    let path = project.write(format!("ca-{index}.pem"), pem);
                    format!("ca_file: \"{}\"", path.display())
                }
                pem => format!(
                    "trust_server_certificate: {}",
                    pem.is_some() || server.trust_server_certificate
                ),
            };
            writeln!(
                yaml,
                "    - {{ name: {name}, host: \"{}\", port: {}, database: {database}, tls: {{ mode: require, {trust} }}, \
                 credentials: {{ username: \"{}\", password: \"{}\" }} }}",
                server.host, server.port, server.user, server.password
            )
            .unwrap();
        }
        yaml
    }
}

async fn connect(server: &SqlServer, database: &str) -> TestClient {
    let mut config = Config::new();
    config.host(&server.host);
    config.port(server.port);
    config.database(database);
    config.authentication(AuthMethod::sql_server(&server.user, &server.password));
    config.trust_cert();
    let stream = TcpStream::connect(config.get_addr()).await.unwrap();
    let login = Box::pin(Client::connect(config, stream.compat_write()));
    login.await.unwrap()
}

/// Runs a batch.
pub async fn say(client: &mut TestClient, sql: &str) {
    let answer = client.simple_query(sql).await.unwrap();
    answer.into_results().await.unwrap();
}

/// The `sink` section for a table of a database; further lines may follow it.
pub fn postgres_sink(project: &Project, database: &TestDatabase, table: &str) -> String {
    project.write(".env", format!("SINK_PASSWORD='{}'\n", database.password));
    format!(
        "sink:\n  type: postgres\n  host: \"{}\"\n  port: {}\n  database: \"{}\"\n  credentials: {{ username: \"{}\", \
         password: \"${{SINK_PASSWORD}}\" }}\n  table: {table}\n",
        database.host, database.port, database.name, database.user
    )
}

/// A login as it is seeded and as the sink must hold it.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: i64,
    pub time: String,
    pub address: &'static str,
    pub agent: &'static str,
}

pub const LOGINS: &str = "CREATE TABLE user_logins (login_id bigint IDENTITY(1,1) NOT NULL PRIMARY KEY, user_id int NOT NULL, \
     login_time datetime2(3) NOT NULL, ip_address varchar(45) NULL, user_agent nvarchar(400) NULL);\
     CREATE INDEX by_time ON user_logins (login_time);";

/// Logins of one day, several in the same millisecond, from the second after `start` on.
pub fn logins(start: u32, count: u32) -> Vec<Login> {
    let addresses = [
        "193.99.144.80",
        "8.8.8.8",
        "2001:67c:2e8:22::c100:68b",
        "10.0.0.1",
    ];
    let agents = [
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "curl/8.5.0",
        "Zoë’s Browser 😀",
    ];
    let at = |index: u32| {
        let millis = index / 3;
        format!(
            "2024-01-31 {:02}:{:02}:{:02}.{:03}",
            (start + millis / 1_000) / 3_600,
            (start + millis / 1_000) / 60 % 60,
            (start + millis / 1_000) % 60,
            millis % 1_000
        )
    };
    (0..count)
        .map(|index| Login {
            user: i64::from(index % 977),
            time: at(index),
            address: addresses[index as usize % addresses.len()],
            agent: agents[index as usize % agents.len()],
        })
        .collect()
}

impl Shards {
    /// Inserts logins into the table of one shard.
    pub async fn insert(&self, shard: usize, logins: &[Login]) {
        for chunk in logins.chunks(500) {
            let rows: Vec<String> = chunk
                .iter()
                .map(|login| {
                    format!(
                        "({}, '{}', '{}', N'{}')",
                        login.user,
                        login.time.replace(' ', "T"),
                        login.address,
                        login.agent
                    )
                })
                .collect();
            let sql = format!(
                "INSERT INTO user_logins (user_id, login_time, ip_address, user_agent) VALUES {}",
                rows.join(", ")
            );
            self.execute(shard, &sql).await;
        }
    }

    /// Configuration of the flagship over these shards into a `PostgreSQL` database.
    pub fn flagship(&self, project: &Project, database: &TestDatabase, rest: &str) {
        let order: Vec<usize> = (0..self.0.len()).collect();
        self.flagship_in_order(project, database, &order, rest);
    }

    /// As before, with the servers in another order.
    pub fn flagship_in_order(
        &self,
        project: &Project,
        database: &TestDatabase,
        order: &[usize],
        rest: &str,
    ) {
        let source = self.source_in_order(project, order);
        let sink = postgres_sink(project, database, "login_analytics");
        project.config(
            "login-analytics",
            &format!("{source}{sink}  partition_column: source_shard\n{rest}"),
        );
    }
}

/// What the sink must hold of a shard's logins, in the form of [`sink_rows`].
pub fn expected<'a>(shards: impl IntoIterator<Item = (&'a str, &'a [Login])>) -> Vec<String> {
    let mut rows: Vec<String> = shards
        .into_iter()
        .flat_map(|(name, logins)| {
            logins.iter().map(move |login| {
                format!(
                    "{name}|{}|{}|{}|{}",
                    login.user, login.time, login.address, login.agent
                )
            })
        })
        .collect();
    rows.sort_unstable();
    rows
}

/// Every row of the sink, sorted.
pub async fn sink_rows(database: &TestDatabase) -> Vec<String> {
    let client = database.connect().await.unwrap();
    let sql = "SELECT concat_ws('|', source_shard, user_id, to_char(login_time, 'YYYY-MM-DD HH24:MI:SS.MS'), ip_address, user_agent) \
               FROM login_analytics";
    let mut rows: Vec<String> = client
        .query(sql, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    rows.sort_unstable();
    rows
}

/// Fails with the first difference instead of thousands of rows.
pub fn assert_same(sink: &[String], source: &[String]) {
    let difference = sink.iter().zip(source).find(|(a, b)| a != b);
    assert!(
        sink.len() == source.len() && difference.is_none(),
        "the sink holds {} rows, the source {}; the first difference is {difference:?}",
        sink.len(),
        source.len()
    );
}

/// A project with the flagship's plugin.
pub fn flagship() -> Project {
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("login-analytics");
    project
}

/// A project with the pipeline `copy`.
pub fn copying() -> Project {
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("fixture-kinds");
    project
}

pub const RUN: &[&str] = &["run", "login-analytics"];
