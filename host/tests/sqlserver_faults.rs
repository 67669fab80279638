//! SQL Server that fails in every way it can: each row arrives once all the same, and no run claims more than it did.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[macro_use]
mod shards;

use std::time::Duration;

use etl_testkit::postgres::{PostgresServer, TestDatabase};
use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use etl_testkit::stand_in::{Armed, Fault, Release, ServerError};
use serde_json::Value;
use shards::{
    Driver, LOGINS, Login, RUN, Shards, assert_same, expected, flagship, logins, sink_rows,
};

/// Long enough for a slow machine, short enough for a person.
const PATIENCE: Duration = Duration::from_mins(1);

/// One shard whose next read of the logins meets a fault.
struct Rig {
    shards: Shards,
    rows: Vec<Login>,
    project: Project,
    database: TestDatabase,
}

/// Small batches and commits on the way, so that a fault in the middle finds something committed.
const SMALL_STEPS: &str =
    "tuning: { batch_rows: 200, flush_bytes: 65536, flushes_per_commit: 1 }\n";

async fn rig(driver: Driver, rest: &str) -> Rig {
    let shards = Shards::stand_in(driver, 1);
    let rows = logins(3_600, 3_000);
    shards.execute(0, LOGINS).await;
    shards.insert(0, &rows).await;
    let database = PostgresServer::shared().create_database().await.unwrap();
    let project = flagship();
    let retries = "error_handling: { max_retries: 3, retry_delay: 10ms }\n";
    shards.flagship(
        &project,
        &database,
        &format!("{SMALL_STEPS}{retries}{rest}"),
    );
    Rig {
        shards,
        rows,
        project,
        database,
    }
}

impl Rig {
    fn arm(&self, fault: impl Into<Armed>) {
        // The description names the table too; the read alone asks for its row count.
        self.shards
            .server(0)
            .faults()
            .push(fault.into().on("etl_host_rows"));
    }

    async fn assert_exact(&self) {
        assert_same(
            &sink_rows(&self.database).await,
            &expected([("eu", &self.rows[..])]),
        );
    }
}

fn attempts(report: &Value) -> u64 {
    report["partitions"][0]["attempts"].as_u64().unwrap()
}

async fn what_may_pass_is_tried_again_and_every_row_comes_once(driver: Driver) {
    type Named = (&'static str, fn() -> Armed);
    let faults: [Named; 8] = [
        ("deadlock", || {
            Fault::ErrorAfterRows {
                rows: 1_500,
                error: ServerError::known(1205),
            }
            .into()
        }),
        ("deadlock before the first row", || {
            Fault::ErrorAfterRows {
                rows: 0,
                error: ServerError::known(1205),
            }
            .into()
        }),
        ("killed", || {
            Fault::ErrorAfterRows {
                rows: 2_999,
                error: ServerError::known(596),
            }
            .into()
        }),
        ("cut in the first packet", || {
            Fault::Cut { after_bytes: 20 }.into()
        }),
        ("cut in the middle", || {
            Fault::Cut {
                after_bytes: 100_001,
            }
            .into()
        }),
        ("reset", || {
            Fault::Reset {
                after_bytes: 60_000,
            }
            .into()
        }),
        ("no DONE in the middle", || {
            Fault::EndWithoutDone {
                after_rows: Some(1_000),
            }
            .into()
        }),
        ("no DONE at the end", || {
            Fault::EndWithoutDone {
                after_rows: Some(3_000),
            }
            .into()
        }),
    ];
    for (name, fault) in faults {
        let rig = rig(driver, "").await;
        rig.arm(fault());
        let report = rig.project.result(RUN, 0);
        assert_eq!(
            rig.shards.server(0).faults().armed(),
            0,
            "{name} was not met"
        );
        assert_eq!(
            (attempts(&report), report["status"].as_str()),
            (2, Some("succeeded")),
            "{name}: {report}"
        );
        assert_eq!(report["rows"]["loaded"], 3_000, "{name}");
        rig.assert_exact().await;
    }
}

async fn what_will_not_pass_is_not_tried_again(driver: Driver) {
    let rig = rig(driver, "").await;
    rig.arm(Fault::ErrorAfterRows {
        rows: 1_000,
        error: ServerError::known(8134),
    });
    let report = rig.project.result(RUN, 1);
    assert_eq!(
        (attempts(&report), report["status"].as_str()),
        (1, Some("failed")),
        "{report}"
    );
    let message = report["partitions"][0]["error"]["message"]
        .as_str()
        .unwrap();
    assert!(message.contains("SQL Server error 8134"), "{message}");
    // What was committed before stays, and the next run goes on behind it.
    rig.project.result(RUN, 0);
    rig.assert_exact().await;
}

async fn a_server_that_lies_for_ever_never_becomes_a_success(driver: Driver) {
    for (lie, expected) in [
        (
            Fault::EndWithoutDone {
                after_rows: Some(10),
            },
            4,
        ),
        // Rows were committed on the way, and one may be missing among them: no attempt would look there again.
        (Fault::WrongRowCount { more: -1 }, 1),
    ] {
        let rig = rig(driver, "").await;
        rig.arm(lie.lasting());
        let report = rig.project.result(RUN, 1);
        assert_eq!(
            (attempts(&report), report["status"].as_str()),
            (expected, Some("failed")),
            "{report}"
        );
        rig.shards.server(0).faults().clear();
        rig.project.result(RUN, 0);
        rig.assert_exact().await;
    }
}

async fn a_login_that_is_refused_for_now_is_tried_again(driver: Driver) {
    for fault in [
        Fault::LoginError(ServerError::known(40613)),
        Fault::DropAtLogin,
    ] {
        let rig = rig(driver, "").await;
        rig.shards.server(0).faults().push(fault);
        let report = rig.project.result(RUN, 0);
        assert_eq!(attempts(&report), 2, "{report}");
        rig.assert_exact().await;
    }
}

async fn a_server_that_falls_silent_is_given_up_and_tried_again(driver: Driver) {
    let rig = rig(driver, "").await;
    let path = rig.project.path("plugins/login-analytics.yaml");
    let yaml = std::fs::read_to_string(&path)
        .unwrap()
        .replace("idle_read: 20s", "idle_read: 2s");
    std::fs::write(&path, yaml).unwrap();
    let until = Release::default();
    rig.arm(Fault::Stall {
        after_bytes: 50_000,
        until: until.clone(),
    });
    let report = rig.project.result(RUN, 0);
    until.release();
    assert_eq!(attempts(&report), 2, "{report}");
    rig.assert_exact().await;
}

async fn a_statement_that_waits_too_long_is_cancelled_on_the_server(driver: Driver) {
    let rig = rig(driver, "").await;
    let path = rig.project.path("plugins/login-analytics.yaml");
    let yaml = std::fs::read_to_string(&path)
        .unwrap()
        .replace("statement: 20s", "statement: 5s");
    std::fs::write(&path, yaml).unwrap();
    let until = Release::default();
    rig.arm(Fault::Block {
        until: until.clone(),
    });
    let report = rig.project.result(RUN, 0);
    until.release();
    assert_eq!(
        (attempts(&report), rig.shards.server(0).attentions()),
        (2, 1),
        "{report}"
    );
    rig.assert_exact().await;
}

async fn a_run_that_is_stopped_tells_the_server_and_leaves_nothing_open(driver: Driver) {
    let rig = rig(driver, "").await;
    let until = Release::default();
    rig.arm(Fault::Block {
        until: until.clone(),
    });
    let running = rig
        .project
        .program(&["--output", "json", "run", "login-analytics"])
        .start()
        .unwrap();
    let server = rig.shards.server(0);
    server
        .wait_for_statement("etl_host_rows", PATIENCE)
        .unwrap();
    running.signal(Signal::INT).unwrap();
    server.wait_for_attentions(1, PATIENCE).unwrap();
    server.wait_for_connections(0, PATIENCE).unwrap();
    until.release();
    let finished = running.finish().unwrap().require_code(130).unwrap();
    assert_eq!(finished.json().unwrap()["status"], "cancelled");
    rig.project.result(RUN, 0);
    rig.assert_exact().await;
}

async fn a_server_that_does_not_describe_is_read_all_the_same(driver: Driver) {
    let rig = rig(driver, "").await;
    let missing = Fault::ErrorAfterRows {
        rows: 0,
        error: ServerError::known(2812),
    };
    rig.shards
        .server(0)
        .faults()
        .push(missing.on("sp_describe_first_result_set").lasting());
    assert_eq!(rig.project.result(RUN, 0)["rows"]["loaded"], 3_000);
    rig.assert_exact().await;
}

async fn connections_go_back_to_the_pool_and_end_with_the_run(driver: Driver) {
    let rig = rig(driver, "").await;
    rig.project.result(RUN, 0);
    let server = rig.shards.server(0);
    server.wait_for_connections(0, PATIENCE).unwrap();
    assert_eq!(server.accepted_connections(), 1);
    assert_eq!(server.attentions(), 0);
}

/// The driver gives the error of a statement only when the whole answer has ended, behind the count.
async fn an_error_before_the_first_row_is_no_empty_success(driver: Driver) {
    let rig = rig(driver, "").await;
    rig.shards
        .execute(
            0,
            "CREATE TABLE bad (id int NOT NULL PRIMARY KEY); INSERT INTO bad VALUES (1), (2)",
        )
        .await;
    let project = shards::copying();
    let sink = shards::postgres_sink(&project, &rig.database, "copy");
    let query = "  query: SELECT id, 10 / (id - 1) AS x FROM bad WHERE id > @from AND id <= @until ORDER BY id\n";
    project.config(
        "copy",
        &format!(
            "{}{query}{sink}cursor: {{ settle_delay: 0s }}\n",
            rig.shards.source(&project)
        ),
    );
    let report = project.result(&["run", "copy"], 1);
    let message = report["partitions"][0]["error"]["message"]
        .as_str()
        .unwrap();
    assert!(message.contains("SQL Server error 8134"), "{message}");
}

/// Every connection breaks in the middle of the rows, and for a while nobody listens.
async fn a_server_that_restarts_in_the_middle_of_the_rows_is_waited_for(driver: Driver) {
    let mut rig = rig(driver, "").await;
    let path = rig.project.path("plugins/login-analytics.yaml");
    let yaml = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, yaml.replace("retry_delay: 10ms", "retry_delay: 1s")).unwrap();
    let until = Release::default();
    rig.arm(Fault::Stall {
        after_bytes: 50_000,
        until: until.clone(),
    });
    let running = rig
        .project
        .program(&["--output", "json", "run", "login-analytics"])
        .start()
        .unwrap();
    until.wait_until_reached(PATIENCE).unwrap();
    let server = rig.shards.server_mut(0);
    server.stop().unwrap();
    until.release();
    server.start_again().unwrap();
    let report = running.finish().unwrap().require_code(0).unwrap();
    assert!(attempts(&report.json().unwrap()) > 1);
    rig.assert_exact().await;
}

each_driver!(
    what_may_pass_is_tried_again_and_every_row_comes_once,
    what_will_not_pass_is_not_tried_again,
    a_server_that_lies_for_ever_never_becomes_a_success,
    a_login_that_is_refused_for_now_is_tried_again,
    a_server_that_falls_silent_is_given_up_and_tried_again,
    a_statement_that_waits_too_long_is_cancelled_on_the_server,
    a_run_that_is_stopped_tells_the_server_and_leaves_nothing_open,
    a_server_that_does_not_describe_is_read_all_the_same,
    connections_go_back_to_the_pool_and_end_with_the_run,
    an_error_before_the_first_row_is_no_empty_success,
    a_server_that_restarts_in_the_middle_of_the_rows_is_waited_for,
);
