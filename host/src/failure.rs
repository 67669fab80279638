//! Why a command or a request did not do its work, with the words, the JSON and the exit code of it.
//!
//! What went wrong inside is an [`Error`]; what a whole run says of itself is a [`RunReport`](crate::runtime::report::RunReport).

use serde_json::json;

use crate::config::ConfigErrors;
use crate::error::{Error, ErrorKind};
use crate::logs::redact;
use crate::policy;

/// Why a command or a request did not do its work.
#[derive(Debug)]
pub enum Failure {
    /// Mistakes in the configuration, each with its place.
    Config(ConfigErrors),
    /// Anything else.
    Host(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Host(error)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Config(errors) => Self::config(errors.to_string()),
            Failure::Host(error) => error,
        }
    }
}

impl Failure {
    /// The exit code of the contract.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Host(error) if *error.kind() == ErrorKind::Config => 2,
            Self::Host(error) if error.is_environment() => 3,
            Self::Host(_) => 1,
        }
    }

    /// As `--output json` shows it.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Config(errors) => json!({
                "message": "the configuration has mistakes",
                "next_step": "correct them and run `etl-host validate`",
                "problems": errors,
            }),
            Self::Host(error) => json!({
                "message": redact(&error.to_string()),
                "next_step": policy::next_step(error).map(|next| redact(&next).into_owned()),
            }),
        }
    }

    /// As people read it.
    pub fn to_text(&self) -> String {
        match self {
            Self::Config(errors) => errors.to_string(),
            Self::Host(error) => {
                let mut text = error.to_string();
                if let Some(next) = policy::next_step(error) {
                    text.push_str("\n  next: ");
                    text.push_str(&next);
                }
                redact(&text).into_owned()
            }
        }
    }
}
