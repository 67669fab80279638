//! The pipeline without a host: rows in, rows out.

use etl_plugin_api::prelude::*;
use etl_plugin_api::testkit::{TestRun, batch, conformance, json};

use {{crate_name}}::{{type_name}};

/// Rows as the query gives them.
fn orders() -> RecordBatch {
    batch(
        &[
            ("id", DataType::Int64),
            ("customer", DataType::Utf8),
            ("country", DataType::Utf8),
            ("amount_cents", DataType::Int64),
            ("currency", DataType::Utf8),
        ],
        json!([
            [1, "Ann", "DE", 1250, "EUR"],
            [2, "Bob", "US", 89900, "USD"],
            [3, "Cho", null, 50, "EUR"],
        ]),
    )
}

// What the host relies on: a test each, for empty batches, NULLs, many rows and more.
conformance!({{type_name}}, input = orders());

#[test]
fn rows_are_loaded_as_they_are() {
    let pipeline = {{type_name}};
    let done = TestRun::new(pipeline).input(orders()).run().unwrap();
    assert_eq!(done.table(0), orders());
}
