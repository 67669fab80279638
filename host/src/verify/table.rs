//! One table as both sides of a comparison are read: its columns, their forms, and what a row becomes.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::DataType;

use super::form::{Form, Values};
use super::range::Step;
use super::tally::{Checksum, Place, checksum};
use crate::config::{NulCharacters, WriteMode};
use crate::error::Result;
use crate::sink::TableSpec;

/// A column that the output and the table have.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its place in the output.
    pub output: usize,
    /// What the sink makes of its values.
    pub form: Form,
    /// Its values count; otherwise they are only looked at for the row's place.
    pub compared: bool,
}

/// A table of the pipeline.
#[derive(Clone, Debug)]
pub struct ComparedTable {
    /// What the pipeline writes.
    pub spec: TableSpec,
    /// The columns that are read.
    pub columns: Vec<Column>,
    /// The one that holds the partition's name.
    pub partition: Option<usize>,
    /// The cursor's.
    pub axis: Option<usize>,
    /// Those of an upsert's key.
    pub key: Vec<usize>,
    /// Columns of the output that are not compared.
    pub left_out: Vec<String>,
    /// It is there.
    pub exists: bool,
}

/// What a comparison makes of a row.
pub struct RowDigest<'a> {
    /// The partition, where the output names it.
    pub partition: Option<&'a str>,
    /// The value of the cursor's column.
    pub position: Option<i128>,
    /// The checksum of its values.
    pub checksum: Checksum,
    /// The checksum of its key; `None` without a key, and where a part of it is NULL.
    pub key: Option<Checksum>,
}

/// What is wanted of a table.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// Columns whose values do not count.
    pub exclude: &'a [String],
    /// The column with the partition's name, if partitions are told apart.
    pub partition_column: Option<&'a str>,
    /// The cursor's column.
    pub cursor_column: Option<&'a str>,
    /// What its values are cut into.
    pub step: Option<Step>,
}

impl ComparedTable {
    /// Matches the output's columns with those of the table. `same` says whether two names are one to the sink, `form`
    /// gives the form of a column that the table has.
    pub fn new(
        spec: &TableSpec,
        exists: bool,
        wanted: &Wanted<'_>,
        same: impl Fn(&str, &str) -> bool,
        form: impl Fn(usize, &str) -> Option<Form>,
    ) -> Self {
        let key_names: &[String] = match &spec.mode {
            WriteMode::Upsert { key, .. } => key,
            _ => &[],
        };
        let mut left_out = Vec::new();
        let mut columns = Vec::new();
        for (output, field) in spec.schema.fields().iter().enumerate() {
            let name = field.name();
            let Some(form) = form(output, name) else {
                left_out.push(name.clone());
                continue;
            };
            let compared = !wanted.exclude.contains(name);
            if !compared {
                left_out.push(name.clone());
            }
            let is = |other: Option<&str>| other.is_some_and(|other| same(other, name));
            let needed = is(wanted.partition_column)
                || is(wanted.cursor_column)
                || key_names.iter().any(|part| same(part, name));
            if compared || needed {
                columns.push(Column {
                    name: name.clone(),
                    output,
                    form,
                    compared,
                });
            }
        }
        let place = |name: &str| columns.iter().position(|column| same(&column.name, name));
        // A transformer may make something else of the cursor's column.
        let fits = |name: &str| {
            let mut fields = spec.schema.fields().iter();
            let field = fields.find(|field| same(field.name(), name));
            let step = wanted.step;
            step.zip(field)
                .is_some_and(|(step, field)| step.fits(field.data_type()))
        };
        Self {
            partition: wanted.partition_column.and_then(place),
            axis: wanted
                .cursor_column
                .filter(|name| fits(name))
                .and_then(place),
            key: key_names.iter().filter_map(|name| place(name)).collect(),
            spec: spec.clone(),
            columns,
            left_out,
            exists,
        }
    }

    /// The columns of the pipeline's output, in the order of [`Self::columns`].
    pub fn of_output(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        let columns = self.columns.iter();
        columns
            .filter_map(|column| batch.columns().get(column.output).cloned())
            .collect()
    }

    /// The columns of a row that was set aside; `None` if it lacks one of those that are compared now. A sink may have
    /// set it aside as it writes it: without dictionaries, and without the columns that the table does not have.
    pub fn of_row(&self, row: &RecordBatch) -> Option<Vec<ArrayRef>> {
        let columns = self.columns.iter().map(|column| {
            let expected = self.spec.schema.fields().get(column.output)?;
            let (index, found) = row.schema_ref().column_with_name(&column.name)?;
            let alike = plain(found.data_type()) == plain(expected.data_type());
            alike.then(|| row.columns().get(index).cloned())?
        });
        columns.collect()
    }

    /// Makes something of each row. The arrays are those of [`Self::columns`].
    pub fn digest(
        &self,
        arrays: &[ArrayRef],
        rows: usize,
        nuls: NulCharacters,
        mut each: impl FnMut(RowDigest<'_>) -> Result<()>,
    ) -> Result<()> {
        let values = self
            .columns
            .iter()
            .zip(arrays)
            .map(|(column, array)| {
                Values::new(array.as_ref(), column.form, nuls).map_err(|error| {
                    error.while_trying(format!(
                        "table {}, column `{}`",
                        self.spec.name, column.name
                    ))
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let axis = self.axis.and_then(|axis| values.get(axis));
        let partition = self.partition.and_then(|partition| values.get(partition));
        let key: Vec<&Values<'_>> = self
            .key
            .iter()
            .filter_map(|part| values.get(*part))
            .collect();
        let mut bytes = Vec::new();
        for row in 0..rows {
            bytes.clear();
            for part in &key {
                part.append(row, &mut bytes);
            }
            let whole = !key.is_empty() && !key.iter().any(|part| part.is_missing(row));
            let key = whole.then(|| checksum(&bytes));
            bytes.clear();
            for (column, values) in self.columns.iter().zip(&values) {
                if column.compared {
                    values.append(row, &mut bytes);
                }
            }
            each(RowDigest {
                partition: partition.and_then(|partition| partition.text(row)),
                position: axis.and_then(|axis| axis.position(row)),
                checksum: checksum(&bytes),
                key,
            })?;
        }
        Ok(())
    }
}

/// The type of the values, whether or not a dictionary holds them.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => value,
        other => other,
    }
}

/// Which rows are compared, and in which windows.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The windows; `None` where the output does not have the cursor's column.
    pub step: Option<Step>,
    /// Rows at or before are not compared.
    pub from: Option<i128>,
    /// Rows behind are not compared.
    pub to: Option<i128>,
    /// How far each partition is loaded, as far as that is a place.
    pub loaded: Vec<(String, Option<i128>)>,
}

impl Scope {
    /// Whether only a part of the table is compared.
    pub fn is_bounded(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    /// How far a partition is loaded; `None` where nobody knows.
    fn loaded(&self, partition: Option<&str>) -> Option<i128> {
        if let Some(name) = partition {
            let known = self.loaded.iter().find(|(known, _)| known == name);
            return known.and_then(|(_, loaded)| *loaded);
        }
        // Of all together the farthest; one that is not known may be farther.
        let all: Option<Vec<i128>> = self.loaded.iter().map(|(_, loaded)| *loaded).collect();
        all?.into_iter().max()
    }

    /// Where a row is counted; `None` if it is not.
    pub fn place(&self, partition: Option<&str>, position: Option<i128>) -> Option<Place> {
        let (Some(step), Some(position)) = (self.step, position) else {
            return (!self.is_bounded()).then_some(Place::Anywhere);
        };
        let outside = self.from.is_some_and(|from| position <= from)
            || self.to.is_some_and(|to| position > to);
        if outside {
            return None;
        }
        if self
            .loaded(partition)
            .is_some_and(|loaded| position > loaded)
        {
            return Some(Place::Beyond);
        }
        Some(Place::Window(step.window(position)))
    }

    /// Whether the source's side may give a row at this place. One that is before the start by less than the sink's
    /// resolution may be at it now.
    pub fn is_stray(&self, partition: Option<&str>, position: Option<i128>) -> bool {
        position.is_some_and(|position| {
            self.from.is_some_and(|from| position < from)
                || self.to.is_some_and(|to| position > to)
                || self
                    .loaded(partition)
                    .is_some_and(|loaded| position > loaded)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::StringDictionaryBuilder;
    use arrow_array::types::Int32Type;
    use arrow_array::{Int64Array, StringArray};
    use arrow_schema::{Field, Schema};

    use super::*;
    use crate::config::{KeyScope, SchemaChange, TableName};
    use crate::sink::Keep;

    /// A table with an upsert's key, whose column `more` the sink does not have.
    fn keyed() -> ComparedTable {
        let words = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let fields = vec![
            Field::new("id", DataType::Int64, true),
            Field::new("more", DataType::Int64, true),
            Field::new("name", words, true),
        ];
        let spec = TableSpec {
            name: TableName {
                schema: None,
                name: "t".to_owned(),
            },
            schema: Arc::new(Schema::new(fields)),
            mode: WriteMode::Upsert {
                key: vec!["ID".to_owned(), "Name".to_owned()],
                key_scope: KeyScope::Partition,
            },
            keep: Keep::Last,
            on_schema_change: SchemaChange::Ignore,
        };
        let wanted = Wanted {
            cursor_column: Some("Id"),
            step: Some(Step::Number(10)),
            ..Wanted::default()
        };
        ComparedTable::new(
            &spec,
            true,
            &wanted,
            str::eq_ignore_ascii_case,
            |_, name| (name != "more").then_some(Form::Text),
        )
    }

    #[test]
    fn names_that_are_one_to_the_sink_are_one_here() {
        let table = keyed();
        assert_eq!((table.key, table.axis), (vec![0, 1], Some(0)));
    }

    #[test]
    fn a_row_that_was_set_aside_as_it_is_written_is_known() {
        let table = keyed();
        let id: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let mut words = StringDictionaryBuilder::<Int32Type>::new();
        words.append_value("ann");
        let whole: [(&str, ArrayRef); 3] = [
            ("id", id.clone()),
            ("more", id.clone()),
            ("name", Arc::new(words.finish())),
        ];
        let written: [(&str, ArrayRef); 2] = [
            ("id", id.clone()),
            ("name", Arc::new(StringArray::from(vec!["ann"]))),
        ];
        let digest = |row: RecordBatch| {
            let arrays = table.of_row(&row)?;
            let mut found = None;
            let keep = |row: RowDigest<'_>| {
                found = Some((row.checksum, row.key));
                Ok(())
            };
            table.digest(&arrays, 1, NulCharacters::Keep, keep).unwrap();
            found
        };
        let of_whole = digest(RecordBatch::try_from_iter(whole).unwrap());
        assert!(of_whole.is_some());
        assert_eq!(
            digest(RecordBatch::try_from_iter(written).unwrap()),
            of_whole
        );
        for other in [("id", "nom"), ("id", "name")] {
            let other: [(&str, ArrayRef); 2] = [(other.0, id.clone()), (other.1, id.clone())];
            assert_eq!(digest(RecordBatch::try_from_iter(other).unwrap()), None);
        }
    }

    #[test]
    fn rows_are_placed_by_window_bounds_and_checkpoint() {
        let mut scope = Scope {
            step: Some(Step::Number(10)),
            from: None,
            to: None,
            loaded: vec![("eu".to_owned(), Some(25)), ("us".to_owned(), Some(40))],
        };
        assert_eq!(scope.place(Some("eu"), Some(25)), Some(Place::Window(2)));
        assert_eq!(scope.place(Some("eu"), Some(26)), Some(Place::Beyond));
        assert_eq!(scope.place(None, Some(26)), Some(Place::Window(2)));
        assert_eq!(scope.place(None, Some(41)), Some(Place::Beyond));
        assert_eq!(scope.place(Some("asia"), Some(99)), Some(Place::Window(9)));
        assert_eq!(scope.place(None, None), Some(Place::Anywhere));
        scope.from = Some(10);
        scope.to = Some(20);
        assert_eq!(scope.place(Some("eu"), Some(10)), None);
        assert_eq!(scope.place(Some("eu"), Some(20)), Some(Place::Window(1)));
        assert_eq!(scope.place(Some("eu"), Some(21)), None);
        assert_eq!(scope.place(Some("eu"), None), None);
        let stray = [9, 10, 20, 21].map(|position| scope.is_stray(Some("eu"), Some(position)));
        assert_eq!(stray, [true, false, false, true]);
    }
}
