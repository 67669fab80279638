//! `etl-host validate`: plugins and configuration, checked without touching a database.

use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::{Failure, Globals, Output, print, print_json};
use crate::config::Loaded;
use crate::plan::{self, RunOptions, StageFacts};
use crate::session::{Found, Session};

/// Flags of `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// The pipeline or plugin; all if left out
    pipeline: Option<String>,
}

/// Checks one pipeline or all, and reports every mistake.
pub fn validate(globals: &Globals, command: &Validate) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let all = session.find_or_all(command.pipeline.as_deref())?;
    let mut worst = 0;
    let mut results = Vec::new();
    for found in &all {
        let name = &found.manifest.name;
        match check(&session, found) {
            Ok(()) => {
                results.push(json!({ "pipeline": name, "valid": true, "error": null }));
                if globals.output == Output::Text {
                    print(&format!("{name}: valid\n"));
                }
            }
            Err(failure) => {
                worst = worst.max(failure.exit_code());
                results
                    .push(json!({ "pipeline": name, "valid": false, "error": failure.to_json() }));
                if globals.output == Output::Text {
                    eprintln!("{name}: {}", failure.to_text());
                }
            }
        }
    }
    if globals.output == Output::Json {
        print_json(&json!({ "pipelines": results }))?;
    }
    Ok(worst)
}

fn check(session: &Session, found: &Found) -> Result<(), Failure> {
    check_with(found, session.load_config(found)?)
}

/// Checks a pipeline with this configuration.
pub(super) fn check_with(found: &Found, loaded: Loaded) -> Result<(), Failure> {
    let stages = Session::open_stages(found, &loaded)?;
    for needless in Session::unasked(found, &loaded)? {
        tracing::warn!(
            pipeline = found.manifest.name,
            "granted, but the plugin does not ask for it, so it does not get it: {needless}"
        );
    }
    for ignored in Session::ignored_settings(found, &loaded) {
        tracing::warn!(
            pipeline = found.manifest.name,
            "it has no effect: {ignored}"
        );
    }
    let facts = StageFacts {
        extractor: stages.extractor()?.is_some(),
        loader: stages.loader()?.is_some(),
        // Asking for partitions may need the source.
        partitions: None,
    };
    plan::build(
        loaded.config,
        found.manifest.clone(),
        Arc::default(),
        &facts,
        RunOptions::default(),
    )?;
    Ok(())
}
