//! One attempt's transaction: flushes under savepoints, rows that the server refuses found by halving, the checkpoint as
//! the last statement before COMMIT.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::Prepared;
use super::checkpoint::{self, cursor_text};
use super::copy::{copy, merge};
use super::dead_letters;
use super::fault::{Fault, RowFault};
use super::swap::shadow_name;
use super::table::{self, PgTable};
use crate::checkpoint::{Checkpoint, WrittenTable, columns_text};
use crate::config::{KeyScope, WriteMode};
use crate::error::{Error, Result};
use crate::identifier::{quote, quote_table};
use crate::pool::PostgresLease;
use crate::sink::drift;
use crate::sink::key::reduce;
use crate::sink::nul::NulFilter;
use crate::sink::part::Part;
use crate::sink::{
    Chunk, Claim, Committed, CursorChange, Flush, Keep, PartitionWriter, RangeDelete, Refusal,
    TableSpec, Written, fenced, table_gone,
};

/// One attempt's connection and transaction.
pub struct PostgresWriter {
    lease: PostgresLease,
    claim: Claim,
    checkpoint: Checkpoint,
    prepared: Prepared,
    tables: Arc<Vec<PgTable>>,
    in_transaction: bool,
    nuls: NulFilter,
    /// By table.
    direct: Vec<Direct>,
}

impl PostgresWriter {
    pub(super) fn new(
        lease: PostgresLease,
        claim: Claim,
        checkpoint: Checkpoint,
        prepared: Prepared,
        nuls: NulFilter,
    ) -> Self {
        Self {
            lease,
            claim,
            checkpoint,
            prepared,
            tables: Arc::default(),
            in_transaction: false,
            nuls,
            direct: Vec::new(),
        }
    }

    fn client(&self) -> Result<&Client> {
        self.lease.client()
    }

    /// Makes the tables ready, on this attempt's own connection. Each attempt looks for itself: somebody may have changed
    /// a table, and after a failover the server may have lost what it had committed.
    async fn prepare(&self, specs: &[TableSpec]) -> Result<Arc<Vec<PgTable>>> {
        let mut prepared = self.prepared.lock().await;
        let partition = &self.claim.partition;
        prepared.require_alike(partition, specs)?;
        let mut tables = Vec::with_capacity(specs.len());
        for spec in specs {
            if self.claim.replay {
                self.require_table(spec).await?;
            }
            let table = table::prepare(self.client()?, spec, &mut prepared.refused).await?;
            let before = self.claim.columns_before(&self.checkpoint);
            for warning in drift::check(partition, spec, before, &table)? {
                tracing::warn!(pipeline = self.claim.tenure.pipeline, "{warning}");
            }
            tables.push(table);
        }
        let tables = Arc::new(tables);
        prepared.keep(partition, specs, tables.clone());
        Ok(tables)
    }

    /// A replay makes no table: under another name by now, its rows are elsewhere.
    async fn require_table(&self, spec: &TableSpec) -> Result<()> {
        let there: bool = self
            .client()?
            .query_one(
                "SELECT to_regclass($1) IS NOT NULL",
                &[&quote_table(&spec.name)],
            )
            .await?
            .try_get(0)?;
        if there { Ok(()) } else { Err(table_gone(spec)) }
    }

    /// The columns that are written, for the checkpoint; nothing if that is to keep those it has.
    fn written_columns(&self) -> Vec<WrittenTable> {
        if self.claim.replay {
            return Vec::new();
        }
        drift::written(self.tables.iter().map(|table| {
            let columns = table.columns.iter().map(|(index, ..)| *index);
            (&table.spec, columns.collect())
        }))
    }

    fn table(&self, index: usize) -> Result<PgTable> {
        self.tables
            .get(index)
            .cloned()
            .ok_or_else(|| Error::internal(format!("there is no output table number {index}")))
    }

    async fn enter_transaction(&mut self) -> Result<()> {
        if !self.in_transaction {
            self.client()?.batch_execute("BEGIN").await?;
            self.in_transaction = true;
            let client = self.client()?;
            for table in self.tables.iter() {
                // The rows of a `replace` wait in a shadow.
                if table.spec.mode != WriteMode::Replace {
                    table::hold(client, table).await?;
                }
            }
        }
        Ok(())
    }

    /// Loads rows, part by part where the server refuses some: each part has a savepoint of its own.
    async fn load(
        &mut self,
        table: &PgTable,
        index: usize,
        batches: &[RecordBatch],
        most_refused: u64,
    ) -> Result<Written> {
        let mut written = Written::default();
        let mut waiting = vec![Part::whole(batches)];
        // Rows that lack another one, which may be a later row of this very flush.
        let mut orphans = Vec::new();
        let mut loaded_before = 0;
        loop {
            let Some(part) = waiting.pop() else {
                // As long as rows come in, others may find what they lack.
                if orphans.is_empty() || written.loaded == loaded_before {
                    break;
                }
                loaded_before = written.loaded;
                waiting = orphans.drain(..).rev().map(|(part, _)| part).collect();
                continue;
            };
            let direct = self.direct.get(index).is_some_and(Direct::is_on);
            self.client()?.batch_execute("SAVEPOINT part").await?;
            let fault = match self.load_part(table, index, &part, direct).await {
                Ok(done) => {
                    written.add(done);
                    self.client()?
                        .batch_execute("RELEASE SAVEPOINT part")
                        .await?;
                    continue;
                }
                Err(fault) => fault,
            };
            let merge_instead = direct && fault.is_about_the_way();
            let fault = match fault {
                Fault::Other(error) if !merge_instead => return Err(error),
                fault => fault,
            };
            self.client()?
                .batch_execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
                .await?;
            match (fault, part.first()) {
                _ if merge_instead => {
                    if let Some(direct) = self.direct.get_mut(index) {
                        direct.pause();
                    }
                    waiting.push(part);
                }
                (Fault::Row(fault), _) if part.rows() == 1 && fault.is_foreign_key() => {
                    orphans.push((part, fault));
                }
                (Fault::Row(fault), Some(place)) if part.rows() == 1 => {
                    written.refused.push(refusal(place, fault));
                }
                // No row is to blame where there is none.
                (fault, None) => return Err(fault.into()),
                _ => {
                    let (first, second) = part.halve();
                    waiting.extend([second, first]);
                }
            }
            if written.refused.len() as u64 > most_refused {
                break;
            }
        }
        let orphans = orphans.into_iter();
        written
            .refused
            .extend(orphans.filter_map(|(part, fault)| Some(refusal(part.first()?, fault))));
        written
            .refused
            .sort_by_key(|refusal| (refusal.batch, refusal.row));
        if let Some(direct) = self.direct.get_mut(index) {
            direct.tick();
        }
        Ok(written)
    }

    async fn load_part(
        &self,
        table: &PgTable,
        index: usize,
        part: &Part,
        direct: bool,
    ) -> Result<Written, Fault> {
        let client = self.client()?;
        match &table.spec.mode {
            WriteMode::Append => copy(client, &table.name(), table, part).await,
            WriteMode::Replace => {
                let shadow = shadow_name(&self.claim.tenure.pipeline, self.claim.index, index);
                copy(client, &shadow, table, part).await
            }
            WriteMode::Upsert { .. } if direct => copy(client, &table.name(), table, part).await,
            WriteMode::Upsert { key, .. } => {
                merge(client, &stage_name(index), table, part, key).await
            }
        }
    }

    /// Writes rows with one row per key, in its order, and tells of refused rows where they were before.
    async fn upsert(
        &mut self,
        table: &PgTable,
        index: usize,
        batches: &[RecordBatch],
        key: &[String],
        most_refused: u64,
    ) -> Result<Written> {
        let reduced = reduce(batches, key, table.order_of(key))?;
        let mut written = self
            .load(table, index, &reduced.batches, most_refused)
            .await?;
        for refusal in &mut written.refused {
            (refusal.batch, refusal.row) = reduced.origin(refusal.batch, refusal.row);
        }
        written.superseded += reduced.superseded;
        written.refused.extend(reduced.refused);
        Ok(written)
    }
}

fn refusal((batch, row): (usize, usize), fault: RowFault) -> Refusal {
    Refusal {
        batch,
        row,
        column: fault.column,
        reason: fault.reason,
        told: fault.told,
    }
}

/// Whether an upsert copies rows straight into the table, which is the faster way as long as their keys are new.
#[derive(Debug)]
struct Direct {
    allowed: bool,
    pause: u32,
}

/// Flushes that are merged after one whose keys were not all new.
const FLUSHES_MERGED: u32 = 16;

impl Direct {
    /// Keys that several partitions write are merged: in the key's order, so that two of them do not wait for each
    /// other. Rows that may have to yield are merged too.
    fn of(spec: &TableSpec) -> Self {
        let apart = matches!(
            &spec.mode,
            WriteMode::Upsert {
                key_scope: KeyScope::Partition,
                ..
            }
        );
        Self {
            allowed: apart && spec.keep == Keep::Last,
            pause: 0,
        }
    }

    fn is_on(&self) -> bool {
        self.allowed && self.pause == 0
    }

    fn pause(&mut self) {
        // Counted down at the end of this very flush too.
        self.pause = FLUSHES_MERGED + 1;
    }

    fn tick(&mut self) {
        self.pause = self.pause.saturating_sub(1);
    }
}

#[async_trait]
impl PartitionWriter for PostgresWriter {
    fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    async fn open_tables(&mut self, tables: &[TableSpec]) -> Result<()> {
        self.tables = self.prepare(tables).await?;
        self.direct = tables.iter().map(Direct::of).collect();
        let client = self.client()?;
        for (index, table) in self.tables.iter().enumerate() {
            let columns = table.column_list();
            let name = table.name();
            match table.spec.mode {
                WriteMode::Append => {}
                WriteMode::Upsert { .. } => {
                    let stage = stage_name(index);
                    client
                        .batch_execute(&format!(
                            "DROP TABLE IF EXISTS {stage}; CREATE TEMP TABLE {stage} ON COMMIT DELETE ROWS AS SELECT {columns} FROM {name} WITH NO DATA"
                        ))
                        .await?;
                }
                WriteMode::Replace => {
                    let shadow = shadow_name(&self.claim.tenure.pipeline, self.claim.index, index);
                    client
                        .batch_execute(&format!(
                            "DROP TABLE IF EXISTS {shadow}; CREATE TABLE {shadow} AS SELECT {columns} FROM {name} WITH NO DATA"
                        ))
                        .await?;
                }
            }
        }
        Ok(())
    }

    async fn delete_range(&mut self, range: &RangeDelete) -> Result<()> {
        self.enter_transaction().await?;
        let table = self.table(range.table)?;
        let mut sql = format!(
            "DELETE FROM {} WHERE {} = $1",
            table.name(),
            quote(&range.partition_column)
        );
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.claim.partition];
        if let Some((column, after, until)) = &range.range {
            let name = quote(column);
            for (bound, operator) in [(after, ">"), (until, "<=")] {
                if let Some(bound) = bound {
                    parameters.push(bound);
                    // Writing to a String cannot fail.
                    let _ = write!(
                        sql,
                        " AND {name} {operator} {}",
                        literal(&table, column, parameters.len())
                    );
                }
            }
        }
        self.client()?.execute(&sql, &parameters).await?;
        dead_letters::close(self.client()?, &self.claim, &table.spec.name, range).await
    }

    async fn write(&mut self, flush: &Flush, most_refused: u64) -> Result<Written> {
        self.enter_transaction().await?;
        let table = self.table(flush.table)?;
        let columns = table
            .columns
            .iter()
            .map(|(index, name, _)| (*index, name.as_str()))
            .collect::<Vec<_>>();
        let batches = self
            .nuls
            .clean(&table.spec.name, &columns, &flush.batches)?
            .into_owned();
        match &table.spec.mode {
            WriteMode::Append | WriteMode::Replace => {
                self.load(&table, flush.table, &batches, most_refused).await
            }
            WriteMode::Upsert { key, .. } => {
                self.upsert(&table, flush.table, &batches, key, most_refused)
                    .await
            }
        }
    }

    async fn commit(&mut self, chunk: &Chunk) -> Result<Committed> {
        self.enter_transaction().await?;
        let client = self.client()?;
        dead_letters::write(client, &self.claim, &chunk.dead_letters).await?;
        dead_letters::mark_replayed(client, &self.claim, &chunk.replayed).await?;
        let (keep, cursor) = match &chunk.cursor {
            CursorChange::Keep => (true, None),
            CursorChange::Clear => (false, None),
            CursorChange::Set(cursor) => (false, Some(cursor_text(cursor)?)),
        };
        let ledger = serde_json::to_string(&chunk.ledger)
            .map_err(|error| Error::internal("a ledger cannot be written down").caused_by(error))?;
        // Deferred constraints speak now, while there is still something to roll back.
        client
            .batch_execute("SET CONSTRAINTS ALL IMMEDIATE")
            .await?;
        let mine = client
            .execute(
                "UPDATE etl_host.checkpoints SET cursor = CASE WHEN $4 THEN cursor ELSE $5 END, fingerprint = coalesce($6, fingerprint), \
                 run_id = $7, ledger = $8, columns = coalesce($9, columns), updated_at = now() \
                 WHERE pipeline = $1 AND partition = $2 AND epoch = $3",
                &[
                    &self.claim.tenure.pipeline,
                    &self.claim.partition,
                    &self.checkpoint.epoch,
                    &keep,
                    &cursor,
                    &chunk.fingerprint,
                    &chunk.run_id,
                    &ledger,
                    &columns_text(&self.written_columns()),
                ],
            )
            .await?;
        if mine != 1 {
            return Err(fenced(&self.claim.partition));
        }
        client.batch_execute("COMMIT").await?;
        self.in_transaction = false;
        Ok(Committed::default())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        if !self.in_transaction {
            checkpoint::release(self.client()?, &self.claim, self.checkpoint.epoch).await?;
            self.lease.give_back();
        }
        Ok(())
    }
}

/// A parameter that is text, as the type of a column.
fn literal(table: &PgTable, column: &str, parameter: usize) -> String {
    use super::types::PgType;
    let data_type = table
        .columns
        .iter()
        .find(|(_, name, _)| name == column)
        .map_or("text", |(_, _, data_type)| match data_type {
            PgType::Int2 | PgType::Int4 | PgType::Int8 | PgType::Numeric(_) => "numeric",
            PgType::Date => "date",
            PgType::Timestamp(_) => "timestamp",
            PgType::Timestamptz(_) => "timestamptz",
            _ => "text",
        });
    format!("${parameter}::text::{data_type}")
}

fn stage_name(table: usize) -> String {
    format!("pg_temp.etl_stage_{table}")
}
