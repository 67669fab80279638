//! Where each pipeline stands with its due instants, for those that depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::config::Dependency;
use crate::sink::due::DueStatus;

/// Where a pipeline stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// The rest is known. It is not before the pipeline's task has looked at its sink.
    pub known: bool,
    /// Instants are claimed for it. If not, its last run is all there is.
    pub scheduled: bool,
    /// It has no configuration that it could run with.
    pub broken: bool,
    /// The next instant that it claims; it lies in the past as long as the sink cannot be reached.
    pub next: Option<Timestamp>,
    /// The oldest instant that is claimed and has not begun.
    pub waiting: Option<Timestamp>,
    /// All instants up to this one are claimed, or accounted for otherwise.
    pub settled_until: Option<Timestamp>,
    /// Those of them that are not over.
    pub open: BTreeSet<Timestamp>,
    /// How its last run ended.
    pub last: Option<DueStatus>,
}

impl Standing {
    /// Of a pipeline without a configuration that it could run with.
    pub fn broken() -> Self {
        Self {
            known: true,
            broken: true,
            ..Self::default()
        }
    }

    /// Whether nothing up to this instant can change any more.
    fn is_settled(&self, instant: Timestamp) -> bool {
        let claimed = !self.scheduled || self.settled_until.is_some_and(|until| until >= instant);
        self.known && claimed && self.open.range(..=instant).next().is_none()
    }
}

/// The standings of all pipelines.
#[derive(Debug, Default)]
pub struct Standings(Mutex<BTreeMap<String, watch::Sender<Standing>>>);

impl Standings {
    /// Tells where a pipeline stands.
    pub fn publish(&self, pipeline: &str, standing: Standing) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(pipeline.to_owned())
            .or_default()
            .send_if_modified(|known| {
                let changed = *known != standing;
                *known = standing;
                changed
            });
    }

    /// The oldest instant of a pipeline that has come by now and has not begun.
    pub fn overdue_since(&self, pipeline: &str, now: Timestamp) -> Option<Timestamp> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = all.get(pipeline)?.borrow();
        let unclaimed = standing.next.filter(|next| *next <= now);
        unclaimed.into_iter().chain(standing.waiting).min()
    }

    /// Forgets a pipeline that is gone.
    pub fn forget(&self, pipeline: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(pipeline);
    }

    /// Waits until a pipeline that goes before is through with its instants up to this one. The error says why the run
    /// that waits is left out.
    pub async fn wait(&self, dependency: &Dependency, instant: Timestamp) -> Result<(), String> {
        let parent = &dependency.pipeline;
        let gone = || format!("`{parent}`, which goes before it, is gone");
        let mut standing = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(parent.clone()).or_default().subscribe()
        };
        let settled = standing
            .wait_for(|standing| standing.is_settled(instant))
            .await
            .map_err(|_| gone())?
            .clone();
        if settled.broken {
            return Err(format!(
                "the configuration of `{parent}`, which goes before it, has mistakes"
            ));
        }
        let runs = match settled.last {
            Some(DueStatus::Succeeded) => true,
            Some(DueStatus::Partial) => dependency.run_after_partial,
            Some(_) => dependency.run_after_failed,
            None => return Err(format!("`{parent}`, which goes before it, has never run")),
        };
        if runs {
            return Ok(());
        }
        let how = match settled.last {
            Some(DueStatus::Partial) => "partly failed",
            Some(DueStatus::Cancelled) => "was stopped",
            _ => "failed",
        };
        Err(format!(
            "the last run of `{parent}`, which goes before it, {how}"
        ))
    }
}
