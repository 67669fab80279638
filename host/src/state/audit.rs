//! Who changed what, or tried to, through the HTTP API.

use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::Serialize;

use super::State;
use crate::error::Result;

/// So many entries are kept of who has proven itself.
const KEPT: u32 = 10_000;

/// So many of who has not: whoever tries tokens must not push out the others.
const KEPT_OPEN: u32 = 1_000;

/// How somebody has proven itself who signs in or out.
pub const OPEN: &str = "open";

/// A request that is about to be carried out.
#[derive(Clone, Debug)]
pub struct AuditedRequest {
    /// The client's address; none on the Unix socket.
    pub peer: Option<String>,
    /// How it has proven itself: `token`, `session`, `loopback`, `socket` or `open`.
    pub via: &'static str,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The body, JSON.
    pub request: Option<String>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct AuditedAnswer {
    /// The status of the answer.
    pub status: u16,
    /// Why it was refused.
    pub error: Option<String>,
    /// The run that it started.
    pub run_id: Option<String>,
}

/// An entry of the audit log.
#[derive(Clone, Debug, Serialize)]
pub struct AuditRecord {
    /// Its number; later ones are larger.
    pub id: i64,
    /// When, RFC 3339.
    pub at: String,
    /// The client's address; none on the Unix socket.
    pub peer: Option<String>,
    /// How it has proven itself.
    pub via: String,
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The body, JSON.
    pub request: Option<String>,
    /// The status of the answer; none if the daemon ended before.
    pub status: Option<u16>,
    /// Why it was refused.
    pub error: Option<String>,
    /// The run that it started.
    pub run_id: Option<String>,
}

impl State {
    /// Notes what is about to be done; gives the entry's number.
    pub fn record_request(&self, request: &AuditedRequest, now: Timestamp) -> Result<i64> {
        self.database.execute(
            "INSERT INTO audit (at, peer, via, method, path, request) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                now.to_string(),
                request.peer,
                request.via,
                request.method,
                request.path,
                request.request
            ],
        )?;
        let id = self.database.last_insert_rowid();
        let is_open = request.via == OPEN;
        let kept = if is_open { KEPT_OPEN } else { KEPT };
        self.database.execute(
            "DELETE FROM audit WHERE (via = ?1) = ?2 AND id <= (
                 SELECT id FROM audit WHERE (via = ?1) = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
            params![OPEN, is_open, kept],
        )?;
        Ok(id)
    }

    /// Notes what became of it.
    pub fn record_answer(&self, id: i64, answer: &AuditedAnswer) -> Result<()> {
        self.database.execute(
            "UPDATE audit SET status = ?2, error = ?3, run_id = ?4 WHERE id = ?1",
            params![id, answer.status, answer.error, answer.run_id],
        )?;
        Ok(())
    }

    /// Entries before this one, or the last; newest first.
    pub fn audit(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditRecord>> {
        let mut statement = self.database.prepare_cached(
            "SELECT id, at, peer, via, method, path, request, status, error, run_id FROM audit
             WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
        )?;
        let rows = statement.query_map(params![before.unwrap_or(i64::MAX), limit], record)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<AuditRecord> {
    Ok(AuditRecord {
        id: row.get("id")?,
        at: row.get("at")?,
        peer: row.get("peer")?,
        via: row.get("via")?,
        method: row.get("method")?,
        path: row.get("path")?,
        request: row.get("request")?,
        status: row.get("status")?,
        error: row.get("error")?,
        run_id: row.get("run_id")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> AuditedRequest {
        AuditedRequest {
            peer: None,
            via: "socket",
            method: "POST".to_owned(),
            path: path.to_owned(),
            request: Some("{}".to_owned()),
        }
    }

    #[test]
    fn what_was_begun_is_there_even_if_nobody_says_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let first = state.record_request(&request("/a"), now).unwrap();
        let second = state.record_request(&request("/b"), now).unwrap();
        let refused = AuditedAnswer {
            status: 409,
            error: Some("it runs already".to_owned()),
            run_id: None,
        };
        state.record_answer(second, &refused).unwrap();
        let all = state.audit(None, 10).unwrap();
        let seen: Vec<_> = all.iter().map(|it| (it.path.as_str(), it.status)).collect();
        assert_eq!(seen, [("/b", Some(409)), ("/a", None)]);
        assert_eq!(all[0].error.as_deref(), Some("it runs already"));
        assert_eq!(state.audit(Some(second), 10).unwrap()[0].id, first);
        assert_eq!(state.audit(None, 1).unwrap().len(), 1);
    }

    #[test]
    fn only_the_last_entries_are_kept_and_nobody_pushes_out_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        state.record_request(&request("/kept"), now).unwrap();
        let sign_in = AuditedRequest {
            via: OPEN,
            ..request("/sign-in")
        };
        state.database.execute_batch("BEGIN").unwrap();
        for _ in 0..KEPT_OPEN + 5 {
            state.record_request(&sign_in, now).unwrap();
        }
        state.database.execute_batch("COMMIT").unwrap();
        let all = state.audit(None, 100_000).unwrap();
        assert_eq!(all.len(), KEPT_OPEN as usize + 1);
        assert_eq!(all.last().unwrap().path, "/kept");
    }
}
