//! The functions that `SQLite` calls while it works for a T-SQL statement: conversions, arithmetic, text. Types come as
//! numbers, since `SQLite` has none.

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Error};

use super::arithmetic;
use crate::stand_in::collation::{self, CollationRef, compare_insensitive, compare_sensitive};
use crate::stand_in::convert::{How, convert, units};
use crate::stand_in::datum::{Datum, pack_decimal, unpack_decimal};
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::types::{SqlType, decode};

/// Makes them known to a connection.
pub fn register(connection: &Connection) -> rusqlite::Result<()> {
    let steady = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_collation("tsql_ci", compare_insensitive)?;
    connection.create_collation("tsql_cs", compare_sensitive)?;
    scalar(connection, "t_convert", 7, |context| {
        let value = argument(context, 0);
        let (from, to) = (ty(context, 1)?, ty(context, 2)?);
        let how = How {
            style: context.get(3)?,
            assign: context.get(4)?,
            collation: collation_of(context, 6),
        };
        let lenient: bool = context.get(5)?;
        let converted = convert(&value, from, to, how);
        if lenient {
            Ok(converted.unwrap_or(Datum::Null))
        } else {
            marked(converted)
        }
    })?;
    scalar(connection, "t_arithmetic", 4, |context| {
        let sign: String = context.get(0)?;
        let (a, b) = (argument(context, 1), argument(context, 2));
        marked(arithmetic::apply(&sign, &a, &b, ty(context, 3)?))
    })?;
    scalar(connection, "t_decimal", 6, |context| {
        let sign: String = context.get(0)?;
        let (a, b) = (argument(context, 1), argument(context, 2));
        let (left, right, result) = (ty(context, 3)?, ty(context, 4)?, ty(context, 5)?);
        marked(arithmetic::decimals(&sign, &a, &b, left, right, result))
    })?;
    scalar(connection, "t_like", 3, |context| {
        let (text, pattern) = (argument(context, 0), argument(context, 1));
        Ok(match (text, pattern) {
            (Datum::Text(text), Datum::Text(pattern)) => {
                Datum::flag(like(&text, &pattern, context.get(2)?))
            }
            _ => Datum::Null,
        })
    })?;
    scalar(connection, "t_dateadd", 4, |context| {
        let part: String = context.get(0)?;
        let (number, value) = (argument(context, 1), argument(context, 2));
        marked(arithmetic::date_add(
            &part,
            &number,
            &value,
            ty(context, 3)?,
        ))
    })?;
    scalar(connection, "t_text", -1, |context| {
        let name: String = context.get(0)?;
        let arguments: Vec<Datum> = (3..context.len()).map(|at| argument(context, at)).collect();
        marked(text_function(
            &name,
            ty(context, 1)?,
            collation_of(context, 2),
            &arguments,
        ))
    })?;
    scalar(connection, "t_in_range", 2, |context| {
        let value = argument(context, 0);
        let to = ty(context, 1)?;
        match (&value, to.integer_range()) {
            (Datum::Int(it), Some((least, greatest))) if !(least..=greatest).contains(it) => {
                marked(Err(SqlError::overflow(to.base_name())))
            }
            _ => Ok(value),
        }
    })?;
    connection.create_aggregate_function("t_decimal_sum", 1, steady, DecimalSum)
}

fn scalar(
    connection: &Connection,
    name: &str,
    arguments: i32,
    function: impl Fn(&Context<'_>) -> rusqlite::Result<Datum> + Send + 'static,
) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function(name, arguments, flags, move |context| {
        function(context).map(Value::from)
    })
}

fn marked<T>(result: SqlResult<T>) -> rusqlite::Result<T> {
    result.map_err(|error| Error::UserFunctionError(error.marked().into()))
}

fn argument(context: &Context<'_>, at: usize) -> Datum {
    if at < context.len() {
        Datum::of(context.get_raw(at))
    } else {
        Datum::Null
    }
}

fn ty(context: &Context<'_>, at: usize) -> rusqlite::Result<SqlType> {
    context.get::<i64>(at).map(decode)
}

fn collation_of(context: &Context<'_>, at: usize) -> CollationRef {
    match context.get_raw(at) {
        ValueRef::Text(name) => std::str::from_utf8(name).ok().and_then(collation::named),
        _ => None,
    }
    .unwrap_or_else(collation::default)
}

struct DecimalSum;

impl Aggregate<Option<i128>, Option<Vec<u8>>> for DecimalSum {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Option<i128>> {
        Ok(None)
    }

    fn step(&self, context: &mut Context<'_>, sum: &mut Option<i128>) -> rusqlite::Result<()> {
        if let ValueRef::Blob(bytes) = context.get_raw(0) {
            let total = sum.unwrap_or(0).checked_add(unpack_decimal(bytes));
            *sum = Some(marked(total.ok_or_else(|| SqlError::overflow("numeric")))?);
        }
        Ok(())
    }

    fn finalize(
        &self,
        _: &mut Context<'_>,
        sum: Option<Option<i128>>,
    ) -> rusqlite::Result<Option<Vec<u8>>> {
        Ok(sum.flatten().map(pack_decimal))
    }
}

/// `%`, `_` and `[…]`.
fn like(text: &str, pattern: &str, case_sensitive: bool) -> bool {
    let prepared = |it: &str| -> Vec<char> {
        if case_sensitive {
            it.chars().collect()
        } else {
            it.chars().flat_map(char::to_lowercase).collect()
        }
    };
    matches(&prepared(text), &prepared(pattern))
}

fn matches(text: &[char], pattern: &[char]) -> bool {
    let Some((first, pattern)) = pattern.split_first() else {
        return text.iter().all(|it| *it == ' ');
    };
    match first {
        '%' => {
            (0..=text.len()).any(|skip| text.get(skip..).is_some_and(|rest| matches(rest, pattern)))
        }
        '[' => {
            let end = pattern.iter().position(|it| *it == ']');
            let (Some((c, text)), Some(end)) = (text.split_first(), end) else {
                return false;
            };
            let set = pattern.get(..end).unwrap_or_default();
            let (not, set) = match set.split_first() {
                Some(('^', rest)) => (true, rest),
                _ => (false, set),
            };
            let mut found = set.contains(c);
            for range in set.windows(3) {
                if let [low, '-', high] = range {
                    found |= (low..=high).contains(&c);
                }
            }
            found != not && matches(text, pattern.get(end + 1..).unwrap_or_default())
        }
        _ => text
            .split_first()
            .is_some_and(|(c, text)| (*first == '_' || c == first) && matches(text, pattern)),
    }
}

/// Functions of texts; all but LEN and DATALENGTH give a text.
fn text_function(
    name: &str,
    ty: SqlType,
    collation: CollationRef,
    arguments: &[Datum],
) -> SqlResult<Datum> {
    let first = arguments.first().unwrap_or(&Datum::Null);
    if name == "concat" {
        let parts = arguments.iter().filter_map(|it| {
            if let Datum::Text(text) = it {
                Some(text.as_str())
            } else {
                None
            }
        });
        return Ok(Datum::Text(parts.collect()));
    }
    if arguments.iter().any(Datum::is_null) {
        return Ok(Datum::Null);
    }
    let number = |at: usize| match arguments.get(at) {
        Some(Datum::Int(it)) => *it,
        _ => 0,
    };
    if let Datum::Bytes(bytes) = first {
        return Ok(Datum::Int(bytes.len() as i64));
    }
    let Datum::Text(text) = first else {
        return Ok(Datum::Int(ty.sizes().0));
    };
    let slice = |from: i64, length: i64| {
        let end = from.saturating_add(length.max(0));
        let (from, end) = (from.max(1), end.max(1));
        text.chars()
            .skip(from as usize - 1)
            .take((end - from).max(0) as usize)
            .collect::<String>()
    };
    let count = text.chars().count() as i64;
    Ok(match name {
        "len" => Datum::Int(units(text.trim_end_matches(' '), ty, collation) as i64),
        "datalength" if ty.is_unicode() => Datum::Int(text.encode_utf16().count() as i64 * 2),
        "datalength" => Datum::Int(collation.encode(text).len() as i64),
        "upper" => Datum::Text(text.to_uppercase()),
        "lower" => Datum::Text(text.to_lowercase()),
        "ltrim" => Datum::text(text.trim_start_matches(' ')),
        "rtrim" => Datum::text(text.trim_end_matches(' ')),
        "trim" => Datum::text(text.trim_matches(' ')),
        "substring" => Datum::Text(slice(number(1), number(2))),
        "left" => Datum::Text(slice(1, number(1))),
        "right" => Datum::Text(slice(count - number(1) + 1, number(1))),
        "replicate" => {
            let times = usize::try_from(number(1)).unwrap_or(0);
            let most = if ty.chars() == Some(None) {
                1 << 30
            } else {
                8000
            };
            if text.len().saturating_mul(times) > 1 << 30 {
                return Err(SqlError::unknown("a text of more than a gigabyte"));
            }
            let mut repeated = text.repeat(times);
            if repeated.len() > most && repeated.is_ascii() {
                repeated.truncate(most);
            }
            Datum::Text(repeated)
        }
        "replace" => match (arguments.get(1), arguments.get(2)) {
            (Some(Datum::Text(from)), Some(Datum::Text(to))) if !from.is_empty() => {
                Datum::Text(text.replace(from, to))
            }
            _ => Datum::text(text),
        },
        _ => return Err(SqlError::no_function(name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_knows_its_signs() {
        assert!(like("Hello", "h%o", false));
        assert!(!like("Hello", "h%o", true));
        assert!(like("a1", "[a-c]_", true));
        assert!(!like("d1", "[a-c]_", true));
        assert!(like("d", "[^a-c]", true));
        assert!(!like("", "_", true));
    }
}
