//! CREATE, ALTER, DROP and TRUNCATE. They take effect at once, transaction or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::params_from_iter;

use super::binder::{Binder, Surroundings, collation_named, key};
use super::catalog::{Column, Index, Table};
use super::database::Database;
use crate::stand_in::datum::Datum;
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::sql::tree::{Alter, ColumnDefinition, KeyDefinition, Name};
use crate::stand_in::types::{SqlType as T, code};

fn no_object(name: &Name) -> SqlError {
    SqlError::new(
        4902,
        format!(
            "Cannot find the object \"{name}\" because it does not exist or you do not have permissions."
        ),
    )
}

fn column_of(definition: &ColumnDefinition, id: i64, database: &Database) -> SqlResult<Column> {
    let collation = match &definition.collation {
        Some(name) => collation_named(name)?,
        None => database.collation,
    };
    let made =
        definition.identity.is_some() || definition.primary_key || definition.ty == T::RowVersion;
    Ok(Column {
        id,
        name: definition.name.clone(),
        ty: definition.ty,
        nullable: definition.nullable.unwrap_or(!made),
        collation,
        identity: definition.identity,
        default: definition.default.clone(),
    })
}

pub fn create_table(
    database: &Database,
    name: &Name,
    definitions: &[ColumnDefinition],
    keys: &[KeyDefinition],
) -> SqlResult<()> {
    let writer = database.writer();
    if database.catalog().find(name).is_some() {
        return Err(SqlError::new(
            2714,
            format!(
                "There is already an object named '{}' in the database.",
                name.object()
            ),
        ));
    }
    let mut table = Table {
        id: database.change_catalog(super::catalog::Catalog::next_object),
        schema: name.schema().unwrap_or("dbo").to_owned(),
        name: name.object().to_owned(),
        columns: Vec::new(),
        indexes: Vec::new(),
        next_column: 1,
        row_number: None,
        next_identity: Arc::new(AtomicI64::new(1)),
    };
    let mut keys = keys.to_vec();
    for definition in definitions {
        if table.column(&definition.name).is_some() {
            return Err(SqlError::new(
                2705,
                format!(
                    "Column names in each table must be unique. Column name '{}' in table '{}' is specified more than once.",
                    definition.name, table.name
                ),
            ));
        }
        if definition.primary_key || definition.unique {
            keys.push(KeyDefinition {
                name: None,
                primary: definition.primary_key,
                unique: true,
                clustered: None,
                columns: vec![(definition.name.clone(), false)],
            });
        }
        let column = column_of(definition, table.next_column, database)?;
        if let Some((seed, _)) = column.identity {
            table.next_identity.store(seed, Ordering::SeqCst);
        }
        table.next_column += 1;
        table.columns.push(column);
    }
    // A key that is one integer is the row's number: reading by it is reading in order.
    for key in keys.iter().filter(|it| it.primary) {
        for (name, _) in &key.columns {
            if let Some(column) = table
                .columns
                .iter_mut()
                .find(|it| it.name.eq_ignore_ascii_case(name))
            {
                column.nullable = false;
            }
        }
        if let [(name, false)] = key.columns.as_slice() {
            table.row_number = table
                .column(name)
                .filter(|(_, it)| it.ty.is_integer())
                .map(|(_, it)| it.id);
        }
    }
    let list: Vec<String> = table
        .columns
        .iter()
        .map(|it| {
            let number = if table.row_number == Some(it.id) {
                " INTEGER PRIMARY KEY"
            } else {
                ""
            };
            format!("{}{number}", it.in_sqlite())
        })
        .collect();
    let mut statements = vec![format!(
        "CREATE TABLE {} ({})",
        table.in_sqlite(),
        list.join(", ")
    )];
    for key in &keys {
        statements.extend(add_key(&mut table, key)?);
    }
    writer.execute_batch(&statements.join(";\n"))?;
    database.change_catalog(|catalog| catalog.put(table));
    Ok(())
}

/// Adds an index to the catalogue's table and gives the statement for the file.
fn add_key(table: &mut Table, definition: &KeyDefinition) -> SqlResult<Option<String>> {
    let mut columns = Vec::new();
    let mut list = Vec::new();
    for (name, descending) in &definition.columns {
        let (_, column) = table.column(name).ok_or_else(|| {
            SqlError::new(
                1911,
                format!("Column name '{name}' does not exist in the target table or view."),
            )
        })?;
        columns.push((column.id, *descending));
        let by = super::binder::collated(&key(&column.in_sqlite(), column.ty), &column.typed());
        list.push(format!("{by}{}", if *descending { " DESC" } else { "" }));
    }
    let clustered = definition.clustered.unwrap_or(definition.primary)
        && !table.indexes.iter().any(|it| it.clustered);
    let id = if clustered {
        1
    } else {
        table
            .indexes
            .iter()
            .map(|it| it.id)
            .max()
            .unwrap_or(1)
            .max(1)
            + 1
    };
    let prefix = if definition.primary { "PK" } else { "UQ" };
    let name = definition
        .name
        .clone()
        .unwrap_or_else(|| format!("{prefix}__{}__{:016X}", table.name, rand::random::<u64>()));
    if table
        .indexes
        .iter()
        .any(|it| it.name.eq_ignore_ascii_case(&name))
    {
        return Err(SqlError::new(
            1913,
            format!(
                "The operation failed because an index or statistics with name '{name}' already exists on table '{}'.",
                table.full_name()
            ),
        ));
    }
    let is_row_number = definition.primary
        && matches!(columns.as_slice(), [(id, _)] if table.row_number == Some(*id));
    table.indexes.push(Index {
        id,
        name,
        primary: definition.primary,
        unique: definition.unique,
        clustered,
        columns,
    });
    if is_row_number {
        return Ok(None);
    }
    Ok(Some(format!(
        "CREATE {}INDEX i{}_{id} ON {} ({})",
        if definition.unique { "UNIQUE " } else { "" },
        table.id,
        table.in_sqlite(),
        list.join(", ")
    )))
}

fn change(
    database: &Database,
    name: &Name,
    with: impl FnOnce(&mut Table, &rusqlite::Connection) -> SqlResult<()>,
) -> SqlResult<()> {
    let writer = database.writer();
    let found = database
        .catalog()
        .find(name)
        .cloned()
        .ok_or_else(|| no_object(name))?;
    let mut table = (*found).clone();
    with(&mut table, &writer)?;
    database.change_catalog(|catalog| catalog.put(table));
    Ok(())
}

pub fn create_index(database: &Database, name: &Name, definition: &KeyDefinition) -> SqlResult<()> {
    change(database, name, |table, writer| {
        if let Some(sql) = add_key(table, definition)? {
            writer.execute_batch(&sql).map_err(|error| match super::write::duplicate(&error, table) {
                Some(_) => SqlError::new(1505, "The CREATE UNIQUE INDEX statement terminated because a duplicate key was found."),
                None => SqlError::internal(error),
            })?;
        }
        Ok(())
    })
}

pub fn drop_index(database: &Database, name: &Name, index: &str) -> SqlResult<()> {
    change(database, name, |table, writer| {
        let at = table.indexes.iter().position(|it| it.name.eq_ignore_ascii_case(index)).ok_or_else(|| {
            SqlError::new(3701, format!("Cannot drop the index '{name}.{index}', because it does not exist or you do not have permission."))
        })?;
        let index = table.indexes.remove(at);
        if index.primary {
            return Err(SqlError::new(
                3723,
                format!(
                    "An explicit DROP INDEX is not allowed on index '{}'. It is being used for PRIMARY KEY constraint enforcement.",
                    index.name
                ),
            ));
        }
        writer.execute_batch(&format!("DROP INDEX i{}_{}", table.id, index.id))?;
        Ok(())
    })
}

pub fn drop_table(database: &Database, name: &Name, if_exists: bool) -> SqlResult<()> {
    let writer = database.writer();
    let Some(table) = database.catalog().find(name).cloned() else {
        return if if_exists {
            Ok(())
        } else {
            Err(SqlError::new(
                3701,
                format!(
                    "Cannot drop the table '{name}', because it does not exist or you do not have permission."
                ),
            ))
        };
    };
    writer.execute_batch(&format!("DROP TABLE {}", table.in_sqlite()))?;
    database.change_catalog(|catalog| catalog.remove(name));
    Ok(())
}

pub fn truncate(database: &Database, name: &Name) -> SqlResult<()> {
    change(database, name, |table, writer| {
        writer.execute_batch(&format!("DELETE FROM {}", table.in_sqlite()))?;
        if let Some((seed, _)) = table.columns.iter().find_map(|it| it.identity) {
            table.next_identity.store(seed, Ordering::SeqCst);
        }
        Ok(())
    })
}

pub fn alter_table(
    database: &Database,
    name: &Name,
    what: &Alter,
    around: &Surroundings<'_>,
    taker: u64,
) -> SqlResult<()> {
    change(database, name, |table, writer| match what {
        Alter::Add(definitions) => {
            for definition in definitions {
                add_column(database, table, writer, definition, around, taker)?;
            }
            Ok(())
        }
        Alter::AddKey(definition) => {
            if let Some(sql) = add_key(table, definition)? {
                writer.execute_batch(&sql)?;
            }
            Ok(())
        }
        Alter::Drop(names) => {
            for name in names {
                let (at, id) = free_column(table, name, "DROP")?;
                table.columns.remove(at);
                // The file keeps it, unused.
                let _ = id;
            }
            Ok(())
        }
        Alter::Column(definition) => {
            let (at, id) = free_column(table, &definition.name, "ALTER")?;
            let changed = column_of(definition, id, database)?;
            let Some(column) = table.columns.get_mut(at) else {
                return Err(SqlError::no_column(&definition.name));
            };
            let name = column.in_sqlite();
            let nulls: i64 = writer.query_row(
                &format!("SELECT count(*) FROM t{} WHERE {name} IS NULL", table.id),
                [],
                |row| row.get(0),
            )?;
            if nulls > 0 && !changed.nullable {
                return Err(SqlError::new(
                    515,
                    format!(
                        "Cannot insert the value NULL into column '{}', table '{}.{}.{}'; column does not allow nulls. UPDATE fails.",
                        changed.name, database.name, table.schema, table.name
                    ),
                ));
            }
            writer.execute_batch(&format!(
                "UPDATE t{} SET {name} = t_convert({name}, {}, {}, 0, 1, 0, '{}')",
                table.id,
                code(column.ty),
                code(changed.ty),
                changed.collation.name
            ))?;
            *column = Column {
                name: column.name.clone(),
                identity: column.identity,
                default: column.default.clone(),
                ..changed
            };
            Ok(())
        }
    })
}

/// A column that no index needs.
fn free_column(table: &Table, name: &str, verb: &str) -> SqlResult<(usize, i64)> {
    let (at, column) = table.column(name).ok_or_else(|| {
        SqlError::new(4924, format!("ALTER TABLE {verb} COLUMN failed because column '{name}' does not exist in table '{}'.", table.name))
    })?;
    if let Some(index) = table
        .indexes
        .iter()
        .find(|it| it.columns.iter().any(|(id, _)| *id == column.id))
    {
        return Err(SqlError::new(
            5074,
            format!(
                "The object '{}' is dependent on column '{name}'.",
                index.name
            ),
        ));
    }
    Ok((at, column.id))
}

fn add_column(
    database: &Database,
    table: &mut Table,
    writer: &rusqlite::Connection,
    definition: &ColumnDefinition,
    around: &Surroundings<'_>,
    taker: u64,
) -> SqlResult<()> {
    if table.column(&definition.name).is_some() {
        return Err(SqlError::new(
            2705,
            format!(
                "Column names in each table must be unique. Column name '{}' in table '{}' is specified more than once.",
                definition.name, table.name
            ),
        ));
    }
    let column = column_of(definition, table.next_column, database)?;
    let rows: Vec<i64> = {
        let mut statement = writer.prepare(&format!("SELECT rowid FROM {}", table.in_sqlite()))?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect::<Result<_, _>>()?
    };
    if !rows.is_empty() && !column.nullable && column.default.is_none() && !column.is_made() {
        return Err(SqlError::new(
            4901,
            format!(
                "ALTER TABLE only allows columns to be added that can contain nulls, or have a DEFAULT definition specified, or the column being added is an identity or timestamp column. Column '{}' cannot be added to non-empty table '{}'.",
                column.name, table.name
            ),
        ));
    }
    if let Some((seed, _)) = column.identity {
        table.next_identity.store(seed, Ordering::SeqCst);
    }
    writer.execute_batch(&format!(
        "ALTER TABLE {} ADD COLUMN {}",
        table.in_sqlite(),
        column.in_sqlite()
    ))?;
    let default = match &column.default {
        Some(default) if !column.nullable => {
            let mut binder = Binder::new(around);
            let bound = binder.scalar(default)?;
            binder
                .cast(bound, column.ty, 0, true, false)?
                .constant
                .unwrap_or(Datum::Null)
        }
        _ => Datum::Null,
    };
    let sql = format!(
        "UPDATE {} SET {} = ?1 WHERE rowid = ?2",
        table.in_sqlite(),
        column.in_sqlite()
    );
    if column.is_made() || !default.is_null() {
        writer.execute_batch("BEGIN")?;
        for row in rows {
            let value = match column.identity {
                _ if column.ty == T::RowVersion => {
                    Datum::Bytes(database.next_version(taker).to_be_bytes().to_vec())
                }
                Some((_, step)) => Datum::Int(table.take_identity(step)),
                None => default.clone(),
            };
            writer
                .prepare_cached(&sql)?
                .execute(params_from_iter([value, Datum::Int(row)]))?;
        }
        writer.execute_batch("COMMIT")?;
        database.versions_done(taker);
    }
    table.next_column += 1;
    table.columns.push(column);
    Ok(())
}
