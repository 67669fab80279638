//! The writing side of an attempt: rows gather into flushes, flushes into chunks, and a chunk is one commit.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use etl_plugin_api::{Cursor, Outcome};
use tracing::{Instrument, Span};

use super::books::Books;
use super::spans;
use crate::checkpoint::Ledger;
use crate::dead_letter::{self, DeadLetter};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::sink::{Chunk, Committed, CursorChange, Flush, PartitionWriter, Written};
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
    async fn write(&mut self, flush: &Flush, most_refused: u64) -> Result<Written> {
        match self {
            Self::Sink(writer) => writer.write(flush, most_refused).await,
            Self::Loader(loader) => loader.write(flush).await,
        }
    }

    async fn commit(&mut self, chunk: &Chunk) -> Result<Committed> {
        match self {
            Self::Sink(writer) => writer.commit(chunk).await,
            Self::Loader(loader) => loader.commit(chunk).await,
        }
    }
}

impl Target {
    /// Tells a loader that its attempt has failed. One that failed itself is not called again.
    pub async fn fail(self) {
        if let Self::Loader(loader) = self {
            let _ = loader.close(Outcome::Failed).await;
        }
    }
}

/// What every commit of an attempt carries.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of an attempt"
)]
pub struct Signature {
    /// The partition.
    pub partition: String,
    /// What marks the run in the checkpoint.
    pub mark: String,
    /// Server, database and query.
    pub fingerprint: String,
    /// The cursor stays where it is (`--since`).
    pub keep_cursor: bool,
    /// Everything is one commit, which deletes first what it loads again.
    pub single_commit: bool,
    /// If there are no rows, nothing is loaded any more.
    pub clear_if_empty: bool,
    /// The checkpoint has a cursor without a fingerprint, which this run was asked to supply.
    pub adopt_fingerprint: bool,
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
    /// The span of the chunk that is being gathered; `None` before its first row.
    span: Option<Span>,
    /// The books at its beginning.
    before: Ledger,
    /// Commits so far that moved the cursor.
    pub advances: u32,
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
            span: None,
            before: ledger,
            advances: 0,
        }
    }

    /// Whether rows are written by the plugin.
    pub fn calls_plugin(&self) -> bool {
        matches!(self.target, Target::Loader(_))
    }

    /// The partition.
    pub fn partition(&self) -> &str {
        &self.signature.partition
    }

    /// Where the checkpoint is now, if it was at `before`. For a `replace`, where it will be after the swap.
    pub fn position(&self, before: Option<Cursor>) -> Option<Cursor> {
        if self.signature.clear_if_empty && self.cursor.is_none() {
            return None;
        }
        let kept = self.signature.keep_cursor && !self.plan.replaces();
        self.cursor.clone().filter(|_| !kept).or(before)
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
        let span = self.span.get_or_insert_with(spans::of_chunk).clone();
        let pushing = self.push_in_span(extracted, batch, letters, safe);
        told(&span, pushing.instrument(span.clone()).await)
    }

    async fn push_in_span(
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
            self.check_bad_rows()?;
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
            self.check_ledger()?;
            self.commit(Some(safe)).await?;
        }
        Ok(())
    }

    /// Writes what is left and commits for the last time.
    pub async fn finish(&mut self, cursor: Option<Cursor>) -> Result<()> {
        let moved = cursor.is_some() && cursor != self.cursor;
        let must = self.signature.adopt_fingerprint
            || self.signature.single_commit
            || self.signature.clear_if_empty
            || self.plan.replaces();
        if self.span.is_none() && (self.dirty || moved || must) {
            self.span = Some(spans::of_chunk());
        }
        let span = self.span.clone().unwrap_or_else(Span::none);
        let finishing = async {
            self.flush().await?;
            self.check_ledger()?;
            self.check_bad_rows()?;
            if self.dirty || moved || must {
                self.commit(cursor).await?;
            }
            Ok(())
        };
        told(&span, finishing.instrument(span.clone()).await)
    }

    /// Commits what has come so far, because nothing more will. Called only where a commit is possible.
    pub async fn drain(&mut self) -> Result<()> {
        let span = self.span.clone().unwrap_or_else(Span::none);
        let draining = async {
            self.flush().await?;
            self.check_ledger()?;
            if self.dirty {
                self.commit(self.safe.clone()).await?;
            }
            Ok(())
        };
        told(&span, draining.instrument(span.clone()).await)
    }

    fn check_bad_rows(&self) -> Result<()> {
        let checked = self.books.check_bad_rows(&self.signature.partition);
        checked.map_err(|error| dead_letter::explain(error, self.dead_letters.last()))
    }

    fn check_ledger(&self) -> Result<()> {
        match self.ledger.difference(self.signature.aggregates) {
            None => Ok(()),
            Some(difference) => Err(Error::new(ErrorKind::Ledger, difference).hint(
                "nothing of this chunk was committed; if the plugin's counts are right, report this as a bug of the host",
            )),
        }
    }

    /// Says why a row is set aside, for the first few: all of them are in quarantine.
    fn warn(&mut self, letter: &DeadLetter) {
        if self.plan.previews() {
            // It shows them itself.
            return;
        }
        self.warned += 1;
        let column = letter.column.as_deref().unwrap_or("-");
        match self.warned {
            1..=WARNINGS => tracing::warn!(
                stage = letter.stage.name(),
                column,
                reason = letter.told(),
                "a row is set aside"
            ),
            _ if self.warned == WARNINGS + 1 => {
                tracing::warn!("further rows are set aside without a message each");
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
            if self.signature.single_commit && !self.plan.options.allow_duplicates {
                self.check_partition_column(&flush)?;
            }
            let allowance = self.books.allowance();
            let written = self.target.write(&flush, allowance).await?;
            self.ledger.loaded += written.loaded;
            self.ledger.superseded += written.superseded;
            self.ledger.refused += written.refused.len() as u64;
            let name = self.tables.get(table).cloned().unwrap_or_default();
            let bad = !written.refused.is_empty();
            let unfinished = written.refused.len() as u64 > allowance;
            for refusal in written.refused {
                let batch = flush.batches.get(refusal.batch).ok_or_else(|| {
                    Error::internal("the sink refused a row that it was not given")
                })?;
                let letter = dead_letter::from_sink(batch, &name, refusal)?;
                self.warn(&letter);
                self.dead_letters.push(letter);
            }
            self.show();
            if bad {
                self.check_bad_rows()?;
            }
            if unfinished {
                // Other partitions have read more rows meanwhile, which a percentage is of.
                let error = Error::new(
                    ErrorKind::TooManyBadRows,
                    "more rows were refused at once than `max_bad_rows` allowed by then",
                );
                return Err(dead_letter::explain(error, self.dead_letters.last()));
            }
        }
        Ok(())
    }

    /// What was deleted was found by the partition's name, so what is loaded must carry it.
    fn check_partition_column(&self, flush: &Flush) -> Result<()> {
        let Some(name) = &self.plan.config.sink.partition_column else {
            return Ok(());
        };
        for batch in &flush.batches {
            let column = batch.column_by_name(name);
            if !column.is_some_and(|column| holds_only(column, &self.signature.partition)) {
                return Err(Error::data(format!(
                    "the column `{name}` does not hold the partition's name in every row, so rows cannot be deleted by it"
                ))
                .hint("correct `sink.partition_column`, or give --allow-duplicates"));
            }
        }
        Ok(())
    }

    async fn commit(&mut self, cursor: Option<Cursor>) -> Result<()> {
        let change = match &cursor {
            _ if self.signature.keep_cursor => CursorChange::Keep,
            Some(cursor) => CursorChange::Set(cursor.clone()),
            None if self.signature.clear_if_empty => CursorChange::Clear,
            None => CursorChange::Keep,
        };
        let moves = change != CursorChange::Keep;
        let chunk = Chunk {
            cursor: change,
            fingerprint: Some(self.signature.fingerprint.clone()),
            run_id: self.signature.mark.clone(),
            ledger: self.ledger,
            dead_letters: std::mem::take(&mut self.dead_letters),
            replayed: Vec::new(),
            most_refused: self.books.allowance(),
        };
        let committed = self.target.commit(&chunk).await?;
        self.ledger
            .settle(committed.superseded, committed.refused.len() as u64);
        for letter in &committed.refused {
            self.warn(letter);
        }
        self.show();
        self.books.update(&self.signature.partition, |page| {
            page.committed = self.ledger;
        });
        if cursor.is_some() {
            self.cursor = cursor;
        }
        if let Some(span) = self.span.take() {
            spans::record_chunk(&span, &self.before, &self.ledger);
        }
        self.before = self.ledger;
        self.flushes = 0;
        self.dirty = false;
        self.advances += u32::from(moves);
        // Several partitions may have taken what was left of the allowance at once.
        if let Some(last) = committed.refused.last() {
            let checked = self.books.check_bad_rows(&self.signature.partition);
            checked.map_err(|error| dead_letter::explain(error, Some(last)))?;
        }
        Ok(())
    }

    fn show(&self) {
        let ledger = self.ledger;
        self.books
            .update(&self.signature.partition, |page| page.ledger = ledger);
    }
}

/// Writes a failure into the span of its chunk.
fn told(span: &Span, result: Result<()>) -> Result<()> {
    result.inspect_err(|error| spans::record_error(span, error))
}

/// Whether every row of a column has this text, whether or not a dictionary holds it.
fn holds_only(column: &ArrayRef, text: &str) -> bool {
    let Some(dictionary) = column.as_any_dictionary_opt() else {
        let texts = column.as_string_opt::<i32>();
        return texts.is_some_and(|texts| texts.iter().all(|value| value == Some(text)));
    };
    let Some(words) = dictionary.values().as_string_opt::<i32>() else {
        return false;
    };
    if column.is_empty() || column.logical_null_count() > 0 {
        return column.is_empty();
    }
    let mut keys = dictionary.normalized_keys().into_iter();
    keys.all(|key| words.value(key) == text)
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

#[cfg(test)]
mod tests {
    use arrow_array::types::Int32Type;
    use arrow_array::{DictionaryArray, Int32Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_partition_column_is_judged_by_its_rows() {
        let words: ArrayRef = Arc::new(StringArray::from(vec![Some("us"), Some("eu"), None]));
        let coded = |keys: Vec<Option<i32>>| -> ArrayRef {
            let keys = Int32Array::from(keys);
            Arc::new(DictionaryArray::<Int32Type>::new(keys, words.clone()))
        };
        assert!(holds_only(&coded(vec![Some(1), Some(1)]), "eu"));
        assert!(holds_only(&coded(vec![]), "eu"));
        assert!(!holds_only(&coded(vec![Some(1), Some(0)]), "eu"));
        assert!(!holds_only(&coded(vec![Some(1), None]), "eu"));
        assert!(!holds_only(&coded(vec![Some(1), Some(2)]), "eu"));
        let plain = |texts: Vec<Option<&str>>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
        assert!(holds_only(&plain(vec![Some("eu"); 2]), "eu"));
        assert!(!holds_only(&plain(vec![Some("eu"), None]), "eu"));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert!(!holds_only(&number, "eu"));
    }
}
