//! What the host relies on, as tests of a pipeline.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use arrow_array::{RecordBatch, UInt32Array, new_null_array};
use arrow_schema::{Field, Schema};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use super::run::{Ran, Table, TestRun};
use crate::context::Cursor;
use crate::error::{ErrorKind, StageError};
use crate::export::{DynPipeline, guard};
use crate::manifest::{Cardinality, Delivery};
use crate::pipeline::{Rejection, Resume};

/// Rows of a batch as the host makes them.
const BATCH: usize = 8_192;
/// How long a stage may take to notice that the run is to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes a module of tests of what the host relies on in a pipeline. It needs the feature `testkit`.
///
/// ```
/// # use etl_plugin_api::prelude::*;
/// # use etl_plugin_api::testkit::{batch, json};
/// # struct Orders;
/// # impl Pipeline for Orders {
/// #     type Settings = NoSettings;
/// #     fn manifest(&self) -> Manifest { Manifest::new("orders", "1.0.0").description("Orders") }
/// # }
/// etl_plugin_api::conformance!(
///     Orders,
///     // What the pipeline runs with; `{}` if it is left out.
///     settings = json!({}),
///     // Rows as the query returns them; a pipeline with an extractor of its own may do without.
///     input = batch(&[("id", DataType::Int64)], json!([[1], [2]])),
///     // What else a run needs: secrets, answers to statements, a partition's name.
///     run = |run| run.partition("eu"),
/// );
/// # fn main() {}
/// ```
///
/// The tests are:
///
/// | test | holds if |
/// | --- | --- |
/// | `manifest_is_whole` | name, version and description are there and of the right form |
/// | `unknown_setting_is_refused` | a misspelled key is found |
/// | `schema_is_stable` | the same columns are announced every time, for any rows |
/// | `empty_input`, `one_row`, `all_null_row`, `rows_8193` | every row has a fate; a row that cannot be handled is an error or rejected, and no panic |
/// | `stops_when_cancelled` | a run that is asked to stop ends soon, by itself or with `StageError::cancelled` |
/// | `same_output_twice` | a pipeline that says it is stateless makes the same of the same rows, in any batches |
/// | `goes_on_where_it_ended` | an extractor that goes on after a position gives the rest: nothing twice, nothing left out |
/// | `commit_is_remembered` | an idempotent loader tells the token of its last commit when it is opened again |
///
/// What does not concern a pipeline passes: a loader is not asked of one that has none.
#[macro_export]
macro_rules! conformance {
    (
        $pipeline:expr $(, settings = $settings:expr)? $(, input = $input:expr)? $(, run = $run:expr)? $(,)?
    ) => {
        mod conformance {
            #[allow(unused_imports)]
            use super::*;

            #[allow(unused_mut)]
            fn subject() -> $crate::testkit::Conformance {
                let mut subject = $crate::testkit::Conformance::new(|| ::std::boxed::Box::new($pipeline));
                $(subject = subject.settings($settings);)?
                $(subject = subject.input($input);)?
                $(subject = subject.with($run);)?
                subject
            }
            $crate::conformance!(@tests manifest_is_whole unknown_setting_is_refused schema_is_stable empty_input one_row
                all_null_row rows_8193 stops_when_cancelled same_output_twice goes_on_where_it_ended commit_is_remembered);
        }
    };
    (@tests $($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                subject().$name();
            }
        )+
    };
}

/// A pipeline under test.
#[doc(hidden)]
pub struct Conformance {
    make: fn() -> Box<dyn DynPipeline>,
    settings: serde_json::Value,
    input: Option<RecordBatch>,
    with: fn(TestRun) -> TestRun,
}

#[expect(clippy::panic, clippy::missing_panics_doc, reason = "these are tests")]
impl Conformance {
    /// Of what this makes, once for each run.
    pub fn new(make: fn() -> Box<dyn DynPipeline>) -> Self {
        Self {
            make,
            settings: serde_json::json!({}),
            input: None,
            with: |run| run,
        }
    }

    #[must_use]
    pub fn with(mut self, with: fn(TestRun) -> TestRun) -> Self {
        self.with = with;
        self
    }

    #[must_use]
    pub fn settings(mut self, settings: serde_json::Value) -> Self {
        self.settings = settings;
        self
    }

    #[must_use]
    pub fn input(mut self, rows: RecordBatch) -> Self {
        assert!(
            rows.num_rows() > 0,
            "conformance!: `input` needs at least one row"
        );
        self.input = Some(rows);
        self
    }

    pub fn manifest_is_whole(&self) {
        let manifest = (self.make)().manifest();
        let name = &manifest.name;
        let kebab = !name.is_empty()
            && name.split('-').all(|word| {
                !word.is_empty()
                    && word
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            });
        assert!(
            kebab,
            "the name `{name}` is not made of lower-case letters, digits and single dashes"
        );
        assert!(!manifest.version.is_empty(), "the manifest has no version");
        assert!(
            !manifest.description.is_empty(),
            "the manifest has no description: say in a sentence what the pipeline is for"
        );
    }

    pub fn unknown_setting_is_refused(&self) {
        let mut settings = self.settings.clone();
        let serde_json::Value::Object(keys) = &mut settings else {
            panic!("conformance!: `settings` is no object")
        };
        keys.insert("no_such_setting".to_owned(), true.into());
        let problems = (self.make)().validate(&settings.to_string());
        assert!(
            !problems.unwrap_or_else(fail).is_empty(),
            "an unknown setting is accepted: put #[serde(deny_unknown_fields)] on the settings"
        );
    }

    pub fn schema_is_stable(&self) {
        let Some(run) = self.runs() else { return };
        let schemas = |ran: &Ran| -> Vec<_> {
            let tables = ran.tables.iter();
            tables
                .map(|table| (table.name.clone(), table.rows.schema()))
                .collect()
        };
        let first = schemas(&run(None).run().unwrap_or_else(fail));
        let again = schemas(&run(None).run().unwrap_or_else(fail));
        assert_eq!(first, again, "the second run announces other columns");
        if let Some(rows) = &self.input {
            let empty = schemas(&run(Some(rows.slice(0, 0))).run().unwrap_or_else(fail));
            assert_eq!(first, empty, "without rows other columns are announced");
        }
    }

    pub fn empty_input(&self) {
        self.rows_have_a_fate(|rows| rows.slice(0, 0));
    }

    pub fn one_row(&self) {
        self.rows_have_a_fate(|rows| rows.slice(0, 1));
    }

    pub fn rows_8193(&self) {
        self.rows_have_a_fate(|rows| repeated(rows, BATCH + 1));
    }

    fn rows_have_a_fate(&self, of: impl Fn(&RecordBatch) -> RecordBatch) {
        let (Some(run), Some(rows)) = (self.runs(), &self.input) else {
            return;
        };
        let rows = of(rows);
        let count = rows.num_rows() as u64;
        // The run itself holds the transformer to the ledger.
        let ran = run(Some(rows)).run().unwrap_or_else(fail);
        assert_eq!(ran.extracted, count);
    }

    pub fn all_null_row(&self) {
        let (Some(run), Some(rows)) = (self.runs(), &self.input) else {
            return;
        };
        let fields = rows.schema_ref().fields().iter();
        let fields: Vec<Field> = fields
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        let columns = fields
            .iter()
            .map(|field| new_null_array(field.data_type(), 1));
        let columns = columns.collect();
        let nulls = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
        let nulls = nulls.unwrap_or_else(|error| panic!("{error}"));
        if let Err(error) = guard(|| run(Some(nulls)).run()) {
            assert_ne!(
                error.kind(),
                ErrorKind::Panicked,
                "a row of NULLs ends in a panic, expected an error, a rejected row or output: {error}"
            );
        }
    }

    pub fn stops_when_cancelled(&self) {
        if self.runs().is_none() {
            return;
        }
        for batches in [0, 1] {
            let (asked, stop) = mpsc::channel();
            let run = self
                .run(self.input.clone())
                .cancel_after(batches)
                .insist(asked);
            let (done, ended) = mpsc::channel();
            // What hangs is left behind; the test's process ends all the same.
            std::thread::spawn(move || {
                // Nobody waits any more if it took too long.
                let _ = done.send(guard(|| run.run()));
            });
            // How long it takes until then is not the matter. Without so many batches it ends by itself.
            let _ = stop.recv();
            match ended.recv_timeout(PATIENCE) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => assert_eq!(
                    error.kind(),
                    ErrorKind::Cancelled,
                    "asked to stop after {batches} batches, it fails: {error}"
                ),
                Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the run's thread has ended"),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!(
                    "asked to stop after {batches} batches, it goes on for more than {} s: look at `cx.cancelled()`",
                    PATIENCE.as_secs()
                ),
            }
        }
    }

    pub fn same_output_twice(&self) {
        let (Some(run), Some(rows)) = (self.runs(), &self.input) else {
            return;
        };
        let manifest = (self.make)().manifest();
        if !manifest.stateless || manifest.cardinality == Cardinality::Aggregate {
            return;
        }
        let whole = run(Some(rows.clone())).run().unwrap_or_else(fail);
        let again = run(Some(rows.clone())).run().unwrap_or_else(fail);
        assert_eq!(
            fates(&whole),
            fates(&again),
            "the second run makes other rows: leave `stateless` out of the manifest"
        );
        let each = (0..rows.num_rows()).map(|row| rows.slice(row, 1));
        let apart = each.fold(self.run(None), TestRun::input);
        let apart = apart.run().unwrap_or_else(fail);
        assert_eq!(
            fates(&whole),
            fates(&apart),
            "row by row it makes other rows than at once: leave `stateless` out of the manifest"
        );
    }

    pub fn goes_on_where_it_ended(&self) {
        let pipeline = (self.make)();
        let own = pipeline.extractor(&self.settings.to_string());
        // What aggregates has one commit, at its end.
        let aggregates = pipeline.manifest().cardinality == Cardinality::Aggregate;
        if own.unwrap_or_else(fail).is_none() || aggregates {
            return;
        }
        let whole = self.run(None).run().unwrap_or_else(fail);
        let first = self.run(None).cancel_after(1).run().unwrap_or_else(fail);
        let Some(Resume::After(cursor)) = first.resume.clone() else {
            return;
        };
        let rest = self.run(None).from(cursor).run().unwrap_or_else(fail);
        assert_eq!(
            rows_of(&whole),
            rows_of(&first) + rows_of(&rest),
            "the rows up to the first position and those after it are not all rows"
        );
        for (table, whole) in whole.tables.iter().enumerate() {
            let parts = [first.table(table), rest.table(table)];
            let parts = concat_batches(&whole.rows.schema(), &parts);
            assert_eq!(
                whole.rows,
                parts.unwrap_or_else(|error| panic!("{error}")),
                "going on after the first position gives other rows"
            );
        }
        if let Some(Resume::After(end)) = whole.resume.clone() {
            self.nothing_after(end);
        }
    }

    fn nothing_after(&self, end: Cursor) {
        let after = self.run(None).from(end).run().unwrap_or_else(fail);
        assert_eq!(
            after.extracted, 0,
            "going on after the last position gives rows again"
        );
    }

    pub fn commit_is_remembered(&self) {
        let Some(run) = self.runs() else { return };
        if (self.make)().manifest().delivery != Delivery::Idempotent {
            return;
        }
        let ran = run(None).run().unwrap_or_else(fail);
        if ran.token.is_none() {
            return;
        }
        let again = run(None).run().unwrap_or_else(fail);
        assert_eq!(
            again.last_commit, ran.token,
            "the loader does not return the token of its last commit when it is opened again"
        );
    }

    /// How to run it on given rows, or on its own; `None` if it only passes rows on from the host to the host.
    fn runs(&self) -> Option<impl Fn(Option<RecordBatch>) -> TestRun> {
        let pipeline = (self.make)();
        let settings = self.settings.to_string();
        let extracts = pipeline.extractor(&settings).unwrap_or_else(fail).is_some();
        let works = pipeline
            .transformer(&settings)
            .unwrap_or_else(fail)
            .is_some()
            || pipeline.loader(&settings).unwrap_or_else(fail).is_some();
        if self.input.is_none() && !extracts {
            assert!(
                !works,
                "conformance! needs rows as the query returns them: conformance!(…, input = batch(…))"
            );
            return None;
        }
        Some(|rows: Option<RecordBatch>| self.run(rows.or_else(|| self.input.clone())))
    }

    fn run(&self, rows: Option<RecordBatch>) -> TestRun {
        let run = (self.with)(TestRun::of((self.make)()).settings(self.settings.clone()));
        match rows {
            // As the host cuts them.
            Some(rows) if rows.num_rows() > BATCH => run
                .input(rows.slice(0, BATCH))
                .input(rows.slice(BATCH, rows.num_rows() - BATCH)),
            Some(rows) => run.input(rows),
            None => run,
        }
    }
}

#[expect(
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "for `unwrap_or_else` in tests"
)]
fn fail<T>(error: StageError) -> T {
    panic!("{error}")
}

/// What became of the rows; how often something was counted does not matter.
fn fates(ran: &Ran) -> (&[Table], &[u32], &[Rejection]) {
    (&ran.tables, &ran.filtered, &ran.rejected)
}

fn rows_of(ran: &Ran) -> usize {
    let tables = ran.tables.iter();
    tables.map(|table| table.rows.num_rows()).sum()
}

/// So many rows of them, in their order, each again and again.
#[expect(clippy::panic, reason = "for tests")]
fn repeated(rows: &RecordBatch, count: usize) -> RecordBatch {
    let places = (0..count).map(|place| u32::try_from(place * rows.num_rows() / count));
    let places: UInt32Array = places.map(Result::ok).collect();
    take_record_batch(rows, &places).unwrap_or_else(|error| panic!("{error}"))
}
