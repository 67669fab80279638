//! Keys of an upsert: within one flush the last row of each counts, and one with NULL is refused; what remains is in the
//! key's order. A key that is there already is updated or left.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_row::{RowConverter, SortField};
use arrow_schema::{DataType, Schema};
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take;

use super::{Keep, Refusal};
use crate::error::{Error, Result};
use crate::identifier::{quote, quote_list};

/// Rows of a batch that is made here: enough to spread what a batch costs, few enough for text that is long.
const ROWS_AT_ONCE: usize = 8192;

/// In which order the rows that remain are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Of the key: an index is written several times as fast in its own order.
    Key,
    /// As they came. Where the sink takes keys of several spellings for one, the last of them must win there, too.
    Arrival,
}

/// A flush with one row per key.
pub struct Reduced {
    /// The rows that remain, batch by batch.
    pub batches: Vec<RecordBatch>,
    /// How many were superseded.
    pub superseded: u64,
    /// Rows with NULL in the key.
    pub refused: Vec<Refusal>,
    /// Where the remaining rows come from, one after the other: batch and row.
    places: Option<Vec<(usize, usize)>>,
    /// Where each of the batches begins among the remaining rows.
    starts: Vec<usize>,
}

impl Reduced {
    /// Nothing had to be left out or moved.
    fn as_they_are(batches: &[RecordBatch]) -> Self {
        Self {
            batches: batches.to_vec(),
            superseded: 0,
            refused: Vec::new(),
            places: None,
            starts: Vec::new(),
        }
    }

    /// Where a row of [`Self::batches`] was before: batch and row.
    pub fn origin(&self, batch: usize, row: usize) -> (usize, usize) {
        self.places
            .as_ref()
            .zip(self.starts.get(batch))
            .and_then(|(places, start)| places.get(start + row))
            .copied()
            .unwrap_or((batch, row))
    }
}

/// Reduces repeated keys to their last row.
pub fn reduce(batches: &[RecordBatch], key: &[String], order: Order) -> Result<Reduced> {
    let keys = batches
        .iter()
        .map(|batch| key_columns(batch, key))
        .collect::<Result<Vec<_>>>()?;
    let Some(first) = keys.first() else {
        return Ok(Reduced::as_they_are(batches));
    };
    let fields = first
        .iter()
        .map(|column| SortField::new(column.data_type().clone()));
    let converter = RowConverter::new(fields.collect())?;
    let count = batches.iter().map(RecordBatch::num_rows).sum();
    let mut rows = converter.empty_rows(count, 0);
    let mut places = Vec::with_capacity(count);
    let mut refused = Vec::new();
    for (index, columns) in keys.iter().enumerate() {
        converter.append(&mut rows, columns)?;
        // A dictionary's word may be NULL where its key is not.
        let nulls: Vec<_> = columns.iter().map(Array::logical_nulls).collect();
        let is_null =
            |nulls: &Option<NullBuffer>, row| nulls.as_ref().is_some_and(|it| it.is_null(row));
        for row in 0..columns.first().map_or(0, Array::len) {
            let null = nulls.iter().zip(key).find(|(nulls, _)| is_null(nulls, row));
            match null {
                None => places.push((places.len() + refused.len(), index, row)),
                Some((_, name)) => refused.push(Refusal {
                    batch: index,
                    row,
                    column: name.clone(),
                    reason: "NULL in the key".to_owned(),
                    told: String::new(),
                }),
            }
        }
    }
    if refused.is_empty() && places.is_sorted_by(|a, b| rows.row(a.0) < rows.row(b.0)) {
        return Ok(Reduced::as_they_are(batches));
    }
    // Rows of one key keep their order, and the last of them remains.
    places.sort_by(|a, b| rows.row(a.0).cmp(&rows.row(b.0)));
    let sorted = places.len();
    let mut kept: Vec<(usize, usize)> = Vec::with_capacity(sorted);
    for (at, (number, batch, row)) in places.iter().enumerate() {
        let next = places.get(at + 1);
        if next.is_none_or(|next| rows.row(next.0) != rows.row(*number)) {
            kept.push((*batch, *row));
        }
    }
    if order == Order::Arrival {
        kept.sort_unstable();
    }
    let parts = kept.chunks(ROWS_AT_ONCE);
    let from = batches
        .iter()
        .map(without_small_dictionaries)
        .collect::<Result<Vec<_>>>()?;
    let from: Vec<&RecordBatch> = from.iter().collect();
    let batches = parts
        .map(|part| Ok(interleave_record_batch(&from, part)?))
        .collect::<Result<Vec<_>>>()?;
    Ok(Reduced {
        starts: (0..batches.len())
            .map(|index| index * ROWS_AT_ONCE)
            .collect(),
        batches,
        superseded: (sorted - kept.len()) as u64,
        refused,
        places: Some(kept),
    })
}

/// Rows of several batches may have more words together than a small number can count.
fn without_small_dictionaries(batch: &RecordBatch) -> Result<RecordBatch> {
    use DataType::{Dictionary, Int8, Int16, UInt8, UInt16};
    let is_small = |column: &ArrayRef| match column.data_type() {
        Dictionary(key, _) => matches!(**key, Int8 | Int16 | UInt8 | UInt16),
        _ => false,
    };
    if !batch.columns().iter().any(is_small) {
        return Ok(batch.clone());
    }
    let (schema, columns, _) = batch.clone().into_parts();
    let mut fields = Vec::with_capacity(columns.len());
    let mut plain = Vec::with_capacity(columns.len());
    for (field, column) in schema.fields().iter().zip(columns) {
        let column = match column.as_any_dictionary_opt() {
            Some(dictionary) if is_small(&column) => {
                take(dictionary.values(), dictionary.keys(), None)?
            }
            _ => column,
        };
        let field = field.as_ref().clone();
        fields.push(field.with_data_type(column.data_type().clone()));
        plain.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), plain)?)
}

fn key_columns(batch: &RecordBatch, key: &[String]) -> Result<Vec<ArrayRef>> {
    key.iter()
        .map(|name| {
            batch.column_by_name(name).cloned().ok_or_else(|| {
                Error::config(format!(
                    "the key column `{name}` is not among the output columns"
                ))
                .hint("correct `sink.key`")
            })
        })
        .collect()
}

/// What an upsert does with a row whose key is there already.
pub struct OnConflict {
    /// The clause behind `INSERT INTO … AS t … SELECT`.
    pub clause: String,
    /// Every row is written: none yields to one that is there.
    pub every: bool,
}

/// The condition under which two lists of columns differ.
pub type Differ = dyn Fn(&str, &str) -> String;

/// How the two sides of a conflict are compared in a dialect of SQL.
pub struct Comparison<'a> {
    /// Makes a column of one side compare as its values mean.
    pub in_order: &'a dyn Fn(&str) -> String,
    /// Whether two lists of columns differ; `None` writes rows that are the same, too.
    pub differ: Option<&'a Differ>,
}

/// The clause for these columns.
pub fn on_conflict<'a>(
    columns: impl Iterator<Item = &'a str>,
    key: &[String],
    keep: &Keep,
    compare: &Comparison<'_>,
) -> OnConflict {
    let others: Vec<String> = columns
        .filter(|name| !key.iter().any(|key| key == name))
        .map(quote)
        .collect();
    let updates: Vec<String> = others
        .iter()
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    let side = |side: &str| {
        let columns: Vec<_> = others.iter().map(|name| format!("{side}.{name}")).collect();
        columns.join(", ")
    };
    let condition = match (keep, compare.differ) {
        (Keep::Last, None) => Some(String::new()),
        (Keep::Last, Some(differ)) => {
            Some(format!(" WHERE {}", differ(&side("t"), &side("excluded"))))
        }
        (Keep::Newer(None), _) => None,
        (Keep::Newer(Some(column)), _) => {
            let side = |side: &str| (compare.in_order)(&format!("{side}.{}", quote(column)));
            Some(format!(" WHERE {} < {}", side("t"), side("excluded")))
        }
    };
    let action = match condition {
        Some(condition) if !updates.is_empty() => {
            format!("UPDATE SET {}{condition}", updates.join(", "))
        }
        _ => "NOTHING".to_owned(),
    };
    let key = quote_list(key.iter().map(String::as_str));
    OnConflict {
        clause: format!(" ON CONFLICT ({key}) DO {action}"),
        every: !updates.is_empty() && *keep == Keep::Last && compare.differ.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow_array::types::{Int8Type, Int64Type};
    use arrow_array::{DictionaryArray, Int32Array, Int64Array, StringArray};
    use proptest::prelude::*;

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
        let reduced = reduce(&batches, &["id".to_owned()], Order::Key).unwrap();
        assert_eq!(reduced.superseded, 2);
        assert_eq!(
            [reduced.origin(0, 0), reduced.origin(0, 1)],
            [(0, 2), (1, 1)]
        );
        assert_eq!(reduced.refused.len(), 1);
        assert_eq!((reduced.refused[0].batch, reduced.refused[0].row), (1, 0));
        let rows: usize = reduced.batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 2);
    }

    proptest! {
        #[test]
        fn what_remains_is_sorted_and_knows_where_it_comes_from(
            keys in prop::collection::vec(prop::collection::vec(prop::option::weighted(0.9, 0i64..40), 0..30), 1..5)
        ) {
            let batches: Vec<_> = keys.iter().map(|ids| batch(ids, &vec!["x"; ids.len()])).collect();
            let reduced = reduce(&batches, &["id".to_owned()], Order::Key).unwrap();
            let mut expected = BTreeMap::new();
            let mut nulls = 0;
            for (index, ids) in keys.iter().enumerate() {
                for (row, id) in ids.iter().enumerate() {
                    match id {
                        Some(id) => drop(expected.insert(*id, (index, row))),
                        None => nulls += 1,
                    }
                }
            }
            let mut found = Vec::new();
            for (index, batch) in reduced.batches.iter().enumerate() {
                for (row, id) in batch.column(0).as_primitive::<Int64Type>().iter().enumerate() {
                    found.push((id.unwrap(), reduced.origin(index, row)));
                }
            }
            let all: usize = keys.iter().map(Vec::len).sum();
            prop_assert_eq!(all, found.len() + nulls + usize::try_from(reduced.superseded).unwrap());
            prop_assert_eq!(reduced.refused.len(), nulls);
            prop_assert_eq!(&found, &expected.into_iter().collect::<Vec<_>>());
            let arrived = reduce(&batches, &["id".to_owned()], Order::Arrival).unwrap();
            let places: Vec<_> = (0..arrived.batches.len())
                .flat_map(|index| (0..arrived.batches[index].num_rows()).map(move |row| (index, row)))
                .map(|(index, row)| arrived.origin(index, row))
                .collect();
            prop_assert!(places.is_sorted());
            found.sort_by_key(|(_, place)| *place);
            prop_assert_eq!(places, found.into_iter().map(|(_, place)| place).collect::<Vec<_>>());
        }
    }

    #[test]
    fn many_batches_have_more_words_than_a_small_dictionary() {
        let batch = |from: i64| {
            let words: DictionaryArray<Int8Type> = (from..from + 100)
                .map(|n| format!("word {n}"))
                .collect::<Vec<_>>()
                .iter()
                .map(String::as_str)
                .collect();
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((from..from + 100).rev()));
            RecordBatch::try_from_iter([("id", ids), ("word", Arc::new(words) as ArrayRef)])
                .unwrap()
        };
        let reduced = reduce(&[batch(0), batch(100)], &["id".to_owned()], Order::Key).unwrap();
        let words = reduced.batches[0].column(1).as_string::<i32>();
        assert_eq!(
            (words.len(), words.value(0), words.value(199)),
            (200, "word 99", "word 100")
        );
    }

    #[test]
    fn a_word_that_is_null_is_null_in_a_key() {
        let words = StringArray::from(vec![Some("a"), None]);
        let keys = Int32Array::from(vec![0, 1, 0]);
        let key: ArrayRef = Arc::new(DictionaryArray::try_new(keys, Arc::new(words)).unwrap());
        let batch = RecordBatch::try_from_iter([("id", key)]).unwrap();
        let reduced = reduce(&[batch], &["id".to_owned()], Order::Key).unwrap();
        assert_eq!((reduced.refused.len(), reduced.superseded), (1, 1));
    }

    #[test]
    fn a_row_that_is_there_as_it_is_may_be_left_alone() {
        let compare = Comparison {
            in_order: &str::to_owned,
            differ: Some(&|one, other| format!("({one}) IS DISTINCT FROM ({other})")),
        };
        let columns = ["id", "a", "b"].into_iter();
        let conflict = on_conflict(columns, &["id".to_owned()], &Keep::Last, &compare);
        assert_eq!(
            conflict.clause,
            " ON CONFLICT (\"id\") DO UPDATE SET \"a\" = excluded.\"a\", \"b\" = excluded.\"b\" \
             WHERE (t.\"a\", t.\"b\") IS DISTINCT FROM (excluded.\"a\", excluded.\"b\")"
        );
        assert!(!conflict.every);
    }

    #[test]
    fn a_row_yields_only_where_it_is_told_to() {
        let clause = |keep: &Keep, columns: &[&str]| {
            let key = ["id".to_owned()];
            let compare = Comparison {
                in_order: &|side| format!("f({side})"),
                differ: None,
            };
            let conflict = on_conflict(columns.iter().copied(), &key, keep, &compare);
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
        let error = reduce(&[batch(&[], &[])], &["nope".to_owned()], Order::Key)
            .err()
            .unwrap();
        assert!(error.to_string().contains("`nope`"));
    }
}
