//! Limits: servers that do not answer, signals while something is waited for, the budget of connections, slow sinks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod kinds;

use std::time::Duration;

use databases::{BLOCKED, Database, configure, project, sink, source};
use etl_host::config::{PoolLimits, Secret, Server, Tls, TlsMode};
use etl_host::error::{Error, ErrorKind};
use etl_host::pool::{Condition, Pools, PostgresLease};
use etl_testkit::fault_proxy::{Direction, Fault, FaultProxy};
use etl_testkit::process::{Running, Signal};
use etl_testkit::project::Project;
use kinds::{RUN, loaded, misbehaving, says};
use tokio::time::{Instant, sleep_until};

const QUERY: &str = "SELECT id, name FROM people WHERE id > @from AND id <= @until ORDER BY id";
const AT_ONCE: &str = "cursor: { column: id, kind: integer, settle_delay: 0s }\n";

async fn people(rows: u32) -> Database {
    let from = Database::new().await;
    from.execute(&format!(
        "CREATE TABLE people (id integer PRIMARY KEY, name text);
         INSERT INTO people SELECT i, 'name ' || i FROM generate_series(1, {rows}) AS i"
    ))
    .await;
    from
}

/// A database that the host reaches by way of a proxy.
async fn behind_proxy() -> (Database, FaultProxy) {
    let mut to = Database::new().await;
    let proxy = FaultProxy::start(to.at.host.clone(), to.at.port).unwrap();
    to.at.port = proxy.port;
    (to, proxy)
}

fn server(at: &Database, password: &str, pool: PoolLimits) -> Server {
    Server {
        host: at.at.host.clone(),
        port: at.at.port,
        database: at.at.name.clone(),
        username: at.at.user.clone(),
        password: Secret::new(password.to_owned()),
        tls: Tls {
            mode: TlsMode::Disable,
            ..Tls::default()
        },
        pool,
    }
}

async fn connect(pools: &Pools, server: &Server) -> Result<(), Error> {
    pools.postgres(server).await.map(PostgresLease::give_back)
}

#[tokio::test]
async fn a_server_that_fails_again_and_again_is_left_alone_and_then_tried_once() {
    let (to, proxy) = behind_proxy().await;
    let server = server(
        &to,
        &to.at.password,
        PoolLimits {
            breaker_failures: 3,
            breaker_pause: Duration::from_millis(300),
            ..PoolLimits::default()
        },
    );
    let pools = Pools::new();
    proxy.order(Fault::Refuse.at_connect().times(4));
    for failures in 1..=3 {
        let error = connect(&pools, &server).await.unwrap_err();
        assert_eq!(error.earliest_retry().is_some(), failures == 3, "{error}");
    }
    for connections in [3, 4] {
        let error = connect(&pools, &server).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        says(&text, "connect to PostgreSQL at");
        says(&text, "is left alone since");
        assert_eq!(proxy.connections(), connections);
        let state = &pools.breakers()[0];
        assert_eq!(state.condition, Condition::Open);
        sleep_until(error.earliest_retry().unwrap()).await;
        // One tries, the others learn what became of it.
        let all = (0..8).map(|_| connect(&pools, &server));
        let all = futures_util::future::join_all(all).await;
        let let_in = all.iter().filter(|result| result.is_ok()).count();
        if connections == 3 {
            assert_eq!((let_in, proxy.connections()), (0, 4));
        } else {
            assert_eq!(let_in, 8);
            assert_eq!(pools.breakers()[0].condition, Condition::Closed);
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_not_tried_twice_and_harms_nobody_else() {
    let (to, proxy) = behind_proxy().await;
    let pools = Pools::new();
    let wrong = server(&to, "not the password", PoolLimits::default());
    for _ in 0..5 {
        let error = connect(&pools, &wrong).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::SqlState("28P01".to_owned()));
        assert!(error.is_environment());
    }
    assert_eq!(proxy.connections(), 1);
    let right = server(&to, &to.at.password, PoolLimits::default());
    connect(&pools, &right).await.unwrap();
}

#[tokio::test]
async fn an_attempt_that_meets_a_server_left_alone_waits_and_keeps_its_retries() {
    let from = people(100).await;
    let (to, proxy) = behind_proxy().await;
    let project = project();
    let names = ["a", "b", "c", "d", "e", "f"];
    let shards: Vec<_> = names.iter().map(|name| (*name, &from)).collect();
    configure(
        &project,
        &(source(&shards, QUERY, "")
            + &sink(&to, "pool: { breaker_failures: 2, breaker_pause: 2s }")
            + AT_ONCE
            + "error_handling: { max_retries: 1, retry_delay: 1ms }\n"),
    );
    proxy.order(Fault::Refuse.at_connect().lasting());
    let mut running = start(&project);
    running
        .wait_for_stderr(|line| {
            line.contains("has failed 2 times in a row and is left alone for 2 s")
        })
        .unwrap();
    proxy.clear();
    let finished = running.finish().unwrap().require_code(0).unwrap();
    let report = finished.json().unwrap();
    assert_eq!(loaded(&report), 600);
    // One of them may have come again before the server was left alone.
    let attempts = report["attempts"].as_u64().unwrap();
    assert!((12..=13).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn a_sink_that_says_nothing_any_more_is_given_up_wherever_it_is() {
    for (step, pattern, skip) in [
        ("claim the partition", &b"epoch = epoch + 1"[..], 0),
        ("open the tables", b"relkind", 0),
        ("load rows", b"COPY ", 0),
        ("commit", b"SET CONSTRAINTS", 0),
        // The first one ends the claim. Behind this one the rows are there, and the host cannot know.
        ("commit", b"COMMIT\0", 1),
    ] {
        let from = people(1).await;
        let (to, proxy) = behind_proxy().await;
        let project = project();
        configure(
            &project,
            &(source(&[("eu", &from)], QUERY, "")
                + &sink(&to, "timeouts: { step: 3s }")
                + AT_ONCE
                + "error_handling: { max_retries: 3, retry_delay: 1ms }\n"),
        );
        project.result(RUN, 0);
        from.execute("INSERT INTO people SELECT i, 'later' FROM generate_series(2, 5000) AS i")
            .await;
        let fault = Fault::HalfOpen.after(Direction::ToServer, pattern);
        let fired = proxy.order(fault.skip(skip));
        let finished = project.run(RUN).require_code(0).unwrap();
        assert_eq!(fired.count(), 1, "{step}");
        says(
            &finished.stderr,
            &format!("{step}: the sink did not answer within 3s"),
        );
        assert_eq!(finished.json().unwrap()["attempts"], 2, "{step}");
        let ids = "SELECT count(*) * 100000 + count(DISTINCT id) FROM copy";
        assert_eq!(to.number(ids).await, 5_000 * 100_000 + 5_000, "{step}");
    }
}

fn start(project: &Project) -> Running {
    let program = project.program(&["--output", "json", "run", "copy"]);
    program.start().unwrap()
}

/// Sends a signal, and makes sure that the run ends as one that was stopped.
fn stop(running: Running, signal: Signal, what: &str) {
    let asked = Instant::now();
    running.signal(signal).unwrap();
    let code = if signal == Signal::INT { 130 } else { 143 };
    let finished = running.finish().unwrap().require_code(code).unwrap();
    let report = finished.json().unwrap();
    assert_eq!(report["status"], "cancelled", "{what}");
    // None of the waits below would end in that time by itself.
    assert!(asked.elapsed() < Duration::from_secs(30), "{what}");
}

const SIGNALS: [Signal; 2] = [Signal::TERM, Signal::INT];

#[tokio::test]
async fn a_signal_ends_the_wait_for_a_retry_and_for_a_server_left_alone() {
    for signal in SIGNALS {
        for (pool, handling, line) in [
            (
                "",
                "retry_delay: 1h, max_retry_delay: 1h",
                "trying again in",
            ),
            (
                "breaker_failures: 1, breaker_pause: 1h, ",
                "retry_delay: 1ms",
                "trying again in 3600.0 s",
            ),
        ] {
            let from = people(1).await;
            let (to, proxy) = behind_proxy().await;
            proxy.order(Fault::Refuse.at_connect().lasting());
            let project = project();
            configure(
                &project,
                &(source(&[("eu", &from)], QUERY, "")
                    + &sink(&to, &format!("pool: {{ {pool}max_connections: 2 }}"))
                    + AT_ONCE
                    + &format!("error_handling: {{ {handling} }}\n")),
            );
            let mut running = start(&project);
            running.wait_for_stderr(|text| text.contains(line)).unwrap();
            stop(running, signal, line);
        }
    }
}

#[tokio::test]
async fn a_signal_ends_the_wait_for_a_lock_and_for_a_place() {
    for signal in SIGNALS {
        for (what, sql) in [
            (
                "claim",
                "UPDATE etl_host.checkpoints SET updated_at = now() WHERE partition = 'a'",
            ),
            ("table", "LOCK TABLE copy IN ACCESS EXCLUSIVE MODE"),
        ] {
            let (from, to) = (people(1).await, Database::new().await);
            let project = project();
            let shards = [("a", &from), ("b", &from)];
            // One place: the second partition waits for the first one.
            let pool = "pool: { max_connections: 2 }";
            let yaml = source(&shards, QUERY, "") + &sink(&to, pool) + AT_ONCE;
            configure(
                &project,
                &(yaml + "error_handling: { drain_timeout: 1s }\n"),
            );
            project.result(RUN, 0);
            from.execute("INSERT INTO people VALUES (2, 'later')").await;
            let holder = to.at.connect().await.unwrap();
            holder
                .batch_execute(&format!("BEGIN; {sql}"))
                .await
                .unwrap();
            // If `b` comes first, it ends before `a` gets its place; with the table it is blocked itself.
            let running = start(&project);
            to.wait_for(BLOCKED, 1).await;
            stop(running, signal, what);
            holder.batch_execute("ROLLBACK").await.unwrap();
            let rest = loaded(&project.result(RUN, 0));
            assert!((1..=2).contains(&rest), "{rest}");
            assert_eq!(to.number("SELECT count(*) FROM copy").await, 4, "{what}");
        }
    }
}

#[tokio::test]
async fn partitions_and_pipelines_together_hold_no_more_connections_than_they_may() {
    const MOST: i64 = 5;
    let both = people(400).await;
    both.execute(
        "CREATE TABLE seen (connections bigint);
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
             INSERT INTO seen SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name LIKE ''etl-host%'';
             PERFORM pg_sleep(0.02);
             RETURN NULL;
         END';
         CREATE TABLE copy (id integer, name text);
         CREATE TRIGGER look BEFORE INSERT ON copy EXECUTE FUNCTION look();",
    )
    .await;
    let project = project();
    let names = ["a", "b", "c", "d", "e", "f"];
    let shards: Vec<_> = names.iter().map(|name| (*name, &both)).collect();
    let pool = format!("pool: {{ max_connections: {MOST} }}");
    let yaml = source(&shards, QUERY, &pool)
        + &sink(&both, &pool)
        + AT_ONCE
        + "tuning: { batch_rows: 50, flush_bytes: 64KiB, flushes_per_commit: 1 }\n";
    for pipeline in ["copy", "upper"] {
        project.config(pipeline, &yaml);
    }
    let reports = project.results(&["run", "copy", "upper"], 0);
    assert_eq!(reports.iter().map(loaded).sum::<u64>(), 2 * 6 * 400);
    let most = both.number("SELECT max(connections) FROM seen").await;
    // One beside the pool keeps the leases; nobody uses it while a partition waits for its place.
    assert!((3..=MOST + 1).contains(&most), "{most}");
}

/// Peak memory of a run that moves 160 MB, in MiB. Each flush takes so long.
async fn peak_memory(pause: &str) -> u64 {
    let to = Database::new().await;
    to.execute(&format!(
        "CREATE TABLE copy (id bigint, name text, team bigint);
         CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_sleep({pause}); RETURN NULL; END';
         CREATE TRIGGER pause BEFORE INSERT ON copy EXECUTE FUNCTION pause();"
    ))
    .await;
    let project = misbehaving(4_000);
    let password = format!("TEST_PASSWORD='{}'\n", to.at.password);
    project.write(".env", password);
    project.config(
        "misbehaving",
        &("source: { shards: [{ name: eu, path: data/eu.db }, { name: us, path: data/us.db }] }\n"
            .to_owned()
            + &sink(&to, "")
            + "tuning: { batch_rows: 50, flush_bytes: 1MiB }\n"),
    );
    let report = project.result(&["run", "misbehaving"], 0);
    assert_eq!(loaded(&report), 8_000);
    report["peak_memory_bytes"].as_u64().unwrap() / 1024 / 1024
}

#[tokio::test]
async fn a_slow_sink_slows_the_source_and_does_not_fill_the_memory() {
    let fast = peak_memory("0").await;
    let slow = peak_memory("0.05").await;
    assert!(slow < 120, "{slow} MiB");
    assert!(
        slow < fast + 24,
        "{slow} MiB, {fast} MiB when nothing slows it"
    );
}
