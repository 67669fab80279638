//! What one connection does: batches statement by statement, its transaction, its settings. It reads no packets.

mod procedures;
mod synthesised;
mod transactions;
mod writing;

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::{Connection, params_from_iter};

use super::convert::{How, convert};
use super::datum::Datum;
use super::engine::Engine;
use super::engine::binder::{Binder, Surroundings, Variable, Variables};
use super::engine::catalog::Table;
use super::engine::database::Database;
use super::engine::query::{self, Query};
use super::engine::write::Write;
use super::error::{SqlError, SqlResult};
use super::fault::{Fault, ServerError};
use super::output::Output;
use super::sql::parser;
use super::sql::tree::{Expr, Isolation, Line, Name, Select, Statement};
use super::types::SqlType as T;
use super::wire::response::{Heading, command};

/// Why a batch does not go on.
#[derive(Debug)]
pub enum Stop {
    Error(SqlError),
    Broken(io::Error),
    /// By the client's attention.
    Cancelled,
    /// By a fault: the response ends as it is.
    Ended,
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Self::Error(error)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Error(error.into())
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// The faults that a request has run into and that its rows meet.
#[derive(Debug, Default)]
pub struct Struck {
    error_after: Option<(u64, ServerError)>,
    end_after: Option<u64>,
    pub end_without_done: bool,
    more_rows: i64,
    lost_row: Option<u64>,
    sent: u64,
}

impl Struck {
    pub fn add(&mut self, fault: &Fault) {
        match fault {
            Fault::ErrorAfterRows { rows, error } => {
                self.error_after = Some((*rows, error.clone()));
            }
            Fault::EndWithoutDone { after_rows } => {
                self.end_after = *after_rows;
                self.end_without_done = true;
            }
            Fault::WrongRowCount { more } => self.more_rows += more,
            Fault::LoseRow { after_rows } => self.lost_row = Some(*after_rows),
            _ => {}
        }
    }

    /// Before a row is sent, and at the end of the rows.
    fn meet(&mut self) -> Result<(), Stop> {
        if self.end_after.is_some_and(|rows| self.sent >= rows) {
            return Err(Stop::Ended);
        }
        match self.error_after.take_if(|(rows, _)| self.sent >= *rows) {
            Some((_, error)) => Err(Stop::Error(error.into())),
            None => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Transaction {
    /// Takes the row versions.
    writer: u64,
    depth: i64,
    /// What is applied at the commit.
    writes: Vec<(Arc<Database>, Write)>,
    /// Readers that hold their snapshot, by database.
    snapshots: Vec<Rc<Connection>>,
    databases: Vec<i64>,
}

pub struct Session {
    engine: Arc<Engine>,
    pub database: Arc<Database>,
    readers: HashMap<i64, Rc<Connection>>,
    pub id: i64,
    pub user: String,
    pub app_name: String,
    pub host_name: String,
    row_count: i64,
    /// What a fault adds to it in the answers.
    wrong_row_count: i64,
    transaction: Option<Transaction>,
    isolation: Isolation,
    implicit_transactions: bool,
    xact_abort: bool,
    /// The table with `IDENTITY_INSERT`.
    identity_insert: Option<String>,
    /// The table that the next bulk load is for.
    bulk_table: Option<Name>,
    prepared: HashMap<i64, (String, String)>,
    next_handle: i64,
    depth: u32,
}

impl Session {
    pub fn new(engine: &Arc<Engine>, database: Arc<Database>, id: i64) -> Self {
        Self {
            engine: Arc::clone(engine),
            database,
            readers: HashMap::new(),
            id,
            user: "sa".to_owned(),
            app_name: String::new(),
            host_name: String::new(),
            row_count: 0,
            wrong_row_count: 0,
            transaction: None,
            isolation: Isolation::ReadCommitted,
            implicit_transactions: false,
            xact_abort: false,
            identity_insert: None,
            bulk_table: None,
            prepared: HashMap::new(),
            next_handle: 1,
            depth: 0,
        }
    }

    fn reader(&mut self, database: &Database) -> SqlResult<Rc<Connection>> {
        if let Some(found) = self.readers.get(&database.id) {
            return Ok(Rc::clone(found));
        }
        let made = Rc::new(database.reader()?);
        self.readers.insert(database.id, Rc::clone(&made));
        Ok(made)
    }

    fn around<'a>(&'a self, variables: &'a Variables) -> Surroundings<'a> {
        Surroundings {
            engine: &self.engine,
            database: Arc::clone(&self.database),
            variables,
            row_count: self.row_count + self.wrong_row_count,
            transactions: self.transaction.as_ref().map_or(0, |it| it.depth),
            session: self.id,
            user: &self.user,
            app_name: &self.app_name,
            host_name: &self.host_name,
            now: self.engine.now(),
        }
    }

    /// As a new connection (RESETCONNECTION).
    pub fn reset(&mut self, database: Arc<Database>) {
        self.abandon();
        self.database = database;
        self.isolation = Isolation::ReadCommitted;
        self.implicit_transactions = false;
        self.xact_abort = false;
        self.identity_insert = None;
        self.row_count = 0;
    }

    /// Runs a batch; errors go to the output, and it says whether there were any.
    pub fn batch(
        &mut self,
        text: &str,
        variables: &mut Variables,
        out: &mut dyn Output,
        struck: &mut Struck,
    ) -> Result<bool, Stop> {
        self.wrong_row_count = struck.more_rows;
        let lines = match parser::batch(text) {
            Ok(lines) => lines,
            Err(error) => {
                out.error(&error)?;
                out.done(command::OTHER, None, true)?;
                return Ok(false);
            }
        };
        // An error that comes before any row hits a batch without rows, too.
        if !lines.iter().any(|it| {
            matches!(
                it.statement,
                Statement::Select(_) | Statement::Execute { .. }
            )
        }) && let Err(Stop::Error(error)) = struck.meet()
        {
            self.failed(&error, 1, out)?;
            return Ok(false);
        }
        self.lines(&lines, variables, out, struck)
    }

    fn lines(
        &mut self,
        lines: &[Line],
        variables: &mut Variables,
        out: &mut dyn Output,
        struck: &mut Struck,
    ) -> Result<bool, Stop> {
        let mut fine = true;
        for line in lines {
            match self.statement(line, variables, out, struck) {
                Ok(so_far) => fine &= so_far,
                Err(Stop::Error(error)) => {
                    fine = false;
                    let goes_on = error.ends_only_the_statement() && !self.xact_abort;
                    self.failed(&error, line.number, out)?;
                    if !goes_on {
                        return Ok(false);
                    }
                }
                Err(other) => return Err(other),
            }
            if out.cancelled() {
                return Err(Stop::Cancelled);
            }
        }
        Ok(fine)
    }

    fn failed(&mut self, error: &SqlError, line: u32, out: &mut dyn Output) -> Result<(), Stop> {
        let error = if error.line <= 1 {
            error.clone().at(line)
        } else {
            error.clone()
        };
        let ends = error.ends_the_transaction() || (self.xact_abort && error.class > 10);
        out.error(&error)?;
        if ends && self.transaction.is_some() {
            self.rollback(out)?;
        }
        self.row_count = 0;
        out.done(command::OTHER, None, true)?;
        if error.class >= 20 {
            return Err(Stop::Broken(io::Error::other("closed by a fatal error")));
        }
        Ok(())
    }

    fn statement(
        &mut self,
        line: &Line,
        variables: &mut Variables,
        out: &mut dyn Output,
        struck: &mut Struck,
    ) -> Result<bool, Stop> {
        if self.implicit_transactions
            && self.transaction.is_none()
            && matches!(
                line.statement,
                Statement::Select(_)
                    | Statement::Insert { .. }
                    | Statement::Update { .. }
                    | Statement::Delete { .. }
            )
        {
            self.begin(out)?;
        }
        match &line.statement {
            Statement::Select(select) => self.select(select, variables, out, struck)?,
            Statement::Insert { .. } | Statement::Update { .. } | Statement::Delete { .. } => {
                self.write(&line.statement, variables, out)?;
            }
            Statement::InsertBulk(table) => self.bulk_table = Some(table.clone()),
            Statement::Set(setting) => self.set(setting, out)?,
            Statement::Use(name) => self.use_database(name, out)?,
            Statement::Begin => self.begin(out)?,
            Statement::Commit => self.commit(out)?,
            Statement::Rollback => {
                if self.transaction.is_none() {
                    return Err(SqlError::new(
                        3903,
                        "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION.",
                    )
                    .into());
                }
                self.rollback(out)?;
            }
            Statement::If {
                condition,
                then,
                otherwise,
            } => {
                let chosen = if self.condition(condition, variables)? {
                    Some(then)
                } else {
                    otherwise.as_ref()
                };
                if let Some(line) = chosen {
                    return self.statement(line, variables, out, struck);
                }
                return Ok(true);
            }
            Statement::Block(lines) => return self.lines(lines, variables, out, struck),
            Statement::Declare(list) => {
                for (name, ty, value) in list {
                    let value = match value {
                        Some(value) => self.value(value, *ty, variables)?,
                        None => Datum::Null,
                    };
                    variables.insert(name.clone(), Variable { ty: *ty, value });
                }
                return Ok(true);
            }
            Statement::Assign(name, value) => {
                let Some(ty) = variables.get(name).map(|it| it.ty) else {
                    return Err(SqlError::new(
                        137,
                        format!("Must declare the scalar variable \"@{name}\"."),
                    )
                    .into());
                };
                let value = self.value(value, ty, variables)?;
                variables.insert(name.clone(), Variable { ty, value });
                return Ok(true);
            }
            Statement::Execute {
                procedure,
                arguments,
            } => {
                let mut given = Vec::new();
                for argument in arguments {
                    let (ty, value) = self.any_value(&argument.value, variables)?;
                    given.push(Argument {
                        name: argument.name.clone(),
                        ty,
                        value,
                        output: false,
                    });
                }
                return self.procedure(procedure.object(), given, out, struck);
            }
            Statement::Wait(time) => {
                let ticks = super::calendar::parse(time)
                    .ok_or_else(|| {
                        SqlError::new(
                            148,
                            format!(
                                "Incorrect time syntax in time string '{time}' used with WAITFOR."
                            ),
                        )
                    })?
                    .ticks
                    .rem_euclid(super::calendar::TICKS_PER_DAY);
                out.wait(std::time::Duration::from_nanos(ticks as u64 * 100))?;
            }
            Statement::Print(text) => {
                let text = self.value(text, T::NVarChar(Some(4000)), variables)?;
                if let Datum::Text(text) = text {
                    out.info(0, &text)?;
                }
            }
            Statement::Throw(number, text, state) => {
                let number = self.value(number, T::Int, variables)?;
                let (text, state) = (
                    self.value(text, T::NVarChar(Some(2048)), variables)?,
                    self.value(state, T::TinyInt, variables)?,
                );
                return Err(raised(&number, &text, 16, &state).into());
            }
            Statement::RaiseError(text, class, state) => {
                let text = self.value(text, T::NVarChar(Some(2048)), variables)?;
                let class = match self.value(class, T::Int, variables)? {
                    Datum::Int(class) => class.clamp(0, 18) as u8,
                    _ => 16,
                };
                let state = self.value(state, T::TinyInt, variables)?;
                let error = raised(&Datum::Int(50_000), &text, class, &state);
                if class > 10 {
                    return Err(error.into());
                }
                out.info(50_000, &error.message)?;
            }
            Statement::Kill => return Err(SqlError::unknown("KILL").into()),
            definition => self.define(definition, variables)?,
        }
        if !matches!(
            line.statement,
            Statement::Select(_)
                | Statement::Insert { .. }
                | Statement::Update { .. }
                | Statement::Delete { .. }
        ) {
            self.row_count = 0;
            out.done(command::OTHER, None, false)?;
        }
        Ok(true)
    }

    /// Checks that the tables may be read now, and takes the transaction's snapshot.
    fn access(&mut self, database: &Arc<Database>, tables: &[Arc<Table>]) -> SqlResult<()> {
        if tables.is_empty() {
            return Ok(());
        }
        if self.isolation == Isolation::Snapshot && !database.options().allow_snapshot {
            return Err(SqlError::new(
                3952,
                format!(
                    "Snapshot isolation transaction failed accessing database '{0}' because snapshot isolation is not allowed in this database. Use ALTER DATABASE to allow snapshot isolation.",
                    database.name
                ),
            ));
        }
        let keeps = matches!(
            self.isolation,
            Isolation::Snapshot | Isolation::RepeatableRead | Isolation::Serializable
        );
        let reader = self.reader(database)?;
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        for table in tables {
            if transaction
                .writes
                .iter()
                .any(|(_, it)| it.table().id == table.id)
            {
                return Err(SqlError::unknown(format!(
                    "how to read {} in the transaction that has written to it",
                    table.full_name()
                )));
            }
        }
        if keeps && !transaction.databases.contains(&database.id) {
            reader.execute_batch("BEGIN DEFERRED")?;
            transaction.databases.push(database.id);
            transaction.snapshots.push(reader);
        }
        Ok(())
    }

    fn database_of(&self, query: &Query) -> Arc<Database> {
        query
            .tables
            .first()
            .map_or_else(|| Arc::clone(&self.database), |it| Arc::clone(&it.0))
    }

    fn select(
        &mut self,
        select: &Select,
        variables: &Variables,
        out: &mut dyn Output,
        struck: &mut Struck,
    ) -> Result<(), Stop> {
        let query = query::bind(select, &self.around(variables))?;
        if let Some(many) = self.engine.synthesised(&query.tables) {
            return self.select_synthesised(select, &many, variables, out, struck);
        }
        let database = self.database_of(&query);
        let tables: Vec<_> = query.tables.iter().map(|it| Arc::clone(&it.1)).collect();
        self.access(&database, &tables)?;
        let reader = self.reader(&database)?;
        let mut statement = reader.prepare_cached(&query.sql)?;
        let mut rows = statement.query(params_from_iter(&query.binds))?;
        out.headings(&headings(&query))?;
        if !query.order.is_empty() {
            out.order(&query.order)?;
        }
        let mut count = 0;
        while let Some(row) = rows.next()? {
            struck.meet()?;
            if struck.lost_row != Some(struck.sent) {
                out.row(&|at| row.get_ref(at).unwrap_or(rusqlite::types::ValueRef::Null))?;
            }
            count += 1;
            struck.sent += 1;
            if out.cancelled() {
                return Err(Stop::Cancelled);
            }
        }
        struck.meet()?;
        self.row_count = count;
        out.done(command::SELECT, Some(count as u64), false)?;
        Ok(())
    }

    fn condition(&mut self, condition: &Expr, variables: &Variables) -> SqlResult<bool> {
        let (sql, binds, tables) = {
            let around = self.around(variables);
            let mut binder = Binder::new(&around);
            let sql = binder.filter(condition)?;
            (sql, binder.binds, binder.tables)
        };
        let database = tables
            .first()
            .map_or_else(|| Arc::clone(&self.database), |it| Arc::clone(&it.0));
        let tables: Vec<_> = tables.into_iter().map(|it| it.1).collect();
        self.access(&database, &tables)?;
        let reader = self.reader(&database)?;
        let found: Option<bool> =
            reader.query_row(&format!("SELECT {sql}"), params_from_iter(&binds), |row| {
                row.get(0)
            })?;
        Ok(found.unwrap_or(false))
    }

    fn any_value(&mut self, expr: &Expr, variables: &Variables) -> SqlResult<(T, Datum)> {
        let (bound, binds) = {
            let around = self.around(variables);
            let mut binder = Binder::new(&around);
            let bound = binder.scalar(expr)?;
            (bound, binder.binds)
        };
        if let Some(constant) = bound.constant {
            return Ok((bound.typed.ty, constant));
        }
        let database = Arc::clone(&self.database);
        let reader = self.reader(&database)?;
        let value = reader.query_row(
            &format!("SELECT {}", bound.sql),
            params_from_iter(&binds),
            |row| Ok(Datum::of(row.get_ref(0)?)),
        )?;
        Ok((bound.typed.ty, value))
    }

    fn value(&mut self, expr: &Expr, to: T, variables: &Variables) -> SqlResult<Datum> {
        let (from, value) = self.any_value(expr, variables)?;
        convert(
            &value,
            from,
            to,
            How {
                style: 0,
                assign: false,
                collation: self.database.collation,
            },
        )
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abandon();
    }
}

/// An argument of a procedure.
#[derive(Debug, Clone)]
pub struct Argument {
    pub name: Option<String>,
    pub ty: T,
    pub value: Datum,
    pub output: bool,
}

fn raised(number: &Datum, text: &Datum, class: u8, state: &Datum) -> SqlError {
    let number = if let Datum::Int(it) = number {
        *it as i32
    } else {
        50_000
    };
    let message = if let Datum::Text(it) = text {
        it.clone()
    } else {
        String::new()
    };
    let state = if let Datum::Int(it) = state {
        *it as u8
    } else {
        1
    };
    SqlError {
        state,
        class,
        ..SqlError::new(number, message)
    }
}

fn headings(query: &Query) -> Vec<Heading> {
    let heading = |column: &query::OutColumn| Heading {
        name: column.name.clone(),
        typed: column.typed,
        identity: column.identity,
        updatable: column.origin.is_some() && !column.identity && column.typed.ty != T::RowVersion,
        table: column.origin.as_ref().map(|it| it.table.name.clone()),
    };
    query.columns.iter().map(heading).collect()
}
