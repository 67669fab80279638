//! The plugins folder followed over time: what serves now, for a host that lives long.
//!
//! ```no_run
//! # use std::time::Instant;
//! # use etl_host::{plugin::LivePlugins, state::State};
//! # fn main() -> etl_host::error::Result<()> {
//! let state = State::open(".etl-host".as_ref())?;
//! let mut live = LivePlugins::open("plugins".into(), state, "/usr/bin/etl-host".into());
//! for change in live.refresh(Instant::now())? {
//!     println!("{change}");
//! }
//! let plugins = live.registry();
//! for (_, plugin, manifest) in plugins.find("login-analytics") {
//!     // A run takes its plugin along, and finishes on it whatever is dropped into the folder meanwhile.
//!     println!("{} {} from {}", manifest.name, manifest.version, plugin.sha256);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! When to look, and what a run does with its plugin, is decided by the caller. What a file holds is found out in
//! `file`, who supplies which pipeline in [`registry`](super::registry).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Refused;
use super::change::{self, Change};
use super::file::{self, Outcome, Plugin, Sight};
use super::registry::{Offer, Registry};
use crate::error::{Error, Result};
use crate::state::State;

/// How long a file has to look the same before it is read: it may be a copy that is under way.
pub const STABLE: Duration = Duration::from_secs(2);
/// When a file is tried again whose refusal says as much about the machine.
pub const RETRY: Duration = Duration::from_mins(1);
/// When the cache is looked at, though nothing has changed: runs that used a copy may have ended.
const PRUNE: Duration = Duration::from_mins(10);

/// The plugins folder, followed.
pub struct LivePlugins {
    folder: PathBuf,
    state: State,
    host_binary: PathBuf,
    files: BTreeMap<PathBuf, Watched>,
    registry: watch::Sender<Arc<Registry>>,
    /// When the cache is looked at again; `None` before the first refresh.
    prune_at: Option<Instant>,
}

/// A file that is followed.
struct Watched {
    sight: Sight,
    /// When it was first seen to look like that.
    since: Instant,
    examined: Option<Examined>,
    serving: Option<Arc<Plugin>>,
}

/// What was last found in a file.
struct Examined {
    sight: Sight,
    at: Instant,
    found: Outcome,
}

impl Watched {
    fn new(sight: Sight, now: Instant) -> Self {
        Self {
            sight,
            since: now,
            examined: None,
            serving: None,
        }
    }

    fn see(&mut self, sight: Sight, now: Instant) {
        if self.sight != sight {
            self.sight = sight;
            self.since = now;
        }
    }

    /// Whether its present look was examined.
    fn is_known(&self) -> bool {
        self.examined
            .as_ref()
            .is_some_and(|examined| examined.sight == self.sight)
    }

    fn is_due(&self, now: Instant) -> bool {
        match &self.examined {
            Some(examined) if examined.sight == self.sight => {
                let for_now = matches!(&examined.found, Err(refused) if refused.for_now);
                for_now && now.saturating_duration_since(examined.at) >= RETRY
            }
            _ => now.saturating_duration_since(self.since) >= STABLE,
        }
    }
}

impl LivePlugins {
    /// Follows this folder. Nothing serves before the first [`refresh`](Self::refresh).
    ///
    /// `host_binary` is this program: it is started to try each new file.
    pub fn open(folder: PathBuf, state: State, host_binary: PathBuf) -> Self {
        Self {
            folder,
            state,
            host_binary,
            files: BTreeMap::new(),
            registry: watch::Sender::new(Arc::default()),
            prune_at: None,
        }
    }

    /// What serves now. It stays as it is while the folder changes; ask again for the next run.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.borrow())
    }

    /// The same for other threads, while this one refreshes; it also tells when something has changed.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Registry>> {
        self.registry.subscribe()
    }

    /// Looks at the folder, and says what has changed since the last time.
    ///
    /// A new or changed file is read once it has looked the same for [`STABLE`], so call this again and again, every
    /// second or so; a call that finds nothing new only lists the folder. The first call takes at once what an earlier
    /// process has examined. A call lasts as long as a new file takes to load in a child process (at most 10 s), so it
    /// belongs on a thread that may block.
    ///
    /// If it fails, because the folder cannot be listed, everything serves on.
    pub fn refresh(&mut self, now: Instant) -> Result<Vec<Change>> {
        let first = self.prune_at.is_none();
        let moved = self.see(now)?;
        let mut examined = HashSet::new();
        for (path, watched) in &mut self.files {
            let again = watched.is_known();
            let found = if first {
                file::recall(path, &watched.sight, &self.state).unwrap_or_default()
            } else if watched.is_due(now) {
                Some(
                    file::examine(path, &watched.sight, &self.state, &self.host_binary)
                        .unwrap_or_else(|error| Err(refuse(&error))),
                )
            } else {
                None
            };
            let Some(found) = found else { continue };
            // It changed while it was examined: what was found is of no file.
            let sight = file::look(path);
            if sight != watched.sight {
                watched.see(sight, now);
                continue;
            }
            if !again {
                examined.insert(path.clone());
            }
            watched.examined = Some(Examined {
                sight,
                at: now,
                found,
            });
        }
        let changes = self.publish(&moved, &examined);
        if self.prune_at.is_none_or(|at| now >= at) {
            file::prune_copies(&self.state);
            self.prune_at = Some(now + PRUNE);
        }
        if !changes.is_empty() {
            // Not yet: the changes that are given back hold the old versions.
            self.prune_at = Some(now);
        }
        Ok(changes)
    }

    /// Looks at all files without reading them; gives the old path of each that was renamed.
    fn see(&mut self, now: Instant) -> Result<HashMap<PathBuf, PathBuf>> {
        let sights: BTreeMap<PathBuf, Sight> = file::list(&self.folder)?
            .into_iter()
            .map(|path| {
                let sight = file::look(&path);
                (path, sight)
            })
            .collect();
        let mut files = BTreeMap::new();
        let mut gone = BTreeMap::new();
        for (path, watched) in std::mem::take(&mut self.files) {
            if sights.contains_key(&path) {
                files.insert(path, watched);
            } else {
                gone.insert(path, watched);
            }
        }
        let mut moved = HashMap::new();
        for (path, sight) in sights {
            if let Some(watched) = files.get_mut(&path) {
                watched.see(sight, now);
                continue;
            }
            let mut watched = match take_moved(&mut gone, &sight) {
                Some((from, watched)) => {
                    moved.insert(path.clone(), from);
                    watched
                }
                None => Watched::new(sight.clone(), now),
            };
            watched.see(sight, now);
            files.insert(path, watched);
        }
        self.files = files;
        Ok(moved)
    }

    /// Decides what serves from now on.
    fn publish(
        &mut self,
        moved: &HashMap<PathBuf, PathBuf>,
        examined: &HashSet<PathBuf>,
    ) -> Vec<Change> {
        let offers = self.files.iter().filter_map(|(path, watched)| {
            Some(Offer {
                path: path.clone(),
                found: watched.examined.as_ref()?.found.clone(),
                serving: watched.serving.clone(),
            })
        });
        let after = Registry::settle(offers.collect());
        for entry in after.entries() {
            if let Some(watched) = self.files.get_mut(&entry.path) {
                watched.serving = entry.serving().cloned();
            }
        }
        let changes = change::changes(&self.registry(), &after, moved, examined);
        self.registry.send_if_modified(|current| {
            *current = Arc::new(after);
            !changes.is_empty()
        });
        changes
    }
}

/// The file among those that are gone that looks like this one.
fn take_moved(gone: &mut BTreeMap<PathBuf, Watched>, sight: &Sight) -> Option<(PathBuf, Watched)> {
    let from = gone
        .iter()
        .find(|(_, watched)| sight.is_moved(&watched.sight))
        .map(|(path, _)| path.clone())?;
    gone.remove_entry(&from)
}

/// What keeps the host from examining a file is told with the file; the others are looked at all the same.
fn refuse(error: &Error) -> Refused {
    let fix = error
        .own_hint()
        .unwrap_or("look at the host's log; the file is tried again in a minute");
    Refused::new(error.to_string(), fix).for_now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(changed_ns: i64) -> Sight {
        Sight::File {
            stamp: crate::state::FileStamp {
                size: 1,
                changed_ns,
                inode: 1,
            },
            modified: None,
        }
    }

    #[test]
    fn a_thread_of_its_own_may_refresh_while_others_read() {
        fn can_move<T: Send>() {}
        fn can_be_shared<T: Send + Sync>() {}
        can_move::<LivePlugins>();
        can_be_shared::<watch::Receiver<Arc<Registry>>>();
    }

    #[test]
    fn a_file_is_due_when_it_has_looked_the_same_for_long_enough() {
        let start = Instant::now();
        let mut watched = Watched::new(file(1), start);
        assert!(!watched.is_due(start));
        assert!(watched.is_due(start + STABLE));
        watched.see(file(2), start + STABLE);
        assert!(!watched.is_due(start + STABLE));
        assert!(watched.is_due(start + STABLE * 2));
    }

    #[test]
    fn an_examined_file_is_due_again_only_when_the_refusal_may_pass() {
        let start = Instant::now();
        let mut watched = Watched::new(file(1), start);
        let refused = Refused::new("a text file", "remove it");
        let examined = |refused| {
            Some(Examined {
                sight: file(1),
                at: start,
                found: Err(refused),
            })
        };
        watched.examined = examined(refused.clone());
        assert!(!watched.is_due(start + RETRY * 100));
        watched.examined = examined(refused.for_now());
        assert!(!watched.is_due(start + STABLE));
        assert!(watched.is_due(start + RETRY));
    }
}
