//! The `.env` file: variables for `${NAME}` beside those of the process.
//!
//! The process's own environment is read but never changed, and it wins over the file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Why an environment file could not be used. Lines are never quoted: they hold passwords.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    /// It is there but cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line that is not `NAME=value`.
    #[error("{}:{line}: expected NAME=value, with the value in single quotes if it holds spaces, quotes or $", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
}

/// Reads the variables of an environment file; no file, no variables.
///
/// Outside of single quotes `$NAME` in a value is replaced, as every `.env` reader does.
pub fn load_env_file(path: &Path) -> Result<BTreeMap<String, String>, EnvFileError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => {
            return Err(EnvFileError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut variables = BTreeMap::new();
    for variable in dotenvy::from_read_iter(text.as_bytes()) {
        match variable {
            // The first of two wins, as in dotenvy itself.
            Ok((name, value)) => {
                variables.entry(name).or_insert(value);
            }
            Err(dotenvy::Error::LineParse(content, _)) => {
                return Err(EnvFileError::Line {
                    path: path.to_owned(),
                    line: line_of(&content, text),
                });
            }
            Err(error) => {
                return Err(EnvFileError::Read {
                    path: path.to_owned(),
                    source: io::Error::other(error),
                });
            }
        }
    }
    Ok(variables)
}

/// A lookup for [`load`](super::load): the process's environment first, then `file`.
pub fn env_with(file: BTreeMap<String, String>) -> impl Fn(&str) -> Option<String> {
    move |name| std::env::var(name).ok().or_else(|| file.get(name).cloned())
}

/// dotenvy tells the text of a bad line but not where it is.
fn line_of(content: &str, text: &str) -> usize {
    let first = content.lines().next().unwrap_or_default().trim();
    text.lines()
        .position(|line| line.trim() == first)
        .map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn load(text: &str) -> Result<BTreeMap<String, String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        std::fs::write(&path, text).unwrap();
        load_env_file(&path).map_err(|error| {
            error
                .to_string()
                .replace(folder.path().to_str().unwrap(), "")
        })
    }

    #[test]
    fn reads_variables() {
        let variables = load("\u{feff}# comment\nA=1\nexport B='pa$$ word'\nA=2\n").unwrap();
        assert_eq!(
            variables.into_iter().collect::<Vec<_>>(),
            [("A".into(), "1".into()), ("B".into(), "pa$$ word".into())]
        );
    }

    #[test]
    fn a_missing_file_is_empty() {
        assert!(
            load_env_file(Path::new("/nowhere/.env"))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_bad_line_is_named_but_not_quoted() {
        let message = load("A=1\nB='hunter2\n").unwrap_err();
        assert!(
            message.starts_with("/.env:2: expected NAME=value"),
            "{message}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn the_process_wins_over_the_file() {
        let env = env_with(BTreeMap::from([
            ("PATH".into(), "file".into()),
            ("ONLY_HERE_X".into(), "file".into()),
        ]));
        assert_ne!(env("PATH").unwrap(), "file");
        assert_eq!(env("ONLY_HERE_X").unwrap(), "file");
        assert_eq!(env("NOT_ANYWHERE_X"), None);
    }
}
