//! Writes to `PostgreSQL`: binary COPY, directly for `append` and into a staging table for `upsert`.
//!
//! Each attempt holds one pooled connection. A connection whose attempt did not end well is closed, not given back:
//! the server rolls back whatever it had open.

mod checkpoint;
mod encode;
mod table;
mod types;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use self::table::PgTable;
use self::write::PostgresWriter;
use super::{CheckpointEdit, Claim, PartitionWriter, Sink, Swap, TableSpec};
use crate::checkpoint::Checkpoint;
use crate::config::Server;
use crate::error::{Error, Result};
use crate::pool::Pools;

/// A `PostgreSQL` database, for one run.
pub struct PostgresSink {
    server: Server,
    pools: Arc<Pools>,
    tables: Arc<Mutex<Option<Arc<Vec<PgTable>>>>>,
}

impl PostgresSink {
    /// A sink on this server. Opens nothing.
    pub fn new(server: Server, pools: Arc<Pools>) -> Self {
        Self {
            server,
            pools,
            tables: Arc::default(),
        }
    }
}

#[async_trait]
impl Sink for PostgresSink {
    async fn load_checkpoints(&self, pipeline: &str) -> Result<BTreeMap<String, Checkpoint>> {
        let client = self.pools.postgres(&self.server).await?;
        checkpoint::load(&client, pipeline).await
    }

    async fn edit_checkpoint(
        &self,
        pipeline: &str,
        partition: &str,
        edit: &CheckpointEdit,
    ) -> Result<()> {
        let client = self.pools.postgres(&self.server).await?;
        checkpoint::ensure(&client).await?;
        let claim = Claim {
            pipeline: pipeline.to_owned(),
            partition: partition.to_owned(),
            index: 0,
        };
        checkpoint::edit(&client, &claim, edit).await
    }

    async fn begin(&self, claim: &Claim) -> Result<Box<dyn PartitionWriter>> {
        let client = self.pools.postgres(&self.server).await?;
        let name = format!("etl-host {}/{}", claim.pipeline, claim.partition);
        // The server cuts names at 63 bytes by itself.
        client
            .execute("SELECT set_config('application_name', $1, false)", &[&name])
            .await?;
        checkpoint::ensure(&client).await?;
        let checkpoint = checkpoint::begin(&client, claim).await?;
        Ok(Box::new(PostgresWriter::new(
            client,
            claim.clone(),
            checkpoint,
            self.tables.clone(),
        )))
    }

    async fn prepare(&self, tables: &[TableSpec]) -> Result<()> {
        let mut prepared = self.tables.lock().await;
        if let Some(prepared) = prepared.as_ref() {
            let same = prepared.iter().map(|table| &table.spec).eq(tables);
            return if same {
                Ok(())
            } else {
                Err(
                    Error::data("the partitions do not give the same columns").hint(
                        "make the shards' tables alike, or name and cast the columns in the query",
                    ),
                )
            };
        }
        let client = self.pools.postgres(&self.server).await?;
        let mut ready = Vec::with_capacity(tables.len());
        for spec in tables {
            ready.push(table::prepare(&client, spec).await?);
        }
        *prepared = Some(Arc::new(ready));
        Ok(())
    }

    async fn swap(&self, swap: &Swap) -> Result<()> {
        let tables = self.tables.lock().await.clone().unwrap_or_default();
        let client = self.pools.postgres(&self.server).await?;
        write::swap(client, &tables, swap).await
    }
}
