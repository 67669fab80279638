//! What runs leave in their log files, and how `etl-host logs` reads it back: real plugins, the real program.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

mod kinds;

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;

use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use expect_test::expect;
use kinds::RUN;
use serde_json::Value;

const PEOPLE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT);
    INSERT INTO people VALUES (1, 'ann lee', 1.5, 'red'), (2, 'bob', NULL, 'blue'), (3, NULL, 2.0, 'red');";

/// The lines of a pipeline's log.
fn lines(project: &Project, pipeline: &str) -> Vec<Value> {
    let path = project.path(format!(".etl-host/logs/{pipeline}.log"));
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What a log says of a run: who says what, without what differs from run to run.
fn told(lines: &[Value]) -> String {
    let mut text = String::new();
    for line in lines {
        let word = |key: &str| match &line[key] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let message = word("message");
        let message = message.split(" in 0").next().unwrap().to_owned();
        let [level, partition, attempt, target] =
            ["level", "partition", "attempt", "target"].map(word);
        writeln!(text, "{level} {partition} {attempt} {target}: {message}").unwrap();
    }
    text
}

#[test]
fn every_event_of_a_run_lies_in_its_log_wherever_the_plugin_runs() {
    for isolation in ["in-process", "process"] {
        let project = kinds::kinds(PEOPLE);
        project.config("configured", &format!("isolation: {isolation}\n"));
        let report = project.result(&["run", "configured"], 0);
        let lines = lines(&project, "configured");
        for line in &lines {
            assert_eq!(line["run_id"], report["run_id"], "{isolation}: {line}");
            assert_eq!(line["pipeline"], "configured", "{isolation}: {line}");
        }
        expect![[r#"
            INFO - - etl_host::runtime: run started
            WARN eu 1 plugin: region eu, up to 10, partition eu, attempt 1, from None until Some(Integer(3))
            WARN eu 1 plugin: region eu, up to 10, partition eu, attempt 1, from None until Some(Integer(3))
            INFO eu - etl_host::runtime: partition succeeded: 3 rows read, 3 loaded
            INFO - - etl_host::runtime: run succeeded: 3 rows read, 3 loaded
        "#]]
        .assert_eq(&told(&lines));
    }
}

#[test]
fn what_a_worker_prints_is_told_with_its_attempt() {
    let project = kinds::misbehaving(5);
    project.config(
        "misbehaving",
        "isolation: process\nsettings: { misbehave: prints-much, only_for: eu }\n",
    );
    let report = project.result(&["run", "misbehaving"], 0);
    let lines = lines(&project, "misbehaving");
    let printed = |line: &&Value| {
        line["message"]
            .as_str()
            .unwrap()
            .contains("of a plugin that")
    };
    let printed: Vec<&Value> = lines.iter().filter(printed).collect();
    assert!(!printed.is_empty(), "{lines:?}");
    for line in printed {
        let place = ["run_id", "partition", "attempt"].map(|key| &line[key]);
        assert_eq!(
            place,
            [&report["run_id"], &Value::from("eu"), &Value::from(1)]
        );
    }
}

#[test]
fn an_attempt_that_fails_is_told_with_its_place() {
    let project = kinds::kinds(PEOPLE);
    project.config(
        "copy",
        "source: { query: \"SELECT absent FROM people WHERE id > @from AND id <= @until\" }\nerror_handling: { max_retries: 1, retry_delay: 1ms }\n",
    );
    let finished = project.run(RUN).require_code(1).unwrap();
    let lines = lines(&project, "copy");
    let errors: Vec<&Value> = lines
        .iter()
        .filter(|line| line["level"] == "ERROR")
        .collect();
    let [error] = errors.as_slice() else {
        panic!("{lines:#?}");
    };
    assert_eq!(error["partition"], "eu");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("no such column: absent"), "{message}");
    assert!(finished.stderr.contains(message), "{}", finished.stderr);
    let last = lines.last().unwrap()["message"].as_str().unwrap();
    assert!(last.starts_with("run failed"), "{last}");
}

#[test]
fn a_secret_of_the_configuration_is_taken_out_of_errors_and_logs() {
    let project = kinds::kinds(PEOPLE);
    let config = "source: { query: \"SELECT hunter2x FROM people WHERE id > @from AND id <= @until\" }\n\
                  capabilities: { secrets: { unused: \"${TOKEN}\" } }\nerror_handling: { max_retries: 0 }\n";
    project.config("copy", config);
    for args in [
        &["run", "copy"][..],
        &["run", "copy", "--dry-run"],
        &["-vv", "--log-format", "json", "run", "copy"],
        &["--output", "json", "run", "copy"],
    ] {
        let program = project.program(args).env("TOKEN", "hunter2x");
        let finished = program.run().unwrap().require_code(1).unwrap();
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(said.contains("no such column: ***"), "{args:?}: {said}");
        assert!(!said.contains("hunter2x"), "{args:?}: {said}");
    }
    let log = fs::read_to_string(project.path(".etl-host/logs/copy.log")).unwrap();
    assert_eq!(log.matches("no such column: ***").count(), 4, "{log}");
    assert!(!log.contains("hunter2x"), "{log}");
}

#[test]
fn stderr_takes_json_lines_too() {
    let project = kinds::kinds(PEOPLE);
    let program = project.program(&["-v", "run", "copy"]);
    let finished = program.env("ETL_LOG_FORMAT", "json").run().unwrap();
    let on_stderr: Vec<Value> = finished
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // Each of the two tells the time by itself.
    let timeless = |lines: &[Value]| -> Vec<Value> {
        let mut lines = lines.to_vec();
        for line in &mut lines {
            assert!(line["time"].take().is_string(), "{line}");
        }
        lines
    };
    assert_eq!(timeless(&on_stderr), timeless(&lines(&project, "copy")));
    assert!(on_stderr.len() >= 3, "{on_stderr:?}");
}

#[test]
fn a_log_that_cannot_be_written_is_told_once_and_fails_no_run() {
    let project = kinds::kinds(PEOPLE);
    // In the way of the folder, and a disk that is full.
    project.write("logs", "");
    fs::create_dir(project.path("full")).unwrap();
    symlink("/dev/full", project.path("full/copy.log")).unwrap();
    for folder in ["logs", "full"] {
        let args = ["--log-dir", folder, "run", "copy", "--dry-run"];
        let finished = project.program(&args).run().unwrap();
        let finished = finished.require_code(0).unwrap();
        let warnings = finished.stderr.matches("cannot be written").count();
        assert_eq!(warnings, 1, "{folder}: {}", finished.stderr);
        assert!(finished.stderr.contains("--log-dir"), "{}", finished.stderr);
    }
}

#[test]
fn logs_are_read_back_by_run_level_and_number() {
    let project = kinds::kinds(PEOPLE);
    let first = project.result(&["run", "configured"], 0);
    project.execute("data/people.db", "INSERT INTO people (id) VALUES (4)");
    let second = project.result(&["run", "configured"], 0);
    let of = |args: &[&str]| {
        let all: Vec<&str> = ["logs", "configured"].iter().chain(args).copied().collect();
        project.results(&all, 0)
    };
    let all = of(&[]);
    assert_eq!(all, lines(&project, "configured"));
    let runs = |lines: &[Value], report: &Value| {
        !lines.is_empty() && lines.iter().all(|line| line["run_id"] == report["run_id"])
    };
    assert!(runs(&of(&["--run", "last"]), &second));
    let id = first["run_id"].as_str().unwrap();
    assert!(runs(&of(&["--run", id]), &first));
    assert_eq!(
        of(&["--run", id]).len() + of(&["--run", "last"]).len(),
        all.len()
    );
    // One for each batch: the rows of the last cursor come on their own.
    assert_eq!(of(&["--level", "warn"]).len(), 3);
    assert_eq!(of(&["--lines", "3"]), all[all.len() - 3..]);
    assert_eq!(of(&["--since", "1h"]), all);
    assert!(of(&["--since", "2100-01-01T00:00:00Z"]).is_empty());
    let text = project.program(&["logs", "configured", "--run", "last", "--level", "warn"]);
    let text = text.run().unwrap().stdout;
    assert!(text.contains(" WARN [eu] region eu, up to 10"), "{text}");
    for (args, code, words) in [
        (&["logs", "nobody"][..], 3, "run it: etl-host run nobody"),
        (&["logs", "configured", "--since", "soon"], 2, "1h"),
    ] {
        let refused = project.run(args).require_code(code).unwrap();
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_log_is_followed_over_its_rotation_until_a_signal() {
    let project = kinds::kinds(PEOPLE);
    project.result(RUN, 0);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let follow = ["logs", "copy", "-f", "--lines", "1"];
        let mut following = project.program(&follow).start().unwrap();
        following
            .wait_for_stdout(|line| line.contains("run succeeded"))
            .unwrap();
        let log = project.path(".etl-host/logs/copy.log");
        fs::rename(&log, project.path(".etl-host/logs/copy.log.1")).unwrap();
        project.result(RUN, 0);
        assert!(log.exists());
        following
            .wait_for_stdout(|line| line.contains("run started"))
            .unwrap();
        following.signal(signal).unwrap();
        following.finish().unwrap().require_code(code).unwrap();
    }
}

#[test]
fn whoever_closes_the_pipe_ends_the_following() {
    let project = kinds::kinds(PEOPLE);
    project.result(RUN, 0);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_etl-host"))
        .args(["logs", "copy", "-f", "--lines", "0"])
        .current_dir(project.dir())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    // Until there is something to write, nobody can know.
    while child.try_wait().unwrap().is_none() {
        project.result(RUN, 0);
    }
    let finished = child.wait_with_output().unwrap();
    assert_eq!(finished.status.code(), Some(0));
    assert!(finished.stderr.is_empty(), "{finished:?}");
}
