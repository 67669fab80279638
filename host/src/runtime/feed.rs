//! The reading side of an attempt: rows from the host's source or the plugin's extractor, cut into pieces.

use std::cmp::Ordering;

use arrow_schema::SchemaRef;
use etl_plugin_api::{Cursor, Resume};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::quarantine;
use super::ties::{Piece, TieSplitter};
use crate::checkpoint::compare;
use crate::config::Cursor as CursorConfig;
use crate::error::{Error, Result};
use crate::sink::DeadLetter;
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
    Extractor(ExtractStage, Option<CursorConfig>),
    /// A window with nothing in it.
    Nothing(SchemaRef),
}

impl Reader {
    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        match self {
            Self::Source(stream) => stream.schema(),
            Self::Extractor(stage, _) => stage.schema(),
            Self::Nothing(schema) => schema.clone(),
        }
    }
}

/// Cuts the reader's rows into pieces and sends them, until the end or until the run is cancelled.
pub struct Feeder {
    splitter: TieSplitter,
    ordered: bool,
    /// Rows set aside, until a commit covers their cursor.
    held: Vec<(Option<Cursor>, DeadLetter)>,
    last_safe: Option<Cursor>,
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
        cancel: CancellationToken,
        out: mpsc::Sender<Result<Feed>>,
    ) -> Self {
        Self {
            splitter,
            ordered,
            held: Vec::new(),
            last_safe: None,
            cancel,
            out,
        }
    }

    /// Runs to the end. Errors go to the other side too.
    pub async fn run(mut self, reader: Reader) {
        let result = match reader {
            Reader::Source(stream) => self.feed_stream(stream).await,
            Reader::Extractor(stage, cursor) => self.feed_extractor(stage, cursor).await,
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
            if self.splitter.is_full() {
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
            self.hold(read.rejected);
            let pieces = match &read.cursors {
                Some(cursors) => self.splitter.push(read.batch, cursors)?,
                None => vec![Piece {
                    batch: read.batch,
                    safe: None,
                }],
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
    ) -> Result<()> {
        let mut safe = true;
        let mut last = None;
        loop {
            let next = if safe {
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return self.stop(true).await,
                    next = stage.next() => next?,
                }
            } else {
                stage.next().await?
            };
            let Some(extracted) = next else { break };
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

    fn hold(&mut self, rejected: Vec<SourceRejection>) {
        for rejection in rejected {
            self.held
                .push((rejection.cursor.clone(), quarantine::from_source(rejection)));
        }
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
