//! Keys of an upsert: within one flush the last row of each counts, and one with NULL is refused; a key that is there
//! already is updated or left.

use std::collections::HashMap;

use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_row::{OwnedRow, RowConverter, SortField};
use arrow_select::filter::filter_record_batch;

use super::{Keep, Refusal};
use crate::error::{Error, Result};
use crate::identifier::{quote, quote_list};

/// A flush with one row per key.
pub struct Reduced {
    /// The rows that remain, batch by batch.
    pub batches: Vec<RecordBatch>,
    /// How many were superseded.
    pub superseded: u64,
    /// Rows with NULL in the key.
    pub refused: Vec<Refusal>,
    /// For each remaining batch, the original row of each row.
    pub origin: Vec<Vec<usize>>,
}

/// Reduces repeated keys to their last row.
pub fn reduce(batches: &[RecordBatch], key: &[String]) -> Result<Reduced> {
    let mut keep: Vec<Vec<bool>> = batches
        .iter()
        .map(|batch| vec![true; batch.num_rows()])
        .collect();
    let mut refused = Vec::new();
    let mut superseded = 0;
    let mut last: HashMap<OwnedRow, (usize, usize)> = HashMap::new();
    let mut converter: Option<RowConverter> = None;
    for (index, batch) in batches.iter().enumerate() {
        let columns = key
            .iter()
            .map(|name| {
                batch.column_by_name(name).cloned().ok_or_else(|| {
                    Error::config(format!(
                        "the key column `{name}` is not among the output columns"
                    ))
                    .hint("correct `sink.key`")
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let converter = match &mut converter {
            Some(converter) => converter,
            None => converter.insert(RowConverter::new(
                columns
                    .iter()
                    .map(|column| SortField::new(column.data_type().clone()))
                    .collect(),
            )?),
        };
        let rows = converter.convert_columns(&columns)?;
        for (row, bytes) in rows.iter().enumerate() {
            let null = columns
                .iter()
                .zip(key)
                .find(|(column, _)| column.is_null(row));
            if let Some((_, name)) = null {
                set(&mut keep, index, row);
                refused.push(Refusal {
                    batch: index,
                    row,
                    column: name.clone(),
                    reason: "NULL in the key".to_owned(),
                    told: String::new(),
                });
            } else if let Some((batch, earlier)) = last.insert(bytes.owned(), (index, row)) {
                set(&mut keep, batch, earlier);
                superseded += 1;
            }
        }
    }
    let mut reduced = Vec::with_capacity(batches.len());
    let mut origin = Vec::with_capacity(batches.len());
    for (batch, keep) in batches.iter().zip(keep) {
        origin.push(
            (0..keep.len())
                .filter(|&row| keep.get(row) == Some(&true))
                .collect(),
        );
        reduced.push(if keep.iter().all(|keep| *keep) {
            batch.clone()
        } else {
            filter_record_batch(batch, &BooleanArray::from(keep))?
        });
    }
    Ok(Reduced {
        batches: reduced,
        superseded,
        refused,
        origin,
    })
}

/// What an upsert does with a row whose key is there already.
pub struct OnConflict {
    /// The clause behind `INSERT INTO … AS t … SELECT`.
    pub clause: String,
    /// Every row is written: none yields to one that is there.
    pub every: bool,
}

/// The clause for these columns. `in_order` makes a column of one side compare as its values mean.
pub fn on_conflict<'a>(
    columns: impl Iterator<Item = &'a str>,
    key: &[String],
    keep: &Keep,
    in_order: impl Fn(&str) -> String,
) -> OnConflict {
    let updates: Vec<String> = columns
        .filter(|name| !key.iter().any(|key| key == name))
        .map(|name| format!("{0} = excluded.{0}", quote(name)))
        .collect();
    let older = match keep {
        Keep::Last => Some(String::new()),
        Keep::Newer(None) => None,
        Keep::Newer(Some(column)) => {
            let side = |side: &str| in_order(&format!("{side}.{}", quote(column)));
            Some(format!(" WHERE {} < {}", side("t"), side("excluded")))
        }
    };
    let action = match older {
        Some(older) if !updates.is_empty() => format!("UPDATE SET {}{older}", updates.join(", ")),
        _ => "NOTHING".to_owned(),
    };
    let key = quote_list(key.iter().map(String::as_str));
    OnConflict {
        clause: format!(" ON CONFLICT ({key}) DO {action}"),
        every: !updates.is_empty() && *keep == Keep::Last,
    }
}

fn set(keep: &mut [Vec<bool>], batch: usize, row: usize) {
    if let Some(slot) = keep.get_mut(batch).and_then(|rows| rows.get_mut(row)) {
        *slot = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(ids: &[Option<i64>], names: &[&str]) -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        RecordBatch::try_from_iter([("id", ids), ("name", names)]).unwrap()
    }

    #[test]
    fn the_last_row_of_a_key_wins_across_batches() {
        let batches = [
            batch(&[Some(1), Some(2), Some(1)], &["a", "b", "c"]),
            batch(&[None, Some(2)], &["d", "e"]),
        ];
        let reduced = reduce(&batches, &["id".to_owned()]).unwrap();
        assert_eq!(reduced.superseded, 2);
        assert_eq!(reduced.origin, vec![vec![2], vec![1]]);
        assert_eq!(reduced.refused.len(), 1);
        assert_eq!((reduced.refused[0].batch, reduced.refused[0].row), (1, 0));
        let rows: usize = reduced.batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 2);
    }

    #[test]
    fn a_row_yields_only_where_it_is_told_to() {
        let clause = |keep: &Keep, columns: &[&str]| {
            let key = ["id".to_owned()];
            let conflict = on_conflict(columns.iter().copied(), &key, keep, |side| {
                format!("f({side})")
            });
            (conflict.clause, conflict.every)
        };
        let update = " ON CONFLICT (\"id\") DO UPDATE SET \"a\" = excluded.\"a\"";
        assert_eq!(clause(&Keep::Last, &["id", "a"]), (update.to_owned(), true));
        assert_eq!(
            clause(&Keep::Newer(Some("at".to_owned())), &["id", "a"]),
            (
                format!("{update} WHERE f(t.\"at\") < f(excluded.\"at\")"),
                false
            )
        );
        let nothing = (" ON CONFLICT (\"id\") DO NOTHING".to_owned(), false);
        assert_eq!(clause(&Keep::Newer(None), &["id", "a"]), nothing);
        assert_eq!(clause(&Keep::Last, &["id"]), nothing);
    }

    #[test]
    fn an_unknown_key_column_is_a_mistake_of_the_configuration() {
        let error = reduce(&[batch(&[], &[])], &["nope".to_owned()])
            .err()
            .unwrap();
        assert!(error.to_string().contains("`nope`"));
    }
}
