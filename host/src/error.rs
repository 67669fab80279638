//! The host's one error type, with a kind that everything else decides by.
//!
//! It says what was tried and why it failed; what to do about it is in [`policy`].

use std::error::Error as StdError;
use std::fmt;

use etl_plugin_api::{ErrorKind as StageErrorKind, StageError};
use tiberius::error::IoErrorKind;
use tokio::time::Instant;

use crate::capabilities::Redactor;
use crate::policy;

/// The result of everything the host does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration, the settings or the flags are wrong.
    Config,
    /// A server cannot be reached, or the connection broke.
    Unavailable,
    /// A server or the file system refuses: wrong password, no permission, no such database or file.
    Refused,
    /// A server answered with this SQLSTATE.
    SqlState(String),
    /// `SQLite` answered with this extended result code.
    Sqlite(i32),
    /// SQL Server answered with this error number.
    SqlServer(u32),
    /// The server cannot encrypt, and the configuration does not accept less.
    NoTls,
    /// A stage of the plugin failed.
    Stage(StageErrorKind),
    /// Something took longer than it may.
    Timeout,
    /// The data or its columns are not what they must be.
    Data,
    /// A stream ended without the proof that it is complete.
    Unproven,
    /// A stream came to its end, and the server has counted other rows than arrived: one may be missing anywhere.
    Miscounted,
    /// The ledgers do not add up.
    Ledger,
    /// More rows were quarantined than the configuration allows.
    TooManyBadRows,
    /// The sink's table is not as it was when the attempt looked at it.
    TableChanged,
    /// Another run works on the partition.
    Busy,
    /// Another attempt has taken this partition over.
    Fenced,
    /// The checkpoint belongs to another server, database or query.
    Fingerprint,
    /// The run was asked to stop.
    Cancelled,
    /// A plugin file cannot be used.
    Plugin,
    /// The host itself is at fault.
    Internal,
}

/// A failure, with what was tried and what caused it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Box<str>,
    hint: Option<Box<str>>,
    details: Option<Box<str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    not_before: Option<Instant>,
    untried: bool,
}

impl Error {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into().into_boxed_str(),
            hint: None,
            details: None,
            source: None,
            not_before: None,
            untried: false,
        }
    }

    /// The configuration, the settings or the flags are wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// The data or its columns are not what they must be.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// The host itself is at fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().into_boxed_str());
        self
    }

    /// Adds what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what was being tried in front of the message.
    #[must_use]
    pub fn while_trying(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message).into_boxed_str();
        self
    }

    /// Takes secrets out of all of its texts.
    #[must_use]
    pub fn redact(mut self, redactor: &Redactor) -> Self {
        self.message = redactor.redact(&self.to_string()).into();
        self.hint = self.hint.map(|hint| redactor.redact(&hint).into());
        self.details = self.details.map(|details| redactor.redact(&details).into());
        // The message tells the chain already.
        self.source = None;
        self
    }

    /// Trying again before this time is of no use.
    #[must_use]
    pub fn not_before(mut self, time: Instant) -> Self {
        self.not_before = Some(time);
        self
    }

    /// Where a plugin panicked, or what it printed last before it crashed.
    pub fn details(&self) -> Option<&str> {
        self.details.as_deref()
    }

    /// Nothing was tried at all: it was known to be of no use.
    #[must_use]
    pub fn untried(mut self) -> Self {
        self.untried = true;
        self
    }

    /// Whether nothing was tried at all.
    pub fn is_untried(&self) -> bool {
        self.untried
    }

    /// The time before which trying again is of no use.
    pub fn earliest_retry(&self) -> Option<Instant> {
        self.not_before
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What to do next, where this very error knows better than the policy.
    pub fn own_hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether the fault lies in the environment (nothing answers, no such file, access refused) rather than in the run.
    pub fn is_environment(&self) -> bool {
        match &self.kind {
            ErrorKind::Unavailable | ErrorKind::Refused | ErrorKind::NoTls => true,
            ErrorKind::SqlServer(number) => policy::is_environment(*number),
            ErrorKind::SqlState(state) => {
                ["08", "28", "3D", "53"]
                    .iter()
                    .any(|class| state.starts_with(class))
                    || matches!(state.as_str(), "57P01" | "57P02" | "57P03" | "42501")
            }
            // SQLITE_CANTOPEN, _PERM, _NOTADB, _READONLY, _FULL, _IOERR
            ErrorKind::Sqlite(code) => matches!(code & 0xff, 14 | 3 | 26 | 8 | 13 | 10),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut source = self.source.as_deref().map(|source| source as &dyn StdError);
        let mut last = self.message.to_string();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many libraries repeat their cause in their own text.
            if !last.contains(&text) {
                write!(f, ": {text}")?;
            }
            last = text;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // Display tells the whole chain already.
        None
    }
}

impl From<StageError> for Error {
    fn from(error: StageError) -> Self {
        let kind = match error.kind() {
            StageErrorKind::Config => ErrorKind::Config,
            StageErrorKind::Cancelled => ErrorKind::Cancelled,
            kind => ErrorKind::Stage(kind),
        };
        Self {
            details: error.backtrace().map(Into::into),
            ..Self::new(kind, error.message())
        }
    }
}

impl From<Error> for StageError {
    /// For the host's services that a plugin calls: keeps whether trying again makes sense.
    fn from(error: Error) -> Self {
        let kind = match policy::policy(&error) {
            policy::Policy::Retry => StageErrorKind::Transient,
            _ if error.kind == ErrorKind::Cancelled => StageErrorKind::Cancelled,
            _ if error.kind == ErrorKind::Config => StageErrorKind::Config,
            _ => StageErrorKind::Fatal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<arrow_schema::ArrowError> for Error {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::internal("an Arrow operation failed").caused_by(error)
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal("a task of the host ended before its time").caused_by(error)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let kind = match &error {
            rusqlite::Error::SqliteFailure(failure, _) => ErrorKind::Sqlite(failure.extended_code),
            rusqlite::Error::SqlInputError { error, .. } => ErrorKind::Sqlite(error.extended_code),
            _ => ErrorKind::Data,
        };
        Self::new(kind, "SQLite").caused_by(error)
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(database) = error.as_db_error() {
            // `detail` is left out: it quotes row values.
            let mut text = format!(
                "{} (SQLSTATE {})",
                database.message(),
                database.code().code()
            );
            if let Some(constraint) = database.constraint() {
                text = format!("{text}, constraint {constraint}");
            } else if let Some(column) = database.column() {
                text = format!("{text}, column {column}");
            }
            return Self::new(ErrorKind::SqlState(database.code().code().to_owned()), text);
        }
        let text = error.to_string();
        let kind = match io_error(&error) {
            // A certificate that is not trusted, a server that speaks no TLS.
            Some(std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput) => {
                ErrorKind::Refused
            }
            Some(std::io::ErrorKind::TimedOut) => ErrorKind::Timeout,
            Some(_) => ErrorKind::Unavailable,
            None if error.is_closed() => ErrorKind::Unavailable,
            None if text.contains("timeout") => ErrorKind::Timeout,
            // Without an answer of the server and without an I/O error, the two did not come to terms: TLS, authentication.
            None => ErrorKind::Refused,
        };
        let source = StdError::source(&error).map(ToString::to_string);
        let message = match source {
            Some(source) if !text.contains(&source) => format!("{text}: {source}"),
            _ => text,
        };
        Self::new(kind, message)
    }
}

/// Errors whose text quotes values of rows: conversions, duplicate keys, texts that are cut.
const QUOTES_VALUES: [u32; 11] = [220, 232, 235, 241, 244, 245, 248, 2601, 2627, 2628, 6522];

/// What both drivers of SQL Server meet.
impl Error {
    /// An error that the server has sent.
    pub(crate) fn sql_server(number: u32, state: u8, text: &str) -> Self {
        let text = if QUOTES_VALUES.contains(&number) {
            "the statement failed on a value"
        } else {
            text.trim_end()
        };
        let text = format!("{text} (SQL Server error {number}, state {state})");
        Self::new(ErrorKind::SqlServer(number), text)
    }

    /// A text of the server that is no UTF-16.
    pub(crate) fn half_a_pair() -> Self {
        Self::data("a text of the query holds half of a surrogate pair, which is no character")
            .hint("mend the row, or CAST the column AS varbinary(max) in `source.query`")
    }

    /// A text of the server with bytes that its code page does not have.
    pub(crate) fn wrong_code_page(found: &str) -> Self {
        Self::data(format!(
            "a text of the query does not fit its code page: {found}"
        ))
        .hint("CAST the column AS nvarchar(max) in `source.query`")
    }
}

impl From<tiberius::error::Error> for Error {
    fn from(error: tiberius::error::Error) -> Self {
        use tiberius::error::Error as Tds;
        match &error {
            Tds::Server(answer) => {
                Self::sql_server(answer.code(), answer.state(), answer.message())
            }
            Tds::Io {
                kind: IoErrorKind::TimedOut,
                message,
            } => Self::new(ErrorKind::Timeout, message.clone()),
            Tds::Io { message, .. } => Self::new(ErrorKind::Unavailable, message.clone()),
            Tds::Tls(text) => {
                // The library's advice names its own functions.
                let text = text.split(" To connect anyway").next().unwrap_or(text);
                Self::new(ErrorKind::Refused, format!("TLS: {text}")).hint(
                    "name the server's authority with `tls.ca_file`, connect by the name in its certificate, or set \
                     `tls.trust_server_certificate: true` where nobody can sit in between",
                )
            }
            // It says neither row nor column, and reads the same bytes the same way every time.
            Tds::Protocol(text) if text.contains("UTF-16") => Self::half_a_pair(),
            Tds::Encoding(text) => Self::wrong_code_page(text),
            // Half an answer: what comes next cannot be understood, a new connection may do better.
            Tds::Protocol(text) => {
                Self::new(ErrorKind::Unavailable, format!("broken answer: {text}"))
            }
            other => Self::new(ErrorKind::Data, other.to_string()),
        }
    }
}

/// The kind of the I/O error at the root of another, if there is one.
pub(crate) fn io_error(error: &(dyn StdError + 'static)) -> Option<std::io::ErrorKind> {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        source = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_tells_the_chain_once() {
        let error = Error::data("cannot read the shard")
            .caused_by(std::io::Error::other("disk on fire"))
            .while_trying("partition eu");
        assert_eq!(
            error.to_string(),
            "partition eu: cannot read the shard: disk on fire"
        );
    }

    #[test]
    fn a_wrong_password_is_the_environment_and_a_bad_row_is_not() {
        assert!(Error::new(ErrorKind::SqlState("28P01".into()), "x").is_environment());
        assert!(!Error::new(ErrorKind::SqlState("22003".into()), "x").is_environment());
        assert!(Error::new(ErrorKind::Sqlite(14), "x").is_environment());
        assert!(!Error::new(ErrorKind::Sqlite(2067), "x").is_environment());
    }
}
