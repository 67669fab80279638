//! The clock that the daemon goes by, so that tests cover years in seconds.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

/// The longest nap of the system's clock: a machine that slept, or whose clock was set, is noticed after it.
const NAP: Duration = Duration::from_secs(1);

/// Says what time it is, and waits.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Ends when the clock shows this time, at once if it is past.
    async fn sleep_until(&self, time: Timestamp);

    /// Ends after so long.
    async fn sleep(&self, duration: Duration) {
        let time = self.now().saturating_add(duration);
        self.sleep_until(time.unwrap_or(Timestamp::MAX)).await;
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep_until(&self, time: Timestamp) {
        while let Some(left) = left(self.now(), time) {
            tokio::time::sleep(left.min(NAP)).await;
        }
    }
}

/// How long it is from now until then; `None` if it is past.
fn left(now: Timestamp, time: Timestamp) -> Option<Duration> {
    Duration::try_from(time.duration_since(now))
        .ok()
        .filter(|left| !left.is_zero())
}
