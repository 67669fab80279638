//! A limit on each step of an attempt's writing, so that a server that is gone without a word is given up.
//!
//! A step that runs out of time leaves its transaction to the server: the connection is closed, not given back, and
//! whether a commit happened is learnt by the next attempt.

use std::time::Duration;

use async_trait::async_trait;

use super::{Chunk, Committed, Flush, PartitionWriter, RangeDelete, TableSpec, Written};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, ErrorKind, Result};

/// Another writer, whose steps may take so long.
pub struct TimedWriter {
    inner: Box<dyn PartitionWriter>,
    step: Duration,
}

impl TimedWriter {
    /// A writer with this limit on each step.
    pub fn new(inner: Box<dyn PartitionWriter>, step: Duration) -> Self {
        Self { inner, step }
    }
}

/// Waits for a step, and no longer than this.
pub async fn within<T>(
    limit: Duration,
    what: &str,
    step: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, step).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Timeout,
            format!("{what}: the sink did not answer within {limit:?}"),
        )
        .hint("look whether something on the server holds a lock, or whether the network swallows packets; raise `sink.timeouts.step` if the server only needs longer"))
    })
}

#[async_trait]
impl PartitionWriter for TimedWriter {
    fn checkpoint(&self) -> &Checkpoint {
        self.inner.checkpoint()
    }

    async fn open_tables(&mut self, tables: &[TableSpec]) -> Result<()> {
        within(self.step, "open the tables", self.inner.open_tables(tables)).await
    }

    async fn delete_range(&mut self, range: &RangeDelete) -> Result<()> {
        // As long as the attempt may take: how many rows there are to delete is not known.
        self.inner.delete_range(range).await
    }

    async fn write(&mut self, flush: &Flush, most_refused: u64) -> Result<Written> {
        let writing = self.inner.write(flush, most_refused);
        within(self.step, "load rows", writing).await
    }

    async fn commit(&mut self, chunk: &Chunk) -> Result<Committed> {
        within(self.step, "commit", self.inner.commit(chunk)).await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        within(self.step, "let the partition go", self.inner.close()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_that_never_ends_is_given_up() {
        let never = std::future::pending::<Result<()>>();
        let error = within(Duration::from_millis(1), "commit", never)
            .await
            .unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Timeout);
        assert_eq!(
            error.to_string(),
            "commit: the sink did not answer within 1ms"
        );
    }
}
