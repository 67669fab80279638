//! Transactions, isolation and the other settings of a session.

use std::sync::Arc;

use super::{Session, Stop, Transaction};
use crate::stand_in::engine::database::Database;
use crate::stand_in::engine::write::{Write, apply};
use crate::stand_in::error::SqlError;
use crate::stand_in::output::Output;
use crate::stand_in::sql::tree::{Isolation, Setting};

impl Session {
    pub(super) fn set(&mut self, setting: &Setting, out: &mut dyn Output) -> Result<(), Stop> {
        match setting {
            Setting::NoCount(on) => out.set_no_count(*on),
            Setting::ImplicitTransactions(on) => self.implicit_transactions = *on,
            Setting::XactAbort(on) => self.xact_abort = *on,
            Setting::Isolation(level) => {
                if *level == Isolation::Snapshot
                    && self
                        .transaction
                        .as_ref()
                        .is_some_and(|it| !it.writes.is_empty() || !it.databases.is_empty())
                {
                    return Err(SqlError::new(3951, "Transaction failed because it is not allowed to change to snapshot isolation after the transaction has started.").into());
                }
                self.isolation = *level;
            }
            Setting::IdentityInsert(table, on) => {
                self.identity_insert = on.then(|| table.object().to_owned());
            }
            Setting::TextSize(_) | Setting::Ignored => {}
        }
        Ok(())
    }

    pub fn use_database(&mut self, name: &str, out: &mut dyn Output) -> Result<(), Stop> {
        let database = self.engine.database(name)?;
        out.environment(1, &database.name, &self.database.name)?;
        out.info(
            5701,
            &format!("Changed database context to '{}'.", database.name),
        )?;
        out.environment_bytes(7, &database.collation.wire, &self.database.collation.wire)?;
        self.database = database;
        Ok(())
    }

    pub fn begin(&mut self, out: &mut dyn Output) -> Result<(), Stop> {
        if let Some(transaction) = &mut self.transaction {
            transaction.depth += 1;
            return Ok(());
        }
        let writer = self.engine.next_writer();
        out.environment_bytes(8, &writer.to_le_bytes(), &[])?;
        self.transaction = Some(Transaction {
            writer,
            depth: 1,
            writes: Vec::new(),
            snapshots: Vec::new(),
            databases: Vec::new(),
        });
        Ok(())
    }

    pub fn commit(&mut self, out: &mut dyn Output) -> Result<(), Stop> {
        let Some(transaction) = &mut self.transaction else {
            return Err(SqlError::new(
                3902,
                "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION.",
            )
            .into());
        };
        transaction.depth -= 1;
        if transaction.depth > 0 {
            return Ok(());
        }
        let writes = std::mem::take(&mut transaction.writes);
        let mut databases: Vec<Arc<Database>> = Vec::new();
        for (database, _) in &writes {
            if !databases.iter().any(|it| it.id == database.id) {
                databases.push(Arc::clone(database));
            }
        }
        for database in databases {
            let of_it: Vec<Write> = writes
                .iter()
                .filter(|it| it.0.id == database.id)
                .map(|it| it.1.clone())
                .collect();
            if let Err(error) = apply(&mut database.writer(), &of_it) {
                self.rollback(out)?;
                return Err(error.into());
            }
        }
        self.finish(9, out)
    }

    pub fn rollback(&mut self, out: &mut dyn Output) -> Result<(), Stop> {
        self.finish(10, out)
    }

    fn finish(&mut self, environment: u8, out: &mut dyn Output) -> Result<(), Stop> {
        if let Some(descriptor) = self.abandon() {
            out.environment_bytes(environment, &[], &descriptor.to_le_bytes())?;
        }
        Ok(())
    }

    /// Ends the transaction without a word; what is not applied is lost.
    pub(super) fn abandon(&mut self) -> Option<u64> {
        let transaction = self.transaction.take()?;
        for reader in &transaction.snapshots {
            let _ = reader.execute_batch("ROLLBACK");
        }
        for database in self.engine.databases() {
            database.versions_done(transaction.writer);
        }
        Some(transaction.writer)
    }
}
