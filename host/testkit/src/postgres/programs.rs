//! Finds the server programs of `PostgreSQL` on this machine. It installs nothing and starts nothing but
//! `pg_config`.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// Names the directory of the server programs, before all other places.
pub const BIN_VARIABLE: &str = "ETL_TEST_POSTGRES_BIN";

const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Where to look.
#[derive(Debug)]
pub(super) struct Places {
    pub named: Option<OsString>,
    pub versions: PathBuf,
    pub path: OsString,
    pub unpacked: PathBuf,
}

impl Places {
    /// The places of this machine and this workspace.
    pub(super) fn here() -> Self {
        Self {
            named: std::env::var_os(BIN_VARIABLE).filter(|dir| !dir.is_empty()),
            versions: PathBuf::from("/usr/lib/postgresql"),
            path: std::env::var_os("PATH").unwrap_or_default(),
            unpacked: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgres"),
        }
    }

    /// The directory that holds all server programs.
    pub(super) fn find(&self) -> Result<PathBuf> {
        if let Some(named) = &self.named {
            // Who names a directory means that one and no other.
            if let Some(dir) = usable(Path::new(named)) {
                return Ok(dir);
            }
            bail!(
                "{BIN_VARIABLE} is {}, which does not hold {}",
                Path::new(named).display(),
                NEEDED.join(", ")
            );
        }
        let found = self
            .newest_first()
            .into_iter()
            .chain(self.of_pg_config())
            .chain(std::env::split_paths(&self.path))
            .chain([self.unpacked.join("bin")])
            .find_map(|dir| usable(&dir));
        let Some(dir) = found else {
            bail!(
                "no PostgreSQL server on this machine: tests need {}. \
                 Install it with `scripts/setup-dev.sh` or `apt-get install postgresql`, \
                 or name its directory in {BIN_VARIABLE}",
                NEEDED.join(", ")
            );
        };
        Ok(dir)
    }

    /// Debian keeps one directory per major version.
    fn newest_first(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.versions) else {
            return Vec::new();
        };
        let mut versions: Vec<(u32, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .collect();
        versions.sort_by_key(|(version, _)| Reverse(*version));
        versions.into_iter().map(|(_, dir)| dir).collect()
    }

    fn of_pg_config(&self) -> Option<PathBuf> {
        let program = std::env::split_paths(&self.path)
            .map(|dir| dir.join("pg_config"))
            .find(|program| program.is_file())?;
        let output = Command::new(program).arg("--bindir").output().ok()?;
        let dir = String::from_utf8(output.stdout).ok()?;
        Some(PathBuf::from(dir.trim()))
    }
}

fn usable(dir: &Path) -> Option<PathBuf> {
    // The server starts elsewhere and finds its library beside its true place.
    let first = dir.join("initdb").canonicalize().ok()?;
    let dir = first.parent()?.to_owned();
    NEEDED
        .iter()
        .all(|name| dir.join(name).is_file())
        .then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(dir: &Path) -> PathBuf {
        std::fs::create_dir_all(dir).unwrap();
        for name in NEEDED {
            std::fs::write(dir.join(name), "").unwrap();
        }
        dir.canonicalize().unwrap()
    }

    fn nowhere(root: &Path) -> Places {
        Places {
            named: None,
            versions: root.join("versions"),
            path: OsString::new(),
            unpacked: root.join("unpacked"),
        }
    }

    #[test]
    fn a_machine_without_a_server_is_an_error_that_names_the_remedy() {
        let root = tempfile::tempdir().unwrap();
        let message = nowhere(root.path()).find().unwrap_err().to_string();
        assert!(message.contains("scripts/setup-dev.sh"), "{message}");
        assert!(message.contains("apt-get install postgresql"), "{message}");
    }

    #[test]
    fn the_newest_version_wins_by_number_and_an_incomplete_one_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let places = nowhere(root.path());
        install(&places.versions.join("9/bin"));
        let expected = install(&places.versions.join("15/bin"));
        std::fs::create_dir_all(places.versions.join("17/bin")).unwrap();
        assert_eq!(places.find().unwrap(), expected);
    }

    #[test]
    fn a_named_directory_is_the_only_one_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let mut places = nowhere(root.path());
        install(&places.versions.join("15/bin"));
        places.named = Some(root.path().join("named").into());
        let message = places.find().unwrap_err().to_string();
        assert!(message.contains(BIN_VARIABLE), "{message}");
        let expected = install(&root.path().join("named"));
        assert_eq!(places.find().unwrap(), expected);
    }

    #[test]
    fn the_path_comes_before_what_was_unpacked_and_links_are_followed() {
        let root = tempfile::tempdir().unwrap();
        let mut places = nowhere(root.path());
        let unpacked = install(&places.unpacked.join("bin"));
        assert_eq!(places.find().unwrap(), unpacked);
        let real = install(&root.path().join("real/bin"));
        let links = root.path().join("links");
        std::fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(real.join("initdb"), links.join("initdb")).unwrap();
        places.path = links.into();
        assert_eq!(places.find().unwrap(), real);
    }
}
