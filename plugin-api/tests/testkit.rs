//! The test kit on good pipelines and on bad ones: what it finds, and how it says so.
#![cfg(feature = "testkit")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::sync::{Arc, Mutex};

use etl_plugin_api::arrow::array::types::Int64Type;
use etl_plugin_api::arrow::array::{ArrayRef, Int64Array};
use etl_plugin_api::columns::{self, Expected};
use etl_plugin_api::prelude::*;
use etl_plugin_api::testkit::{Conformance, TestRun, batch, json};
use etl_plugin_api::{CommitToken, export::DynPipeline};

fn orders() -> RecordBatch {
    batch(
        &[("id", DataType::Int64), ("customer", DataType::Utf8)],
        json!([[1, "ann"], [2, null], [3, "bob"]]),
    )
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Least {
    least: i64,
}

/// Row style, with all fates.
struct Orders;

impl Pipeline for Orders {
    type Settings = Least;

    fn manifest(&self) -> Manifest {
        Manifest::new("orders", "1.0.0")
            .description("Orders")
            .cardinality(Cardinality::Filter)
            .stateless()
    }

    fn validate(&self, settings: &Least) -> Vec<Problem> {
        let wrong = (settings.least < 0).then(|| Problem::new("least", "must not be negative"));
        Vec::from_iter(wrong)
    }

    fn transformer(&self, settings: &Least) -> Result<Option<Box<dyn Transformer>>> {
        Ok(Some(Box::new(rows(Check(settings.least)))))
    }
}

struct Check(i64);

#[derive(Deserialize)]
struct Order {
    id: i64,
    customer: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Checked {
    id: i64,
    customer: String,
}

impl RowTransformer for Check {
    type In = Order;
    type Out = Checked;

    fn row(&mut self, cx: &dyn Context, order: Order) -> Result<Option<Checked>> {
        cx.count("orders", 1);
        cx.log(Level::Debug, "an order");
        if order.id <= self.0 {
            return Ok(None);
        }
        let customer = order
            .customer
            .ok_or_else(|| StageError::rejected("nobody ordered it").in_column("customer"))?;
        Ok(Some(Checked {
            id: order.id,
            customer,
        }))
    }
}

#[test]
fn what_no_row_could_fit_is_told_at_once() {
    let refused = |columns: &[(&str, DataType)], row| {
        let run = TestRun::new(Orders).input(batch(columns, row));
        run.run().unwrap_err().to_string()
    };
    assert_eq!(
        refused(
            &[("id", DataType::Utf8), ("cust", DataType::Utf8)],
            json!([["1", "ann"]])
        ),
        "the column id is Utf8, but the field id holds a whole number: change the field's type, or cast the column in \
         source.query"
    );
    assert_eq!(
        refused(&[("customer", DataType::Utf8)], json!([["ann"]])),
        "the column id is missing: add it to source.query, which returns customer, or make the field an Option"
    );
    let null = batch(&[("id", DataType::Int64)], json!([[null], [1]]));
    let ran = TestRun::new(Orders).input(null).run().unwrap();
    assert_eq!(
        ran.to_string(),
        "\
(the configured table): 0 rows
  id  customer
rejected: row 0, column id: the column id is NULL, and the field id is no Option: make it one, or leave such rows out of source.query
rejected: row 1, column customer: nobody ordered it
counted: orders 1
"
    );
}

/// A field may have a default: what fits is nobody's mistake.
#[derive(Deserialize)]
struct Defaulted {
    id: i64,
    #[serde(default)]
    priority: i64,
}

#[derive(Serialize, Deserialize)]
struct Prioritised {
    id: i64,
    priority: i64,
}

struct Prioritise;
impl RowTransformer for Prioritise {
    type In = Defaulted;
    type Out = Prioritised;
    fn row(
        &mut self,
        _: &dyn Context,
        Defaulted { id, priority }: Defaulted,
    ) -> Result<Option<Prioritised>> {
        Ok(Some(Prioritised { id, priority }))
    }
}

struct Defaults;
impl Pipeline for Defaults {
    type Settings = NoSettings;
    fn manifest(&self) -> Manifest {
        Manifest::new("defaults", "1.0.0")
    }
    fn transformer(&self, _: &NoSettings) -> Result<Option<Box<dyn Transformer>>> {
        Ok(Some(Box::new(rows(Prioritise))))
    }
}

#[test]
fn a_field_with_a_default_needs_no_column() {
    let ids = batch(&[("id", DataType::Int64)], json!([[1], [null]]));
    let ran = TestRun::new(Defaults).input(ids).run().unwrap();
    assert_eq!((ran.table(0).num_rows(), ran.rejected.len()), (1, 1));
}

mod good_rows {
    use super::*;

    etl_plugin_api::conformance!(Orders, settings = json!({ "least": 1 }), input = orders());
}

#[test]
fn a_run_shows_every_rows_fate() {
    let ran = TestRun::new(Orders)
        .settings(json!({ "least": 1 }))
        .input(orders())
        .input(orders())
        .run()
        .unwrap();
    assert_eq!(
        ran.to_string(),
        "\
(the configured table): 2 rows
  id  customer
  3   bob
  3   bob
filtered: row 0, 3
rejected: row 1, column customer: nobody ordered it
rejected: row 4, column customer: nobody ordered it
counted: orders 6
"
    );
    assert_eq!(ran.logs.len(), 6);
    assert_eq!(ran.table(0).num_rows(), 2);
}

#[test]
fn settings_are_read_as_the_host_reads_them() {
    let message = |settings| {
        let run = TestRun::new(Orders).settings(settings).input(orders());
        run.run().unwrap_err().to_string()
    };
    assert_eq!(
        message(json!({ "least": -1 })),
        "settings.least: must not be negative"
    );
    assert_eq!(
        message(json!({ "least": "x" })),
        "settings.least: invalid type: string \"x\", expected i64"
    );
}

/// An extractor that walks pages, and one that forgets to go on.
struct Pages {
    forgetful: bool,
}

impl Pipeline for Pages {
    type Settings = NoSettings;

    fn manifest(&self) -> Manifest {
        Manifest::new("pages", "1.0.0").description("Pages")
    }

    fn extractor(&self, _: &NoSettings) -> Result<Option<Box<dyn Extractor>>> {
        Ok(Some(Box::new(Walk {
            at: 0,
            forgetful: self.forgetful,
        })))
    }
}

struct Walk {
    at: i64,
    forgetful: bool,
}

impl Extractor for Walk {
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef> {
        if let (Some(Cursor::Integer(at)), false) = (&cx.attempt().from, self.forgetful) {
            self.at = *at;
        }
        Ok(numbers(&[]).schema())
    }

    fn next(&mut self, _: &dyn ExtractContext) -> Result<Option<Extracted>> {
        if self.at >= 6 {
            return Ok(None);
        }
        let batch = numbers(&[self.at + 1, self.at + 2]);
        self.at += 2;
        Ok(Some(Extracted {
            batch,
            resume: Resume::After(Cursor::Integer(self.at)),
        }))
    }
}

fn numbers(numbers: &[i64]) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(numbers.to_vec()));
    RecordBatch::try_from_iter_with_nullable([("n", column, true)]).unwrap()
}

mod good_pages {
    use super::*;

    etl_plugin_api::conformance!(Pages { forgetful: false }, run = |run| run.partition("eu"));
}

/// Asks the source, page by page.
struct Asking;

impl Pipeline for Asking {
    type Settings = NoSettings;

    fn manifest(&self) -> Manifest {
        Manifest::new("asking", "1.0.0")
    }

    fn extractor(&self, _: &NoSettings) -> Result<Option<Box<dyn Extractor>>> {
        Ok(Some(Box::new(Ask)))
    }
}

struct Ask;

impl Ask {
    fn page(cx: &dyn ExtractContext) -> Result<(SchemaRef, Option<RecordBatch>)> {
        let mut reader = cx.query("SELECT n FROM numbers", &[("page", Value::Int(2))])?;
        Ok((reader.schema(), reader.next()?))
    }
}

impl Extractor for Ask {
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef> {
        Ok(Self::page(cx)?.0)
    }

    fn next(&mut self, cx: &dyn ExtractContext) -> Result<Option<Extracted>> {
        let page = Self::page(cx)?.1;
        Ok(page.map(|batch| Extracted {
            batch,
            resume: Resume::NotHere,
        }))
    }
}

#[test]
fn statements_are_answered_in_order_and_kept() {
    let ran = TestRun::new(Asking)
        .answer("FROM numbers", numbers(&[]))
        .answer("FROM numbers", numbers(&[1, 2]))
        .answer("FROM numbers", numbers(&[3]))
        .run()
        .unwrap();
    let read: Vec<i64> = columns::values::<Int64Type>(&ran.table(0), "n")
        .unwrap()
        .values()
        .to_vec();
    assert_eq!(read, [1, 2, 3]);
    assert_eq!(ran.queries.len(), 4);
    assert_eq!(ran.queries[0].params, [("page".to_owned(), Value::Int(2))]);
    let unknown = TestRun::new(Asking).run().unwrap_err().to_string();
    assert!(unknown.contains("`SELECT n FROM numbers`"), "{unknown}");
}

/// A loader that keeps, or forgets, the token of its last commit, and may miscount.
struct Store {
    kept: Option<Arc<Mutex<Option<CommitToken>>>>,
    miscounts: bool,
}

static TOKEN: Mutex<Option<CommitToken>> = Mutex::new(None);

impl Pipeline for Store {
    type Settings = NoSettings;

    fn manifest(&self) -> Manifest {
        Manifest::new("store", "1.0.0")
            .description("Stores")
            .delivery(Delivery::Idempotent)
    }

    fn loader(&self, _: &NoSettings) -> Result<Option<Box<dyn Loader>>> {
        Ok(Some(Box::new(Self {
            kept: self.kept.clone(),
            miscounts: self.miscounts,
        })))
    }
}

impl Loader for Store {
    fn open(&mut self, _: &dyn LoadContext, _: &[TableSchema]) -> Result<Option<CommitToken>> {
        Ok(match &self.kept {
            Some(kept) => kept.lock().unwrap().clone(),
            None => TOKEN.lock().unwrap().clone(),
        })
    }

    fn load(&mut self, _: &dyn LoadContext, output: &Output) -> Result<Loaded> {
        Ok(Loaded {
            loaded: output.batch.num_rows() as u64 + u64::from(self.miscounts),
            ..Loaded::default()
        })
    }

    fn commit(&mut self, _: &dyn LoadContext, token: &CommitToken) -> Result<()> {
        if self.kept.is_none() {
            *TOKEN.lock().unwrap() = Some(token.clone());
        }
        Ok(())
    }
}

mod good_store {
    use super::*;

    etl_plugin_api::conformance!(
        Store {
            kept: None,
            miscounts: false
        },
        input = orders()
    );
}

#[test]
fn a_loader_that_miscounts_is_found() {
    let store = Store {
        kept: None,
        miscounts: true,
    };
    let error = TestRun::new(store).input(orders()).run().unwrap_err();
    assert_eq!(
        error.message(),
        "the loader accounts for 4 of 3 rows: every row is loaded, superseded or rejected"
    );
}

/// What a check says of a pipeline that it must not pass.
fn verdict(make: fn() -> Box<dyn DynPipeline>, check: fn(&Conformance)) -> String {
    let subject = Conformance::new(make).input(orders());
    judged(&subject, check)
}

fn judged(subject: &Conformance, check: fn(&Conformance)) -> String {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(subject)));
    let panic = caught.expect_err("the check finds nothing");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap()
}

/// A pipeline made of one function, which may break every rule.
struct Broken {
    manifest: fn() -> Manifest,
    change: fn(&dyn Context, RecordBatch) -> Result<Transformed>,
}

#[derive(Deserialize, JsonSchema)]
struct Anything {}

impl Pipeline for Broken {
    type Settings = Anything;

    fn manifest(&self) -> Manifest {
        (self.manifest)()
    }

    fn transformer(&self, _: &Anything) -> Result<Option<Box<dyn Transformer>>> {
        struct Change(fn(&dyn Context, RecordBatch) -> Result<Transformed>);
        impl Transformer for Change {
            fn open(&mut self, _: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
                Ok(vec![TableSchema::configured(Arc::new(input.clone()))])
            }
            fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed> {
                (self.0)(cx, input)
            }
        }
        Ok(Some(Box::new(Change(self.change))))
    }
}

fn stateless() -> Manifest {
    Manifest::new("broken", "1.0.0")
        .description("Broken")
        .stateless()
}

#[test]
fn every_rule_that_is_broken_is_named() {
    let manifest = verdict(
        || {
            Box::new(Broken {
                manifest: || Manifest::new("Two Words", "1.0.0"),
                change: |_, batch| Ok(Transformed::same_rows(batch)),
            })
        },
        Conformance::manifest_is_whole,
    );
    assert!(manifest.contains("`Two Words`"), "{manifest}");

    let open = verdict(
        || {
            Box::new(Broken {
                manifest: stateless,
                change: |_, batch| Ok(Transformed::same_rows(batch)),
            })
        },
        Conformance::unknown_setting_is_refused,
    );
    assert!(open.contains("deny_unknown_fields"), "{open}");

    let lost = verdict(
        || {
            Box::new(Broken {
                manifest: stateless,
                change: |_, batch| Ok(Transformed::same_rows(batch.slice(0, batch.num_rows() / 2))),
            })
        },
        Conformance::one_row,
    );
    assert!(lost.contains("0 output rows of 1"), "{lost}");

    let columns = verdict(
        || {
            Box::new(Broken {
                manifest: stateless,
                change: |_, batch| Ok(Transformed::same_rows(batch.project(&[1])?)),
            })
        },
        Conformance::one_row,
    );
    assert!(
        columns.contains("column 1 is `customer` Utf8, expected `id` Int64"),
        "{columns}"
    );

    let panics = verdict(
        || {
            Box::new(Broken {
                manifest: stateless,
                change: |_, batch| {
                    let ids = columns::values::<Int64Type>(&batch, "id")?;
                    assert!(ids.iter().all(|id| id.is_some()), "an order without id");
                    Ok(Transformed::same_rows(batch))
                },
            })
        },
        Conformance::all_null_row,
    );
    assert!(panics.contains("an order without id"), "{panics}");

    let state = verdict(
        || {
            Box::new(Broken {
                manifest: || stateless().cardinality(Cardinality::Filter),
                // Only the first row of a batch: it matters how rows are cut into batches.
                change: |_, batch| {
                    let rows = u32::try_from(batch.num_rows()).unwrap();
                    let first = rows.min(1);
                    Ok(Transformed {
                        outputs: vec![Output {
                            table: 0,
                            batch: batch.slice(0, first as usize),
                            origin: Origin::Rows((0..first).collect()),
                        }],
                        filtered: (first..rows).collect(),
                        rejected: vec![],
                    })
                },
            })
        },
        Conformance::same_output_twice,
    );
    assert!(state.contains("leave `stateless` out"), "{state}");
}

#[test]
fn what_fails_when_it_is_to_stop_is_found() {
    let stubborn = verdict(
        || {
            Box::new(Broken {
                manifest: stateless,
                change: |cx, batch| {
                    if cx.cancelled() {
                        return Err(StageError::fatal("no time"));
                    }
                    Ok(Transformed::same_rows(batch))
                },
            })
        },
        Conformance::stops_when_cancelled,
    );
    assert!(stubborn.contains("it fails: no time"), "{stubborn}");
}

#[test]
fn counting_batches_is_no_state() {
    let subject = Conformance::new(|| {
        Box::new(Broken {
            manifest: stateless,
            change: |cx, batch| {
                cx.count("batches", 1);
                Ok(Transformed::same_rows(batch))
            },
        })
    });
    subject.input(orders()).same_output_twice();
}

#[test]
fn what_forgets_where_it_was_is_found() {
    let forgetful = Conformance::new(|| Box::new(Pages { forgetful: true }));
    let twice = judged(&forgetful, Conformance::goes_on_where_it_ended);
    assert!(twice.contains("are not all rows"), "{twice}");

    let forgets = verdict(
        || {
            Box::new(Store {
                kept: Some(Arc::default()),
                miscounts: false,
            })
        },
        Conformance::commit_is_remembered,
    );
    assert!(forgets.contains("token of its last commit"), "{forgets}");
}

#[test]
fn a_transformer_without_rows_to_try_is_told_so() {
    let subject = Conformance::new(|| Box::new(Orders));
    let told = judged(&subject, Conformance::one_row);
    assert!(told.contains("input = batch"), "{told}");
}

#[test]
fn columns_are_added_only_to_rows_that_fit() {
    struct Lengths;
    impl Pipeline for Lengths {
        type Settings = NoSettings;
        fn manifest(&self) -> Manifest {
            Manifest::new("lengths", "1.0.0")
        }
        fn transformer(&self, _: &NoSettings) -> Result<Option<Box<dyn Transformer>>> {
            Ok(Some(Box::new(columns::add(
                [("customer", Expected::Text)],
                [Field::new("length", DataType::Int64, true)],
                |_, batch| {
                    let lengths: Int64Array = columns::texts(batch, "customer")?
                        .map(|text| text.map(|text| i64::try_from(text.len()).unwrap()))
                        .collect();
                    Ok(vec![Arc::new(lengths) as ArrayRef])
                },
            ))))
        }
    }
    let ran = TestRun::new(Lengths).input(orders()).run().unwrap();
    assert_eq!(
        ran.to_string(),
        "\
(the configured table): 3 rows
  id  customer  length
  1   ann       3
  2   NULL      NULL
  3   bob       3
"
    );
    let refused = |columns: &[(&str, DataType)], row| {
        let run = TestRun::new(Lengths).input(batch(columns, row));
        run.run().unwrap_err().to_string()
    };
    assert_eq!(
        refused(&[("customer", DataType::Int64)], json!([[1]])),
        "the column customer is Int64, expected text: cast it in source.query"
    );
    assert_eq!(
        refused(
            &[("customer", DataType::Utf8), ("length", DataType::Int64)],
            json!([["x", 1]])
        ),
        "the query returns length, which this pipeline adds: leave out or rename in source.query"
    );
}
