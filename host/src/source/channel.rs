//! The rows of a statement that is read elsewhere, on a thread or in a task of its own, and come through a channel.
//!
//! The end is a message of its own: a reader that dies must not look like one that is done.

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{RowStream, SourceBatch};
use crate::error::{Error, ErrorKind, Result};

/// What a reader sends: batches, then `None` or an error.
pub type Batches = mpsc::Receiver<Result<Option<SourceBatch>>>;

/// What a reader knows before the first row.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The columns.
    pub schema: SchemaRef,
    /// Their types as the server declares them.
    pub declared: Vec<Option<String>>,
    /// It is known already that there are no rows.
    pub empty: bool,
}

/// How a reader is told that nobody wants its rows any more.
pub trait Stop: Send {
    /// Tells it. Said only before its end, and at most once.
    fn stop(&self);
}

/// The receiving side.
pub struct ChannelStream<S: Stop> {
    columns: Columns,
    batches: Batches,
    ended: bool,
    reader: S,
}

impl<S: Stop> ChannelStream<S> {
    /// Waits for the columns. A reader that fails before it knows them says why where the batches come.
    pub async fn open(
        columns: oneshot::Receiver<Columns>,
        batches: Batches,
        reader: S,
    ) -> Result<Self> {
        let mut stream = Self {
            columns: Columns {
                schema: SchemaRef::new(arrow_schema::Schema::empty()),
                declared: Vec::new(),
                empty: false,
            },
            batches,
            ended: false,
            reader,
        };
        if let Ok(columns) = columns.await {
            stream.columns = columns;
            return Ok(stream);
        }
        let failed = stream.batches.recv().await;
        stream.ended = true;
        match failed {
            Some(Err(error)) => Err(error),
            _ => Err(Error::internal("a reader ended without a word")),
        }
    }
}

#[async_trait]
impl<S: Stop> RowStream for ChannelStream<S> {
    fn schema(&self) -> SchemaRef {
        self.columns.schema.clone()
    }

    fn declared(&self) -> Vec<Option<String>> {
        self.columns.declared.clone()
    }

    fn is_empty(&self) -> bool {
        self.columns.empty
    }

    async fn next(&mut self) -> Result<Option<SourceBatch>> {
        if self.ended {
            return Ok(None);
        }
        let message = self.batches.recv().await.unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::Unproven,
                "the reader ended before the last row",
            ))
        });
        self.ended = !matches!(message, Ok(Some(_)));
        message
    }
}

impl<S: Stop> Drop for ChannelStream<S> {
    fn drop(&mut self) {
        if !self.ended {
            self.reader.stop();
        }
    }
}
