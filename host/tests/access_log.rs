//! The example `access-log`: real files, real rotations by `gzip` and `logrotate`, the real program. Every line is loaded
//! once, whenever the rotation comes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

const RUN: &[&str] = &["run", "access-log"];
const SINK: &str = "data/warehouse.db";

/// A server that writes one log, each line another one.
struct Server {
    project: Project,
    /// Lines that are written, and their ends.
    written: u64,
}

impl Server {
    fn new() -> Self {
        let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
        project.plugin("access-log");
        let logs = project.path("logs");
        fs::create_dir(&logs).unwrap();
        // logrotate refuses a folder that others may write to.
        fs::set_permissions(&logs, fs::Permissions::from_mode(0o755)).unwrap();
        configure(&project, "");
        Self {
            project,
            written: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.project.path("logs").join(name)
    }

    fn line(number: u64) -> String {
        format!(
            "203.0.113.{} - - [10/Oct/2026:13:{:02}:{:02} +0000] \"GET /{number} HTTP/1.1\" 200 {number} \"-\" \"curl/8.{number}\"\n",
            number % 200,
            number / 60 % 60,
            number % 60,
        )
    }

    /// Writes lines to a file of the log.
    fn write_to(&mut self, name: &str, lines: u64) {
        let text: String = (self.written..self.written + lines)
            .map(Self::line)
            .collect();
        self.written += lines;
        append(&self.path(name), &text);
    }

    fn write(&mut self, lines: u64) {
        self.write_to("access.log", lines);
    }

    /// As logrotate does it with `compress` and `delaycompress`: each file one further, the new `.1` stays as it is.
    fn rotate(&self) {
        for number in (1..99).rev() {
            for end in ["", ".gz"] {
                let old = self.path(&format!("access.log.{number}{end}"));
                if old.exists() {
                    fs::rename(old, self.path(&format!("access.log.{}{end}", number + 1))).unwrap();
                }
            }
        }
        if self.path("access.log").exists() {
            fs::rename(self.path("access.log"), self.path("access.log.1")).unwrap();
        }
    }

    fn compress(&self, name: &str) {
        program("gzip", &[&self.path(name)]);
    }

    fn run(&self) -> Value {
        self.project.result(RUN, 0)
    }

    /// Runs, and holds what is loaded against what is written, less lines that are not whole yet.
    fn check(&self, missing: u64) {
        let report = self.run();
        self.check_loaded(missing, &report);
        let again = self.run();
        assert_eq!(again["rows"]["extracted"], 0, "{again}");
    }

    fn check_loaded(&self, missing: u64, report: &Value) {
        let count = |sql: &str| self.project.number(SINK, sql).cast_unsigned();
        let loaded = count("SELECT count(*) FROM access_log");
        let distinct = count("SELECT count(DISTINCT bytes) FROM access_log");
        assert_eq!(
            (loaded, distinct),
            (self.written - missing, self.written - missing),
            "{report}\n{}",
            self.project.query(
                SINK,
                "SELECT cursor FROM etl_host_checkpoints WHERE pipeline = 'access-log'"
            )
        );
    }
}

fn configure(project: &Project, more: &str) {
    project.config(
        "access-log",
        &format!("settings: {{ folder: logs{more} }}\ncapabilities: {{ paths: [logs] }}\n"),
    );
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// Runs a program of the machine.
fn program(name: &str, args: &[&Path]) {
    let output = Command::new(name).args(args).output();
    let output =
        output.unwrap_or_else(|error| panic!("{name}: {error}; run scripts/setup-dev.sh test"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
}

fn error(report: &Value) -> String {
    report["partitions"][0]["error"].to_string()
}

#[test]
fn lines_become_columns_and_broken_ones_are_set_aside_by_their_number() {
    let server = Server::new();
    append(
        &server.path("access.log"),
        "2001:db8::7 - ann lee [10/Oct/2026:13:55:36 +0200] \"GET /a?b HTTP/1.1\" 404 - \"-\" \"say \\\"hi\\\"\"\n\
         secret is this\n\
         192.0.2.1 - - [10/Oct/2026:13:55:37 +0200] \"-\" 408 0 \"-\" \"-\"\n",
    );
    let report = server.run();
    assert_eq!(report["rows"]["loaded"], 2, "{report}");
    assert_eq!(
        server
            .project
            .query(SINK, "SELECT log, time, client, user_name, method, path, protocol, status, bytes, referer, user_agent, file
             FROM access_log ORDER BY time"),
        "access|2026-10-10 11:55:36Z|2001:db8::7|ann lee|GET|/a?b|HTTP/1.1|404|0|NULL|say \"hi\"|access.log\n\
         access|2026-10-10 11:55:37Z|192.0.2.1|NULL|NULL|NULL|NULL|408|0|NULL|NULL|access.log\n"
    );
    assert_eq!(
        server.project.query(
            SINK,
            "SELECT column_name, reason FROM etl_host_dead_letters"
        ),
        "time|access.log, line 2: no time such as [10/Oct/2026:13:55:36 +0200] before a request in quotes\n"
    );
}

#[test]
fn each_line_comes_once_however_the_log_is_rotated() {
    let mut server = Server::new();
    server.write(3);
    server.check(0);
    // A whole rotation between two runs, with lines before and after it.
    server.write(2);
    server.rotate();
    server.write(2);
    server.check(0);
    // The server goes on writing into the file that was rotated, until it opens the new one.
    server.write_to("access.log.1", 2);
    server.check(0);
    server.compress("access.log.1");
    server.check(0);
    // What was compressed before anybody had read it.
    server.write(20_000);
    server.rotate();
    server.compress("access.log.1");
    server.rotate();
    server.write(1);
    server.check(0);
    // In the middle of copytruncate, and after it.
    fs::copy(server.path("access.log"), server.path("access.log.1")).unwrap();
    server.write(1);
    server.check(0);
    fs::copy(server.path("access.log"), server.path("access.log.1")).unwrap();
    fs::write(server.path("access.log"), "").unwrap();
    server.check(0);
    server.write(2);
    server.check(0);
    // Files that vanish, as the oldest do, and a log that begins anew.
    fs::remove_file(server.path("access.log.3.gz")).unwrap();
    fs::remove_file(server.path("access.log")).unwrap();
    server.write(1);
    server.check(0);
}

#[test]
fn a_line_is_read_when_it_is_whole() {
    let mut server = Server::new();
    server.write(2);
    let line = Server::line(2);
    let (start, end) = line.split_at(40);
    append(&server.path("access.log"), start);
    server.check(0);
    append(&server.path("access.log"), end);
    server.written += 1;
    server.check(0);
    // One that never gets its end is a line when nobody can write it any more.
    append(&server.path("access.log"), Server::line(3).trim_end());
    server.written += 1;
    server.check(1);
    server.rotate();
    server.write(1);
    server.check(1);
    server.rotate();
    server.write(1);
    server.check(0);
}

#[test]
fn a_file_that_breaks_off_is_named_and_read_when_it_is_whole() {
    let mut server = Server::new();
    server.project.config("access-log", "settings: { folder: logs }\ncapabilities: { paths: [logs] }\nerror_handling: { max_retries: 0 }\n");
    server.write(30_000);
    server.rotate();
    server.compress("access.log.1");
    let path = server.path("access.log.1.gz");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let report = server.project.result(RUN, 1);
    assert!(
        error(&report).contains("access.log.1.gz breaks off"),
        "{report}"
    );
    fs::write(&path, whole).unwrap();
    server.check(0);
}

#[test]
fn more_files_than_may_be_open_are_told_with_the_key_to_raise() {
    let mut server = Server::new();
    for number in 1..=40 {
        server.write_to(&format!("access.log.{number}"), 1);
    }
    let granted = "settings: { folder: logs }\ncapabilities: { paths: [logs] }\n";
    let yaml = format!("{granted}limits: {{ open_files: 32 }}\n");
    server.project.config("access-log", &yaml);
    let report = server.project.result(RUN, 2);
    assert!(
        error(&report).contains("raise limits.open_files"),
        "{report}"
    );
    server.project.config("access-log", granted);
    server.check(0);
    // Rows of files that are gone would not come back.
    let refused = server
        .project
        .result(&["run", "access-log", "--full-refresh"], 2);
    assert!(
        refused.to_string().contains("would load rows twice"),
        "{refused}"
    );
}

#[test]
fn what_was_lost_is_said() {
    let mut server = Server::new();
    server.write(2);
    server.check(0);
    fs::remove_file(server.path("access.log")).unwrap();
    server.write(1);
    let run = server.project.program(RUN).run().unwrap();
    assert!(
        run.stderr.contains("lines in between may be missing"),
        "{}",
        run.stderr
    );
    server.check(0);
}

#[test]
fn several_logs_are_partitions_and_the_folder_needs_a_grant() {
    let server = Server::new();
    configure(&server.project, ", logs: { shop: shop.log, api: api.log }");
    append(&server.path("shop.log"), &Server::line(1));
    append(&server.path("shop.log.1"), &Server::line(2));
    let report = server.project.result(RUN, 4);
    assert!(
        report.to_string().contains("there is no file api.log"),
        "{report}"
    );
    append(&server.path("api.log"), &Server::line(3));
    server.run();
    let rows = server
        .project
        .query(SINK, "SELECT log, bytes FROM access_log ORDER BY bytes");
    assert_eq!(rows, "shop|1\nshop|2\napi|3\n");
    server
        .project
        .config("access-log", "settings: { folder: logs }\n");
    let refused = server.project.result(RUN, 2);
    assert!(refused.to_string().contains("capabilities"), "{refused}");
}

/// What may happen to a log between two looks at it.
fn anything(server: &mut Server, random: &mut StdRng) {
    match random.random_range(0..10) {
        0..5 => server.write(random.random_range(1..200)),
        5 if server.path("access.log.1").exists() => server.write_to("access.log.1", 1),
        6 => {
            for number in 1..99 {
                let name = format!("access.log.{number}");
                if server.path(&name).exists() && random.random_bool(0.5) {
                    server.compress(&name);
                }
            }
        }
        7 => {
            let copy = server.path("access.log.1");
            if server.path("access.log").exists()
                && !copy.exists()
                && !server.path("access.log.1.gz").exists()
            {
                fs::copy(server.path("access.log"), copy).unwrap();
                fs::write(server.path("access.log"), "").unwrap();
            }
        }
        _ => server.rotate(),
    }
}

#[test]
fn each_line_comes_once_at_any_moment_of_rotation() {
    let seed = std::env::var("ETL_TEST_SEED")
        .map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    eprintln!("ETL_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::new();
    server.write(1);
    for _ in 0..25 {
        for _ in 0..random.random_range(1..5) {
            anything(&mut server, &mut random);
        }
        let report = server.run();
        server.check_loaded(0, &report);
    }
}

#[test]
fn logs_are_rotated_while_runs_read_them() {
    let mut server = Server::new();
    let rules = server.project.write(
        "logrotate.conf",
        format!(
            "{} {{\n  rotate 30\n  compress\n  delaycompress\n  missingok\n  create 0644\n  size 1\n}}\n",
            server.path("access.log").display()
        ),
    );
    let state = server.project.path("logrotate.state");
    server.write(60_000);
    for _ in 0..6 {
        let run = server.project.program(RUN).start().unwrap();
        for _ in 0..3 {
            program(
                "logrotate",
                &[Path::new("--force"), Path::new("--state"), &state, &rules],
            );
            server.write(500);
        }
        run.finish().unwrap().require_code(0).unwrap();
    }
    server.check(0);
}

#[test]
fn a_run_that_is_killed_loses_and_doubles_nothing() {
    let mut server = Server::new();
    server.project.config(
        "access-log",
        "settings: { folder: logs }\ncapabilities: { paths: [logs] }\n\
         tuning: { flush_bytes: 64KiB, flushes_per_commit: 1 }\n",
    );
    server.write(100_000);
    server.rotate();
    server.compress("access.log.1");
    server.write(50_000);
    let run = server.project.program(RUN).start().unwrap();
    let loaded = || {
        let made = "SELECT count(*) FROM sqlite_master WHERE name = 'access_log'";
        let made =
            server.path("../data/warehouse.db").exists() && server.project.number(SINK, made) > 0;
        if made {
            server
                .project
                .number(SINK, "SELECT count(*) FROM access_log")
        } else {
            0
        }
    };
    while loaded() == 0 {
        std::thread::yield_now();
    }
    run.signal(Signal::KILL).unwrap();
    run.finish().unwrap();
    assert!(loaded() < 150_000, "it was killed in the middle");
    server.rotate();
    server.write(10);
    server.check(0);
}
