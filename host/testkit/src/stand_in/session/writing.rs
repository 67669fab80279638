//! Statements that change data or tables: INSERT, UPDATE, DELETE, and the definitions.

use std::sync::Arc;

use super::{Session, Stop};
use crate::stand_in::collation;
use crate::stand_in::engine::binder::{Variables, collation_named};
use crate::stand_in::engine::catalog::Table;
use crate::stand_in::engine::database::Database;
use crate::stand_in::engine::write::{Work, Write, apply};
use crate::stand_in::engine::{ddl, query};
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::output::Output;
use crate::stand_in::sql::tree::{Name, Rows, Statement};
use crate::stand_in::wire::bulk_load::BulkLoad;
use crate::stand_in::wire::response::command;

impl Session {
    pub(super) fn write(
        &mut self,
        statement: &Statement,
        variables: &Variables,
        out: &mut dyn Output,
    ) -> Result<(), Stop> {
        match statement {
            Statement::Insert {
                table,
                columns,
                rows,
            } => {
                let read = match rows {
                    Rows::Select(select) => query::bind(select, &self.around(variables))?.tables,
                    _ => Vec::new(),
                };
                let read: Vec<_> = read.into_iter().map(|it| it.1).collect();
                self.evaluated(table, &read, variables, out, command::INSERT, |work| {
                    work.insert(table, columns.as_deref(), rows)
                })
            }
            Statement::Update {
                table,
                sets,
                filter,
            } => {
                let read = self.table_of(table)?;
                self.evaluated(table, &[read], variables, out, command::UPDATE, |work| {
                    work.update(table, sets, filter.as_ref())
                })
            }
            Statement::Delete { table, filter } => {
                let read = self.table_of(table)?;
                self.evaluated(table, &[read], variables, out, command::DELETE, |work| {
                    work.delete(table, filter.as_ref())
                })
            }
            _ => Ok(()),
        }
    }

    /// The rows of a bulk load, after the INSERT BULK that announced them.
    pub fn bulk_load(&mut self, load: &BulkLoad, out: &mut dyn Output) -> Result<(), Stop> {
        let Some(table) = self.bulk_table.take() else {
            return Err(
                SqlError::new(4002, "A bulk load that no INSERT BULK has announced.").into(),
            );
        };
        self.evaluated(
            &table,
            &[],
            &Variables::new(),
            out,
            command::INSERT,
            |work| work.insert_bulk(&table, load),
        )
    }

    fn place(&self, name: &Name) -> SqlResult<Arc<Database>> {
        match name.database() {
            Some(database) => self.engine.database(database),
            None => Ok(Arc::clone(&self.database)),
        }
    }

    fn table_of(&self, name: &Name) -> SqlResult<Arc<Table>> {
        let found = self.place(name)?.catalog().find(name).cloned();
        found.ok_or_else(|| SqlError::no_object(&name.to_string()))
    }

    /// Evaluates a statement to its writes, and applies or keeps them.
    fn evaluated(
        &mut self,
        name: &Name,
        read: &[Arc<Table>],
        variables: &Variables,
        out: &mut dyn Output,
        command: u16,
        evaluate: impl FnOnce(&Work<'_>) -> SqlResult<Vec<Write>>,
    ) -> Result<(), Stop> {
        let table = self.table_of(name)?;
        let database = self.place(name)?;
        self.access(&database, read)?;
        let reader = self.reader(&database)?;
        // Outside of a transaction nobody writes between the reading and the writing of a statement.
        let mut alone = if self.transaction.is_none() {
            Some(database.writer())
        } else {
            None
        };
        let writer = self
            .transaction
            .as_ref()
            .map_or_else(|| self.engine.next_writer(), |it| it.writer);
        let around = self.around(variables);
        let identity_insert = self
            .identity_insert
            .as_ref()
            .is_some_and(|it| it.eq_ignore_ascii_case(&table.name));
        let evaluated = evaluate(&Work {
            around: &around,
            database: &database,
            reader: &reader,
            writer,
            identity_insert,
        });
        let applied = evaluated.and_then(|writes| match &mut alone {
            Some(connection) => apply(connection, &writes).map(|()| (writes.len(), Vec::new())),
            None => Ok((writes.len(), writes)),
        });
        if alone.is_some() {
            database.versions_done(writer);
        }
        drop(alone);
        let (count, queued) = applied?;
        if let Some(transaction) = &mut self.transaction {
            transaction
                .writes
                .extend(queued.into_iter().map(|it| (Arc::clone(&database), it)));
        }
        self.row_count = count as i64;
        out.done(command, Some(count as u64), false)?;
        Ok(())
    }

    pub(super) fn define(&mut self, statement: &Statement, variables: &Variables) -> SqlResult<()> {
        if self
            .transaction
            .as_ref()
            .is_some_and(|it| !it.writes.is_empty())
        {
            return Err(SqlError::unknown(
                "a definition in a transaction that has written",
            ));
        }
        match statement {
            Statement::CreateTable {
                name,
                columns,
                keys,
            } => ddl::create_table(&*self.place(name)?, name, columns, keys),
            Statement::CreateIndex { table, key } => {
                ddl::create_index(&*self.place(table)?, table, key)
            }
            Statement::DropIndex { table, index } => {
                ddl::drop_index(&*self.place(table)?, table, index)
            }
            Statement::DropTable { names, if_exists } => names
                .iter()
                .try_for_each(|name| ddl::drop_table(&*self.place(name)?, name, *if_exists)),
            Statement::AlterTable { table, change } => {
                let around = self.around(variables);
                ddl::alter_table(
                    &*self.place(table)?,
                    table,
                    change,
                    &around,
                    self.engine.next_writer(),
                )
            }
            Statement::Truncate(name) => ddl::truncate(&*self.place(name)?, name),
            Statement::CreateDatabase(name, collation) => {
                let collation = match collation {
                    Some(name) => collation_named(name)?,
                    None => collation::default(),
                };
                self.engine.create_database(name, collation)
            }
            Statement::DropDatabase { names, if_exists } => names
                .iter()
                .try_for_each(|name| self.engine.drop_database(name, *if_exists)),
            Statement::AlterDatabase {
                name,
                allow_snapshot,
                read_committed_snapshot,
            } => {
                let database = if name.is_empty() {
                    Arc::clone(&self.database)
                } else {
                    self.engine.database(name)?
                };
                database.set_options(|options| {
                    options.allow_snapshot = allow_snapshot.unwrap_or(options.allow_snapshot);
                    options.read_committed_snapshot =
                        read_committed_snapshot.unwrap_or(options.read_committed_snapshot);
                });
                Ok(())
            }
            _ => Err(SqlError::unknown("this statement")),
        }
    }
}
