//! A big table that is read as ranges, from `PostgreSQL` and `SQLite`: every row once, whatever its value is and whenever
//! it comes.
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
use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use kinds::{RUN, SINK, loaded, message, query, refusal, says};
use serde_json::Value;

const BY_ID: &str = "SELECT id, team, at FROM people WHERE id > @from AND id <= @until ORDER BY id";
const BY_TIME: &str =
    "SELECT id, team, at FROM people WHERE at > @from AND at <= @until ORDER BY at";
const AT: &str = "cursor: { column: at, kind: timestamp, settle_delay: 0s }\n";
const ROWS: &str = "SELECT concat_ws('|', id, coalesce(team, -9), at) FROM people ORDER BY id";
const COPIED: &str = "SELECT concat_ws('|', id, coalesce(team, -9), at) FROM copy ORDER BY id";
const BOUNDS: &str = "SELECT split_by || ' ' || bounds FROM etl_host.ranges";
/// Connections that wait for a lock, whatever they call themselves.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
const DONE: &str = "SELECT count(*) FROM etl_host.checkpoints WHERE cursor IS NOT NULL";

/// People of teams that are far apart: most in few, some in none.
fn people(rows: u32) -> String {
    format!(
        "CREATE TABLE people (id bigint PRIMARY KEY, team integer, at timestamptz NOT NULL);
         INSERT INTO people SELECT i, CASE WHEN i % 10 = 0 THEN NULL WHEN i % 10 < 7 THEN 1000 + i % 200 ELSE -i * 1000 END,
             now() - interval '1 day' - interval '1 second' * ({rows} - i)
         FROM generate_series(1, {rows}) AS i;"
    )
}

/// The pipeline over one shard that is split by the team.
struct Teams {
    from: Database,
    to: Database,
    project: Project,
}

impl Teams {
    async fn new(rows: u32) -> Self {
        let (from, to) = (Database::new().await, Database::new().await);
        from.execute(&people(rows)).await;
        let teams = Self {
            from,
            to,
            project: project(),
        };
        teams.split(4, BY_TIME, AT);
        teams
    }

    fn split(&self, splits: u32, query: &str, more: &str) {
        self.configure(query, &format!("split_by: team\n  splits: {splits}"), more);
    }

    fn configure(&self, query: &str, split: &str, more: &str) {
        let yaml = source(&[("eu", &self.from)], query, split) + &sink(&self.to, "") + more;
        configure(&self.project, &yaml);
    }

    async fn assert_alike(&self) {
        assert_eq!(self.to.texts(COPIED).await, self.from.texts(ROWS).await);
    }

    fn refused(&self) -> (String, String) {
        let report = self.project.result(RUN, 1);
        let next = &report["partitions"][0]["error"]["next_step"];
        (
            message(&report).to_owned(),
            next.as_str().unwrap().to_owned(),
        )
    }
}

fn names(report: &Value) -> Vec<&str> {
    let partitions = report["partitions"].as_array().unwrap();
    partitions
        .iter()
        .map(|partition| partition["name"].as_str().unwrap())
        .collect()
}

fn extracted(report: &Value) -> Vec<u64> {
    let partitions = report["partitions"].as_array().unwrap();
    partitions
        .iter()
        .map(|partition| partition["rows"]["extracted"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn every_row_is_loaded_once_whatever_it_is_split_by() {
    for (query, more) in [(BY_TIME, AT), (BY_ID, "")] {
        let teams = Teams::new(2_000).await;
        teams.split(4, query, more);
        let report = teams.project.result(RUN, 0);
        assert_eq!(names(&report), ["eu/1", "eu/2", "eu/3", "eu/4"]);
        let rows = extracted(&report);
        assert_eq!(rows.iter().sum::<u64>(), 2_000);
        assert!(
            rows.iter().all(|rows| (200..=1_000).contains(rows)),
            "{rows:?}"
        );
        teams.assert_alike().await;
        let bounds = teams.to.texts(BOUNDS).await;

        // Values outside of what was there, none at all, and a team that is at a bound.
        let at_a_bound = bounds[0].split([' ', ',']).nth(2).unwrap();
        teams
            .from
            .execute(&format!(
                "INSERT INTO people VALUES (2001, -2147483648, now()), (2002, 2147483647, now()), (2003, NULL, now()), \
                 (2004, {at_a_bound}, now()), (2005, {at_a_bound} - 1, now());"
            ))
            .await;
        assert_eq!(loaded(&teams.project.result(RUN, 0)), 5);
        assert_eq!(loaded(&teams.project.result(RUN, 0)), 0);
        teams.assert_alike().await;
        assert_eq!(teams.to.texts(BOUNDS).await, bounds);
        let verified = teams.project.result(&["verify", "copy"], 0);
        assert_eq!(verified["agrees"], true, "{verified}");
        teams.project.result(&["doctor", "copy"], 0);
    }
}

#[tokio::test]
async fn ranges_that_come_late_end_their_window_with_the_first() {
    for (query, more) in [(BY_TIME, AT), (BY_ID, "")] {
        let teams = Teams::new(400).await;
        // Source and sink are one database, whose table gets a row of every range with each row that is copied.
        teams
            .from
            .execute(
                "CREATE TABLE copy (id bigint, team integer, at timestamptz);
                 CREATE SEQUENCE ids START 1000;
                 CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF NEW.id < 1000 AND NEW.id % 100 = 1 THEN
                         INSERT INTO people SELECT nextval('ids'), team, clock_timestamp() FROM
                             (SELECT DISTINCT team FROM people WHERE id < 1000) AS teams;
                     END IF;
                     RETURN NEW; END $$;
                 CREATE TRIGGER more BEFORE INSERT ON copy FOR EACH ROW EXECUTE FUNCTION more();",
            )
            .await;
        // One place: the ranges come one after the other.
        let pool = "pool: { max_connections: 2 }";
        let split = format!("split_by: team\n  splits: 4\n  {pool}");
        let yaml = source(&[("eu", &teams.from)], query, &split) + &sink(&teams.from, pool) + more;
        configure(&teams.project, &yaml);
        let report = teams.project.result(RUN, 0);
        assert_eq!(loaded(&report), 400, "{report}");
        let added = "SELECT count(*) FROM people WHERE id >= 1000";
        let added = teams.from.number(added).await;
        assert!(added > 0);
        assert_eq!(loaded(&teams.project.result(RUN, 0)), added.unsigned_abs());
        assert_eq!(teams.from.texts(COPIED).await, teams.from.texts(ROWS).await);
    }
}

#[tokio::test]
async fn a_killed_run_goes_on_with_the_same_ranges() {
    let teams = Teams::new(2_000).await;
    teams
        .to
        .execute(
            "CREATE TABLE copy (id bigint, team integer, at timestamptz);
             CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.team IS NULL THEN PERFORM pg_advisory_xact_lock_shared(7); END IF; RETURN NEW; END $$;
             CREATE TRIGGER hold BEFORE INSERT ON copy FOR EACH ROW EXECUTE FUNCTION hold();
             SELECT pg_advisory_lock(7);",
        )
        .await;
    teams.split(4, BY_TIME, &format!("{AT}tuning: {{ lease: 2s }}\n"));
    let running = teams.project.program(RUN).start().unwrap();
    let there = "SELECT count(*) FROM pg_tables WHERE schemaname = 'etl_host' AND tablename = 'checkpoints'";
    teams.to.wait_for(there, 1).await;
    // All but the first, which has those without a team.
    teams.to.wait_for(DONE, 3).await;
    teams.to.wait_for(BLOCKED, 1).await;
    running.signal(Signal::KILL).unwrap();
    assert_eq!(running.finish().unwrap().code, None);
    let bounds = teams.to.texts(BOUNDS).await;
    teams.to.execute("SELECT pg_advisory_unlock(7)").await;
    // Other bounds would be chosen by now.
    teams
        .from
        .execute("INSERT INTO people SELECT 3000 + i, 5000 + i, now() FROM generate_series(1, 5000) AS i")
        .await;
    teams.project.result(RUN, 0);
    teams.assert_alike().await;
    assert_eq!(teams.to.texts(BOUNDS).await, bounds);
}

#[tokio::test]
async fn two_runs_that_choose_at_once_have_one_set_of_ranges() {
    let teams = Teams::new(1_000).await;
    let more = format!("{AT}tuning: {{ lease: 2s }}\n");
    teams.split(4, BY_TIME, &more);
    teams
        .to
        .execute(
            "CREATE SCHEMA etl_host; CREATE TABLE etl_host.ranges (pipeline text NOT NULL, shard text NOT NULL, \
                 split_by text NOT NULL, bounds text NOT NULL, chosen_at timestamptz NOT NULL DEFAULT now(), \
                 PRIMARY KEY (pipeline, shard));",
        )
        .await;
    // Whoever waits is counted by another connection: inside a transaction the count would stay as it is.
    let holder = teams.to.at.connect().await.unwrap();
    let hold = "BEGIN; LOCK TABLE etl_host.ranges IN SHARE MODE";
    holder.batch_execute(hold).await.unwrap();
    let start = || {
        let program = teams.project.program(&["--output", "json", "run", "copy"]);
        program.start().unwrap()
    };
    let one = start();
    teams.to.wait_for(WAITING, 1).await;
    teams
        .from
        .execute("INSERT INTO people SELECT 1000 + i, 5000 + i, now() FROM generate_series(1, 3000) AS i")
        .await;
    let other = start();
    teams.to.wait_for(WAITING, 2).await;
    holder.batch_execute("COMMIT").await.unwrap();
    for run in [one, other] {
        let report = run.finish().unwrap().json().unwrap();
        for partition in report["partitions"].as_array().unwrap() {
            if partition["status"] == "failed" {
                let message = partition["error"]["message"].as_str().unwrap();
                says(message, "works on partition");
            }
        }
    }
    teams.project.result(RUN, 0);
    teams.assert_alike().await;
    assert_eq!(teams.to.texts(BOUNDS).await.len(), 1);
}

#[tokio::test]
async fn other_ranges_are_refused_until_the_shard_is_started_over() {
    let teams = Teams::new(300).await;
    teams.project.result(RUN, 0);
    let bounds = teams.to.texts(BOUNDS).await;
    let newer = "INSERT INTO people VALUES (301, 5, now())";
    teams.from.execute(newer).await;

    teams.split(8, BY_TIME, AT);
    let (what, next) = teams.refused();
    says(
        &what,
        "was split into 4 ranges of `team`, but the configuration now asks for 8 ranges of `team`",
    );
    says(
        &next,
        "etl-host checkpoint reset copy --partition eu --allow-duplicates",
    );
    let found = teams.project.run(&["doctor", "copy"]);
    assert_ne!(found.code, Some(0));
    says(&found.stdout, "was split into 4 ranges");
    teams.project.result(
        &[RUN, &["--full-refresh", "--allow-duplicates"]].concat(),
        1,
    );
    teams.project.result(&[RUN, &["--dry-run"]].concat(), 1);
    teams.configure(BY_TIME, "split_by: id\n  splits: 4", AT);
    says(&teams.refused().0, "now asks for 4 ranges of `id`");
    teams.configure(BY_TIME, "", AT);
    says(
        &teams.refused().0,
        "but the configuration now reads it as a whole",
    );

    // Nothing has happened to them.
    assert_eq!(teams.to.texts(BOUNDS).await, bounds);
    teams.split(4, BY_TIME, AT);
    assert_eq!(loaded(&teams.project.result(RUN, 0)), 1);
    teams.assert_alike().await;

    teams.split(8, BY_TIME, AT);
    let reset = ["checkpoint", "reset", "copy", "--partition", "eu"];
    let answer = teams.project.result(&reset, 2);
    says(
        refusal(&answer),
        "in other ranges than those that are in copy already",
    );
    teams.to.execute("DELETE FROM copy").await;
    let shown = teams
        .project
        .result(&[&reset[..], &["--allow-duplicates"]].concat(), 0);
    assert!(
        shown["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .all(|partition| partition["cursor"].is_null()),
        "{shown}"
    );
    let report = teams.project.result(RUN, 0);
    assert_eq!((names(&report).len(), loaded(&report)), (8, 301));
    teams.assert_alike().await;
}

#[tokio::test]
async fn a_shard_that_was_read_as_a_whole_is_not_split_behind_its_back() {
    let teams = Teams::new(300).await;
    teams.configure(BY_TIME, "", AT);
    teams.project.result(RUN, 0);
    teams.split(4, BY_TIME, AT);
    let (what, next) = teams.refused();
    says(
        &what,
        "shard eu was read as a whole, but the configuration now asks for 4 ranges of `team`",
    );
    says(&next, "checkpoint reset copy --partition eu");
    assert_eq!(teams.to.number(DONE).await, 1);
    teams.to.execute("DELETE FROM copy").await;
    let reset = [
        "checkpoint",
        "reset",
        "copy",
        "--partition",
        "eu",
        "--allow-duplicates",
    ];
    teams.project.result(&reset, 0);
    assert_eq!(loaded(&teams.project.result(RUN, 0)), 300);
    teams.assert_alike().await;
}

/// Its ranges would be of different moments, and all that is not among them is swapped out.
#[tokio::test]
async fn a_replace_is_not_read_as_ranges() {
    let teams = Teams::new(30).await;
    let yaml = source(
        &[("eu", &teams.from)],
        BY_TIME,
        "split_by: team\n  splits: 4",
    ) + &sink(&teams.to, "write_mode: replace");
    configure(&teams.project, &yaml);
    let refused = teams.project.run(RUN).require_code(2).unwrap();
    let told = refused.stdout + &refused.stderr;
    assert!(
        told.contains("`write_mode: replace` does not go with `source.splits`"),
        "{told}"
    );
}

/// Without a cursor too, where only the fingerprint tells that there are rows.
#[tokio::test]
async fn what_was_loaded_as_a_whole_without_a_position_is_not_split_either() {
    let teams = Teams::new(30).await;
    let yaml = |split: &str| {
        source(
            &[("eu", &teams.from)],
            "SELECT id, team, at FROM people",
            split,
        ) + &sink(
            &teams.to,
            "write_mode: upsert, key: [id], key_scope: global",
        ) + "cursor: null\n"
    };
    configure(&teams.project, &yaml(""));
    assert_eq!(loaded(&teams.project.result(RUN, 0)), 30);
    configure(&teams.project, &yaml("split_by: team\n  splits: 4"));
    says(&teams.refused().0, "was read as a whole");
}

/// Bounds that are chosen anew would give rows to ranges that have another position.
#[tokio::test]
async fn bounds_that_are_gone_are_not_chosen_anew() {
    let teams = Teams::new(300).await;
    assert_eq!(loaded(&teams.project.result(RUN, 0)), 300);
    teams.to.execute("DELETE FROM etl_host.ranges").await;
    says(
        &teams.refused().0,
        "whose bounds are not in the sink any more",
    );
    teams.assert_alike().await;
}

#[tokio::test]
async fn an_upsert_by_ranges_follows_rows_that_change() {
    let teams = Teams::new(300).await;
    let upsert = "write_mode: upsert, key: [id], key_scope: global";
    let yaml = source(
        &[("eu", &teams.from)],
        BY_TIME,
        "split_by: team\n  splits: 4",
    ) + &sink(&teams.to, upsert)
        + AT;
    configure(&teams.project, &yaml);
    teams.project.result(RUN, 0);
    // To the other end, so to another range.
    let moved = "UPDATE people SET team = -team, at = now() WHERE id % 3 = 0";
    teams.from.execute(moved).await;
    teams.project.result(RUN, 0);
    teams.assert_alike().await;

    // Without the partition in the key, rows of two ranges could overwrite each other.
    let apart = upsert.replace("global", "partition");
    let yaml = source(
        &[("eu", &teams.from)],
        BY_TIME,
        "split_by: team\n  splits: 4",
    ) + &sink(&teams.to, &apart)
        + AT;
    configure(&teams.project, &yaml);
    let told = teams.project.run(RUN);
    assert_eq!(told.code, Some(2));
    says(&told.stdout, "4 ranges of shards may hold the same key");
}

#[tokio::test]
async fn what_cannot_be_split_is_refused_with_words() {
    let teams = Teams::new(10).await;
    let refuse = |query: &str, split: &str, code: i32| {
        teams.configure(query, split, AT);
        let finished = teams.project.run(RUN);
        assert_eq!(finished.code, Some(code), "{}", finished.stdout);
        finished.stdout
    };
    let by_team = "split_by: team\n  splits: 4";
    let text = BY_TIME.replace("team", "team::text AS team");
    says(
        &refuse(&text, by_team, 2),
        "only whole numbers of at most 64 bits",
    );
    says(
        &refuse(BY_TIME, "split_by: at\n  splits: 4", 2),
        "only whole numbers",
    );
    says(
        &refuse(BY_TIME, "split_by: teem\n  splits: 4", 2),
        "the query returns no column `teem`",
    );
    let locking = format!("{BY_TIME} FOR SHARE");
    says(
        &refuse(&locking, by_team, 2),
        "cannot be restricted to ranges of `team`: it ends in FOR",
    );
    says(
        &refuse(BY_TIME, "split_by: team", 2),
        "needs splits beside it",
    );
    says(
        &refuse(BY_TIME, "split_by: team\n  splits: 1", 2),
        "expected a number of ranges between 2 and 64",
    );
    assert_eq!(
        teams
            .to
            .number("SELECT count(*) FROM pg_tables WHERE tablename = 'ranges'")
            .await,
        0
    );
}

const SPLIT: &str = "split_by: team\n  splits: 3\n";
const NUMBERS: &str = "cursor: { column: id, kind: integer, settle_delay: 0s }\n\
                       error_handling: { max_retries: 0, max_bad_rows: 2 }\n";
const TABLE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team)";

/// The same in files.
fn in_files(more: &str) -> Project {
    let project = kinds::kinds(TABLE);
    let sql = "SELECT id, name, team, CASE WHEN team > 9000 THEN team * 2 END AS much FROM people WHERE id > @from AND id <= @until ORDER BY id";
    project.config("copy", &format!("{}  {SPLIT}{NUMBERS}{more}", query(sql)));
    project
}

fn fill(project: &Project, from: u32, to: u32) {
    project.execute(
        "data/people.db",
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to})
             INSERT INTO people (id, name, team) SELECT i, 'n', CASE i % 4 WHEN 0 THEN NULL ELSE i * i END FROM n;"
        ),
    );
}

#[test]
fn files_are_split_once_they_have_rows() {
    let project = in_files("");
    // There is nothing to choose bounds by, and nothing is lost by that.
    assert_eq!(loaded(&project.result(RUN, 0)), 0);
    let stored = "SELECT count(*) FROM etl_host_ranges";
    fill(&project, 1, 400);
    let tried = project.result(&[RUN, &["--dry-run"]].concat(), 0);
    assert_eq!(tried["rows"]["extracted"], 400);
    assert!(
        !project
            .query(SINK, "SELECT name FROM sqlite_schema")
            .contains("ranges")
    );
    let report = project.result(RUN, 0);
    assert_eq!(loaded(&report), 400);
    assert_eq!(project.number(SINK, stored), 1);
    assert!(extracted(&report).iter().all(|rows| *rows > 80), "{report}");
    // As text and as a fraction they have their place among the ranges too, though not in the sink. A value of an
    // expression has one type in all ranges, also where one has none.
    project.execute(
        "data/people.db",
        "INSERT INTO people (id, team) VALUES (401, 'x'), (402, 1.5), (403, -5), (404, 1000000000000)",
    );
    let report = project.result(RUN, 0);
    assert_eq!(
        (loaded(&report), &report["rows"]["quarantined"]),
        (2, &2.into())
    );
    let ids = "SELECT count(*), count(DISTINCT id), max(id) FROM copy";
    assert_eq!(project.query(SINK, ids).trim(), "402|402|404");
    project.result(&["doctor", "copy"], 0);
}

#[test]
fn a_column_of_text_in_a_file_is_refused() {
    let project = in_files("");
    project.execute(
        "data/people.db",
        "INSERT INTO people (id, team) VALUES (1, 'a'), (2, 3)",
    );
    let report = project.result(RUN, 2);
    says(message(&report), "only whole numbers of at most 64 bits");
}

#[test]
fn flags_and_commands_know_ranges() {
    let project = in_files("");
    fill(&project, 1, 90);
    // A shard's name stands for all its ranges.
    let report = project.result(&[RUN, &["--partition", "eu", "--until", "50"]].concat(), 0);
    assert_eq!(
        (names(&report), loaded(&report)),
        (vec!["eu/1", "eu/2", "eu/3"], 50)
    );
    let report = project.result(&[RUN, &["--partition", "eu/3", "--limit", "2"]].concat(), 0);
    assert_eq!((names(&report), loaded(&report)), (vec!["eu/3"], 1));
    assert_eq!(loaded(&project.result(RUN, 0)), 39);
    let shown = project.result(&["checkpoint", "show", "copy"], 0);
    assert_eq!(names(&shown), ["eu/1", "eu/2", "eu/3"]);
    let info = project.result(&["info", "copy"], 0);
    assert_eq!(info["partitions"][2], "eu/3");
    assert_eq!(info["config"]["source"]["splits"], 3);

    // Back by hand, for all ranges at once; what is read again doubles, as was asked for.
    let set = [
        "checkpoint",
        "set",
        "copy",
        "--partition",
        "eu",
        "--cursor",
        "80",
        "--allow-duplicates",
    ];
    project.result(&set, 0);
    assert_eq!(loaded(&project.result(RUN, 0)), 10);
    let verified = project.result(&["verify", "copy"], 1);
    assert_eq!(verified["agrees"], false);
    let unknown = project.result(&[RUN, &["--partition", "eu/4"]].concat(), 2);
    says(
        refusal(&unknown),
        "there is no partition `eu/4`; there are eu/1, eu/2, eu/3",
    );
}
