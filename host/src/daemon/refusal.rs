//! Why the daemon did not do what somebody asked for.

use crate::error::Error;
use crate::failure::Failure;

/// Why the daemon did not do what somebody asked for.
#[derive(Debug)]
pub enum Refusal {
    /// There is no such pipeline or run.
    NotFound(String),
    /// Not now: what it needs is in another state.
    Conflict(String),
    /// Not now, with what to do about it.
    NotReady(Failure),
    /// What was asked for is wrong.
    Invalid(Failure),
    /// Something failed on the way.
    Failed(Failure),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
