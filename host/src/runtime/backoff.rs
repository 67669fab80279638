//! How long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use crate::config::ErrorHandling;
use crate::error::Error;

/// The longest wait before retry number `retry` (1 for the first): `min(max_retry_delay, retry_delay x 2^(retry-1))`,
/// or `retry_delay` without exponential backoff.
fn longest(handling: &ErrorHandling, retry: u32) -> Duration {
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

/// The wait before retry number `retry` after this failure: drawn, but not shorter than the failure says it takes.
pub fn after(error: &Error, handling: &ErrorHandling, retry: u32) -> Duration {
    let earliest = error.earliest_retry();
    let due = earliest.map_or(Duration::ZERO, |time| {
        time.saturating_duration_since(Instant::now())
    });
    draw(handling, retry).max(due)
}

/// A wait drawn uniformly between half of the longest and the longest, so that hosts do not come back all at once.
fn draw(handling: &ErrorHandling, retry: u32) -> Duration {
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

    #[test]
    fn a_failure_that_knows_when_it_is_over_is_waited_for() {
        let handling = ErrorHandling {
            retry_delay: Duration::from_millis(1),
            ..ErrorHandling::default()
        };
        let error = Error::internal("x");
        assert!(after(&error, &handling, 1) <= Duration::from_millis(1));
        let error = error.not_before(Instant::now() + Duration::from_mins(1));
        assert!(after(&error, &handling, 1) > Duration::from_secs(50));
    }
}
