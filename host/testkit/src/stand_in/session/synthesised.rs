//! SELECT from a table that has more rows than are kept. It knows ranges of the table's time, and no other condition.

use super::{Session, Stop, Struck, T, Variables, headings};
use crate::stand_in::datum::Datum;
use crate::stand_in::engine::query::{self, OutColumn};
use crate::stand_in::engine::synthesised::{Bound, Synthesised};
use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::output::Output;
use crate::stand_in::sql::tree::{Expr, Select};
use crate::stand_in::wire::response::command;
use rusqlite::params_from_iter;

impl Session {
    pub(super) fn select_synthesised(
        &mut self,
        select: &Select,
        many: &Synthesised,
        variables: &Variables,
        out: &mut dyn Output,
        struck: &mut Struck,
    ) -> Result<(), Stop> {
        let known = select.top.is_none()
            && select.offset.is_none()
            && !select.distinct
            && select.from.len() == 1
            && select.union_all.is_empty();
        if !known {
            return Err(SqlError::unknown("this query of a synthesised table").into());
        }
        let mut bounds = Vec::new();
        if let Some(filter) = &select.filter {
            self.bounds(filter, many, variables, &mut bounds)?;
        }
        let kept = Select {
            filter: None,
            order: Vec::new(),
            ..select.clone()
        };
        let order = query::bind(select, &self.around(variables))?.order;
        let query = query::bind(&kept, &self.around(variables))?;
        let database = self.database_of(&query);
        let reader = self.reader(&database)?;
        let mut statement = reader.prepare_cached(&query.sql)?;
        let mut rows = statement.query(params_from_iter(&query.binds))?;
        out.headings(&headings(&query))?;
        if !order.is_empty() {
            out.order(&order)?;
        }
        let mut templates = Vec::new();
        while let Some(row) = rows.next()? {
            let cells = (0..query.columns.len()).map(|at| row.get_ref(at).map(Datum::of));
            templates.push(cells.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        struck.meet()?;
        let made: Vec<_> = query.columns.iter().map(|it| many.makes(it)).collect();
        let rows = many.rows_within(&bounds);
        let count = rows.end.saturating_sub(rows.start);
        out.repeat(&templates, rows, &|column, row| {
            let made = made.get(column).copied().flatten()?;
            Some(many.value(made, row))
        })?;
        if out.cancelled() {
            return Err(Stop::Cancelled);
        }
        self.row_count = count as i64;
        out.done(command::SELECT, Some(count), false)?;
        Ok(())
    }

    /// Takes `time > x AND time <= y` apart.
    fn bounds(
        &mut self,
        filter: &Expr,
        many: &Synthesised,
        variables: &Variables,
        bounds: &mut Vec<Bound>,
    ) -> SqlResult<()> {
        match filter {
            Expr::And(one, other) => {
                self.bounds(one, many, variables, bounds)?;
                self.bounds(other, many, variables, bounds)
            }
            Expr::Compare(operator, column, value) if many.is_time(column) => {
                match self.value(value, T::DateTime2(7), variables)? {
                    Datum::Int(ticks) => bounds.push(Bound::new(operator, ticks)?),
                    // Nothing compares with NULL.
                    _ => bounds.push(Bound::NOTHING),
                }
                Ok(())
            }
            _ => Err(SqlError::unknown("this condition on a synthesised table")),
        }
    }
}

impl Synthesised {
    fn makes(&self, column: &OutColumn) -> Option<crate::stand_in::engine::synthesised::Made> {
        let origin = column.origin.as_ref()?;
        self.made(origin.column, column.identity)
    }
}
