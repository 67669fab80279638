//! Checks orders, and marks the large ones.

use etl_plugin_api::prelude::*;

/// The pipeline. It reads and loads as `config.yaml` says, and changes each row in between.
pub struct {{type_name}};

/// `settings:` of the configuration. `etl-host info` shows them with these comments.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Orders below this are left out, in cents.
    min_cents: i64,
    /// Orders from here on are large, in cents.
    large_cents: i64,
    /// Orders in any other currency are rejected.
    currencies: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_cents: 0,
            large_cents: 100_000,
            currencies: vec!["EUR".to_owned(), "USD".to_owned()],
        }
    }
}

impl Pipeline for {{type_name}} {
    type Settings = Settings;

    fn manifest(&self) -> Manifest {
        Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .default_config(include_str!("../config.yaml"))
            // One row for each row, or none.
            .cardinality(Cardinality::Filter)
            // What becomes of a row depends on that row alone.
            .stateless()
    }

    /// Finds what types cannot: the host shows each problem with file and line, before anything runs.
    fn validate(&self, settings: &Settings) -> Vec<Problem> {
        let mut problems = Vec::new();
        if settings.min_cents < 0 {
            problems.push(Problem::new("min_cents", "must not be negative"));
        }
        if settings.currencies.is_empty() {
            problems.push(Problem::new("currencies", "name at least one"));
        }
        problems
    }

    fn transformer(&self, settings: &Settings) -> Result<Option<Box<dyn Transformer>>> {
        Ok(Some(Box::new(rows(Check {
            min_cents: settings.min_cents,
            large_cents: settings.large_cents,
            currencies: settings.currencies.clone(),
        }))))
    }
}

/// A row of the query. What may be NULL is an `Option`.
#[derive(Deserialize)]
struct Order {
    id: i64,
    customer_id: Option<i64>,
    amount_cents: i64,
    currency: String,
}

/// A row of the sink's table.
#[derive(Serialize, Deserialize)]
struct CheckedOrder {
    id: i64,
    customer_id: Option<i64>,
    amount_cents: i64,
    currency: String,
    large: bool,
}

struct Check {
    min_cents: i64,
    large_cents: i64,
    currencies: Vec<String>,
}

impl RowTransformer for Check {
    type In = Order;
    type Out = CheckedOrder;

    fn row(&mut self, cx: &dyn Context, order: Order) -> Result<Option<CheckedOrder>> {
        if order.amount_cents < self.min_cents {
            // Left out: counted as filtered.
            return Ok(None);
        }
        if !self.currencies.contains(&order.currency) {
            // Set aside with the reason. Keep values of the row out of it: it is logged.
            return Err(StageError::rejected("an unknown currency").in_column("currency"));
        }
        let large = order.amount_cents >= self.large_cents;
        if large {
            // Shown at the end of the run.
            cx.count("large orders", 1);
        }
        Ok(Some(CheckedOrder {
            id: order.id,
            customer_id: order.customer_id,
            amount_cents: order.amount_cents,
            currency: order.currency,
            large,
        }))
    }
}

etl_plugin_api::export_pipelines!({{type_name}});
