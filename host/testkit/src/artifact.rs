//! Paths of what this workspace builds. A test that loads a plugin must load the one that its sources make
//! now, so it is asked of cargo, with the profile and target directory of the running test. It never guesses
//! a file name and never takes a file for fresh because it is there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The shared library of the plugin crate `package`, built when it is stale.
pub fn plugin(package: &str) -> Result<PathBuf> {
    built(&Workspace::of_project(), package, &Kind::SharedLibrary)
}

/// The program `name` of the crate `package`, built when it is stale.
///
/// For a program of the crate under test `env!("CARGO_BIN_EXE_<name>")` is cheaper.
pub fn binary(package: &str, name: &str) -> Result<PathBuf> {
    built(
        &Workspace::of_project(),
        package,
        &Kind::Program(name.to_owned()),
    )
}

/// As [`plugin`], of another workspace, with the versions that its lock file says.
pub(crate) fn plugin_of(manifest: &Path, package: &str) -> Result<PathBuf> {
    built(&Workspace::locked(manifest), package, &Kind::SharedLibrary)
}

/// As [`binary`], of another workspace, with the versions that its lock file says.
pub(crate) fn binary_of(manifest: &Path, package: &str, name: &str) -> Result<PathBuf> {
    built(
        &Workspace::locked(manifest),
        package,
        &Kind::Program(name.to_owned()),
    )
}

struct Workspace {
    manifest: PathBuf,
    is_locked: bool,
}

impl Workspace {
    fn of_project() -> Self {
        Self {
            manifest: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"),
            is_locked: false,
        }
    }

    fn locked(manifest: &Path) -> Self {
        Self {
            manifest: manifest.to_owned(),
            is_locked: true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    SharedLibrary,
    Program(String),
}

type Built = HashMap<(String, Kind), PathBuf>;

/// One build at a time: cargo would let the second one wait anyway.
static BUILT: Mutex<Option<Built>> = Mutex::new(None);

fn built(workspace: &Workspace, package: &str, kind: &Kind) -> Result<PathBuf> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    let key = (package.to_owned(), kind.clone());
    if let Some(path) = built.get(&key) {
        return Ok(path.clone());
    }
    let path = build(workspace, package, kind)?;
    built.insert(key, path.clone());
    Ok(path)
}

fn build(workspace: &Workspace, package: &str, kind: &Kind) -> Result<PathBuf> {
    let place = Place::of_this_program()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command
        .args(["build", "--message-format=json-render-diagnostics"])
        .args(["--package", package])
        .args(["--profile", &place.profile])
        .arg("--target-dir")
        .arg(&place.target_dir)
        .arg("--manifest-path")
        .arg(&workspace.manifest);
    if workspace.is_locked {
        command.arg("--locked");
    }
    match kind {
        Kind::SharedLibrary => command.arg("--lib"),
        Kind::Program(name) => command.args(["--bin", name]),
    };
    if let Some(triple) = &place.triple {
        command.args(["--target", triple]);
    }
    // What cargo tells a test about its own package is none of the other package's business.
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_"];
        if own
            .iter()
            .any(|start| name.to_string_lossy().starts_with(start))
        {
            command.env_remove(name);
        }
    }
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", Path::new(&cargo).display()))?;
    if !output.status.success() {
        bail!(
            "cargo cannot build {package} ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| path_in(&message, kind))
        // The asked-for package is built after everything it depends on.
        .next_back()
        .with_context(|| match kind {
            Kind::SharedLibrary => {
                format!("{package} makes no shared library: crate-type must hold \"cdylib\"")
            }
            Kind::Program(name) => format!("{package} makes no program {name}"),
        })
}

/// The path that one message of `cargo build --message-format=json` gives, if it is of the kind.
fn path_in(message: &Value, kind: &Kind) -> Option<PathBuf> {
    if message.get("reason")? != "compiler-artifact" {
        return None;
    }
    let target = message.get("target")?;
    match kind {
        Kind::SharedLibrary => {
            let kinds = target.get("kind")?.as_array()?;
            if !kinds.iter().any(|kind| kind == "cdylib") {
                return None;
            }
            let files = message.get("filenames")?.as_array()?;
            files
                .iter()
                .filter_map(Value::as_str)
                .map(PathBuf::from)
                .find(|path| path.extension().is_some_and(|extension| extension == "so"))
        }
        Kind::Program(name) => {
            if target.get("name")? != name.as_str() {
                return None;
            }
            Some(PathBuf::from(message.get("executable")?.as_str()?))
        }
    }
}

/// Where a test was built: `<target dir>[/<triple>]/<profile>/deps/<test>`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) target_dir: PathBuf,
    triple: Option<String>,
    profile: String,
}

impl Place {
    /// Where the running test, or program of this crate, was built.
    pub(crate) fn of_this_program() -> Result<Self> {
        let exe = std::env::current_exe().context("cannot tell where this test was built")?;
        Self::of(&exe).with_context(|| {
            format!(
                "{} is not in a target directory of cargo, so it cannot be told which profile it has",
                exe.display()
            )
        })
    }

    fn of(exe: &Path) -> Option<Self> {
        let holder = exe.parent()?;
        let profile_dir = match holder.file_name()?.to_str()? {
            "deps" | "examples" => holder.parent()?,
            _ => holder,
        };
        let profile = match profile_dir.file_name()?.to_str()? {
            "debug" => "dev".to_owned(),
            other => other.to_owned(),
        };
        let above = profile_dir.parent()?;
        // A triple has at least two dashes and the real target directory above it.
        let name = above.file_name()?.to_str()?;
        let is_triple = name.matches('-').count() >= 2 && above.join("../CACHEDIR.TAG").exists();
        if is_triple {
            Some(Self {
                target_dir: above.parent()?.to_owned(),
                triple: Some(name.to_owned()),
                profile,
            })
        } else {
            Some(Self {
                target_dir: above.to_owned(),
                triple: None,
                profile,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(target_dir: &Path, triple: Option<&str>, profile: &str) -> Place {
        Place {
            target_dir: target_dir.to_owned(),
            triple: triple.map(str::to_owned),
            profile: profile.to_owned(),
        }
    }

    #[test]
    fn the_place_of_a_test_gives_profile_and_target_directory() {
        let target = Path::new("/home/a/etl/target");
        let of = |path: &str| Place::of(&target.join(path)).unwrap();
        assert_eq!(of("debug/deps/runs-01ab"), place(target, None, "dev"));
        assert_eq!(of("release/deps/runs-01ab"), place(target, None, "release"));
        assert_eq!(of("debug/etl-testkit"), place(target, None, "dev"));
        assert_eq!(of("fast/examples/one"), place(target, None, "fast"));
    }

    #[test]
    fn a_triple_is_told_from_a_target_directory_with_dashes() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("my-own-target");
        std::fs::create_dir(&target).unwrap();
        let plain = Place::of(&target.join("debug/deps/runs-01ab")).unwrap();
        assert_eq!(plain, place(&target, None, "dev"));

        std::fs::write(target.join("CACHEDIR.TAG"), "").unwrap();
        let triple = target.join("x86_64-unknown-linux-gnu");
        std::fs::create_dir(&triple).unwrap();
        let cross = Place::of(&triple.join("debug/deps/runs-01ab")).unwrap();
        assert_eq!(
            cross,
            place(&target, Some("x86_64-unknown-linux-gnu"), "dev")
        );
    }

    #[test]
    fn a_shared_library_is_found_among_the_files_of_a_crate_with_two_types() {
        let message = serde_json::json!({
            "reason": "compiler-artifact",
            "target": { "name": "login_analytics", "kind": ["cdylib", "rlib"] },
            "filenames": ["/t/debug/liblogin_analytics.rlib", "/t/debug/liblogin_analytics.so"],
            "executable": null,
        });
        let found = path_in(&message, &Kind::SharedLibrary);
        assert_eq!(found, Some("/t/debug/liblogin_analytics.so".into()));
        assert_eq!(
            path_in(&message, &Kind::Program("login_analytics".into())),
            None
        );
    }
}
