//! The pipeline over the sample logs, without a host.

use etl_plugin_api::testkit::{TestRun, json};

use super::*;

/// The sample's only log, under the name of the test kit's partition.
fn settings() -> serde_json::Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sample");
    json!({ "folder": folder, "logs": { "partition": "access.log" } })
}

etl_plugin_api::conformance!(AccessLog, settings = settings());

#[test]
fn the_sample_is_read_oldest_first() {
    let ran = TestRun::new(AccessLog).settings(settings()).run().unwrap();
    assert_eq!(ran.extracted, 5);
    let rows = ran.table(0);
    let text = |name: &str| -> Vec<String> {
        let texts = etl_plugin_api::testkit::text(
            &rows
                .project(&[rows.schema().index_of(name).unwrap()])
                .unwrap(),
        );
        texts
            .lines()
            .skip(1)
            .map(|line| line.trim().to_owned())
            .collect()
    };
    assert_eq!(
        text("file"),
        [
            "access.log.1",
            "access.log.1",
            "access.log.1",
            "access.log",
            "access.log"
        ]
    );
    assert_eq!(
        text("path"),
        [
            "/",
            "/robots.txt",
            "/orders?from=\"shop\"",
            "NULL",
            "\u{16}\u{3}\u{1}"
        ]
    );
    assert_eq!(
        text("device"),
        ["desktop", "bot", "mobile", "other", "other"]
    );
    assert_eq!(text("country_code"), ["NULL", "US", "US", "NULL", "NULL"]);
}

#[test]
fn settings_are_checked() {
    let problems = |logs: serde_json::Value| {
        let settings = json!({ "logs": logs, "geoip_database": "" });
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let problems = AccessLog.validate(&settings).into_iter();
        problems.map(|problem| problem.key).collect::<Vec<_>>()
    };
    assert_eq!(problems(json!({})), ["logs", "geoip_database"]);
    assert_eq!(
        problems(json!({ "a": "b/c", "d": "", "e": "f.log" })),
        ["logs.a", "logs.d", "geoip_database"]
    );
}
