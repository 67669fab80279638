//! What a database consists of: tables, columns, indexes. It is kept in memory beside the `SQLite` file, which knows
//! tables and columns by number only and has no types. It holds no rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::stand_in::collation::CollationRef;
use crate::stand_in::sql::tree::{Expr, Name};
use crate::stand_in::types::{SqlType, Typed};

#[derive(Debug, Clone)]
pub struct Column {
    pub id: i64,
    pub name: String,
    pub ty: SqlType,
    pub nullable: bool,
    pub collation: CollationRef,
    /// Seed and step.
    pub identity: Option<(i64, i64)>,
    pub default: Option<Expr>,
}

impl Column {
    pub fn typed(&self) -> Typed {
        Typed {
            ty: self.ty,
            nullable: self.nullable,
            collation: self.collation,
        }
    }

    /// Its name in the `SQLite` file.
    pub fn in_sqlite(&self) -> String {
        format!("c{}", self.id)
    }

    /// Values that the server makes.
    pub fn is_made(&self) -> bool {
        self.identity.is_some() || self.ty == SqlType::RowVersion
    }
}

#[derive(Debug, Clone)]
pub struct Index {
    pub id: i64,
    pub name: String,
    pub primary: bool,
    pub unique: bool,
    pub clustered: bool,
    /// Column ids, and whether descending.
    pub columns: Vec<(i64, bool)>,
}

#[derive(Debug, Clone)]
pub struct Table {
    pub id: i64,
    pub schema: String,
    pub name: String,
    pub columns: Vec<Column>,
    pub indexes: Vec<Index>,
    pub next_column: i64,
    /// The column that is the row's number in the `SQLite` file.
    pub row_number: Option<i64>,
    /// The next identity.
    pub next_identity: Arc<AtomicI64>,
}

impl Table {
    /// Its name in the `SQLite` file.
    pub fn in_sqlite(&self) -> String {
        format!("t{}", self.id)
    }

    pub fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns
            .iter()
            .enumerate()
            .find(|(_, it)| it.name.eq_ignore_ascii_case(name))
    }

    pub fn column_by_id(&self, id: i64) -> Option<&Column> {
        self.columns.iter().find(|it| it.id == id)
    }

    /// The next identity value, taken.
    pub fn take_identity(&self, step: i64) -> i64 {
        self.next_identity.fetch_add(step, Ordering::SeqCst)
    }

    /// An identity that was given by hand moves the counter.
    pub fn saw_identity(&self, value: i64, step: i64) {
        self.next_identity
            .fetch_max(value.saturating_add(step), Ordering::SeqCst);
    }

    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Catalog {
    tables: BTreeMap<(String, String), Arc<Table>>,
    last_object: i64,
}

fn key(schema: &str, name: &str) -> (String, String) {
    (schema.to_lowercase(), name.to_lowercase())
}

impl Catalog {
    pub fn find(&self, name: &Name) -> Option<&Arc<Table>> {
        self.tables
            .get(&key(name.schema().unwrap_or("dbo"), name.object()))
    }

    pub fn by_id(&self, id: i64) -> Option<&Arc<Table>> {
        self.tables.values().find(|it| it.id == id)
    }

    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values()
    }

    pub fn put(&mut self, table: Table) {
        self.tables
            .insert(key(&table.schema, &table.name), Arc::new(table));
    }

    pub fn remove(&mut self, name: &Name) {
        self.tables
            .remove(&key(name.schema().unwrap_or("dbo"), name.object()));
    }

    pub fn next_object(&mut self) -> i64 {
        self.last_object += 16;
        245_575_913 + self.last_object
    }
}
