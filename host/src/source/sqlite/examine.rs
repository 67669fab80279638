//! Looks whether a shard can be read, for `etl-host doctor`. Changes nothing; the file is opened to be read only.

use std::path::Path;

use arrow_schema::SchemaRef;
use rusqlite::{Connection, OptionalExtension};

use super::{SqliteSource, open_file};
use crate::config::{Cursor as CursorConfig, FileShard};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Findings;
use crate::identifier::quote;
use crate::source::examine::{SLOW, hint_at_query};
use crate::source::{CursorQuery, Examination, ReadRequest, ShardQuery, Source, SourceSession};
use crate::task;

/// What is known of a statement without running it.
struct Prepared {
    columns: usize,
    /// Each column says its type, also where there are no rows.
    declared: bool,
    /// For a cursor: the index that is missing, as a statement to run.
    missing_index: Option<String>,
}

/// Examines one shard.
pub async fn examine(
    source: &SqliteSource,
    shard: &FileShard,
    query: Option<&ShardQuery>,
) -> Examination {
    let mut findings = Findings::default();
    let mut examination = Examination::default();
    let path = shard.path.clone();
    let readable = blocking(move || check_readable(&path));
    if findings.ask("file", readable).await.is_some() {
        findings.ok("file", shard.path.display().to_string());
        check_database(&mut findings, source, shard, query, &mut examination).await;
    }
    examination.findings = findings.into_vec();
    examination
}

async fn check_database(
    findings: &mut Findings,
    source: &SqliteSource,
    shard: &FileShard,
    query: Option<&ShardQuery>,
    examination: &mut Examination,
) {
    let path = shard.path.clone();
    let opened = blocking(move || {
        let (connection, _) = open_file(&path)?;
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        Ok((connection, mode))
    });
    let Some((connection, mode)) = findings.ask("database", opened).await else {
        return;
    };
    findings.ok(
        "database",
        if mode == "wal" {
            "journal mode wal: readers and writers do not wait for each other".to_owned()
        } else {
            format!("journal mode {mode}: who writes waits while rows are read")
        },
    );
    let mut declared = false;
    if let Some(query) = query {
        let asked = query.clone();
        let prepared = findings.ask("query", blocking(move || prepare(&connection, &asked)));
        let Some(prepared) = prepared.await else {
            return;
        };
        findings.ok("query", format!("{} columns", prepared.columns));
        if query.cursor.is_some() {
            match prepared.missing_index {
                None => findings.ok("index", "an index serves the cursor"),
                Some(fix) => findings.warning(
                    "index",
                    "no index serves the cursor: every run reads the whole table",
                    fix,
                ),
            }
        }
        declared = prepared.declared;
    }
    let session = async {
        let mut session = source.open(&shard.name).await?;
        let fingerprint = session.fingerprint().await?;
        Ok((session, fingerprint))
    };
    let Some((mut session, fingerprint)) = findings.ask("identity", session).await else {
        return;
    };
    examination.fingerprint = Some(fingerprint);
    if let Some(query) = query {
        let read = read(session.as_mut(), query);
        if let Some((schema, empty)) = findings.ask_patiently("read", read, SLOW).await {
            findings.ok(
                "read",
                if empty {
                    "the query runs; there are no rows yet"
                } else {
                    "the query runs"
                },
            );
            // What an expression gives is known from its first value only.
            examination.schema = (declared || !empty).then_some(schema);
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    task::spawn_blocking(work).await?
}

fn check_readable(path: &Path) -> Result<()> {
    let refused = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "correct `path` in the configuration; relative paths start at the working directory"
            }
            _ => "let the user that runs etl-host read the file and its folder",
        };
        Error::new(
            ErrorKind::Refused,
            format!("cannot read {}", path.display()),
        )
        .caused_by(error)
        .hint(hint)
    };
    let file = std::fs::File::open(path).map_err(refused)?;
    if file.metadata().map_err(refused)?.is_dir() {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("{} is a folder", path.display()),
        )
        .hint("name the database file in `path`"));
    }
    Ok(())
}

fn prepare(connection: &Connection, query: &ShardQuery) -> Result<Prepared> {
    let prepared = connection.prepare(&query.sql);
    let statement = prepared.map_err(|error| hint_at_query(error.into()))?;
    let columns: Vec<_> = statement.columns().collect();
    if columns.is_empty() || !statement.readonly() {
        return Err(Error::config("the query is no SELECT").hint("use a SELECT statement"));
    }
    if let Some(cursor) = &query.cursor {
        for name in std::iter::once(&cursor.column).chain(&cursor.id) {
            if !columns.iter().any(|column| column.name() == name) {
                return Err(Error::config(format!(
                    "the query returns no column `{name}`, which is the cursor"
                ))
                .hint("add the column to the query, or correct `cursor` in the configuration"));
            }
        }
    }
    let missing_index = query
        .cursor
        .as_ref()
        .map(|cursor| missing_index(connection, &query.sql, cursor))
        .transpose()?
        .flatten();
    Ok(Prepared {
        columns: columns.len(),
        declared: columns.iter().all(|column| column.decl_type().is_some()),
        missing_index,
    })
}

/// By the plan (<https://www.sqlite.org/eqp.html>): a table that is read from end to end, or rows that are sorted.
fn missing_index(
    connection: &Connection,
    sql: &str,
    cursor: &CursorConfig,
) -> Result<Option<String>> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    // The plan does not depend on the window, which stays unbound.
    let mut rows = statement.raw_query();
    let mut steps: Vec<String> = Vec::new();
    while let Some(row) = rows.next()? {
        steps.push(row.get("detail")?);
    }
    let sorts = steps.iter().any(|step| step.contains("FOR ORDER BY"));
    let mut scans = steps.iter().filter_map(|step| step.strip_prefix("SCAN "));
    let scanned = scans.find(|table| !table.contains(" USING "));
    if !sorts && scanned.is_none() {
        return Ok(None);
    }
    let has_column = scanned.and_then(|table| {
        connection
            .query_row(
                "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2 COLLATE NOCASE",
                [table, &cursor.column],
                |_| Ok(table),
            )
            .optional()
            .transpose()
    });
    Ok(Some(match has_column.transpose()? {
        Some(table) => {
            let columns: Vec<String> = std::iter::once(&cursor.column)
                .chain(&cursor.id)
                .map(|name| quote(name))
                .collect();
            format!(
                "CREATE INDEX {} ON {} ({})",
                quote(&format!("ix_{table}_{}", cursor.column)),
                quote(table),
                columns.join(", ")
            )
        }
        None => format!(
            "create an index that begins with `{}`, and compare and order by that column itself",
            cursor.column
        ),
    }))
}

/// The columns as a run finds them, by looking at the first rows, and whether there were none.
async fn read(session: &mut dyn SourceSession, query: &ShardQuery) -> Result<(SchemaRef, bool)> {
    if let Some(cursor) = &query.cursor {
        let from_the_start = CursorQuery {
            sql: query.sql.clone(),
            cursor: cursor.clone(),
            from: None,
            range: None,
        };
        session.upper_bound(&from_the_start).await?;
    }
    let stream = session.read(ReadRequest {
        sql: query.sql.clone(),
        cursor: query.cursor.clone(),
        from: None,
        until: None,
        parameters: Vec::new(),
        range: None,
        batch_rows: 1,
        batch_bytes: 1,
    });
    let stream = stream.await?;
    Ok((stream.schema(), stream.is_empty()))
}
