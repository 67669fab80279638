//! How `catch_up` and `overlap` are written where a mapping is of no use: on the command line, in texts for people.

use std::fmt;
use std::str::FromStr;

use super::model::{CatchUp, Overlap};

/// The text is none of the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAWord {
    /// For runs that were missed.
    #[error(
        "expected none, last, all, or all:N with N from 1 to {}",
        CatchUp::MOST
    )]
    CatchUp,
    /// For runs that overlap.
    #[error("expected skip, queue or cancel")]
    Overlap,
}

impl FromStr for CatchUp {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        match text {
            "none" => Ok(Self::None),
            "last" => Ok(Self::Last),
            "all" => Ok(Self::ALL),
            _ => text
                .strip_prefix("all:")
                .and_then(|most| most.parse().ok())
                .filter(|most| (1..=Self::MOST).contains(most))
                .map(Self::All)
                .ok_or(NotAWord::CatchUp),
        }
    }
}

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Last => f.write_str("last"),
            Self::All(most) => write!(f, "all:{most}"),
        }
    }
}

impl FromStr for Overlap {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        match text {
            "skip" => Ok(Self::Skip),
            "queue" => Ok(Self::Queue),
            "cancel" => Ok(Self::Cancel),
            _ => Err(NotAWord::Overlap),
        }
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::Cancel => "cancel",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for text in ["none", "last", "all:1", "all:1000"] {
            assert_eq!(text.parse::<CatchUp>().unwrap().to_string(), text);
        }
        assert_eq!("all".parse(), Ok(CatchUp::All(100)));
        for text in ["", "All", "all:", "all:0", "all:10001", "all:-1"] {
            assert_eq!(text.parse::<CatchUp>(), Err(NotAWord::CatchUp), "{text}");
        }
        for text in ["skip", "queue", "cancel"] {
            assert_eq!(text.parse::<Overlap>().unwrap().to_string(), text);
        }
        assert_eq!("wait".parse::<Overlap>(), Err(NotAWord::Overlap));
    }
}
