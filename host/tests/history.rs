//! `etl-host history`: what ran, how long it took, what it loaded, and why it failed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod kinds;

use kinds::{RUN, kinds, query, refusal, says};
use serde_json::{Value, json};

const ALL: &str = "SELECT id FROM people WHERE id > @from AND id <= @until ORDER BY id";
const ONCE: &str = "error_handling: { max_retries: 0 }\n";

fn ids(page: &Value) -> Vec<&str> {
    let runs = page["runs"].as_array().unwrap();
    runs.iter()
        .map(|run| run["run_id"].as_str().unwrap())
        .collect()
}

#[test]
fn runs_are_shown_page_by_page_with_their_reasons() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT, amount REAL, team TEXT);
         INSERT INTO people (id) VALUES (1), (2), (3);",
    );
    project.config("copy", &(query(ALL) + ONCE));
    let history = |arguments: &[&str]| {
        let all: Vec<&str> = ["history"].iter().chain(arguments).copied().collect();
        project.result(&all, 0)
    };
    assert_eq!(history(&[]), json!({ "runs": [], "next": null }));
    let mut started = Vec::new();
    let mut run = |code| {
        let report = project.result(RUN, code);
        started.insert(0, report["run_id"].as_str().unwrap().to_owned());
    };
    run(0);
    project.execute("data/people.db", "ALTER TABLE people RENAME TO gone");
    run(1);
    project.execute(
        "data/people.db",
        "ALTER TABLE gone RENAME TO people; INSERT INTO people (id) VALUES (4), (5)",
    );
    run(0);

    let all = history(&["copy"]);
    assert_eq!(ids(&all), started);
    assert_eq!(all["next"], Value::Null);
    let runs = all["runs"].as_array().unwrap();
    let field = |name: &str| runs.iter().map(|run| run[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("status"), ["succeeded", "failed", "succeeded"]);
    assert_eq!(field("loaded"), [json!(2), json!(0), json!(3)]);
    assert_eq!(field("extracted"), [json!(2), json!(0), json!(3)]);
    assert_eq!(field("attempts"), [1, 1, 1]);
    assert_eq!(field("pipeline"), ["copy", "copy", "copy"]);
    says(runs[1]["error"].as_str().unwrap(), "no such table");
    assert!(
        runs.iter()
            .all(|run| run["seconds"].as_f64().unwrap() >= 0.0)
    );

    let first = history(&["--limit", "2"]);
    assert_eq!(ids(&first), started[..2]);
    assert_eq!(first["next"], *started[1]);
    let second = history(&["--limit", "2", "--before", &started[1]]);
    assert_eq!(ids(&second), started[2..]);
    assert_eq!(second["next"], Value::Null);
    assert_eq!(ids(&history(&["--status", "failed"])), [&started[1]]);
    assert!(ids(&history(&["--status", "interrupted"])).is_empty());
    assert_eq!(ids(&history(&["--since", "1h"])), started);
    assert!(ids(&history(&["--since", "2100-01-01T00:00:00Z"])).is_empty());
    assert!(ids(&history(&["other"])).is_empty());
    let unknown = project.result(&["history", "--before", "x"], 2);
    says(refusal(&unknown), "there is no run x");

    // A run whose host died is found as what it is, whatever is written.
    project.execute(
        ".etl-host/state.db",
        "UPDATE runs SET status = 'running', finished_at = NULL, report = NULL,
             holder = json_set(holder, '$.started', 1) WHERE status = 'failed'",
    );
    let interrupted = history(&["--status", "interrupted"]);
    assert_eq!(ids(&interrupted), [&started[1]]);
    assert_eq!(interrupted["runs"][0]["seconds"], Value::Null);
    assert!(ids(&history(&["--status", "running"])).is_empty());

    for (locale, bars) in [("C", "# +"), ("en_US.UTF-8", "█ ▆")] {
        let shown = project.program(&["history", "copy"]).env("LC_ALL", locale);
        let text = shown.run().unwrap().require_code(0).unwrap().stdout;
        says(
            text.lines().last().unwrap(),
            &format!("  loaded   {bars}  at most 3"),
        );
        says(&text, "copy: 2 of 3 succeeded");
    }
}
