//! How far each file of a log is read: what the host keeps between runs.
//!
//! A file is known again by its first bytes, whatever its name is by now and whether it is compressed. So the order of
//! files does not matter, nor when a rotation happens: each file has a place of its own.

use etl_plugin_api::{Cursor, Result, ResultExt, StageError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::folder::HEAD;

/// The places of all files that were there when it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    files: Vec<Place>,
}

/// How far one file is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// By how many of its first bytes it is known.
    head: u64,
    /// Their checksum.
    sha256: String,
    /// The bytes that are read, uncompressed.
    pub offset: u64,
    /// The lines that are read.
    pub lines: u64,
    /// Nothing will be added to what is read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

impl Position {
    /// As the host has kept it.
    pub fn read(cursor: Option<&Cursor>) -> Result<Self> {
        match cursor {
            None => Ok(Self::default()),
            Some(Cursor::Opaque(text)) => {
                serde_json::from_str(text).config("the position was not written by this pipeline")
            }
            Some(_) => Err(StageError::config(
                "the position was not written by this pipeline",
            )),
        }
    }

    /// For the host to keep. Files of which nothing is read have no place.
    pub fn write<'a>(places: impl Iterator<Item = &'a Place>) -> Result<Cursor> {
        let files = places.filter(|place| place.offset > 0).cloned().collect();
        let text = serde_json::to_string(&Self { files }).fatal("write the position")?;
        Ok(Cursor::Opaque(text))
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Takes out the place of the file that begins so.
    pub fn take(&mut self, head: &[u8]) -> Option<Place> {
        let (index, _) = self
            .files
            .iter()
            .enumerate()
            .filter(|(_, place)| place.is_of(head))
            .max_by_key(|(_, place)| place.head)?;
        Some(self.files.swap_remove(index))
    }
}

impl Place {
    /// One line further, in the file that begins so.
    pub fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
        self.lines += 1;
    }

    /// Notes by what the file is known, as far as it is read.
    pub fn note_head(&mut self, head: &[u8]) {
        let known = self.offset.min(HEAD);
        if known > self.head
            && let Some(checksum) = checksum(head, known)
        {
            self.head = known;
            self.sha256 = checksum;
        }
    }

    fn is_of(&self, head: &[u8]) -> bool {
        checksum(head, self.head).is_some_and(|checksum| checksum == self.sha256)
    }
}

/// Of the first bytes, if there are so many.
fn checksum(head: &[u8], bytes: u64) -> Option<String> {
    let start = head.get(..usize::try_from(bytes).ok()?)?;
    let digest = Sha256::digest(start);
    Some(format!(
        "{:016x}",
        u64::from_be_bytes(*digest.first_chunk()?)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(content: &str, offset: u64) -> Place {
        let mut place = Place {
            offset,
            ..Place::default()
        };
        place.note_head(content.as_bytes());
        place
    }

    #[test]
    fn a_file_that_has_grown_is_known_again() {
        let first = place("one\n", 4);
        let cursor = Position::write([&first, &place("two\n", 4), &Place::default()].into_iter());
        let mut known = Position::read(Some(&cursor.unwrap())).unwrap();
        assert_eq!(known.take(b"one\nmore\n"), Some(first));
        assert_eq!(known.take(b"one\nmore\n"), None);
        assert_eq!(known.take(b"on"), None);
        assert!(known.take(b"two\n").is_some());
        assert!(known.is_empty());
    }

    #[test]
    fn the_longest_beginning_counts() {
        let (short, long) = (place("one\n", 4), place("one\ntwo\n", 8));
        let cursor = Position::write([&short, &long].into_iter()).unwrap();
        let mut known = Position::read(Some(&cursor)).unwrap();
        assert_eq!(known.take(b"one\ntwo\nthree\n"), Some(long));
        assert_eq!(known.take(b"one\n"), Some(short));
    }

    #[test]
    fn another_pipeline_s_position_is_refused() {
        for cursor in [Cursor::Integer(1), Cursor::Opaque("7".to_owned())] {
            let error = Position::read(Some(&cursor)).unwrap_err();
            assert!(error.message().contains("not written by this pipeline"));
        }
        assert!(Position::read(None).unwrap().is_empty());
    }
}
