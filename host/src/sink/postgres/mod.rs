//! Writes to `PostgreSQL`: binary COPY, directly for `append` and into a staging table for `upsert`.
//!
//! Each attempt holds one pooled connection. A connection whose attempt did not end well is closed, not given back:
//! the server rolls back whatever it had open.

mod checkpoint;
mod copy;
mod dead_letters;
mod due;
// Open for `benches/micro`, as `types` is.
#[doc(hidden)]
pub mod encode;
mod examine;
mod fault;
mod host_tables;
mod json;
mod lease;
mod ranges;
mod session;
mod swap;
pub(super) mod table;
#[doc(hidden)]
pub mod types;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use self::table::PgTable;
use self::write::PostgresWriter;
use super::drift::{self, SharedTables};
use super::nul::NulFilter;
use super::timed::{TimedWriter, within};
use super::{
    CheckpointEdit, Claim, EditIf, Examination, LetterFilter, PartitionWriter, Sink, StoredRanges,
    Swap, TableLayout, TablePreview, TableSpec, Tenure,
};
use crate::checkpoint::{Checkpoint, WrittenTable};
use crate::config::{NulCharacters, Server, WriteMode, WriteTimeouts};
use crate::dead_letter::StoredLetter;
use crate::error::Result;
use crate::finding::Finding;
use crate::pool::{Places, Pools};

/// The tables of a run, as the attempt that opened them last has found them.
type Prepared = Arc<Mutex<SharedTables<PgTable>>>;

/// A `PostgreSQL` database, for one run.
pub struct PostgresSink {
    server: Server,
    nuls: NulCharacters,
    timeouts: WriteTimeouts,
    pools: Arc<Pools>,
    prepared: Prepared,
}

impl PostgresSink {
    /// A sink on this server. Opens nothing.
    pub fn new(
        server: Server,
        nuls: NulCharacters,
        timeouts: WriteTimeouts,
        pools: Arc<Pools>,
    ) -> Self {
        Self {
            server,
            nuls,
            timeouts,
            pools,
            prepared: Prepared::default(),
        }
    }
}

#[async_trait]
impl Sink for PostgresSink {
    async fn load_checkpoints(&self, pipeline: &str) -> Result<BTreeMap<String, Checkpoint>> {
        let lease = self.pools.postgres(&self.server).await?;
        let loading = checkpoint::load(lease.client()?, pipeline);
        let checkpoints = within(self.timeouts.step, "read the checkpoints", loading).await?;
        lease.give_back();
        Ok(checkpoints)
    }

    async fn load_dead_letters(
        &self,
        pipeline: &str,
        filter: &LetterFilter,
    ) -> Result<Vec<StoredLetter>> {
        let lease = self.pools.postgres(&self.server).await?;
        let loading = dead_letters::load(lease.client()?, pipeline, filter);
        let letters = within(self.timeouts.step, "read the dead letters", loading).await?;
        lease.give_back();
        Ok(letters)
    }

    async fn edit_checkpoint(
        &self,
        pipeline: &str,
        partition: &str,
        edit: &CheckpointEdit,
        edit_if: &EditIf,
    ) -> Result<bool> {
        let lease = self.pools.postgres(&self.server).await?;
        let editing = async {
            host_tables::ensure(lease.client()?).await?;
            checkpoint::edit(lease.client()?, pipeline, partition, edit, edit_if).await
        };
        let edited = within(self.timeouts.step, "change the checkpoint", editing).await?;
        lease.give_back();
        Ok(edited)
    }

    async fn load_ranges(&self, pipeline: &str) -> Result<BTreeMap<String, StoredRanges>> {
        let lease = self.pools.postgres(&self.server).await?;
        let loading = ranges::load(lease.client()?, pipeline);
        let stored = within(self.timeouts.step, "read the bounds of ranges", loading).await?;
        lease.give_back();
        Ok(stored)
    }

    async fn keep_ranges(
        &self,
        pipeline: &str,
        shard: &str,
        chosen: &StoredRanges,
    ) -> Result<StoredRanges> {
        let lease = self.pools.postgres(&self.server).await?;
        let keeping = async {
            host_tables::ensure(lease.client()?).await?;
            ranges::keep(lease.client()?, pipeline, shard, chosen).await
        };
        let kept = within(self.timeouts.step, "keep the bounds of ranges", keeping).await?;
        lease.give_back();
        Ok(kept)
    }

    async fn forget_ranges(
        &self,
        pipeline: &str,
        shard: &str,
        only_unloaded: bool,
    ) -> Result<bool> {
        let lease = self.pools.postgres(&self.server).await?;
        let forgetting = async {
            host_tables::ensure(lease.client()?).await?;
            ranges::forget(lease.client()?, pipeline, shard, only_unloaded).await
        };
        let forgotten = within(
            self.timeouts.step,
            "forget the bounds of ranges",
            forgetting,
        )
        .await?;
        lease.give_back();
        Ok(forgotten)
    }

    async fn begin(&self, claim: &Claim) -> Result<Box<dyn PartitionWriter>> {
        let lease = self.pools.postgres(&self.server).await?;
        let name = format!("etl-host {}/{}", claim.tenure.pipeline, claim.partition);
        let beginning = async {
            let client = lease.client()?;
            session::introduce(client, &name).await?;
            host_tables::ensure(client).await?;
            checkpoint::begin(client, claim).await
        };
        let checkpoint = within(self.timeouts.step, "claim the partition", beginning).await?;
        let writer = PostgresWriter::new(
            lease,
            claim.clone(),
            checkpoint,
            self.prepared.clone(),
            NulFilter::new(self.nuls, claim),
        );
        Ok(Box::new(TimedWriter::new(
            Box::new(writer),
            self.timeouts.step,
        )))
    }

    async fn renew(&self, tenure: &Tenure) -> Result<()> {
        let connection = self.pools.postgres_aside(&self.server).await?;
        lease::renew(connection.client()?, tenure).await?;
        connection.give_back();
        Ok(())
    }

    async fn release(&self, tenure: &Tenure, leased: Option<&str>) -> Result<()> {
        let connection = self.pools.postgres_aside(&self.server).await?;
        lease::release(connection.client()?, tenure, leased).await?;
        connection.give_back();
        Ok(())
    }

    fn places(&self) -> Places {
        self.pools.postgres_places(&self.server)
    }

    async fn swap(&self, swap: &Swap) -> Result<()> {
        let tables = self.prepared.lock().await.tables();
        let lease = self.pools.postgres(&self.server).await?;
        swap::swap(lease.client()?, &tables, swap).await?;
        lease.give_back();
        Ok(())
    }

    async fn discard(&self, swap: &Swap) -> Result<()> {
        let tables = self.prepared.lock().await.tables();
        let lease = self.pools.postgres(&self.server).await?;
        let discarding = swap::discard(lease.client()?, tables.len(), swap);
        within(self.timeouts.step, "drop the shadow tables", discarding).await?;
        lease.give_back();
        Ok(())
    }

    async fn examine(&self, mode: &WriteMode) -> Examination {
        examine::examine(&self.pools, &self.server, mode).await
    }

    async fn examine_tables(&self, tables: &[TableSpec]) -> Vec<Finding> {
        examine::examine_tables(&self.pools, &self.server, tables).await
    }

    async fn preview_tables(
        &self,
        partition: &str,
        before: &[WrittenTable],
        tables: &[TableSpec],
    ) -> Result<TablePreview> {
        let lease = self.pools.postgres(&self.server).await?;
        let mut preview = TablePreview::default();
        let looking = async {
            for spec in tables {
                let (changes, table) = table::compare(lease.client()?, spec).await?;
                preview.statements.extend(changes.statements());
                if let Some(table) = table {
                    let warnings = drift::check(partition, spec, before, &table)?;
                    preview.warnings.extend(warnings);
                }
            }
            Ok(())
        };
        within(self.timeouts.step, "look at the tables", looking).await?;
        lease.give_back();
        Ok(preview)
    }

    async fn load_layouts(&self, tables: &[TableSpec]) -> Result<Vec<TableLayout>> {
        let lease = self.pools.postgres(&self.server).await?;
        let looking = async {
            let mut layouts = Vec::new();
            for spec in tables {
                layouts.push(table::load_layout(lease.client()?, spec).await?);
            }
            Ok(layouts)
        };
        let layouts = within(self.timeouts.step, "look at the tables", looking).await?;
        lease.give_back();
        Ok(layouts)
    }
}
