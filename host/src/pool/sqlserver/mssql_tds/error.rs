//! Errors of the driver as errors of the host: the server's own with their numbers, and never a value of a row.

use std::error::Error as StdError;

use mssql_tds::error::Error as Tds;

use super::super::no_tls;
use crate::error::{Error, ErrorKind, io_error};

impl From<Tds> for Error {
    fn from(error: Tds) -> Self {
        match error {
            Tds::SqlServerError { diagnostics } => match diagnostics.errors.first() {
                Some(first) => Self::sql_server(first.number, first.state, &first.message),
                None => Self::new(ErrorKind::Unavailable, "an error without a word"),
            },
            Tds::Io(error) => match error.kind() {
                std::io::ErrorKind::TimedOut => Self::new(ErrorKind::Timeout, error.to_string()),
                // What the server sent makes no sense to the driver; a new connection may do better.
                std::io::ErrorKind::InvalidData => broken(&error.to_string()),
                _ => Self::new(ErrorKind::Unavailable, error.to_string()),
            },
            Tds::TlsHandshakeError { source, .. } | Tds::TlsError(source) => tls(&source),
            Tds::ConnectionError(text) | Tds::ConnectionClosed(text) => {
                Self::new(ErrorKind::Unavailable, text)
            }
            Tds::Redirection { .. } => Self::new(
                ErrorKind::Unavailable,
                "the listener sends the connection on and on",
            ),
            // Its texts for this are fixed; there is no kind.
            Tds::ProtocolError(text) if text.contains("encryption") => no_tls(),
            Tds::ProtocolError(text) => broken(&text),
            Tds::TimeoutError(_) => Self::new(ErrorKind::Timeout, "the server did not answer"),
            Tds::OperationCancelledError(_) => {
                Self::new(ErrorKind::Cancelled, "the statement was cancelled")
            }
            Tds::UnsupportedEncoding { .. } => Self::wrong_code_page("a collation without one"),
            Tds::UsageError(text) | Tds::ImplementationError(text) => {
                Self::internal(format!("the driver was used wrongly: {text}"))
            }
            other => Self::data(other.to_string()),
        }
    }
}

/// Half an answer: what comes next cannot be understood. The text ends where it may quote what was read.
fn broken(text: &str) -> Error {
    let text = text.split([':', '{', '(']).next().unwrap_or_default();
    Error::new(
        ErrorKind::Unavailable,
        format!("broken answer: {}", text.trim_end()),
    )
}

fn tls(error: &(dyn StdError + 'static)) -> Error {
    if io_error(error).is_some() {
        return Error::new(ErrorKind::Unavailable, format!("TLS: {error}"));
    }
    Error::new(ErrorKind::Refused, format!("TLS: {error}")).hint(
        "add the server's authority to those of this machine, connect by the name in its certificate, or set \
         `tls.trust_server_certificate: true` where nobody can sit in between",
    )
}
