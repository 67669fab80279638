//! Columns that come, go and change at the source, from `SQLite` into `SQLite`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod kinds;

use etl_testkit::process::Finished;
use etl_testkit::project::Project;
use kinds::{RUN, SINK, kinds, loaded, message, query, says};

const PEOPLE: &str =
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount DECIMAL(10,2), score INTEGER);
     INSERT INTO people VALUES (1, 'Ann', '1.25', 10);";
const SHARD: &str = "data/people.db";
const POLICIES: [&str; 3] = ["strict", "evolve", "ignore"];

fn moved() -> Project {
    let project = kinds(PEOPLE);
    let finished = run(&project, "strict");
    finished.require_code(0).unwrap();
    project
}

fn run(project: &Project, policy: &str) -> Finished {
    project.config(
        "copy",
        &(query("SELECT * FROM people WHERE id > @from AND id <= @until ORDER BY id")
            + &format!("error_handling: {{ max_retries: 0, on_schema_change: {policy} }}\n")),
    );
    project.run(RUN)
}

fn loads_one(project: &Project, policy: &str) -> String {
    let finished = run(project, policy).require_code(0).unwrap();
    assert_eq!(loaded(&finished.json().unwrap()), 1, "{policy}");
    finished.stderr
}

fn refused(project: &Project, policy: &str) -> String {
    let finished = run(project, policy).require_code(1).unwrap();
    message(&finished.json().unwrap()).to_owned()
}

#[test]
fn a_column_that_is_added() {
    for policy in POLICIES {
        let project = moved();
        project.execute(
            SHARD,
            "ALTER TABLE people ADD nick TEXT; INSERT INTO people VALUES (2, 'Bob', '2', 20, 'bo')",
        );
        if policy == "strict" {
            says(
                &refused(&project, policy),
                "the table copy has no column nick",
            );
            continue;
        }
        loads_one(&project, policy);
        let columns = "SELECT count(*) FROM pragma_table_info('copy') WHERE name = 'nick'";
        let there = project.number(SINK, columns);
        assert_eq!(there, i64::from(policy == "evolve"));
    }
}

#[test]
fn a_column_that_is_dropped() {
    for policy in POLICIES {
        let project = moved();
        project.execute(
            SHARD,
            "ALTER TABLE people DROP COLUMN name; INSERT INTO people VALUES (2, '2', 20)",
        );
        if policy == "strict" {
            says(
                &refused(&project, policy),
                "partition eu does not give column `name` of copy any more",
            );
            let accept = [
                "checkpoint",
                "set",
                "copy",
                "--partition",
                "eu",
                "--accept-fingerprint",
            ];
            project.result(&accept, 0);
            loads_one(&project, policy);
        } else {
            says(&loads_one(&project, policy), "does not give column `name`");
        }
        assert_eq!(project.query(SINK, "SELECT name FROM copy"), "Ann\nNULL\n");
        project.execute(SHARD, "INSERT INTO people VALUES (3, '3', 30)");
        assert!(!loads_one(&project, "strict").contains("does not give"));
    }
}

#[test]
fn a_column_that_is_renamed() {
    for policy in POLICIES {
        let project = moved();
        project.execute(
            SHARD,
            "ALTER TABLE people RENAME name TO full_name; INSERT INTO people VALUES (2, 'Bob', '2', 20)",
        );
        if policy == "strict" {
            says(&refused(&project, policy), "no column full_name");
            project.execute(SINK, "ALTER TABLE copy ADD full_name TEXT");
            says(&refused(&project, policy), "does not give column `name`");
            continue;
        }
        says(&loads_one(&project, policy), "does not give column `name`");
        assert_eq!(project.query(SINK, "SELECT name FROM copy"), "Ann\nNULL\n");
    }
    // SQLite does not tell capital letters from small ones, and neither is this a change.
    let project = moved();
    project.execute(
        SHARD,
        "ALTER TABLE people RENAME name TO Name; INSERT INTO people VALUES (2, 'Bob', '2', 20)",
    );
    assert!(!loads_one(&project, "strict").contains("does not give"));
}

#[test]
fn a_column_that_is_widened_narrowed_or_changed() {
    for policy in POLICIES {
        for declared in ["DECIMAL(14,4)", "DECIMAL(6,1)"] {
            let project = moved();
            project.execute(
                SHARD,
                &format!(
                    "ALTER TABLE people DROP COLUMN amount; ALTER TABLE people ADD amount {declared};
                     INSERT INTO people (id, name, score, amount) VALUES (2, 'Bob', 20, '7.5')"
                ),
            );
            // The columns' order is the query's own: the host finds them by name.
            loads_one(&project, policy);
            let amount = project.query(SINK, "SELECT amount + 0.0 FROM copy WHERE id = 2");
            assert_eq!(amount, "7.5\n");
        }
        let project = moved();
        project.execute(
            SHARD,
            "ALTER TABLE people DROP COLUMN score; ALTER TABLE people ADD score TEXT;
             INSERT INTO people VALUES (2, 'Bob', '2', '007')",
        );
        says(
            &refused(&project, policy),
            "column `score` is INTEGER, which cannot take Arrow type Utf8",
        );
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let project = moved();
    project.execute(
        SHARD,
        "ALTER TABLE people ADD nick TEXT; ALTER TABLE people DROP COLUMN name;
         INSERT INTO people VALUES (2, '2', 20, 'bo')",
    );
    let tables = "SELECT sql FROM sqlite_schema WHERE name = 'copy'";
    let before = project.query(SINK, tables);
    let dry: &[&str] = &["run", "copy", "--dry-run"];
    run(&project, "strict").require_code(1).unwrap();
    let finished = project.run(dry).require_code(1).unwrap();
    says(
        message(&finished.json().unwrap()),
        "the table copy has no column nick",
    );
    let yaml = std::fs::read_to_string(project.path("plugins/copy.yaml")).unwrap();
    project.config("copy", &yaml.replace("strict", "evolve"));
    let finished = project.run(dry).require_code(0).unwrap();
    says(
        &finished.stderr,
        r#"a run would execute ALTER TABLE "copy" ADD COLUMN "nick" TEXT;"#,
    );
    says(&finished.stderr, "does not give column `name`");
    assert_eq!(project.query(SINK, tables), before);
}
