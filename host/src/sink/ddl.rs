//! Statements that make and extend a table: the same in both dialects, but for the names of the types.

use arrow_schema::{Field, FieldRef};

use super::TableSpec;
use crate::config::{SchemaChange, WriteMode};
use crate::error::{Error, Result};
use crate::identifier::{quote, quote_list, quote_table};

/// What the dialects do not share.
pub struct Dialect {
    /// The server's name, for messages.
    pub server: &'static str,
    /// The type of a column for an Arrow field; `None` if there is none.
    pub column_type: fn(&Field) -> Option<String>,
    /// A column of a primary key never holds NULL.
    pub keys_are_not_null: bool,
}

impl Dialect {
    /// The statement that creates the table.
    pub fn create_table(&self, spec: &TableSpec) -> Result<String> {
        let mut columns = Vec::new();
        for field in spec.schema.fields() {
            columns.push(format!(
                "{} {}",
                quote(field.name()),
                self.type_of(spec, field)?
            ));
        }
        if let WriteMode::Upsert { key, .. } = &spec.mode {
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

    /// The statements that add the columns a table lacks, if they are to be added. An error that tells them, if not.
    pub fn add_columns(&self, spec: &TableSpec, missing: &[&FieldRef]) -> Result<Option<String>> {
        if missing.is_empty() || spec.on_schema_change == SchemaChange::Ignore {
            return Ok(None);
        }
        let name = quote_table(&spec.name);
        let ddl = missing
            .iter()
            .map(|field| {
                Ok(format!(
                    "ALTER TABLE {name} ADD COLUMN {} {};",
                    quote(field.name()),
                    self.type_of(spec, field)?
                ))
            })
            .collect::<Result<Vec<_>>>()?
            .join(" ");
        if spec.on_schema_change == SchemaChange::Evolve {
            return Ok(Some(ddl));
        }
        let names: Vec<&str> = missing.iter().map(|field| field.name().as_str()).collect();
        Err(Error::data(format!(
            "the table {} has no column {}",
            spec.name,
            names.join(", ")
        ))
        .hint(format!(
            "run {ddl} or set `error_handling.on_schema_change` to `evolve` or `ignore`"
        )))
    }

    fn type_of(&self, spec: &TableSpec, field: &Field) -> Result<String> {
        (self.column_type)(field).ok_or_else(|| {
            Error::data(format!(
                "column `{}` of {} has Arrow type {}, which {} cannot hold",
                field.name(),
                spec.name,
                field.data_type(),
                self.server
            ))
            .hint("convert or leave out the column in the transformer")
        })
    }
}

/// Fails if the output lacks a column of its key: whatever the policy is, an upsert would not know its rows. `same` says
/// whether two names mean the same column.
pub fn require_key(spec: &TableSpec, same: impl Fn(&str, &str) -> bool) -> Result<()> {
    let WriteMode::Upsert { key, .. } = &spec.mode else {
        return Ok(());
    };
    let fields = spec.schema.fields();
    let lost = key
        .iter()
        .find(|key| !fields.iter().any(|field| same(field.name(), key)));
    match lost {
        None => Ok(()),
        Some(key) => Err(Error::config(format!(
            "the key column `{key}` of {} is not among the output columns",
            spec.name
        ))
        .hint("give it in `source.query` and in the transformer, or correct `sink.key`")),
    }
}

/// Something that does not fit, with the statement that would mend it.
#[derive(Clone, Debug)]
pub struct Problem {
    what: String,
    fix: Option<String>,
}

impl Problem {
    /// Something that does not fit.
    pub fn new(what: String) -> Self {
        Self { what, fix: None }
    }

    /// Adds the statement that would mend it.
    pub fn fix(mut self, statement: String) -> Self {
        self.fix = Some(statement);
        self
    }
}

/// A column that must be given a value and is not.
pub fn unwritten(column: &str) -> Problem {
    Problem::new(format!(
        "column `{column}` is NOT NULL without a default, and the pipeline does not write it"
    ))
}

/// Fails with everything that does not fit.
pub fn require_fit(spec: &TableSpec, problems: Vec<Problem>) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let mut told = Vec::new();
    let mut fixes = Vec::new();
    for Problem { what, fix } in problems {
        told.push(what);
        fixes.extend(fix);
    }
    let otherwise = "change the table or the transformer, or name another `sink.table`";
    let hint = if fixes.is_empty() {
        otherwise.to_owned()
    } else {
        format!("run {}; or {otherwise}", fixes.join(" "))
    };
    Err(Error::data(format!(
        "the table {} does not fit the pipeline: {}",
        spec.name,
        told.join("; ")
    ))
    .hint(hint))
}
