//! Checkpoints: how far partitions have been read, and starting one over.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::api::{Body, Name, Shared};
use super::problem::{ErrorBody, Problem};
use crate::checkpoint::view::CheckpointsView;

/// Which partition is started over.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetRequest {
    /// The partition; the name of a split shard stands for all its ranges.
    partition: String,
    /// With `write_mode: append` the next run loads every row again.
    #[serde(default)]
    allow_duplicates: bool,
}

/// How far each partition has been read. Asks the sink.
#[utoipa::path(
    get, path = "/api/v1/pipelines/{name}/checkpoints", operation_id = "get_checkpoints", tag = "checkpoints",
    params(("name" = String, Path, description = "The pipeline")),
    responses((status = 200, description = "As it is", body = CheckpointsView), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn get(State(api): Shared, Name(name): Name) -> Result<Json<CheckpointsView>, Problem> {
    let asked = api.act(|daemon| async move { daemon.checkpoints(&name).await });
    asked.await?.map(Json).ok_or_else(silent)
}

/// Forgets a partition's position: the next run reads it from the beginning. Nothing in the sink is deleted.
#[utoipa::path(
    post, path = "/api/v1/pipelines/{name}/checkpoints/reset", operation_id = "reset_checkpoint", tag = "checkpoints",
    params(("name" = String, Path, description = "The pipeline")),
    request_body = ResetRequest,
    responses((status = 200, description = "As it is then", body = CheckpointsView), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn reset(
    State(api): Shared,
    Name(name): Name,
    Body(request): Body<ResetRequest>,
) -> Result<Json<CheckpointsView>, Problem> {
    if request.partition.is_empty() {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "`partition` is missing",
            "name one; GET …/checkpoints has all of them",
        ));
    }
    let ResetRequest {
        partition,
        allow_duplicates,
    } = request;
    let resetting = api.act(|daemon| async move {
        let reset = daemon.reset_checkpoint(&name, &partition, allow_duplicates);
        reset.await
    });
    resetting.await?.map(Json).ok_or_else(silent)
}

/// The sink takes longer than a client waits.
pub fn silent() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the sink has not answered in time",
        "look whether it answers (`etl-host doctor`), and at what it holds: a change may have been made all the same",
    )
}
