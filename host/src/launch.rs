//! From a pipeline that was found to a run that can start, and a run's place in history: the same way for `run` and for
//! the daemon.
//!
//! What the run then does is decided in [`runtime`](crate::runtime).

use std::sync::Arc;

use etl_plugin_api::{AttemptInfo, Manifest};
use tokio_util::sync::CancellationToken;

use crate::config::{Isolation, Loaded};
use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::plan::{self, Plan, RunOptions, StageFacts};
use crate::policy::next_step;
use crate::pool::Pools;
use crate::runtime::RunContext;
use crate::runtime::replay::Replay;
use crate::runtime::report::{self, RunReport};
use crate::session::{Found, Session};
use crate::sink::build_sink;
use crate::source::build_source;
use crate::stage::context::{Counters, HostContext};
use crate::stage::{Stages, blocking};
use crate::state::RunStart;

/// A pipeline that may run: found, configured, and not parked.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The pipeline and its plugin.
    pub found: Found,
    /// Its configuration.
    pub loaded: Loaded,
}

impl Launch {
    /// Reads the configuration. `isolation` goes before what it says.
    pub fn load(
        session: &Session,
        found: Found,
        isolation: Option<Isolation>,
    ) -> Result<Self, Failure> {
        let mut loaded = session.load_config(&found)?;
        if let Some(isolation) = isolation {
            loaded.config.isolation = isolation;
        }
        if let Some(parked) = session.parked(&found, &loaded)? {
            return Err(parked.into());
        }
        Ok(Self { found, loaded })
    }

    /// Opens the pipeline's code. It may start a process and wait for the plugin, so it belongs on a thread that may block.
    pub fn open(&self) -> Result<Arc<dyn Stages>, Failure> {
        Session::open_stages(&self.found, &self.loaded)
    }

    /// Puts together everything that the run needs. Opens no connection.
    pub async fn build(
        self,
        stages: Arc<dyn Stages>,
        options: RunOptions,
        pools: &Arc<Pools>,
        cancel: &CancellationToken,
    ) -> Result<RunContext> {
        let plan = build_plan(self.found, self.loaded, &stages, options, cancel).await?;
        let source = build_source(&plan.config.source, pools);
        let sink = Arc::from(build_sink(&plan.config.sink, pools));
        Ok(RunContext::new(plan, stages, source, sink, cancel.clone()))
    }

    /// The same for a replay of dead letters.
    pub async fn build_replay(
        self,
        stages: Arc<dyn Stages>,
        pools: &Arc<Pools>,
        cancel: &CancellationToken,
    ) -> Result<Replay> {
        let asked = stages.clone();
        let has_loader = blocking(move || Ok(asked.loader()?.is_some())).await?;
        let options = RunOptions::default();
        let plan = build_plan(self.found, self.loaded, &stages, options, cancel).await?;
        Replay::new(plan, stages, pools.clone(), cancel.clone(), has_loader)
    }
}

/// Puts configuration, manifest and flags together; asks the plugin for its partitions.
pub async fn build_plan(
    found: Found,
    loaded: Loaded,
    stages: &Arc<dyn Stages>,
    options: RunOptions,
    cancel: &CancellationToken,
) -> Result<Plan> {
    let granted = Arc::new(Session::granted(&found, &loaded)?);
    let mut info = AttemptInfo::default();
    info.pipeline.clone_from(&found.manifest.name);
    let cx = HostContext::new(info, cancel.clone(), Counters::default(), granted.clone());
    let asked = stages.clone();
    let facts = blocking(move || {
        Ok(StageFacts {
            extractor: asked.extractor()?.is_some(),
            loader: asked.loader()?.is_some(),
            partitions: asked
                .partitions(&cx)
                .map_err(|error| error.redact(cx.redactor()))?,
        })
    })
    .await?;
    stages.rest();
    plan::build(loaded.config, found.manifest, granted, &facts, options)
}

/// Whether the plugin itself failed, as opposed to what it was told to do.
pub fn is_fault_of_plugin(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Stage(_) | ErrorKind::Plugin)
}

/// The report of a run that failed before it could start.
pub fn never_started(manifest: &Manifest, dry_run: bool, error: Error) -> RunReport {
    let next_step = next_step(&error);
    let error = error.while_trying(format!("pipeline {}", manifest.name));
    let report = RunReport::never_started(
        &manifest.name,
        manifest.delivery,
        dry_run,
        report::Failure {
            next_step,
            ..report::Failure::new(error.to_string(), &error)
        },
    );
    let (pipeline, run_id) = (&report.pipeline, &report.run_id);
    tracing::error!(pipeline, run_id, "{error}");
    report
}

/// Notes in history that a run began.
pub fn record_start(session: &Session, start: &RunStart) {
    remember(session.state.record_start(start));
}

/// Notes in history how a run ended, and whether its plugin crashed.
pub fn record_end(session: &Session, report: &RunReport) -> Result<()> {
    let json = serde_json::to_string(report)
        .map_err(|error| Error::internal("a report cannot be written as JSON").caused_by(error))?;
    remember(session.state.record_end(
        &report.run_id,
        report.status.word(),
        &report.finished_at,
        &json,
    ));
    if let Some((_, plugin, _)) = session.registry.find(&report.pipeline).first() {
        remember(session.note_crashes(&plugin.sha256, report));
    }
    Ok(())
}

/// History is a service to people: that it cannot be written does not change how the run ended.
fn remember(result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the run's history cannot be written");
    }
}
