//! Talks to a daemon over the socket in its state folder: how the command line gives orders.
//!
//! It knows the form of answers and of errors; what they mean is the caller's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

use super::http::socket;
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;

/// How long a daemon may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long an answer may take; the daemon gives up before.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);

/// How long a stream may be silent; the daemon gives a sign of life before.
const SILENCE_LIMIT: Duration = Duration::from_mins(1);

/// The largest answer.
const LARGEST: usize = 64 << 20;

/// A daemon that listens.
#[derive(Clone, Debug)]
pub struct Client {
    state_dir: PathBuf,
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its name.
    pub event: String,
    /// Its data.
    pub data: Value,
}

impl Client {
    /// The daemon of a state folder; `None` if none is there.
    pub async fn open(state_dir: &Path) -> Result<Option<Self>, Failure> {
        let client = Self {
            state_dir: state_dir.to_path_buf(),
        };
        Ok(client.connect().await?.map(|_| client))
    }

    /// Asks for something.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Asks for something that may not be there: `None` if it is not.
    pub async fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        let answer = async {
            let response = self.send(Method::GET, path, None).await?;
            if response.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            read_answer(response).await.map(Some)
        };
        timeout(ANSWER_LIMIT, answer)
            .await
            .unwrap_or_else(|_| Err(silent()))
    }

    /// Has something done.
    pub async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.call(Method::POST, path, body).await
    }

    /// Sets something.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// Takes something away.
    pub async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::DELETE, path, None).await
    }

    /// Follows a stream of events.
    pub async fn follow(&self, path: &str) -> Result<Stream, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        if response.status().is_success() {
            return Ok(Stream {
                body: response.into_body(),
                pending: BytesMut::new(),
            });
        }
        Err(read_answer(response).await.err().unwrap_or_else(broken))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let answer = async {
            let response = self.send(method, path, body).await?;
            read_answer(response).await
        };
        timeout(ANSWER_LIMIT, answer)
            .await
            .unwrap_or_else(|_| Err(silent()))
    }

    async fn connect(&self) -> Result<Option<tokio::net::UnixStream>, Failure> {
        let connected = timeout(CONNECT_LIMIT, socket::connect(&self.state_dir)).await;
        connected.map_err(|_| silent())?.map_err(|error| {
            let place = self.state_dir.join(socket::NAME);
            Error::new(
                ErrorKind::Refused,
                format!("cannot reach the daemon at {}", place.display()),
            )
            .hint("ask as the user whom the daemon runs as")
            .caused_by(error)
            .into()
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = self.connect().await?.ok_or_else(gone)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken_by)?;
        // It ends with the connection, which ends with the answer.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost");
        let mut bytes = Bytes::new();
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json");
            bytes = body.to_string().into();
        }
        let request = request.body(Full::new(bytes)).map_err(|error| {
            Error::internal("a request to the daemon has no valid form").caused_by(error)
        })?;
        sender
            .send_request(request)
            .await
            .map_err(|error| broken_by(error).into())
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct Stream {
    body: Incoming,
    pending: BytesMut,
}

impl Stream {
    /// The next event; `None` at the stream's end.
    pub async fn next(&mut self) -> Result<Option<Received>, Failure> {
        loop {
            while let Some(block) = self.block() {
                if let Some(received) = parse(&block) {
                    return Ok(Some(received));
                }
            }
            let frame = timeout(SILENCE_LIMIT, self.body.frame())
                .await
                .map_err(|_| silent())?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken_by(error).into()),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.pending.extend_from_slice(data);
                    }
                }
            }
            if self.pending.len() > LARGEST {
                return Err(broken());
            }
        }
    }

    /// What stands before the next empty line.
    fn block(&mut self) -> Option<BytesMut> {
        let end = self.pending.windows(2).position(|pair| pair == b"\n\n")?;
        let block = self.pending.split_to(end);
        self.pending.advance(2);
        Some(block)
    }
}

/// An event; `None` for a comment.
fn parse(block: &[u8]) -> Option<Received> {
    let text = std::str::from_utf8(block).ok()?;
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().map(str::trim_start)
    };
    Some(Received {
        event: field("event:").unwrap_or("message").to_owned(),
        data: serde_json::from_str(field("data:")?).ok()?,
    })
}

async fn read_answer(response: Response<Incoming>) -> Result<Value, Failure> {
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST);
    let bytes = body.collect().await.map_err(broken_by)?.to_bytes();
    let value: Value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).map_err(broken_by)?
    };
    if status.is_success() {
        return Ok(value);
    }
    Err(failure(status, &value))
}

/// The failure that an answer tells of.
fn failure(status: StatusCode, answer: &Value) -> Failure {
    let error = answer.get("error").unwrap_or(&Value::Null);
    let text = |key: &str| error.get(key).and_then(Value::as_str);
    let mut message = text("message").unwrap_or("the daemon refused").to_owned();
    let problems = error.get("problems").and_then(Value::as_array);
    for problem in problems.into_iter().flatten() {
        let of = |key: &str| problem.get(key).and_then(Value::as_str).unwrap_or_default();
        let line = problem.get("line").and_then(Value::as_u64).unwrap_or(0);
        let (file, key, what) = (of("file"), of("key"), of("message"));
        message.extend(["\n  ", file, ":", &line.to_string(), ": ", key, ": ", what]);
    }
    let kind = match status {
        StatusCode::CONFLICT => ErrorKind::Busy,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => ErrorKind::Unavailable,
        status if status.is_client_error() => ErrorKind::Config,
        _ => ErrorKind::Internal,
    };
    let error = Error::new(kind, message);
    match text("next_step") {
        Some(next_step) => error.hint(next_step).into(),
        None => error.into(),
    }
}

fn gone() -> Failure {
    Error::new(ErrorKind::Unavailable, "the daemon has ended")
        .hint("start it with `etl-host serve`")
        .into()
}

fn silent() -> Failure {
    Error::new(ErrorKind::Timeout, "the daemon does not answer")
        .hint("look in its log for what it is busy with")
        .into()
}

fn broken() -> Failure {
    Error::new(ErrorKind::Unavailable, "the daemon gave no valid answer")
        .hint("see whether it has ended, and whether it is of the same version")
        .into()
}

fn broken_by(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unavailable, "the daemon's answer broke off")
        .hint("see whether it has ended, and ask again")
        .caused_by(error)
}
