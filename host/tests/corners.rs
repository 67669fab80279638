//! Corner cases of reading and loading that once lost or doubled rows: a `SQLite` source and sink, the real program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod kinds;

use kinds::{
    BY_TIME, RUN, SINK, copied, kinds, loaded, message, misbehaving, query, refusal, says,
};

/// Everything is committed by then, so trying again could only load it twice.
#[test]
fn a_loader_that_fails_to_close_after_its_last_commit_has_done_its_work() {
    for isolation in ["process", "in-process"] {
        let project = misbehaving(300);
        let base = format!(
            "isolation: {isolation}\n\
             source: {{ query: \"SELECT id, 'eu' AS part FROM people WHERE id > @from AND id <= @until ORDER BY id\" }}\n\
             sink: {{ partition_column: part }}\n"
        );
        let content = "SELECT count(*), count(DISTINCT id) FROM loaded";
        project.config(
            "misbehaving",
            &format!("{base}settings: {{ misbehave: panic-in-loader-close }}\n"),
        );
        let run = |flags: &[&str]| {
            let arguments = [&["run", "misbehaving"], flags].concat();
            let report = project.result(&arguments, 0);
            assert_eq!(report["partitions"][0]["attempts"], 1, "{flags:?}");
            loaded(&report)
        };
        // The last row may have others beside it, so it waits for the next run.
        assert_eq!(run(&["--limit", "100"]), 99);
        assert_eq!(project.query("data/misbehaving.db", content), "99|99\n");
        assert_eq!(run(&[]), 201);
        assert_eq!(run(&["--full-refresh"]), 300);
        assert_eq!(project.query("data/misbehaving.db", content), "300|300\n");
        assert_eq!(run(&["--since", "100", "--allow-duplicates"]), 200);
        assert_eq!(project.query("data/misbehaving.db", content), "500|300\n");
    }
}

#[test]
fn a_bad_row_beyond_the_window_does_not_take_the_checkpoint_along() {
    let project = kinds(
        "CREATE TABLE events (id INTEGER, at TIMESTAMP);
         INSERT INTO events VALUES (1, '2026-01-02 00:00:00'), ('bad', '2026-01-09 00:00:00'),
                                   (2, '2026-01-05 00:00:00'), ('worse', '2999-01-01 00:00:00');",
    );
    let unbounded = query("SELECT id, at FROM events WHERE at > @from") + BY_TIME;
    project.config("copy", &unbounded);
    let report = project.result(&["run", "copy", "--until", "2026-01-03"], 0);
    assert_eq!(report["rows"]["quarantined"], 0, "{report}");
    assert_eq!(report["partitions"][0]["cursor_to"], "2026-01-02 00:00:00");

    project.config(
        "copy",
        &format!("{unbounded}error_handling: {{ max_bad_rows: 1 }}\n"),
    );
    let report = project.result(RUN, 0);
    assert_eq!(
        (loaded(&report), &report["rows"]["quarantined"]),
        (1, &1.into())
    );
    assert_eq!(report["partitions"][0]["cursor_to"], "2026-01-09 00:00:00");
    project.execute(
        "data/people.db",
        "INSERT INTO events VALUES (3, '2026-01-10 00:00:00')",
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    assert_eq!(copied(&project), 3);
}

#[test]
fn a_query_that_cuts_its_rows_is_refused() {
    let project = kinds("CREATE TABLE people (id INTEGER)");
    let window = "FROM people WHERE id > @from AND id <= @until ORDER BY id";
    for (sql, word) in [
        (format!("SELECT id {window} LIMIT 5"), "LIMIT"),
        (format!("SELECT TOP 5 id {window}"), "TOP"),
        (format!("SELECT DISTINCT top 5 id {window}"), "top"),
        (format!("SELECT id {window} OFFSET 5 ROWS"), "OFFSET"),
        (
            format!("SELECT id {window} FETCH FIRST 5 ROWS ONLY"),
            "FETCH",
        ),
    ] {
        project.config("copy", &query(&sql));
        let answer = project.result(RUN, 2);
        says(refusal(&answer), &format!("cuts its rows with {word}"));
    }
    project.config(
        "copy",
        &query(&format!(
            "SELECT id, (SELECT max(id) FROM people LIMIT 1) AS newest {window}"
        )),
    );
    project.result(RUN, 0);
}

#[test]
fn a_limit_inside_a_tie_group_leaves_the_whole_group_to_the_next_run() {
    let source = "CREATE TABLE people (id INTEGER, team INTEGER);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO people SELECT i, CASE WHEN i <= 10 THEN 1 WHEN i <= 490 THEN 2 ELSE 3 END FROM n;";
    let config =
        query("SELECT id, team FROM people WHERE team > @from AND team <= @until ORDER BY team")
            + "cursor: { column: team }\ntuning: { batch_rows: 16 }\n";
    // Inside the first group, at its end, inside the second over many batches, at its end, behind everything.
    for (limit, expected) in [
        ("5", 0),
        ("10", 0),
        ("300", 10),
        ("490", 10),
        ("495", 490),
        ("501", 500),
    ] {
        let project = kinds(source);
        project.config("copy", &config);
        let report = project.result(&["run", "copy", "--limit", limit], 0);
        assert_eq!(loaded(&report), expected, "--limit {limit}");
        assert_eq!(
            loaded(&project.result(RUN, 0)),
            500 - expected,
            "--limit {limit}"
        );
        let content = "SELECT count(*), count(DISTINCT id) FROM copy";
        assert_eq!(project.query(SINK, content), "500|500\n", "--limit {limit}");
    }
}

#[test]
fn a_commit_never_cuts_a_tie_group_however_small_the_pieces() {
    for batch_rows in [1, 3, 7, 10, 64] {
        let project = misbehaving(300);
        let base = format!(
            "source: {{ query: \"SELECT id, team, name FROM people WHERE team > @from AND team <= @until ORDER BY team\" }}\n\
             cursor: {{ column: team }}\n\
             tuning: {{ batch_rows: {batch_rows}, flush_bytes: 64KiB, flushes_per_commit: 1 }}\n"
        );
        project.config(
            "misbehaving",
            &format!("{base}settings: {{ misbehave: fatal, at_id: 205 }}\n"),
        );
        let failed = project.result(&["run", "misbehaving"], 1);
        let before = loaded(&failed);
        assert!(before > 0 && before < 205, "{failed}");
        let sink = "data/misbehaving.db";
        let cut =
            "SELECT count(*) FROM (SELECT team FROM loaded GROUP BY team HAVING count(*) <> 10)";
        assert_eq!(project.number(sink, cut), 0, "batches of {batch_rows}");

        project.config("misbehaving", &base);
        let report = project.result(&["run", "misbehaving"], 0);
        assert_eq!(loaded(&report), 300 - before, "batches of {batch_rows}");
        let content = "SELECT count(*), count(DISTINCT id) FROM loaded";
        assert_eq!(
            project.query(sink, content),
            "300|300\n",
            "batches of {batch_rows}"
        );
    }
}

#[test]
fn a_query_that_includes_its_start_is_refused_when_it_would_double() {
    for order in ["", "ORDER BY id"] {
        let project =
            kinds("CREATE TABLE people (id INTEGER); INSERT INTO people VALUES (1), (2);");
        project.config(
            "copy",
            &query(&format!(
                "SELECT id FROM people WHERE id >= @from AND id <= @until {order}"
            )),
        );
        assert_eq!(loaded(&project.result(RUN, 0)), 2);
        assert_eq!(loaded(&project.result(RUN, 0)), 0);
        project.execute("data/people.db", "INSERT INTO people VALUES (3)");
        let report = project.result(RUN, 1);
        says(message(&report), "the query returns rows up to @from");
        assert_eq!(copied(&project), 2);
    }
}

#[test]
fn a_position_in_another_form_of_time_stops_the_run() {
    let project = kinds(
        "CREATE TABLE events (id INTEGER, at TIMESTAMP);
         INSERT INTO events VALUES (1, '2026-01-01 11:00:00');",
    );
    project.config(
        "copy",
        &(query("SELECT id, at FROM events WHERE at > @from AND at <= @until ORDER BY at")
            + BY_TIME),
    );
    project.result(RUN, 0);
    let set = |cursor: &str| {
        let args = [
            "checkpoint",
            "set",
            "copy",
            "--partition",
            "eu",
            "--cursor",
            cursor,
        ];
        project.result(&args, 0);
    };
    set("2026-01-01T12:00:00");
    // As text, this lies before the position.
    project.execute(
        "data/people.db",
        "INSERT INTO events VALUES (2, '2026-01-01 15:00:00')",
    );
    says(
        message(&project.result(RUN, 1)),
        "is not written as the times",
    );
    // And this behind it.
    project.execute(
        "data/people.db",
        "INSERT INTO events VALUES (3, '2026-01-02 15:00:00')",
    );
    says(
        message(&project.result(RUN, 1)),
        "is not written as the times",
    );
    let args = [
        "checkpoint",
        "set",
        "copy",
        "--partition",
        "eu",
        "--cursor",
        "2026-01-01 12:00:00",
        "--allow-duplicates",
    ];
    project.result(&args, 0);
    assert_eq!(loaded(&project.result(RUN, 0)), 2);
}

#[test]
fn a_time_with_an_offset_is_set_aside_and_not_shifted() {
    let project = kinds(
        "CREATE TABLE events (id INTEGER, seen TIMESTAMP);
         INSERT INTO events VALUES (1, '2026-01-01 10:00:00'), (2, '2026-01-01 10:00:00+02:00'),
                                   (3, '2026-01-01T10:00:00[Europe/Berlin]'), (4, '2026-01-01T10:00:00-0130');",
    );
    project.config(
        "copy",
        &(query("SELECT id, seen FROM events WHERE id > @from AND id <= @until ORDER BY id")
            + "error_handling: { max_bad_rows: 3 }\n"),
    );
    assert_eq!(project.result(RUN, 0)["rows"]["quarantined"], 3);
    assert_eq!(
        project.query(SINK, "SELECT * FROM copy"),
        "1|2026-01-01 10:00:00\n"
    );
}

#[test]
fn a_cursor_with_an_offset_stops_the_run() {
    for (rows, words) in [
        ("(1, '2026-01-01 10:00:00+02:00')", "without an offset"),
        (
            "(1, '2026-01-01 10:00:00'), (2, '2026-01-01 11:00:00+02:00')",
            "mixes times of several forms",
        ),
        (
            "(1, '2026-01-01 10:00:00'), (2, '2026-01-01 11:00:00[Europe/Berlin]')",
            "mixes times of several forms",
        ),
    ] {
        let project = kinds(&format!(
            "CREATE TABLE events (id INTEGER, at TIMESTAMP); INSERT INTO events VALUES {rows};"
        ));
        project.config(
            "copy",
            &(query("SELECT id, at FROM events WHERE at > @from AND at <= @until ORDER BY at")
                + BY_TIME),
        );
        says(message(&project.result(RUN, 1)), words);
        assert_eq!(
            project.query(SINK, "SELECT cursor FROM etl_host_checkpoints"),
            "NULL\n"
        );
    }
}

#[test]
fn rows_of_the_running_second_wait_until_it_is_over() {
    // A row without a time has that of the running second, whenever it is read.
    let project = kinds(
        "CREATE TABLE stored (id INTEGER, at TEXT);
         CREATE VIEW events AS SELECT id, coalesce(at, datetime('now')) AS at FROM stored;
         INSERT INTO stored VALUES (1, '2026-01-01 10:00:00'), (2, NULL);",
    );
    project.config(
        "copy",
        &(query("SELECT id, at FROM events WHERE at > @from AND at <= @until ORDER BY at")
            + BY_TIME),
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    // The second is over, and another row came in it.
    project.execute(
        "data/people.db",
        "UPDATE stored SET at = '2026-01-01 10:00:01' WHERE id = 2; INSERT INTO stored VALUES (3, '2026-01-01 10:00:01');",
    );
    assert_eq!(loaded(&project.result(RUN, 0)), 2);
}
