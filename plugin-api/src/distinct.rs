//! The distinct values of a batch's rows, and columns that are made of each of them once.
//!
//! Data repeats itself: a few hundred user agents or countries in thousands of rows. A column made here is
//! dictionary-encoded, so that no row costs a text of its own. It keeps nothing from one batch to the next.

use std::collections::hash_map::{Entry, HashMap};
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow_buffer::{ArrowNativeType, NullBuffer};
use arrow_schema::{DataType, Field};
use foldhash::quality::RandomState;

use crate::error::Result;

/// What is in the rows of one batch, each value once.
///
/// ```
/// use etl_plugin_api::Distinct;
///
/// let countries = Distinct::of([Some("de"), Some("fr"), Some("de"), None]);
/// assert_eq!(countries.values, [Some("de"), Some("fr"), None]);
/// // Looked up three times, for four rows.
/// let names = countries.column(|code| code.map(str::to_uppercase))?;
/// assert_eq!(names.len(), 4);
/// # Ok::<(), etl_plugin_api::StageError>(())
/// ```
#[derive(Debug)]
pub struct Distinct<T> {
    /// Each once, in the order in which they came.
    pub values: Vec<T>,
    /// The place of each row's value among them.
    places: Int32Array,
}

impl Distinct<()> {
    /// A column that [`Distinct::column`] makes.
    pub fn field(name: &str, nullable: bool) -> Field {
        let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        Field::new(name, kind, nullable)
    }
}

impl<T: Eq + Hash + Clone> Distinct<T> {
    /// Of rows, one after another.
    pub fn of(rows: impl IntoIterator<Item = T>) -> Self {
        let Ok(distinct) = Self::try_of(rows.into_iter().map(Ok::<T, Infallible>));
        distinct
    }

    /// Of rows, one after another.
    ///
    /// # Errors
    ///
    /// The first one among them.
    pub fn try_of<E>(rows: impl IntoIterator<Item = Result<T, E>>) -> Result<Self, E> {
        let rows = rows.into_iter();
        // Whoever makes the rows chooses the values, but sees neither the seed nor how long one batch takes.
        let mut known = HashMap::with_hasher(RandomState::default());
        let mut values = Vec::new();
        let mut places = Vec::with_capacity(rows.size_hint().0);
        for value in rows {
            places.push(match known.entry(value?) {
                Entry::Occupied(place) => *place.get(),
                Entry::Vacant(free) => {
                    // A batch has fewer rows than this by far.
                    let place = i32::try_from(values.len()).unwrap_or(i32::MAX);
                    values.push(free.key().clone());
                    *free.insert(place)
                }
            });
        }
        Ok(Self {
            values,
            places: places.into(),
        })
    }
}

impl<T> Distinct<T> {
    /// Of rows that have all the same value.
    pub fn one(value: T, rows: usize) -> Self {
        Self {
            values: vec![value],
            places: Int32Array::from_value(0, rows),
        }
    }

    /// What a function makes of each value, in the same rows.
    pub fn map<U>(&self, function: impl FnMut(&T) -> U) -> Distinct<U> {
        Distinct {
            values: self.values.iter().map(function).collect(),
            places: self.places.clone(),
        }
    }

    /// A column that has, in each row, the text that belongs to the row's value; its field is [`Distinct::field`].
    ///
    /// # Errors
    ///
    /// None that is known: those of Arrow's builders.
    pub fn column<'a, S: AsRef<str>>(
        &'a self,
        text: impl FnMut(&'a T) -> Option<S>,
    ) -> Result<ArrayRef> {
        let texts: StringArray = self.values.iter().map(text).collect();
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
    use arrow_array::cast::AsArray;

    use super::*;

    fn words(column: &ArrayRef) -> Vec<Option<&str>> {
        let words = column.as_dictionary::<Int32Type>();
        let words = words.downcast_dict::<StringArray>().unwrap();
        words.into_iter().collect()
    }

    #[test]
    fn each_value_is_kept_once_and_each_row_has_its_own() {
        let rows = [Some("a"), None, Some("b"), Some("a"), None];
        let distinct = Distinct::of(rows);
        assert_eq!(distinct.values, [Some("a"), None, Some("b")]);
        let column = distinct.column(|text| *text).unwrap();
        assert_eq!(
            (column.data_type(), column.null_count()),
            (Distinct::field("", true).data_type(), 2)
        );
        assert_eq!(column.as_dictionary::<Int32Type>().values().len(), 3);
        assert_eq!(words(&column), rows);
    }

    #[test]
    fn rows_may_all_be_the_same_or_none() {
        for rows in [0, 3] {
            let column = Distinct::one("eu", rows)
                .column(|text| Some(*text))
                .unwrap();
            assert_eq!(words(&column), vec![Some("eu"); rows]);
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let rows = [Ok(1), Err("bad"), Err("worse")];
        assert_eq!(Distinct::try_of(rows).unwrap_err(), "bad");
    }
}
