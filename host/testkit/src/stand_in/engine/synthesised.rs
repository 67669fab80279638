//! Tables with more rows than are kept: those that are kept come again and again, each time with a later time and the
//! next number. For benchmarks, which want more rows than fit anywhere, faster than they can be read from a file.

use std::ops::Range;

use crate::stand_in::error::{SqlError, SqlResult};
use crate::stand_in::sql::tree::Expr;

/// How the rows of such a table come about.
#[derive(Debug, Clone)]
pub struct Synthesised {
    pub database: i64,
    pub table: i64,
    pub rows: u64,
    /// The column that grows from row to row, in ticks.
    pub time: (i64, String),
    pub first: i64,
    pub step: i64,
}

/// A column whose values are made.
#[derive(Debug, Clone, Copy)]
pub enum Made {
    Time,
    Number,
}

/// A bound of the time: rows from this tick, rows before that one.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    from: i64,
    before: i64,
}

impl Bound {
    pub const NOTHING: Self = Self { from: 0, before: 0 };

    pub fn new(operator: &str, ticks: i64) -> SqlResult<Self> {
        let (from, before) = match operator {
            ">" => (ticks + 1, i64::MAX),
            ">=" => (ticks, i64::MAX),
            "<" => (0, ticks),
            "<=" => (0, ticks + 1),
            "=" => (ticks, ticks + 1),
            _ => return Err(SqlError::unknown("this comparison on a synthesised table")),
        };
        Ok(Self { from, before })
    }
}

impl Synthesised {
    pub fn is_time(&self, column: &Expr) -> bool {
        matches!(column, Expr::Column(path) if path.last().is_some_and(|name| name.eq_ignore_ascii_case(&self.time.1)))
    }

    pub fn made(&self, column: i64, identity: bool) -> Option<Made> {
        match () {
            () if column == self.time.0 => Some(Made::Time),
            () if identity => Some(Made::Number),
            () => None,
        }
    }

    /// The value of a made column in a row, counted from 0.
    pub fn value(&self, made: Made, row: u64) -> i64 {
        match made {
            Made::Time => self.first + row as i64 * self.step,
            Made::Number => row as i64 + 1,
        }
    }

    /// The rows within all of these bounds.
    pub fn rows_within(&self, bounds: &[Bound]) -> Range<u64> {
        // How many rows come before a tick.
        let before = |ticks: i64| {
            let steps = ticks.saturating_sub(self.first).max(0) as u64;
            steps.div_ceil(self.step.max(1) as u64).min(self.rows)
        };
        let start = bounds.iter().map(|it| before(it.from)).max().unwrap_or(0);
        let end = bounds.iter().map(|it| before(it.before)).min();
        let end = end.unwrap_or(self.rows);
        start..end.max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_rows() {
        let many = Synthesised {
            database: 1,
            table: 1,
            rows: 100,
            time: (1, "at".into()),
            first: 1_000,
            step: 10,
        };
        let rows = |bounds: &[(&str, i64)]| {
            let bounds = bounds
                .iter()
                .map(|(operator, ticks)| Bound::new(operator, *ticks).unwrap());
            many.rows_within(&bounds.collect::<Vec<_>>())
        };
        assert_eq!(rows(&[]), 0..100);
        assert_eq!(rows(&[(">", 0), ("<=", i64::MAX - 1)]), 0..100);
        assert_eq!(rows(&[(">", 1_000), ("<=", 1_020)]), 1..3);
        assert_eq!(rows(&[(">=", 1_000), ("<", 1_020)]), 0..2);
        assert_eq!(rows(&[(">", 1_005)]), 1..100);
        assert_eq!(rows(&[("=", 1_990)]), 99..100);
        assert_eq!(rows(&[(">", 1_990)]), 100..100);
        assert_eq!(rows(&[(">", 1_500), ("<", 1_100)]).count(), 0);
    }
}
