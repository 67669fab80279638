//! U+0000 in text, which `PostgreSQL` cannot hold and many a program takes for the end: what the configuration wants
//! done with it, before a flush is written.
//!
//! Rows that are set aside for it are refused by each sink, like any other value that does not fit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, LargeStringArray, RecordBatch, RecordBatchOptions, StringArray,
    StringViewArray,
};
use arrow_schema::DataType;

use super::Claim;
use crate::config::{NulCharacters, TableName};
use crate::error::{Error, Result};

/// One attempt's text, and how much of it was changed. That is told when the attempt ends, however it does.
pub struct NulFilter {
    wanted: NulCharacters,
    pipeline: String,
    partition: String,
    changed: BTreeMap<String, u64>,
}

impl NulFilter {
    /// A filter for an attempt.
    pub fn new(wanted: NulCharacters, claim: &Claim) -> Self {
        Self {
            wanted,
            pipeline: claim.tenure.pipeline.clone(),
            partition: claim.partition.clone(),
            changed: BTreeMap::new(),
        }
    }

    /// Whether rows with it are set aside.
    pub fn sets_aside(&self) -> bool {
        self.wanted == NulCharacters::Quarantine
    }

    /// The batches without it, if it is to be stripped or replaced, in these columns of the table: index and name.
    pub fn clean<'a>(
        &mut self,
        table: &TableName,
        columns: &[(usize, &str)],
        batches: &'a [RecordBatch],
    ) -> Result<Cow<'a, [RecordBatch]>> {
        let mut cleaned = Cow::Borrowed(batches);
        if matches!(self.wanted, NulCharacters::Keep | NulCharacters::Quarantine) {
            return Ok(cleaned);
        }
        for (index, batch) in batches.iter().enumerate() {
            let mut arrays = Cow::Borrowed(batch.columns());
            for &(column, name) in columns {
                let Some(Found {
                    count,
                    first,
                    array,
                }) = batch
                    .columns()
                    .get(column)
                    .and_then(|array| self.find(array))
                else {
                    continue;
                };
                if self.wanted == NulCharacters::Fail {
                    return Err(Error::data(format!(
                        "table {table}, column `{name}`, row {} of its batch: text with U+0000",
                        first + 1
                    ))
                    .hint("mend the row, or set `sink.nul_characters` to `strip`, `replace` or `quarantine`"));
                }
                *self.changed.entry(format!("{table}.{name}")).or_default() += count;
                if let Some(slot) = arrays.to_mut().get_mut(column) {
                    *slot = array;
                }
            }
            if let Cow::Owned(arrays) = arrays {
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let batch = RecordBatch::try_new_with_options(batch.schema(), arrays, &options)?;
                if let Some(slot) = cleaned.to_mut().get_mut(index) {
                    *slot = batch;
                }
            }
        }
        Ok(cleaned)
    }

    /// The values of a text column that hold it; `None` if there are none.
    fn find(&self, array: &ArrayRef) -> Option<Found> {
        match array.data_type() {
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                // Most columns have none at all, which a look at their bytes tells.
                let none = !texts.value_data().contains(&0);
                among(texts.iter().filter(|_| !none), || {
                    Arc::new(self.change_all::<StringArray>(texts.iter()))
                })
            }
            DataType::LargeUtf8 => {
                let texts = array.as_string::<i64>();
                let none = !texts.value_data().contains(&0);
                among(texts.iter().filter(|_| !none), || {
                    Arc::new(self.change_all::<LargeStringArray>(texts.iter()))
                })
            }
            DataType::Utf8View => {
                let texts = array.as_string_view();
                among(texts.iter(), || {
                    Arc::new(self.change_all::<StringViewArray>(texts.iter()))
                })
            }
            DataType::Dictionary(_, value) if value.as_ref() == &DataType::Utf8 => {
                let dictionary = array.as_any_dictionary();
                let words = dictionary.values().as_string::<i32>();
                if words.is_empty() || !words.value_data().contains(&0) {
                    return None;
                }
                let rows =
                    dictionary
                        .normalized_keys()
                        .into_iter()
                        .enumerate()
                        .map(|(row, word)| {
                            (array.is_valid(row) && words.is_valid(word)).then(|| words.value(word))
                        });
                let rows: Vec<Option<&str>> = rows.collect();
                among(rows.into_iter(), || {
                    dictionary.with_values(Arc::new(self.change_all::<StringArray>(words.iter())))
                })
            }
            _ => None,
        }
    }

    fn change_all<'a, A: FromIterator<Option<Cow<'a, str>>>>(
        &self,
        texts: impl Iterator<Item = Option<&'a str>>,
    ) -> A {
        let instead = if self.wanted == NulCharacters::Replace {
            "\u{fffd}"
        } else {
            ""
        };
        texts
            .map(|text| {
                text.map(|text| {
                    if text.contains('\0') {
                        Cow::Owned(text.replace('\0', instead))
                    } else {
                        Cow::Borrowed(text)
                    }
                })
            })
            .collect()
    }
}

/// Those of a column's texts that hold it, and the column without it.
fn among<'a>(
    texts: impl Iterator<Item = Option<&'a str>>,
    change: impl FnOnce() -> ArrayRef,
) -> Option<Found> {
    let mut rows = texts
        .enumerate()
        .filter(|(_, text)| text.is_some_and(|text| text.contains('\0')))
        .map(|(row, _)| row);
    let first = rows.next()?;
    Some(Found {
        count: 1 + rows.count() as u64,
        first,
        array: change(),
    })
}

/// A column that holds it.
struct Found {
    /// How many values do.
    count: u64,
    /// The first row.
    first: usize,
    /// The column without it.
    array: ArrayRef,
}

impl Drop for NulFilter {
    fn drop(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        let values: Vec<String> = self
            .changed
            .iter()
            .map(|(column, count)| format!("{column}: {count}"))
            .collect();
        tracing::warn!(
            pipeline = self.pipeline,
            partition = self.partition,
            values = values.join(", "),
            "U+0000 was {} in text",
            if self.wanted == NulCharacters::Replace {
                "replaced"
            } else {
                "stripped"
            }
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow_array::types::Int32Type;
    use arrow_array::{DictionaryArray, Int64Array};

    use super::*;
    use crate::holder::Holder;
    use crate::sink::Tenure;

    fn filter(wanted: NulCharacters) -> NulFilter {
        let claim = Claim {
            tenure: Tenure {
                pipeline: "p".into(),
                run_id: String::new(),
                holder: Holder::default(),
                lease: Duration::from_mins(1),
            },
            partition: "a".into(),
            leased: "a".into(),
            index: 0,
            retry: false,
            replay: false,
        };
        NulFilter::new(wanted, &claim)
    }

    fn batch() -> RecordBatch {
        let texts = [Some("fine"), None, Some("a\0b\0"), Some("\0")];
        let words: DictionaryArray<Int32Type> = texts.into_iter().collect();
        RecordBatch::try_from_iter([
            (
                "small",
                Arc::new(StringArray::from(texts.to_vec())) as ArrayRef,
            ),
            ("large", Arc::new(LargeStringArray::from(texts.to_vec()))),
            ("view", Arc::new(StringViewArray::from(texts.to_vec()))),
            ("word", Arc::new(words)),
            ("number", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ])
        .unwrap()
    }

    const COLUMNS: [(usize, &str); 5] = [
        (0, "small"),
        (1, "large"),
        (2, "view"),
        (3, "word"),
        (4, "number"),
    ];

    fn clean(filter: &mut NulFilter, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let table = "t".parse().unwrap();
        filter.clean(&table, &COLUMNS, batches).map(Cow::into_owned)
    }

    #[test]
    fn every_kind_of_text_is_changed_and_counted() {
        for (wanted, expected) in [
            (
                NulCharacters::Strip,
                [Some("fine"), None, Some("ab"), Some("")],
            ),
            (
                NulCharacters::Replace,
                [
                    Some("fine"),
                    None,
                    Some("a\u{fffd}b\u{fffd}"),
                    Some("\u{fffd}"),
                ],
            ),
        ] {
            let mut filter = filter(wanted);
            let cleaned = clean(&mut filter, &[batch().slice(0, 1), batch()]).unwrap();
            assert_eq!(cleaned[0], batch().slice(0, 1));
            let columns = cleaned[1].columns();
            let words = columns[3].as_dictionary::<Int32Type>();
            let words = words.downcast_dict::<StringArray>().unwrap();
            for texts in [
                columns[0].as_string::<i32>().iter().collect::<Vec<_>>(),
                columns[1].as_string::<i64>().iter().collect(),
                columns[2].as_string_view().iter().collect(),
                words.into_iter().collect(),
            ] {
                assert_eq!(texts, expected);
            }
            assert_eq!(filter.changed.values().sum::<u64>(), 8);
        }
    }

    #[test]
    fn a_failure_names_the_place_and_not_the_value() {
        let error = clean(&mut filter(NulCharacters::Fail), &[batch()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "table t, column `small`, row 3 of its batch: text with U+0000"
        );
    }

    #[test]
    fn what_is_kept_or_set_aside_is_not_changed() {
        for wanted in [NulCharacters::Keep, NulCharacters::Quarantine] {
            assert_eq!(clean(&mut filter(wanted), &[batch()]).unwrap(), [batch()]);
        }
    }
}
