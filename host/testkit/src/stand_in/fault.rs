//! What a test lets go wrong: armed here, struck by the connection that runs into it. It decides only which request
//! meets which fault; what the fault does to the wire is done where the wire is.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// An error as SQL Server reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The error number, as in `sys.messages`.
    pub number: i32,
    /// The state.
    pub state: u8,
    /// The class, also called severity; from 20 on the connection is closed.
    pub class: u8,
    /// The text.
    pub message: String,
}

impl ServerError {
    /// An error with the state, class and text that the server gives it, for numbers that tests often need; for others
    /// state 1, class 16 and a text that says only the number.
    pub fn known(number: i32) -> Self {
        let (state, class, message) = match number {
            596 => (
                1,
                21,
                "Cannot continue the execution because the session is in the kill state.",
            ),
            1205 => (
                51,
                13,
                "Transaction (Process ID 55) was deadlocked on lock resources with another process and has been chosen as the deadlock victim. Rerun the transaction.",
            ),
            1222 => (51, 16, "Lock request time out period exceeded."),
            3960 => (
                2,
                16,
                "Snapshot isolation transaction aborted due to update conflict. Retry the transaction.",
            ),
            8134 => (1, 16, "Divide by zero error encountered."),
            8645 => (
                1,
                17,
                "A timeout occurred while waiting for memory resources to execute the query in resource pool 'default' (2). Rerun the query.",
            ),
            10928 => (
                1,
                20,
                "Resource ID: 1. The request limit for the database is 30 and has been reached.",
            ),
            10929 => (
                1,
                20,
                "Resource ID: 1. The server is currently too busy to support requests greater than 30 for this database.",
            ),
            17830 => (
                9,
                20,
                "Network error code 0x2746 occurred while establishing a connection; the connection has been closed.",
            ),
            18452 => (
                1,
                14,
                "Login failed. The login is from an untrusted domain and cannot be used with Integrated authentication.",
            ),
            18456 => (1, 14, "Login failed for user."),
            40197 => (
                1,
                20,
                "The service has encountered an error processing your request. Please try again.",
            ),
            40501 => (
                1,
                20,
                "The service is currently busy. Retry the request after 10 seconds.",
            ),
            40613 => (
                1,
                17,
                "Database on server is not currently available. Please retry the connection later.",
            ),
            49918 => (
                1,
                16,
                "Cannot process request. Not enough resources to process request.",
            ),
            _ => {
                return Self {
                    number,
                    state: 1,
                    class: 16,
                    message: format!("Error {number} (the stand-in has no text for it)."),
                };
            }
        };
        Self {
            number,
            state,
            class,
            message: message.to_owned(),
        }
    }
}

/// One thing that goes wrong. Bytes are counted in the response to the request that is hit, packet headers included,
/// before TLS.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An error in place of the row after this many rows of the response. It ends the batch, rolls the transaction back
    /// where the real server does, and closes the connection from class 20 on.
    ErrorAfterRows {
        /// Rows that are sent before.
        rows: u64,
        /// The error.
        error: ServerError,
    },
    /// The connection is closed in order (FIN) after this many bytes of the response.
    Cut {
        /// Bytes that are sent before.
        after_bytes: u64,
    },
    /// The connection is reset (RST) after this many bytes of the response.
    Reset {
        /// Bytes that are sent before.
        after_bytes: u64,
    },
    /// Nothing more is sent after this many bytes, and nothing is read, until the test releases it.
    Stall {
        /// Bytes that are sent before.
        after_bytes: u64,
        /// Held by the test.
        until: Release,
    },
    /// The statement waits as if for a lock, before its first byte, until the test releases it. An attention is
    /// answered meanwhile, as the real server does.
    Block {
        /// Held by the test.
        until: Release,
    },
    /// The response ends with a packet that is flagged as the last but holds no DONE token.
    EndWithoutDone {
        /// Rows that are sent before; all of them where `None`.
        after_rows: Option<u64>,
    },
    /// `@@ROWCOUNT` and `ROWCOUNT_BIG()` in the request answer this many more.
    WrongRowCount {
        /// What is added.
        more: i64,
    },
    /// The row after so many rows of the response is counted and not sent.
    LoseRow {
        /// Rows that are sent before.
        after_rows: u64,
    },
    /// The login is refused with this error.
    LoginError(ServerError),
    /// The connection is closed when the login arrives.
    DropAtLogin,
}

impl Fault {
    /// Only for requests whose text contains this.
    #[must_use]
    pub fn on(self, text: &str) -> Armed {
        Armed::from(self).on(text)
    }

    /// For every request, not only for the first.
    #[must_use]
    pub fn lasting(self) -> Armed {
        Armed::from(self).lasting()
    }

    fn is_for_logins(&self) -> bool {
        matches!(self, Self::LoginError(_) | Self::DropAtLogin)
    }
}

/// A fault with the requests that it hits: the first one, unless more is said.
#[derive(Debug, Clone)]
pub struct Armed {
    fault: Fault,
    text: Option<String>,
    skip: u64,
    lasting: bool,
}

impl Armed {
    /// Only requests whose text contains this, in any case of letters.
    #[must_use]
    pub fn on(mut self, text: &str) -> Self {
        self.text = Some(text.to_lowercase());
        self
    }

    /// Every such request, until [`Faults::clear`].
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// Lets this many such requests pass first.
    #[must_use]
    pub fn after(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }
}

impl From<Fault> for Armed {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            text: None,
            skip: 0,
            lasting: false,
        }
    }
}

/// The faults that are armed on a server.
#[derive(Debug, Default)]
pub struct Faults {
    armed: Mutex<Vec<Armed>>,
}

impl Faults {
    /// Arms a fault: `Fault::Cut { after_bytes: 100 }.on("user_logins").lasting()`.
    pub fn push(&self, fault: impl Into<Armed>) {
        lock(&self.armed).push(fault.into());
    }

    /// Disarms all of them. Those that were struck already go on; a stall still waits for its release.
    pub fn clear(&self) {
        lock(&self.armed).clear();
    }

    /// How many are armed still: 0 says that every one-shot fault was hit.
    pub fn armed(&self) -> usize {
        lock(&self.armed).len()
    }

    /// Those that a request with this text runs into.
    pub(super) fn strike(&self, text: &str) -> Vec<Fault> {
        self.take(false, text)
    }

    /// Those that a login runs into.
    pub(super) fn strike_login(&self) -> Vec<Fault> {
        self.take(true, "")
    }

    fn take(&self, login: bool, text: &str) -> Vec<Fault> {
        let mut armed = lock(&self.armed);
        if armed.is_empty() {
            return Vec::new();
        }
        let text = text.to_lowercase();
        let mut struck = Vec::new();
        armed.retain_mut(|it| {
            let wanted = it
                .text
                .as_ref()
                .is_none_or(|part| text.contains(part.as_str()));
            if it.fault.is_for_logins() != login || !wanted {
                return true;
            }
            if it.skip > 0 {
                it.skip -= 1;
                return true;
            }
            struck.push(it.fault.clone());
            it.lasting
        });
        struck
    }
}

/// What a stalled or blocked connection waits for. Clones are one and the same event.
#[derive(Debug, Clone, Default)]
pub struct Release(Arc<Event>);

#[derive(Debug, Default)]
struct Event {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    reached: u64,
    released: bool,
}

impl Release {
    /// An event that has not happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets those go on that wait, and those that would wait later.
    pub fn release(&self) {
        lock(&self.0.state).released = true;
        self.0.changed.notify_all();
    }

    /// Waits until a connection has run into it.
    pub fn wait_until_reached(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut state = lock(&self.0.state);
        while state.reached == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no connection of the stand-in has come to the stall within {limit:?}");
            }
            state = self
                .0
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Ok(())
    }

    pub(super) fn reach(&self) {
        lock(&self.0.state).reached += 1;
        self.0.changed.notify_all();
    }

    /// Waits for a moment; true once it has been released.
    pub(super) fn wait(&self, moment: Duration) -> bool {
        let state = lock(&self.0.state);
        if state.released {
            return true;
        }
        self.0
            .changed
            .wait_timeout(state, moment)
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .released
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_the_first_request_with_its_text_and_then_no_more() {
        let faults = Faults::default();
        faults.push(Fault::Cut { after_bytes: 1 }.on("LOGINS").after(1));
        faults.push(Fault::DropAtLogin.lasting());
        assert!(faults.strike("select 1").is_empty());
        assert!(faults.strike("select * from logins").is_empty());
        assert_eq!(faults.strike("select * from logins").len(), 1);
        assert!(faults.strike("select * from logins").is_empty());
        assert_eq!(faults.strike_login().len(), 1);
        assert_eq!(faults.strike_login().len(), 1);
        faults.clear();
        assert_eq!(faults.armed(), 0);
    }
}
