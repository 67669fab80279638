//! Carries runs out: the daemon's way to the same launch and the same history as `etl-host run`.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use etl_plugin_api::Manifest;

use super::active::ActiveRun;
use super::dry_runs::DryRuns;
use super::metrics::Metrics;
use super::notify::{EndedRun, Notifier, Observation};
use super::shared::{Ended, Executor};
use crate::backfill::{Backfill, Order};
use crate::error::Error;
use crate::failure::Failure;
use crate::launch::{Launch, build_plan, never_started, record_end, record_start};
use crate::plan::{Purpose, RunOptions};
use crate::pool::Pools;
use crate::runtime;
use crate::runtime::report::RunReport;
use crate::session::Session;
use crate::sink::due::DueStatus;
use crate::stage::{Stages, blocking};
use crate::state::{RunStart, State};

/// Carries runs out with the plugins and configurations of a session.
pub struct Runner {
    session: Arc<Mutex<Session>>,
    pools: Arc<Pools>,
    metrics: Arc<Metrics>,
    notifier: Arc<Notifier>,
    dry_runs: Arc<DryRuns>,
}

impl Runner {
    /// A runner for what this session finds.
    pub fn new(
        session: Arc<Mutex<Session>>,
        pools: Arc<Pools>,
        metrics: Arc<Metrics>,
        notifier: Arc<Notifier>,
        dry_runs: Arc<DryRuns>,
    ) -> Self {
        Self {
            session,
            pools,
            metrics,
            notifier,
            dry_runs,
        }
    }

    /// Does something with the session on a thread that may block.
    async fn with_session<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Session) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let session = self.session.clone();
        blocking(move || {
            Ok(work(
                &session.lock().unwrap_or_else(PoisonError::into_inner),
            ))
        })
        .await?
    }

    async fn carry_out(&self, run: &ActiveRun, options: RunOptions) -> Result<RunReport, Failure> {
        let name = run.pipeline.clone();
        let launch = self
            .with_session(move |session| Launch::load(session, session.find_one(&name)?, None))
            .await?;
        // Without the session: a plugin may take its time.
        let opening = launch.clone();
        let stages: Arc<dyn Stages> = blocking(move || Ok(opening.open())).await??;
        if options.purpose == Purpose::Backfill {
            return self.load_again(run, launch, stages, options).await;
        }
        let (drain, abort) = (&run.stop.drain, &run.stop.now);
        let mut context = launch.build(stages, options, &self.pools, drain).await?;
        context.run_id.clone_from(&run.run_id);
        context.abort = abort.clone();
        run.show(context.books.clone());
        Ok(runtime::run(Arc::new(context)).await)
    }

    /// All windows of a past range, as one run.
    async fn load_again(
        &self,
        run: &ActiveRun,
        launch: Launch,
        stages: Arc<dyn Stages>,
        options: RunOptions,
    ) -> Result<RunReport, Failure> {
        let (drain, abort) = (&run.stop.drain, &run.stop.now);
        let plan = build_plan(launch.found, launch.loaded, &stages, options, drain).await?;
        let state = self
            .with_session(|session| Ok(State::open(&session.folders().state_dir)?))
            .await?;
        let order = Order {
            cancel: drain.clone(),
            abort: abort.clone(),
            run_id: Some(run.run_id.clone()),
        };
        let backfill = Backfill::new(plan, stages, self.pools.clone(), state)?;
        Ok(backfill.run(&order, run).await?.report)
    }

    /// The report of a run that could not start.
    async fn refused(&self, run: &ActiveRun, dry_run: bool, failure: Failure) -> RunReport {
        let name = run.pipeline.clone();
        let manifest = self
            .with_session(move |session| Ok(session.find_one(&name)?.manifest))
            .await
            // A plugin that was taken away has no manifest.
            .unwrap_or_else(|_| Manifest::new(&run.pipeline, ""));
        let mut report = never_started(&manifest, dry_run, Error::from(failure));
        report.run_id.clone_from(&run.run_id);
        report
    }
}

#[async_trait]
impl Executor for Runner {
    async fn run(&self, run: &ActiveRun, options: RunOptions) -> Ended {
        let dry_run = options.dry_run;
        if !dry_run {
            let start = RunStart {
                run_id: run.run_id.clone(),
                pipeline: run.pipeline.clone(),
                trigger: run.trigger,
                scheduled_for: run.scheduled_for,
            };
            let recorded = self.with_session(move |session| {
                record_start(session, &start);
                Ok(())
            });
            // It has told the log.
            let _ = recorded.await;
        }
        let report = match self.carry_out(run, options).await {
            Ok(report) => report,
            Err(failure) => self.refused(run, dry_run, failure).await,
        };
        let ended = Ended {
            status: report.status,
            error: report
                .failures()
                .next()
                .map(|failure| failure.message.clone()),
        };
        if dry_run {
            self.dry_runs.keep(run, &report);
        } else {
            self.metrics.run_ended(&report);
            if let Some(ended) = EndedRun::of_report(&report, run.scheduled_for) {
                self.notifier.tell(Observation::Ended(ended));
            }
            let recorded = self.with_session(move |session| Ok(record_end(session, &report)?));
            if let Err(failure) = recorded.await {
                tracing::warn!("{}", failure.to_text());
            }
        }
        ended
    }

    async fn last_status(&self, pipeline: &str) -> Option<DueStatus> {
        let name = pipeline.to_owned();
        let last = self.with_session(move |session| Ok(session.state.last_load(&name)?));
        let status = last.await.ok()??.status;
        status
            .parse()
            .ok()
            .filter(|status: &DueStatus| status.is_final())
    }
}
