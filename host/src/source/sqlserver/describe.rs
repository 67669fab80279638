//! Asks the server what a statement will return, so that scales and precisions are known before the first row.

use tiberius::{ColumnData, Row};

use super::bind::text;
use super::types::SqlType;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::{Policy, policy};
use crate::pool::SqlServerClient;

/// A column that a statement returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
    /// The same in the server's own words, such as `varchar(20)`.
    pub declared: String,
    /// It is text in UTF-8, which a server sends as UTF-16 to a driver that cannot read it.
    pub utf8: bool,
    /// The table and column it comes from, where it is no expression.
    pub origin: Option<(String, String)>,
}

/// Describes a statement with parameters declared so. `None` if this server cannot: its procedure is missing or
/// refuses statements like this one, such as those with temporary tables.
pub async fn describe(
    client: &mut SqlServerClient,
    sql: &str,
    declarations: &str,
) -> Result<Option<Vec<Described>>> {
    let declared = if declarations.is_empty() {
        ColumnData::String(None)
    } else {
        text(declarations.to_owned())
    };
    let arguments = vec![
        ("@tsql".to_owned(), text(sql.to_owned())),
        ("@params".to_owned(), declared),
        // With the tables behind the columns.
        (
            "@browse_information_mode".to_owned(),
            ColumnData::U8(Some(1)),
        ),
    ];
    let answer = client.call("sp_describe_first_result_set", arguments);
    let rows = match answer.await {
        Ok(rows) => rows,
        Err(error) if cannot_describe(&error) => {
            tracing::debug!("the server does not describe the query: {error}");
            return Ok(None);
        }
        Err(error) => return Err(error.while_trying("describe the query")),
    };
    let visible = rows
        .iter()
        .filter(|row| row.try_get::<bool, _>("is_hidden").ok().flatten() != Some(true));
    visible.map(described).collect::<Result<Vec<_>>>().map(Some)
}

/// Whether the statement may be run without a description. After a fault that may pass it is not: the columns must not
/// come out otherwise than in the run before. What a person has to mend is said at once; if the statement is at fault
/// in another way, running it says so.
fn cannot_describe(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::SqlServer(_)) && policy(error) == Policy::Fatal
}

/// Reads one row of the answer.
pub fn described(row: &Row) -> Result<Described> {
    let words = |column: &str| {
        row.try_get::<&str, _>(column)
            .ok()
            .flatten()
            .map(str::to_owned)
    };
    let name = words("name").filter(|name| !name.is_empty());
    let Some(name) = name else {
        let ordinal = row
            .try_get::<i32, _>("column_ordinal")
            .ok()
            .flatten()
            .unwrap_or(0);
        return Err(
            Error::config(format!("column {ordinal} of the query has no name"))
                .hint("name it with AS in `source.query`"),
        );
    };
    let type_name = words("system_type_name").unwrap_or_default();
    let sql_type = SqlType::parse(&type_name).ok_or_else(|| unknown_type(&name, &type_name))?;
    let collation = words("collation_name").unwrap_or_default();
    let unknown_page = ["CP437", "CP850"]
        .iter()
        .any(|page| collation.contains(page));
    if unknown_page && !type_name.starts_with('n') {
        return Err(Error::config(format!(
            "column `{name}` has the collation {collation}, whose code page the driver does not know"
        ))
        .hint("CAST it AS nvarchar in `source.query`"));
    }
    let origin = match (
        words("source_schema"),
        words("source_table"),
        words("source_column"),
    ) {
        (Some(schema), Some(table), Some(column)) => {
            Some((format!("[{schema}].[{table}]"), column))
        }
        (None, Some(table), Some(column)) => Some((format!("[{table}]"), column)),
        _ => None,
    };
    Ok(Described {
        name,
        sql_type,
        declared: type_name,
        utf8: collation.ends_with("_UTF8"),
        origin,
    })
}

/// The error for a type that only a library of its own can read.
pub fn unknown_type(column: &str, type_name: &str) -> Error {
    let what = if type_name.is_empty() {
        "of an assembly"
    } else {
        type_name
    };
    Error::config(format!(
        "column `{column}` has a type ({what}) that cannot be read"
    ))
    .hint("turn it into text in `source.query`, such as [column].ToString(), or leave it out")
}
