//! Tables of the sink: made when missing, checked and extended when there, before the first row.

use tokio_postgres::Client;

use super::checkpoint::{DDL_LOCK, LOCK_TIMEOUT};
use super::types::{PgType, accepts, field_type};
use crate::config::WriteMode;
use crate::error::{Error, Result};
use crate::identifier::{quote_list, quote_table};
use crate::sink::TableSpec;
use crate::sink::ddl::{Dialect, require_fit, unwritten};

pub(super) const DIALECT: Dialect = Dialect {
    server: "PostgreSQL",
    column_type: field_type,
};

/// A table that is ready for rows.
#[derive(Clone, Debug)]
pub struct PgTable {
    /// What was asked for.
    pub spec: TableSpec,
    /// The columns that are written: index in the output, name, type.
    pub columns: Vec<(usize, String, PgType)>,
    /// For `upsert` the unique indexes on exactly the key.
    pub key_indexes: Vec<String>,
}

impl PgTable {
    /// The names of the columns, quoted and separated by commas.
    pub fn column_list(&self) -> String {
        quote_list(self.columns.iter().map(|(_, name, _)| name.as_str()))
    }

    /// The table's name, quoted.
    pub fn name(&self) -> String {
        quote_table(&self.spec.name)
    }
}

/// Makes a table ready, under the lock that all hosts share.
pub async fn prepare(client: &Client, spec: &TableSpec) -> Result<PgTable> {
    client
        .batch_execute(&format!(
            "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SELECT pg_advisory_xact_lock({DDL_LOCK})"
        ))
        .await?;
    let prepared = prepare_locked(client, spec).await;
    let end = if prepared.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    let ended = client.batch_execute(end).await;
    let table = prepared?;
    ended?;
    Ok(table)
}

struct Existing {
    name: String,
    column: Option<PgType>,
    type_name: String,
    required: bool,
    generated: bool,
}

async fn prepare_locked(client: &Client, spec: &TableSpec) -> Result<PgTable> {
    let name = quote_table(&spec.name);
    let exists: bool = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&name])
        .await?
        .try_get(0)?;
    if !exists {
        let ddl = DIALECT.create_table(spec)?;
        client.batch_execute(&ddl).await.map_err(|error| {
            Error::from(error).while_trying(format!("create the table {}", spec.name))
        })?;
    }
    let mut existing = load_columns(client, &name).await?;
    if let Some(ddl) = missing_columns(spec, &existing)? {
        client.batch_execute(&ddl).await?;
        existing = load_columns(client, &name).await?;
    }
    let columns = match_columns(spec, &existing)?;
    Ok(PgTable {
        spec: spec.clone(),
        columns,
        key_indexes: require_unique(client, spec, &name).await?,
    })
}

/// Compares a table that is there with what would be written, as [`prepare`] does, and changes nothing. Gives the
/// statements that would extend it.
pub async fn compare(client: &Client, spec: &TableSpec) -> Result<Option<String>> {
    let name = quote_table(&spec.name);
    let existing = load_columns(client, &name).await?;
    let ddl = missing_columns(spec, &existing)?;
    match_columns(spec, &existing)?;
    require_unique(client, spec, &name).await?;
    Ok(ddl)
}

/// The statements that add the columns a table lacks, if they are to be added.
fn missing_columns(spec: &TableSpec, existing: &[Existing]) -> Result<Option<String>> {
    let fields = spec.schema.fields().iter();
    let missing: Vec<_> = fields
        .filter(|field| !existing.iter().any(|column| &column.name == field.name()))
        .collect();
    DIALECT.add_columns(spec, &missing)
}

async fn load_columns(client: &Client, name: &str) -> Result<Vec<Existing>> {
    let rows = client
        .query(
            "SELECT attname, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE atttypid END, \
             CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE atttypmod END, format_type(atttypid, atttypmod), \
             attnotnull AND NOT atthasdef AND attidentity = '', \
             attgenerated <> '' OR attidentity = 'a' \
             FROM pg_attribute JOIN pg_type t ON t.oid = atttypid WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            &[&name],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Existing {
                name: row.try_get(0)?,
                column: PgType::from_oid(row.try_get(1)?, row.try_get(2)?),
                type_name: row.try_get(3)?,
                required: row.try_get(4)?,
                generated: row.try_get(5)?,
            })
        })
        .collect()
}

/// Finds the table's column for each output column, and reports everything that does not fit at once.
fn match_columns(spec: &TableSpec, existing: &[Existing]) -> Result<Vec<(usize, String, PgType)>> {
    let mut columns = Vec::new();
    let mut problems = Vec::new();
    for (index, field) in spec.schema.fields().iter().enumerate() {
        let Some(found) = existing.iter().find(|column| &column.name == field.name()) else {
            continue;
        };
        match found.column {
            _ if found.generated => problems.push(format!("column `{}` is generated by the server", found.name)),
            Some(column) if accepts(column, field.data_type()) => {
                columns.push((index, found.name.clone(), column));
            }
            _ => problems.push(format!(
                "column `{}` is {}, which cannot take Arrow type {} without loss (the sink would create {})",
                found.name,
                found.type_name,
                field.data_type(),
                field_type(field).unwrap_or_else(|| "nothing".to_owned())
            )),
        }
    }
    for column in existing.iter().filter(|column| column.required) {
        if spec.schema.field_with_name(&column.name).is_err() {
            problems.push(unwritten(&column.name));
        }
    }
    if columns.is_empty() && problems.is_empty() {
        problems.push("no output column is a column of the table".to_owned());
    }
    require_fit(spec, &problems)?;
    Ok(columns)
}

/// An upsert needs a unique index on exactly its key. Gives the names of all there are; none for other modes.
async fn require_unique(client: &Client, spec: &TableSpec, name: &str) -> Result<Vec<String>> {
    let WriteMode::Upsert { key, .. } = &spec.mode else {
        return Ok(Vec::new());
    };
    let mut wanted: Vec<&str> = key.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    let found: Vec<String> = client
        .query_one(
            "SELECT coalesce(array_agg(c.relname::text), '{}') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
             WHERE i.indrelid = to_regclass($1) AND i.indisunique \
             AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND $2 = ( \
             SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE \"C\") FROM pg_attribute a \
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]))",
            &[&name, &wanted],
        )
        .await?
        .try_get(0)?;
    if !found.is_empty() {
        return Ok(found);
    }
    Err(Error::data(format!(
        "the table {} has no unique index on the key ({})",
        spec.name,
        key.join(", ")
    ))
    .hint(format!(
        "run CREATE UNIQUE INDEX CONCURRENTLY ON {name} ({})",
        quote_list(key.iter().map(String::as_str))
    )))
}
