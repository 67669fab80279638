//! Named parameters: `@name` in a statement becomes `$1`, and its value goes to the server as text of a declared type.
//!
//! The server reads the text by that type's own rules, so nothing is converted twice. Which type a parameter has is
//! decided in [`describe`](super::describe).

use std::error::Error as StdError;
use std::fmt::Write as _;

use bytes::BytesMut;
use etl_plugin_api::{Cursor, Value};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use super::describe::Window;
use super::types::CursorType;
use crate::error::{Error, Result};
use crate::source::sql::{end_of_dollars, find};
use crate::source::{Range, ReadRequest};

/// A statement with `$1`, `$2`, … in place of its named parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The statement.
    pub sql: String,
    /// The names in the order of their numbers.
    pub names: Vec<String>,
}

/// Replaces the named parameters that `known` knows. Every other `@` stays: it is one of the server's own operators
/// (`@>`, `<@`, `@@`, `@ -5`), or part of a string, a quoted name or a comment.
pub fn rewrite(sql: &str, known: impl Fn(&str) -> bool) -> Rewritten {
    let bytes = sql.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let mut rewritten = Rewritten {
        sql: String::with_capacity(sql.len() + 8),
        names: Vec::new(),
    };
    let (mut index, mut copied) = (0, 0);
    while index < bytes.len() {
        let start = index;
        index = match at(index) {
            quote @ (b'\'' | b'"') => end_of_quoted(bytes, index, quote, false),
            b'-' if at(index + 1) == b'-' => find(bytes, index, b"\n"),
            b'/' if at(index + 1) == b'*' => end_of_comment(bytes, index),
            b'$' => end_of_dollars(bytes, index).unwrap_or(index + 1),
            b'@' if at(index + 1) == b'@' => end_of(bytes, index, |byte| byte == b'@'),
            b'@' => end_of(bytes, index + 1, is_word),
            byte if is_word(byte) => {
                let end = end_of(bytes, index, |byte| is_word(byte) || byte == b'$');
                let escapes = matches!(sql.get(index..end), Some("e" | "E"));
                if escapes && at(end) == b'\'' {
                    end_of_quoted(bytes, end, b'\'', true)
                } else {
                    end
                }
            }
            _ => index + 1,
        };
        let name = sql
            .get(start..index)
            .and_then(|text| text.strip_prefix('@'));
        let Some(name) = name.filter(|name| known(name)) else {
            continue;
        };
        // `@lastRun` is another name of `@from`.
        let name = if name == "lastRun" { "from" } else { name };
        let position = rewritten.names.iter().position(|taken| taken == name);
        let number = position.unwrap_or(rewritten.names.len()) + 1;
        if position.is_none() {
            rewritten.names.push(name.to_owned());
        }
        rewritten.sql.push_str(sql.get(copied..start).unwrap_or(""));
        // Writing to a String cannot fail.
        let _ = write!(rewritten.sql, "${number}");
        copied = index;
    }
    rewritten.sql.push_str(sql.get(copied..).unwrap_or(""));
    rewritten
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The index of the first byte that is not like this.
fn end_of(bytes: &[u8], from: usize, like: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let length = rest.iter().take_while(|byte| like(**byte)).count();
    from + length
}

/// The index after the closing quote; a doubled one stands for itself, and one behind a backslash where those count.
fn end_of_quoted(bytes: &[u8], open: usize, quote: u8, escapes: bool) -> usize {
    let mut index = open + 1;
    while let Some(&byte) = bytes.get(index) {
        if byte == b'\\' && escapes {
            index += 1;
        } else if byte == quote {
            if bytes.get(index + 1) != Some(&quote) {
                return index + 1;
            }
            index += 1;
        }
        index += 1;
    }
    bytes.len()
}

/// The index after a comment, which may hold comments.
fn end_of_comment(bytes: &[u8], open: usize) -> usize {
    let (mut index, mut depth) = (open, 0u32);
    while index < bytes.len() {
        let pair = bytes.get(index..index + 2).unwrap_or_default();
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                index += 1;
                continue;
            }
        }
        index += 2;
        if depth == 0 {
            return index;
        }
    }
    bytes.len()
}

/// A value as text, which the server reads as the parameter's type.
#[derive(Debug)]
pub struct Argument(Option<String>);

impl ToSql for Argument {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match &self.0 {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// The values of a request, in the order of the statement's names.
pub fn arguments(
    names: &[String],
    request: &ReadRequest,
    window: Option<Window>,
) -> Result<Vec<Argument>> {
    names
        .iter()
        .map(|name| {
            let further = request.parameters.iter().find(|(known, _)| known == name);
            let range = request.range.iter().flat_map(Range::parameters);
            if let Some((_, bound)) = range.into_iter().find(|(known, _)| known == name) {
                return Ok(Argument(Some(bound.to_string())));
            }
            let text = match (further, window, name.as_str()) {
                (Some((_, value)), ..) => further_text(name, value)?,
                (None, Some(window), "from") => {
                    Some(bound_text(window.cursor, request.from.as_ref(), End::First))
                }
                (None, Some(window), "until") => {
                    Some(bound_text(window.cursor, request.until.as_ref(), End::Last))
                }
                (None, Some(Window { id: Some(id), .. }), "fromId") => Some(match request.from {
                    Some(Cursor::Keyset { id: from, .. }) => within(id, from).to_string(),
                    _ => number_text(id, End::First),
                }),
                _ => {
                    return Err(Error::config(format!(
                        "the query's parameter @{name} has no value"
                    )));
                }
            };
            Ok(Argument(text))
        })
        .collect()
}

/// A parameter of a plugin's own query.
fn further_text(name: &str, value: &Value) -> Result<Option<String>> {
    Ok(match value {
        Value::Null => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        Value::Text(value) => Some(value.clone()),
        _ => {
            return Err(Error::data(format!(
                "parameter `{name}` has an unknown type"
            )));
        }
    })
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    First,
    Last,
}

/// A position; where there is none, what no value of the column is beyond.
fn bound_text(column: CursorType, position: Option<&Cursor>, end: End) -> String {
    match position {
        Some(Cursor::Integer(value)) => within(column, *value).to_string(),
        Some(Cursor::Text(text) | Cursor::Opaque(text) | Cursor::Keyset { time: text, .. }) => {
            text.clone()
        }
        _ if column.form().is_some() && end == End::First => "-infinity".to_owned(),
        _ if column.form().is_some() => "infinity".to_owned(),
        _ => number_text(column, end),
    }
}

fn number_text(column: CursorType, end: End) -> String {
    let (first, last) = column.range().unwrap_or((i64::MIN, i64::MAX));
    if end == End::First { first } else { last }.to_string()
}

/// A number beyond the column's type would be an error of the server, where it only means all rows or none.
fn within(column: CursorType, value: i64) -> i64 {
    let (first, last) = column.range().unwrap_or((i64::MIN, i64::MAX));
    value.clamp(first, last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(name: &str) -> bool {
        matches!(name, "from" | "until" | "lastRun" | "fromId" | "team")
    }

    #[test]
    fn parameters_are_found_where_they_count() {
        for (sql, expected, names) in [
            (
                "SELECT * FROM t WHERE a > @from AND a <= @until AND b > @from",
                "SELECT * FROM t WHERE a > $1 AND a <= $2 AND b > $1",
                &["from", "until"][..],
            ),
            (
                "a>@lastRun and b=@from::date",
                "a>$1 and b=$1::date",
                &["from"],
            ),
            ("a <@from", "a <$1", &["from"]),
            (
                "'@from' \"@from\" -- @from\n/* @from /* */ @from */ @team",
                "'@from' \"@from\" -- @from\n/* @from /* */ @from */ $1",
                &["team"],
            ),
            (
                "$$ it's @from $$ $x$ $$ @from $x$ @from",
                "$$ it's @from $$ $x$ $$ @from $x$ $1",
                &["from"],
            ),
            (
                r"E'it\'s @from' 'c:\' = @from",
                r"E'it\'s @from' 'c:\' = $1",
                &["from"],
            ),
            (
                "tags @> '{a}' AND '{a}' <@ tags AND v @@ q AND @ -5 > 1 AND @other AND a$b$ = @from",
                "tags @> '{a}' AND '{a}' <@ tags AND v @@ q AND @ -5 > 1 AND @other AND a$b$ = $1",
                &["from"],
            ),
            ("v @@from", "v @@from", &[]),
            ("tags[@team]", "tags[$1]", &["team"]),
            ("é@from", "é$1", &["from"]),
        ] {
            let rewritten = rewrite(sql, known);
            assert_eq!(rewritten.sql, expected);
            assert_eq!(rewritten.names, names, "{sql}");
        }
    }

    #[test]
    fn the_ends_of_a_column_stand_for_no_position() {
        assert_eq!(bound_text(CursorType::Date, None, End::First), "-infinity");
        assert_eq!(bound_text(CursorType::Int2, None, End::Last), "32767");
        let beyond = Cursor::Integer(70_000);
        assert_eq!(
            bound_text(CursorType::Int2, Some(&beyond), End::Last),
            "32767"
        );
    }

    proptest! {
        #[test]
        fn a_statement_without_parameters_stays_as_it_is(sql in "[^@]*") {
            prop_assert_eq!(rewrite(&sql, known).sql, sql);
        }

        #[test]
        fn any_text_is_survived(sql in "[-@$'\"eE/*\\\\a \n]{0,40}(from)?\\PC*") {
            rewrite(&sql, known);
        }
    }
}
