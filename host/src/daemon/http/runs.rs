//! Runs: those that go on, those of the past, and stopping one.

#![expect(unused_qualifications, reason = "what utoipa makes of `params`")]

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::api::{Body, Name, Shared, query};
use super::pipelines::StopRequest;
use super::problem::{ErrorBody, Problem};
use crate::daemon::operations::Operations;
use crate::daemon::view::{RunSummary, RunView};
use crate::daemon::{HistoryQuery, Refusal};

/// The most runs on a page.
const MOST: u32 = 500;

/// Which runs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// Only this pipeline's.
    pipeline: Option<String>,
    /// Only those that ended like this.
    status: Option<String>,
    /// Only those that began before this run.
    before: Option<String>,
    /// At most so many, 1 to 500.
    #[serde(default = "usual")]
    #[param(default = 50, minimum = 1, maximum = 500)]
    limit: u32,
}

fn usual() -> u32 {
    50
}

/// A page of the history.
#[derive(Serialize, ToSchema)]
pub struct Runs {
    /// Newest first.
    runs: Vec<RunSummary>,
    /// The address of the next page; `null` if this is the last.
    next: Option<String>,
}

/// A run, whether it goes on or is over.
#[derive(Serialize, ToSchema)]
pub struct RunDetails {
    /// Where it stands; `null` once it is over.
    pub current: Option<RunView>,
    /// What history has of it; `null` as long as it waits for its turn.
    pub summary: Option<RunSummary>,
    /// Its report, as `etl-host run --output json` writes it; `null` until it is over.
    #[schema(value_type = Option<Object>)]
    pub report: Option<Value>,
}

impl RunDetails {
    /// Of a run.
    pub fn of(daemon: &dyn Operations, run_id: &str) -> Result<Self, Refusal> {
        let current = daemon
            .running()
            .into_iter()
            .find(|run| run.run_id == run_id);
        let summary = daemon.summary(run_id)?;
        if current.is_none() && summary.is_none() {
            return Err(Refusal::NotFound(format!("there is no run `{run_id}`")));
        }
        let report = match current {
            None => daemon.report(run_id)?,
            Some(_) => None,
        };
        Ok(Self {
            current,
            summary,
            report,
        })
    }
}

/// Runs of the past and those that go on, newest first.
#[utoipa::path(
    get, path = "/api/v1/runs", operation_id = "list_runs", tag = "runs", params(RunsQuery),
    responses((status = 200, description = "As it is", body = Runs), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn list(
    State(api): Shared,
    asked: Result<Query<RunsQuery>, QueryRejection>,
) -> Result<Json<Runs>, Problem> {
    let asked = query(asked)?;
    let limit = asked.limit;
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "`limit` is a number from 1 to 500",
            "take a smaller one, and follow `next` for more",
        ));
    }
    let filter = HistoryQuery {
        pipeline: asked.pipeline.clone(),
        status: asked.status.clone(),
        before: asked.before.clone(),
        // One more tells whether there is a next page.
        limit: limit + 1,
        ..HistoryQuery::default()
    };
    let mut runs = api.ask(move |daemon| daemon.history(&filter)).await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = runs.len() > most;
    runs.truncate(most);
    let next = runs.last().filter(|_| more).map(|last| {
        let mut address = format!(
            "/api/v1/runs?limit={limit}&before={}",
            escaped(&last.run_id)
        );
        for (key, value) in [("pipeline", &asked.pipeline), ("status", &asked.status)] {
            if let Some(value) = value {
                address.extend(["&", key, "=", &escaped(value)]);
            }
        }
        address
    });
    Ok(Json(Runs { runs, next }))
}

/// One run.
#[utoipa::path(
    get, path = "/api/v1/runs/{id}", operation_id = "get_run", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    responses((status = 200, description = "As it is", body = RunDetails), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn get(State(api): Shared, Name(id): Name) -> Result<Json<RunDetails>, Problem> {
    api.ask(move |daemon| RunDetails::of(daemon, &id))
        .await
        .map(Json)
}

/// Asks a run to stop. It commits what is in flight, or rolls it back with `now`.
#[utoipa::path(
    post, path = "/api/v1/runs/{id}/cancel", operation_id = "cancel_run", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    request_body = Option<StopRequest>,
    responses((status = 202, description = "It goes on", body = Object), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn cancel(
    State(api): Shared,
    Name(id): Name,
    Body(request): Body<StopRequest>,
) -> Result<Response, Problem> {
    let answer = json!({"run_id": id});
    api.ask(move |daemon| daemon.cancel(&id, request.now))
        .await?;
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// A value as an address may hold it.
fn escaped(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
