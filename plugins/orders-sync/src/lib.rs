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

use etl_plugin_api::arrow::array::types::Decimal128Type;
use etl_plugin_api::arrow::array::{Int64Array, StringArray, UInt32Array};
use etl_plugin_api::arrow::select::take::take_record_batch;
use etl_plugin_api::columns::{self, Expected, texts};
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
        let amount = match input.field_with_name(AMOUNT).map(Field::data_type) {
            // Of any number of digits.
            Ok(found @ DataType::Decimal128(..)) => found.clone(),
            _ => DataType::Decimal128(12, 2),
        };
        let needed = [(AMOUNT, Expected::Type(amount)), (CURRENCY, Expected::Text)];
        columns::require(input, &needed)?;
        Ok(vec![TableSchema::configured(output_schema(input))])
    }

    fn transform(&mut self, _: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        let amounts = columns::values::<Decimal128Type>(&input, AMOUNT)?;
        let currencies = texts(&input, CURRENCY)?;
        let (mut totals, mut origin, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        for ((row, amount), currency) in (0_u32..).zip(amounts).zip(currencies) {
            match self.total(amount, amounts.scale(), currency) {
                Ok(total) => {
                    totals.push(total);
                    origin.push(row);
                }
                Err((column, reason)) => rejected.push(Rejection {
                    row,
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
    /// The total of an order, or the column at fault and why.
    fn total(
        &self,
        amount: Option<i128>,
        scale: i8,
        currency: Option<&str>,
    ) -> Result<Total<'_>, (&'static str, &'static str)> {
        let currency = currency.ok_or((CURRENCY, "the order has no currency"))?;
        let amount = amount.ok_or((AMOUNT, "the order has no amount"))?;
        let currency = self.currencies.find(currency).ok_or((
            CURRENCY,
            "an unknown currency; if it is right, add it to settings.currencies",
        ))?;
        let total = currency.minor_units(amount, scale).ok_or((
            AMOUNT,
            "more decimal places than the currency has, or too many digits",
        ))?;
        Ok((currency.code, total))
    }
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
    let fields = input.fields().iter().map(|field| {
        if field.name() == CURRENCY {
            Arc::new(Field::new(CURRENCY, DataType::Utf8, false))
        } else {
            field.clone()
        }
    });
    let total = Arc::new(Field::new(TOTAL, DataType::Int64, false));
    Arc::new(Schema::new(fields.chain([total]).collect::<Vec<_>>()))
}
