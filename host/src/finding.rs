//! What a check of `etl-host doctor` found, and the gathering of many of them.
//!
//! Connectors know what to check and what is right; here is only how it is said, and that no check waits for ever.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use crate::error::{Error, ErrorKind, Result};
use crate::policy::next_step;

/// Longest time that a check may take, apart from connecting, for which the configuration has limits of its own.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How a check ended, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Runs work, but something is worth a look.
    Warning,
    /// A run would fail.
    Failed,
}

/// What one check found. Holds no password and no value of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do, unless all is well.
    pub fix: Option<String>,
}

/// The findings of one place, in the order of the checks.
#[derive(Clone, Debug)]
pub struct Findings {
    found: Vec<Finding>,
    limit: Duration,
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            limit: TIME_LIMIT,
        }
    }
}

impl Findings {
    /// All is well.
    pub fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.found.push(Finding {
            check,
            verdict: Verdict::Ok,
            detail: detail.into(),
            fix: None,
        });
    }

    /// Runs work, but somebody should know.
    pub fn warning(
        &mut self,
        check: &'static str,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.found.push(Finding {
            check,
            verdict: Verdict::Warning,
            detail: detail.into(),
            fix: Some(fix.into()),
        });
    }

    /// A run would fail like this.
    pub fn failed(&mut self, check: &'static str, error: &Error) {
        let fix = next_step(error).unwrap_or_else(|| {
            "look the message up in docs/troubleshooting.md, and ask again".to_owned()
        });
        self.found.push(Finding {
            check,
            verdict: Verdict::Failed,
            detail: error.to_string(),
            fix: Some(fix),
        });
    }

    /// Waits for an answer, at most [`TIME_LIMIT`]. An error is a finding; what an answer means is the caller's to say.
    pub async fn ask<T>(
        &mut self,
        check: &'static str,
        asked: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        let answer = timeout(self.limit, asked).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, self.too_late())
                .hint("look for what keeps it busy or locked, and ask again"))
        });
        answer.map_err(|error| self.failed(check, &error)).ok()
    }

    /// As [`ask`](Self::ask), for what a run has more patience with: no answer in time is a warning.
    pub async fn ask_patiently<T>(
        &mut self,
        check: &'static str,
        asked: impl Future<Output = Result<T>>,
        fix: &str,
    ) -> Option<T> {
        let Ok(answer) = timeout(self.limit, asked).await else {
            self.warning(check, self.too_late(), fix);
            return None;
        };
        answer.map_err(|error| self.failed(check, &error)).ok()
    }

    /// Adds what was found elsewhere.
    pub fn extend(&mut self, found: Vec<Finding>) {
        self.found.extend(found);
    }

    /// All of them so far.
    pub fn as_slice(&self) -> &[Finding] {
        &self.found
    }

    fn too_late(&self) -> String {
        format!("no answer within {:?}", self.limit)
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<Finding> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_check_waits_for_ever() {
        let mut findings = Findings {
            limit: Duration::from_millis(1),
            ..Findings::default()
        };
        let never = std::future::pending::<Result<()>>;
        assert_eq!(findings.ask("query", never()).await, None);
        let patient = findings.ask_patiently("read", never(), "make an index");
        assert_eq!(patient.await, None);
        let verdicts: Vec<_> = findings
            .into_vec()
            .into_iter()
            .map(|found| (found.verdict, found.detail, found.fix.is_some()))
            .collect();
        let late = "no answer within 1ms".to_owned();
        assert_eq!(
            verdicts,
            [
                (Verdict::Failed, late.clone(), true),
                (Verdict::Warning, late, true)
            ]
        );
    }

    #[tokio::test]
    async fn an_error_is_a_finding_with_its_fix() {
        let mut findings = Findings::default();
        let error = Error::new(ErrorKind::SqlState("28P01".into()), "no");
        assert_eq!(
            findings.ask("login", async { Err::<(), _>(error) }).await,
            None
        );
        let found = findings.into_vec().remove(0);
        assert_eq!((found.check, found.detail.as_str()), ("login", "no"));
        assert!(found.fix.unwrap().contains("password"));
    }
}
