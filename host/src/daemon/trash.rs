//! Takes a pipeline away: its files go to a trash folder, what the host knows of it is forgotten. What it has loaded stays
//! where it is, its checkpoints with it.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::session::{Found, Session};

/// The pipelines of this name, if they can be deleted: one of several that a plugin supplies cannot go alone. To be asked
/// before anything is stopped.
pub fn check(session: &Session, name: &str) -> Result<Vec<Found>> {
    let found = session.find(name)?;
    let plugin = found.first().map(|first| &first.plugin);
    if let Some(plugin) = plugin.filter(|plugin| plugin.pipelines.len() > found.len()) {
        let all: Vec<&str> = plugin.pipelines.iter().map(|it| it.name.as_str()).collect();
        return Err(Error::config(format!(
            "`{name}` shares its library with others: {}",
            all.join(", ")
        ))
        .hint(format!(
            "delete them all with `etl-host delete {}`, or stop this one with `etl-host stop {name}`",
            plugin.name
        )));
    }
    Ok(found)
}

/// Moves the library, configurations and logs of a pipeline to the trash. `name` may be a plugin's, for all that it
/// supplies. Nothing of it may be running.
pub fn delete(session: &Session, name: &str) -> std::result::Result<PathBuf, Failure> {
    let found = check(session, name)?;
    let Some(first) = found.first() else {
        return Err(Error::config(format!("there is no pipeline `{name}`")).into());
    };
    let plugin = &first.plugin;
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let trash = session
        .folders()
        .state_dir
        .join("trash")
        .join(format!("{name}-{stamp}"));
    fs::create_dir_all(&trash).map_err(|error| refused("make", &trash, error))?;
    for found in &found {
        // The configuration goes first: a library without it is a plugin that was just installed.
        for path in session.config_paths(found) {
            put(&path, &trash)?;
        }
    }
    for entry in session.registry.entries() {
        if entry
            .serving()
            .is_some_and(|serving| serving.sha256 == plugin.sha256)
            && entry.path.exists()
        {
            put(&entry.path, &trash)?;
        }
    }
    for found in &found {
        let pipeline = &found.manifest.name;
        for path in logs(&session.folders().log_dir, pipeline) {
            put(&path, &trash)?;
        }
        session.state.forget_pipeline(pipeline)?;
    }
    Ok(trash)
}

/// A pipeline's log files, rotated ones too.
fn logs(folder: &Path, pipeline: &str) -> Vec<PathBuf> {
    let name = format!("{pipeline}.log");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.strip_prefix(&name).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('.') || rest.starts_with('-')
            })
        })
        .collect()
}

/// Moves a file into the trash, also from another file system.
fn put(path: &Path, trash: &Path) -> Result<()> {
    let name = path.file_name().unwrap_or_default();
    let mut target = trash.join(name);
    let mut number = 1;
    while target.exists() {
        target = trash.join(format!("{}.{number}", name.to_string_lossy()));
        number += 1;
    }
    if fs::rename(path, &target).is_ok() {
        return Ok(());
    }
    fs::copy(path, &target)
        .and_then(|_| fs::remove_file(path))
        .map_err(|error| refused("move to the trash", path, error))
}

fn refused(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!("cannot {what} {}", path.display()),
    )
    .caused_by(error)
}
