//! The pipeline without a host: rows in, files out. `etl-host run` is not needed for it, nor is a database.

use std::fs;
use std::path::{Path, PathBuf};

use etl_plugin_api::prelude::*;
use etl_plugin_api::testkit::{TestRun, batch, json};

use {{crate_name}}::{{type_name}};

/// Rows as the query gives them.
fn orders() -> RecordBatch {
    batch(
        &[
            ("id", DataType::Int64),
            ("customer_id", DataType::Int64),
            ("amount_cents", DataType::Int64),
            ("currency", DataType::Utf8),
        ],
        json!([[1, 1, 1250, "EUR"], [2, null, 250_000, "USD"]]),
    )
}

/// An empty folder for the test that asks.
fn folder() -> PathBuf {
    let test = std::thread::current();
    let name = test.name().unwrap().replace("::", "-");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // It is not there the first time.
    let _ = fs::remove_dir_all(&folder);
    folder
}

// A test of each thing that the host relies on: no rows, NULLs, many rows, that the last commit is remembered and so on.
etl_plugin_api::conformance! {
    {{type_name}},
    settings = json!({ "folder": folder() }),
    input = orders(),
}

#[test]
fn a_commit_makes_a_file() {
    let folder = folder();
    let pipeline = {{type_name}};
    TestRun::new(pipeline)
        .settings(json!({ "folder": folder }))
        .partition("eu")
        .input(orders())
        .run()
        .unwrap();
    let text = fs::read_to_string(folder.join("eu/00000001.jsonl")).unwrap();
    let (token, rows) = text.split_once('\n').unwrap();
    assert!(token.starts_with("{\"token\":"), "{token}");
    assert_eq!(
        rows,
        "\
{\"amount_cents\":1250,\"currency\":\"EUR\",\"customer_id\":1,\"id\":1}
{\"amount_cents\":250000,\"currency\":\"USD\",\"customer_id\":null,\"id\":2}
"
    );
}

#[test]
fn a_shard_s_name_leads_nowhere_else() {
    let pipeline = {{type_name}};
    let refused = TestRun::new(pipeline)
        .settings(json!({ "folder": folder() }))
        .partition("../eu")
        .input(orders())
        .run()
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
}
