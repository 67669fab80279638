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
pub const WRITE_MERGE: &str = "bare: staging and merge, unsorted, nothing read";
pub const WRITE_UPSERT: &str = "etl-host: only new rows, nothing read";
pub const MERGE: &str = "bare: staging and merge, unsorted";
pub const UPSERT: &str = "etl-host: only new rows";
pub const MERGE_AGAIN: &str = "bare: the same rows again";
pub const UPSERT_AGAIN: &str = "etl-host: the same rows again";
pub const MANY: &str = "etl-host, ten times the rows";
const MB: f64 = 1e6;

/// What is promised of two lines.
const PROMISES: [Promise; 9] = [
    Promise {
        what: "append: wall time beside the bare loop",
        lines: (BARE, APPEND),
        ratio: |bare, host| bare.rate() / host.rate(),
        bound: Bound::Most(1.10),
    },
    Promise {
        what: "append: processor time beside the bare loop",
        lines: (BARE, APPEND),
        ratio: |bare, host| host.client_per_row() / bare.client_per_row(),
        bound: Bound::Most(1.25),
    },
    Promise {
        what: "append: peak memory, MB",
        lines: (BARE, APPEND),
        ratio: |_, host| host.memory as f64 / MB,
        bound: Bound::Most(60.0),
    },
    Promise {
        what: "append: memory for ten times the rows",
        lines: (APPEND, MANY),
        ratio: |host, many| many.memory as f64 / host.memory as f64,
        bound: Bound::Most(1.1),
    },
    Promise {
        what: "upsert of new rows from memory: rate beside staging and merge",
        lines: (WRITE_MERGE, WRITE_UPSERT),
        ratio: |bare, host| host.rate() / bare.rate(),
        bound: Bound::Least(2.5),
    },
    Promise {
        what: "upsert of new rows: rate beside staging and merge",
        lines: (MERGE, UPSERT),
        ratio: |bare, host| host.rate() / bare.rate(),
        bound: Bound::Least(2.5),
    },
    Promise {
        what: "upsert of the same rows: rate beside the plain merge",
        lines: (MERGE_AGAIN, UPSERT_AGAIN),
        ratio: |bare, host| host.rate() / bare.rate(),
        bound: Bound::Least(1.8),
    },
    Promise {
        what: "a stage in the host: processor time beside none",
        lines: (PASSED, IN_PROCESS),
        ratio: |without, with| with.client_per_row() / without.client_per_row(),
        bound: Bound::Most(1.02),
    },
    Promise {
        what: "isolation: wall time beside in-process",
        lines: (IN_PROCESS, PROCESS),
        ratio: |inside, apart| inside.rate() / apart.rate(),
        bound: Bound::Most(1.15),
    },
];

struct Promise {
    what: &'static str,
    lines: (&'static str, &'static str),
    ratio: fn(&Line, &Line) -> f64,
    bound: Bound,
}

enum Bound {
    Most(f64),
    Least(f64),
}

pub struct Report {
    /// The names of group and line, and the line.
    lines: Vec<(&'static str, &'static str, Line)>,
    page: String,
}

impl Report {
    pub fn new(servers: &Servers) -> Self {
        let shards = servers.shards.len();
        let source = if servers.makes_rows() {
            let rows = servers.rows_per_shard;
            format!("{shards} shards of {rows} rows, made by a stand-in for SQL Server.\n")
        } else {
            format!("{shards} shards on servers of SQL Server.\n")
        };
        println!("{source}");
        Self {
            lines: Vec::new(),
            page: source,
        }
    }

    /// Adds the medians of some measurements.
    pub fn add(&mut self, group: &'static str, name: &'static str, taken: &[Line]) {
        const HEAD: &str = "| | rows/s | client, µs/row | source, µs/row | sink, µs/row | peak memory |\n| --- | --- | --- | --- | --- | --- |";
        if self.lines.last().is_none_or(|last| last.0 != group) {
            self.tell(&format!("\n{group}\n\n{HEAD}"));
        }
        let line = Line::median(taken);
        self.tell(&format!(
            "| {name} | {:.0} k | {:.2} | {:.2} | {:.2} | {:.0} MB |",
            line.rate() / 1e3,
            line.client_per_row(),
            line.source_per_row(),
            line.sink_per_row(),
            line.memory as f64 / MB
        ));
        self.lines.push((group, name, line));
    }

    fn tell(&mut self, text: &str) {
        println!("{text}");
        writeln!(self.page, "{text}").unwrap();
    }

    fn line(&self, name: &str) -> Option<Line> {
        let found = self.lines.iter().find(|line| line.1 == name);
        found.map(|line| line.2)
    }

    /// Tells the ratios, writes the page if everything was measured, and fails if a promise is not kept.
    pub fn conclude(mut self, whole: bool) {
        self.tell("\nRatios\n\n| | measured | wanted |\n| --- | --- | --- |");
        let mut missed = Vec::new();
        for promise in &PROMISES {
            let (Some(one), Some(other)) = (self.line(promise.lines.0), self.line(promise.lines.1))
            else {
                continue;
            };
            let found = (promise.ratio)(&one, &other);
            let (sign, bound, kept) = match promise.bound {
                Bound::Most(bound) => ("≤", bound, found <= bound),
                Bound::Least(bound) => ("≥", bound, found >= bound),
            };
            if !kept {
                missed.push(promise.what);
            }
            let mark = if kept { "" } else { ", **missed**" };
            self.tell(&format!(
                "| {} | {found:.2} | {sign} {bound}{mark} |",
                promise.what
            ));
        }
        if whole {
            write_page(&self.page);
        }
        assert!(missed.is_empty(), "not kept: {}", missed.join("; "));
    }
}

/// Between the marks in `docs/benchmarks.md`.
fn write_page(figures: &str) {
    const BEGIN: &str = "<!-- figures, written by make bench -->\n";
    const END: &str = "<!-- end of figures -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let marks = page.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = marks.expect("marks around the figures");
    std::fs::write(&path, format!("{before}{BEGIN}\n{figures}\n{END}{after}")).unwrap();
}
