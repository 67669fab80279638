//! The pipeline from settings to rows, without a host.

use etl_plugin_api::testkit::{TestRun, batch, json};

use super::*;

fn orders(rows: serde_json::Value) -> RecordBatch {
    let columns = [
        ("order_id", DataType::Int64),
        (AMOUNT, DataType::Decimal128(12, 2)),
        (CURRENCY, DataType::Utf8),
        ("status", DataType::Utf8),
    ];
    batch(&columns, rows)
}

etl_plugin_api::conformance!(
    OrdersSync,
    settings = json!({ "currencies": { "XBT": 8 } }),
    input = orders(json!([
        [1, "12.30", "eur", "new"],
        [2, "0.50", "XBT", "paid"],
        [3, "1.00", "euro", "paid"],
    ])),
);

#[test]
fn orders_keep_their_columns_and_gain_a_total() {
    let rows = json!([
        [1, "12.30", " eur", "new"],
        [2, "12.00", "JPY", null],
        [3, "-1.50", "kwd", "back"],
    ]);
    let ran = TestRun::new(OrdersSync).input(orders(rows)).run().unwrap();
    assert_eq!(
        ran.to_string(),
        "\
(the configured table): 3 rows
  order_id  amount  currency  status  total_minor
  1         12.30   EUR       new     1230
  2         12.00   JPY       NULL    12
  3         -1.50   KWD       back    -1500
"
    );
}

#[test]
fn orders_that_have_no_total_are_set_aside() {
    let rows = json!([
        [1, "12.30", "euro", "new"],
        [2, "12.30", "JPY", "new"],
        [3, null, "EUR", "new"],
        [4, "1.00", null, "new"],
        [5, "1.00", "USD", "new"],
    ]);
    let ran = TestRun::new(OrdersSync).input(orders(rows)).run().unwrap();
    let reasons: Vec<_> = ran
        .rejected
        .iter()
        .map(|rejected| (rejected.row, rejected.column.as_deref().unwrap()))
        .collect();
    assert_eq!(
        reasons,
        [(0, CURRENCY), (1, AMOUNT), (2, AMOUNT), (3, CURRENCY)]
    );
    assert_eq!(ran.table(0).num_rows(), 1);
}

#[test]
fn a_query_without_the_columns_is_refused_with_the_fix() {
    for (amount, currency, expected) in [
        (
            DataType::Float64,
            DataType::Utf8,
            "expected Decimal128(12, 2)",
        ),
        (
            DataType::Decimal128(12, 2),
            DataType::Int64,
            "the column currency is Int64, expected text",
        ),
    ] {
        let rows = batch(
            &[(AMOUNT, amount), (CURRENCY, currency)],
            json!([[null, null]]),
        );
        let error = TestRun::new(OrdersSync).input(rows).run().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(expected), "{error}");
    }
}

#[test]
fn settings_are_checked() {
    let settings = |json| serde_json::from_value::<Settings>(json).unwrap();
    let wrong = settings(json!({ "currencies": { "xbt": 8, "XAU": 99, "XBT": 8 } }));
    let keys: Vec<_> = OrdersSync
        .validate(&wrong)
        .into_iter()
        .map(|problem| problem.key)
        .collect();
    assert_eq!(keys, ["currencies.XAU", "currencies.xbt"]);
}
