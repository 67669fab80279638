//! The daemon as a whole: what it is, its processes and servers, whether it lives, what it counts.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::api::{self, Shared};
use super::problem::{ErrorBody, Problem};
use crate::daemon::metrics::Form;
use crate::daemon::view::{DaemonView, ProcessView, RefusedPlugin};
use crate::pool::{BreakerState, PoolUse};

/// How many seconds the daemon's loop may be silent before it counts as stuck. It comes round each second.
const SILENCE: i64 = 30;

impl From<Infallible> for Problem {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Files of the plugins folder that do not serve.
#[derive(Serialize, ToSchema)]
pub struct RefusedPlugins {
    /// Each file.
    refused: Vec<RefusedPlugin>,
}

/// The servers that pipelines read from and write to.
#[derive(Serialize, ToSchema)]
pub struct Servers {
    /// Circuit breakers, those that are not closed first.
    breakers: Vec<BreakerState>,
    /// Pools of connections.
    pools: Vec<PoolUse>,
}

/// The daemon's own process and its workers.
#[derive(Serialize, ToSchema)]
pub struct Processes {
    /// Each process.
    processes: Vec<ProcessView>,
}

/// Whether the daemon lives, or serves.
#[derive(Serialize, ToSchema)]
pub struct HealthView {
    /// `ok`, `stuck`, `starting` or `draining`.
    status: &'static str,
}

/// The daemon as a whole.
#[utoipa::path(get, path = "/api/v1/daemon", tag = "daemon", responses((status = 200, description = "As it is", body = DaemonView)))]
pub async fn daemon(State(api): Shared) -> Result<Json<DaemonView>, Problem> {
    let view = api.ask(|daemon| Ok::<_, Infallible>(daemon.view())).await?;
    Ok(Json(view))
}

/// Files of the plugins folder that do not serve, with what to do about them.
#[utoipa::path(get, path = "/api/v1/plugins/refused", tag = "daemon", responses((status = 200, description = "As it is", body = RefusedPlugins)))]
pub async fn refused_plugins(State(api): Shared) -> Result<Json<RefusedPlugins>, Problem> {
    let refused = api
        .ask(|daemon| Ok::<_, Infallible>(daemon.refused_plugins()))
        .await?;
    Ok(Json(RefusedPlugins { refused }))
}

/// Circuit breakers and pools of the servers.
#[utoipa::path(get, path = "/api/v1/servers", tag = "daemon", responses((status = 200, description = "As it is", body = Servers)))]
pub async fn servers(State(api): Shared) -> Result<Json<Servers>, Problem> {
    let servers = api
        .ask(|daemon| {
            Ok::<_, Infallible>(Servers {
                breakers: daemon.breakers(),
                pools: daemon.pools(),
            })
        })
        .await?;
    Ok(Json(servers))
}

/// The daemon's process and its workers, with the memory and CPU time they use.
#[utoipa::path(get, path = "/api/v1/processes", tag = "daemon", responses((status = 200, description = "As it is", body = Processes)))]
pub async fn processes(State(api): Shared) -> Result<Json<Processes>, Problem> {
    let processes = api
        .ask(|daemon| Ok::<_, Infallible>(daemon.processes()))
        .await?;
    Ok(Json(Processes { processes }))
}

/// Whether the daemon's loop comes round. Needs no token.
#[utoipa::path(
    get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "As it is", body = HealthView), (status = 503, description = "Not now", body = HealthView)),
)]
pub async fn healthz(State(api): Shared) -> (StatusCode, Json<HealthView>) {
    let silence = Timestamp::now().as_second() - api.operations().ticked_at();
    if silence <= SILENCE {
        (StatusCode::OK, Json(HealthView { status: "ok" }))
    } else {
        let view = HealthView { status: "stuck" };
        (StatusCode::SERVICE_UNAVAILABLE, Json(view))
    }
}

/// Whether the daemon serves: it has started and is not about to end. Needs no token.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "As it is", body = HealthView), (status = 503, description = "Not now", body = HealthView)),
)]
pub async fn readyz(State(api): Shared) -> (StatusCode, Json<HealthView>) {
    let daemon = api.operations();
    let (code, status) = if daemon.is_ready() {
        (StatusCode::OK, "ok")
    } else if daemon.view().draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting")
    };
    (code, Json(HealthView { status }))
}

/// Counters and gauges for Prometheus: `OpenMetrics` for who accepts it, else the older text format.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "As it is", content_type = "text/plain", body = String), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn metrics(State(api): Shared, headers: HeaderMap) -> Result<Response, Problem> {
    let accepts = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("application/openmetrics-text"));
    let form = if accepts {
        Form::OpenMetrics
    } else {
        Form::Text
    };
    let text = api
        .ask(move |daemon| {
            daemon
                .metrics()
                .scrape(daemon, form)
                .map_err(|_| Problem::internal())
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, form.content_type())], text).into_response())
}

/// This description.
#[utoipa::path(
    get, path = "/api/openapi.json", tag = "daemon",
    responses((status = 200, description = "As it is", content_type = "application/json", body = Object)),
)]
pub async fn openapi() -> Response {
    Json(api::document()).into_response()
}
