//! A circuit breaker: after some failures in a row a server is left alone for a while, then tried once, and by one only.
//!
//! It counts and decides. What is a failure of the server, and what of the login, is decided by
//! [`guarded`](super::guarded).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Result};

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open at first; twice as long after each trial that fails.
    pub pause: Duration,
    /// How long it stays open at most.
    pub max_pause: Duration,
}

/// Whether connections are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// They are.
    Closed,
    /// They are not.
    Open,
    /// One is, or the next one will be.
    HalfOpen,
}

/// What a breaker knows, for people.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BreakerState {
    /// What it protects: a server, or one login of it.
    pub guards: String,
    /// Whether connections are tried.
    pub condition: Condition,
    /// Failures since the last success.
    pub failures: u32,
    /// When it opened.
    #[schema(value_type = Option<String>)]
    pub since: Option<Timestamp>,
    /// Seconds until the next trial.
    pub next_trial_seconds: Option<u64>,
    /// The last failure.
    pub cause: Option<String>,
}

/// The last failure, to tell those that are not let through.
struct Cause {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

impl Cause {
    fn of(error: &Error) -> Self {
        Self {
            kind: error.kind().clone(),
            message: error.to_string(),
            hint: error.own_hint().map(str::to_owned),
        }
    }
}

struct Opened {
    since: Timestamp,
    pause: Duration,
    until: Instant,
    /// Somebody tries.
    trial: bool,
    cause: Cause,
}

/// The rules, without clock and without waiting.
#[derive(Default)]
struct Circuit {
    failures: u32,
    opened: Option<Opened>,
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Through,
    AsTrial,
    WaitForTrial,
    Refused,
}

impl Circuit {
    fn admit(&mut self, now: Instant) -> Admission {
        match &mut self.opened {
            None => Admission::Through,
            Some(opened) if now < opened.until => Admission::Refused,
            Some(opened) if opened.trial => Admission::WaitForTrial,
            Some(opened) => {
                opened.trial = true;
                Admission::AsTrial
            }
        }
    }

    fn refuses(&self, now: Instant) -> bool {
        self.opened
            .as_ref()
            .is_some_and(|opened| now < opened.until)
    }

    fn failed(&mut self, trial: bool, now: Instant, cause: Cause, thresholds: Thresholds) {
        self.failures = self.failures.saturating_add(1);
        match &mut self.opened {
            Some(opened) => {
                opened.cause = cause;
                // Who was on the way when it opened says nothing new about how long to wait.
                if trial {
                    opened.trial = false;
                    opened.pause = opened.pause.saturating_mul(2).min(thresholds.max_pause);
                    opened.until = now + opened.pause;
                }
            }
            None if self.failures >= thresholds.failures => {
                self.opened = Some(Opened {
                    since: Timestamp::now(),
                    pause: thresholds.pause,
                    until: now + thresholds.pause,
                    trial: false,
                    cause,
                });
            }
            None => {}
        }
    }

    /// Whether it was open.
    fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.opened.take().is_some()
    }

    fn abandoned(&mut self) {
        if let Some(opened) = &mut self.opened {
            opened.trial = false;
        }
    }
}

/// The breaker of one server or of one login, shared by all that use it.
pub(super) struct Breaker {
    guards: String,
    thresholds: Thresholds,
    circuit: Mutex<Circuit>,
    changed: watch::Sender<()>,
}

/// The permission to try. Dropped without a result, it was no trial.
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    trial: bool,
}

impl Breaker {
    pub fn new(guards: String, thresholds: Thresholds) -> Self {
        Self {
            guards,
            thresholds,
            circuit: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// Permission to try, or the error of those that are not let through. Waits for the trial of somebody else.
    pub async fn admit(&self) -> Result<Permit<'_>> {
        let mut changed = self.changed.subscribe();
        loop {
            let admission = self.circuit().admit(Instant::now());
            let trial = match admission {
                Admission::Through => false,
                Admission::AsTrial => true,
                Admission::WaitForTrial => {
                    // The sender lives as long as this value.
                    let _ = changed.changed().await;
                    continue;
                }
                Admission::Refused => {
                    self.check()?;
                    // The time has come meanwhile.
                    continue;
                }
            };
            return Ok(self.permit(trial));
        }
    }

    fn permit(&self, trial: bool) -> Permit<'_> {
        Permit {
            breaker: self,
            trial,
        }
    }

    /// Fails while nobody is let through.
    pub fn check(&self) -> Result<()> {
        let now = Instant::now();
        let circuit = self.circuit();
        let Some(opened) = circuit.opened.as_ref().filter(|_| circuit.refuses(now)) else {
            return Ok(());
        };
        let Cause {
            kind,
            message,
            hint,
        } = &opened.cause;
        let message = format!(
            "{message}; not tried again for now: {} is left alone since {:.0}, the next trial is in {} s",
            self.guards,
            opened.since,
            seconds(opened.until - now)
        );
        let error = Error::new(kind.clone(), message)
            .not_before(opened.until)
            .untried();
        Err(match hint {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }

    /// What it knows.
    pub fn state(&self) -> BreakerState {
        let now = Instant::now();
        let circuit = self.circuit();
        let opened = circuit.opened.as_ref();
        BreakerState {
            guards: self.guards.clone(),
            condition: match opened {
                None => Condition::Closed,
                Some(_) if circuit.refuses(now) => Condition::Open,
                Some(_) => Condition::HalfOpen,
            },
            failures: circuit.failures,
            since: opened.map(|opened| opened.since),
            next_trial_seconds: opened
                .map(|opened| seconds(opened.until.saturating_duration_since(now))),
            cause: opened.map(|opened| opened.cause.message.clone()),
        }
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        // Nothing panics between two changes of it.
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The server let us in.
    pub fn succeeded(mut self) {
        self.trial = false;
        let reopened = self.breaker.circuit().succeeded();
        if reopened {
            tracing::info!("{} answers again", self.breaker.guards);
        }
        self.breaker.changed.send_replace(());
    }

    /// It did not. Gives the time of the next trial, if nobody is let through until then.
    pub fn failed(mut self, error: &Error) -> Option<Instant> {
        let trial = std::mem::take(&mut self.trial);
        let breaker = self.breaker;
        let mut circuit = breaker.circuit();
        let was_open = circuit.opened.is_some();
        circuit.failed(trial, Instant::now(), Cause::of(error), breaker.thresholds);
        if let Some(opened) = circuit.opened.as_ref().filter(|_| trial || !was_open) {
            tracing::warn!(
                %error,
                "{} has failed {} times in a row and is left alone for {} s",
                breaker.guards,
                circuit.failures,
                seconds(opened.pause)
            );
        }
        let until = circuit.opened.as_ref().map(|opened| opened.until);
        drop(circuit);
        breaker.changed.send_replace(());
        until
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.trial {
            self.breaker.circuit().abandoned();
            self.breaker.changed.send_replace(());
        }
    }
}

/// Whole seconds, never too few.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        failures: 3,
        pause: Duration::from_secs(30),
        max_pause: Duration::from_secs(100),
    };

    fn refused() -> Error {
        Error::new(ErrorKind::Unavailable, "nobody listens").hint("start the server")
    }

    fn fail(circuit: &mut Circuit, trial: bool, now: Instant) {
        circuit.failed(trial, now, Cause::of(&refused()), THRESHOLDS);
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        fail(&mut circuit, false, now);
        fail(&mut circuit, false, now);
        assert!(!circuit.succeeded());
        fail(&mut circuit, false, now);
        fail(&mut circuit, false, now);
        assert_eq!(circuit.admit(now), Admission::Through);
        fail(&mut circuit, false, now);
        assert_eq!(circuit.admit(now), Admission::Refused);
    }

    #[test]
    fn exactly_one_tries_when_the_time_has_come_and_each_failure_doubles_the_wait() {
        let (mut circuit, mut now) = (Circuit::default(), Instant::now());
        for _ in 0..3 {
            fail(&mut circuit, false, now);
        }
        for pause in [30, 60, 100, 100] {
            let pause = Duration::from_secs(pause);
            assert_eq!(
                circuit.admit(now + pause - Duration::from_millis(1)),
                Admission::Refused
            );
            now += pause;
            assert_eq!(circuit.admit(now), Admission::AsTrial);
            assert_eq!(circuit.admit(now), Admission::WaitForTrial);
            // One that set out before it opened comes home now.
            fail(&mut circuit, false, now);
            assert_eq!(circuit.admit(now), Admission::WaitForTrial);
            fail(&mut circuit, true, now);
        }
        now += Duration::from_secs(100);
        assert_eq!(circuit.admit(now), Admission::AsTrial);
        circuit.abandoned();
        assert_eq!(circuit.admit(now), Admission::AsTrial);
        assert!(circuit.succeeded());
        assert_eq!(circuit.admit(now), Admission::Through);
        // The count starts again.
        fail(&mut circuit, false, now);
        assert_eq!(circuit.admit(now), Admission::Through);
    }

    #[tokio::test]
    async fn the_error_says_since_when_why_and_when_again() {
        let breaker = Breaker::new("PostgreSQL at db:5432".to_owned(), THRESHOLDS);
        for _ in 0..3 {
            breaker.admit().await.unwrap().failed(&refused());
        }
        let error = breaker.admit().await.err().unwrap();
        assert_eq!(*error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        assert!(
            text.starts_with("nobody listens; not tried again for now: PostgreSQL at db:5432 is left alone since 20"),
            "{text}"
        );
        assert!(text.ends_with("the next trial is in 30 s"), "{text}");
        assert_eq!(error.own_hint(), Some("start the server"));
        assert!(error.is_untried() && !refused().is_untried());
        let wait = error.earliest_retry().unwrap() - Instant::now();
        assert!(wait > Duration::from_secs(25) && wait <= Duration::from_secs(30));
        let state = breaker.state();
        assert_eq!(state.condition, Condition::Open);
        assert_eq!(
            (state.failures, state.cause.as_deref()),
            (3, Some("nobody listens"))
        );
    }

    #[tokio::test]
    async fn whoever_comes_during_the_trial_waits_for_its_outcome() {
        let thresholds = Thresholds {
            pause: Duration::ZERO,
            max_pause: Duration::from_hours(1),
            ..THRESHOLDS
        };
        for (succeeds, let_through) in [(true, 8), (false, 0)] {
            let breaker = Breaker::new("x".to_owned(), thresholds);
            for _ in 0..3 {
                breaker.admit().await.unwrap().failed(&refused());
            }
            let trial = breaker.admit().await.unwrap();
            assert!(trial.trial);
            // The next wait is long enough for the test.
            if let Some(opened) = &mut breaker.circuit().opened {
                opened.pause = Duration::from_mins(1);
            }
            let others = futures_util::future::join_all(
                (0..8).map(|_| async { breaker.admit().await.map(Permit::succeeded).is_ok() }),
            );
            let settle = async {
                if succeeds {
                    trial.succeeded();
                } else {
                    trial.failed(&refused());
                }
            };
            let (through, ()) = tokio::join!(others, settle);
            assert_eq!(through.into_iter().filter(|ok| *ok).count(), let_through);
        }
    }

    #[tokio::test]
    async fn a_trial_that_is_given_up_is_the_next_one_s() {
        let thresholds = Thresholds {
            pause: Duration::ZERO,
            ..THRESHOLDS
        };
        let breaker = Breaker::new("x".to_owned(), thresholds);
        for _ in 0..3 {
            breaker.admit().await.unwrap().failed(&refused());
        }
        let trial = breaker.admit().await.unwrap();
        let next = breaker.admit();
        let (next, ()) = tokio::join!(next, async { drop(trial) });
        assert!(next.unwrap().trial);
    }
}
