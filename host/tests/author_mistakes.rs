//! What the author of a plugin is told: one mistake each, with the real program, as a golden file.
//!
//! A message names what is wrong and where, what was expected, what was found, and what to do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use etl_testkit::project::Project;
use expect_test::{ExpectFile, expect_file};

const HOST: &str = env!("CARGO_BIN_EXE_etl-host");

/// A project with the plugin of mistakes, and three people, one of them without a name.
fn project() -> Project {
    let project = Project::new(HOST);
    project.plugin("fixture-mistaken");
    project.execute(
        "data/people.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT);
         INSERT INTO people VALUES (1, 'ann', 0.5, 'red'), (2, NULL, 1.5, 'red'), (3, 'eve', 2, 'blue');",
    );
    project
}

/// What is printed, without the log and without frames of the compiler's own library.
fn said(project: &Project, args: &[&str], code: i32) -> String {
    let finished = project.program(args).run().unwrap();
    let finished = finished.require_code(code).unwrap();
    let text = format!("{}{}", finished.stdout, finished.stderr);
    let log = [" ERROR etl_host", " WARN etl_host", " INFO etl_host"];
    let told = text
        .lines()
        .filter(|line| !line.starts_with("  | ") && !log.iter().any(|level| line.contains(level)));
    let lines = told.map(|line| {
        // Neither the time that it took nor a line of the fixture's code matters.
        let line = match line.split_once(" in ") {
            Some((before, after)) if after.ends_with(" s") => format!("{before} in … s"),
            _ => line.to_owned(),
        };
        match line.split_once(".rs:") {
            Some((file, rest)) => {
                let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
                format!("{file}.rs:…{rest}\n")
            }
            None => line + "\n",
        }
    });
    project.redact(&lines.collect::<String>())
}

/// A run of a pipeline that has a mistake.
fn check_run(pipeline: &str, code: i32, golden: &ExpectFile) {
    golden.assert_eq(&said(&project(), &["run", pipeline], code));
}

#[test]
fn other_columns_than_announced() {
    check_run(
        "wrong-schema",
        1,
        &expect_file!["golden/mistake-wrong-schema.txt"],
    );
}

#[test]
fn rows_without_a_fate() {
    check_run(
        "lost-rows",
        1,
        &expect_file!["golden/mistake-lost-rows.txt"],
    );
}

#[test]
fn a_column_that_the_query_does_not_return() {
    check_run(
        "missing-column",
        2,
        &expect_file!["golden/mistake-missing-column.txt"],
    );
}

#[test]
fn a_column_of_another_type() {
    check_run(
        "wrong-type",
        2,
        &expect_file!["golden/mistake-wrong-type.txt"],
    );
    check_run(
        "unchecked-type",
        1,
        &expect_file!["golden/mistake-unchecked-type.txt"],
    );
}

#[test]
fn a_panic() {
    check_run("panics", 1, &expect_file!["golden/mistake-panic.txt"]);
}

#[test]
fn a_struct_that_is_no_row() {
    check_run("row-type", 2, &expect_file!["golden/mistake-row-type.txt"]);
    check_run("row-null", 1, &expect_file!["golden/mistake-row-null.txt"]);
}

#[test]
fn settings_that_are_wrong() {
    let project = project();
    project.config(
        "with-settings",
        "settings:\n  least_aeg: 18\n  country: France\n",
    );
    expect_file!["golden/mistake-unknown-setting.txt"].assert_eq(&said(
        &project,
        &["validate", "with-settings"],
        2,
    ));
    project.config(
        "with-settings",
        "settings:\n  least_age: young\n  country: France\n",
    );
    expect_file!["golden/mistake-setting-type.txt"].assert_eq(&said(
        &project,
        &["validate", "with-settings"],
        2,
    ));
    project.config(
        "with-settings",
        "settings:\n  least_age: 200\n  country: France\n",
    );
    expect_file!["golden/mistake-setting-value.txt"].assert_eq(&said(
        &project,
        &["validate", "with-settings"],
        2,
    ));
}

#[test]
fn another_version_of_the_interface() {
    let project = Project::new(HOST);
    project.plugin("fixture-other-abi-version");
    expect_file!["golden/mistake-api-version.txt"].assert_eq(&said(&project, &["list"], 0));
}
