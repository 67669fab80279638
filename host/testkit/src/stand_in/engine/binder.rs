//! Expressions to SQL of `SQLite`, with their T-SQL types: every conversion that T-SQL makes silently is written out.
//! It reads no rows.

use std::collections::HashMap;
use std::sync::Arc;

use super::Engine;
use super::arithmetic::decimal_result;
use super::catalog::Table;
use super::database::Database;
use crate::stand_in::collation::{self, CollationRef};
use crate::stand_in::convert::{How, convert};
use crate::stand_in::datum::Datum;
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::sql::tree::Expr;
use crate::stand_in::types::{SqlType as T, Typed, code};

/// A declared variable or parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    pub ty: T,
    pub value: Datum,
}

pub type Variables = HashMap<String, Variable>;

/// What an expression may ask of the session.
#[derive(Debug)]
pub struct Surroundings<'a> {
    pub engine: &'a Engine,
    pub database: Arc<Database>,
    pub variables: &'a Variables,
    pub row_count: i64,
    pub transactions: i64,
    pub session: i64,
    pub user: &'a str,
    pub app_name: &'a str,
    pub host_name: &'a str,
    /// Now in UTC, one instant for the whole statement.
    pub now: i64,
}

/// Where a column comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    pub database: String,
    pub table: Arc<Table>,
    pub column: i64,
}

/// An expression, ready for `SQLite`.
#[derive(Debug, Clone)]
pub struct Bound {
    pub sql: String,
    pub typed: Typed,
    /// It is a condition and not a value.
    pub condition: bool,
    /// The value, where it is known without `SQLite`.
    pub constant: Option<Datum>,
    pub origin: Option<Origin>,
    pub identity: bool,
}

/// A column that can be named in an expression.
#[derive(Debug, Clone)]
pub struct ScopeColumn {
    pub name: String,
    pub bound: Bound,
}

/// One table or derived table of a FROM.
#[derive(Debug, Clone, Default)]
pub struct ScopeSource {
    pub alias: String,
    /// As written, for names with a schema.
    pub full_name: String,
    pub columns: Vec<ScopeColumn>,
}

#[derive(Debug)]
pub struct Binder<'a> {
    pub around: &'a Surroundings<'a>,
    pub binds: Vec<Datum>,
    /// The innermost SELECT is last.
    pub scopes: Vec<Vec<ScopeSource>>,
    /// Tables that the statement reads.
    pub tables: Vec<(Arc<Database>, Arc<Table>)>,
    pub aggregates: usize,
    pub inside_aggregate: bool,
    /// Columns named outside of an aggregate.
    pub plain_columns: Vec<String>,
    pub aliases: usize,
}

impl<'a> Binder<'a> {
    pub fn new(around: &'a Surroundings<'a>) -> Self {
        Self {
            around,
            binds: Vec::new(),
            scopes: Vec::new(),
            tables: Vec::new(),
            aggregates: 0,
            inside_aggregate: false,
            plain_columns: Vec::new(),
            aliases: 0,
        }
    }

    pub fn collation(&self) -> CollationRef {
        self.around.database.collation
    }

    pub fn typed(&self, ty: T, nullable: bool) -> Typed {
        Typed {
            ty,
            nullable,
            collation: self.collation(),
        }
    }

    /// A value that is known now.
    pub fn value(&mut self, value: Datum, ty: T, nullable: bool) -> Bound {
        self.binds.push(value.clone());
        Bound {
            sql: format!("?{}", self.binds.len()),
            typed: self.typed(ty, nullable),
            condition: false,
            constant: Some(value),
            origin: None,
            identity: false,
        }
    }

    pub fn made(&self, sql: String, ty: T, nullable: bool) -> Bound {
        Bound {
            sql,
            typed: self.typed(ty, nullable),
            condition: false,
            constant: None,
            origin: None,
            identity: false,
        }
    }

    fn condition(&self, sql: String) -> Bound {
        Bound {
            condition: true,
            ..self.made(sql, T::Bit, true)
        }
    }

    /// A value; a condition is none.
    pub fn scalar(&mut self, expr: &Expr) -> SqlResult<Bound> {
        let bound = self.expression(expr)?;
        if bound.condition {
            return Err(SqlError::new(
                102,
                "Incorrect syntax near a condition: it is not a value.",
            ));
        }
        Ok(bound)
    }

    /// A condition; a value is none.
    pub fn filter(&mut self, expr: &Expr) -> SqlResult<String> {
        let bound = self.expression(expr)?;
        if !bound.condition {
            return Err(SqlError::new(
                4145,
                "An expression of non-boolean type specified in a context where a condition is expected.",
            ));
        }
        Ok(bound.sql)
    }

    pub fn expression(&mut self, expr: &Expr) -> SqlResult<Bound> {
        match expr {
            Expr::Literal(value, ty) => {
                if let (Datum::Text(text), false) = (value, ty.is_unicode()) {
                    // What the code page does not have is lost here already.
                    let text = self.collation().decode(&self.collation().encode(text));
                    return Ok(self.value(Datum::Text(text), *ty, false));
                }
                Ok(self.value(value.clone(), *ty, false))
            }
            Expr::Null => Ok(self.value(Datum::Null, T::Int, true)),
            Expr::Column(path) => self.column(path),
            Expr::Variable(name) => {
                let variable = self.around.variables.get(name).ok_or_else(|| {
                    SqlError::new(
                        137,
                        format!("Must declare the scalar variable \"@{name}\"."),
                    )
                })?;
                Ok(self.value(variable.value.clone(), variable.ty, true))
            }
            Expr::Global(name) => self.global(name),
            Expr::Negative(inner) => {
                let inner = self.scalar(inner)?;
                let zero = self.value(Datum::Int(0), T::Int, false);
                self.arithmetic("-", zero, inner)
            }
            Expr::Arithmetic(sign, a, b) => {
                let (x, y) = (self.scalar(a)?, self.scalar(b)?);
                let (left, right) = (x.typed.ty, y.typed.ty);
                let (x, y) = (self.narrowed(a, x, right)?, self.narrowed(b, y, left)?);
                self.arithmetic(sign, x, y)
            }
            Expr::Compare(sign, a, b) => {
                let (a, b) = (self.scalar(a)?, self.scalar(b)?);
                let sql = self.compare(sign, a, b)?;
                Ok(self.condition(sql))
            }
            Expr::And(a, b) => {
                let (a, b) = (self.filter(a)?, self.filter(b)?);
                Ok(self.condition(format!("({a} AND {b})")))
            }
            Expr::Or(a, b) => {
                let (a, b) = (self.filter(a)?, self.filter(b)?);
                Ok(self.condition(format!("({a} OR {b})")))
            }
            Expr::Not(inner) => {
                let inner = self.filter(inner)?;
                Ok(self.condition(format!("(NOT {inner})")))
            }
            Expr::IsNull(inner) => {
                let inner = self.scalar(inner)?;
                Ok(self.condition(format!("({} IS NULL)", inner.sql)))
            }
            Expr::In(value, list) => {
                let mut all = vec![self.scalar(value)?];
                for item in list {
                    all.push(self.scalar(item)?);
                }
                let collation = all.first().map(|it| it.typed.collation);
                let (all, typed) = self.unified(all)?;
                let typed = Typed {
                    collation: collation.unwrap_or(typed.collation),
                    ..typed
                };
                let mut keys = all.iter().map(|it| key(&it.sql, typed.ty));
                let value = keys.next().unwrap_or_default();
                let keys: Vec<String> = keys.collect();
                Ok(self.condition(format!(
                    "({} IN ({}))",
                    collated(&value, &typed),
                    keys.join(", ")
                )))
            }
            Expr::Between(value, low, high) => {
                let (value, low, high) =
                    (self.scalar(value)?, self.scalar(low)?, self.scalar(high)?);
                let low = self.compare(">=", value.clone(), low)?;
                let high = self.compare("<=", value, high)?;
                Ok(self.condition(format!("({low} AND {high})")))
            }
            Expr::Like(value, pattern) => {
                let (value, pattern) = (self.scalar(value)?, self.scalar(pattern)?);
                let sensitive = value.typed.collation.case_sensitive;
                let value = self.as_any_text(value)?;
                let pattern = self.as_any_text(pattern)?;
                Ok(self.condition(format!(
                    "t_like({}, {}, {})",
                    value.sql,
                    pattern.sql,
                    i64::from(sensitive)
                )))
            }
            Expr::Exists(select) => {
                let inner = self.nested(select)?;
                Ok(self.condition(format!("EXISTS ({})", inner.sql)))
            }
            Expr::InSelect(value, select) => {
                let value = self.scalar(value)?;
                let inner = self.nested(select)?;
                let column = inner.only_column()?;
                if value.typed.ty.common(column.typed.ty) != value.typed.ty
                    && value.typed.ty != column.typed.ty
                {
                    return Err(SqlError::unknown("IN with a SELECT of another type"));
                }
                let key = collated(&value.sql, &value.typed);
                Ok(self.condition(format!("({key} IN ({}))", inner.sql)))
            }
            Expr::Scalar(select) => {
                let inner = self.nested(select)?;
                let typed = inner.only_column()?.typed;
                Ok(Bound {
                    typed: Typed {
                        nullable: true,
                        ..typed
                    },
                    ..self.made(format!("({})", inner.sql), typed.ty, true)
                })
            }
            Expr::Call(name, arguments) => self.call(name, arguments),
            Expr::CountRows(name) => {
                self.aggregates += 1;
                let ty = if name == "count" { T::Int } else { T::BigInt };
                Ok(self.made("count(*)".to_owned(), ty, true))
            }
            Expr::Cast {
                value,
                to,
                style,
                lenient,
            } => {
                let value = self.scalar(value)?;
                let style = match style {
                    None => 0,
                    Some(style) => self.constant_integer(style)?,
                };
                self.cast(value, *to, style, false, *lenient)
            }
            Expr::Case {
                operand,
                whens,
                otherwise,
            } => self.case(operand.as_deref(), whens, otherwise.as_deref()),
            Expr::Collate(inner, name) => {
                let mut inner = self.scalar(inner)?;
                inner.typed.collation = collation_named(name)?;
                Ok(inner)
            }
        }
    }

    fn column(&mut self, path: &[String]) -> SqlResult<Bound> {
        let written = path.join(".");
        let Some((name, qualifier)) = path.split_last() else {
            return Err(SqlError::no_column(""));
        };
        let qualifier = qualifier.join(".");
        for (depth, scope) in self.scopes.iter().rev().enumerate() {
            let mut sources = scope.iter().filter(|source| {
                qualifier.is_empty()
                    || source.alias.eq_ignore_ascii_case(&qualifier)
                    || source.full_name.eq_ignore_ascii_case(&qualifier)
            });
            let mut found = sources.by_ref().filter_map(|source| {
                source
                    .columns
                    .iter()
                    .find(|column| column.name.eq_ignore_ascii_case(name))
            });
            if let Some(column) = found.next() {
                if found.next().is_some() {
                    return Err(SqlError::new(
                        209,
                        format!("Ambiguous column name '{name}'."),
                    ));
                }
                let bound = column.bound.clone();
                if depth == 0 && !self.inside_aggregate {
                    self.plain_columns.push(written);
                }
                return Ok(bound);
            }
        }
        Err(if qualifier.is_empty() {
            SqlError::no_column(&written)
        } else {
            SqlError::new(
                4104,
                format!("The multi-part identifier \"{written}\" could not be bound."),
            )
        })
    }

    /// A value of another type.
    pub fn cast(
        &mut self,
        value: Bound,
        to: T,
        style: i64,
        assign: bool,
        lenient: bool,
    ) -> SqlResult<Bound> {
        let from = value.typed.ty;
        let collation = value.typed.collation;
        if from == to {
            return Ok(value);
        }
        if let Some(constant) = &value.constant {
            let converted = convert(
                constant,
                from,
                to,
                How {
                    style,
                    assign,
                    collation,
                },
            );
            let converted = if lenient {
                converted.unwrap_or(Datum::Null)
            } else {
                converted?
            };
            let mut bound = self.value(converted, to, value.typed.nullable || lenient);
            bound.typed.collation = collation;
            return Ok(bound);
        }
        let typed = Typed {
            ty: to,
            nullable: value.typed.nullable || lenient,
            collation,
        };
        // Forms that are the same in the file need no work.
        let same = match (from.integer_range(), to.integer_range()) {
            (Some((l1, g1)), Some((l2, g2))) => l2 <= l1 && g1 <= g2 && to != T::Bit,
            _ => match (from, to) {
                (T::NVarChar(_) | T::NChar(_) | T::VarChar(_) | T::Char(_), T::NVarChar(to)) => {
                    to.is_none() || from.chars().flatten().is_some_and(|it| Some(it) <= to)
                }
                (T::DateTime2(a), T::DateTime2(b)) | (T::Time(a), T::Time(b)) => a <= b,
                (T::Numeric(a, s) | T::Decimal(a, s), T::Decimal(b, t)) => s == t && a <= b,
                _ => false,
            },
        };
        let sql = if same {
            value.sql
        } else {
            format!(
                "t_convert({}, {}, {}, {style}, {}, {}, '{}')",
                value.sql,
                code(from),
                code(to),
                i64::from(assign),
                i64::from(lenient),
                collation.name
            )
        };
        Ok(Bound {
            sql,
            typed,
            condition: false,
            constant: None,
            origin: None,
            identity: false,
        })
    }

    pub fn as_any_text(&mut self, value: Bound) -> SqlResult<Bound> {
        if value.typed.ty.is_text() {
            Ok(value)
        } else {
            self.cast(value, T::NVarChar(Some(4000)), 0, false, false)
        }
    }

    /// Both in the type that they have in common; NULL has none of its own.
    fn alike(&mut self, a: Bound, b: Bound) -> SqlResult<(Bound, Bound)> {
        let ty = if a.constant == Some(Datum::Null) {
            b.typed.ty
        } else if b.constant == Some(Datum::Null) {
            a.typed.ty
        } else {
            a.typed.ty.common(b.typed.ty)
        };
        if a.typed.ty != b.typed.ty
            && (a.typed.ty.is_large_object() || b.typed.ty.is_large_object())
        {
            return Err(SqlError::new(
                402,
                format!(
                    "The data types {} and {} are incompatible in the equal to operator.",
                    a.typed.ty.base_name(),
                    b.typed.ty.base_name()
                ),
            ));
        }
        Ok((
            self.cast(a, ty, 0, false, false)?,
            self.cast(b, ty, 0, false, false)?,
        ))
    }

    fn compare(&mut self, sign: &str, a: Bound, b: Bound) -> SqlResult<String> {
        let collation = if a.constant.is_some() && a.origin.is_none() {
            b.typed.collation
        } else {
            a.typed.collation
        };
        let (a, b) = self.alike(a, b)?;
        let typed = Typed {
            collation,
            ..a.typed
        };
        let (a, b) = (key(&a.sql, a.typed.ty), key(&b.sql, b.typed.ty));
        Ok(format!("({} {sign} {b})", collated(&a, &typed)))
    }

    fn arithmetic(&mut self, sign: &str, a: Bound, b: Bound) -> SqlResult<Bound> {
        let (x, y) = (a.typed.ty, b.typed.ty);
        let nullable = a.typed.nullable || b.typed.nullable;
        if sign == "+" && x.is_text() && y.is_text() {
            let both = x.common(y);
            let length = x
                .chars()
                .flatten()
                .zip(y.chars().flatten())
                .map(|(a, b)| a.saturating_add(b));
            let most = if both.is_unicode() { 4000 } else { 8000 };
            let ty = both.with_chars(length.map(|it| it.min(most)));
            let collation = a.typed.collation;
            let mut sum = self.made(format!("({} || {})", a.sql, b.sql), ty, nullable);
            sum.typed.collation = collation;
            return Ok(sum);
        }
        if sign == "+" && x.is_bytes() && y.is_bytes() {
            return Ok(self.made(
                format!("CAST({} || {} AS BLOB)", a.sql, b.sql),
                T::VarBinary(None),
                nullable,
            ));
        }
        if x.is_temporal() || y.is_temporal() {
            return Err(SqlError::unknown(format!(
                "{} {sign} {}; use DATEADD",
                x.base_name(),
                y.base_name()
            )));
        }
        let mut ty = x.common(y);
        // A rowversion or a text becomes the number that it meets.
        if !ty.is_number() {
            return Err(SqlError::new(
                8117,
                format!(
                    "Operand data type {} is invalid for the operator {sign}.",
                    ty.base_name()
                ),
            ));
        }
        if matches!(ty, T::Decimal(..) | T::Numeric(..)) {
            return self.decimals(sign, a, b, nullable);
        }
        if ty == T::Bit {
            ty = T::Int;
        }
        let (a, b) = (
            self.cast(a, ty, 0, false, false)?,
            self.cast(b, ty, 0, false, false)?,
        );
        if let (Some(a), Some(b)) = (&a.constant, &b.constant) {
            let value = super::arithmetic::apply(sign, a, b, ty)?;
            return Ok(self.value(value, ty, nullable));
        }
        Ok(self.made(
            format!("t_arithmetic('{sign}', {}, {}, {})", a.sql, b.sql, code(ty)),
            ty,
            true,
        ))
    }

    /// A whole number that is written out has only its own digits where it meets a decimal.
    fn narrowed(&mut self, expr: &Expr, bound: Bound, other: T) -> SqlResult<Bound> {
        match expr {
            Expr::Literal(Datum::Int(it), T::Int)
                if matches!(other, T::Decimal(..) | T::Numeric(..)) =>
            {
                let digits = it.unsigned_abs().to_string().len() as u8;
                self.cast(bound, T::Numeric(digits, 0), 0, false, false)
            }
            _ => Ok(bound),
        }
    }

    fn decimals(&mut self, sign: &str, a: Bound, b: Bound, nullable: bool) -> SqlResult<Bound> {
        let exact = |bound: &Bound| bound.typed.ty.as_exact().unwrap_or((38, 10));
        let (x, y) = (exact(&a), exact(&b));
        let a = self.cast(a, T::Decimal(x.0, x.1), 0, false, false)?;
        let b = self.cast(b, T::Decimal(y.0, y.1), 0, false, false)?;
        let (left, right) = (a.typed.ty, b.typed.ty);
        let result = decimal_result(sign, x, y);
        if let (Some(a), Some(b)) = (&a.constant, &b.constant) {
            let value = super::arithmetic::decimals(sign, a, b, left, right, result)?;
            return Ok(self.value(value, result, nullable));
        }
        let sql = format!(
            "t_decimal('{sign}', {}, {}, {}, {}, {})",
            a.sql,
            b.sql,
            code(left),
            code(right),
            code(result)
        );
        Ok(self.made(sql, result, true))
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        whens: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
    ) -> SqlResult<Bound> {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        for (when, then) in whens {
            conditions.push(match operand {
                None => self.filter(when)?,
                Some(operand) => {
                    let (operand, when) = (self.scalar(operand)?, self.scalar(when)?);
                    self.compare("=", operand, when)?
                }
            });
            values.push(self.scalar(then)?);
        }
        values.push(match otherwise {
            Some(value) => self.scalar(value)?,
            None => self.value(Datum::Null, T::Int, true),
        });
        let (values, typed) = self.unified(values)?;
        let mut sql = "CASE".to_owned();
        for (condition, value) in conditions.iter().zip(&values) {
            sql += &format!(" WHEN {condition} THEN {}", value.sql);
        }
        if let Some(last) = values.last() {
            sql += &format!(" ELSE {}", last.sql);
        }
        sql += " END";
        Ok(Bound {
            typed,
            ..self.made(sql, typed.ty, typed.nullable)
        })
    }

    /// All in one type, and that type; nullable when one of them is.
    pub fn unified(&mut self, values: Vec<Bound>) -> SqlResult<(Vec<Bound>, Typed)> {
        let mut typed: Option<Typed> = None;
        for value in values.iter().filter(|it| it.constant != Some(Datum::Null)) {
            typed = Some(match typed {
                None => value.typed,
                Some(so_far) => Typed {
                    ty: so_far.ty.common(value.typed.ty),
                    ..so_far
                },
            });
        }
        let mut typed = typed.unwrap_or_else(|| self.typed(T::Int, true));
        typed.nullable = values.iter().any(|it| it.typed.nullable);
        let mut converted = Vec::new();
        for value in values {
            converted.push(self.cast(value, typed.ty, 0, false, false)?);
        }
        Ok((converted, typed))
    }

    /// A number that must be known before any row is read.
    pub fn constant_integer(&mut self, expr: &Expr) -> SqlResult<i64> {
        // The number itself goes into the text, so nothing of it may be left to bind.
        let before = self.binds.len();
        let bound = self.scalar(expr)?;
        let bound = self.cast(bound, T::BigInt, 0, false, false)?;
        self.binds.truncate(before);
        match bound.constant {
            Some(Datum::Int(it)) => Ok(it),
            Some(Datum::Null) => Ok(0),
            _ => Err(SqlError::unknown("an argument that is no constant")),
        }
    }

    /// A text that must be known before any row is read.
    pub fn constant_text(&mut self, expr: &Expr) -> SqlResult<Option<String>> {
        let bound = self.scalar(expr)?;
        let bound = self.as_any_text(bound)?;
        match bound.constant {
            Some(Datum::Text(it)) => Ok(Some(it)),
            Some(Datum::Null) => Ok(None),
            _ => Err(SqlError::unknown("an argument that is no constant")),
        }
    }
}

pub fn collation_named(name: &str) -> SqlResult<CollationRef> {
    if name.eq_ignore_ascii_case("database_default") {
        return Ok(collation::default());
    }
    collation::named(name).ok_or_else(|| {
        SqlError::new(
            448,
            format!("Invalid collation '{name}'. (the stand-in does not know it)"),
        )
    })
}

/// What is compared and sorted by: the instant alone of a datetimeoffset.
pub fn key(sql: &str, ty: T) -> String {
    if matches!(ty, T::DateTimeOffset(_)) {
        format!("substr({sql}, 1, 8)")
    } else {
        sql.to_owned()
    }
}

pub fn collated(sql: &str, typed: &Typed) -> String {
    if typed.ty.is_text() {
        format!("{sql} COLLATE {}", typed.collation.in_sqlite())
    } else {
        sql.to_owned()
    }
}
