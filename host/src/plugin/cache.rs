//! Read-only copies of plugin files, named by their checksum. Only a copy is ever loaded.
//!
//! Loading a file where it was dropped would be unsafe: replaced at the same path, the old image is returned; written
//! to in place, the process dies.
//!
//! Every process that may load a copy holds a shared lock on it, which ends with the process however that ends. So a
//! copy that can be locked alone is used by nobody. Which copies are wanted without being used is decided elsewhere.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// How often a copy may vanish between writing and locking it before something else must be wrong.
const TRIES: usize = 10;

/// The folder of copies.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// A copy that stays where it is for as long as this, or a clone of it, lives.
#[derive(Clone, Debug)]
pub struct StoredCopy {
    path: PathBuf,
    /// Holds the lock.
    _file: Arc<File>,
}

impl Deref for StoredCopy {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for StoredCopy {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<OsStr> for StoredCopy {
    fn as_ref(&self) -> &OsStr {
        self.path.as_os_str()
    }
}

impl Cache {
    /// A cache in this folder, which is made when the first copy is stored.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The copy with this checksum, if there is one.
    pub fn find(&self, sha256: &str) -> Option<StoredCopy> {
        let path = self.folder.join(format!("{sha256}.so"));
        let file = hold(File::open(&path).ok()?)?;
        Some(StoredCopy {
            path,
            _file: Arc::new(file),
        })
    }

    /// Keeps a copy of these bytes.
    pub fn store(&self, sha256: &str, bytes: &[u8]) -> Result<StoredCopy> {
        let refused = |error: io::Error| {
            Error::new(
                ErrorKind::Refused,
                format!(
                    "cannot keep a copy of the plugin in {}: {error}",
                    self.folder.display()
                ),
            )
            .hint("choose a writable folder with --state-dir")
        };
        // Held until the copy is found, so that nobody removes what was just written.
        let mut _written = None;
        for _ in 0..TRIES {
            let found = self.find(sha256);
            let whole = |copy: &StoredCopy| {
                fs::metadata(copy).is_ok_and(|found| found.len() == bytes.len() as u64)
            };
            match found {
                Some(copy) if whole(&copy) => return Ok(copy),
                damaged => {
                    _written = self
                        .write(sha256, bytes, damaged.is_some())
                        .map_err(refused)?;
                }
            }
        }
        Err(refused(io::Error::other("something removes it again")))
    }

    /// `None` if the draft was taken for an old one and removed before it could be held, or if somebody else was faster.
    fn write(&self, sha256: &str, bytes: &[u8], replace: bool) -> io::Result<Option<File>> {
        fs::create_dir_all(&self.folder)?;
        let copy = self.folder.join(format!("{sha256}.so"));
        let draft = self
            .folder
            .join(format!("{sha256}.{}.tmp", Uuid::now_v7().simple()));
        let Some(mut file) = hold(File::create(&draft)?) else {
            return Ok(None);
        };
        let written = file
            .write_all(bytes)
            .and_then(|()| file.set_permissions(fs::Permissions::from_mode(0o444)))
            .and_then(|()| file.sync_all());
        // Either way the copy appears whole. One that is there is not replaced: whoever holds it knows it by its name.
        let published = written.and_then(|()| {
            if replace {
                fs::rename(&draft, &copy)
            } else {
                fs::hard_link(&draft, &copy)
            }
        });
        // Under its first name nobody needs it. What stays is removed when the cache is pruned.
        let _ = fs::remove_file(&draft);
        match published {
            Ok(()) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the copies that nobody uses and whose checksum is not wanted, and drafts of processes that died.
    /// Says the checksums of the copies.
    pub fn prune(&self, wanted: &HashSet<String>) -> Vec<String> {
        let mut removed = Vec::new();
        // A folder that is not there yet holds nothing.
        for item in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = item.path();
            let ending = path.extension().and_then(OsStr::to_str);
            let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            let copy = ending == Some("so");
            if !(copy || ending == Some("tmp")) || (copy && wanted.contains(stem)) {
                continue;
            }
            // Held until the file is gone, so that whoever opens it meanwhile waits and then sees that it is.
            let Ok(file) = File::open(&path) else {
                continue;
            };
            // Another may have removed it, and a third one made it again, before it was locked here.
            let same = |found: &fs::Metadata| {
                file.metadata()
                    .is_ok_and(|own| own.ino() == found.ino() && own.dev() == found.dev())
            };
            let ours =
                file.try_lock().is_ok() && fs::metadata(&path).is_ok_and(|found| same(&found));
            if ours && fs::remove_file(&path).is_ok() && copy {
                removed.push(stem.to_owned());
            }
        }
        removed
    }
}

/// Keeps others from removing the file; `None` if they already have.
fn hold(file: File) -> Option<File> {
    // Where a file system has no locks nothing is removed either, since that needs a lock too.
    while let Err(error) = file.lock_shared() {
        if error.kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    let linked = file.metadata().is_ok_and(|found| found.nlink() > 0);
    linked.then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("plugins"));
        (folder, cache)
    }

    fn names(cache: &Cache) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&cache.folder)
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_copy_goes_when_nobody_uses_or_wants_it() {
        let (_folder, cache) = cache();
        let used = cache.store("used", b"1").unwrap();
        drop(cache.store("wanted", b"2").unwrap());
        drop(cache.store("old", b"3").unwrap());
        let wanted = HashSet::from(["wanted".to_owned()]);
        assert_eq!(cache.prune(&wanted), ["old"]);
        assert_eq!(names(&cache), ["used.so", "wanted.so"]);

        let clone = used.clone();
        drop(used);
        assert!(cache.prune(&wanted).is_empty());
        drop(clone);
        assert_eq!(cache.prune(&wanted), ["used"]);
        assert!(cache.find("used").is_none());
    }

    #[test]
    fn drafts_go_unless_somebody_writes_them() {
        let (_folder, cache) = cache();
        drop(cache.store("one", b"1").unwrap());
        fs::write(cache.folder.join("dead.1.tmp"), "half").unwrap();
        let path = cache.folder.join("alive.2.tmp");
        let alive = hold(File::create(path).unwrap()).unwrap();
        fs::write(cache.folder.join("notes.txt"), "not the cache's").unwrap();
        assert_eq!(cache.prune(&HashSet::new()), ["one"]);
        assert_eq!(names(&cache), ["alive.2.tmp", "notes.txt"]);
        drop(alive);
        cache.prune(&HashSet::new());
        assert_eq!(names(&cache), ["notes.txt"]);
    }

    #[test]
    fn a_copy_of_another_length_is_written_again() {
        let (_folder, cache) = cache();
        drop(cache.store("one", b"cut").unwrap());
        let whole = cache.store("one", b"the whole").unwrap();
        assert_eq!(fs::read(&whole).unwrap(), b"the whole");
        let mode = fs::metadata(&whole).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444);
    }

    #[test]
    fn whoever_opens_a_copy_while_it_is_removed_gets_a_new_one() {
        let (_folder, cache) = cache();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let copy = cache.store("one", b"whole").unwrap();
                        assert_eq!(fs::read(&copy).unwrap(), b"whole");
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..300 {
                    cache.prune(&HashSet::new());
                }
            });
        });
    }
}
