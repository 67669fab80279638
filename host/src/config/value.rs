//! Typed access to a single value: text, numbers, words, lists, secrets.
//!
//! Variables are put in here, on reading, so that a value nobody uses needs none of its variables. A message
//! shows what was written, but neither what a variable holds nor anything of a secret.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::document::{Data, Node};
use super::interpolate::interpolate;
use super::secret::Secret;
use super::section::{Reader, Reported, Section};
use super::suggest::closest;

/// Longer values are cut in messages.
const SHOWN_CHARS: usize = 60;

/// One value that is being read.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    node: &'a Node,
    reader: &'a Reader<'a>,
}

impl<'a> Value<'a> {
    pub fn new(node: &'a Node, reader: &'a Reader<'a>) -> Self {
        Self { node, reader }
    }

    /// Another value in the place of this one.
    pub fn replaced<'b>(self, node: &'b Node) -> Value<'b>
    where
        'a: 'b,
    {
        Value::new(node, self.reader)
    }

    /// Reports a problem with this value.
    pub fn report(&self, message: impl Into<String>, fix: Option<String>) -> Reported {
        self.reader
            .report(&self.node.at, &self.node.key, message, fix)
    }

    /// Text that is not empty.
    pub fn text(self) -> Result<String, Reported> {
        let text = self.any_text()?;
        if text.is_empty() {
            Err(self.report("must not be empty", None))
        } else {
            Ok(text)
        }
    }

    /// Text, perhaps empty.
    pub fn any_text(self) -> Result<String, Reported> {
        match &self.node.data {
            Data::Text(text) => self.interpolated(text).map(|(text, _)| text),
            Data::Number(_) | Data::Bool(_) => {
                Err(self.unexpected("expected text", Some("put it in quotes".to_owned())))
            }
            _ => Err(self.unexpected("expected text", None)),
        }
    }

    /// Whether it is `false` or `off`, in place of a section.
    pub fn is_off(&self) -> bool {
        match &self.node.data {
            Data::Bool(value) => !value,
            Data::Text(text) => text == "off",
            _ => false,
        }
    }

    /// Whether it has keys.
    pub fn is_mapping(&self) -> bool {
        matches!(self.node.data, Data::Map(_))
    }

    /// Text that is not shown anywhere.
    pub fn secret(self) -> Result<Secret, Reported> {
        if let Data::Text(text) = &self.node.data {
            return self.interpolated(text).map(|(text, _)| Secret::new(text));
        }
        let message = format!("expected text, found {}", self.kind());
        Err(self.report(message, Some("put it in quotes".to_owned())))
    }

    /// A whole number within `range`; `what` names it in the message, such as "a port".
    pub fn integer<T>(self, what: &str, range: RangeInclusive<T>) -> Result<T, Reported>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let (number, fix) = match &self.node.data {
            Data::Number(number) => (number.as_i128(), None),
            Data::Text(text) => match self.interpolated(text)? {
                (text, true) => (text.trim().parse().ok(), None),
                (text, false) => (
                    None,
                    text.parse::<i128>()
                        .ok()
                        .map(|_| "remove the quotes".to_owned()),
                ),
            },
            _ => (None, None),
        };
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) if range.contains(&number) => Ok(number),
            _ => {
                let expected = format!(
                    "expected {what} between {} and {}",
                    range.start(),
                    range.end()
                );
                Err(self.unexpected(&expected, fix))
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(self) -> Result<bool, Reported> {
        let fix = match &self.node.data {
            Data::Bool(value) => return Ok(*value),
            Data::Text(text) => match self.interpolated(text)? {
                (text, true) => match text.trim() {
                    "true" => return Ok(true),
                    "false" => return Ok(false),
                    _ => None,
                },
                (text, false) => match text.to_ascii_lowercase().as_str() {
                    "true" | "false" => Some("remove the quotes"),
                    "yes" | "on" => Some("write true"),
                    "no" | "off" => Some("write false"),
                    _ => None,
                },
            },
            _ => None,
        };
        Err(self.unexpected("expected true or false", fix.map(str::to_owned)))
    }

    /// One of some words.
    pub fn one_of<T: Copy>(self, words: &[(&str, T)]) -> Result<T, Reported> {
        let word = match &self.node.data {
            Data::Text(text) => self.interpolated(text)?.0,
            _ => String::new(),
        };
        if let Some((_, value)) = words.iter().find(|(known, _)| *known == word) {
            return Ok(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let fix = closest(&word, known.iter().copied()).map(|word| format!("did you mean {word}?"));
        Err(self.unexpected(&format!("expected one of {}", known.join(", ")), fix))
    }

    /// What `parse` makes of a text or number. Its error says what was expected.
    pub fn parsed<T, E: Display>(
        self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Reported> {
        let text = match &self.node.data {
            Data::Text(text) => self.interpolated(text)?.0,
            Data::Number(number) => number.to_string(),
            // No parser takes it, and its error tells what would have been right.
            _ => String::new(),
        };
        parse(&text).map_err(|expected| self.unexpected(&expected.to_string(), None))
    }

    /// The items of a list.
    pub fn list(self) -> Result<Vec<Value<'a>>, Reported> {
        match &self.node.data {
            Data::List(items) => Ok(items.iter().map(|node| self.replaced(node)).collect()),
            _ => Err(self.report(format!("expected a list, found {}", self.kind()), None)),
        }
    }

    /// The mapping this is.
    pub fn section(self) -> Result<Section<'a>, Reported> {
        Section::of(self.node, self.reader).ok_or_else(|| {
            self.report(
                format!("expected keys and values, found {}", self.kind()),
                None,
            )
        })
    }

    /// The value as it is, for somebody else to read.
    pub fn node(self) -> &'a Node {
        self.node
    }

    /// The value as JSON, with its variables put in.
    pub fn json(self) -> Result<serde_json::Value, Reported> {
        let below = |node| Value::new(node, self.reader).json();
        match &self.node.data {
            Data::Null => Ok(serde_json::Value::Null),
            Data::Bool(value) => Ok((*value).into()),
            Data::Number(number) => Ok(number.clone().into()),
            Data::Text(text) => self.interpolated(text).map(|(text, _)| text.into()),
            Data::List(items) => all(items.iter().map(below).collect()).map(Into::into),
            Data::Map(map) => {
                let entries = map
                    .iter()
                    .map(|(name, node)| below(node).map(|value| (name.clone(), value)));
                Ok(serde_json::Value::Object(
                    all(entries.collect())?.into_iter().collect(),
                ))
            }
        }
    }

    /// The text with its variables put in, and whether there were any.
    fn interpolated(self, text: &str) -> Result<(String, bool), Reported> {
        match interpolate(text, self.reader.env) {
            Ok(done) => Ok((done.text, done.substituted)),
            Err(errors) => {
                for error in errors {
                    self.report(error.to_string(), Some(error.fix()));
                }
                Err(Reported::ALREADY)
            }
        }
    }

    /// Reports that something else was expected.
    pub fn unexpected(&self, expected: &str, fix: Option<String>) -> Reported {
        self.report(format!("{expected}, found {}", self.found()), fix)
    }

    /// What was found, for a message.
    pub fn found(&self) -> String {
        match &self.node.data {
            Data::Bool(value) => value.to_string(),
            Data::Number(number) => number.to_string(),
            // A password may have ended up under the wrong key: variables are named, not shown.
            Data::Text(text) => match interpolate(text, self.reader.env) {
                Ok(done) if done.substituted && done.text.is_empty() => {
                    format!("the empty value of {}", shown(text))
                }
                Ok(done) if done.substituted => format!("the value of {}", shown(text)),
                Ok(done) => shown(&done.text),
                Err(_) => shown(text),
            },
            _ => self.kind().to_owned(),
        }
    }

    fn kind(&self) -> &'static str {
        match self.node.data {
            Data::Null => "nothing",
            Data::Bool(_) => "true or false",
            Data::Number(_) => "a number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Map(_) => "keys and values",
        }
    }
}

/// All values, or the failure of one after every one of them was read.
pub(super) fn all<T>(results: Vec<Result<T, Reported>>) -> Result<Vec<T>, Reported> {
    results.into_iter().collect()
}

fn shown(text: &str) -> String {
    match text
        .char_indices()
        .nth(SHOWN_CHARS)
        .and_then(|(end, _)| text.get(..end))
    {
        Some(start) => format!("{start:?}…"),
        None => format!("{text:?}"),
    }
}
