//! One pipeline with its source, its sink and a proxy before each server, and the judge of its runs.
//!
//! The rows are known beforehand: what the sink must hold is never read from the source.

use std::time::Duration;

use etl_testkit::fault_proxy::FaultProxy;
use etl_testkit::postgres::{PostgresServer, TestDatabase};
use etl_testkit::process::{Finished, Program, Running};
use etl_testkit::project::Project;
use etl_testkit::stand_in::StandInServer;
use etl_testkit::tally::{Claim, Verdict, missing};

pub use crate::source::SourceKind;

use crate::shared::{PLAIN_USER, address, certificate, give_to_plain_user, server};
use crate::source::{SHARDS, Source, is_bad, text_of};

/// Long enough for a slow machine that does two things at once, short enough for a person.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Runs that a case may need until one succeeds.
const TRIES: u32 = 8;
const SINK_FILE: &str = "data/warehouse.db";

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

/// The pipeline of one case.
pub struct Rig {
    pub project: Project,
    pub mode: Mode,
    /// The sink's database; none if the sink is a file.
    pub database: Option<TestDatabase>,
    /// Before the sink's server; before none if the sink is a file.
    pub sink_proxy: Option<FaultProxy>,
    source: Source,
    pub expected: Vec<String>,
    pub verdict: Verdict,
    quarantined: Vec<String>,
}

impl Rig {
    pub async fn new(options: &Options<'_>) -> Self {
        let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
        project.plugin("fixture-kinds");
        let (source, source_yaml) = Source::open(&project, options).await;
        let mut rig = Self {
            project,
            mode: options.mode,
            database: None,
            sink_proxy: None,
            source,
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
        let sink = rig.open_sink(options).await;
        let flushes = if options.mode == Mode::Chunked { 1 } else { 3 };
        rig.project.config(
            "copy",
            &format!(
                "{source_yaml}{sink}{}cursor: {{ column: {}, kind: integer, settle_delay: 0s }}\n\
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
        self.source.proxies()
    }

    /// The stand-in of a shard.
    pub fn stand_in(&self, shard: usize) -> &StandInServer {
        self.source.stand_in(shard)
    }

    /// A row comes into the source.
    pub async fn insert(&mut self, part: &str, id: u32) {
        self.expected.push(text_of(part, id));
        self.source.insert(&self.project, part, id).await;
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
