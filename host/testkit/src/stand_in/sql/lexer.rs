//! T-SQL text to tokens. Quoted identifiers are on, as every client sets them.

use crate::stand_in::datum::parse_hex;
use crate::stand_in::error::{SqlError, SqlResult};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A bare word, as written; keywords are words too.
    Word(String),
    /// `[name]` or `"name"`.
    Name(String),
    /// `@name`.
    Variable(String),
    /// `@@name`.
    Global(String),
    /// `'…'`, and whether it is `N'…'`.
    Text(String, bool),
    Number(String),
    Bytes(Vec<u8>),
    Symbol(&'static str),
    End,
}

const SYMBOLS: &[&str] = &[
    "<=", ">=", "<>", "!=", "!<", "!>", "+=", "-=", "(", ")", ",", ";", ".", "=", "<", ">", "+",
    "-", "*", "/", "%", "&", "|", "^", "~",
];

/// All tokens with their lines; the last one is [`Token::End`].
pub fn tokens(text: &str) -> SqlResult<Vec<(Token, u32)>> {
    let mut lexer = Lexer {
        rest: text,
        line: 1,
    };
    let mut tokens = Vec::new();
    loop {
        lexer.blank()?;
        let line = lexer.line;
        let token = lexer.token()?;
        let end = token == Token::End;
        tokens.push((token, line));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    rest: &'a str,
    line: u32,
}

fn is_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '#'
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '#' | '@' | '$')
}

impl<'a> Lexer<'a> {
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += taken.bytes().filter(|it| *it == b'\n').count() as u32;
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn blank(&mut self) -> SqlResult<()> {
        loop {
            self.take_while(|c| c.is_whitespace() || c == '\u{feff}');
            if self.rest.starts_with("--") {
                self.take_while(|c| c != '\n');
            } else if self.rest.starts_with("/*") {
                self.comment()?;
            } else {
                return Ok(());
            }
        }
    }

    fn comment(&mut self) -> SqlResult<()> {
        let mut depth = 0;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.take(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.take(2);
                if depth == 0 {
                    return Ok(());
                }
            } else if let Some(c) = self.rest.chars().next() {
                self.take(c.len_utf8());
            } else {
                return Err(SqlError::new(113, "Missing end comment mark '*/'.").at(self.line));
            }
        }
    }

    fn token(&mut self) -> SqlResult<Token> {
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        if self.rest.starts_with("N'") || self.rest.starts_with("n'") {
            self.take(1);
            return Ok(Token::Text(self.quoted('\'')?, true));
        }
        Ok(match first {
            '\'' => Token::Text(self.quoted('\'')?, false),
            '"' => Token::Name(self.quoted('"')?),
            '[' => Token::Name(self.quoted(']')?),
            '@' if self.rest.starts_with("@@") => {
                self.take(2);
                Token::Global(self.take_while(is_part).to_lowercase())
            }
            '@' => {
                self.take(1);
                Token::Variable(self.take_while(is_part).to_lowercase())
            }
            '0' if self.rest.starts_with("0x") || self.rest.starts_with("0X") => {
                self.take(2);
                let digits = self.take_while(|c| c.is_ascii_hexdigit());
                Token::Bytes(parse_hex(digits).unwrap_or_default())
            }
            '0'..='9' => self.number(),
            '.' if self
                .rest
                .get(1..)
                .is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit())) =>
            {
                self.number()
            }
            c if is_start(c) => Token::Word(self.take_while(is_part).to_owned()),
            c => {
                let symbol = SYMBOLS.iter().find(|it| self.rest.starts_with(**it));
                let symbol = symbol.ok_or_else(|| SqlError::syntax(&c.to_string(), self.line))?;
                self.take(symbol.len());
                Token::Symbol(symbol)
            }
        })
    }

    fn number(&mut self) -> Token {
        let bytes = self.rest.as_bytes();
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let mut end = digits(0);
        if bytes.get(end) == Some(&b'.') {
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let after = digits(end + 1 + sign);
            if after > end + 1 + sign {
                end = after;
            }
        }
        Token::Number(self.take(end).to_owned())
    }

    /// What stands between quotes; the closing one is written twice inside.
    fn quoted(&mut self, close: char) -> SqlResult<String> {
        let line = self.line;
        self.take(1);
        let mut text = String::new();
        loop {
            let Some(end) = self.rest.find(close) else {
                return Err(SqlError::new(
                    105,
                    format!(
                        "Unclosed quotation mark after the character string '{}'.",
                        self.rest.chars().take(128).collect::<String>()
                    ),
                )
                .at(line));
            };
            text.push_str(self.take(end));
            self.take(1);
            if !self.rest.starts_with(close) {
                return Ok(text);
            }
            self.take(1);
            text.push(close);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_token_is_found() {
        let found =
            tokens("SELECT [a]]b], N'x''y' -- no\n, 1.5e3, 0xAB /* /* */ */ >= @p @@ROWCOUNT .5")
                .unwrap();
        let kinds: Vec<Token> = found.iter().map(|it| it.0.clone()).collect();
        assert_eq!(
            kinds,
            [
                Token::Word("SELECT".into()),
                Token::Name("a]b".into()),
                Token::Symbol(","),
                Token::Text("x'y".into(), true),
                Token::Symbol(","),
                Token::Number("1.5e3".into()),
                Token::Symbol(","),
                Token::Bytes(vec![0xab]),
                Token::Symbol(">="),
                Token::Variable("p".into()),
                Token::Global("rowcount".into()),
                Token::Number(".5".into()),
                Token::End,
            ]
        );
        assert_eq!(found[5].1, 2);
        assert_eq!(tokens("'x").unwrap_err().number, 105);
        assert_eq!(tokens("/* x").unwrap_err().number, 113);
    }
}
