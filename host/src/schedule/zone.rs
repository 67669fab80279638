//! Local times as instants: zones by their names, and what becomes of times that a clock skips or shows twice.
//!
//! Which local times are meant is the part of [`super::cron`]. The zone database is the machine's, or else the one that
//! is built in.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{self, AmbiguousOffset, Offset, TimeZone};

use crate::config::closest;

/// The name is that of no zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(r#"expected the name of a time zone such as "UTC" or "Europe/Berlin""#)]
pub struct UnknownZone {
    /// The zone that may be meant.
    pub meant: Option<String>,
}

/// The zone of this very name.
pub fn zone(name: &str) -> Result<TimeZone, UnknownZone> {
    match TimeZone::get(name) {
        // The database does not mind capitals, others do.
        Ok(zone) if zone.iana_name() == Some(name) => Ok(zone),
        _ => Err(UnknownZone { meant: like(name) }),
    }
}

/// The zone whose name is nearest.
fn like(name: &str) -> Option<String> {
    let names: Vec<String> = tz::db()
        .available()
        .map(|known| known.as_str().to_owned())
        .collect();
    // Only small letters are compared.
    let lower: Vec<String> = names.iter().map(|known| known.to_lowercase()).collect();
    let near = closest(name, lower.iter().map(String::as_str))?;
    names.into_iter().find(|known| known.to_lowercase() == near)
}

/// When a local time is.
pub(super) enum Instants {
    /// Once.
    One(Timestamp),
    /// Never: the clock skips it. This is the first instant after the gap.
    Gap(Timestamp),
    /// Twice.
    Two {
        first: Timestamp,
        second: Timestamp,
        /// The local times that are there twice, without the last.
        repeated: [DateTime; 2],
    },
}

/// When a local time is; `None` beyond the years that there are.
pub(super) fn instants(zone: &TimeZone, civil: DateTime) -> Option<Instants> {
    Some(match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => Instants::One(offset.to_timestamp(civil).ok()?),
        AmbiguousOffset::Gap { after, .. } => {
            // By the later offset the time lies before the change.
            Instants::Gap(change(zone, after.to_timestamp(civil).ok()?, after)?)
        }
        AmbiguousOffset::Fold { before, after } => {
            let first = before.to_timestamp(civil).ok()?;
            let change = change(zone, first, after)?;
            Instants::Two {
                first,
                second: after.to_timestamp(civil).ok()?,
                repeated: [after.to_datetime(change), before.to_datetime(change)],
            }
        }
    })
}

/// When the clocks are next set to `offset`.
fn change(zone: &TimeZone, since: Timestamp, offset: Offset) -> Option<Timestamp> {
    zone.following(since)
        .find(|transition| transition.offset() == offset)
        .map(|transition| transition.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_known_by_its_very_name() {
        for name in ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Etc/GMT+5"] {
            assert!(zone(name).is_ok(), "{name}");
        }
        for name in ["", "CEST+2", "+01:00", "Etc/Unknown"] {
            assert!(zone(name).is_err(), "{name}");
        }
        for (name, meant) in [
            ("europe/berlin", "Europe/Berlin"),
            ("Asia/Katmandhu", "Asia/Katmandu"),
            ("America/NewYork", "America/New_York"),
        ] {
            assert_eq!(zone(name).unwrap_err().meant.as_deref(), Some(meant));
        }
    }

    #[test]
    fn the_built_in_database_knows_all_zones_of_the_tests() {
        let bundled = tz::TimeZoneDatabase::bundled();
        for name in ["Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"] {
            assert!(bundled.get(name).is_ok(), "{name}");
        }
    }
}
