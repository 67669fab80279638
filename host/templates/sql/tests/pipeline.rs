//! The pipeline without a host: rows in, rows out. `etl-host run` is not needed for it, nor is a database.

use etl_plugin_api::prelude::*;
use etl_plugin_api::testkit::{TestRun, batch, json};

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
            [2, "Cho", null, 250_000, "USD"],
        ]),
    )
}

// A test of each thing that the host relies on: no rows, NULLs, many rows and so on.
etl_plugin_api::conformance! {
    {{type_name}},
    input = orders(),
}

#[test]
fn rows_are_loaded_as_they_are() {
    let pipeline = {{type_name}};
    let ran = TestRun::new(pipeline).input(orders()).run().unwrap();
    assert_eq!(ran.table(0), orders());
}
