//! The folder of log files: which record goes into which file, and how a failure to write it is told.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::append::LogFile;
use super::record::Record;

/// The name of the daemon's own log.
pub const DAEMON: &str = "etl-host";

/// Log files of this process. Opens nothing before the first line.
pub struct Folder {
    path: PathBuf,
    files: Mutex<HashMap<String, LogFile>>,
    rotates: AtomicBool,
    serves: AtomicBool,
    warned: AtomicBool,
    warn: fn(&str),
}

impl Folder {
    /// A folder that tells people with `warn`, once, when it cannot be written to.
    pub fn new(path: PathBuf, rotates: bool, warn: fn(&str)) -> Self {
        Self {
            path,
            files: Mutex::default(),
            rotates: AtomicBool::new(rotates),
            serves: AtomicBool::new(false),
            warned: AtomicBool::new(false),
            warn,
        }
    }

    /// This process is the daemon: what belongs to no run goes into a log of its own.
    pub fn serve(&self) {
        self.serves.store(true, Ordering::Relaxed);
    }

    /// Somebody else rotates the files.
    pub fn leave_rotation(&self) {
        self.rotates.store(false, Ordering::Relaxed);
    }

    /// Adds a record to its file. A run never fails because of its log, nor waits for it.
    pub fn write(&self, record: &Record) {
        let facts = &record.facts;
        let name = match (&facts.pipeline, &facts.run_id) {
            (Some(pipeline), Some(_)) if is_file_name(pipeline) => pipeline,
            _ if self.serves.load(Ordering::Relaxed) => DAEMON,
            _ => return,
        };
        // Whoever panicked while writing has left the files as they are on the disk.
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !files.contains_key(name) {
            files.insert(name.to_owned(), LogFile::new(&self.path, name));
        }
        let Some(file) = files.get_mut(name) else {
            return;
        };
        let rotates = self.rotates.load(Ordering::Relaxed);
        if let Err(error) = file.append(&record.to_json_line(), rotates)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            (self.warn)(&format!(
                "the log {} cannot be written: {error}; the run goes on without it; make room, or name a folder that \
                 this user may write to with --log-dir",
                self.path.join(format!("{name}.log")).display()
            ));
        }
    }
}

/// A pipeline's name is one already; an event could name anything.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}
