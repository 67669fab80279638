//! `etl-host probe`: the child process that tries a library. Hidden; the host calls it.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::error::Error;
use crate::plugin::probe as plugin_probe;

/// Flags of `probe`.
#[derive(Debug, Args)]
pub struct Probe {
    /// The library
    file: PathBuf,
}

/// Loads the library and writes what it is to stdout.
pub fn probe(command: &Probe) -> Result<u8, Failure> {
    plugin_probe::answer(&command.file, std::io::stdout())
        .map_err(|error| Error::internal("cannot answer the host").caused_by(error))?;
    Ok(0)
}
