//! What became different in the plugins folder from one registry to the next, in a sentence for people.
//!
//! When the folder is looked at is not decided here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::registry::{Entry, Registry};
use super::{Plugin, Refused};

/// Something that happened to a file of the plugins folder. Its text is a sentence for log and events.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A file serves that did not before.
    Added {
        /// The file.
        path: PathBuf,
        /// What it supplies.
        plugin: Arc<Plugin>,
    },
    /// A new version serves.
    Replaced {
        /// The file.
        path: PathBuf,
        /// The version up to now; runs that are under way finish on it.
        from: Arc<Plugin>,
        /// The version of the next run.
        to: Arc<Plugin>,
    },
    /// A new or changed file is not used.
    Refused {
        /// The file.
        path: PathBuf,
        /// Why, and what would help.
        refused: Refused,
        /// The older version that serves on.
        serving: Option<Arc<Plugin>>,
    },
    /// A file that was refused is again the version that has served all along.
    Restored {
        /// The file.
        path: PathBuf,
        /// What serves.
        plugin: Arc<Plugin>,
    },
    /// A file has another name and serves on.
    Moved {
        /// Its old name.
        from: PathBuf,
        /// Its new one.
        to: PathBuf,
        /// What it supplies.
        plugin: Arc<Plugin>,
    },
    /// A file that served is gone: no new runs.
    Retired {
        /// Where it lay.
        path: PathBuf,
        /// What it supplied; runs that are under way finish on it.
        plugin: Arc<Plugin>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { path, plugin } => write!(
                out,
                "plugin file {} is in use: {}, with {}",
                path.display(),
                version(plugin),
                pipelines(plugin)
            ),
            Self::Replaced { path, from, to } => write!(
                out,
                "plugin file {} has a new version: {} instead of {}; runs that are under way finish on the old one",
                path.display(),
                version(to),
                version(from)
            ),
            Self::Refused {
                path,
                refused,
                serving,
            } => {
                write!(
                    out,
                    "plugin file {} is refused: {}; ",
                    path.display(),
                    refused.reason
                )?;
                if let Some(plugin) = serving {
                    write!(out, "{} serves on; ", version(plugin))?;
                }
                write!(out, "next: {}", refused.fix)
            }
            Self::Restored { path, plugin } => write!(
                out,
                "plugin file {} is {} again, which has served all along",
                path.display(),
                version(plugin)
            ),
            Self::Moved { from, to, plugin } => write!(
                out,
                "plugin file {} is now {}; {} serves on",
                from.display(),
                to.display(),
                version(plugin)
            ),
            Self::Retired { path, plugin } => write!(
                out,
                "plugin file {} is gone: no new runs of {}; runs that are under way finish",
                path.display(),
                pipelines(plugin)
            ),
        }
    }
}

fn version(plugin: &Plugin) -> String {
    let versions: BTreeSet<&str> = plugin
        .pipelines
        .iter()
        .map(|manifest| manifest.version.as_str())
        .collect();
    let versions: Vec<&str> = versions.into_iter().collect();
    let checksum = plugin.sha256.get(..12).unwrap_or(&plugin.sha256);
    format!("version {} ({checksum})", versions.join(", "))
}

fn pipelines(plugin: &Plugin) -> String {
    let names: Vec<&str> = plugin
        .pipelines
        .iter()
        .map(|manifest| manifest.name.as_str())
        .collect();
    match names.as_slice() {
        [only] => format!("pipeline {only}"),
        names => format!("pipelines {}", names.join(", ")),
    }
}

/// All changes from one registry to the next, those that are gone first. `moved` names the old path of each new one;
/// a file in `examined` that is refused is told of even if it was refused for the same reason before.
pub(super) fn changes(
    before: &Registry,
    after: &Registry,
    moved: &HashMap<PathBuf, PathBuf>,
    examined: &HashSet<PathBuf>,
) -> Vec<Change> {
    let left: HashSet<&Path> = moved.values().map(PathBuf::as_path).collect();
    let gone = |entry: &&Entry| {
        let path = entry.path.as_path();
        after.entry(path).is_none() && !left.contains(path)
    };
    let mut changes: Vec<Change> = before
        .entries()
        .iter()
        .filter(gone)
        .filter_map(|entry| {
            Some(Change::Retired {
                path: entry.path.clone(),
                plugin: Arc::clone(entry.serving()?),
            })
        })
        .collect();
    for entry in after.entries() {
        let from = moved.get(&entry.path);
        let previous = before.entry(from.unwrap_or(&entry.path));
        if let (Some(from), Some(plugin)) = (from, entry.serving()) {
            changes.push(Change::Moved {
                from: from.clone(),
                to: entry.path.clone(),
                plugin: Arc::clone(plugin),
            });
        }
        changes.extend(change(previous, entry, examined.contains(&entry.path)));
    }
    changes
}

fn change(before: Option<&Entry>, after: &Entry, examined: bool) -> Option<Change> {
    let path = after.path.clone();
    let refused_before = before.and_then(Entry::refused);
    if let Some(refused) = after.refused() {
        let told = refused_before == Some(refused) && !examined;
        return (!told).then(|| Change::Refused {
            path,
            refused: refused.clone(),
            serving: after.serving().cloned(),
        });
    }
    let plugin = Arc::clone(after.serving()?);
    match before.and_then(Entry::serving) {
        None => Some(Change::Added { path, plugin }),
        Some(from) if from.sha256 != plugin.sha256 => Some(Change::Replaced {
            path,
            from: Arc::clone(from),
            to: plugin,
        }),
        Some(_) => refused_before.map(|_| Change::Restored { path, plugin }),
    }
}
