//! One run of a pipeline on rows of a test, held to what the host would hold it to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::Sender;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use arrow_select::concat::concat_batches;

use super::batches::Aligned;
use super::context::{FakeHost, Query};
use crate::context::{Context, Cursor, Level};
use crate::error::{ErrorKind, Result, StageError};
use crate::export::DynPipeline;
use crate::ledger::{self, Breach};
use crate::manifest::{Cardinality, Delivery, Manifest};
use crate::pipeline::{
    CommitToken, Extractor, Loader, Outcome, Output, Pipeline, Rejection, Resume, TableSchema,
    Transformed, Transformer,
};

/// A run of a pipeline without a host. What is not said is as in the first attempt of a first run.
///
/// The rows given with [`input`](Self::input) take the place of the source; without any, the pipeline's own extractor is
/// asked. Then they pass its transformer and its loader, where it has such; rows that no loader takes count as loaded.
///
/// It refuses what the host would refuse: settings that are wrong, columns that were not announced, rows without a fate,
/// loaders that miscount. It does not check the configuration; `etl-host validate` does.
pub struct TestRun {
    pipeline: Box<dyn DynPipeline>,
    settings: serde_json::Value,
    input: Vec<RecordBatch>,
    host: FakeHost,
    stop_after: Option<usize>,
    insist: Option<Sender<()>>,
}

impl TestRun {
    /// A run of this pipeline, with no settings.
    pub fn new(pipeline: impl Pipeline) -> Self {
        Self::of(Box::new(pipeline))
    }

    pub(super) fn of(pipeline: Box<dyn DynPipeline>) -> Self {
        let mut host = FakeHost::default();
        "test".clone_into(&mut host.attempt.run_id);
        "partition".clone_into(&mut host.attempt.partition);
        host.attempt.pipeline = pipeline.manifest().name;
        host.attempt.attempt = 1;
        Self {
            pipeline,
            settings: serde_json::json!({}),
            input: Vec::new(),
            host,
            stop_after: None,
            insist: None,
        }
    }

    /// `settings:` of the configuration.
    #[must_use]
    pub fn settings(mut self, settings: serde_json::Value) -> Self {
        self.settings = settings;
        self
    }

    /// Rows in place of the source's; each call gives one more batch.
    #[must_use]
    pub fn input(mut self, batch: RecordBatch) -> Self {
        self.input.push(batch);
        self
    }

    /// What a statement that contains this text is answered, when an extractor runs it. Of several answers to the same
    /// text each is given once, in order; after the last one there are no more rows.
    #[must_use]
    pub fn answer(mut self, part_of_sql: &str, rows: RecordBatch) -> Self {
        self.host.answer(part_of_sql, rows);
        self
    }

    /// The partition's name.
    #[must_use]
    pub fn partition(mut self, name: &str) -> Self {
        name.clone_into(&mut self.host.attempt.partition);
        self
    }

    /// The position up to which an earlier run has loaded.
    #[must_use]
    pub fn from(mut self, cursor: Cursor) -> Self {
        self.host.attempt.from = Some(cursor);
        self
    }

    /// The position at which this run ends.
    #[must_use]
    pub fn until(mut self, cursor: Cursor) -> Self {
        self.host.attempt.until = Some(cursor);
        self
    }

    /// When the attempt began, in microseconds since 1970-01-01 UTC; otherwise then.
    #[must_use]
    pub fn started_at(mut self, micros: i64) -> Self {
        self.host.attempt.started_at = micros;
        self
    }

    /// A secret that is granted.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.host.secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The run is asked to stop after so many batches; after none, before the first.
    #[must_use]
    pub fn cancel_after(mut self, batches: usize) -> Self {
        self.stop_after = Some(batches);
        self
    }

    /// Calls a stage once more after the run was asked to stop, as when it was at work just then, and tells when.
    #[must_use]
    pub(super) fn insist(mut self, asked: Sender<()>) -> Self {
        self.insist = Some(asked);
        self
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// What a stage returns, and what the host would make of a stage that breaks a rule; then of kind `Fatal`.
    pub fn run(self) -> Result<Ran> {
        let Self {
            pipeline,
            settings,
            input,
            host,
            stop_after,
            insist,
        } = self;
        let settings = settings.to_string();
        check_settings(pipeline.as_ref(), &settings)?;
        let manifest = pipeline.manifest();
        host.cancelled.set(stop_after == Some(0));
        let mut source = if input.is_empty() {
            let extractor = pipeline.extractor(&settings)?.ok_or_else(|| {
                StageError::config("the pipeline has no extractor: give rows with `.input(batch)`")
            })?;
            Source::open(extractor, &host)?
        } else {
            Source::given(input)?
        };
        let mut flow = Flow::open(
            pipeline.as_ref(),
            &settings,
            &manifest,
            &host,
            &source.schema,
        )?;
        let mut batches = 0;
        let mut resume = None;
        while !host.cancelled() {
            let Some((batch, position)) = source.next(&host)? else {
                break;
            };
            flow.take(batch)?;
            resume = position.or(resume);
            batches += 1;
            host.cancelled.set(stop_after == Some(batches));
        }
        if let Some(asked) = insist.filter(|_| host.cancelled()) {
            // Nobody listens any more if that test has failed.
            let _ = asked.send(());
            if let Some((batch, _)) = source.next(&host)? {
                flow.take(batch)?;
            }
        }
        let outcome = if host.cancelled() {
            Outcome::Cancelled
        } else {
            Outcome::Succeeded
        };
        source.close(outcome)?;
        flow.end(outcome)?;
        let tables = flow.tables()?;
        let Flow {
            ledger,
            token,
            last_commit,
            ..
        } = flow;
        Ok(Ran {
            tables,
            extracted: ledger.extracted,
            filtered: ledger.filtered,
            rejected: ledger.rejected,
            resume,
            token,
            last_commit,
            counters: host.counters.into_inner(),
            logs: host.logs.into_inner(),
            queries: host.queries.into_inner(),
        })
    }
}

fn check_settings(pipeline: &dyn DynPipeline, settings: &str) -> Result<()> {
    let problems: Vec<String> = pipeline
        .validate(settings)?
        .into_iter()
        .map(|problem| match problem.key.as_str() {
            "" => format!("settings: {}", problem.message),
            key => format!("settings.{key}: {}", problem.message),
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(StageError::config(problems.join("\n")))
    }
}

/// The rows of a test, or an extractor.
struct Source {
    schema: SchemaRef,
    extractor: Option<Box<dyn Extractor>>,
    given: std::vec::IntoIter<RecordBatch>,
}

impl Source {
    fn open(mut extractor: Box<dyn Extractor>, host: &FakeHost) -> Result<Self> {
        Ok(Self {
            schema: extractor.open(host)?,
            extractor: Some(extractor),
            given: Vec::new().into_iter(),
        })
    }

    fn given(batches: Vec<RecordBatch>) -> Result<Self> {
        let schema = batches
            .first()
            .map(RecordBatch::schema)
            .ok_or_else(|| StageError::fatal("no batch is given"))?;
        if let Some(other) = batches
            .iter()
            .find_map(|batch| ledger::difference(&schema, batch.schema_ref()))
        {
            return Err(StageError::fatal(format!(
                "the batches given with `.input` differ: {other}"
            )));
        }
        Ok(Self {
            schema,
            extractor: None,
            given: batches.into_iter(),
        })
    }

    fn next(&mut self, host: &FakeHost) -> Result<Option<(RecordBatch, Option<Resume>)>> {
        let Some(extractor) = &mut self.extractor else {
            return Ok(self.given.next().map(|batch| (batch, None)));
        };
        let Some(extracted) = extractor.next(host)? else {
            return Ok(None);
        };
        if let Some(other) = ledger::difference(&self.schema, extracted.batch.schema_ref()) {
            return Err(StageError::fatal(format!(
                "the extractor returned other columns than it announced: {other}; return batches with the schema that \
                 `open` returned"
            )));
        }
        Ok(Some((extracted.batch, Some(extracted.resume))))
    }

    fn close(&mut self, outcome: Outcome) -> Result<()> {
        match &mut self.extractor {
            Some(extractor) => extractor.close(outcome),
            None => Ok(()),
        }
    }
}

/// What became of the input rows; rows by their index in the whole input.
#[derive(Default)]
struct Ledger {
    extracted: u64,
    filtered: Vec<u32>,
    rejected: Vec<Rejection>,
}

/// What comes behind the source.
struct Flow<'a> {
    host: &'a FakeHost,
    cardinality: Cardinality,
    transformer: Option<Box<dyn Transformer>>,
    delivery: Delivery,
    loader: Option<Box<dyn Loader>>,
    /// What an idempotent loader held when it was opened.
    last_commit: Option<CommitToken>,
    /// Of the commit at the end.
    token: Option<CommitToken>,
    tables: Vec<TableSchema>,
    /// For each table, what was loaded.
    loaded: Vec<Vec<RecordBatch>>,
    ledger: Ledger,
}

impl<'a> Flow<'a> {
    fn open(
        pipeline: &dyn DynPipeline,
        settings: &str,
        manifest: &Manifest,
        host: &'a FakeHost,
        input: &SchemaRef,
    ) -> Result<Self> {
        let mut transformer = pipeline.transformer(settings)?;
        let (tables, cardinality) = match &mut transformer {
            Some(transformer) => (transformer.open(host, input)?, manifest.cardinality),
            None => (
                vec![TableSchema::configured(input.clone())],
                Cardinality::OnePerRow,
            ),
        };
        if tables.is_empty() || tables.iter().skip(1).any(|table| table.name.is_none()) {
            return Err(StageError::fatal(
                "the transformer must return at least one table, and a name for each after the first",
            ));
        }
        let mut loader = pipeline.loader(settings)?;
        let last_commit = match &mut loader {
            Some(loader) => loader.open(host, &tables)?,
            None => None,
        };
        Ok(Self {
            host,
            cardinality,
            transformer,
            delivery: manifest.delivery,
            loader,
            last_commit,
            token: None,
            loaded: vec![Vec::new(); tables.len()],
            tables,
            ledger: Ledger::default(),
        })
    }

    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let transformed = match &mut self.transformer {
            Some(transformer) => transformer.transform(self.host, batch)?,
            None => Transformed::same_rows(batch),
        };
        let before = u32::try_from(self.ledger.extracted).unwrap_or(u32::MAX);
        self.account(transformed, rows, before)?;
        self.ledger.extracted += rows as u64;
        Ok(())
    }

    fn account(&mut self, transformed: Transformed, rows: usize, before: u32) -> Result<()> {
        ledger::check(&transformed, rows, &self.tables, self.cardinality).map_err(broken)?;
        let filtered = transformed.filtered.iter().map(|row| row + before);
        self.ledger.filtered.extend(filtered);
        let rejected = transformed.rejected.into_iter().map(|rejection| Rejection {
            row: rejection.row + before,
            ..rejection
        });
        self.ledger.rejected.extend(rejected);
        for output in transformed.outputs {
            self.load(output)?;
        }
        Ok(())
    }

    fn load(&mut self, output: Output) -> Result<()> {
        if let Some(loader) = &mut self.loader {
            let rows = output.batch.num_rows() as u64;
            let written = self.host.written.borrow().len();
            let loaded = loader.load(self.host, &output)?;
            let told = loaded.loaded + loaded.superseded + loaded.rejected.len() as u64;
            if told != rows {
                return Err(StageError::fatal(format!(
                    "the loader accounts for {told} of {rows} rows: every row is loaded, superseded or rejected"
                )));
            }
            let through_host = self.host.written.borrow().len() > written;
            if self.delivery == Delivery::Transactional && rows > 0 && !through_host {
                return Err(StageError::fatal(
                    "the loader is transactional by its manifest, but did not pass its rows on to `cx.write`",
                ));
            }
        }
        let index = usize::try_from(output.table).ok();
        if let Some(table) = index.and_then(|index| self.loaded.get_mut(index)) {
            table.push(output.batch);
        }
        Ok(())
    }

    fn end(&mut self, outcome: Outcome) -> Result<()> {
        if outcome == Outcome::Succeeded
            && let Some(transformer) = &mut self.transformer
        {
            let rest = transformer.finish(self.host)?;
            if !rest.rejected.is_empty() {
                return Err(StageError::fatal(
                    "the transformer rejects rows when it finishes, where they have no input row any more: reject them \
                     in `transform`",
                ));
            }
            self.account(rest, 0, 0)?;
        }
        if let Some(loader) = &mut self.loader {
            let token = CommitToken("test-commit".to_owned());
            loader.commit(self.host, &token)?;
            loader.close(outcome)?;
            self.token = Some(token);
        }
        match &mut self.transformer {
            Some(transformer) => transformer.close(outcome),
            None => Ok(()),
        }
    }

    fn tables(&self) -> Result<Vec<Table>> {
        let tables = self.tables.iter().zip(&self.loaded);
        tables
            .map(|(table, batches)| {
                Ok(Table {
                    name: table.name.clone(),
                    rows: concat_batches(&table.schema, batches)?,
                })
            })
            .collect()
    }
}

fn broken(breach: Breach) -> StageError {
    StageError::new(
        ErrorKind::Fatal,
        match breach {
            Breach::Table(what) => format!("{what}; return each table from `open`"),
            Breach::Rows(what) => format!(
                "the transformer does not account for its rows: {what}; name each input row as the origin of output, as \
                 filtered, or as rejected"
            ),
            Breach::Columns(what) => format!(
                "the transformer returned other columns than it announced: {what}; return batches with the schema that \
                 `open` returned"
            ),
        },
    )
}

/// Rows for one table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its name; `None` for the configured one.
    pub name: Option<String>,
    /// What was loaded.
    pub rows: RecordBatch,
}

/// What a run did. As text it shows every table and what became of the other rows, for snapshots.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The tables, as the transformer returned them.
    pub tables: Vec<Table>,
    /// Rows that went in.
    pub extracted: u64,
    /// Rows left out, by their index in the whole input.
    pub filtered: Vec<u32>,
    /// Rows set aside, by their index in the whole input.
    pub rejected: Vec<Rejection>,
    /// Where the next run goes on, as the extractor said with its last batch.
    pub resume: Option<Resume>,
    /// The token of the commit at the end, where there is a loader.
    pub token: Option<CommitToken>,
    /// The token that the loader returned when it was opened.
    pub last_commit: Option<CommitToken>,
    /// What the stages counted.
    pub counters: BTreeMap<String, u64>,
    /// What they said.
    pub logs: Vec<(Level, String)>,
    /// The statements that the extractor ran.
    pub queries: Vec<Query>,
}

impl Ran {
    /// The rows of a table, of which the configured one is number 0; no rows and no columns if there is none.
    pub fn table(&self, index: usize) -> RecordBatch {
        match self.tables.get(index) {
            Some(table) => table.rows.clone(),
            None => RecordBatch::new_empty(Schema::empty().into()),
        }
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            let name = table.name.as_deref().unwrap_or("(the configured table)");
            let rows = table.rows.num_rows();
            let s = if rows == 1 { "" } else { "s" };
            write!(f, "{name}: {rows} row{s}\n{}", Aligned(&table.rows))?;
        }
        if !self.filtered.is_empty() {
            writeln!(f, "filtered: row {}", listed(&self.filtered))?;
        }
        for Rejection {
            row,
            column,
            reason,
        } in &self.rejected
        {
            let column = column
                .as_ref()
                .map_or(String::new(), |column| format!(", column {column}"));
            writeln!(f, "rejected: row {row}{column}: {reason}")?;
        }
        for (name, count) in &self.counters {
            writeln!(f, "counted: {name} {count}")?;
        }
        Ok(())
    }
}

fn listed(rows: &[u32]) -> String {
    let rows: Vec<String> = rows.iter().map(u32::to_string).collect();
    rows.join(", ")
}
