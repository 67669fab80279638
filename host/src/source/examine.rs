//! What the sources on servers examine alike: the columns of a query, and the server's clock.

use std::time::Duration;

use arrow_schema::SchemaRef;
use jiff::Timestamp;

use super::{CursorQuery, ReadRequest, ShardQuery, SourceSession};
use crate::error::{Error, Result};
use crate::finding::Findings;
use crate::policy::next_step;

/// Clocks that differ by more are worth a word.
const SKEW: Duration = Duration::from_secs(1);

/// What to do where a server without an index is waited for in vain.
pub const SLOW: &str = "a run waits longer, but reads all rows each time: create an index that serves WHERE and ORDER BY, or \
                        look for what blocks the server";

/// The columns of a query, by reading a window in which there is nothing.
pub async fn read_nothing(
    session: &mut dyn SourceSession,
    query: &ShardQuery,
) -> Result<SchemaRef> {
    let bound = match &query.cursor {
        None => None,
        Some(cursor) => {
            let query = CursorQuery {
                sql: query.sql.clone(),
                cursor: cursor.clone(),
                from: None,
                range: None,
            };
            session.upper_bound(&query).await?
        }
    };
    let stream = session.read(ReadRequest {
        sql: query.sql.clone(),
        cursor: query.cursor.clone(),
        from: bound.clone(),
        until: bound,
        parameters: Vec::new(),
        range: None,
        batch_rows: 1,
        batch_bytes: 1,
    });
    Ok(stream.await?.schema())
}

/// The error of a statement that the server refuses; where nothing better is known, the statement is to be corrected.
pub fn hint_at_query(error: Error) -> Error {
    if next_step(&error).is_some() {
        return error;
    }
    error.hint("correct `source.query`")
}

/// Compares the server's clock, in microseconds since 1970, with this machine's before and after it was asked. What the
/// answer took on its way is no difference.
pub fn judge_clock(findings: &mut Findings, server: i64, asked: Timestamp, answered: Timestamp) {
    let (asked, answered) = (asked.as_microsecond(), answered.as_microsecond());
    let skew = i64::try_from(SKEW.as_micros()).unwrap_or(i64::MAX);
    let ahead = server.saturating_sub(answered);
    let behind = asked.saturating_sub(server);
    let fix = "synchronise the clocks of all machines, for example by NTP";
    if ahead > skew {
        let detail = format!(
            "the server's clock is {} s ahead of this machine's: for rows that get their time elsewhere, `settle_delay` is \
             shorter by that",
            tenths(ahead)
        );
        findings.warning("clock", detail, fix);
    } else if behind > skew {
        let detail = format!(
            "the server's clock is {} s behind this machine's: rows that get their time elsewhere wait longer by that",
            tenths(behind)
        );
        findings.warning("clock", detail, fix);
    } else {
        findings.ok("clock", "the server's clock is that of this machine");
    }
}

fn tenths(microseconds: i64) -> String {
    format!(
        "{}.{}",
        microseconds / 1_000_000,
        microseconds / 100_000 % 10
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    #[test]
    fn a_slow_answer_is_no_wrong_clock() {
        let at = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).unwrap();
        let judge = |server: i64, asked, answered| {
            let mut findings = Findings::default();
            let server = (1_700_000_000 + server) * 1_000_000;
            judge_clock(&mut findings, server, at(asked), at(answered));
            let found = findings.into_vec().remove(0);
            (found.verdict, found.detail)
        };
        assert_eq!(judge(0, 0, 0).0, Verdict::Ok);
        assert_eq!(judge(5, 0, 10).0, Verdict::Ok);
        assert_eq!(judge(1, 0, 0).0, Verdict::Ok);
        let (verdict, detail) = judge(4, 0, 1);
        assert_eq!(verdict, Verdict::Warning);
        assert!(detail.contains("3.0 s ahead"), "{detail}");
        assert!(judge(-7, 0, 1).1.contains("7.0 s behind"));
    }
}
