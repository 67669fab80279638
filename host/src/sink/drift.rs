//! Schema drift: what a partition writes now, compared with what it has written before.
//!
//! A table shows what it lacks; it does not show that a source has stopped giving a column, or gives a wider one. For
//! that each checkpoint remembers the columns. What a table lacks is [`ddl`](super::ddl)'s business.

use std::sync::Arc;

use arrow_schema::{DataType, Field, TimeUnit};

use super::TableSpec;
use crate::checkpoint::{WrittenColumn, WrittenTable};
use crate::config::SchemaChange;
use crate::error::{Error, Result};

/// What a connector knows of its table.
pub trait TableView {
    /// Whether two names mean the same column.
    fn same(&self, a: &str, b: &str) -> bool;
    /// Whether the table has the column.
    fn has(&self, column: &str) -> bool;
    /// What keeps the table's column from holding every value of the field, if anything does.
    fn shortfall(&self, field: &Field) -> Option<Shortfall>;
}

/// A column that may be too narrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Its type.
    pub has: String,
    /// The statement that widens it.
    pub change: String,
    /// That statement leaves the rows as they are.
    pub in_place: bool,
}

/// The tables of a run: the first partition that opens them decides which columns all others must have.
#[derive(Debug)]
pub struct SharedTables<T> {
    first: Option<(String, Vec<TableSpec>)>,
    tables: Arc<Vec<T>>,
}

impl<T> Default for SharedTables<T> {
    fn default() -> Self {
        Self {
            first: None,
            tables: Arc::default(),
        }
    }
}

impl<T> SharedTables<T> {
    /// Fails unless the partition gives the columns of the first one. That one may give others in its next attempt.
    pub fn require_alike(&self, partition: &str, specs: &[TableSpec]) -> Result<()> {
        match &self.first {
            Some((first, expected)) if first != partition && expected != specs => {
                Err(unlike(first, expected, partition, specs))
            }
            _ => Ok(()),
        }
    }

    /// Keeps the tables as a partition has found them.
    pub fn keep(&mut self, partition: &str, specs: &[TableSpec], tables: Arc<Vec<T>>) {
        self.tables = tables;
        let first = self.first.as_ref().map(|(first, _)| first.as_str());
        if first.is_none_or(|first| first == partition) {
            self.first = Some((partition.to_owned(), specs.to_vec()));
        }
    }

    /// The tables; empty before the first partition has opened them.
    pub fn tables(&self) -> Arc<Vec<T>> {
        self.tables.clone()
    }
}

/// Compares one table's columns with those of the last commit. Gives what is to be logged.
pub fn check(
    partition: &str,
    spec: &TableSpec,
    before: &[WrittenTable],
    table: &impl TableView,
) -> Result<Vec<String>> {
    let name = spec.name.to_string();
    let Some(before) = before.iter().find(|before| before.table == name) else {
        return Ok(Vec::new());
    };
    let strict = spec.on_schema_change == SchemaChange::Strict;
    let (mut problems, mut fixes, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    for WrittenColumn {
        name: column,
        data_type: was,
    } in &before.columns
    {
        let mut fields = spec.schema.fields().iter();
        let Some(field) = fields.find(|field| table.same(field.name(), column)) else {
            // Gone from the table too: nobody misses it.
            if table.has(column) {
                let gone = format!(
                    "partition {partition} does not give column `{column}` of {name} any more, which it has written before"
                );
                if strict {
                    problems.push(gone);
                    fixes.push(format!(
                        "give it in `source.query` (`… AS {column}`) if it was renamed"
                    ));
                } else {
                    warnings.push(format!("{gone}: new rows hold NULL there, or its default"));
                }
            }
            continue;
        };
        if !table.has(field.name()) {
            warnings.push(format!(
                "column `{column}` of partition {partition} is left out: the table {name} does not have it any more"
            ));
            continue;
        }
        let is = type_words(field.data_type());
        let Some(short) = table.shortfall(field).filter(|_| is != *was) else {
            continue;
        };
        let narrow = format!(
            "column `{column}` of partition {partition} was {was} and is {is} now, which {} in {name} may be too narrow for",
            short.has
        );
        match spec.on_schema_change {
            SchemaChange::Ignore => {
                warnings.push(format!("{narrow}: rows that do not fit are refused"));
            }
            // The server did not let it be widened, and has said why.
            SchemaChange::Evolve if short.in_place => {}
            SchemaChange::Strict | SchemaChange::Evolve => {
                problems.push(narrow);
                fixes.push(if short.in_place {
                    format!("run {}", short.change)
                } else {
                    format!("run {} (it rewrites the table)", short.change)
                });
            }
        }
    }
    if problems.is_empty() {
        return Ok(warnings);
    }
    fixes.push(
        "if the change is meant, drop the column from the table, accept it with `etl-host checkpoint set <pipeline> \
         --partition <name> --accept-fingerprint`, or set `error_handling.on_schema_change`"
            .to_owned(),
    );
    Err(Error::data(problems.join("; ")).hint(fixes.join("; ")))
}

/// Tables with the numbers of the columns that are written, as a checkpoint remembers them.
pub fn written<'a>(tables: impl Iterator<Item = (&'a TableSpec, Vec<usize>)>) -> Vec<WrittenTable> {
    let columns = |spec: &TableSpec, indices: Vec<usize>| {
        let fields = spec.schema.fields();
        indices
            .into_iter()
            .filter_map(|index| fields.get(index))
            .map(|field| WrittenColumn {
                name: field.name().clone(),
                data_type: type_words(field.data_type()),
            })
            .collect()
    };
    tables
        .map(|(spec, indices)| WrittenTable {
            table: spec.name.to_string(),
            columns: columns(spec, indices),
        })
        .collect()
}

/// The error of a partition whose columns are not those of the one before it.
fn unlike(first: &str, expected: &[TableSpec], partition: &str, found: &[TableSpec]) -> Error {
    let differences: Vec<String> = expected
        .iter()
        .zip(found)
        .flat_map(|(expected, found)| differences(first, expected, partition, found))
        .collect();
    let what = if differences.is_empty() {
        format!("partition {partition} does not write the tables that partition {first} writes")
    } else {
        differences.join("; ")
    };
    Error::data(format!(
        "the partitions do not give the same columns: {what}"
    ))
    .hint("make the shards' tables alike, or name and cast the columns in the query")
}

fn differences(
    first: &str,
    expected: &TableSpec,
    partition: &str,
    found: &TableSpec,
) -> Vec<String> {
    let table = &expected.name;
    let (before, now) = (&expected.schema, &found.schema);
    let mut told = Vec::new();
    for field in before.fields() {
        let name = field.name();
        match now.field_with_name(name) {
            Err(_) => told.push(format!(
                "partition {partition} does not give column `{name}` of {table}, which partition {first} gives"
            )),
            Ok(other) if other.data_type() != field.data_type() => told.push(format!(
                "partition {partition} gives column `{name}` of {table} as {}, partition {first} as {}",
                type_words(other.data_type()),
                type_words(field.data_type())
            )),
            Ok(_) => {}
        }
    }
    for field in now.fields() {
        if before.field_with_name(field.name()).is_err() {
            told.push(format!(
                "partition {partition} gives column `{}` of {table}, which partition {first} does not give",
                field.name()
            ));
        }
    }
    if told.is_empty() && expected != found {
        told.push(format!(
            "partition {partition} gives the columns of {table} in another order than partition {first}"
        ));
    }
    told
}

/// A type as people and checkpoints call it; it does not change with a library's version.
pub fn type_words(arrow: &DataType) -> String {
    let words = match arrow {
        DataType::Boolean => "boolean",
        DataType::Int8 => "8-bit integer",
        DataType::Int16 => "16-bit integer",
        DataType::Int32 => "32-bit integer",
        DataType::Int64 => "64-bit integer",
        DataType::UInt8 => "unsigned 8-bit integer",
        DataType::UInt16 => "unsigned 16-bit integer",
        DataType::UInt32 => "unsigned 32-bit integer",
        DataType::UInt64 => "unsigned 64-bit integer",
        DataType::Float32 => "32-bit floating point",
        DataType::Float64 => "64-bit floating point",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Dictionary(_, value) => return type_words(value),
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "bytes",
        DataType::Date32 => "date",
        DataType::Decimal128(precision, scale) => return format!("decimal({precision},{scale})"),
        DataType::Time64(unit) => return format!("time of day in {}", unit_words(*unit)),
        DataType::Timestamp(unit, None) => return format!("timestamp in {}", unit_words(*unit)),
        DataType::Timestamp(unit, Some(_)) => {
            return format!("timestamp in {} with zone", unit_words(*unit));
        }
        other => return other.to_string(),
    };
    words.to_owned()
}

fn unit_words(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "seconds",
        TimeUnit::Millisecond => "milliseconds",
        TimeUnit::Microsecond => "microseconds",
        TimeUnit::Nanosecond => "nanoseconds",
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::Schema;

    use super::*;
    use crate::config::{TableName, WriteMode};
    use crate::sink::Keep;

    struct View(Vec<&'static str>, Option<bool>);

    impl TableView for View {
        fn same(&self, a: &str, b: &str) -> bool {
            a == b
        }
        fn has(&self, column: &str) -> bool {
            self.0.contains(&column)
        }
        fn shortfall(&self, _: &Field) -> Option<Shortfall> {
            self.1.map(|in_place| Shortfall {
                has: "integer".to_owned(),
                change: "ALTER it".to_owned(),
                in_place,
            })
        }
    }

    fn spec(policy: SchemaChange, columns: &[(&str, DataType)]) -> TableSpec {
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, data_type)| Field::new(*name, data_type.clone(), true))
            .collect();
        TableSpec {
            name: TableName {
                schema: None,
                name: "t".to_owned(),
            },
            schema: Arc::new(Schema::new(fields)),
            mode: WriteMode::Append,
            keep: Keep::Last,
            on_schema_change: policy,
        }
    }

    fn before(columns: &[(&str, DataType)]) -> Vec<WrittenTable> {
        let spec = spec(SchemaChange::Strict, columns);
        written([(&spec, (0..columns.len()).collect())].into_iter())
    }

    const POLICIES: [SchemaChange; 3] = [
        SchemaChange::Strict,
        SchemaChange::Evolve,
        SchemaChange::Ignore,
    ];

    #[test]
    fn a_column_that_is_not_given_any_more_fails_under_strict_and_is_told_otherwise() {
        let was = before(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
        for policy in POLICIES {
            let now = spec(policy, &[("a", DataType::Int64)]);
            let checked = check("eu", &now, &was, &View(vec!["a", "b"], None));
            if policy == SchemaChange::Strict {
                let error = checked.unwrap_err();
                assert_eq!(
                    error.to_string(),
                    "partition eu does not give column `b` of t any more, which it has written before"
                );
                assert!(error.own_hint().unwrap().contains("AS b"));
            } else {
                assert!(checked.unwrap()[0].contains("hold NULL"));
            }
            // Gone from the table as well, or never written by this partition.
            for (was, view) in [
                (&was, View(vec!["a"], None)),
                (&Vec::new(), View(vec!["a", "b"], None)),
            ] {
                assert_eq!(check("eu", &now, was, &view).unwrap(), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn a_type_that_has_changed_matters_where_the_table_s_is_too_narrow() {
        let was = before(&[("a", DataType::Int32)]);
        for policy in POLICIES {
            let now = spec(policy, &[("a", DataType::Int64)]);
            assert!(
                check("eu", &now, &was, &View(vec!["a"], None))
                    .unwrap()
                    .is_empty()
            );
            let narrow = check("eu", &now, &was, &View(vec!["a"], Some(false)));
            if policy == SchemaChange::Ignore {
                assert!(narrow.unwrap()[0].contains("refused"));
            } else {
                let error = narrow.unwrap_err();
                assert_eq!(
                    error.to_string(),
                    "column `a` of partition eu was 32-bit integer and is 64-bit integer now, which integer in t may be too narrow for"
                );
                let hint = error.own_hint().unwrap();
                assert!(
                    hint.starts_with("run ALTER it (it rewrites the table)"),
                    "{hint}"
                );
            }
            let same = spec(policy, &[("a", DataType::Int32)]);
            assert!(
                check("eu", &same, &was, &View(vec!["a"], Some(false)))
                    .unwrap()
                    .is_empty()
            );
        }
    }

    #[test]
    fn partitions_that_differ_are_told_apart_by_name() {
        let strict = SchemaChange::Strict;
        let first = spec(strict, &[("a", DataType::Int32), ("b", DataType::Utf8)]);
        let say = |columns: &[(&str, DataType)]| {
            unlike(
                "eu",
                std::slice::from_ref(&first),
                "us",
                &[spec(strict, columns)],
            )
            .to_string()
        };
        let text = say(&[("a", DataType::Int64), ("c", DataType::Utf8)]);
        for part in [
            "partition us gives column `a` of t as 64-bit integer, partition eu as 32-bit integer",
            "partition us does not give column `b` of t, which partition eu gives",
            "partition us gives column `c` of t, which partition eu does not give",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let text = say(&[("b", DataType::Utf8), ("a", DataType::Int32)]);
        assert!(text.contains("in another order"), "{text}");
    }
}
