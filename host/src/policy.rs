//! What to do about a failure: one table for the whole host.
//!
//! It looks at kinds, SQLSTATE codes and result codes, never at message texts. How often and how long is decided in
//! [`runtime`](crate::runtime).

use etl_plugin_api::ErrorKind as StageErrorKind;

use crate::error::{Error, ErrorKind};

/// What to do about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It may pass: try again.
    Retry,
    /// It will fail the same way every time.
    Fatal,
    /// Somebody has to do this first.
    NeedsOperator(String),
}

/// Looks a failure up in the table.
pub fn policy(error: &Error) -> Policy {
    use Policy::{Fatal, Retry};
    let decided = match error.kind() {
        ErrorKind::SqlState(state) => sqlstate(state),
        ErrorKind::Sqlite(code) => sqlite(*code),
        ErrorKind::SqlServer(number) => sqlserver(*number),
        // A panic or a crash may depend on timing; the same one at the same cursor is not tried a third time.
        ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Unproven
        | ErrorKind::Miscounted
        | ErrorKind::Busy
        | ErrorKind::TableChanged
        | ErrorKind::Stage(
            StageErrorKind::Transient
            | StageErrorKind::Panicked
            | StageErrorKind::Crashed
            | StageErrorKind::Killed,
        ) => Retry,
        ErrorKind::Refused | ErrorKind::NoTls => {
            operator("check the path, the credentials and the permissions it names")
        }
        ErrorKind::Fingerprint => operator(
            "if the shard really moved, take its position over with `etl-host checkpoint set <pipeline> --partition \
             <name> --accept-fingerprint`; if two shards swapped places, swap them back",
        ),
        ErrorKind::Config => operator("correct the configuration and run `etl-host validate`"),
        _ => Fatal,
    };
    match (decided, error.own_hint()) {
        (Fatal | Policy::NeedsOperator(_), Some(hint)) => operator(hint),
        (decided, _) => decided,
    }
}

/// What a person should do next, if anything.
pub fn next_step(error: &Error) -> Option<String> {
    match policy(error) {
        Policy::NeedsOperator(hint) => Some(hint),
        _ if *error.kind() == ErrorKind::Stage(StageErrorKind::Panicked) => {
            Some("tell the plugin's author where it panicked".to_owned())
        }
        _ if *error.kind() == ErrorKind::Stage(StageErrorKind::Crashed) => Some(
            "tell the plugin's author, with what the worker printed last, if it is shown below"
                .to_owned(),
        ),
        _ if *error.kind() == ErrorKind::Stage(StageErrorKind::Killed) => Some(
            "raise the limit that it names; if that does not help, tell the plugin's author"
                .to_owned(),
        ),
        _ => error.own_hint().map(str::to_owned),
    }
}

/// What a person should do next after the host has given up, also about what might have passed by itself.
pub fn next_step_of_failure(error: &Error) -> Option<String> {
    next_step(error).or_else(|| last_resort(error).map(str::to_owned))
}

fn last_resort(error: &Error) -> Option<&'static str> {
    let text = match error.kind() {
        ErrorKind::SqlState(state) => match state.as_str() {
            "25006" => {
                "let the server take writes again (default_transaction_read_only, or name its primary), then run again"
            }
            "53300" => {
                "raise the limit of the server, database or role, or lower `pool.max_connections`, then run again"
            }
            "53100" => "free disk space on the server, then run again",
            "57014" => {
                "look in pg_stat_activity for what the statement waited for, or raise statement_timeout, then run again"
            }
            "55P03" => "look in pg_stat_activity for who holds the lock, then run again",
            "40P01" | "40001" => {
                "run again; if it comes back, keep other writers off the table meanwhile"
            }
            _ if policy(error) == Policy::Retry => SERVER,
            _ => return None,
        },
        ErrorKind::Unproven | ErrorKind::Miscounted => {
            "run again; if it comes back, look for what cuts answers between host and source"
        }
        ErrorKind::Fenced => {
            "nothing: the other run goes on from the last commit; let only one run go on at a time"
        }
        ErrorKind::Unavailable | ErrorKind::Timeout => SERVER,
        ErrorKind::SqlServer(_) | ErrorKind::Sqlite(_) if policy(error) == Policy::Retry => SERVER,
        _ => return None,
    };
    Some(text)
}

const SERVER: &str = "look at the server and the network before it (`etl-host doctor` says what answers), then run again";

fn operator(hint: &str) -> Policy {
    Policy::NeedsOperator(hint.to_owned())
}

/// SQLSTATE codes, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn sqlstate(state: &str) -> Policy {
    match state {
        // serialization_failure, statement_completion_unknown, deadlock_detected, lock_not_available, query_canceled (a statement timeout),
        // read_only_sql_transaction (a failover), idle_in_transaction_session_timeout
        "40001" | "40003" | "40P01" | "55P03" | "57014" | "25006" | "25P03"
        // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout
        | "57P01" | "57P02" | "57P03" | "57P05" => Policy::Retry,
        "28P01" | "28000" => operator("check username and password, and the server's pg_hba.conf"),
        "42501" => operator(
            "grant the sink's user CREATE on the schema and INSERT, UPDATE, DELETE on the table",
        ),
        "3D000" => operator("create the database, or correct its name in the configuration"),
        "3F000" => operator("create the schema, or correct it in the table's name"),
        _ => match state.get(..2) {
            // connection_exception, insufficient_resources (also a full disk), system_error
            Some("08" | "53" | "58") => Policy::Retry,
            _ => Policy::Fatal,
        },
    }
}

/// Primary result codes, <https://www.sqlite.org/rescode.html>.
fn sqlite(code: i32) -> Policy {
    match code & 0xff {
        // BUSY, LOCKED, INTERRUPT, IOERR
        5 | 6 | 9 | 10 => Policy::Retry,
        13 => operator("free disk space"),
        3 | 8 => operator("make the file and its folder writable for this user"),
        14 => operator("check that the file exists and may be read"),
        11 | 26 => {
            operator("this is no SQLite database, or a damaged one: restore it from a backup")
        }
        _ => Policy::Fatal,
    }
}

/// SQL Server error numbers,
/// <https://learn.microsoft.com/sql/relational-databases/errors-events/database-engine-events-and-errors>.
fn sqlserver(number: u32) -> Policy {
    match number {
        // Deadlock victim, snapshot update conflict, lock request timeout, no more locks, a scan that was moved under.
        1205 | 3960 | 1222 | 1204 | 601
        // What a snapshot meets in a busy server: no row versions left, a table that is being changed.
        | 3958 | 3961 | 3966 | 3967
        // The session or the server is going: killed, shutting down, paused, restarting, database in transition.
        | 596 | 6005 | 17142 | 17148 | 922 | 952 | 978 | 979 | 983 | 976 | 35250 | 41383
        // Out of memory, workers, log or disk for now.
        | 701 | 802 | 18401 | 845 | 8628 | 8645 | 8651 | 9002 | 1105 | 10928 | 10929 | 17189
        // Azure: not available, throttled, moving.
        | 4221 | 40143 | 40197 | 40501 | 40540 | 40613 | 42108 | 42109 | 49918 | 49919 | 49920
        // The network under the connection.
        | 64 | 121 | 233 | 258 | 10053 | 10054 | 10060 => Policy::Retry,
        18456 | 18452 | 18470 | 18486 | 18487 | 18488 => operator(
            "check username and password; the state behind the number, and the server's error log, say what is wrong",
        ),
        4060 | 911 | 916 => {
            operator("create the database, correct its name, or let the login use it")
        }
        229 | 230 | 262 | 297 | 300 => {
            operator("grant the source's login SELECT on the tables of the query")
        }
        3952 | 41332 => operator(
            "ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON in every database that the query reads, or set \
             `source.read_isolation: read-committed`",
        ),
        208 => operator("correct the table's name in `source.query`, or grant the login SELECT on it"),
        207 => operator("correct the column's name in `source.query`"),
        _ => Policy::Fatal,
    }
}

/// Whether an error number of SQL Server tells of the environment rather than of the statement.
pub fn is_environment(number: u32) -> bool {
    matches!(
        number,
        18452
            | 18456
            | 18470
            | 18486
            | 18487
            | 18488
            | 4060
            | 911
            | 916
            | 229
            | 230
            | 262
            | 297
            | 300
    ) || (policy(&Error::new(ErrorKind::SqlServer(number), "")) == Policy::Retry
        && !matches!(number, 601 | 1204 | 1205 | 1222 | 3960 | 3961))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_what_passes_by_itself() {
        let of = |state: &str| policy(&Error::new(ErrorKind::SqlState(state.into()), "x"));
        for state in [
            "08006", "40001", "40P01", "53300", "57P01", "25006", "58030",
        ] {
            assert_eq!(of(state), Policy::Retry, "{state}");
        }
        for state in ["22003", "23505", "42601", "XX000", ""] {
            assert_eq!(of(state), Policy::Fatal, "{state}");
        }
        assert!(matches!(of("28P01"), Policy::NeedsOperator(_)));
        assert_eq!(
            policy(&Error::new(ErrorKind::Sqlite(5), "busy")),
            Policy::Retry
        );
        let of = |number| policy(&Error::new(ErrorKind::SqlServer(number), "x"));
        assert_eq!(of(1205), Policy::Retry);
        assert_eq!(of(8134), Policy::Fatal);
        assert!(matches!(of(18456), Policy::NeedsOperator(_)));
        assert!(is_environment(18456) && is_environment(40613) && !is_environment(1205));
        assert_eq!(policy(&Error::new(ErrorKind::Fenced, "x")), Policy::Fatal);
    }

    #[test]
    fn whoever_has_tried_in_vain_is_told_what_to_do() {
        for state in [
            "25006", "40P01", "53100", "53300", "55P03", "57014", "57P01", "08006",
        ] {
            let error = Error::new(ErrorKind::SqlState(state.into()), "x");
            assert_eq!(next_step(&error), None, "{state}");
            assert!(next_step_of_failure(&error).is_some(), "{state}");
        }
        for kind in [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Unproven,
            ErrorKind::Miscounted,
            ErrorKind::Fenced,
        ] {
            assert!(next_step_of_failure(&Error::new(kind, "x")).is_some());
        }
        let own = Error::new(ErrorKind::Timeout, "x").hint("wait longer");
        assert_eq!(next_step_of_failure(&own).as_deref(), Some("wait longer"));
    }

    #[test]
    fn an_error_that_knows_better_says_what_to_do() {
        let error = Error::data("no key").hint("create the unique index");
        assert_eq!(policy(&error), operator("create the unique index"));
    }
}
