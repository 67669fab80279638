//! One pipeline with its source, its sink and a proxy before each server, and the judge of its runs.
//!
//! The rows are known beforehand: what the sink must hold is never read from the source.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use etl_testkit::fault_proxy::FaultProxy;
use etl_testkit::postgres::{PostgresServer, TestDatabase};
use etl_testkit::process::{Finished, Program, Running};
use etl_testkit::project::Project;
use etl_testkit::stand_in::{StandInOptions, StandInServer, StandInTls};
use etl_testkit::tally::{Claim, Verdict, missing};

/// Long enough for a slow machine that does two things at once, short enough for a person.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Runs that a case may need until one succeeds.
const TRIES: u32 = 8;
const SINK_FILE: &str = "data/warehouse.db";
const SHARDS: [&str; 2] = ["eu", "us"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    Sqlite,
    Postgres,
    SqlServer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkKind {
    Sqlite,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Append,
    Upsert,
    Replace,
    /// Append in as many commits as there can be.
    Chunked,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::Append, Self::Upsert, Self::Replace, Self::Chunked];
}

/// What a rig is like.
#[derive(Clone)]
pub struct Options<'a> {
    pub source: SourceKind,
    pub sink: SinkKind,
    pub mode: Mode,
    /// Rows of each shard.
    pub rows: u32,
    pub shards: usize,
    /// A server of the case's own in the place of the shared one, for the sink.
    pub server: Option<&'a PostgresServer>,
    /// Whether the servers of the case speak TLS, so that a changed byte is noticed.
    pub tls: bool,
    pub max_retries: u32,
    pub retry_delay: &'a str,
    /// More keys under `sink`, with two spaces before each.
    pub sink_keys: &'a str,
    /// More keys of `error_handling`, each behind a comma.
    pub handling: &'a str,
    /// Whether some rows hold what `PostgreSQL` cannot, and belong into quarantine.
    pub bad_rows: bool,
    pub batch_rows: u32,
    /// The column that orders the rows: `id` is unique, `team` is shared by up to seven of them.
    pub cursor: &'static str,
    /// How long the lease of a run lasts that is not heard of.
    pub lease: &'a str,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            source: SourceKind::Sqlite,
            sink: SinkKind::Postgres,
            mode: Mode::Append,
            rows: 1_500,
            shards: 2,
            server: None,
            tls: false,
            max_retries: 3,
            retry_delay: "10ms",
            sink_keys: "",
            handling: "",
            bad_rows: false,
            batch_rows: 100,
            cursor: "id",
            lease: "1m",
        }
    }
}

enum SourceServer {
    File,
    Postgres(Vec<(TestDatabase, FaultProxy)>),
    SqlServer(Vec<(StandInServer, FaultProxy)>),
}

/// The pipeline of one case.
pub struct Rig {
    pub project: Project,
    pub mode: Mode,
    /// The sink's database; none if the sink is a file.
    pub database: Option<TestDatabase>,
    /// Before the sink's server; before none if the sink is a file.
    pub sink_proxy: Option<FaultProxy>,
    source: SourceServer,
    pub expected: Vec<String>,
    pub verdict: Verdict,
    quarantined: Vec<String>,
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

fn is_bad(options: &Options<'_>, id: u32) -> bool {
    options.bad_rows && id % 331 == 7
}

/// A row as the comparison writes it.
pub fn text_of(part: &str, id: u32) -> String {
    let [id, part, name, note, _] = row(part, id, false);
    format!("{part}|{id}|{name}|{note}")
}

impl Rig {
    pub async fn new(options: &Options<'_>) -> Self {
        let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
        project.plugin("fixture-kinds");
        let mut rig = Self {
            project,
            mode: options.mode,
            database: None,
            sink_proxy: None,
            source: SourceServer::File,
            expected: Vec::new(),
            verdict: Verdict::default(),
            quarantined: Vec::new(),
        };
        for part in &SHARDS[..options.shards] {
            for id in 1..=options.rows {
                if is_bad(options, id) {
                    rig.quarantined.push(format!("{part}|{id}"));
                } else {
                    rig.expected.push(text_of(part, id));
                }
            }
        }
        let source = rig.open_source(options).await;
        let sink = rig.open_sink(options).await;
        let flushes = if options.mode == Mode::Chunked { 1 } else { 3 };
        rig.project.config(
            "copy",
            &format!(
                "{source}{sink}{}cursor: {{ column: {}, kind: integer, settle_delay: 0s }}\n\
                 tuning: {{ batch_rows: {}, flush_bytes: 65536, flushes_per_commit: {flushes}, lease: {} }}\n\
                 error_handling: {{ max_retries: {}, retry_delay: {}, max_retry_delay: 1s, max_bad_rows: {}{} }}\n",
                options.sink_keys,
                options.cursor,
                options.batch_rows,
                options.lease,
                options.max_retries,
                options.retry_delay,
                rig.quarantined.len(),
                options.handling,
            ),
        );
        rig
    }

    async fn open_source(&mut self, options: &Options<'_>) -> String {
        let shards = &SHARDS[..options.shards];
        let rows = |part: &str| -> Vec<Row> {
            let row = |id| row(part, id, is_bad(options, id));
            (1..=options.rows).map(row).collect()
        };
        let mut yaml = "source:\n".to_owned();
        match options.source {
            SourceKind::Sqlite => {
                yaml.push_str("  type: sqlite\n  shards:\n");
                for part in shards {
                    let file = format!("data/{part}.db");
                    let mut connection = self.project.sqlite(&file);
                    connection.execute_batch(TABLE).unwrap();
                    let transaction = connection.transaction().unwrap();
                    let mut insert = transaction
                        .prepare("INSERT INTO people VALUES (?, ?, ?, ?, ?)")
                        .unwrap();
                    for row in rows(part) {
                        insert.execute(row).unwrap();
                    }
                    drop(insert);
                    transaction.commit().unwrap();
                    writeln!(yaml, "    - {{ name: {part}, path: {file} }}").unwrap();
                }
            }
            SourceKind::Postgres => {
                yaml.push_str(
                    "  type: postgres\n  timeouts: { statement: 3s, idle_read: 3s }\n  shards:\n",
                );
                let mut databases = Vec::new();
                for part in shards {
                    let server = server(options.tls);
                    let database = server.create_database().await.unwrap();
                    let client = database.connect().await.unwrap();
                    client.batch_execute(TABLE).await.unwrap();
                    for insert in inserts(&rows(part), "") {
                        client.batch_execute(&insert).await.unwrap();
                    }
                    let proxy = FaultProxy::start(&*database.host, database.port).unwrap();
                    writeln!(
                        yaml,
                        "    - {{ name: {part}, {} }}",
                        address(
                            &proxy,
                            &database,
                            &database.user,
                            certificate(server, options.tls),
                            "SOURCE_PASSWORD"
                        )
                    )
                    .unwrap();
                    databases.push((database, proxy));
                }
                self.source = SourceServer::Postgres(databases);
            }
            SourceKind::SqlServer => {
                yaml.push_str(
                    "  type: sqlserver\n  timeouts: { statement: 3s, idle_read: 3s }\n  shards:\n",
                );
                let mut servers = Vec::new();
                for part in shards {
                    let server = StandInServer::start(StandInOptions {
                        server_name: part.to_uppercase(),
                        databases: vec!["people".to_owned()],
                        tls: if options.tls {
                            StandInTls::RequiredFresh
                        } else {
                            StandInTls::Off
                        },
                        ..StandInOptions::default()
                    })
                    .unwrap();
                    server.execute("people", TABLE_OF_SQL_SERVER).unwrap();
                    for insert in inserts(&rows(part), "N") {
                        server.execute("people", &insert).unwrap();
                    }
                    let proxy = FaultProxy::start(&*server.host, server.port).unwrap();
                    let mode = if options.tls {
                        "require, trust_server_certificate: true"
                    } else {
                        "disable"
                    };
                    writeln!(
                        yaml,
                        "    - {{ name: {part}, host: \"{}\", port: {}, database: people, tls: {{ mode: {mode} }}, \
                         credentials: {{ username: \"{}\", password: \"{}\" }} }}",
                        proxy.host, proxy.port, server.user, server.password
                    )
                    .unwrap();
                    servers.push((server, proxy));
                }
                self.source = SourceServer::SqlServer(servers);
            }
        }
        writeln!(
            yaml,
            "  query: SELECT id, part, name, note, team FROM people WHERE {0} > @from AND {0} <= @until ORDER BY {0}",
            options.cursor
        )
        .unwrap();
        yaml
    }

    async fn open_sink(&mut self, options: &Options<'_>) -> String {
        let mode = match options.mode {
            Mode::Append | Mode::Chunked => "write_mode: append",
            Mode::Upsert => "write_mode: upsert, key: [part, id]",
            Mode::Replace => "write_mode: replace",
        };
        let common = format!("table: copied, partition_column: part, {mode}");
        let shared = server(options.tls);
        match options.sink {
            SinkKind::Sqlite => {
                self.project
                    .write(".env", format!("SOURCE_PASSWORD='{}'\n", shared.password));
                format!("sink: {{ type: sqlite, path: {SINK_FILE}, {common} }}\n")
            }
            SinkKind::Postgres => {
                let server = options.server.unwrap_or(shared);
                let database = server.create_database().await.unwrap();
                give_to_plain_user(&database).await;
                let proxy = FaultProxy::start(&*database.host, database.port).unwrap();
                let address = address(
                    &proxy,
                    &database,
                    PLAIN_USER,
                    certificate(server, options.tls),
                    "SINK_PASSWORD",
                );
                self.project.write(
                    ".env",
                    format!(
                        "SINK_PASSWORD='{}'\nSOURCE_PASSWORD='{}'\n",
                        database.password, shared.password
                    ),
                );
                self.sink_proxy = Some(proxy);
                self.database = Some(database);
                format!("sink: {{ type: postgres, {address}, {common} }}\n")
            }
        }
    }

    /// The proxy before the sink.
    pub fn sink(&self) -> &FaultProxy {
        self.sink_proxy.as_ref().unwrap()
    }

    /// The proxies before the shards.
    pub fn source_proxies(&self) -> Vec<&FaultProxy> {
        match &self.source {
            SourceServer::File => Vec::new(),
            SourceServer::Postgres(shards) => shards.iter().map(|(_, proxy)| proxy).collect(),
            SourceServer::SqlServer(shards) => shards.iter().map(|(_, proxy)| proxy).collect(),
        }
    }

    /// The stand-in of a shard.
    pub fn stand_in(&self, shard: usize) -> &StandInServer {
        match &self.source {
            SourceServer::SqlServer(shards) => &shards[shard].0,
            _ => panic!("the source is no SQL Server"),
        }
    }

    /// A row comes into the source.
    pub async fn insert(&mut self, part: &str, id: u32) {
        self.expected.push(text_of(part, id));
        let row = row(part, id, false);
        let at = SHARDS.iter().position(|it| it == &part).unwrap();
        match &self.source {
            SourceServer::File => {
                let connection = self.project.sqlite(format!("data/{part}.db"));
                let sql = "INSERT INTO people VALUES (?, ?, ?, ?, ?)";
                connection.execute(sql, row).unwrap();
            }
            SourceServer::SqlServer(shards) => {
                shards[at]
                    .0
                    .execute("people", &inserts(&[row], "N")[0])
                    .unwrap();
            }
            SourceServer::Postgres(shards) => {
                let client = shards[at].0.connect().await.unwrap();
                client.batch_execute(&inserts(&[row], "")[0]).await.unwrap();
            }
        }
    }

    /// The host's program, about to run the pipeline.
    pub fn program(&self) -> Program {
        self.project.program(&["--output", "json", "run", "copy"])
    }

    pub fn start(&self) -> Running {
        self.program().start().unwrap()
    }

    /// Runs the pipeline to its end and judges it.
    pub async fn run(&mut self) -> Finished {
        let before = self.found().await.len() as u64;
        let finished = self.program().run().unwrap();
        self.judge(&finished, before).await;
        finished
    }

    /// Judges a run that has ended, before which the sink held so many rows and during which nobody else wrote.
    pub async fn judge(&mut self, finished: &Finished, before: u64) {
        let Some((mut claim, found)) = self.claim(finished).await else {
            return;
        };
        let gained = match self.mode {
            Mode::Replace if claim.exit_ok => found.len() as u64,
            _ => found.len() as u64 - before,
        };
        claim.must_know |= finished.json().unwrap()["status"] == "cancelled";
        self.verdict
            .hold(claim, gained, missing(&self.expected, &found));
    }

    /// Judges a run that has ended, beside which others may have written.
    pub async fn judge_among_others(&mut self, finished: &Finished) {
        if let Some((mut claim, found)) = self.claim(finished).await {
            claim.must_know = false;
            let missing = missing(&self.expected, &found);
            self.verdict.hold(claim, found.len() as u64, missing);
        }
    }

    /// Runs the pipeline while another host may be writing.
    pub async fn run_among_others(&mut self) -> Finished {
        let finished = self.program().run().unwrap();
        self.judge_among_others(&finished).await;
        finished
    }

    /// What a run says of itself, and what the sink holds now. Nothing if the run was not let say anything.
    async fn claim(&mut self, finished: &Finished) -> Option<(Claim, Vec<String>)> {
        self.verdict.runs += 1;
        if finished.signal.is_some() {
            return None;
        }
        let report = finished.json().unwrap();
        let claim = Claim {
            exit_ok: finished.success(),
            says_succeeded: report["status"] == "succeeded",
            loaded: report["rows"]["loaded"].as_u64().unwrap(),
            must_know: finished.success(),
        };
        Some((claim, self.found().await))
    }

    /// Between two faults there may be rows missing, but none too many.
    pub async fn assert_no_surplus(&mut self) {
        let found = self.found().await;
        let surplus = missing(&found, &self.expected);
        if surplus > 0 {
            self.verdict.doubled += surplus;
            self.verdict
                .findings
                .push(format!("{surplus} rows too many before the end"));
        }
    }

    /// Runs until one succeeds, and compares what the sink holds then.
    pub async fn settle(&mut self) {
        for _ in 0..TRIES {
            let finished = self.run().await;
            if finished.success() {
                return self.compare().await;
            }
        }
        let last = self.run().await;
        panic!(
            "no run of {TRIES} succeeds without a fault:\n{}",
            last.stderr
        );
    }

    /// Compares what the sink and the quarantine hold with what they must.
    pub async fn compare(&mut self) {
        let found = self.found().await;
        let expected = std::mem::take(&mut self.expected);
        self.verdict.compare(&expected, &found);
        self.expected = expected;
        if !self.quarantined.is_empty() {
            let quarantined = self.quarantine().await;
            self.verdict.compare(&self.quarantined, &quarantined);
        }
    }

    /// The sink's rows.
    pub async fn found(&self) -> Vec<String> {
        match &self.database {
            Some(database) => {
                let client = database.connect().await.unwrap();
                let there = client.query_one("SELECT to_regclass('copied') IS NOT NULL", &[]);
                if !there.await.unwrap().get::<_, bool>(0) {
                    return Vec::new();
                }
                let rows = client.query(
                    "SELECT concat_ws('|', part, id, name, note) FROM copied",
                    &[],
                );
                rows.await.unwrap().iter().map(|row| row.get(0)).collect()
            }
            None if !self.project.path(SINK_FILE).exists() => Vec::new(),
            None => {
                let there = "SELECT count(*) FROM sqlite_master WHERE name = 'copied'";
                if self.project.number(SINK_FILE, there) == 0 {
                    return Vec::new();
                }
                let rows = self.project.query(
                    SINK_FILE,
                    "SELECT part || '|' || id || '|' || name || '|' || note FROM copied",
                );
                rows.lines().map(str::to_owned).collect()
            }
        }
    }

    /// The rows in quarantine, by part and number.
    async fn quarantine(&self) -> Vec<String> {
        let client = self.database.as_ref().unwrap().connect().await.unwrap();
        let letters = client.query("SELECT payload FROM etl_host.dead_letters", &[]);
        let text = |row: &tokio_postgres::Row| {
            let payload: serde_json::Value = serde_json::from_slice(row.get(0)).unwrap();
            format!("{}|{}", payload["part"].as_str().unwrap(), payload["id"])
        };
        letters.await.unwrap().iter().map(text).collect()
    }

    /// Runs a statement on the sink's server, past the proxy.
    pub async fn execute(&self, sql: &str) {
        let client = self.database.as_ref().unwrap().connect().await.unwrap();
        client.batch_execute(sql).await.unwrap();
    }

    /// The verdict, once the fault is known to have happened so often.
    pub fn done(mut self, injected: u64) -> Verdict {
        self.verdict.injected += injected;
        self.verdict
    }
}

const TABLE: &str = "CREATE TABLE people (id bigint NOT NULL PRIMARY KEY, part text NOT NULL, name text, note text, team bigint NOT NULL)";
const TABLE_OF_SQL_SERVER: &str = "CREATE TABLE people (id bigint NOT NULL PRIMARY KEY, part varchar(10) NOT NULL, \
                                   name varchar(40), note nvarchar(400), team bigint NOT NULL)";

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

/// The server of the tests; with TLS, one of this file's own.
pub fn server(tls: bool) -> &'static PostgresServer {
    use etl_testkit::postgres::{PostgresOptions, Tls};
    use std::sync::OnceLock;
    static WITH_TLS: OnceLock<PostgresServer> = OnceLock::new();
    if !tls {
        return PostgresServer::shared();
    }
    WITH_TLS.get_or_init(|| {
        PostgresServer::start(&PostgresOptions {
            tls: Tls::Required,
            ..PostgresOptions::default()
        })
        .unwrap()
    })
}

/// The sink belongs to somebody who may do no more than a host in production: limits hold for him.
const PLAIN_USER: &str = "etl_test_plain";

async fn give_to_plain_user(database: &TestDatabase) {
    let client = database.connect().await.unwrap();
    let TestDatabase { name, password, .. } = database;
    let sql = format!(
        "DO $$ BEGIN CREATE ROLE {PLAIN_USER} LOGIN PASSWORD '{password}'; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; \
         ALTER DATABASE \"{name}\" OWNER TO {PLAIN_USER}"
    );
    // Two tests at once may meet on the catalogue's row of the role.
    while let Err(error) = client.batch_execute(&sql).await {
        let code = error.code().map_or("", |code| code.code()).to_owned();
        assert_eq!(code, "XX000", "{error}");
    }
}

fn certificate(server: &PostgresServer, tls: bool) -> Option<&Path> {
    server.ca_file().filter(|_| tls)
}

fn address(
    proxy: &FaultProxy,
    database: &TestDatabase,
    user: &str,
    certificate: Option<&Path>,
    password: &str,
) -> String {
    let tls = match certificate {
        Some(file) => format!("mode: require, ca_file: '{}'", file.display()),
        None => "mode: disable".to_owned(),
    };
    format!(
        "host: '{}', port: {}, database: '{}', credentials: {{ username: '{user}', password: '${{{password}}}' }}, \
         tls: {{ {tls} }}",
        proxy.host, proxy.port, database.name
    )
}
