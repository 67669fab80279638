//! Keeps a copy of orders up to date. Currencies get their code's one spelling, and each order its total in minor units,
//! which add up without decimals: 12.30 EUR are 1230 cents, 12 JPY are 12 yen.
//!
//! Which orders have changed, and that the last version of each stays, is the host's business: a cursor on `updated_at`
//! and an upsert. All columns but the currency pass through.

pub mod currency;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use etl_plugin_api::arrow::array::cast::AsArray;
use etl_plugin_api::arrow::array::types::Decimal128Type;
use etl_plugin_api::arrow::array::{
    Array, ArrayRef, Decimal128Array, Int64Array, StringArray, UInt32Array,
};
use etl_plugin_api::arrow::select::take::take_record_batch;
use etl_plugin_api::prelude::*;

use crate::currency::Currencies;

const AMOUNT: &str = "amount";
const CURRENCY: &str = "currency";
/// The column that is added.
const TOTAL: &str = "total_minor";

/// The pipeline.
#[derive(Debug, Clone, Copy, Default)]
pub struct OrdersSync;

etl_plugin_api::export_pipelines!(OrdersSync);

/// `settings:` of the configuration.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Currencies beside those of ISO 4217, each with the decimal places of its minor unit.
    pub currencies: BTreeMap<String, u8>,
}

impl Pipeline for OrdersSync {
    type Settings = Settings;

    fn manifest(&self) -> Manifest {
        Manifest::new("orders-sync", env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .default_config(include_str!("../config.yaml"))
            .stateless()
    }

    fn validate(&self, settings: &Settings) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (code, places) in &settings.currencies {
            let key = format!("currencies.{code}");
            if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
                problems.push(Problem::new(
                    &key,
                    "expected a code in capital letters such as XBT",
                ));
            }
            if *places > currency::MOST_PLACES {
                let most = currency::MOST_PLACES;
                problems.push(Problem::new(
                    &key,
                    format!("expected at most {most} decimal places"),
                ));
            }
        }
        problems
    }

    fn transformer(&self, settings: &Settings) -> Result<Option<Box<dyn Transformer>>> {
        Ok(Some(Box::new(Totals {
            currencies: Currencies::with(&settings.currencies),
        })))
    }
}

struct Totals {
    currencies: Currencies,
}

impl Transformer for Totals {
    fn open(&mut self, _: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
        for (name, expected, fits) in [
            (
                AMOUNT,
                "numeric with digits, such as amount::numeric(12,2)",
                is_decimal as fn(&DataType) -> bool,
            ),
            (CURRENCY, "text", |kind| *kind == DataType::Utf8),
        ] {
            let field = input.field_with_name(name).map_err(|_| {
                StageError::config(format!(
                    "the query returns no column {name}; add it to source.query"
                ))
            })?;
            if !fits(field.data_type()) {
                let found = field.data_type();
                return Err(StageError::config(format!(
                    "the column {name} is {found}; cast it in source.query to {expected}"
                )));
            }
        }
        Ok(vec![TableSchema::configured(output_schema(input))])
    }

    fn transform(&mut self, _: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        let amounts = column(&input, AMOUNT)?.as_primitive::<Decimal128Type>();
        let codes = column(&input, CURRENCY)?.as_string::<i32>();
        let (mut totals, mut origin, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..input.num_rows() {
            let index = u32::try_from(row).fatal("a batch has too many rows")?;
            match self.total(amounts, codes, row) {
                Ok(total) => {
                    totals.push(total);
                    origin.push(index);
                }
                Err((column, reason)) => rejected.push(Rejection {
                    row: index,
                    column: Some(column.to_owned()),
                    reason: reason.to_owned(),
                }),
            }
        }
        let kept = take_record_batch(&input, &UInt32Array::from(origin.clone()))?;
        let output = Output {
            table: 0,
            batch: with_totals(&kept, &totals)?,
            origin: Origin::Rows(origin),
        };
        Ok(Transformed {
            outputs: vec![output],
            rejected,
            ..Transformed::default()
        })
    }
}

/// A currency's code and an amount in its minor units.
type Total<'a> = (&'a str, i64);

impl Totals {
    /// The total of a row, or the column at fault and why.
    fn total(
        &self,
        amounts: &Decimal128Array,
        codes: &StringArray,
        row: usize,
    ) -> Result<Total<'_>, (&'static str, &'static str)> {
        if codes.is_null(row) {
            return Err((CURRENCY, "the order has no currency"));
        }
        if amounts.is_null(row) {
            return Err((AMOUNT, "the order has no amount"));
        }
        let currency = self.currencies.find(codes.value(row)).ok_or((
            CURRENCY,
            "an unknown currency; if it is right, add it to settings.currencies",
        ))?;
        let total = currency
            .minor_units(amounts.value(row), amounts.scale())
            .ok_or((
                AMOUNT,
                "more decimal places than the currency has, or too many digits",
            ))?;
        Ok((currency.code, total))
    }
}

fn is_decimal(kind: &DataType) -> bool {
    matches!(kind, DataType::Decimal128(..))
}

fn with_totals(kept: &RecordBatch, totals: &[Total<'_>]) -> Result<RecordBatch> {
    let codes = StringArray::from_iter_values(totals.iter().map(|total| total.0));
    let units = Int64Array::from_iter_values(totals.iter().map(|total| total.1));
    let mut columns = kept.columns().to_vec();
    let at = kept.schema().index_of(CURRENCY)?;
    if let Some(column) = columns.get_mut(at) {
        *column = Arc::new(codes);
    }
    columns.push(Arc::new(units));
    let schema = output_schema(&kept.schema());
    Ok(RecordBatch::try_new(schema, columns)?)
}

fn output_schema(input: &Schema) -> SchemaRef {
    let total = Arc::new(Field::new(TOTAL, DataType::Int64, false));
    let fields: Vec<_> = input.fields().iter().cloned().chain([total]).collect();
    Arc::new(Schema::new(fields))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| StageError::fatal(format!("a batch has no column {name}")))
}
