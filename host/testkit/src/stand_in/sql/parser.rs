//! What every rule of the grammar stands on: the tokens, and the words between them.

use super::lexer::{Token, tokens};
use super::tree::{Line, Name};
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::types::SqlType;

/// How deep expressions and blocks may be nested.
const DEPTH: u32 = 60;
/// How many operators may follow each other: each is one level of the tree.
const LINKS: u32 = 200;

/// Words that are no aliases.
const RESERVED: &[&str] = &[
    "add",
    "all",
    "alter",
    "and",
    "as",
    "asc",
    "begin",
    "between",
    "by",
    "case",
    "close",
    "collate",
    "commit",
    "constraint",
    "convert",
    "create",
    "cross",
    "declare",
    "default",
    "delete",
    "desc",
    "distinct",
    "drop",
    "else",
    "end",
    "except",
    "exec",
    "execute",
    "exists",
    "for",
    "from",
    "full",
    "go",
    "group",
    "having",
    "if",
    "in",
    "index",
    "inner",
    "insert",
    "intersect",
    "into",
    "is",
    "join",
    "kill",
    "left",
    "like",
    "merge",
    "not",
    "null",
    "on",
    "open",
    "option",
    "or",
    "order",
    "outer",
    "over",
    "print",
    "raiserror",
    "return",
    "right",
    "rollback",
    "save",
    "select",
    "set",
    "table",
    "then",
    "top",
    "truncate",
    "union",
    "unique",
    "update",
    "use",
    "values",
    "waitfor",
    "when",
    "where",
    "while",
    "with",
];

/// A batch to its statements.
pub fn batch(text: &str) -> SqlResult<Vec<Line>> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
    };
    let mut lines = Vec::new();
    loop {
        while parser.symbol(";") {}
        if *parser.peek() == Token::End {
            return Ok(lines);
        }
        lines.push(parser.statement()?);
    }
}

/// A list as the second argument of `sp_executesql`: `@a int, @b nvarchar(10) OUTPUT`.
pub fn declarations(text: &str) -> SqlResult<Vec<(String, SqlType)>> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
    };
    let mut declared = Vec::new();
    while *parser.peek() != Token::End {
        let name = parser.variable()?;
        parser.word("as");
        let ty = parser.data_type()?;
        let _ = parser.word("output") || parser.word("out") || parser.word("readonly");
        declared.push((name, ty));
        if !parser.symbol(",") && *parser.peek() != Token::End {
            return Err(parser.unexpected());
        }
    }
    Ok(declared)
}

pub struct Parser {
    tokens: Vec<(Token, u32)>,
    at: usize,
    depth: u32,
}

impl Parser {
    pub fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    pub fn peek_at(&self, ahead: usize) -> &Token {
        self.tokens
            .get(self.at + ahead)
            .map_or(&Token::End, |it| &it.0)
    }

    pub fn line(&self) -> u32 {
        self.tokens
            .get(self.at)
            .or(self.tokens.last())
            .map_or(1, |it| it.1)
    }

    pub fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    /// Whether the token before is a closing parenthesis.
    pub fn after_parenthesis(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        before.is_some_and(|it| it.0 == Token::Symbol(")"))
    }

    pub fn back(&mut self) {
        self.at = self.at.saturating_sub(1);
    }

    pub fn unexpected(&self) -> SqlError {
        let near = match self.peek() {
            Token::Word(it) | Token::Name(it) | Token::Number(it) | Token::Text(it, _) => {
                it.clone()
            }
            Token::Variable(it) => format!("@{it}"),
            Token::Global(it) => format!("@@{it}"),
            Token::Bytes(_) => "0x".to_owned(),
            Token::Symbol(it) => (*it).to_owned(),
            Token::End => {
                return SqlError::new(102, "Incorrect syntax near the end of the batch. (the stand-in does not know this statement)")
                    .at(self.line());
            }
        };
        SqlError::syntax(&near, self.line())
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.is_word_at(0, word)
    }

    pub fn is_word_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Word(it) if it.eq_ignore_ascii_case(word))
    }

    /// Takes the word if it comes next.
    pub fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    /// Takes all the words if they come next.
    pub fn words(&mut self, words: &[&str]) -> bool {
        let found = words
            .iter()
            .enumerate()
            .all(|(ahead, word)| self.is_word_at(ahead, word));
        if found {
            self.at += words.len();
        }
        found
    }

    pub fn expect_word(&mut self, word: &str) -> SqlResult<()> {
        if self.word(word) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    pub fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(it) if *it == symbol)
    }

    pub fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, symbol: &str) -> SqlResult<()> {
        if self.symbol(symbol) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    /// Whether the next token can be a name that stands alone, such as an alias.
    pub fn is_name(&self) -> bool {
        match self.peek() {
            Token::Name(_) => true,
            Token::Word(word) => !RESERVED.contains(&word.to_ascii_lowercase().as_str()),
            _ => false,
        }
    }

    pub fn name(&mut self) -> SqlResult<String> {
        if !self.is_name() {
            return Err(match self.peek() {
                Token::Word(word) => {
                    SqlError::new(156, format!("Incorrect syntax near the keyword '{word}'."))
                        .at(self.line())
                }
                _ => self.unexpected(),
            });
        }
        match self.next() {
            Token::Name(name) | Token::Word(name) => Ok(name),
            _ => Err(self.unexpected()),
        }
    }

    /// `a.b..c`
    pub fn object(&mut self) -> SqlResult<Name> {
        let mut parts = vec![self.name()?];
        while self.symbol(".") {
            if self.is_symbol(".") {
                parts.push(String::new());
            } else {
                parts.push(self.name()?);
            }
        }
        if parts.len() > 4 {
            Err(self.unexpected())
        } else {
            Ok(Name(parts))
        }
    }

    pub fn variable(&mut self) -> SqlResult<String> {
        match self.peek() {
            Token::Variable(_) => match self.next() {
                Token::Variable(name) => Ok(name),
                _ => Err(self.unexpected()),
            },
            _ => Err(self.unexpected()),
        }
    }

    /// A whole number, with its sign.
    pub fn integer(&mut self) -> SqlResult<i64> {
        let sign = if self.symbol("-") { -1 } else { 1 };
        match self.peek() {
            Token::Number(text) => {
                let number = text.parse::<i64>().map_err(|_| self.unexpected())?;
                self.at += 1;
                Ok(sign * number)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// `nvarchar(max)`, `decimal(10, 2)`, `[int]`, `sys.int`
    pub fn data_type(&mut self) -> SqlResult<SqlType> {
        let line = self.line();
        let name = self.object()?;
        let mut base = name.object().to_owned();
        if base.eq_ignore_ascii_case("double") && self.word("precision") {
            "float".clone_into(&mut base);
        }
        if self.word("varying") {
            base = format!("var{base}");
        }
        let mut arguments = Vec::new();
        if self.symbol("(") {
            loop {
                if self.word("max") {
                    arguments.push(-1);
                } else {
                    arguments.push(self.integer()?);
                }
                if !self.symbol(",") {
                    break;
                }
            }
            self.expect(")")?;
        }
        SqlType::parse(&base, &arguments).ok_or_else(|| {
            SqlError::new(
                2715,
                format!("Cannot find data type {base}. (the stand-in does not know it)"),
            )
            .at(line)
        })
    }

    fn too_deep(&self) -> SqlError {
        SqlError::new(
            191,
            "Some part of your SQL statement is nested too deeply. Rewrite the query or break it up into smaller queries.",
        )
        .at(self.line())
    }

    /// One more operator of a chain.
    pub fn link(&self, links: &mut u32) -> SqlResult<()> {
        *links += 1;
        if *links > LINKS {
            Err(self.too_deep())
        } else {
            Ok(())
        }
    }

    pub fn deeper<R>(&mut self, rule: impl FnOnce(&mut Self) -> SqlResult<R>) -> SqlResult<R> {
        if self.depth >= DEPTH {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    pub fn list<R>(
        &mut self,
        mut rule: impl FnMut(&mut Self) -> SqlResult<R>,
    ) -> SqlResult<Vec<R>> {
        let mut items = vec![rule(self)?];
        while self.symbol(",") {
            items.push(rule(self)?);
        }
        Ok(items)
    }
}
