//! The one error type of a plugin: what went wrong, and what the host may do about it.
//!
//! It does not decide how often something is tried again; that is the host's policy.

use std::error::Error;
use std::fmt;

use arrow_schema::ArrowError;
use serde::{Deserialize, Serialize};

/// The result of everything a plugin does.
pub type Result<T, E = StageError> = std::result::Result<T, E>;

/// What an error means for the attempt it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ErrorKind {
    /// It may succeed when tried again: a timeout, a server that restarts.
    Transient,
    /// It will fail the same way every time.
    Fatal,
    /// The configuration or the settings are wrong.
    Config,
    /// The run was asked to stop.
    Cancelled,
    /// One row is bad; the others are not. Only [`RowTransformer`](crate::RowTransformer) knows what to do with it.
    Rejected,
    /// The plugin panicked. Made by the boundary, never by an author.
    Panicked,
    /// The process in which the plugin worked has ended by the plugin's own doing. Made by the host, never by an author.
    Crashed,
    /// The process in which the plugin worked was ended: by its limits, or from outside. Made by the host, never by an
    /// author.
    Killed,
}

impl ErrorKind {
    /// The number that stands for this kind on the boundary.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Transient => 1,
            Self::Fatal => 2,
            Self::Config => 3,
            Self::Cancelled => 4,
            Self::Rejected => 5,
            Self::Panicked => 6,
            Self::Crashed => 7,
            Self::Killed => 8,
        }
    }

    /// The kind for a number; one that a newer version invented counts as fatal.
    pub(crate) fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Transient,
            3 => Self::Config,
            4 => Self::Cancelled,
            5 => Self::Rejected,
            6 => Self::Panicked,
            7 => Self::Crashed,
            8 => Self::Killed,
            _ => Self::Fatal,
        }
    }
}

/// An error of a stage.
///
/// The message should say what was tried and, where known, what to do next. It must hold no secrets and no row
/// values: it is written to logs.
///
/// ```
/// use etl_plugin_api::{ErrorKind, ResultExt, StageError};
///
/// let error = StageError::config("settings.region: expected `eu` or `us`");
/// assert_eq!(error.kind(), ErrorKind::Config);
///
/// let parsed: Result<u32, StageError> = "x".parse::<u32>().fatal("the page number is no number");
/// assert_eq!(parsed.unwrap_err().to_string(), "the page number is no number: invalid digit found in string");
/// ```
#[derive(Clone, Debug)]
pub struct StageError {
    kind: ErrorKind,
    message: String,
    column: Option<String>,
    backtrace: Option<String>,
}

impl StageError {
    /// An error of any kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            column: None,
            backtrace: None,
        }
    }

    /// May succeed when tried again.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, message)
    }

    /// Fails the same way every time.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fatal, message)
    }

    /// The configuration or the settings are wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// The stage saw [`Context::cancelled`](crate::Context::cancelled) and stopped.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "the run was cancelled")
    }

    /// This row is bad and belongs into quarantine; see [`RowTransformer`](crate::RowTransformer).
    pub fn rejected(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Rejected, reason)
    }

    /// Names the column that a rejected row fails on.
    #[must_use]
    pub fn in_column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }

    /// Adds where a panic happened.
    #[must_use]
    pub fn with_backtrace(mut self, backtrace: impl Into<String>) -> Self {
        self.backtrace = Some(backtrace.into());
        self
    }

    /// What the error means for the attempt.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What went wrong, without the kind.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The column a rejected row fails on.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }

    /// Where a panic happened.
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StageError {}

impl From<ArrowError> for StageError {
    fn from(error: ArrowError) -> Self {
        Self::fatal(error.to_string())
    }
}

impl From<serde_arrow::Error> for StageError {
    fn from(error: serde_arrow::Error) -> Self {
        Self::fatal(error.message().to_owned())
    }
}

impl From<std::io::Error> for StageError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::TimedOut
            | Io::Interrupted
            | Io::WouldBlock
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::ConnectionRefused
            | Io::BrokenPipe
            | Io::NotConnected
            | Io::UnexpectedEof => ErrorKind::Transient,
            _ => ErrorKind::Fatal,
        };
        Self::new(kind, error.to_string())
    }
}

/// Turns any error into a [`StageError`] that says what was tried.
pub trait ResultExt<T> {
    /// It may succeed when tried again.
    fn transient(self, what: &str) -> Result<T>;
    /// It will fail the same way every time.
    fn fatal(self, what: &str) -> Result<T>;
    /// The configuration or the settings are wrong.
    fn config(self, what: &str) -> Result<T>;
}

impl<T, E: fmt::Display> ResultExt<T> for Result<T, E> {
    fn transient(self, what: &str) -> Result<T> {
        self.map_err(|error| StageError::transient(format!("{what}: {error}")))
    }

    fn fatal(self, what: &str) -> Result<T> {
        self.map_err(|error| StageError::fatal(format!("{what}: {error}")))
    }

    fn config(self, what: &str) -> Result<T> {
        self.map_err(|error| StageError::config(format!("{what}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_boundary() {
        for kind in [
            ErrorKind::Transient,
            ErrorKind::Fatal,
            ErrorKind::Config,
            ErrorKind::Cancelled,
            ErrorKind::Rejected,
            ErrorKind::Panicked,
            ErrorKind::Crashed,
        ] {
            assert_eq!(ErrorKind::from_code(kind.code()), kind);
        }
        assert_eq!(ErrorKind::from_code(4_000), ErrorKind::Fatal);
    }

    #[test]
    fn a_lost_connection_may_be_tried_again_and_a_missing_file_may_not() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(StageError::from(reset).kind(), ErrorKind::Transient);
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(StageError::from(missing).kind(), ErrorKind::Fatal);
    }
}
