//! Statements that change data or tables: INSERT, UPDATE, DELETE, and the definitions.

use std::sync::Arc;

use super::{Session, Stop};
use crate::stand_in::collation;
use crate::stand_in::engine::binder::{Variables, collation_named};
use crate::stand_in::engine::write::{Work, apply};
use crate::stand_in::engine::{ddl, query};
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::output::Output;
use crate::stand_in::sql::tree::{Name, Rows, Statement};
use crate::stand_in::wire::response::command;

impl Session {
    pub(super) fn write(
        &mut self,
        statement: &Statement,
        variables: &Variables,
        out: &mut dyn Output,
    ) -> Result<(), Stop> {
        let (name, command) = match statement {
            Statement::Insert { table, .. } => (table, command::INSERT),
            Statement::Update { table, .. } => (table, command::UPDATE),
            Statement::Delete { table, .. } => (table, command::DELETE),
            _ => return Ok(()),
        };
        let database = match name.database() {
            Some(database) => self.engine.database(database)?,
            None => Arc::clone(&self.database),
        };
        let catalog = database.catalog();
        let table = catalog
            .find(name)
            .ok_or_else(|| SqlError::no_object(&name.to_string()))?;
        match statement {
            Statement::Insert {
                rows: Rows::Select(select),
                ..
            } => {
                let read = query::bind(select, &self.around(variables))?;
                let tables: Vec<_> = read.tables.into_iter().map(|it| it.1).collect();
                self.access(&database, &tables)?;
            }
            Statement::Insert { .. } => {}
            _ => self.access(&database, &[Arc::clone(table)])?,
        }
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
        let work = Work {
            around: &around,
            database: &database,
            reader: &reader,
            writer,
            identity_insert,
        };
        let evaluated = match statement {
            Statement::Insert {
                table,
                columns,
                rows,
            } => work.insert(table, columns.as_deref(), rows),
            Statement::Update {
                table,
                sets,
                filter,
            } => work.update(table, sets, filter.as_ref()),
            Statement::Delete { table, filter } => work.delete(table, filter.as_ref()),
            _ => Ok(Vec::new()),
        };
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
        let place = |name: &Name| match name.database() {
            Some(database) => self.engine.database(database),
            None => Ok(Arc::clone(&self.database)),
        };
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
            } => ddl::create_table(&*place(name)?, name, columns, keys),
            Statement::CreateIndex { table, key } => ddl::create_index(&*place(table)?, table, key),
            Statement::DropIndex { table, index } => ddl::drop_index(&*place(table)?, table, index),
            Statement::DropTable { names, if_exists } => names
                .iter()
                .try_for_each(|name| ddl::drop_table(&*place(name)?, name, *if_exists)),
            Statement::AlterTable { table, change } => {
                let around = self.around(variables);
                ddl::alter_table(
                    &*place(table)?,
                    table,
                    change,
                    &around,
                    self.engine.next_writer(),
                )
            }
            Statement::Truncate(name) => ddl::truncate(&*place(name)?, name),
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
