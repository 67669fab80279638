//! Stages in a worker process: one process for each attempt of a partition, started when the first stage is made.
//!
//! A process that has died is replaced when another stage is wanted, so that the search for a bad row can go on.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
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
use crate::worker::{Fence, GRACE, Label, Launch, Measure, NotStarted, Process, Seat, Worker};

/// A plugin may take as long to load as its probe may.
const PATIENCE: Duration = crate::plugin::probe::PATIENCE;

/// A plugin's pipeline in a process of its own.
pub struct InWorker {
    plugin: String,
    launch: Launch,
    call_timeout: Duration,
    life: Mutex<Life>,
    /// Held by whoever starts a worker, so that two stages share one.
    starting: Mutex<()>,
    /// Processes of attempts that are over, of all partitions.
    leaving: Arc<Mutex<Vec<Leaving>>>,
}

/// Never held for long: whoever ends an attempt must not wait for a worker that is being started.
#[derive(Default)]
struct Life {
    worker: Option<Worker>,
    /// Nothing more is started.
    ended: bool,
}

/// A process that may still be at work for an attempt that is over.
struct Leaving {
    partition: String,
    process: Arc<Process>,
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
            life: Mutex::default(),
            starting: Mutex::default(),
            leaving: Arc::default(),
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        // Whoever panicked while holding it has left it whole.
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place in the worker, which is started if there is none.
    fn seat(&self, what: &str) -> Result<Seat> {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |worker: &Worker| {
            Seat::open(worker, self.call_timeout).map_err(|error| stage_error(what, error))
        };
        let ended = || {
            Err(Error::new(
                ErrorKind::Cancelled,
                "the attempt that the stage was for has ended",
            ))
        };
        match &*self.life() {
            Life { ended: true, .. } => return ended(),
            Life {
                worker: Some(worker),
                ..
            } if worker.is_alive() => return open(worker),
            Life { .. } => {}
        }
        let worker = self.start()?;
        let mut life = self.life();
        if life.ended {
            return ended();
        }
        open(life.worker.insert(worker))
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Leaving>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the worker end, in its own time but within [`GRACE`].
    fn dismiss(&self, for_good: bool) {
        let worker = {
            let mut life = self.life();
            life.ended |= for_good;
            life.worker.take()
        };
        if let Some(worker) = worker {
            let mut leaving = self.leaving();
            leaving.retain(|one| one.process.wait(Duration::ZERO).is_none());
            leaving.push(Leaving {
                partition: self.launch.label.partition.clone(),
                process: worker.process().clone(),
            });
        }
    }

    fn start(&self) -> Result<Worker> {
        let worker = Worker::launch(&self.launch).map_err(Self::not_started)?;
        warn_of_gaps(&worker.hello().measures);
        match &worker.hello().loaded {
            Ok(_) => Ok(worker),
            Err(refused) => Err(Error::new(
                ErrorKind::Plugin,
                format!("plugin {}: {}", self.plugin, refused.reason),
            )
            .hint(refused.fix.clone())),
        }
    }

    fn not_started(failure: NotStarted) -> Error {
        let message = |what: &str| format!("the worker process {what} while it loaded the plugin");
        let error = match failure {
            NotStarted::Host(error) => return error,
            NotStarted::Garbage(what) => {
                StageError::new(StageErrorKind::Crashed, message(&format!("sent {what}")))
            }
            NotStarted::Ended(ending) => ending.error(ending.kind(), message(&ending.words())),
            NotStarted::TooLate(ending) => {
                let late = format!("was not ready within {} s", PATIENCE.as_secs());
                // The machine may have been busy.
                ending.error(StageErrorKind::Transient, message(&late))
            }
        };
        stage_error("start the plugin", error)
    }
}

/// Says once what this system cannot hold a plugin by.
fn warn_of_gaps(measures: &[Measure]) {
    static SAID: Once = Once::new();
    if measures.iter().all(|measure| measure.in_force) {
        return;
    }
    SAID.call_once(|| {
        for gap in measures.iter().filter(|measure| !measure.in_force) {
            tracing::warn!(
                measure = gap.name,
                "the fence around plugins has a gap on this system: {}",
                gap.detail
            );
        }
    });
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
            life: Mutex::default(),
            starting: Mutex::default(),
            leaving: self.leaving.clone(),
        })
    }

    fn rest(&self) {
        self.dismiss(false);
    }

    fn end(&self) {
        self.dismiss(true);
    }

    fn settle(&self, partition: &str) {
        let of_partition = |leaving: &Leaving| leaving.partition == partition;
        let leaving: Vec<Leaving> = self
            .leaving()
            .extract_if(.., |leaving| of_partition(leaving))
            .collect();
        for Leaving { process, .. } in leaving {
            // It is killed after the first; what the kernel then still holds on to does nothing any more.
            process.wait(GRACE * 2);
        }
    }

    fn usage(&self) -> Option<Usage> {
        self.life().worker.as_ref()?.process().usage()
    }

    fn measures(&self) -> Result<Option<Vec<Measure>>> {
        self.seat("start the plugin")?;
        Ok(self
            .life()
            .worker
            .as_ref()
            .map(|worker| worker.hello().measures.clone()))
    }
}
