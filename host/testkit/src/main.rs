//! `etl-testkit postgres -- COMMAND ARGUMENT…` runs a command with one `PostgreSQL` server for all tests that it
//! runs, and ends with the command's exit code. It does nothing that the tests could not do without it: they
//! would start one server each.
//!
//! `etl-testkit stand-in …` runs a stand-in for SQL Server until it is told to stop.
//!
//! `etl-testkit golden build|release` builds the golden plugins, or keeps the plugin interface as a released one.

mod stand_in_program;

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};
use etl_testkit::golden;
use etl_testkit::postgres::{PostgresOptions, PostgresServer, URL_VARIABLE};

const USAGE: &str =
    "usage: etl-testkit postgres -- COMMAND [ARGUMENT…]\n       etl-testkit golden build|release";
/// What was asked for cannot be done.
const FAILED: u8 = 3;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let what = arguments.next();
    if what.as_ref().is_some_and(|what| what == "stand-in") {
        return ended(stand_in_program::run(arguments));
    }
    if what.as_ref().is_some_and(|what| what == "golden") {
        match arguments.next().as_deref().and_then(OsStr::to_str) {
            Some("build") => return ended(golden::build()),
            Some("release") => return ended(golden::release()),
            _ => {}
        }
    }
    let dashes = arguments.next();
    let asked = what.is_some_and(|what| what == "postgres") && dashes.is_some_and(|it| it == "--");
    let Some(program) = arguments.next().filter(|_| asked) else {
        eprintln!("{USAGE}\n       {}", stand_in_program::USAGE);
        return ExitCode::from(2);
    };
    let mut command = Command::new(program);
    command.args(arguments);
    match server().and_then(|server| run(command, server.as_ref())) {
        Ok(status) => exit_code(status),
        Err(error) => {
            eprintln!("etl-testkit: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("etl-testkit: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// A server, unless the environment names one already.
fn server() -> Result<Option<PostgresServer>> {
    if std::env::var_os(URL_VARIABLE).is_some_and(|url| !url.is_empty()) {
        return Ok(None);
    }
    PostgresServer::start(&PostgresOptions::default()).map(Some)
}

fn run(mut command: Command, server: Option<&PostgresServer>) -> Result<ExitStatus> {
    if let Some(server) = server {
        command.env(URL_VARIABLE, server.url("postgres"));
    }
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .status()
        .with_context(|| format!("cannot start {name}"))
}

/// As a shell would say it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
