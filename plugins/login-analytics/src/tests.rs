//! The pipeline from settings to batch, without a host.

use etl_plugin_api::AttemptInfo;
use etl_plugin_api::arrow::array::types::Int32Type;
use etl_plugin_api::arrow::array::{Int64Array, LargeStringArray, StringArray};

use super::*;

struct Attempt(AttemptInfo);

impl Attempt {
    fn of(partition: &str) -> Self {
        let mut info = AttemptInfo::default();
        partition.clone_into(&mut info.partition);
        Self(info)
    }
}

impl Context for Attempt {
    fn attempt(&self) -> &AttemptInfo {
        &self.0
    }

    fn secret(&self, name: &str) -> Result<String> {
        Err(StageError::config(name))
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn log(&self, _: Level, _: &str) {}

    fn count(&self, _: &str, _: u64) {}
}

fn batch(rows: &[(Option<&str>, Option<&str>)]) -> RecordBatch {
    let ids = Int64Array::from_iter_values((1..).take(rows.len()));
    let addresses: StringArray = rows.iter().map(|row| row.0).collect();
    let user_agents: LargeStringArray = rows.iter().map(|row| row.1).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("user_id", Arc::new(ids) as ArrayRef, false),
        ("ip_address", Arc::new(addresses), true),
        ("user_agent", Arc::new(user_agents), true),
    ])
    .unwrap()
}

fn transformer() -> Box<dyn Transformer> {
    LoginAnalytics
        .transformer(&Settings::default())
        .unwrap()
        .unwrap()
}

#[test]
fn every_row_keeps_its_columns_and_gains_eight() {
    let input = batch(&[
        (Some("8.8.8.8"), Some("curl/8.14.1")),
        (Some("192.168.0.1"), Some("")),
        (None, None),
        (
            Some("nonsense"),
            Some("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/146.0"),
        ),
    ]);
    let cx = Attempt::of("eu");
    let mut enrich = transformer();
    let tables = enrich.open(&cx, &input.schema()).unwrap();
    let done = enrich.transform(&cx, input.clone()).unwrap();
    let [output] = &done.outputs[..] else {
        panic!("one output")
    };
    assert_eq!(output.origin, Origin::SameRows);
    assert!(done.filtered.is_empty() && done.rejected.is_empty());
    assert_eq!(output.batch.schema(), tables[0].schema);
    assert_eq!(output.batch.columns()[..3], input.columns()[..]);
    let column = |name: &str| -> Vec<_> {
        let column = output.batch.column_by_name(name).unwrap();
        let column = column.as_dictionary::<Int32Type>();
        let words = column.downcast_dict::<StringArray>().unwrap();
        words
            .into_iter()
            .map(|value| value.unwrap_or("NULL").to_owned())
            .collect()
    };
    assert_eq!(column("country_code"), ["US", "NULL", "NULL", "NULL"]);
    assert_eq!(
        column("location"),
        [
            "United States",
            "private network",
            "unknown",
            "invalid address"
        ]
    );
    assert_eq!(column("region"), ["NULL"; 4]);
    assert_eq!(column("city"), ["NULL"; 4]);
    assert_eq!(column("device"), ["bot", "other", "other", "desktop"]);
    assert_eq!(column("os"), ["NULL", "NULL", "NULL", "Ubuntu"]);
    assert_eq!(column("browser"), ["curl 8", "NULL", "NULL", "Firefox 146"]);
    assert_eq!(column("source_shard"), ["eu"; 4]);
}

#[test]
fn an_empty_batch_stays_empty() {
    let cx = Attempt::of("eu");
    let done = transformer().transform(&cx, batch(&[])).unwrap();
    assert_eq!(done.outputs[0].batch.num_rows(), 0);
}

#[test]
fn a_query_without_the_columns_is_refused_with_the_fix() {
    let cx = Attempt::of("eu");
    let text = |name| Field::new(name, DataType::Utf8, true);
    let number = Field::new(ADDRESS, DataType::Int64, true);
    let cases = [
        (vec![text(ADDRESS)], "no column user_agent"),
        (vec![number, text(USER_AGENT)], "cast it to text"),
        (
            vec![text(ADDRESS), text(USER_AGENT), text("device")],
            "rename it",
        ),
    ];
    for (fields, expected) in cases {
        let error = transformer().open(&cx, &Schema::new(fields)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(expected), "{error}");
    }
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
