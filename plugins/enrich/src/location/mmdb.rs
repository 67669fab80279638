//! Reads places out of MMDB files.
//!
//! Understands the layout of `GeoLite2` and DB-IP (`country.iso_code`, `city.names.en`, `subdivisions`) and the flat
//! one of ip-location-db and `IPinfo` (`country_code`, `state1` or `region`, `city` as plain text). A field that is
//! missing or empty is `None`. It does not judge which addresses are public, nor name countries.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use maxminddb::{Reader, WithinOptions};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::LocationError;

/// How many records are tried before a file counts as one without countries.
const PROBED_RECORDS: usize = 1_000;

/// What a record says about its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) code: Option<&'a str>,
    pub(super) country: Option<&'a str>,
    pub(super) region: Option<&'a str>,
    pub(super) city: Option<&'a str>,
}

/// An open file. It is read, not mapped: a mapped file that somebody truncates would kill the process.
pub(super) struct Database {
    path: PathBuf,
    reader: Reader<Vec<u8>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Database")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Tells a replaced file from the one that is open.
type Version = (Option<SystemTime>, u64);

impl Database {
    /// The database at `path`, shared with everybody who has it open already and unchanged.
    pub(super) fn shared(path: &Path) -> Result<Arc<Self>, LocationError> {
        static OPEN: Mutex<Vec<(PathBuf, Version, Weak<Database>)>> = Mutex::new(Vec::new());

        let version = fs::metadata(path)
            .map(|data| (data.modified().ok(), data.len()))
            .map_err(|error| LocationError::Open {
                path: path.to_owned(),
                source: error.into(),
            })?;
        // Held while reading, so that attempts that start together read the file once.
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, _, database)| database.strong_count() > 0);
        let known = open
            .iter()
            .find(|(at, seen, _)| at == path && *seen == version);
        if let Some(database) = known.and_then(|(_, _, database)| database.upgrade()) {
            return Ok(database);
        }
        let database = Arc::new(Self::read(path)?);
        open.push((path.to_owned(), version, Arc::downgrade(&database)));
        Ok(database)
    }

    fn read(path: &Path) -> Result<Self, LocationError> {
        let failed = |source| LocationError::Open {
            path: path.to_owned(),
            source,
        };
        let database = Self {
            path: path.to_owned(),
            reader: Reader::open_readfile(path).map_err(failed)?,
        };
        let records = database
            .reader
            .networks(WithinOptions::default())
            .map_err(failed)?;
        for record in records.take(PROBED_RECORDS) {
            let record = record
                .map_err(failed)?
                .decode::<Record<'_>>()
                .map_err(failed)?;
            if record.is_some_and(|record| record.place().code.is_some()) {
                return Ok(database);
            }
        }
        Err(LocationError::NoCountries {
            path: database.path,
            kind: database.reader.metadata().database_type.clone(),
        })
    }

    /// What the file says about `address`.
    pub(super) fn place(&self, address: IpAddr) -> Result<Option<Place<'_>>, LocationError> {
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(None);
        }
        let record = self
            .reader
            .lookup(address)
            .and_then(|found| found.decode::<Record<'_>>());
        match record {
            Ok(record) => Ok(record.map(|record| record.place())),
            Err(source) => Err(LocationError::Record {
                path: self.path.clone(),
                source,
            }),
        }
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    country: Entity<'a>,
    #[serde(default)]
    registered_country: Entity<'a>,
    #[serde(default)]
    country_code: Option<&'a str>,
    #[serde(default)]
    subdivisions: Vec<Entity<'a>>,
    #[serde(default)]
    state1: Option<&'a str>,
    #[serde(default)]
    region: Entity<'a>,
    #[serde(default)]
    city: Entity<'a>,
}

impl<'a> Record<'a> {
    fn place(&self) -> Place<'a> {
        let some = |text: Option<&'a str>| text.filter(|text| !text.is_empty());
        // IPinfo's smaller files write the code where the others write the name.
        let (short, long) = match some(self.country.name) {
            Some(text) if text.len() == 2 => (Some(text), None),
            text => (None, text),
        };
        let registered = self.registered_country;
        let subdivision = self.subdivisions.first().copied().unwrap_or_default();
        Place {
            // Where the address is used comes before where its block is registered.
            code: some(self.country.code)
                .or(some(self.country_code))
                .or(short)
                .or(some(registered.code)),
            country: long.or(some(registered.name)),
            region: some(subdivision.name)
                .or(some(self.state1))
                .or(some(self.region.name)),
            city: some(self.city.name),
        }
    }
}

/// Something with a name: either the name itself, or a map with a code and names by language.
#[derive(Default, Clone, Copy)]
struct Entity<'a> {
    code: Option<&'a str>,
    name: Option<&'a str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Entity<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrMap;

        impl<'de> Visitor<'de> for TextOrMap {
            type Value = Entity<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a name, or a map with names")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Entity {
                    code: None,
                    name: Some(text),
                })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                let map = Map::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Entity {
                    code: map.iso_code,
                    name: map.names.en,
                })
            }
        }

        deserializer.deserialize_any(TextOrMap)
    }
}

#[derive(Deserialize)]
struct Map<'a> {
    #[serde(borrow, default)]
    iso_code: Option<&'a str>,
    #[serde(default)]
    names: Names<'a>,
}

#[derive(Default, Deserialize)]
struct Names<'a> {
    #[serde(borrow, default)]
    en: Option<&'a str>,
}
