//! What a pipeline costs from SQL Server to PostgreSQL, and what it could cost at least: the host beside loops that do
//! nothing but move the rows, in turns, on the same machine.
//!
//! Each line is the median of some rounds; ratios are taken between lines of one run. The source is a stand-in that
//! makes its rows, faster than anybody reads them, or the servers named by `ETL_BENCH_SOURCE`. `make bench` runs it and
//! writes `docs/benchmarks.md`; it takes some minutes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::large_futures,
    clippy::cast_sign_loss,
    clippy::missing_docs_in_private_items,
    reason = "a benchmark"
)]

mod host_run;
mod loops;
mod measure;
mod report;
mod servers;

use host_run::{HostRun, Mode};
use loops::{Job, Write};
use measure::Line;
use report::Report;
use servers::{Servers, Sink};

/// Rows of each shard, if `ETL_BENCH_ROWS` does not say otherwise.
const ROWS: u64 = 1_000_000;
/// Runs of each line, of which the median counts, if `ETL_BENCH_ROUNDS` does not say otherwise.
const ROUNDS: u64 = 3;
/// Times as many rows for the line that shows flat memory.
const MANY: u64 = 10;

fn main() {
    if let Some(job) = Job::of_this_process() {
        return job.run();
    }
    // `cargo test --all-targets` runs benchmarks too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let servers = Servers::start(number("ETL_BENCH_ROWS", ROWS));
    let mut report = Report::new(&servers);
    let rounds = number("ETL_BENCH_ROUNDS", ROUNDS);
    let wanted = std::env::var("ETL_BENCH_ONLY").unwrap_or_default();
    for group in groups() {
        if !group.name.contains(&wanted) {
            continue;
        }
        println!("{}", group.name);
        let mut taken: Vec<Vec<Line>> = group.lines.iter().map(|_| Vec::new()).collect();
        // In turns, so that what else the machine does meets all of them.
        for _ in 0..rounds {
            let sink = servers.create_sink();
            for (line, taken) in group.lines.iter().zip(&mut taken) {
                taken.push((line.take)(&servers, &sink));
            }
        }
        for (line, taken) in group.lines.iter().zip(taken) {
            report.add(group.name, line.name, &taken);
        }
    }
    if wanted.is_empty() && servers.makes_rows() {
        let many = Servers::start(servers.rows_per_shard * MANY);
        let line = HostRun::new(Mode::Append).take(&many, &many.create_sink());
        report.add("Ten times the rows", report::MANY, &[line]);
    }
    report.conclude(wanted.is_empty());
}

/// Lines that are compared with each other.
struct Group {
    name: &'static str,
    lines: Vec<Measured>,
}

struct Measured {
    name: &'static str,
    take: Box<Take>,
}

type Take = dyn Fn(&Servers, &Sink) -> Line;

fn host(name: &'static str, run: HostRun) -> Measured {
    Measured {
        name,
        take: Box::new(move |servers, sink| run.take(servers, sink)),
    }
}

fn bare(name: &'static str, read: bool, write: Write) -> Measured {
    Measured {
        name,
        take: Box::new(move |servers, sink| loops::take(servers, sink, read, write)),
    }
}

fn groups() -> Vec<Group> {
    vec![
        Group {
            name: "Append, no key",
            lines: vec![
                bare("bare: read alone", true, Write::Nothing),
                bare("bare: COPY alone", false, Write::Copy),
                bare(report::BARE, true, Write::Copy),
                host(report::APPEND, HostRun::new(Mode::Append)),
                #[cfg(feature = "mssql-tds")]
                host(
                    "etl-host, driver mssql-tds",
                    HostRun::new(Mode::Append).second_driver(),
                ),
            ],
        },
        Group {
            name: "A plugin's stages",
            lines: vec![
                host(report::PASSED, HostRun::new(Mode::Append).inside()),
                host(
                    report::IN_PROCESS,
                    HostRun::new(Mode::Append).pipeline("same").inside(),
                ),
                host(report::PROCESS, HostRun::new(Mode::Append).pipeline("same")),
            ],
        },
        Group {
            name: "login-analytics",
            lines: vec![
                host("in the host", HostRun::flagship().inside()),
                host("in a worker", HostRun::flagship()),
                host("in a worker, TLS to the source", HostRun::flagship().tls()),
            ],
        },
        Group {
            name: "Upsert with a key, rows from memory",
            lines: vec![
                bare(report::WRITE_MERGE, false, Write::Merge),
                host(report::WRITE_UPSERT, HostRun::made(Mode::Upsert)),
            ],
        },
        Group {
            name: "Upsert with a key",
            lines: vec![
                bare(report::MERGE, true, Write::Merge),
                host(report::UPSERT, HostRun::new(Mode::Upsert)),
                bare(report::MERGE_AGAIN, true, Write::Merge),
                host(report::UPSERT_AGAIN, HostRun::new(Mode::Upsert).again()),
            ],
        },
    ]
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    }
}
