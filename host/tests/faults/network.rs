//! The network between the host and a server: cut, reset, silent, slow, lying, and an answer that never comes.

use std::time::Duration;

use etl_testkit::fault_proxy::{Direction, Fault, Order};
use etl_testkit::tally::Verdict;

use crate::case::{Case, Dice};
use crate::rig::{Mode, Options, Rig, SinkKind, SourceKind};

use Direction::{ToClient, ToServer};

/// Where the proxy sits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Sink,
    Source(SourceKind),
}

type Choose = fn(&mut Dice, Side) -> Order;

pub fn cases() -> Vec<Case> {
    let faults: [(&'static str, &'static str, bool, Mode, Choose); 7] = [
        (
            "sink: cut",
            "source: cut",
            false,
            Mode::Upsert,
            |dice, side| at(Fault::Cut, dice, side),
        ),
        (
            "sink: reset",
            "source: reset",
            false,
            Mode::Chunked,
            |dice, side| at(Fault::Reset, dice, side),
        ),
        (
            "sink: half-open",
            "source: half-open",
            false,
            Mode::Append,
            |dice, side| at(Fault::HalfOpen, dice, side),
        ),
        (
            "sink: delay",
            "source: delay",
            false,
            Mode::Replace,
            |dice, side| {
                at(
                    Fault::Delay(Duration::from_millis(200 + dice.below(800))),
                    dice,
                    side,
                )
            },
        ),
        (
            "sink: throttle",
            "source: throttle",
            false,
            Mode::Upsert,
            |dice, side| {
                let bytes_per_second = 300_000 + u32::try_from(dice.below(300_000)).unwrap();
                at(Fault::Throttle { bytes_per_second }, dice, side)
            },
        ),
        (
            "sink: flipped byte under TLS",
            "source: flipped byte under TLS",
            true,
            Mode::Chunked,
            |dice, side| at(Fault::Flip, dice, side),
        ),
        (
            "sink: connection refused",
            "source: connection refused",
            false,
            Mode::Append,
            |dice, _| Fault::Refuse.at_connect().times(1 + dice.below(3)),
        ),
    ];
    let mut cases = Vec::new();
    for (at_sink, at_source, tls, mode, choose) in faults {
        let mut add = |fault, side: Side, mode: Mode| {
            let circumstances = match side {
                Side::Sink => format!("{mode:?}"),
                Side::Source(kind) => format!("{kind:?}"),
            };
            cases.push(Case::new(fault, circumstances, move |dice| {
                broken_on_the_way(dice, side, mode, tls, choose)
            }));
        };
        add(at_sink, Side::Sink, mode);
        add(at_source, Side::Source(SourceKind::Postgres), Mode::Append);
        for kind in SourceKind::SQL_SERVERS {
            add(at_source, Side::Source(*kind), Mode::Append);
        }
    }
    for mode in Mode::ALL {
        cases.push(Case::new(
            "sink: answer of COMMIT lost",
            format!("{mode:?}"),
            move |dice| lost_answer(dice, mode),
        ));
    }
    cases
}

/// A byte that every connection of that side comes to, but for the shortest.
fn at(fault: Fault, dice: &mut Dice, side: Side) -> Order {
    // Most of what there is goes one way; the other way has answers or questions only.
    let (direction, bytes) = match (side, dice.below(4)) {
        (Side::Sink, 0) => (ToClient, 1_500),
        (Side::Sink, _) => (ToServer, 200_000),
        (Side::Source(_), 0) => (ToServer, 400),
        (Side::Source(_), _) => (ToClient, 200_000),
    };
    fault.at(direction, dice.below(bytes))
}

async fn broken_on_the_way(
    mut dice: Dice,
    side: Side,
    mode: Mode,
    tls: bool,
    choose: Choose,
) -> Verdict {
    let mode = if dice.long {
        dice.one_of(&Mode::ALL)
    } else {
        mode
    };
    let options = Options {
        source: match side {
            Side::Sink => SourceKind::Sqlite,
            Side::Source(kind) => kind,
        },
        sink: match side {
            Side::Source(_) if dice.long && dice.below(2) == 0 => SinkKind::Sqlite,
            _ => SinkKind::Postgres,
        },
        mode,
        tls,
        max_retries: 4,
        // What ends a wait for a server that is silent, where nothing shorter does.
        handling: ", attempt_timeout: 5s",
        ..Options::default()
    };
    let mut rig = Rig::new(&options).await;
    let order = choose(&mut dice, side);
    let what = format!("{order:?}");
    let proxies = match side {
        Side::Sink => vec![rig.sink()],
        Side::Source(_) => rig.source_proxies(),
    };
    let fired: Vec<_> = proxies
        .iter()
        .map(|proxy| proxy.order(order.clone()))
        .collect();
    let finished = rig.run().await;
    for proxy in rig.source_proxies().into_iter().chain(&rig.sink_proxy) {
        proxy.clear();
        proxy.release();
    }
    rig.settle().await;
    if !rig.verdict.findings.is_empty() {
        rig.verdict
            .findings
            .push(format!("{what}\n{}\n{}", finished.stdout, finished.stderr));
    }
    rig.done(
        fired
            .iter()
            .map(etl_testkit::fault_proxy::Fired::count)
            .sum(),
    )
}

/// The server has committed, and nobody tells the host: what was loaded must not come again.
async fn lost_answer(mut dice: Dice, mode: Mode) -> Verdict {
    let options = Options {
        mode,
        max_retries: 4,
        ..Options::default()
    };
    let mut rig = Rig::new(&options).await;
    let times = 1 + dice.below(2);
    let lost = Fault::LoseAnswer.after(ToServer, *b"COMMIT\0");
    let fired = rig.sink().order(lost.skip(dice.below(5)).times(times));
    rig.run().await;
    rig.sink().clear();
    rig.settle().await;
    rig.done(fired.count())
}
