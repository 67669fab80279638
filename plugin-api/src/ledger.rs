//! The input ledger of a transformer: every row that went in is accounted for, once.
//!
//! The host and the test kit hold a transformer to it. What a broken ledger leads to is theirs to say.

use arrow_schema::Schema;

use crate::manifest::Cardinality;
use crate::pipeline::{Origin, TableSchema, Transformed};

/// What a transformer did that it must not do.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Rows are for a table that was not announced.
    Table(String),
    /// Rows are missing or have several fates.
    Rows(String),
    /// Columns are others than those announced.
    Columns(String),
}

/// Checks what became of a batch of so many rows, and counts the rows that output was made of; with
/// [`Cardinality::Aggregate`] nobody can say, and it is 0.
///
/// # Errors
///
/// The first thing that is wrong, in words that follow a colon.
#[doc(hidden)]
pub fn check(
    transformed: &Transformed,
    rows: usize,
    tables: &[TableSchema],
    cardinality: Cardinality,
) -> Result<u64, Breach> {
    for output in &transformed.outputs {
        let table = usize::try_from(output.table).ok();
        let Some(table) = table.and_then(|index| tables.get(index)) else {
            return Err(Breach::Table(format!(
                "the transformer wrote to table number {}, but opened {}",
                output.table,
                tables.len()
            )));
        };
        if let Some(difference) = difference(&table.schema, output.batch.schema_ref()) {
            return Err(Breach::Columns(difference));
        }
    }
    if cardinality == Cardinality::Aggregate {
        return Ok(0);
    }
    check_origins(transformed, rows, cardinality).map_err(Breach::Rows)
}

/// How the columns of a batch differ from those that were announced, in names, order or types.
#[doc(hidden)]
pub fn difference(announced: &Schema, found: &Schema) -> Option<String> {
    let (expected, found) = (announced.fields(), found.fields());
    let other = expected
        .iter()
        .zip(found)
        .position(|(a, b)| a.name() != b.name() || a.data_type() != b.data_type());
    if other.is_none() && expected.len() == found.len() {
        return None;
    }
    let place = other.unwrap_or_else(|| expected.len().min(found.len()));
    let column = |fields: &arrow_schema::Fields| match fields.get(place) {
        Some(field) => format!("`{}` {}", field.name(), field.data_type()),
        None => "none".to_owned(),
    };
    Some(format!(
        "column {} is {}, expected {}",
        place + 1,
        column(found),
        column(expected)
    ))
}

/// What became of an input row.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Unknown,
    Output,
    Aside,
}

/// Checks that every input row is the origin of output, filtered, or rejected, and counts the first kind.
fn check_origins(
    transformed: &Transformed,
    rows: usize,
    cardinality: Cardinality,
) -> Result<u64, String> {
    // The common case needs no table of rows.
    if let [output] = transformed.outputs.as_slice()
        && output.origin == Origin::SameRows
        && transformed.filtered.is_empty()
        && transformed.rejected.is_empty()
        && output.batch.num_rows() == rows
    {
        return Ok(rows as u64);
    }
    let mut fate = vec![Fate::Unknown; rows];
    let mut counted = 0u64;
    for output in &transformed.outputs {
        let mut mark = |row: usize| -> Option<()> {
            let slot = fate.get_mut(row)?;
            if *slot == Fate::Unknown {
                *slot = Fate::Output;
                counted += 1;
            }
            Some(())
        };
        match &output.origin {
            Origin::SameRows if output.batch.num_rows() == rows => (0..rows).for_each(|row| {
                mark(row);
            }),
            Origin::SameRows => {
                return Err(format!(
                    "{} output rows of {rows} are said to be the same rows",
                    output.batch.num_rows()
                ));
            }
            Origin::Rows(origins) => {
                if origins.len() != output.batch.num_rows() {
                    return Err(format!(
                        "{} origins for {} output rows",
                        origins.len(),
                        output.batch.num_rows()
                    ));
                }
                for row in origins {
                    if mark(*row as usize).is_none() {
                        return Err(format!("row {row} of {rows} is named as an origin"));
                    }
                }
            }
            Origin::Aggregated => {
                return Err("it aggregates, but its manifest does not say so".to_owned());
            }
        }
    }
    let made: usize = transformed
        .outputs
        .iter()
        .map(|output| output.batch.num_rows())
        .sum();
    if cardinality != Cardinality::Expand && made as u64 > counted {
        return Err(format!(
            "{made} rows are made of {counted}, but its manifest does not say that it expands"
        ));
    }
    let aside = transformed
        .filtered
        .iter()
        .chain(transformed.rejected.iter().map(|rejection| &rejection.row));
    for row in aside {
        match fate.get_mut(*row as usize) {
            Some(slot) if *slot == Fate::Unknown => *slot = Fate::Aside,
            Some(_) => return Err(format!("row {row} is set aside, but has another fate too")),
            None => return Err(format!("row {row} of {rows} is set aside")),
        }
    }
    if let Some(lost) = fate.iter().position(|fate| *fate == Fate::Unknown) {
        let count = fate.iter().filter(|fate| **fate == Fate::Unknown).count();
        return Err(format!(
            "{count} of {rows} rows are missing, the first is row {lost}"
        ));
    }
    if cardinality == Cardinality::OnePerRow && !transformed.filtered.is_empty() {
        return Err("it filters rows, but its manifest says one per row".to_owned());
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use arrow_schema::{DataType, Field};

    use super::*;
    use crate::pipeline::{Output, Rejection};

    fn batch(rows: i64) -> RecordBatch {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        RecordBatch::try_from_iter([("v", values)]).unwrap()
    }

    fn output(rows: i64, origin: Origin) -> Output {
        Output {
            table: 0,
            batch: batch(rows),
            origin,
        }
    }

    fn rejection(row: u32) -> Rejection {
        Rejection {
            row,
            column: None,
            reason: "bad".to_owned(),
        }
    }

    #[test]
    fn every_row_needs_exactly_one_fate() {
        let check = |outputs: Vec<Output>, filtered: Vec<u32>, rejected: Vec<u32>| {
            let transformed = Transformed {
                outputs,
                filtered,
                rejected: rejected.into_iter().map(rejection).collect(),
            };
            check_origins(&transformed, 3, Cardinality::Expand)
        };
        assert_eq!(
            check(vec![output(3, Origin::SameRows)], vec![], vec![]),
            Ok(3)
        );
        assert_eq!(
            check(vec![output(1, Origin::Rows(vec![1]))], vec![0], vec![2]),
            Ok(1)
        );
        assert_eq!(
            check(
                vec![output(4, Origin::Rows(vec![0, 0, 1, 2]))],
                vec![],
                vec![]
            ),
            Ok(3)
        );
        assert!(
            check(vec![output(2, Origin::Rows(vec![0, 1]))], vec![], vec![])
                .unwrap_err()
                .contains("row 2")
        );
        assert!(
            check(vec![output(3, Origin::SameRows)], vec![1], vec![])
                .unwrap_err()
                .contains("another fate")
        );
        assert!(check(vec![output(2, Origin::SameRows)], vec![], vec![]).is_err());
        assert!(check(vec![output(1, Origin::Rows(vec![7]))], vec![], vec![]).is_err());
        assert!(check(vec![], vec![0, 1, 9], vec![]).is_err());
        assert!(check(vec![output(1, Origin::Aggregated)], vec![], vec![]).is_err());
    }

    #[test]
    fn a_manifest_that_says_one_per_row_is_held_to_it() {
        let transformed = Transformed {
            outputs: vec![output(1, Origin::Rows(vec![0]))],
            filtered: vec![1],
            rejected: vec![],
        };
        assert!(check_origins(&transformed, 2, Cardinality::OnePerRow).is_err());
        assert!(check_origins(&transformed, 2, Cardinality::Filter).is_ok());
    }

    #[test]
    fn other_columns_than_announced_are_named() {
        let schema = |columns: &[(&str, DataType)]| {
            let fields = columns
                .iter()
                .map(|(name, kind)| Field::new(*name, kind.clone(), true));
            Schema::new(fields.collect::<Vec<_>>())
        };
        let announced = schema(&[("id", DataType::Int64), ("name", DataType::Utf8)]);
        let found = |columns: &[(&str, DataType)]| difference(&announced, &schema(columns));
        assert_eq!(
            found(&[("id", DataType::Int64), ("name", DataType::Utf8)]),
            None
        );
        assert_eq!(
            found(&[("id", DataType::Int64), ("name", DataType::LargeUtf8)]).as_deref(),
            Some("column 2 is `name` LargeUtf8, expected `name` Utf8")
        );
        assert_eq!(
            found(&[("id", DataType::Int64)]).as_deref(),
            Some("column 2 is none, expected `name` Utf8")
        );
    }
}
