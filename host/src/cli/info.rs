//! `etl-host info`: all about one pipeline.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::schedule::{self, Shown};
use super::status;
use super::table::{indented, table, thousands};
use super::{Failure, Globals, Output, build_runtime, checkpoint, print, print_json};
use crate::capabilities::Granted;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::view::CheckpointView;
use crate::config::{Config, SourceConnector, settings};
use crate::error::{Error, Result};
use crate::pool::Pools;
use crate::session::{Found, Session};
use crate::sink::build_sink;
use crate::state::{Crashes, RunRecord};
use crate::worker::{Measure, Running, workers_of};

/// Runs that are shown.
const RUNS: u32 = 5;

/// Flags of `info`.
#[derive(Debug, Args)]
pub struct Info {
    /// The pipeline
    pipeline: String,
}

struct Facts<'a> {
    found: &'a Found,
    config: &'a Config,
    /// Each stage and whose it is.
    stages: [(&'static str, String); 3],
    /// What holds the plugin's code; `None` if it runs inside the host.
    fence: Option<Vec<Measure>>,
    granted: Granted,
    /// Its workers that run now.
    workers: Vec<Running>,
    crashes: Option<Crashes>,
    schedule: Shown,
    checkpoints: Result<BTreeMap<String, Checkpoint>>,
    runs: Vec<RunRecord>,
}

/// Shows stages, configuration, partitions, checkpoints, last runs and file.
pub fn info(globals: &Globals, command: &Info) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let found = session.find_one(&command.pipeline)?;
    let loaded = session.load_config(&found)?;
    let stages = Session::open_stages(&found, &loaded)?;
    let config = &loaded.config;
    let whose = |own: bool, host: String| {
        if own {
            "the plugin's own".to_owned()
        } else {
            host
        }
    };
    let facts = Facts {
        found: &found,
        config,
        stages: [
            (
                "extract",
                whose(
                    stages.extractor()?.is_some(),
                    format!("the host's, from {}", config.source.connector.kind()),
                ),
            ),
            (
                "transform",
                whose(
                    stages.transformer()?.is_some(),
                    "none: rows are loaded as they were read".to_owned(),
                ),
            ),
            (
                "load",
                whose(
                    stages.loader()?.is_some(),
                    format!(
                        "the host's, into {} table {}",
                        config.sink.connector.kind(),
                        config.sink.table
                    ),
                ),
            ),
        ],
        fence: stages.measures()?,
        granted: Session::granted(&found, &loaded)?,
        workers: session
            .state
            .running()?
            .into_iter()
            .filter(|run| run.pipeline == config.name)
            .flat_map(|run| workers_of(run.process))
            .filter(|worker| worker.label.pipeline == config.name)
            .collect(),
        crashes: session
            .state
            .crashes(&found.plugin.sha256, &found.manifest.name)?,
        schedule: Shown::new(
            &config.name,
            schedule::holding(&session, &found, config.schedule.as_ref())?,
            Timestamp::now(),
            schedule::NEXT,
        )?,
        checkpoints: build_runtime()?.block_on(async {
            build_sink(&config.sink, &Arc::new(Pools::new()))
                .load_checkpoints(&config.name)
                .await
        }),
        runs: session.state.recent_runs(&found.manifest.name, RUNS)?,
    };
    if globals.output == Output::Json {
        print_json(&to_json(&facts))?;
    } else {
        print(&to_text(&facts)?);
    }
    Ok(0)
}

fn to_json(facts: &Facts<'_>) -> serde_json::Value {
    let Facts { found, config, .. } = facts;
    let stages: serde_json::Map<String, serde_json::Value> = facts
        .stages
        .iter()
        .map(|(name, whose)| ((*name).to_owned(), json!(whose)))
        .collect();
    let checkpoints: Vec<_> = facts
        .checkpoints
        .iter()
        .flatten()
        .map(|(name, stored)| CheckpointView::of(name, stored))
        .collect();
    json!({
        "pipeline": found.manifest.name,
        "version": found.manifest.version,
        "description": found.manifest.description,
        "delivery": found.manifest.delivery,
        "cardinality": found.manifest.cardinality,
        "stages": stages,
        "plugin": { "name": found.plugin.name, "sha256": found.plugin.sha256, "abi": found.plugin.abi, "folder": found.folder },
        "isolation": config.isolation,
        "fence": facts.fence,
        "granted": granted_to_json(&facts.granted),
        "workers": status::workers_to_json(&facts.workers),
        "crashes": facts.crashes,
        "parked": facts.parked(),
        "schedule": facts.schedule.to_json(),
        "partitions": config.source.partition_names(),
        "config": config,
        "settings_schema": found.manifest.settings_schema,
        "checkpoints": checkpoints,
        "checkpoint_error": facts.checkpoints.as_ref().err().map(Error::to_string),
        "last_runs": facts.runs,
    })
}

impl Facts<'_> {
    fn parked(&self) -> bool {
        let most = self.config.error_handling.park_after;
        let runs = self.crashes.as_ref().map_or(0, |crashes| crashes.runs);
        most > 0 && runs >= most
    }
}

fn granted_to_json(granted: &Granted) -> serde_json::Value {
    json!({
        "hosts": granted.hosts,
        "paths": granted.paths,
        "writable": granted.writable,
        "secrets": granted.secrets.keys().collect::<Vec<_>>(),
    })
}

fn granted_to_text(granted: &Granted) -> String {
    let paths = |paths: &[PathBuf]| -> Vec<String> {
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    };
    let all = [
        ("the hosts", granted.hosts.clone()),
        ("to read", paths(&granted.paths)),
        ("to write", paths(&granted.writable)),
        ("the secrets", granted.secrets.keys().cloned().collect()),
    ];
    let some: Vec<String> = all
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", names.join(", ")))
        .collect();
    if some.is_empty() {
        "nothing beyond its batches".to_owned()
    } else {
        some.join("; ")
    }
}

fn settings_to_text(schema: &serde_json::Value) -> String {
    let settings = settings::list(schema);
    if settings.is_empty() {
        return "\nSettings\n  none\n".to_owned();
    }
    let mut lines = table(&["setting", "type", "default", ""], &[]);
    for setting in settings {
        let default = match (setting.default, setting.required) {
            (Some(default), _) => default,
            (None, true) => "required".to_owned(),
            (None, false) => "-".to_owned(),
        };
        lines.add_row([setting.key, setting.kind, default, setting.description]);
    }
    format!("\nSettings\n{}", indented(&lines))
}

fn isolation_to_text(facts: &Facts<'_>) -> String {
    // Writing to a String cannot fail, here and below.
    let mut text = String::from("\nIsolation\n");
    match &facts.fence {
        None => text.push_str("  in-process: the plugin runs inside the host, nothing holds it\n"),
        Some(measures) => {
            text.push_str("  process: the plugin runs in a worker process for each attempt\n");
            let mut lines = table(&["measure", "in force", ""], &[]);
            for measure in measures {
                let in_force = if measure.in_force { "yes" } else { "no" };
                lines.add_row([measure.name.as_str(), in_force, &measure.detail]);
            }
            text.push_str(&indented(&lines));
        }
    }
    let _ = writeln!(text, "  it may reach {}", granted_to_text(&facts.granted));
    for worker in &facts.workers {
        let _ = writeln!(
            text,
            "  worker {} of {} runs now: {} of memory, {} of CPU time",
            worker.process,
            worker.label.partition,
            status::mebibytes(worker.usage.resident_bytes),
            status::seconds(worker.usage.cpu_ms)
        );
    }
    if let Some(crashes) = &facts.crashes {
        let parked = if facts.parked() {
            ", and is parked: `etl-host enable` lets it run again"
        } else {
            ""
        };
        let runs = match crashes.runs {
            1 => "its last run".to_owned(),
            many => format!("its last {many} runs"),
        };
        let _ = writeln!(
            text,
            "  it crashed in {runs}{parked}; at {}: {}",
            crashes.at, crashes.message
        );
    }
    text
}

fn to_text(facts: &Facts<'_>) -> Result<String> {
    let Facts { found, config, .. } = facts;
    let manifest = &found.manifest;
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        text,
        "{} {}: {}",
        manifest.name, manifest.version, manifest.description
    );
    let _ = writeln!(
        text,
        "\nPlugin\n  {} in {}, interface {}\n  sha256 {}",
        found.plugin.name,
        found.folder.display(),
        found.plugin.abi,
        found.plugin.sha256
    );
    text.push_str(&isolation_to_text(facts));
    let schedule = &facts.schedule;
    let _ = write!(
        text,
        "\nSchedule\n  {}\n{}",
        schedule.headline(),
        schedule.lines()
    );
    text.push_str("\nStages\n");
    for (name, whose) in &facts.stages {
        let _ = writeln!(text, "  {name:<10} {whose}");
    }
    text.push_str(&settings_to_text(&manifest.settings_schema));
    let partitions = match &config.source.connector {
        SourceConnector::None => "the plugin's own".to_owned(),
        _ => config.source.partition_names().join(", "),
    };
    let _ = writeln!(text, "\nPartitions\n  {partitions}");
    text.push_str("\nCheckpoints\n");
    match &facts.checkpoints {
        Ok(stored) if stored.is_empty() => text.push_str("  nothing was ever committed\n"),
        Ok(stored) => text.push_str(&checkpoint::to_text(stored)),
        Err(error) => {
            let _ = writeln!(text, "  cannot be read: {error}");
        }
    }
    text.push_str("\nLast runs\n");
    if facts.runs.is_empty() {
        text.push_str("  none\n");
    } else {
        let mut lines = table(&["started", "status", "loaded", "run"], &[2]);
        for run in &facts.runs {
            lines.add_row([
                run.started_at
                    .get(..19)
                    .unwrap_or(&run.started_at)
                    .to_owned(),
                run.status.clone(),
                run.loaded.map_or_else(|| "-".to_owned(), thousands),
                run.run_id.clone(),
            ]);
        }
        text.push_str(&indented(&lines));
    }
    let json = serde_json::to_string_pretty(config).map_err(|error| {
        Error::internal("the configuration cannot be written as JSON").caused_by(error)
    })?;
    let _ = writeln!(text, "\nConfiguration, with all defaults\n{json}");
    Ok(text)
}
