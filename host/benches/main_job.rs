//! The main job by the clock: login-analytics from two shards into PostgreSQL and into SQLite, small and large.
//!
//! Prints rows per second and the host's peak memory, and fails if memory grows with the table. Run it with
//! `make bench`; it takes a few minutes and starts a PostgreSQL of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark"
)]

use etl_testkit::artifact;
use etl_testkit::postgres::{PostgresOptions, PostgresServer};
use etl_testkit::process::Program;
use etl_testkit::project::Project;

/// Rows of the small and of the large case, all shards together.
const SIZES: [u64; 2] = [200_000, 2_000_000];
/// Memory of the large case may exceed that of the small one by so much.
const MOST_GROWTH: f64 = 1.2;

struct Measured {
    rows_per_second: u64,
    peak_memory: u64,
}

fn main() {
    // `cargo test --all-targets` runs benchmarks too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let options = PostgresOptions {
        fsync: true,
        ..PostgresOptions::default()
    };
    let server = PostgresServer::start(&options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    println!(
        "{:<10} {:>10} {:>12} {:>14}",
        "sink", "rows", "rows/s", "peak memory"
    );
    let mut grown = Vec::new();
    for sink in ["postgres", "sqlite"] {
        let measured = SIZES.map(|rows| {
            let project = shards(rows);
            let database = runtime.block_on(server.create_database()).unwrap();
            if sink == "postgres" {
                let yaml = format!(
                    "sink:\n  type: postgres\n  host: '{}'\n  port: {}\n  database: '{}'\n  \
                     credentials: {{ username: '{}', password: '{}' }}\n  table: login_analytics\n",
                    database.host, database.port, database.name, database.user, database.password
                );
                project.config("login-analytics", &yaml);
            }
            let measured = run(&project, rows);
            println!(
                "{sink:<10} {rows:>10} {:>12} {:>10.1} MiB",
                measured.rows_per_second,
                mebibytes(measured.peak_memory)
            );
            measured
        });
        let [small, large] = measured;
        let growth = mebibytes(large.peak_memory) / mebibytes(small.peak_memory);
        println!("{sink:<10} ten times the rows take {growth:.2} times the memory");
        if growth > MOST_GROWTH {
            grown.push(sink);
        }
    }
    assert!(grown.is_empty(), "memory grows with the table: {grown:?}");
}

fn shards(rows: u64) -> Project {
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("login-analytics");
    let maker = artifact::binary("login-analytics-demo", "login-analytics-demo").unwrap();
    let per_shard = (rows / 2).to_string();
    let made = Program::new(&maker)
        .current_dir(project.dir())
        .args(["--dir", "data", "--rows", per_shard.as_str()])
        .run()
        .unwrap();
    made.require_code(0).unwrap();
    project
}

fn run(project: &Project, rows: u64) -> Measured {
    let report = project.result(&["run", "login-analytics"], 0);
    assert_eq!(report["rows"]["loaded"], rows);
    Measured {
        rows_per_second: report["rows_per_second"].as_u64().unwrap(),
        peak_memory: report["peak_memory_bytes"].as_u64().unwrap(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
