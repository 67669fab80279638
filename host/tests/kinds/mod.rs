//! The pipeline `copy` over data of the test's own, and what a run says.
#![allow(dead_code, reason = "each test file uses its own part")]

use etl_testkit::project::Project;
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_etl-host");
pub const SINK: &str = "data/warehouse.db";
pub const RUN: &[&str] = &["run", "copy"];
pub const BY_TIME: &str = "cursor: { column: at, kind: timestamp, settle_delay: 0s }\n";

/// A project with the well-behaved plugin and whatever the source is made of.
pub fn kinds(source: &str) -> Project {
    let project = Project::new(HOST);
    project.plugin("fixture-kinds");
    project.execute("data/people.db", source);
    project
}

/// A project with the plugin that misbehaves, and so many people in each of two shards: wide rows, ten to a team.
pub fn misbehaving(people: u32) -> Project {
    let project = Project::new(HOST);
    project.plugin("fixture-misbehaving");
    for shard in ["eu", "us"] {
        project.execute(
            format!("data/{shard}.db"),
            &format!(
                "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, team INTEGER);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {people})
                 INSERT INTO people SELECT i, printf('%020000d', i), (i + 9) / 10 FROM n;"
            ),
        );
    }
    project
}

/// Configuration with this query.
pub fn query(sql: &str) -> String {
    format!("source:\n  query: \"{sql}\"\n")
}

pub fn loaded(report: &Value) -> u64 {
    report["rows"]["loaded"].as_u64().unwrap()
}

/// Rows in the sink.
pub fn copied(project: &Project) -> i64 {
    project.number(SINK, "SELECT count(*) FROM copy")
}

/// What the first partition says of its failure.
pub fn message(report: &Value) -> &str {
    report["partitions"][0]["error"]["message"]
        .as_str()
        .unwrap()
}

/// What the run or the command says of its failure.
pub fn refusal(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap()
}

/// Fails unless the text holds the words.
pub fn says(text: &str, words: &str) {
    assert!(text.contains(words), "{text}");
}
