//! The daemon: many pipelines on their schedules, in one process, until it is asked to stop.
//!
//! It decides when a pipeline runs, and shows what goes on. What a run does is decided in
//! [`runtime`](crate::runtime), when an instant is due in [`schedule`](crate::schedule).

mod active;
mod agenda;
mod by_hand;
mod carry_out;
pub mod client;
pub mod clock;
mod dependency;
mod dry_runs;
mod history;
pub mod http;
mod lifecycle;
mod lock;
pub mod metrics;
pub mod notify;
mod operations;
pub mod pipeline;
mod refusal;
mod replays;
mod roster;
mod runner;
pub mod schedules;
pub mod shared;
#[cfg(test)]
mod stage_daemon;
mod standing;
pub mod trash;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::active::{ActiveRun, ActiveRuns, partitions};
pub use self::agenda::Agenda;
use self::clock::{Clock, SystemClock};
use self::dry_runs::DryRuns;
use self::lock::Lock;
pub use self::lock::process_of;
use self::metrics::Metrics;
use self::notify::{EndedRun, Notifier, Observation};
use self::pipeline::PipelineTask;
pub use self::refusal::Refusal;
use self::replays::Replays;
use self::roster::build_spec;
pub use self::roster::{Known, Roster, load_roster};
use self::runner::Runner;
use self::shared::{Pace, RunOrder, Shared, Spec};
use self::standing::Standing;
pub use self::standing::Standings;
use self::view::{
    DaemonView, Event, OriginView, PipelineState, PipelineView, ProcessView, RefusedPlugin,
    RouteView, RunRequest, RunView,
};
use crate::config;
use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::holder::Holder;
use crate::plan::{Purpose, RunOptions};
use crate::plugin::LivePlugins;
use crate::pool::{BreakerState, Pools};
use crate::process::Usage;
use crate::progress::Teller;
use crate::schedule::Schedule;
use crate::session::{Folders, Session, host_binary};
pub use crate::state::HistoryQuery;
use crate::state::{State, Trigger};
use crate::worker::workers_of;

/// How often plugins, configurations and the state are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often runs are forgotten that are long past.
const PRUNE_EVERY: Duration = Duration::from_hours(24);
/// How long notices may take that are on their way when the daemon ends.
const NOTICES: Duration = Duration::from_secs(10);
/// Events that a slow listener may fall behind.
const EVENTS: usize = 1_024;
/// Orders that wait for a pipeline's task.
const ORDERS: usize = 16;

/// The daemon.
pub struct Daemon {
    folders: Folders,
    config: config::Daemon,
    session: Arc<Mutex<Session>>,
    pools: Arc<Pools>,
    shared: Arc<Shared>,
    /// Its own connection to the state: who only looks does not hold up who runs.
    reading: Mutex<State>,
    /// Another one, so that who acts does not wait for who looks.
    auditing: Mutex<State>,
    roster: Mutex<Roster>,
    members: Mutex<BTreeMap<String, Member>>,
    /// Tasks of pipelines that are gone, until they have ended.
    leaving: Mutex<BTreeMap<String, JoinHandle<()>>>,
    /// Pipelines that were deleted, until the plugins folder is seen without them.
    deleted: Mutex<BTreeSet<String>>,
    replays: Replays,
    dry_runs: Arc<DryRuns>,
    look_again: Notify,
    ready: watch::Sender<bool>,
    started_at: Timestamp,
    /// When the loop last went round, in seconds of Unix time.
    ticked_at: AtomicI64,
    _lock: Lock,
}

/// A pipeline's task, as the daemon talks to it.
struct Member {
    /// What it was told last.
    known: Known,
    spec: watch::Sender<Arc<Spec>>,
    orders: mpsc::Sender<RunOrder>,
    task: JoinHandle<()>,
}

impl Daemon {
    /// Takes the state folder, and notes which runs a daemon before it has left. Nothing runs before [`serve`](Self::serve).
    pub fn open(
        folders: &Folders,
        config: config::Daemon,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, Failure> {
        std::fs::create_dir_all(&folders.state_dir)
            .map_err(|error| State::refused(&folders.state_dir, "create", &error))?;
        let lock = Lock::take(&folders.state_dir)?;
        let session = Session::open(folders)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let reading = State::open(&folders.state_dir)?;
        let auditing = State::open(&folders.state_dir)?;
        let state = State::open(&folders.state_dir)?;
        let notifier = Notifier::start(config.notifications.clone(), state, clock.clone())?;
        for (pipeline, run) in session.state.record_interrupted()? {
            let backfill = run.trigger == Trigger::Backfill.word();
            tracing::warn!(
                pipeline,
                run_id = run.run_id,
                "interrupted: its host died; the next {} goes on from its last commit",
                if backfill { "such backfill" } else { "run" }
            );
            // A due run is taken up again.
            if run.scheduled_for.is_none() {
                let ended = EndedRun::interrupted(&pipeline, &run.run_id, &run.started_at, None);
                notifier.tell(Observation::Ended(if backfill {
                    ended.as_backfill()
                } else {
                    ended
                }));
            }
        }
        let session = Arc::new(Mutex::new(session));
        let (pools, metrics) = (Arc::new(Pools::new()), Arc::new(Metrics::default()));
        let dry_runs = Arc::new(DryRuns::default());
        let notifier = Arc::new(notifier);
        let runner = Runner::new(
            session.clone(),
            pools.clone(),
            metrics.clone(),
            notifier.clone(),
            dry_runs.clone(),
        );
        let shared = Shared {
            clock,
            holder: Holder::of_this_process(),
            executor: Arc::new(runner),
            permits: Arc::new(Semaphore::new(config.max_concurrent_runs)),
            active: ActiveRuns::default(),
            standings: Standings::default(),
            events: broadcast::Sender::new(EVENTS),
            metrics,
            notifier,
            pace: Pace::default(),
            shutdown,
        };
        Ok(Arc::new(Self {
            folders: folders.clone(),
            config,
            session,
            pools,
            shared: Arc::new(shared),
            reading: Mutex::new(reading),
            auditing: Mutex::new(auditing),
            roster: Mutex::default(),
            members: Mutex::default(),
            leaving: Mutex::default(),
            deleted: Mutex::default(),
            replays: Replays::default(),
            dry_runs,
            look_again: Notify::new(),
            ready: watch::Sender::new(false),
            started_at: Timestamp::now(),
            ticked_at: AtomicI64::new(0),
            _lock: lock,
        }))
    }

    /// Works until it is asked to stop, and then until the last run has ended.
    pub async fn serve(self: &Arc<Self>) -> Result<()> {
        let watched = State::open(&self.folders.state_dir)?;
        let state = State::open(&self.folders.state_dir)?;
        let plugins = LivePlugins::open(self.folders.plugins_dir.clone(), state, host_binary()?);
        let mut look = Look {
            plugins,
            watched,
            seen: None,
            prune_at: None,
        };
        let told = Arc::downgrade(self);
        let _teller = Teller::start(&self.folders.state_dir, move || {
            told.upgrade().map_or((None, Vec::new()), |daemon| {
                (Some(daemon.view()), daemon.running())
            })
        });
        while !self.shared.shutdown.is_cancelled() {
            let daemon = self.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let looked = daemon.look(&mut look);
                (look, looked)
            });
            let (back, looked) = looked.await?;
            look = back;
            if let Err(failure) = looked {
                tracing::warn!("{}", failure.to_text());
                look.seen = None;
            }
            self.ready.send_replace(true);
            self.ticked_at
                .store(Timestamp::now().as_second(), Ordering::Relaxed);
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.look_again.notified() => {}
                () = self.shared.shutdown.cancelled() => {}
            }
        }
        let members = std::mem::take(&mut *lock(&self.members));
        let leaving = std::mem::take(&mut *lock(&self.leaving));
        let tasks = members.into_values().map(|member| member.task);
        for task in tasks.chain(leaving.into_values()) {
            // Whoever panicked has nothing to finish.
            let _ = task.await;
        }
        self.replays.wait().await;
        self.shared.notifier.close(NOTICES).await;
        Ok(())
    }

    /// Looks for changes of plugins, files and state. If there are any, reads the roster anew and tells the tasks.
    fn look(&self, look: &mut Look) -> Result<(), Failure> {
        let changes = look.plugins.refresh(Instant::now())?;
        for change in &changes {
            tracing::info!("{change}");
            self.tell(Event::PluginsChanged {
                message: change.to_string(),
            });
        }
        let mut session = lock(&self.session);
        let now = Instant::now();
        if look.prune_at.is_none_or(|prune_at| prune_at <= now) {
            session.state.prune_runs(self.shared.clock.now())?;
            look.prune_at = now.checked_add(PRUNE_EVERY);
        }
        let seen = Seen {
            files: session.config_files(),
            state: look.watched.version()?,
        };
        if changes.is_empty() && look.seen.as_ref() == Some(&seen) {
            return Ok(());
        }
        let files_changed = look
            .seen
            .as_ref()
            .is_none_or(|before| before.files != seen.files);
        session.registry = look.plugins.registry();
        let before = lock(&self.roster).clone();
        let mut roster = load_roster(&session, &before, files_changed)?;
        // What was just deleted may still be in the registry for a moment.
        lock(&self.deleted).retain(|name| roster.remove(name).is_some());
        for (name, known) in &roster {
            let earlier = before.get(name).and_then(Known::problem);
            if let Some(problem) = known.problem()
                && earlier != Some(problem)
            {
                tracing::error!(pipeline = name, "{problem}");
            }
        }
        // Under the lock of the session, as all changes of it: what is stopped meanwhile must stay stopped.
        *lock(&self.roster) = roster;
        drop(session);
        self.tell_members()?;
        look.seen = Some(seen);
        Ok(())
    }

    /// Starts the tasks of new pipelines, tells those that have changed, and ends those of pipelines that are gone.
    fn tell_members(&self) -> Result<(), Failure> {
        let now = self.shared.clock.now();
        let session = lock(&self.session);
        let roster = lock(&self.roster).clone();
        let mut members = lock(&self.members);
        let mut leaving = lock(&self.leaving);
        leaving.retain(|_, task| !task.is_finished());
        let gone: Vec<String> = members
            .keys()
            .filter(|name| !roster.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(member) = members.remove(&name) {
                leaving.insert(name, member.task);
            }
        }
        let mut waits = false;
        for (name, known) in &roster {
            let member = members
                .get(name)
                .filter(|member| !member.task.is_finished());
            if member.is_some_and(|member| member.known.is_same(known)) {
                continue;
            }
            // Its task from before it was away for a moment still finishes a run.
            if leaving.contains_key(name) {
                waits = true;
                continue;
            }
            let earlier = member.map(|member| member.spec.borrow().since);
            let lateness = self.config.lateness;
            let Some(spec) = build_spec(known, &session, &self.pools, lateness, earlier, now)?
            else {
                self.shared.standings.publish(name, Standing::broken());
                continue;
            };
            let spec = Arc::new(spec);
            if let Some(member) = members.get_mut(name)
                && !member.task.is_finished()
            {
                member.known = known.clone();
                member.spec.send_replace(spec);
            } else {
                members.insert(name.clone(), self.start_member(known, spec));
            }
            self.tell(Event::PipelineChanged {
                pipeline: name.clone(),
            });
        }
        if waits {
            let message = "a pipeline that came back waits until its earlier run has ended";
            return Err(Error::new(ErrorKind::Busy, message).into());
        }
        Ok(())
    }

    fn start_member(&self, known: &Known, spec: Arc<Spec>) -> Member {
        let name = &known.found.manifest.name;
        let (spec, told) = watch::channel(spec);
        let (orders, received) = mpsc::channel(ORDERS);
        let task = PipelineTask::new(name, self.shared.clone(), told, received);
        Member {
            known: known.clone(),
            spec,
            orders,
            task: tokio::spawn(task.run()),
        }
    }

    /// Tells the daemon that state or configuration was changed by somebody else, and should be read now.
    pub fn look_again(&self) {
        self.look_again.notify_one();
    }

    /// All pipelines, by name.
    pub fn pipelines(&self) -> Result<Vec<PipelineView>, Refusal> {
        let roster = lock(&self.roster).clone();
        let views = roster.values().map(|known| self.view_of(known));
        views.collect()
    }

    /// One pipeline.
    pub fn pipeline(&self, name: &str) -> Result<PipelineView, Refusal> {
        self.view_of(&self.known(name)?)
    }

    /// The configuration that is in force, secrets as `***`.
    pub fn config(&self, name: &str) -> Result<serde_json::Value, Refusal> {
        let known = self.known(name)?;
        let Some(loaded) = &known.loaded else {
            let mistakes = known.problem().cloned().unwrap_or_default();
            return Err(Refusal::Conflict(mistakes));
        };
        serde_json::to_value(&loaded.config).map_err(|error| {
            Refusal::from(Error::internal("a configuration is no JSON").caused_by(error))
        })
    }

    /// Where each value of that configuration comes from.
    pub fn config_origins(&self, name: &str) -> Result<Vec<OriginView>, Refusal> {
        let config = self.config(name)?;
        let loaded = self.known(name)?.loaded;
        let origins = loaded.map(|loaded| loaded.positions.origins(&config));
        let views = origins.into_iter().flatten().map(|origin| OriginView {
            key: origin.key,
            value: origin.value,
            origin: origin.position.map_or_else(
                || "default".to_owned(),
                |at| format!("{}:{}", at.file, at.line),
            ),
            variables: origin.variables,
        });
        Ok(views.collect())
    }

    /// Starts a run that somebody asks for; answers with its identifier once it is accepted.
    pub async fn run(&self, name: &str, request: RunRequest) -> Result<String, Refusal> {
        let known = self.known(name)?;
        if known.loaded.is_none() {
            let mistakes = known.problem().cloned().unwrap_or_default();
            return Err(Refusal::Invalid(Error::config(mistakes).into()));
        }
        self.order(name, Trigger::Manual, options(request)).await
    }

    /// Has a pipeline's task carry out a run; answers with its identifier once it is accepted.
    async fn order(
        &self,
        name: &str,
        trigger: Trigger,
        options: RunOptions,
    ) -> Result<String, Refusal> {
        let run = Arc::new(ActiveRun::new(name, trigger, None));
        let run_id = run.run_id.clone();
        let (reply, accepted) = oneshot::channel();
        let order = RunOrder {
            run,
            options,
            reply,
        };
        let orders = lock(&self.members)
            .get(name)
            .map(|member| member.orders.clone());
        let gone = || Refusal::Conflict(format!("{name} is not ready yet; try again in a moment"));
        orders
            .ok_or_else(gone)?
            .send(order)
            .await
            .map_err(|_| gone())?;
        match accepted.await {
            Ok(Ok(())) => Ok(run_id),
            Ok(Err(reason)) => Err(Refusal::Conflict(reason)),
            Err(_) => Err(gone()),
        }
    }

    /// Asks a run to stop: what is in flight is committed, or rolled back with `now`.
    pub fn cancel(&self, run_id: &str, now: bool) -> Result<(), Refusal> {
        let run =
            self.shared.active.find(run_id).ok_or_else(|| {
                Refusal::NotFound(format!("no run {run_id} goes on in this daemon"))
            })?;
        run.cancel(now);
        Ok(())
    }

    /// Runs that go on or wait.
    pub fn running(&self) -> Vec<RunView> {
        let runs = self.shared.active.all();
        runs.iter().map(|run| run.view()).collect()
    }

    /// One of them.
    pub fn running_run(&self, run_id: &str) -> Option<RunView> {
        self.shared.active.find(run_id).map(|run| run.view())
    }

    /// Files of the plugins folder that do not serve.
    pub fn refused_plugins(&self) -> Vec<RefusedPlugin> {
        let registry = lock(&self.session).registry.clone();
        let entries = registry.entries().iter();
        entries
            .filter_map(|entry| {
                let refused = entry.refused()?;
                Some(RefusedPlugin {
                    path: entry.path.display().to_string(),
                    reason: refused.reason.clone(),
                    fix: refused.fix.clone(),
                    serving: entry.serving().is_some(),
                })
            })
            .collect()
    }

    /// The daemon's own process and its workers.
    pub fn processes(&self) -> Vec<ProcessView> {
        let own = std::process::id();
        let host = ProcessView {
            process: own,
            pipeline: None,
            partition: None,
            usage: Usage::of(own),
        };
        let workers = workers_of(own).into_iter().map(|worker| ProcessView {
            process: worker.process,
            pipeline: Some(worker.label.pipeline),
            partition: Some(worker.label.partition),
            usage: Some(worker.usage),
        });
        std::iter::once(host).chain(workers).collect()
    }

    /// The servers' circuit breakers.
    pub fn breakers(&self) -> Vec<BreakerState> {
        self.pools.breakers()
    }

    /// The pools that all runs share.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Where the logs of pipelines lie.
    pub fn log_dir(&self) -> PathBuf {
        self.folders.log_dir.clone()
    }

    /// The daemon as a whole.
    pub fn view(&self) -> DaemonView {
        DaemonView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            started_at: self.started_at,
            running: self.shared.active.all().len(),
            max_concurrent_runs: self.config.max_concurrent_runs,
            draining: self.shared.shutdown.is_cancelled(),
        }
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Counters and gauges.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Whether it has read plugins and configurations, and is not about to end.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow() && !self.shared.shutdown.is_cancelled()
    }

    /// When its loop last went round, in seconds of Unix time.
    pub fn ticked_at(&self) -> i64 {
        self.ticked_at.load(Ordering::Relaxed)
    }

    fn tell(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.shared.events.send(event);
    }

    fn known(&self, name: &str) -> Result<Known, Refusal> {
        let known = lock(&self.roster).get(name).cloned();
        known.ok_or_else(|| Refusal::NotFound(format!("there is no pipeline `{name}`")))
    }

    fn view_of(&self, known: &Known) -> Result<PipelineView, Refusal> {
        let manifest = &known.found.manifest;
        let name = &manifest.name;
        let current = self.shared.active.of(name);
        let state = match &current {
            Some(run) if run.has_begun() => PipelineState::Running,
            Some(_) => PipelineState::Queued,
            None => known.state(),
        };
        let dependencies = known.loaded.iter().flat_map(|it| &it.config.depends_on);
        let now = self.shared.clock.now();
        let next = known.next_after(now);
        Ok(PipelineView {
            name: name.clone(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            plugin: known.found.plugin.name.clone(),
            sha256: known.found.plugin.sha256.clone(),
            state,
            schedule: known
                .effective
                .schedule
                .as_ref()
                .and_then(|it| Schedule::new(it).ok())
                .map(|it| it.describe()),
            next_run: next,
            overdue_since: self.shared.standings.overdue_since(name, now),
            depends_on: dependencies.map(|it| it.pipeline.clone()).collect(),
            current_run: current.map(|run| run.view()),
            last_run: self.last_run(name)?,
            last_load: lock(&self.reading).last_load(name)?.map(|run| run.status),
            recent: Vec::new(),
            lag_seconds: None,
            delivery: manifest.delivery,
            isolation: known.loaded.as_ref().map(|loaded| loaded.config.isolation),
            route: known.loaded.as_ref().map(|loaded| route(&loaded.config)),
            config_error: known.problem().cloned(),
        })
    }
}

/// What is looked at for changes.
struct Look {
    plugins: LivePlugins,
    /// A connection that changes nothing, so that it sees what all others change.
    watched: State,
    seen: Option<Seen>,
    /// When old runs are forgotten next.
    prune_at: Option<Instant>,
}

/// What it looked like.
#[derive(PartialEq)]
struct Seen {
    files: Vec<(PathBuf, u64, Option<std::time::SystemTime>)>,
    state: i64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn options(request: RunRequest) -> RunOptions {
    RunOptions {
        purpose: Purpose::Load,
        partitions: request.partitions,
        full_refresh: request.full_refresh,
        since: request.since,
        until: request.until,
        limit: request.limit,
        dry_run: request.dry_run,
        allow_duplicates: request.allow_duplicates,
        ..RunOptions::default()
    }
}

/// What it reads from and writes to, in words.
fn route(config: &config::Config) -> RouteView {
    let source = &config.source.connector;
    let source = match source.shard_names().as_slice() {
        [] => "the plugin's own source".to_owned(),
        [shard] => format!("{}, {shard}", source.kind()),
        shards => format!("{}, {} shards", source.kind(), shards.len()),
    };
    let sink = &config.sink;
    RouteView {
        source,
        sink: format!("{} table {}", sink.connector.kind(), sink.table),
    }
}
