//! The host's side of what a stage may use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use etl_plugin_api::{AttemptInfo, Context, Level, Rejection, StageError};
use tokio_util::sync::CancellationToken;

use crate::capabilities::{Granted, Redactor};
use crate::error::Error;

/// Counters that a plugin keeps, over a whole run.
#[derive(Clone, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<String, u64>>>);

impl Counters {
    fn add(&self, name: &str, n: u64) {
        // Whoever panicked while it counted has left the map whole.
        let mut counters = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *counters.entry(name.to_owned()).or_default() += n;
    }

    /// All counters so far.
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }
}

/// What every stage of one attempt may use.
#[derive(Clone)]
pub struct HostContext {
    attempt: Arc<AttemptInfo>,
    cancel: CancellationToken,
    counters: Counters,
    granted: Arc<Granted>,
    redactor: Arc<Redactor>,
}

impl HostContext {
    /// The context of one attempt of a plugin that was granted this.
    pub fn new(
        attempt: AttemptInfo,
        cancel: CancellationToken,
        counters: Counters,
        granted: Arc<Granted>,
    ) -> Self {
        Self {
            attempt: Arc::new(attempt),
            cancel,
            counters,
            redactor: Arc::new(Redactor::new(granted.secrets.values())),
            granted,
        }
    }

    /// Hides the granted secrets in what the plugin says.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Turns a stage's error into the host's, without the granted secrets.
    pub fn stage_error(&self, stage: &str, error: StageError) -> Error {
        super::stage_error(stage, self.redactor.redact_error(error))
    }

    /// A rejection without the granted secrets.
    pub fn redact_rejection(&self, rejection: Rejection) -> Rejection {
        Rejection {
            column: rejection
                .column
                .map(|column| self.redactor.redact(&column).into_owned()),
            reason: self.redactor.redact(&rejection.reason).into_owned(),
            ..rejection
        }
    }
}

impl Context for HostContext {
    fn attempt(&self) -> &AttemptInfo {
        &self.attempt
    }

    fn secret(&self, name: &str) -> etl_plugin_api::Result<String> {
        // What the manifest names was granted before the plugin was asked for anything.
        match self.granted.secrets.get(name) {
            Some(secret) => Ok(secret.expose().to_owned()),
            None => Err(StageError::config(format!(
                "the plugin's manifest does not name the secret `{name}`, so nothing can grant it; the plugin's author \
                 adds it to `Capabilities::secrets`"
            ))),
        }
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    fn log(&self, level: Level, message: &str) {
        let AttemptInfo {
            pipeline,
            partition,
            ..
        } = self.attempt.as_ref();
        let message = self.redactor.redact(message);
        match level {
            Level::Error => tracing::error!(target: "plugin", pipeline, partition, "{message}"),
            Level::Warn => tracing::warn!(target: "plugin", pipeline, partition, "{message}"),
            Level::Info => tracing::info!(target: "plugin", pipeline, partition, "{message}"),
            Level::Debug => tracing::debug!(target: "plugin", pipeline, partition, "{message}"),
        }
    }

    fn count(&self, name: &str, n: u64) {
        self.counters.add(&self.redactor.redact(name), n);
    }
}

/// Gives a wrapper the services of the [`HostContext`] in its field `cx`.
macro_rules! delegate_context {
    ($wrapper:ty) => {
        impl etl_plugin_api::Context for $wrapper {
            fn attempt(&self) -> &etl_plugin_api::AttemptInfo {
                self.cx.attempt()
            }

            fn secret(&self, name: &str) -> etl_plugin_api::Result<String> {
                self.cx.secret(name)
            }

            fn cancelled(&self) -> bool {
                self.cx.cancelled()
            }

            fn log(&self, level: etl_plugin_api::Level, message: &str) {
                self.cx.log(level, message);
            }

            fn count(&self, name: &str, n: u64) {
                self.cx.count(name, n);
            }
        }
    };
}

pub(super) use delegate_context;
