//! What goes on, as server-sent events: a run's progress, and all events of the daemon.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::api::{Api, Name, Shared};
use super::problem::{ErrorBody, Problem};
use super::runs::RunDetails;
use crate::daemon::view::Event;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

/// How often a silent stream gives a sign of life, so that nothing in between cuts it.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Where a run stands, each second while it goes on as `progress`; then its summary as `end`.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}/progress", operation_id = "follow_run", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    responses(
        (status = 200, description = "As it is", content_type = "text/event-stream", body = String),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub async fn progress(
    State(api): Shared,
    Name(id): Name,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let first = details(&api, &id).await?;
    let shutdown = api.shutdown.clone();
    let following = stream::unfold(Some((api, id, Some(first))), |state| async {
        let (api, id, known) = state?;
        let details = if let Some(first) = known {
            first
        } else {
            tokio::time::sleep(PROGRESS).await;
            // The history may be away for a moment; the stream ends, and who follows asks again.
            details(&api, &id).await.ok()?
        };
        Some(match details.current {
            Some(run) => (event("progress", &run), Some((api, id, None))),
            None => (event("end", &details.summary), None),
        })
    });
    Ok(sse(following.take_until(shutdown.cancelled_owned())))
}

async fn details(api: &Api, id: &str) -> Result<RunDetails, Problem> {
    let id = id.to_owned();
    api.ask(move |daemon| RunDetails::of(daemon, &id)).await
}

/// What happens from now on. The event's name is also its field `event`; who reads too slowly is told `lagged`.
#[utoipa::path(
    get, path = "/api/v1/events", operation_id = "follow_events", tag = "daemon",
    responses((status = 200, description = "As it is", content_type = "text/event-stream", body = String)),
)]
pub async fn events(State(api): Shared) -> Sse<impl Stream<Item = Result<Sent, Infallible>>> {
    let receiver = api.operations().subscribe();
    let following = stream::unfold(receiver, |mut receiver| async {
        let sent = match receiver.recv().await {
            Ok(happened) => event(name(&happened), &happened),
            Err(RecvError::Lagged(missed)) => {
                event("lagged", &json!({"event": "lagged", "missed": missed}))
            }
            Err(RecvError::Closed) => return None,
        };
        Some((sent, receiver))
    });
    sse(following.take_until(api.shutdown.cancelled_owned()))
}

pub fn sse<S>(stream: S) -> Sse<impl Stream<Item = Result<Sent, Infallible>>>
where
    S: Stream<Item = Sent> + Send + 'static,
{
    Sse::new(stream.map(Ok)).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}

pub fn event(name: &str, data: &impl serde::Serialize) -> Sent {
    // JSON has no line breaks of its own, and nothing here fails to become JSON.
    let data = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
    Sent::default().event(name).data(data)
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::RunStarted { .. } => "run_started",
        Event::RunEnded { .. } => "run_ended",
        Event::Skipped { .. } => "skipped",
        Event::PipelineChanged { .. } => "pipeline_changed",
        Event::PluginsChanged { .. } => "plugins_changed",
    }
}
