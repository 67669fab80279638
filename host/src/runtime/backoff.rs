//! How long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt;

use crate::config::ErrorHandling;

/// The longest wait before retry number `retry` (1 for the first): `min(max_retry_delay, retry_delay x 2^(retry-1))`,
/// or `retry_delay` without exponential backoff.
pub fn longest(handling: &ErrorHandling, retry: u32) -> Duration {
    let delay = if handling.exponential_backoff {
        let factor = 2u32
            .checked_pow(retry.saturating_sub(1))
            .unwrap_or(u32::MAX);
        handling.retry_delay.saturating_mul(factor)
    } else {
        handling.retry_delay
    };
    delay.min(handling.max_retry_delay)
}

/// A wait drawn uniformly between half of the longest and the longest, so that hosts do not come back all at once.
pub fn draw(handling: &ErrorHandling, retry: u32) -> Duration {
    let longest = longest(handling, retry);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let handling = ErrorHandling {
            retry_delay: Duration::from_secs(5),
            max_retry_delay: Duration::from_secs(30),
            ..ErrorHandling::default()
        };
        let waits: Vec<u64> = [1, 2, 3, 4, 5, 4_000]
            .iter()
            .map(|retry| longest(&handling, *retry).as_secs())
            .collect();
        assert_eq!(waits, [5, 10, 20, 30, 30, 30]);
        let flat = ErrorHandling {
            exponential_backoff: false,
            ..handling.clone()
        };
        assert_eq!(longest(&flat, 9).as_secs(), 5);
        for retry in 1..50 {
            let drawn = draw(&handling, retry);
            assert!(drawn >= longest(&handling, retry) / 2 && drawn <= longest(&handling, retry));
        }
    }
}
