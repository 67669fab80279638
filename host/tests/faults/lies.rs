//! Sources that do not keep still, or do not tell the truth.

use std::fmt::Write as _;

use etl_testkit::fault_proxy::{Direction, Fault as NetworkFault};
use etl_testkit::project::Project;
use etl_testkit::stand_in::{Armed, Fault, StandInOptions, StandInServer, StandInTls};
use etl_testkit::tally::{Claim, Verdict, missing};

use crate::case::{Case, Dice};
use crate::rig::{Mode, Options, PATIENCE, Rig, SourceKind};

/// The read of the rows alone asks for their number; the description of the query does not.
const READ: &str = "etl_host_rows";

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("source: clock steps back", "SqlServer", clock_steps_back),
        Case::new(
            "source: late commits below newer rows",
            "SqlServer",
            late_commits,
        ),
        Case::new("source: ties at every boundary", "Sqlite", ties),
    ];
    for kind in SourceKind::SQL_SERVERS.iter().copied() {
        let driver = format!("{kind:?}");
        let end = move |dice| {
            lies(dice, kind, |dice| {
                let after_rows = Some(dice.below(1_500));
                Fault::EndWithoutDone { after_rows }.on(READ)
            })
        };
        cases.push(Case::new("source: end without DONE", driver.clone(), end));
        let count = move |dice| {
            lies(dice, kind, |dice| {
                let more = dice.one_of(&[-700, -1, 1, 5]);
                Fault::WrongRowCount { more }.on(READ)
            })
        };
        cases.push(Case::new(
            "source: another count than rows",
            driver.clone(),
            count,
        ));
        for mode in [Mode::Append, Mode::Upsert, Mode::Replace] {
            let circumstances = match kind {
                SourceKind::SqlServer => format!("{mode:?}"),
                _ => format!("{mode:?} {driver}"),
            };
            let fewer = move |dice| fewer_rows(dice, kind, mode);
            cases.push(Case::new(
                "source: fewer rows than counted",
                circumstances,
                fewer,
            ));
        }
    }
    let servers = SourceKind::SQL_SERVERS.iter().copied();
    for kind in servers.chain([SourceKind::Postgres]) {
        cases.push(Case::new(
            "source: rows inserted during the run",
            format!("{kind:?}"),
            move |dice| inserted_meanwhile(dice, kind),
        ));
    }
    cases
}

async fn lies(mut dice: Dice, source: SourceKind, lie: fn(&mut Dice) -> Armed) -> Verdict {
    let mode = dice.one_of(&Mode::ALL);
    let mut rig = Rig::new(&Options {
        source,
        mode,
        shards: 1,
        ..Options::default()
    })
    .await;
    let faults = 1 + dice.below(3);
    for _ in 0..faults {
        let lie = lie(&mut dice);
        rig.stand_in(0).faults().push(lie);
    }
    rig.run().await;
    let told = faults - rig.stand_in(0).faults().armed() as u64;
    rig.stand_in(0).faults().clear();
    rig.settle().await;
    rig.done(told)
}

/// A row that the server has counted does not arrive. When that comes out, rows behind it may be committed: the run has
/// to say so, `verify` finds it, and `backfill` mends it.
async fn fewer_rows(mut dice: Dice, source: SourceKind, mode: Mode) -> Verdict {
    let mut rig = Rig::new(&Options {
        source,
        mode,
        shards: 1,
        ..Options::default()
    })
    .await;
    let after_rows = if dice.long { dice.below(1_500) } else { 200 };
    rig.stand_in(0)
        .faults()
        .push(Fault::LoseRow { after_rows }.on(READ));
    let first = rig.run().await;
    let told = 1 - rig.stand_in(0).faults().armed() as u64;
    if first.success() {
        // Nothing was committed on the way, and all was read again.
        rig.settle().await;
        return rig.done(told);
    }
    assert!(first.stderr.contains("etl-host verify"), "{}", first.stderr);
    let rest = rig.program().run().unwrap().require_code(0).unwrap();
    drop(rest);
    let lost = missing(&rig.expected, &rig.found().await);
    let differs = rig.project.run(&["verify", "copy"]);
    assert_eq!(
        differs.code,
        Some(i32::from(lost > 0)),
        "{}",
        differs.stdout
    );
    let all = ["backfill", "copy", "--from", "0", "--to", "1500"];
    rig.project.run(&all).require_code(0).unwrap();
    rig.project
        .run(&["verify", "copy"])
        .require_code(0)
        .unwrap();
    rig.settle().await;
    rig.done(told)
}

/// Rows that come in behind the start of a run belong to the next one, whole.
async fn inserted_meanwhile(mut dice: Dice, kind: SourceKind) -> Verdict {
    let mut rig = Rig::new(&Options {
        source: kind,
        ..Options::default()
    })
    .await;
    let hold = NetworkFault::Hold.at(Direction::ToClient, 20_000 + dice.below(100_000));
    let fired: Vec<_> = rig
        .source_proxies()
        .iter()
        .map(|proxy| proxy.order(hold.clone()))
        .collect();
    let running = rig.start();
    for proxy in rig.source_proxies() {
        proxy.wait_until_fired(1, PATIENCE).unwrap();
    }
    let seen_by_the_run = rig.expected.clone();
    for id in 1_501..1_510 {
        rig.insert("eu", id).await;
        rig.insert("us", id).await;
    }
    for proxy in rig.source_proxies() {
        proxy.release();
    }
    let finished = running.finish().unwrap();
    let all = std::mem::replace(&mut rig.expected, seen_by_the_run);
    rig.judge(&finished, 0).await;
    rig.expected = all;
    rig.settle().await;
    rig.done(
        fired
            .iter()
            .map(etl_testkit::fault_proxy::Fired::count)
            .sum(),
    )
}

/// Several rows share a position: a commit that fails, or whose answer is lost, falls between groups and never inside
/// of one, whatever the size of the batches.
async fn ties(mut dice: Dice) -> Verdict {
    let mut verdict = Verdict::default();
    let batches: Vec<u32> = if dice.long {
        (0..4)
            .map(|_| 1 + u32::try_from(dice.below(20)).unwrap())
            .collect()
    } else {
        vec![1, 2, 3, 7]
    };
    for batch_rows in batches {
        let mut rig = Rig::new(&Options {
            mode: Mode::Chunked,
            rows: 900,
            shards: 1,
            batch_rows,
            cursor: "team",
            ..Options::default()
        })
        .await;
        let fault = dice.one_of(&[0, 1]);
        let commit = *b"COMMIT\0";
        let order = match fault {
            0 => NetworkFault::LoseAnswer.after(Direction::ToServer, commit),
            _ => NetworkFault::Reset.after(Direction::ToServer, commit),
        };
        let fired = rig.sink().order(order.skip(2 + dice.below(2)).times(2));
        rig.run().await;
        rig.sink().clear();
        rig.settle().await;
        verdict += rig.done(fired.count());
    }
    verdict
}

/// A table with times, on a server whose clock the test moves, into a file.
struct Clocked {
    server: StandInServer,
    project: Project,
    next: u32,
    verdict: Verdict,
    all: Vec<String>,
}

const SINK: &str = "data/warehouse.db";
const SETTLE_SECONDS: i64 = 60;

impl Clocked {
    fn new() -> Self {
        let server = StandInServer::start(StandInOptions {
            databases: vec!["events".to_owned()],
            tls: StandInTls::Off,
            ..StandInOptions::default()
        })
        .unwrap();
        let table = "CREATE TABLE events (id int NOT NULL PRIMARY KEY, at datetime2(3) NOT NULL)";
        server.execute("events", table).unwrap();
        let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
        project.plugin("fixture-kinds");
        project.config(
            "copy",
            &format!(
                "source:\n  type: sqlserver\n  shards:\n    - {{ name: eu, host: \"{}\", port: {}, database: events, \
                 tls: {{ mode: disable }}, credentials: {{ username: \"{}\", password: \"{}\" }} }}\n  \
                 query: SELECT id, at FROM events WHERE at > @from AND at <= @until ORDER BY at\n\
                 sink: {{ type: sqlite, path: {SINK}, table: copied }}\n\
                 cursor: {{ column: at, kind: timestamp, settle_delay: {SETTLE_SECONDS}s }}\n",
                server.host, server.port, server.user, server.password
            ),
        );
        Self {
            server,
            project,
            next: 0,
            verdict: Verdict::default(),
            all: Vec::new(),
        }
    }

    /// Rows that say they are so many seconds old, by the server's clock of now.
    fn insert(&mut self, rows: u32, seconds: i64) {
        let mut sql = String::new();
        for _ in 0..rows {
            self.next += 1;
            self.all.push(self.next.to_string());
            write!(
                sql,
                "INSERT INTO events VALUES ({}, DATEADD(second, {}, SYSUTCDATETIME()));",
                self.next, -seconds
            )
            .unwrap();
        }
        self.server.execute("events", &sql).unwrap();
    }

    /// A run, after which all these must be there, and no other.
    fn run(&mut self, settled: &[String]) {
        let before = self.found().len();
        let finished = self.project.run(&["run", "copy"]);
        let report = finished.json().unwrap();
        let found = self.found();
        self.verdict.runs += 1;
        let claim = Claim {
            exit_ok: finished.success(),
            says_succeeded: report["status"] == "succeeded",
            loaded: report["rows"]["loaded"].as_u64().unwrap(),
            must_know: true,
        };
        self.verdict.hold(
            claim,
            (found.len() - before) as u64,
            missing(settled, &found),
        );
        self.verdict.compare(settled, &found);
    }

    fn found(&self) -> Vec<String> {
        if !self.project.path(SINK).exists() {
            return Vec::new();
        }
        let rows = self.project.query(SINK, "SELECT id FROM copied");
        rows.lines().map(str::to_owned).collect()
    }

    fn done(mut self, injected: u64) -> Verdict {
        self.verdict.injected += injected;
        self.verdict
    }
}

/// Between two runs the clock is set back, by less than the delay that rows may take.
async fn clock_steps_back(mut dice: Dice) -> Verdict {
    let mut clocked = Clocked::new();
    // Just settled, so that the next window would end before its start.
    clocked.insert(50, SETTLE_SECONDS + 2);
    let settled = clocked.all.clone();
    clocked.insert(50, 3);
    clocked.run(&settled);
    let step = i64::try_from(5 + dice.below(50)).unwrap();
    clocked.server.shift_clock(-step);
    clocked.insert(50, 0);
    clocked.run(&settled);
    clocked.server.shift_clock(4 * SETTLE_SECONDS);
    let all = clocked.all.clone();
    clocked.run(&all);
    clocked.run(&all);
    clocked.done(1)
}

/// Rows that become visible after newer ones, but within the delay.
async fn late_commits(mut dice: Dice) -> Verdict {
    let mut clocked = Clocked::new();
    clocked.insert(50, SETTLE_SECONDS + 30);
    let settled = clocked.all.clone();
    clocked.insert(50, 1);
    clocked.run(&settled);
    let mut injected = 0;
    for _ in 0..2 {
        clocked.insert(20, i64::try_from(10 + dice.below(40)).unwrap());
        injected += 1;
        clocked.run(&settled);
    }
    clocked.server.shift_clock(2 * SETTLE_SECONDS);
    let all = clocked.all.clone();
    clocked.run(&all);
    clocked.run(&all);
    clocked.done(injected)
}
