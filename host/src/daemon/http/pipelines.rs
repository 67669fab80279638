//! Pipelines: what they are and do, and having them run, start, stop and go.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::api::{Body, Name, Shared, query};
use super::overview::{PipelinesQuery, build_page};
use super::problem::{ErrorBody, Problem};
use crate::daemon::Refusal;
use crate::daemon::view::{OriginView, PipelineView, RunRequest};

/// A page of pipelines.
#[derive(Serialize, ToSchema)]
pub struct PipelinesPage {
    /// Those that were asked for.
    pipelines: Vec<PipelineView>,
    /// How many match, on this page or not.
    total: usize,
    /// How many of all pipelines are in each state, and `failing`.
    #[schema(value_type = Object)]
    states: BTreeMap<&'static str, usize>,
}

/// Where the values of a configuration come from.
#[derive(Serialize, ToSchema)]
pub struct Origins {
    /// Each value, by its key.
    values: Vec<OriginView>,
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

/// Pipelines, with what they do and when they are due.
#[utoipa::path(
    get, path = "/api/v1/pipelines", operation_id = "list_pipelines", tag = "pipelines", params(PipelinesQuery),
    responses((status = 200, description = "As it is", body = PipelinesPage), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn list(
    State(api): Shared,
    asked: Result<Query<PipelinesQuery>, QueryRejection>,
) -> Result<Json<PipelinesPage>, Problem> {
    let asked = query(asked)?;
    let page = api
        .ask(move |daemon| {
            let mut page = build_page(daemon.pipelines()?, &asked);
            for pipeline in &mut page.pipelines {
                daemon.add_recent(pipeline)?;
            }
            Ok::<_, Refusal>(page)
        })
        .await?;
    Ok(Json(PipelinesPage {
        pipelines: page.pipelines,
        total: page.total,
        states: page.states,
    }))
}

/// One pipeline.
#[utoipa::path(
    get, path = "/api/v1/pipelines/{name}", operation_id = "get_pipeline", tag = "pipelines",
    params(("name" = String, Path, description = "The pipeline")),
    responses((status = 200, description = "As it is", body = PipelineView), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn get(State(api): Shared, Name(name): Name) -> Result<Json<PipelineView>, Problem> {
    api.ask(move |daemon| {
        let mut view = daemon.pipeline(&name)?;
        daemon.add_recent(&mut view)?;
        Ok::<_, Refusal>(view)
    })
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

/// The same value by value, with where each comes from.
#[utoipa::path(
    get, path = "/api/v1/pipelines/{name}/config/origins", operation_id = "get_config_origins", tag = "pipelines",
    params(("name" = String, Path, description = "The pipeline")),
    responses((status = 200, description = "As it is", body = Origins), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn config_origins(
    State(api): Shared,
    Name(name): Name,
) -> Result<Json<Origins>, Problem> {
    let values = api.ask(move |daemon| daemon.config_origins(&name)).await?;
    Ok(Json(Origins { values }))
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
