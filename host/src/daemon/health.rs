//! Whether the daemon lives and serves: what `/healthz` and `/readyz` tell.
//!
//! It is told by the daemon's loop, and decides nothing.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the loop may be silent before the daemon counts as stuck.
const SILENCE: Duration = Duration::from_secs(30);

/// How far the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It looks at plugins and state.
    Starting,
    /// It serves.
    Serving,
    /// It finishes what is in flight, and takes nothing new.
    Draining,
}

/// Whether the daemon lives and serves.
#[derive(Debug)]
pub struct Health {
    born: Instant,
    /// Milliseconds from `born` to the last sign of life.
    ticked: AtomicU64,
    phase: AtomicU8,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            ticked: AtomicU64::new(0),
            phase: AtomicU8::new(0),
        }
    }
}

impl Health {
    /// The loop has come round. It should at least every ten seconds, also when nothing is due.
    pub fn tick(&self) {
        self.ticked.store(self.age(), Ordering::Relaxed);
    }

    /// The daemon serves from now on.
    pub fn serving(&self) {
        self.phase.store(1, Ordering::Relaxed);
    }

    /// The daemon takes nothing new from now on.
    pub fn draining(&self) {
        self.phase.store(2, Ordering::Relaxed);
    }

    /// How far the daemon is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    /// Whether the loop has come round lately.
    pub fn lives(&self) -> bool {
        let silence = self
            .age()
            .saturating_sub(self.ticked.load(Ordering::Relaxed));
        Duration::from_millis(silence) <= SILENCE
    }

    fn age(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_silent_for_long_counts_as_stuck() {
        let health = Health {
            born: Instant::now()
                .checked_sub(SILENCE + Duration::from_secs(1))
                .unwrap(),
            ..Health::default()
        };
        assert!(!health.lives());
        health.tick();
        assert!(health.lives());
    }

    #[test]
    fn it_starts_serves_and_drains() {
        let health = Health::default();
        assert_eq!(health.phase(), Phase::Starting);
        health.serving();
        assert_eq!(health.phase(), Phase::Serving);
        health.draining();
        assert_eq!(health.phase(), Phase::Draining);
    }
}
