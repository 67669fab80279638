//! What the host says on stderr when a fault does not end: pipeline, partition, attempt, cause and next step. And that
//! nothing is lost by it: once the fault is over, the next run completes the rows.
//!
//! `UPDATE_EXPECT=1` writes the expected texts anew.

use etl_testkit::fault_proxy::{Direction, Fault, Order};
use etl_testkit::postgres::{PostgresOptions, PostgresServer};
use etl_testkit::process::{Finished, Signal};
use etl_testkit::stand_in::{Armed, Fault as Lie};
use expect_test::expect_file;
use libtest_mimic::Trial;

use crate::rig::{Mode, Options, PATIENCE, Rig, SourceKind};
use crate::servers::{Trouble, deadlock};

use Direction::{ToClient, ToServer};

type Named = (&'static str, Side, fn() -> Order);
type Lying = (&'static str, fn() -> Armed);

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for trouble in Trouble::ALL {
        trials.push(trial(trouble.name(), move || server_in_trouble(trouble)));
    }
    let broken: [Named; 8] = [
        ("sink-refused", Side::Sink, || {
            Fault::Refuse.at_connect().lasting()
        }),
        ("sink-reset", Side::Sink, || {
            Fault::Reset.at(ToServer, 40_000).lasting()
        }),
        ("sink-half-open", Side::Sink, || {
            Fault::HalfOpen.at(ToServer, 40_000).lasting()
        }),
        ("sink-flipped-byte", Side::SinkWithTls, || {
            Fault::Flip.at(ToServer, 40_000).lasting()
        }),
        ("sink-commit-unanswered", Side::Sink, || {
            Fault::LoseAnswer.after(ToServer, *b"COMMIT\0").lasting()
        }),
        (
            "postgres-source-cut",
            Side::Source(SourceKind::Postgres),
            || Fault::Cut.at(ToClient, 40_000).lasting(),
        ),
        (
            "sqlserver-source-cut",
            Side::Source(SourceKind::SqlServer),
            || Fault::Cut.at(ToClient, 40_000).lasting(),
        ),
        (
            "sqlserver-source-silent",
            Side::Source(SourceKind::SqlServer),
            || Fault::HalfOpen.at(ToClient, 40_000).lasting(),
        ),
    ];
    for (name, side, order) in broken {
        trials.push(trial(name, move || broken_for_good(name, side, order())));
    }
    let lies: [Lying; 2] = [
        ("source-without-done", || {
            Lie::EndWithoutDone {
                after_rows: Some(700),
            }
            .lasting()
        }),
        ("source-miscounts", || {
            Lie::WrongRowCount { more: 1 }.lasting()
        }),
    ];
    for (name, lie) in lies {
        trials.push(trial(name, move || lying_for_good(name, lie())));
    }
    trials.push(trial("sink-stopped", server_stopped));
    trials.push(trial("deadlock", deadlock_victim));
    trials.push(trial("taken-over", taken_over));
    trials
}

fn trial<F: Future<Output = ()>>(name: &str, run: impl Fn() -> F + Send + 'static) -> Trial {
    Trial::test(format!("message::{name}"), move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(run());
        Ok(())
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Sink,
    SinkWithTls,
    Source(SourceKind),
}

fn options() -> Options<'static> {
    Options {
        shards: 1,
        max_retries: 1,
        ..Options::default()
    }
}

async fn server_in_trouble(trouble: Trouble) {
    let server = trouble.server();
    let mut rig = Rig::new(&Options {
        server: server.as_ref(),
        ..options()
    })
    .await;
    // What is locked must be there.
    rig.run().await;
    insert_more(&mut rig).await;
    let blocker = trouble.begin(&rig, server.as_ref()).await;
    let finished = rig.run().await;
    trouble.end(&rig, server.as_ref(), blocker).await;
    check(rig, trouble.name(), &finished).await;
}

async fn insert_more(rig: &mut Rig) {
    for id in 1_501..1_700 {
        rig.insert("eu", id).await;
    }
}

async fn broken_for_good(name: &str, side: Side, order: Order) {
    let mut rig = Rig::new(&Options {
        source: match side {
            Side::Source(kind) => kind,
            _ => SourceKind::Sqlite,
        },
        tls: side == Side::SinkWithTls,
        handling: if name == "sink-half-open" {
            ", attempt_timeout: 2s"
        } else {
            ""
        },
        ..options()
    })
    .await;
    if name == "sink-commit-unanswered" {
        // With the host's tables there, the first commit is that of the claim.
        rig.run().await;
        insert_more(&mut rig).await;
    }
    let proxies = match side {
        Side::Source(_) => rig.source_proxies(),
        _ => vec![rig.sink()],
    };
    let fired = proxies[0].order(order);
    let finished = rig.run().await;
    assert!(fired.count() > 0);
    for proxy in rig.source_proxies().into_iter().chain(&rig.sink_proxy) {
        proxy.clear();
        proxy.release();
    }
    check(rig, name, &finished).await;
}

async fn lying_for_good(name: &str, lie: Armed) {
    let mut rig = Rig::new(&Options {
        source: SourceKind::SqlServer,
        ..options()
    })
    .await;
    rig.stand_in(0).faults().push(lie.on("etl_host_rows"));
    let finished = rig.run().await;
    rig.stand_in(0).faults().clear();
    check(rig, name, &finished).await;
}

async fn server_stopped() {
    let mut server = PostgresServer::start(&PostgresOptions {
        // It must know its databases again.
        fsync: true,
        ..PostgresOptions::default()
    })
    .unwrap();
    let mut rig = Rig::new(&Options {
        server: Some(&server),
        ..options()
    })
    .await;
    server.stop_immediate().unwrap();
    let finished = rig.program().run().unwrap();
    server.start_again().unwrap();
    rig.judge(&finished, 0).await;
    check(rig, "sink-stopped", &finished).await;
}

async fn deadlock_victim() {
    let mut rig = Rig::new(&Options {
        mode: Mode::Upsert,
        max_retries: 0,
        ..options()
    })
    .await;
    let finished = deadlock(&mut rig).await;
    check(rig, "deadlock", &finished).await;
}

/// A host that was frozen wakes up when another one has done its work.
async fn taken_over() {
    let mut rig = Rig::new(&Options {
        mode: Mode::Chunked,
        lease: "1s",
        max_retries: 20,
        retry_delay: "200ms",
        ..options()
    })
    .await;
    rig.sink().order(Fault::Hold.at(ToServer, 60_000));
    let old = rig.start();
    rig.sink().wait_until_fired(1, PATIENCE).unwrap();
    old.signal(Signal::STOP).unwrap();
    let new = rig.run_among_others().await.require_code(0).unwrap();
    drop(new);
    old.signal(Signal::CONT).unwrap();
    rig.sink().release();
    let finished = old.finish().unwrap();
    rig.judge_among_others(&finished).await;
    check(rig, "taken-over", &finished).await;
}

/// The run has failed with this message, and the next one makes everything good.
async fn check(mut rig: Rig, name: &str, finished: &Finished) {
    assert_ne!(finished.code, Some(0), "{}", finished.stdout);
    let said = masked(&rig, &finished.stderr);
    expect_file![format!("../golden/fault-{name}.txt")].assert_eq(&said);
    for part in ["pipeline copy", "partition eu", "attempt", "next: "] {
        assert!(said.contains(part), "the message lacks `{part}`: {said}");
    }
    rig.settle().await;
    let verdict = rig.done(1);
    assert!(verdict.is_clean(), "{verdict:#?}");
}

/// The errors, with what differs from run to run replaced.
fn masked(rig: &Rig, stderr: &str) -> String {
    let mut text = String::new();
    for line in stderr.lines().filter(|line| line.contains("ERROR")) {
        // The time of the log.
        let (_, line) = line.split_once(' ').unwrap();
        text.push_str(line.trim_start());
        text.push('\n');
    }
    let mut numbers: Vec<String> = rig
        .source_proxies()
        .iter()
        .map(|proxy| format!(":{}", proxy.port))
        .collect();
    numbers.push(format!(":{}", rig.sink().port));
    for port in numbers {
        text = text.replace(&port, ":<port>");
    }
    let database = &rig.database.as_ref().unwrap().name;
    text = text.replace(database, "<database>");
    // In which of its two steps a connection is reset is a matter of luck.
    text = text.replace(
        "error connecting to server",
        "error communicating with the server",
    );
    // The numbers of files are the server's own.
    while let Some(start) = text.find("\"base/") {
        let end = start + 1 + text[start + 1..].find('"').unwrap();
        text.replace_range(start..=end, "<file>");
    }
    rig.project.redact(&text)
}
