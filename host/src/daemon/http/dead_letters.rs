//! Dead letters: what lies in quarantine, and loading it again.

#![expect(unused_qualifications, reason = "what utoipa makes of `params`")]

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::api::{Body, Name, Shared, query};
use super::checkpoints::silent;
use super::problem::{ErrorBody, Problem};
use crate::dead_letter::Stage;
use crate::dead_letter::view::LetterView;
use crate::runtime::replay::ReplayReport;
use crate::sink::LetterFilter;

/// The most letters on a page.
const MOST: u32 = 500;

/// Who refused the rows.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    Extract,
    Transform,
    Load,
}

impl StageName {
    fn word(self) -> String {
        let stage = match self {
            Self::Extract => Stage::Extract,
            Self::Transform => Stage::Transform,
            Self::Load => Stage::Load,
        };
        stage.name().to_owned()
    }
}

/// Which dead letters.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LettersQuery {
    /// Also those that were replayed.
    #[serde(default)]
    #[param(default = false)]
    all: bool,
    /// Only those that this stage refused.
    #[param(inline)]
    stage: Option<StageName>,
    /// Only those of this partition.
    partition: Option<String>,
    /// Only those that this run set aside.
    run: Option<String>,
    /// Only numbers above this one.
    #[serde(default)]
    #[param(default = 0)]
    after: i64,
    /// At most so many, 1 to 500.
    #[serde(default = "usual")]
    #[param(default = 50, minimum = 1, maximum = 500)]
    limit: u32,
}

fn usual() -> u32 {
    50
}

/// A page of dead letters.
#[derive(Serialize, ToSchema)]
pub struct LettersPage {
    /// The pipeline.
    pipeline: String,
    /// In the order of their numbers.
    dead_letters: Vec<LetterView>,
    /// The number that `after` takes for the next page; `null` if this is the last.
    next: Option<i64>,
}

/// Which dead letters are loaded again; all if nothing is said.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayRequest {
    /// Only these, by their numbers.
    ids: Vec<i64>,
    /// Only those of these partitions.
    partitions: Vec<String>,
    /// Only those that this stage refused.
    #[schema(inline)]
    stage: Option<StageName>,
    /// Only those that this run set aside.
    run: Option<String>,
}

/// Rows in quarantine with their reasons. Asks the sink.
#[utoipa::path(
    get, path = "/api/v1/pipelines/{name}/dead-letters", operation_id = "list_dead_letters", tag = "dead letters",
    params(("name" = String, Path, description = "The pipeline"), LettersQuery),
    responses((status = 200, description = "As it is", body = LettersPage), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn list(
    State(api): Shared,
    Name(name): Name,
    asked: Result<Query<LettersQuery>, QueryRejection>,
) -> Result<Json<LettersPage>, Problem> {
    let asked = query(asked)?;
    let limit = asked.limit;
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "`limit` is a number from 1 to 500",
            "take a smaller one, and give `next` as `after` for more",
        ));
    }
    let filter = LetterFilter {
        after: asked.after,
        partitions: asked.partition.into_iter().collect(),
        run_id: asked.run,
        stage: asked.stage.map(StageName::word),
        replayed: asked.all,
        // One more tells whether there is a next page.
        limit: limit + 1,
        ..LetterFilter::default()
    };
    let pipeline = name.clone();
    let found = api.act(|daemon| async move { daemon.dead_letters(&name, &filter).await });
    let mut dead_letters = found.await?.ok_or_else(silent)?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = dead_letters.len() > most;
    dead_letters.truncate(most);
    Ok(Json(LettersPage {
        pipeline,
        next: dead_letters.last().filter(|_| more).map(|last| last.id),
        dead_letters,
    }))
}

/// Loads rows again after whatever refused them was mended; never overwrites a newer row. `200` once it is through, `202`
/// as long as it goes on.
#[utoipa::path(
    post, path = "/api/v1/pipelines/{name}/dead-letters/replay", operation_id = "replay_dead_letters", tag = "dead letters",
    params(("name" = String, Path, description = "The pipeline")),
    request_body = Option<ReplayRequest>,
    responses(
        (status = 200, description = "What became of them", body = ReplayReport),
        (status = 202, description = "It goes on", body = Object),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub async fn replay(
    State(api): Shared,
    Name(name): Name,
    Body(request): Body<ReplayRequest>,
) -> Result<Response, Problem> {
    let filter = LetterFilter {
        ids: request.ids,
        partitions: request.partitions,
        run_id: request.run,
        stage: request.stage.map(StageName::word),
        ..LetterFilter::default()
    };
    let replayed = api
        .act(|daemon| async move { daemon.replay(&name, filter).await })
        .await?;
    Ok(match replayed {
        Some(report) => Json(report).into_response(),
        None => (StatusCode::ACCEPTED, Json(json!({}))).into_response(),
    })
}
