//! Takes rows and writes nothing: for `--dry-run`.

use async_trait::async_trait;

use super::{Chunk, Committed, Flush, PartitionWriter, RangeDelete, TableSpec, Written};
use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// A writer that only counts.
pub struct DryRunWriter {
    checkpoint: Checkpoint,
}

impl DryRunWriter {
    /// Starts at a checkpoint that was read, not claimed.
    pub fn new(checkpoint: Checkpoint) -> Self {
        Self { checkpoint }
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

    async fn commit(&mut self, _chunk: &Chunk) -> Result<Committed> {
        Ok(Committed::default())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
