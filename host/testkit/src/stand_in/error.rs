//! Errors with SQL Server's own numbers. Whatever the stand-in does not know says so in its text.

use std::fmt;

use super::fault::ServerError;

/// An error of a statement or of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    pub number: i32,
    pub state: u8,
    pub class: u8,
    pub line: u32,
    pub message: String,
}

pub type SqlResult<T> = Result<T, SqlError>;

/// How errors travel through a function of `SQLite`, which keeps only their text.
const MARK: &str = "\u{1}sql error\u{1}";

impl SqlError {
    pub fn new(number: i32, message: impl Into<String>) -> Self {
        let (class, state) = match number {
            102 | 105 | 1033 | 156 | 319 => (15, 1),
            137 => (15, 2),
            170 | 195 => (15, 10),
            245 => (16, 1),
            515 => (16, 2),
            8114 => (16, 5),
            911 | 2627 | 2601 => (14, 1),
            229 => (14, 5),
            18456 => (14, 1),
            4060 => (11, 1),
            8115 => (16, 2),
            3701 => (11, 5),
            _ => (16, 1),
        };
        Self {
            number,
            state,
            class,
            line: 1,
            message: message.into(),
        }
    }

    pub fn at(mut self, line: u32) -> Self {
        self.line = line;
        self
    }

    /// What the real server may know and this one does not.
    pub fn unknown(what: impl fmt::Display) -> Self {
        Self::new(40_517, format!("(the stand-in does not know {what})"))
    }

    pub fn syntax(near: &str, line: u32) -> Self {
        Self::new(
            102,
            format!("Incorrect syntax near '{near}'. (the stand-in does not know this statement)"),
        )
        .at(line)
    }

    pub fn no_object(name: &str) -> Self {
        Self::new(208, format!("Invalid object name '{name}'."))
    }

    pub fn no_column(name: &str) -> Self {
        Self::new(207, format!("Invalid column name '{name}'."))
    }

    pub fn no_function(name: &str) -> Self {
        Self::new(
            195,
            format!(
                "'{name}' is not a recognized built-in function name. (the stand-in does not know it)"
            ),
        )
    }

    pub fn overflow(of: &str) -> Self {
        Self::new(
            8115,
            format!("Arithmetic overflow error converting expression to data type {of}."),
        )
    }

    pub fn internal(error: impl fmt::Display) -> Self {
        let text = error.to_string();
        Self::unmarked(&text)
            .unwrap_or_else(|| Self::new(50_000, format!("(the stand-in failed: {text})")))
    }

    /// Whether the statement alone fails and the batch goes on, as with `XACT_ABORT` OFF.
    pub fn ends_only_the_statement(&self) -> bool {
        matches!(
            self.number,
            220 | 232 | 515 | 2601 | 2627 | 2628 | 8115 | 8134 | 3701
        )
    }

    /// Whether the transaction is rolled back with it.
    pub fn ends_the_transaction(&self) -> bool {
        matches!(self.number, 1205 | 3960 | 241 | 242 | 245 | 8114)
    }

    pub fn marked(&self) -> String {
        format!(
            "{MARK}{}|{}|{}|{}",
            self.number, self.state, self.class, self.message
        )
    }

    fn unmarked(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(MARK)?;
        let mut parts = rest.splitn(4, '|');
        Some(Self {
            number: parts.next()?.parse().ok()?,
            state: parts.next()?.parse().ok()?,
            class: parts.next()?.parse().ok()?,
            line: 1,
            message: parts.next()?.to_owned(),
        })
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}: {}", self.number, self.message)
    }
}

impl std::error::Error for SqlError {}

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        Self::internal(error)
    }
}

impl From<ServerError> for SqlError {
    fn from(error: ServerError) -> Self {
        Self {
            number: error.number,
            state: error.state,
            class: error.class,
            line: 1,
            message: error.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_its_way_through_sqlite() {
        let error = SqlError::overflow("int");
        assert_eq!(SqlError::internal(error.marked()), error);
        assert_eq!(SqlError::internal("disk full").number, 50_000);
    }
}
