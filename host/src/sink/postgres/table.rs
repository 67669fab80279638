//! Tables of the sink: made when missing, checked and extended when there, before the first row.

use tokio_postgres::Client;

use super::checkpoint::{DDL_LOCK, LOCK_TIMEOUT};
use super::types::{PgType, accepts, column_type};
use crate::config::{SchemaChange, WriteMode};
use crate::error::{Error, Result};
use crate::identifier::{quote, quote_list, quote_table};
use crate::sink::TableSpec;

/// A table that is ready for rows.
#[derive(Clone, Debug)]
pub struct PgTable {
    /// What was asked for.
    pub spec: TableSpec,
    /// The columns that are written: index in the output, name, type.
    pub columns: Vec<(usize, String, PgType)>,
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
        let ddl = create_statement(spec)?;
        client.batch_execute(&ddl).await.map_err(|error| {
            Error::from(error).while_trying(format!("create the table {}", spec.name))
        })?;
    }
    let mut existing = load_columns(client, &name).await?;
    let missing: Vec<_> = spec
        .schema
        .fields()
        .iter()
        .filter(|field| !existing.iter().any(|column| &column.name == field.name()))
        .collect();
    if !missing.is_empty() && spec.on_schema_change != SchemaChange::Ignore {
        let ddl = missing
            .iter()
            .map(|field| {
                Ok(format!(
                    "ALTER TABLE {name} ADD COLUMN {} {};",
                    quote(field.name()),
                    type_of(spec, field)?
                ))
            })
            .collect::<Result<String>>()?;
        if spec.on_schema_change == SchemaChange::Strict {
            let names: Vec<&str> = missing.iter().map(|field| field.name().as_str()).collect();
            return Err(Error::data(format!(
                "the table {} has no column {}",
                spec.name,
                names.join(", ")
            ))
            .hint(format!(
                "run {ddl} or set `error_handling.on_schema_change` to `evolve` or `ignore`"
            )));
        }
        client.batch_execute(&ddl).await?;
        existing = load_columns(client, &name).await?;
    }
    let columns = match_columns(spec, &existing)?;
    if let WriteMode::Upsert { key, .. } = &spec.mode {
        require_unique(client, spec, &name, key).await?;
    }
    Ok(PgTable {
        spec: spec.clone(),
        columns,
    })
}

/// The statement that creates the table.
pub fn create_statement(spec: &TableSpec) -> Result<String> {
    let mut columns = Vec::new();
    for field in spec.schema.fields() {
        columns.push(format!("{} {}", quote(field.name()), type_of(spec, field)?));
    }
    if let WriteMode::Upsert { key, .. } = &spec.mode {
        for name in key {
            spec.schema.field_with_name(name).map_err(|_| {
                Error::config(format!(
                    "the key column `{name}` is not among the output columns"
                ))
                .hint("correct `sink.key`")
            })?;
        }
        columns.push(format!(
            "PRIMARY KEY ({})",
            quote_list(key.iter().map(String::as_str))
        ));
    }
    Ok(format!(
        "CREATE TABLE {} ({})",
        quote_table(&spec.name),
        columns.join(", ")
    ))
}

fn type_of(spec: &TableSpec, field: &arrow_schema::Field) -> Result<String> {
    column_type(field.data_type()).ok_or_else(|| {
        Error::data(format!(
            "column `{}` of {} has Arrow type {}, which PostgreSQL cannot hold",
            field.name(),
            spec.name,
            field.data_type()
        ))
        .hint("convert or leave out the column in the transformer")
    })
}

async fn load_columns(client: &Client, name: &str) -> Result<Vec<Existing>> {
    let rows = client
        .query(
            "SELECT attname, atttypid, atttypmod, format_type(atttypid, atttypmod), \
             attnotnull AND NOT atthasdef AND attidentity = '', \
             attgenerated <> '' OR attidentity = 'a' \
             FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
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
                column_type(field.data_type()).unwrap_or_else(|| "nothing".to_owned())
            )),
        }
    }
    for column in existing.iter().filter(|column| column.required) {
        if spec.schema.field_with_name(&column.name).is_err() {
            problems.push(format!(
                "column `{}` is NOT NULL without a default, and the pipeline does not write it",
                column.name
            ));
        }
    }
    if columns.is_empty() && problems.is_empty() {
        problems.push("no output column is a column of the table".to_owned());
    }
    if problems.is_empty() {
        return Ok(columns);
    }
    Err(Error::data(format!(
        "the table {} does not fit the pipeline: {}",
        spec.name,
        problems.join("; ")
    ))
    .hint("change the table or the transformer, or name another `sink.table`"))
}

/// An upsert needs a unique index on exactly its key.
async fn require_unique(
    client: &Client,
    spec: &TableSpec,
    name: &str,
    key: &[String],
) -> Result<()> {
    let mut wanted: Vec<&str> = key.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    let found: bool = client
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisunique \
             AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND $2 = ( \
             SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE \"C\") FROM pg_attribute a \
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])))",
            &[&name, &wanted],
        )
        .await?
        .try_get(0)?;
    if found {
        return Ok(());
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
