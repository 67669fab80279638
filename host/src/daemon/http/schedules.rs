//! Schedules: which one holds, and setting another.

use axum::Json;
use axum::extract::State;

use super::api::{Api, Body, Name, Shared};
use super::problem::{ErrorBody, Problem};
use crate::daemon::schedules::{ScheduleChange, ScheduleRequest, ScheduleView};

type Answer = Result<Json<ScheduleView>, Problem>;

async fn change(api: Api, name: String, change: ScheduleChange) -> Answer {
    api.ask(move |daemon| daemon.change_schedule(&name, &change))
        .await
        .map(Json)
}

/// The schedule that holds, with its next instants.
#[utoipa::path(
    get, path = "/api/v1/pipelines/{name}/schedule", operation_id = "get_schedule", tag = "schedules",
    params(("name" = String, Path, description = "The pipeline")),
    responses((status = 200, description = "As it is", body = ScheduleView), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn get(State(api): Shared, Name(name): Name) -> Answer {
    api.ask(move |daemon| daemon.schedule(&name))
        .await
        .map(Json)
}

/// Sets a schedule in place of the configuration's.
#[utoipa::path(
    put, path = "/api/v1/pipelines/{name}/schedule", operation_id = "set_schedule", tag = "schedules",
    params(("name" = String, Path, description = "The pipeline")),
    request_body = ScheduleRequest,
    responses((status = 200, description = "As it is", body = ScheduleView), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn set(
    State(api): Shared,
    Name(name): Name,
    Body(request): Body<ScheduleRequest>,
) -> Answer {
    change(api, name, ScheduleChange::Set(request)).await
}

/// Goes back to the configuration's schedule.
#[utoipa::path(
    delete, path = "/api/v1/pipelines/{name}/schedule", operation_id = "remove_schedule", tag = "schedules",
    params(("name" = String, Path, description = "The pipeline")),
    responses((status = 200, description = "As it is", body = ScheduleView), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn remove(State(api): Shared, Name(name): Name) -> Answer {
    change(api, name, ScheduleChange::Remove).await
}

/// Starts no runs for now. What is due meanwhile is not made up for.
#[utoipa::path(
    post, path = "/api/v1/pipelines/{name}/schedule/pause", operation_id = "pause_schedule", tag = "schedules",
    params(("name" = String, Path, description = "The pipeline")),
    responses((status = 200, description = "As it is", body = ScheduleView), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn pause(State(api): Shared, Name(name): Name) -> Answer {
    change(api, name, ScheduleChange::Pause).await
}

/// Starts runs again.
#[utoipa::path(
    post, path = "/api/v1/pipelines/{name}/schedule/resume", operation_id = "resume_schedule", tag = "schedules",
    params(("name" = String, Path, description = "The pipeline")),
    responses((status = 200, description = "As it is", body = ScheduleView), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn resume(State(api): Shared, Name(name): Name) -> Answer {
    change(api, name, ScheduleChange::Resume).await
}
