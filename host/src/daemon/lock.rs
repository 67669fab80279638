//! One daemon per state folder: a lock that the kernel gives back however the process ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, ErrorKind, Result};

/// The lock on a state folder, held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock. Fails if another daemon has it.
    pub fn take(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join("daemon.lock");
        let refused = |error: std::io::Error| {
            Error::new(
                ErrorKind::Refused,
                format!("cannot lock {}", path.display()),
            )
            .caused_by(error)
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(refused)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            // Only to say who it is.
            let _ = file.read_to_string(&mut holder);
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "a daemon works with the state folder {} already (process {})",
                    state_dir.display(),
                    holder.trim()
                ),
            )
            .hint("stop that one first, or give this one a folder of its own with --state-dir"));
        }
        file.set_len(0).map_err(refused)?;
        file.rewind().map_err(refused)?;
        writeln!(file, "{}", std::process::id()).map_err(refused)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("(process {})", std::process::id())),
            "{error}"
        );
        drop(first);
        Lock::take(folder.path()).unwrap();
    }
}
