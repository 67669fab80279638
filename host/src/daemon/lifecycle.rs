//! Start, stop and delete: what people do to a pipeline as a whole.

use std::path::PathBuf;

use super::view::RunRequest;
use super::{Daemon, Refusal, lock, trash};
use crate::stage::blocking;

impl Daemon {
    /// Enables a pipeline, also one that was parked, and starts a run of it. `None` if one goes on already.
    pub async fn start(&self, name: &str) -> Result<Option<String>, Refusal> {
        self.known(name)?;
        self.enable(name, true)?;
        if self.shared.active.of(name).is_some() {
            return Ok(None);
        }
        self.run(name, RunRequest::default()).await.map(Some)
    }

    /// Disables a pipeline and stops its run, draining it or with `now` at once; returns when the run has ended.
    pub async fn stop(&self, name: &str, now: bool) -> Result<(), Refusal> {
        self.known(name)?;
        self.enable(name, false)?;
        if let Some(run) = self.shared.active.of(name) {
            run.cancel(now);
            run.wait_until_over().await;
        }
        Ok(())
    }

    /// Stops a pipeline, or all of a plugin, and moves what belongs to it to the trash: library, configuration, logs. The
    /// sink's data stay. Says where the trash is.
    pub async fn delete(&self, name: &str) -> Result<PathBuf, Refusal> {
        let found = trash::check(&lock(&self.session), name)?;
        for found in &found {
            self.stop(&found.manifest.name, false).await?;
        }
        let (session, name) = (self.session.clone(), name.to_owned());
        let moved = blocking(move || Ok(trash::delete(&lock(&session), &name))).await?;
        for found in &found {
            lock(&self.roster).remove(&found.manifest.name);
            lock(&self.deleted).insert(found.manifest.name.clone());
        }
        self.look_again();
        Ok(moved?)
    }

    fn enable(&self, name: &str, enabled: bool) -> Result<(), Refusal> {
        {
            let session = lock(&self.session);
            session.state.set_disabled(name, !enabled)?;
            if enabled {
                session.state.forget_crashes(name)?;
            }
            if let Some(known) = lock(&self.roster).get_mut(name) {
                known.enabled = enabled;
                known.parked = known.parked && !enabled;
            }
        }
        Ok(self.tell_members()?)
    }
}
