//! Replays of dead letters that go on: one of each pipeline at most, and none is cut short by the end of the daemon.
//!
//! What a replay does is decided in [`replay`](crate::runtime::replay).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The replays that go on.
#[derive(Default)]
pub struct Replays {
    going: Arc<Mutex<BTreeSet<String>>>,
    tracker: TaskTracker,
}

/// A pipeline's replay, until it is dropped.
pub struct Going {
    pipeline: String,
    all: Arc<Mutex<BTreeSet<String>>>,
    _token: TaskTrackerToken,
}

impl Replays {
    /// Begins a pipeline's replay; `None` while one goes on.
    pub fn begin(&self, pipeline: &str) -> Option<Going> {
        let mut going = self.going.lock().unwrap_or_else(PoisonError::into_inner);
        going.insert(pipeline.to_owned()).then(|| Going {
            pipeline: pipeline.to_owned(),
            all: self.going.clone(),
            _token: self.tracker.token(),
        })
    }

    /// Ends when the last one has.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&self.pipeline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_of_each_pipeline_goes_on_and_all_are_waited_for() {
        let replays = Replays::default();
        let orders = replays.begin("orders").unwrap();
        assert!(replays.begin("orders").is_none());
        let logins = replays.begin("logins").unwrap();
        drop(orders);
        let again = replays.begin("orders").unwrap();
        let waiting = tokio::spawn(async move {
            replays.wait().await;
        });
        drop((logins, again));
        waiting.await.unwrap();
    }
}
