//! Prepares a statement with its parameters declared as the cursor's column is, and finds out what it returns.

use tokio_postgres::types::{Kind, Type};
use tokio_postgres::{Client, Statement};

use super::bind::{Rewritten, rewrite};
use super::refused;
use super::types::{CursorType, SqlType, declaration};
use crate::config::{Cursor as CursorConfig, CursorKind};
use crate::error::{Error, ErrorKind, Result};

/// The types of a cursor's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The cursor's column.
    pub cursor: CursorType,
    /// For a keyset, the column beside it.
    pub id: Option<CursorType>,
}

/// A statement that is ready to run.
pub struct Prepared {
    /// The statement on the server.
    pub statement: Statement,
    /// Its text, and the names of its parameters.
    pub rewritten: Rewritten,
    /// The types of its parameters as they were declared.
    pub declared: Vec<Type>,
    /// The columns it returns.
    pub columns: Vec<(String, SqlType)>,
    /// Their types in the server's own words.
    pub type_names: Vec<String>,
    /// The cursor among them.
    pub window: Option<Window>,
}

/// Prepares a statement. `further` are the names of its parameters besides the window's.
///
/// The column's type must be known before a parameter can be declared, and the server tells it only of a statement
/// whose parameters it understands. So a first guess is declared, which compares with any type of its kind; where the
/// column turns out to be of another one, the statement is prepared again.
pub async fn prepare(
    client: &Client,
    sql: &str,
    cursor: Option<&CursorConfig>,
    further: &[&str],
) -> Result<Prepared> {
    let rewritten = rewrite(sql, |name| {
        let of_window = cursor.is_some() && ["from", "lastRun", "until", "fromId"].contains(&name);
        of_window || further.contains(&name)
    });
    let Some(cursor) = cursor else {
        let declared = vec![Type::UNKNOWN; rewritten.names.len()];
        let statement = client
            .prepare_typed(&rewritten.sql, &declared)
            .await
            .map_err(refused)?;
        return finish(statement, rewritten, declared, None);
    };
    let guesses: &[CursorType] = match cursor.kind {
        CursorKind::Timestamp => &[
            CursorType::Timestamp(6),
            CursorType::Timestamptz(6),
            CursorType::Date,
        ],
        CursorKind::Integer => &[CursorType::Int8, CursorType::Decimal(18), CursorType::Int4],
        CursorKind::Rowversion => {
            return Err(Error::config("a `rowversion` cursor needs SQL Server"));
        }
    };
    let mut failure = None;
    for guess in guesses {
        let guess = Window {
            cursor: *guess,
            id: Some(CursorType::Int8),
        };
        let declared = declare(&rewritten, guess, further);
        client.batch_execute("SAVEPOINT describe").await?;
        let statement = match client.prepare_typed(&rewritten.sql, &declared).await {
            Ok(statement) => statement,
            Err(error) => {
                let error = refused(error);
                // Only a statement that does not fit its types may fit others.
                if !matches!(error.kind(), ErrorKind::SqlState(state) if state.starts_with("42")) {
                    return Err(error);
                }
                client.batch_execute("ROLLBACK TO describe").await?;
                failure.get_or_insert(error);
                continue;
            }
        };
        let window = find_window(&statement, cursor)?;
        let exact = declare(&rewritten, window, further);
        let statement = if exact == declared {
            statement
        } else {
            client
                .prepare_typed(&rewritten.sql, &exact)
                .await
                .map_err(refused)?
        };
        return finish(statement, rewritten, exact, Some(window));
    }
    Err(failure.unwrap_or_else(|| Error::internal("there is no type for the cursor")))
}

fn declare(rewritten: &Rewritten, window: Window, further: &[&str]) -> Vec<Type> {
    rewritten
        .names
        .iter()
        .map(|name| match name.as_str() {
            // A plugin's own parameter takes the type that its place asks for.
            name if further.contains(&name) => Type::UNKNOWN,
            "fromId" => window.id.map_or(Type::INT8, CursorType::parameter),
            _ => window.cursor.parameter(),
        })
        .collect()
}

fn find_window(statement: &Statement, cursor: &CursorConfig) -> Result<Window> {
    let times = cursor.kind == CursorKind::Timestamp;
    let id = match &cursor.id {
        Some(id) => Some(find_cursor(statement, id, false)?),
        None => None,
    };
    Ok(Window {
        cursor: find_cursor(statement, &cursor.column, times)?,
        id,
    })
}

fn find_cursor(statement: &Statement, name: &str, times: bool) -> Result<CursorType> {
    let found = statement
        .columns()
        .iter()
        .find(|column| column.name() == name)
        .ok_or_else(|| {
            Error::config(format!(
                "the query returns no column `{name}`, which is the cursor"
            ))
            .hint("add the column to the query, or correct `cursor` in the configuration")
        })?;
    SqlType::of(found.type_(), found.type_modifier())
        .and_then(SqlType::cursor)
        .filter(|cursor| cursor.form().is_some() == times)
        .ok_or_else(|| {
            let wanted = if times {
                "date, timestamp or timestamptz"
            } else {
                "smallint, integer, bigint or numeric(18,0)"
            };
            Error::config(format!(
                "the cursor column `{name}` is {}, but must be {wanted}",
                found.type_().name()
            ))
            .hint(format!(
                "correct `cursor`, or cast the column in `source.query`: {name}::… AS {name}"
            ))
        })
}

fn finish(
    statement: Statement,
    rewritten: Rewritten,
    declared: Vec<Type>,
    window: Option<Window>,
) -> Result<Prepared> {
    if statement.columns().is_empty() {
        return Err(Error::config("the query returns no columns").hint("use a SELECT statement"));
    }
    let columns = statement
        .columns()
        .iter()
        .map(|column| {
            let name = column.name();
            let sql_type = SqlType::of(column.type_(), column.type_modifier());
            let sql_type = sql_type.ok_or_else(|| {
                let sql_type = match column.type_().kind() {
                    Kind::Array(of) => format!("{of}[]"),
                    _ => column.type_().to_string(),
                };
                Error::config(format!(
                    "column `{name}` is {sql_type}, which cannot be read"
                ))
                .hint(format!(
                    "cast it in `source.query`: {name}::text AS {name}, or leave it out"
                ))
            })?;
            Ok((name.to_owned(), sql_type))
        })
        .collect::<Result<_>>()?;
    let type_names = statement
        .columns()
        .iter()
        .map(|column| declaration(column.type_(), column.type_modifier()))
        .collect();
    Ok(Prepared {
        statement,
        rewritten,
        declared,
        columns,
        type_names,
        window,
    })
}
