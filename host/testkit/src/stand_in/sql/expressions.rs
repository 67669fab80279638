//! The grammar of expressions and of SELECT.

use super::lexer::Token;
use super::parser::Parser;
use super::tree::{Expr, From, Item, Join, Select, Source};
use crate::stand_in::convert::exact;
use crate::stand_in::datum::{Datum, pack_decimal};
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::types::SqlType;

fn boxed(expr: Expr) -> Box<Expr> {
    Box::new(expr)
}

impl Parser {
    pub fn expression(&mut self) -> SqlResult<Expr> {
        self.deeper(Self::or)
    }

    fn or(&mut self) -> SqlResult<Expr> {
        let mut left = self.and()?;
        let mut links = 0;
        while self.word("or") {
            self.link(&mut links)?;
            left = Expr::Or(boxed(left), boxed(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> SqlResult<Expr> {
        let mut left = self.not()?;
        let mut links = 0;
        while self.word("and") {
            self.link(&mut links)?;
            left = Expr::And(boxed(left), boxed(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> SqlResult<Expr> {
        if self.word("not") {
            return Ok(Expr::Not(boxed(self.deeper(Self::not)?)));
        }
        self.predicate()
    }

    fn predicate(&mut self) -> SqlResult<Expr> {
        if self.word("exists") {
            self.expect("(")?;
            let select = self.select()?;
            self.expect(")")?;
            return Ok(Expr::Exists(Box::new(select)));
        }
        let left = self.sum()?;
        for (written, means) in [
            ("=", "="),
            ("<>", "<>"),
            ("!=", "<>"),
            ("<=", "<="),
            (">=", ">="),
            ("!<", ">="),
            ("!>", "<="),
            ("<", "<"),
            (">", ">"),
        ] {
            if self.symbol(written) {
                return Ok(Expr::Compare(means, boxed(left), boxed(self.sum()?)));
            }
        }
        if self.word("is") {
            let not = self.word("not");
            self.expect_word("null")?;
            return Ok(negated(Expr::IsNull(boxed(left)), not));
        }
        let not = self.is_word("not")
            && ["in", "like", "between"]
                .iter()
                .any(|it| self.is_word_at(1, it))
            && self.word("not");
        if self.word("in") {
            self.expect("(")?;
            let found = if self.is_word("select") {
                Expr::InSelect(boxed(left), Box::new(self.select()?))
            } else {
                Expr::In(boxed(left), self.list(Self::expression)?)
            };
            self.expect(")")?;
            return Ok(negated(found, not));
        }
        if self.word("between") {
            let low = self.sum()?;
            self.expect_word("and")?;
            let high = self.sum()?;
            return Ok(negated(
                Expr::Between(boxed(left), boxed(low), boxed(high)),
                not,
            ));
        }
        if self.word("like") {
            let pattern = self.sum()?;
            return Ok(negated(Expr::Like(boxed(left), boxed(pattern)), not));
        }
        Ok(left)
    }

    fn sum(&mut self) -> SqlResult<Expr> {
        let mut left = self.product()?;
        let mut links = 0;
        loop {
            self.link(&mut links)?;
            let Some(sign) = ["+", "-", "&", "|", "^"]
                .into_iter()
                .find(|it| self.is_symbol(it))
            else {
                return Ok(left);
            };
            self.next();
            left = Expr::Arithmetic(sign, boxed(left), boxed(self.product()?));
        }
    }

    fn product(&mut self) -> SqlResult<Expr> {
        let mut left = self.factor()?;
        let mut links = 0;
        loop {
            self.link(&mut links)?;
            let Some(sign) = ["*", "/", "%"].into_iter().find(|it| self.is_symbol(it)) else {
                return Ok(left);
            };
            self.next();
            left = Expr::Arithmetic(sign, boxed(left), boxed(self.factor()?));
        }
    }

    fn factor(&mut self) -> SqlResult<Expr> {
        if self.symbol("-") {
            // The least bigint has no positive counterpart.
            if let Token::Number(text) = self.peek().clone() {
                self.next();
                return number(&format!("-{text}")).ok_or_else(|| self.unexpected());
            }
            return Ok(Expr::Negative(boxed(self.deeper(Self::factor)?)));
        }
        if self.symbol("+") {
            return self.deeper(Self::factor);
        }
        let mut primary = self.primary()?;
        let mut links = 0;
        while self.word("collate") {
            self.link(&mut links)?;
            primary = Expr::Collate(boxed(primary), self.name()?);
        }
        Ok(primary)
    }

    fn primary(&mut self) -> SqlResult<Expr> {
        match self.peek().clone() {
            Token::Number(text) => {
                let found = number(&text).ok_or_else(|| self.unexpected())?;
                self.next();
                Ok(found)
            }
            Token::Text(text, national) => {
                self.next();
                let units = text.encode_utf16().count().max(1);
                let ty = if national {
                    SqlType::NVarChar((units <= 4000).then_some(units as u16))
                } else {
                    SqlType::VarChar((units <= 8000).then_some(units as u16))
                };
                Ok(Expr::Literal(Datum::Text(text), ty))
            }
            Token::Bytes(bytes) => {
                self.next();
                let length = bytes.len().max(1);
                Ok(Expr::Literal(
                    Datum::Bytes(bytes),
                    SqlType::VarBinary((length <= 8000).then_some(length as u16)),
                ))
            }
            Token::Variable(name) => {
                self.next();
                Ok(Expr::Variable(name))
            }
            Token::Global(name) => {
                self.next();
                Ok(Expr::Global(name))
            }
            Token::Symbol("(") => {
                self.next();
                let inner = if self.is_word("select") {
                    Expr::Scalar(Box::new(self.select()?))
                } else {
                    self.expression()?
                };
                self.expect(")")?;
                Ok(inner)
            }
            Token::Word(word) => self.worded(&word.to_ascii_lowercase()),
            Token::Name(_) => self.column(),
            _ => Err(self.unexpected()),
        }
    }

    fn worded(&mut self, word: &str) -> SqlResult<Expr> {
        match word {
            "null" => {
                self.next();
                return Ok(Expr::Null);
            }
            "case" => {
                self.next();
                return self.deeper(Self::case);
            }
            "current_timestamp" => {
                self.next();
                return Ok(Expr::Call("getdate".to_owned(), Vec::new()));
            }
            _ => {}
        }
        if *self.peek_at(1) != Token::Symbol("(") {
            return self.column();
        }
        match word {
            "cast" | "try_cast" => {
                self.next();
                self.next();
                let value = self.expression()?;
                self.expect_word("as")?;
                let to = length_in_cast(self.data_type()?, self);
                self.expect(")")?;
                Ok(Expr::Cast {
                    value: boxed(value),
                    to,
                    style: None,
                    lenient: word == "try_cast",
                })
            }
            "convert" | "try_convert" => {
                self.next();
                self.next();
                let to = length_in_cast(self.data_type()?, self);
                self.expect(",")?;
                let value = self.expression()?;
                let style = if self.symbol(",") {
                    Some(boxed(self.expression()?))
                } else {
                    None
                };
                self.expect(")")?;
                Ok(Expr::Cast {
                    value: boxed(value),
                    to,
                    style,
                    lenient: word == "try_convert",
                })
            }
            "count" | "count_big" if *self.peek_at(2) == Token::Symbol("*") => {
                for _ in 0..3 {
                    self.next();
                }
                self.expect(")")?;
                Ok(Expr::CountRows(word.to_owned()))
            }
            _ => {
                self.next();
                self.next();
                let mut arguments = Vec::new();
                if !self.is_symbol(")") {
                    arguments = self.list(Self::expression)?;
                }
                self.expect(")")?;
                Ok(Expr::Call(word.to_owned(), arguments))
            }
        }
    }

    fn column(&mut self) -> SqlResult<Expr> {
        let name = self.object()?;
        if name.0.len() > 1 && self.is_symbol("(") {
            return Err(SqlError::unknown(format!("the function {name}")).at(self.line()));
        }
        Ok(Expr::Column(name.0))
    }

    fn case(&mut self) -> SqlResult<Expr> {
        let operand = if self.is_word("when") {
            None
        } else {
            Some(boxed(self.expression()?))
        };
        let mut whens = Vec::new();
        while self.word("when") {
            let when = self.expression()?;
            self.expect_word("then")?;
            whens.push((when, self.expression()?));
        }
        let otherwise = if self.word("else") {
            Some(boxed(self.expression()?))
        } else {
            None
        };
        self.expect_word("end")?;
        if whens.is_empty() {
            Err(self.unexpected())
        } else {
            Ok(Expr::Case {
                operand,
                whens,
                otherwise,
            })
        }
    }

    /// A whole query with its UNION ALL, ORDER BY and OFFSET.
    pub fn select(&mut self) -> SqlResult<Select> {
        self.deeper(|parser| {
            let mut select = parser.select_core()?;
            while parser.word("union") {
                parser.expect_word("all")?;
                select.union_all.push(parser.select_core()?);
            }
            if parser.words(&["order", "by"]) {
                select.order = parser.list(|parser| {
                    let by = parser.expression()?;
                    let descending = parser.word("desc");
                    if !descending {
                        parser.word("asc");
                    }
                    Ok((by, descending))
                })?;
                if parser.word("offset") {
                    select.offset = Some(parser.sum()?);
                    parser.rows()?;
                    if parser.word("fetch") {
                        if !parser.word("next") {
                            parser.expect_word("first")?;
                        }
                        select.fetch = Some(parser.sum()?);
                        parser.rows()?;
                        parser.expect_word("only")?;
                    }
                }
            }
            if parser.is_word("option") && *parser.peek_at(1) == Token::Symbol("(") {
                parser.next();
                parser.parenthesised()?;
            }
            Ok(select)
        })
    }

    fn rows(&mut self) -> SqlResult<()> {
        if self.word("rows") {
            Ok(())
        } else {
            self.expect_word("row")
        }
    }

    /// Skips what is known to have no effect here, such as hints.
    pub fn parenthesised(&mut self) -> SqlResult<()> {
        self.expect("(")?;
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Token::Symbol("(") => depth += 1,
                Token::Symbol(")") => depth -= 1,
                Token::End => return Err(self.unexpected()),
                _ => {}
            }
        }
        Ok(())
    }

    fn select_core(&mut self) -> SqlResult<Select> {
        self.expect_word("select")?;
        let mut select = Select {
            distinct: self.word("distinct"),
            ..Select::default()
        };
        if !select.distinct {
            self.word("all");
        }
        if self.word("top") {
            select.top = Some(if self.symbol("(") {
                let count = self.expression()?;
                self.expect(")")?;
                count
            } else {
                self.primary()?
            });
        }
        select.items = self.list(Self::item)?;
        if self.word("from") {
            select.from = self.sources()?;
        }
        if self.word("where") {
            select.filter = Some(self.expression()?);
        }
        if self.is_word("group") || self.is_word("having") {
            return Err(SqlError::unknown("GROUP BY").at(self.line()));
        }
        Ok(select)
    }

    fn item(&mut self) -> SqlResult<Item> {
        if self.symbol("*") {
            return Ok(Item::All(None));
        }
        if self.is_name()
            && *self.peek_at(1) == Token::Symbol(".")
            && *self.peek_at(2) == Token::Symbol("*")
        {
            let table = self.name()?;
            self.next();
            self.next();
            return Ok(Item::All(Some(table)));
        }
        // name = expression
        if self.is_name() && *self.peek_at(1) == Token::Symbol("=") {
            let alias = self.name()?;
            self.next();
            return Ok(Item::Value(self.expression()?, Some(alias)));
        }
        let value = self.expression()?;
        let alias = self.alias()?;
        Ok(Item::Value(value, alias))
    }

    fn alias(&mut self) -> SqlResult<Option<String>> {
        if self.word("as") {
            if let Token::Text(text, _) = self.peek().clone() {
                self.next();
                return Ok(Some(text));
            }
            return self.name().map(Some);
        }
        if self.is_name() {
            self.name().map(Some)
        } else {
            Ok(None)
        }
    }

    fn sources(&mut self) -> SqlResult<Vec<Source>> {
        let mut sources = vec![self.source(Join::Cross)?];
        loop {
            let join = if self.symbol(",") || self.words(&["cross", "join"]) {
                Join::Cross
            } else if self.word("join") || self.words(&["inner", "join"]) {
                Join::Inner
            } else if self.words(&["left", "join"]) || self.words(&["left", "outer", "join"]) {
                Join::Left
            } else {
                return Ok(sources);
            };
            let mut source = self.source(join)?;
            if join != Join::Cross {
                self.expect_word("on")?;
                source.on = Some(self.expression()?);
            }
            sources.push(source);
        }
    }

    fn source(&mut self, join: Join) -> SqlResult<Source> {
        let what = if self.symbol("(") {
            let select = self.select()?;
            self.expect(")")?;
            From::Derived(Box::new(select))
        } else {
            From::Table(self.object()?)
        };
        let alias = self.alias()?;
        if matches!(what, From::Derived(_)) && alias.is_none() {
            return Err(self.unexpected());
        }
        if self.is_word("with") && *self.peek_at(1) == Token::Symbol("(") {
            self.next();
            self.parenthesised()?;
        }
        Ok(Source {
            join,
            what,
            alias,
            on: None,
        })
    }
}

/// CAST to a text or bytes without a length means 30.
fn length_in_cast(ty: SqlType, parser: &Parser) -> SqlType {
    if parser.after_parenthesis() {
        return ty;
    }
    match ty {
        SqlType::VarChar(Some(1)) => SqlType::VarChar(Some(30)),
        SqlType::NVarChar(Some(1)) => SqlType::NVarChar(Some(30)),
        SqlType::Char(1) => SqlType::Char(30),
        SqlType::NChar(1) => SqlType::NChar(30),
        SqlType::VarBinary(Some(1)) => SqlType::VarBinary(Some(30)),
        SqlType::Binary(1) => SqlType::Binary(30),
        other => other,
    }
}

fn negated(expr: Expr, not: bool) -> Expr {
    if not { Expr::Not(boxed(expr)) } else { expr }
}

/// A number by its look: int, bigint-sized decimals, decimals, floats.
fn number(text: &str) -> Option<Expr> {
    if text.contains(['e', 'E']) {
        return Some(Expr::Literal(
            Datum::Float(text.parse().ok()?),
            SqlType::Float,
        ));
    }
    if !text.contains('.') {
        let integer: i128 = text.parse().ok()?;
        if let Ok(int) = i32::try_from(integer) {
            return Some(Expr::Literal(Datum::Int(i64::from(int)), SqlType::Int));
        }
    }
    let (unscaled, scale) = exact(text)?;
    let digits = unscaled.unsigned_abs().to_string().len() as u8;
    let precision = digits.max(scale).max(1);
    Some(Expr::Literal(
        Datum::Bytes(pack_decimal(unscaled)),
        SqlType::Numeric(precision, scale),
    ))
}
