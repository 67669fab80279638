//! The API over its real listeners, before a daemon that plays its part.

mod browser;
mod document;
mod tcp;

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::daemon::client::Client;
use crate::daemon::stage_daemon::{CURRENT, StageDaemon};
use crate::daemon::view::Event;
use crate::failure::Failure;

/// An API that listens, and the daemon behind it.
struct Stage {
    daemon: Arc<StageDaemon>,
    listening: Listening,
    folder: TempDir,
}

impl Stage {
    async fn open(config: Option<Http>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Arc::new(StageDaemon::default());
        let shutdown = CancellationToken::new();
        let listening = open(daemon.clone(), config.as_ref(), folder.path(), shutdown)
            .await
            .unwrap();
        Self {
            daemon,
            listening,
            folder,
        }
    }

    async fn client(&self) -> Client {
        Client::open(self.folder.path()).await.unwrap().unwrap()
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.daemon.asked.lock().unwrap())
    }
}

fn text(failure: &Failure) -> String {
    failure.to_text()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_reaches_everything_over_the_socket() {
    let stage = Stage::open(None).await;
    assert_eq!(stage.listening.tcp, None);
    let client = stage.client().await;
    let pipelines = client.get("/api/v1/pipelines").await.unwrap();
    assert_eq!(
        pipelines.pointer("/pipelines/0/name"),
        Some(&json!("logins"))
    );
    let body = json!({"limit": 5, "dry_run": true});
    let accepted = client
        .post("/api/v1/pipelines/logins/runs", Some(&body))
        .await;
    assert_eq!(accepted.unwrap(), json!({"run_id": "run-new"}));
    client
        .post("/api/v1/pipelines/logins/runs", None)
        .await
        .unwrap();
    client
        .post("/api/v1/pipelines/logins/start", None)
        .await
        .unwrap();
    let now = json!({"now": true});
    client
        .post("/api/v1/pipelines/logins/stop", Some(&now))
        .await
        .unwrap();
    client
        .post(&format!("/api/v1/runs/{CURRENT}/cancel"), Some(&now))
        .await
        .unwrap();
    let deleted = client.delete("/api/v1/pipelines/logins").await.unwrap();
    assert_eq!(deleted, json!({"trash": "trash/logins"}));
    assert_eq!(
        stage.asked(),
        [
            "run logins Some(5) true",
            "run logins None false",
            "start logins",
            "stop logins true",
            "cancel run-current true",
            "delete logins"
        ]
    );
    stage.listening.close().await;
    assert!(Client::open(stage.folder.path()).await.unwrap().is_none());
    assert!(text(&client.get("/api/v1/daemon").await.unwrap_err()).contains("etl-host serve"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_a_status_and_say_what_to_do() {
    let stage = Stage::open(None).await;
    let client = stage.client().await;
    for (name, message, exit_code) in [
        (
            "nope",
            "there is no pipeline `nope`\n  next: `etl-host list`",
            2,
        ),
        (
            "busy",
            "a run goes on already\n  next: look at its state",
            1,
        ),
        ("wrong", "no such partition\n  next: correct", 2),
        ("failing", "the disk is on fire", 1),
        (
            "panicking",
            "the host failed at this request\n  next: look in the daemon's log",
            1,
        ),
        ("%FF", "Invalid UTF-8", 2),
    ] {
        let path = format!("/api/v1/pipelines/{name}/runs");
        let failure = client.post(&path, None).await.unwrap_err();
        assert!(text(&failure).contains(message), "{}", text(&failure));
        assert_eq!(failure.exit_code(), exit_code, "{name}");
        // A panic of the handler itself and one on the blocking thread look the same.
        let path = format!("/api/v1/pipelines/{name}");
        let failure = client.get(&path).await.unwrap_err();
        assert!(text(&failure).contains(message), "{}", text(&failure));
        assert!(!text(&failure).contains("s3cret"));
    }
    for (path, body, message) in [
        ("/api/v1/nothing", json!(null), "there is no such address"),
        ("/api/v1/daemon", json!({}), "does not take that method"),
        (
            "/api/v1/pipelines/logins/runs",
            json!({"limt": 1}),
            "unknown field `limt`",
        ),
        (
            "/api/v1/pipelines/logins/stop",
            json!({"now": 1}),
            "expected a boolean",
        ),
    ] {
        let failure = client.post(path, Some(&body)).await.unwrap_err();
        assert!(text(&failure).contains(message), "{}", text(&failure));
    }
    assert_eq!(stage.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_comes_in_pages() {
    let stage = Stage::open(None).await;
    let client = stage.client().await;
    let mut path = "/api/v1/runs?limit=1&pipeline=logins&status=succeeded".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = client.get(&path).await.unwrap();
        seen.push(page["runs"][0]["run_id"].as_str().unwrap().to_owned());
        match page["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ["run-3", "run-1"]);
    for wrong in ["limit=0", "limit=501", "limit=x", "limt=1"] {
        let failure = client
            .get(&format!("/api/v1/runs?{wrong}"))
            .await
            .unwrap_err();
        assert_eq!(failure.exit_code(), 2, "{wrong}");
    }
    let run = client.get("/api/v1/runs/run-2").await.unwrap();
    assert_eq!(run["current"], Value::Null);
    assert_eq!(run["summary"]["status"], "failed");
    assert_eq!(run["report"]["run_id"], "run-2");
    let run = client
        .get(&format!("/api/v1/runs/{CURRENT}"))
        .await
        .unwrap();
    assert_eq!(run["current"]["partitions"][0]["extracted"], 7);
    assert_eq!(run["report"], Value::Null);
    assert!(client.get("/api/v1/runs/nope").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_until_the_end_and_streams_end_with_the_daemon() {
    let stage = Stage::open(None).await;
    let client = stage.client().await;
    let path = format!("/api/v1/runs/{CURRENT}/progress");
    let mut following = client.follow(&path).await.unwrap();
    let first = following.next().await.unwrap().unwrap();
    assert_eq!(
        (first.event.as_str(), &first.data["run_id"]),
        ("progress", &json!(CURRENT))
    );
    stage.daemon.end();
    let mut last = first;
    while let Some(received) = following.next().await.unwrap() {
        last = received;
    }
    assert_eq!(
        (last.event.as_str(), &last.data["status"]),
        ("end", &json!("succeeded"))
    );
    let Err(failure) = client.follow("/api/v1/runs/nope/progress").await else {
        panic!("it does not go on");
    };
    assert!(text(&failure).contains("there is no run `nope`"));

    let mut events = client.follow("/api/v1/events").await.unwrap();
    stage.listening.close().await;
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_and_who_is_too_slow_is_told() {
    let stage = Stage::open(None).await;
    let client = stage.client().await;
    let mut events = client.follow("/api/v1/events").await.unwrap();
    let changed = |pipeline: String| Event::PipelineChanged { pipeline };
    stage
        .daemon
        .events
        .send(changed("logins".to_owned()))
        .unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(first.event, "pipeline_changed");
    assert_eq!(
        first.data,
        json!({"event": "pipeline_changed", "pipeline": "logins"})
    );
    // More than the channel holds and than fits into the socket's buffers, faster than anybody reads.
    let long = "x".repeat(100_000);
    for _ in 0..200 {
        stage.daemon.events.send(changed(long.clone())).unwrap();
    }
    loop {
        let received = events.next().await.unwrap().unwrap();
        if received.event == "lagged" {
            assert!(received.data["missed"].as_u64().unwrap() > 0);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_set_and_paused() {
    let stage = Stage::open(None).await;
    let client = stage.client().await;
    let path = "/api/v1/pipelines/logins/schedule";
    client.get(path).await.unwrap();
    client
        .put(path, &json!({"form": "daily 03:00"}))
        .await
        .unwrap();
    client.post(&format!("{path}/pause"), None).await.unwrap();
    client.post(&format!("{path}/resume"), None).await.unwrap();
    let view = client.delete(path).await.unwrap();
    assert_eq!(view["origin"], "none");
    assert_eq!(
        stage.asked(),
        [
            "schedule logins daily 03:00",
            "schedule logins Pause",
            "schedule logins Resume",
            "schedule logins Remove"
        ]
    );
    let wrong = client.put(path, &json!({"cron": "x"})).await.unwrap_err();
    assert!(text(&wrong).contains("unknown field `cron`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_and_followed() {
    use std::io::Write;
    let stage = Stage::open(None).await;
    let client = stage.client().await;
    let path = "/api/v1/pipelines/logins/logs";
    // It begins with the first run.
    assert_eq!(client.get(path).await.unwrap(), json!({"lines": []}));
    let mut early = client.follow(&format!("{path}?follow=true")).await.unwrap();
    let mut log = std::fs::File::create(stage.daemon.logs.path().join("logins.log")).unwrap();
    let mut say = |level: &str, message: &str| {
        let line = json!({
            "time": "2026-03-01T00:00:00.000Z", "level": level, "target": "etl_host",
            "message": message, "pipeline": "logins", "run_id": "run-1",
        });
        writeln!(log, "{line}").unwrap();
    };
    say("INFO", "one");
    let begins = early.next().await.unwrap().unwrap();
    assert_eq!(begins.data["message"], "one");
    say("ERROR", "two");
    let messages = |answer: &Value| {
        let lines = answer["lines"].as_array().unwrap();
        let all: Vec<_> = lines.iter().map(|line| line["message"].clone()).collect();
        Value::from(all)
    };
    let all = client.get(path).await.unwrap();
    assert_eq!(messages(&all), json!(["one", "two"]));
    let some = client
        .get(&format!("{path}?level=ERROR&run=run-1&lines=5"))
        .await;
    assert_eq!(messages(&some.unwrap()), json!(["two"]));
    for wrong in ["lines=10001", "level=LOUD", "folow=true"] {
        assert!(
            client.get(&format!("{path}?{wrong}")).await.is_err(),
            "{wrong}"
        );
    }
    let mut following = client
        .follow(&format!("{path}?follow=true&lines=1"))
        .await
        .unwrap();
    let first = following.next().await.unwrap().unwrap();
    assert_eq!(
        (first.event.as_str(), &first.data["message"]),
        ("line", &json!("two"))
    );
    say("INFO", "three");
    let next = following.next().await.unwrap().unwrap();
    assert_eq!(next.data["message"], "three");
    // A name is no path.
    let outside = client
        .get("/api/v1/pipelines/..%2Flogins/logs")
        .await
        .unwrap_err();
    assert!(text(&outside).contains("there is no pipeline"));
}

#[tokio::test]
async fn what_takes_longer_goes_on_behind_the_answer() {
    let daemon = Arc::new(StageDaemon::default());
    let api = |wait| Api::new(daemon.clone(), CancellationToken::new()).wait(wait);
    let stop = async |wait| {
        let request = api::Body(pipelines::StopRequest::default());
        let name = api::Name("logins".to_owned());
        let stopped = pipelines::stop(axum::extract::State(api(wait)), name, request).await;
        stopped.unwrap().status().as_u16()
    };
    let replay = async |wait| {
        let request = api::Body(dead_letters::ReplayRequest::default());
        let name = api::Name("logins".to_owned());
        let replayed = dead_letters::replay(axum::extract::State(api(wait)), name, request).await;
        replayed.unwrap().status().as_u16()
    };
    assert_eq!(stop(Duration::ZERO).await, 202);
    assert_eq!(replay(Duration::ZERO).await, 202);
    daemon.end();
    assert_eq!(stop(Duration::from_mins(1)).await, 200);
    assert_eq!(replay(Duration::from_mins(1)).await, 200);
}
