//! Reads `SQLite` database files, each shard a file.
//!
//! A session keeps one read transaction open, so that the window and the rows come from the same snapshot. The
//! library is synchronous: every call runs on a blocking thread.

mod decode;
mod examine;
mod read;
mod timestamp;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use etl_plugin_api::{Cursor, Value};
use rusqlite::types::{ToSqlOutput, Value as SqlValue, ValueRef};
use rusqlite::{Connection, OpenFlags, Statement, ToSql};
use tokio::sync::oneshot;

use self::timestamp::Shape;
use super::ranges::Dialect;
use super::{
    CursorQuery, Examination, Range, ReadRequest, RowStream, ShardQuery, Source, SourceSession,
    Survey, Surveyed, no_split_column, no_whole_numbers, parse_position,
};
use crate::config::{Clock, Cursor as CursorConfig, CursorKind, FileShard};
use crate::error::{Error, ErrorKind, Result};
use crate::identifier::quote;
use crate::task;

/// Longest wait for a writer that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Times that every other is between; real ones, so that a query may apply date functions to them.
const BEFORE_ALL_TIMES: &str = "0000-01-01 00:00:00";
const AFTER_ALL_TIMES: &str = "9999-12-31T23:59:59.999999";

/// All shards of one configuration.
pub struct SqliteSource {
    shards: Vec<FileShard>,
}

impl SqliteSource {
    /// A source over these files. Opens nothing.
    pub fn new(shards: &[FileShard]) -> Self {
        Self {
            shards: shards.to_vec(),
        }
    }

    fn shard(&self, name: &str) -> Result<&FileShard> {
        let found = self.shards.iter().find(|known| known.name == name);
        found.ok_or_else(|| Error::config(format!("the source has no shard `{name}`")))
    }
}

#[async_trait]
impl Source for SqliteSource {
    fn shards(&self) -> Vec<String> {
        self.shards.iter().map(|shard| shard.name.clone()).collect()
    }

    async fn open(&self, shard: &str) -> Result<Box<dyn SourceSession>> {
        let shard = self.shard(shard)?;
        let path = shard.path.clone();
        let (connection, clocks) = task::spawn_blocking(move || open_file(&path)).await??;
        Ok(Box::new(SqliteSession {
            path: shard.path.clone(),
            connection: Some(connection),
            clocks,
            lent: None,
            shape: None,
        }))
    }

    async fn examine(&self, shard: &str, query: Option<&ShardQuery>) -> Examination {
        match self.shard(shard) {
            Ok(shard) => examine::examine(self, shard, query).await,
            Err(_) => Examination::default(),
        }
    }
}

/// What the clocks said before the snapshot was taken: a later time would promise rows that the snapshot lacks.
#[derive(Clone, Debug)]
struct Clocks {
    utc: String,
    local: String,
}

fn open_file(path: &Path) -> Result<(Connection, Clocks)> {
    let describe = |error: rusqlite::Error| {
        Error::from(error).while_trying(format!("open the shard {}", path.display()))
    };
    if !path.exists() {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("the shard {} does not exist", path.display()),
        )
        .hint(
            "correct `path` in the configuration; relative paths start at the working directory",
        ));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(describe)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(describe)?;
    let clocks = connection
        .query_row(
            "SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now'), strftime('%Y-%m-%dT%H:%M:%f', 'now', 'localtime')",
            [],
            |row| {
                Ok(Clocks {
                    utc: row.get(0)?,
                    local: row.get(1)?,
                })
            },
        )
        .map_err(describe)?;
    connection.execute_batch("BEGIN").map_err(describe)?;
    // The first read takes the snapshot, and finds out whether this is a database at all.
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .map_err(describe)?;
    Ok((connection, clocks))
}

struct SqliteSession {
    path: PathBuf,
    /// `None` while a stream reads.
    connection: Option<Connection>,
    clocks: Clocks,
    /// Where the stream's thread gives the connection back.
    lent: Option<oneshot::Receiver<Connection>>,
    shape: Option<Shape>,
}

impl SqliteSession {
    /// Waits for the stream before to end; who drops a stream early interrupts it.
    async fn take_connection(&mut self) -> Result<Connection> {
        if let Some(lent) = self.lent.take() {
            self.connection = lent.await.ok();
        }
        self.connection
            .take()
            .ok_or_else(|| Error::internal("a session was used after its reading thread was lost"))
    }
}

#[async_trait]
impl SourceSession for SqliteSession {
    async fn fingerprint(&mut self) -> Result<String> {
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        Ok(format!("sqlite:{}", path.display()))
    }

    async fn upper_bound(&mut self, query: &CursorQuery) -> Result<Option<Cursor>> {
        let connection = self.take_connection().await?;
        let (query, clocks) = (query.clone(), self.clocks.clone());
        let (connection, bound) = task::spawn_blocking(move || {
            let bound = upper_bound(&connection, &query, &clocks);
            (connection, bound)
        })
        .await?;
        self.connection = Some(connection);
        let (bound, shape) = bound?;
        self.shape = shape;
        Ok(bound)
    }

    fn parse_cursor(&self, cursor: &CursorConfig, text: &str) -> Result<Cursor> {
        parse_position(cursor, text, |time| {
            self.shape
                .map_or_else(|| Some(time.to_owned()), |shape| shape.rewrite(time))
        })
    }

    async fn survey(&mut self, survey: &Survey) -> Result<Surveyed> {
        let connection = self.take_connection().await?;
        let survey = survey.clone();
        let (connection, found) = task::spawn_blocking(move || {
            let found = count(&connection, &survey);
            (connection, found)
        })
        .await?;
        self.connection = Some(connection);
        found
    }

    async fn read(&mut self, request: ReadRequest) -> Result<Box<dyn RowStream>> {
        let connection = self.take_connection().await?;
        let (give_back, lent) = oneshot::channel();
        self.lent = Some(lent);
        Ok(Box::new(
            read::start(connection, request, self.shape, give_back).await?,
        ))
    }
}

fn upper_bound(
    connection: &Connection,
    query: &CursorQuery,
    clocks: &Clocks,
) -> Result<(Option<Cursor>, Option<Shape>)> {
    let column = quote(&query.cursor.column);
    let sql = query.sql.trim().trim_end_matches(';');
    match query.cursor.kind {
        CursorKind::Integer => {
            let mut statement =
                connection.prepare(&format!("SELECT max({column}) FROM ({sql}\n)"))?;
            let until = SqlValue::Integer(i64::MAX);
            bind(
                &mut statement,
                &query.cursor,
                query.from.as_ref(),
                &until,
                &[],
            )?;
            bind_range(&mut statement, query.range.as_ref())?;
            let mut rows = statement.raw_query();
            let row = rows
                .next()?
                .ok_or_else(|| Error::data("max() gave no row"))?;
            match row.get_ref(0)? {
                ValueRef::Null => Ok((None, None)),
                ValueRef::Integer(value) => Ok((Some(Cursor::Integer(value)), None)),
                other => Err(wrong_cursor(&query.cursor.column, "an integer", other)),
            }
        }
        CursorKind::Timestamp => {
            let next = first_time(connection, sql, query, query.from.as_ref())?;
            let shape = match (&next, &query.from) {
                // Nothing newer; but is the position written as the column is? Otherwise it compares wrongly.
                (None, Some(_)) => first_time(connection, sql, query, None)?,
                _ => next,
            };
            let (Some(shape), false) = (shape, query.from.is_none() && next.is_none()) else {
                return Ok((None, None));
            };
            if let Some(Cursor::Text(from) | Cursor::Keyset { time: from, .. }) = &query.from
                && !shape.fits(from)
            {
                return Err(Error::data(format!(
                    "the position `{from}` is not written as the times of the cursor column `{}` are, so it cannot be compared with them",
                    query.cursor.column
                ))
                .hint("set it in the column's own form with `etl-host checkpoint set`"));
            }
            if next.is_none() {
                return Ok((None, Some(shape)));
            }
            let now = match query.cursor.clock {
                Clock::Utc => &clocks.utc,
                Clock::ServerLocal => &clocks.local,
            };
            let until = shape.upper_bound(now, query.cursor.settle_delay)?;
            let until = match &query.cursor.id {
                None => Cursor::Text(until),
                Some(_) => Cursor::Keyset {
                    time: until,
                    id: i64::MAX,
                },
            };
            Ok((Some(until), Some(shape)))
        }
        CursorKind::Rowversion => Err(Error::config("a `rowversion` cursor needs SQL Server")),
    }
}

/// Counts the values of a column. A column may hold values of any type here, so the lowest and the highest must be whole
/// numbers: text and bytes come behind all numbers.
fn count(connection: &Connection, survey: &Survey) -> Result<Surveyed> {
    let (sql, column) = (&survey.sql, &survey.column);
    let returns = connection.prepare(sql.trim().trim_end_matches(';'))?;
    // A name in double quotes that is no column would be text.
    if !returns.column_names().any(|known| known == column) {
        return Err(no_split_column(column));
    }
    let sql = Dialect::Sqlite.survey(sql, column, &survey.below)?;
    let mut statement = connection.prepare(&sql)?;
    if let Some(cursor) = &survey.cursor {
        let until = end_of_window(cursor, None);
        bind(&mut statement, cursor, None, &until, &[])?;
    }
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    let row = rows
        .next()?
        .ok_or_else(|| Error::data("an aggregate gave no row"))?;
    let numbers = (0..columns).map(|index| match row.get_ref(index)? {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(value) => Ok(Some(value)),
        other => Err(no_whole_numbers(column, decode::storage_class(other))),
    });
    Surveyed::read(&numbers.collect::<Result<Vec<_>>>()?)
}

/// The form of the first time after a position; `None` if there is none.
fn first_time(
    connection: &Connection,
    sql: &str,
    query: &CursorQuery,
    from: Option<&Cursor>,
) -> Result<Option<Shape>> {
    let column = quote(&query.cursor.column);
    let mut statement = connection.prepare(&format!("SELECT {column} FROM ({sql}\n) LIMIT 1"))?;
    bind(
        &mut statement,
        &query.cursor,
        from,
        &end_of_window(&query.cursor, None),
        &[],
    )?;
    bind_range(&mut statement, query.range.as_ref())?;
    let mut rows = statement.raw_query();
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let shape = match row.get_ref(0)? {
        ValueRef::Text(text) => std::str::from_utf8(text).ok().and_then(Shape::of),
        other => return Err(wrong_cursor(&query.cursor.column, "a time as text", other)),
    };
    shape.map(Some).ok_or_else(|| {
        Error::data(format!(
            "the cursor column `{}` does not hold times of the form YYYY-MM-DD HH:MM:SS, without an offset",
            query.cursor.column
        ))
        .hint("use a column with ISO 8601 times, or `kind: integer`")
    })
}

fn wrong_cursor(column: &str, expected: &str, found: ValueRef<'_>) -> Error {
    Error::data(format!(
        "the cursor column `{column}` holds {} where {expected} is expected",
        decode::storage_class(found)
    ))
    .hint("correct `cursor.kind`, or leave such rows out in the query")
}

/// Binds the window under its names, and further parameters.
fn bind(
    statement: &mut Statement<'_>,
    cursor: &CursorConfig,
    from: Option<&Cursor>,
    until: &SqlValue,
    parameters: &[(String, Value)],
) -> Result<()> {
    let from_id = match from {
        Some(Cursor::Keyset { id, .. }) => *id,
        _ => i64::MIN,
    };
    let from = match (from, cursor.kind) {
        (Some(cursor), _) => sql_value(cursor),
        (None, CursorKind::Integer) => SqlValue::Integer(i64::MIN),
        (None, _) => SqlValue::Text(BEFORE_ALL_TIMES.to_owned()),
    };
    bind_one(statement, "from", &from)?;
    bind_one(statement, "lastRun", &from)?;
    bind_one(statement, "fromId", &SqlValue::Integer(from_id))?;
    bind_one(statement, "until", until)?;
    bind_further(statement, parameters)
}

/// The end of the window; without one, what is beyond every cursor of the kind.
fn end_of_window(cursor: &CursorConfig, until: Option<&Cursor>) -> SqlValue {
    match (until, cursor.kind) {
        (Some(until), _) => sql_value(until),
        (None, CursorKind::Integer) => SqlValue::Integer(i64::MAX),
        (None, _) => SqlValue::Text(AFTER_ALL_TIMES.to_owned()),
    }
}

fn bind_range(statement: &mut Statement<'_>, range: Option<&Range>) -> Result<()> {
    for (name, bound) in range.into_iter().flat_map(Range::parameters) {
        bind_one(statement, name, &SqlValue::Integer(bound))?;
    }
    Ok(())
}

fn bind_further(statement: &mut Statement<'_>, parameters: &[(String, Value)]) -> Result<()> {
    for (name, value) in parameters {
        let value = match value {
            Value::Null => SqlValue::Null,
            Value::Bool(value) => SqlValue::Integer(i64::from(*value)),
            Value::Int(value) => SqlValue::Integer(*value),
            Value::Float(value) => SqlValue::Real(*value),
            Value::Text(value) => SqlValue::Text(value.clone()),
            _ => {
                return Err(Error::data(format!(
                    "parameter `{name}` has an unknown type"
                )));
            }
        };
        bind_one(statement, name, &value)?;
    }
    Ok(())
}

fn bind_one(statement: &mut Statement<'_>, name: &str, value: &SqlValue) -> Result<()> {
    if let Some(index) = statement.parameter_index(&format!("@{name}"))? {
        statement.raw_bind_parameter(index, Bound(value))?;
    }
    Ok(())
}

struct Bound<'a>(&'a SqlValue);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::from(self.0)))
    }
}

fn sql_value(cursor: &Cursor) -> SqlValue {
    match cursor {
        Cursor::Integer(value) => SqlValue::Integer(*value),
        Cursor::Text(value) | Cursor::Opaque(value) | Cursor::Keyset { time: value, .. } => {
            SqlValue::Text(value.clone())
        }
        _ => SqlValue::Null,
    }
}
