//! One daemon per state folder: a lock that the kernel gives back however the process ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, ErrorKind, Result};

/// Somebody may only look whether there is a daemon.
const TRIES: u32 = 5;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// The lock on a state folder, held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The process of the daemon that works with a state folder; `None` if there is none.
pub fn process_of(state_dir: &Path) -> Option<u32> {
    let mut file = File::open(state_dir.join("daemon.lock")).ok()?;
    // Given back at once; a daemon that starts in this moment tries again.
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut holder = String::new();
    file.read_to_string(&mut holder).ok()?;
    holder.trim().parse().ok()
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
        let mut tries = 0..TRIES;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if tries.next().is_some() {
                std::thread::sleep(PAUSE);
                continue;
            }
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
        assert_eq!(process_of(folder.path()), Some(std::process::id()));
        drop(first);
        assert_eq!(process_of(folder.path()), None);
        Lock::take(folder.path()).unwrap();
    }
}
