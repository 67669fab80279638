//! The log of a pipeline: its last lines, and those that come.

#![expect(unused_qualifications, reason = "what utoipa makes of `params`")]

use std::path::PathBuf;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::api::{Api, Name, Shared, query};
use super::problem::{ErrorBody, Problem};
use super::stream::{event, sse};
use crate::daemon::Refusal;
use crate::logs::{Filter, Level, Line, Reader, Record};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The most lines of one answer.
const MOST: usize = 10_000;

/// Which lines.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// Only those of this run.
    run: Option<String>,
    /// Only those that matter as much: `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    #[param(value_type = Option<String>)]
    level: Option<Level>,
    /// The last so many, up to 10000.
    #[serde(default = "usual")]
    #[param(default = 200, maximum = 10000)]
    lines: usize,
    /// Those that come too, as server-sent events `line`.
    #[serde(default)]
    follow: bool,
}

fn usual() -> usize {
    200
}

/// Lines of a log.
#[derive(Serialize, ToSchema)]
pub struct Lines {
    /// The oldest first.
    #[schema(value_type = Vec<Object>)]
    lines: Vec<Record>,
}

/// The last lines of a pipeline's log; with `follow` also those that come, as server-sent events.
#[utoipa::path(
    get, path = "/api/v1/pipelines/{name}/logs", operation_id = "get_logs", tag = "logs",
    params(("name" = String, Path, description = "The pipeline"), LogsQuery),
    responses(
        (status = 200, description = "As it is", content((Lines = "application/json"), (String = "text/event-stream"))),
        (status = "default", description = "What went wrong", body = ErrorBody),
    ),
)]
pub async fn get(
    State(api): Shared,
    Name(name): Name,
    asked: Result<Query<LogsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let asked = query(asked)?;
    if asked.lines > MOST {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "`lines` is at most 10000",
            "take fewer, or read the file itself",
        ));
    }
    let filter = Filter {
        run: asked.run,
        level: asked.level,
        since: None,
    };
    let opened = api.ask(move |daemon| {
        let log = Log {
            // Only names of pipelines become names of files.
            pipeline: daemon.pipeline(&name)?.name,
            folder: daemon.log_dir(),
            filter,
            reader: None,
        };
        log.last_lines(asked.lines)
    });
    let (log, lines) = opened.await?;
    if !asked.follow {
        let lines = lines.into_iter().map(|line| line.record).collect();
        return Ok(Json(Lines { lines }).into_response());
    }
    let shutdown = api.shutdown.clone();
    let following = stream::unfold((api, log, lines), next)
        .map(|lines| stream::iter(lines.into_iter().map(|line| event("line", &line.record))))
        .flatten()
        .take_until(shutdown.cancelled_owned());
    Ok(sse(following).into_response())
}

/// A pipeline's log, which begins with its first run.
struct Log {
    pipeline: String,
    folder: PathBuf,
    filter: Filter,
    reader: Option<Reader>,
}

impl Log {
    fn last_lines(mut self, count: usize) -> Result<(Self, Vec<Line>), Refusal> {
        self.reader = Reader::find(&self.folder, &self.pipeline, self.filter.clone())?;
        let lines = match &mut self.reader {
            Some(reader) => reader.last_lines(count)?,
            None => Vec::new(),
        };
        Ok((self, lines))
    }

    fn next_lines(mut self) -> Result<(Self, Vec<Line>), Refusal> {
        match &mut self.reader {
            Some(reader) => {
                let lines = reader.next_lines()?;
                Ok((self, lines))
            }
            // All of it is new.
            None => self.last_lines(MOST),
        }
    }
}

type Following = (Api, Log, Vec<Line>);

/// The lines that are there, and what is to be followed; `None` if it cannot be any longer.
async fn next((api, log, lines): Following) -> Option<(Vec<Line>, Following)> {
    if !lines.is_empty() {
        return Some((lines, (api, log, Vec::new())));
    }
    let mut log = log;
    loop {
        tokio::time::sleep(LOOK).await;
        let looked = api.ask(move |_| log.next_lines());
        let (back, lines) = looked.await.ok()?;
        if !lines.is_empty() {
            return Some((lines, (api, back, Vec::new())));
        }
        log = back;
    }
}
