//! Takes rows and writes nothing: for `--dry-run` and `preview`.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Chunk, Committed, Flush, PartitionWriter, RangeDelete, TableSpec, Written};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::sample::Sample;

/// A writer that only counts, and keeps the first rows.
pub struct DryRunWriter {
    checkpoint: Checkpoint,
    partition: String,
    sample: Arc<Sample>,
}

impl DryRunWriter {
    /// Starts at a checkpoint that was read, not claimed.
    pub fn new(checkpoint: Checkpoint, partition: &str, sample: Arc<Sample>) -> Self {
        sample.begin(partition);
        Self {
            checkpoint,
            partition: partition.to_owned(),
            sample,
        }
    }
}

#[async_trait]
impl PartitionWriter for DryRunWriter {
    fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    async fn open_tables(&mut self, _tables: &[TableSpec]) -> Result<()> {
        Ok(())
    }

    async fn delete_range(&mut self, _range: &RangeDelete) -> Result<()> {
        Ok(())
    }

    async fn write(&mut self, flush: &Flush, _most_refused: u64) -> Result<Written> {
        self.sample.take(&self.partition, flush);
        let rows = flush
            .batches
            .iter()
            .map(|batch| batch.num_rows() as u64)
            .sum();
        Ok(Written {
            loaded: rows,
            ..Written::default()
        })
    }

    async fn commit(&mut self, chunk: &Chunk) -> Result<Committed> {
        self.sample.set_aside(&self.partition, &chunk.dead_letters);
        Ok(Committed::default())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
