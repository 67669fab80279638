//! Row style: for authors who think in structs, on top of [`Transformer`].
//!
//! Convenient and several times slower than working on columns; the host does not know the difference. If a row does not
//! fit because none could, that is an error of the pipeline, and the row is not set aside.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_arrow::schema::{SchemaLike, TracingOptions};

use crate::columns;
use crate::context::Context;
use crate::error::{ErrorKind, Result, ResultExt, StageError};
use crate::pipeline::{Origin, Output, Rejection, TableSchema, Transformed, Transformer};

/// Changes one row at a time. Wrap it with [`rows`] to get a [`Transformer`].
pub trait RowTransformer: Send {
    /// The columns that are read; others are ignored. A nullable column needs an `Option`.
    type In: DeserializeOwned;
    /// The columns that are written. A column that the input has too keeps the input's type.
    type Out: Serialize + DeserializeOwned;

    /// Makes one row of a row, or none. `Err(StageError::rejected(..))` quarantines the row; any other error ends
    /// the attempt.
    fn row(&mut self, cx: &dyn Context, row: Self::In) -> Result<Option<Self::Out>>;
}

/// Turns a row transformer into a batch transformer.
///
/// ```
/// use etl_plugin_api::prelude::*;
///
/// struct Grown;
///
/// #[derive(Serialize, Deserialize)]
/// struct Person {
///     name: Option<String>,
///     age: i64,
/// }
///
/// impl RowTransformer for Grown {
///     type In = Person;
///     type Out = Person;
///
///     fn row(&mut self, _: &dyn Context, person: Person) -> Result<Option<Person>> {
///         Ok((person.age >= 18).then_some(person))
///     }
/// }
///
/// # fn check(_: impl Transformer) {}
/// # check(
/// rows(Grown)
/// # );
/// ```
///
/// # Errors
///
/// With the first row that does not fit, if none could: the query lacks a column that `In` needs, or has one of a type that
/// its field cannot hold.
pub fn rows<T: RowTransformer>(transformer: T) -> Rows<T> {
    Rows {
        transformer,
        needed: Vec::new(),
        problems: Vec::new(),
        fields: Vec::new(),
    }
}

/// A [`RowTransformer`] as a [`Transformer`], see [`rows`].
pub struct Rows<T> {
    transformer: T,
    /// The columns that no row may be without.
    needed: Vec<String>,
    /// Why no row may fit. Only may, since a field can have a default or a reading of its own.
    problems: Vec<String>,
    fields: Vec<FieldRef>,
}

impl<T: RowTransformer> Transformer for Rows<T> {
    fn open(&mut self, _cx: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
        (self.needed, self.problems) = compare::<T::In>(input);
        self.fields = output_fields::<T::Out>(input)?;
        let schema = Arc::new(Schema::new(self.fields.clone()));
        Ok(vec![TableSchema::configured(schema)])
    }

    fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        let source = serde_arrow::Deserializer::from_record_batch(&input)?;
        let mut output = Vec::with_capacity(input.num_rows());
        let mut origin = Vec::with_capacity(input.num_rows());
        let mut transformed = Transformed::default();
        for (index, item) in (0u32..).zip(source.iter()) {
            // Serde's own words may quote the row's values, which do not belong into a log.
            let Ok(row) = T::In::deserialize(item) else {
                transformed.rejected.push(self.misfit(&input, index)?);
                continue;
            };
            match self.transformer.row(cx, row) {
                Ok(Some(row)) => {
                    output.push(row);
                    origin.push(index);
                }
                Ok(None) => transformed.filtered.push(index),
                Err(error) if error.kind() == ErrorKind::Rejected => {
                    transformed.rejected.push(Rejection {
                        row: index,
                        column: error.column().map(str::to_owned),
                        reason: error.message().to_owned(),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        let batch = serde_arrow::to_record_batch(&self.fields, &output)?;
        transformed.outputs.push(Output {
            table: 0,
            batch,
            origin: Origin::Rows(origin),
        });
        Ok(transformed)
    }
}

impl<T> Rows<T> {
    /// Why a row does not fit the fields of `In`.
    fn misfit(&self, input: &RecordBatch, row: u32) -> Result<Rejection> {
        let place = usize::try_from(row).unwrap_or(usize::MAX);
        let null = self.needed.iter().find(|name| {
            let column = input.column_by_name(name);
            column.is_some_and(|column| place < column.len() && column.is_null(place))
        });
        if null.is_none() && !self.problems.is_empty() {
            return Err(StageError::config(self.problems.join("; ")));
        }
        Ok(Rejection {
            row,
            column: null.cloned(),
            reason: match null {
                Some(name) => format!(
                    "the column {name} is NULL, and the field {name} is no Option: make it one, or leave such rows out of \
                     source.query"
                ),
                None => "the row does not fit the fields of the input type".to_owned(),
            },
        })
    }
}

/// What kind of values a column or a field holds: those that differ never fit.
#[derive(Clone, Copy, PartialEq)]
enum Values {
    Bool,
    /// Whole numbers; their size is a matter of each value.
    Whole,
    Float,
    Text,
    Other,
}

impl Values {
    fn of(kind: &DataType) -> Self {
        match kind {
            DataType::Boolean => Self::Bool,
            kind if kind.is_integer() => Self::Whole,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Float,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            _ => Self::Other,
        }
    }

    /// Whether a field of this kind can hold what such a column has, as `serde_arrow` converts it. What is neither number
    /// nor text nor truth value is tried with each row.
    fn holds(self, column: Self) -> bool {
        self == column
            || self == Self::Other
            || column == Self::Other
            || matches!(
                (self, column),
                (Self::Bool, Self::Whole) | (Self::Whole, Self::Bool) | (Self::Text, Self::Float)
            )
    }

    fn word(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Whole => "a whole number",
            Self::Float => "a floating point number",
            Self::Text => "text",
            Self::Other => "something else",
        }
    }
}

/// The columns that `In` does not take NULL from, and why no row of the query may fit. A type that cannot be examined
/// without a row is not.
fn compare<In: DeserializeOwned>(input: &Schema) -> (Vec<String>, Vec<String>) {
    let options = TracingOptions::default().allow_null_fields(true);
    let fields = Vec::<FieldRef>::from_type::<In>(options).unwrap_or_default();
    let problem = |field: &FieldRef| {
        let name = field.name();
        let wanted = Values::of(field.data_type());
        match input.field_with_name(name) {
            Err(_) if field.is_nullable() => None,
            Err(_) => Some(format!(
                "the column {name} is missing: add it to source.query, which returns {}, or make the field an Option",
                columns::names(input)
            )),
            Ok(column) if wanted.holds(Values::of(column.data_type())) => None,
            Ok(column) => Some(format!(
                "the column {name} is {}, but the field {name} holds {}: change the field's type, or cast the column in \
                 source.query",
                column.data_type(),
                wanted.word()
            )),
        }
    };
    let problems = fields.iter().filter_map(problem).collect();
    let needed = fields.iter().filter(|field| !field.is_nullable());
    let needed = needed.map(|field| field.name().clone()).collect();
    (needed, problems)
}

/// The columns of `Out`: from its type, except where the input has a column of that name.
fn output_fields<Out: DeserializeOwned>(input: &Schema) -> Result<Vec<FieldRef>> {
    let traced =
        Vec::<FieldRef>::from_type::<Out>(TracingOptions::default().allow_null_fields(true))
            .fatal("the columns of the output type cannot be derived")?;
    Ok(traced
        .into_iter()
        .map(|field| match input.field_with_name(field.name()) {
            Ok(same) => Arc::new(
                same.clone()
                    .with_nullable(same.is_nullable() || field.is_nullable()),
            ),
            Err(_) if field.data_type() == &DataType::LargeUtf8 => Arc::new(Field::new(
                field.name(),
                DataType::Utf8,
                field.is_nullable(),
            )),
            Err(_) => field,
        })
        .collect())
}
