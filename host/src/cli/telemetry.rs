//! Where what the host says goes: to stderr, to the log files of the pipelines, and as traces to a collector.
//!
//! It decides who takes which events. The files are the matter of [`logs`](crate::logs), the collector that of [`traces`].

use std::io::{self, Write};
use std::sync::OnceLock;

use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt, FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::{Arguments, Command, LogFormat, progress};
use crate::logs::{Folder, Level, Record, Told, is_span_of_host};
use crate::traces;

static FOLDER: OnceLock<Folder> = OnceLock::new();

/// Installs the log: on stderr warnings by default (the daemon tells of runs), more with `-v`, anything with `ETL_LOG`; in the files the life of
/// runs, and every detail with `-vv`.
pub fn install(arguments: &Arguments) {
    let globals = &arguments.globals;
    // A daemon that says nothing looks like one that hangs.
    let serves = matches!(arguments.command, Command::Serve(_));
    let level = match globals.verbose {
        0 if !serves => "warn",
        0 | 1 => "info",
        _ => "debug",
    };
    let of_stderr = std::env::var("ETL_LOG")
        .ok()
        .and_then(|wish| EnvFilter::try_new(wish).ok())
        .unwrap_or_else(|| directives(level));
    let of_files = directives(if globals.verbose < 2 { "info" } else { "debug" });
    let (format, colored) = (globals.log_format, globals.color.on_stderr());
    let stderr = Told::to(move |record| show(record, format, colored));
    let rotates = std::env::var("ETL_LOG_ROTATE").is_ok_and(|wish| wish == "off");
    let folder = FOLDER.get_or_init(|| Folder::new(globals.log_dir(), !rotates, warn));
    let traces = if traces::are_wanted() {
        traces::open_layer()
            .inspect_err(|error| warn(&format!("{error}; runs go on without traces")))
            .ok()
    } else {
        None
    };
    // What only looks leaves nothing behind, not even a line.
    let looks = matches!(arguments.command, Command::Preview(_) | Command::Schema(_));
    let files = Told::to(|record| folder.write(record)).with_filter(of_files.or(spans()));
    // A second installation in the same process (tests) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(stderr.with_filter(of_stderr.or(spans())))
        .with((!looks).then_some(files))
        .with(traces)
        .try_init();
}

/// This process is the daemon: what it says of itself goes into a log of its own. Without `rotates`, somebody else
/// rotates the files.
pub fn serve(rotates: bool) {
    if let Some(folder) = FOLDER.get() {
        folder.serve();
        if !rotates {
            folder.leave_rotation();
        }
    }
}

/// Sends what is not sent yet. The last thing that a command does.
pub fn end() {
    traces::flush();
}

/// Libraries speak only when something is wrong. The SQL Server driver repeats what the server says, which may be values
/// of rows; what matters of it comes as an error.
fn directives(level: &str) -> EnvFilter {
    EnvFilter::new(format!(
        "warn,tiberius=off,mssql_tds=off,etl_host={level},plugin={level}"
    ))
}

/// The spans of runs are known at any level: they say where an event belongs.
fn spans() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    let wanted: fn(&Metadata<'_>) -> bool = |metadata| is_span_of_host(metadata);
    filter_fn(wanted).with_max_level_hint(LevelFilter::INFO)
}

/// Tells people what cannot be logged.
fn warn(message: &str) {
    write_line(&format!("warning: {message}\n"));
}

fn show(record: &Record, format: LogFormat, colored: bool) {
    if format == LogFormat::Json {
        return write_line(&record.to_json_line());
    }
    let (color, dim, plain) = match record.level {
        _ if !colored => ("", "", ""),
        Level::Error => ("\u{1b}[31m", "\u{1b}[2m", "\u{1b}[0m"),
        Level::Warn => ("\u{1b}[33m", "\u{1b}[2m", "\u{1b}[0m"),
        Level::Info => ("\u{1b}[32m", "\u{1b}[2m", "\u{1b}[0m"),
        Level::Debug | Level::Trace => ("\u{1b}[34m", "\u{1b}[2m", "\u{1b}[0m"),
    };
    write_line(&format!(
        "{dim}{}{plain} {color}{:>5}{plain} {dim}{}:{plain} {}\n",
        record.time,
        record.level.word(),
        record.target,
        record.to_message()
    ));
}

/// Writes a line at once, without tearing the progress bars apart.
fn write_line(line: &str) {
    // Nobody can be told that the log cannot be written.
    progress::around_bars(|| {
        let _ = io::stderr().write_all(line.as_bytes());
    });
}
