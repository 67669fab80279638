//! A table of the sink as it is, or as it would be made: for people who look at a pipeline's columns.
//!
//! What is done about a table that does not fit is [`ddl`](super::ddl)'s and [`drift`](super::drift)'s business.

use serde::Serialize;

use super::TableSpec;
use super::ddl::Dialect;
use crate::config::{SchemaChange, WriteMode};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableLayout {
    /// It is there.
    pub exists: bool,
    /// Its columns, with those that would be added.
    pub columns: Vec<ColumnLayout>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnLayout {
    /// Its name.
    pub name: String,
    /// Its type; `None` where the sink has none for it.
    pub sql_type: Option<String>,
    /// It never holds NULL.
    pub not_null: bool,
    /// It is of the key that the configuration names.
    pub key: bool,
    /// It is there.
    pub exists: bool,
}

impl Dialect {
    /// The table as it is, with the columns that a run would add; or, if it has no columns yet, as it would be made.
    /// `same` says whether two names mean the same column.
    pub fn layout(
        &self,
        spec: &TableSpec,
        existing: Vec<ColumnLayout>,
        same: impl Fn(&str, &str) -> bool,
    ) -> TableLayout {
        let keys: &[String] = match &spec.mode {
            WriteMode::Upsert { key, .. } => key,
            _ => &[],
        };
        let is_key = |name: &str| keys.iter().any(|key| same(key, name));
        let exists = !existing.is_empty();
        let mut columns = existing;
        for column in &mut columns {
            column.key = is_key(&column.name);
        }
        let adds = !exists || spec.on_schema_change != SchemaChange::Ignore;
        for field in spec.schema.fields().iter().filter(|_| adds) {
            if columns.iter().any(|known| same(&known.name, field.name())) {
                continue;
            }
            let key = is_key(field.name());
            columns.push(ColumnLayout {
                name: field.name().clone(),
                sql_type: (self.column_type)(field),
                not_null: key && !exists && self.keys_are_not_null,
                key,
                exists: false,
            });
        }
        TableLayout { exists, columns }
    }
}
