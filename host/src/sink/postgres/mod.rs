//! Writes to `PostgreSQL`: binary COPY, directly for `append` and into a staging table for `upsert`.
//!
//! Each attempt holds one pooled connection. A connection whose attempt did not end well is closed, not given back:
//! the server rolls back whatever it had open.

mod checkpoint;
mod copy;
mod dead_letters;
mod encode;
mod examine;
mod fault;
mod host_tables;
mod json;
mod lease;
mod swap;
mod table;
mod types;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use self::table::PgTable;
use self::write::PostgresWriter;
use super::nul::NulFilter;
use super::{
    CheckpointEdit, Claim, Examination, LetterFilter, PartitionWriter, Sink, Swap, TableSpec,
    Tenure,
};
use crate::checkpoint::Checkpoint;
use crate::config::{NulCharacters, Server, WriteMode};
use crate::dead_letter::StoredLetter;
use crate::error::Result;
use crate::finding::Finding;
use crate::pool::{Places, Pools};

/// The tables of a run, once its first partition has made them ready.
type Prepared = Arc<Mutex<Option<Arc<Vec<PgTable>>>>>;

/// A `PostgreSQL` database, for one run.
pub struct PostgresSink {
    server: Server,
    nuls: NulCharacters,
    pools: Arc<Pools>,
    prepared: Prepared,
}

impl PostgresSink {
    /// A sink on this server. Opens nothing.
    pub fn new(server: Server, nuls: NulCharacters, pools: Arc<Pools>) -> Self {
        Self {
            server,
            nuls,
            pools,
            prepared: Prepared::default(),
        }
    }
}

#[async_trait]
impl Sink for PostgresSink {
    async fn load_checkpoints(&self, pipeline: &str) -> Result<BTreeMap<String, Checkpoint>> {
        let lease = self.pools.postgres(&self.server).await?;
        let checkpoints = checkpoint::load(lease.client()?, pipeline).await?;
        lease.give_back();
        Ok(checkpoints)
    }

    async fn load_dead_letters(
        &self,
        pipeline: &str,
        filter: &LetterFilter,
    ) -> Result<Vec<StoredLetter>> {
        let lease = self.pools.postgres(&self.server).await?;
        let letters = dead_letters::load(lease.client()?, pipeline, filter).await?;
        lease.give_back();
        Ok(letters)
    }

    async fn edit_checkpoint(
        &self,
        pipeline: &str,
        partition: &str,
        edit: &CheckpointEdit,
    ) -> Result<()> {
        let lease = self.pools.postgres(&self.server).await?;
        host_tables::ensure(lease.client()?).await?;
        checkpoint::edit(lease.client()?, pipeline, partition, edit).await?;
        lease.give_back();
        Ok(())
    }

    async fn begin(&self, claim: &Claim) -> Result<Box<dyn PartitionWriter>> {
        let lease = self.pools.postgres(&self.server).await?;
        let client = lease.client()?;
        let name = format!("etl-host {}/{}", claim.tenure.pipeline, claim.partition);
        // The server cuts names at 63 bytes by itself.
        client
            .execute("SELECT set_config('application_name', $1, false)", &[&name])
            .await?;
        host_tables::ensure(client).await?;
        let checkpoint = checkpoint::begin(client, claim).await?;
        Ok(Box::new(PostgresWriter::new(
            lease,
            claim.clone(),
            checkpoint,
            self.prepared.clone(),
            NulFilter::new(self.nuls, claim),
        )))
    }

    async fn renew(&self, tenure: &Tenure) -> Result<()> {
        let connection = self.pools.postgres_aside(&self.server).await?;
        lease::renew(connection.client()?, tenure).await?;
        connection.give_back();
        Ok(())
    }

    async fn release(&self, tenure: &Tenure) -> Result<()> {
        let connection = self.pools.postgres_aside(&self.server).await?;
        lease::release(connection.client()?, tenure).await?;
        connection.give_back();
        Ok(())
    }

    fn places(&self) -> Places {
        self.pools.postgres_places(&self.server)
    }

    async fn swap(&self, swap: &Swap) -> Result<()> {
        let tables = self.prepared.lock().await.clone().unwrap_or_default();
        let lease = self.pools.postgres(&self.server).await?;
        swap::swap(lease.client()?, &tables, swap).await?;
        lease.give_back();
        Ok(())
    }

    async fn discard(&self, swap: &Swap) -> Result<()> {
        let tables = self.prepared.lock().await.clone().unwrap_or_default();
        let lease = self.pools.postgres(&self.server).await?;
        swap::discard(lease.client()?, tables.len(), swap).await?;
        lease.give_back();
        Ok(())
    }

    async fn examine(&self, mode: &WriteMode) -> Examination {
        examine::examine(&self.pools, &self.server, mode).await
    }

    async fn examine_tables(&self, tables: &[TableSpec]) -> Vec<Finding> {
        examine::examine_tables(&self.pools, &self.server, tables).await
    }
}
