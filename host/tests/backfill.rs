//! `etl-host backfill`: a past range is loaded again exactly, whatever stops it on the way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod kinds;

use databases::{BLOCKED, Database, configure, project, sink, source};
use etl_testkit::process::{Running, Signal};
use etl_testkit::project::Project;
use kinds::{RUN, SINK, copied, kinds, query, refusal, says};
use serde_json::{Value, json};

/// The rows of the third window wait as long as somebody holds a lock on them.
const WAITING: &str = "SELECT id, shard, name, at FROM people WHERE at > @from AND at <= @until \
    AND CASE WHEN at > timestamp '2024-01-04 00:30' THEN pg_advisory_xact_lock_shared(42)::text = '' ELSE true END \
    ORDER BY at";
const REST: &str = "cursor: { column: at, kind: timestamp, settle_delay: 0s }\nerror_handling: { max_retries: 0 }\n";
/// Four windows, all of whose ends are at the time of a row.
const FOUR_DAYS: &[&str] = &[
    "backfill",
    "copy",
    "--from",
    "2024-01-02 00:30",
    "--to",
    "2024-01-06 00:30",
    "--window",
    "1d",
];
const CURSORS: &str = "SELECT partition || cursor FROM etl_host.checkpoints ORDER BY 1";
const APPEND: &str = "partition_column: shard";
const UPSERT: &str = "write_mode: upsert, partition_column: shard, key: [shard, id]";

struct Shop {
    eu: Database,
    us: Database,
    to: Database,
    project: Project,
}

impl Shop {
    /// Two shards with twenty-four people an hour apart on each of ten days, loaded. Then the sources are changed: each
    /// row is `new`, and one of the second day is gone.
    async fn changed(more: &str) -> Self {
        let (eu, us, to) = (
            Database::new().await,
            Database::new().await,
            Database::new().await,
        );
        for (name, shard) in [("eu", &eu), ("us", &us)] {
            let people = format!(
                "CREATE TABLE people (id bigint PRIMARY KEY, shard text, name text, at timestamp NOT NULL);
                 INSERT INTO people SELECT i, '{name}', 'old', timestamp '2024-01-01 00:30' + interval '1 hour' * i
                 FROM generate_series(0, 239) AS i;"
            );
            shard.execute(&people).await;
        }
        let project = project();
        configure(
            &project,
            &(source(&[("eu", &eu), ("us", &us)], WAITING, "") + &sink(&to, more) + REST),
        );
        assert_eq!(kinds::loaded(&project.result(RUN, 0)), 480);
        for shard in [&eu, &us] {
            shard
                .execute("UPDATE people SET name = 'new'; DELETE FROM people WHERE id = 30")
                .await;
        }
        Self {
            eu,
            us,
            to,
            project,
        }
    }

    /// What the sink holds of a shard: whether each row is new, by its number.
    async fn new_rows(&self, shard: &str) -> Vec<String> {
        let of_shard = format!(
            "SELECT id::text FROM copy WHERE shard = '{shard}' AND name = 'new' ORDER BY copy.id"
        );
        self.to.texts(&of_shard).await
    }

    /// A backfill that stands still in its third window.
    async fn waiting(&self) -> Running {
        self.eu.execute("SELECT pg_advisory_lock(42)").await;
        let running = self.project.program(FOUR_DAYS).start().unwrap();
        self.eu.wait_for(BLOCKED, 1).await;
        running
    }

    async fn go_on(&self) {
        self.eu.execute("SELECT pg_advisory_unlock(42)").await;
    }
}

/// The numbers of the rows after the one of `from` up to that of `to`, without the one that is gone.
fn ids(from: u32, to: u32) -> Vec<String> {
    let numbers = (from + 1..=to).filter(|id| *id != 30);
    numbers.map(|id| id.to_string()).collect()
}

fn numbers(report: &Value) -> Value {
    json!([
        report["windows"],
        report["windows_done_before"],
        report["windows_done"],
        report["status"]
    ])
}

#[tokio::test]
async fn a_killed_backfill_goes_on_and_every_end_is_exact() {
    for (more, gone) in [(APPEND, 2), (UPSERT, 0)] {
        let shop = Shop::changed(more).await;
        let cursors = shop.to.texts(CURSORS).await;
        let running = shop.waiting().await;
        running.signal(Signal::KILL).unwrap();
        assert_eq!(running.finish().unwrap().code, None);
        shop.go_on().await;
        let report = shop.project.result(FOUR_DAYS, 0);
        assert_eq!(numbers(&report), json!([4, 2, 4, "succeeded"]), "{more}");
        assert_eq!(report["rows"]["loaded"], 2 * 48);
        for shard in ["eu", "us"] {
            // The row at the beginning stays, that at the end is new.
            assert_eq!(shop.new_rows(shard).await, ids(24, 120), "{more}");
        }
        let rows = shop.to.number("SELECT count(*) FROM copy").await;
        assert_eq!(rows, 480 - gone, "{more}");
        assert_eq!(shop.to.texts(CURSORS).await, cursors);
        let range = [
            "verify",
            "copy",
            "--from",
            "2024-01-02 00:30",
            "--to",
            "2024-01-06 00:30",
        ];
        shop.project.result(&range, i32::from(gone == 0));
        // All is done, so the same command loads the range once more.
        let report = shop.project.result(FOUR_DAYS, 0);
        assert_eq!(numbers(&report), json!([4, 0, 4, "succeeded"]));
        assert_eq!(
            shop.to.number("SELECT count(*) FROM copy").await,
            480 - gone
        );
    }
}

#[tokio::test]
async fn a_signal_lets_a_backfill_stop_and_say_how_it_goes_on() {
    let shop = Shop::changed(APPEND).await;
    let mut running = shop.waiting().await;
    running
        .wait_for_stdout(|line| line.contains("window 2 of 4"))
        .unwrap();
    running.signal(Signal::TERM).unwrap();
    let stopped = running.finish().unwrap();
    assert_eq!(stopped.code, Some(143), "{}", stopped.stderr);
    says(&stopped.stdout, "copy: cancelled after 2 of 4 windows");
    says(&stopped.stdout, "the same command goes on after window 2");
    // The window that was under way is as it was.
    assert_eq!(shop.new_rows("eu").await, ids(24, 72));
    shop.go_on().await;

    // Another range is another task.
    let other = [
        "backfill",
        "copy",
        "--from",
        "2024-01-02 00:30",
        "--to",
        "2024-01-02 01:30",
    ];
    assert_eq!(numbers(&shop.project.result(&other, 0))[1], 0);
    let goes_on = shop.project.program(FOUR_DAYS).run().unwrap();
    says(&goes_on.stdout, "copy: goes on after 2 of 4 windows");
    assert_eq!(shop.new_rows("eu").await, ids(24, 120));

    shop.waiting().await.signal(Signal::KILL).unwrap();
    shop.go_on().await;
    let again: Vec<&str> = FOUR_DAYS.iter().copied().chain(["--restart"]).collect();
    assert_eq!(
        numbers(&shop.project.result(&again, 0)),
        json!([4, 0, 4, "succeeded"])
    );
}

#[tokio::test]
async fn one_partition_leaves_the_other_alone() {
    let shop = Shop::changed(APPEND).await;
    let args: Vec<&str> = FOUR_DAYS
        .iter()
        .copied()
        .chain(["--partition", "us"])
        .collect();
    let report = shop.project.result(&args, 0);
    assert_eq!(report["partitions"], json!(["us"]));
    assert_eq!(shop.new_rows("us").await, ids(24, 120));
    assert_eq!(shop.new_rows("eu").await, ids(0, 0));
}

#[tokio::test]
async fn a_failed_window_is_done_again() {
    let shop = Shop::changed(APPEND).await;
    shop.us.execute("ALTER TABLE people RENAME TO nobody").await;
    let report = shop.project.result(FOUR_DAYS, 4);
    assert_eq!(numbers(&report), json!([4, 0, 0, "partial"]));
    assert_eq!(report["stopped_at"]["from"], "2024-01-02 00:30");
    let failure = &report["stopped_at"]["run"]["partitions"][1]["error"]["message"];
    says(failure.as_str().unwrap(), "partition us, attempt 1");
    shop.us.execute("ALTER TABLE nobody RENAME TO people").await;
    assert_eq!(
        numbers(&shop.project.result(FOUR_DAYS, 0)),
        json!([4, 0, 4, "succeeded"])
    );
    for shard in ["eu", "us"] {
        assert_eq!(shop.new_rows(shard).await, ids(24, 120));
    }
}

#[tokio::test]
async fn nothing_behind_the_checkpoint_is_loaded() {
    for (more, gone) in [(APPEND, 4), (UPSERT, 0)] {
        let shop = Shop::changed(more).await;
        // The newest row of the source lies before the range's end and before the checkpoint.
        shop.eu.execute("DELETE FROM people WHERE id > 236").await;
        shop.us
            .execute("INSERT INTO people VALUES (999, 'us', 'new', '2024-02-01')")
            .await;
        let range = [
            "backfill",
            "copy",
            "--from",
            "2024-01-01",
            "--to",
            "2030-01-01",
            "--window",
            "300d",
        ];
        let report = shop.project.result(&range, 0);
        assert_eq!(report["cut_at_checkpoint"], json!(["eu", "us"]));
        let count = "SELECT count(*) FROM copy";
        assert_eq!(
            shop.to.number(count).await,
            480 - gone - i64::from(gone > 0),
            "{more}"
        );
        assert_eq!(kinds::loaded(&shop.project.result(RUN, 0)), 1, "{more}");
    }
}

#[test]
fn a_window_without_rows_empties_the_sink_s() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT, amount REAL);
         INSERT INTO people VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4), (5, 'e', 5);",
    );
    let by_id = "SELECT id, amount * 2 AS doubled, id % 2 = 1 AS odd, 'eu' AS part FROM people \
                 WHERE id > @from AND id <= @until ORDER BY id";
    project.config(
        "copy",
        &(query(by_id) + "sink: { partition_column: part }\n"),
    );
    project.result(RUN, 0);
    project.execute("data/people.db", "DELETE FROM people WHERE id IN (3, 4)");
    let range = [
        "backfill", "copy", "--from", "2", "--to", "4", "--window", "1",
    ];
    let report = project.result(&range, 0);
    assert_eq!(numbers(&report), json!([2, 0, 2, "succeeded"]));
    assert_eq!(
        project.query(SINK, "SELECT id FROM copy ORDER BY id"),
        "1\n2\n5\n"
    );
    project.execute("data/people.db", "DELETE FROM people WHERE id > 1");
    project.result(&["backfill", "copy", "--from", "0", "--to", "9"], 0);
    assert_eq!(copied(&project), 1);
}

/// As text, a time with a zone comes behind a longer one.
#[tokio::test]
async fn the_ends_of_a_range_are_exact_in_a_file_with_zones_too() {
    let from = Database::new().await;
    from.execute(
        "CREATE TABLE people (id bigint, shard text, at timestamptz);
         INSERT INTO people SELECT i, 'a', timestamptz '2024-01-01 00:00:00Z' + interval '250 ms' * i FROM generate_series(1, 12) i",
    )
    .await;
    let project = project();
    let by_time = "SELECT id, shard, at FROM people WHERE at > @from AND at <= @until ORDER BY at";
    let to =
        format!("sink: {{ type: sqlite, path: {SINK}, table: copy, partition_column: shard }}\n");
    configure(
        &project,
        &(source(&[("a", &from)], by_time, "") + &to + REST),
    );
    project.result(RUN, 0);
    let range = [
        "--from",
        "2024-01-01 00:00:01",
        "--to",
        "2024-01-01 00:00:02",
    ];
    let args: Vec<&str> = ["backfill", "copy"].into_iter().chain(range).collect();
    assert_eq!(kinds::loaded(&project.result(&args, 0)), 4);
    assert_eq!(copied(&project), 12);
    let args: Vec<&str> = ["verify", "copy"].into_iter().chain(range).collect();
    let report = project.result(&args, 0);
    assert_eq!(report["tables"][0]["partitions"][0]["found"], 4);
    project.result(&["verify", "copy"], 0);
}

/// As text 1000 lies between 100 and 200, and 150 does not lie between 12 and 1000.
#[tokio::test]
async fn numbers_are_numbers_whatever_a_file_keeps_them_as() {
    for (id, declared) in [
        ("numeric(18,0)", "TEXT"),
        ("numeric(18,0)", ""),
        ("bigint", ""),
    ] {
        let from = Database::new().await;
        from.execute(&format!(
            "CREATE TABLE people (id {id}, shard text, name text);
             INSERT INTO people SELECT i, 'a', 'old' FROM unnest('{{-150,2,12,100,150,200,1000,2000}}'::bigint[]) i"
        ))
        .await;
        let project = project();
        let by_id =
            "SELECT id, shard, name FROM people WHERE id > @from AND id <= @until ORDER BY id";
        let to = format!(
            "sink: {{ type: sqlite, path: {SINK}, table: copy, partition_column: shard }}\n"
        );
        configure(&project, &(source(&[("a", &from)], by_id, "") + &to));
        project.execute(
            SINK,
            &format!("CREATE TABLE copy (id {declared}, shard TEXT, name TEXT)"),
        );
        project.result(RUN, 0);
        from.execute("UPDATE people SET name = 'new'").await;
        let new = "SELECT id FROM copy WHERE name = 'new' ORDER BY CAST(id AS INTEGER)";
        for (ends, expected) in [
            (["100", "200"], "150\n200\n"),
            (["1", "12"], "2\n12\n150\n200\n"),
        ] {
            let args: Vec<&str> = ["backfill", "copy", "--from", ends[0], "--to", ends[1]].into();
            assert_eq!(
                kinds::loaded(&project.result(&args, 0)),
                2,
                "{id} {declared}"
            );
            assert_eq!(project.query(SINK, new), expected, "{id} {declared}");
            assert_eq!(copied(&project), 8, "{id} {declared}");
        }
        // Those behind it are loaded again.
        let since = ["run", "copy", "--since", "100"];
        assert_eq!(
            kinds::loaded(&project.result(&since, 0)),
            4,
            "{id} {declared}"
        );
        assert_eq!(copied(&project), 8, "{id} {declared}");
    }
}

#[test]
fn what_cannot_be_loaded_again_is_refused() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER, name TEXT, amount REAL, team TEXT); INSERT INTO people (id) VALUES (1)",
    );
    let by_id =
        query("SELECT id, 'eu' AS part FROM people WHERE id > @from AND id <= @until ORDER BY id");
    let column = "sink: { partition_column: part }\n";
    let refused = |config: &str, args: &[&str], words: &str| {
        project.config("copy", config);
        says(refusal(&project.result(args, 2)), words);
    };
    let range = ["backfill", "copy", "--from", "0", "--to", "9"];
    let config = by_id.clone() + column;
    refused(&config, &range, "partition eu was never loaded");
    project.result(RUN, 0);
    refused(&by_id, &range, "backfill would load rows twice");
    refused(
        &(by_id.clone() + "sink: { write_mode: replace }\n"),
        &range,
        "loads everything in each run",
    );
    refused(
        &config,
        &["backfill", "copy", "--from", "9", "--to", "9"],
        "is not before",
    );
    refused(
        &config,
        &[
            "backfill", "copy", "--from", "0", "--to", "9", "--window", "1d",
        ],
        "no length of a window",
    );
    refused(
        "source: { query: SELECT id FROM people }\ncursor: null\nsink: { write_mode: upsert, key: [id] }\n",
        &range,
        "need a `cursor`",
    );
    let answer = project.result(&["backfill", "queried", "--from", "0", "--to", "9"], 2);
    says(refusal(&answer), "need the host's own extractor");
    assert_eq!(copied(&project), 1);
}
