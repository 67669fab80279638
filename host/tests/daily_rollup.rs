//! The example `daily-rollup` behind `login-analytics`: the demo's logins in one warehouse, the real program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod kinds;
mod logins;

use std::time::Duration;

use databases::Database;

use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use serde_json::Value;

const LOGINS: &[&str] = &["run", "login-analytics"];
const RUN: &[&str] = &["run", "daily-rollup"];
const SINK: &str = "data/warehouse.db";

fn project(rows: u32) -> Project {
    let project = logins::project(rows);
    project.plugin("daily-rollup");
    project
}

fn run(project: &Project) -> Value {
    project.result(RUN, 0)
}

fn days(project: &Project) -> String {
    project.query(
        SINK,
        "SELECT day, country, device, logins, users FROM login_days ORDER BY 1, 2, 3",
    )
}

/// The same by one statement, over the days that are over.
fn expected(project: &Project) -> String {
    project.query(
        SINK,
        "SELECT date(login_time), coalesce(country_code, 'unknown'), device, count(*), count(DISTINCT user_id)
         FROM login_analytics WHERE date(login_time) < date('now', '-6 hours') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    )
}

/// One more login in a shard, at a time that `SQLite` understands.
fn log_in(project: &Project, shard: u32, user: u32, time: &str) {
    project.execute(
        format!("data/shard-{shard}.db"),
        &format!(
            "INSERT INTO user_logins (user_id, login_time, ip_address, user_agent)
             VALUES ({user}, strftime('%Y-%m-%d %H:%M:%f', {time}), '8.8.8.8', 'curl/8.14')"
        ),
    );
}

#[test]
fn days_are_what_one_statement_would_count() {
    let project = project(4_000);
    project.result(LOGINS, 0);
    let report = run(&project);
    assert_eq!(report["rows"]["extracted"], 8_000);
    assert!(days(&project).lines().count() > 100);
    assert_eq!(days(&project), expected(&project));
    assert_eq!(run(&project)["rows"]["extracted"], 0);
}

#[test]
fn a_day_comes_when_it_is_over_and_stays_when_it_is_read_again() {
    let project = project(500);
    project.result(LOGINS, 0);
    run(&project);
    let before = days(&project);
    for (shard, user, time) in [
        (1, 1, "'now', '-3 days'"),
        (2, 1, "'now', '-3 days'"),
        (1, 2, "'now', '-3 days'"),
        (1, 3, "'now', '-10 seconds'"),
    ] {
        log_in(&project, shard, user, time);
    }
    project.result(LOGINS, 0);
    assert_eq!(run(&project)["rows"]["extracted"], 3, "today is not over");
    let after = days(&project);
    assert_eq!(after, expected(&project));
    let added = after.strip_prefix(&before).unwrap();
    assert!(added.ends_with("|US|bot|3|2\n"), "{added}");
    project.result(&["run", "daily-rollup", "--full-refresh"], 0);
    assert_eq!(days(&project), after);
}

#[test]
fn a_run_that_is_killed_leaves_whole_days_or_none() {
    let project = project(20_000);
    project.result(LOGINS, 0);
    let mut killed = project
        .program(&["-v", "run", "daily-rollup"])
        .start()
        .unwrap();
    killed
        .wait_for_stderr(|line| line.contains("run started"))
        .unwrap();
    killed.signal(Signal::KILL).unwrap();
    killed.finish().unwrap();
    run(&project);
    assert_eq!(days(&project), expected(&project));
}

#[test]
fn logins_that_come_after_their_day_was_read_need_a_backfill() {
    let project = project(1_000);
    // The second shard was away for long.
    project.result(&["run", "login-analytics", "--partition", "shard-1"], 0);
    run(&project);
    project.result(LOGINS, 0);
    assert_eq!(run(&project)["rows"]["extracted"], 0);
    assert_ne!(days(&project), expected(&project));
    project.result(
        &[
            "backfill",
            "daily-rollup",
            "--from",
            "2025-12-31",
            "--to",
            "2026-01-31",
        ],
        0,
    );
    assert_eq!(days(&project), expected(&project));
}

#[test]
fn a_daemon_runs_it_after_login_analytics() {
    let project = project(1_000);
    project.write("config/etl-host.yaml", "http: off\n");
    project.config("login-analytics", "schedule: { cron: '*/2 * * * * *' }\n");
    let mut daemon = project
        .program(&["--config-dir", "config", "serve"])
        .deadline(Duration::from_mins(5))
        .start()
        .unwrap();
    daemon
        .wait_for_stderr(|line| line.contains("is in use"))
        .unwrap();
    let ran = "SELECT count(*) FROM etl_host_due_runs WHERE pipeline = 'daily-rollup' AND status = 'succeeded'";
    let made = "SELECT count(*) FROM sqlite_master WHERE name = 'etl_host_due_runs'";
    while project.number(SINK, made) == 0 || project.number(SINK, ran) == 0 {
        std::thread::yield_now();
    }
    daemon.signal(Signal::TERM).unwrap();
    daemon.finish().unwrap().require_code(143).unwrap();
    // Its first run saw all that the run before it has loaded.
    assert_eq!(days(&project), expected(&project));
}

#[tokio::test]
async fn a_warehouse_in_postgres_is_counted_as_the_readme_says() {
    let (project, warehouse) = (project(1_000), Database::new().await);
    logins::config(&project, &warehouse.at, "", "");
    project.result(LOGINS, 0);
    let readme = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../plugins/daily-rollup/README.md"
    );
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, yaml) = readme.split_once("```yaml\n").unwrap();
    project.config("daily-rollup", yaml.split_once("```").unwrap().0);
    let at = &warehouse.at;
    let env = project.path(".env");
    let variables = format!(
        "POSTGRES_HOST='{}'\nPOSTGRES_PORT={}\nPOSTGRES_DB='{}'\nPOSTGRES_USER='{}'\nPOSTGRES_PASSWORD='{}'\n",
        at.host, at.port, at.name, at.user, at.password
    );
    let before = std::fs::read_to_string(&env).unwrap();
    std::fs::write(&env, before + &variables).unwrap();
    // Yesterday and today are in the warehouse too, and only yesterday may be over.
    warehouse
        .execute(
            "INSERT INTO login_analytics (user_id, login_time, location, device, source_shard)
             SELECT 1, now() AT TIME ZONE 'UTC' - days * interval '1 day', 'x', 'other', 'x' FROM generate_series(0, 2) days",
        )
        .await;
    run(&project);
    let days =
        "SELECT concat_ws('|', day, country, device, logins, users) FROM login_days ORDER BY 1";
    let expected = "SELECT concat_ws('|', login_time::date, coalesce(country_code, 'unknown'), device, count(*), count(DISTINCT user_id))
         FROM login_analytics WHERE login_time::date < (now() AT TIME ZONE 'UTC' - interval '6 hours')::date
         GROUP BY login_time::date, country_code, device ORDER BY 1";
    let days = warehouse.texts(days).await;
    assert!(days.len() > 100);
    assert_eq!(days, warehouse.texts(expected).await);
}
