//! Takes secrets out of texts that a plugin writes.
//!
//! A safety net: it knows a value as it is and as a quoted text would hold it. A plugin that encodes a secret, or writes
//! part of it, is not found out.

use std::borrow::Cow;

use etl_plugin_api::StageError;

use crate::config::Secret;

/// Shorter values would be found in words that have nothing to do with them.
const LEAST_CHARS: usize = 4;
const REDACTED: &str = "***";

/// Replaces some values by `***`.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// The longest first, so that nothing of a value stays that holds another one.
    values: Vec<Secret>,
}

impl Redactor {
    /// Hides these values.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut redactor = Self::default();
        redactor.add(secrets);
        redactor
    }

    /// Hides these values too.
    pub fn add<'a>(&mut self, secrets: impl IntoIterator<Item = &'a Secret>) {
        for value in secrets.into_iter().map(Secret::expose) {
            let known = |known: &Secret| known.expose() == value;
            if value.chars().count() < LEAST_CHARS || self.values.iter().any(known) {
                continue;
            }
            // As `{:?}` and JSON write it.
            let escaped = value.escape_debug().to_string();
            if escaped != value {
                self.values.push(Secret::new(escaped));
            }
            self.values.push(Secret::new(value.to_owned()));
        }
        let longest_first = |value: &Secret| std::cmp::Reverse(value.expose().len());
        self.values.sort_by_key(longest_first);
    }

    /// The text without the values.
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for value in &self.values {
            if text.contains(value.expose()) {
                text = Cow::Owned(text.replace(value.expose(), REDACTED));
            }
        }
        text
    }

    /// The error without the values, also in its column and its backtrace.
    pub fn redact_error(&self, error: StageError) -> StageError {
        if self.values.is_empty() {
            return error;
        }
        let mut redacted = StageError::new(error.kind(), self.redact(error.message()));
        if let Some(column) = error.column() {
            redacted = redacted.in_column(self.redact(column));
        }
        if let Some(backtrace) = error.backtrace() {
            redacted = redacted.with_backtrace(self.redact(backtrace));
        }
        redacted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        let secrets: Vec<Secret> = values
            .iter()
            .map(|value| Secret::new((*value).to_owned()))
            .collect();
        Redactor::new(&secrets)
    }

    #[test]
    fn values_are_hidden_and_short_ones_are_not() {
        let redactor = redactor(&["abc", "hunter2", "hunter2-hunter2", "li\"ne\nbreak"]);
        for (text, redacted) in [
            ("abc and nothing", "abc and nothing"),
            ("token hunter2, again hunter2!", "token ***, again ***!"),
            ("hunter2-hunter2", "***"),
            ("a li\"ne\nbreak", "a ***"),
            (r#"Some("li\"ne\nbreak")"#, r#"Some("***")"#),
        ] {
            assert_eq!(redactor.redact(text), redacted);
        }
        assert_eq!(Redactor::default().redact("hunter2"), "hunter2");
    }

    #[test]
    fn an_error_keeps_everything_else() {
        let error = StageError::transient("the server refused hunter2")
            .in_column("of hunter2")
            .with_backtrace("at hunter2");
        let redacted = redactor(&["hunter2"]).redact_error(error.clone());
        assert_eq!(redacted.kind(), error.kind());
        assert_eq!(redacted.message(), "the server refused ***");
        assert_eq!(redacted.column(), Some("of ***"));
        assert_eq!(redacted.backtrace(), Some("at ***"));
    }
}
