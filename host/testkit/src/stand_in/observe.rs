//! What a test can see of a server: statements, logins, connections, attentions. It only keeps the record.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What a client said of itself at login.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are facts, not states")]
pub struct LoginFacts {
    /// The login's name.
    pub user: String,
    /// The database asked for; empty for the default.
    pub database: String,
    /// The program's name.
    pub app_name: String,
    /// The client's host.
    pub host_name: String,
    /// The server's name as the client knows it.
    pub server_name: String,
    /// Whether the client said `ApplicationIntent=ReadOnly`.
    pub read_only_intent: bool,
    /// Whether the login itself was encrypted.
    pub login_encrypted: bool,
    /// Whether all that follows is encrypted.
    pub encrypted: bool,
    /// The packet size agreed on.
    pub packet_size: usize,
    /// Whether it was let in.
    pub accepted: bool,
}

#[derive(Debug, Default)]
struct Record {
    statements: Vec<String>,
    logins: Vec<LoginFacts>,
    connections: usize,
    accepted: u64,
    attentions: u64,
}

/// The record of one server.
#[derive(Debug, Default)]
pub(super) struct Observed {
    record: Mutex<Record>,
    changed: Condvar,
}

impl Observed {
    pub fn statement(&self, text: &str) {
        self.change(|record| record.statements.push(text.to_owned()));
    }

    pub fn login(&self, facts: LoginFacts) {
        self.change(|record| record.logins.push(facts));
    }

    pub fn attention(&self) {
        self.change(|record| record.attentions += 1);
    }

    pub fn connected(&self) {
        self.change(|record| {
            record.connections += 1;
            record.accepted += 1;
        });
    }

    pub fn disconnected(&self) {
        self.change(|record| record.connections = record.connections.saturating_sub(1));
    }

    pub fn forget_statements(&self) {
        self.change(|record| record.statements.clear());
    }

    pub fn statements(&self) -> Vec<String> {
        self.lock().statements.clone()
    }

    pub fn logins(&self) -> Vec<LoginFacts> {
        self.lock().logins.clone()
    }

    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    pub fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    pub fn attentions(&self) -> u64 {
        self.lock().attentions
    }

    pub fn wait_for_statement(&self, text: &str, limit: Duration) -> Result<()> {
        let text = text.to_lowercase();
        self.wait(limit, &format!("a statement with {text:?}"), |record| {
            record
                .statements
                .iter()
                .any(|it| it.to_lowercase().contains(&text))
        })
    }

    pub fn wait_for_connections(&self, count: usize, limit: Duration) -> Result<()> {
        self.wait(limit, &format!("{count} connections"), |record| {
            record.connections == count
        })
    }

    pub fn wait_for_attentions(&self, count: u64, limit: Duration) -> Result<()> {
        self.wait(limit, &format!("{count} attentions"), |record| {
            record.attentions >= count
        })
    }

    fn wait(&self, limit: Duration, what: &str, done: impl Fn(&Record) -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut record = self.lock();
        while !done(&record) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "the stand-in has not seen {what} within {limit:?}: {} connections, {} attentions, last statement {:?}",
                    record.connections,
                    record.attentions,
                    record.statements.last()
                );
            }
            record = self
                .changed
                .wait_timeout(record, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Ok(())
    }

    fn change(&self, with: impl FnOnce(&mut Record)) {
        with(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
