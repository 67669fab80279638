//! One log file, to which several processes append: one `write` per line, and rotation by size.
//!
//! Whoever renames it, logrotate or another process, is noticed within a second, and the file is opened anew.

use std::fs::{DirBuilder, File, OpenOptions, rename};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::json;

/// The size at which a file is rotated.
const MOST_BYTES: u64 = 16 << 20;
/// Rotated files that are kept.
pub(super) const KEPT: u32 = 7;
/// How often the path is looked at, and how long a file that cannot be written is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// A log file, open or not.
pub(super) struct LogFile {
    folder: PathBuf,
    name: String,
    open: Option<Open>,
    /// Lines that could not be written since the last one that could.
    lost: u64,
    failed: Option<Instant>,
}

struct Open {
    file: File,
    inode: u64,
    bytes: u64,
    looked: Instant,
    /// It ends within a line.
    torn: bool,
}

/// The file of a log, or one of those that were rotated away from it.
pub(super) fn path_of(folder: &Path, name: &str, rotated: u32) -> PathBuf {
    match rotated {
        0 => folder.join(format!("{name}.log")),
        number => folder.join(format!("{name}.log.{number}")),
    }
}

impl LogFile {
    /// Opens nothing yet.
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            open: None,
            lost: 0,
            failed: None,
        }
    }

    /// Adds a line. After a failure the next lines are given up for a while, without an error each.
    pub(super) fn append(&mut self, line: &str, rotates: bool) -> io::Result<()> {
        self.append_up_to(line, rotates.then_some(MOST_BYTES))
    }

    fn append_up_to(&mut self, line: &str, most_bytes: Option<u64>) -> io::Result<()> {
        if self.failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
            self.lost += 1;
            return Ok(());
        }
        let written = self.try_append(line, most_bytes);
        self.failed = None;
        if written.is_err() {
            self.lost += 1;
            self.failed = Some(Instant::now());
        }
        written
    }

    fn try_append(&mut self, line: &str, most_bytes: Option<u64>) -> io::Result<()> {
        self.look()?;
        let full = |open: &Open| most_bytes.is_some_and(|most| open.bytes >= most);
        if self.open.as_ref().is_some_and(full) {
            self.rotate(most_bytes.unwrap_or(MOST_BYTES))?;
        }
        if self.lost > 0 {
            let note = self.note();
            self.write(&note)?;
            self.lost = 0;
        }
        self.write(line)
    }

    /// One `write`, which other processes cannot get between.
    fn write(&mut self, line: &str) -> io::Result<()> {
        let open = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let healed;
        let line = if open.torn {
            healed = format!("\n{line}");
            &healed
        } else {
            line
        };
        let written = open.file.write(line.as_bytes())?;
        open.bytes += written as u64;
        open.torn = written < line.len();
        if open.torn {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn note(&self) -> String {
        let note = json!({
            "time": format!("{:.3}", jiff::Timestamp::now()),
            "level": "WARN",
            "pipeline": self.name,
            "target": "etl_host::logs",
            "message": format!("{} lines before this one could not be written", self.lost),
        });
        format!("{note}\n")
    }

    /// Opens the file if it is not open, or if another one lies at its path by now.
    fn look(&mut self) -> io::Result<()> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.looked.elapsed() < PAUSE)
        {
            return Ok(());
        }
        let path = path_of(&self.folder, &self.name, 0);
        if let Some(open) = &mut self.open
            && let Ok(found) = path.symlink_metadata()
            && found.ino() == open.inode
        {
            open.bytes = found.len();
            open.looked = Instant::now();
            return Ok(());
        }
        self.reopen()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.open = None;
        let path = path_of(&self.folder, &self.name, 0);
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o640);
        let file = match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o750)
                    .create(&self.folder)?;
                options.open(&path)?
            }
            opened => opened?,
        };
        let found = file.metadata()?;
        self.open = Some(Open {
            file,
            inode: found.ino(),
            bytes: found.len(),
            looked: Instant::now(),
            torn: false,
        });
        Ok(())
    }

    /// Moves the files on by one number, unless another process does or did.
    fn rotate(&mut self, most_bytes: u64) -> io::Result<()> {
        let lock = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(self.folder.join(".rotate.lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            // Some lines more in a full file harm nobody.
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let current = path_of(&self.folder, &self.name, 0);
        let ours = self.open.as_ref().map(|open| open.inode);
        let still_full = current
            .symlink_metadata()
            .is_ok_and(|found| Some(found.ino()) == ours && found.len() >= most_bytes);
        if still_full {
            for number in (0..KEPT).rev() {
                let from = path_of(&self.folder, &self.name, number);
                match rename(from, path_of(&self.folder, &self.name, number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.reopen()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// As if a second had passed.
    fn look_again(file: &mut LogFile) {
        if let Some(open) = &mut file.open {
            open.looked -= PAUSE;
        }
        file.failed = None;
    }

    #[test]
    fn a_renamed_file_is_left_and_a_new_one_is_begun() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LogFile::new(&folder.path().join("logs"), "copy");
        file.append("one\n", true).unwrap();
        let path = folder.path().join("logs/copy.log");
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        rename(&path, folder.path().join("logs/away")).unwrap();
        file.append("two\n", true).unwrap();
        look_again(&mut file);
        file.append("three\n", true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        let away = fs::read_to_string(folder.path().join("logs/away")).unwrap();
        assert_eq!(away, "one\ntwo\n");
    }

    #[test]
    fn two_writers_rotate_once_and_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writers = [
            LogFile::new(folder.path(), "copy"),
            LogFile::new(folder.path(), "copy"),
        ];
        // 100 lines of 10 bytes, ten to a file at first.
        for line in 0..80 {
            let writer = &mut writers[line % 2];
            look_again(writer);
            writer
                .append_up_to(&format!("line {line:04}\n"), Some(100))
                .unwrap();
        }
        let all: String = (0..=KEPT)
            .rev()
            .map(|number| fs::read_to_string(path_of(folder.path(), "copy", number)).unwrap())
            .collect();
        let lines: Vec<String> = (0..80).map(|line| format!("line {line:04}\n")).collect();
        let expected = lines.concat();
        assert_eq!(all, expected);
        // One more file than is kept: the oldest is gone.
        look_again(&mut writers[0]);
        writers[0].append_up_to("line 0080\n", Some(100)).unwrap();
        assert!(!path_of(folder.path(), "copy", KEPT + 1).exists());
        let oldest = fs::read_to_string(path_of(folder.path(), "copy", KEPT)).unwrap();
        assert!(oldest.starts_with("line 0010\n"), "{oldest}");
    }

    #[test]
    fn a_folder_that_is_no_folder_is_told_once_and_lost_lines_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs");
        fs::write(&path, "in the way").unwrap();
        let mut file = LogFile::new(&path, "copy");
        file.append("one\n", true).unwrap_err();
        file.append("two\n", true).unwrap();
        fs::remove_file(&path).unwrap();
        look_again(&mut file);
        file.append("three\n", true).unwrap();
        let text = fs::read_to_string(path.join("copy.log")).unwrap();
        assert!(text.contains("2 lines before this one"), "{text}");
        assert!(text.ends_with("three\n"), "{text}");
    }
}
