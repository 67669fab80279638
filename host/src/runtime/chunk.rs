//! The writing side of an attempt: rows gather into flushes, flushes into chunks, and a chunk is one commit.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use etl_plugin_api::Cursor;

use super::books::Books;
use super::quarantine;
use crate::checkpoint::Ledger;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::sink::{Chunk, CursorChange, DeadLetter, Flush, PartitionWriter, Written};
use crate::stage::load::LoadStage;
use crate::stage::transform::TransformedBatch;

/// Rows set aside that the log tells one by one.
const WARNINGS: u32 = 10;

/// Where rows go: straight into the sink, or through the plugin's loader.
pub enum Target {
    /// The sink's writer.
    Sink(Box<dyn PartitionWriter>),
    /// The plugin's loader in front of it.
    Loader(Box<LoadStage>),
}

impl Target {
    async fn write(&mut self, flush: &Flush) -> Result<Written> {
        match self {
            Self::Sink(writer) => writer.write(flush).await,
            Self::Loader(loader) => loader.write(flush).await,
        }
    }

    async fn commit(&mut self, chunk: &Chunk) -> Result<()> {
        match self {
            Self::Sink(writer) => writer.commit(chunk).await,
            Self::Loader(loader) => loader.commit(chunk).await,
        }
    }
}

/// What every commit of an attempt carries.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The partition.
    pub partition: String,
    /// The run.
    pub run_id: String,
    /// Server, database and query.
    pub fingerprint: String,
    /// The cursor stays where it is (`--since`).
    pub keep_cursor: bool,
    /// Everything is one commit.
    pub single_commit: bool,
    /// The transformer aggregates.
    pub aggregates: bool,
}

/// Gathers rows and commits them.
pub struct Chunker {
    target: Target,
    signature: Signature,
    plan: Arc<Plan>,
    books: Arc<Books>,
    tables: Vec<String>,
    buffers: Vec<Vec<RecordBatch>>,
    buffered: usize,
    flushes: u32,
    ledger: Ledger,
    dead_letters: Vec<DeadLetter>,
    dirty: bool,
    /// Where a commit was last possible.
    safe: Option<Cursor>,
    cursor: Option<Cursor>,
    warned: u32,
    /// Commits so far.
    pub commits: u32,
}

impl Chunker {
    /// A chunker that goes on with the books of this run's earlier commits.
    pub fn new(
        target: Target,
        signature: Signature,
        plan: Arc<Plan>,
        books: Arc<Books>,
        tables: Vec<String>,
        ledger: Ledger,
    ) -> Self {
        let buffers = tables.iter().map(|_| Vec::new()).collect();
        Self {
            target,
            signature,
            plan,
            books,
            tables,
            buffers,
            buffered: 0,
            flushes: 0,
            ledger,
            dead_letters: Vec::new(),
            dirty: false,
            safe: None,
            cursor: None,
            warned: 0,
            commits: 0,
        }
    }

    /// The last cursor that this attempt committed.
    pub fn committed_cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    /// The books so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Takes rows, and writes and commits when enough have gathered and `safe` allows it.
    pub async fn push(
        &mut self,
        extracted: u64,
        batch: TransformedBatch,
        letters: Vec<DeadLetter>,
        safe: Option<Cursor>,
    ) -> Result<()> {
        self.dirty |= extracted > 0 || !letters.is_empty() || !batch.outputs.is_empty();
        self.ledger.extracted += extracted;
        self.ledger.transformed += batch.transformed;
        self.ledger.filtered += batch.filtered;
        // Dead letters of the source and of the transformer; those of the sink come later.
        self.ledger.rejected += letters.len() as u64;
        let bad = !letters.is_empty();
        for letter in &letters {
            self.warn(letter);
        }
        self.dead_letters.extend(letters);
        for output in batch.outputs {
            self.ledger.emitted += output.batch.num_rows() as u64;
            let bytes = slice_bytes(&output.batch);
            self.ledger.bytes += bytes as u64;
            self.buffered += bytes;
            if let Some(buffer) = self.buffers.get_mut(output.table as usize)
                && output.batch.num_rows() > 0
            {
                buffer.push(output.batch);
            }
        }
        if safe.is_some() {
            self.safe.clone_from(&safe);
        }
        self.show();
        if bad {
            self.books
                .check_bad_rows(&self.signature.partition, false)?;
        }
        if self.buffered >= self.plan.config.tuning.flush_bytes {
            self.flush().await?;
        }
        let due = self.flushes >= self.plan.config.tuning.flushes_per_commit;
        if let (true, Some(safe), false, false) = (
            due,
            safe,
            self.signature.single_commit,
            self.signature.aggregates,
        ) {
            self.flush().await?;
            self.commit(Some(safe)).await?;
        }
        Ok(())
    }

    /// Writes what is left and commits for the last time.
    pub async fn finish(&mut self, cursor: Option<Cursor>) -> Result<()> {
        self.flush().await?;
        if let Some(difference) = self.ledger.difference(self.signature.aggregates) {
            return Err(Error::new(ErrorKind::Ledger, difference)
                .hint("nothing of this chunk was committed; if the plugin's counts are right, report this as a bug of the host"));
        }
        self.books.check_bad_rows(&self.signature.partition, true)?;
        let moved = cursor.is_some() && cursor != self.cursor;
        if self.dirty || moved || self.plan.options.full_refresh || self.plan.replaces() {
            self.commit(cursor).await?;
        }
        Ok(())
    }

    /// Commits what has come so far, because nothing more will. Called only where a commit is possible.
    pub async fn drain(&mut self) -> Result<()> {
        self.flush().await?;
        if self.dirty {
            self.commit(self.safe.clone()).await?;
        }
        Ok(())
    }

    /// Says why a row is set aside, for the first few: all of them are in quarantine.
    fn warn(&mut self, letter: &DeadLetter) {
        self.warned += 1;
        let column = letter.column.as_deref().unwrap_or("-");
        match self.warned {
            1..=WARNINGS => tracing::warn!(
                partition = self.signature.partition,
                stage = letter.stage,
                column,
                reason = letter.reason,
                "a row is set aside"
            ),
            _ if self.warned == WARNINGS + 1 => {
                tracing::warn!(
                    partition = self.signature.partition,
                    "further rows are set aside without a message each"
                );
            }
            _ => {}
        }
    }

    /// Gives the target back.
    pub fn into_target(self) -> Target {
        self.target
    }

    async fn flush(&mut self) -> Result<()> {
        if self.buffered == 0 && self.buffers.iter().all(Vec::is_empty) {
            return Ok(());
        }
        self.buffered = 0;
        self.flushes += 1;
        for table in 0..self.buffers.len() {
            let batches = self
                .buffers
                .get_mut(table)
                .map(std::mem::take)
                .unwrap_or_default();
            if batches.is_empty() {
                continue;
            }
            let flush = Flush { table, batches };
            let written = self.target.write(&flush).await?;
            self.ledger.loaded += written.loaded;
            self.ledger.superseded += written.superseded;
            self.ledger.refused += written.refused.len() as u64;
            let name = self.tables.get(table).cloned().unwrap_or_default();
            let bad = !written.refused.is_empty();
            for refusal in written.refused {
                let letter = quarantine::from_sink(&flush, &name, refusal)?;
                self.warn(&letter);
                self.dead_letters.push(letter);
            }
            self.show();
            if bad {
                self.books
                    .check_bad_rows(&self.signature.partition, false)?;
            }
        }
        Ok(())
    }

    async fn commit(&mut self, cursor: Option<Cursor>) -> Result<()> {
        let change = match &cursor {
            _ if self.signature.keep_cursor => CursorChange::Keep,
            Some(cursor) => CursorChange::Set(cursor.clone()),
            None if self.plan.options.full_refresh => CursorChange::Clear,
            None => CursorChange::Keep,
        };
        let chunk = Chunk {
            cursor: change,
            fingerprint: self.signature.fingerprint.clone(),
            run_id: self.signature.run_id.clone(),
            ledger: self.ledger,
            dead_letters: std::mem::take(&mut self.dead_letters),
        };
        self.target.commit(&chunk).await?;
        if cursor.is_some() {
            self.cursor = cursor;
        }
        self.flushes = 0;
        self.dirty = false;
        self.commits += 1;
        Ok(())
    }

    fn show(&self) {
        let ledger = self.ledger;
        self.books
            .update(&self.signature.partition, |page| page.ledger = ledger);
    }
}

/// Bytes of the rows themselves; a slice does not count what it shares.
fn slice_bytes(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|column| {
            column
                .to_data()
                .get_slice_memory_size()
                .unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum()
}
