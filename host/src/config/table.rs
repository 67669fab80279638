//! How a table's name is written: `orders`, `sales.orders`, `"My.Schema"."Odd ""name"""`.
//!
//! Names are taken as they are, capital letters included; a sink quotes them in the statements it sends.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::model::TableName;

/// `PostgreSQL` silently cuts longer names, which would make two tables one.
const MAX_BYTES: usize = 63;

/// Why a text is no table name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableNameError {
    /// A part has no characters.
    #[error("expected a table name without empty parts")]
    Empty,
    /// More than a schema and a table.
    #[error("expected a table name of at most two parts, schema and table")]
    TooManyParts,
    /// A part is longer than databases allow.
    #[error("expected a table name with at most {MAX_BYTES} bytes in each part")]
    TooLong,
    /// A NUL byte.
    #[error("expected a table name without NUL characters")]
    Nul,
    /// A character that has to be quoted, or an unfinished quote.
    #[error(
        r#"expected a table name such as orders or sales.orders, with parts that hold other characters in double quotes"#
    )]
    Quoting,
}

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, TableNameError> {
        let (first, rest) = part(text)?;
        let Some(rest) = rest else {
            return Ok(Self {
                schema: None,
                name: first,
            });
        };
        match part(rest)? {
            (name, None) => Ok(Self {
                schema: Some(first),
                name,
            }),
            (_, Some(_)) => Err(TableNameError::TooManyParts),
        }
    }
}

/// Takes one part off the front; the rest is what follows its dot.
fn part(text: &str) -> Result<(String, Option<&str>), TableNameError> {
    let (name, rest) = if let Some(quoted) = text.strip_prefix('"') {
        unquote(quoted)?
    } else {
        let (plain, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        if !plain.is_empty() && !is_plain(plain) {
            return Err(TableNameError::Quoting);
        }
        (plain.to_owned(), rest)
    };
    if name.is_empty() {
        return Err(TableNameError::Empty);
    }
    if name.len() > MAX_BYTES {
        return Err(TableNameError::TooLong);
    }
    if name.contains('\0') {
        return Err(TableNameError::Nul);
    }
    match rest.strip_prefix('.') {
        Some(next) => Ok((name, Some(next))),
        None if rest.is_empty() => Ok((name, None)),
        None => Err(TableNameError::Quoting),
    }
}

/// Reads up to the closing quote; two quotes stand for one.
fn unquote(quoted: &str) -> Result<(String, &str), TableNameError> {
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"').ok_or(TableNameError::Quoting)?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Ok((name, after)),
        }
    }
}

/// Whether a part needs no quotes.
fn is_plain(part: &str) -> bool {
    part.chars()
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
        && part
            .chars()
            .all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '$')
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write_part(f, schema)?;
            f.write_char('.')?;
        }
        write_part(f, &self.name)
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, part: &str) -> fmt::Result {
    if is_plain(part) {
        f.write_str(part)
    } else {
        write!(f, "\"{}\"", part.replace('"', "\"\""))
    }
}

impl Serialize for TableName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(schema: Option<&str>, name: &str) -> TableName {
        TableName {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    #[test]
    fn reads_plain_and_quoted_parts() {
        assert_eq!("orders".parse(), Ok(table(None, "orders")));
        assert_eq!("sales.Orders".parse(), Ok(table(Some("sales"), "Orders")));
        assert_eq!(
            r#""My.Schema"."Odd ""name""""#.parse(),
            Ok(table(Some("My.Schema"), r#"Odd "name""#))
        );
    }

    #[test]
    fn refuses_what_no_database_takes() {
        use TableNameError::{Empty, Nul, Quoting, TooLong, TooManyParts};
        let long = "x".repeat(64);
        for (text, error) in [
            ("", Empty),
            (".orders", Empty),
            ("sales.", Empty),
            (r#""""#, Empty),
            ("a.b.c", TooManyParts),
            (long.as_str(), TooLong),
            ("\"a\0b\"", Nul),
            ("my-table", Quoting),
            ("my table", Quoting),
            ("1st", Quoting),
            (r#""open"#, Quoting),
            (r#""a"b"#, Quoting),
            (r#"a"b""#, Quoting),
            ("orders;drop", Quoting),
        ] {
            assert_eq!(text.parse::<TableName>(), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(schema in proptest::option::of("[a-z\". é-]{1,20}"), name in "[^\0]{1,15}") {
            let written = table(schema.as_deref(), &name);
            prop_assert_eq!(written.to_string().parse(), Ok(written));
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = text.parse::<TableName>();
        }
    }
}
