//! A pipeline's configuration file at an installation: whether the crate's goes to its place, or what is there stays.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use uuid::Uuid;

use super::sync_folder;
use crate::error::{Error, ErrorKind, Result};

/// What becomes of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigState {
    /// It is put where none was.
    New,
    /// It takes the place of another one.
    Replaced,
    /// A different one is there, which somebody has changed, and stays.
    Kept,
    /// The same is there.
    Unchanged,
    /// There is none to install.
    None,
}

/// The configuration file of a pipeline that is installed.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// Where it goes.
    pub path: PathBuf,
    /// What becomes of it.
    pub state: ConfigState,
    /// The file that it comes from.
    pub source: Option<PathBuf>,
    text: Option<String>,
    /// What is there was changed by somebody, and is kept under another name.
    pub backup: Option<PathBuf>,
}

impl ConfigFile {
    /// Decides without touching anything. What is there is replaced if it is `as_before`: as the version before brought it, so
    /// that nobody has changed it since. A file that the new one would hide counts as one that is there.
    pub(super) fn settle(
        source: Option<PathBuf>,
        path: PathBuf,
        hidden: Option<PathBuf>,
        as_before: Option<&str>,
        replace: bool,
    ) -> Result<Self> {
        let new = source.as_deref().map(read).transpose()?.flatten();
        let mut path = path;
        let mut there = read(&path)?;
        if let (None, Some(hidden), false) = (&there, hidden, replace)
            && let Some(text) = read(&hidden)?
            && as_before != Some(&text)
        {
            (path, there) = (hidden, Some(text));
        }
        let state = match (&new, &there) {
            (None, _) => ConfigState::None,
            (Some(_), None) => ConfigState::New,
            (Some(new), Some(there)) if new == there => ConfigState::Unchanged,
            (Some(_), Some(there)) if replace || as_before == Some(there) => ConfigState::Replaced,
            (Some(_), Some(_)) => ConfigState::Kept,
        };
        let by_somebody = there.as_deref() != as_before;
        let backup = (state == ConfigState::Replaced && by_somebody)
            .then(|| path.with_extension("yaml.bak"));
        let writes = matches!(state, ConfigState::New | ConfigState::Replaced);
        Ok(Self {
            path,
            state,
            source: source.filter(|_| new.is_some()),
            text: new.filter(|_| writes),
            backup,
        })
    }

    /// What will be read from the file's place, if that is not what is there now: the file it comes from, and its text.
    pub fn planned(&self) -> Option<(&Path, &str)> {
        Some((self.source.as_deref()?, self.text.as_deref()?))
    }

    pub(super) fn write(&self) -> Result<()> {
        let Some(text) = &self.text else {
            return Ok(());
        };
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let draft = self
            .path
            .with_file_name(format!(".{name}.{}.new", Uuid::now_v7().simple()));
        let written = || -> io::Result<()> {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = File::create(&draft)?;
            file.write_all(text.as_bytes())?;
            if let Ok(before) = fs::metadata(&self.path) {
                // It may hold passwords, and somebody else may have to read it.
                file.set_permissions(before.permissions())?;
            }
            if let Some(backup) = &self.backup {
                fs::copy(&self.path, backup)?;
            }
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            sync_folder(&self.path)
        };
        written().map_err(|error| {
            let _ = fs::remove_file(&draft);
            Error::new(
                ErrorKind::Refused,
                format!("cannot write {}", self.path.display()),
            )
            .caused_by(error)
        })
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(
            ErrorKind::Refused,
            format!("cannot read {}", path.display()),
        )
        .caused_by(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_changed_is_kept_unless_it_is_to_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [source, there] = ["config.yaml", "orders.yaml"].map(|name| folder.path().join(name));
        let settle = |as_before: Option<&str>, replace: bool| {
            let settled = ConfigFile::settle(
                Some(source.clone()),
                there.clone(),
                None,
                as_before,
                replace,
            );
            settled.unwrap().state
        };
        assert_eq!(settle(None, false), ConfigState::None);
        fs::write(&source, "new").unwrap();
        assert_eq!(settle(None, false), ConfigState::New);
        fs::write(&there, "new").unwrap();
        assert_eq!(settle(None, false), ConfigState::Unchanged);
        fs::write(&there, "old").unwrap();
        assert_eq!(settle(None, false), ConfigState::Kept);
        assert_eq!(settle(Some("older"), false), ConfigState::Kept);
        assert_eq!(settle(Some("old"), false), ConfigState::Replaced);
        assert_eq!(settle(None, true), ConfigState::Replaced);

        // The same file, beside the library, when configurations are installed elsewhere.
        let elsewhere = folder.path().join("etc/orders.yaml");
        let settle = |replace: bool| {
            let hidden = Some(there.clone());
            let source = Some(source.clone());
            ConfigFile::settle(source, elsewhere.clone(), hidden, None, replace).unwrap()
        };
        let kept = settle(false);
        assert_eq!((kept.state, &kept.path), (ConfigState::Kept, &there));
        let replaced = settle(true);
        assert_eq!(
            (replaced.state, &replaced.path),
            (ConfigState::New, &elsewhere)
        );
    }
}
