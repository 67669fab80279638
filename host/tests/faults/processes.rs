//! The host's own process is killed, stopped, frozen, or not alone.

use std::time::Duration;

use etl_testkit::fault_proxy::{Direction, Fault, FaultProxy};
use etl_testkit::process::{Running, Signal};
use etl_testkit::tally::Verdict;

use crate::case::{Case, Dice};
use crate::rig::{Mode, Options, PATIENCE, Rig, SinkKind, SourceKind};

const SINKS: [SinkKind; 2] = [SinkKind::Postgres, SinkKind::Sqlite];
/// Less than a whole run sends.
const BYTES_OF_A_RUN: u64 = 650_000;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for mode in Mode::ALL {
        for sink in SINKS {
            let circumstances = format!("{mode:?} into {sink:?}");
            cases.push(Case::new("host: kill -9", circumstances, move |dice| {
                killed(dice, mode, sink)
            }));
        }
    }
    for (mode, sink) in [
        (Mode::Chunked, SinkKind::Postgres),
        (Mode::Upsert, SinkKind::Sqlite),
        (Mode::Replace, SinkKind::Postgres),
    ] {
        let circumstances = format!("{mode:?} into {sink:?}");
        cases.push(Case::new(
            "host: drained by SIGTERM",
            circumstances,
            move |dice| drained(dice, mode, sink),
        ));
    }
    for (mode, sink) in [
        (Mode::Chunked, SinkKind::Postgres),
        (Mode::Replace, SinkKind::Postgres),
        (Mode::Append, SinkKind::Sqlite),
    ] {
        let circumstances = format!("{mode:?} into {sink:?}");
        cases.push(Case::new(
            "host: frozen while another takes over",
            circumstances,
            move |dice| frozen(dice, mode, sink),
        ));
    }
    cases.push(Case::new(
        "host: frozen while another takes over",
        "in a transaction",
        frozen_in_a_transaction,
    ));
    for sink in SINKS {
        cases.push(Case::new(
            "host: two at once",
            format!("into {sink:?}"),
            move |dice| two_at_once(dice, sink),
        ));
    }
    cases
}

fn options(mode: Mode, sink: SinkKind) -> Options<'static> {
    Options {
        // Moments are told by the bytes that pass a proxy, so there must be one.
        source: match sink {
            SinkKind::Postgres => SourceKind::Sqlite,
            SinkKind::Sqlite => SourceKind::Postgres,
        },
        sink,
        mode,
        ..Options::default()
    }
}

fn proxies(rig: &Rig) -> (Vec<&FaultProxy>, Direction) {
    match &rig.sink_proxy {
        Some(proxy) => (vec![proxy], Direction::ToServer),
        None => (rig.source_proxies(), Direction::ToClient),
    }
}

fn passed(rig: &Rig) -> u64 {
    let (proxies, direction) = proxies(rig);
    proxies.iter().map(|proxy| proxy.forwarded(direction)).sum()
}

/// Waits until so many bytes more have passed, or the host has ended.
fn wait_for_moment(rig: &Rig, running: &Running, start: u64, bytes: u64) {
    let (proxies, direction) = proxies(rig);
    while passed(rig) < start + bytes && !running.has_ended() {
        // One of them moves, or the host ends, which no proxy tells.
        let next = proxies[0].forwarded(direction) + 1;
        proxies[0].wait_for_bytes(direction, next, Duration::from_millis(2));
    }
}

/// Starts a run that comes no further than one of its statements, which the server still executes.
fn start_until_statement(dice: &mut Dice, rig: &Rig, proxy: &FaultProxy) -> Running {
    let words = ["COMMIT", "SET ", "UPDATE ", "INSERT ", "COPY ", "BEGIN"];
    let hold = Fault::Hold.after(Direction::ToServer, dice.one_of(&words));
    let fired = proxy.order(hold.skip(dice.below(8)));
    let running = rig.start();
    // It may have fewer of these statements to say.
    while fired.count() == 0 && !running.has_ended() {
        running.wait_for_end(Duration::from_millis(2));
    }
    running
}

/// A run is killed, again and again, each time somewhere else; then one is let through.
async fn killed(mut dice: Dice, mode: Mode, sink: SinkKind) -> Verdict {
    let mut rig = Rig::new(&Options {
        bad_rows: sink == SinkKind::Postgres && mode != Mode::Replace,
        ..options(mode, sink)
    })
    .await;
    let mut kills = 0;
    for _ in 0..if dice.long { 5 } else { 3 } {
        let there = rig.found().await.len() as u64;
        let left = match mode {
            Mode::Replace => BYTES_OF_A_RUN,
            _ => {
                BYTES_OF_A_RUN * (rig.expected.len() as u64).saturating_sub(there)
                    / rig.expected.len() as u64
            }
        };
        let running = match &rig.sink_proxy {
            Some(proxy) if dice.below(2) == 0 => start_until_statement(&mut dice, &rig, proxy),
            _ => {
                let start = passed(&rig);
                let running = rig.start();
                wait_for_moment(&rig, &running, start, dice.below(left + 5_000));
                // Not always just behind a message.
                std::thread::sleep(Duration::from_micros(dice.below(3_000)));
                running
            }
        };
        running.signal(Signal::KILL).unwrap();
        if let Some(proxy) = &rig.sink_proxy {
            proxy.clear();
            proxy.release();
        }
        let finished = running.finish().unwrap();
        kills += u64::from(finished.signal == Some(Signal::KILL.as_raw()));
        rig.judge(&finished, there).await;
        rig.assert_no_surplus().await;
    }
    rig.settle().await;
    rig.done(kills)
}

/// What is in flight is committed or rolled back, and the report says which.
async fn drained(mut dice: Dice, mode: Mode, sink: SinkKind) -> Verdict {
    let mut rig = Rig::new(&options(mode, sink)).await;
    let mut drained = 0;
    for _ in 0..if dice.long { 3 } else { 1 } {
        let there = rig.found().await.len() as u64;
        let start = passed(&rig);
        let running = rig.start();
        wait_for_moment(
            &rig,
            &running,
            start,
            5_000 + dice.below(BYTES_OF_A_RUN / 3),
        );
        running.signal(Signal::TERM).unwrap();
        let finished = running.finish().unwrap();
        // Before it listens for signals, or after its last row, a run has nothing to drain.
        drained += u64::from(finished.code == Some(143));
        rig.judge(&finished, there).await;
        rig.assert_no_surplus().await;
    }
    rig.settle().await;
    rig.done(drained)
}

/// A host that stands still loses its lease. When it wakes up, it has nothing to say any more.
async fn frozen(mut dice: Dice, mode: Mode, sink: SinkKind) -> Verdict {
    let mut rig = Rig::new(&Options {
        lease: "1s",
        max_retries: 20,
        retry_delay: "200ms",
        ..options(mode, sink)
    })
    .await;
    let start = passed(&rig);
    let old = rig.start();
    wait_for_moment(&rig, &old, start, 30_000 + dice.below(BYTES_OF_A_RUN / 3));
    old.signal(Signal::STOP).unwrap();
    let other = rig.start();
    if sink == SinkKind::Sqlite {
        // A frozen process keeps the lock on the file, if it has it, and then nobody can take over.
        other.wait_for_end(Duration::from_secs(4));
        old.signal(Signal::CONT).unwrap();
    }
    let finished = other.finish().unwrap();
    rig.judge_among_others(&finished).await;
    let mut taken_over = finished.success();
    while !taken_over && sink == SinkKind::Postgres {
        // Whoever is told that the partition is taken comes again.
        let finished = rig.run_among_others().await;
        taken_over = finished.success();
        assert!(
            rig.verdict.runs < 5,
            "nobody can take over:\n{}",
            finished.stderr
        );
    }
    old.signal(Signal::CONT).unwrap();
    let finished = old.finish().unwrap();
    rig.judge_among_others(&finished).await;
    rig.settle().await;
    // One that woke up after all was loaded has lost, unless it could have gone on all the time.
    rig.done(u64::from(sink == SinkKind::Sqlite || !finished.success()))
}

/// As before, with the old host's changes of the checkpoint done and not committed: only who ends its session gets on.
async fn frozen_in_a_transaction(mut dice: Dice) -> Verdict {
    let mut rig = Rig::new(&Options {
        shards: 1,
        lease: "1s",
        max_retries: 20,
        retry_delay: "200ms",
        ..options(Mode::Chunked, SinkKind::Postgres)
    })
    .await;
    rig.run().await;
    // So that a change of the row is an entry in each of its indexes, as it is once the row's page is full.
    rig.execute("CREATE INDEX ON etl_host.checkpoints (updated_at, epoch)")
        .await;
    for id in 1_501..1_700 {
        rig.insert("eu", id).await;
    }
    // The claim is a change like that, too.
    let skip = if dice.long { dice.below(2) } else { 1 };
    let changed = Fault::HalfOpen.after(Direction::ToClient, *b"UPDATE 1\0");
    rig.sink().order(changed.skip(skip));
    let old = rig.start();
    rig.sink().wait_until_fired(1, PATIENCE).unwrap();
    old.signal(Signal::STOP).unwrap();
    let finished = rig.run_among_others().await;
    assert!(finished.success(), "{}", finished.stderr);
    old.signal(Signal::CONT).unwrap();
    rig.sink().release();
    let finished = old.finish().unwrap();
    rig.judge_among_others(&finished).await;
    rig.settle().await;
    rig.done(u64::from(!finished.success()))
}

async fn two_at_once(mut dice: Dice, sink: SinkKind) -> Verdict {
    let mode = dice.one_of(&Mode::ALL);
    let mut rig = Rig::new(&Options {
        max_retries: 30,
        retry_delay: "200ms",
        ..options(mode, sink)
    })
    .await;
    let start = passed(&rig);
    let one = rig.start();
    wait_for_moment(&rig, &one, start, dice.below(BYTES_OF_A_RUN / 4));
    let other = rig.start();
    for running in [one, other] {
        let finished = running.finish().unwrap();
        rig.judge_among_others(&finished).await;
    }
    rig.settle().await;
    rig.done(1)
}
