//! Backfills: having a past range loaded again. What goes on is a run like any other.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::api::{Body, Name, Shared};
use super::pipelines::{Accepted, accepted};
use super::problem::{ErrorBody, Problem};
use crate::daemon::view::BackfillRequest;

/// Loads a past range again, window by window, in a run of its own. The same order goes on where it was stopped. The
/// checkpoint stays where it is.
#[utoipa::path(
    post, path = "/api/v1/pipelines/{name}/backfills", operation_id = "start_backfill", tag = "pipelines",
    params(("name" = String, Path, description = "The pipeline")),
    request_body = BackfillRequest,
    responses(
        (status = 202, description = "It goes on", body = Accepted, headers(("Location" = String, description = "The run"))),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub async fn start(
    State(api): Shared,
    Name(name): Name,
    Body(request): Body<BackfillRequest>,
) -> Result<Response, Problem> {
    if request.from.is_empty() || request.to.is_empty() {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "`from` and `to` are needed",
            "give both ends of the range, as the source writes its cursor",
        ));
    }
    let ordered = api
        .act(|daemon| async move { daemon.backfill(&name, request).await })
        .await?;
    accepted(ordered)
}
