//! `etl-host enable`: lets a pipeline run again whose plugin was parked because it crashed too often.

use clap::Args;
use serde_json::json;

use super::{Failure, Globals, Output, print, print_json};
use crate::session::Session;

/// Flags of `enable`.
#[derive(Debug, Args)]
pub struct Enable {
    /// Pipelines, or plugins for all of their pipelines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Forgets the crashes.
pub fn enable(globals: &Globals, command: &Enable) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let mut found = Vec::new();
    for name in &command.names {
        found.extend(session.find(name)?);
    }
    for found in found {
        let name = &found.manifest.name;
        let had_crashed = session.state.forget_crashes(name)?;
        if globals.output == Output::Json {
            print_json(&json!({ "pipeline": name, "had_crashed": had_crashed }))?;
        } else if had_crashed {
            print(&format!(
                "{name}: its crashes are forgotten; the next run tries it again\n"
            ));
        } else {
            print(&format!("{name}: nothing to do, it has not crashed\n"));
        }
    }
    Ok(0)
}
