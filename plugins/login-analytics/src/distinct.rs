//! The distinct values of a batch's rows, and columns that are made of each of them once.
//!
//! Logins repeat themselves: a few hundred user agents and countries in thousands of rows. A column made here is
//! dictionary-encoded, so no row costs a text of its own.

use std::collections::hash_map::{Entry, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use etl_plugin_api::arrow::array::types::Int32Type;
use etl_plugin_api::arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray};
use etl_plugin_api::arrow::buffer::{ArrowNativeType, NullBuffer};
use etl_plugin_api::prelude::*;
use foldhash::quality::RandomState;

/// The type of the columns.
pub fn column_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// What is in the rows of one batch.
#[derive(Debug)]
pub struct Distinct<T> {
    /// Each once, in the order in which they came.
    pub values: Vec<T>,
    /// The place of each row's value among them.
    places: Int32Array,
}

impl<T: Copy + Eq + Hash> Distinct<T> {
    /// Of rows, one after another; ends with the first that has no value but an error.
    pub fn of<E>(rows: impl Iterator<Item = Result<T, E>>) -> Result<Self, E> {
        // Whoever logs in chooses the values, but neither sees the seed nor how long one batch takes.
        let mut known = HashMap::with_hasher(RandomState::default());
        let mut values = Vec::new();
        let mut places = Vec::with_capacity(rows.size_hint().0);
        for value in rows {
            let value = value?;
            places.push(match known.entry(value) {
                Entry::Occupied(place) => *place.get(),
                Entry::Vacant(free) => {
                    // A batch has fewer rows than this by far.
                    let place = i32::try_from(values.len()).unwrap_or(i32::MAX);
                    values.push(value);
                    *free.insert(place)
                }
            });
        }
        Ok(Self {
            values,
            places: places.into(),
        })
    }

    /// Of rows that have all the same value.
    pub fn one(value: T, rows: usize) -> Self {
        Self {
            values: vec![value],
            places: Int32Array::from_value(0, rows),
        }
    }

    /// A column that has, in each row, the text that belongs to the row's value.
    pub fn column<S: AsRef<str>>(
        &self,
        texts: impl Iterator<Item = Option<S>>,
    ) -> Result<ArrayRef, StageError> {
        let texts: StringArray = texts.collect();
        // NULL is said by the row's place, where every reader looks for it, and not by the text.
        let nulls = texts.nulls().map(|texts| {
            let rows = self.places.values();
            rows.iter()
                .map(|text| texts.is_valid(text.as_usize()))
                .collect::<NullBuffer>()
        });
        let places = Int32Array::try_new(self.places.values().clone(), nulls)?;
        let column = DictionaryArray::<Int32Type>::try_new(places, Arc::new(texts))?;
        Ok(Arc::new(column))
    }
}

#[cfg(test)]
mod tests {
    use etl_plugin_api::arrow::array::cast::AsArray;

    use super::*;

    #[test]
    fn each_value_is_kept_once_and_each_row_has_its_own() {
        let rows = [Some("a"), None, Some("b"), Some("a"), None];
        let distinct = Distinct::of(rows.into_iter().map(Ok::<_, ()>)).unwrap();
        assert_eq!(distinct.values, [Some("a"), None, Some("b")]);
        let column = distinct.column(distinct.values.iter().copied()).unwrap();
        assert_eq!(
            (column.data_type(), column.null_count()),
            (&column_type(), 2)
        );
        let words = column.as_dictionary::<Int32Type>();
        assert_eq!(words.values().len(), 3);
        let words = words.downcast_dict::<StringArray>().unwrap();
        assert_eq!(words.into_iter().collect::<Vec<_>>(), rows);
    }

    #[test]
    fn rows_may_all_be_the_same_or_none() {
        for rows in [0, 3] {
            let shard = Distinct::one("eu", rows);
            let column = shard.column(shard.values.iter().map(Some)).unwrap();
            let words = column.as_dictionary::<Int32Type>();
            let words = words.downcast_dict::<StringArray>().unwrap();
            assert_eq!(
                words.into_iter().collect::<Vec<_>>(),
                vec![Some("eu"); rows]
            );
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let rows = [Ok(1), Err("bad"), Err("worse")];
        assert_eq!(Distinct::of(rows.into_iter()).unwrap_err(), "bad");
    }
}
