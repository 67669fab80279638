//! The routes of the API, and what its handlers share. Who may call them is decided in [`guard`](super::guard).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{ErrorBody, Problem};
use super::{
    audit, backfills, checkpoints, console, dead_letters, logs, pipelines, runs, schedules,
    session, stream, system,
};
use crate::daemon::operations::Operations;
use crate::daemon::view::Event;

/// The largest body of a request.
pub const BODY_LIMIT: usize = 64 * 1024;

/// How long a request may take. What takes longer answers `202` before, and goes on.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// How long an answer waits for what the daemon has begun.
const WAIT: Duration = Duration::from_secs(10);

/// What all handlers share.
#[derive(Clone)]
pub struct Api {
    operations: Arc<dyn Operations>,
    /// Streams end with it.
    pub shutdown: CancellationToken,
    wait: Duration,
}

impl Api {
    /// The API of a daemon.
    pub fn new(operations: Arc<dyn Operations>, shutdown: CancellationToken) -> Self {
        Self {
            operations,
            shutdown,
            wait: WAIT,
        }
    }

    /// Another patience, so that a test need not wait for it.
    #[cfg(test)]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// What needs no blocking thread.
    pub fn operations(&self) -> &Arc<dyn Operations> {
        &self.operations
    }

    /// Asks the daemon on a thread that may block: the scheduler's threads are not the API's.
    pub async fn ask<T, E>(
        &self,
        ask: impl FnOnce(&dyn Operations) -> Result<T, E> + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
    {
        let operations = Arc::clone(&self.operations);
        tokio::task::spawn_blocking(move || ask(&*operations))
            .await
            // It has panicked, and the panic is in the log.
            .map_err(|_| Problem::internal())?
            .map_err(Into::into)
    }

    /// Has the daemon do something that goes on even if nobody waits for the answer any more; `None` if it still does
    /// after a while.
    pub async fn act<T, E, F>(
        &self,
        act: impl FnOnce(Arc<dyn Operations>) -> F,
    ) -> Result<Option<T>, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let acting = tokio::spawn(act(Arc::clone(&self.operations)));
        match tokio::time::timeout(self.wait, acting).await {
            Err(_) => Ok(None),
            Ok(Err(_)) => Err(Problem::internal()),
            Ok(Ok(done)) => done.map(Some).map_err(Into::into),
        }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "etl-host",
        description = "The daemon's API. docs/api.md explains it.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/")),
    components(schemas(Event, ErrorBody)),
    security(("token" = [])),
    modifiers(&BearerToken),
)]
struct Described;

struct BearerToken;

impl utoipa::Modify for BearerToken {
    fn modify(&self, document: &mut Document) {
        use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", scheme);
    }
}

/// All routes with their description: a route cannot be added without being described.
fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(system::daemon))
        .routes(routes!(system::refused_plugins))
        .routes(routes!(system::servers))
        .routes(routes!(system::processes))
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
        .routes(routes!(system::openapi))
        .routes(routes!(pipelines::list))
        .routes(routes!(pipelines::get, pipelines::delete))
        .routes(routes!(pipelines::config))
        .routes(routes!(pipelines::config_origins))
        .routes(routes!(pipelines::run))
        .routes(routes!(pipelines::start))
        .routes(routes!(pipelines::stop))
        .routes(routes!(schedules::get, schedules::set, schedules::remove))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(backfills::start))
        .routes(routes!(checkpoints::get))
        .routes(routes!(checkpoints::reset))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::replay))
        .routes(routes!(logs::get))
        .routes(routes!(runs::list))
        .routes(routes!(runs::get))
        .routes(routes!(runs::cancel))
        .routes(routes!(stream::progress))
        .routes(routes!(stream::events))
        .routes(routes!(audit::list))
        .routes(routes!(session::get, session::sign_in, session::sign_out))
}

/// The description of all routes.
pub fn document() -> Document {
    described().split_for_parts().1
}

/// The API without anything that keeps people out.
pub fn router(api: Api) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(
            api.clone(),
            audit::record,
        ))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(axum::middleware::from_fn(limited))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::internal().into_response()
        }))
        .with_state(api)
}

async fn limited(request: Request, next: Next) -> Response {
    // An answer that is a stream has been given by then.
    match tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request took longer than 30 seconds",
            "send it whole, and again; if that does not help, look in the daemon's log for what it is busy with",
        )
        .into_response(),
    }
}

/// What is no route of the API may be a file of the console.
async fn unknown(request: Request) -> Response {
    console::answer(&request).unwrap_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "there is no such address",
            "GET /api/openapi.json has all of them",
        )
        .into_response()
    })
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this address does not take that method",
        "GET /api/openapi.json has what each takes",
    )
}

/// The name in a route's path: a pipeline's, or a run's identifier.
pub struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Self(name))
    }
}

/// A body of JSON; without one, what is usual.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Bytes::from_request(request, state).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        // Otherwise a list would pass for an object whose fields are all left out.
        let object = serde_json::from_slice::<serde_json::Map<String, Value>>(&body);
        let parsed = object.and_then(|object| serde_json::from_value(Value::Object(object)));
        parsed.map(Self).map_err(|error| {
            let status = if error.is_data() {
                StatusCode::UNPROCESSABLE_ENTITY
            } else {
                StatusCode::BAD_REQUEST
            };
            Problem::new(
                status,
                format!("the request's body is not what it should be: {error}"),
                "GET /api/openapi.json has its form",
            )
        })
    }
}

/// The part of an address behind the question mark.
pub fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    Ok(query?.0)
}

/// Shorthand for the state that every handler takes.
pub type Shared = State<Api>;
