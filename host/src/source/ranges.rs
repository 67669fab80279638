//! A shard that is read as ranges of one column of whole numbers: how a query is restricted to one of them, and where
//! the bounds between them lie. Pure.
//!
//! The first range is open below and takes NULL, the last is open above, so every value belongs to exactly one.

use super::sql;
use crate::config::SourceConnector;
use crate::error::{Error, Result};
use crate::identifier::quote;

/// Points that are counted in one statement.
const POINTS: usize = 64;
/// Statements that look for bounds at most: each reads the column once.
const MOST_LOOKS: u32 = 6;

/// One range of a split shard: which values of the column belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The column, among those that the query returns.
    pub column: String,
    /// Values from here on; `None` for the first range, which has the lowest ones and NULL.
    pub from: Option<i64>,
    /// Values below this; `None` for the last range.
    pub until: Option<i64>,
}

impl Range {
    /// The range of this number, counted from 0, between the bounds.
    pub fn between(column: &str, bounds: &[i64], number: usize) -> Self {
        let below = number.checked_sub(1);
        Self {
            column: column.to_owned(),
            from: below.and_then(|below| bounds.get(below).copied()),
            until: bounds.get(number).copied(),
        }
    }

    /// A range without any value.
    pub fn empty(column: &str) -> Self {
        Self {
            column: column.to_owned(),
            from: Some(0),
            until: Some(0),
        }
    }

    /// What the same statement reads with its bounds as far apart as they can be.
    #[must_use]
    pub fn widest(&self) -> Self {
        Self {
            column: self.column.clone(),
            from: self.from.map(|_| i64::MIN),
            until: self.until.map(|_| i64::MAX),
        }
    }

    /// The parameters that a restricted statement binds, without `@`.
    pub fn parameters(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let from = self.from.map(|from| ("rangeFrom", from));
        from.into_iter()
            .chain(self.until.map(|until| ("rangeUntil", until)))
    }
}

/// A look at the values of a column among all rows of a query, whatever their cursor.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The query.
    pub sql: String,
    /// Its cursor.
    pub cursor: Option<crate::config::Cursor>,
    /// The column.
    pub column: String,
    /// For each of these: how many values lie below it.
    pub below: Vec<i64>,
}

/// What a [`Survey`] finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surveyed {
    /// Rows.
    pub rows: i64,
    /// Rows whose value is not NULL.
    pub values: i64,
    /// The lowest value and the highest; `None` without values.
    pub ends: Option<(i64, i64)>,
    /// How many values lie below each point.
    pub below: Vec<i64>,
}

impl Surveyed {
    /// Reads the one row that [`Dialect::survey`] gives.
    pub fn read(row: &[Option<i64>]) -> Result<Self> {
        let [Some(rows), Some(values), least, most, below @ ..] = row else {
            return Err(Error::data("the source did not count its rows"));
        };
        Ok(Self {
            rows: *rows,
            values: *values,
            ends: least.zip(*most),
            below: below.iter().map(|count| count.unwrap_or(0)).collect(),
        })
    }
}

/// The error where the query does not return the column that a shard is split by.
pub fn no_split_column(column: &str) -> Error {
    Error::config(format!(
        "the query returns no column `{column}`, which the shard is split by"
    ))
    .hint("add the column to the query, or correct `source.split_by`")
}

/// The error where the column that a shard is split by is of a type that has no like steps.
pub fn no_whole_numbers(column: &str, found: &str) -> Error {
    Error::config(format!(
        "`source.split_by` names `{column}`, which is {found}; only whole numbers of at most 64 bits are split, decimals \
         of at most 18 digits without decimal places among them"
    ))
    .hint("name a column of whole numbers, such as a user's or a row's number, and have the query return it")
}

/// What servers write differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQL Server's.
    SqlServer,
    /// `PostgreSQL`'s.
    Postgres,
    /// `SQLite`'s.
    Sqlite,
}

impl From<&SourceConnector> for Dialect {
    fn from(connector: &SourceConnector) -> Self {
        match connector {
            SourceConnector::SqlServer { .. } => Self::SqlServer,
            SourceConnector::Postgres { .. } => Self::Postgres,
            // What is not opened is not split either.
            SourceConnector::Sqlite { .. } | SourceConnector::None => Self::Sqlite,
        }
    }
}

/// The statements of a split shard's partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeStatements {
    /// Of the first range.
    pub first: String,
    /// Of those between.
    pub middle: String,
    /// Of the last range.
    pub last: String,
}

impl RangeStatements {
    /// The statement that reads a range.
    pub fn of(&self, range: &Range) -> &str {
        match (range.from, range.until) {
            (None, _) => &self.first,
            (_, None) => &self.last,
            _ => &self.middle,
        }
    }
}

/// A query taken apart, so that it can stand in another one's FROM.
struct Parts<'a> {
    /// What stands before it all: SQL Server wants WITH there.
    head: &'a str,
    body: &'a str,
    /// What stands behind it all: OPTION.
    tail: &'a str,
}

impl Dialect {
    fn quote(self, name: &str) -> String {
        match self {
            Self::SqlServer => format!("[{}]", name.replace(']', "]]")),
            Self::Postgres | Self::Sqlite => quote(name),
        }
    }

    /// The query, restricted to ranges of a column, in the order of these columns. The error is what stands in the way.
    pub fn restrict(
        self,
        query: &str,
        column: &str,
        order: &[&str],
    ) -> std::result::Result<RangeStatements, String> {
        let parts = self.take_apart(query)?;
        let name = format!("q.{}", self.quote(column));
        let order: Vec<String> = order
            .iter()
            .map(|column| format!("q.{}", self.quote(column)))
            .collect();
        let order = if order.is_empty() {
            String::new()
        } else {
            format!(" ORDER BY {}", order.join(", "))
        };
        let restricted = |condition: &str| parts.around("*", &format!(" WHERE {condition}{order}"));
        Ok(RangeStatements {
            first: restricted(&format!("({name} < @rangeUntil OR {name} IS NULL)")),
            middle: restricted(&format!("{name} >= @rangeFrom AND {name} < @rangeUntil")),
            last: restricted(&format!("{name} >= @rangeFrom")),
        })
    }

    /// The statement of a [`Survey`] over a query: one row of whole numbers.
    pub fn survey(self, query: &str, column: &str, below: &[i64]) -> Result<String> {
        let parts = self.take_apart(query).map_err(Error::config)?;
        let name = format!("q.{}", self.quote(column));
        let count = if self == Self::SqlServer {
            "COUNT_BIG"
        } else {
            "COUNT"
        };
        // What is no number must not be made one, where a column may hold both.
        let whole = |value: String| match self {
            Self::Sqlite => value,
            Self::SqlServer | Self::Postgres => format!("CAST({value} AS bigint)"),
        };
        let mut columns = vec![
            format!("{count}(*) AS c0"),
            format!("{count}({name}) AS c1"),
            format!("{} AS c2", whole(format!("MIN({name})"))),
            format!("{} AS c3", whole(format!("MAX({name})"))),
        ];
        columns.extend(below.iter().enumerate().map(|(index, point)| {
            format!("{count}(CASE WHEN {name} < {point} THEN 1 END) AS b{index}")
        }));
        Ok(parts.around(&columns.join(", "), ""))
    }

    fn take_apart(self, query: &str) -> std::result::Result<Parts<'_>, String> {
        let words = sql::outer_words(query);
        let is = |at: usize, word: &str| {
            words
                .get(at)
                .is_some_and(|(_, found)| found.eq_ignore_ascii_case(word))
        };
        let refused = |what: &str| Err(what.to_owned());
        let mut count = words.len();
        while count > 0 && is(count - 1, ";") {
            count -= 1;
        }
        let end = words.get(count).map_or(query.len(), |(at, _)| *at);
        if !is(0, "select") && !is(0, "with") {
            return refused("it does not begin with SELECT or WITH");
        }
        let Some(select) = (0..count).find(|&at| is(at, "select")) else {
            return refused("it has no SELECT outside of parentheses");
        };
        for at in 0..count {
            if is(at, ";") {
                return refused("it is several statements");
            }
            let joined = ["union", "except", "intersect", "all", "distinct"];
            let before = at.checked_sub(1);
            if is(at, "select")
                && at > select
                && !before.is_some_and(|before| joined.iter().any(|word| is(before, word)))
            {
                return refused("it is several statements");
            }
            if is(at, "into") {
                return refused("it has an INTO");
            }
            let locks = ["xml", "json", "browse", "update", "share", "no", "key"];
            if is(at, "for") && locks.iter().any(|word| is(at + 1, word)) {
                return refused("it ends in FOR …");
            }
        }
        if let Some(word) = sql::row_limit(query) {
            return Err(format!("it cuts its rows with {word}"));
        }
        let hints = self == Self::SqlServer;
        let option = (select..count).find(|&at| hints && is(at, "option") && is(at + 1, "("));
        let option = option
            .and_then(|at| words.get(at))
            .map_or(end, |(at, _)| *at);
        let order = (select..count)
            .rev()
            .find(|&at| is(at, "order") && is(at + 1, "by"));
        let order = order
            .and_then(|at| words.get(at))
            .map_or(option, |(at, _)| *at);
        let select = words.get(select).map_or(0, |(at, _)| *at);
        let start = if self == Self::SqlServer { select } else { 0 };
        let part = |range: std::ops::Range<usize>| query.get(range).unwrap_or_default();
        Ok(Parts {
            head: part(0..start),
            body: part(start..order.min(option)),
            tail: part(option..end),
        })
    }
}

impl Parts<'_> {
    fn around(&self, columns: &str, rest: &str) -> String {
        let Self { head, body, tail } = self;
        // A comment at the end of a part must not swallow what follows.
        format!(
            "{head}SELECT {columns} FROM (\n{}\n) AS q{rest}\n{tail}",
            body.trim_end()
        )
        .trim_end()
        .to_owned()
    }
}

/// Looks for bounds that cut the values into ranges of about the same number of rows, by counting how many lie below
/// some points, and then between those where a bound must be.
#[derive(Clone, Debug)]
pub struct BoundSearch {
    brackets: Vec<Bracket>,
    tolerance: i64,
    looks: u32,
}

/// Where a bound lies: at `low` too few values are below it, at `high` too many.
#[derive(Clone, Copy, Debug)]
struct Bracket {
    wanted: i64,
    low: (i128, i64),
    high: (i128, i64),
}

impl Bracket {
    /// The end that comes closer.
    fn best(&self) -> (i128, i64) {
        if self.wanted - self.low.1 <= self.high.1 - self.wanted {
            self.low
        } else {
            self.high
        }
    }
}

impl BoundSearch {
    /// A search for the bounds of so many ranges; `None` where there is no value to go by.
    pub fn new(ranges: usize, found: &Surveyed) -> Option<Self> {
        let (least, most) = found.ends?;
        let parts = i64::try_from(ranges).ok()?.max(1);
        let share = |number: i64| {
            let wanted = i128::from(found.values) * i128::from(number) / i128::from(parts);
            i64::try_from(wanted).unwrap_or(i64::MAX)
        };
        let brackets = (1..parts).map(|number| Bracket {
            wanted: share(number),
            low: (i128::from(least), 0),
            high: (i128::from(most) + 1, found.values),
        });
        Some(Self {
            brackets: brackets.collect(),
            tolerance: found.values / parts / 10,
            looks: 0,
        })
    }

    /// The points to count next; none when the bounds are good enough.
    pub fn points(&self) -> Vec<i64> {
        if self.looks >= MOST_LOOKS {
            return Vec::new();
        }
        let mut open: Vec<(i128, i128)> = self
            .brackets
            .iter()
            .filter(|bracket| {
                let off = (bracket.best().1 - bracket.wanted).abs();
                off > self.tolerance && bracket.high.0 - bracket.low.0 > 1
            })
            .map(|bracket| (bracket.low.0, bracket.high.0))
            .collect();
        open.dedup();
        let pieces = i128::try_from((POINTS / open.len().max(1)).max(2)).unwrap_or(2);
        let mut points: Vec<i64> = open
            .iter()
            .flat_map(|&(low, high)| {
                (1..pieces).map(move |piece| (low, high, low + (high - low) * piece / pieces))
            })
            .filter(|(low, high, point)| low < point && point < high)
            .filter_map(|(_, _, point)| i64::try_from(point).ok())
            .collect();
        points.sort_unstable();
        points.dedup();
        points
    }

    /// Takes in how many values lie below each point.
    pub fn learn(&mut self, points: &[i64], below: &[i64]) {
        self.looks += 1;
        for bracket in &mut self.brackets {
            for (point, below) in points.iter().zip(below) {
                let (point, below) = (i128::from(*point), *below);
                if below <= bracket.wanted && point > bracket.low.0 && below >= bracket.low.1 {
                    bracket.low = (point, below);
                }
                if below >= bracket.wanted && point < bracket.high.0 && point > bracket.low.0 {
                    bracket.high = (point, below);
                }
            }
        }
    }

    /// The bounds, in ascending order. Two may be the same: the range between them is empty.
    pub fn bounds(&self) -> Vec<i64> {
        let bounds = self.brackets.iter().map(|bracket| {
            let point = bracket.best().0;
            i64::try_from(point).unwrap_or(i64::MAX)
        });
        let mut bounds: Vec<i64> = bounds.collect();
        bounds.sort_unstable();
        bounds
    }
}

#[cfg(test)]
mod tests;
