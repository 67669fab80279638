//! Corner cases of going back, of write modes and of tables: a `SQLite` source and sink, the real program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod kinds;

use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use kinds::{
    BY_TIME, RUN, SINK, copied, kinds, loaded, message, misbehaving, query, refusal, says,
};

const FIVE: &str = "CREATE TABLE people (id INTEGER, name TEXT, amount REAL, team TEXT);
     INSERT INTO people (id) VALUES (1), (2), (3), (4), (5);";

/// How many tables and views of the sink have such a name.
fn tables(project: &Project, like: &str) -> i64 {
    project.number(
        SINK,
        &format!("SELECT count(*) FROM sqlite_schema WHERE name LIKE '{like}'"),
    )
}

/// A query whose partition column holds this.
fn with_partition(part: &str) -> String {
    query(&format!(
        "SELECT id, '{part}' AS part FROM people WHERE id > @from AND id <= @until ORDER BY id"
    )) + "sink: { partition_column: part }\n"
}

#[test]
fn rows_are_not_deleted_by_a_column_without_the_partition_s_name() {
    let project = kinds(FIVE);
    project.config("copy", &with_partition("elsewhere"));
    assert_eq!(loaded(&project.result(RUN, 0)), 5);
    for flags in [&["--since", "2"][..], &["--full-refresh"]] {
        let args: Vec<&str> = RUN.iter().chain(flags).copied().collect();
        let report = project.result(&args, 1);
        says(message(&report), "does not hold the partition's name");
        assert_eq!(copied(&project), 5, "{flags:?}");
    }
}

#[test]
fn rows_that_are_gone_from_the_source_are_deleted_when_their_window_is_read_again() {
    for (gone, since, left) in [("id = 4", "2", 4), ("id > 2", "2", 2), ("true", "0", 0)] {
        let project = kinds(FIVE);
        project.config("copy", &with_partition("eu"));
        project.result(RUN, 0);
        project.execute(
            "data/people.db",
            &format!("DELETE FROM people WHERE {gone}"),
        );
        project.result(&["run", "copy", "--since", since], 0);
        assert_eq!(copied(&project), left, "{gone}");
        project.execute("data/people.db", "INSERT INTO people (id) VALUES (6)");
        assert_eq!(loaded(&project.result(RUN, 0)), 1, "{gone}");
    }
}

#[test]
fn the_same_holds_for_times() {
    for (gone, left) in [("id = 2", 2), ("id > 1", 1), ("true", 1)] {
        let project = kinds(
            "CREATE TABLE events (id INTEGER, at TIMESTAMP);
             INSERT INTO events VALUES (1, '2026-01-01 10:00:00'), (2, '2026-01-02 10:00:00'), (3, '2026-01-03 10:00:00');",
        );
        project.config(
            "copy",
            &(query("SELECT id, at, 'eu' AS part FROM events WHERE at > @from AND at <= @until ORDER BY at")
                + BY_TIME
                + "sink: { partition_column: part }\n"),
        );
        project.result(RUN, 0);
        project.execute(
            "data/people.db",
            &format!("DELETE FROM events WHERE {gone}"),
        );
        project.result(&["run", "copy", "--since", "2026-01-02"], 0);
        assert_eq!(copied(&project), left, "{gone}");
    }
}

#[test]
fn a_percentage_of_bad_rows_counts_over_the_whole_run() {
    // The second has too few rows to be stopped on the way: only the run's end can tell.
    for (limit, code, rows) in [("1%", 0, 40_000), ("0.001%", 1, 9_000)] {
        let project = kinds(
            "CREATE TABLE people (id INTEGER, amount INTEGER);
             INSERT INTO people VALUES (1, 1), (2, 'bad'), (3, 'bad'), (4, 4);",
        );
        project.execute(
            "data/us.db",
            &format!(
                "CREATE TABLE people (id INTEGER, amount INTEGER);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                 INSERT INTO people SELECT i, i FROM n;"
            ),
        );
        project.config(
            "copy",
            &format!(
                "source:\n  shards: [{{ name: eu, path: data/people.db }}, {{ name: us, path: data/us.db }}]\n  \
                 query: SELECT id, amount FROM people WHERE id > @from AND id <= @until ORDER BY id\n\
                 error_handling: {{ max_bad_rows: {limit} }}\n"
            ),
        );
        let report = project.result(RUN, code);
        assert_eq!(report["rows"]["quarantined"], 2, "{limit}");
        assert_eq!(loaded(&report), rows + 2, "{limit}");
        assert_eq!(copied(&project), rows.cast_signed() + 2, "{limit}");
        if code != 0 {
            says(refusal(&report), "2 of 9004 rows are bad");
            says(refusal(&report), "the rows are committed");
        }
        assert_eq!(loaded(&project.result(RUN, 0)), 0, "{limit}");
    }
}

#[test]
fn append_goes_on_where_replace_has_read_to() {
    let project = kinds(FIVE);
    project.config("copy", "sink: { write_mode: replace }\n");
    for _ in 0..2 {
        assert_eq!(loaded(&project.result(RUN, 0)), 5);
    }
    project.config("copy", "");
    project.execute("data/people.db", "INSERT INTO people (id) VALUES (6)");
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    assert_eq!(copied(&project), 6);
}

#[test]
fn a_table_that_would_change_values_is_refused() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, code TEXT, price DECIMAL(12, 2));
         INSERT INTO people VALUES (1, '007', 1234567890.25);",
    );
    project.config(
        "copy",
        &query("SELECT id, code, price FROM people WHERE id > @from AND id <= @until ORDER BY id"),
    );
    project.execute(
        SINK,
        "CREATE TABLE copy (id INTEGER, code INTEGER, price DECIMAL(12, 2))",
    );
    let report = project.result(RUN, 1);
    says(
        message(&report),
        "column `code` is INTEGER, which cannot take",
    );
    says(
        message(&report),
        "column `price` is DECIMAL(12, 2), which cannot take",
    );
    assert_eq!(copied(&project), 0);
}

#[test]
fn capital_letters_make_no_other_column() {
    for (mode, key) in [("append", ""), ("upsert", ", key: [id], key_scope: global")] {
        let project = kinds(
            "CREATE TABLE people (id INTEGER, code TEXT); INSERT INTO people VALUES (1, '007');",
        );
        project.execute(
            SINK,
            "CREATE TABLE Copy (ID INTEGER PRIMARY KEY, Code TEXT)",
        );
        project.config(
            "copy",
            &(query("SELECT id, code FROM people WHERE id > @from AND id <= @until ORDER BY id")
                + &format!("sink: {{ write_mode: {mode}{key} }}\n")),
        );
        assert_eq!(loaded(&project.result(RUN, 0)), 1, "{mode}");
        assert_eq!(project.query(SINK, "SELECT ID, Code FROM Copy"), "1|007\n");
    }
}

#[test]
fn partitions_of_the_pipeline_s_own_must_not_overwrite_each_other() {
    let project = kinds("");
    for sink in [
        "{ write_mode: upsert, key: [number] }",
        "{ write_mode: upsert, key: [number], partition_column: partition }",
    ] {
        project.config("numbers", &format!("sink: {sink}\n"));
        project.result(&["run", "numbers"], 2);
        assert!(!project.path(SINK).exists(), "{sink}");
    }
    project.config(
        "numbers",
        "sink: { write_mode: upsert, key: [partition, number], partition_column: partition }\n",
    );
    assert_eq!(loaded(&project.result(&["run", "numbers"], 0)), 200);
}

#[test]
fn a_stopped_replace_leaves_the_table_as_it_was_and_nothing_beside_it() {
    let project = misbehaving(100);
    let base = "source: { shards: [{ name: eu, path: data/eu.db }, { name: us, path: data/us.db }] }\n\
                sink: { write_mode: replace, path: data/warehouse.db, table: copy }\n\
                tuning: { batch_rows: 10, flush_bytes: 64KiB, flushes_per_commit: 1 }\n";
    project.config("misbehaving", base);
    assert_eq!(loaded(&project.result(&["run", "misbehaving"], 0)), 200);
    project.execute("data/us.db", "DELETE FROM people WHERE id <= 50");
    project.config(
        "misbehaving",
        &format!(
            "{base}settings: {{ misbehave: waits-until-cancelled, only_for: eu, at_id: 75 }}\n"
        ),
    );
    let mut running = project
        .program(&["--output", "json", "run", "misbehaving"])
        .start()
        .unwrap();
    running
        .wait_for_stderr(|line| line.contains("waiting to be cancelled"))
        .unwrap();
    running.signal(Signal::TERM).unwrap();
    let finished = running.finish().unwrap().require_code(143).unwrap();
    let report = finished.json().unwrap();
    assert_eq!(
        (&report["status"], loaded(&report)),
        (&"cancelled".into(), 0)
    );
    assert_eq!(copied(&project), 200);
    assert_eq!(tables(&project, "%shadow%"), 0);

    project.config("misbehaving", base);
    assert_eq!(loaded(&project.result(&["run", "misbehaving"], 0)), 150);
    assert_eq!(copied(&project), 150);
}

#[test]
fn a_column_without_a_declared_type_takes_that_of_its_first_value() {
    let project = kinds(
        "CREATE TABLE events (id INTEGER, at TIMESTAMP, size INTEGER);
         INSERT INTO events VALUES (1, '2026-01-01 00:00:00', NULL), (2, '2026-01-02 00:00:00', 7);",
    );
    project.config(
        "copy",
        &(query("SELECT id, at, size * 2 AS twice FROM events WHERE at > @from AND at <= @until ORDER BY at")
            + BY_TIME),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 2);
    assert_eq!(
        project.query(
            SINK,
            "SELECT id, twice, typeof(twice) FROM copy ORDER BY id"
        ),
        "1|NULL|null\n2|14|integer\n"
    );
}

#[test]
fn a_first_run_without_rows_makes_no_table_of_guesses() {
    let project = kinds(
        "CREATE TABLE events (id INTEGER, at TIMESTAMP);
         INSERT INTO events VALUES (1, '2999-01-01 00:00:00');",
    );
    project.config(
        "copy",
        &(query("SELECT id, at, id * 2 AS twice FROM events WHERE at > @from AND at <= @until ORDER BY at")
            + BY_TIME),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 0);
    assert_eq!(tables(&project, "copy"), 0);
    project.execute(
        "data/people.db",
        "INSERT INTO events VALUES (2, '2026-01-01 00:00:00')",
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    assert_eq!(
        project.query(SINK, "SELECT id, twice, typeof(twice) FROM copy"),
        "2|4|integer\n"
    );
}

#[test]
fn a_source_that_has_become_empty_empties_the_table() {
    for (sink, flags) in [
        ("partition_column: part", &["--full-refresh"][..]),
        ("write_mode: replace", &[]),
    ] {
        let project = kinds("CREATE TABLE people (id INTEGER);");
        project.config(
            "copy",
            &(query("SELECT id, 'eu' AS part FROM people WHERE id > @from AND id <= @until")
                + &format!("sink: {{ {sink} }}\n")),
        );
        let args: Vec<&str> = RUN.iter().chain(flags).copied().collect();
        for (change, rows) in [
            ("DELETE FROM people", 0),
            ("INSERT INTO people VALUES (2), (3)", 2),
            ("DELETE FROM people", 0),
            ("INSERT INTO people VALUES (1)", 1),
        ] {
            project.execute("data/people.db", change);
            assert_eq!(loaded(&project.result(&args, 0)), rows, "{sink}");
            assert_eq!(copied(&project), rows.cast_signed(), "{sink}");
        }
    }
}
