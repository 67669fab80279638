//! How far a partition has been read and loaded, and the books of the run that brought it there.
//!
//! A checkpoint lives in the sink and changes only in the transaction that loads the rows before it; the connectors
//! do that. Here is what they store.

pub mod by_hand;
pub mod view;

use std::cmp::Ordering;

use etl_plugin_api::Cursor;
use serde::{Deserialize, Serialize};

/// The durable state of one partition of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// Counts the attempts; only the newest may commit.
    pub epoch: i64,
    /// Everything up to and including this is loaded; `None` before the first commit.
    pub cursor: Option<Cursor>,
    /// The server, database and query it was read from.
    pub fingerprint: Option<String>,
    /// The run that committed last.
    pub run_id: Option<String>,
    /// The books of that run, for this partition.
    pub ledger: Ledger,
    /// The columns that were written last; what they lack later is missed. Not shown to people.
    #[serde(skip)]
    pub columns: Vec<WrittenTable>,
    /// The epoch at which it was last changed by hand; what a loader holds from before does not count any more.
    pub edited_epoch: i64,
    /// When it was committed, as the sink writes it.
    pub updated_at: Option<String>,
}

impl Checkpoint {
    /// Whether rows may have been loaded under it, with a position or without.
    pub fn was_loaded(&self) -> bool {
        // Every commit writes the fingerprint; a reset takes it away.
        self.cursor.is_some() || self.fingerprint.is_some()
    }
}

/// The columns of one table, as a partition has written them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenTable {
    /// The table's name.
    pub table: String,
    /// Its columns.
    pub columns: Vec<WrittenColumn>,
}

/// A column, as a partition has written it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenColumn {
    /// Its name.
    pub name: String,
    /// Its type, in words of the host's own.
    #[serde(rename = "type")]
    pub data_type: String,
}

/// Written columns as a sink stores them; `None` if there are none.
pub fn columns_text(tables: &[WrittenTable]) -> Option<String> {
    if tables.is_empty() {
        return None;
    }
    // Strings only, so nothing can fail.
    serde_json::to_string(tables).ok()
}

/// Written columns as a sink has stored them. What cannot be read is not known.
pub fn parse_columns(text: Option<&str>) -> Vec<WrittenTable> {
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// Both ledgers of one partition in one run. Every row is on exactly one line of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Input: rows that the source gave.
    pub extracted: u64,
    /// Input: rows that output was made of.
    pub transformed: u64,
    /// Input: rows left out on purpose.
    pub filtered: u64,
    /// Input: rows set aside by the source or the transformer.
    pub rejected: u64,
    /// Output: rows that the transformer made.
    pub emitted: u64,
    /// Output: rows written.
    pub loaded: u64,
    /// Output: rows that a later one with the same key made needless.
    pub superseded: u64,
    /// Output: rows set aside by the sink.
    pub refused: u64,
    /// Bytes of Arrow data written.
    pub bytes: u64,
}

impl Ledger {
    /// Adds another partition's or chunk's books.
    pub fn add(&mut self, other: &Self) {
        self.extracted += other.extracted;
        self.transformed += other.transformed;
        self.filtered += other.filtered;
        self.rejected += other.rejected;
        self.emitted += other.emitted;
        self.loaded += other.loaded;
        self.superseded += other.superseded;
        self.refused += other.refused;
        self.bytes += other.bytes;
    }

    /// Writes down what a commit found out about rows that had counted as loaded.
    pub fn settle(&mut self, superseded: u64, refused: u64) {
        self.loaded -= superseded + refused;
        self.superseded += superseded;
        self.refused += refused;
    }

    /// Rows in quarantine.
    pub fn quarantined(&self) -> u64 {
        self.rejected + self.refused
    }

    /// What does not add up, if anything. An aggregating transformer is held to the second ledger only.
    pub fn difference(&self, aggregates: bool) -> Option<String> {
        let accounted = self.transformed + self.filtered + self.rejected;
        if !aggregates && self.extracted != accounted {
            return Some(format!(
                "extracted {} rows, but {} became output, {} were filtered and {} rejected",
                self.extracted, self.transformed, self.filtered, self.rejected
            ));
        }
        let settled = self.loaded + self.superseded + self.refused;
        (self.emitted != settled).then(|| {
            format!(
                "the transformer made {} rows, but {} were loaded, {} superseded and {} refused",
                self.emitted, self.loaded, self.superseded, self.refused
            )
        })
    }
}

/// Which of two cursors of one partition comes first; `None` if they cannot be compared.
pub fn compare(a: &Cursor, b: &Cursor) -> Option<Ordering> {
    match (a, b) {
        (Cursor::Integer(a), Cursor::Integer(b)) => Some(a.cmp(b)),
        (Cursor::Text(a), Cursor::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (
            Cursor::Keyset { time: a, id: first },
            Cursor::Keyset {
                time: b,
                id: second,
            },
        ) => Some((a.as_bytes(), first).cmp(&(b.as_bytes(), second))),
        _ => None,
    }
}

/// A cursor as people write and read it.
pub fn display(cursor: &Cursor) -> String {
    match cursor {
        Cursor::Integer(value) => value.to_string(),
        Cursor::Text(value) | Cursor::Opaque(value) => value.clone(),
        Cursor::Keyset { time, id } => format!("{time},{id}"),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ledgers_must_add_up() {
        let mut ledger = Ledger {
            extracted: 10,
            transformed: 7,
            filtered: 2,
            rejected: 1,
            emitted: 7,
            loaded: 6,
            superseded: 1,
            ..Ledger::default()
        };
        assert_eq!(ledger.difference(false), None);
        ledger.extracted = 11;
        assert!(ledger.difference(false).unwrap().contains("extracted 11"));
        assert_eq!(ledger.difference(true), None);
        ledger.loaded = 5;
        assert!(ledger.difference(true).unwrap().contains("made 7"));
    }

    #[test]
    fn text_cursors_are_ordered_by_bytes() {
        let text = |value: &str| Cursor::Text(value.to_owned());
        assert_eq!(compare(&text("a"), &text("b")), Some(Ordering::Less));
        assert_eq!(compare(&text("B"), &text("a")), Some(Ordering::Less));
        assert_eq!(compare(&text("1"), &Cursor::Integer(1)), None);
    }

    #[test]
    fn keysets_are_ordered_by_time_and_then_by_number() {
        let keyset = |time: &str, id| Cursor::Keyset {
            time: time.to_owned(),
            id,
        };
        assert_eq!(
            compare(&keyset("a", 9), &keyset("b", 1)),
            Some(Ordering::Less)
        );
        assert_eq!(
            compare(&keyset("a", 10), &keyset("a", 9)),
            Some(Ordering::Greater)
        );
        assert_eq!(display(&keyset("2024-01-31", -7)), "2024-01-31,-7");
    }
}
