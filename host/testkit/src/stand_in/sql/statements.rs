//! The grammar of statements.

use super::lexer::Token;
use super::parser::Parser;
use super::tree::{
    Alter, Argument, ColumnDefinition, Expr, Isolation, KeyDefinition, Line, Name, Rows, Setting,
    Statement,
};
use crate::stand_in::datum::Datum;
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::types::SqlType;

/// Options of SET that take ON or OFF and have no effect here.
const SWITCHES: &[&str] = &[
    "ansi_defaults",
    "ansi_null_dflt_on",
    "ansi_null_dflt_off",
    "ansi_nulls",
    "ansi_padding",
    "ansi_warnings",
    "arithabort",
    "arithignore",
    "concat_null_yields_null",
    "cursor_close_on_commit",
    "numeric_roundabort",
    "quoted_identifier",
    "fmtonly",
    "noexec",
];

/// Options of SET that take a value and have no effect here.
const VALUES: &[&str] = &[
    "language",
    "dateformat",
    "datefirst",
    "lock_timeout",
    "deadlock_priority",
    "rowcount",
    "query_governor_cost_limit",
];

impl Parser {
    pub fn statement(&mut self) -> SqlResult<Line> {
        let number = self.line();
        let statement = self.deeper(Self::statement_here).map_err(|error| {
            if error.line <= 1 {
                error.at(number)
            } else {
                error
            }
        })?;
        Ok(Line { number, statement })
    }

    fn statement_here(&mut self) -> SqlResult<Statement> {
        let word = match self.peek() {
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => return Err(self.unexpected()),
        };
        if word == "select" {
            // SELECT @a = 1 is an assignment.
            if let (Token::Variable(_), Token::Symbol("=")) = (self.peek_at(1), self.peek_at(2)) {
                self.next();
                return self.assignment();
            }
            return self.select().map(|it| Statement::Select(Box::new(it)));
        }
        self.next();
        match word.as_str() {
            "insert" => self.insert(),
            "update" => self.update(),
            "delete" => {
                self.word("from");
                let table = self.object()?;
                Ok(Statement::Delete {
                    table,
                    filter: self.filter()?,
                })
            }
            "truncate" => {
                self.expect_word("table")?;
                self.object().map(Statement::Truncate)
            }
            "create" => self.create(),
            "drop" => self.drop(),
            "alter" => self.alter(),
            "use" => self.name().map(Statement::Use),
            "set" => self.set(),
            "declare" => self.list(Self::declaration).map(Statement::Declare),
            "begin" => self.begin(),
            "commit" => {
                self.transaction_end();
                Ok(Statement::Commit)
            }
            "rollback" => {
                self.transaction_end();
                Ok(Statement::Rollback)
            }
            "if" => {
                let condition = self.expression()?;
                let then = Box::new(self.statement()?);
                while self.is_symbol(";") && self.is_word_at(1, "else") {
                    self.next();
                }
                let otherwise = if self.word("else") {
                    Some(Box::new(self.statement()?))
                } else {
                    None
                };
                Ok(Statement::If {
                    condition,
                    then,
                    otherwise,
                })
            }
            "exec" | "execute" => self.execute(),
            "waitfor" => {
                self.expect_word("delay")?;
                match self.next() {
                    Token::Text(text, _) => Ok(Statement::Wait(text)),
                    _ => Err(self.unexpected()),
                }
            }
            "print" => self.expression().map(Statement::Print),
            "throw" => {
                let [number, text, state] = self.three()?;
                Ok(Statement::Throw(number, text, state))
            }
            "raiserror" => {
                self.expect("(")?;
                let [text, class, state] = self.three()?;
                self.expect(")")?;
                Ok(Statement::RaiseError(text, class, state))
            }
            "kill" => {
                self.integer()?;
                Ok(Statement::Kill)
            }
            // A procedure may be called without EXEC at the beginning of a batch.
            _ if word.starts_with("sp_") => {
                self.back();
                self.execute()
            }
            _ => {
                self.back();
                Err(self.unexpected())
            }
        }
    }

    fn three(&mut self) -> SqlResult<[Expr; 3]> {
        let first = self.expression()?;
        self.expect(",")?;
        let second = self.expression()?;
        self.expect(",")?;
        Ok([first, second, self.expression()?])
    }

    fn assignment(&mut self) -> SqlResult<Statement> {
        let name = self.variable()?;
        self.expect("=")?;
        Ok(Statement::Assign(name, self.expression()?))
    }

    fn declaration(&mut self) -> SqlResult<(String, SqlType, Option<Expr>)> {
        let name = self.variable()?;
        self.word("as");
        let ty = self.data_type()?;
        let value = if self.symbol("=") {
            Some(self.expression()?)
        } else {
            None
        };
        Ok((name, ty, value))
    }

    fn begin(&mut self) -> SqlResult<Statement> {
        if self.word("tran") || self.word("transaction") {
            if self.is_name() && !self.is_word("select") {
                // A transaction's name, unless it is the next statement.
                if matches!(self.peek_at(1), Token::Symbol(";") | Token::End) {
                    self.next();
                }
            }
            return Ok(Statement::Begin);
        }
        let mut lines = Vec::new();
        loop {
            while self.symbol(";") {}
            if self.word("end") {
                return Ok(Statement::Block(lines));
            }
            lines.push(self.statement()?);
        }
    }

    fn transaction_end(&mut self) {
        let _ = self.word("tran") || self.word("transaction") || self.word("work");
        if self.is_name() && matches!(self.peek_at(1), Token::Symbol(";") | Token::End) {
            self.next();
        }
    }

    fn filter(&mut self) -> SqlResult<Option<Expr>> {
        if self.word("where") {
            self.expression().map(Some)
        } else {
            Ok(None)
        }
    }

    fn insert(&mut self) -> SqlResult<Statement> {
        if self.is_word("bulk") && matches!(self.peek_at(1), Token::Word(_) | Token::Name(_)) {
            return self.insert_bulk();
        }
        self.word("into");
        let table = self.object()?;
        let columns = if self.symbol("(") {
            let columns = self.list(Self::name)?;
            self.expect(")")?;
            Some(columns)
        } else {
            None
        };
        let rows = if self.words(&["default", "values"]) {
            Rows::Defaults
        } else if self.word("values") {
            Rows::Values(self.list(|parser| {
                parser.expect("(")?;
                let row = parser.list(|parser| {
                    if parser.word("default") {
                        Ok(None)
                    } else {
                        parser.expression().map(Some)
                    }
                })?;
                parser.expect(")")?;
                Ok(row)
            })?)
        } else {
            Rows::Select(Box::new(self.select()?))
        };
        Ok(Statement::Insert {
            table,
            columns,
            rows,
        })
    }

    /// Columns and options are known from the rows, which name them again.
    fn insert_bulk(&mut self) -> SqlResult<Statement> {
        self.next();
        let table = self.object()?;
        self.expect("(")?;
        self.list(Self::column_definition)?;
        self.expect(")")?;
        if self.word("with") {
            self.parenthesised()?;
        }
        Ok(Statement::InsertBulk(table))
    }

    fn update(&mut self) -> SqlResult<Statement> {
        let table = self.object()?;
        self.expect_word("set")?;
        let sets = self.list(|parser| {
            let column = parser.name()?;
            for (symbol, sign) in [("+=", "+"), ("-=", "-")] {
                if parser.symbol(symbol) {
                    let value = parser.expression()?;
                    let old = Expr::Column(vec![column.clone()]);
                    return Ok((
                        column,
                        Some(Expr::Arithmetic(sign, Box::new(old), Box::new(value))),
                    ));
                }
            }
            parser.expect("=")?;
            let value = if parser.word("default") {
                None
            } else {
                Some(parser.expression()?)
            };
            Ok((column, value))
        })?;
        Ok(Statement::Update {
            table,
            sets,
            filter: self.filter()?,
        })
    }

    fn create(&mut self) -> SqlResult<Statement> {
        if self.word("table") {
            let name = self.object()?;
            self.expect("(")?;
            let (mut columns, mut keys) = (Vec::new(), Vec::new());
            loop {
                if ["constraint", "primary", "unique"]
                    .iter()
                    .any(|it| self.is_word(it))
                {
                    keys.push(self.key()?);
                } else if self.word("index") {
                    let name = Some(self.name()?);
                    let unique = self.word("unique");
                    let clustered = self.clustered();
                    let columns = self.key_columns()?;
                    keys.push(KeyDefinition {
                        name,
                        primary: false,
                        unique,
                        clustered,
                        columns,
                    });
                } else {
                    columns.push(self.column_definition()?);
                }
                if !self.symbol(",") {
                    break;
                }
            }
            self.expect(")")?;
            return Ok(Statement::CreateTable {
                name,
                columns,
                keys,
            });
        }
        if self.word("database") {
            let name = self.name()?;
            let collation = if self.word("collate") {
                Some(self.name()?)
            } else {
                None
            };
            return Ok(Statement::CreateDatabase(name, collation));
        }
        let unique = self.word("unique");
        let clustered = self.clustered();
        self.expect_word("index")?;
        let name = Some(self.name()?);
        self.expect_word("on")?;
        let table = self.object()?;
        let columns = self.key_columns()?;
        if self.word("include") {
            self.key_columns()?;
        }
        Ok(Statement::CreateIndex {
            table,
            key: KeyDefinition {
                name,
                primary: false,
                unique,
                clustered,
                columns,
            },
        })
    }

    fn clustered(&mut self) -> Option<bool> {
        if self.word("clustered") {
            Some(true)
        } else if self.word("nonclustered") {
            Some(false)
        } else {
            None
        }
    }

    fn key_columns(&mut self) -> SqlResult<Vec<(String, bool)>> {
        self.expect("(")?;
        let columns = self.list(|parser| {
            let name = parser.name()?;
            let descending = parser.word("desc");
            if !descending {
                parser.word("asc");
            }
            Ok((name, descending))
        })?;
        self.expect(")")?;
        Ok(columns)
    }

    fn key(&mut self) -> SqlResult<KeyDefinition> {
        let name = if self.word("constraint") {
            Some(self.name()?)
        } else {
            None
        };
        let primary = self.words(&["primary", "key"]);
        if !primary {
            self.expect_word("unique")?;
        }
        let clustered = self.clustered();
        Ok(KeyDefinition {
            name,
            primary,
            unique: true,
            clustered,
            columns: self.key_columns()?,
        })
    }

    fn column_definition(&mut self) -> SqlResult<ColumnDefinition> {
        let name = self.name()?;
        // `timestamp` alone is a column of that name and type.
        let alone = matches!(self.peek(), Token::Symbol("," | ")"));
        let ty = if alone && name.eq_ignore_ascii_case("timestamp") {
            SqlType::RowVersion
        } else {
            self.data_type()?
        };
        let mut column = ColumnDefinition {
            name,
            ty,
            nullable: None,
            identity: None,
            default: None,
            collation: None,
            primary_key: false,
            unique: false,
        };
        loop {
            if self.words(&["not", "null"]) {
                column.nullable = Some(false);
            } else if self.word("null") {
                column.nullable = Some(true);
            } else if self.word("collate") {
                column.collation = Some(self.name()?);
            } else if self.word("identity") {
                column.identity = Some((1, 1));
                if self.symbol("(") {
                    let seed = self.integer()?;
                    self.expect(",")?;
                    column.identity = Some((seed, self.integer()?));
                    self.expect(")")?;
                }
            } else if self.word("constraint") {
                self.name()?;
            } else if self.word("default") {
                column.default = Some(self.expression()?);
            } else if self.words(&["primary", "key"]) {
                column.primary_key = true;
                self.clustered();
            } else if self.word("unique") {
                column.unique = true;
                self.clustered();
            } else if self.word("index") {
                self.name()?;
                self.clustered();
            } else {
                return Ok(column);
            }
        }
    }

    fn drop(&mut self) -> SqlResult<Statement> {
        let table = self.word("table");
        if !table && self.word("index") {
            let index = self.name()?;
            self.expect_word("on")?;
            return Ok(Statement::DropIndex {
                table: self.object()?,
                index,
            });
        }
        if !table {
            self.expect_word("database")?;
        }
        let if_exists = self.words(&["if", "exists"]);
        if table {
            return Ok(Statement::DropTable {
                names: self.list(Self::object)?,
                if_exists,
            });
        }
        Ok(Statement::DropDatabase {
            names: self.list(Self::name)?,
            if_exists,
        })
    }

    fn alter(&mut self) -> SqlResult<Statement> {
        if self.word("database") {
            return self.alter_database();
        }
        self.expect_word("table")?;
        let table = self.object()?;
        let change = if self.word("add") {
            if ["constraint", "primary", "unique"]
                .iter()
                .any(|it| self.is_word(it))
            {
                Alter::AddKey(self.key()?)
            } else {
                Alter::Add(self.list(Self::column_definition)?)
            }
        } else if self.words(&["drop", "column"]) {
            Alter::Drop(self.list(Self::name)?)
        } else if self.words(&["alter", "column"]) {
            Alter::Column(self.column_definition()?)
        } else {
            return Err(self.unexpected());
        };
        Ok(Statement::AlterTable { table, change })
    }

    fn alter_database(&mut self) -> SqlResult<Statement> {
        let name = if self.word("current") {
            String::new()
        } else {
            self.name()?
        };
        self.expect_word("set")?;
        let option = match self.next() {
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => return Err(self.unexpected()),
        };
        let (mut allow_snapshot, mut read_committed_snapshot) = (None, None);
        match option.as_str() {
            "allow_snapshot_isolation" => allow_snapshot = Some(self.on_off()?),
            "read_committed_snapshot" => read_committed_snapshot = Some(self.on_off()?),
            "recovery" | "compatibility_level" => {
                self.symbol("=");
                self.next();
            }
            "single_user" | "multi_user" => {}
            _ => {
                return Err(
                    SqlError::unknown(format!("ALTER DATABASE … SET {option}")).at(self.line())
                );
            }
        }
        if self.word("with") {
            self.expect_word("rollback")?;
            self.expect_word("immediate")?;
        }
        Ok(Statement::AlterDatabase {
            name,
            allow_snapshot,
            read_committed_snapshot,
        })
    }

    fn on_off(&mut self) -> SqlResult<bool> {
        if self.word("on") {
            Ok(true)
        } else {
            self.expect_word("off")?;
            Ok(false)
        }
    }

    fn set(&mut self) -> SqlResult<Statement> {
        if matches!(self.peek(), Token::Variable(_)) {
            return self.assignment();
        }
        if self.words(&["transaction", "isolation", "level"]) {
            return self
                .isolation()
                .map(|it| Statement::Set(Setting::Isolation(it)));
        }
        if self.word("identity_insert") {
            let table = self.object()?;
            return Ok(Statement::Set(Setting::IdentityInsert(
                table,
                self.on_off()?,
            )));
        }
        let option = match self.peek() {
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => return Err(self.unexpected()),
        };
        self.next();
        let setting = match option.as_str() {
            "nocount" => Setting::NoCount(self.on_off()?),
            "implicit_transactions" => Setting::ImplicitTransactions(self.on_off()?),
            "xact_abort" => Setting::XactAbort(self.on_off()?),
            "textsize" => Setting::TextSize(self.integer()?),
            it if VALUES.contains(&it) => {
                self.symbol("-");
                self.next();
                Setting::Ignored
            }
            it if SWITCHES.contains(&it) => {
                // Several may share one ON: SET ANSI_NULLS, ANSI_PADDING ON.
                while self.symbol(",") {
                    self.next();
                }
                if (it == "fmtonly" || it == "noexec") && self.is_word("on") {
                    return Err(SqlError::unknown(format!("SET {it} ON")).at(self.line()));
                }
                self.on_off()?;
                Setting::Ignored
            }
            _ => {
                return Err(SqlError::new(
                    195,
                    format!(
                        "'{option}' is not a recognized SET option. (the stand-in does not know it)"
                    ),
                )
                .at(self.line()));
            }
        };
        Ok(Statement::Set(setting))
    }

    fn isolation(&mut self) -> SqlResult<Isolation> {
        for (words, level) in [
            (&["read", "uncommitted"][..], Isolation::ReadUncommitted),
            (&["read", "committed"], Isolation::ReadCommitted),
            (&["repeatable", "read"], Isolation::RepeatableRead),
            (&["serializable"], Isolation::Serializable),
            (&["snapshot"], Isolation::Snapshot),
        ] {
            if self.words(words) {
                return Ok(level);
            }
        }
        Err(self.unexpected())
    }

    fn execute(&mut self) -> SqlResult<Statement> {
        if self.symbol("(") {
            let text = self.expression()?;
            self.expect(")")?;
            let arguments = vec![Argument {
                name: None,
                value: text,
            }];
            return Ok(Statement::Execute {
                procedure: Name(vec!["sp_executesql".to_owned()]),
                arguments,
            });
        }
        let procedure = self.object()?;
        let mut arguments = Vec::new();
        if !matches!(self.peek(), Token::Symbol(";") | Token::End) {
            arguments = self.list(|parser| {
                let name = match (parser.peek().clone(), parser.peek_at(1)) {
                    (Token::Variable(name), Token::Symbol("=")) => {
                        parser.next();
                        parser.next();
                        Some(name)
                    }
                    _ => None,
                };
                // A bare word is a text here.
                let value = match (parser.peek().clone(), parser.peek_at(1).clone()) {
                    (Token::Word(word), Token::Symbol("," | ";") | Token::End)
                        if !word.eq_ignore_ascii_case("null")
                            && !word.eq_ignore_ascii_case("default") =>
                    {
                        parser.next();
                        let length = word.chars().count() as u16;
                        Expr::Literal(Datum::Text(word), SqlType::NVarChar(Some(length)))
                    }
                    _ if parser.word("default") => Expr::Null,
                    _ => parser.expression()?,
                };
                Ok(Argument { name, value })
            })?;
        }
        Ok(Statement::Execute {
            procedure,
            arguments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parser::batch;

    #[test]
    fn statements_follow_each_other_with_and_without_semicolons() {
        let lines = batch("SELECT a FROM t AS x ORDER BY a\n;SELECT ROWCOUNT_BIG() AS [n] SET NOCOUNT ON SELECT 1").unwrap();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1].number, 2);
    }

    #[test]
    fn what_is_not_known_is_a_syntax_error_with_its_line() {
        for (text, number) in [
            ("\nGO", 102),
            ("MERGE t", 102),
            ("SELECT 1 FROM", 102),
            ("SELECT a FROM t GROUP BY a", 40_517),
            ("SET NONSENSE ON", 195),
            ("CREATE TABLE t (a geography)", 2715),
        ] {
            let error = batch(text).unwrap_err();
            assert_eq!(error.number, number, "{text}: {error}");
        }
        assert_eq!(batch("\nGO").unwrap_err().line, 2);
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let text = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(batch(&text).unwrap_err().number, 191);
        let text = format!("SELECT 1{}", " + 1".repeat(10_000));
        assert_eq!(batch(&text).unwrap_err().number, 191);
        let text = format!("SELECT {}1", "- ".repeat(10_000));
        assert_eq!(batch(&text).unwrap_err().number, 191);
        let text = format!("SELECT 1 WHERE {} 1 = 1", "NOT ".repeat(10_000));
        assert_eq!(batch(&text).unwrap_err().number, 191);
    }
}
