//! Tables of the sink: made when missing, checked and extended when there, before the first row.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use rusqlite::Connection;

use super::types::{column_type, keeps};
use crate::config::WriteMode;
use crate::error::{Error, ErrorKind, Result};
use crate::identifier::{quote, quote_list, quote_table};
use crate::sink::ddl::{Dialect, Problem, require_fit, require_key, unwritten};
use crate::sink::drift::{Shortfall, TableView};
use crate::sink::{ColumnLayout, TableLayout, TableSpec};

pub const DIALECT: Dialect = Dialect {
    server: "SQLite",
    column_type: |field| column_type(field.data_type()),
    keys_are_not_null: false,
};

/// A table that is ready for rows.
#[derive(Clone, Debug)]
pub struct SqliteTable {
    /// What was asked for.
    pub spec: TableSpec,
    /// The columns that are written: index in the output and name.
    pub columns: Vec<(usize, String)>,
    /// All its columns.
    existing: Vec<Existing>,
}

impl TableView for SqliteTable {
    fn same(&self, a: &str, b: &str) -> bool {
        a.eq_ignore_ascii_case(b)
    }

    fn has(&self, column: &str) -> bool {
        self.existing.iter().any(|found| found.is(column))
    }

    /// A column that takes values of a type takes all of them: there are no limits to widen.
    fn shortfall(&self, _: &Field) -> Option<Shortfall> {
        None
    }
}

impl SqliteTable {
    /// The names of the columns, quoted and separated by commas.
    pub fn column_list(&self) -> String {
        quote_list(self.columns.iter().map(|(_, name)| name.as_str()))
    }

    /// The columns that are written, as they are staged: without dictionaries.
    pub fn written_schema(&self) -> SchemaRef {
        let fields = self.columns.iter().filter_map(|(index, _)| {
            let field = self.spec.schema.fields().get(*index)?;
            Some(match field.data_type() {
                DataType::Dictionary(_, value) => {
                    Field::new(field.name(), value.as_ref().clone(), true)
                }
                _ => field.as_ref().clone().with_nullable(true),
            })
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The table's name, quoted.
    pub fn name(&self) -> String {
        quote_table(&self.spec.name)
    }
}

/// Whether the table is there.
pub fn exists(connection: &Connection, spec: &TableSpec) -> Result<bool> {
    Ok(!load_columns(connection, spec)?.is_empty())
}

/// Makes a table ready, inside a transaction that the caller holds.
pub fn prepare(connection: &Connection, spec: &TableSpec) -> Result<SqliteTable> {
    require_no_schema(spec)?;
    require_key(spec, str::eq_ignore_ascii_case)?;
    let mut existing = load_columns(connection, spec)?;
    if existing.is_empty() {
        connection.execute_batch(&DIALECT.create_table(spec)?)?;
        existing = load_columns(connection, spec)?;
    }
    if let Some(ddl) = missing_columns(spec, &existing)? {
        connection.execute_batch(&ddl)?;
        existing = load_columns(connection, spec)?;
    }
    check_columns(spec, &existing)?;
    if let WriteMode::Upsert { key, .. } = &spec.mode {
        require_unique(connection, spec, key)?;
    }
    Ok(build(spec, existing))
}

fn build(spec: &TableSpec, existing: Vec<Existing>) -> SqliteTable {
    let columns = spec
        .schema
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| existing.iter().any(|column| column.is(field.name())))
        .map(|(index, field)| (index, field.name().clone()))
        .collect();
    SqliteTable {
        spec: spec.clone(),
        columns,
        existing,
    }
}

/// Makes sure that a table has the columns that are written, inside the transaction that writes them.
pub fn require_unchanged(connection: &Connection, table: &SqliteTable) -> Result<()> {
    let existing = load_columns(connection, &table.spec)?;
    let lost = table
        .columns
        .iter()
        .find(|(_, name)| !existing.iter().any(|column| column.is(name)));
    let Some((_, name)) = lost else {
        return check_columns(&table.spec, &existing);
    };
    Err(Error::new(
        ErrorKind::TableChanged,
        format!(
            "the table {} was changed while the attempt wrote to it: it has no column `{name}` any more",
            table.spec.name
        ),
    )
    .hint("let nobody change the table while a run goes on; the next attempt looks at it again"))
}

/// Compares a table with what would be written, as [`prepare`] does, and changes nothing. Gives the statements that
/// would make or extend it, and the table if it is there.
pub fn compare(
    connection: &Connection,
    spec: &TableSpec,
) -> Result<(Option<String>, Option<SqliteTable>)> {
    require_no_schema(spec)?;
    require_key(spec, str::eq_ignore_ascii_case)?;
    let existing = load_columns(connection, spec)?;
    if existing.is_empty() {
        return Ok((Some(DIALECT.create_table(spec)?), None));
    }
    let ddl = missing_columns(spec, &existing)?;
    check_columns(spec, &existing)?;
    if let WriteMode::Upsert { key, .. } = &spec.mode {
        require_unique(connection, spec, key)?;
    }
    Ok((ddl, Some(build(spec, existing))))
}

/// The table as it is, with the columns that a run would add. Changes nothing.
pub fn load_layout(connection: &Connection, spec: &TableSpec) -> Result<TableLayout> {
    let existing = load_columns(connection, spec)?;
    let existing = existing.into_iter().map(|column| ColumnLayout {
        name: column.name,
        sql_type: Some(column.declaration),
        not_null: column.not_null,
        key: false,
        exists: true,
    });
    Ok(DIALECT.layout(spec, existing.collect(), str::eq_ignore_ascii_case))
}

fn require_no_schema(spec: &TableSpec) -> Result<()> {
    let schema = spec.name.schema.as_deref();
    match schema.filter(|schema| *schema != "main") {
        None => Ok(()),
        Some(schema) => Err(Error::config(format!("SQLite has no schema `{schema}`"))
            .hint("write `sink.table` without a schema")),
    }
}

/// The statements that add the columns a table lacks, if they are to be added.
fn missing_columns(spec: &TableSpec, existing: &[Existing]) -> Result<Option<String>> {
    let fields = spec.schema.fields().iter();
    let missing: Vec<_> = fields
        .filter(|field| !existing.iter().any(|column| column.is(field.name())))
        .collect();
    DIALECT.add_columns(spec, &missing)
}

/// Reports everything that does not fit at once.
fn check_columns(spec: &TableSpec, existing: &[Existing]) -> Result<()> {
    let mut problems = Vec::new();
    for field in spec.schema.fields() {
        if let Some(column) = existing.iter().find(|column| column.is(field.name()))
            && !keeps(&column.declaration, field.data_type())
        {
            problems.push(Problem::new(format!(
                "column `{}` is {}, which cannot take Arrow type {} without changing it (the sink would create {})",
                column.name,
                column.declaration,
                field.data_type(),
                column_type(field.data_type()).unwrap_or_else(|| "nothing".to_owned())
            )));
        }
    }
    for column in existing.iter().filter(|column| column.required) {
        if !spec
            .schema
            .fields()
            .iter()
            .any(|field| column.is(field.name()))
        {
            problems.push(unwritten(&column.name));
        }
    }
    require_fit(spec, problems)
}

#[derive(Clone, Debug)]
struct Existing {
    name: String,
    declaration: String,
    /// It must be given a value.
    required: bool,
    not_null: bool,
}

impl Existing {
    /// SQLite does not tell capital letters from small ones.
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

fn load_columns(connection: &Connection, spec: &TableSpec) -> Result<Vec<Existing>> {
    let mut statement = connection.prepare(
        "SELECT name, type, \"notnull\" = 1 AND dflt_value IS NULL AND pk = 0, \"notnull\" = 1 FROM pragma_table_xinfo(?1) WHERE hidden = 0",
    )?;
    let rows = statement.query_map([&spec.name.name], |row| {
        Ok(Existing {
            name: row.get(0)?,
            declaration: row.get(1)?,
            required: row.get(2)?,
            not_null: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// An upsert needs a unique index on exactly its key.
fn require_unique(connection: &Connection, spec: &TableSpec, key: &[String]) -> Result<()> {
    let mut statement = connection.prepare(
        "SELECT group_concat(name, char(31)) FROM (SELECT l.name AS i, lower(c.name) AS name FROM pragma_index_list(?1) l, \
         pragma_index_info(l.name) c WHERE l.\"unique\" = 1 AND l.partial = 0 ORDER BY 2) GROUP BY i \
         UNION ALL SELECT group_concat(name, char(31)) FROM (SELECT lower(name) AS name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY 1)",
    )?;
    let mut wanted: Vec<String> = key.iter().map(|name| name.to_ascii_lowercase()).collect();
    wanted.sort_unstable();
    let wanted = wanted.join("\u{1f}");
    let found = statement
        .query_map([&spec.name.name], |row| row.get::<_, Option<String>>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    if found.iter().flatten().any(|columns| *columns == wanted) {
        return Ok(());
    }
    Err(Error::data(format!(
        "the table {} has no unique index on the key ({})",
        spec.name,
        key.join(", ")
    ))
    .hint(format!(
        "run CREATE UNIQUE INDEX {} ON {} ({})",
        quote(&format!("{}_key", spec.name.name)),
        quote_table(&spec.name),
        quote_list(key.iter().map(String::as_str))
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SchemaChange, TableName};
    use crate::sink::Keep;

    #[test]
    fn a_table_that_has_lost_a_column_is_noticed_before_rows_are_written() {
        let connection = Connection::open_in_memory().unwrap();
        let fields = ["id", "name"].map(|name| Field::new(name, DataType::Int64, true));
        let spec = TableSpec {
            name: TableName {
                schema: None,
                name: "t".to_owned(),
            },
            schema: Arc::new(Schema::new(fields.to_vec())),
            mode: WriteMode::Append,
            keep: Keep::Last,
            on_schema_change: SchemaChange::Strict,
        };
        let table = prepare(&connection, &spec).unwrap();
        connection
            .execute_batch("ALTER TABLE t ADD COLUMN more TEXT")
            .unwrap();
        require_unchanged(&connection, &table).unwrap();
        connection
            .execute_batch("ALTER TABLE t DROP COLUMN name")
            .unwrap();
        let error = require_unchanged(&connection, &table).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::TableChanged);
        assert!(
            error.to_string().contains("no column `name` any more"),
            "{error}"
        );
    }
}
