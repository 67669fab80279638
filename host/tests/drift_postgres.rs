//! Columns that come, go and change at the source or in the sink, from `PostgreSQL` into `PostgreSQL`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod findings;
mod kinds;

use databases::{BLOCKED, Database, configure, project, sink, source};
use etl_testkit::process::Finished;
use etl_testkit::project::Project;
use findings::complaints;
use kinds::{RUN, loaded, message, says};

const QUERY: &str = "SELECT * FROM people WHERE id > @from AND id <= @until ORDER BY id";
const PEOPLE: &str =
    "CREATE TABLE people (id integer PRIMARY KEY, name text, amount numeric(10,2), score integer);
     INSERT INTO people VALUES (1, 'Ann', 1.25, 10);";
const POLICIES: [&str; 3] = ["strict", "evolve", "ignore"];
const ROWS: &str = "SELECT to_jsonb(c)::text FROM copy c ORDER BY id";

fn handling(policy: &str) -> String {
    format!(
        "cursor: {{ column: id, kind: integer, settle_delay: 0s }}\n\
         error_handling: {{ max_retries: 0, on_schema_change: {policy} }}\n"
    )
}

/// A source with one person and a sink that holds that person.
struct Moved {
    from: Database,
    to: Database,
    project: Project,
}

impl Moved {
    async fn new() -> Self {
        Self::into_table("").await
    }

    /// The same into a table that somebody has made before.
    async fn into_table(sql: &str) -> Self {
        let (from, to) = (Database::new().await, Database::new().await);
        from.execute(PEOPLE).await;
        to.execute(sql).await;
        let moved = Self {
            from,
            to,
            project: project(),
        };
        moved.configure("strict");
        assert_eq!(loaded(&moved.project.result(RUN, 0)), 1);
        moved
    }

    fn configure(&self, policy: &str) {
        let yaml =
            source(&[("eu", &self.from)], QUERY, "") + &sink(&self.to, "") + &handling(policy);
        configure(&self.project, &yaml);
    }

    fn run(&self, policy: &str) -> Finished {
        self.configure(policy);
        self.project.run(RUN)
    }

    /// A run that fails; its message and its next step.
    fn refused(&self, policy: &str) -> (String, String) {
        let finished = self.run(policy).require_code(1).unwrap();
        let report = finished.json().unwrap();
        let next = &report["partitions"][0]["error"]["next_step"];
        (
            message(&report).to_owned(),
            next.as_str().unwrap_or_default().to_owned(),
        )
    }

    /// A run that loads one row; what it logs.
    fn loads_one(&self, policy: &str) -> String {
        let finished = self.run(policy).require_code(0).unwrap();
        assert_eq!(loaded(&finished.json().unwrap()), 1, "{policy}");
        finished.stderr
    }

    async fn type_of(&self, column: &str) -> String {
        let sql = format!(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'copy'::regclass AND attname = '{column}'"
        );
        self.to.texts(&sql).await.pop().unwrap()
    }

    /// The files of the table and of its indexes: others once it has been rewritten.
    async fn files(&self) -> Vec<String> {
        let sql = "SELECT c.relname || ' ' || pg_relation_filenode(c.oid) FROM pg_class c WHERE c.oid = 'copy'::regclass \
                   OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'copy'::regclass) ORDER BY 1";
        self.to.texts(sql).await
    }
}

#[tokio::test]
async fn a_column_that_is_added() {
    for policy in POLICIES {
        let moved = Moved::new().await;
        moved
            .from
            .execute("ALTER TABLE people ADD nick text; INSERT INTO people VALUES (2, 'Bob', 2, 20, 'bo')")
            .await;
        if policy == "strict" {
            let (message, next) = moved.refused(policy);
            says(&message, "the table copy has no column nick");
            says(&next, "ADD COLUMN \"nick\" text");
            assert_eq!(moved.to.number("SELECT count(*) FROM copy").await, 1);
            continue;
        }
        moved.loads_one(policy);
        let rows = moved.to.texts(ROWS).await;
        let nick = rows[1].contains(r#""nick": "bo""#);
        assert_eq!(nick, policy == "evolve", "{rows:?}");
        // What is left out on purpose is not missed.
        moved
            .from
            .execute("INSERT INTO people VALUES (3, 'Cy', 3, 30, 'c')")
            .await;
        assert!(!moved.loads_one(policy).contains("does not give"));
    }
}

#[tokio::test]
async fn a_column_that_is_dropped() {
    for policy in POLICIES {
        let moved = Moved::new().await;
        moved
            .from
            .execute("ALTER TABLE people DROP name; INSERT INTO people VALUES (2, 2, 20)")
            .await;
        if policy == "strict" {
            let (message, next) = moved.refused(policy);
            says(
                &message,
                "partition eu, attempt 1: partition eu does not give column `name` of copy any more, which it has written before",
            );
            says(&next, "AS name");
            says(&next, "--accept-fingerprint");
            assert_eq!(moved.to.number("SELECT count(*) FROM copy").await, 1);
            // Every run says so, until somebody decides.
            moved.refused(policy);
            moved.project.result(
                &[
                    "checkpoint",
                    "set",
                    "copy",
                    "--partition",
                    "eu",
                    "--accept-fingerprint",
                ],
                0,
            );
            moved.loads_one(policy);
        } else {
            let told = moved.loads_one(policy);
            says(&told, "does not give column `name` of copy any more");
        }
        let rows = moved.to.texts(ROWS).await;
        assert!(rows[1].contains(r#""name": null"#), "{rows:?}");
        // Said once: from now on it is as it was.
        moved
            .from
            .execute("INSERT INTO people VALUES (3, 3, 30)")
            .await;
        assert!(!moved.loads_one("strict").contains("does not give"));
    }
}

#[tokio::test]
async fn a_column_that_is_dropped_on_both_sides_is_missed_by_nobody() {
    let moved = Moved::new().await;
    moved
        .from
        .execute("ALTER TABLE people DROP name; INSERT INTO people VALUES (2, 2, 20)")
        .await;
    moved.to.execute("ALTER TABLE copy DROP name").await;
    assert!(!moved.loads_one("strict").contains("name"));
}

#[tokio::test]
async fn a_column_that_is_renamed() {
    for policy in POLICIES {
        let moved = Moved::new().await;
        moved
            .from
            .execute("ALTER TABLE people RENAME name TO full_name; INSERT INTO people VALUES (2, 'Bob', 2, 20)")
            .await;
        if policy == "strict" {
            says(&moved.refused(policy).0, "no column full_name");
            // Adding the new column alone does not make the old one be forgotten.
            moved
                .to
                .execute("ALTER TABLE copy ADD full_name text")
                .await;
            says(&moved.refused(policy).0, "does not give column `name`");
            continue;
        }
        says(&moved.loads_one(policy), "does not give column `name`");
        let rows = moved.to.texts(ROWS).await;
        assert!(rows[1].contains(r#""name": null"#), "{rows:?}");
        let there = rows[1].contains(r#""full_name": "Bob""#);
        assert_eq!(there, policy == "evolve", "{rows:?}");
    }
}

#[tokio::test]
async fn a_column_that_is_widened_without_touching_a_row() {
    for policy in POLICIES {
        let moved = Moved::new().await;
        moved.to.execute("CREATE INDEX ON copy (amount)").await;
        let before = moved.files().await;
        moved
            .from
            .execute("ALTER TABLE people ALTER amount TYPE numeric(14,2); INSERT INTO people VALUES (2, 'Bob', 123456789012.34, 2)")
            .await;
        match policy {
            "strict" => {
                let (message, next) = moved.refused(policy);
                says(
                    &message,
                    "column `amount` of partition eu was decimal(10,2) and is decimal(14,2) now, which numeric(10,2) in copy may be too narrow for",
                );
                says(
                    &next,
                    r#"run ALTER TABLE "copy" ALTER COLUMN "amount" TYPE numeric(14,2);"#,
                );
                assert!(!next.contains("rewrites"), "{next}");
            }
            "evolve" => {
                moved.loads_one(policy);
                assert_eq!(moved.type_of("amount").await, "numeric(14,2)");
                assert!(moved.to.texts(ROWS).await[1].contains("123456789012.34"));
            }
            _ => {
                let (message, _) = moved.refused(policy);
                says(&message, "rows are bad");
                moved
                    .from
                    .execute("UPDATE people SET amount = 3 WHERE id = 2")
                    .await;
                says(&moved.loads_one(policy), "rows that do not fit are refused");
                assert_eq!(moved.type_of("amount").await, "numeric(10,2)");
            }
        }
        assert_eq!(moved.files().await, before, "{policy}");
    }
}

#[tokio::test]
async fn a_column_whose_widening_would_rewrite_the_table() {
    for (change, policy_words, statement) in [
        (
            "ALTER TABLE people ALTER score TYPE bigint",
            "column `score` of partition eu was 32-bit integer and is 64-bit integer now",
            r#"ALTER TABLE "copy" ALTER COLUMN "score" TYPE bigint;"#,
        ),
        (
            "ALTER TABLE people ALTER amount TYPE numeric(12,4)",
            "column `amount` is numeric(10,2), which cannot take",
            r#"ALTER TABLE "copy" ALTER COLUMN "amount" TYPE numeric(12,4);"#,
        ),
    ] {
        for policy in POLICIES {
            let moved = Moved::new().await;
            let before = moved.files().await;
            moved.from.execute(change).await;
            moved
                .from
                .execute("INSERT INTO people VALUES (2, 'Bob', 2.5, 20)")
                .await;
            // Numbers are checked one by one; digits behind the point would be lost without a word.
            if policy == "ignore" && change.contains("score") {
                says(&moved.loads_one(policy), "rows that do not fit are refused");
                continue;
            }
            let (message, next) = moved.refused(policy);
            says(&message, policy_words);
            says(&next, statement);
            says(&next, "rewrites the table");
            assert_eq!(moved.files().await, before);
            // What it says is what helps.
            moved.to.execute(statement).await;
            moved.loads_one(policy);
        }
    }
}

#[tokio::test]
async fn a_column_that_is_narrowed_or_changed() {
    for policy in POLICIES {
        let moved = Moved::new().await;
        moved
            .from
            .execute("ALTER TABLE people ALTER amount TYPE numeric(6,1), ALTER score TYPE smallint; INSERT INTO people VALUES (2, 'Bob', 2, 20)")
            .await;
        moved.loads_one(policy);
        moved
            .from
            .execute("ALTER TABLE people ALTER score TYPE text; INSERT INTO people VALUES (3, 'Cy', 3, 'thirty')")
            .await;
        let (message, next) = moved.refused(policy);
        says(
            &message,
            "column `score` is integer, which cannot take Arrow type Utf8",
        );
        says(&next, r#"ALTER COLUMN "score" TYPE text"#);
        assert_eq!(moved.to.number("SELECT count(*) FROM copy").await, 2);
    }
}

const NARROW: &str = "CREATE TABLE copy (id integer PRIMARY KEY, at timestamp(3), noon time(0), name varchar(5) UNIQUE);
     CREATE INDEX ON copy (at);";

#[tokio::test]
async fn a_table_that_somebody_made_is_widened_in_place() {
    for policy in POLICIES {
        let (from, to) = (Database::new().await, Database::new().await);
        from.execute(
            "CREATE TABLE people (id integer, at timestamp, noon time, name text);
             INSERT INTO people VALUES (1, '2024-01-31 12:00:00.123456', '12:00:00.5', 'Ann Elizabeth')",
        )
        .await;
        to.execute(NARROW).await;
        let moved = Moved {
            from,
            to,
            project: project(),
        };
        let before = moved.files().await;
        if policy == "evolve" {
            moved.loads_one(policy);
            assert_eq!(moved.type_of("at").await, "timestamp without time zone");
            assert_eq!(moved.type_of("noon").await, "time without time zone");
            assert_eq!(moved.type_of("name").await, "text");
            let row = "SELECT at::text || ' ' || noon || ' ' || name FROM copy";
            assert_eq!(
                moved.to.texts(row).await,
                ["2024-01-31 12:00:00.123456 12:00:00.5 Ann Elizabeth"]
            );
        } else {
            let (message, next) = moved.refused(policy);
            says(&message, "column `at` is timestamp(3)");
            says(&next, r#"ALTER COLUMN "at" TYPE timestamp;"#);
            says(&next, r#"ALTER COLUMN "noon" TYPE time;"#);
            assert_eq!(moved.type_of("name").await, "character varying(5)");
        }
        assert_eq!(moved.files().await, before, "{policy}");
    }
}

#[tokio::test]
async fn where_a_view_forbids_it_rows_are_checked_one_by_one() {
    let moved = Moved::new().await;
    moved
        .to
        .execute("CREATE VIEW amounts AS SELECT amount FROM copy")
        .await;
    moved
        .from
        .execute("ALTER TABLE people ALTER amount TYPE numeric(14,2); INSERT INTO people VALUES (2, 'Bob', 2, 20)")
        .await;
    let told = moved.loads_one("evolve");
    says(&told, "widen column `amount` of copy");
    says(&told, "refused row by row");
    assert_eq!(moved.type_of("amount").await, "numeric(10,2)");
}

#[tokio::test]
async fn what_a_view_forbids_is_tried_once_in_a_run() {
    let moved = Moved::new().await;
    moved
        .to
        .execute("CREATE VIEW amounts AS SELECT amount FROM copy")
        .await;
    moved
        .from
        .execute("ALTER TABLE people ALTER amount TYPE numeric(14,2); INSERT INTO people VALUES (2, 'Bob', 2, 20)")
        .await;
    let shards = [
        ("eu", &moved.from),
        ("us", &moved.from),
        ("asia", &moved.from),
    ];
    let yaml = source(&shards, QUERY, "") + &sink(&moved.to, "") + &handling("evolve");
    configure(&moved.project, &yaml);
    let finished = moved.project.run(RUN).require_code(0).unwrap();
    assert_eq!(loaded(&finished.json().unwrap()), 1 + 2 + 2);
    let told = finished.stderr.matches("widen column `amount` of copy");
    assert_eq!(told.count(), 1, "{}", finished.stderr);
}

#[tokio::test]
async fn a_widening_that_is_not_needed_does_not_wait_for_ever_for_a_lock() {
    let moved = Moved::new().await;
    moved
        .from
        .execute("ALTER TABLE people ALTER amount TYPE numeric(14,2); INSERT INTO people VALUES (2, 'Bob', 2, 20)")
        .await;
    // As another partition does in the middle of its chunk.
    let writer = moved.to.at.connect().await.unwrap();
    writer
        .batch_execute("BEGIN; LOCK TABLE copy IN ROW EXCLUSIVE MODE")
        .await
        .unwrap();
    let told = moved.loads_one("evolve");
    says(&told, "55P03");
    says(&told, "refused row by row");
    writer.batch_execute("COMMIT").await.unwrap();
    moved
        .from
        .execute("INSERT INTO people VALUES (3, 'Cid', 3, 30)")
        .await;
    moved.loads_one("evolve");
    assert_eq!(moved.type_of("amount").await, "numeric(14,2)");
}

#[tokio::test]
async fn a_shard_that_is_migrated_before_the_others() {
    for policy in POLICIES {
        let (eu, us, to) = (
            Database::new().await,
            Database::new().await,
            Database::new().await,
        );
        eu.execute(PEOPLE).await;
        us.execute(PEOPLE).await;
        us.execute("ALTER TABLE people ALTER score TYPE bigint, DROP name, ADD nick text")
            .await;
        let project = project();
        // One after the other, so that it is known who comes first.
        let pool = "pool: { max_connections: 2 }";
        let yaml =
            source(&[("eu", &eu), ("us", &us)], QUERY, "") + &sink(&to, pool) + &handling(policy);
        configure(&project, &yaml);
        let report = project.result(RUN, 4);
        let failed = report["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|partition| partition["status"] == "failed")
            .unwrap();
        let (mine, other) = match failed["name"].as_str().unwrap() {
            "us" => ("us", "eu"),
            _ => ("eu", "us"),
        };
        let text = failed["error"]["message"].as_str().unwrap();
        let (has, had) = match mine {
            "us" => ("64", "32"),
            _ => ("32", "64"),
        };
        says(
            text,
            &format!(
                "partition {mine} gives column `score` of copy as {has}-bit integer, partition {other} as {had}-bit integer"
            ),
        );
        says(text, "column `name` of copy, which partition");
        says(text, "column `nick` of copy, which partition");
        assert_eq!(to.number("SELECT count(*) FROM copy").await, 1);
    }
}

#[tokio::test]
async fn a_column_of_the_sink_that_goes_in_the_middle_of_a_run() {
    for (policy, code) in [("evolve", 0), ("strict", 1), ("ignore", 0)] {
        let (from, to) = (Database::new().await, Database::new().await);
        from.execute(
            "CREATE TABLE people (id integer PRIMARY KEY, name text);
             INSERT INTO people SELECT i, repeat('x', 1000) FROM generate_series(1, 1000) AS i",
        )
        .await;
        // Each chunk waits for the test.
        to.execute(
            "CREATE TABLE copy (id integer, name text);
             CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END';
             CREATE TRIGGER wait BEFORE INSERT ON copy EXECUTE FUNCTION wait();",
        )
        .await;
        let project = project();
        let yaml = source(&[("eu", &from)], QUERY, "")
            + &sink(&to, "")
            + &handling(policy).replace("max_retries: 0", "max_retries: 3, retry_delay: 1ms")
            + "tuning: { batch_rows: 50, flush_bytes: 64KiB, flushes_per_commit: 1 }\n";
        configure(&project, &yaml);
        let dropping = to.at.connect().await.unwrap();
        to.execute("SELECT pg_advisory_lock(42)").await;
        let running = project
            .program(&["--output", "json", "run", "copy"])
            .start()
            .unwrap();
        to.wait_for(BLOCKED, 1).await;
        // It waits for the first chunk, and the second chunk for it.
        let (dropped, ()) = tokio::join!(
            dropping.batch_execute("ALTER TABLE copy DROP name"),
            async {
                let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                         AND query LIKE 'ALTER TABLE copy DROP%' AND wait_event_type = 'Lock'";
                to.wait_for(waits, 1).await;
                to.execute("SELECT pg_advisory_unlock(42)").await;
            }
        );
        dropped.unwrap();
        let finished = running.finish().unwrap().require_code(code).unwrap();
        let report = finished.json().unwrap();
        says(
            &finished.stderr,
            "the table copy was changed while the attempt wrote to it",
        );
        assert_eq!(report["attempts"], 2);
        let there = to.number("SELECT count(*) FROM copy").await;
        let different = to.number("SELECT count(DISTINCT id) FROM copy").await;
        assert_eq!(there, different, "{policy}");
        if policy == "strict" {
            says(message(&report), "the table copy has no column name");
            assert!(there > 0 && there < 1_000, "{there}");
        } else {
            assert_eq!(there, 1_000);
        }
        if policy == "ignore" {
            says(
                &finished.stderr,
                "column `name` of partition eu is left out",
            );
        }
    }
}

#[tokio::test]
async fn a_table_that_somebody_holds_is_waited_for_a_while_and_then_again() {
    let moved = Moved::new().await;
    moved
        .from
        .execute(
            "ALTER TABLE people ADD nick text; INSERT INTO people VALUES (2, 'Bob', 2, 20, 'bo')",
        )
        .await;
    moved.configure("evolve");
    let yaml = source(&[("eu", &moved.from)], QUERY, "")
        + &sink(&moved.to, "")
        + &handling("evolve").replace("max_retries: 0", "max_retries: 2, retry_delay: 1ms");
    configure(&moved.project, &yaml);
    let reader = moved.to.at.connect().await.unwrap();
    reader
        .batch_execute("BEGIN; SELECT count(*) FROM copy")
        .await
        .unwrap();
    let mut running = moved
        .project
        .program(&["--output", "json", "run", "copy"])
        .start()
        .unwrap();
    let told = running
        .wait_for_stderr(|line| line.contains("trying again"))
        .unwrap();
    says(&told, "extend the table copy");
    says(&told, "55P03");
    reader.batch_execute("COMMIT").await.unwrap();
    let finished = running.finish().unwrap().require_code(0).unwrap();
    assert_eq!(loaded(&finished.json().unwrap()), 1);
    assert!(moved.to.texts(ROWS).await[1].contains("bo"));
}

#[tokio::test]
async fn a_dry_run_and_doctor_say_what_would_be_done_and_do_nothing() {
    let moved = Moved::new().await;
    moved
        .from
        .execute(
            "ALTER TABLE people DROP name, ADD nick text, ALTER amount TYPE numeric(14,2);
             INSERT INTO people VALUES (2, 2, 20, 'bo')",
        )
        .await;
    let dry: &[&str] = &["run", "copy", "--dry-run"];
    let catalogue = "SELECT string_agg(attname || atttypmod, ' ' ORDER BY attnum) FROM pg_attribute \
                     WHERE attrelid = 'copy'::regclass AND attnum > 0";
    let before = (moved.to.texts(catalogue).await, moved.to.texts(ROWS).await);

    moved.configure("strict");
    let report = moved.project.result(dry, 1);
    says(message(&report), "the table copy has no column nick");
    says(&complaints(&moved.project, "copy", 3), "has no column nick");

    moved.configure("evolve");
    let finished = moved.project.run(dry).require_code(0).unwrap();
    for part in [
        r#"a run would execute ALTER TABLE "copy" ADD COLUMN "nick" text;"#,
        r#"a run would execute ALTER TABLE "copy" ALTER COLUMN "amount" TYPE numeric(14,2);"#,
        "does not give column `name`",
    ] {
        says(&finished.stderr, part);
    }
    let told = complaints(&moved.project, "copy", 0);
    says(
        &told,
        "sink drift warning: partition eu does not give column `name`",
    );

    moved.from.execute("ALTER TABLE people DROP nick").await;
    moved.configure("strict");
    let report = moved.project.result(dry, 1);
    says(message(&report), "does not give column `name`");
    let told = complaints(&moved.project, "copy", 3);
    says(
        &told,
        "sink drift failed: partition eu does not give column `name`",
    );

    let after = (moved.to.texts(catalogue).await, moved.to.texts(ROWS).await);
    assert_eq!(before, after);
}

#[tokio::test]
async fn an_upsert_whose_key_is_not_given_any_more_fails_under_every_policy() {
    for policy in POLICIES {
        let (from, to) = (Database::new().await, Database::new().await);
        from.execute(PEOPLE).await;
        let project = project();
        let upsert = "write_mode: upsert, key: [code]";
        let run = |query: &str| {
            let yaml = source(&[("eu", &from)], query, "") + &sink(&to, upsert) + &handling(policy);
            configure(&project, &yaml);
            project.run(RUN)
        };
        let query = QUERY.replace('*', "id, score AS code, name");
        run(&query).require_code(0).unwrap();
        from.execute("INSERT INTO people VALUES (2, 'Bob', 2, 20)")
            .await;
        project.result(
            &[
                "checkpoint",
                "set",
                "copy",
                "--partition",
                "eu",
                "--accept-fingerprint",
            ],
            0,
        );
        let finished = run(&QUERY.replace('*', "id, name"))
            .require_code(2)
            .unwrap();
        says(message(&finished.json().unwrap()), "key column `code`");
    }
}
