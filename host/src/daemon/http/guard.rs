//! Who may call the API over TCP. The Unix socket is guarded by its folder, and comes without all of this.
//!
//! Besides the token it keeps out what a browser sends on behalf of a page from elsewhere: a request under another name
//! than this machine's (DNS rebinding), or with another origin (CSRF). The console's files tell nothing, and are anybody's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use jiff::Timestamp;

use super::api::BODY_LIMIT;
use super::credentials::{self, Credentials, Session, Transport};
use super::problem::Problem;
use super::rate::Rates;
use super::{console, session};
use crate::config::Http;

/// Addresses that need no token: they tell nothing.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Brings a session's `csrf`.
const CSRF: &str = "x-csrf-token";

/// Who may call.
pub struct Guard {
    credentials: Arc<Credentials>,
    rates: Mutex<Rates>,
}

/// How a caller has proven itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By the token.
    Token,
    /// By a browser's session.
    Session,
    /// Not at all: without a token, who is on this machine may call.
    Loopback,
    /// Not at all, for what is anybody's.
    Open,
}

impl Via {
    /// As the audit log shows it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
            Self::Loopback => "loopback",
            Self::Open => crate::state::OPEN,
        }
    }
}

/// The client's address.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Guard {
    /// By the configuration.
    pub fn new(config: &Http) -> Self {
        let token = config.token.as_ref().map(|token| token.expose().as_bytes());
        Self {
            credentials: Arc::new(Credentials::new(token, Transport::of(config))),
            rates: Mutex::new(Rates::new(config.requests_per_second)),
        }
    }

    fn check(&self, request: &Request) -> Result<(Via, Option<Session>), Problem> {
        self.check_rate(request)?;
        let host = host(request)?;
        if !self.credentials.are_needed() {
            check_local(&host)?;
        }
        self.check_origin(request.headers(), &host)?;
        let path = request.uri().path();
        let looks = matches!(*request.method(), Method::GET | Method::HEAD);
        if looks && console::serves(path) {
            return Ok((Via::Open, None));
        }
        check_site(request.headers())?;
        if (looks && OPEN.contains(&path)) || path == session::PATH {
            return Ok((Via::Open, None));
        }
        self.check_credentials(request)
    }

    fn check_rate(&self, request: &Request) -> Result<(), Problem> {
        let Some(Peer(peer)) = request.extensions().get::<Peer>() else {
            return Err(Problem::internal());
        };
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(peer.ip(), Instant::now()).map_err(|wait| {
            Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "this client makes more requests than it may",
                "ask less often, follow /api/v1/events, or raise `http.requests_per_second`",
            )
            .retry_after(wait.as_secs() + 1)
        })
    }

    fn check_origin(&self, headers: &HeaderMap, host: &str) -> Result<(), Problem> {
        let own = |scheme: &str| format!("{scheme}://{host}");
        let own: &[String] = match self.credentials.transport() {
            Transport::Tls => &[own("https")],
            Transport::Plain => &[own("http")],
            // The browser talks to what encrypts in front of it.
            Transport::Proxy => &[own("https"), own("http")],
        };
        let foreign = headers.get_all(header::ORIGIN).iter().any(|origin| {
            let is = |own: &String| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes());
            !own.iter().any(is)
        });
        if foreign {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "the request comes from a page of another origin",
                "call the API from a program, or from a page that this address serves",
            ));
        }
        Ok(())
    }

    fn check_credentials(&self, request: &Request) -> Result<(Via, Option<Session>), Problem> {
        if !self.credentials.are_needed() {
            return Ok((Via::Loopback, None));
        }
        let headers = request.headers();
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        match (given.next(), given.next()) {
            (None, _) => {}
            (Some(value), None)
                if bearer(value).is_some_and(|token| self.credentials.is_token(token)) =>
            {
                return Ok((Via::Token, None));
            }
            _ => return Err(unauthorized()),
        }
        let session = self.credentials.session(headers, Timestamp::now());
        let session = session.ok_or_else(unauthorized)?;
        let csrf = headers.get(CSRF).map(HeaderValue::as_bytes);
        if matches!(*request.method(), Method::GET | Method::HEAD)
            || csrf.is_some_and(|csrf| credentials::same(csrf, session.csrf.as_bytes()))
        {
            return Ok((Via::Session, Some(session)));
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the request comes with a session, but without its `X-CSRF-Token`",
            "send the `csrf` of GET /api/v1/session; a program sends the token instead of a cookie",
        ))
    }
}

/// The token of an `Authorization` header.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

fn unauthorized() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "the request brings no valid token",
        "send `Authorization: Bearer …` with the token of `http.token` in etl-host.yaml",
    )
}

/// The name that the client knows the host by, with the port.
fn host(request: &Request) -> Result<String, Problem> {
    let mut named = request.headers().get_all(header::HOST).iter();
    let header = match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    };
    let authority = request
        .uri()
        .authority()
        .map(axum::http::uri::Authority::as_str);
    match header {
        Some(host) if authority.is_none_or(|authority| authority.eq_ignore_ascii_case(host)) => {
            Ok(host.to_owned())
        }
        _ => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "the request does not say with one `Host` whom it is for",
            "send one `Host` header",
        )),
    }
}

/// Without a token, only who calls this machine by its own names may call.
fn check_local(host: &str) -> Result<(), Problem> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let local = name.eq_ignore_ascii_case("localhost") || matches!(name, "127.0.0.1" | "[::1]");
    if local {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "without a token the API answers only to localhost, 127.0.0.1 and [::1]",
        "use one of these names, or set `http.token` in etl-host.yaml",
    ))
}

/// What browsers say of a request that a page from elsewhere has made, also where there is no `Origin`: an image, a script.
fn check_site(headers: &HeaderMap) -> Result<(), Problem> {
    let foreign = headers
        .get_all("sec-fetch-site")
        .iter()
        .any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    if foreign {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the request comes from a page of another site",
            "open the address itself",
        ));
    }
    Ok(())
}

/// Lets a request through to the API, or not.
pub async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    match guard.check(&request) {
        Ok((via, session)) => {
            let extensions = request.extensions_mut();
            extensions.insert(via);
            extensions.insert(Arc::clone(&guard.credentials));
            let response = next.run(request).await;
            match session {
                Some(session) => ending_with(session, response),
                None => response,
            }
        }
        Err(problem) => problem.into_response(),
    }
}

/// A stream shows nothing any more once the session has ended that it was opened with.
fn ending_with(session: Session, response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "text/event-stream") {
        return response;
    }
    let (parts, body) = response.into_parts();
    let end = async move { session.end().await };
    let body = Body::from_stream(body.into_data_stream().take_until(Box::pin(end)));
    Response::from_parts(parts, body)
}

/// What holds for every request, however it comes: the body is JSON and not too large. The answer tells browsers to
/// keep nothing and to run nothing.
pub async fn wrap(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let mut response = match check_body(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        let peer = peer.map_or_else(|| "socket".to_owned(), |peer| peer.ip().to_string());
        let status = response.status().as_u16();
        tracing::info!(%method, path, peer, status, "request");
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        // The console says for itself what its pages may do, and how long they keep.
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

fn check_body(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let limit = u64::try_from(BODY_LIMIT).unwrap_or(u64::MAX);
    if length.is_some_and(|length| length > limit) {
        return Err(Problem::too_large());
    }
    let has_body =
        length.is_some_and(|length| length > 0) || headers.contains_key(header::TRANSFER_ENCODING);
    if !has_body || matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let json = kind
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| {
            let kind = kind.split(';').next().unwrap_or_default();
            kind.trim().eq_ignore_ascii_case("application/json")
        });
    if json {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the request's body is not marked as JSON",
        "send `Content-Type: application/json`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_s_own_names_are_local() {
        for host in [
            "localhost",
            "LOCALHOST:8484",
            "127.0.0.1:1",
            "127.0.0.1",
            "[::1]:8484",
            "[::1]",
        ] {
            assert!(check_local(host).is_ok(), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com:80",
            "127.0.0.1.nip.io",
            "[::2]",
            "::1",
            "127.0.0.1:x",
        ] {
            assert!(check_local(host).is_err(), "{host}");
        }
    }

    #[test]
    fn a_bearer_token_is_what_follows_the_scheme() {
        let of = |text: &'static str| bearer(&HeaderValue::from_static(text)).map(<[u8]>::to_vec);
        assert_eq!(of("Bearer abc"), Some(b"abc".to_vec()));
        assert_eq!(of("bearer  abc"), Some(b"abc".to_vec()));
        for other in ["", "Bearer", "Basic abc", "Bearerabc", "abc"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
