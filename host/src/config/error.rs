//! What is wrong with a configuration: every problem with its place, all of them together.
//!
//! A message names keys, files and harmless values. It never holds the value of a secret key; the readers in
//! `section.rs` see to that, nothing here could tell.

use std::fmt;

use serde::Serialize;

/// A place in a configuration file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The name of the layer, usually a path.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ConfigProblem {
    /// Where.
    #[serde(flatten)]
    pub position: Position,
    /// The key it is about, such as `source.shards[1].port`; empty when it is about the file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub fix: Option<String>,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.position)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.fix {
            Some(fix) => write!(f, " ({fix})"),
            None => Ok(()),
        }
    }
}

/// All problems of one configuration, sorted by file and line. Prints one line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}", lines(.0))]
#[serde(transparent)]
pub struct ConfigErrors(Vec<ConfigProblem>);

impl ConfigErrors {
    /// The problems in their order.
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.0
    }
}

impl From<Vec<ConfigProblem>> for ConfigErrors {
    fn from(mut problems: Vec<ConfigProblem>) -> Self {
        // A default that several shards inherit is complained about once per shard.
        problems.sort();
        problems.dedup();
        Self(problems)
    }
}

fn lines(problems: &[ConfigProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
