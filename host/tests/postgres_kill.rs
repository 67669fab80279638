//! kill -9 at random moments of a run into `PostgreSQL`: whatever was committed, the next run completes it exactly.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod logins;

use etl_testkit::postgres::{PostgresOptions, PostgresServer, TestDatabase};
use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use logins::{assert_same, config, project, sink_rows, source_rows};

/// Kills for each write mode.
const KILLS: u32 = 20;
const ROWS: u32 = 6_000;
/// Small enough that a run has dozens of commits to be killed between and inside of.
const TUNING: &str = "tuning: { batch_rows: 64, flush_bytes: 65536, flushes_per_commit: 1 }";

/// The kill falls when so many writing transactions have begun in the database: a moment spread evenly over the run's
/// work that does not depend on the machine's speed. Says whether the run was still going on.
async fn kill_after(project: &Project, database: &TestDatabase, transactions: u32) -> bool {
    let client = database.connect().await.unwrap();
    let current = || async {
        let row = client
            .query_one(
                "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
                &[],
            )
            .await
            .unwrap();
        row.get::<_, i64>(0)
    };
    let start = current().await;
    let running = project
        .program(&["--output", "json", "run", "login-analytics"])
        .start()
        .unwrap();
    while current().await < start + i64::from(transactions) {
        if running.has_ended() {
            break;
        }
        tokio::task::yield_now().await;
    }
    // If the run was faster, it is killed after its end, which must be harmless too.
    running.signal(Signal::KILL).unwrap();
    running.finish().unwrap().signal == Some(Signal::KILL.as_raw())
}

async fn survive(sink: &str, rest: &str) {
    // A server of its own, so that nobody else's transactions move the moments.
    let server = PostgresServer::start(&PostgresOptions::default()).unwrap();
    let project = project(ROWS);
    let rest = format!("{TUNING}\n{rest}");
    let source = source_rows(&project);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut database = server.create_database().await.unwrap();
    config(&project, &database, sink, &rest);
    let mut killed = 0;
    for kill in 0..KILLS {
        // xorshift64, so that a failure can be repeated
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = u32::try_from(random % 60).unwrap();
        killed += u32::from(kill_after(&project, &database, moment).await);
        let report = project.result(&["run", "login-analytics"], 0);
        assert_eq!(
            report["status"], "succeeded",
            "kill {kill} after {moment} transactions"
        );
        assert_same(&sink_rows(&database).await, &source);
        // From the start again, for the next kill.
        database = server.create_database().await.unwrap();
        config(&project, &database, sink, &rest);
    }
    assert!(
        killed > KILLS / 2,
        "only {killed} of {KILLS} kills met a run under way"
    );
}

#[tokio::test]
async fn append_survives_kill_9() {
    survive("", "").await;
}

#[tokio::test]
async fn upsert_survives_kill_9() {
    survive(
        "write_mode: upsert\n  key: [source_shard, login_id]",
        logins::QUERY_WITH_ID,
    )
    .await;
}

#[tokio::test]
async fn replace_survives_kill_9() {
    survive("write_mode: replace", "").await;
}
