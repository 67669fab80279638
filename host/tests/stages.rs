//! What happens when a pipeline's own stages misbehave: real plugins, a `SQLite` source and sink, the real program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

use std::fmt::Write;

use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use expect_test::{Expect, expect};
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_etl-host");

/// A project with the plugin that misbehaves, and 300 people in each of two shards.
fn misbehaving() -> Project {
    let project = Project::new(HOST);
    project.plugin("fixture-misbehaving");
    for shard in ["eu", "us"] {
        many_people(&project, &format!("data/{shard}.db"), 300);
    }
    project
}

fn many_people(project: &Project, file: &str, count: u32) {
    project.execute(
        file,
        &format!(
            "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO people SELECT i, 'name ' || i, i * 0.5, 'red' FROM n;"
        ),
    );
}

/// How the sink of a case looks: rows, and different rows.
fn loaded(project: &Project, sink: &str) -> String {
    if project.path(sink).exists()
        && project.number(
            sink,
            "SELECT count(*) FROM sqlite_schema WHERE name = 'loaded'",
        ) == 1
    {
        project.query(sink, "SELECT count(*), count(DISTINCT id) FROM loaded")
    } else {
        "nothing".to_owned()
    }
}

/// The exit code, and what each partition and the run say of their failure.
fn outcome(project: &Project, args: &[&str]) -> (i32, Vec<Value>) {
    let finished = project.run(args);
    let reports = finished
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (finished.code.expect("an exit code"), reports)
}

fn describe(report: &Value) -> String {
    let mut text = String::new();
    let empty = Vec::new();
    for partition in report["partitions"].as_array().unwrap_or(&empty) {
        write!(
            text,
            "  {} after {}",
            partition["status"], partition["attempts"]
        )
        .unwrap();
        writeln!(text, "{}", failure(&partition["error"])).unwrap();
    }
    if !report["error"].is_null() {
        writeln!(text, "  run{}", failure(&report["error"])).unwrap();
    }
    // Lines of the fixture's code may move.
    let mut parts = text.split(".rs:");
    let mut redacted = parts.next().unwrap().to_owned();
    for part in parts {
        redacted.push_str(".rs");
        redacted.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    redacted
}

fn failure(error: &Value) -> String {
    if error.is_null() {
        return String::new();
    }
    let mut text = format!("\n    {}", error["message"].as_str().unwrap());
    if let Some(next) = error["next_step"].as_str() {
        write!(text, "\n    next: {next}").unwrap();
    }
    text
}

/// Runs each fault, and then once more without it: nothing may be lost or doubled.
fn check_faults(faults: &[&str], expected: &Expect) {
    let project = misbehaving();
    let mut text = String::new();
    for fault in faults {
        let sink = format!("sink: {{ path: data/{fault}.db }}\n");
        let settings = format!("settings: {{ misbehave: {fault} }}\n");
        project.config("misbehaving", &(sink.clone() + &settings));
        let (code, reports) = outcome(&project, &["run", "misbehaving"]);
        writeln!(text, "{fault}: exit {code}").unwrap();
        text.push_str(&describe(&reports[0]));

        project.config("misbehaving", &sink);
        let report = project.result(&["run", "misbehaving"], 0);
        assert_eq!(report["status"], "succeeded", "{fault}");
        let file = format!("data/{fault}.db");
        assert_eq!(loaded(&project, &file), "300|300\n", "{fault}");
    }
    expected.assert_eq(&text);
}

#[test]
fn a_transformer_that_panics_fails_its_attempt_only() {
    check_faults(
        &[
            "panic-in-transformer",
            "panic-in-open",
            "panic-in-transform",
            "panic-in-finish",
            "panic-in-close",
            "panic-in-drop",
            "panic-without-text",
            "panic-with-a-bomb",
        ],
        &expect![[r#"
            panic-in-transformer: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: make the transformer: panicked: while the transformer is made at host/testkit/fixtures/misbehaving/src/transform.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-in-open: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: open the transformer: panicked: in open at host/testkit/fixtures/misbehaving/src/transform.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-in-transform: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: transform: panicked: in transform at host/testkit/fixtures/misbehaving/src/transform.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-in-finish: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: finish the transformer: panicked: in finish at host/testkit/fixtures/misbehaving/src/transform.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-in-close: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: close the transformer: panicked: in close after Succeeded at host/testkit/fixtures/misbehaving/src/transform.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-in-drop: exit 0
              "succeeded" after 1
            panic-without-text: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: transform: panicked: no message at host/testkit/fixtures/misbehaving/src/transform.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-with-a-bomb: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: transform: panicked: no message at host/testkit/fixtures/misbehaving/src/transform.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
        "#]],
    );
}

#[test]
fn each_kind_of_error_has_its_consequence() {
    check_faults(
        &[
            "transient",
            "fatal",
            "config",
            "rejected",
            "cancelled-unasked",
        ],
        &expect![[r#"
            transient: exit 1
              "failed" after 3
                pipeline misbehaving, partition eu, attempt 3: transform: the service is away for a moment
            fatal: exit 1
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: transform: the service knows no such thing
            config: exit 2
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: transform: settings.token is too short
                next: correct the configuration and run `etl-host validate`
            rejected: exit 1
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: transform: a whole batch cannot be rejected
            cancelled-unasked: exit 1
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: transform: the run was cancelled
                next: nobody asked the run to stop: a stage may say that it was cancelled only after `Context::cancelled` said so
        "#]],
    );
}

#[test]
fn a_transformer_is_held_to_its_word() {
    check_faults(
        &[
            "other-columns",
            "unknown-table",
            "loses-rows",
            "invents-rows",
            "filters-on-the-sly",
        ],
        &expect![[r#"
            other-columns: exit 1
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: the transformer returned other columns than it announced: column 1 is `number` Int64, expected `id` Int64
                next: return batches with the schema that `open` returned
            unknown-table: exit 1
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: the transformer wrote to table number 7, but opened 1
                next: return each table from `open`, and name it by its place there
            loses-rows: exit 1
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: the transformer does not account for its rows: 1 of 299 rows are missing, the first is row 0
                next: name each input row as the origin of output, as filtered, or as rejected
            invents-rows: exit 1
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: the transformer does not account for its rows: row 299 of 299 is named as an origin
                next: name each input row as the origin of output, as filtered, or as rejected
            filters-on-the-sly: exit 1
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: the transformer does not account for its rows: it filters rows, but its manifest says one per row
                next: name each input row as the origin of output, as filtered, or as rejected
        "#]],
    );
}

#[test]
fn an_extractor_that_misbehaves_fails_its_attempt_only() {
    check_faults(
        &[
            "panic-in-extractor-open",
            "panic-in-extractor-next",
            "panic-in-extractor-close",
            "extractor-other-columns",
        ],
        &expect![[r#"
            panic-in-extractor-open: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: open the extractor: panicked: in the extractor's open at host/testkit/fixtures/misbehaving/src/extract.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-in-extractor-next: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: extract: panicked: in the extractor's next at host/testkit/fixtures/misbehaving/src/extract.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-in-extractor-close: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: close the extractor: panicked: in the extractor's close at host/testkit/fixtures/misbehaving/src/extract.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            extractor-other-columns: exit 1
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: the extractor returned other columns than it announced
        "#]],
    );
}

#[test]
fn a_loader_that_misbehaves_fails_its_attempt_only() {
    check_faults(
        &[
            "panic-in-loader-open",
            "panic-in-loader-load",
            "panic-in-loader-commit",
            "panic-in-loader-close",
            "loader-miscounts",
        ],
        &expect![[r#"
            panic-in-loader-open: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: open the loader: panicked: in the loader's open at host/testkit/fixtures/misbehaving/src/load.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-in-loader-load: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: load: panicked: in the loader's load at host/testkit/fixtures/misbehaving/src/load.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-in-loader-commit: exit 1
              "failed" after 2
                pipeline misbehaving, partition eu, attempt 2: commit the loader: panicked: in the loader's commit at host/testkit/fixtures/misbehaving/src/load.rs, the same way as before at the same position
                next: tell the plugin's author where it panicked
            panic-in-loader-close: exit 0
              "succeeded" after 1
            loader-miscounts: exit 1
              "failed" after 1
                pipeline misbehaving, partition eu, attempt 1: the loader was given 300 rows and accounts for 298
                next: count every row as loaded, superseded or rejected
        "#]],
    );
}

#[test]
fn a_plugin_that_fails_before_the_first_attempt_says_so() {
    check_faults(
        &[
            "panic-in-validate",
            "panic-in-partitions",
            "panic-in-extractor",
            "panic-in-loader",
        ],
        &expect![[r#"
            panic-in-validate: exit 1
              run
                pipeline misbehaving: validate the settings: panicked: in validate at host/testkit/fixtures/misbehaving/src/lib.rs
                next: tell the plugin's author where it panicked
            panic-in-partitions: exit 1
              run
                pipeline misbehaving: name the partitions: panicked: in partitions at host/testkit/fixtures/misbehaving/src/lib.rs
                next: tell the plugin's author where it panicked
            panic-in-extractor: exit 1
              run
                pipeline misbehaving: make the extractor: panicked: while the extractor is made at host/testkit/fixtures/misbehaving/src/extract.rs
                next: tell the plugin's author where it panicked
            panic-in-loader: exit 1
              run
                pipeline misbehaving: make the loader: panicked: while the loader is made at host/testkit/fixtures/misbehaving/src/load.rs
                next: tell the plugin's author where it panicked
        "#]],
    );
}

#[test]
fn other_pipelines_of_the_same_command_are_unharmed() {
    let project = misbehaving();
    for (number, fault) in [
        "panic-in-validate",
        "panic-in-loader",
        "panic-in-transform",
        "fatal",
    ]
    .iter()
    .enumerate()
    {
        project.config(
            "misbehaving",
            &format!("settings: {{ misbehave: {fault} }}\n"),
        );
        let sink = format!("data/steady-{number}.db");
        project.config("steady", &format!("sink: {{ path: {sink} }}\n"));
        let (code, reports) = outcome(&project, &["run", "misbehaving", "steady"]);
        let statuses: Vec<&Value> = reports.iter().map(|report| &report["status"]).collect();
        assert_eq!(
            (code, statuses),
            (4, vec![&"failed".into(), &"succeeded".into()]),
            "{fault}"
        );
        assert_eq!(reports[0]["pipeline"], "misbehaving");
        assert_eq!(loaded(&project, &sink), "300|300\n", "{fault}");
    }
}

#[test]
fn a_sick_partition_leaves_the_others_alone() {
    let project = misbehaving();
    let shards =
        "source: { shards: [{ name: eu, path: data/eu.db }, { name: us, path: data/us.db }] }\n";
    project.config(
        "misbehaving",
        &format!("{shards}settings: {{ misbehave: panic-in-transform, only_for: eu }}\n"),
    );
    let report = project.result(&["run", "misbehaving"], 4);
    assert_eq!(report["status"], "partial");
    assert_eq!(report["rows"]["loaded"], 300);
    assert_eq!(report["partitions"][0]["status"], "failed");
    assert_eq!(report["partitions"][1]["rows"]["loaded"], 300);

    project.config("misbehaving", shards);
    let report = project.result(&["run", "misbehaving"], 0);
    assert_eq!(report["rows"]["loaded"], 300);
    assert_eq!(loaded(&project, "data/misbehaving.db"), "600|300\n");
}

#[test]
fn what_passes_by_itself_is_tried_again() {
    for fault in ["transient", "panic-in-transform", "panic-in-loader-commit"] {
        let project = misbehaving();
        project.config(
            "misbehaving",
            &format!("settings: {{ misbehave: {fault}, times: 1, counted_in: data/count }}\ncapabilities: {{ writable: [data] }}\n"),
        );
        let report = project.result(&["run", "misbehaving"], 0);
        assert_eq!(report["partitions"][0]["attempts"], 2, "{fault}");
        assert_eq!(report["rows"]["loaded"], 300, "{fault}");
        assert_eq!(
            loaded(&project, "data/misbehaving.db"),
            "300|300\n",
            "{fault}"
        );
    }
}

#[test]
fn the_same_panic_at_the_same_position_is_not_tried_a_third_time() {
    let project = misbehaving();
    project.config(
        "misbehaving",
        "settings: { misbehave: panic-in-transform }\nerror_handling: { max_retries: 9 }\n",
    );
    let report = project.result(&["run", "misbehaving"], 1);
    assert_eq!(report["partitions"][0]["attempts"], 2);
    let message = report["partitions"][0]["error"]["message"]
        .as_str()
        .unwrap();
    assert!(message.contains("the same way as before"), "{message}");
}

#[test]
fn what_was_committed_before_a_panic_stays_and_the_rest_follows() {
    let project = misbehaving();
    many_people(&project, "data/many.db", 20_000);
    let base = "source: { shards: [{ name: eu, path: data/many.db }] }\n\
                tuning: { batch_rows: 500, flush_bytes: 64KiB, flushes_per_commit: 1 }\n";
    project.config(
        "misbehaving",
        &format!("{base}settings: {{ misbehave: panic-in-transform, at_id: 15000 }}\n"),
    );
    let failed = project.result(&["run", "misbehaving"], 1);
    let before = failed["rows"]["loaded"].as_i64().unwrap();
    assert!(before > 0 && before < 15_000, "{failed}");
    let sink = "data/misbehaving.db";
    assert_eq!(loaded(&project, sink), format!("{before}|{before}\n"));

    project.config("misbehaving", base);
    let report = project.result(&["run", "misbehaving"], 0);
    assert_eq!(report["rows"]["loaded"], 20_000 - before);
    assert_eq!(loaded(&project, sink), "20000|20000\n");
}

#[test]
fn a_stage_at_work_sees_that_the_run_is_to_stop() {
    for (fault, committed) in [
        ("waits-until-cancelled", &["0|0\n"][..]),
        // What the extractor had given before: how much of it is on its way by then is a matter of moments.
        (
            "extractor-waits-until-cancelled",
            &["0|0\n", "100|100\n", "200|200\n"],
        ),
    ] {
        let project = misbehaving();
        project.config(
            "misbehaving",
            &format!("settings: {{ misbehave: {fault} }}\n"),
        );
        let mut running = project
            .program(&["--output", "json", "run", "misbehaving"])
            .start()
            .unwrap();
        running
            .wait_for_stderr(|line| line.contains("waiting to be cancelled"))
            .unwrap();
        running.signal(Signal::INT).unwrap();
        let finished = running.finish().unwrap().require_code(130).unwrap();
        assert_eq!(finished.json().unwrap()["status"], "cancelled", "{fault}");
        let found = loaded(&project, "data/misbehaving.db");
        assert!(committed.contains(&found.as_str()), "{fault}: {found}");

        project.config("misbehaving", "");
        project.result(&["run", "misbehaving"], 0);
        assert_eq!(
            loaded(&project, "data/misbehaving.db"),
            "300|300\n",
            "{fault}"
        );
    }
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up_and_its_stage_is_told() {
    let project = misbehaving();
    project.config(
        "misbehaving",
        "error_handling: { attempt_timeout: 1s, max_retries: 1, retry_delay: 500ms, max_retry_delay: 500ms }\n\
         settings: { misbehave: waits-until-cancelled, times: 1, counted_in: data/count }\ncapabilities: { writable: [data] }\n",
    );
    let mut running = project
        .program(&["--output", "json", "run", "misbehaving"])
        .start()
        .unwrap();
    running
        .wait_for_stderr(|line| line.contains("took longer than 1 s"))
        .unwrap();
    let finished = running.finish().unwrap().require_code(0).unwrap();
    assert!(
        finished.stderr.contains("was told to stop"),
        "{}",
        finished.stderr
    );
    assert_eq!(finished.json().unwrap()["partitions"][0]["attempts"], 2);
    assert_eq!(loaded(&project, "data/misbehaving.db"), "300|300\n");
}
