//! Looks whether the file can be written, for `etl-host doctor`. Writes nothing: the file is opened to be read only.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{open_as_is, open_to_read, table};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::{Finding, Findings};
use crate::sink::{Examination, TableSpec};
use crate::task;

/// Examines the file and its folder.
pub async fn examine(path: &Path) -> Examination {
    let mut findings = Findings::default();
    let asked = path.to_owned();
    let writable = findings.ask("file", blocking(move || check_file(&asked)));
    let Some(exists) = writable.await else {
        return Examination {
            findings: findings.into_vec(),
            usable: false,
        };
    };
    let shown = path.display();
    findings.ok(
        "file",
        if exists {
            format!("{shown} can be written")
        } else {
            format!("{shown} is not there; the first run creates it")
        },
    );
    let mut usable = true;
    if exists {
        let asked = path.to_owned();
        let opened = findings.ask("database", blocking(move || open_to_read(&asked)));
        usable = opened.await.is_some();
        if usable {
            findings.ok("database", "a SQLite database");
        }
    }
    Examination {
        findings: findings.into_vec(),
        usable,
    }
}

/// Examines tables that the pipeline writes.
pub async fn examine_tables(path: &Path, tables: &[TableSpec]) -> Vec<Finding> {
    let mut findings = Findings::default();
    for spec in tables
        .iter()
        .filter(|spec| !spec.schema.fields().is_empty())
    {
        let (path, asked) = (path.to_owned(), spec.clone());
        let compared = blocking(move || compare(&path, &asked));
        let Some((exists, ddl)) = findings.ask("table", compared).await else {
            continue;
        };
        let (name, columns) = (&spec.name, spec.schema.fields().len());
        findings.ok(
            "table",
            match (exists, ddl) {
                (false, _) => {
                    format!("{name}: is not there; the first run creates it with {columns} columns")
                }
                (true, None) => format!("{name}: takes the {columns} columns of the pipeline"),
                (true, Some(ddl)) => format!("{name}: the next run changes it: {ddl}"),
            },
        );
    }
    findings.into_vec()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    task::spawn_blocking(work).await?
}

/// Whether the file is there. It and its folder, where the log goes, must be writable; what is missing is made by a run.
fn check_file(path: &Path) -> Result<bool> {
    let exists = path.exists();
    if path.is_dir() {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} is a folder", path.display()),
        )
        .hint("name a file in `sink.path`"));
    }
    if exists {
        require_access(path, Access::READ_OK | Access::WRITE_OK)?;
    }
    let folder = existing_folder(path);
    if !folder.is_dir() {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} is no folder", folder.display()),
        )
        .hint("correct `sink.path`"));
    }
    require_access(&folder, Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(exists)
}

/// The folder of a file, or the nearest one above that is there.
fn existing_folder(path: &Path) -> PathBuf {
    let found = path
        .ancestors()
        .skip(1)
        .find(|folder| !folder.as_os_str().is_empty() && folder.exists());
    found.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn require_access(path: &Path, wanted: Access) -> Result<()> {
    access(path, wanted).map_err(|error| {
        Error::new(
            ErrorKind::Refused,
            format!("cannot write {}", path.display()),
        )
        .caused_by(error)
        .hint("make the file and its folder writable for the user that runs etl-host")
    })
}

/// Whether the table is there, and the statements that would make or extend it.
fn compare(path: &Path, spec: &TableSpec) -> Result<(bool, Option<String>)> {
    let (ddl, table) = table::compare(&open_as_is(path)?, spec)?;
    Ok((table.is_some(), ddl))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_a_run_would_make_need_not_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c.db");
        assert_eq!(existing_folder(&path), folder.path());
        assert_eq!(existing_folder(Path::new("c.db")), Path::new("."));
        assert!(!check_file(&path).unwrap());
        assert!(!path.parent().unwrap().exists(), "nothing is made");
        std::fs::write(folder.path().join("a"), "").unwrap();
        let error = check_file(&path).unwrap_err().to_string();
        assert!(error.contains("is no folder"), "{error}");
    }
}
