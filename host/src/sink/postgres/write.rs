//! One attempt's transaction: flushes by COPY, the checkpoint as the last statement before COMMIT.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::Prepared;
use super::checkpoint::{self, cursor_text};
use super::encode::{Encoder, HEADER, TRAILER};
use super::swap::shadow_name;
use super::table::{self, PgTable};
use crate::checkpoint::Checkpoint;
use crate::config::WriteMode;
use crate::error::{Error, ErrorKind, Result};
use crate::identifier::{quote, quote_list};
use crate::pool::PostgresLease;
use crate::sink::key::{Reduced, reduce};
use crate::sink::nul::NulFilter;
use crate::sink::{
    Chunk, Claim, CursorChange, Flush, PartitionWriter, RangeDelete, Refusal, TableSpec, Written,
    fenced, unlike_partitions,
};

/// Bytes that are handed to the connection at a time.
const FRAME: usize = 256 * 1024;

/// One attempt's connection and transaction.
pub struct PostgresWriter {
    lease: PostgresLease,
    claim: Claim,
    checkpoint: Checkpoint,
    prepared: Prepared,
    tables: Arc<Vec<PgTable>>,
    in_transaction: bool,
    nuls: NulFilter,
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
        }
    }

    fn client(&self) -> Result<&Client> {
        self.lease.client()
    }

    /// Makes the tables ready, once per run, on this attempt's own connection.
    async fn prepare(&self, specs: &[TableSpec]) -> Result<Arc<Vec<PgTable>>> {
        let mut prepared = self.prepared.lock().await;
        // A retry looks again: after a failover the server may have lost what it had committed.
        if let Some(tables) = prepared.as_ref().filter(|_| !self.claim.retry) {
            return if tables.iter().map(|table| &table.spec).eq(specs) {
                Ok(tables.clone())
            } else {
                Err(unlike_partitions())
            };
        }
        let mut tables = Vec::with_capacity(specs.len());
        for spec in specs {
            tables.push(table::prepare(self.client()?, spec).await?);
        }
        let tables = Arc::new(tables);
        *prepared = Some(tables.clone());
        Ok(tables)
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
        }
        Ok(())
    }

    async fn upsert(
        &self,
        table: &PgTable,
        index: usize,
        reduced: &Reduced,
        key: &[String],
    ) -> Result<Written> {
        let stage = stage_name(index);
        let client = self.client()?;
        let mut written = copy(client, &stage, table, &reduced.batches).await?;
        let columns = table.column_list();
        let updates: Vec<String> = table
            .columns
            .iter()
            .filter(|(_, name, _)| !key.contains(name))
            .map(|(_, name, _)| format!("{0} = EXCLUDED.{0}", quote(name)))
            .collect();
        let action = if updates.is_empty() {
            "NOTHING".to_owned()
        } else {
            format!("UPDATE SET {}", updates.join(", "))
        };
        let key = quote_list(key.iter().map(String::as_str));
        // In the key's order, so that two writers cannot wait for each other.
        let merged = client
            .execute(
                &format!(
                    "INSERT INTO {} ({columns}) SELECT {columns} FROM {stage} ORDER BY {key} ON CONFLICT ({key}) DO {action}",
                    table.name()
                ),
                &[],
            )
            .await?;
        if !updates.is_empty() && merged != written.loaded {
            return Err(Error::new(
                ErrorKind::Ledger,
                format!("the merge took {merged} of {} rows", written.loaded),
            ));
        }
        client.batch_execute(&format!("TRUNCATE {stage}")).await?;
        written.superseded = reduced.superseded;
        // Back to the rows as they came in.
        for refusal in &mut written.refused {
            let original = reduced
                .origin
                .get(refusal.batch)
                .and_then(|rows| rows.get(refusal.row));
            refusal.row = original.copied().unwrap_or(refusal.row);
        }
        written.refused.extend(reduced.refused.iter().cloned());
        Ok(written)
    }
}

/// Sends batches by binary COPY. Rows that a column cannot hold are left out and told.
async fn copy(
    client: &Client,
    target: &str,
    table: &PgTable,
    batches: &[RecordBatch],
) -> Result<Written> {
    let sql = format!(
        "COPY {target} ({}) FROM STDIN (FORMAT binary)",
        table.column_list()
    );
    let sink = client.copy_in::<_, Bytes>(&sql).await?;
    futures_util::pin_mut!(sink);
    let mut frame = BytesMut::with_capacity(FRAME + FRAME / 4);
    let mut row_bytes = Vec::with_capacity(1024);
    let mut written = Written::default();
    let fields = i16::try_from(table.columns.len())
        .map_err(|_| Error::data("PostgreSQL tables have at most 1,600 columns"))?
        .to_be_bytes();
    frame.extend_from_slice(HEADER);
    for (index, batch) in batches.iter().enumerate() {
        // Scoped so that no borrowed encoder lives across an await.
        let mut row = 0;
        while row < batch.num_rows() {
            {
                let encoders = table
                    .columns
                    .iter()
                    .map(|(column, _, data_type)| Encoder::new(batch.column(*column), *data_type))
                    .collect::<Result<Vec<_>>>()?;
                while row < batch.num_rows() && frame.len() < FRAME {
                    row_bytes.clear();
                    row_bytes.extend_from_slice(&fields);
                    let fault =
                        encoders
                            .iter()
                            .zip(&table.columns)
                            .find_map(|(encoder, (_, name, _))| {
                                encoder
                                    .encode(row, &mut row_bytes)
                                    .err()
                                    .map(|reason| (name, reason))
                            });
                    match fault {
                        None => {
                            frame.extend_from_slice(&row_bytes);
                            written.loaded += 1;
                        }
                        Some((column, reason)) => written.refused.push(Refusal {
                            batch: index,
                            row,
                            column: column.clone(),
                            reason: reason.to_owned(),
                        }),
                    }
                    row += 1;
                }
            }
            if frame.len() >= FRAME {
                sink.send(frame.split().freeze()).await?;
            }
        }
    }
    frame.extend_from_slice(TRAILER);
    sink.send(frame.freeze()).await?;
    let counted = sink.finish().await?;
    if counted != written.loaded {
        return Err(Error::new(
            ErrorKind::Ledger,
            format!(
                "sent {} rows by COPY, but the server took {counted}",
                written.loaded
            ),
        ));
    }
    Ok(written)
}

#[async_trait]
impl PartitionWriter for PostgresWriter {
    fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    async fn open_tables(&mut self, tables: &[TableSpec]) -> Result<()> {
        self.tables = self.prepare(tables).await?;
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
        Ok(())
    }

    async fn write(&mut self, flush: &Flush) -> Result<Written> {
        self.enter_transaction().await?;
        let table = self.table(flush.table)?;
        let columns = table
            .columns
            .iter()
            .map(|(index, name, _)| (*index, name.as_str()))
            .collect::<Vec<_>>();
        let batches = self
            .nuls
            .clean(&table.spec.name, &columns, &flush.batches)?;
        let client = self.client()?;
        match &table.spec.mode {
            WriteMode::Append => copy(client, &table.name(), &table, &batches).await,
            WriteMode::Replace => {
                let shadow =
                    shadow_name(&self.claim.tenure.pipeline, self.claim.index, flush.table);
                copy(client, &shadow, &table, &batches).await
            }
            WriteMode::Upsert { key, .. } => {
                let reduced = reduce(&batches, key)?;
                self.upsert(&table, flush.table, &reduced, key).await
            }
        }
    }

    async fn commit(&mut self, chunk: &Chunk) -> Result<()> {
        self.enter_transaction().await?;
        let client = self.client()?;
        checkpoint::write_dead_letters(client, &self.claim, &chunk.run_id, &chunk.dead_letters)
            .await?;
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
                "UPDATE etl_host.checkpoints SET cursor = CASE WHEN $4 THEN cursor ELSE $5 END, fingerprint = $6, \
                 run_id = $7, ledger = $8, updated_at = now() WHERE pipeline = $1 AND partition = $2 AND epoch = $3",
                &[
                    &self.claim.tenure.pipeline,
                    &self.claim.partition,
                    &self.checkpoint.epoch,
                    &keep,
                    &cursor,
                    &chunk.fingerprint,
                    &chunk.run_id,
                    &ledger,
                ],
            )
            .await?;
        if mine != 1 {
            return Err(fenced(&self.claim.partition));
        }
        client.batch_execute("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
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
