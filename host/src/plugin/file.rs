//! One file of the plugins folder: how it looks from outside, and what it turns out to hold.
//!
//! Nothing here loads a plugin into this process: what it knows comes from the probe, and is kept under the file's
//! checksum, so that an unchanged file is looked at once. Which of two files supplies a pipeline, and when a file is
//! looked at, is decided elsewhere.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use etl_plugin_api::Manifest;
use sha2::{Digest, Sha256};

use super::cache::{Cache, StoredCopy};
use super::probe::{self, Probed};
use super::{Refused, gate};
use crate::error::{Error, ErrorKind, Result};
use crate::literal::hex;
use crate::state::{FileStamp, State};

/// A usable plugin file. Runs keep it for as long as they may load it.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The file's name without `lib` and ending, kebab-case.
    pub name: String,
    /// The checksum of its content.
    pub sha256: String,
    /// The read-only copy that is loaded. It is there for as long as this plugin, or a clone of it, is.
    pub copy: StoredCopy,
    /// The interface it was built for.
    pub abi: String,
    /// Its pipelines.
    pub pipelines: Vec<Manifest>,
}

/// What a file holds.
pub(super) type Outcome = Result<Arc<Plugin>, Refused>;

/// What is seen of a file without reading it. If it looks the same it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// A file that can be looked at.
    File {
        stamp: FileStamp,
        /// A new name leaves it as it is, unlike the time in the stamp.
        modified: Option<SystemTime>,
    },
    /// Anything else.
    Unfit(Refused),
}

impl Sight {
    /// Whether this looks like the same file under another name.
    pub(super) fn is_moved(&self, from: &Self) -> bool {
        let identity = |sight: &Self| match sight {
            Self::File { stamp, modified } => Some((stamp.inode, stamp.size, *modified)),
            Self::Unfit(_) => None,
        };
        identity(self).is_some() && identity(self) == identity(from)
    }
}

/// What may be a plugin at the folder's top level: no configuration (`.yaml`, `.yml`), no hidden file, no folder.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
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

/// Looks at a file without reading it.
pub(super) fn look(path: &Path) -> Sight {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Sight::Unfit(Refused::new(
            "not a regular file",
            "move it out of the plugins folder",
        )),
        Ok(found) => Sight::File {
            stamp: FileStamp {
                size: found.size(),
                // Not the time of modification, which deployment tools set as they like.
                changed_ns: found
                    .ctime_nsec()
                    .saturating_add(found.ctime().saturating_mul(1_000_000_000)),
                inode: found.ino(),
            },
            modified: found.modified().ok(),
        },
        Err(error) => Sight::Unfit(unreadable(&error)),
    }
}

fn unreadable(error: &io::Error) -> Refused {
    let fix = match error.kind() {
        // It was in the folder a moment ago, so it is a link.
        io::ErrorKind::NotFound => "put the file where the link points, or remove the link",
        io::ErrorKind::PermissionDenied => "make the file readable for this user",
        _ => "mend the file or the link, or move it out of the plugins folder",
    };
    Refused::new(format!("it cannot be read: {error}"), fix).for_now()
}

/// What is known of a file that was examined before and looks the same.
pub(super) fn recall(path: &Path, sight: &Sight, state: &State) -> Result<Option<Outcome>> {
    let Sight::File { stamp, .. } = sight else {
        return Ok(None);
    };
    let Some(sha256) = state.known_checksum(path, *stamp)? else {
        return Ok(None);
    };
    let Some(copy) = Cache::new(state.plugin_cache()).find(&sha256) else {
        return Ok(None);
    };
    let known = state.known_probe(&sha256)?;
    Ok(known.map(|probed| accept(path, sha256, copy, probed)))
}

/// Brings a file through gate and probe, unless it is known.
pub(super) fn examine(
    path: &Path,
    sight: &Sight,
    state: &State,
    host_binary: &Path,
) -> Result<Outcome> {
    let stamp = match sight {
        Sight::File { stamp, .. } => *stamp,
        Sight::Unfit(refused) => return Ok(Err(refused.clone())),
    };
    if let Some(known) = recall(path, sight, state)? {
        return Ok(known);
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(unreadable(&error))),
    };
    if look(path) != *sight {
        return Ok(Err(Refused::new(
            "it changes while it is read",
            "wait until it is complete; to replace a file, copy the new one under a hidden name and rename it",
        )
        .for_now()));
    }
    if let Err(refused) = gate::check(&bytes) {
        return Ok(Err(refused));
    }
    let sha256 = hex(&Sha256::digest(&bytes));
    let copy = Cache::new(state.plugin_cache()).store(&sha256, &bytes)?;
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
    Ok(accept(path, sha256, copy, probed))
}

fn accept(path: &Path, sha256: String, copy: StoredCopy, probed: Probed) -> Outcome {
    let (abi, pipelines) = match probed {
        Probed::Usable { abi, pipelines } => (abi, pipelines),
        Probed::Unusable(refused) => return Err(refused),
    };
    check_names(&pipelines)?;
    Ok(Arc::new(Plugin {
        name: plugin_name(path),
        sha256,
        copy,
        abi,
        pipelines,
    }))
}

fn check_names(pipelines: &[Manifest]) -> Result<(), Refused> {
    if pipelines.is_empty() {
        return Err(Refused::new(
            "it holds no pipelines",
            "name them in `export_pipelines!`",
        ));
    }
    let mut names = HashSet::new();
    for Manifest { name, .. } in pipelines {
        if !is_kebab_case(name) {
            return Err(Refused::new(
                format!("its pipeline is named `{}`", name.escape_debug()),
                "name it with lower-case letters, digits and `-`, starting with a letter",
            ));
        }
        if !names.insert(name) {
            return Err(Refused::new(
                format!("it holds two pipelines named `{name}`"),
                "give each pipeline a name of its own",
            ));
        }
    }
    Ok(())
}

/// Removes copies that no file needs and no process uses, with what is known of them. What does not work today is
/// done another day.
pub(super) fn prune_copies(state: &State) {
    let prune = || -> Result<()> {
        let mut wanted = HashSet::new();
        for (path, sha256) in state.known_files()? {
            if path.exists() {
                wanted.insert(sha256);
            } else {
                state.forget_file(&path)?;
            }
        }
        for sha256 in Cache::new(state.plugin_cache()).prune(&wanted) {
            state.forget_probe(&sha256)?;
        }
        Ok(())
    };
    if let Err(error) = prune() {
        tracing::warn!("cannot remove old copies of plugins: {error}");
    }
}

/// `liblogin_analytics.so` -> `login-analytics`.
pub(super) fn plugin_name(path: &Path) -> String {
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

    #[test]
    fn two_of_a_name_in_one_file_are_refused() {
        let pipelines = ["one", "two", "one"].map(|name| Manifest::new(name, "1.0.0"));
        let refused = check_names(&pipelines).unwrap_err();
        assert_eq!(refused.reason, "it holds two pipelines named `one`");
        assert!(check_names(&pipelines[..2]).is_ok());
    }

    #[test]
    fn a_file_is_the_same_under_another_name_and_another_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        fs::write(&one, "content").unwrap();
        let before = look(&one);
        fs::rename(&one, &two).unwrap();
        assert!(look(&two).is_moved(&before));
        fs::copy(&two, &one).unwrap();
        assert!(!look(&one).is_moved(&before));
        assert!(!look(&folder.path().join("none")).is_moved(&look(&folder.path().join("none"))));
    }
}
