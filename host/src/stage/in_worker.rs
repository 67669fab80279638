//! Stages in a worker process: one process for each attempt of a partition, started when the first stage is made.
//!
//! A process that has died is replaced when another stage is wanted, so that the search for a bad row can go on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etl_plugin_api::{
    Context, ErrorKind as StageErrorKind, Extractor, Loader, Partition, Problem, StageError,
    Transformer,
};

use super::{Stages, stage_error};
use crate::capabilities::{Granted, Redactor};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::plugin::Plugin;
use crate::process::Usage;
use crate::worker::{Fence, Label, Launch, Measure, NotStarted, Seat, Worker};

/// A plugin may take as long to load as its probe may.
const PATIENCE: Duration = crate::plugin::probe::PATIENCE;

/// A plugin's pipeline in a process of its own.
pub struct InWorker {
    plugin: String,
    launch: Launch,
    call_timeout: Duration,
    worker: Mutex<Option<Worker>>,
    /// Nothing more is started.
    ended: AtomicBool,
}

impl InWorker {
    /// Starts nothing yet.
    pub fn new(
        plugin: &Plugin,
        index: u32,
        config: &Config,
        granted: &Granted,
        host_binary: &Path,
    ) -> Self {
        Self {
            plugin: plugin.name.clone(),
            launch: Launch {
                program: host_binary.to_owned(),
                copy: plugin.copy.clone(),
                pipeline: Some(index),
                settings: config.settings.to_string(),
                fence: Fence::of(config, granted),
                label: Label {
                    pipeline: config.name.clone(),
                    partition: String::new(),
                },
                redactor: Arc::new(Redactor::new(granted.secrets.values())),
                patience: PATIENCE,
            },
            call_timeout: config.limits.call_timeout,
            worker: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    fn worker(&self) -> MutexGuard<'_, Option<Worker>> {
        // Whoever panicked while holding it has left it whole.
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place in the worker, which is started if there is none.
    fn seat(&self, what: &str) -> Result<Seat> {
        let mut slot = self.worker();
        self.refuse_if_ended()?;
        let worker = match slot.take().filter(Worker::is_alive) {
            Some(worker) => worker,
            None => self.start()?,
        };
        // The end may have come meanwhile, and did not wait.
        self.refuse_if_ended()?;
        let worker = slot.insert(worker);
        Seat::open(worker, self.call_timeout).map_err(|error| stage_error(what, error))
    }

    fn refuse_if_ended(&self) -> Result<()> {
        if self.ended.load(Ordering::SeqCst) {
            return Err(Error::new(
                ErrorKind::Cancelled,
                "the attempt that the stage was for has ended",
            ));
        }
        Ok(())
    }

    fn start(&self) -> Result<Worker> {
        let worker = Worker::launch(&self.launch).map_err(|failure| self.not_started(failure))?;
        match &worker.hello().loaded {
            Ok(_) => Ok(worker),
            Err(refused) => Err(Error::new(
                ErrorKind::Plugin,
                format!("plugin {}: {}", self.plugin, refused.reason),
            )
            .hint(refused.fix.clone())),
        }
    }

    fn not_started(&self, failure: NotStarted) -> Error {
        let mut kind = StageErrorKind::Crashed;
        let (what, ending) = match failure {
            NotStarted::Host(error) => return error,
            NotStarted::Garbage(what) => (format!("sent {what}"), None),
            NotStarted::Ended(ending) => {
                kind = ending.kind();
                (ending.words(&self.launch.limits()), Some(ending))
            }
            NotStarted::TooLate(ending) => (
                format!("was not ready within {} s", PATIENCE.as_secs()),
                Some(ending),
            ),
        };
        let error = StageError::new(
            kind,
            format!("the worker process {what} while it loaded the plugin"),
        );
        let error = match ending.and_then(|ending| ending.told()) {
            Some(told) => error.with_backtrace(told),
            None => error,
        };
        stage_error("start the plugin", error)
    }
}

impl Stages for InWorker {
    fn validate(&self) -> Result<Vec<Problem>> {
        let what = "validate the settings";
        self.seat(what)?
            .validate()
            .map_err(|error| stage_error(what, error))
    }

    fn partitions(&self, cx: &dyn Context) -> Result<Option<Vec<Partition>>> {
        let what = "name the partitions";
        self.seat(what)?
            .partitions(cx)
            .map_err(|error| stage_error(what, error))
    }

    fn extractor(&self) -> Result<Option<Box<dyn Extractor>>> {
        let what = "make the extractor";
        self.seat(what)?
            .extractor()
            .map_err(|error| stage_error(what, error))
    }

    fn transformer(&self) -> Result<Option<Box<dyn Transformer>>> {
        let what = "make the transformer";
        self.seat(what)?
            .transformer()
            .map_err(|error| stage_error(what, error))
    }

    fn loader(&self) -> Result<Option<Box<dyn Loader>>> {
        let what = "make the loader";
        self.seat(what)?
            .loader()
            .map_err(|error| stage_error(what, error))
    }

    fn for_attempt(&self, partition: &str) -> Arc<dyn Stages> {
        let mut launch = self.launch.clone();
        partition.clone_into(&mut launch.label.partition);
        Arc::new(Self {
            plugin: self.plugin.clone(),
            launch,
            call_timeout: self.call_timeout,
            worker: Mutex::default(),
            ended: AtomicBool::new(false),
        })
    }

    fn rest(&self) {
        *self.worker() = None;
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        // Dropped, it ends. One that is being started is dropped by whoever starts it.
        if let Ok(mut worker) = self.worker.try_lock() {
            *worker = None;
        }
    }

    fn usage(&self) -> Option<Usage> {
        // Not worth waiting for one that is being started.
        let worker = self.worker.try_lock().ok()?;
        worker.as_ref()?.process().usage()
    }

    fn measures(&self) -> Result<Option<Vec<Measure>>> {
        self.seat("start the plugin")?;
        Ok(self
            .worker()
            .as_ref()
            .map(|worker| worker.hello().measures.clone()))
    }
}
