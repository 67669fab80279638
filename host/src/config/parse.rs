//! From the merged document to the validated [`Config`]: the keys of the top level and the small sections.
//!
//! Every function reads all of its keys before it gives up, so that all problems are told at once.

mod daemon;
mod isolation;
mod notifications;
mod schedule;
mod server;
mod sink;
mod source;

use std::time::Duration;

pub use self::daemon::daemon;
pub use self::isolation::is_host;
use super::byte_size;
use super::duration;
use super::model::{
    BadRowLimit, Clock, Config, Cursor, CursorKind, ErrorHandling, Isolation, SchemaChange,
    SourceConnector, Tuning,
};
use super::section::{Reported, Section};
use super::value::Value;

/// How long a row may stay invisible in a transaction that is still open.
const SETTLE_DELAY: Duration = Duration::from_secs(5);

/// Reads the whole document.
pub(super) fn config(mut root: Section<'_>) -> Result<Config, Reported> {
    let name = root.required("name", pipeline_name);
    let description = root.or("description", String::new(), Value::any_text);
    let source = root.required("source", |value| source::source(value.section()?));
    let connector = source.as_ref().ok().map(|source| &source.connector);
    let sink = root.required("sink", |value| {
        sink::sink(value.section()?, source.as_ref().ok())
    });
    let cursor = root.optional("cursor", |value| cursor(value.section()?, connector));
    let error_handling = root.child("error_handling").and_then(error_handling);
    let schedule = root.optional("schedule", |value| schedule::schedule(value.section()?));
    let depends_on = root.or("depends_on", Vec::new(), schedule::depends_on);
    let isolation = root.or("isolation", Isolation::default(), isolation::isolation);
    let limits = root.child("limits").and_then(isolation::limits);
    let capabilities = root.child("capabilities").and_then(isolation::capabilities);
    let tuning = root.child("tuning").and_then(tuning);
    let settings = root.or(
        "settings",
        serde_json::Value::Object(serde_json::Map::new()),
        |value| {
            // Only to refuse what is no mapping; the keys are the plugin's.
            value.section()?;
            value.json()
        },
    );
    root.finish();
    Ok(Config {
        name: name?,
        description: description?,
        source: source?,
        sink: sink?,
        cursor: cursor?,
        error_handling: error_handling?,
        schedule: schedule?,
        depends_on: depends_on?,
        isolation: isolation?,
        limits: limits?,
        capabilities: capabilities?,
        tuning: tuning?,
        settings: settings?,
    })
}

/// The name becomes part of file names, unit names and lock names.
fn pipeline_name(value: Value<'_>) -> Result<String, Reported> {
    value.parsed(|name| {
        let fits = name.len() <= 63
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if fits {
            Ok(name.to_owned())
        } else {
            Err("expected a name of at most 63 lower case letters, digits and dashes, starting with a letter")
        }
    })
}

fn cursor(mut section: Section<'_>, source: Option<&SourceConnector>) -> Result<Cursor, Reported> {
    let column = section.required("column", Value::text);
    let kind = section.required("kind", |value| {
        let kind = value.one_of(&[
            ("timestamp", CursorKind::Timestamp),
            ("integer", CursorKind::Integer),
            ("rowversion", CursorKind::Rowversion),
        ])?;
        match source {
            Some(source) if kind == CursorKind::Rowversion && source.kind() != "sqlserver" => {
                let message = format!(
                    "rowversion exists only in SQL Server, the source is {}",
                    source.kind()
                );
                Err(value.report(message, Some("use timestamp or integer".into())))
            }
            _ => Ok(kind),
        }
    });
    let clock = section.or("clock", Clock::default(), |value| {
        value.one_of(&[("utc", Clock::Utc), ("server-local", Clock::ServerLocal)])
    });
    let id = section.optional("id", |value| {
        if matches!(kind, Ok(CursorKind::Timestamp) | Err(_)) {
            value.text()
        } else {
            let message = "only a timestamp may need a second column to be unique".to_owned();
            Err(value.report(message, Some("leave it out".into())))
        }
    });
    // SQLite has one writer at a time, so its numbers become visible in their order.
    let one_writer = source.is_some_and(|source| source.kind() == "sqlite");
    let default_delay = match kind {
        Ok(CursorKind::Timestamp) => SETTLE_DELAY,
        Ok(CursorKind::Integer) if !one_writer => SETTLE_DELAY,
        _ => Duration::ZERO,
    };
    let settle_delay = section.or("settle_delay", default_delay, delay);
    section.finish();
    Ok(Cursor {
        column: column?,
        kind: kind?,
        id: id?,
        clock: clock?,
        settle_delay: settle_delay?,
    })
}

fn error_handling(mut section: Section<'_>) -> Result<ErrorHandling, Reported> {
    let default = ErrorHandling::default();
    let max_retries = section.or("max_retries", default.max_retries, |value| {
        value.integer("a number of retries", 0..=u32::MAX)
    });
    let retry_delay_value = section.get("retry_delay");
    let retry_delay = retry_delay_value.map_or(Ok(default.retry_delay), delay);
    let max_retry_delay_value = section.get("max_retry_delay");
    let max_retry_delay = max_retry_delay_value.map_or(Ok(default.max_retry_delay), delay);
    if let (Ok(shortest), Ok(longest), Some(value)) = (
        retry_delay,
        max_retry_delay,
        max_retry_delay_value.or(retry_delay_value),
    ) && shortest > longest
    {
        let shown = |value: Option<Value<'_>>, default| {
            value.map_or_else(
                || duration::DisplayDuration(default).to_string(),
                |value| value.found(),
            )
        };
        let shortest = shown(retry_delay_value, shortest);
        let longest = shown(max_retry_delay_value, longest);
        let message = format!(
            "the first wait, retry_delay {shortest}, is longer than the longest, max_retry_delay {longest}"
        );
        value.report(
            message,
            Some(format!("raise max_retry_delay to {shortest} or more")),
        );
    }
    let exponential_backoff = section.or(
        "exponential_backoff",
        default.exponential_backoff,
        Value::boolean,
    );
    let max_bad_rows = section.or("max_bad_rows", default.max_bad_rows, |value| {
        value.parsed(str::parse::<BadRowLimit>)
    });
    let attempt_timeout = section.or("attempt_timeout", default.attempt_timeout, timeout);
    let drain_timeout = section.or("drain_timeout", default.drain_timeout, timeout);
    let on_schema_change = section.or("on_schema_change", default.on_schema_change, |value| {
        value.one_of(&[
            ("strict", SchemaChange::Strict),
            ("evolve", SchemaChange::Evolve),
            ("ignore", SchemaChange::Ignore),
        ])
    });
    let park_after = section.or("park_after", default.park_after, |value| {
        value.integer("a number of runs", 0..=u32::MAX)
    });
    section.finish();
    Ok(ErrorHandling {
        max_retries: max_retries?,
        retry_delay: retry_delay?,
        max_retry_delay: max_retry_delay?,
        exponential_backoff: exponential_backoff?,
        max_bad_rows: max_bad_rows?,
        attempt_timeout: attempt_timeout?,
        drain_timeout: drain_timeout?,
        on_schema_change: on_schema_change?,
        park_after: park_after?,
    })
}

fn tuning(mut section: Section<'_>) -> Result<Tuning, Reported> {
    let default = Tuning::default();
    let batch_rows = section.or("batch_rows", default.batch_rows, |value| {
        value.integer("a number of rows", 1..=65_536)
    });
    let flush_bytes = section.or("flush_bytes", default.flush_bytes, |value| {
        let bytes = value.parsed(byte_size::parse)?;
        if (64 << 10..=1 << 30).contains(&bytes) {
            Ok(bytes)
        } else {
            Err(value.unexpected("expected a size between 64KiB and 1GiB", None))
        }
    });
    let flushes_per_commit =
        section.or("flushes_per_commit", default.flushes_per_commit, |value| {
            value.integer("a number of flushes", 1..=1_000)
        });
    let lease = section.or("lease", default.lease, |value| {
        let lease = delay(value)?;
        if (Duration::from_secs(1)..=Duration::from_hours(1)).contains(&lease) {
            Ok(lease)
        } else {
            Err(value.report("expected a duration between 1s and 1h", None))
        }
    });
    section.finish();
    Ok(Tuning {
        lease: lease?,
        batch_rows: batch_rows?,
        flush_bytes: flush_bytes?,
        flushes_per_commit: flushes_per_commit?,
    })
}

/// A duration, perhaps none.
fn delay(value: Value<'_>) -> Result<Duration, Reported> {
    value.parsed(duration::parse)
}

/// A duration after which something is given up; none would give up at once.
fn timeout(value: Value<'_>) -> Result<Duration, Reported> {
    let timeout = delay(value)?;
    if timeout.is_zero() {
        Err(value.report("must be longer than 0s", None))
    } else {
        Ok(timeout)
    }
}
