//! What several hosts change in one sink: of all daemons that claim a due run one has it, and a checkpoint that is changed
//! by hand is the one that was looked at. Each test runs on PostgreSQL and on SQLite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::sync::Arc;
use std::time::Duration;

use etl_host::config::{
    NulCharacters, PoolLimits, Secret, Server, Sink, SinkConnector, TableName, Tls, TlsMode,
    WriteMode,
};
use etl_host::holder::Holder;
use etl_host::pool::Pools;
use etl_host::sink::due::{Claimed, DueClaim, DueNote, DueRecord, DueRun, DueRuns, DueStatus};
use etl_host::sink::{CheckpointEdit, EditIf, build_due_runs, build_sink};
use etl_plugin_api::Cursor;
use etl_testkit::postgres::{PostgresServer, TestDatabase};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

const HOUR: Duration = Duration::from_hours(1);

/// A sink, as two daemons see it.
struct Meeting {
    one: Box<dyn DueRuns>,
    other: Box<dyn DueRuns>,
    sink: Sink,
    /// Of the first daemon.
    pools: Arc<Pools>,
    _database: Option<TestDatabase>,
    _folder: tempfile::TempDir,
}

impl Meeting {
    async fn in_each_sink() -> [Self; 2] {
        let database = PostgresServer::shared().create_database().await.unwrap();
        let server = Server {
            host: database.host.clone(),
            port: database.port,
            database: database.name.clone(),
            username: database.user.clone(),
            password: Secret::new(database.password.clone()),
            tls: Tls {
                mode: TlsMode::Disable,
                ..Tls::default()
            },
            pool: PoolLimits {
                max_connections: 1,
                ..PoolLimits::default()
            },
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sink.db");
        [
            Self::new(SinkConnector::Postgres(server), Some(database)),
            Self {
                _folder: folder,
                ..Self::new(SinkConnector::Sqlite { path }, None)
            },
        ]
    }

    fn new(connector: SinkConnector, database: Option<TestDatabase>) -> Self {
        let sink = Sink {
            connector,
            table: TableName {
                schema: None,
                name: "people".to_owned(),
            },
            write_mode: WriteMode::Append,
            partition_column: None,
            nul_characters: NulCharacters::Keep,
            timeouts: None,
        };
        let pools = Arc::new(Pools::new());
        Self {
            one: build_due_runs(&sink, &pools),
            other: build_due_runs(&sink, &Arc::new(Pools::new())),
            sink,
            pools,
            _database: database,
            _folder: tempfile::tempdir().unwrap(),
        }
    }

    async fn only(&self, pipeline: &str) -> DueRecord {
        let [record] = self
            .other
            .due_runs(pipeline, 10)
            .await
            .unwrap()
            .try_into()
            .unwrap();
        record
    }
}

/// A process of another machine, which may always live.
fn elsewhere(process: u32) -> Holder {
    serde_json::from_value(
        json!({ "host": "db9", "machine": "another", "process": process, "started": 1 }),
    )
    .unwrap()
}

/// A process of this machine that is certainly gone.
fn gone() -> Holder {
    let mut holder = serde_json::to_value(Holder::of_this_process()).unwrap();
    holder["started"] = json!(1);
    serde_json::from_value(holder).unwrap()
}

fn at(text: &str) -> DueRun {
    DueRun::new("p", text.parse().unwrap())
}

fn claim(due: &DueRun, holder: &Holder) -> DueClaim {
    DueClaim {
        due: due.clone(),
        holder: holder.clone(),
        lease: HOUR,
        status: DueStatus::Queued,
        reason: None,
    }
}

fn note<'a>(due: &'a DueRun, holder: &'a Holder, status: DueStatus) -> DueNote<'a> {
    DueNote {
        due,
        holder,
        status,
        run_id: None,
        reason: None,
    }
}

fn existing(claimed: Claimed) -> DueRecord {
    match claimed {
        Claimed::Exists(record) => *record,
        Claimed::New => panic!("it was claimed before"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_daemons_that_claim_an_instant_one_has_it() {
    for meeting in Meeting::in_each_sink().await {
        let start: Timestamp = "2026-10-25T00:59:59.9Z".parse().unwrap();
        let (first, second) = (elsewhere(1), elsewhere(2));
        let mut won = [0, 0];
        for second_of in 0..200 {
            let due = DueRun::new("p", start + SignedDuration::from_secs(second_of));
            let (mine, theirs) = (claim(&due, &first), claim(&due, &second));
            let (mine, theirs) = tokio::join!(
                meeting.one.claim_due(&mine),
                meeting.other.claim_due(&theirs)
            );
            match (mine.unwrap(), theirs.unwrap()) {
                (Claimed::New, Claimed::Exists(record)) => {
                    won[0] += 1;
                    assert_eq!((record.holder, record.tries), (first.clone(), 1));
                }
                (Claimed::Exists(record), Claimed::New) => {
                    won[1] += 1;
                    assert_eq!((record.holder, record.tries), (second.clone(), 1));
                }
                both => panic!("{due}: {both:?}"),
            }
        }
        assert_eq!(won[0] + won[1], 200);
        let kept = meeting.one.due_runs("p", 1000).await.unwrap();
        assert_eq!(kept.len(), 200);
        assert!(kept.is_sorted_by(|a, b| a.scheduled_for > b.scheduled_for));
        // Another pipeline is due at the same instants.
        let due = DueRun::new("q", start);
        let claimed = meeting.one.claim_due(&claim(&due, &first)).await.unwrap();
        assert_eq!(claimed, Claimed::New);
    }
}

#[tokio::test]
async fn the_claim_of_a_process_that_may_live_is_left_to_it_until_it_runs_out() {
    for meeting in Meeting::in_each_sink().await {
        let (due, me) = (at("2026-01-01T00:00:00Z"), Holder::of_this_process());
        let owner = elsewhere(1);
        meeting.one.claim_due(&claim(&due, &owner)).await.unwrap();
        let theirs = existing(meeting.other.claim_due(&claim(&due, &me)).await.unwrap());
        assert!(!theirs.is_abandoned());
        assert!((3500.0..=3600.0).contains(&theirs.seconds_left));
        let mine = claim(&due, &me);
        assert!(!meeting.other.take_over_due(&mine, &theirs).await.unwrap());

        // It does not renew its claim any more. Of two that see it, one gets it.
        let renewed = meeting.one.renew_due(&owner, Duration::ZERO).await.unwrap();
        assert_eq!(renewed, 1);
        let abandoned = meeting.only("p").await;
        assert!(abandoned.is_abandoned());
        let rival = claim(&due, &elsewhere(3));
        let (taken, also) = tokio::join!(
            meeting.one.take_over_due(&mine, &abandoned),
            meeting.other.take_over_due(&rival, &abandoned)
        );
        assert!(taken.unwrap() != also.unwrap(), "one of two");
        assert_eq!(meeting.only("p").await.tries, 2);
    }
}

#[tokio::test]
async fn the_claim_of_a_process_that_is_gone_is_taken_over_at_once() {
    for meeting in Meeting::in_each_sink().await {
        let (due, me) = (at("2026-01-01T00:00:00Z"), Holder::of_this_process());
        let dead = gone();
        meeting.one.claim_due(&claim(&due, &dead)).await.unwrap();
        let running = DueNote {
            run_id: Some("first"),
            ..note(&due, &dead, DueStatus::Running)
        };
        assert!(meeting.one.note_due(&running).await.unwrap());
        let [abandoned] = meeting
            .other
            .unfinished_due("p")
            .await
            .unwrap()
            .try_into()
            .unwrap();
        assert!(abandoned.is_abandoned() && abandoned.seconds_left > 0.0);
        assert_eq!(abandoned.run_id.as_deref(), Some("first"));
        assert!(abandoned.started_at.unwrap() >= abandoned.claimed_at);
        assert!(
            meeting
                .other
                .take_over_due(&claim(&due, &me), &abandoned)
                .await
                .unwrap()
        );

        let mine = meeting.only("p").await;
        assert_eq!((&mine.holder, mine.tries), (&me, 2));
        assert_eq!(
            (mine.status, &mine.run_id, mine.started_at),
            (DueStatus::Queued, &None, None)
        );
        assert!(!mine.is_abandoned());
        // Whoever acts on what it read before comes too late.
        let late = claim(&due, &elsewhere(3));
        assert!(!meeting.one.take_over_due(&late, &abandoned).await.unwrap());

        // Taken over only to say that it ends here.
        let again = at("2026-01-01T01:00:00Z");
        meeting.one.claim_due(&claim(&again, &dead)).await.unwrap();
        let abandoned = existing(meeting.one.claim_due(&claim(&again, &me)).await.unwrap());
        let given_up = DueClaim {
            status: DueStatus::Interrupted,
            reason: Some("its host died".to_owned()),
            ..claim(&again, &me)
        };
        assert!(
            meeting
                .one
                .take_over_due(&given_up, &abandoned)
                .await
                .unwrap()
        );
        let newest = meeting.one.due_runs("p", 1).await.unwrap().remove(0);
        assert_eq!(newest.status, DueStatus::Interrupted);
        assert_eq!(newest.reason.as_deref(), Some("its host died"));
        assert!(newest.ended_at.is_some() && !newest.is_abandoned());
        assert!(
            !meeting
                .one
                .take_over_due(&claim(&again, &elsewhere(1)), &newest)
                .await
                .unwrap()
        );
    }
}

#[tokio::test]
async fn who_has_lost_a_due_run_notes_nothing_and_what_has_ended_stays() {
    for meeting in Meeting::in_each_sink().await {
        let (due, me) = (at("2026-01-01T00:00:00Z"), Holder::of_this_process());
        let dead = gone();
        meeting.one.claim_due(&claim(&due, &dead)).await.unwrap();
        let abandoned = meeting.only("p").await;
        assert!(
            meeting
                .other
                .take_over_due(&claim(&due, &me), &abandoned)
                .await
                .unwrap()
        );
        let stale = DueNote {
            run_id: Some("stale"),
            ..note(&due, &dead, DueStatus::Succeeded)
        };
        assert!(!meeting.one.note_due(&stale).await.unwrap());
        assert_eq!(meeting.one.renew_due(&dead, HOUR).await.unwrap(), 0);

        let running = DueNote {
            run_id: Some("mine"),
            ..note(&due, &me, DueStatus::Running)
        };
        assert!(meeting.other.note_due(&running).await.unwrap());
        assert_eq!(meeting.other.renew_due(&me, HOUR).await.unwrap(), 1);
        let failed = DueNote {
            reason: Some("no such table"),
            ..note(&due, &me, DueStatus::Failed)
        };
        assert!(meeting.other.note_due(&failed).await.unwrap());
        let ended = meeting.only("p").await;
        assert_eq!(ended.status, DueStatus::Failed);
        assert_eq!(ended.run_id.as_deref(), Some("mine"));
        assert_eq!(ended.reason.as_deref(), Some("no such table"));
        assert!(ended.ended_at >= ended.started_at && ended.started_at.is_some());

        assert!(
            !meeting
                .other
                .note_due(&note(&due, &me, DueStatus::Succeeded))
                .await
                .unwrap()
        );
        assert_eq!(meeting.other.renew_due(&me, HOUR).await.unwrap(), 0);
        assert!(meeting.other.unfinished_due("p").await.unwrap().is_empty());
        let after = meeting.only("p").await;
        assert_eq!(
            (after.status, after.ended_at),
            (ended.status, ended.ended_at)
        );
    }
}

#[tokio::test]
async fn many_instants_are_accounted_for_at_once() {
    for meeting in Meeting::in_each_sink().await {
        assert!(meeting.one.claim_each_due(&[]).await.unwrap().is_empty());
        let me = Holder::of_this_process();
        let start: Timestamp = "2026-03-29T00:00:00Z".parse().unwrap();
        let minute = |number: i64| DueRun::new("p", start + SignedDuration::from_mins(number));
        let other = elsewhere(1);
        meeting
            .other
            .claim_due(&claim(&minute(7), &other))
            .await
            .unwrap();
        let missed = |number| DueClaim {
            status: DueStatus::Missed,
            reason: Some("no daemon ran".to_owned()),
            ..claim(&minute(number), &me)
        };
        let mut claims: Vec<DueClaim> = (0..5_000).map(missed).collect();
        claims.push(missed(3));
        claims.push(DueClaim {
            due: DueRun::new("q", start),
            ..claim(&minute(0), &me)
        });
        let new = meeting.one.claim_each_due(&claims).await.unwrap();
        let refused: Vec<usize> = (0..new.len()).filter(|index| !new[*index]).collect();
        assert_eq!(
            refused,
            [7, 5_000],
            "claimed by another one, and named twice"
        );

        let kept = meeting.one.due_runs("p", 10_000).await.unwrap();
        assert_eq!(kept.len(), 5_000);
        let seventh = kept
            .iter()
            .find(|record| record.scheduled_for == minute(7).scheduled_for);
        assert_eq!(seventh.map(|record| &record.holder), Some(&other));
        let newest = &kept[0];
        assert_eq!(
            (newest.status, newest.run_id.as_deref()),
            (DueStatus::Missed, None)
        );
        assert_eq!(newest.reason.as_deref(), Some("no daemon ran"));
        assert!(newest.ended_at.is_some());
        assert_eq!(
            meeting.one.latest_due("p").await.unwrap(),
            Some(minute(4_999).scheduled_for)
        );
        assert_eq!(meeting.one.due_runs("p", 3).await.unwrap().len(), 3);
        // Only the other pipeline's is one that will run.
        assert_eq!(meeting.one.unfinished_due("q").await.unwrap().len(), 1);
        assert_eq!(meeting.one.renew_due(&me, HOUR).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn what_is_forgotten_is_final_and_never_the_newest() {
    for meeting in Meeting::in_each_sink().await {
        let me = Holder::of_this_process();
        let skipped = |text: &str| DueClaim {
            status: DueStatus::Skipped,
            ..claim(&at(text), &me)
        };
        let newest = at("2026-01-04T00:00:00Z");
        let claims = [
            skipped("2026-01-01T00:00:00Z"),
            claim(&at("2026-01-02T00:00:00Z"), &me),
            skipped("2026-01-03T00:00:00Z"),
            skipped("2026-01-04T00:00:00Z"),
            DueClaim {
                due: DueRun::new("q", newest.scheduled_for),
                ..skipped("2026-01-01T00:00:00Z")
            },
        ];
        meeting.one.claim_each_due(&claims).await.unwrap();
        let prune = async |before: &str| {
            let pruned = meeting.one.prune_due("p", before.parse().unwrap()).await;
            let kept = meeting.one.due_runs("p", 10).await.unwrap();
            let days = kept
                .iter()
                .map(|record| record.scheduled_for.to_string()[8..10].to_owned());
            (pruned.unwrap(), days.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(
            prune("2026-01-01T00:00:00Z").await,
            (0, "04 03 02 01".to_owned())
        );
        assert_eq!(
            prune("2026-01-01T00:00:00.000001Z").await,
            (1, "04 03 02".to_owned())
        );
        assert_eq!(prune("2027-01-01T00:00:00Z").await, (1, "04 02".to_owned()));
        assert_eq!(
            meeting.one.latest_due("p").await.unwrap(),
            Some(newest.scheduled_for)
        );
        assert_eq!(meeting.one.due_runs("q", 10).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instants_come_back_as_they_were_claimed() {
    for meeting in Meeting::in_each_sink().await {
        let me = Holder::of_this_process();
        let roundtrip = |seconds: i64, nanoseconds: i32| {
            let due = DueRun::new("p", Timestamp::new(seconds, nanoseconds).unwrap());
            let back = async {
                meeting.one.claim_due(&claim(&due, &me)).await.unwrap();
                existing(meeting.one.claim_due(&claim(&due, &me)).await.unwrap()).scheduled_for
            };
            let back =
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(back));
            prop_assert_eq!(back, due.scheduled_for);
            Ok(())
        };
        // The year 1 and the last second that there is.
        roundtrip(-62_135_596_800, 0).unwrap();
        roundtrip(Timestamp::MAX.as_second(), 999_999_999).unwrap();
        roundtrip(-1, 999).unwrap();
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 64,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let any = (
            -62_135_596_800..Timestamp::MAX.as_second(),
            0..1_000_000_000,
        );
        runner
            .run(&any, |(seconds, nanoseconds)| {
                roundtrip(seconds, nanoseconds)
            })
            .unwrap();
        // The order is that of time, whatever the fractions are.
        let kept = meeting.one.due_runs("p", 1000).await.unwrap();
        assert!(kept.is_sorted_by(|a, b| a.scheduled_for > b.scheduled_for));
        assert!(kept.len() > 3);
    }
}

#[tokio::test]
async fn who_only_asks_makes_no_table() {
    for meeting in Meeting::in_each_sink().await {
        let me = Holder::of_this_process();
        let ask = async || {
            assert!(meeting.one.due_runs("p", 10).await.unwrap().is_empty());
            assert!(meeting.one.unfinished_due("p").await.unwrap().is_empty());
            assert_eq!(meeting.one.latest_due("p").await.unwrap(), None);
            assert_eq!(meeting.one.renew_due(&me, HOUR).await.unwrap(), 0);
            let now = Timestamp::now();
            assert_eq!(meeting.one.prune_due("p", now).await.unwrap(), 0);
        };
        ask().await;
        match &meeting.sink.connector {
            SinkConnector::Postgres(server) => {
                let connection = meeting.pools.postgres(server).await.unwrap();
                let sql = "SELECT count(*) FROM pg_namespace WHERE nspname = 'etl_host'";
                let row = connection.client().unwrap().query_one(sql, &[]).await;
                assert_eq!(row.unwrap().get::<_, i64>(0), 0);
                connection.give_back();
            }
            SinkConnector::Sqlite { path } => {
                assert!(!path.exists());
                std::fs::write(path, "").unwrap();
                ask().await;
            }
        }
    }
}

#[tokio::test]
async fn a_claim_does_not_wait_for_a_partition_that_has_the_only_connection() {
    let [meeting, _] = Meeting::in_each_sink().await;
    let SinkConnector::Postgres(server) = &meeting.sink.connector else {
        panic!("PostgreSQL comes first");
    };
    let _partition = meeting.pools.postgres(server).await.unwrap();
    let due = at("2026-01-01T00:00:00Z");
    let me = Holder::of_this_process();
    let claimed = meeting.one.claim_due(&claim(&due, &me)).await.unwrap();
    assert_eq!(claimed, Claimed::New);
    assert_eq!(meeting.one.renew_due(&me, HOUR).await.unwrap(), 1);
}

#[tokio::test]
async fn a_checkpoint_that_has_moved_on_is_left_alone() {
    for meeting in Meeting::in_each_sink().await {
        let sink = build_sink(&meeting.sink, &meeting.pools);
        let sink = sink.as_ref();
        let cursor = async || {
            let mut stored = sink.load_checkpoints("copy").await.unwrap();
            stored.remove("eu").and_then(|stored| stored.cursor)
        };
        let edit = async |edit: CheckpointEdit, edit_if: EditIf| {
            let edited = sink.edit_checkpoint("copy", "eu", &edit, &edit_if).await;
            edited.unwrap()
        };
        let five = Cursor::Integer(5);
        assert!(edit(CheckpointEdit::Set(five.clone()), EditIf::Always).await);
        // It was empty when it was looked at.
        assert!(!edit(CheckpointEdit::Reset, EditIf::CursorIs(None)).await);
        assert_eq!(cursor().await, Some(five.clone()));
        let seven = CheckpointEdit::Set(Cursor::Integer(7));
        assert!(edit(seven, EditIf::CursorIs(Some(five))).await);
        assert!(!sink.forget_ranges("copy", "eu", true).await.unwrap());
        assert_eq!(cursor().await, Some(Cursor::Integer(7)));
        assert!(sink.forget_ranges("copy", "eu", false).await.unwrap());
        assert_eq!(cursor().await, None);
        assert!(edit(CheckpointEdit::Reset, EditIf::CursorIs(None)).await);
        assert!(sink.forget_ranges("copy", "eu", true).await.unwrap());
    }
}
