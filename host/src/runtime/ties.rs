//! Cuts a stream of rows at the places where a commit is possible.
//!
//! With a cursor that is not unique, rows with the last value may go on in the next batch. A commit between them would
//! lose the rest, so a commit happens only where the value changes. An unordered stream has no such place but its end.

use std::cmp::Ordering;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use etl_plugin_api::Cursor;

use crate::checkpoint::compare;
use crate::error::{Error, Result};
use crate::source::CursorColumn;

/// Rows on their way, and what may be committed behind them.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The rows.
    pub batch: RecordBatch,
    /// Everything up to here has been given out, so it may be committed once loaded.
    pub safe: Option<Cursor>,
}

/// Cuts batches into pieces.
#[derive(Debug)]
pub struct TieSplitter {
    ordered: bool,
    /// Rows beyond belong to the next run; checked only if the statement does not do it.
    until: Option<Cursor>,
    /// Rows at or before were loaded already; a query that gives them would double them in every run.
    from: Option<Cursor>,
    /// Rows that may still be given out.
    left: Option<u64>,
    /// The last tie group so far, which may go on: one batch, or with a limit all of them, since the limit may cut it.
    carry: Option<(Vec<RecordBatch>, Cursor)>,
    last: Option<Cursor>,
    /// Nothing more is wanted.
    full: bool,
    cut_by_limit: bool,
}

impl TieSplitter {
    /// A splitter. `until` is given only if the statement does not bind it.
    pub fn new(
        ordered: bool,
        from: Option<Cursor>,
        until: Option<Cursor>,
        limit: Option<u64>,
    ) -> Self {
        Self {
            ordered,
            until,
            from,
            left: limit,
            carry: None,
            last: None,
            full: limit == Some(0),
            cut_by_limit: false,
        }
    }

    /// Whether no more rows are wanted.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether a cursor lies beyond the window.
    pub fn is_beyond(&self, cursor: &Cursor) -> bool {
        self.until
            .as_ref()
            .is_some_and(|until| compare(cursor, until).is_none_or(Ordering::is_gt))
    }

    /// Takes a batch and gives the pieces that are ready.
    pub fn push(&mut self, batch: RecordBatch, cursors: &CursorColumn) -> Result<Vec<Piece>> {
        if batch.num_rows() != cursors.len() {
            return Err(Error::internal("a batch and its cursors differ in length"));
        }
        let (batch, cursors) = self.within(batch, cursors)?;
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        self.check_start(&cursors)?;
        if self.ordered {
            self.push_ordered(&batch, &cursors)
        } else {
            self.push_unordered(batch, &cursors)
        }
    }

    /// Gives the rest at the proven end, and the cursor to commit there.
    pub fn finish(&mut self) -> (Vec<Piece>, Option<Cursor>) {
        match self.carry.take() {
            // The limit may have cut this group; its rows wait for the next run.
            Some(_) if self.cut_by_limit => (Vec::new(), None),
            Some((batches, cursor)) => (group(batches, Some(&cursor)), Some(cursor)),
            None => (Vec::new(), self.last.clone().filter(|_| !self.ordered)),
        }
    }

    /// Leaves out what lies beyond `until`, and what the limit does not allow.
    fn within(
        &mut self,
        batch: RecordBatch,
        cursors: &CursorColumn,
    ) -> Result<(RecordBatch, CursorColumn)> {
        let mut rows = batch.num_rows();
        let mut batch = batch;
        let mut kept = cursors.clone();
        if let Some(until) = &self.until {
            let inside = |row: usize| {
                cursors
                    .get(row)
                    .is_some_and(|cursor| compare(&cursor, until).is_some_and(Ordering::is_le))
            };
            if self.ordered {
                let end = (0..rows).find(|&row| !inside(row)).unwrap_or(rows);
                self.full |= end < rows;
                rows = end;
            } else {
                let mask: Vec<bool> = (0..rows).map(inside).collect();
                if mask.contains(&false) {
                    kept = cursors.select(&mask);
                    batch = filter_record_batch(&batch, &BooleanArray::from(mask))?;
                    rows = batch.num_rows();
                }
            }
        }
        if let Some(left) = &mut self.left {
            let allowed = usize::try_from(*left).unwrap_or(usize::MAX);
            if rows >= allowed {
                self.full = true;
                // Exactly enough may also have been cut inside a group: nobody knows what would have followed.
                self.cut_by_limit = true;
                rows = allowed;
            }
            *left -= rows as u64;
        }
        Ok((batch.slice(0, rows), kept.slice(0, rows)))
    }

    fn push_ordered(&mut self, batch: &RecordBatch, cursors: &CursorColumn) -> Result<Vec<Piece>> {
        let rows = batch.num_rows();
        self.check_order(cursors)?;
        let mut pieces = Vec::with_capacity(2);
        let cursor_at = |row: usize| {
            cursors
                .get(row)
                .ok_or_else(|| Error::internal("a row has no cursor"))
        };
        let (first, last) = (cursor_at(0)?, cursor_at(rows - 1)?);
        let mut open = Vec::new();
        if let Some((batches, cursor)) = self.carry.take() {
            if cursor != first {
                pieces.extend(group(batches, Some(&cursor)));
            } else if self.left.is_some() {
                open = batches;
            } else {
                pieces.extend(group(batches, None));
            }
        }
        // Where the last group of this batch starts.
        let start = (0..rows)
            .rev()
            .find(|&row| !cursors.same(row, rows - 1))
            .map_or(0, |row| row + 1);
        if start > 0 {
            // The open group ends inside this batch, so all of it is complete.
            pieces.extend(group(std::mem::take(&mut open), None));
            pieces.push(Piece {
                batch: batch.slice(0, start),
                safe: Some(cursor_at(start - 1)?),
            });
        }
        open.push(batch.slice(start, rows - start));
        self.carry = Some((open, last.clone()));
        self.last = Some(last);
        Ok(pieces)
    }

    fn check_start(&self, cursors: &CursorColumn) -> Result<()> {
        let Some(from) = &self.from else {
            return Ok(());
        };
        // All others are behind the first.
        let first = if self.ordered {
            Some(0)
        } else {
            extreme(cursors, Ordering::is_lt)
        };
        let again = first
            .and_then(|row| cursors.get(row))
            .is_some_and(|cursor| compare(&cursor, from).is_some_and(Ordering::is_le));
        if again {
            return Err(Error::data(
                "the query returns rows up to @from, which are loaded already",
            )
            .hint("compare the cursor column with `> @from`"));
        }
        Ok(())
    }

    fn check_order(&self, cursors: &CursorColumn) -> Result<()> {
        let backwards = !cursors.is_sorted();
        let before = match (&self.last, cursors.get(0)) {
            (Some(last), Some(first)) => compare(last, &first).is_none_or(Ordering::is_gt),
            _ => false,
        };
        if backwards || before {
            return Err(Error::data("the rows do not come in the order of the cursor, although the query says so")
                .hint("the column's collation orders otherwise than its bytes: use another cursor column, or leave out ORDER BY"));
        }
        Ok(())
    }

    fn push_unordered(&mut self, batch: RecordBatch, cursors: &CursorColumn) -> Result<Vec<Piece>> {
        let newest = extreme(cursors, Ordering::is_gt).and_then(|row| cursors.get(row));
        if let Some(cursor) = newest {
            let newer = match &self.last {
                None => true,
                Some(last) => compare(last, &cursor)
                    .ok_or_else(|| Error::data("the cursor changes its type within one stream"))?
                    .is_lt(),
            };
            if newer {
                self.last = Some(cursor);
            }
        }
        Ok(vec![Piece { batch, safe: None }])
    }
}

/// The first row that no other one beats.
fn extreme(cursors: &CursorColumn, beats: fn(Ordering) -> bool) -> Option<usize> {
    (0..cursors.len()).reduce(|best, row| {
        if cursors.order(row, best).is_some_and(beats) {
            row
        } else {
            best
        }
    })
}

/// The batches of a group; a commit is possible behind the last of them.
fn group(batches: Vec<RecordBatch>, safe: Option<&Cursor>) -> Vec<Piece> {
    let last = batches.len().saturating_sub(1);
    batches
        .into_iter()
        .enumerate()
        .map(|(index, batch)| Piece {
            batch,
            safe: safe.filter(|_| index == last).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{ArrayRef, Int64Array};
    use proptest::prelude::*;

    use super::*;

    fn batch(values: &[i64]) -> (RecordBatch, CursorColumn) {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        (
            RecordBatch::try_from_iter([("c", column)]).unwrap(),
            CursorColumn::Integer(values.to_vec()),
        )
    }

    fn values(batch: &RecordBatch) -> Vec<i64> {
        batch
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    }

    /// Each piece's rows with what may be committed behind it, and the cursor at the end.
    type Pieces = (Vec<(Vec<i64>, Option<i64>)>, Option<i64>);

    fn run(splitter: &mut TieSplitter, batches: &[&[i64]]) -> Result<Pieces> {
        let number = |cursor: Option<Cursor>| match cursor {
            Some(Cursor::Integer(value)) => Some(value),
            _ => None,
        };
        let mut pieces = Vec::new();
        for values in batches {
            let (batch, cursors) = batch(values);
            pieces.extend(splitter.push(batch, &cursors)?);
        }
        let (rest, end) = splitter.finish();
        pieces.extend(rest);
        let pieces = pieces
            .into_iter()
            .map(|piece| (values(&piece.batch), number(piece.safe)))
            .collect();
        Ok((pieces, number(end)))
    }

    #[test]
    fn a_tie_group_is_never_cut_by_a_commit() {
        let mut splitter = TieSplitter::new(true, None, None, None);
        let (pieces, end) = run(&mut splitter, &[&[1, 2, 2], &[2, 2], &[2, 3]]).unwrap();
        assert_eq!(
            pieces,
            [
                (vec![1], Some(1)),
                (vec![2, 2], None),
                (vec![2, 2], None),
                (vec![2], Some(2)),
                (vec![3], Some(3)),
            ]
        );
        assert_eq!(end, Some(3));
    }

    #[test]
    fn an_unordered_stream_commits_at_its_end_only() {
        let mut splitter = TieSplitter::new(false, None, Some(Cursor::Integer(8)), None);
        let (pieces, end) = run(&mut splitter, &[&[5, 9, 1], &[3]]).unwrap();
        assert_eq!(pieces, [(vec![5, 1], None), (vec![3], None)]);
        assert_eq!(end, Some(5));
    }

    #[test]
    fn what_lies_beyond_the_window_is_left_for_the_next_run() {
        let mut splitter = TieSplitter::new(true, None, Some(Cursor::Integer(3)), None);
        let (pieces, end) = run(&mut splitter, &[&[1, 3, 4, 5]]).unwrap();
        assert_eq!(pieces, [(vec![1], Some(1)), (vec![3], Some(3))]);
        assert_eq!(end, Some(3));
        assert!(splitter.is_full());
    }

    #[test]
    fn a_limit_stops_at_the_last_complete_group() {
        let mut splitter = TieSplitter::new(true, None, None, Some(4));
        let (pieces, end) = run(&mut splitter, &[&[1, 2, 3, 3, 3]]).unwrap();
        assert_eq!(pieces, [(vec![1, 2], Some(2))]);
        assert_eq!(end, None);
    }

    #[test]
    fn a_limit_inside_a_group_of_several_batches_gives_none_of_it() {
        let mut splitter = TieSplitter::new(true, None, None, Some(5));
        let (pieces, end) = run(&mut splitter, &[&[1, 2, 2], &[2, 2], &[2, 2]]).unwrap();
        assert_eq!(pieces, [(vec![1], Some(1))]);
        assert_eq!(end, None);
        let mut splitter = TieSplitter::new(true, None, None, Some(9));
        let (pieces, end) = run(&mut splitter, &[&[1, 2, 2], &[2, 2], &[2, 3]]).unwrap();
        assert_eq!(
            pieces,
            [
                (vec![1], Some(1)),
                (vec![2, 2], None),
                (vec![2, 2], None),
                (vec![2], Some(2)),
                (vec![3], Some(3))
            ]
        );
        assert_eq!(end, Some(3));
    }

    #[test]
    fn a_query_that_includes_the_boundary_is_refused() {
        for ordered in [true, false] {
            let mut splitter = TieSplitter::new(ordered, Some(Cursor::Integer(2)), None, None);
            assert!(run(&mut splitter, &[&[2, 3]]).is_err());
            let mut splitter = TieSplitter::new(ordered, Some(Cursor::Integer(2)), None, None);
            assert!(run(&mut splitter, &[&[3, 4]]).is_ok());
        }
    }

    #[test]
    fn rows_that_come_backwards_are_refused() {
        let mut splitter = TieSplitter::new(true, None, None, None);
        assert!(run(&mut splitter, &[&[2, 1]]).is_err());
        let mut splitter = TieSplitter::new(true, None, None, None);
        assert!(run(&mut splitter, &[&[2], &[1]]).is_err());
    }

    proptest! {
        #[test]
        fn no_row_is_lost_and_every_commit_is_complete(
            mut all in proptest::collection::vec(0i64..20, 0..200),
            sizes in proptest::collection::vec(1usize..20, 1..50),
        ) {
            all.sort_unstable();
            let mut batches = Vec::new();
            let mut rest = all.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*size).min(rest.len()));
                batches.push(head);
                rest = tail;
            }
            let mut splitter = TieSplitter::new(true, None, None, None);
            let (pieces, _) = run(&mut splitter, &batches).unwrap();
            let mut seen = Vec::new();
            for (rows, safe) in pieces {
                seen.extend(rows);
                if let Some(safe) = safe {
                    prop_assert_eq!(seen.len(), all.partition_point(|value| *value <= safe));
                }
            }
            prop_assert_eq!(seen, all);
        }
    }
}
