//! The cursors of a batch's rows, kept as the source reads them and turned into text only where a commit needs one.

use std::cmp::Ordering;

use arrow_array::{Array, StringArray};
use etl_plugin_api::Cursor;

use super::time::TimeForm;
use crate::config::{Cursor as CursorConfig, CursorKind};
use crate::error::{Error, Result};

/// The cursor of each row of a batch, at the source's full precision.
#[derive(Clone, Debug)]
pub enum CursorColumn {
    /// Numbers.
    Integer(Vec<i64>),
    /// The source's own text.
    Text(StringArray),
    /// Times in ticks of 100 ns since 0001-01-01, and how they are written.
    Time(Vec<i64>, TimeForm),
    /// SQL Server's `rowversion`, a number of 64 bits.
    Rowversion(Vec<u64>),
    /// Times with a number that is unique among rows of the same time.
    Keyset(Box<CursorColumn>, Vec<i64>),
}

impl CursorColumn {
    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Integer(values) | Self::Time(values, _) | Self::Keyset(_, values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Rowversion(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cursor of one row.
    pub fn get(&self, row: usize) -> Option<Cursor> {
        match self {
            Self::Integer(values) => values.get(row).map(|value| Cursor::Integer(*value)),
            Self::Text(values) => {
                (row < values.len()).then(|| Cursor::Text(values.value(row).to_owned()))
            }
            Self::Time(values, form) => values
                .get(row)
                .map(|ticks| Cursor::Text(form.write(*ticks))),
            Self::Rowversion(values) => values.get(row).map(|value| rowversion(*value)),
            Self::Keyset(times, ids) => match (times.get(row)?, ids.get(row)?) {
                (Cursor::Text(time), id) => Some(Cursor::Keyset { time, id: *id }),
                _ => None,
            },
        }
    }

    /// Whether two rows have the same cursor.
    pub fn same(&self, a: usize, b: usize) -> bool {
        self.order(a, b) == Some(Ordering::Equal)
    }

    /// Whether no row comes before its predecessor.
    pub fn is_sorted(&self) -> bool {
        (1..self.len()).all(|row| self.order(row - 1, row).is_some_and(Ordering::is_le))
    }

    /// Which of two rows comes first; `None` if one of them is not there.
    pub fn order(&self, a: usize, b: usize) -> Option<Ordering> {
        match self {
            Self::Integer(values) | Self::Time(values, _) => {
                Some(values.get(a)?.cmp(values.get(b)?))
            }
            Self::Text(values) => (a < values.len() && b < values.len())
                .then(|| values.value(a).as_bytes().cmp(values.value(b).as_bytes())),
            Self::Rowversion(values) => Some(values.get(a)?.cmp(values.get(b)?)),
            Self::Keyset(times, ids) => {
                let by_id = ids.get(a)?.cmp(ids.get(b)?);
                Some(times.order(a, b)?.then(by_id))
            }
        }
    }

    /// A run of rows; empty where they are not there.
    #[must_use]
    pub fn slice(&self, start: usize, rows: usize) -> Self {
        let range = start..start + rows;
        match self {
            Self::Integer(values) => Self::Integer(values.get(range).unwrap_or_default().to_vec()),
            Self::Text(values) => Self::Text(values.slice(start, rows)),
            Self::Time(values, form) => {
                Self::Time(values.get(range).unwrap_or_default().to_vec(), *form)
            }
            Self::Rowversion(values) => {
                Self::Rowversion(values.get(range).unwrap_or_default().to_vec())
            }
            Self::Keyset(times, ids) => Self::Keyset(
                Box::new(times.slice(start, rows)),
                ids.get(range).unwrap_or_default().to_vec(),
            ),
        }
    }

    /// Only the rows that are marked; rows without a mark are left out.
    #[must_use]
    pub fn select(&self, keep: &[bool]) -> Self {
        fn kept<T: Copy>(values: &[T], keep: &[bool]) -> Vec<T> {
            let marked = values.iter().zip(keep);
            marked
                .filter(|(_, keep)| **keep)
                .map(|(value, _)| *value)
                .collect()
        }
        match self {
            Self::Integer(values) => Self::Integer(kept(values, keep)),
            Self::Text(values) => {
                let marked = values.iter().zip(keep);
                Self::Text(
                    marked
                        .filter(|(_, keep)| **keep)
                        .map(|(value, _)| value)
                        .collect(),
                )
            }
            Self::Time(values, form) => Self::Time(kept(values, keep), *form),
            Self::Rowversion(values) => Self::Rowversion(kept(values, keep)),
            Self::Keyset(times, ids) => Self::Keyset(Box::new(times.select(keep)), kept(ids, keep)),
        }
    }
}

/// A `rowversion` as SQL Server writes it; sixteen digits always, so that the order of the text is that of the numbers.
pub fn rowversion(value: u64) -> Cursor {
    Cursor::Text(format!("0x{value:016X}"))
}

/// Reads a `rowversion` as [`rowversion`] writes it, or with fewer digits.
pub fn parse_rowversion(text: &str) -> Option<u64> {
    let digits = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))?;
    u64::from_str_radix(digits, 16).ok()
}

/// A position as people write one for a keyset: `TIME,NUMBER`, or a time alone, which stands behind all its rows.
fn split_keyset(text: &str) -> Option<(&str, i64)> {
    match text.rsplit_once(',') {
        Some((time, id)) => Some((time.trim(), id.trim().parse().ok()?)),
        None => Some((text, i64::MAX)),
    }
}

/// A position as people write it. `time` brings a time into the form of the cursor's column, or finds that it is none.
pub fn parse_position(
    cursor: &CursorConfig,
    text: &str,
    time: impl Fn(&str) -> Option<String>,
) -> Result<Cursor> {
    match (cursor.kind, &cursor.id) {
        (CursorKind::Integer, _) => text
            .parse()
            .map(Cursor::Integer)
            .map_err(|_| Error::config(format!("`{text}` is no integer, but the cursor is"))),
        (CursorKind::Rowversion, _) => parse_rowversion(text).map(rowversion).ok_or_else(|| {
            Error::config(format!("`{text}` is no rowversion")).hint("write 0x00000000000007D1")
        }),
        (CursorKind::Timestamp, None) => {
            time(text).map(Cursor::Text).ok_or_else(|| not_a_time(text))
        }
        (CursorKind::Timestamp, Some(_)) => split_keyset(text)
            .and_then(|(at, id)| {
                Some(Cursor::Keyset {
                    time: time(at)?,
                    id,
                })
            })
            .ok_or_else(|| not_a_time(text)),
    }
}

fn not_a_time(text: &str) -> Error {
    Error::config(format!("`{text}` is no time of the cursor column")).hint(
        "write 2024-01-31 or 2024-01-31T23:59:59, for a keyset with `,` and the number behind it",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::compare;

    #[test]
    fn a_rowversion_is_written_as_the_server_writes_it() {
        assert_eq!(rowversion(2_001), Cursor::Text("0x00000000000007D1".into()));
        assert_eq!(parse_rowversion("0x7d1"), Some(2_001));
        for no in ["2001", "0x", "0x1FFFFFFFFFFFFFFFF", ""] {
            assert_eq!(parse_rowversion(no), None, "{no}");
        }
    }

    #[test]
    fn a_keyset_may_be_given_as_a_time_alone() {
        assert_eq!(split_keyset("2024-01-31,-5"), Some(("2024-01-31", -5)));
        assert_eq!(split_keyset("2024-01-31"), Some(("2024-01-31", i64::MAX)));
        assert_eq!(split_keyset("2024-01-31,x"), None);
    }

    proptest! {
        /// What is compared row by row and what is committed must never disagree.
        #[test]
        fn rows_are_ordered_as_their_cursors_are(
            a in 0i64..3_000_000_000_000_000_000, b in 0i64..3_000_000_000_000_000_000, x: u64, y: u64, i: i64, j: i64, same: bool,
        ) {
            let b = if same { a } else { b };
            let times = CursorColumn::Time(vec![a, b], TimeForm::local(7));
            let columns = [
                CursorColumn::Integer(vec![i, j]),
                CursorColumn::Rowversion(vec![x, y]),
                CursorColumn::Keyset(Box::new(times.clone()), vec![i, j]),
                times,
            ];
            for column in columns {
                let cursors = (column.get(0).unwrap(), column.get(1).unwrap());
                prop_assert_eq!(column.order(0, 1), compare(&cursors.0, &cursors.1));
                prop_assert_eq!(column.slice(1, 1).get(0), Some(cursors.1.clone()));
                prop_assert_eq!(column.select(&[false, true]).get(0), Some(cursors.1));
            }
        }
    }
}
