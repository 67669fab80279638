//! When people log in, and who.
//!
//! Thirty days that end at a fixed instant, with a daily rhythm: few at night, peaks at 9 and 20 h, fewer at weekends.
//! Users are skewed: the busiest log in a thousand times, most only a few times.

use anyhow::Result;
use jiff::Timestamp;

use crate::random::{Random, Weighted};
use crate::world::{Visit, World};

/// 2026-01-31 00:00:00 UTC, a Saturday, in milliseconds: all logins are before it.
const END: i64 = 1_769_817_600_000;
const DAYS: u64 = 30;
const HOUR: i64 = 3_600_000;

/// Logins by hour of the day.
const RHYTHM: [u64; 24] = [
    10, 6, 4, 3, 4, 8, 22, 48, 80, 100, 92, 84, 78, 74, 70, 66, 64, 68, 78, 92, 100, 84, 52, 24,
];

/// How many rows there are for each user.
const ROWS_PER_USER: u64 = 12;

/// Keeps the first users from having a tenth of all logins.
const SKEW: f64 = 30.0;

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub struct Login {
    /// Grows by one from row to row.
    pub id: i64,
    /// Distinct between shards.
    pub user_id: i64,
    /// Milliseconds since 1970-01-01 UTC.
    pub time: i64,
    /// Address and user agent.
    pub visit: Visit,
}

/// Makes the logins of one shard.
#[derive(Debug)]
pub struct Logins<'a> {
    world: &'a World,
    random: Random,
    /// The users' numbers begin here.
    first_user: u64,
    users: u64,
    next_id: i64,
}

impl<'a> Logins<'a> {
    /// The logins of the shard with this number; `next_id` is the first row's.
    pub fn new(world: &'a World, shard: u32, rows: u64, next_id: i64) -> Self {
        let seed = u64::from(shard) << 40 | next_id.unsigned_abs();
        Self {
            world,
            random: Random::new(seed),
            first_user: u64::from(shard) * 1_000_000,
            users: (rows / ROWS_PER_USER).max(1),
            next_id,
        }
    }

    /// As many rows as wanted, over the thirty days, in order of time.
    pub fn month(mut self, rows: u64) -> impl Iterator<Item = Login> {
        let hours = Weighted::new((0..DAYS * 24).map(|hour| {
            let weekend = matches!((hour / 24) % 7, 2 | 3);
            let weight = RHYTHM
                .get(usize::try_from(hour % 24).unwrap_or(0))
                .copied()
                .unwrap_or(0);
            (
                weight * if weekend { 7 } else { 10 },
                i64::try_from(hour).unwrap_or(0),
            )
        }));
        let start = END - i64::try_from(DAYS).unwrap_or(0) * 24 * HOUR;
        let mut times: Vec<i64> = (0..rows)
            .map(|_| {
                let hour = hours.pick(&mut self.random).copied().unwrap_or(0);
                start + hour * HOUR + self.up_to(HOUR)
            })
            .collect();
        times.sort_unstable();
        let mut last = None;
        times.into_iter().map(move |time| {
            // Some share their instant with the one before, as batches of sign-ins do.
            let time = last.filter(|_| self.random.chance(20)).unwrap_or(time);
            last = Some(time);
            self.login(time)
        })
    }

    /// Rows that follow `last`, a second or so apart.
    pub fn after(mut self, last: i64, rows: u64) -> impl Iterator<Item = Login> {
        let mut time = last;
        (0..rows).map(move |_| {
            time += 1 + self.up_to(2_000);
            self.login(time)
        })
    }

    fn login(&mut self, time: i64) -> Login {
        // Zipf: the chance of the user with rank r falls as 1 / (r + SKEW).
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "users are some thousands"
        )]
        let rank = {
            let spread = (self.users as f64 + SKEW) / SKEW;
            (SKEW * spread.powf(self.random.fraction()) - SKEW) as u64 + 1
        };
        let user = self.first_user + rank;
        let id = self.next_id;
        self.next_id += 1;
        Login {
            id,
            user_id: i64::try_from(user).unwrap_or(i64::MAX),
            time,
            visit: self.world.visit(user, &mut self.random),
        }
    }

    fn up_to(&mut self, bound: i64) -> i64 {
        i64::try_from(self.random.below(bound.unsigned_abs())).unwrap_or(0)
    }
}

/// Writes instants as the shards keep them, `2026-01-30 20:15:04.123`.
#[derive(Debug, Default)]
pub struct Clock {
    /// Formatting a date is slow, and a day has many rows.
    day: Option<(i64, String)>,
}

impl Clock {
    /// The text of an instant.
    pub fn text(&mut self, time: i64) -> Result<String> {
        let day = time.div_euclid(24 * HOUR);
        let date = match &self.day {
            Some((known, date)) if *known == day => date,
            _ => {
                let date = Timestamp::from_millisecond(time)?
                    .strftime("%Y-%m-%d")
                    .to_string();
                &self.day.insert((day, date)).1
            }
        };
        let ms = time.rem_euclid(24 * HOUR);
        let (seconds, ms) = (ms / 1_000, ms % 1_000);
        Ok(format!(
            "{date} {:02}:{:02}:{:02}.{ms:03}",
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn month(shard: u32, rows: u64) -> Vec<Login> {
        let world = World::new().unwrap();
        Logins::new(&world, shard, rows, 1).month(rows).collect()
    }

    #[test]
    fn a_month_is_the_same_every_time_and_differs_by_shard() {
        assert_eq!(month(1, 500), month(1, 500));
        assert_ne!(month(1, 500)[0].time, month(2, 500)[0].time);
    }

    #[test]
    fn time_ascends_within_thirty_days_with_ties_and_a_rhythm() {
        let logins = month(1, 20_000);
        assert!(logins.windows(2).all(|pair| pair[0].time <= pair[1].time));
        assert!(logins.windows(2).any(|pair| pair[0].time == pair[1].time));
        assert!(
            logins
                .iter()
                .all(|login| (END - 30 * 24 * HOUR..END).contains(&login.time))
        );
        let at = |hour| {
            logins
                .iter()
                .filter(|login| login.time / HOUR % 24 == hour)
                .count()
        };
        assert!(at(9) > 10 * at(3) && at(20) > 10 * at(3));
        let on = |day| {
            logins
                .iter()
                .filter(|login| (login.time - (END - 30 * 24 * HOUR)) / (24 * HOUR) == day)
                .count()
        };
        assert!(
            on(2) < on(1) && on(3) < on(4),
            "the third of January 2026 is a Saturday"
        );
    }

    #[test]
    fn users_are_skewed_and_some_values_are_missing() {
        let logins = month(1, 20_000);
        let mut counts: HashMap<i64, u32> = HashMap::new();
        for login in &logins {
            *counts.entry(login.user_id).or_default() += 1;
        }
        assert!(counts.values().max() > Some(&100));
        assert!(counts.len() > 1_000);
        for value in [None, Some("")] {
            assert!(
                logins
                    .iter()
                    .any(|login| login.visit.ip_address.as_deref() == value)
            );
            assert!(logins.iter().any(|login| login.visit.user_agent == value));
        }
    }

    #[test]
    fn appended_rows_are_newer() {
        let world = World::new().unwrap();
        let rows: Vec<_> = Logins::new(&world, 1, 100, 101).after(END, 50).collect();
        assert!(rows[0].time > END && rows[0].id == 101);
        assert!(rows.windows(2).all(|pair| pair[0].time < pair[1].time));
    }

    #[test]
    fn instants_are_written_in_full() {
        let mut clock = Clock::default();
        assert_eq!(clock.text(END).unwrap(), "2026-01-31 00:00:00.000");
        assert_eq!(clock.text(END - 1).unwrap(), "2026-01-30 23:59:59.999");
        assert_eq!(clock.text(0).unwrap(), "1970-01-01 00:00:00.000");
    }
}
