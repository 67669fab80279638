//! Who logs in, from where and with what.
//!
//! A user has a country, a home address and two devices; all follow from the user's number, so that nothing is
//! kept per user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};

use crate::random::{Random, Weighted};

const USER_AGENTS: &str = include_str!("../data/user-agents.tsv");
const NETWORKS: &str = include_str!("../data/networks.tsv");

/// What reverse proxies, offices, test machines and broken clients leave in such a column.
const ODD_ADDRESSES: &[&str] = &[
    "10.0.0.17",
    "10.20.30.40",
    "172.16.4.9",
    "192.168.1.23",
    "192.168.0.1:51234",
    "100.72.13.5",
    "127.0.0.1",
    "::1",
    "fe80::1%eth0",
    "fd12:3456:789a::1",
    "169.254.10.20",
    "::ffff:8.8.8.8",
    "[2001:4860:4860::8888]:443",
    " 193.0.6.139 ",
    "203.0.113.7",
    "0.0.0.0",
    "999.12.3.4",
    "1.2.3",
    "unknown",
    "-",
    "localhost",
    "10.1.2.3, 8.8.8.8",
];

/// A block of addresses, as its first one and the number of its bits that are free.
#[derive(Clone, Copy, Debug)]
struct Network {
    first: IpAddr,
    free_bits: u32,
}

/// Everything that rows are made of.
#[derive(Debug)]
pub struct World {
    countries: Weighted<Vec<Network>>,
    user_agents: Weighted<&'static str>,
}

/// What a login tells of its user.
#[derive(Debug, PartialEq, Eq)]
pub struct Visit {
    /// The address as the application noted it.
    pub ip_address: Option<String>,
    /// The user agent as it was sent.
    pub user_agent: Option<&'static str>,
}

impl World {
    /// Reads the lists that are compiled in.
    pub fn new() -> Result<Self> {
        let mut countries = Vec::new();
        for line in lines(NETWORKS) {
            let mut columns = line.split('\t').skip(1);
            let weight = columns
                .next()
                .context("a country without a weight")?
                .parse()?;
            let networks = columns.next().context("a country without networks")?;
            let networks = networks.split(' ').map(network).collect::<Result<_>>()?;
            countries.push((weight, networks));
        }
        let mut user_agents = Vec::new();
        for line in lines(USER_AGENTS) {
            let (weight, text) = line
                .split_once('\t')
                .context("a user agent without a weight")?;
            user_agents.push((weight.parse()?, text));
        }
        Ok(Self {
            countries: Weighted::new(countries),
            user_agents: Weighted::new(user_agents),
        })
    }

    /// One visit of a user.
    pub fn visit(&self, user: u64, random: &mut Random) -> Visit {
        Visit {
            ip_address: self.address(user, random),
            user_agent: self.user_agent(user, random),
        }
    }

    fn address(&self, user: u64, random: &mut Random) -> Option<String> {
        match random.below(1_000) {
            0..15 => return None,
            15..20 => return Some(String::new()),
            20..35 => return random.one_of(ODD_ADDRESSES).map(|&text| text.to_owned()),
            _ => {}
        }
        // At home mostly, else somewhere in the country, seldom on a journey.
        let mut home = Random::new(user);
        let networks = if random.chance(30) {
            self.countries.pick(random)
        } else {
            self.countries.pick(&mut home)
        }?;
        let address = if random.chance(850) {
            host(*home.one_of(networks)?, &mut home)
        } else {
            host(*random.one_of(networks)?, random)
        };
        Some(address.to_string())
    }

    fn user_agent(&self, user: u64, random: &mut Random) -> Option<&'static str> {
        let mut devices = Random::new(!user);
        let (first, second) = (
            self.user_agents.pick(&mut devices),
            self.user_agents.pick(&mut devices),
        );
        match random.below(1_000) {
            0..12 => None,
            12..18 => Some(""),
            18..700 => first.copied(),
            700..980 => second.copied(),
            _ => self.user_agents.pick(random).copied(),
        }
    }
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn network(text: &str) -> Result<Network> {
    let (first, length) = text.split_once('/').context("a network without a length")?;
    let (first, length): (IpAddr, u32) = (first.parse()?, length.parse()?);
    let bits: u32 = if first.is_ipv4() { 32 } else { 128 };
    let Some(free_bits) = bits.checked_sub(length) else {
        bail!("{text}: the length is beyond {bits}");
    };
    Ok(Network { first, free_bits })
}

/// An address of the network that looks like a customer's.
fn host(network: Network, random: &mut Random) -> IpAddr {
    match network.first {
        IpAddr::V4(first) => {
            let low = random.below(1 << network.free_bits.min(31));
            // Neither the network's own address nor the broadcast one of a /24.
            let last = 1 + random.below(254);
            let low = u32::try_from(low & !0xff | last).unwrap_or(1);
            IpAddr::V4(Ipv4Addr::from(first.to_bits() | low))
        }
        IpAddr::V6(first) => {
            // A customer's /64 below the provider's prefix, and a random interface in it.
            let prefix =
                random.number() & ((1 << network.free_bits.saturating_sub(64).min(63)) - 1);
            IpAddr::V6(Ipv6Addr::from(
                first.to_bits() | u128::from(prefix) << 64 | u128::from(random.number()),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_are_of_the_countries_they_are_listed_under() {
        let mut random = Random::new(1);
        let mut seen = BTreeSet::new();
        for line in lines(NETWORKS) {
            let columns: Vec<_> = line.split('\t').collect();
            for text in columns[2].split(' ') {
                let network = network(text).unwrap();
                for _ in 0..20 {
                    let address = host(network, &mut random);
                    assert_eq!(
                        iptocc::country_code(address),
                        Some(columns[0]),
                        "{text} {address}"
                    );
                }
            }
            seen.insert(columns[0]);
        }
        assert!(seen.len() >= 100, "{}", seen.len());
    }

    #[test]
    fn user_agents_are_many_and_distinct() {
        let texts: Vec<_> = lines(USER_AGENTS)
            .map(|line| line.split_once('\t').unwrap().1)
            .collect();
        assert!(texts.len() >= 150);
        assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len());
    }

    #[test]
    fn a_user_keeps_an_address_and_devices() {
        let world = World::new().unwrap();
        let mut random = Random::new(2);
        let visits: Vec<_> = (0..1_000).map(|_| world.visit(77, &mut random)).collect();
        let most = |texts: Vec<String>| {
            let counts = texts
                .iter()
                .map(|text| texts.iter().filter(|other| *other == text).count());
            counts.max().unwrap()
        };
        assert!(
            most(
                visits
                    .iter()
                    .filter_map(|visit| visit.ip_address.clone())
                    .collect()
            ) > 700
        );
        assert!(
            most(
                visits
                    .iter()
                    .filter_map(|visit| visit.user_agent)
                    .map(str::to_owned)
                    .collect()
            ) > 500
        );
    }
}
