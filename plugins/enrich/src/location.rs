//! Turns the text of an IP address into the country, region and city it belongs to.
//!
//! The module reads addresses and looks places up; it knows neither batches nor the host, and it never asks a
//! network. There are two sources of places:
//!
//! - The **embedded table** ([`Locator::embedded`]): the country to which a regional Internet registry (RIR) gave the
//!   block that holds the address. That is the country of the *allocation*: an operator may use its block
//!   elsewhere, and a satellite, VPN or mobile user may sit elsewhere again. It knows no regions or cities.
//! - An **MMDB file** ([`Locator::open`]): whatever the file says, including region and city where it has them. The
//!   two sources are never mixed: an address the file does not hold is `unknown`.
//!
//! # Which text gives what
//!
//! | text | `country_code` | `name` |
//! | --- | --- | --- |
//! | NULL, empty, only whitespace | NULL | `unknown` |
//! | not an IP address | NULL | `invalid address` |
//! | `127.0.0.0/8`, `::1` | NULL | `loopback` |
//! | private, carrier-grade NAT, link-local, unique local | NULL | `private network` |
//! | unspecified, documentation, benchmarking, multicast, future use | NULL | `reserved address` |
//! | public, but in no block the source knows (or registry code `ZZ`) | NULL | `unknown` |
//! | public, registry says `EU` or `AP` instead of a country | NULL | `Europe`, `Asia-Pacific` |
//! | any other public address | ISO 3166-1 alpha-2 | the country's short English name |
//!
//! Accepted forms, whitespace around each ignored: `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]`,
//! `[2001:db8::1]:443`, and IPv6 with a zone (`fe80::1%eth0`). IPv6 that carries an IPv4 address (mapped
//! `::ffff:0:0/96`, NAT64 `64:ff9b::/96`, 6to4 `2002::/16`) is judged by that IPv4 address. Everything else is
//! `invalid address`, among it octets with leading zeros, prefixes (`10.0.0.0/8`) and lists.

mod address;
mod country;
mod mmdb;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::country::Countries;
use self::mmdb::Database;

/// Where an address belongs. Borrows all text, so that making one allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location<'a> {
    /// ISO 3166-1 alpha-2 code of the country; `None` when no country is known.
    pub country_code: Option<&'a str>,
    /// The country's name, or one of the words in the [module's table](self).
    pub name: &'a str,
    /// The first-level part of the country (state, province); only from an MMDB.
    pub region: Option<&'a str>,
    /// The city; only from an MMDB.
    pub city: Option<&'a str>,
}

impl<'a> Location<'a> {
    fn nowhere(name: &'a str) -> Self {
        Self {
            country_code: None,
            name,
            region: None,
            city: None,
        }
    }
}

/// `City, Region, Country` as far as known; a region named like its city is said once.
impl fmt::Display for Location<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(city) = self.city {
            write!(out, "{city}, ")?;
        }
        if let Some(region) = self.region.filter(|region| self.city != Some(region)) {
            write!(out, "{region}, ")?;
        }
        out.write_str(self.name)
    }
}

/// Why an MMDB cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// The file cannot be opened, or is no MMDB.
    #[error("cannot open the location database {path}: {source}; check `geoip_database`")]
    Open {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: maxminddb::MaxMindDbError,
    },
    /// The file is an MMDB of something else, such as networks' owners.
    #[error(
        "the location database {path} holds no countries (its type is `{kind}`); use a country or city database"
    )]
    NoCountries {
        /// The file.
        path: PathBuf,
        /// The type the file declares.
        kind: String,
    },
    /// A record cannot be read: the file is damaged. Holds no address on purpose.
    #[error("cannot read a record of the location database {path}: {source}; fetch the file again")]
    Record {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: maxminddb::MaxMindDbError,
    },
}

/// Looks addresses up in one source of places.
#[derive(Debug, Clone)]
pub struct Locator {
    countries: &'static Countries,
    database: Option<Arc<Database>>,
}

impl Locator {
    /// Uses the table compiled in: countries of allocation, no regions or cities.
    pub fn embedded() -> Self {
        Self {
            countries: Countries::get(),
            database: None,
        }
    }

    /// Uses the MMDB at `path`, which is read into memory once per process, however many locators share it.
    pub fn open(path: &Path) -> Result<Self, LocationError> {
        Ok(Self {
            countries: Countries::get(),
            database: Some(Database::shared(path)?),
        })
    }

    /// Says where the address in `text` belongs. Fails only when an MMDB is damaged.
    pub fn locate(&self, text: Option<&str>) -> Result<Location<'_>, LocationError> {
        let address = match address::public(text) {
            Ok(address) => address,
            Err(class) => return Ok(Location::nowhere(class.word())),
        };
        let Some(database) = &self.database else {
            return Ok(match iptocc::country_code(address) {
                Some(code) => self.countries.location(code, None),
                None => Location::nowhere(country::UNKNOWN),
            });
        };
        Ok(match database.place(address)? {
            Some(place) => Location {
                region: place.region,
                city: place.city,
                ..match place.code {
                    Some(code) => self.countries.location(code, place.country),
                    None => Location::nowhere(place.country.unwrap_or(country::UNKNOWN)),
                }
            },
            None => Location::nowhere(country::UNKNOWN),
        })
    }
}
