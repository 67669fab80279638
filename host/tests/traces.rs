//! The spans of runs, as a receiver takes them that is not of this project: `oteltap`, over OTLP with protobuf.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

mod logins;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use etl_testkit::process::{Finished, Program, Running, Signal};
use etl_testkit::project::Project;
use expect_test::expect;
use serde_json::Value;

/// A receiver that prints every span as one line of JSON.
struct Receiver {
    running: Running,
    port: u16,
}

/// A span.
struct Span(Value);

impl Span {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap()
    }

    /// Its attributes, as text.
    fn attributes(&self) -> BTreeMap<String, String> {
        let attributes = self.0["attributes"].as_array().unwrap();
        let pairs = attributes.iter().map(|attribute| {
            let value = attribute["value"].as_object().unwrap().values().next();
            let value = match value.unwrap() {
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            (attribute["key"].as_str().unwrap().to_owned(), value)
        });
        pairs.collect()
    }
}

impl Receiver {
    fn start() -> Self {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/oteltap");
        assert!(
            tools.is_dir(),
            "the receiver of traces is missing: run scripts/setup-dev.sh test"
        );
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let program = Program::new("python3")
            .args(["-m", "oteltap", "--port", &port.to_string()])
            .env("PYTHONPATH", tools)
            .env("PYTHONUNBUFFERED", "1");
        let mut running = program.start().unwrap();
        running
            .wait_for_stdout(|line| line.starts_with("Listening"))
            .unwrap();
        Self { running, port }
    }

    fn run(&self, project: &Project, args: &[&str], code: i32) -> Finished {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let program = project.program(args);
        let program = program.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        program.run().unwrap().require_code(code).unwrap()
    }

    /// All spans so far, the run's own being the last that is waited for.
    fn spans(mut self) -> Vec<Span> {
        self.running
            .wait_for_stdout(|line| line.contains(r#""name":"run""#))
            .unwrap();
        // An interrupt is ignored by what a shell has put into the background.
        self.running.signal(Signal::TERM).unwrap();
        let finished = self.running.finish().unwrap();
        let lines = finished.stdout.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| Span(serde_json::from_str(line).unwrap()))
            .collect()
    }
}

/// The tree below a span, one line for each span, without what differs from run to run.
fn tree(spans: &[Span], parent: &str, depth: usize, text: &mut String) {
    let mut children: Vec<(String, &Span)> = spans
        .iter()
        .filter(|span| span.text("parentSpanId") == parent)
        .map(|span| {
            let mut attributes = span.attributes();
            for changing in ["run_id", "bytes"] {
                if let Some(value) = attributes.get_mut(changing)
                    && value != "0"
                {
                    changing.clone_into(value);
                }
            }
            let line = format!(
                "{}{} {} {attributes:?}\n",
                "  ".repeat(depth),
                span.text("name"),
                span.0["status"]["code"]
            );
            (line, span)
        })
        .collect();
    children.sort_by(|a, b| a.0.cmp(&b.0));
    for (line, span) in children {
        text.push_str(&line);
        tree(spans, span.text("spanId"), depth + 1, text);
    }
}

#[test]
fn a_run_its_partitions_attempts_and_chunks_are_one_tree() {
    let project = logins::project(500);
    let receiver = Receiver::start();
    receiver.run(&project, &["run", "login-analytics"], 0);
    let spans = receiver.spans();
    let mut text = String::new();
    tree(&spans, "", 0, &mut text);
    expect![[r#"
        run 0 {"attempts": "2", "bytes": "bytes", "pipeline": "login-analytics", "rows": "1000", "run_id": "run_id", "status": "succeeded"}
          partition 0 {"attempts": "1", "partition": "shard-1", "rows": "500", "status": "succeeded"}
            attempt 0 {"attempt": "1", "bytes": "bytes", "rows": "500"}
              chunk 0 {"bytes": "bytes", "rows": "500"}
          partition 0 {"attempts": "1", "partition": "shard-2", "rows": "500", "status": "succeeded"}
            attempt 0 {"attempt": "1", "bytes": "bytes", "rows": "500"}
              chunk 0 {"bytes": "bytes", "rows": "500"}
    "#]]
    .assert_eq(&text);
    assert_eq!(text.lines().count(), spans.len(), "spans without a parent");
    let trace = spans[0].text("traceId");
    assert!(spans.iter().all(|span| span.text("traceId") == trace));
}

#[test]
fn a_failure_is_in_the_trace_and_a_secret_is_not() {
    let project = logins::project(10);
    project.config(
        "login-analytics",
        "source: { query: \"SELECT hunter2x, login_time FROM user_logins WHERE login_time > @from AND login_time <= @until\" }\n\
         capabilities: { secrets: { unused: hunter2x } }\nerror_handling: { max_retries: 0 }\n",
    );
    let receiver = Receiver::start();
    receiver.run(&project, &["run", "login-analytics"], 1);
    let spans = receiver.spans();
    for name in ["run", "partition", "attempt"] {
        let failed: Vec<&Span> = spans
            .iter()
            .filter(|span| span.text("name") == name)
            .collect();
        assert!(!failed.is_empty(), "no {name}");
        for span in failed {
            let status = &span.0["status"];
            assert_eq!(status["code"], 2, "{name}: {status}");
            let message = status["message"].as_str().unwrap();
            assert!(message.contains("no such column: ***"), "{name}: {message}");
            if name != "run" {
                assert!(span.attributes().contains_key("error.type"), "{name}");
            }
        }
    }
    for span in &spans {
        assert!(!span.0.to_string().contains("hunter2x"), "{}", span.0);
    }
}

/// What still works for an attempt that was given up keeps no span open.
#[test]
fn an_attempt_that_is_given_up_is_in_the_trace() {
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("fixture-misbehaving");
    project.execute(
        "data/eu.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, team INTEGER);
         INSERT INTO people VALUES (1, 'ann', 1);",
    );
    project.config(
        "misbehaving",
        "isolation: process\nerror_handling: { attempt_timeout: 2s, max_retries: 0 }\n\
         settings: { misbehave: endless-loop, only_for: eu }\n",
    );
    let receiver = Receiver::start();
    receiver.run(&project, &["run", "misbehaving"], 1);
    let spans = receiver.spans();
    let mut text = String::new();
    tree(&spans, "", 0, &mut text);
    assert_eq!(text.lines().count(), spans.len(), "spans without a parent");
    assert!(
        text.contains(r#"attempt 2 {"attempt": "1", "error.type": "Timeout"}"#),
        "{text}"
    );
}

#[test]
fn a_collector_that_is_gone_or_silent_costs_no_run() {
    let project = logins::project(10);
    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [&silent, &gone].map(|listener| listener.local_addr().unwrap().port());
    drop(gone);
    for port in ports {
        let program = project
            .program(&["run", "login-analytics"])
            .env(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("http://127.0.0.1:{port}"),
            )
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "500");
        let finished = program.run().unwrap().require_code(0).unwrap();
        let told = finished.stderr.matches("traces cannot be sent").count();
        assert_eq!(told, 1, "{}", finished.stderr);
    }
}

#[test]
fn nothing_is_sent_unless_the_environment_asks_for_it() {
    let project = logins::project(10);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    for (name, value) in [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_SDK_DISABLED", "true"),
    ] {
        let program = project
            .program(&["run", "login-analytics"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .env(name, value);
        program.run().unwrap().require_code(0).unwrap();
    }
    let refused = listener.accept().map(drop).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
}
