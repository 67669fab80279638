//! The pipeline from settings to rows, without a host.

use etl_plugin_api::testkit::{self, TestRun, batch, json};

use super::*;

fn logins() -> RecordBatch {
    batch(
        &[
            ("user_id", DataType::Int64),
            (ADDRESS, DataType::Utf8),
            (USER_AGENT, DataType::LargeUtf8),
        ],
        json!([
            [1, "8.8.8.8", "curl/8.14.1"],
            [2, "192.168.0.1", ""],
            [3, null, null],
            [
                4,
                "nonsense",
                "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/146.0"
            ],
        ]),
    )
}

etl_plugin_api::conformance!(LoginAnalytics, input = logins());

#[test]
fn every_row_keeps_its_columns_and_gains_eight() {
    let ran = TestRun::new(LoginAnalytics)
        .partition("eu")
        .input(logins())
        .run()
        .unwrap();
    let rows = ran.table(0);
    assert_eq!(rows.columns()[..3], logins().columns()[..]);
    let added: Vec<usize> = (3..rows.num_columns()).collect();
    let added = rows.project(&added);
    assert_eq!(
        testkit::text(&added.unwrap()),
        "  country_code  location         region  city  device   os      browser      source_shard
  US            United States    NULL    NULL  bot      NULL    curl 8       eu
  NULL          private network  NULL    NULL  other    NULL    NULL         eu
  NULL          unknown          NULL    NULL  other    NULL    NULL         eu
  NULL          invalid address  NULL    NULL  desktop  Ubuntu  Firefox 146  eu
"
    );
}

#[test]
fn a_query_without_the_columns_is_refused_with_the_fix() {
    let refused = |columns: &[(&str, DataType)]| {
        let row = json!([vec![json!(null); columns.len()]]);
        let run = TestRun::new(LoginAnalytics).input(batch(columns, row));
        run.run().unwrap_err().to_string()
    };
    assert_eq!(
        refused(&[(ADDRESS, DataType::Int64)]),
        "the column ip_address is Int64, expected text: cast it in source.query; the column user_agent is missing: add it \
         to source.query, which returns ip_address"
    );
    assert_eq!(
        refused(&[
            (ADDRESS, DataType::Utf8),
            (USER_AGENT, DataType::Utf8),
            ("device", DataType::Utf8)
        ]),
        "the query returns device, which this pipeline adds: leave out or rename in source.query"
    );
}

#[test]
fn a_bad_database_is_a_mistake_of_the_settings() {
    let settings = |path: &str| Settings {
        geoip_database: Some(path.into()),
    };
    let error = LoginAnalytics
        .transformer(&settings("/nowhere/city.mmdb"))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(LoginAnalytics.validate(&settings("")).len(), 1);
    assert!(LoginAnalytics.validate(&settings("city.mmdb")).is_empty());
    assert!(LoginAnalytics.validate(&Settings::default()).is_empty());
}
