//! One event of the log: as one JSON line, and as people read it.

use std::fmt::{self, Debug, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

use super::facts::Facts;
use super::secrets::redact;

/// Names that the host's own keys have.
const TAKEN: [&str; 3] = ["time", "level", "target"];

/// How much an event matters.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something wants attention.
    Warn,
    /// The life of runs.
    Info,
    /// Every detail.
    Debug,
    /// More than every detail.
    Trace,
}

impl Level {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }
}

/// One event. Its JSON is one line of a log file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// How much it matters.
    pub level: Level,
    /// What it is about.
    #[serde(flatten)]
    pub facts: Facts,
    /// The part of the host that says it; `plugin` for what the plugin says.
    pub target: String,
    /// What happened.
    pub message: String,
    /// Whatever else there is to say.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Record {
    /// An event that happens now, without what is secret.
    pub(super) fn of(event: &tracing::Event<'_>, facts: Facts) -> Self {
        let metadata = event.metadata();
        let mut record = Self {
            time: format!("{:.3}", jiff::Timestamp::now()),
            level: Level::from(*metadata.level()),
            facts,
            target: metadata.target().to_owned(),
            message: String::new(),
            fields: Map::new(),
        };
        event.record(&mut record);
        record
    }

    /// The line of the log file, with its end.
    pub fn to_json_line(&self) -> String {
        // Text, numbers and a map with text as keys can always be written.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// As `etl-host logs` shows it, without the end of the line.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let time = self.time.get(..19).unwrap_or(&self.time).replace('T', " ");
        // Writing to a String cannot fail, here and below.
        let _ = write!(text, "{time} {} ", self.level.word());
        if let Some(partition) = &self.facts.partition {
            let _ = write!(text, "[{partition}] ");
        }
        push_printable(&mut text, &self.message);
        if let Some(attempt) = self.facts.attempt.filter(|attempt| *attempt > 1)
            && !self.tells("attempt", &attempt)
        {
            let _ = write!(text, " attempt={attempt}");
        }
        self.push_fields(&mut text);
        text
    }

    /// The message and what else there is to say, as stderr shows it. What the message tells itself is not repeated.
    pub fn to_message(&self) -> String {
        let mut text = String::new();
        push_printable(&mut text, &self.message);
        self.push_fields(&mut text);
        let texts = [
            ("pipeline", &self.facts.pipeline),
            ("partition", &self.facts.partition),
        ];
        for (name, value) in texts {
            if let Some(value) = value.as_ref().filter(|value| !self.tells(name, value)) {
                let _ = write!(text, " {name}={value}");
            }
        }
        if let Some(attempt) = self.facts.attempt
            && !self.tells("attempt", &attempt)
        {
            let _ = write!(text, " attempt={attempt}");
        }
        text
    }

    fn tells(&self, name: &str, value: &dyn fmt::Display) -> bool {
        self.message.contains(&format!("{name} {value}"))
    }

    fn push_fields(&self, text: &mut String) {
        for (name, value) in &self.fields {
            let _ = write!(text, " {name}=");
            match value {
                Value::String(value) if value.contains(char::is_whitespace) => {
                    text.push('"');
                    push_printable(text, value);
                    text.push('"');
                }
                Value::String(value) => push_printable(text, value),
                value => {
                    let _ = write!(text, "{value}");
                }
            }
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        let name = if TAKEN.contains(&name) {
            format!("{name}_")
        } else {
            name.to_owned()
        };
        self.fields.insert(name, value);
    }

    fn put_text(&mut self, field: &Field, value: &str) {
        let value = redact(value);
        if field.name() == "message" {
            self.message = value.into_owned();
        } else if !self.facts.take_text(field.name(), &value) {
            self.put(field, value.into());
        }
    }
}

/// Takes the fields of an event.
impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "attempt" {
            self.facts.attempt = Some(value);
        } else {
            self.put(field, value.into());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.put(field, value.into()),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put_text(field, &format!("{value:?}"));
    }
}

/// Whoever reads the log on a terminal is not told what to do by what is logged.
fn push_printable(text: &mut String, value: &str) {
    for letter in value.chars() {
        if letter.is_control() && letter != '\n' && letter != '\t' {
            text.extend(letter.escape_default());
        } else {
            text.push(letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str) -> Record {
        Record {
            time: "2026-11-23T04:36:25.017Z".to_owned(),
            level: Level::Warn,
            facts: Facts {
                pipeline: Some("copy".to_owned()),
                run_id: Some("0198".to_owned()),
                partition: Some("eu".to_owned()),
                attempt: Some(2),
            },
            target: "etl_host::runtime".to_owned(),
            message: message.to_owned(),
            fields: Map::from_iter([
                ("count".to_owned(), 3.into()),
                ("why".to_owned(), "no\u{1b}[31m \"reason\"".into()),
            ]),
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let record = record("over");
        let line = record.to_json_line();
        expect_test::expect![[r#"
            {"time":"2026-11-23T04:36:25.017Z","level":"WARN","pipeline":"copy","run_id":"0198","partition":"eu","attempt":2,"target":"etl_host::runtime","message":"over","count":3,"why":"no\u001b[31m \"reason\""}
        "#]]
        .assert_eq(&line);
        let read: Record = serde_json::from_str(&line).unwrap();
        assert_eq!(read, record);
    }

    #[test]
    fn text_says_everything_once_and_commands_no_terminal() {
        expect_test::expect![[
            r#"2026-11-23 04:36:25 WARN [eu] over attempt=2 count=3 why="no\u{1b}[31m "reason"""#
        ]]
        .assert_eq(&record("over").to_text());
        expect_test::expect![[
            r#"partition eu, attempt 2: over count=3 why="no\u{1b}[31m "reason"" pipeline=copy"#
        ]]
        .assert_eq(&record("partition eu, attempt 2: over").to_message());
    }
}
