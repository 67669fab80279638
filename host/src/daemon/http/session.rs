//! Signing in and out: a browser trades the token for a cookie.

use std::sync::Arc;

use axum::extract::Extension;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, http::HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api::Body;
use super::credentials::{Credentials, Session};
use super::problem::{ErrorBody, Problem};

/// Where a browser signs in.
pub const PATH: &str = "/api/v1/session";

/// Nothing on the Unix socket, which needs no proof.
type Given = Option<Extension<Arc<Credentials>>>;

/// Whether the caller has to sign in, and has.
#[derive(Serialize, ToSchema)]
pub struct SessionView {
    /// The API wants a token.
    token_needed: bool,
    /// The caller may use the API.
    signed_in: bool,
    /// When the session ends, RFC 3339; `null` without one.
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    /// What requests that change something bring as `X-CSRF-Token`; `null` without a session.
    csrf: Option<String>,
}

impl SessionView {
    fn of(credentials: Option<&Credentials>, session: Option<Session>) -> Self {
        let token_needed = credentials.is_some_and(Credentials::are_needed);
        Self {
            token_needed,
            signed_in: !token_needed || session.is_some(),
            expires_at: session.as_ref().map(|session| session.expires_at),
            csrf: session.map(|session| session.csrf),
        }
    }
}

/// What opens a session.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SignIn {
    /// The token of `http.token` in etl-host.yaml.
    token: String,
}

/// Whether the caller has to sign in, and has. Needs no token.
#[utoipa::path(
    get, path = "/api/v1/session", operation_id = "get_session", tag = "session", security(()),
    responses((status = 200, description = "As it is", body = SessionView)),
)]
pub async fn get(given: Given, headers: HeaderMap) -> Json<SessionView> {
    let credentials = given.as_deref().map(Arc::as_ref);
    let session = credentials.and_then(|known| known.session(&headers, Timestamp::now()));
    Json(SessionView::of(credentials, session))
}

/// Opens a session for a browser: the cookie serves in place of the token for twelve hours.
#[utoipa::path(
    post, path = "/api/v1/session", operation_id = "sign_in", tag = "session", security(()),
    request_body = SignIn,
    responses(
        (status = 200, description = "As it is", body = SessionView, headers(("Set-Cookie" = String, description = "The session"))),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub async fn sign_in(
    given: Given,
    headers: HeaderMap,
    Body(request): Body<SignIn>,
) -> Result<Response, Problem> {
    let Some(Extension(credentials)) = given.filter(|given| given.are_needed()) else {
        return Ok(Json(SessionView::of(None, None)).into_response());
    };
    let signed_in = credentials
        .sign_in(request.token.trim().as_bytes(), Timestamp::now())
        .ok_or_else(|| {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "this is not the token",
                "copy it from `http.token` in etl-host.yaml of the machine that the daemon runs on",
            )
        })?;
    let cookie = credentials.set_cookie(&headers, Some(&signed_in.secret));
    let view = SessionView::of(Some(&credentials), Some(signed_in.session));
    Ok(([(header::SET_COOKIE, value(&cookie)?)], Json(view)).into_response())
}

/// Ends the browser's session.
#[utoipa::path(
    delete, path = "/api/v1/session", operation_id = "sign_out", tag = "session", security(()),
    responses((status = 204, description = "It has ended"), (status = "default", description = "What went wrong", body = ErrorBody)),
)]
pub async fn sign_out(given: Given, headers: HeaderMap) -> Result<Response, Problem> {
    let Some(Extension(credentials)) = given else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    credentials.sign_out(&headers);
    let cookie = credentials.set_cookie(&headers, None);
    Ok((
        StatusCode::NO_CONTENT,
        [(header::SET_COOKIE, value(&cookie)?)],
    )
        .into_response())
}

fn value(cookie: &str) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(cookie).map_err(|_| Problem::internal())
}
