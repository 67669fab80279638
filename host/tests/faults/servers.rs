//! `PostgreSQL` as a sink in trouble of its own: it restarts, refuses, waits for others, has no room.

use std::time::Duration;

use etl_testkit::fault_proxy::{Direction, Fault};
use etl_testkit::postgres::{PostgresOptions, PostgresServer};
use etl_testkit::process::{Finished, Running};
use etl_testkit::tally::Verdict;
use tokio_postgres::Client;

use crate::case::{Case, Dice};
use crate::rig::{Mode, Options, PATIENCE, Rig};

/// What befalls a server until it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    ReadOnly,
    TooManyConnections,
    StatementTimeout,
    LockTimeout,
    FullDisk,
}

impl Trouble {
    pub const ALL: [Self; 5] = [
        Self::ReadOnly,
        Self::TooManyConnections,
        Self::StatementTimeout,
        Self::LockTimeout,
        Self::FullDisk,
    ];

    fn fault(self) -> &'static str {
        match self {
            Self::ReadOnly => "sink: read-only (25006)",
            Self::TooManyConnections => "sink: too many connections (53300)",
            Self::StatementTimeout => "sink: statement timeout (57014)",
            Self::LockTimeout => "sink: lock timeout (55P03)",
            Self::FullDisk => "sink: full disk (53100)",
        }
    }

    /// A short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "sink-read-only",
            Self::TooManyConnections => "sink-too-many-connections",
            Self::StatementTimeout => "sink-statement-timeout",
            Self::LockTimeout => "sink-lock-timeout",
            Self::FullDisk => "sink-full-disk",
        }
    }

    /// The SQLSTATE that the server answers.
    pub fn state(self) -> &'static str {
        match self {
            Self::ReadOnly => "25006",
            Self::TooManyConnections => "53300",
            Self::StatementTimeout => "57014",
            Self::LockTimeout => "55P03",
            Self::FullDisk => "53100",
        }
    }

    /// A server of its own, where the shared one must not suffer.
    pub fn server(self) -> Option<PostgresServer> {
        let options = PostgresOptions {
            disk_may_fill: true,
            ..PostgresOptions::default()
        };
        (self == Self::FullDisk).then(|| PostgresServer::start(&options).unwrap())
    }

    /// It begins. The client holds what must be held meanwhile.
    pub async fn begin(self, rig: &Rig, server: Option<&PostgresServer>) -> Option<Client> {
        let database = rig.database.as_ref().unwrap();
        let alter = |what: &str| format!("ALTER DATABASE \"{}\" {what}", database.name);
        match self {
            Self::ReadOnly => {
                rig.execute(&alter("SET default_transaction_read_only = on"))
                    .await;
            }
            Self::TooManyConnections => rig.execute(&alter("CONNECTION LIMIT 0")).await,
            Self::StatementTimeout => rig.execute(&alter("SET statement_timeout = '1s'")).await,
            Self::LockTimeout => rig.execute(&alter("SET lock_timeout = '300ms'")).await,
            Self::FullDisk => server.unwrap().fill_disk().unwrap(),
        }
        if self != Self::FullDisk {
            // Settings hold for new sessions.
            terminate_all(rig).await;
        }
        if !matches!(self, Self::StatementTimeout | Self::LockTimeout) {
            return None;
        }
        let blocker = database.connect().await.unwrap();
        for sql in [
            "SET statement_timeout = 0",
            "SET lock_timeout = 0",
            "BEGIN",
            // Writers wait, readers do not.
            "LOCK TABLE copied IN SHARE ROW EXCLUSIVE MODE",
        ] {
            blocker.batch_execute(sql).await.unwrap();
        }
        Some(blocker)
    }

    /// It is over.
    pub async fn end(self, rig: &Rig, server: Option<&PostgresServer>, blocker: Option<Client>) {
        let alter = |what: &str| {
            format!(
                "ALTER DATABASE \"{}\" {what}",
                rig.database.as_ref().unwrap().name
            )
        };
        if let Some(blocker) = blocker {
            blocker.batch_execute("ROLLBACK").await.unwrap();
        }
        match self {
            // The administrator's own session is read-only, too.
            Self::ReadOnly => {
                let sql = alter("RESET default_transaction_read_only");
                let client = rig.database.as_ref().unwrap().connect().await.unwrap();
                client
                    .batch_execute("SET default_transaction_read_only = off")
                    .await
                    .unwrap();
                client.batch_execute(&sql).await.unwrap();
            }
            Self::TooManyConnections => rig.execute(&alter("CONNECTION LIMIT -1")).await,
            Self::StatementTimeout => rig.execute(&alter("RESET statement_timeout")).await,
            Self::LockTimeout => rig.execute(&alter("RESET lock_timeout")).await,
            Self::FullDisk => server.unwrap().free_disk().unwrap(),
        }
    }
}

/// Ends the sessions of all hosts in the rig's database, and says how many there were.
async fn terminate_all(rig: &Rig) -> u64 {
    let client = rig.database.as_ref().unwrap().connect().await.unwrap();
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name LIKE 'etl-host%'";
    let ended: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    ended.unsigned_abs()
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let modes = [
        Mode::Chunked,
        Mode::Append,
        Mode::Upsert,
        Mode::Chunked,
        Mode::Upsert,
    ];
    for (trouble, mode) in Trouble::ALL.into_iter().zip(modes) {
        let run = move |dice| until_it_is_over(dice, trouble, mode);
        cases.push(Case::new(trouble.fault(), format!("{mode:?}"), run));
    }
    cases.push(Case::new(
        "sink: backend killed (57P01)",
        "in mid-COPY",
        killed,
    ));
    cases.push(Case::new(
        "sink: restart of the server",
        "in mid-COPY",
        restarted,
    ));
    cases.push(Case::new("sink: deadlock (40P01)", "Upsert", deadlocked));
    cases
}

/// Starts a run and stops it in the middle of its rows, until the proxy before the sink is told to release it.
fn start_held(rig: &Rig, dice: &mut Dice) -> Running {
    let byte = 30_000 + dice.below(60_000);
    rig.sink().order(Fault::Hold.at(Direction::ToServer, byte));
    let running = rig.start();
    rig.sink().wait_until_fired(1, PATIENCE).unwrap();
    running
}

/// In the middle of a run the trouble begins, and it ends once the host has met it.
async fn until_it_is_over(mut dice: Dice, trouble: Trouble, mode: Mode) -> Verdict {
    let server = trouble.server();
    let mode = match trouble {
        // The rows of a `replace` go elsewhere until the end.
        Trouble::StatementTimeout | Trouble::LockTimeout => mode,
        _ if dice.long => dice.one_of(&Mode::ALL),
        _ => mode,
    };
    let options = Options {
        mode,
        server: server.as_ref(),
        max_retries: 60,
        retry_delay: "200ms",
        ..Options::default()
    };
    let mut rig = Rig::new(&options).await;
    let mut running = start_held(&rig, &mut dice);
    let blocker = trouble.begin(&rig, server.as_ref()).await;
    rig.sink().release();
    let met = running.wait_for_stderr(|line| line.contains(trouble.state()));
    trouble.end(&rig, server.as_ref(), blocker).await;
    met.unwrap();
    let finished = running.finish().unwrap();
    rig.judge(&finished, 0).await;
    rig.settle().await;
    rig.done(1)
}

async fn killed(mut dice: Dice) -> Verdict {
    let mode = dice.one_of(&Mode::ALL);
    let mut rig = Rig::new(&Options {
        mode,
        ..Options::default()
    })
    .await;
    let running = start_held(&rig, &mut dice);
    let ended = terminate_all(&rig).await;
    rig.sink().release();
    let finished = running.finish().unwrap();
    rig.judge(&finished, 0).await;
    rig.settle().await;
    rig.done(ended)
}

/// Every connection breaks, nothing of an open transaction is left, and for a while nobody listens.
async fn restarted(mut dice: Dice) -> Verdict {
    let mut server = PostgresServer::start(&PostgresOptions {
        // One that keeps what it has committed: the other tests' servers trade that for speed.
        fsync: true,
        ..PostgresOptions::default()
    })
    .unwrap();
    let mut verdict = Verdict::default();
    for _ in 0..if dice.long { 3 } else { 1 } {
        let options = Options {
            mode: dice.one_of(&Mode::ALL),
            server: Some(&server),
            max_retries: 60,
            retry_delay: "500ms",
            ..Options::default()
        };
        let mut rig = Rig::new(&options).await;
        let running = start_held(&rig, &mut dice);
        server.stop_immediate().unwrap();
        rig.sink().release();
        server.start_again().unwrap();
        let finished = running.finish().unwrap();
        rig.judge(&finished, 0).await;
        rig.settle().await;
        verdict += rig.done(1);
    }
    verdict
}

async fn deadlocked(_: Dice) -> Verdict {
    let options = Options {
        mode: Mode::Upsert,
        shards: 1,
        max_retries: 5,
        ..Options::default()
    };
    let mut rig = Rig::new(&options).await;
    deadlock(&mut rig).await;
    rig.settle().await;
    rig.done(1)
}

/// A run that meets somebody who holds a row that it will want, and who wants a row that it holds. The server ends the
/// run's part, because the other one is more patient.
pub async fn deadlock(rig: &mut Rig) -> Finished {
    let database = rig.database.as_ref().unwrap();
    let name = &database.name;
    rig.execute(&format!(
        "ALTER DATABASE \"{name}\" SET deadlock_timeout = '50ms'"
    ))
    .await;
    // The first flush is merged, the second on its way, and nothing committed yet.
    rig.sink()
        .order(Fault::Hold.after(Direction::ToServer, *b"COPY ").skip(1));
    let mut running = rig.start();
    rig.sink().wait_until_fired(1, PATIENCE).unwrap();
    let other = database.connect().await.unwrap();
    let watcher = database.connect().await.unwrap();
    for sql in [
        "SET deadlock_timeout = '1h'",
        "BEGIN",
        // A row that the run will come to, and one that it has.
        "INSERT INTO copied (id, part) VALUES (750, 'eu')",
    ] {
        other.batch_execute(sql).await.unwrap();
    }
    let (wait, release) = (
        other.batch_execute("INSERT INTO copied (id, part) VALUES (5, 'eu')"),
        async {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                           AND wait_event_type = 'Lock' AND application_name NOT LIKE 'etl-host%'";
            while watcher
                .query_one(waiting, &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
                == 0
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            rig.sink().release();
        },
    );
    let (waited, ()) = tokio::join!(wait, release);
    // It had the row as soon as the run had lost.
    waited.unwrap();
    let met = running.wait_for_stderr(|line| line.contains("40P01"));
    other.batch_execute("ROLLBACK").await.unwrap();
    met.unwrap();
    let finished = running.finish().unwrap();
    rig.judge(&finished, 0).await;
    finished
}
