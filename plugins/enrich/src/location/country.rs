//! Names countries by their code.
//!
//! The names are compiled in, so that they are the same whichever source gave the code.

use std::sync::OnceLock;

use super::Location;

/// The name of a place that is not known.
pub(super) const UNKNOWN: &str = "unknown";

const TABLE: &str = include_str!("../../data/countries.tsv");
const LETTERS: usize = 26;

/// Code and name by the two letters of the code.
#[derive(Debug)]
pub(super) struct Countries(Vec<Option<(&'static str, &'static str)>>);

impl Countries {
    pub(super) fn get() -> &'static Self {
        static COUNTRIES: OnceLock<Countries> = OnceLock::new();
        COUNTRIES.get_or_init(|| {
            let mut names = vec![None; LETTERS * LETTERS];
            for (code, name) in TABLE.lines().filter_map(|line| line.split_once('\t')) {
                if let Some(slot) = slot(code).and_then(|slot| names.get_mut(slot)) {
                    *slot = Some((code, name));
                }
            }
            Self(names)
        })
    }

    /// The location that `code` stands for; `given` names a country that the table does not have.
    pub(super) fn location<'a>(&self, code: &'a str, given: Option<&'a str>) -> Location<'a> {
        if let Some((code, name)) = slot(code).and_then(|slot| self.0.get(slot).copied().flatten())
        {
            return Location {
                country_code: Some(code),
                ..Location::nowhere(name)
            };
        }
        // What registries and databases write where they cannot tell a country.
        match (code, given) {
            ("EU", _) => Location::nowhere("Europe"),
            ("AP", _) => Location::nowhere("Asia-Pacific"),
            (_, Some(name)) => Location::nowhere(name),
            _ => Location::nowhere(UNKNOWN),
        }
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.0.iter().copied().flatten()
    }
}

fn slot(code: &str) -> Option<usize> {
    let [first, second] = code.as_bytes() else {
        return None;
    };
    let letter = |byte: &u8| {
        byte.is_ascii_alphabetic()
            .then(|| usize::from(byte.to_ascii_uppercase() - b'A'))
    };
    Some(letter(first)? * LETTERS + letter(second)?)
}
