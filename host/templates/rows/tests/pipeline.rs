//! The pipeline without a host: rows in, rows out. `etl-host run` is not needed for it, nor is a database.

use etl_plugin_api::prelude::*;
use etl_plugin_api::testkit::{TestRun, batch, json};

use {{crate_name}}::{{type_name}};

/// Rows as the query gives them: a good one, a small one, one in an unknown currency, a large one.
fn orders() -> RecordBatch {
    batch(
        &[
            ("id", DataType::Int64),
            ("customer_id", DataType::Int64),
            ("amount_cents", DataType::Int64),
            ("currency", DataType::Utf8),
        ],
        json!([
            [1, 1, 1250, "EUR"],
            [2, 1, 50, "EUR"],
            [3, 2, 4900, "XXX"],
            [4, null, 250_000, "USD"],
        ]),
    )
}

// A test of each thing that the host relies on: no rows, NULLs, many rows and so on.
etl_plugin_api::conformance! {
    {{type_name}},
    input = orders(),
}

#[test]
fn each_order_has_its_fate() {
    let pipeline = {{type_name}};
    let ran = TestRun::new(pipeline)
        .settings(json!({ "min_cents": 100, "currencies": ["EUR", "USD"] }))
        .input(orders())
        .run()
        .unwrap();
    assert_eq!(
        ran.to_string(),
        "\
(the configured table): 2 rows
  id  customer_id  amount_cents  currency  large
  1   1            1250          EUR       false
  4   NULL         250000        USD       true
filtered: row 1
rejected: row 2, column currency: an unknown currency
counted: large orders 1
"
    );
}

#[test]
fn wrong_settings_are_refused() {
    let pipeline = {{type_name}};
    let refused = TestRun::new(pipeline)
        .settings(json!({ "min_cents": -1 }))
        .input(orders())
        .run()
        .unwrap_err();
    assert_eq!(
        refused.message(),
        "settings.min_cents: must not be negative"
    );
}
