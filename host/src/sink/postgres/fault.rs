//! What the server's refusal of rows means: one bad row among them, or something that no row is to blame for.

use crate::error::{Error, ErrorKind};

/// Why rows could not be loaded.
#[derive(Debug)]
pub enum Fault {
    /// The server refuses at least one of the rows.
    Row(RowFault),
    /// Something else.
    Other(Error),
}

/// What the server says of a row.
#[derive(Debug)]
pub struct RowFault {
    state: String,
    constraint: Option<String>,
    /// The column, where the server names one.
    pub column: String,
    /// Why, without the row's values.
    pub reason: String,
}

impl RowFault {
    /// Whether a key is there already, so that a merge may do what a COPY cannot.
    fn is_known_key(&self, key_indexes: &[String]) -> bool {
        let constraint = self.constraint.as_ref();
        self.state == "23505" && constraint.is_some_and(|name| key_indexes.contains(name))
    }
}

/// COPY into a table with row-level security.
const FEATURE_NOT_SUPPORTED: &str = "0A000";

impl Fault {
    /// Whether a merge may do what a COPY straight into the table cannot.
    pub fn is_about_the_way(&self, key_indexes: &[String]) -> bool {
        match self {
            Self::Row(fault) => fault.is_known_key(key_indexes),
            Self::Other(error) => {
                *error.kind() == ErrorKind::SqlState(FEATURE_NOT_SUPPORTED.to_owned())
            }
        }
    }
}

/// SQLSTATEs that tell of a row, <https://www.postgresql.org/docs/current/errcodes-appendix.html>: data exceptions, integrity
/// constraints, a view's check option, what a trigger raises, and a row too large for an index.
fn tells_of_a_row(state: &str) -> bool {
    ["22", "23", "44"]
        .iter()
        .any(|class| state.starts_with(class))
        || matches!(state, "P0001" | "54000")
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let told = error
            .as_db_error()
            .filter(|told| tells_of_a_row(told.code().code()));
        let Some(told) = told else {
            return Self::Other(error.into());
        };
        let state = told.code().code();
        let message = if state.starts_with("22") {
            without_quotes(told.message())
        } else {
            told.message().to_owned()
        };
        Self::Row(RowFault {
            state: state.to_owned(),
            constraint: told.constraint().map(str::to_owned),
            column: told.column().unwrap_or_default().to_owned(),
            reason: format!("{message} (SQLSTATE {state})"),
        })
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Row(fault) => Self::new(ErrorKind::SqlState(fault.state), fault.reason),
            Fault::Other(error) => error,
        }
    }
}

/// A message without what it quotes: data exceptions quote the value.
fn without_quotes(message: &str) -> String {
    message
        .split('"')
        .step_by(2)
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(" ")
        .trim_end_matches([' ', ':'])
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_repeated() {
        assert_eq!(
            without_quotes("invalid input value for enum mood: \"secret\""),
            "invalid input value for enum mood"
        );
        assert_eq!(
            without_quotes("value \"secret\" is out of range for type smallint"),
            "value is out of range for type smallint"
        );
        assert_eq!(
            without_quotes("numeric field overflow"),
            "numeric field overflow"
        );
    }

    #[test]
    fn only_the_key_s_own_index_lets_a_copy_become_a_merge() {
        let fault = |state: &str, constraint: &str| RowFault {
            state: state.to_owned(),
            constraint: Some(constraint.to_owned()),
            column: String::new(),
            reason: String::new(),
        };
        let keys = ["t_pkey".to_owned()];
        assert!(fault("23505", "t_pkey").is_known_key(&keys));
        assert!(!fault("23505", "t_email_key").is_known_key(&keys));
        assert!(!fault("23514", "t_pkey").is_known_key(&keys));
        assert!(tells_of_a_row("23514") && tells_of_a_row("22003") && tells_of_a_row("P0001"));
        for state in ["40P01", "57014", "53100", "42501", "08006", "25006"] {
            assert!(!tells_of_a_row(state), "{state}");
        }
    }
}
