//! The two sides: shards of SQL Server, and a PostgreSQL that writes to the disk.

use std::path::PathBuf;

use etl_testkit::artifact;
use etl_testkit::postgres::{PostgresOptions, PostgresServer, TestDatabase};
use etl_testkit::process::{Program, Running};
use etl_testkit::stand_in::SqlServer;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// Names servers in place of the stand-in, one for each shard: `sqlserver://user:password@host:port/database`, with
/// commas between them. Each has a table `user_logins`, as `scripts/init-databases.sh` makes it.
const SOURCE_VARIABLE: &str = "ETL_BENCH_SOURCE";
const SHARDS: usize = 2;
const DATABASE: &str = "logins";

pub struct Servers {
    pub shards: Vec<Shard>,
    /// 0 where the rows are somebody else's.
    pub rows_per_shard: u64,
    running: Vec<Running>,
    postgres: PostgresServer,
    runtime: tokio::runtime::Runtime,
    _folder: TempDir,
}

/// One shard, as a client needs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shard {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub database: String,
    pub ca_file: Option<PathBuf>,
}

/// An empty database.
pub type Sink = TestDatabase;

impl Servers {
    pub fn start(rows_per_shard: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut running = Vec::new();
        let shards = match std::env::var(SOURCE_VARIABLE) {
            Ok(urls) if !urls.is_empty() => urls.split(',').map(Shard::at).collect(),
            _ => (1..=SHARDS)
                .map(|number| {
                    let (shard, server) = stand_in(number, rows_per_shard, &folder);
                    running.push(server);
                    shard
                })
                .collect(),
        };
        let options = PostgresOptions {
            fsync: true,
            // What one line leaves behind is not cleaned up while the next one is measured.
            settings: vec![("autovacuum".into(), "off".into())],
            ..PostgresOptions::default()
        };
        Self {
            shards,
            rows_per_shard: if running.is_empty() {
                0
            } else {
                rows_per_shard
            },
            running,
            postgres: PostgresServer::start(&options).unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
            _folder: folder,
        }
    }

    /// Whether the rows are made, as many as are wanted.
    pub fn makes_rows(&self) -> bool {
        !self.running.is_empty()
    }

    pub fn create_sink(&self) -> Sink {
        self.runtime
            .block_on(self.postgres.create_database())
            .unwrap()
    }

    pub fn execute(&self, sink: &Sink, sql: &str) {
        self.runtime.block_on(async {
            let client = sink.connect().await.unwrap();
            client.batch_execute(sql).await.unwrap();
        });
    }

    pub fn source_processes(&self) -> Vec<u32> {
        self.running.iter().map(Running::id).collect()
    }

    pub fn sink_process(&self) -> u32 {
        let file = self.postgres.dir().unwrap().join("data/postmaster.pid");
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().next().unwrap().trim().parse().unwrap()
    }
}

impl Shard {
    fn at(url: &str) -> Self {
        let server = SqlServer::at(url).unwrap();
        Self {
            host: server.host.clone(),
            port: server.port,
            user: server.user.clone(),
            password: server.password.clone(),
            database: server.database.clone(),
            ca_file: None,
        }
    }
}

fn stand_in(number: usize, rows: u64, folder: &TempDir) -> (Shard, Running) {
    let program = artifact::binary("etl-testkit", "etl-testkit").unwrap();
    let password = format!("{:032x}", rand::random::<u128>());
    let tls = folder.path().join(format!("shard-{number}"));
    let mut server = Program::new(program)
        .env("ETL_STAND_IN_PASSWORD", &password)
        .args(["stand-in", "--name", &format!("SHARD{number}")])
        .args(["--synthesise", &rows.to_string(), "--tls-dir"])
        .arg(&tls)
        .deadline(std::time::Duration::from_hours(2))
        .start()
        .unwrap();
    let line = server
        .wait_for_stdout(|line| line.contains("is ready: "))
        .unwrap();
    let (_, address) = line.split_once("is ready: ").unwrap();
    let (host, rest) = address.split_once(':').unwrap();
    let shard = Shard {
        host: host.to_owned(),
        port: rest.split(',').next().unwrap().parse().unwrap(),
        user: "sa".to_owned(),
        password,
        database: DATABASE.to_owned(),
        ca_file: Some(tls.join("ca.pem")),
    };
    (shard, server)
}
