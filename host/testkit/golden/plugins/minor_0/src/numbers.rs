//! An extractor that makes its rows itself, in partitions of its own, with a position of its own; rows as structs.

use std::sync::Arc;

use etl_plugin_api::arrow::array::Int64Array;
use etl_plugin_api::prelude::*;

use crate::manifest;

/// Squares of the numbers from 1, in two partitions.
pub struct Numbers;

const LAST: i64 = 5;

impl Pipeline for Numbers {
    type Settings = NoSettings;

    fn manifest(&self) -> Manifest {
        manifest("golden-numbers", "golden_numbers")
            .cardinality(Cardinality::Filter)
            .stateless()
    }

    fn partitions(&self, _: &NoSettings, cx: &dyn Context) -> Result<Option<Vec<Partition>>> {
        cx.log(Level::Debug, "left and right");
        let named = ["left", "right"].map(Partition::new);
        Ok(Some(named.into()))
    }

    fn extractor(&self, _: &NoSettings) -> Result<Option<Box<dyn Extractor>>> {
        Ok(Some(Box::new(Count { next: 1 })))
    }

    fn transformer(&self, _: &NoSettings) -> Result<Option<Box<dyn Transformer>>> {
        Ok(Some(Box::new(rows(Square))))
    }
}

struct Count {
    next: i64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(
        "number",
        DataType::Int64,
        false,
    )]))
}

impl Extractor for Count {
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef> {
        if let Some(Cursor::Integer(last)) = cx.attempt().from {
            self.next = last + 1;
        }
        Ok(schema())
    }

    fn next(&mut self, cx: &dyn ExtractContext) -> Result<Option<Extracted>> {
        if self.next > LAST {
            return Ok(None);
        }
        if cx.cancelled() {
            return Err(StageError::cancelled());
        }
        let end = LAST.min(self.next + 1);
        let numbers = Int64Array::from_iter_values(self.next..=end);
        self.next = end + 1;
        Ok(Some(Extracted {
            batch: RecordBatch::try_new(schema(), vec![Arc::new(numbers)])?,
            resume: Resume::After(Cursor::Integer(end)),
        }))
    }
}

struct Square;

#[derive(Deserialize)]
#[serde(crate = "etl_plugin_api::serde")]
struct Number {
    number: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(crate = "etl_plugin_api::serde")]
struct Squared {
    partition: String,
    number: i64,
    square: i64,
}

impl RowTransformer for Square {
    type In = Number;
    type Out = Squared;

    fn row(&mut self, cx: &dyn Context, row: Number) -> Result<Option<Squared>> {
        Ok((row.number != 2).then(|| Squared {
            partition: cx.partition().to_owned(),
            number: row.number,
            square: row.number * row.number,
        }))
    }
}
