//! Drives a plugin's own loader between the runtime and the sink's transaction.
//!
//! A transactional loader passes its rows on to the host and is exactly once by itself. An idempotent one is given a
//! token with every commit and tells the last one it holds, which settles a commit whose answer was lost. One that
//! delivers at least once is what it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use etl_plugin_api::{
    CommitToken, Cursor, Delivery, LoadContext, Loaded, Loader, Origin, Outcome, Output, Rejection,
    StageError, TableSchema,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::blocking;
use super::context::{HostContext, delegate_context};
use crate::checkpoint::{Checkpoint, Ledger};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{Chunk, Committed, CursorChange, Flush, PartitionWriter, Refusal, Written};

type SharedWriter = Arc<Mutex<Box<dyn PartitionWriter>>>;

/// What a token says to the host. To the loader it is opaque.
#[derive(Debug, Serialize, Deserialize)]
struct TokenText {
    epoch: i64,
    cursor: Option<Cursor>,
    /// The run and its books with this commit, which the sink never got.
    run_id: String,
    ledger: Ledger,
}

/// A commit that the loader holds and the checkpoint does not know.
#[derive(Clone, Debug)]
pub struct Unsettled {
    /// Its position.
    pub cursor: Cursor,
    /// The run it belongs to.
    pub run_id: String,
    /// The run's books with it.
    pub ledger: Ledger,
}

/// Whether the loader's last commit is one whose answer the sink never got. Attempts that ended before they came to the
/// loader may lie between; what is older than a change by hand does not count.
fn in_doubt(text: &TokenText, checkpoint: &Checkpoint) -> bool {
    (checkpoint.edited_epoch + 1..checkpoint.epoch).contains(&text.epoch)
        && text.cursor != checkpoint.cursor
}

/// A plugin's loader at work, in front of the sink's writer.
pub struct LoadStage {
    /// `None` while a blocking thread uses it, and for ever after it failed.
    loader: Option<Box<dyn Loader>>,
    writer: SharedWriter,
    cx: LoaderContext,
    checkpoint: Checkpoint,
    /// The books as of the last commit.
    ledger: Ledger,
}

impl LoadStage {
    /// Opens the loader. Returns a commit that it holds and the checkpoint does not know.
    pub async fn open(
        mut loader: Box<dyn Loader>,
        delivery: Delivery,
        cx: HostContext,
        writer: Box<dyn PartitionWriter>,
        tables: Vec<TableSchema>,
        ledger: Ledger,
    ) -> Result<(Self, Option<Unsettled>)> {
        let checkpoint = writer.checkpoint().clone();
        let writer: SharedWriter = Arc::new(Mutex::new(writer));
        let cx = LoaderContext {
            cx,
            handle: Handle::current(),
            writer: (delivery == Delivery::Transactional).then(|| writer.clone()),
            written: Arc::default(),
        };
        let lent = cx.clone();
        let (loader, token) = blocking(move || {
            let token = loader
                .open(&lent, &tables)
                .map_err(|error| lent.cx.stage_error("open the loader", error))?;
            Ok((loader, token))
        })
        .await?;
        let unknown = token
            .filter(|_| delivery == Delivery::Idempotent)
            .and_then(|token| serde_json::from_str::<TokenText>(&token.0).ok())
            .filter(|text| in_doubt(text, &checkpoint))
            .and_then(|text| {
                Some(Unsettled {
                    cursor: text.cursor?,
                    run_id: text.run_id,
                    ledger: text.ledger,
                })
            });
        let stage = Self {
            loader: Some(loader),
            writer,
            cx,
            checkpoint,
            ledger,
        };
        Ok((stage, unknown))
    }

    async fn call<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut dyn Loader, &LoaderContext) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut loader = self
            .loader
            .take()
            .ok_or_else(|| Error::internal("a loader was called after it failed"))?;
        let cx = self.cx.clone();
        let (loader, result) = blocking(move || {
            let result = work(loader.as_mut(), &cx)?;
            Ok((loader, result))
        })
        .await?;
        self.loader = Some(loader);
        Ok(result)
    }

    /// Hands a flush to the loader.
    pub async fn write(&mut self, flush: &Flush) -> Result<Written> {
        let flush = flush.clone();
        let rows: usize = flush
            .batches
            .iter()
            .map(arrow_array::RecordBatch::num_rows)
            .sum();
        let written = self
            .call(move |loader, cx| {
                let mut written = Written::default();
                for (index, batch) in flush.batches.into_iter().enumerate() {
                    let output = Output {
                        table: u32::try_from(flush.table).unwrap_or(u32::MAX),
                        batch,
                        origin: Origin::SameRows,
                    };
                    let loaded = loader
                        .load(cx, &output)
                        .map_err(|error| cx.cx.stage_error("load", error))?;
                    written.loaded += loaded.loaded;
                    written.superseded += loaded.superseded;
                    written.refused.extend(
                        loaded
                            .rejected
                            .into_iter()
                            .map(|rejection| cx.cx.redact_rejection(rejection))
                            .map(|rejection| Refusal {
                                batch: index,
                                row: rejection.row as usize,
                                column: rejection.column.unwrap_or_default(),
                                reason: rejection.reason,
                                told: String::new(),
                            }),
                    );
                }
                Ok(written)
            })
            .await?;
        let settled = written.loaded + written.superseded + written.refused.len() as u64;
        if settled != rows as u64 {
            return Err(Error::new(
                ErrorKind::Ledger,
                format!("the loader was given {rows} rows and accounts for {settled}"),
            )
            .hint("count every row as loaded, superseded or rejected"));
        }
        Ok(written)
    }

    /// Lets the loader commit, then the sink: a commit in doubt is always one that the loader has and the sink may not.
    /// Dead letters go first, because a settled commit could not bring them any more.
    pub async fn commit(&mut self, chunk: &Chunk) -> Result<Committed> {
        let mut chunk = chunk.clone();
        if let Some(written) = self.cx.written() {
            if written != chunk.ledger.loaded - self.ledger.loaded {
                return Err(Error::new(
                    ErrorKind::Ledger,
                    format!(
                        "the loader counts {} rows as loaded since the last commit, but wrote {written} through the host",
                        chunk.ledger.loaded - self.ledger.loaded
                    ),
                )
                .hint("pass every row on to `LoadContext::write`, and return what it returns"));
            }
        } else if !chunk.dead_letters.is_empty() {
            let letters = Chunk {
                cursor: CursorChange::Keep,
                ledger: self.ledger,
                ..chunk.clone()
            };
            self.writer.lock().await.commit(&letters).await?;
            chunk.dead_letters.clear();
        }
        let cursor = match &chunk.cursor {
            CursorChange::Keep => self.checkpoint.cursor.clone(),
            CursorChange::Clear => None,
            CursorChange::Set(cursor) => Some(cursor.clone()),
        };
        let text = TokenText {
            epoch: self.checkpoint.epoch,
            cursor,
            run_id: chunk.run_id.clone(),
            ledger: chunk.ledger,
        };
        let token = serde_json::to_string(&text)
            .map_err(|error| Error::internal("a token cannot be written down").caused_by(error))?;
        self.call(move |loader, cx| {
            loader
                .commit(cx, &CommitToken(token))
                .map_err(|error| cx.cx.stage_error("commit the loader", error))
        })
        .await?;
        let committed = self.writer.lock().await.commit(&chunk).await?;
        self.ledger = chunk.ledger;
        self.ledger
            .settle(committed.superseded, committed.refused.len() as u64);
        self.cx.start_counting();
        Ok(committed)
    }

    /// Commits in the sink only: for a position that the loader has committed before.
    pub async fn settle(&mut self, chunk: &Chunk) -> Result<()> {
        self.writer.lock().await.commit(chunk).await.map(drop)
    }

    /// Closes the loader, and gives the writer back if nobody uses it any more.
    pub async fn close(
        mut self,
        outcome: Outcome,
    ) -> (Result<()>, Option<Box<dyn PartitionWriter>>) {
        let closed = self
            .call(move |loader, cx| {
                loader
                    .close(outcome)
                    .map_err(|error| cx.cx.stage_error("close the loader", error))
            })
            .await;
        drop(self.cx);
        (closed, Arc::into_inner(self.writer).map(Mutex::into_inner))
    }
}

#[derive(Clone)]
struct LoaderContext {
    cx: HostContext,
    handle: Handle,
    /// Only a transactional loader may write through the host.
    writer: Option<SharedWriter>,
    /// Rows it wrote through the host since the last commit.
    written: Arc<AtomicU64>,
}

impl LoaderContext {
    /// Rows written through the host since the last commit; `None` if the loader writes elsewhere.
    fn written(&self) -> Option<u64> {
        self.writer
            .as_ref()
            .map(|_| self.written.load(Ordering::SeqCst))
    }

    fn start_counting(&self) {
        self.written.store(0, Ordering::SeqCst);
    }
}

delegate_context!(LoaderContext);

impl LoadContext for LoaderContext {
    fn write(&self, output: &Output) -> etl_plugin_api::Result<Loaded> {
        let Some(writer) = &self.writer else {
            return Err(StageError::fatal(
                "only a loader whose manifest says `Delivery::Transactional` writes through the host",
            ));
        };
        let flush = Flush {
            table: output.table as usize,
            batches: vec![output.batch.clone()],
        };
        let written = self
            .handle
            .block_on(async { writer.lock().await.write(&flush, u64::MAX).await })?;
        self.written.fetch_add(written.loaded, Ordering::SeqCst);
        Ok(Loaded {
            loaded: written.loaded,
            superseded: written.superseded,
            rejected: written
                .refused
                .into_iter()
                .map(|refusal| Rejection {
                    row: u32::try_from(refusal.row).unwrap_or(u32::MAX),
                    column: Some(refusal.column),
                    reason: refusal.reason,
                })
                .collect(),
        })
    }
}
