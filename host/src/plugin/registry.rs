//! The plugins folder at one moment: each file with what it supplies, or the reason why it is refused.
//!
//! Decides which of several files supplies a pipeline. What a file holds is found out in `file`; a registry that
//! follows the folder is made in [`live`](super::live).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etl_plugin_api::Manifest;

use super::Refused;
use super::file::{self, Outcome, Plugin};
use crate::error::Result;
use crate::state::State;

/// The plugins folder at one moment.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    entries: Vec<Entry>,
}

/// One file of the plugins folder.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it lies.
    pub path: PathBuf,
    /// What it supplies to the next run, or why it is refused.
    pub outcome: Result<Arc<Plugin>, Refused>,
    /// Why its present content is refused, while an older one (`outcome`) serves on.
    pub newer: Option<Refused>,
}

impl Entry {
    /// What is wrong with the file as it is now.
    pub fn refused(&self) -> Option<&Refused> {
        self.outcome.as_ref().err().or(self.newer.as_ref())
    }

    /// What serves.
    pub fn serving(&self) -> Option<&Arc<Plugin>> {
        self.outcome.as_ref().ok()
    }
}

impl Registry {
    /// Scans the folder's top level. Configuration (`.yaml`, `.yml`) and hidden files are passed over.
    pub fn scan(folder: &Path, state: &State, host_binary: &Path) -> Result<Self> {
        let mut offers = Vec::new();
        for path in file::list(folder)? {
            let found = file::examine(&path, &file::look(&path), state, host_binary)?;
            offers.push(Offer {
                path,
                found,
                serving: None,
            });
        }
        file::prune_copies(state);
        Ok(Self::settle(offers))
    }

    /// All files, ordered by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The file at this path.
    pub fn entry(&self, path: &Path) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// The pipelines of a name: one pipeline's, or all of a plugin's.
    pub fn find(&self, name: &str) -> Vec<(&Entry, &Arc<Plugin>, &Manifest)> {
        let all = self
            .entries
            .iter()
            .filter_map(|entry| Some((entry, entry.serving()?)));
        let mut of_plugin = Vec::new();
        for (entry, plugin) in all {
            for manifest in &plugin.pipelines {
                if manifest.name == name {
                    return vec![(entry, plugin, manifest)];
                }
                if plugin.name == name {
                    of_plugin.push((entry, plugin, manifest));
                }
            }
        }
        of_plugin
    }

    /// Decides who supplies which pipeline. What serves keeps its names; the others get theirs in the order of the
    /// offers, if no other file has them.
    pub(super) fn settle(offers: Vec<Offer>) -> Self {
        let mut owners = HashMap::new();
        for offer in &offers {
            own(&mut owners, offer.serving.as_ref(), &offer.path);
        }
        let mut waiting: Vec<(Offer, bool)> =
            offers.into_iter().map(|offer| (offer, true)).collect();
        // From the beginning after each one: it may have set a name free that a file before it waits for.
        while let Some((offer, plugin, waits)) = first_free(&mut waiting, &owners) {
            owners.retain(|_, owner| *owner != offer.path);
            own(&mut owners, Some(&plugin), &offer.path);
            offer.serving = Some(plugin);
            *waits = false;
        }
        let entries = waiting.into_iter().map(|(offer, waits)| {
            let refused = match &offer.found {
                Ok(plugin) if waits => taken(&owners, plugin, &offer.path).map(duplicate),
                Ok(_) => None,
                Err(refused) => Some(refused.clone()),
            };
            offer.into_entry(refused)
        });
        Self {
            entries: entries.collect(),
        }
    }
}

/// The first offer that waits for its names and may have them.
fn first_free<'a>(
    waiting: &'a mut [(Offer, bool)],
    owners: &HashMap<String, PathBuf>,
) -> Option<(&'a mut Offer, Arc<Plugin>, &'a mut bool)> {
    waiting.iter_mut().find_map(|(offer, waits)| {
        let plugin = Arc::clone(offer.found.as_ref().ok()?);
        let free = *waits && taken(owners, &plugin, &offer.path).is_none();
        free.then_some((offer, plugin, waits))
    })
}

/// A file that wants to supply pipelines.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) path: PathBuf,
    /// What it holds.
    pub(super) found: Outcome,
    /// What has served for it so far.
    pub(super) serving: Option<Arc<Plugin>>,
}

impl Offer {
    fn into_entry(self, refused: Option<Refused>) -> Entry {
        let (outcome, newer) = match (self.serving, refused) {
            (Some(serving), newer) => (Ok(serving), newer),
            (None, Some(refused)) => (Err(refused), None),
            (None, None) => (self.found, None),
        };
        Entry {
            path: self.path,
            outcome,
            newer,
        }
    }
}

fn own(owners: &mut HashMap<String, PathBuf>, plugin: Option<&Arc<Plugin>>, path: &Path) {
    for manifest in plugin.into_iter().flat_map(|plugin| &plugin.pipelines) {
        owners.insert(manifest.name.clone(), path.to_path_buf());
    }
}

/// The first of the plugin's names, by alphabet, that another file supplies.
fn taken<'a>(
    owners: &'a HashMap<String, PathBuf>,
    plugin: &'a Plugin,
    path: &Path,
) -> Option<(&'a str, &'a Path)> {
    let others = plugin.pipelines.iter().filter_map(|manifest| {
        let owner = owners.get(&manifest.name)?;
        (owner != path).then_some((manifest.name.as_str(), owner.as_path()))
    });
    others.min()
}

fn duplicate((name, owner): (&str, &Path)) -> Refused {
    Refused::new(
        format!(
            "pipeline `{name}` is supplied by {} already",
            owner.display()
        ),
        "remove one of the two files, or rename the pipeline",
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::plugin::cache::Cache;

    pub(in crate::plugin) fn plugin(path: &str, sha256: &str, pipelines: &[&str]) -> Arc<Plugin> {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_path_buf());
        Arc::new(Plugin {
            name: file::plugin_name(Path::new(path)),
            sha256: sha256.to_owned(),
            copy: cache.store(sha256, b"copy").unwrap(),
            abi: String::new(),
            pipelines: pipelines
                .iter()
                .map(|name| Manifest::new(*name, "1.0.0"))
                .collect(),
        })
    }

    fn offer(path: &str, pipelines: &[&str]) -> Offer {
        Offer {
            path: path.into(),
            found: Ok(plugin(path, path, pipelines)),
            serving: None,
        }
    }

    fn serving(path: &str, old: &[&str], new: &[&str]) -> Offer {
        Offer {
            serving: Some(plugin(path, "old", old)),
            ..offer(path, new)
        }
    }

    /// Each file with the pipelines that it supplies, and the reason for what it does not.
    fn told(offers: Vec<Offer>) -> Vec<String> {
        let registry = Registry::settle(offers);
        let tell = |entry: &Entry| {
            let names: Vec<&str> = entry
                .serving()
                .iter()
                .flat_map(|plugin| &plugin.pipelines)
                .map(|manifest| manifest.name.as_str())
                .collect();
            let refused = entry.refused().map_or("", |refused| &refused.reason);
            format!("{} [{}] {refused}", entry.path.display(), names.join(" "))
        };
        registry.entries().iter().map(tell).collect()
    }

    #[test]
    fn the_first_file_keeps_a_name() {
        let offers = vec![
            offer("a.so", &["one"]),
            offer("b.so", &["two", "one"]),
            offer("c.so", &["two"]),
        ];
        assert_eq!(
            told(offers),
            [
                "a.so [one] ",
                "b.so [] pipeline `one` is supplied by a.so already",
                "c.so [two] "
            ]
        );
    }

    #[test]
    fn what_serves_keeps_its_names_against_files_before_it() {
        let offers = vec![offer("a.so", &["one"]), serving("b.so", &["one"], &["one"])];
        assert_eq!(
            told(offers),
            [
                "a.so [] pipeline `one` is supplied by b.so already",
                "b.so [one] "
            ]
        );
    }

    #[test]
    fn a_new_version_that_takes_a_name_leaves_the_old_one_serving() {
        let offers = vec![
            serving("a.so", &["one"], &["one", "two"]),
            serving("b.so", &["two"], &["two"]),
        ];
        assert_eq!(
            told(offers),
            [
                "a.so [one] pipeline `two` is supplied by b.so already",
                "b.so [two] "
            ]
        );
    }

    #[test]
    fn a_name_that_a_new_version_gives_up_is_free_at_once() {
        let offers = vec![
            offer("a.so", &["two"]),
            serving("b.so", &["one", "two"], &["one"]),
        ];
        assert_eq!(told(offers), ["a.so [two] ", "b.so [one] "]);
    }

    #[test]
    fn a_bad_new_version_keeps_the_old_ones_names() {
        let mut bad = serving("b.so", &["one"], &[]);
        bad.found = Err(Refused::new("a text file", "remove it"));
        assert_eq!(
            told(vec![offer("a.so", &["one"]), bad]),
            [
                "a.so [] pipeline `one` is supplied by b.so already",
                "b.so [one] a text file"
            ]
        );
    }

    #[test]
    fn a_plugin_is_found_by_its_own_name_and_its_pipelines() {
        let registry = Registry::settle(vec![offer("libmy_plugin.so", &["one", "two"])]);
        assert_eq!(registry.find("my-plugin").len(), 2);
        assert_eq!(registry.find("two").len(), 1);
        assert!(registry.find("three").is_empty());
    }
}
