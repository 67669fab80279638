//! Golden plugins: built against the plugin interface as it was released, and as it may become, not as it is now.
//!
//! The released interfaces lie in `host/testkit/golden/released` as the archives that a registry would hold, with the
//! workspace of the plugins beside them. Both are put together in the target directory, where cargo builds them;
//! what they share with the project is compiled once. docs/abi.md says what the plugins prove.
//!
//! How an interface is edited is said in `edit`; how a new one is released in `release`.

mod edit;
mod release;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::artifact::{self, Place};
use edit::Interface;
pub use release::release;

/// What is built of the workspace: plugins, and one program.
const PLUGINS: [&str; 3] = ["golden-minor-0", "golden-newer-minor", "golden-newer-major"];
const NEWER_HOST: &str = "golden-newer-host";

/// The shared library of a golden plugin, built when it is stale.
pub fn plugin(package: &str) -> Result<PathBuf> {
    artifact::plugin_of(&workspace()?, package)
}

/// A program that calls a plugin as a host of the next minor of the interface would.
pub fn newer_host() -> Result<PathBuf> {
    artifact::binary_of(&workspace()?, NEWER_HOST, NEWER_HOST)
}

/// Builds everything there is, so that no test waits for the compiler.
pub fn build() -> Result<()> {
    for package in PLUGINS {
        println!("{}", plugin(package)?.display());
    }
    println!("{}", newer_host()?.display());
    Ok(())
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The manifest of the workspace, put together in the target directory.
fn workspace() -> Result<PathBuf> {
    let place = Place::of_this_program()?;
    let folder = place.target_dir.join("golden");
    fs::create_dir_all(&folder)?;
    // Test programs may run at the same time.
    let lock = fs::File::create(folder.join(".lock"))?;
    lock.lock().context("cannot lock the golden workspace")?;
    put_together(&folder)?;
    Ok(folder.join("Cargo.toml"))
}

fn put_together(folder: &Path) -> Result<()> {
    let sources = sources();
    copy_changed(&sources, folder, "released")?;
    let released = released(&sources.join("released"))?;
    for interface in Interface::all(&released)? {
        let target = folder.join("api").join(&interface.name);
        let unpacked = unpack(&interface.release.path)?;
        let crate_folder = unpacked.path().join(interface.release.folder());
        interface.edit(&crate_folder)?;
        copy_changed(&crate_folder, &target, ".cargo_vcs_info.json")?;
    }
    Ok(())
}

/// Copies a folder, but touches no file that is the same already, or cargo would build it again.
fn copy_changed(from: &Path, to: &Path, without: &str) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        if entry.file_name() == without {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_changed(&entry.path(), &target, without)?;
            continue;
        }
        let content = fs::read(entry.path())?;
        if fs::read(&target).ok().as_ref() != Some(&content) {
            fs::write(&target, content)?;
        }
    }
    Ok(())
}

/// An archive of a released interface.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Release {
    path: PathBuf,
    /// As the crate has it: `1.0.0`.
    version: String,
    minor: (u32, u32),
}

impl Release {
    /// Of a file `etl-plugin-api-1.0.0.crate`.
    fn of(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let version = name
            .strip_prefix("etl-plugin-api-")?
            .strip_suffix(".crate")?
            .to_owned();
        let mut numbers = version.split('.').map(|number| number.parse().ok());
        let minor = (numbers.next()??, numbers.next()??);
        Some(Self {
            path,
            version,
            minor,
        })
    }

    /// The folder in the archive that holds everything.
    fn folder(&self) -> String {
        format!("etl-plugin-api-{}", self.version)
    }

    /// May still be replaced.
    fn is_draft(&self) -> bool {
        self.version.contains('-')
    }
}

/// The archives, the oldest minor first, after a look at their checksums.
fn released(folder: &Path) -> Result<Vec<Release>> {
    let sums = fs::read_to_string(folder.join("SHA256SUMS"))
        .context("the checksums of the released interfaces are missing")?;
    let mut releases = Vec::new();
    for line in sums.lines() {
        let (expected, name) = line
            .split_once("  ")
            .with_context(|| format!("SHA256SUMS has a line that is none: {line}"))?;
        let path = folder.join(name);
        let found = release::checksum(&path)?;
        ensure!(
            found == expected,
            "{} is not what was released: take it out of git again",
            path.display()
        );
        releases.push(Release::of(path).with_context(|| format!("{name} names no version"))?);
    }
    releases.sort_by_key(|release| release.minor);
    ensure!(!releases.is_empty(), "no interface is released");
    Ok(releases)
}

fn unpack(archive: &Path) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let mut tar = Command::new("tar");
    run(tar.arg("-xzf").arg(archive).arg("-C").arg(folder.path()))?;
    Ok(folder)
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {program}: install it"))?;
    if !output.status.success() {
        bail!(
            "{program} failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_known_by_its_name() {
        let of = |name: &str| Release::of(PathBuf::from(name));
        let draft = of("x/etl-plugin-api-1.12.0-draft.crate").unwrap();
        assert_eq!((draft.minor, draft.is_draft()), ((1, 12), true));
        let release = of("etl-plugin-api-1.2.3.crate").unwrap();
        assert_eq!((release.minor, release.is_draft()), ((1, 2), false));
        assert_eq!(release.folder(), "etl-plugin-api-1.2.3");
        assert_eq!(of("etl-plugin-api-1.crate"), None);
        assert_eq!(of("other-1.0.0.crate"), None);
    }

    #[test]
    fn an_archive_that_was_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let name = "etl-plugin-api-1.0.0.crate";
        fs::write(folder.path().join(name), "abc").unwrap();
        let sums = folder.path().join("SHA256SUMS");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        fs::write(&sums, format!("{abc}  {name}\n")).unwrap();
        assert_eq!(released(folder.path()).unwrap().len(), 1);
        fs::write(folder.path().join(name), "abd").unwrap();
        let error = released(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not what was released"), "{error}");
    }

    #[test]
    fn every_minor_that_is_no_draft_is_released() {
        let version = release::current_version().unwrap();
        let current = Release::of(format!("etl-plugin-api-{version}.crate").into()).unwrap();
        let released = released(&sources().join("released")).unwrap();
        let archive = released.iter().find(|one| one.minor == current.minor);
        let archive = archive.expect("run `make golden-release`, and add a golden plugin");
        assert!(
            current.is_draft() || !archive.is_draft(),
            "{version} is no draft any more: run `make golden-release`"
        );
    }
}
