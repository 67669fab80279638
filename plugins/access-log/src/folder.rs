//! The files of one log in its folder: the one that the server writes now, and those that a rotation has put beside it.
//!
//! Looks and opens; what is read of them is decided in [`position`](crate::position) and [`extract`](crate::extract).

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use etl_plugin_api::{Result, StageError};
use flate2::read::MultiGzDecoder;

/// How often a folder is looked at that changes meanwhile.
const LOOKS: usize = 20;
/// The beginning by which a file is known again: so many bytes, less if it has not as many.
pub const HEAD: u64 = 1024;

/// An open file of the log, which no rotation takes away any more.
#[derive(Debug)]
pub struct LogFile {
    /// Its name when it was opened.
    pub name: String,
    /// It is compressed, so nothing will be added to it.
    pub compressed: bool,
    /// Its first bytes, uncompressed.
    pub head: Vec<u8>,
    /// Its length in bytes when it was opened, as it lies there.
    pub length: u64,
    /// The file, at its beginning.
    pub file: File,
}

/// How old a file is by its name; the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    /// `access.log-20261010`, as logrotate's `dateext` writes it.
    Dated(String),
    /// `access.log.3`.
    Numbered(Reverse<u64>),
    /// `access.log`.
    Live,
}

/// A file in the folder's list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    age: Age,
    compressed: bool,
    name: String,
    inode: u64,
}

/// Opens all files of a log, oldest first. Empty ones have nothing to tell and are left out.
///
/// A rotation renames one file after the other. Only if the folder lists the same files after they were opened as before,
/// none was missed or taken for another one.
pub fn open_files(folder: &Path, log: &str) -> Result<Vec<LogFile>> {
    for _ in 0..LOOKS {
        let listed = list(folder, log)?;
        let opened: Option<Vec<LogFile>> = listed
            .iter()
            .map(|file| open(folder, file).transpose())
            .collect::<Option<Result<_>>>()
            .transpose()?;
        let Some(opened) = opened else { continue };
        if list(folder, log)? == listed {
            let filled = opened.into_iter().filter(|file| !file.head.is_empty());
            return Ok(without_copies(filled.collect()));
        }
    }
    Err(StageError::transient(format!(
        "the files of {log} in {} change faster than they can be opened; try again when the rotation is over",
        folder.display()
    )))
}

/// The files of a log, oldest first.
fn list(folder: &Path, log: &str) -> Result<Vec<Listed>> {
    let cannot = |error: io::Error| failure(&error, "read", folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((age, compressed)) = age(&name, log) else {
            continue;
        };
        // Links are followed; what has gone meanwhile is not there.
        let Ok(seen) = fs::metadata(entry.path()) else {
            continue;
        };
        if seen.is_file() {
            files.push(Listed {
                age,
                compressed,
                name,
                inode: seen.ino(),
            });
        }
    }
    if files.is_empty() {
        return Err(StageError::config(format!(
            "there is no file {log} in {}, nor one that was rotated: look at settings.folder and settings.logs",
            folder.display()
        )));
    }
    files.sort();
    // As long as the original is there, its compressed form is not complete.
    files.dedup_by(|compressed, original| compressed.age == original.age);
    Ok(files)
}

/// What a file's name says, if it is one of the log's.
fn age(name: &str, log: &str) -> Option<(Age, bool)> {
    let suffix = name.strip_prefix(log)?;
    if suffix.is_empty() {
        return Some((Age::Live, false));
    }
    let (suffix, compressed) = match suffix.strip_suffix(".gz") {
        Some(suffix) => (suffix, true),
        None => (suffix, false),
    };
    let age = match suffix.split_at_checked(1)? {
        (".", number) => Age::Numbered(Reverse(number.parse().ok()?)),
        ("-", date)
            if date
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'-') =>
        {
            Age::Dated(date.to_owned())
        }
        _ => return None,
    };
    Some((age, compressed))
}

/// Opens a file; `None` if it is not there any more, or another one by now.
fn open(folder: &Path, listed: &Listed) -> Result<Option<LogFile>> {
    let path = folder.join(&listed.name);
    let cannot = |error: io::Error| failure(&error, "read", &path);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    let seen = file.metadata().map_err(cannot)?;
    if seen.ino() != listed.inode {
        return Ok(None);
    }
    let mut head = Vec::new();
    if listed.compressed {
        let mut content = MultiGzDecoder::new(&file).take(HEAD);
        content.read_to_end(&mut head).map_err(cannot)?;
    } else {
        let within = seen.len().min(HEAD);
        let mut content = (&file).take(within);
        content.read_to_end(&mut head).map_err(cannot)?;
    }
    file.rewind().map_err(cannot)?;
    Ok(Some(LogFile {
        name: listed.name.clone(),
        compressed: listed.compressed,
        head,
        length: seen.len(),
        file,
    }))
}

/// While `copytruncate` copies a log, it is there twice: the older name is the copy, perhaps not complete yet.
fn without_copies(files: Vec<LogFile>) -> Vec<LogFile> {
    let mut kept: Vec<LogFile> = Vec::new();
    for file in files.into_iter().rev() {
        let is_copy = kept.iter().any(|newer| newer.head.starts_with(&file.head));
        if !is_copy {
            kept.push(file);
        }
    }
    kept.reverse();
    kept
}

/// An error of the system, with what may be done about it.
pub fn failure(error: &io::Error, doing: &str, path: &Path) -> StageError {
    /// Too many open files.
    const EMFILE: i32 = 24;
    let path = path.display();
    let text = format!("cannot {doing} {path}: {error}");
    match error.kind() {
        io::ErrorKind::NotFound => StageError::config(format!("{text}; look at settings.folder")),
        io::ErrorKind::PermissionDenied => StageError::config(format!(
            "{text}; let the host's user read it, and grant settings.folder under capabilities.paths"
        )),
        io::ErrorKind::UnexpectedEof => StageError::transient(format!(
            "{path} breaks off in the middle of its compressed content; if nobody is writing it any more, put a whole one \
             in its place, or move it out of the folder"
        )),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => StageError::fatal(format!(
            "{path} is damaged: {error}; `gzip -t` tells more. Put a whole one in its place, or move it out of the folder"
        )),
        _ if error.raw_os_error() == Some(EMFILE) => StageError::config(format!(
            "{text}; raise limits.open_files above the number of rotated files"
        )),
        _ => StageError::transient(text),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            if path.extension().is_some_and(|end| end == "gz") {
                let mut file = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
                file.write_all(content.as_bytes()).unwrap();
                file.finish().unwrap();
            } else {
                fs::write(path, content).unwrap();
            }
        }
        folder
    }

    fn names(files: &[(&str, &str)]) -> Vec<String> {
        let folder = folder(files);
        let opened = open_files(folder.path(), "access.log").unwrap();
        opened.into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn the_oldest_comes_first_and_other_files_are_left_alone() {
        let files = [
            ("access.log", "a\n"),
            ("access.log.1", "b\n"),
            ("access.log.2.gz", "c\n"),
            ("access.log.10.gz", "d\n"),
            ("access.log-20261009", "e\n"),
            ("access.log-20261008.gz", "f\n"),
            ("access.log.bak", "g\n"),
            ("access.log.gz", "h\n"),
            ("error.log", "i\n"),
            ("other_access.log.1", "j\n"),
        ];
        let expected = [
            "access.log-20261008.gz",
            "access.log-20261009",
            "access.log.10.gz",
            "access.log.2.gz",
            "access.log.1",
            "access.log",
        ];
        assert_eq!(names(&files), expected);
    }

    #[test]
    fn what_is_empty_or_there_twice_is_taken_once() {
        assert_eq!(
            names(&[("access.log", ""), ("access.log.1", "b\n")]),
            ["access.log.1"]
        );
        // In the middle of `gzip access.log.1`.
        let files = [("access.log.1", "b\nc\n"), ("access.log.1.gz", "b\n")];
        assert_eq!(names(&files), ["access.log.1"]);
        // In the middle of `copytruncate`.
        let files = [("access.log", "b\nc\n"), ("access.log.1", "b\n")];
        assert_eq!(names(&files), ["access.log"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_with_the_remedy() {
        let told = |folder: &Path| open_files(folder, "access.log").unwrap_err().to_string();
        assert!(told("/nowhere".as_ref()).contains("look at settings.folder"));
        let empty = folder(&[("error.log", "a\n")]);
        assert!(told(empty.path()).contains("there is no file access.log"));
        let broken = folder(&[("access.log.1.gz", "a\nb\n")]);
        let path = broken.path().join("access.log.1.gz");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        assert!(told(broken.path()).contains("access.log.1.gz breaks off"));
        fs::write(&path, "no gzip at all").unwrap();
        assert!(told(broken.path()).contains("is damaged"));
    }
}
