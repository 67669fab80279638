//! How many requests a client may make: a token bucket for each address. The time is given by the caller.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Most clients that are remembered. Beyond, those go that have been quiet for longest.
const CLIENTS: usize = 4096;

/// The buckets of all clients.
#[derive(Debug)]
pub struct Rates {
    per_second: f64,
    burst: f64,
    buckets: HashMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Rates {
    /// So many requests per second on the average, and twice as many at once.
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            burst: f64::from(per_second) * 2.0,
            buckets: HashMap::new(),
        }
    }

    /// Takes one request of a client, or says how long it should wait.
    pub fn take(&mut self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let client = network(client);
        if self.buckets.len() >= CLIENTS && !self.buckets.contains_key(&client) {
            self.forget(now);
        }
        let (per_second, burst) = (self.per_second, self.burst);
        let bucket = self.buckets.entry(client).or_insert(Bucket {
            left: burst,
            at: now,
        });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * per_second).min(burst);
        bucket.at = bucket.at.max(now);
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.left) / per_second))
    }

    /// Forgets clients whose bucket is full again, and if that is not enough, the half that has been quiet for longest.
    fn forget(&mut self, now: Instant) {
        let full = Duration::from_secs_f64(self.burst / self.per_second);
        self.buckets
            .retain(|_, bucket| now.saturating_duration_since(bucket.at) < full);
        if self.buckets.len() < CLIENTS {
            return;
        }
        let mut times: Vec<Instant> = self.buckets.values().map(|bucket| bucket.at).collect();
        let (_, median, _) = times.select_nth_unstable(CLIENTS / 2);
        let median = *median;
        self.buckets.retain(|_, bucket| bucket.at > median);
    }
}

/// Who has one IPv6 address has the other 2⁶⁴ of its network too.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6(Ipv6Addr::from_bits(
                address.to_bits() & !u128::from(u64::MAX),
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    proptest! {
        #[test]
        fn no_window_has_more_than_the_burst_and_the_rate(
            per_second in 1_u32..200,
            gaps in prop::collection::vec(0_u64..300, 1..400),
        ) {
            let mut rates = Rates::new(per_second);
            let mut now = Instant::now();
            let mut taken = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                match rates.take(CLIENT, now) {
                    Ok(()) => taken.push(now),
                    // Whoever waits as long as it was told comes through.
                    Err(wait) => {
                        now += wait + Duration::from_nanos(1);
                        prop_assert!(rates.take(CLIENT, now).is_ok());
                        taken.push(now);
                    }
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, until) in taken.iter().enumerate().skip(first) {
                    let most = f64::from(per_second) * (2.0 + (*until - *from).as_secs_f64());
                    let count = u32::try_from(last - first + 1).unwrap();
                    prop_assert!(f64::from(count) <= most + 1e-6);
                }
            }
        }

        #[test]
        fn a_client_within_its_rate_is_never_sent_away(per_second in 1_u32..200, requests in 1_u32..2000) {
            let mut rates = Rates::new(per_second);
            let start = Instant::now();
            for request in 0..requests {
                let now = start + Duration::from_secs(1) * request / per_second;
                prop_assert!(rates.take(CLIENT, now).is_ok());
            }
        }
    }

    #[test]
    fn clients_do_not_share_and_the_table_is_bounded() {
        let mut rates = Rates::new(1);
        let now = Instant::now();
        let client = |number: u32| IpAddr::V4(number.into());
        for number in 0..3 * 4096 {
            assert!(rates.take(client(number), now).is_ok());
            assert!(rates.buckets.len() <= CLIENTS);
        }
        rates
            .take(client(u32::MAX), now + Duration::from_mins(1))
            .unwrap();
        assert_eq!(rates.buckets.len(), 1);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let mut rates = Rates::new(1);
        let now = Instant::now();
        rates.take("2001:db8::1".parse().unwrap(), now).unwrap();
        rates.take("2001:db8::2".parse().unwrap(), now).unwrap();
        assert!(rates.take("2001:db8::3".parse().unwrap(), now).is_err());
        assert!(rates.take("2001:db8:0:1::1".parse().unwrap(), now).is_ok());
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(network(mapped), "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
