//! Notifications reach a real web server and a real program; what goes wrong there harms nobody else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use etl_host::config::notifications::{NoticeKind, Notification};
use etl_host::config::{Daemon, Layer, load_daemon};
use etl_host::daemon::clock::SystemClock;
use etl_host::daemon::notify::notice::Fault;
use etl_host::daemon::notify::{EndedRun, Notifier, Observation};
use etl_host::sink::due::{DueRun, DueStatus};
use etl_host::state::State;
use etl_testkit::process::wait_for_stranger;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;

const PAUSE: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_mins(1);

/// A web server that answers as it is told to, and with 200 after that.
struct Receiver {
    url: String,
    requests: mpsc::UnboundedReceiver<(HeaderMap, Value)>,
    task: tokio::task::JoinHandle<()>,
}

type Answers = Arc<Mutex<VecDeque<u16>>>;

impl Receiver {
    async fn start(answers: &[u16]) -> Self {
        let (sender, requests) = mpsc::unbounded_channel();
        let answers: Answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
        let answer = |Shared((sender, answers)): Shared<(mpsc::UnboundedSender<_>, Answers)>,
                      headers: HeaderMap,
                      body: Bytes| async move {
            let body: Value = serde_json::from_slice(&body).unwrap();
            sender.send((headers, body)).unwrap();
            let status = answers.lock().unwrap().pop_front().unwrap_or(200);
            let elsewhere = [("location", "http://127.0.0.1:1/stolen")];
            (StatusCode::from_u16(status).unwrap(), elsewhere)
        };
        let app = Router::new()
            .route("/{token}", post(answer))
            .with_state((sender, answers));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/secret-token", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            url,
            requests,
            task,
        }
    }

    async fn next(&mut self) -> Value {
        self.requests.recv().await.unwrap().1
    }

    /// How many more have come by now.
    fn more(&mut self) -> usize {
        std::iter::from_fn(|| self.requests.try_recv().ok()).count()
    }
}

fn configured(yaml: &str) -> Daemon {
    let layer = Layer {
        name: "etl-host.yaml".to_owned(),
        text: yaml.to_owned(),
        of_plugin: false,
    };
    let env = |name: &str| (name == "TOKEN").then(|| "hunter2-of-the-header".to_owned());
    load_daemon(&layer, &env).unwrap()
}

fn webhook(url: &str) -> Vec<Notification> {
    let yaml = format!(
        r#"
notifications:
  - name: on-call
    webhook: {{ url: "{url}", headers: {{ Authorization: "Bearer ${{TOKEN}}" }}, timeout: 30s }}
"#
    );
    configured(&yaml).notifications
}

fn command(run: &[&str], timeout: &str) -> Vec<Notification> {
    let run = serde_json::to_string(run).unwrap();
    let yaml = format!(
        "notifications: [{{ name: pager, command: {{ run: {run}, timeout: {timeout} }} }}]\n"
    );
    configured(&yaml).notifications
}

fn notifier(folder: &Path, notifications: Vec<Notification>) -> Notifier {
    let state = State::open(folder).unwrap();
    Notifier::start_with(notifications, state, Arc::new(SystemClock), PAUSE).unwrap()
}

fn ended(run_id: &str, status: DueStatus) -> Observation {
    Observation::Ended(EndedRun {
        pipeline: "login-analytics".to_owned(),
        run_id: run_id.to_owned(),
        status,
        scheduled_for: Some("2026-03-01T00:00:00Z".parse().unwrap()),
        started_at: "2026-03-01T00:00:01Z".to_owned(),
        finished_at: Some("2026-03-01T00:00:02Z".to_owned()),
        error: (status != DueStatus::Succeeded).then(|| Fault {
            message: "there is no table people".to_owned(),
            next_step: Some("make it".to_owned()),
        }),
    })
}

#[tokio::test]
async fn a_webhook_gets_failure_and_recovery_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start(&[]).await;
    let notifier = notifier(folder.path(), webhook(&receiver.url));
    notifier.tell(ended("1", DueStatus::Failed));
    let (headers, mut failure) = receiver.requests.recv().await.unwrap();
    assert_eq!(headers["authorization"], "Bearer hunter2-of-the-header");
    assert_eq!(headers["content-type"], "application/json");
    let at: Timestamp = failure["at"].as_str().unwrap().parse().unwrap();
    assert!(at <= Timestamp::now());
    assert!(!failure["host"].as_str().unwrap().is_empty());
    failure["at"] = "$at".into();
    failure["host"] = "$host".into();
    expect_test::expect![[r#"
        {
          "at": "$at",
          "error": {
            "message": "there is no table people",
            "next_step": "make it"
          },
          "event": "failure",
          "failed_runs": 1,
          "failing_since": "2026-03-01T00:00:01Z",
          "finished_at": "2026-03-01T00:00:02Z",
          "host": "$host",
          "left_out": 0,
          "pipeline": "login-analytics",
          "run_id": "1",
          "scheduled_for": "2026-03-01T00:00:00Z",
          "started_at": "2026-03-01T00:00:01Z",
          "status": "failed",
          "text": "login-analytics failed: there is no table people. Next: make it"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&failure).unwrap());
    let documented = include_str!("../../docs/json.md");
    let section = documented.split("## Notifications").nth(1).unwrap();
    for field in failure.as_object().unwrap().keys() {
        assert!(
            section.contains(&format!("`{field}`")),
            "{field} is not documented"
        );
    }
    notifier.tell(ended("2", DueStatus::Succeeded));
    let recovery = receiver.next().await;
    assert_eq!(recovery["event"], "recovery");
    assert_eq!(
        recovery["text"],
        "login-analytics runs again, after a failed run"
    );
    notifier.close(LONG).await;
    receiver.task.abort();
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    let folder = tempfile::tempdir().unwrap();
    // The first notice: three failures, then a success. The second: refused for good. The third: never follows.
    let mut receiver = Receiver::start(&[500, 503, 429, 200, 404, 302]).await;
    let notifier = notifier(folder.path(), webhook(&receiver.url));
    for (run_id, status) in [
        ("1", DueStatus::Failed),
        ("2", DueStatus::Succeeded),
        ("3", DueStatus::Failed),
        ("4", DueStatus::Succeeded),
    ] {
        notifier.tell(ended(run_id, status));
    }
    notifier.close(LONG).await;
    let mut came = Vec::new();
    while let Ok((_, body)) = receiver.requests.try_recv() {
        came.push(body["run_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(came, ["1", "1", "1", "1", "2", "3", "4"]);
    receiver.task.abort();
}

#[tokio::test]
async fn a_server_that_always_fails_is_given_up_after_three_retries() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start(&[500; 8]).await;
    let hooks = notifier(folder.path(), webhook(&receiver.url));
    hooks.tell(ended("1", DueStatus::Failed));
    hooks.close(LONG).await;
    assert_eq!(receiver.more(), 4);
    // It counts as told: a restart does not begin anew.
    let hooks = notifier(folder.path(), webhook(&receiver.url));
    hooks.tell(ended("2", DueStatus::Failed));
    hooks.close(LONG).await;
    assert_eq!(receiver.more(), 0);
    receiver.task.abort();
}

#[tokio::test]
async fn a_restart_delivers_what_was_left_and_tells_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there until later: the port was given to somebody who is gone.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}/hook", listener.local_addr().unwrap());
    let first = notifier(folder.path(), webhook(&silent));
    first.tell(ended("1", DueStatus::Failed));
    // It has connected, and gets no answer: the notice is on its way.
    let (_connection, _) = listener.accept().await.unwrap();
    first.close(Duration::ZERO).await;

    let mut receiver = Receiver::start(&[]).await;
    let second = notifier(folder.path(), webhook(&receiver.url));
    second.tell(ended("2", DueStatus::Failed));
    assert_eq!(receiver.next().await["run_id"], "1");
    second.close(LONG).await;
    let third = notifier(folder.path(), webhook(&receiver.url));
    third.tell(ended("3", DueStatus::Succeeded));
    let recovery = receiver.next().await;
    assert_eq!(recovery["event"], "recovery");
    assert_eq!(recovery["failed_runs"], 2);
    third.close(LONG).await;
    assert_eq!(receiver.more(), 0);
    receiver.task.abort();
}

#[tokio::test]
async fn a_late_run_is_told_when_its_time_has_come() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start(&[]).await;
    let notifier = notifier(folder.path(), webhook(&receiver.url));
    let due = DueRun::new("p", Timestamp::now());
    let late_after = Duration::from_millis(200);
    let awaited = Observation::Due {
        due: due.clone(),
        late_after,
    };
    notifier.tell(awaited);
    let late = receiver.next().await;
    assert_eq!(late["event"], "lateness");
    assert_eq!(late["status"], "queued");
    assert_eq!(late["scheduled_for"], due.scheduled_for.to_string());
    let at: Timestamp = late["at"].as_str().unwrap().parse().unwrap();
    assert!(at >= due.scheduled_for + late_after);
    notifier.close(LONG).await;
    receiver.task.abort();
}

#[tokio::test]
async fn a_command_gets_the_notice_and_nothing_of_the_host_s_environment() {
    let folder = tempfile::tempdir().unwrap();
    let (input, environment) = (folder.path().join("in"), folder.path().join("env"));
    let script = r#"cat > "$1" && env | sort > "$2""#;
    let paths = [input.to_str().unwrap(), environment.to_str().unwrap()];
    let run = ["/bin/sh", "-c", script, "page", paths[0], paths[1]];
    let notifier = notifier(folder.path(), command(&run, "30s"));
    notifier.tell(ended("1", DueStatus::Partial));
    notifier.close(LONG).await;
    let notice: Value = serde_json::from_slice(&fs::read(&input).unwrap()).unwrap();
    assert_eq!(notice["status"], "partial");
    let environment = fs::read_to_string(&environment).unwrap();
    // What a shell adds by itself.
    let own = ["PWD=", "OLDPWD=", "SHLVL=", "_=", "PATH="];
    let given = environment
        .lines()
        .filter(|line| !own.iter().any(|own| line.starts_with(own)));
    assert_eq!(
        given.collect::<Vec<_>>(),
        [
            "ETL_EVENT=failure",
            "ETL_PIPELINE=login-analytics",
            "ETL_RUN_ID=1",
            "ETL_STATUS=partial"
        ]
    );
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    // A doubled `$` is one in the configuration.
    let script = r#"sleep 1000 & echo "$$$$ $!" > "$1"; wait"#;
    let run = ["/bin/sh", "-c", script, "page", pids.to_str().unwrap()];
    let notifier = notifier(folder.path(), command(&run, "500ms"));
    notifier.tell(ended("1", DueStatus::Failed));
    notifier.close(LONG).await;
    for pid in fs::read_to_string(&pids).unwrap().split_whitespace() {
        wait_for_stranger(pid.parse().unwrap(), LONG).unwrap();
    }
}

#[tokio::test]
async fn a_command_that_leaves_somebody_behind_or_reads_nothing_has_done_its_work() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    // The one left behind holds standard error and standard input open.
    let script = r#"sleep 1000 & echo $! > "$1"; exit 0"#;
    let run = ["/bin/sh", "-c", script, "page", pid.to_str().unwrap()];
    let notifier = notifier(folder.path(), command(&run, "30s"));
    notifier.tell(ended("1", DueStatus::Failed));
    notifier.close(LONG).await;
    let left = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    wait_for_stranger(left, LONG).unwrap();
}

#[tokio::test]
async fn one_that_hangs_does_not_keep_others_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let mut receiver = Receiver::start(&[]).await;
    let mut both = command(&["/bin/sleep", "1000"], "10m");
    both.extend(webhook(&receiver.url));
    let notifier = notifier(folder.path(), both);
    notifier.tell(ended("1", DueStatus::Failed));
    notifier.tell(ended("2", DueStatus::Succeeded));
    assert_eq!(receiver.next().await["event"], "failure");
    assert_eq!(receiver.next().await["event"], "recovery");
    notifier.close(Duration::ZERO).await;
    receiver.task.abort();
}

#[test]
fn no_token_is_shown() {
    let yaml = r#"
lateness: 15m
notifications:
  - name: on-call
    events: [failure, lateness]
    webhook: { url: "https://hooks.example.com/T0/secret-token", headers: { Authorization: "Bearer ${TOKEN}" } }
  - name: pager
    pipelines: [login-analytics]
    command: { run: ["/usr/local/bin/page", "--key=${TOKEN}"] }
    at_most: { times: 10, per: 2h }
    repeat_after: 6h
"#;
    let daemon = configured(yaml);
    assert_eq!(daemon.lateness, Some(Duration::from_mins(15)));
    let [on_call, pager] = daemon.notifications.as_slice() else {
        panic!("two of them");
    };
    assert_eq!(on_call.events, [NoticeKind::Failure, NoticeKind::Lateness]);
    assert_eq!((pager.events.len(), pager.at_most.times), (3, 10));
    assert_eq!(pager.repeat_after, Duration::from_hours(6));
    for shown in [
        serde_json::to_string(&daemon).unwrap(),
        format!("{daemon:?}"),
    ] {
        for secret in ["secret-token", "hunter2"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[test]
fn mistakes_are_told_without_their_secrets() {
    let yaml = r#"
notifications:
  - { name: a, webhook: { url: "ftp://user:hunter2@example.com" } }
  - { name: a, webhook: { url: "https://example.com", headers: { "X Y": v, Z: "hunter2\nZ: 2" } } }
  - { name: c, command: { run: [] } }
  - { name: d }
  - { name: e, events: [failures], command: { run: [/bin/true], timeout: 0s } }
  - { name: f, webhook: { url: "https://example.com" }, command: { run: [/bin/true] } }
"#;
    let layer = Layer {
        name: "etl-host.yaml".to_owned(),
        text: yaml.to_owned(),
        of_plugin: false,
    };
    let errors = load_daemon(&layer, &|_| None).unwrap_err().to_string();
    assert!(!errors.contains("hunter2"), "{errors}");
    expect_test::expect![[r#"
        etl-host.yaml:3:32: notifications[0].webhook.url: expected a URL (such as "https://alerts.example.com/hook")
        etl-host.yaml:4:73: notifications[1].webhook.headers."X Y": `X Y` is no name of a header
        etl-host.yaml:4:79: notifications[1].webhook.headers.Z: cannot be the value of a header (write it in one line, without control characters)
        etl-host.yaml:5:27: notifications[2].command.run: names no program (such as ["/usr/local/bin/page", "--queue", "etl"])
        etl-host.yaml:6:5: notifications[3].webhook: is required but not given
        etl-host.yaml:7:25: notifications[4].events[0]: expected one of failure, recovery, lateness, found "failures" (did you mean failure?)
        etl-host.yaml:7:74: notifications[4].command.timeout: expected a duration between 1ms and 10m
        etl-host.yaml:8:57: notifications[5].command: a notification has either a webhook or a command (make two notifications of it)"#]].assert_eq(&errors);
}
