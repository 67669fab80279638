//! Keeps the interface of now as a released one: `make golden-release`.
//!
//! A released archive is never replaced, since plugins out there were built against it; a draft is.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{Release, run, sources, workspace};

/// Makes the archive of the interface, and brings the lock file of the golden plugins up to date.
pub fn release() -> Result<()> {
    let version = current_version()?;
    let name = format!("etl-plugin-api-{version}.crate");
    let folder = sources().join("released");
    let new = Release::of(folder.join(&name))
        .with_context(|| format!("plugin-api/Cargo.toml: {version} is no version of a release"))?;
    fs::create_dir_all(&folder)?;
    let mut archives = archives(&folder)?;
    let (older, others): (Vec<_>, Vec<_>) = archives
        .drain(..)
        .partition(|archive| archive.minor == new.minor);
    if let Some(fixed) = older.iter().find(|archive| !archive.is_draft()) {
        bail!(
            "interface {}.{} is released and stays as it is ({}): raise the minor in plugin-api/Cargo.toml",
            new.minor.0,
            new.minor.1,
            fixed.path.display()
        );
    }
    let packed = pack(&new)?;
    for draft in older {
        fs::remove_file(draft.path)?;
    }
    fs::write(&new.path, packed)?;
    let mut sums = String::new();
    for archive in others.iter().chain([&new]) {
        let name = archive.path.file_name().unwrap_or_default();
        let sum = checksum(&archive.path)?;
        writeln!(sums, "{sum}  {}", name.to_string_lossy())?;
    }
    fs::write(folder.join("SHA256SUMS"), sums)?;
    update_lock()?;
    println!("{}", new.path.display());
    Ok(())
}

fn archives(folder: &Path) -> Result<Vec<Release>> {
    let mut archives = Vec::new();
    for entry in fs::read_dir(folder)? {
        archives.extend(Release::of(entry?.path()));
    }
    archives.sort_by_key(|archive| archive.minor);
    Ok(archives)
}

/// The archive that cargo would send to a registry.
fn pack(new: &Release) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let mut command = cargo();
    command
        .args(["package", "--no-verify", "--exclude-lockfile", "--quiet"])
        .arg("--manifest-path")
        .arg(interface().join("Cargo.toml"))
        .arg("--target-dir")
        .arg(folder.path());
    if new.is_draft() {
        command.arg("--allow-dirty");
    }
    run(&mut command)?;
    let name = new.path.file_name().unwrap_or_default();
    let made = folder.path().join("package").join(name);
    fs::read(&made).with_context(|| format!("cargo did not make {}", made.display()))
}

/// The golden plugins name the interfaces by path, so their versions stand in the lock file.
fn update_lock() -> Result<()> {
    let manifest = workspace()?;
    let mut command = cargo();
    command
        .args(["update", "--workspace", "--quiet", "--manifest-path"])
        .arg(&manifest);
    run(&mut command)?;
    let made = manifest.with_file_name("Cargo.lock");
    fs::copy(made, sources().join("Cargo.lock"))?;
    Ok(())
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn interface() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-api")
}

/// The version in the interface's manifest, which is its own and not the workspace's.
pub fn current_version() -> Result<String> {
    let manifest = fs::read_to_string(interface().join("Cargo.toml"))?;
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version
        .map(str::to_owned)
        .context("plugin-api/Cargo.toml has no version of its own")
}

/// As `sha256sum` writes it.
pub fn checksum(path: &Path) -> Result<String> {
    let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut text = String::new();
    for byte in Sha256::digest(&content) {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}
