//! The reading side of an attempt: rows from the host's source or the plugin's extractor, cut into pieces.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use etl_plugin_api::{Cursor, Resume};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::books::Books;
use super::ties::{Piece, TieSplitter};
use crate::checkpoint::compare;
use crate::config::Cursor as CursorConfig;
use crate::dead_letter::{self, DeadLetter};
use crate::error::{Error, Result};
use crate::source::{RowStream, SourceRejection};
use crate::stage::extract::{ExtractStage, cursor_column};

/// What travels from the reading to the transforming side.
#[derive(Debug)]
pub enum Feed {
    /// Rows, and rows set aside that belong before the same commit.
    Rows(Piece, Vec<DeadLetter>),
    /// The proven end, with the cursor to commit there.
    End(Option<Cursor>, Vec<DeadLetter>),
    /// The run was asked to stop. Everything before is safe to commit, or nothing since the last commit is.
    Stopped {
        /// Whether the last rows ended at a place where a commit is possible.
        safe: bool,
    },
}

/// Where rows come from.
pub enum Reader {
    /// The configured source.
    Source(Box<dyn RowStream>),
    /// The plugin's extractor.
    Extractor {
        /// The extractor.
        stage: ExtractStage,
        /// The cursor column, if it leaves the position to that.
        cursor: Option<CursorConfig>,
        /// Nothing is taken behind this position.
        stop_at: Option<Cursor>,
        /// Its last rows must come with a position.
        must_resume: bool,
    },
    /// A window with nothing in it.
    Nothing(SchemaRef),
}

impl Reader {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Source(stream) => stream.schema(),
            Self::Extractor { stage, .. } => stage.schema(),
            Self::Nothing(schema) => schema.clone(),
        }
    }

    /// The types of the columns as the source declares them, as far as it does.
    pub fn declared(&self) -> Vec<Option<String>> {
        match self {
            Self::Source(stream) => stream.declared(),
            Self::Extractor { .. } | Self::Nothing(_) => Vec::new(),
        }
    }

    /// Nothing in place of a source that has no rows: the types of its columns may be guesses.
    pub fn unless_empty(self) -> Self {
        match self {
            Self::Source(stream) if stream.is_empty() => {
                Self::Nothing(SchemaRef::new(Schema::empty()))
            }
            other => other,
        }
    }
}

/// Cuts the reader's rows into pieces and sends them, until the end or until the run is cancelled.
pub struct Feeder {
    splitter: TieSplitter,
    ordered: bool,
    /// Rows that may still be read; `None` for all there are.
    left: Option<u64>,
    /// Rows set aside, until a commit covers their cursor.
    held: Vec<(Option<Cursor>, DeadLetter)>,
    last_safe: Option<Cursor>,
    partition: String,
    books: Arc<Books>,
    cancel: CancellationToken,
    out: mpsc::Sender<Result<Feed>>,
}

/// Nobody takes the rows any more: the attempt is over for another reason.
struct Closed;

impl Feeder {
    /// A feeder. `ordered` says whether the rows come in the cursor's order.
    pub fn new(
        splitter: TieSplitter,
        ordered: bool,
        partition: String,
        books: Arc<Books>,
        cancel: CancellationToken,
        out: mpsc::Sender<Result<Feed>>,
    ) -> Self {
        Self {
            splitter,
            ordered,
            left: None,
            held: Vec::new(),
            last_safe: None,
            partition,
            books,
            cancel,
            out,
        }
    }

    /// Reads no more rows than these, whatever their cursors are: where nothing is committed, any row may be the last.
    #[must_use]
    pub fn stopping_after(mut self, rows: Option<u64>) -> Self {
        self.left = rows;
        self
    }

    /// Counts rows that were read, and gives how many of them are wanted.
    fn admit(&mut self, rows: usize, rejected: usize) -> usize {
        let Some(left) = &mut self.left else {
            return rows;
        };
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(rows);
        *left = left.saturating_sub((rows + rejected) as u64);
        wanted
    }

    /// Runs to the end. Errors go to the other side too.
    pub async fn run(mut self, reader: Reader) {
        let result = match reader {
            Reader::Source(stream) => self.feed_stream(stream).await,
            Reader::Extractor {
                stage,
                cursor,
                stop_at,
                must_resume,
            } => {
                self.feed_extractor(stage, cursor, stop_at, must_resume)
                    .await
            }
            Reader::Nothing(_) => {
                let _ = self.end(None).await;
                Ok(())
            }
        };
        if let Err(error) = result {
            let _ = self.out.send(Err(error)).await;
        }
    }

    async fn feed_stream(&mut self, mut stream: Box<dyn RowStream>) -> Result<()> {
        let mut safe = true;
        loop {
            if self.splitter.is_full() || self.left == Some(0) {
                break;
            }
            // An unordered stream becomes safe at its end only: there is no use in waiting for it.
            let next = if safe || !self.ordered {
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return self.stop(safe).await,
                    next = stream.next() => next?,
                }
            } else {
                stream.next().await?
            };
            let Some(read) = next else { break };
            let wanted = self.admit(read.batch.num_rows(), read.rejected.len());
            let batch = read.batch.slice(0, wanted);
            self.hold(read.rejected)?;
            let pieces = match &read.cursors {
                Some(cursors) => self.splitter.push(batch, &cursors.slice(0, wanted))?,
                None => vec![Piece { batch, safe: None }],
            };
            for piece in pieces {
                safe = piece.safe.is_some();
                if self.rows(piece).await.is_err() {
                    return Ok(());
                }
            }
        }
        let (rest, cursor) = self.splitter.finish();
        for piece in rest {
            if self.rows(piece).await.is_err() {
                return Ok(());
            }
        }
        let _ = self.end(cursor).await;
        Ok(())
    }

    async fn feed_extractor(
        &mut self,
        mut stage: ExtractStage,
        cursor: Option<CursorConfig>,
        stop_at: Option<Cursor>,
        must_resume: bool,
    ) -> Result<()> {
        let mut safe = true;
        let mut last = None;
        let mut by_column = None;
        loop {
            if self.left == Some(0) {
                break;
            }
            let next = if safe {
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return self.stop(true).await,
                    next = stage.next() => next?,
                }
            } else {
                stage.next().await?
            };
            let Some(mut extracted) = next else { break };
            let wanted = self.admit(extracted.batch.num_rows(), 0);
            if wanted < extracted.batch.num_rows() {
                extracted.batch = extracted.batch.slice(0, wanted);
                if extracted.resume != Resume::CursorColumn {
                    // Its position is behind rows that are left out.
                    extracted.resume = Resume::NotHere;
                }
            }
            let column = extracted.resume == Resume::CursorColumn;
            if by_column.is_some_and(|before| before != column) {
                return Err(Error::data(
                    "the extractor mixes positions of its own with those of the cursor column",
                )
                .hint("return `Resume::CursorColumn` for all batches or for none"));
            }
            by_column = Some(column);
            let pieces = match extracted.resume {
                Resume::After(cursor) => {
                    last = Some(cursor.clone());
                    vec![Piece {
                        batch: extracted.batch,
                        safe: Some(cursor),
                    }]
                }
                Resume::NotHere => vec![Piece {
                    batch: extracted.batch,
                    safe: None,
                }],
                Resume::CursorColumn => {
                    let config = cursor.as_ref().ok_or_else(|| {
                        Error::config("the extractor leaves the position to the cursor column, but `cursor` is not set")
                    })?;
                    let cursors = cursor_column(&extracted.batch, config)?;
                    self.splitter.push(extracted.batch, &cursors)?
                }
            };
            for piece in pieces {
                safe = piece.safe.is_some();
                if self.rows(piece).await.is_err() {
                    return Ok(());
                }
            }
            match last.as_ref().zip(stop_at.as_ref()) {
                Some((last, stop)) if last == stop => break,
                Some((last, stop)) if compare(last, stop).is_some_and(Ordering::is_gt) => {
                    return Err(Error::data("the extractor gives rows on both sides of the checkpoint at once, so those behind it cannot be told")
                        .hint("run the pipeline first, so that there is nothing new to read"));
                }
                _ => {}
            }
        }
        if must_resume && !safe && self.left != Some(0) && by_column != Some(true) {
            return Err(Error::data("the extractor gives no position for its last rows, so `append` would load them again in the next run")
                .hint("return `Resume::After` with the last batch, or use `write_mode: upsert` or `replace`"));
        }
        let (rest, end) = self.splitter.finish();
        for piece in rest {
            if self.rows(piece).await.is_err() {
                return Ok(());
            }
        }
        let _ = self.end(end.or(last)).await;
        Ok(())
    }

    /// Keeps rows set aside until a commit covers them. Too many of them end the attempt before they fill the memory.
    fn hold(&mut self, rejected: Vec<SourceRejection>) -> Result<()> {
        for rejection in rejected {
            if rejection
                .cursor
                .as_ref()
                .is_some_and(|cursor| self.splitter.is_beyond(cursor))
            {
                continue;
            }
            self.held.push((
                rejection.cursor.clone(),
                dead_letter::from_source(rejection),
            ));
        }
        self.note_held();
        let last = self.held.last().map(|(_, letter)| letter);
        let checked = self.books.check_bad_rows(&self.partition);
        checked.map_err(|error| dead_letter::explain(error, last))
    }

    fn note_held(&self) {
        let held = self.held.len() as u64;
        self.books.update(&self.partition, |page| page.held = held);
    }

    /// Rows set aside whose cursor a commit at `safe` covers.
    fn release(&mut self, safe: Option<&Cursor>) -> Vec<DeadLetter> {
        let Some(safe) = safe else { return Vec::new() };
        let covered = |cursor: &Option<Cursor>| {
            cursor
                .as_ref()
                .is_some_and(|cursor| compare(cursor, safe).is_some_and(Ordering::is_le))
        };
        let (released, held): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(cursor, _)| covered(cursor));
        self.held = held;
        self.note_held();
        released.into_iter().map(|(_, letter)| letter).collect()
    }

    async fn rows(&mut self, piece: Piece) -> Result<(), Closed> {
        let letters = self.release(piece.safe.as_ref());
        if piece.safe.is_some() {
            self.last_safe.clone_from(&piece.safe);
        }
        self.out
            .send(Ok(Feed::Rows(piece, letters)))
            .await
            .map_err(|_| Closed)
    }

    async fn end(&mut self, cursor: Option<Cursor>) -> Result<(), Closed> {
        let (cursor, letters) = if self.splitter.is_full() && self.ordered {
            // Stopped early: what lies behind the last commit's place is for the next run.
            let last = cursor.or_else(|| self.last_safe.clone());
            let letters = self.release(last.as_ref());
            (last, letters)
        } else {
            // The whole window was read, so rows set aside at its end count too.
            let held = std::mem::take(&mut self.held);
            self.note_held();
            let last = held
                .iter()
                .filter_map(|(cursor, _)| cursor.clone())
                .chain(cursor)
                .reduce(|a, b| {
                    if compare(&a, &b).is_some_and(Ordering::is_gt) {
                        a
                    } else {
                        b
                    }
                });
            (last, held.into_iter().map(|(_, letter)| letter).collect())
        };
        self.out
            .send(Ok(Feed::End(cursor, letters)))
            .await
            .map_err(|_| Closed)
    }

    async fn stop(&mut self, safe: bool) -> Result<()> {
        let _ = self.out.send(Ok(Feed::Stopped { safe })).await;
        Ok(())
    }
}
