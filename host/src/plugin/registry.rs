//! All files of the plugins folder, each with its pipelines or the reason why it is refused.
//!
//! Nothing here loads a plugin into this process: what it knows comes from the probe, and is kept under the file's
//! checksum, so that an unchanged file is looked at once.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use etl_plugin_api::Manifest;
use sha2::{Digest, Sha256};

use super::probe::{self, Probed};
use super::{Refused, gate, load};
use crate::error::{Error, ErrorKind, Result};
use crate::literal::hex;
use crate::state::{FileStamp, State};

/// The plugins folder as it was scanned.
pub struct Registry {
    entries: Vec<Entry>,
}

/// One file of the plugins folder.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it lies.
    pub path: PathBuf,
    /// What it offers, or why it is refused.
    pub outcome: Result<Plugin, Refused>,
}

/// A usable plugin file.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The file's name without `lib` and ending, kebab-case.
    pub name: String,
    /// The checksum of its content.
    pub sha256: String,
    /// The read-only copy that is loaded.
    pub copy: PathBuf,
    /// The interface it was built for.
    pub abi: String,
    /// Its pipelines.
    pub pipelines: Vec<Manifest>,
}

impl Registry {
    /// Scans the folder's top level. Configuration (`.yaml`, `.yml`) and hidden files are passed over.
    pub fn scan(folder: &Path, state: &State, host_binary: &PathBuf) -> Result<Self> {
        let mut entries = Vec::new();
        for path in list_files(folder)? {
            let outcome = examine(&path, state, host_binary)?;
            entries.push(Entry { path, outcome });
        }
        refuse_duplicates(&mut entries);
        Ok(Self { entries })
    }

    /// All files, ordered by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The pipelines of a name: one pipeline's, or all of a plugin's.
    pub fn find(&self, name: &str) -> Vec<(&Entry, &Plugin, &Manifest)> {
        let all = self
            .entries
            .iter()
            .filter_map(|entry| Some((entry, entry.outcome.as_ref().ok()?)));
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
}

fn list_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = fs::read_dir(folder).map_err(|error| {
        Error::new(
            ErrorKind::Refused,
            format!(
                "cannot read the plugins folder {}: {error}",
                folder.display()
            ),
        )
        .hint("create it, or name another one with --plugins-dir or ETL_PLUGINS_DIR")
    })?;
    let mut paths = Vec::new();
    for item in listing {
        let path = item
            .map_err(|error| Error::internal("cannot list the plugins folder").caused_by(error))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let passed_over = name.starts_with('.')
            || path
                .extension()
                .is_some_and(|ending| ending == "yaml" || ending == "yml");
        // Through links: a deployment may link the current version here.
        if !passed_over && fs::metadata(&path).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        if !passed_over {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn examine(path: &Path, state: &State, host_binary: &PathBuf) -> Result<Result<Plugin, Refused>> {
    let unreadable = |error: std::io::Error| {
        let fix = match error.kind() {
            // It was in the folder a moment ago, so it is a link.
            std::io::ErrorKind::NotFound => {
                "put the file where the link points, or remove the link"
            }
            std::io::ErrorKind::PermissionDenied => "make the file readable for this user",
            _ => "mend the file or the link, or move it out of the plugins folder",
        };
        Refused::new(format!("it cannot be read: {error}"), fix)
    };
    let stamp = match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            return Ok(Err(Refused::new(
                "not a regular file",
                "move it out of the plugins folder",
            )));
        }
        Ok(found) => FileStamp {
            size: found.size(),
            // Not the time of modification, which deployment tools set as they like.
            changed_ns: found
                .ctime_nsec()
                .saturating_add(found.ctime().saturating_mul(1_000_000_000)),
            inode: found.ino(),
        },
        Err(error) => return Ok(Err(unreadable(error))),
    };
    let cache = state.plugin_cache();
    let name = plugin_name(path);
    if let Some(sha256) = state.known_checksum(path, stamp)? {
        let copy = cache.join(format!("{sha256}.so"));
        if copy.exists()
            && let Some(probed) = state.known_probe(&sha256)?
        {
            return Ok(accept(name, sha256, copy, probed));
        }
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(unreadable(error))),
    };
    if let Err(refused) = gate::check(&bytes) {
        return Ok(Err(refused));
    }
    let sha256 = hex(&Sha256::digest(&bytes));
    let copy = load::store_copy(&cache, &sha256, &bytes)?;
    drop(bytes);
    // Whoever copies a refused file again wants it tried again.
    let known = state
        .known_probe(&sha256)?
        .filter(|probed| matches!(probed, Probed::Usable { .. }));
    let probed = if let Some(known) = known {
        known
    } else {
        let probed = probe::ask(host_binary, &copy)?;
        if !matches!(&probed, Probed::Unusable(refused) if refused.for_now) {
            state.remember_probe(&sha256, &probed)?;
        }
        probed
    };
    state.remember_checksum(path, stamp, &sha256)?;
    Ok(accept(name, sha256, copy, probed))
}

fn accept(name: String, sha256: String, copy: PathBuf, probed: Probed) -> Result<Plugin, Refused> {
    let (abi, pipelines) = match probed {
        Probed::Usable { abi, pipelines } => (abi, pipelines),
        Probed::Unusable(refused) => return Err(refused),
    };
    if pipelines.is_empty() {
        return Err(Refused::new(
            "it holds no pipelines",
            "name them in `export_pipelines!`",
        ));
    }
    for manifest in &pipelines {
        if !is_kebab_case(&manifest.name) {
            return Err(Refused::new(
                format!("its pipeline is named `{}`", manifest.name.escape_debug()),
                "name it with lower-case letters, digits and `-`, starting with a letter",
            ));
        }
    }
    Ok(Plugin {
        name,
        sha256,
        copy,
        abi,
        pipelines,
    })
}

/// The first file by name keeps a pipeline's name; later ones are refused.
fn refuse_duplicates(entries: &mut [Entry]) {
    let mut owners: HashMap<String, PathBuf> = HashMap::new();
    for entry in entries {
        let Ok(plugin) = &entry.outcome else { continue };
        let mut names: Vec<&str> = plugin
            .pipelines
            .iter()
            .map(|manifest| manifest.name.as_str())
            .collect();
        names.sort_unstable();
        let own = names
            .windows(2)
            .find(|pair| pair.first() == pair.last())
            .and_then(|pair| pair.first().copied());
        let taken = names
            .iter()
            .find_map(|name| Some((*name, owners.get(*name)?)));
        let refused = match (own, taken) {
            (Some(name), _) => Some(Refused::new(
                format!("it holds two pipelines named `{name}`"),
                "give each pipeline a name of its own",
            )),
            (None, Some((name, owner))) => Some(Refused::new(
                format!(
                    "pipeline `{name}` is supplied by {} already",
                    owner.display()
                ),
                "remove one of the two files, or rename the pipeline",
            )),
            (None, None) => None,
        };
        match refused {
            Some(refused) => entry.outcome = Err(refused),
            None => {
                for name in names {
                    owners.insert(name.to_owned(), entry.path.clone());
                }
            }
        }
    }
}

/// `liblogin_analytics.so` -> `login-analytics`.
fn plugin_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.strip_prefix("lib").unwrap_or(&stem).replace('_', "-")
}

fn is_kebab_case(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 63
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, pipelines: &[&str]) -> Entry {
        Entry {
            path: path.into(),
            outcome: Ok(Plugin {
                name: plugin_name(Path::new(path)),
                sha256: String::new(),
                copy: PathBuf::new(),
                abi: String::new(),
                pipelines: pipelines
                    .iter()
                    .map(|name| Manifest::new(*name, "1.0.0"))
                    .collect(),
            }),
        }
    }

    #[test]
    fn the_first_file_keeps_a_name() {
        let mut entries = [
            entry("a.so", &["one"]),
            entry("b.so", &["two", "one"]),
            entry("c.so", &["two"]),
        ];
        refuse_duplicates(&mut entries);
        assert!(entries[0].outcome.is_ok());
        assert!(
            entries[1]
                .outcome
                .as_ref()
                .unwrap_err()
                .reason
                .contains("a.so")
        );
        assert!(entries[2].outcome.is_ok());
    }

    #[test]
    fn two_of_a_name_in_one_file_are_refused() {
        let mut entries = [entry("a.so", &["one", "one"])];
        refuse_duplicates(&mut entries);
        assert!(entries[0].outcome.is_err());
    }

    #[test]
    fn a_plugin_is_found_by_its_own_name_and_its_pipelines() {
        let registry = Registry {
            entries: vec![entry("libmy_plugin.so", &["one", "two"])],
        };
        assert_eq!(registry.find("my-plugin").len(), 2);
        assert_eq!(registry.find("two").len(), 1);
        assert!(registry.find("three").is_empty());
    }
}
