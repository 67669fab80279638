//! The books of a run: every partition's ledgers so far, what may be quarantined, and what people watch.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Ledger;
use crate::config::BadRowLimit;
use crate::error::{Error, ErrorKind, Result};
use crate::logs::redact;

/// Below so many rows a percentage says nothing yet.
const ROWS_FOR_A_PERCENTAGE: u64 = 10_000;

/// Where a partition stands, as people watch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has not begun.
    Waiting,
    /// It reads and loads.
    Running,
    /// It failed and will be tried again.
    Retrying {
        /// Why, in a line.
        reason: String,
    },
    /// All rows are committed.
    Succeeded,
    /// It failed for good.
    Failed,
    /// It was asked to stop.
    Cancelled,
}

/// One attempt of a partition, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it goes on.
    pub ended_at: Option<Timestamp>,
    /// `running`, `succeeded`, `failed` or `cancelled`.
    pub outcome: String,
    /// Why it failed.
    pub error: Option<String>,
    /// How long the partition waits before it is tried again.
    pub wait_seconds: Option<f64>,
}

/// Attempts of a partition that are told; what lies between the first ones and the last is left out.
const TOLD: usize = 100;

/// One partition's page.
#[derive(Clone, Debug)]
pub struct Page {
    /// The partition.
    pub partition: String,
    /// Where it stands.
    pub activity: Activity,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its books, with what is not committed yet.
    pub ledger: Ledger,
    /// Its books as of the last commit.
    pub committed: Ledger,
    /// Rows set aside that are on no line of the books yet, because no commit covers them.
    pub held: u64,
    /// Its attempts.
    pub timeline: Vec<Attempt>,
}

impl Page {
    /// Notes that an attempt begins.
    pub fn begin_attempt(&mut self, attempt: u32, now: Timestamp) {
        self.activity = Activity::Running;
        self.attempt = attempt;
        if self.timeline.len() >= TOLD {
            // The first one says how it began.
            self.timeline.remove(1);
        }
        self.timeline.push(Attempt {
            attempt,
            started_at: now,
            ended_at: None,
            outcome: "running".to_owned(),
            error: None,
            wait_seconds: None,
        });
    }

    /// Notes how it ended.
    pub fn end_attempt(&mut self, outcome: &str, error: Option<&Error>, now: Timestamp) {
        if let Some(last) = self.timeline.last_mut()
            && last.ended_at.is_none()
        {
            last.ended_at = Some(now);
            outcome.clone_into(&mut last.outcome);
            last.error = error.map(|error| redact(&error.to_string()).into_owned());
        }
    }

    /// Notes that the partition waits before it is tried again.
    pub fn wait_after(&mut self, error: &Error, wait: Duration) {
        self.activity = Activity::Retrying {
            reason: redact(&error.to_string()).into_owned(),
        };
        if let Some(last) = self.timeline.last_mut() {
            last.wait_seconds = Some(wait.as_secs_f64());
        }
    }
}

/// The books of a run.
pub struct Books {
    limit: BadRowLimit,
    pages: Mutex<Vec<Page>>,
}

impl Books {
    /// A page for each partition.
    pub fn new(limit: BadRowLimit, partitions: impl IntoIterator<Item = String>) -> Self {
        let pages = partitions
            .into_iter()
            .map(|partition| Page {
                partition,
                activity: Activity::Waiting,
                attempt: 0,
                ledger: Ledger::default(),
                committed: Ledger::default(),
                held: 0,
                timeline: Vec::new(),
            })
            .collect();
        Self {
            limit,
            pages: Mutex::new(pages),
        }
    }

    /// All pages as they are now.
    pub fn pages(&self) -> Vec<Page> {
        self.pages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// One partition's books as of its last commit.
    pub fn committed(&self, partition: &str) -> Ledger {
        let pages = self.pages();
        let page = pages.iter().find(|page| page.partition == partition);
        page.map(|page| page.committed).unwrap_or_default()
    }

    /// One partition's attempts.
    pub fn timeline(&self, partition: &str) -> Vec<Attempt> {
        let mut pages = self.pages().into_iter();
        let page = pages.find(|page| page.partition == partition);
        page.map(|page| page.timeline).unwrap_or_default()
    }

    /// Changes one partition's page.
    pub fn update(&self, partition: &str, change: impl FnOnce(&mut Page)) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = pages.iter_mut().find(|page| page.partition == partition) {
            change(page);
        }
    }

    /// Whether the run has quarantined more rows than it may. Only a partition that has bad rows itself fails by it.
    /// A percentage says nothing of the first few rows; [`Self::check_at_end`] has the last word on it.
    pub fn check_bad_rows(&self, partition: &str) -> Result<()> {
        let own = self
            .pages()
            .into_iter()
            .find(|page| page.partition == partition);
        let bad = own.is_some_and(|page| page.ledger.quarantined() + page.held > 0);
        if bad {
            self.check(ROWS_FOR_A_PERCENTAGE)
        } else {
            Ok(())
        }
    }

    /// How many more rows may be set aside. As long as a percentage says nothing yet, any number.
    pub fn allowance(&self) -> u64 {
        let (bad, extracted) = self.count();
        let most = match self.limit {
            BadRowLimit::Rows(most) => most,
            BadRowLimit::Percent(_) if extracted < ROWS_FOR_A_PERCENTAGE => u64::MAX,
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a percentage needs no exact rows"
            )]
            BadRowLimit::Percent(most) => (most * extracted as f64 / 100.0) as u64,
        };
        most.saturating_sub(bad)
    }

    /// The same when all partitions have ended.
    pub fn check_at_end(&self) -> Result<()> {
        self.check(0)
    }

    /// Rows set aside and rows read, of all partitions.
    fn count(&self) -> (u64, u64) {
        let mut total = Ledger::default();
        let mut held = 0;
        for page in self.pages() {
            total.add(&page.ledger);
            held += page.held;
        }
        (total.quarantined() + held, total.extracted + held)
    }

    fn check(&self, rows_for_a_percentage: u64) -> Result<()> {
        let (bad, extracted) = self.count();
        let (too_many, allowed) = match self.limit {
            BadRowLimit::Rows(most) => (bad > most, format!("{most}")),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a percentage needs no exact rows"
            )]
            BadRowLimit::Percent(most) => (
                extracted >= rows_for_a_percentage && bad as f64 * 100.0 > most * extracted as f64,
                format!("{most}%"),
            ),
        };
        if !too_many {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::TooManyBadRows,
            format!("{bad} of {extracted} rows are bad, and `max_bad_rows` allows {allowed}"),
        )
        .hint("look at the reasons in the log, mend the rows or the pipeline, or raise `error_handling.max_bad_rows`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(limit: BadRowLimit, extracted: u64, rejected: u64) -> Books {
        let books = Books::new(limit, ["a".to_owned(), "b".to_owned()]);
        books.update("b", |page| {
            page.ledger = Ledger {
                extracted,
                rejected,
                ..Ledger::default()
            }
        });
        books
    }

    #[test]
    fn a_partition_without_bad_rows_does_not_pay_for_the_others() {
        assert!(
            books(BadRowLimit::Rows(0), 10, 1)
                .check_bad_rows("a")
                .is_ok()
        );
    }

    #[test]
    fn bad_rows_count_over_the_run() {
        assert!(
            books(BadRowLimit::Rows(1), 10, 1)
                .check_bad_rows("b")
                .is_ok()
        );
        assert!(
            books(BadRowLimit::Rows(1), 10, 2)
                .check_bad_rows("b")
                .is_err()
        );
        assert!(
            books(BadRowLimit::Percent(1.0), 100, 2)
                .check_bad_rows("b")
                .is_ok()
        );
        assert!(
            books(BadRowLimit::Percent(1.0), 100, 2)
                .check_at_end()
                .is_err()
        );
        assert!(
            books(BadRowLimit::Percent(1.0), 100_000, 1_001)
                .check_bad_rows("b")
                .is_err()
        );
        assert!(
            books(BadRowLimit::Percent(1.0), 100_000, 1_000)
                .check_at_end()
                .is_ok()
        );
    }
}
