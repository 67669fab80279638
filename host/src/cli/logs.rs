//! `etl-host logs`: what the runs of a pipeline said.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::signals::{SIGINT_CODE, SIGTERM_CODE};
use super::{Failure, Globals, Output, build_runtime};
use crate::config::duration;
use crate::error::{Error, Result};
use crate::logs::{Filter, Level, Line, Reader};

/// Lines that are shown unless asked for more.
const LINES: usize = 100;
/// How often a log that is followed is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// Flags of `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// The pipeline; `etl-host` for what the daemon says of itself
    pipeline: String,
    /// Go on with what comes, until stopped
    #[arg(short, long)]
    follow: bool,
    /// Only this run; `last` for the one that was started last
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Only what matters as much as this
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Option<Level>,
    /// The last so many lines; 100, or all with --run or --since
    #[arg(long, value_name = "N")]
    lines: Option<usize>,
    /// Only from this time on: a length such as 1h, or a time such as 2026-11-23T04:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<jiff::Timestamp>,
}

/// A moment of the past, as people write it.
pub fn since(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(length) = duration::parse(text) {
        let since = jiff::Timestamp::now().checked_sub(length);
        return since.map_err(|error| error.to_string());
    }
    text.parse().map_err(|_| {
        "expected a length such as 30m, 1h or 2d, or a time such as 2026-11-23T04:00:00Z".to_owned()
    })
}

/// Shows the log of a pipeline.
pub fn logs(globals: &Globals, command: &Logs) -> Result<u8, Failure> {
    let folder = globals.log_dir();
    let mut filter = Filter {
        run: None,
        level: command.level,
        since: command.since,
    };
    let wants_last = command.run.as_deref() == Some("last");
    if !wants_last {
        filter.run.clone_from(&command.run);
    }
    let mut reader = Reader::open(&folder, &command.pipeline, filter)?;
    if wants_last {
        let last = reader.load_last_run()?.ok_or_else(|| {
            Error::config(format!(
                "the log of {} tells of no run yet",
                command.pipeline
            ))
            .hint(format!("run it: etl-host run {}", command.pipeline))
        })?;
        reader.want_run(last);
    }
    let narrowed = command.run.is_some() || command.since.is_some();
    let most = command
        .lines
        .unwrap_or(if narrowed { usize::MAX } else { LINES });
    let lines = reader.last_lines(most)?;
    if !show(&lines, globals.output) || !command.follow {
        return Ok(0);
    }
    let runtime = build_runtime()?;
    Ok(runtime.block_on(follow(reader, globals.output))?)
}

/// Shows what comes until somebody stops it, or nobody reads it any more.
async fn follow(mut reader: Reader, output: Output) -> Result<u8> {
    let describe = |error: io::Error| Error::internal("cannot listen for signals").caused_by(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(describe)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(describe)?;
    let mut interval = tokio::time::interval(PAUSE);
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(SIGINT_CODE),
            _ = terminate.recv() => return Ok(SIGTERM_CODE),
            _ = interval.tick() => {}
        }
        if !show(&reader.next_lines()?, output) {
            return Ok(0);
        }
    }
}

/// Writes lines to stdout, and says whether anybody still reads them.
fn show(lines: &[Line], output: Output) -> bool {
    let mut text = String::new();
    for line in lines {
        match output {
            Output::Json => text.push_str(&line.json),
            Output::Text => text.push_str(&line.record.to_text()),
        }
        text.push('\n');
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}
