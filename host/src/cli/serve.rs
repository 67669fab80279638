//! `etl-host serve`: the daemon.

use std::path::PathBuf;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Failure, Globals, signals, telemetry};
use crate::config::{self, Layer};
use crate::daemon::{Daemon, http};
use crate::error::{Error, ErrorKind};
use crate::logs;
use crate::session;

/// The daemon's configuration, in the folder of configurations.
const CONFIG_FILE: &str = "etl-host.yaml";

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The daemon's configuration; etl-host.yaml in --config-dir if it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Serves until a signal comes, and then until the last run has ended.
pub fn serve(globals: &Globals, command: &Serve) -> Result<u8, Failure> {
    let config = load_config(globals, command)?;
    telemetry::serve(config.logs.rotate);
    logs::hide(config.secrets());
    let folders = globals.folders();
    let ((), stopped_by) = signals::drive(async |shutdown| {
        let http = config.http.clone();
        let daemon = Daemon::open(&folders, config, shutdown)?;
        // It answers until the last run has ended, so that people see what the daemon waits for.
        let over = CancellationToken::new();
        let state_dir = &folders.state_dir;
        let listening = http::serve(daemon.clone(), http.as_ref(), state_dir, over.clone()).await?;
        let served = daemon.serve().await;
        listening.close().await;
        served
    })?;
    Ok(stopped_by.unwrap_or(0))
}

fn load_config(globals: &Globals, command: &Serve) -> Result<config::Daemon, Failure> {
    let default = globals
        .config_dir
        .as_ref()
        .map(|folder| folder.join(CONFIG_FILE));
    let path = match (&command.config, default) {
        (Some(path), _) => path.clone(),
        (None, Some(path)) if path.exists() => path,
        _ => return Ok(config::Daemon::default()),
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Error::new(
            ErrorKind::Refused,
            format!("cannot read {}", path.display()),
        )
        .caused_by(error)
    })?;
    let layer = Layer {
        name: path.display().to_string(),
        text,
        of_plugin: false,
    };
    let env = session::load_env()?;
    Ok(config::load_daemon(&layer, &config::env_with(env))?)
}
