//! The transforming side of an attempt: one blocking thread, one batch after the other, in order.

use etl_plugin_api::{Cursor, Outcome};
use tokio::sync::mpsc;

use super::feed::Feed;
use crate::dead_letter::{self, DeadLetter};
use crate::error::{Error, Result};
use crate::stage::transform::{TransformStage, TransformedBatch};

/// What travels from the transforming to the writing side.
pub enum Ready {
    /// Rows, with what happened to those they were made of.
    Rows {
        /// Rows that the source gave.
        extracted: u64,
        /// What became of them.
        batch: TransformedBatch,
        /// Those set aside.
        letters: Vec<DeadLetter>,
        /// What may be committed behind them.
        safe: Option<Cursor>,
    },
    /// The proven end, with the cursor to commit there.
    End(Option<Cursor>),
    /// The run was asked to stop.
    Stopped {
        /// Whether a commit is possible here.
        safe: bool,
    },
}

/// The transforming thread: one batch after the other, in order.
pub fn transform_all(
    mut stage: TransformStage,
    mut feed: mpsc::Receiver<Result<Feed>>,
    out: &mpsc::Sender<Result<Ready>>,
) {
    while let Some(message) = feed.blocking_recv() {
        let last = !matches!(message, Ok(Feed::Rows(..)));
        let broken = message.is_err();
        let ready = message.and_then(|message| transform_one(&mut stage, message, out));
        let unheard = out.blocking_send(ready).is_err();
        if broken || (unheard && !last) {
            break;
        }
        if last {
            return;
        }
    }
    // The attempt failed elsewhere. A stage that failed itself refuses this call.
    let _ = stage.close(Outcome::Failed);
}

fn transform_one(
    stage: &mut TransformStage,
    message: Feed,
    out: &mpsc::Sender<Result<Ready>>,
) -> Result<Ready> {
    match message {
        Feed::Rows(piece, mut letters) => {
            let extracted = piece.batch.num_rows() as u64 + letters.len() as u64;
            let input = piece.batch.clone();
            let mut batch = stage.transform(piece.batch)?;
            for rejection in std::mem::take(&mut batch.rejected) {
                letters.push(dead_letter::from_transform(&input, rejection)?);
            }
            Ok(Ready::Rows {
                extracted,
                batch,
                letters,
                safe: piece.safe,
            })
        }
        Feed::End(cursor, letters) => {
            let batch = stage.finish()?;
            if !batch.rejected.is_empty() {
                return Err(Error::data("the transformer rejects rows when it finishes, where they have no input row any more")
                    .hint("reject rows in `transform`"));
            }
            stage.close(Outcome::Succeeded)?;
            let rest = Ready::Rows {
                extracted: letters.len() as u64,
                batch,
                letters,
                safe: None,
            };
            // If nobody listens any more, the last message will find out too.
            let _ = out.blocking_send(Ok(rest));
            Ok(Ready::End(cursor))
        }
        Feed::Stopped { safe } => {
            stage.close(Outcome::Cancelled)?;
            Ok(Ready::Stopped { safe })
        }
    }
}
