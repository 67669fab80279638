//! The table, the ratios that are promised, and the page that tells them.

use std::fmt::Write;
use std::path::Path;

use super::measure::Line;
use super::servers::Servers;

pub const BARE: &str = "bare: read, COPY";
pub const APPEND: &str = "etl-host";
pub const PASSED: &str = "no stage";
pub const IN_PROCESS: &str = "a transformer in the host";
pub const PROCESS: &str = "a transformer in a worker";
pub const MERGE: &str = "bare: staging and merge, unsorted";
pub const UPSERT: &str = "etl-host: only new rows";
pub const MERGE_AGAIN: &str = "bare: the same rows again";
pub const UPSERT_AGAIN: &str = "etl-host: the same rows again";
const MB: f64 = 1e6;

pub struct Report {
    lines: Vec<(&'static str, &'static str, Line)>,
    page: String,
}

impl Report {
    pub fn new(servers: &Servers) -> Self {
        let rows = servers.rows_per_shard;
        let source = if servers.makes_rows() {
            format!(
                "{} shards of {rows} rows, made by a stand-in for SQL Server",
                servers.shards.len()
            )
        } else {
            format!("{} shards on servers of SQL Server", servers.shards.len())
        };
        println!("{source}");
        Self {
            lines: Vec::new(),
            page: format!("{source}\n"),
        }
    }

    /// Adds the median of some measurements.
    pub fn add(&mut self, group: &'static str, name: &'static str, mut taken: Vec<Line>) {
        const HEAD: &str = "| | rows/s | client, µs/row | source, µs/row | sink, µs/row | peak memory |\n| --- | --- | --- | --- | --- | --- |";
        taken.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
        let mut line = taken[taken.len() / 2];
        // Each figure's own median.
        taken.sort_by_key(|line| line.client);
        line.client = taken[taken.len() / 2].client;
        if self.lines.last().is_none_or(|last| last.0 != group) {
            write!(self.page, "\n{group}\n\n{HEAD}\n").unwrap();
        }
        let memory = line.memory.map_or("-".to_owned(), |bytes| {
            format!("{:.0} MiB", bytes as f64 / MIB)
        });
        let row = format!(
            "| {name} | {:.0} k | {:.2} | {:.2} | {:.2} | {:.0} MB |",
            line.rate() / 1e3,
            line.client_per_row(),
            line.source_per_row(),
            line.sink_per_row(),
            line.memory as f64 / MB
        );
        println!("{row}");
        writeln!(self.page, "{row}").unwrap();
        self.lines.push((group, name, line));
    }

    fn line(&self, name: &str) -> Option<Line> {
        self.lines
            .iter()
            .find(|line| line.1 == name)
            .map(|line| line.2)
    }

    /// Tells the ratios, writes the page, and fails if a promise is not kept.
    pub fn conclude(mut self, whole: bool) {
        let pair = |one: &str, other: &str| Some((self.line(one)?, self.line(other)?));
        let mut ratios = Vec::new();
        if let Some((bare, host)) = pair(BARE, APPEND) {
            ratios.push(Ratio::most(
                "append: wall time beside the bare loop",
                bare.rate() / host.rate(),
                1.10,
            ));
            ratios.push(Ratio::most(
                "append: processor time beside the bare loop",
                host.client_per_row() / bare.client_per_row(),
                1.25,
            ));
            ratios.push(Ratio::most(
                "append: peak memory, MB",
                host.memory.unwrap_or(0) as f64 / MIB,
                60.0,
            ));
        }
        if let Some((host, many)) = pair(APPEND, "etl-host, ten times the rows") {
            ratios.push(Ratio::most(
                "append: memory for ten times the rows",
                many.memory as f64 / host.memory as f64,
                1.1,
            ));
        }
        if let Some((bare, host)) = pair(MERGE, UPSERT) {
            ratios.push(Ratio::least(
                "upsert of new rows: rate beside staging and merge",
                host.rate() / bare.rate(),
                2.5,
            ));
        }
        if let Some((bare, host)) = pair(MERGE_AGAIN, UPSERT_AGAIN) {
            ratios.push(Ratio::least(
                "upsert of the same rows: rate beside the plain merge",
                host.rate() / bare.rate(),
                1.8,
            ));
        }
        if let Some((without, with)) = pair(PASSED, IN_PROCESS) {
            ratios.push(Ratio::most(
                "a stage in the host: processor time beside none",
                with.client_per_row() / without.client_per_row(),
                1.02,
            ));
        }
        if let Some((inside, apart)) = pair(IN_PROCESS, PROCESS) {
            ratios.push(Ratio::most(
                "isolation: wall time beside in-process",
                inside.rate() / apart.rate(),
                1.15,
            ));
        }
        self.page
            .push_str("\nRatios\n\n| | measured | wanted |\n| --- | --- | --- |\n");
        for ratio in &ratios {
            println!("{}", ratio.row());
            writeln!(self.page, "{}", ratio.row()).unwrap();
        }
        if whole {
            write_page(&self.page);
        }
        let missed: Vec<_> = ratios
            .iter()
            .filter(|ratio| !ratio.kept())
            .map(|ratio| ratio.what)
            .collect();
        assert!(missed.is_empty(), "not kept: {}", missed.join("; "));
    }
}

struct Ratio {
    what: &'static str,
    found: f64,
    bound: f64,
    most: bool,
}

impl Ratio {
    fn most(what: &'static str, found: f64, bound: f64) -> Self {
        Self {
            what,
            found,
            bound,
            most: true,
        }
    }

    fn least(what: &'static str, found: f64, bound: f64) -> Self {
        Self {
            what,
            found,
            bound,
            most: false,
        }
    }

    fn kept(&self) -> bool {
        if self.most {
            self.found <= self.bound
        } else {
            self.found >= self.bound
        }
    }

    fn row(&self) -> String {
        let sign = if self.most { "≤" } else { "≥" };
        let missed = if self.kept() { "" } else { ", **missed**" };
        format!(
            "| {} | {:.2} | {sign} {}{missed} |",
            self.what, self.found, self.bound
        )
    }
}

/// Between the marks in `docs/benchmarks.md`.
fn write_page(figures: &str) {
    const BEGIN: &str = "<!-- figures, written by make bench -->\n";
    const END: &str = "<!-- end of figures -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page
        .split_once(BEGIN)
        .expect("a mark where the figures begin");
    let (_, after) = rest.split_once(END).expect("a mark where the figures end");
    std::fs::write(&path, format!("{before}{BEGIN}\n{figures}\n{END}{after}")).unwrap();
}
