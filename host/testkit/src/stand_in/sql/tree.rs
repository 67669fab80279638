//! The tree of a batch.

use crate::stand_in::datum::Datum;
use crate::stand_in::types::SqlType;

#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    Literal(Datum, SqlType),
    Null,
    /// A column with what stands before it.
    Column(Vec<String>),
    Variable(String),
    Global(String),
    Negative(Box<Expr>),
    /// Arithmetic: `+ - * / % & | ^`.
    Arithmetic(&'static str, Box<Expr>, Box<Expr>),
    /// `= <> < > <= >=`.
    Compare(&'static str, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    IsNull(Box<Expr>),
    In(Box<Expr>, Vec<Expr>),
    InSelect(Box<Expr>, Box<Select>),
    Between(Box<Expr>, Box<Expr>, Box<Expr>),
    Like(Box<Expr>, Box<Expr>),
    Exists(Box<Select>),
    Scalar(Box<Select>),
    Call(String, Vec<Expr>),
    /// `COUNT(*)`, `COUNT_BIG(*)`.
    CountRows(String),
    Cast {
        value: Box<Expr>,
        to: SqlType,
        style: Option<Box<Expr>>,
        lenient: bool,
    },
    Case {
        operand: Option<Box<Expr>>,
        whens: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Collate(Box<Expr>, String),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Select {
    pub distinct: bool,
    pub top: Option<Expr>,
    pub items: Vec<Item>,
    pub from: Vec<Source>,
    pub filter: Option<Expr>,
    pub order: Vec<(Expr, bool)>,
    pub offset: Option<Expr>,
    pub fetch: Option<Expr>,
    /// Further parts joined by UNION ALL; their own order is empty.
    pub union_all: Vec<Select>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// `*` or `t.*`.
    All(Option<String>),
    Value(Expr, Option<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// The first one, or after a comma, or CROSS JOIN.
    Cross,
    Inner,
    Left,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    pub join: Join,
    pub what: From,
    pub alias: Option<String>,
    pub on: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum From {
    Table(Name),
    Derived(Box<Select>),
}

/// An object's name with up to three parts before it; an empty part is one left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub Vec<String>);

impl Name {
    pub fn object(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    pub fn schema(&self) -> Option<&str> {
        self.part(1)
    }

    pub fn database(&self) -> Option<&str> {
        self.part(2)
    }

    fn part(&self, before: usize) -> Option<&str> {
        let at = self.0.len().checked_sub(before + 1)?;
        self.0
            .get(at)
            .map(String::as_str)
            .filter(|it| !it.is_empty())
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDefinition {
    pub name: String,
    pub ty: SqlType,
    /// `None` where nothing is said.
    pub nullable: Option<bool>,
    pub identity: Option<(i64, i64)>,
    pub default: Option<Expr>,
    pub collation: Option<String>,
    pub primary_key: bool,
    pub unique: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct KeyDefinition {
    pub name: Option<String>,
    pub primary: bool,
    pub unique: bool,
    pub clustered: Option<bool>,
    /// Columns, and whether descending.
    pub columns: Vec<(String, bool)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// `None` is DEFAULT.
    Values(Vec<Vec<Option<Expr>>>),
    Select(Box<Select>),
    Defaults,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Alter {
    Add(Vec<ColumnDefinition>),
    AddKey(KeyDefinition),
    Drop(Vec<String>),
    Column(ColumnDefinition),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
    Snapshot,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    NoCount(bool),
    ImplicitTransactions(bool),
    XactAbort(bool),
    TextSize(i64),
    Isolation(Isolation),
    IdentityInsert(Name, bool),
    /// Known, and without effect here.
    Ignored,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    pub name: Option<String>,
    pub value: Expr,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    Select(Box<Select>),
    Insert {
        table: Name,
        columns: Option<Vec<String>>,
        rows: Rows,
    },
    /// `INSERT BULK`: the rows follow in a message of their own.
    InsertBulk(Name),
    Update {
        table: Name,
        sets: Vec<(String, Option<Expr>)>,
        filter: Option<Expr>,
    },
    Delete {
        table: Name,
        filter: Option<Expr>,
    },
    Truncate(Name),
    CreateTable {
        name: Name,
        columns: Vec<ColumnDefinition>,
        keys: Vec<KeyDefinition>,
    },
    CreateIndex {
        table: Name,
        key: KeyDefinition,
    },
    DropIndex {
        table: Name,
        index: String,
    },
    DropTable {
        names: Vec<Name>,
        if_exists: bool,
    },
    AlterTable {
        table: Name,
        change: Alter,
    },
    CreateDatabase(String, Option<String>),
    DropDatabase {
        names: Vec<String>,
        if_exists: bool,
    },
    /// Which of the two snapshot options; neither for options without effect here.
    AlterDatabase {
        name: String,
        allow_snapshot: Option<bool>,
        read_committed_snapshot: Option<bool>,
    },
    Use(String),
    Set(Setting),
    Assign(String, Expr),
    Declare(Vec<(String, SqlType, Option<Expr>)>),
    Begin,
    Commit,
    Rollback,
    If {
        condition: Expr,
        then: Box<Line>,
        otherwise: Option<Box<Line>>,
    },
    Block(Vec<Line>),
    Execute {
        procedure: Name,
        arguments: Vec<Argument>,
    },
    Wait(String),
    Print(Expr),
    /// Number, text, state.
    Throw(Expr, Expr, Expr),
    /// Text or number, class, state.
    RaiseError(Expr, Expr, Expr),
    Kill,
}

/// A statement with the line on which it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub number: u32,
    pub statement: Statement,
}
