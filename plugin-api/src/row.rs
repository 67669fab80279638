//! Row style: for authors who think in structs, on top of [`Transformer`].
//!
//! Convenient and several times slower than working on columns; the host does not know the difference.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_arrow::schema::{SchemaLike, TracingOptions};

use crate::context::Context;
use crate::error::{ErrorKind, Result, ResultExt};
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
pub fn rows<T: RowTransformer>(transformer: T) -> Rows<T> {
    Rows {
        transformer,
        fields: Vec::new(),
    }
}

/// A [`RowTransformer`] as a [`Transformer`], see [`rows`].
pub struct Rows<T> {
    transformer: T,
    fields: Vec<FieldRef>,
}

impl<T: RowTransformer> Transformer for Rows<T> {
    fn open(&mut self, _cx: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
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
                transformed.rejected.push(Rejection {
                    row: index,
                    column: None,
                    reason: "the row does not fit the fields of the input type".to_owned(),
                });
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
