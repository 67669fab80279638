//! Parts of a flush: halved again and again, they lead to the rows that a sink refuses.

use arrow_array::RecordBatch;

/// Some rows of a flush, and where they lie in it.
#[derive(Clone, Debug)]
pub struct Part {
    slices: Vec<Slice>,
}

/// Neighbouring rows of one batch.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Which batch of the flush.
    pub batch: usize,
    /// Its first row here.
    pub first: usize,
    /// The rows.
    pub rows: RecordBatch,
}

impl Part {
    /// All rows.
    pub fn whole(batches: &[RecordBatch]) -> Self {
        let slices = batches.iter().enumerate().map(|(batch, rows)| Slice {
            batch,
            first: 0,
            rows: rows.clone(),
        });
        Self {
            slices: slices.filter(|slice| slice.rows.num_rows() > 0).collect(),
        }
    }

    /// The rows, batch by batch.
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.slices.iter().map(|slice| slice.rows.num_rows()).sum()
    }

    /// The batch and the number of the first row.
    pub fn first(&self) -> Option<(usize, usize)> {
        self.slices.first().map(|slice| (slice.batch, slice.first))
    }

    /// Two parts of about the same size, in order. Of less than two rows the second has none.
    pub fn halve(self) -> (Self, Self) {
        let mut left = self.rows().div_ceil(2);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for slice in self.slices {
            let rows = slice.rows.num_rows();
            let cut = rows.min(left);
            left -= cut;
            if cut > 0 {
                first.push(Slice {
                    rows: slice.rows.slice(0, cut),
                    ..slice
                });
            }
            if cut < rows {
                second.push(Slice {
                    first: slice.first + cut,
                    rows: slice.rows.slice(cut, rows - cut),
                    ..slice
                });
            }
        }
        (Self { slices: first }, Self { slices: second })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{ArrayRef, Int64Array};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn halving_reaches_every_row_once_and_knows_where_it_lies(sizes in prop::collection::vec(0i64..20, 1..6)) {
            let mut next = 0;
            let batches: Vec<RecordBatch> = sizes
                .iter()
                .map(|size| {
                    let values: Vec<i64> = (next..next + size).collect();
                    next += size;
                    let column: ArrayRef = Arc::new(Int64Array::from(values));
                    RecordBatch::try_from_iter([("n", column)]).unwrap()
                })
                .collect();
            let mut seen = Vec::new();
            let mut waiting = vec![Part::whole(&batches)];
            while let Some(part) = waiting.pop() {
                if part.rows() > 1 {
                    let rows = part.rows();
                    let (first, second) = part.halve();
                    prop_assert_eq!(first.rows() + second.rows(), rows);
                    prop_assert!(first.rows() > 0 && second.rows() > 0);
                    waiting.extend([second, first]);
                } else if let Some((batch, row)) = part.first() {
                    let here = part.slices()[0].rows.column(0).as_primitive::<Int64Type>().value(0);
                    prop_assert_eq!(here, batches[batch].column(0).as_primitive::<Int64Type>().value(row));
                    seen.push(here);
                }
            }
            prop_assert_eq!(seen, (0..next).collect::<Vec<_>>());
        }
    }
}
