//! The flagship by the clock: two SQL Server shards of a million logins each into PostgreSQL, and each side alone.
//!
//! The shards are stand-ins on the same machine, which take a part of it too: compare the lines with each other, not
//! with other machines. Run it with `make bench`; it takes a few minutes and starts its servers itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_host::checkpoint::Ledger;
use etl_host::config::{self, Config, Layer, SchemaChange, WriteMode};
use etl_host::holder::Holder;
use etl_host::pool::Pools;
use etl_host::sink::{Chunk, Claim, CursorChange, Flush, Keep, TableSpec, Tenure, build_sink};
use etl_host::source::{CursorQuery, ReadRequest, SourceBatch, build_source};
use etl_plugin_api::Cursor;
use etl_testkit::artifact;
use etl_testkit::postgres::{PostgresOptions, PostgresServer, TestDatabase};
use etl_testkit::process::Program;
use etl_testkit::project::Project;
use etl_testkit::stand_in::{BulkValue, StandInOptions, StandInServer};
use serde_json::Value;

const ROWS_PER_SHARD: u64 = 1_000_000;
const SHARDS: usize = 2;
/// Runs of each isolation, of which the median counts.
const ROUNDS: usize = 3;
const ISOLATIONS: [&str; 2] = ["in-process", "process"];
/// What a worker process must reach of the rate inside the host.
const LEAST_SHARE: f64 = 0.85;
const DATABASE: &str = "logins";
const TABLE: &str = "CREATE TABLE user_logins (login_id bigint IDENTITY(1,1) NOT NULL PRIMARY KEY, user_id int NOT NULL, \
     login_time datetime2(3) NOT NULL, ip_address varchar(45) NULL, user_agent nvarchar(400) NULL);\
     CREATE INDEX by_time ON user_logins (login_time);";
const QUERY: &str = "SELECT user_id, login_time, ip_address, user_agent FROM user_logins \
     WHERE login_time > @from AND login_time <= @until ORDER BY login_time";
/// 1970-01-01 in ticks of 100 ns since 0001-01-01.
const TICKS_TO_1970: i64 = 621_355_968_000_000_000;

fn main() {
    // `cargo test --all-targets` runs benchmarks too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let postgres = PostgresServer::start(&PostgresOptions {
        fsync: true,
        ..PostgresOptions::default()
    })
    .unwrap();
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("login-analytics");
    let shards = fill_shards(&project);
    println!(
        "{:<34} {:>12} {:>14}",
        "2 x 1,000,000 logins", "rows/s", "peak memory"
    );

    let database = runtime.block_on(postgres.create_database()).unwrap();
    let plain = config_of(&project, &shards, &database, "disable");
    let parsed = parse(&plain);
    let sample = runtime.block_on(async {
        let begin = Instant::now();
        let (rows, sample) = read_alone(&parsed).await;
        show("source read alone", rate(rows, begin), None);
        sample
    });
    runtime.block_on(async {
        let begin = Instant::now();
        let rows = copy_alone(&parsed, &sample).await;
        show("COPY alone", rate(rows, begin), None);
    });
    let run = |tls: &str, isolation: &str| {
        let database = runtime.block_on(postgres.create_database()).unwrap();
        project.config(
            "login-analytics",
            &config_of(&project, &shards, &database, tls),
        );
        let arguments = ["run", "login-analytics", "--isolation", isolation];
        let report = project.result(&arguments, 0);
        assert_eq!(report["rows"]["loaded"], ROWS_PER_SHARD * SHARDS as u64);
        report
    };
    // In turns, so that what else the machine does meets both.
    let mut reports = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (isolation, reports) in ISOLATIONS.iter().zip(&mut reports) {
            reports.push(run("disable", isolation));
        }
    }
    let rates = [0, 1].map(|index| {
        let report = median(&mut reports[index]);
        let name = format!("flagship, {}", ISOLATIONS[index]);
        let workers = report["partitions"].as_array().unwrap().iter();
        let workers: u64 = workers
            .filter_map(|partition| partition["worker"]["peak_memory_bytes"].as_u64())
            .sum();
        let host = report["peak_memory_bytes"].as_u64().unwrap();
        show(&name, rows_per_second(report), Some(host + workers));
        rows_per_second(report)
    });
    let share = rates[1] as f64 / rates[0] as f64;
    println!("process reaches {:.0} % of in-process", share * 100.0);
    let report = run("require", "process");
    let memory = report["peak_memory_bytes"].as_u64();
    show("flagship, TLS, process", rows_per_second(&report), memory);
    assert!(
        share >= LEAST_SHARE,
        "a process of its own costs too much: {share:.2}"
    );
}

fn rows_per_second(report: &Value) -> u64 {
    report["rows_per_second"].as_u64().unwrap()
}

fn median(reports: &mut [Value]) -> &Value {
    reports.sort_by_key(rows_per_second);
    &reports[reports.len() / 2]
}

fn show(what: &str, rows_per_second: u64, memory: Option<u64>) {
    let memory = memory.map_or(String::new(), |bytes| {
        format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
    });
    println!("{what:<34} {rows_per_second:>12} {memory:>14}");
}

fn rate(rows: u64, begin: Instant) -> u64 {
    (rows as f64 / begin.elapsed().as_secs_f64()) as u64
}

/// The demo's logins, on servers that stand in for SQL Server.
fn fill_shards(project: &Project) -> Vec<StandInServer> {
    let maker = artifact::binary("login-analytics-demo", "login-analytics-demo").unwrap();
    let rows = ROWS_PER_SHARD.to_string();
    let made = Program::new(&maker)
        .current_dir(project.dir())
        .args(["--dir", "data", "--rows", rows.as_str()])
        .run()
        .unwrap();
    made.require_code(0).unwrap();
    (1..=SHARDS)
        .map(|number| {
            let server = StandInServer::start(StandInOptions {
                server_name: format!("SHARD{number}"),
                databases: vec![DATABASE.to_owned()],
                keep_statements: false,
                ..StandInOptions::default()
            })
            .unwrap();
            server.execute(DATABASE, TABLE).unwrap();
            let file = project.sqlite(format!("data/shard-{number}.db"));
            let sql = "SELECT user_id, CAST(round(1000 * (julianday(login_time) - 2440587.5) * 86400) AS INTEGER), ip_address, user_agent \
                       FROM user_logins ORDER BY login_time";
            let mut statement = file.prepare(sql).unwrap();
            let rows = statement
                .query_map([], |row| {
                    let text = |value: Option<String>| value.map_or(BulkValue::Null, BulkValue::Text);
                    let millis: i64 = row.get(1)?;
                    Ok(vec![
                        BulkValue::Int(row.get(0)?),
                        BulkValue::Ticks(TICKS_TO_1970 + millis * 10_000),
                        text(row.get(2)?),
                        text(row.get(3)?),
                    ])
                })
                .unwrap();
            let columns = ["user_id", "login_time", "ip_address", "user_agent"];
            let filled = server.bulk(DATABASE, "user_logins", &columns, rows.map(Result::unwrap)).unwrap();
            assert_eq!(filled, ROWS_PER_SHARD);
            server
        })
        .collect()
}

fn config_of(
    project: &Project,
    shards: &[StandInServer],
    database: &TestDatabase,
    tls: &str,
) -> String {
    let mut yaml = format!(
        "source:\n  type: sqlserver\n  database: {DATABASE}\n  query: {QUERY}\n  shards:\n"
    );
    for (index, server) in shards.iter().enumerate() {
        let ca = project.write(format!("ca-{index}.pem"), server.ca_pem().unwrap());
        writeln!(yaml,
            "    - {{ host: \"{}\", port: {}, credentials: {{ username: \"{}\", password: \"{}\" }}, tls: {{ mode: {tls}, ca_file: \"{}\" }} }}",
            server.host, server.port, server.user, server.password, ca.display()
        ).unwrap();
    }
    yaml + &format!(
        "sink:\n  type: postgres\n  host: \"{}\"\n  port: {}\n  database: \"{}\"\n  credentials: {{ username: \"{}\", password: \"{}\" }}\n  \
         table: login_analytics\ncursor: {{ column: login_time, kind: timestamp }}\n",
        database.host, database.port, database.name, database.user, database.password
    )
}

fn parse(yaml: &str) -> Config {
    let layers = [
        Layer {
            name: "benchmark".into(),
            text: "name: benchmark\n".into(),
            of_plugin: true,
        },
        Layer {
            name: "benchmark".into(),
            text: yaml.into(),
            of_plugin: false,
        },
    ];
    config::load(&layers, &|_| None).unwrap().config
}

/// All shards side by side, to the last row; and a batch to go on with.
async fn read_alone(config: &Config) -> (u64, SourceBatch) {
    let source = Arc::<dyn etl_host::source::Source>::from(build_source(
        &config.source,
        &Arc::new(Pools::new()),
    ));
    let reads = source.shards().into_iter().map(|shard| {
        let (source, config) = (source.clone(), config.clone());
        tokio::spawn(async move {
            let mut session = source.open(&shard).await.unwrap();
            let sql = config.source.query.clone().unwrap();
            let cursor = config.cursor.clone().unwrap();
            let query = CursorQuery {
                sql: sql.clone(),
                cursor: cursor.clone(),
                from: None,
                range: None,
            };
            let until = session.upper_bound(&query).await.unwrap();
            let request = ReadRequest {
                sql,
                cursor: Some(cursor),
                from: None,
                until,
                parameters: Vec::new(),
                range: None,
                batch_rows: config.tuning.batch_rows,
                batch_bytes: config.tuning.flush_bytes,
            };
            let mut stream = session.read(request).await.unwrap();
            let (mut rows, mut sample) = (0, None);
            while let Some(batch) = stream.next().await.unwrap() {
                rows += batch.batch.num_rows() as u64;
                sample.get_or_insert(batch);
            }
            (rows, sample.unwrap())
        })
    });
    let mut total = 0;
    let mut last = None;
    for read in reads.collect::<Vec<_>>() {
        let (rows, sample) = read.await.unwrap();
        total += rows;
        last = Some(sample);
    }
    (total, last.unwrap())
}

/// As many rows as the shards have, from memory, through as many connections.
async fn copy_alone(config: &Config, sample: &SourceBatch) -> u64 {
    let sink =
        Arc::<dyn etl_host::sink::Sink>::from(build_sink(&config.sink, &Arc::new(Pools::new())));
    let spec = TableSpec {
        name: config.sink.table.clone(),
        schema: sample.batch.schema(),
        mode: WriteMode::Append,
        on_schema_change: SchemaChange::Strict,
        keep: Keep::Last,
    };
    let per_flush = config
        .tuning
        .flush_bytes
        .div_ceil(sample.batch.get_array_memory_size());
    let writes = (0..SHARDS).map(|index| {
        let (sink, spec, batch) = (sink.clone(), spec.clone(), sample.batch.clone());
        tokio::spawn(async move {
            let claim = Claim {
                tenure: Tenure {
                    pipeline: "benchmark".into(),
                    run_id: "benchmark".into(),
                    holder: Holder::of_this_process(),
                    lease: Duration::from_mins(1),
                },
                partition: format!("shard-{index}"),
                leased: format!("shard-{index}"),
                index,
                retry: false,
                replay: false,
            };
            let mut writer = sink.begin(&claim).await.unwrap();
            writer.open_tables(&[spec]).await.unwrap();
            let (mut rows, mut flushes) = (0, 0);
            while rows < ROWS_PER_SHARD {
                let flush = Flush {
                    table: 0,
                    batches: vec![batch.clone(); per_flush],
                };
                rows += writer.write(&flush, 0).await.unwrap().loaded;
                flushes += 1;
                if flushes % 16 == 0 || rows >= ROWS_PER_SHARD {
                    let chunk = Chunk {
                        cursor: CursorChange::Set(Cursor::Integer(rows.cast_signed())),
                        fingerprint: Some("benchmark".into()),
                        run_id: "benchmark".into(),
                        ledger: Ledger::default(),
                        dead_letters: Vec::new(),
                        replayed: Vec::new(),
                        most_refused: 0,
                    };
                    writer.commit(&chunk).await.unwrap();
                }
            }
            writer.close().await.unwrap();
            rows
        })
    });
    let mut total = 0;
    for write in writes.collect::<Vec<_>>() {
        total += write.await.unwrap();
    }
    total
}
