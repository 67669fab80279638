//! What a pipeline's own stages may do, power by power: real plugins, a `SQLite` source and sink, the real program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

use std::fmt::Write;
use std::fs;

use etl_testkit::project::Project;
use expect_test::expect;

const HOST: &str = env!("CARGO_BIN_EXE_etl-host");

/// A project with the well-behaved plugin and five people.
fn kinds() -> Project {
    let project = Project::new(HOST);
    project.plugin("fixture-kinds");
    project.execute(
        "data/people.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT);
         INSERT INTO people VALUES (1, 'ann lee', 1.5, 'red'), (2, 'bob', NULL, 'blue'), (3, NULL, 2.0, 'red'),
                                   (4, 'skip', 0.25, NULL), (5, 'bad', 4.0, 'blue');",
    );
    project
}

/// Both ledgers of a run, and what the sink holds.
fn run_and_show(project: &Project, pipeline: &str, queries: &[&str]) -> String {
    let report = project.result(&["run", pipeline], 0);
    let mut text = format!("{}\n", report["rows"]);
    for query in queries {
        text.push_str(&project.query("data/warehouse.db", query));
    }
    let again = project.result(&["run", pipeline], 0);
    assert_eq!(
        again["rows"]["extracted"], 0,
        "{pipeline} read the same rows again"
    );
    text
}

#[test]
fn a_pipeline_without_stages_copies() {
    let shown = run_and_show(&kinds(), "copy", &["SELECT * FROM copy ORDER BY id"]);
    expect![[r#"
        {"extracted":5,"filtered":0,"loaded":5,"quarantined":0,"superseded":0,"transformed":5}
        1|ann lee|1.5|red
        2|bob|NULL|blue
        3|NULL|2|red
        4|skip|0.25|NULL
        5|bad|4|blue
    "#]]
    .assert_eq(&shown);
}

#[test]
fn one_function_changes_every_row() {
    let shown = run_and_show(&kinds(), "upper", &["SELECT * FROM upper ORDER BY id"]);
    expect![[r#"
        {"extracted":5,"filtered":0,"loaded":5,"quarantined":0,"superseded":0,"transformed":5}
        1|ANN LEE
        2|BOB
        3|NULL
        4|SKIP
        5|BAD
    "#]]
    .assert_eq(&shown);
}

#[test]
fn rows_that_are_rejected_are_set_aside_with_their_reason() {
    let project = kinds();
    let report = project.result(&["run", "row-style"], 1);
    expect![[r#"
        {
          "message": "pipeline row-style, partition eu, attempt 1: 1 of 5 rows are bad, and `max_bad_rows` allows 0: the last one in column `name`: nobody greets the bad one",
          "next_step": "look at the reasons in the log, mend the rows or the pipeline, or raise `error_handling.max_bad_rows`"
        }"#]].assert_eq(&serde_json::to_string_pretty(&report["partitions"][0]["error"]).unwrap());
    assert_eq!(
        project.number("data/warehouse.db", "SELECT count(*) FROM row_style"),
        0
    );

    project.config("row-style", "error_handling: { max_bad_rows: 1 }\n");
    let shown = run_and_show(
        &project,
        "row-style",
        &[
            "SELECT * FROM row_style ORDER BY id",
            "SELECT pipeline, partition, stage, target, column_name, reason, payload FROM etl_host_dead_letters",
        ],
    );
    expect![[r#"
        {"extracted":5,"filtered":1,"loaded":3,"quarantined":1,"superseded":0,"transformed":3}
        1|hello ann lee|3
        2|hello bob|NULL
        3|NULL|4
        row-style|eu|transform|NULL|name|nobody greets the bad one|{"amount":4.0,"id":5,"name":"bad","team":"blue"}
    "#]].assert_eq(&shown);
}

#[test]
fn rows_may_be_left_out() {
    let shown = run_and_show(&kinds(), "even", &["SELECT * FROM even ORDER BY id"]);
    expect![[r#"
        {"extracted":5,"filtered":3,"loaded":2,"quarantined":0,"superseded":0,"transformed":2}
        2
        4
    "#]]
    .assert_eq(&shown);
}

#[test]
fn one_row_may_become_rows_of_two_tables() {
    let shown = run_and_show(
        &kinds(),
        "words",
        &[
            "SELECT * FROM words ORDER BY id",
            "SELECT * FROM words_of_names ORDER BY id, word",
        ],
    );
    expect![[r#"
        {"extracted":5,"filtered":0,"loaded":10,"quarantined":0,"superseded":0,"transformed":10}
        1|ann lee
        2|bob
        3|NULL
        4|skip
        5|bad
        1|ann
        1|lee
        2|bob
        4|skip
        5|bad
    "#]]
    .assert_eq(&shown);
}

#[test]
fn many_rows_may_become_one() {
    let shown = run_and_show(&kinds(), "totals", &["SELECT * FROM totals ORDER BY team"]);
    expect![[r#"
        {"extracted":5,"filtered":0,"loaded":3,"quarantined":0,"superseded":0,"transformed":3}
        blue|2|4
        none|1|0.25
        red|2|3.5
    "#]]
    .assert_eq(&shown);
}

#[test]
fn an_extractor_may_make_its_rows_and_its_partitions() {
    let project = kinds();
    let content = "SELECT partition, count(*), count(DISTINCT number), min(number), max(number) FROM numbers GROUP BY 1";
    let shown = run_and_show(&project, "numbers", &[content]);
    expect![[r#"
        {"extracted":200,"filtered":0,"loaded":200,"quarantined":0,"superseded":0,"transformed":200}
        left|100|100|1|100
        right|100|100|1|100
    "#]]
    .assert_eq(&shown);
    // Fifty more in each, and a partition that is new.
    project.config(
        "numbers",
        "settings: { count: 150, batch: 7, partitions: [left, middle, right] }\n",
    );
    let report = project.result(&["run", "numbers"], 0);
    assert_eq!(report["counters"]["numbers"], 250, "{report}");
    assert_eq!(
        project.query("data/warehouse.db", content),
        "left|150|150|1|150\nmiddle|150|150|1|150\nright|150|150|1|150\n"
    );
}

#[test]
fn an_extractor_may_query_the_source_page_by_page() {
    let project = Project::new(HOST);
    project.plugin("fixture-kinds");
    project.execute(
        "data/people.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
         INSERT INTO people (id, amount) SELECT i, i * 0.5 FROM n;",
    );
    let content = "SELECT count(*), count(DISTINCT id), max(id), sum(amount) FROM queried";
    let shown = run_and_show(&project, "queried", &[content]);
    expect![[r#"
        {"extracted":50,"filtered":0,"loaded":50,"quarantined":0,"superseded":0,"transformed":50}
        50|50|100|1275
    "#]]
    .assert_eq(&shown);
    project.execute(
        "data/people.db",
        "INSERT INTO people (id, amount) VALUES (101, 1.0), (102, NULL)",
    );
    let report = project.result(&["run", "queried"], 0);
    assert_eq!(report["rows"]["loaded"], 1);
    let cursor = &report["partitions"][0];
    assert_eq!(
        (&cursor["cursor_from"], &cursor["cursor_to"]),
        (&"100".into(), &"102".into())
    );
}

#[test]
fn a_loader_may_write_through_the_host() {
    let project = kinds();
    let report = project.result(&["run", "through-host"], 0);
    assert_eq!(report["delivery"], "transactional");
    assert_eq!(report["counters"]["passed on"], 5);
    assert_eq!(report["counters"]["commits"], 1);
    assert_eq!(
        project.query(
            "data/warehouse.db",
            "SELECT count(*), count(DISTINCT id) FROM through_host"
        ),
        "5|5\n"
    );
}

/// The ids that a loader keeps in its file, without the token.
fn ids(project: &Project) -> String {
    let text = fs::read_to_string(project.path("data/ids")).unwrap();
    text.split_once('\n').unwrap().1.replace('\n', " ")
}

#[test]
fn an_idempotent_loader_is_exactly_once_even_if_an_answer_is_lost() {
    let project = kinds();
    project.config(
        "to-file",
        "settings: { path: data/ids, lose_an_answer: data/lost }\ncapabilities: { writable: [data] }\n\
         error_handling: { retry_delay: 1ms, max_retry_delay: 1ms }\n",
    );
    let report = project.result(&["run", "to-file"], 0);
    assert_eq!(report["delivery"], "idempotent");
    assert!(project.path("data/lost").exists());
    assert_eq!(ids(&project), "1 2 3 4 5 ");
    project.execute("data/people.db", "INSERT INTO people (id) VALUES (6)");
    let report = project.result(&["run", "to-file"], 0);
    assert_eq!(report["rows"]["loaded"], 1);
    assert_eq!(ids(&project), "1 2 3 4 5 6 ");
}

#[test]
fn an_idempotent_loader_is_exactly_once_over_several_failures() {
    let project = kinds();
    project.config(
        "to-file",
        "settings: { path: data/ids, lose_an_answer: data/lost }\ncapabilities: { writable: [data] }\nerror_handling: { max_retries: 0 }\n",
    );
    project.result(&["run", "to-file"], 1);
    assert_eq!(ids(&project), "1 2 3 4 5 ");
    // An attempt that fails before it comes to the loader.
    fs::rename(project.path("data/people.db"), project.path("data/away.db")).unwrap();
    project.result(&["run", "to-file"], 3);
    fs::rename(project.path("data/away.db"), project.path("data/people.db")).unwrap();
    project.result(&["run", "to-file"], 0);
    assert_eq!(ids(&project), "1 2 3 4 5 ");
    // Who goes back by hand means it, whatever the loader still holds.
    project.result(
        &[
            "checkpoint",
            "reset",
            "to-file",
            "--partition",
            "eu",
            "--allow-duplicates",
        ],
        0,
    );
    project.result(&["run", "to-file"], 0);
    assert_eq!(ids(&project), "1 2 3 4 5 1 2 3 4 5 ");
}

#[test]
fn a_loader_that_promises_little_is_reported_as_such() {
    let project = kinds();
    project.config(
        "to-file-at-least-once",
        "settings: { path: data/ids, lose_an_answer: data/lost }\ncapabilities: { writable: [data] }\n\
         error_handling: { retry_delay: 1ms, max_retry_delay: 1ms }\n",
    );
    let report = project.result(&["run", "to-file-at-least-once"], 0);
    assert_eq!(report["delivery"], "at-least-once");
    assert_eq!(ids(&project), "1 2 3 4 5 1 2 3 4 5 ");
}

#[test]
fn mistakes_in_settings_are_told_with_their_place() {
    let project = kinds();
    let mut text = String::new();
    for settings in [
        "settings: { regoin: eu }\n",
        "settings:\n  limits: { hihgest: 3 }\n  colour: red\n",
        "settings:\n  region: 7\n",
        "settings:\n  limits:\n    lowest: many\n",
        "settings:\n  region: mars\n  limits:\n    highest: 3\n    lowest: 4\n",
        "settings: [eu]\n",
    ] {
        project.config("configured", settings);
        let answer = project.result(&["run", "configured"], 2);
        for problem in answer["error"]["problems"].as_array().unwrap() {
            let (file, line, column) = (&problem["file"], &problem["line"], &problem["column"]);
            let (key, message) = (&problem["key"], &problem["message"]);
            let fix = problem["fix"].as_str().unwrap_or_default();
            writeln!(text, "{file} {line}:{column} {key} {message} {fix}").unwrap();
        }
    }
    expect![[r#"
        "plugins/configured.yaml" 1:13 "settings.regoin" "is not a setting of the plugin" did you mean region? known here: region, limits
        "plugins/configured.yaml" 2:13 "settings.limits.hihgest" "is not a setting of the plugin" did you mean highest? known here: highest, lowest
        "plugins/configured.yaml" 3:3 "settings.colour" "is not a setting of the plugin" known here: region, limits
        "plugins/configured.yaml" 2:11 "settings.region" "invalid type: integer `7`, expected a string" 
        "plugins/configured.yaml" 3:13 "settings.limits.lowest" "invalid type: string \"many\", expected u32" 
        "plugins/configured.yaml" 2:11 "settings.region" "expected `eu` or `us`" 
        "plugins/configured.yaml" 5:13 "settings.limits.lowest" "must not be above limits.highest" 
        "plugins/configured.yaml" 1:1 "settings" "expected keys and values, found a list" 
    "#]].assert_eq(&text);
    assert!(!project.path("data/warehouse.db").exists());
}

#[test]
fn settings_are_listed_for_people() {
    let project = kinds();
    let mut shown = String::new();
    for pipeline in ["configured", "reaching", "copy"] {
        project.config(
            "reaching",
            "capabilities: { hosts: [\"api.example.com:443\"], secrets: { api_token: x } }\n",
        );
        let finished = project.program(&["info", pipeline]).run().unwrap();
        let info = finished.require_code(0).unwrap().stdout;
        let (_, rest) = info.split_once("\nSettings\n").unwrap();
        let (settings, _) = rest.split_once("\n\n").unwrap();
        writeln!(shown, "{pipeline}\n{settings}").unwrap();
    }
    expect![[r#"
        configured
          SETTING         TYPE     DEFAULT
          limits.highest  integer  10
          limits.lowest   integer  1
          region          text     "eu"     `eu` or `us`.
        reaching
          SETTING  TYPE                                   DEFAULT
          file     text                                   -        A file whose length is counted.
          secret   text                                   ""       The secret that it asks for; the one it may have if empty.
          telling  nothing | log | reject | fail | panic  -        What it does with the secret.
        copy
          none
    "#]].assert_eq(&shown);
}

#[test]
fn settings_counters_and_logs_reach_where_they_should() {
    let project = kinds();
    project.config("configured", "settings: { limits: { highest: 3 } }\n");
    let finished = project.run(&["run", "configured"]).require_code(0).unwrap();
    let counters = &finished.json().unwrap()["counters"];
    expect![[r#"{"highest in eu":0,"rows seen":5}"#]].assert_eq(&counters.to_string());
    assert!(
        finished.stderr.contains(
            "region eu, up to 3, partition eu, attempt 1, from None until Some(Integer(5))"
        ),
        "{}",
        finished.stderr
    );
    assert!(!finished.stderr.contains("said only when asked"));
    project.execute("data/people.db", "INSERT INTO people (id) VALUES (6)");
    let loud = project
        .run(&["-vv", "run", "configured"])
        .require_code(0)
        .unwrap();
    assert!(
        loud.stderr.contains("said only when asked"),
        "{}",
        loud.stderr
    );
    assert!(
        loud.stderr
            .contains("from Some(Integer(5)) until Some(Integer(6))"),
        "{}",
        loud.stderr
    );
}
