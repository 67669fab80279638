//! What the host must know of a statement without running it: its parameters and its order.
//!
//! Just enough of a tokenizer to skip strings, quoted names and comments in every dialect; it does not judge whether
//! the statement is right, the server does.

/// A word or sign outside of strings and comments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token<'a> {
    text: &'a str,
    /// The name, if this is one: without quotes.
    name: Option<String>,
    depth: u32,
}

/// The names of the parameters, without `@`, in the order of their first use.
pub fn parameters(sql: &str) -> Vec<String> {
    let mut names = Vec::new();
    for token in tokenize(sql) {
        if let Some(name) = token.text.strip_prefix('@')
            && !name.is_empty()
            && !name.starts_with('@')
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
    names
}

/// Whether the statement's rows come in ascending order of these columns: the last `ORDER BY` outside of parentheses
/// starts with them.
pub fn is_ordered_by(sql: &str, columns: &[&str]) -> bool {
    let tokens: Vec<Token> = tokenize(sql).into_iter().filter(|t| t.depth == 0).collect();
    let is = |at: usize, word: &str| {
        tokens
            .get(at)
            .is_some_and(|token| token.text.eq_ignore_ascii_case(word))
    };
    let Some(start) = order_by(&tokens) else {
        return false;
    };
    let mut at = start + 2;
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            if !is(at, ",") {
                return false;
            }
            at += 1;
        }
        let mut name = None;
        // `a.b.column`: the last part counts.
        while let Some(part) = tokens.get(at).and_then(|token| token.name.clone()) {
            name = Some(part);
            at += 1;
            if is(at, ".") {
                at += 1;
            } else {
                break;
            }
        }
        if !name.is_some_and(|name| name.eq_ignore_ascii_case(column)) {
            return false;
        }
        if is(at, "asc") {
            at += 1;
        }
    }
    // Anything else than the end or a further column (DESC, COLLATE, an expression) is another order.
    match tokens.get(at).map(|token| token.text) {
        None | Some("," | ";") => true,
        Some(word) => ["limit", "offset", "fetch", "option", "for"]
            .iter()
            .any(|end| word.eq_ignore_ascii_case(end)),
    }
}

/// The words outside of parentheses, strings and comments, with their places.
pub fn outer_words(sql: &str) -> Vec<(usize, &str)> {
    let start = sql.as_ptr().addr();
    tokenize(sql)
        .into_iter()
        .filter(|token| token.depth == 0)
        .map(|token| (token.text.as_ptr().addr() - start, token.text))
        .collect()
}

/// Where the last `ORDER BY` outside of parentheses begins.
fn order_by(tokens: &[Token<'_>]) -> Option<usize> {
    let is = |at: usize, word: &str| {
        tokens
            .get(at)
            .is_some_and(|token| token.text.eq_ignore_ascii_case(word))
    };
    (0..tokens.len())
        .rev()
        .find(|&at| is(at, "order") && is(at + 1, "by"))
}

/// Whether the statement has an `ORDER BY` of its own, outside of parentheses.
pub fn is_ordered(sql: &str) -> bool {
    let tokens: Vec<Token> = tokenize(sql).into_iter().filter(|t| t.depth == 0).collect();
    order_by(&tokens).is_some()
}

/// A word outside of parentheses that cuts the rows (LIMIT and the like). What a cut leaves out would be lost: the end
/// of the rows is taken for the end of the window.
pub fn row_limit(sql: &str) -> Option<&str> {
    let tokens: Vec<Token> = tokenize(sql)
        .into_iter()
        .filter(|token| token.depth == 0)
        .collect();
    tokens.iter().enumerate().find_map(|(at, token)| {
        let is = |word: &str| token.text.eq_ignore_ascii_case(word);
        let after_select = at
            .checked_sub(1)
            .and_then(|before| tokens.get(before))
            .is_some_and(|before| {
                before.text.eq_ignore_ascii_case("select")
                    || before.text.eq_ignore_ascii_case("distinct")
            });
        (is("limit") || is("offset") || is("fetch") || (is("top") && after_select))
            .then_some(token.text)
    })
}

fn tokenize(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
    let mut tokens = Vec::new();
    let (mut index, mut depth) = (0, 0u32);
    while index < bytes.len() {
        let start = index;
        match at(index) {
            b'\'' => index = end_of_quoted(bytes, index, b'\''),
            b'-' if at(index + 1) == b'-' => {
                index = find(bytes, index, b"\n");
            }
            b'/' if at(index + 1) == b'*' => {
                index = find(bytes, index + 2, b"*/");
            }
            open @ (b'"' | b'`' | b'[') => {
                let close = if open == b'[' { b']' } else { open };
                index = end_of_quoted(bytes, index, close);
                let inner = sql.get(start + 1..index.saturating_sub(1)).unwrap_or("");
                let doubled = [close, close];
                let name = match std::str::from_utf8(&doubled) {
                    Ok(doubled) => inner.replace(doubled, &doubled[..1]),
                    Err(_) => inner.to_owned(),
                };
                tokens.push(Token {
                    text: sql.get(start..index).unwrap_or(""),
                    name: Some(name),
                    depth,
                });
            }
            b'$' if end_of_dollars(bytes, index).is_some() => {
                index = end_of_dollars(bytes, index).unwrap_or(bytes.len());
            }
            first if is_word(first) || first == b'@' => {
                while index < bytes.len() && (is_word(at(index)) || at(index) == b'@') {
                    index += 1;
                }
                let text = sql.get(start..index).unwrap_or("");
                // PostgreSQL's strings with backslashes, the only ones in which one hides a quote.
                if matches!(text, "e" | "E") && at(index) == b'\'' {
                    index = end_of_escaped(bytes, index);
                    continue;
                }
                let name = (is_word(first) && !first.is_ascii_digit()).then(|| text.to_owned());
                tokens.push(Token { text, name, depth });
            }
            other => {
                index += 1;
                match other {
                    b'(' => depth += 1,
                    b')' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if !other.is_ascii_whitespace() {
                    tokens.push(Token {
                        text: sql.get(start..index).unwrap_or(""),
                        name: None,
                        depth: if other == b'(' {
                            depth.saturating_sub(1)
                        } else {
                            depth
                        },
                    });
                }
            }
        }
    }
    tokens
}

/// Letters, digits, `_`, `$`, `#` and everything beyond ASCII.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'#') || byte >= 0x80
}

/// The index after the closing quote; a doubled one stands for itself.
fn end_of_quoted(bytes: &[u8], open: usize, close: u8) -> usize {
    let mut index = open + 1;
    while index < bytes.len() {
        if bytes.get(index) == Some(&close) {
            if bytes.get(index + 1) == Some(&close) {
                index += 1;
            } else {
                return index + 1;
            }
        }
        index += 1;
    }
    bytes.len()
}

/// The index after the closing quote of a string with backslashes.
fn end_of_escaped(bytes: &[u8], open: usize) -> usize {
    let mut index = open + 1;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'\\' => index += 2,
            b'\'' => return index + 1,
            _ => index += 1,
        }
    }
    bytes.len()
}

/// The index after PostgreSQL's strings in dollars, `$tag$…$tag$`; `None` if none begins here.
pub(super) fn end_of_dollars(bytes: &[u8], open: usize) -> Option<usize> {
    let rest = bytes.get(open + 1..)?;
    let tag = rest
        .iter()
        .position(|byte| *byte == b'$' || !is_word(*byte))?;
    let starts_like_a_name = rest.first().is_some_and(|byte| !byte.is_ascii_digit());
    if rest.get(tag) != Some(&b'$') || !starts_like_a_name {
        return None;
    }
    let tag = bytes.get(open..open + tag + 2)?;
    Some(find(bytes, open + tag.len(), tag))
}

/// The index after the next occurrence.
pub(super) fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    (from..bytes.len())
        .find(|&at| bytes.get(at..).is_some_and(|rest| rest.starts_with(what)))
        .map_or(bytes.len(), |at| at + what.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_found_only_where_they_count() {
        let sql = "SELECT '@no', \"@no\", [@no] -- @no\n FROM t /* @no */ WHERE a > @from AND b <= @until AND c > @from AND @@rowcount > 0";
        assert_eq!(parameters(sql), ["from", "until"]);
        let sql = r"SELECT $$ it's @no $$, $x$ $$ @no $x$, E'it\'s @no', $1, @ -5 WHERE t @> '{a}' AND a > @from";
        assert_eq!(parameters(sql), ["from"]);
    }

    #[test]
    fn the_order_is_that_of_the_outermost_statement() {
        for (sql, expected) in [
            ("SELECT * FROM t ORDER BY login_time", true),
            ("SELECT * FROM t ORDER BY t.[login_time] ASC, id", true),
            ("select * from t order by \"LOGIN_TIME\" limit 5;", true),
            ("SELECT * FROM t ORDER BY login_time DESC", false),
            ("SELECT * FROM t ORDER BY id, login_time", false),
            ("SELECT * FROM t ORDER BY lower(login_time)", false),
            ("SELECT * FROM t ORDER BY login_time COLLATE NOCASE", false),
            ("SELECT * FROM t ORDER BY login_time + 1", false),
            (
                "SELECT * FROM (SELECT * FROM t ORDER BY login_time) x",
                false,
            ),
            (
                "SELECT row_number() OVER (ORDER BY login_time) FROM t",
                false,
            ),
            ("SELECT * FROM t -- ORDER BY login_time", false),
            ("SELECT 'ORDER BY login_time'", false),
            ("", false),
        ] {
            assert_eq!(is_ordered_by(sql, &["login_time"]), expected, "{sql}");
        }
    }

    #[test]
    fn what_cuts_the_rows_is_found_outside_of_parentheses() {
        assert_eq!(
            row_limit("SELECT * FROM t ORDER BY a LIMIT 5"),
            Some("LIMIT")
        );
        assert_eq!(row_limit("select top 10 * from t"), Some("top"));
        assert_eq!(
            row_limit("SELECT * FROM t ORDER BY a OFFSET 5 ROWS FETCH NEXT 1 ROWS ONLY"),
            Some("OFFSET")
        );
        assert_eq!(
            row_limit("SELECT top FROM (SELECT * FROM t LIMIT 1) x WHERE \"limit\" = 'limit'"),
            Some("top")
        );
        assert_eq!(
            row_limit("SELECT a, top FROM (SELECT * FROM t LIMIT 1) x WHERE \"limit\" = 'limit'"),
            None
        );
    }

    proptest! {
        #[test]
        fn any_text_is_survived(sql in "\\PC*") {
            parameters(&sql);
            is_ordered_by(&sql, &["a"]);
            row_limit(&sql);
        }
    }
}
