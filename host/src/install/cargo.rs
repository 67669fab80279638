//! The library of a crate, built by cargo. Where it lies is taken from cargo's own messages.
//!
//! What the compiler says goes to stderr as it comes.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};

/// How a library is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Optimised.
    Release,
    /// Built sooner, runs slower.
    Dev,
}

/// A package that makes a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    folder: PathBuf,
    id: String,
}

/// The program: as `CARGO` says, which cargo sets for what it starts.
pub fn program() -> OsString {
    std::env::var_os("CARGO")
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "cargo".into())
}

impl Package {
    /// The package in this folder, if it makes a library that can be loaded.
    pub fn open(folder: &Path) -> Result<Self> {
        let unreadable = |error: io::Error| {
            Error::new(
                ErrorKind::Refused,
                format!("cannot read {}", folder.display()),
            )
            .caused_by(error)
        };
        let folder = folder.canonicalize().map_err(unreadable)?;
        let manifest = folder.join("Cargo.toml");
        if !manifest.is_file() {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} has no Cargo.toml", folder.display()),
            )
            .hint("name the folder of a plugin's crate, or a built library (.so); `etl-host generate` makes a new crate"));
        }
        let output = cargo(&folder)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .map_err(not_started)?;
        if !output.status.success() {
            return Err(
                Error::config(format!("cargo cannot read {}", manifest.display()))
                    .hint("correct what cargo says above, and install again"),
            );
        }
        Self::among(&output.stdout, &folder)
    }

    fn among(metadata: &[u8], folder: &Path) -> Result<Self> {
        let manifest = folder.join("Cargo.toml");
        let metadata: Metadata = serde_json::from_slice(metadata).map_err(|error| {
            Error::internal("`cargo metadata` gave something else than expected").caused_by(error)
        })?;
        let Some(package) = metadata
            .packages
            .iter()
            .find(|package| package.manifest_path == manifest)
        else {
            let names: Vec<&str> = metadata
                .packages
                .iter()
                .map(|it| it.name.as_str())
                .collect();
            let hint = if names.is_empty() {
                "make a crate with `etl-host generate`, and name its folder".to_owned()
            } else {
                format!("name the folder of one of its crates: {}", names.join(", "))
            };
            let message = format!("{} is a workspace, not a crate", manifest.display());
            return Err(Error::config(message).hint(hint));
        };
        let is_library = |target: &Target| target.crate_types.iter().any(|kind| kind == "cdylib");
        if !package.targets.iter().any(is_library) {
            return Err(Error::config(format!(
                "the crate {} makes no library that can be loaded",
                package.name
            ))
            .hint(format!(
                "let these lines stand in {}, and `etl_plugin_api::export_pipelines!` in its src/lib.rs:\n\n    \
                 [lib]\n    crate-type = [\"cdylib\", \"rlib\"]\n",
                manifest.display()
            )));
        }
        Ok(Self {
            name: package.name.clone(),
            version: package.version.clone(),
            folder: folder.to_owned(),
            id: package.id.clone(),
        })
    }

    /// Builds it and gives the library's path.
    pub fn build(&self, profile: Profile) -> Result<PathBuf> {
        let mut command = cargo(&self.folder);
        command.args(["build", "--lib", "--message-format=json-render-diagnostics"]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        let output = command
            .stderr(Stdio::inherit())
            .output()
            .map_err(not_started)?;
        if !output.status.success() {
            return Err(Error::new(
                ErrorKind::Plugin,
                format!("cargo could not build {}", self.name),
            )
            .hint("correct what cargo says above, and install again; nothing was installed"));
        }
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .find_map(|line| self.library_in(line))
            .ok_or_else(|| {
                Error::internal(format!("cargo built {} and named no library", self.name))
                    .hint("build it with `cargo build --release`, and install the .so file")
            })
    }

    fn library_in(&self, line: &str) -> Option<PathBuf> {
        let message: Artifact = serde_json::from_str(line).ok()?;
        let ours = message.reason == "compiler-artifact" && message.package_id == self.id;
        let kinds = &message.target.crate_types;
        if !ours || !kinds.iter().any(|kind| kind == "cdylib") {
            return None;
        }
        let is_library = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "so");
        message.filenames.into_iter().find(is_library)
    }
}

/// In the crate's own folder, so that the settings hold that lie beside it.
fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command.current_dir(folder).stdin(Stdio::null());
    // What cargo told this program about the package that it was started for is none of the other package's business.
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_"];
        let text = name.to_string_lossy();
        if own.iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command
}

fn not_started(error: io::Error) -> Error {
    let program = program();
    Error::new(
        ErrorKind::Refused,
        format!("cannot start {}", Path::new(&program).display()),
    )
    .hint(
        "install Rust from https://rustup.rs, or say where cargo is in the variable CARGO; \
         a library that was built elsewhere is installed as `etl-host install libmy_plugin.so`",
    )
    .caused_by(error)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    version: String,
    id: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

#[derive(Deserialize)]
struct Artifact {
    reason: String,
    package_id: String,
    target: Target,
    filenames: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = r#"{"packages":[
        {"name":"one","version":"0.1.0","id":"path+file:///w/one#0.1.0","manifest_path":"/w/one/Cargo.toml",
         "targets":[{"kind":["cdylib","rlib"],"crate_types":["cdylib","rlib"],"name":"one"}]},
        {"name":"two","version":"0.2.0","id":"path+file:///w/two#0.2.0","manifest_path":"/w/two/Cargo.toml",
         "targets":[{"kind":["lib"],"crate_types":["lib"],"name":"two"}]}]}"#;

    fn open(folder: &str) -> Result<Package> {
        Package::among(METADATA.as_bytes(), Path::new(folder))
    }

    #[test]
    fn a_package_needs_a_library_that_can_be_loaded() {
        assert_eq!(open("/w/one").unwrap().version, "0.1.0");
        let error = open("/w/two").unwrap_err();
        let hint = error.own_hint().unwrap();
        assert!(
            hint.contains("crate-type = [\"cdylib\", \"rlib\"]"),
            "{hint}"
        );
        let error = open("/w").unwrap_err();
        assert!(error.own_hint().unwrap().contains("one, two"), "{error}");
    }

    #[test]
    fn the_library_is_this_package_s_and_not_a_dependency_s() {
        let one = open("/w/one").unwrap();
        let line = |id: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"{id}","target":{{"crate_types":["cdylib","rlib"]}},"filenames":["/t/lib.rlib","{file}"]}}"#
            )
        };
        assert_eq!(
            one.library_in(&line("path+file:///w/two#0.2.0", "/t/libtwo.so")),
            None
        );
        let found = one.library_in(&line(&one.id, "/t/libone.so"));
        assert_eq!(found, Some("/t/libone.so".into()));
        assert_eq!(
            one.library_in(r#"{"reason":"build-finished","success":true}"#),
            None
        );
    }
}
