use proptest::prelude::*;

use super::*;
use crate::config::Secret;
use crate::config::notifications::{AtMost, Channel, Webhook};
use crate::daemon::notify::notice::Fault;

const HOUR: Duration = Duration::from_hours(1);

fn notification(name: &str) -> Notification {
    Notification {
        name: name.to_owned(),
        events: NoticeKind::ALL.to_vec(),
        pipelines: Vec::new(),
        channel: Channel::Webhook(Webhook {
            url: Secret::default(),
            headers: Vec::new(),
            timeout: HOUR,
        }),
        repeat_after: 24 * HOUR,
        at_most: AtMost::default(),
    }
}

/// Minutes after midnight.
fn at(minutes: i64) -> Timestamp {
    let midnight: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
    midnight + jiff::SignedDuration::from_mins(minutes)
}

fn ended(pipeline: &str, number: i64, status: DueStatus) -> EndedRun {
    EndedRun {
        pipeline: pipeline.to_owned(),
        run_id: format!("{pipeline}-{number}"),
        status,
        scheduled_for: None,
        started_at: at(number).to_string(),
        finished_at: None,
        error: (status != DueStatus::Succeeded).then(|| Fault {
            message: "no such table".to_owned(),
            next_step: Some("make it".to_owned()),
        }),
    }
}

fn decider(notifications: Vec<Notification>) -> Decider {
    Decider::new(notifications, "db1".to_owned(), Memory::default())
}

/// What is told, as `name: event pipeline failed_runs`.
fn told(deliveries: &[Delivery]) -> Vec<String> {
    let line = |delivery: &Delivery| {
        let notice = &delivery.notice;
        format!(
            "{}: {} {} {}",
            delivery.notification,
            notice.event.word(),
            notice.pipeline,
            notice.failed_runs
        )
    };
    deliveries.iter().map(line).collect()
}

/// A run that ends `number` minutes after midnight.
fn run(decider: &mut Decider, number: i64, status: DueStatus) -> Vec<String> {
    let run = Observation::Ended(ended("p", number, status));
    told(&decider.observe(at(number), run))
}

#[test]
fn the_first_failure_is_told_then_one_a_day_and_then_the_recovery() {
    use DueStatus::{Cancelled, Failed, Interrupted, Partial, Succeeded};
    let mut decider = decider(vec![notification("a")]);
    let day = 24 * 60;
    assert!(run(&mut decider, 0, Succeeded).is_empty());
    assert_eq!(run(&mut decider, 1, Failed), ["a: failure p 1"]);
    assert!(run(&mut decider, 2, Partial).is_empty());
    assert!(run(&mut decider, 3, Cancelled).is_empty());
    assert!(run(&mut decider, day, Interrupted).is_empty());
    assert_eq!(run(&mut decider, day + 1, Failed), ["a: failure p 4"]);
    assert_eq!(run(&mut decider, day + 2, Succeeded), ["a: recovery p 4"]);
    assert!(run(&mut decider, day + 3, Succeeded).is_empty());
    assert_eq!(run(&mut decider, day + 4, Partial), ["a: failure p 1"]);
}

#[test]
fn a_run_that_is_seen_twice_is_told_and_counted_once() {
    let mut decider = decider(vec![notification("a")]);
    assert_eq!(run(&mut decider, 1, DueStatus::Failed).len(), 1);
    assert!(run(&mut decider, 1, DueStatus::Failed).is_empty());
    assert_eq!(
        run(&mut decider, 2, DueStatus::Succeeded),
        ["a: recovery p 1"]
    );
}

#[test]
fn each_is_told_what_it_wants_to_know() {
    let failures = Notification {
        events: vec![NoticeKind::Failure],
        ..notification("failures")
    };
    let others = Notification {
        pipelines: vec!["q".to_owned()],
        ..notification("others")
    };
    let mut decider = decider(vec![failures, others]);
    assert_eq!(
        run(&mut decider, 1, DueStatus::Failed),
        ["failures: failure p 1"]
    );
    assert!(run(&mut decider, 2, DueStatus::Succeeded).is_empty());
    let other = Observation::Ended(ended("q", 3, DueStatus::Failed));
    let deliveries = decider.observe(at(3), other);
    assert_eq!(
        told(&deliveries),
        ["failures: failure q 1", "others: failure q 1"]
    );
}

#[test]
fn what_is_too_much_is_left_out_and_told_with_the_next() {
    let at_most = AtMost {
        times: 2,
        per: HOUR,
    };
    let mut decider = decider(vec![Notification {
        at_most,
        ..notification("a")
    }]);
    let mut fail = |pipeline: &str, minute| {
        let run = Observation::Ended(ended(pipeline, minute, DueStatus::Failed));
        decider.observe(at(minute), run)
    };
    assert_eq!(fail("p", 0).len() + fail("q", 1).len(), 2);
    assert_eq!(fail("r", 2).len() + fail("s", 59).len(), 0);
    let next = fail("t", 60).remove(0).notice;
    assert_eq!(next.left_out, 2);
    assert_eq!(
        next.text,
        "t failed: no such table. Next: make it (2 notices before this were left out)"
    );
    // A failure that was left out is told once there is room.
    let r = fail("r", 61).remove(0).notice;
    assert_eq!((r.failed_runs, r.left_out), (2, 0));
}

#[test]
fn a_due_run_is_late_once() {
    let mut decider = decider(vec![notification("a")]);
    let due = |minute| DueRun::new("p", at(minute));
    let wait = |decider: &mut Decider, minute| {
        let due = Observation::Due {
            due: due(minute),
            late_after: HOUR / 4,
        };
        decider.observe(at(minute), due)
    };
    assert!(wait(&mut decider, 0).is_empty() && wait(&mut decider, 10).is_empty());
    let run_id = "p-10".to_owned();
    decider.observe(
        at(11),
        Observation::Begun {
            due: due(10),
            run_id,
        },
    );
    let run = EndedRun {
        scheduled_for: Some(at(0)),
        ..ended("p", 12, DueStatus::Succeeded)
    };
    assert!(decider.observe(at(12), Observation::Ended(run)).is_empty());
    assert!(wait(&mut decider, 20).is_empty() && wait(&mut decider, 22).is_empty());
    let settled = Observation::Settled(due(22));
    assert!(decider.observe(at(23), settled).is_empty());

    assert_eq!(decider.next_look(), Some(at(25)));
    assert!(decider.look(at(24)).is_empty());
    let late = decider.look(at(25)).remove(0).notice;
    assert_eq!(
        late.text,
        "p is late: the run due at 2026-03-01T00:10:00Z still runs 15m later"
    );
    assert_eq!(
        (late.status.as_str(), late.run_id.as_deref()),
        ("running", Some("p-10"))
    );
    assert_eq!(decider.next_look(), Some(at(35)));
    let late = decider.look(at(40)).remove(0).notice;
    assert!(
        late.text.ends_with("T00:20:00Z has not begun 15m later"),
        "{}",
        late.text
    );
    assert_eq!(decider.next_look(), None);

    // A restart finds the two unfinished, and a new one that is late already.
    let memory = serde_json::to_string(decider.memory()).unwrap();
    let memory = serde_json::from_str(&memory).unwrap();
    let mut decider = Decider::new(vec![notification("a")], String::new(), memory);
    assert!(wait(&mut decider, 10).is_empty() && wait(&mut decider, 20).is_empty());
    assert_eq!(decider.next_look(), None);
    let overdue = Observation::Due {
        due: due(40),
        late_after: HOUR / 4,
    };
    assert_eq!(told(&decider.observe(at(90), overdue)), ["a: lateness p 0"]);
}

#[test]
fn what_was_not_delivered_is_known_after_a_restart_unless_nobody_is_left_to_tell() {
    let all = || vec![notification("a"), notification("b")];
    let mut decider = decider(all());
    let run = Observation::Ended(ended("p", 1, DueStatus::Failed));
    let deliveries = decider.observe(at(1), run);
    decider.delivered(deliveries[0].id);
    let memory = serde_json::to_string(decider.memory()).unwrap();
    let memory: Memory = serde_json::from_str(&memory).unwrap();
    let restarted = Decider::new(all(), String::new(), memory.clone());
    assert_eq!(restarted.outbox(), &deliveries[1..]);
    let gone = Decider::new(vec![notification("a")], String::new(), memory);
    assert!(gone.outbox().is_empty());
}

#[test]
fn what_nobody_takes_does_not_pile_up() {
    let at_most = AtMost {
        times: 1_000,
        per: HOUR,
    };
    let mut decider = decider(vec![Notification {
        at_most,
        ..notification("a")
    }]);
    for number in 0..300 {
        let run = ended(&format!("p{number}"), number, DueStatus::Failed);
        decider.observe(at(0), Observation::Ended(run));
    }
    assert_eq!(decider.outbox().len(), OUTBOX);
    let first = decider.outbox()[0].id;
    decider.delivered(first);
    let next = Observation::Ended(ended("q", 301, DueStatus::Failed));
    assert_eq!(decider.observe(at(1), next).remove(0).notice.left_out, 200);
}

#[test]
fn a_clock_that_is_set_back_silences_nobody() {
    let mut decider = decider(vec![notification("a")]);
    let year = 365 * 24 * 60;
    assert_eq!(run(&mut decider, year, DueStatus::Failed).len(), 1);
    assert_eq!(run(&mut decider, 1, DueStatus::Failed).len(), 1);
}

#[derive(Clone, Debug)]
struct Step {
    minutes: i64,
    pipeline: u8,
    status: DueStatus,
    restart: bool,
}

fn any_step() -> impl Strategy<Value = Step> {
    let status = prop::sample::select(vec![
        DueStatus::Succeeded,
        DueStatus::Failed,
        DueStatus::Partial,
        DueStatus::Cancelled,
    ]);
    (0..40_i64, 0..3_u8, status, any::<bool>()).prop_map(|(minutes, pipeline, status, restart)| {
        Step {
            minutes,
            pipeline,
            status,
            restart,
        }
    })
}

proptest! {
    /// Restarts change nothing, no hour has too many, and without a limit every streak begins and ends with a notice.
    #[test]
    fn whatever_happens(steps in prop::collection::vec(any_step(), 1..80), times in 1..6_u32) {
        let limited = Notification {
            at_most: AtMost { times, per: HOUR },
            repeat_after: 2 * HOUR,
            ..notification("limited")
        };
        let free = Notification {
            at_most: AtMost { times: 1_000, per: HOUR },
            ..notification("free")
        };
        let all = vec![limited, free];
        let (mut lasting, mut restarting) = (decider(all.clone()), decider(all.clone()));
        let (mut minute, mut sent) = (0, Vec::new());
        let mut failing = [false; 3];
        for (number, step) in (0..).zip(steps) {
            minute += step.minutes;
            let now = at(minute);
            let pipeline = format!("p{}", step.pipeline);
            let run = || Observation::Ended(ended(&pipeline, number, step.status));
            if step.restart {
                let memory = serde_json::to_string(restarting.memory()).unwrap();
                let memory = serde_json::from_str(&memory).unwrap();
                restarting = Decider::new(all.clone(), "db1".to_owned(), memory);
            }
            let deliveries = lasting.observe(now, run());
            prop_assert_eq!(&deliveries, &restarting.observe(now, run()));

            let is_failing = &mut failing[usize::from(step.pipeline)];
            let expected = match step.status {
                DueStatus::Succeeded => std::mem::take(is_failing).then_some(NoticeKind::Recovery),
                DueStatus::Cancelled => None,
                _ => (!std::mem::replace(is_failing, true)).then_some(NoticeKind::Failure),
            };
            let mut free = deliveries.iter().filter(|one| one.notification == "free");
            let first = free.next().map(|one| one.notice.event);
            // The day of the reminder may have come.
            if expected.is_some() || minute < 24 * 60 {
                prop_assert_eq!(first, expected);
            }
            prop_assert!(free.next().is_none());
            for delivery in &deliveries {
                if delivery.notification == "limited" {
                    sent.push(minute);
                }
                lasting.delivered(delivery.id);
                restarting.delivered(delivery.id);
            }
            let last_hour = sent.iter().filter(|at| **at > minute - 60).count();
            prop_assert!(last_hour <= times as usize);
        }
    }
}
