//! How far the runs of a process are, for whoever looks from another one: a small file in the state folder, written anew
//! each second.
//!
//! It is for people's eyes. What has run is in the history, and nothing is decided by what stands here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::daemon::view::{DaemonView, RunView};
use crate::holder::Holder;

/// How often it is written.
const PACE: Duration = Duration::from_secs(1);

/// What a process tells of itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Progress {
    /// The process.
    pub holder: Holder,
    /// When this was true.
    pub at: Timestamp,
    /// What the daemon says of itself; `None` for a process that is none.
    pub daemon: Option<DaemonView>,
    /// Runs that go on or wait.
    pub runs: Vec<RunView>,
}

/// Keeps the file up to date until it is dropped, which removes it.
pub struct Teller {
    task: JoinHandle<()>,
    file: Arc<ProgressFile>,
}

impl Teller {
    /// Starts to tell. `look` is called on a thread that may block.
    pub fn start(
        state_dir: &Path,
        look: impl Fn() -> (Option<DaemonView>, Vec<RunView>) + Send + Sync + 'static,
    ) -> Self {
        let file = Arc::new(ProgressFile::in_folder(&folder(state_dir)));
        let (shared, look) = (file.clone(), Arc::new(look));
        let task = tokio::spawn(async move {
            let holder = Holder::of_this_process();
            let mut pace = tokio::time::interval(PACE);
            loop {
                pace.tick().await;
                let (file, look, holder) = (shared.clone(), look.clone(), holder.clone());
                let written = tokio::task::spawn_blocking(move || {
                    let (daemon, runs) = look();
                    file.write(&Progress {
                        holder,
                        at: Timestamp::now(),
                        daemon,
                        runs,
                    })
                });
                if let Ok(Err(error)) = written.await {
                    tracing::debug!(%error, "the progress of the runs cannot be written");
                }
            }
        });
        Self { task, file }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
        self.file.close();
    }
}

/// One process's file.
struct ProgressFile {
    path: PathBuf,
    draft: PathBuf,
    /// A thread that still writes must not bring it back.
    closed: Mutex<bool>,
}

impl ProgressFile {
    fn in_folder(folder: &Path) -> Self {
        // Process numbers are the same in several containers that share the folder.
        let name = uuid::Uuid::now_v7();
        Self {
            path: folder.join(format!("{name}.json")),
            draft: folder.join(format!(".{name}.draft")),
            closed: Mutex::new(false),
        }
    }

    fn write(&self, progress: &Progress) -> io::Result<()> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.draft, serde_json::to_vec(progress)?)?;
        fs::rename(&self.draft, &self.path)
    }

    fn close(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.draft);
    }
}

/// What the processes that work with this state folder tell. What a dead one has left is removed.
pub fn load_all(state_dir: &Path) -> Vec<Progress> {
    let Ok(files) = fs::read_dir(folder(state_dir)) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for path in files.flatten().map(|file| file.path()) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        // Whoever ends now takes it away, and a newer host may write another form.
        let Some(progress) = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Progress>(&bytes).ok())
        else {
            continue;
        };
        if progress.holder.is_gone() {
            let _ = fs::remove_file(&path);
        } else {
            all.push(progress);
        }
    }
    all.sort_by_key(|progress| progress.holder.process());
    all
}

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("progress")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(holder: Holder) -> Progress {
        Progress {
            holder,
            at: Timestamp::UNIX_EPOCH,
            daemon: None,
            runs: vec![RunView {
                run_id: "1".to_owned(),
                pipeline: "p".to_owned(),
                trigger: "manual".to_owned(),
                scheduled_for: None,
                started_at: None,
                waits_for: Some("its turn".to_owned()),
                stopping: false,
                backfill: None,
                partitions: Vec::new(),
            }],
        }
    }

    #[test]
    fn what_living_processes_tell_is_read_and_what_dead_ones_left_is_removed() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        assert!(load_all(state.path()).is_empty());
        let own = ProgressFile::in_folder(&folder);
        own.write(&progress(Holder::of_this_process())).unwrap();
        let mut gone = serde_json::to_value(Holder::of_this_process()).unwrap();
        gone["started"] = 1.into();
        let dead = ProgressFile::in_folder(&folder);
        dead.write(&progress(serde_json::from_value(gone).unwrap()))
            .unwrap();
        fs::write(folder.join("newer.json"), "{}").unwrap();
        let all = load_all(state.path());
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].runs[0].waits_for.as_deref(), Some("its turn"));
        assert!(own.path.exists() && !dead.path.exists());

        own.close();
        own.write(&progress(Holder::of_this_process())).unwrap();
        assert!(
            load_all(state.path()).is_empty(),
            "a late thread writes no more"
        );
    }

    #[tokio::test]
    async fn it_is_told_at_once_and_taken_back_at_the_end() {
        let state = tempfile::tempdir().unwrap();
        let (told, asked) = std::sync::mpsc::channel();
        let look = move || {
            let _ = told.send(());
            (None, progress(Holder::default()).runs)
        };
        let look = Mutex::new(look);
        let teller = Teller::start(state.path(), move || look.lock().unwrap()());
        let waiting = tokio::task::spawn_blocking(move || {
            // The second time it is asked the first answer is written.
            asked.recv().unwrap();
            asked.recv().unwrap();
        });
        waiting.await.unwrap();
        assert_eq!(load_all(state.path()).len(), 1);
        drop(teller);
        assert!(load_all(state.path()).is_empty());
    }
}
