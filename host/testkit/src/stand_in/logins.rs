//! The table `user_logins`, filled as the demo of login-analytics fills its shards: thirty days with a daily rhythm,
//! busy users and rare ones, addresses and user agents with gaps. The same rows for the same name of a server.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use super::bulk::BulkValue;
use super::calendar::{TICKS_PER_DAY, TICKS_PER_SECOND, day_number};
use super::engine::database::Database;
use super::engine::synthesised::Synthesised;
use super::sql::tree::Name;

pub const TABLE: &str = "\
IF OBJECT_ID(N'dbo.user_logins') IS NULL
CREATE TABLE dbo.user_logins (
    login_id bigint NOT NULL IDENTITY(1,1) PRIMARY KEY,
    user_id int NOT NULL,
    login_time datetime2(7) NOT NULL,
    ip_address varchar(45) NULL,
    user_agent nvarchar(400) NULL,
    INDEX user_logins_by_time (login_time)
)";

pub const COLUMNS: &[&str] = &["user_id", "login_time", "ip_address", "user_agent"];

/// Rows that are kept of a table that is synthesised.
pub const KEPT: u64 = 50_000;

const USER_AGENTS: &str =
    include_str!("../../../../plugins/login-analytics/demo/data/user-agents.tsv");

/// Logins by hour of the day.
const RHYTHM: [u64; 24] = [
    10, 6, 4, 3, 4, 8, 22, 48, 80, 100, 92, 84, 78, 74, 70, 66, 64, 68, 78, 92, 100, 84, 52, 24,
];

/// Networks that are known for their country.
const NETWORKS: &[[u8; 2]] = &[
    [8, 8],
    [193, 0],
    [81, 2],
    [24, 48],
    [1, 0],
    [200, 16],
    [41, 0],
    [133, 11],
    [212, 27],
    [185, 70],
];

const DAYS: u64 = 30;

/// `SplitMix64`: the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// The rows of the server with this name, in the order of their time.
pub fn rows(server_name: &str, count: u64) -> impl Iterator<Item = Vec<BulkValue>> {
    let seed = server_name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut random = Random(seed);
    // Users of two servers differ.
    let first_user = seed % 1_000 * 1_000_000;
    let users = (count / 12).max(1);
    let user_agents: Vec<&str> = USER_AGENTS
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|it| it.1)
        .collect();
    let times = times(&mut random, count);
    times.into_iter().map(move |time| {
        // The square of a fraction makes the first users the busiest.
        let fraction = random.below(1 << 20);
        let rank = (u128::from(fraction) * u128::from(fraction) * u128::from(users)) >> 40;
        let user = first_user + rank as u64 + 1;
        let address = match random.below(1_000) {
            0..15 => BulkValue::Null,
            15..20 => BulkValue::Text(String::new()),
            20..60 => BulkValue::Text(format!(
                "2001:db8:{:x}::{:x}",
                user & 0xffff,
                random.below(0xffff)
            )),
            _ => {
                let [a, b] = NETWORKS
                    .get(user as usize % NETWORKS.len())
                    .copied()
                    .unwrap_or([8, 8]);
                BulkValue::Text(Ipv4Addr::new(a, b, user as u8, random.next() as u8).to_string())
            }
        };
        let at = (user + random.below(2)) as usize % user_agents.len().max(1);
        let agent = user_agents.get(at).filter(|_| random.below(100) > 0);
        let agent = agent.map_or(BulkValue::Null, |it| BulkValue::Text((*it).to_owned()));
        vec![
            BulkValue::Int(user as i64),
            BulkValue::Ticks(time),
            address,
            agent,
        ]
    })
}

/// The same table with so many rows.
pub fn synthesised(database: &Database, rows: u64) -> Result<Synthesised> {
    let catalog = database.catalog();
    let table = catalog
        .find(&Name(vec!["dbo".into(), "user_logins".into()]))
        .context("there is no table user_logins")?;
    let (_, time) = table
        .column("login_time")
        .context("user_logins has no login_time")?;
    Ok(Synthesised {
        database: database.id,
        table: table.id,
        rows,
        time: (time.id, time.name.clone()),
        first: day_number(2020, 1, 1).unwrap_or(0) * TICKS_PER_DAY,
        step: TICKS_PER_SECOND / 100,
    })
}

fn times(random: &mut Random, count: u64) -> Vec<i64> {
    let start = day_number(2026, 1, 1).unwrap_or(0) * TICKS_PER_DAY;
    let total: u64 = RHYTHM.iter().sum();
    let mut times: Vec<i64> = (0..count)
        .map(|_| {
            let mut left = random.below(total);
            let hour = RHYTHM.iter().position(|weight| {
                let here = left < *weight;
                left = left.saturating_sub(*weight);
                here
            });
            let hour = random.below(DAYS) * 24 + hour.unwrap_or(0) as u64;
            start + (hour * 3600) as i64 * TICKS_PER_SECOND + random.below(36_000_000_000) as i64
        })
        .collect();
    times.sort_unstable();
    // Some share their instant with the one before.
    for at in 1..times.len() {
        if random.below(50) == 0
            && let Some(before) = times.get(at - 1).copied()
            && let Some(time) = times.get_mut(at)
        {
            *time = before;
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_every_time_and_differ_by_server() {
        let one: Vec<_> = rows("SHARD1", 500).collect();
        assert_eq!(one, rows("SHARD1", 500).collect::<Vec<_>>());
        assert_ne!(one, rows("SHARD2", 500).collect::<Vec<_>>());
        assert!(one.iter().any(|row| row[2] == BulkValue::Null));
        assert!(one.windows(2).any(|pair| pair[0][1] == pair[1][1]));
    }
}
