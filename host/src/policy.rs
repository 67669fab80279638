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
        // A panic may depend on timing; the same one at the same cursor is not tried a third time.
        ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Unproven
        | ErrorKind::Stage(StageErrorKind::Transient | StageErrorKind::Panicked) => Retry,
        ErrorKind::Refused => {
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
            Some("tell the plugin's author; `-vv` shows where it panicked".to_owned())
        }
        _ => error.own_hint().map(str::to_owned),
    }
}

fn operator(hint: &str) -> Policy {
    Policy::NeedsOperator(hint.to_owned())
}

/// SQLSTATE codes, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn sqlstate(state: &str) -> Policy {
    match state {
        // serialization_failure, statement_completion_unknown, deadlock_detected, lock_not_available, query_canceled (a statement timeout),
        // read_only_sql_transaction (a failover)
        "40001" | "40003" | "40P01" | "55P03" | "57014" | "25006"
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
        assert_eq!(policy(&Error::new(ErrorKind::Fenced, "x")), Policy::Fatal);
    }

    #[test]
    fn an_error_that_knows_better_says_what_to_do() {
        let error = Error::data("no key").hint("create the unique index");
        assert_eq!(policy(&error), operator("create the unique index"));
    }
}
