//! Writes shards: one SQLite file each, made whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rusqlite::{Connection, OpenFlags, params};

use login_analytics_demo::logins::{Clock, Login, Logins};
use login_analytics_demo::world::World;

/// Marks the files that this program made, so that it never replaces another's. The last digit is the version of
/// what is in them.
const MADE_BY: i32 = 0x4c4f_4701;

const SCHEMA: &str = "
    CREATE TABLE user_logins (
        login_id INTEGER PRIMARY KEY,
        user_id INTEGER NOT NULL,
        login_time TIMESTAMP NOT NULL,
        ip_address TEXT,
        user_agent TEXT
    );
    CREATE INDEX user_logins_by_time ON user_logins (login_time);
";

/// What was done to a shard.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    /// It was written.
    Made,
    /// It was there, with the rows wanted.
    Kept,
}

/// Makes the shard at `path` unless it is there already.
pub fn make(world: &World, path: &Path, number: u32, rows: u32) -> Result<Done> {
    if path.exists() && is_as_wanted(path, rows)? {
        return Ok(Done::Kept);
    }
    let partial = beside(path, ".partial");
    remove(&partial)?;
    write(world, &partial, number, rows).inspect_err(|_| drop(remove(&partial)))?;
    File::open(&partial)?.sync_all()?;
    // A log left by an earlier file would be replayed into this one.
    for ending in ["-wal", "-shm", "-journal"] {
        remove(&beside(path, ending))?;
    }
    fs::rename(&partial, path)
        .with_context(|| format!("cannot put {} in its place", path.display()))?;
    Ok(Done::Made)
}

/// Adds newer rows to a shard, all or none.
pub fn append(world: &World, path: &Path, number: u32, rows: u32) -> Result<()> {
    if !path.exists() {
        bail!("there is no {}; run without --append first", path.display());
    }
    let mut db = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let base = base_rows(&db, path)?;
    let (last_id, last_time): (i64, String) = db.query_row(
        "SELECT max(login_id), max(login_time) FROM user_logins",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let last = last_time
        .parse::<DateTime>()?
        .to_zoned(TimeZone::UTC)?
        .timestamp()
        .as_millisecond();
    let logins = Logins::new(world, number, base.into(), last_id + 1).after(last, rows.into());
    insert(&mut db, logins)
}

fn is_as_wanted(path: &Path, rows: u32) -> Result<bool> {
    let db = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    Ok(base_rows(&db, path)? == rows)
}

/// How many rows the shard was made with; appended ones do not count.
fn base_rows(db: &Connection, path: &Path) -> Result<u32> {
    let number = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let made_by = number("application_id")
        .with_context(|| format!("{} is no SQLite file", path.display()))?;
    if made_by != MADE_BY {
        bail!(
            "{} was not made by this program and is left alone; choose another --dir",
            path.display()
        );
    }
    Ok(u32::try_from(number("user_version")?)?)
}

fn write(world: &World, path: &Path, number: u32, rows: u32) -> Result<()> {
    let mut db = open(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    )?;
    // Nothing to protect: until it is renamed the file does not count.
    db.pragma_update(None, "journal_mode", "OFF")?;
    db.pragma_update(None, "synchronous", "OFF")?;
    db.pragma_update(None, "application_id", MADE_BY)?;
    db.pragma_update(None, "user_version", i32::try_from(rows)?)?;
    db.execute_batch(SCHEMA)?;
    let logins = Logins::new(world, number, rows.into(), 1).month(rows.into());
    insert(&mut db, logins)
}

fn insert(db: &mut Connection, logins: impl Iterator<Item = Login>) -> Result<()> {
    let mut clock = Clock::default();
    let transaction = db.transaction()?;
    {
        let mut statement =
            transaction.prepare("INSERT INTO user_logins VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for login in logins {
            let time = clock.text(login.time)?;
            let visit = login.visit;
            statement.execute(params![
                login.id,
                login.user_id,
                time,
                visit.ip_address,
                visit.user_agent
            ])?;
        }
    }
    Ok(transaction.commit()?)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection> {
    Connection::open_with_flags(path, flags)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &Path) -> (u32, String) {
        let db = Connection::open(path).unwrap();
        db.query_row(
            "SELECT count(*), max(login_time) FROM user_logins",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap()
    }

    #[test]
    fn a_shard_is_made_once_kept_and_made_anew_for_other_rows() {
        let folder = tempfile::tempdir().unwrap();
        let (world, path) = (World::new().unwrap(), folder.path().join("shard-1.db"));
        assert_eq!(make(&world, &path, 1, 300).unwrap(), Done::Made);
        let first = fs::read(&path).unwrap();
        assert_eq!(make(&world, &path, 1, 300).unwrap(), Done::Kept);
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(make(&world, &path, 1, 200).unwrap(), Done::Made);
        assert_eq!(count(&path).0, 200);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn appended_rows_are_newer_and_do_not_unmake_the_shard() {
        let folder = tempfile::tempdir().unwrap();
        let (world, path) = (World::new().unwrap(), folder.path().join("shard-1.db"));
        assert!(
            append(&world, &path, 1, 10)
                .unwrap_err()
                .to_string()
                .contains("without --append")
        );
        make(&world, &path, 1, 300).unwrap();
        let (_, before) = count(&path);
        append(&world, &path, 1, 10).unwrap();
        append(&world, &path, 1, 10).unwrap();
        let (rows, after) = count(&path);
        assert!(rows == 320 && after > before);
        assert_eq!(make(&world, &path, 1, 300).unwrap(), Done::Kept);
    }

    #[test]
    fn what_a_killed_run_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (world, path) = (World::new().unwrap(), folder.path().join("shard-1.db"));
        fs::write(folder.path().join("shard-1.db.partial"), "half").unwrap();
        fs::write(folder.path().join("shard-1.db-wal"), "old").unwrap();
        make(&world, &path, 1, 50).unwrap();
        assert_eq!(count(&path).0, 50);
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new().unwrap();
        let text = folder.path().join("text.db");
        fs::write(&text, "no database, but somebody's file").unwrap();
        let other = folder.path().join("other.db");
        Connection::open(&other)
            .unwrap()
            .execute_batch("CREATE TABLE mine (id)")
            .unwrap();
        for path in [text, other] {
            let before = fs::read(&path).unwrap();
            make(&world, &path, 1, 10).unwrap_err();
            append(&world, &path, 1, 10).unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), before);
        }
    }
}
