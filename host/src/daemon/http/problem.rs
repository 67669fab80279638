//! What the API answers when it did not do what was asked: one form for all of it.

use axum::Json;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::daemon::Refusal;
use crate::failure::Failure;

/// What went wrong. The same as the command line writes with `--output json`.
#[derive(Serialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorView,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
pub struct ErrorView {
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub next_step: Option<String>,
    /// Mistakes in a configuration, each with file, line and key.
    #[schema(required = false)]
    pub problems: Option<Vec<Value>>,
}

/// What went wrong, beside the answer that says it: for the audit log.
#[derive(Clone, Debug)]
pub struct Message(pub String);

/// An answer that is an error.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    error: Value,
    /// Seconds after which it may be tried again.
    retry_after: Option<u64>,
}

impl Problem {
    /// An error with what to do next.
    pub fn new(status: StatusCode, message: impl Into<String>, next_step: &str) -> Self {
        Self {
            status,
            error: json!({"message": message.into(), "next_step": next_step}),
            retry_after: None,
        }
    }

    /// May be tried again after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The host is at fault. What happened is in its log, not in the answer.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the host failed at this request",
            "look in the daemon's log for what happened",
        )
    }

    /// The body is larger than it may be.
    pub fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the request's body is larger than 64 KiB",
            "no request needs so much: send only what docs/api.md names",
        )
    }

    fn of_failure(status: StatusCode, failure: &Failure) -> Self {
        Self {
            status,
            error: failure.to_json(),
            retry_after: None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let message = self.error.get("message").and_then(Value::as_str);
        let message = Message(message.unwrap_or_default().to_owned());
        let mut response = (self.status, Json(json!({"error": self.error}))).into_response();
        response.extensions_mut().insert(message);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static(r#"Bearer realm="etl-host""#);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(message) => Self::new(
                StatusCode::NOT_FOUND,
                message,
                "`etl-host list` shows the pipelines, `etl-host history` the runs",
            ),
            Refusal::Conflict(message) => Self::new(
                StatusCode::CONFLICT,
                message,
                "look at its state, and ask again when that has changed",
            ),
            Refusal::NotReady(failure) => Self::of_failure(StatusCode::CONFLICT, &failure),
            Refusal::Invalid(failure) => {
                Self::of_failure(StatusCode::UNPROCESSABLE_ENTITY, &failure)
            }
            // Mistakes in what was asked, or in the configuration.
            Refusal::Failed(failure) if failure.exit_code() == 2 => {
                Self::of_failure(StatusCode::UNPROCESSABLE_ENTITY, &failure)
            }
            Refusal::Failed(failure) => {
                Self::of_failure(StatusCode::INTERNAL_SERVER_ERROR, &failure)
            }
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            rejection.body_text(),
            "correct the part of the address behind the question mark; docs/api.md has what it takes",
        )
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            rejection.body_text(),
            "correct the address; names are UTF-8 with percent signs",
        )
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::too_large();
        }
        Self::new(
            StatusCode::BAD_REQUEST,
            "the request's body broke off",
            "send it again",
        )
    }
}
