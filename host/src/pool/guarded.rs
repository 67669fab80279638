//! Connecting under circuit breakers: one for the server, which all its pools share, and one for the login.
//!
//! A server that does not answer, or answers "not now", opens the first after some failures in a row. A wrong password
//! opens the second at once: servers lock accounts for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use tokio::time::timeout;

use super::breaker::{Breaker, BreakerState, Thresholds};
use super::{Identity, Pools};
use crate::config::PoolLimits;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::{Policy, policy};

/// Makes connections by another manager, as long as the breakers let it.
pub struct Guarded<M> {
    inner: M,
    breakers: Breakers,
    /// Longest time until a connection is there.
    limit: Duration,
}

/// The breakers of one pool.
#[derive(Clone)]
pub(super) struct Breakers {
    server: Arc<Breaker>,
    login: Arc<Breaker>,
}

/// What a failure to connect speaks of.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// The server: it may pass by itself.
    Server,
    /// User and password.
    Login,
    /// Something else, by the word of a server that is there.
    Neither,
}

fn fault(error: &Error) -> Fault {
    match error.kind() {
        // invalid_password; login failed, untrusted domain, disabled, locked out, expired, must be changed
        ErrorKind::SqlState(state) if state == "28P01" => Fault::Login,
        ErrorKind::SqlServer(18_452 | 18_456 | 18_470 | 18_486..=18_488) => Fault::Login,
        _ if policy(error) == Policy::Retry => Fault::Server,
        _ => Fault::Neither,
    }
}

impl Breakers {
    /// Fails while a connection would not be tried.
    pub fn check(&self) -> Result<()> {
        self.server.check()?;
        self.login.check()
    }

    async fn connect<T>(&self, connect: impl Future<Output = Result<T>>) -> Result<T> {
        // In one order for everybody, so that nobody waits in a circle.
        let server = self.server.admit().await?;
        let login = self.login.admit().await?;
        let error = match connect.await {
            Ok(connection) => {
                server.succeeded();
                login.succeeded();
                return Ok(connection);
            }
            Err(error) => error,
        };
        let next_trial = match fault(&error) {
            Fault::Server => server.failed(&error),
            Fault::Login => {
                server.succeeded();
                login.failed(&error)
            }
            Fault::Neither => {
                server.succeeded();
                None
            }
        };
        Err(match next_trial {
            Some(time) => error.not_before(time),
            None => error,
        })
    }
}

impl<M> Guarded<M> {
    pub(super) fn new(inner: M, breakers: Breakers, limit: Duration) -> Self {
        Self {
            inner,
            breakers,
            limit,
        }
    }

    pub(super) fn breakers(&self) -> &Breakers {
        &self.breakers
    }
}

impl<M> Manager for Guarded<M>
where
    M: Manager,
    Error: From<M::Error>,
{
    type Type = M::Type;
    type Error = Error;

    async fn create(&self) -> Result<M::Type> {
        let connect = async {
            // Here and not in the pool: a time that runs out speaks of the server, an attempt that is cancelled does not.
            // The handshakes are long, and their futures as large.
            match timeout(self.limit, Box::pin(self.inner.create())).await {
                Ok(created) => created.map_err(Error::from),
                Err(_) => Err(Error::new(
                    ErrorKind::Timeout,
                    "the server did not answer in time",
                )),
            }
        };
        self.breakers.connect(connect).await
    }

    async fn recycle(&self, object: &mut M::Type, metrics: &Metrics) -> RecycleResult<Error> {
        let recycled = self.inner.recycle(object, metrics).await;
        recycled.map_err(|error| match error {
            RecycleError::Message(text) => RecycleError::Message(text),
            RecycleError::Backend(error) => RecycleError::Backend(error.into()),
        })
    }

    fn detach(&self, object: &mut M::Type) {
        self.inner.detach(object);
    }
}

/// What a breaker is for.
#[derive(PartialEq, Eq, Hash)]
enum Subject {
    Server(String),
    Login(&'static str, Identity),
}

/// The breakers of this process.
#[derive(Default)]
pub(super) struct BreakerTable(Mutex<HashMap<Subject, Arc<Breaker>>>);

impl BreakerTable {
    /// The breakers of a pool. `address` is the server's, without a database.
    pub fn of(
        &self,
        kind: &'static str,
        address: &str,
        identity: Identity,
        limits: &PoolLimits,
    ) -> Breakers {
        let thresholds = Thresholds {
            failures: limits.breaker_failures,
            pause: limits.breaker_pause,
            max_pause: limits.breaker_max_pause,
        };
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{kind} at {address}");
        let login = format!(
            "user {} of {name}, database {}",
            identity.username, identity.database
        );
        let server = table
            .entry(Subject::Server(name.clone()))
            .or_insert_with(|| Arc::new(Breaker::new(name, thresholds)))
            .clone();
        let at_once = Thresholds {
            failures: 1,
            ..thresholds
        };
        let login = table
            .entry(Subject::Login(kind, identity))
            .or_insert_with(|| Arc::new(Breaker::new(login, at_once)))
            .clone();
        Breakers { server, login }
    }
}

impl Pools {
    /// What the circuit breakers of all servers know, those that are not closed first.
    pub fn breakers(&self) -> Vec<BreakerState> {
        let table = &self.breakers.0;
        let table = table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut states: Vec<BreakerState> = table.values().map(|breaker| breaker.state()).collect();
        states.sort_by(|a, b| (a.since.is_none(), &a.guards).cmp(&(b.since.is_none(), &b.guards)));
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_password_is_the_login_s_and_not_now_is_the_server_s() {
        let of = |kind| fault(&Error::new(kind, "x"));
        let state = |state: &str| of(ErrorKind::SqlState(state.to_owned()));
        for state in [state("57P03"), state("53300"), state("08006")] {
            assert_eq!(state, Fault::Server);
        }
        assert_eq!(of(ErrorKind::Unavailable), Fault::Server);
        assert_eq!(of(ErrorKind::Timeout), Fault::Server);
        assert_eq!(of(ErrorKind::SqlServer(40_613)), Fault::Server);
        assert_eq!(state("28P01"), Fault::Login);
        assert_eq!(of(ErrorKind::SqlServer(18_456)), Fault::Login);
        for other in [state("3D000"), state("28000"), of(ErrorKind::Refused)] {
            assert_eq!(other, Fault::Neither);
        }
    }
}
