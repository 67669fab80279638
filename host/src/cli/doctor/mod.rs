//! `etl-host doctor`: connects everywhere a run would, and says what is wrong and how to mend it.
//!
//! It builds what a run builds, lets the connectors examine themselves, and shows what they found. What is right and
//! what is wrong is theirs to say. Nothing is written anywhere.

mod diagnose;
mod text;

use std::sync::Arc;

use clap::Args;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::json;

use self::diagnose::examine;
use super::{Failure, Globals, Output, build_runtime, print, print_json};
use crate::finding::{Finding, Verdict};
use crate::pool::Pools;
use crate::session::{Found, Session};

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The pipeline or plugin; all if left out
    pipeline: Option<String>,
}

/// A finding with its place.
#[derive(Clone, Debug, Serialize)]
struct Check {
    /// The shard, `plugin` or `sink`.
    #[serde(rename = "where")]
    place: String,
    #[serde(flatten)]
    finding: Finding,
}

/// One pipeline with all that was found.
struct Diagnosis {
    pipeline: String,
    /// What was found, or why nothing could be asked.
    checks: Result<Vec<Check>, Failure>,
}

/// Examines one pipeline or all, and reports every finding.
pub fn doctor(globals: &Globals, command: &Doctor) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let all = session.find_or_all(command.pipeline.as_deref())?;
    let pools = Arc::new(Pools::new());
    let runtime = build_runtime()?;
    let diagnoses = runtime.block_on(join_all(
        all.iter().map(|found| diagnose(&session, found, &pools)),
    ));
    // A thread that waits for a file or a plugin that does not answer must not keep the host.
    runtime.shutdown_background();
    if globals.output == Output::Json {
        let pipelines: Vec<_> = diagnoses.iter().map(to_json).collect();
        print_json(&json!({ "pipelines": pipelines }))?;
    } else {
        for diagnosis in &diagnoses {
            if let Err(failure) = &diagnosis.checks {
                eprintln!("{}: {}", diagnosis.pipeline, failure.to_text());
            }
        }
        print(&text::write(&diagnoses, globals.color.on_stdout()));
    }
    Ok(diagnoses.iter().map(exit_code).max().unwrap_or(0))
}

async fn diagnose(session: &Session, found: &Found, pools: &Arc<Pools>) -> Diagnosis {
    let checks = async {
        let loaded = session.load_config(found)?;
        let stages = Session::open_stages(found, &loaded)?;
        Ok(examine(found, loaded, stages, pools).await?)
    };
    Diagnosis {
        pipeline: found.manifest.name.clone(),
        checks: checks.await,
    }
}

fn to_json(diagnosis: &Diagnosis) -> serde_json::Value {
    json!({
        "pipeline": diagnosis.pipeline,
        "checks": diagnosis.checks.as_deref().unwrap_or_default(),
        "error": diagnosis.checks.as_ref().err().map(Failure::to_json),
    })
}

fn exit_code(diagnosis: &Diagnosis) -> u8 {
    let failed = |check: &Check| check.finding.verdict == Verdict::Failed;
    match &diagnosis.checks {
        Ok(checks) if checks.iter().any(failed) => 3,
        Ok(_) => 0,
        Err(failure) => failure.exit_code(),
    }
}
