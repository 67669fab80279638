//! The audit log: whatever is asked of the API that may change something is written down before it is done, and what
//! became of it after.
//!
//! It hangs before all routes, so none can be forgotten. Who is turned away by [`guard`](super::guard) is in the daemon's log.

#![expect(unused_qualifications, reason = "what utoipa makes of `params`")]

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::api::{Api, Shared, query};
use super::guard::{Peer, Via};
use super::problem::{ErrorBody, Message, Problem};
use super::session;
use crate::daemon::view::AuditEntry;
use crate::logs::redact;
use crate::state::{AuditedAnswer, AuditedRequest};

/// The most entries on a page.
const MOST: u32 = 500;

/// Writes down what changes something.
pub async fn record(State(api): State<Api>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = match Bytes::from_request(Request::from_parts(parts.clone(), body), &api).await {
        Ok(body) => body,
        Err(rejection) => return Problem::from(rejection).into_response(),
    };
    let path = parts.uri.path().to_owned();
    // A token is nobody's to read.
    let told = path != session::PATH;
    let sent: Option<Value> = serde_json::from_slice(&body).ok().filter(|_| told);
    let asked = AuditedRequest {
        peer: parts
            .extensions
            .get::<Peer>()
            .map(|peer| peer.0.ip().to_string()),
        via: parts
            .extensions
            .get::<Via>()
            .map_or("socket", |via| via.word()),
        method: parts.method.to_string(),
        path,
        request: sent.map(|sent| redact(&sent.to_string()).into_owned()),
    };
    let noted = api.ask(move |daemon| daemon.record_request(&asked)).await;
    let request = Request::from_parts(parts, Body::from(body));
    // It is written down to its end, whether the client waits for that or not.
    let answering = tokio::spawn(answer(api, request, next, told, noted.ok()));
    match answering.await {
        Ok(response) => response,
        // It has panicked, and the panic is in the log.
        Err(_) => Problem::internal().into_response(),
    }
}

async fn answer(
    api: Api,
    request: Request,
    next: Next,
    told: bool,
    noted: Option<i64>,
) -> Response {
    let running = tokio::spawn(next.run(request));
    let response = running
        .await
        .unwrap_or_else(|_| Problem::internal().into_response());
    // A full disk keeps nobody from stopping a run.
    let Some(id) = noted else {
        tracing::warn!("the audit log cannot be written");
        return response;
    };
    let answer = AuditedAnswer {
        status: response.status().as_u16(),
        error: response
            .extensions()
            .get::<Message>()
            .filter(|_| told)
            .map(|message| redact(&message.0).into_owned()),
        run_id: run_of(&response),
    };
    let noted = api.ask(move |daemon| daemon.record_answer(id, &answer));
    if noted.await.is_err() {
        tracing::warn!("the audit log cannot be written");
    }
    response
}

/// The run that a request has started.
fn run_of(response: &Response) -> Option<String> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    Some(location.strip_prefix("/api/v1/runs/")?.to_owned())
}

/// Which entries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only those before this one.
    before: Option<i64>,
    /// At most so many, 1 to 500.
    #[serde(default = "usual")]
    #[param(default = 50, minimum = 1, maximum = 500)]
    limit: u32,
}

fn usual() -> u32 {
    50
}

/// A page of the audit log.
#[derive(Serialize, ToSchema)]
pub struct Entries {
    /// Newest first.
    entries: Vec<AuditEntry>,
    /// `before` of the next page; `null` if this is the last.
    next: Option<i64>,
}

/// Who changed what through the API, or tried to, newest first.
#[utoipa::path(
    get, path = "/api/v1/audit", operation_id = "list_audit", tag = "daemon", params(AuditQuery),
    responses((status = 200, description = "As it is", body = Entries), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn list(
    State(api): Shared,
    asked: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<Entries>, Problem> {
    let asked = query(asked)?;
    let limit = asked.limit;
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "`limit` is a number from 1 to 500",
            "take a smaller one, and go on with `before`",
        ));
    }
    // One more tells whether there is a next page.
    let mut entries = api
        .ask(move |daemon| daemon.audit(asked.before, limit + 1))
        .await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = entries.len() > most;
    entries.truncate(most);
    let next = entries.last().filter(|_| more).map(|last| last.id);
    Ok(Json(Entries { entries, next }))
}
