//! A plugins folder that is followed, with a clock of its own.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests: each file uses its own part, and what fails here fails the test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_host::plugin::live::STABLE;
use etl_host::plugin::{Change, LivePlugins, Plugin};
use etl_host::state::State;
use etl_testkit::artifact;
use etl_testkit::project::Project;

/// The real program, which tries each new file.
pub const HOST: &str = env!("CARGO_BIN_EXE_etl-host");

/// A followed folder.
pub struct Followed {
    pub project: Project,
    pub live: LivePlugins,
    pub now: Instant,
}

impl Followed {
    /// An empty folder.
    pub fn new() -> Self {
        let project = Project::new(HOST);
        let live = follow(&project);
        Self {
            project,
            live,
            now: Instant::now(),
        }
    }

    /// As a host that has just started: nothing is known but what the state folder holds.
    pub fn restart(&mut self) {
        self.live = follow(&self.project);
    }

    /// A file of the plugins folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.project.path("plugins").join(name)
    }

    /// Puts a whole file in its place, as the documentation says.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let draft = self.file(".draft");
        fs::write(&draft, bytes).unwrap();
        fs::rename(draft, self.file(name)).unwrap();
    }

    /// Looks again after this time.
    pub fn after(&mut self, time: Duration) -> Vec<Change> {
        self.now += time;
        self.live.refresh(self.now).unwrap()
    }

    /// Looks twice, so that all that lies in the folder is taken or refused; gives the changes as sentences.
    pub fn settle(&mut self) -> Vec<String> {
        let mut changes = self.after(Duration::ZERO);
        changes.extend(self.after(STABLE));
        changes
            .iter()
            .map(|change| self.project.redact(&change.to_string()))
            .collect()
    }

    /// What a run of this pipeline would take along now.
    pub fn plugin_of(&self, pipeline: &str) -> Option<Arc<Plugin>> {
        let registry = self.live.registry();
        let found = registry.find(pipeline);
        found.first().map(|(_, plugin, _)| Arc::clone(plugin))
    }

    /// How many copies and drafts the cache holds.
    pub fn copies(&self) -> usize {
        fs::read_dir(self.project.path(".etl-host/plugins")).map_or(0, Iterator::count)
    }
}

fn follow(project: &Project) -> LivePlugins {
    let state = State::open(&project.path(".etl-host")).unwrap();
    LivePlugins::open(project.path("plugins"), state, HOST.into())
}

/// A plugin's file without what only a debugger needs, which makes it smaller by far.
pub fn stripped(package: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("stripped.so");
    let built = artifact::plugin(package).unwrap();
    let status = Command::new("strip")
        .args([Path::new("--strip-debug"), Path::new("-o"), &target, &built])
        .status()
        .expect("strip, of the binutils that Rust needs to link");
    assert!(status.success());
    fs::read(target).unwrap()
}

/// Another version of the same plugin: bytes behind its end change nothing but the checksum.
pub fn version(bytes: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}
