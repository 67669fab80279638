//! The pipeline from rows to rows, without a host.

use etl_plugin_api::testkit::{TestRun, batch, json};

use super::*;

fn logins(rows: serde_json::Value) -> RecordBatch {
    let columns = [
        ("day", DataType::Utf8),
        ("user_id", DataType::Int64),
        ("country_code", DataType::Utf8),
        ("device", DataType::Utf8),
    ];
    batch(&columns, rows)
}

etl_plugin_api::conformance!(
    DailyRollup,
    input = logins(json!([
        ["2026-10-10", 1, "DE", "mobile"],
        ["2026-10-10", 2, null, "bot"],
    ])),
);

#[test]
fn a_day_may_span_batches_and_a_user_counts_once() {
    let first = json!([
        ["2026-10-10", 1, "DE", "mobile"],
        ["2026-10-10", 1, "DE", "mobile"],
        ["2026-10-10", 1, "US", "mobile"],
    ]);
    let second = json!([
        ["2026-10-10", 2, "DE", "mobile"],
        ["2026-10-10", null, "DE", "mobile"],
        ["2026-10-12", 1, null, "bot"],
    ]);
    let ran = TestRun::new(DailyRollup)
        .input(logins(first))
        .input(logins(second))
        .run()
        .unwrap();
    assert_eq!(
        ran.to_string(),
        "\
(the configured table): 3 rows
  day         country  device  logins  users
  2026-10-10  DE       mobile  4       2
  2026-10-10  US       mobile  1       1
  2026-10-12  unknown  bot     1       1
"
    );
}

#[test]
fn days_are_dates_too() {
    let columns = [
        ("day", DataType::Date32),
        ("user_id", DataType::Int64),
        ("country_code", DataType::Utf8),
        ("device", DataType::Utf8),
    ];
    let rows = batch(&columns, json!([["1969-12-31", 1, "DE", "bot"]]));
    let ran = TestRun::new(DailyRollup).input(rows).run().unwrap();
    assert!(ran.to_string().contains("1969-12-31"), "{ran}");
}

#[test]
fn days_out_of_order_or_without_a_value_end_the_run() {
    for (second, expected) in [
        (json!("2026-10-09"), "end source.query in ORDER BY day"),
        (json!(null), "holds no day"),
        (json!("soon"), "holds no day"),
    ] {
        let rows = json!([["2026-10-10", 1, "DE", "bot"], [second, 1, "DE", "bot"]]);
        let error = TestRun::new(DailyRollup)
            .input(logins(rows))
            .run()
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(expected), "{error}");
    }
}
