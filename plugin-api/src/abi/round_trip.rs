//! Pipelines given out and taken in again inside one process: what one side says, the other hears.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::sabi_types::RRef;
use abi_stable::std_types::{ROk, RStr, RString};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::ForeignPipeline;
use super::foreign::ForeignHost;
use super::object::{AbiOutput, HostAbi, HostAbi_TO, ReaderObject, Services, export_pipeline};
use super::{AbiResult, guarded, returned};
use crate::context::{
    AttemptInfo, BatchReader, Context, Cursor, ExtractContext, Level, LoadContext, Value,
};
use crate::error::{ErrorKind, Result, StageError};
use crate::manifest::{Manifest, Problem};
use crate::pipeline::{
    CommitToken, Extracted, Extractor, Loaded, Loader, Origin, Outcome, Output, Partition,
    Pipeline, Rejection, Resume, TableSchema, Transformed, Transformer,
};

/// What the stages heard, in order.
type Heard = Arc<Mutex<Vec<String>>>;

fn hear(heard: &Heard, what: impl Into<String>) {
    heard.lock().unwrap().push(what.into());
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The kind of error that each call ends with.
    #[serde(default)]
    fail: Option<String>,
    #[serde(default)]
    plain: bool,
}

impl Settings {
    fn check(&self) -> Result<()> {
        let kind = match self.fail.as_deref() {
            None => return Ok(()),
            Some("transient") => ErrorKind::Transient,
            Some("config") => ErrorKind::Config,
            Some("cancelled") => ErrorKind::Cancelled,
            Some("rejected") => ErrorKind::Rejected,
            Some("panic") => panic!("at the seam"),
            Some(_) => ErrorKind::Fatal,
        };
        Err(StageError::new(kind, "as told").in_column("c"))
    }
}

struct Everything(Heard);

impl Pipeline for Everything {
    type Settings = Settings;

    fn manifest(&self) -> Manifest {
        Manifest::new("everything", "1.0.0")
    }

    fn validate(&self, _: &Settings) -> Vec<Problem> {
        vec![Problem::new("a.b", "wrong"), Problem::new("", "all wrong")]
    }

    fn partitions(&self, settings: &Settings, cx: &dyn Context) -> Result<Option<Vec<Partition>>> {
        settings.check()?;
        let name = cx.attempt().pipeline.clone();
        Ok((!settings.plain).then(|| vec![Partition { name }]))
    }

    fn extractor(&self, settings: &Settings) -> Result<Option<Box<dyn Extractor>>> {
        settings.check()?;
        let stage = Stage(self.0.clone(), 0);
        Ok((!settings.plain).then(|| Box::new(stage) as Box<dyn Extractor>))
    }

    fn transformer(&self, settings: &Settings) -> Result<Option<Box<dyn Transformer>>> {
        settings.check()?;
        let stage = Stage(self.0.clone(), 0);
        Ok((!settings.plain).then(|| Box::new(stage) as Box<dyn Transformer>))
    }

    fn loader(&self, settings: &Settings) -> Result<Option<Box<dyn Loader>>> {
        settings.check()?;
        let stage = Stage(self.0.clone(), 0);
        Ok((!settings.plain).then(|| Box::new(stage) as Box<dyn Loader>))
    }
}

struct Stage(Heard, usize);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]))
}

fn batch(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_new(schema(), vec![values]).unwrap()
}

fn values(batch: &RecordBatch) -> Vec<i64> {
    let column = batch.column(0).as_primitive::<Int64Type>();
    column.values().to_vec()
}

fn resumes() -> [Resume; 5] {
    [
        Resume::CursorColumn,
        Resume::After(Cursor::Integer(i64::MIN)),
        Resume::After(Cursor::Text(
            "2024-01-31T23:59:59.9999999 \u{0}\u{1f600}".to_owned(),
        )),
        Resume::After(Cursor::Opaque("{\"page\": 7}".to_owned())),
        Resume::NotHere,
    ]
}

impl Extractor for Stage {
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef> {
        let parameters = [
            ("null", Value::Null),
            ("bool", Value::Bool(true)),
            ("int", Value::Int(i64::MAX)),
            ("float", Value::Float(0.1)),
            ("text", Value::Text("it's".to_owned())),
        ];
        let mut reader = cx.query("SELECT 1", &parameters)?;
        hear(
            &self.0,
            format!("columns {:?}", reader.schema().field(0).name()),
        );
        while let Some(batch) = reader.next()? {
            hear(&self.0, format!("read {:?}", values(&batch)));
        }
        Ok(schema())
    }

    fn next(&mut self, _: &dyn ExtractContext) -> Result<Option<Extracted>> {
        let resume = resumes().into_iter().nth(self.1);
        self.1 += 1;
        Ok(resume.map(|resume| Extracted {
            batch: batch([1, 2]),
            resume,
        }))
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        hear(&self.0, format!("closed {outcome:?}"));
        Ok(())
    }
}

impl Transformer for Stage {
    fn open(&mut self, cx: &dyn Context, input: &Schema) -> Result<Vec<TableSchema>> {
        hear(&self.0, format!("input {:?}", input.field(0).name()));
        cx.log(Level::Error, "e");
        cx.log(Level::Warn, "w");
        cx.log(Level::Info, "i");
        cx.log(Level::Debug, "d");
        cx.count("rows", 7);
        hear(&self.0, format!("cancelled {}", cx.cancelled()));
        hear(
            &self.0,
            format!("secret {:?}", cx.secret("token").map_err(|e| e.kind())),
        );
        Ok(vec![
            TableSchema::configured(schema()),
            TableSchema::named("other", schema()),
        ])
    }

    fn transform(&mut self, cx: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        hear(&self.0, format!("attempt {:?}", cx.attempt()));
        let output = |table, origin| Output {
            table,
            batch: input.clone(),
            origin,
        };
        Ok(Transformed {
            outputs: vec![
                output(0, Origin::SameRows),
                output(1, Origin::Rows(vec![1, 0])),
                output(u32::MAX, Origin::Aggregated),
            ],
            filtered: vec![3, 1],
            rejected: vec![
                Rejection {
                    row: 2,
                    column: Some("v".to_owned()),
                    reason: "odd".to_owned(),
                },
                Rejection {
                    row: 4,
                    column: None,
                    reason: String::new(),
                },
            ],
        })
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        hear(&self.0, format!("closed {outcome:?}"));
        Ok(())
    }
}

impl Loader for Stage {
    fn open(&mut self, _: &dyn LoadContext, tables: &[TableSchema]) -> Result<Option<CommitToken>> {
        let names: Vec<_> = tables.iter().map(|table| table.name.clone()).collect();
        hear(&self.0, format!("tables {names:?}"));
        Ok(Some(CommitToken("last \"one\"".to_owned())))
    }

    fn load(&mut self, cx: &dyn LoadContext, output: &Output) -> Result<Loaded> {
        cx.write(output)
    }

    fn commit(&mut self, _: &dyn LoadContext, token: &CommitToken) -> Result<()> {
        hear(&self.0, format!("commit {:?}", token.0));
        Ok(())
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        hear(&self.0, format!("closed {outcome:?}"));
        Ok(())
    }
}

/// The host's side.
#[derive(Default)]
struct Host {
    info: AttemptInfo,
    panics: bool,
    said: RefCell<Vec<String>>,
}

impl Host {
    fn new() -> Self {
        Self {
            info: AttemptInfo {
                run_id: "run".to_owned(),
                pipeline: "everything".to_owned(),
                partition: "eu".to_owned(),
                attempt: 3,
                from: Some(Cursor::Integer(1)),
                until: Some(Cursor::Text("z".to_owned())),
                started_at: -5,
            },
            ..Self::default()
        }
    }

    fn say(&self, what: String) {
        assert!(!self.panics, "the host's service panics");
        self.said.borrow_mut().push(what);
    }
}

impl Context for Host {
    fn attempt(&self) -> &AttemptInfo {
        &self.info
    }

    fn secret(&self, name: &str) -> Result<String> {
        self.say(format!("secret {name}"));
        Err(StageError::config("not granted"))
    }

    fn cancelled(&self) -> bool {
        self.say("cancelled".to_owned());
        false
    }

    fn log(&self, level: Level, message: &str) {
        self.say(format!("{level:?} {message}"));
    }

    fn count(&self, name: &str, n: u64) {
        self.say(format!("count {name} {n}"));
    }
}

struct TwoBatches(i64);

impl BatchReader for TwoBatches {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn next(&mut self) -> Result<Option<RecordBatch>> {
        self.0 += 1;
        Ok((self.0 <= 2).then(|| batch([self.0])))
    }
}

impl ExtractContext for Host {
    fn query(&self, sql: &str, params: &[(&str, Value)]) -> Result<Box<dyn BatchReader + '_>> {
        self.say(format!("{sql} {params:?}"));
        Ok(Box::new(TwoBatches(0)))
    }
}

impl LoadContext for Host {
    fn write(&self, output: &Output) -> Result<Loaded> {
        self.say(format!(
            "write {} {:?} {:?}",
            output.table,
            values(&output.batch),
            output.origin
        ));
        Ok(Loaded {
            loaded: 1,
            superseded: 2,
            rejected: vec![Rejection {
                row: 1,
                column: None,
                reason: "too long".to_owned(),
            }],
        })
    }
}

fn pipeline() -> (ForeignPipeline, Heard) {
    let heard = Heard::default();
    let exported = export_pipeline(Box::new(Everything(heard.clone())));
    (ForeignPipeline::new(exported), heard)
}

fn taken(heard: &Heard) -> Vec<String> {
    std::mem::take(&mut heard.lock().unwrap())
}

#[test]
fn settings_are_checked_for_shape_and_meaning() {
    let (pipeline, _) = pipeline();
    let problems = pipeline.validate("{}").unwrap();
    let found: Vec<_> = problems
        .iter()
        .map(|problem| (problem.key.as_str(), problem.message.as_str()))
        .collect();
    assert_eq!(found, [("a.b", "wrong"), ("", "all wrong")]);
    let problems = pipeline.validate(r#"{"fail": 1}"#).unwrap();
    assert_eq!(problems[0].key, "fail");
    assert!(!problems[0].message.contains("line"), "{problems:?}");
    let error = pipeline
        .partitions(r#"{"no": 1}"#, &Host::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_stage_left_out_stays_left_out() {
    let (pipeline, _) = pipeline();
    let plain = r#"{"plain": true}"#;
    assert!(pipeline.partitions(plain, &Host::new()).unwrap().is_none());
    assert!(pipeline.extractor(plain).unwrap().is_none());
    assert!(pipeline.transformer(plain).unwrap().is_none());
    assert!(pipeline.loader(plain).unwrap().is_none());
    let own = pipeline.partitions("{}", &Host::new()).unwrap().unwrap();
    assert_eq!(own[0].name, "everything");
}

#[test]
fn every_kind_of_error_arrives_as_what_it_was() {
    let (pipeline, _) = pipeline();
    for (word, kind) in [
        ("transient", ErrorKind::Transient),
        ("fatal", ErrorKind::Fatal),
        ("config", ErrorKind::Config),
        ("cancelled", ErrorKind::Cancelled),
        ("rejected", ErrorKind::Rejected),
    ] {
        let settings = format!(r#"{{"fail": "{word}"}}"#);
        let error = pipeline.transformer(&settings).err().unwrap();
        assert_eq!((error.kind(), error.message()), (kind, "as told"));
        assert_eq!(error.column(), Some("c"));
    }
    for error in [
        pipeline.extractor(r#"{"fail": "panic"}"#).err().unwrap(),
        pipeline.transformer(r#"{"fail": "panic"}"#).err().unwrap(),
        pipeline.loader(r#"{"fail": "panic"}"#).err().unwrap(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(error.message().contains("at the seam"), "{error}");
    }
}

#[test]
fn an_extractor_crosses_with_its_queries_and_positions() {
    let (pipeline, heard) = pipeline();
    let host = Host::new();
    let mut extractor = pipeline.extractor("{}").unwrap().unwrap();
    assert_eq!(extractor.open(&host).unwrap(), schema());
    assert_eq!(taken(&heard), ["columns \"v\"", "read [1]", "read [2]"]);
    assert_eq!(
        host.said.take(),
        [
            "SELECT 1 [(\"null\", Null), (\"bool\", Bool(true)), (\"int\", Int(9223372036854775807)), \
             (\"float\", Float(0.1)), (\"text\", Text(\"it's\"))]"
        ]
    );
    for resume in resumes() {
        let extracted = extractor.next(&host).unwrap().unwrap();
        assert_eq!(extracted.resume, resume);
        assert_eq!(extracted.batch, batch([1, 2]));
    }
    assert!(extractor.next(&host).unwrap().is_none());
    extractor.close(Outcome::Succeeded).unwrap();
    assert_eq!(taken(&heard), ["closed Succeeded"]);
}

#[test]
fn a_transformer_crosses_with_everything_it_says_of_its_rows() {
    let (pipeline, heard) = pipeline();
    let host = Host::new();
    let mut transformer = pipeline.transformer("{}").unwrap().unwrap();
    let tables = transformer.open(&host, &schema()).unwrap();
    let expected = [
        TableSchema::configured(schema()),
        TableSchema::named("other", schema()),
    ];
    assert_eq!(tables, expected);
    assert_eq!(
        taken(&heard),
        ["input \"v\"", "cancelled false", "secret Err(Config)"]
    );
    assert_eq!(
        host.said.take(),
        [
            "Error e",
            "Warn w",
            "Info i",
            "Debug d",
            "count rows 7",
            "cancelled",
            "secret token"
        ]
    );
    let made = transformer.transform(&host, batch([5, 6])).unwrap();
    let outputs: Vec<_> = made
        .outputs
        .iter()
        .map(|output| (output.table, values(&output.batch), output.origin.clone()))
        .collect();
    assert_eq!(
        outputs,
        [
            (0, vec![5, 6], Origin::SameRows),
            (1, vec![5, 6], Origin::Rows(vec![1, 0])),
            (u32::MAX, vec![5, 6], Origin::Aggregated),
        ]
    );
    assert_eq!(made.filtered, [3, 1]);
    let rejected = &made.rejected;
    assert_eq!(
        (rejected[0].row, rejected[0].column.as_deref()),
        (2, Some("v"))
    );
    assert_eq!((rejected[1].row, rejected[1].column.as_deref()), (4, None));
    assert_eq!(taken(&heard), [format!("attempt {:?}", host.info)]);
    let rest = transformer.finish(&host).unwrap();
    assert!(rest.outputs.is_empty() && rest.rejected.is_empty());
    transformer.close(Outcome::Cancelled).unwrap();
    assert_eq!(taken(&heard), ["closed Cancelled"]);
}

#[test]
fn a_loader_crosses_with_its_tokens_and_writes_through_the_host() {
    let (pipeline, heard) = pipeline();
    let host = Host::new();
    let mut loader = pipeline.loader("{}").unwrap().unwrap();
    let tables = [
        TableSchema::configured(schema()),
        TableSchema::named("other", schema()),
    ];
    let token = loader.open(&host, &tables).unwrap();
    assert_eq!(token, Some(CommitToken("last \"one\"".to_owned())));
    let output = Output {
        table: 1,
        batch: batch([8]),
        origin: Origin::Rows(vec![0]),
    };
    let answer = loader.load(&host, &output).unwrap();
    assert_eq!((answer.loaded, answer.superseded), (1, 2));
    assert_eq!(answer.rejected[0].reason, "too long");
    loader
        .commit(&host, &CommitToken("next".to_owned()))
        .unwrap();
    loader.close(Outcome::Failed).unwrap();
    assert_eq!(host.said.take(), ["write 1 [8] Rows([0])"]);
    assert_eq!(
        taken(&heard),
        [
            "tables [None, Some(\"other\")]",
            "commit \"next\"",
            "closed Failed"
        ]
    );
}

#[test]
fn a_service_of_the_host_that_panics_does_not_unwind_into_the_plugin() {
    let (pipeline, heard) = pipeline();
    let host = Host {
        panics: true,
        ..Host::new()
    };
    let mut loader = pipeline.loader("{}").unwrap().unwrap();
    let output = Output {
        table: 0,
        batch: batch([8]),
        origin: Origin::SameRows,
    };
    let error = loader.load(&host, &output).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(
        error.message().contains("the host's service panics"),
        "{error}"
    );
    // The stage failed, so it is over.
    let again = loader
        .commit(&host, &CommitToken(String::new()))
        .unwrap_err();
    assert!(again.message().contains("not called again"), "{again}");

    // Services without a result lose their call, and a stage that asks whether to stop is told to.
    let mut transformer = pipeline.transformer("{}").unwrap().unwrap();
    transformer.open(&host, &schema()).unwrap();
    assert_eq!(
        taken(&heard),
        ["input \"v\"", "cancelled true", "secret Err(Panicked)"]
    );
    let mut extractor = pipeline.extractor("{}").unwrap().unwrap();
    assert_eq!(
        extractor.open(&host).unwrap_err().kind(),
        ErrorKind::Panicked
    );
}

#[test]
fn only_the_stage_that_may_use_a_service_can() {
    let host = Host::new();
    let services = Services::Basic(&host);
    let lent = ForeignHost::new(HostAbi_TO::from_ptr(RRef::new(&services), TD_Opaque));
    let refused = lent.query("SELECT 1", &[]).err().unwrap();
    assert!(refused.message().contains("only an extractor"), "{refused}");
    let output = Output {
        table: 0,
        batch: batch([1]),
        origin: Origin::SameRows,
    };
    let refused = lent.write(&output).unwrap_err();
    assert!(refused.message().contains("only a loader"), "{refused}");
    assert!(host.said.take().is_empty());
}

/// A host that knows a kind of position which this side does not.
struct NewerHost;

impl HostAbi for NewerHost {
    fn attempt(&self) -> AbiResult<RString> {
        ROk(r#"{"pipeline": "p", "mood": 1, "from": {"type": "star-date", "value": 7}}"#.into())
    }

    fn secret(&self, _: RStr<'_>) -> AbiResult<RString> {
        guarded(|| Err(StageError::config("not granted")))
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn log(&self, _: u32, _: RStr<'_>) {}

    fn count(&self, _: RStr<'_>, _: u64) {}

    fn query<'a>(&'a self, _: RStr<'_>, _: RStr<'_>) -> AbiResult<ReaderObject<'a>> {
        guarded(|| Err(StageError::fatal("no source")))
    }

    fn write(&self, _: AbiOutput) -> AbiResult<RString> {
        guarded(|| Err(StageError::fatal("no sink")))
    }
}

#[test]
fn a_position_that_is_not_understood_is_no_beginning() {
    let exported = export_pipeline(Box::new(Everything(Heard::default())));
    let newer = NewerHost;
    let lent = || HostAbi_TO::from_ptr(RRef::new(&newer), TD_Opaque);
    let settings = RStr::from_str("{}");
    let mut extractor = returned(exported.extractor(settings)).unwrap().unwrap();
    let error = returned(extractor.open(lent())).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.message().contains("star-date"), "{error}");
    let mut loader = returned(exported.loader(settings)).unwrap().unwrap();
    assert!(loader.open(lent(), Vec::new().into()).is_err());
    assert!(exported.partitions(settings, lent()).is_err());
}
