//! SELECT to SQL of `SQLite`, with the columns of its result. It runs nothing.

use std::sync::Arc;

use super::binder::{Binder, Bound, Origin, ScopeColumn, ScopeSource, Surroundings, collated, key};
use super::catalog::Table;
use super::database::Database;
use super::views;
use crate::stand_in::datum::Datum;
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::sql::tree::{Expr, From, Item, Join, Name, Select, Source};
use crate::stand_in::types::{SqlType as T, Typed};

/// A column of a result.
#[derive(Debug, Clone)]
pub struct OutColumn {
    pub name: String,
    pub typed: Typed,
    pub origin: Option<Origin>,
    pub identity: bool,
}

/// A SELECT, ready to run.
#[derive(Debug, Clone)]
pub struct Query {
    pub sql: String,
    pub binds: Vec<Datum>,
    pub columns: Vec<OutColumn>,
    /// What it reads.
    pub tables: Vec<(Arc<Database>, Arc<Table>)>,
    /// By which columns it is sorted, counted from 1; 0 for what is no column.
    pub order: Vec<u16>,
}

/// A SELECT inside of another.
#[derive(Debug)]
pub struct Nested {
    pub sql: String,
    pub columns: Vec<OutColumn>,
    order: Vec<u16>,
}

impl Nested {
    pub fn only_column(&self) -> SqlResult<&OutColumn> {
        match self.columns.as_slice() {
            [only] => Ok(only),
            _ => Err(SqlError::new(
                116,
                "Only one expression can be specified in the select list when the subquery is not introduced with EXISTS.",
            )),
        }
    }
}

/// Binds a SELECT.
pub fn bind(select: &Select, around: &Surroundings<'_>) -> SqlResult<Query> {
    let mut binder = Binder::new(around);
    let nested = binder.select(select, true)?;
    Ok(Query {
        sql: nested.sql,
        binds: binder.binds,
        columns: nested.columns,
        tables: binder.tables,
        order: nested.order,
    })
}

impl Binder<'_> {
    /// A SELECT in parentheses.
    pub fn nested(&mut self, select: &Select) -> SqlResult<Nested> {
        let aggregates = std::mem::take(&mut self.aggregates);
        let plain = std::mem::take(&mut self.plain_columns);
        let inside = std::mem::take(&mut self.inside_aggregate);
        let nested = self.select(select, false);
        self.aggregates = aggregates;
        self.plain_columns = plain;
        self.inside_aggregate = inside;
        nested
    }

    pub fn select(&mut self, select: &Select, outermost: bool) -> SqlResult<Nested> {
        if !outermost && !select.order.is_empty() && select.top.is_none() && select.offset.is_none()
        {
            return Err(SqlError::new(
                1033,
                "The ORDER BY clause is invalid in views, inline functions, derived tables, subqueries, and common table expressions, unless TOP, OFFSET or FOR XML is also specified.",
            ));
        }
        if select.union_all.is_empty() {
            return self.one(select, &select.order);
        }
        if !select.order.is_empty() {
            return Err(SqlError::unknown("UNION ALL with ORDER BY"));
        }
        let mut whole = self.one(select, &[])?;
        for part in &select.union_all {
            let part = self.one(part, &[])?;
            let alike = part
                .columns
                .iter()
                .map(|it| it.typed.ty)
                .eq(whole.columns.iter().map(|it| it.typed.ty));
            if !alike {
                return Err(SqlError::unknown("UNION ALL of different types; use CAST"));
            }
            whole.sql += &format!(" UNION ALL {}", part.sql);
            for (column, other) in whole.columns.iter_mut().zip(part.columns) {
                column.typed.nullable |= other.typed.nullable;
                column.origin = None;
            }
        }
        Ok(whole)
    }

    fn one(&mut self, select: &Select, order: &[(Expr, bool)]) -> SqlResult<Nested> {
        self.scopes.push(Vec::new());
        let nested = self.one_in_scope(select, order);
        self.scopes.pop();
        nested
    }

    fn one_in_scope(&mut self, select: &Select, order: &[(Expr, bool)]) -> SqlResult<Nested> {
        let mut from = String::new();
        for (number, source) in select.from.iter().enumerate() {
            let text = self.source(source, number == 0)?;
            from.push_str(&text);
        }
        let mut columns = Vec::new();
        let mut values = Vec::new();
        self.aggregates = 0;
        self.plain_columns.clear();
        for item in &select.items {
            match item {
                Item::All(table) => self.all(table.as_deref(), &mut columns, &mut values)?,
                Item::Value(expr, alias) => {
                    let bound = self.scalar(expr)?;
                    let name = alias.clone().or_else(|| match expr {
                        Expr::Column(path) => path.last().cloned(),
                        _ => None,
                    });
                    columns.push(out(name.unwrap_or_default(), &bound));
                    values.push(bound);
                }
            }
        }
        if self.aggregates > 0
            && let Some(column) = self.plain_columns.first()
        {
            return Err(SqlError::new(
                8120,
                format!(
                    "Column '{column}' is invalid in the select list because it is not contained in either an aggregate function or the GROUP BY clause."
                ),
            ));
        }
        let list: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(at, it)| format!("{} AS q{at}", it.sql))
            .collect();
        let mut sql = format!(
            "SELECT {}{}",
            if select.distinct { "DISTINCT " } else { "" },
            list.join(", ")
        );
        if !from.is_empty() {
            sql += &format!(" FROM {from}");
        }
        if let Some(filter) = &select.filter {
            sql += &format!(" WHERE {}", self.filter(filter)?);
        }
        let mut sorted = Vec::new();
        if !order.is_empty() {
            let mut keys = Vec::new();
            for (expr, descending) in order {
                let (bound, ordinal) = self.order_key(expr, &columns, &values)?;
                if bound.typed.ty.is_large_object() {
                    return Err(SqlError::new(
                        306,
                        "The text, ntext, and image data types cannot be compared or sorted, except when using IS NULL or LIKE operator.",
                    ));
                }
                let by = collated(&key(&bound.sql, bound.typed.ty), &bound.typed);
                keys.push(format!("{by}{}", if *descending { " DESC" } else { "" }));
                sorted.push(ordinal);
            }
            sql += &format!(" ORDER BY {}", keys.join(", "));
        }
        sql += &self.limit(select)?;
        Ok(Nested {
            sql,
            columns,
            order: sorted,
        })
    }

    fn limit(&mut self, select: &Select) -> SqlResult<String> {
        let count = |binder: &mut Self, expr: &Expr| -> SqlResult<String> {
            let number = binder.constant_integer(expr)?;
            if number < 0 {
                return Err(SqlError::new(
                    1060,
                    "The number of rows provided for a TOP or FETCH clauses row count parameter must be an integer.",
                ));
            }
            Ok(number.to_string())
        };
        match (&select.top, &select.offset, &select.fetch) {
            (Some(top), None, _) => Ok(format!(" LIMIT {}", count(self, top)?)),
            (Some(_), Some(_), _) => Err(SqlError::new(
                10741,
                "A TOP can not be used in the same query or sub-query as a OFFSET.",
            )),
            (None, Some(offset), None) => Ok(format!(" LIMIT -1 OFFSET {}", count(self, offset)?)),
            (None, Some(offset), Some(fetch)) => Ok(format!(
                " LIMIT {} OFFSET {}",
                count(self, fetch)?,
                count(self, offset)?
            )),
            (None, None, _) => Ok(String::new()),
        }
    }

    fn order_key(
        &mut self,
        expr: &Expr,
        columns: &[OutColumn],
        values: &[Bound],
    ) -> SqlResult<(Bound, u16)> {
        // A name may be an alias of the list; a number is a position in it.
        if let Expr::Column(path) = expr
            && let [name] = path.as_slice()
            && let Some(at) = columns
                .iter()
                .position(|it| it.name.eq_ignore_ascii_case(name))
            && let Some(value) = values.get(at)
        {
            return Ok((value.clone(), at as u16 + 1));
        }
        if let Expr::Literal(Datum::Int(position), T::Int) = expr {
            let at = usize::try_from(*position - 1).ok();
            return at.and_then(|at| values.get(at)).map(|it| (it.clone(), *position as u16)).ok_or_else(|| {
                SqlError::new(108, format!("The ORDER BY position number {position} is out of range of the number of items in the select list."))
            });
        }
        let bound = self.scalar(expr)?;
        let at = values
            .iter()
            .position(|it| it.sql == bound.sql)
            .map_or(0, |at| at as u16 + 1);
        Ok((bound, at))
    }

    fn all(
        &mut self,
        table: Option<&str>,
        columns: &mut Vec<OutColumn>,
        values: &mut Vec<Bound>,
    ) -> SqlResult<()> {
        let scope = self.scopes.last().cloned().unwrap_or_default();
        let mut found = false;
        for source in &scope {
            if table.is_some_and(|it| !source.alias.eq_ignore_ascii_case(it)) {
                continue;
            }
            found = true;
            for column in &source.columns {
                columns.push(out(column.name.clone(), &column.bound));
                values.push(column.bound.clone());
                self.plain_columns.push(column.name.clone());
            }
        }
        if found {
            return Ok(());
        }
        Err(match table {
            Some(table) => SqlError::new(
                107,
                format!(
                    "The column prefix '{table}' does not match with a table name or alias name used in the query."
                ),
            ),
            None => SqlError::new(263, "Must specify table to select from."),
        })
    }

    fn source(&mut self, source: &Source, first: bool) -> SqlResult<String> {
        self.aliases += 1;
        let name = format!("s{}", self.aliases);
        let (text, mut scope) = match &source.what {
            From::Table(table) => self.table(table, &name)?,
            From::Derived(select) => {
                let outer = self.scopes.pop();
                let nested = self.nested(select);
                self.scopes.extend(outer);
                let nested = nested?;
                let alias = source.alias.clone().unwrap_or_default();
                let mut columns = Vec::new();
                for (at, column) in nested.columns.into_iter().enumerate() {
                    if column.name.is_empty() {
                        return Err(SqlError::new(
                            8155,
                            format!(
                                "No column name was specified for column {} of '{alias}'.",
                                at + 1
                            ),
                        ));
                    }
                    columns.push(scope_column(
                        &column.name,
                        format!("{name}.q{at}"),
                        column.typed,
                        column.origin,
                        column.identity,
                    ));
                }
                (
                    format!("({}) AS {name}", nested.sql),
                    ScopeSource {
                        alias,
                        full_name: String::new(),
                        columns,
                    },
                )
            }
        };
        if let Some(alias) = &source.alias {
            scope.alias.clone_from(alias);
            scope.full_name.clear();
        }
        if source.join == Join::Left {
            for column in &mut scope.columns {
                column.bound.typed.nullable = true;
            }
        }
        if let Some(current) = self.scopes.last_mut() {
            if current
                .iter()
                .any(|it| it.alias.eq_ignore_ascii_case(&scope.alias))
            {
                return Err(SqlError::new(
                    1011,
                    format!(
                        "The correlation name '{}' is specified multiple times in a FROM clause.",
                        scope.alias
                    ),
                ));
            }
            current.push(scope);
        }
        let join = match (first, source.join) {
            (true, _) => "",
            (false, Join::Cross) => " CROSS JOIN ",
            (false, Join::Inner) => " JOIN ",
            (false, Join::Left) => " LEFT JOIN ",
        };
        let on = match &source.on {
            Some(on) => format!(" ON {}", self.filter(on)?),
            None => String::new(),
        };
        Ok(format!("{join}{text}{on}"))
    }

    pub fn table(&mut self, table: &Name, name: &str) -> SqlResult<(String, ScopeSource)> {
        let database = match table.database() {
            Some(database) => self
                .around
                .engine
                .database(database)
                .map_err(|_| SqlError::no_object(&table.to_string()))?,
            None => Arc::clone(&self.around.database),
        };
        if let Some(view) = views::find(table, &database, self.around.engine) {
            let text = self.view(&view, name);
            let columns = view
                .columns
                .iter()
                .enumerate()
                .map(|(at, (column, ty, nullable))| {
                    scope_column(
                        column,
                        format!("{name}.v{at}"),
                        self.typed(*ty, *nullable),
                        None,
                        false,
                    )
                })
                .collect();
            let full_name = format!("sys.{}", table.object());
            return Ok((
                text,
                ScopeSource {
                    alias: table.object().to_owned(),
                    full_name,
                    columns,
                },
            ));
        }
        let found = database
            .catalog()
            .find(table)
            .cloned()
            .ok_or_else(|| SqlError::no_object(&table.to_string()))?;
        if self.tables.iter().any(|(other, _)| other.id != database.id) {
            return Err(SqlError::unknown("a statement over two databases"));
        }
        let columns = found
            .columns
            .iter()
            .map(|column| {
                let origin = Origin {
                    database: database.name.clone(),
                    table: Arc::clone(&found),
                    column: column.id,
                };
                scope_column(
                    &column.name,
                    format!("{name}.{}", column.in_sqlite()),
                    column.typed(),
                    Some(origin),
                    column.identity.is_some(),
                )
            })
            .collect();
        let scope = ScopeSource {
            alias: found.name.clone(),
            full_name: found.full_name(),
            columns,
        };
        let text = format!("{} AS {name}", found.in_sqlite());
        self.tables.push((database, found));
        Ok((text, scope))
    }

    /// A view of the catalogue is written into the query with all its rows.
    fn view(&mut self, view: &views::View, name: &str) -> String {
        let empty = view.rows.is_empty();
        let mut parts = Vec::new();
        let nulls = vec![Datum::Null; view.columns.len()];
        for row in if empty {
            std::slice::from_ref(&nulls)
        } else {
            view.rows.as_slice()
        } {
            let cells: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(at, value)| {
                    self.binds.push(value.clone());
                    format!("?{} AS v{at}", self.binds.len())
                })
                .collect();
            parts.push(format!(
                "SELECT {}{}",
                cells.join(", "),
                if empty { " WHERE 0" } else { "" }
            ));
        }
        format!("({}) AS {name}", parts.join(" UNION ALL "))
    }
}

fn scope_column(
    name: &str,
    sql: String,
    typed: Typed,
    origin: Option<Origin>,
    identity: bool,
) -> ScopeColumn {
    ScopeColumn {
        name: name.to_owned(),
        bound: Bound {
            sql,
            typed,
            condition: false,
            constant: None,
            origin,
            identity,
        },
    }
}

fn out(name: String, bound: &Bound) -> OutColumn {
    OutColumn {
        name,
        typed: bound.typed,
        origin: bound.origin.clone(),
        identity: bound.identity,
    }
}
