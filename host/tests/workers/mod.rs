//! A project with the plugin that misbehaves, run where its faults cannot hurt, and what `docs/isolation.md` says of them.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etl_host::plugin::cache::Cache;
use etl_host::worker::{Fence, Label, Launch, Measure, NotStarted, Worker};
use etl_testkit::process::{Finished, Program};
use etl_testkit::project::Project;
use serde_json::Value;

pub const HOST: &str = env!("CARGO_BIN_EXE_etl-host");
pub const ROWS: u32 = 300;
/// In the host's environment, where no plugin may find it.
pub const PASSWORD: &str = "correct-horse-battery";
/// In the project's `.env`.
pub const OTHER_PASSWORD: &str = "staple-in-a-file";

/// A project with the plugin that misbehaves, and 300 people.
pub fn project() -> Project {
    let project = Project::new(HOST);
    project.plugin("fixture-misbehaving");
    project.write(".env", format!("SINK_PASSWORD='{OTHER_PASSWORD}'\n"));
    people(&project, "data/eu.db", ROWS);
    project
}

pub fn people(project: &Project, file: &str, count: u32) {
    project.execute(
        file,
        &format!(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO people SELECT i, 'name ' || i FROM n;"
        ),
    );
}

/// The host in the project, with a password in its environment and all that it can say.
pub fn program(project: &Project, args: &[&str]) -> Program {
    project
        .program(&["--output", "json", "-vv"])
        .args(args)
        .env("MISBEHAVING_PASSWORD", PASSWORD)
}

/// Rows, and different rows.
pub fn loaded(project: &Project, sink: &str) -> String {
    project.query(sink, "SELECT count(*), count(DISTINCT id) FROM loaded")
}

pub fn reports(finished: &Finished) -> Vec<Value> {
    finished
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// What the first partition, or the run, says of its failure.
pub fn error(report: &Value) -> &Value {
    match &report["partitions"][0]["error"] {
        Value::Null => &report["error"],
        error => error,
    }
}

pub fn message(report: &Value) -> &str {
    error(report)["message"].as_str().unwrap_or_default()
}

/// How a run ended, as the golden texts have it.
pub fn describe(report: &Value) -> String {
    let mut text = format!(
        "  {} after {}",
        report["status"].as_str().unwrap(),
        report["partitions"][0]["attempts"]
    );
    let error = error(report);
    for (what, key) in [("", "message"), ("next: ", "next_step")] {
        if let Some(said) = error[key].as_str() {
            write!(text, "\n    {what}{said}").unwrap();
        }
    }
    // Lines of the fixture's code may move.
    let mut parts = text.split(".rs:");
    let mut redacted = parts.next().unwrap().to_owned();
    for part in parts {
        redacted.push_str(".rs");
        redacted.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    redacted + "\n"
}

/// Fails if a password can be read anywhere: in what the host said, or in what it keeps.
pub fn check_secrecy(project: &Project, finished: &Finished, what: &str) {
    let mut told = vec![
        ("stdout".to_owned(), finished.stdout.clone().into_bytes()),
        ("stderr".to_owned(), finished.stderr.clone().into_bytes()),
    ];
    for folder in [".etl-host", "data"] {
        for file in files(project.path(folder)) {
            told.push((file.display().to_string(), std::fs::read(file).unwrap()));
        }
    }
    for (place, bytes) in told {
        for password in [PASSWORD, OTHER_PASSWORD] {
            let found = bytes
                .windows(password.len())
                .any(|window| window == password.as_bytes());
            assert!(!found, "{what}: a password is in {place}");
        }
    }
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(path));
        } else {
            all.push(path);
        }
    }
    all
}

/// What holds a worker on this machine, by the worker's own word.
pub fn measures(project: &Project) -> Vec<Measure> {
    let plugin = std::fs::read(project.path("plugins/libfixture_misbehaving.so")).unwrap();
    let cache = Cache::new(project.path("cache"));
    let launch = Launch {
        program: HOST.into(),
        copy: cache.store("misbehaving", &plugin).unwrap(),
        pipeline: None,
        settings: String::new(),
        fence: Fence::of_probe(),
        label: Label::default(),
        redactor: Arc::default(),
        patience: Duration::from_mins(1),
    };
    match Worker::launch(&launch) {
        Ok(worker) => worker.hello().measures.clone(),
        Err(NotStarted::Host(error)) => panic!("{error}"),
        Err(NotStarted::Ended(ending) | NotStarted::TooLate(ending)) => panic!("{ending:?}"),
        Err(NotStarted::Garbage(what)) => panic!("{what}"),
    }
}

/// Fails where the machine has no whole fence: a proof of what it keeps out would prove nothing.
pub fn require_whole_fence(project: &Project) {
    let missing: Vec<String> = measures(project)
        .into_iter()
        .filter(|measure| !measure.in_force || measure.detail.contains("in part"))
        .map(|measure| format!("{}: {}", measure.name, measure.detail))
        .collect();
    assert!(
        missing.is_empty(),
        "this machine cannot prove what the fence keeps out, because parts of it are not in force ({}): run the test \
         on Linux 6.12 or later with landlock and seccomp",
        missing.join("; ")
    );
}

/// A line of the table in `docs/isolation.md`.
pub struct Row {
    pub faults: Vec<String>,
    /// What the run must say, each of them.
    pub says: Vec<String>,
    pub test: String,
}

pub const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/isolation.md");

/// The table of faults.
pub fn table() -> Vec<Row> {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            let [faults, _, _, says, test] = cells.as_slice() else {
                return None;
            };
            Some(Row {
                faults: spans(faults),
                says: spans(says),
                test: spans(test).pop().unwrap_or_default(),
            })
        })
        .collect()
}

/// What stands between backticks.
fn spans(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}
