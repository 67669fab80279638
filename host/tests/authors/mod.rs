//! What the author of a plugin does: an empty folder outside the repository, and cargo in it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses its own part; without its folder a test cannot go on"
)]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etl_testkit::process::{Finished, Program};
use serde_json::Value;

pub const HOST: &str = env!("CARGO_BIN_EXE_etl-host");

/// What is compiled the first time is all that a plugin depends on.
const DEADLINE: Duration = Duration::from_mins(20);

/// An empty folder outside the repository.
pub struct Folder(PathBuf);

impl Folder {
    /// Its path is the same every time: cargo names by it what it builds, and would pile that up otherwise.
    pub fn new(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
        let all = std::env::temp_dir().join(format!("etl-authors-{:016x}", hasher.finish()));
        let folder = all.join(name);
        // What a run that was killed has left.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder.canonicalize().unwrap())
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Names of all that lies in a folder, hidden files too.
    pub fn list(&self, name: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The host in this folder, or in one below.
    pub fn host(&self, below: &str, args: &[&str]) -> Program {
        as_author(HOST).current_dir(self.path(below)).args(args)
    }

    /// Cargo in a folder below.
    pub fn cargo(&self, below: &str, args: &[&str]) -> Program {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        as_author(cargo).current_dir(self.path(below)).args(args)
    }

    /// A program that is found by its name in [`shell`](Self::shell).
    pub fn executable(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A shell in this folder, with the programs in `bin`.
    pub fn shell(&self, script: &str) -> Program {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", self.path("bin").display());
        as_author("/bin/bash")
            .current_dir(self.path(""))
            .env("PATH", path)
            .args(["-c", script])
    }

    /// Text with the folder's path taken out.
    pub fn redact(&self, text: &str) -> String {
        text.replace(&self.0.display().to_string(), "<folder>")
    }

    /// A new crate, with the versions that this project is built with, so that no registry is asked.
    pub fn generate(&self, name: &str, template: &str) {
        let args = ["generate", "--name", name, "--template", template];
        require(self.host("", &args), 0);
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
        fs::copy(lock, self.path(name).join("Cargo.lock")).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is removed by the next one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that shares with this test what is compiled, and asks no registry. Dependencies are compiled once for all
/// crates, with the settings of this project where they make a difference.
fn as_author(program: impl AsRef<std::ffi::OsStr>) -> Program {
    let target = Path::new(HOST).parent().unwrap().parent().unwrap();
    let mut program = Program::new(program).deadline(DEADLINE);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let starts = [
            "ETL_",
            "OTEL_",
            "CARGO_PKG_",
            "CARGO_BIN_",
            "CARGO_MANIFEST_",
        ];
        if starts.iter().any(|start| text.starts_with(start)) {
            program = program.env_remove(&name);
        }
    }
    program
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
        .env("CARGO_NET_OFFLINE", "true")
}

/// Runs it; it must end with this code.
pub fn require(program: Program, code: i32) -> Finished {
    program.run().unwrap().require_code(code).unwrap()
}

/// Runs the host with its result as JSON.
pub fn result(program: Program, code: i32) -> Value {
    let finished = require(program.args(["--output", "json"]), code);
    serde_json::from_str(finished.stdout.trim()).unwrap()
}
