//! Where the rows come from: shards of every kind, a proxy before each that is a server, and rows that are known
//! beforehand.

use std::fmt::Write as _;

use etl_testkit::fault_proxy::FaultProxy;
use etl_testkit::postgres::TestDatabase;
use etl_testkit::project::Project;
use etl_testkit::stand_in::{StandInOptions, StandInServer, StandInTls};

use crate::rig::Options;
use crate::shared::{address, certificate, server};

/// The names of the shards.
pub const SHARDS: [&str; 2] = ["eu", "us"];

const TABLE: &str = "CREATE TABLE people (id bigint NOT NULL PRIMARY KEY, part text NOT NULL, name text, note text, team bigint NOT NULL)";
const TABLE_OF_SQL_SERVER: &str = "CREATE TABLE people (id bigint NOT NULL PRIMARY KEY, part varchar(10) NOT NULL, \
                                   name varchar(40), note nvarchar(400), team bigint NOT NULL)";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    Sqlite,
    Postgres,
    SqlServer,
    /// The same by the other driver.
    #[cfg(feature = "mssql-tds")]
    MssqlTds,
}

impl SourceKind {
    /// SQL Server by every driver that this build has.
    pub const SQL_SERVERS: &[Self] = &[
        Self::SqlServer,
        #[cfg(feature = "mssql-tds")]
        Self::MssqlTds,
    ];
}

/// The shards of one rig.
pub enum Source {
    File,
    Postgres(Vec<(TestDatabase, FaultProxy)>),
    SqlServer(Vec<(StandInServer, FaultProxy)>),
}

/// `id`, `part`, `name`, `note`, `team`.
type Row = [String; 5];

/// A row of the source, as everything here writes it.
fn row(part: &str, id: u32, bad: bool) -> Row {
    let note = format!(
        "note {id} of {part}: {}{}",
        "lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor. "
            .repeat(2),
        if bad { "\0" } else { "zoë" }
    );
    [
        id.to_string(),
        part.to_owned(),
        format!("name {}", id % 97),
        note,
        team(id).to_string(),
    ]
}

/// Groups of one row, of two, and so on up to seven, over and over.
fn team(id: u32) -> u32 {
    let (round, place) = ((id - 1) / 28, (id - 1) % 28);
    let group = (1..7)
        .take_while(|size| size * (size + 1) / 2 <= place)
        .count();
    round * 7 + u32::try_from(group).unwrap() + 1
}

pub fn is_bad(options: &Options<'_>, id: u32) -> bool {
    options.bad_rows && id % 331 == 7
}

/// A row as the comparison writes it.
pub fn text_of(part: &str, id: u32) -> String {
    let [id, part, name, note, _] = row(part, id, false);
    format!("{part}|{id}|{name}|{note}")
}

impl Source {
    /// Shards with their rows, and the `source` section that reads them.
    pub async fn open(project: &Project, options: &Options<'_>) -> (Self, String) {
        let mut yaml = match options.source {
            SourceKind::Sqlite => "source:\n  type: sqlite\n  shards:\n",
            SourceKind::Postgres => {
                "source:\n  type: postgres\n  timeouts: { statement: 3s, idle_read: 3s }\n  shards:\n"
            }
            SourceKind::SqlServer => {
                "source:\n  type: sqlserver\n  timeouts: { statement: 3s, idle_read: 3s }\n  shards:\n"
            }
            #[cfg(feature = "mssql-tds")]
            SourceKind::MssqlTds => {
                "source:\n  type: sqlserver\n  driver: mssql-tds\n  timeouts: { statement: 3s, idle_read: 3s }\n  shards:\n"
            }
        }
        .to_owned();
        let mut source = match options.source {
            SourceKind::Sqlite => Self::File,
            SourceKind::Postgres => Self::Postgres(Vec::new()),
            _ => Self::SqlServer(Vec::new()),
        };
        for part in &SHARDS[..options.shards] {
            let row = |id| row(part, id, is_bad(options, id));
            let rows: Vec<Row> = (1..=options.rows).map(row).collect();
            let place = match &mut source {
                Self::File => fill_file(project, part, rows),
                Self::Postgres(shards) => {
                    let (shard, place) = postgres_shard(&rows, options.tls).await;
                    shards.push(shard);
                    place
                }
                Self::SqlServer(shards) => {
                    let (shard, place) = sqlserver_shard(part, &rows, options.tls);
                    shards.push(shard);
                    place
                }
            };
            writeln!(yaml, "    - {{ name: {part}, {place} }}").unwrap();
        }
        writeln!(
            yaml,
            "  query: SELECT id, part, name, note, team FROM people WHERE {0} > @from AND {0} <= @until ORDER BY {0}",
            options.cursor
        )
        .unwrap();
        (source, yaml)
    }

    /// The proxies before the shards.
    pub fn proxies(&self) -> Vec<&FaultProxy> {
        match self {
            Self::File => Vec::new(),
            Self::Postgres(shards) => shards.iter().map(|(_, proxy)| proxy).collect(),
            Self::SqlServer(shards) => shards.iter().map(|(_, proxy)| proxy).collect(),
        }
    }

    /// The stand-in of a shard.
    pub fn stand_in(&self, shard: usize) -> &StandInServer {
        match self {
            Self::SqlServer(shards) => &shards[shard].0,
            _ => panic!("the source is no SQL Server"),
        }
    }

    /// A row comes in.
    pub async fn insert(&self, project: &Project, part: &str, id: u32) {
        let row = row(part, id, false);
        let at = SHARDS.iter().position(|it| it == &part).unwrap();
        match self {
            Self::File => {
                let connection = project.sqlite(format!("data/{part}.db"));
                connection.execute(INSERT, row).unwrap();
            }
            Self::SqlServer(shards) => {
                let server = &shards[at].0;
                server.execute("people", &inserts(&[row], "N")[0]).unwrap();
            }
            Self::Postgres(shards) => {
                let client = shards[at].0.connect().await.unwrap();
                client.batch_execute(&inserts(&[row], "")[0]).await.unwrap();
            }
        }
    }
}

const INSERT: &str = "INSERT INTO people VALUES (?, ?, ?, ?, ?)";

/// Each gives how the configuration names the shard.
fn fill_file(project: &Project, part: &str, rows: Vec<Row>) -> String {
    let file = format!("data/{part}.db");
    let mut connection = project.sqlite(&file);
    connection.execute_batch(TABLE).unwrap();
    let transaction = connection.transaction().unwrap();
    let mut insert = transaction.prepare(INSERT).unwrap();
    for row in rows {
        insert.execute(row).unwrap();
    }
    drop(insert);
    transaction.commit().unwrap();
    format!("path: {file}")
}

async fn postgres_shard(rows: &[Row], tls: bool) -> ((TestDatabase, FaultProxy), String) {
    let server = server(tls);
    let database = server.create_database().await.unwrap();
    let client = database.connect().await.unwrap();
    client.batch_execute(TABLE).await.unwrap();
    for insert in inserts(rows, "") {
        client.batch_execute(&insert).await.unwrap();
    }
    let proxy = FaultProxy::start(&*database.host, database.port).unwrap();
    let certificate = certificate(server, tls);
    let place = address(
        &proxy,
        &database,
        &database.user,
        certificate,
        "SOURCE_PASSWORD",
    );
    ((database, proxy), place)
}

fn sqlserver_shard(part: &str, rows: &[Row], tls: bool) -> ((StandInServer, FaultProxy), String) {
    let (offered, mode) = if tls {
        (
            StandInTls::RequiredFresh,
            "require, trust_server_certificate: true",
        )
    } else {
        (StandInTls::Off, "disable")
    };
    let server = StandInServer::start(StandInOptions {
        server_name: part.to_uppercase(),
        databases: vec!["people".to_owned()],
        tls: offered,
        ..StandInOptions::default()
    })
    .unwrap();
    server.execute("people", TABLE_OF_SQL_SERVER).unwrap();
    for insert in inserts(rows, "N") {
        server.execute("people", &insert).unwrap();
    }
    let proxy = FaultProxy::start(&*server.host, server.port).unwrap();
    let place = format!(
        "host: \"{}\", port: {}, database: people, tls: {{ mode: {mode} }}, \
         credentials: {{ username: \"{}\", password: \"{}\" }}",
        proxy.host, proxy.port, server.user, server.password
    );
    ((server, proxy), place)
}

fn inserts(rows: &[Row], national: &str) -> Vec<String> {
    let insert = |rows: &[Row]| {
        let values: Vec<String> = rows
            .iter()
            .map(|[id, part, name, note, team]| {
                format!("({id}, '{part}', '{name}', {national}'{note}', {team})")
            })
            .collect();
        format!(
            "INSERT INTO people (id, part, name, note, team) VALUES {}",
            values.join(", ")
        )
    };
    rows.chunks(500).map(insert).collect()
}
