//! A month of ten pipelines in seconds, by a clock of the test's own: the daemon is killed and started again at random,
//! and every instant of every schedule is accounted for, once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use etl_host::config::{self, CatchUp, Dependency, Layer, Overlap};
use etl_host::daemon::clock::Clock;
use etl_host::daemon::metrics::Metrics;
use etl_host::daemon::notify::Notifier;
use etl_host::daemon::pipeline::PipelineTask;
use etl_host::daemon::shared::{Ended, Executor, Pace, Shared, Spec};
use etl_host::daemon::{ActiveRun, ActiveRuns, Agenda, Standings};
use etl_host::error::Result;
use etl_host::holder::Holder;
use etl_host::plan::RunOptions;
use etl_host::pool::Pools;
use etl_host::runtime::report::Status;
use etl_host::schedule::Schedule;
use etl_host::sink::build_due_runs;
use etl_host::sink::due::{Claimed, DueClaim, DueNote, DueRecord, DueRuns, DueStatus};
use etl_host::state::Trigger;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

const START: &str = "2026-03-05T00:00:00Z";
const MONTH: Duration = Duration::from_hours(24 * 31);
/// After it nothing is due any more, and what is on its way may end.
const REST: Duration = Duration::from_hours(12);

struct Pipeline {
    name: &'static str,
    cron: &'static str,
    zone: &'static str,
    catch_up: CatchUp,
    overlap: Overlap,
    depends_on: Option<&'static str>,
    /// Minutes that a run takes, at least and at most.
    minutes: (u64, u64),
}

const fn pipeline(
    name: &'static str,
    cron: &'static str,
    zone: &'static str,
    catch_up: CatchUp,
    overlap: Overlap,
) -> Pipeline {
    Pipeline {
        name,
        cron,
        zone,
        catch_up,
        overlap,
        depends_on: None,
        minutes: (1, 20),
    }
}

/// March 2026: the clocks change in New York on the 8th, in Berlin on the 29th, and on Lord Howe in April.
const PIPELINES: [Pipeline; 10] = [
    pipeline("nightly", "0 0 * * *", "UTC", CatchUp::Last, Overlap::Skip),
    pipeline(
        "berlin",
        "30 2 * * *",
        "Europe/Berlin",
        CatchUp::ALL,
        Overlap::Queue,
    ),
    pipeline(
        "new-york",
        "30 2 * * *",
        "America/New_York",
        CatchUp::ALL,
        Overlap::Queue,
    ),
    pipeline(
        "lord-howe",
        "15 2 * * *",
        "Australia/Lord_Howe",
        CatchUp::ALL,
        Overlap::Skip,
    ),
    pipeline(
        "three-hourly",
        "0 */3 * * *",
        "Europe/Berlin",
        CatchUp::ALL,
        Overlap::Queue,
    ),
    pipeline("often", "*/40 * * * *", "UTC", CatchUp::None, Overlap::Skip),
    Pipeline {
        minutes: (10, 200),
        ..pipeline("slow", "0 */2 * * *", "UTC", CatchUp::Last, Overlap::Skip)
    },
    Pipeline {
        minutes: (10, 200),
        ..pipeline(
            "newest",
            "0 */2 * * *",
            "UTC",
            CatchUp::Last,
            Overlap::Cancel,
        )
    },
    pipeline("weekly", "0 3 * * mon", "UTC", CatchUp::ALL, Overlap::Queue),
    Pipeline {
        depends_on: Some("three-hourly"),
        ..pipeline(
            "rollup",
            "30 */6 * * *",
            "UTC",
            CatchUp::ALL,
            Overlap::Queue,
        )
    },
];

/// Leaps to the next moment that somebody waits for, once nobody has anything left to do.
struct LeapingClock {
    state: Mutex<Sleepers>,
    /// Statements that a sink works on.
    statements: Arc<AtomicUsize>,
}

struct Sleepers {
    now: Timestamp,
    waiting: BTreeMap<(Timestamp, u64), oneshot::Sender<()>>,
    number: u64,
}

impl LeapingClock {
    fn new(now: Timestamp) -> Self {
        Self {
            state: Mutex::new(Sleepers {
                now,
                waiting: BTreeMap::new(),
                number: 0,
            }),
            statements: Arc::default(),
        }
    }

    /// Leaps on and on.
    async fn run(&self) {
        loop {
            // On one thread this lets everybody go on who can, also who is woken by another one.
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
            if self.statements.load(Ordering::SeqCst) > 0 {
                continue;
            }
            let mut state = self.state.lock().unwrap();
            if let Some(((moment, _), sleeper)) = state.waiting.pop_first() {
                state.now = state.now.max(moment);
                // Whoever does not wait any more need not be woken.
                let _ = sleeper.send(());
            }
        }
    }
}

#[async_trait]
impl Clock for LeapingClock {
    fn now(&self) -> Timestamp {
        self.state.lock().unwrap().now
    }

    async fn sleep_until(&self, time: Timestamp) {
        let woken = {
            let mut state = self.state.lock().unwrap();
            if time <= state.now {
                return;
            }
            let (sleeper, woken) = oneshot::channel();
            state.number += 1;
            let number = state.number;
            state.waiting.insert((time, number), sleeper);
            woken
        };
        woken.await.unwrap();
    }
}

/// The real sink, with the statements counted that it works on.
struct Counted {
    sink: Box<dyn DueRuns>,
    statements: Arc<AtomicUsize>,
}

impl Counted {
    async fn count<T>(&self, statement: impl Future<Output = T>) -> T {
        self.statements.fetch_add(1, Ordering::SeqCst);
        let answer = statement.await;
        self.statements.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

#[async_trait]
impl DueRuns for Counted {
    async fn claim_due(&self, claim: &DueClaim) -> Result<Claimed> {
        self.count(self.sink.claim_due(claim)).await
    }
    async fn claim_each_due(&self, claims: &[DueClaim]) -> Result<Vec<bool>> {
        self.count(self.sink.claim_each_due(claims)).await
    }
    async fn take_over_due(&self, claim: &DueClaim, from: &DueRecord) -> Result<bool> {
        self.count(self.sink.take_over_due(claim, from)).await
    }
    async fn note_due(&self, note: &DueNote<'_>) -> Result<bool> {
        self.count(self.sink.note_due(note)).await
    }
    async fn renew_due(&self, holder: &Holder, lease: Duration) -> Result<u64> {
        self.count(self.sink.renew_due(holder, lease)).await
    }
    async fn due_runs(&self, pipeline: &str, limit: u32) -> Result<Vec<DueRecord>> {
        self.count(self.sink.due_runs(pipeline, limit)).await
    }
    async fn latest_due(&self, pipeline: &str) -> Result<Option<Timestamp>> {
        self.count(self.sink.latest_due(pipeline)).await
    }
    async fn unfinished_due(&self, pipeline: &str) -> Result<Vec<DueRecord>> {
        self.count(self.sink.unfinished_due(pipeline)).await
    }
    async fn prune_due(&self, pipeline: &str, before: Timestamp) -> Result<u64> {
        self.count(self.sink.prune_due(pipeline, before)).await
    }
}

/// What was really carried out.
#[derive(Clone, Copy, Debug)]
struct Work {
    scheduled_for: Timestamp,
    begun: Timestamp,
    /// `None` if the daemon was killed, or the run was stopped.
    done: Option<Timestamp>,
}

struct Worker {
    clock: Arc<dyn Clock>,
    random: Mutex<StdRng>,
    work: Arc<Mutex<BTreeMap<String, Vec<Work>>>>,
}

#[async_trait]
impl Executor for Worker {
    async fn run(&self, run: &ActiveRun, _: RunOptions) -> Ended {
        let pipeline = PIPELINES.iter().find(|it| it.name == run.pipeline).unwrap();
        let (least, most) = pipeline.minutes;
        let seconds = self
            .random
            .lock()
            .unwrap()
            .random_range(least * 60..=most * 60);
        let index = {
            let mut work = self.work.lock().unwrap();
            let of_pipeline = work.entry(run.pipeline.clone()).or_default();
            of_pipeline.push(Work {
                scheduled_for: run.scheduled_for.unwrap(),
                begun: self.clock.now(),
                done: None,
            });
            of_pipeline.len() - 1
        };
        let status = tokio::select! {
            () = self.clock.sleep(Duration::from_secs(seconds)) => {
                self.work.lock().unwrap().get_mut(&run.pipeline).unwrap()[index].done = Some(self.clock.now());
                Status::Succeeded
            }
            () = run.stop.drain.cancelled() => Status::Cancelled,
        };
        Ended {
            status,
            error: None,
        }
    }

    async fn last_status(&self, _: &str) -> Option<DueStatus> {
        None
    }
}

/// A process that is certainly gone as soon as another one asks.
fn holder(incarnation: u64) -> Holder {
    let mut holder = serde_json::to_value(Holder::of_this_process()).unwrap();
    holder["started"] = (incarnation + 1).into();
    serde_json::from_value(holder).unwrap()
}

fn schedule(pipeline: &Pipeline) -> config::Schedule {
    config::Schedule {
        cron: pipeline.cron.to_owned(),
        timezone: pipeline.zone.to_owned(),
        catch_up: pipeline.catch_up,
        overlap: pipeline.overlap,
        ..config::Schedule::default()
    }
}

fn sink(folder: &Path) -> config::Sink {
    let text = format!(
        "name: p\nsource: {{ type: sqlite, query: 'SELECT 1', shards: [{{ path: x.db }}] }}\n\
         sink: {{ type: sqlite, path: '{}', table: t }}\n",
        folder.join("sink.db").display()
    );
    let layer = Layer {
        name: "p.yaml".to_owned(),
        text,
        of_plugin: false,
    };
    config::load(&[layer], &|_| None).unwrap().config.sink
}

/// One life of the daemon, from one moment to another, when it is killed.
fn live(
    folder: &Path,
    incarnation: u64,
    from: Timestamp,
    until: Timestamp,
    work: &Arc<Mutex<BTreeMap<String, Vec<Work>>>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let leaping = Arc::new(LeapingClock::new(from));
        let clock: Arc<dyn Clock> = leaping.clone();
        let shared = Arc::new(Shared {
            clock: clock.clone(),
            holder: holder(incarnation),
            executor: Arc::new(Worker {
                clock: clock.clone(),
                random: Mutex::new(StdRng::seed_from_u64(incarnation)),
                work: work.clone(),
            }),
            permits: Arc::new(Semaphore::new(4)),
            active: ActiveRuns::default(),
            standings: Standings::default(),
            events: broadcast::Sender::new(16),
            metrics: Arc::new(Metrics::default()),
            notifier: Arc::new(Notifier::silent()),
            pace: Pace {
                idle: Duration::from_hours(6),
                busy: Duration::from_hours(1),
                ..Pace::default()
            },
            shutdown: CancellationToken::new(),
        });
        let pools = Arc::new(Pools::new());
        let sink = sink(folder);
        // What is told to them lives as long as the daemon.
        let mut told = Vec::new();
        for pipeline in &PIPELINES {
            let spec = Spec {
                enabled: true,
                agenda: Agenda::new(&[schedule(pipeline)]),
                since: START.parse().unwrap(),
                catch_up: pipeline.catch_up,
                overlap: pipeline.overlap,
                late_after: None,
                depends_on: pipeline
                    .depends_on
                    .map(|parent| Dependency::on(parent.to_owned()))
                    .into_iter()
                    .collect(),
                trigger: Trigger::Schedule,
                due_runs: Arc::new(Counted {
                    sink: build_due_runs(&sink, &pools),
                    statements: leaping.statements.clone(),
                }),
            };
            let (sender, spec) = watch::channel(Arc::new(spec));
            let (orders, received) = mpsc::channel(1);
            told.push((sender, orders));
            let task = PipelineTask::new(pipeline.name, shared.clone(), spec, received);
            tokio::spawn(task.run());
        }
        tokio::select! {
            () = clock.sleep_until(until) => {}
            () = leaping.run() => {}
        }
    });
    // Kills every task where it stands. A statement that the database has begun with still comes to its end.
    drop(runtime);
}

/// The due runs of a pipeline as the sink has them.
fn records(folder: &Path, name: &str) -> Vec<DueRecord> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let due_runs = build_due_runs(&sink(folder), &Arc::new(Pools::new()));
    let mut records = runtime.block_on(due_runs.due_runs(name, u32::MAX)).unwrap();
    records.reverse();
    records
}

#[test]
fn every_instant_of_a_month_is_run_or_accounted_for_once() {
    month(1);
}

fn month(seed: u64) {
    // Tens of thousands of commits, and no power cut: in memory where there is such a folder.
    let folder = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let work = Arc::default();
    let mut random = StdRng::seed_from_u64(seed);
    let start: Timestamp = START.parse().unwrap();
    let end = start + MONTH;
    let mut lives: Vec<(Timestamp, Timestamp)> = Vec::new();
    let mut now = start;
    while now < end {
        // Never at a full second, when things end.
        let minutes = random.random_range(1..3 * 24 * 60);
        let until = (now + Duration::from_millis(minutes * 60_000 + 517)).min(end + REST);
        live(
            folder.path(),
            seed * 1_000 + lives.len() as u64,
            now,
            until,
            &work,
        );
        lives.push((now, until));
        let down = match random.random_range(0..3) {
            0 => random.random_range(1..50),
            1 => random.random_range(60..7_200),
            _ => random.random_range(7_200..40_000),
        };
        now = until + Duration::from_secs(down);
    }
    // The last life sees everything through.
    live(folder.path(), seed * 1_000 + 999, now, now + REST, &work);
    lives.push((now, now + REST));
    let work = work.lock().unwrap();
    for pipeline in &PIPELINES {
        check(
            seed,
            pipeline,
            &records(folder.path(), pipeline.name),
            &work[pipeline.name],
            &lives,
        );
    }
}

#[expect(clippy::too_many_lines, reason = "one look at each record")]
fn check(
    seed: u64,
    pipeline: &Pipeline,
    records: &[DueRecord],
    work: &[Work],
    lives: &[(Timestamp, Timestamp)],
) {
    let context = |what: &str| format!("seed {seed}, {}: {what}", pipeline.name);
    let schedule = Schedule::new(&schedule(pipeline)).unwrap();
    let (start, end) = (lives[0].0, lives[lives.len() - 1].1);
    let settled = end - Duration::from_hours(8);
    let due: BTreeSet<Timestamp> = schedule.between(start, end).collect();
    let accounted: BTreeSet<Timestamp> = records.iter().map(|it| it.scheduled_for).collect();
    assert_eq!(
        accounted.len(),
        records.len(),
        "{}",
        context("one row each")
    );
    let open: Vec<_> = records
        .iter()
        .filter(|it| !it.status.is_final() && it.scheduled_for < settled)
        .collect();
    assert!(open.is_empty(), "{}: {open:?}", context("all are over"));
    let unaccounted: Vec<_> = due
        .difference(&accounted)
        .filter(|it| **it < settled)
        .collect();
    assert!(
        unaccounted.is_empty(),
        "{}: {unaccounted:?}",
        context("all are there")
    );
    assert!(
        accounted.is_subset(&due),
        "{}",
        context("nothing else is there")
    );

    for record in records.iter().filter(|it| it.scheduled_for < settled) {
        let instant = record.scheduled_for;
        let what = context(&format!("{instant} is {}", record.status));
        let of_instant: Vec<&Work> = work
            .iter()
            .filter(|it| it.scheduled_for == instant)
            .collect();
        let done = of_instant.iter().filter(|it| it.done.is_some()).count();
        let is_success = record.status == DueStatus::Succeeded;
        assert_eq!(done, usize::from(is_success), "{what}: {of_instant:?}");
        assert!(of_instant.iter().all(|it| it.begun >= instant), "{what}");
        let minute = Duration::from_mins(1);
        let alive = |moment: Timestamp| {
            lives
                .iter()
                .any(|(from, until)| *from <= moment && moment < *until)
        };
        match record.status {
            DueStatus::Succeeded => {}
            DueStatus::Missed => {
                assert!(!alive(instant), "{what}, though the daemon was there");
                assert!(
                    !alive(instant + minute),
                    "{what}, though it was back within a minute"
                );
                assert!(!matches!(pipeline.catch_up, CatchUp::All(_)), "{what}");
            }
            DueStatus::Skipped => {
                // The first of all comes before the first run of what goes before it.
                if pipeline.depends_on.is_some() {
                    assert!(
                        record.reason.as_ref().unwrap().contains("has never run"),
                        "{what}"
                    );
                    continue;
                }
                assert_eq!(pipeline.overlap, Overlap::Skip, "{what}");
                let in_its_way = |it: &&Work| {
                    let over = it.done.is_some_and(|done| done < instant);
                    it.scheduled_for < instant && !over
                };
                let earlier = work.iter().rev().find(in_its_way);
                assert!(earlier.is_some(), "{what}, and nothing was in its way");
            }
            DueStatus::Cancelled => assert_eq!(pipeline.overlap, Overlap::Cancel, "{what}"),
            other => panic!("{what}: {other}"),
        }
    }
    // Never two at once.
    for pair in work.windows(2) {
        if let Some(done) = pair[0].done {
            assert!(
                done <= pair[1].begun,
                "{}: {pair:?}",
                context("one at a time")
            );
        }
    }
    // Of what was missed in one go, one run makes up for all: the next one that is looked at.
    if pipeline.catch_up == CatchUp::Last {
        let missed = records
            .iter()
            .rposition(|it| it.status == DueStatus::Missed);
        for pair in records[..missed.map_or(0, |last| last + 2).min(records.len())].windows(2) {
            if pair[0].status == DueStatus::Missed && pair[1].scheduled_for < settled {
                assert_ne!(
                    pair[1].status,
                    DueStatus::Interrupted,
                    "{}",
                    context("made up for")
                );
            }
        }
    }
}
