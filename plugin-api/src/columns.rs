//! Columns by name: those that a transformer needs, those that it adds, and the values of one.
//!
//! What is wrong with a query is said once, when the transformer is opened: all columns that are missing or of another
//! type, each with what was expected, what was found and what to change. Not for what is wrong with a row.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::context::Context;
use crate::error::{Result, StageError};
use crate::pipeline::{TableSchema, Transformed, Transformer};

/// What a column has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// Text of any of Arrow's layouts, for [`texts`]; or nothing but NULL.
    Text,
    /// Exactly this type, for [`values`].
    Type(DataType),
}

impl Expected {
    fn holds(&self, found: &DataType) -> bool {
        match self {
            Self::Text => matches!(
                found,
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null
            ),
            Self::Type(wanted) => wanted == found,
        }
    }

    fn word(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Type(wanted) => wanted.to_string(),
        }
    }
}

/// Whether the input has these columns.
///
/// # Errors
///
/// Of kind `Config`, with everything that is missing or of another type.
///
/// ```
/// use etl_plugin_api::{columns, columns::Expected, prelude::*};
///
/// let input = Schema::new(vec![Field::new("id", DataType::Int32, false)]);
/// let needed = [("id", Expected::Type(DataType::Int64)), ("name", Expected::Text)];
/// assert_eq!(
///     columns::require(&input, &needed).unwrap_err().message(),
///     "the column id is Int32, expected Int64: cast it in source.query; \
///      the column name is missing: add it to source.query, which returns id",
/// );
/// ```
pub fn require(input: &Schema, needed: &[(&str, Expected)]) -> Result<()> {
    let problems: Vec<String> = needed
        .iter()
        .filter_map(|(name, expected)| match input.field_with_name(name) {
            Err(_) => Some(format!(
                "the column {name} is missing: add it to source.query, which returns {}",
                names(input)
            )),
            Ok(field) if expected.holds(field.data_type()) => None,
            Ok(field) => Some(format!(
                "the column {name} is {}, expected {}: cast it in source.query",
                field.data_type(),
                expected.word()
            )),
        })
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(StageError::config(problems.join("; ")))
}

/// The names of columns, for a message.
pub(crate) fn names(schema: &Schema) -> String {
    let names: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    if names.is_empty() {
        "no column".to_owned()
    } else {
        names.join(", ")
    }
}

/// A column's texts, one for each row.
pub type Texts<'a> = Box<dyn Iterator<Item = Option<&'a str>> + 'a>;

/// The texts of a column, NULL as `None`.
///
/// # Errors
///
/// If the batch has no such column, or it is not [`Expected::Text`]: [`require`] it when the transformer is opened.
pub fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<Texts<'a>> {
    let column = column(batch, name)?;
    Ok(match column.data_type() {
        DataType::Utf8 => Box::new(column.as_string::<i32>().iter()),
        DataType::LargeUtf8 => Box::new(column.as_string::<i64>().iter()),
        DataType::Utf8View => Box::new(column.as_string_view().iter()),
        // A column of nothing but NULL.
        DataType::Null => Box::new(std::iter::repeat_n(None, column.len())),
        found => return Err(unexpected(name, found, &Expected::Text)),
    })
}

/// The values of a column that has Arrow's type `T`.
///
/// ```
/// use etl_plugin_api::arrow::array::types::Int64Type;
/// use etl_plugin_api::{columns, prelude::*};
///
/// fn total(batch: &RecordBatch) -> Result<i64> {
///     Ok(columns::values::<Int64Type>(batch, "cents")?.iter().flatten().sum())
/// }
/// ```
///
/// # Errors
///
/// If the batch has no such column, or it is of another type: [`require`] it when the transformer is opened.
pub fn values<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a PrimitiveArray<T>> {
    let column = column(batch, name)?;
    column
        .as_primitive_opt::<T>()
        .ok_or_else(|| unexpected(name, column.data_type(), &Expected::Type(T::DATA_TYPE)))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| {
        StageError::fatal(format!(
            "the column {name} is missing: add it to source.query, which returns {}",
            names(&batch.schema())
        ))
    })
}

fn unexpected(name: &str, found: &DataType, expected: &Expected) -> StageError {
    StageError::fatal(format!(
        "the column {name} is {found}, expected {}: cast it in source.query, or read it as what it is",
        expected.word()
    ))
}

/// A transformer that keeps every row with its columns and adds some, see [`add`].
pub struct AddColumns<F> {
    needed: Vec<(&'static str, Expected)>,
    added: Vec<Field>,
    output: SchemaRef,
    function: F,
}

/// A transformer that keeps every row and all its columns, and adds columns that a function makes of a batch.
///
/// ```
/// use std::sync::Arc;
/// use etl_plugin_api::arrow::array::{ArrayRef, UInt64Array};
/// use etl_plugin_api::columns::{self, Expected};
/// use etl_plugin_api::prelude::*;
///
/// let transformer = columns::add(
///     [("name", Expected::Text)],
///     [Field::new("length", DataType::UInt64, true)],
///     |_cx, batch| {
///         let lengths: UInt64Array = columns::texts(batch, "name")?
///             .map(|name| name.map(|name| name.len() as u64))
///             .collect();
///         Ok(vec![Arc::new(lengths) as ArrayRef])
///     },
/// );
/// # fn check(_: impl Transformer) {}
/// # check(transformer);
/// ```
///
/// # Errors
///
/// When it is opened: if a column is missing or of another type, or one that it adds is there already. In a batch: if the
/// function gives other columns than were announced.
pub fn add<F>(
    needed: impl IntoIterator<Item = (&'static str, Expected)>,
    added: impl IntoIterator<Item = Field>,
    function: F,
) -> AddColumns<F>
where
    F: FnMut(&dyn Context, &RecordBatch) -> Result<Vec<ArrayRef>> + Send,
{
    AddColumns {
        needed: needed.into_iter().collect(),
        added: added.into_iter().collect(),
        output: Arc::new(Schema::empty()),
        function,
    }
}

impl<F> Transformer for AddColumns<F>
where
    F: FnMut(&dyn Context, &RecordBatch) -> Result<Vec<ArrayRef>> + Send,
{
    fn open(&mut self, _: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
        require(input, &self.needed)?;
        let known: Vec<&str> = self
            .added
            .iter()
            .map(|field| field.name().as_str())
            .filter(|name| input.field_with_name(name).is_ok())
            .collect();
        if !known.is_empty() {
            return Err(StageError::config(format!(
                "the query returns {}, which this pipeline adds: leave out or rename in source.query",
                known.join(", ")
            )));
        }
        let fields = input.fields().iter().cloned();
        let added = self.added.iter().cloned().map(Arc::new);
        self.output = Arc::new(Schema::new(fields.chain(added).collect::<Vec<_>>()));
        Ok(vec![TableSchema::configured(self.output.clone())])
    }

    fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        let added = (self.function)(cx, &input)?;
        let columns: Vec<ArrayRef> = input.columns().iter().cloned().chain(added).collect();
        Ok(Transformed::same_rows(RecordBatch::try_new(
            self.output.clone(),
            columns,
        )?))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, LargeStringArray, NullArray, StringArray, StringViewArray};

    use super::*;

    fn batch() -> RecordBatch {
        let words = [Some("a"), None];
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("short", Arc::new(StringArray::from_iter(words))),
            ("large", Arc::new(LargeStringArray::from_iter(words))),
            ("view", Arc::new(StringViewArray::from_iter(words))),
            ("none", Arc::new(NullArray::new(2))),
        ])
        .unwrap()
    }

    #[test]
    fn text_is_read_from_every_layout() {
        let batch = batch();
        for name in ["short", "large", "view"] {
            assert_eq!(
                texts(&batch, name).unwrap().collect::<Vec<_>>(),
                [Some("a"), None]
            );
        }
        assert_eq!(
            texts(&batch, "none").unwrap().collect::<Vec<_>>(),
            [None, None]
        );
        require(
            &batch.schema(),
            &[("view", Expected::Text), ("none", Expected::Text)],
        )
        .unwrap();
    }

    #[test]
    fn what_a_batch_lacks_is_named() {
        let batch = batch();
        let message = |error: StageError| error.message().to_owned();
        assert_eq!(
            texts(&batch, "id").err().map(message).as_deref(),
            Some(
                "the column id is Int64, expected text: cast it in source.query, or read it as what it is"
            )
        );
        assert_eq!(
            values::<Int64Type>(&batch, "short")
                .err()
                .map(message)
                .as_deref(),
            Some(
                "the column short is Utf8, expected Int64: cast it in source.query, or read it as what it is"
            )
        );
        assert_eq!(
            values::<Int64Type>(&batch, "di")
                .err()
                .map(message)
                .as_deref(),
            Some(
                "the column di is missing: add it to source.query, which returns id, short, large, view, none"
            )
        );
    }
}
