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
    /// The column, where the server names one.
    pub column: String,
    /// Why, as the server says it.
    pub reason: String,
    /// The same without what may be the row's values.
    pub told: String,
}

impl RowFault {
    /// Whether a row is there already, or one that excludes it. Which of its indexes the server names first says nothing:
    /// the row may be known by its key all the same, and in a partitioned table the index has another name.
    fn is_known(&self) -> bool {
        matches!(self.state.as_str(), "23505" | "23P01")
    }

    /// Whether another row of the same flush may be what this one lacks.
    pub fn is_foreign_key(&self) -> bool {
        self.state == "23503"
    }
}

/// COPY into a table with row-level security.
const FEATURE_NOT_SUPPORTED: &str = "0A000";

impl Fault {
    /// Whether a merge may do what a COPY straight into the table cannot.
    pub fn is_about_the_way(&self) -> bool {
        match self {
            Self::Row(fault) => fault.is_known(),
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
        let column = told.column().unwrap_or_default();
        // The server's own words about a constraint name what is in the catalogue. A trigger's words, and those about a
        // value, may quote the row.
        let summary = match (told.constraint(), column) {
            (Some(_), _) => told.message().to_owned(),
            (None, column) if !column.is_empty() && state == "23502" => told.message().to_owned(),
            _ => summary(state).to_owned(),
        };
        Self::Row(RowFault {
            column: column.to_owned(),
            reason: format!("{} (SQLSTATE {state})", told.message()),
            told: format!("{summary} (SQLSTATE {state})"),
            state: state.to_owned(),
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
            Fault::Row(fault) => Self::new(ErrorKind::SqlState(fault.state), fault.told),
            Fault::Other(error) => error,
        }
    }
}

/// What a SQLSTATE means, where the server's message may hold a value.
fn summary(state: &str) -> &'static str {
    match state {
        "22001" => "text too long",
        "22003" => "a number out of range",
        "22007" | "22008" => "no such date or time",
        "22021" | "22P05" => "a character that the database cannot hold",
        "22P02" | "22P03" => "a value that its type does not know",
        "54000" => "a row too large for an index",
        "P0001" => "a trigger refused it",
        _ if state.starts_with("22") => "a value that its column cannot hold",
        _ => "the table refused it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_already_lets_a_copy_become_a_merge() {
        let fault = |state: &str| {
            Fault::Row(RowFault {
                state: state.to_owned(),
                column: String::new(),
                reason: String::new(),
                told: String::new(),
            })
        };
        assert!(fault("23505").is_about_the_way() && fault("23P01").is_about_the_way());
        assert!(!fault("23514").is_about_the_way());
        let secured = Error::new(ErrorKind::SqlState(FEATURE_NOT_SUPPORTED.into()), "x");
        assert!(Fault::Other(secured).is_about_the_way());
        assert!(tells_of_a_row("23514") && tells_of_a_row("22003") && tells_of_a_row("P0001"));
        for state in ["40P01", "57014", "53100", "42501", "08006", "25006"] {
            assert!(!tells_of_a_row(state), "{state}");
        }
    }
}
