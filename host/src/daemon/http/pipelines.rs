//! Pipelines: what they are and do, and having them run, start, stop and go.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::api::{Body, Name, Shared};
use super::problem::{ErrorBody, Problem};
use crate::daemon::operations::Operations;
use crate::daemon::view::{PipelineView, RunRequest};

/// All pipelines.
#[derive(Serialize, ToSchema)]
pub struct Pipelines {
    /// By name.
    pipelines: Vec<PipelineView>,
}

/// A run was accepted.
#[derive(Serialize, ToSchema)]
pub struct Accepted {
    /// The run.
    run_id: String,
}

/// A pipeline was started.
#[derive(Serialize, ToSchema)]
pub struct Started {
    /// The run that begins; `null` if one goes on already.
    run_id: Option<String>,
}

/// How to stop.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StopRequest {
    /// Roll back what is in flight instead of committing it.
    pub now: bool,
}

/// A pipeline was deleted.
#[derive(Serialize, ToSchema)]
pub struct Deleted {
    /// Where its files are; `null` if they are still on their way.
    trash: Option<String>,
}

/// All pipelines, with what they do and when they are due.
#[utoipa::path(
    get, path = "/api/v1/pipelines", operation_id = "list_pipelines", tag = "pipelines",
    responses((status = 200, description = "As it is", body = Pipelines), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn list(State(api): Shared) -> Result<Json<Pipelines>, Problem> {
    let pipelines = api.ask(Operations::pipelines).await?;
    Ok(Json(Pipelines { pipelines }))
}

/// One pipeline.
#[utoipa::path(
    get, path = "/api/v1/pipelines/{name}", operation_id = "get_pipeline", tag = "pipelines",
    params(("name" = String, Path, description = "The pipeline")),
    responses((status = 200, description = "As it is", body = PipelineView), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn get(State(api): Shared, Name(name): Name) -> Result<Json<PipelineView>, Problem> {
    api.ask(move |daemon| daemon.pipeline(&name))
        .await
        .map(Json)
}

/// The configuration that is in force, secrets as `***`.
#[utoipa::path(
    get, path = "/api/v1/pipelines/{name}/config", operation_id = "get_config", tag = "pipelines",
    params(("name" = String, Path, description = "The pipeline")),
    responses((status = 200, description = "As it is", body = Object), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn config(State(api): Shared, Name(name): Name) -> Result<Json<Value>, Problem> {
    api.ask(move |daemon| daemon.config(&name)).await.map(Json)
}

/// Starts a run. Where it stands is at the address in `Location`.
#[utoipa::path(
    post, path = "/api/v1/pipelines/{name}/runs", operation_id = "run_pipeline", tag = "pipelines",
    params(("name" = String, Path, description = "The pipeline")),
    request_body = Option<RunRequest>,
    responses(
        (status = 202, description = "It goes on", body = Accepted, headers(("Location" = String, description = "The run"))),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub async fn run(
    State(api): Shared,
    Name(name): Name,
    Body(request): Body<RunRequest>,
) -> Result<Response, Problem> {
    let ordered = api
        .act(|daemon| async move { daemon.run(&name, request).await })
        .await?;
    accepted(ordered)
}

/// The answer to an order for a run.
pub fn accepted(run_id: Option<String>) -> Result<Response, Problem> {
    // Accepting one is quick; a daemon that cannot say after so long is not well.
    let run_id = run_id.ok_or_else(busy)?;
    let location = format!("/api/v1/runs/{run_id}");
    let answer = Json(Accepted { run_id });
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], answer).into_response())
}

/// Enables a pipeline, also one that was parked, and starts a run of it unless one goes on.
#[utoipa::path(
    post, path = "/api/v1/pipelines/{name}/start", operation_id = "start_pipeline", tag = "pipelines",
    params(("name" = String, Path, description = "The pipeline")),
    responses((status = 202, description = "It goes on", body = Started), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn start(State(api): Shared, Name(name): Name) -> Result<Response, Problem> {
    let started = api
        .act(|daemon| async move { daemon.start(&name).await })
        .await?;
    let run_id = started.ok_or_else(busy)?;
    Ok((StatusCode::ACCEPTED, Json(Started { run_id })).into_response())
}

/// Disables a pipeline and stops its run: `200` once it has ended, `202` as long as it drains.
#[utoipa::path(
    post, path = "/api/v1/pipelines/{name}/stop", operation_id = "stop_pipeline", tag = "pipelines",
    params(("name" = String, Path, description = "The pipeline")),
    request_body = Option<StopRequest>,
    responses(
        (status = 200, description = "As it is", body = PipelineView),
        (status = 202, description = "It goes on", body = PipelineView),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub async fn stop(
    State(api): Shared,
    Name(name): Name,
    Body(request): Body<StopRequest>,
) -> Result<Response, Problem> {
    let stopping = name.clone();
    let stopped = api
        .act(|daemon| async move { daemon.stop(&stopping, request.now).await })
        .await?;
    let view = api.ask(move |daemon| daemon.pipeline(&name)).await?;
    Ok((done(stopped.is_some()), Json(view)).into_response())
}

/// Stops a pipeline and moves its files to the trash. The sink's data stays.
#[utoipa::path(
    delete, path = "/api/v1/pipelines/{name}", operation_id = "delete_pipeline", tag = "pipelines",
    params(("name" = String, Path, description = "The pipeline")),
    responses(
        (status = 200, description = "As it is", body = Deleted),
        (status = 202, description = "It goes on", body = Deleted),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub async fn delete(State(api): Shared, Name(name): Name) -> Result<Response, Problem> {
    let deleted = api
        .act(|daemon| async move { daemon.delete(&name).await })
        .await?;
    let trash = deleted.map(|path| path.display().to_string());
    Ok((done(trash.is_some()), Json(Deleted { trash })).into_response())
}

/// The status of something that is done, or still goes on.
fn done(done: bool) -> StatusCode {
    if done {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    }
}

fn busy() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the daemon has not answered in time",
        "look at the pipeline's state: it may have started all the same",
    )
}
