//! All three stages: a query with a parameter, rows of two tables with some left out and some set aside, and a loader
//! that writes through the host; settings with a meaning, a secret, counters and logs.

use std::sync::Arc;

use etl_plugin_api::CommitToken;
use etl_plugin_api::arrow::array::cast::AsArray;
use etl_plugin_api::arrow::array::{ArrayRef, StringArray, UInt32Array};
use etl_plugin_api::arrow::select::take::take;
use etl_plugin_api::prelude::*;

use crate::manifest;

pub struct People;

#[derive(Deserialize, JsonSchema)]
#[serde(crate = "etl_plugin_api::serde", default, deny_unknown_fields)]
#[schemars(crate = "etl_plugin_api::schemars")]
pub struct Settings {
    /// Every so many-th id is read.
    step: i64,
    greeting: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            step: 1,
            greeting: "hello".to_owned(),
        }
    }
}

impl Pipeline for People {
    type Settings = Settings;

    fn manifest(&self) -> Manifest {
        manifest("golden-people", "golden_people")
            .cardinality(Cardinality::Expand)
            .capabilities(Capabilities::none().secret("token"))
    }

    fn validate(&self, settings: &Settings) -> Vec<Problem> {
        if settings.step < 1 {
            return vec![Problem::new("step", "must be 1 or more")];
        }
        Vec::new()
    }

    fn extractor(&self, settings: &Settings) -> Result<Option<Box<dyn Extractor>>> {
        Ok(Some(Box::new(Queried {
            step: settings.step,
            ready: Vec::new(),
        })))
    }

    fn transformer(&self, settings: &Settings) -> Result<Option<Box<dyn Transformer>>> {
        Ok(Some(Box::new(Greet {
            greeting: settings.greeting.clone(),
        })))
    }

    fn loader(&self, _: &Settings) -> Result<Option<Box<dyn Loader>>> {
        Ok(Some(Box::new(PassOn)))
    }
}

const QUERY: &str = "SELECT id, name FROM people \
                     WHERE id % @step = 0 AND id > @from AND id <= @until ORDER BY id";

struct Queried {
    step: i64,
    /// The last one first.
    ready: Vec<RecordBatch>,
}

impl Extractor for Queried {
    fn open(&mut self, cx: &dyn ExtractContext) -> Result<SchemaRef> {
        let mut reader = cx.query(QUERY, &[("step", Value::Int(self.step))])?;
        while let Some(batch) = reader.next()? {
            self.ready.push(batch);
        }
        self.ready.reverse();
        Ok(reader.schema())
    }

    fn next(&mut self, cx: &dyn ExtractContext) -> Result<Option<Extracted>> {
        let Some(batch) = self.ready.pop() else {
            return Ok(None);
        };
        cx.count("read", batch.num_rows() as u64);
        Ok(Some(Extracted {
            batch,
            resume: Resume::CursorColumn,
        }))
    }

    fn close(&mut self, _: Outcome) -> Result<()> {
        self.ready.clear();
        Ok(())
    }
}

struct Greet {
    greeting: String,
}

fn greetings() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("greeting", DataType::Utf8, false),
    ]))
}

fn names() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, false)]))
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch
        .column_by_name(name)
        .ok_or_else(|| StageError::config(format!("the query returns no column {name}")))
}

impl Transformer for Greet {
    fn open(&mut self, cx: &dyn Context, _: &Schema) -> Result<Vec<TableSchema>> {
        cx.count("letters of the secret", cx.secret("token")?.len() as u64);
        cx.count("secrets refused", u64::from(cx.secret("other").is_err()));
        let attempt = cx.attempt();
        cx.log(
            Level::Warn,
            &format!(
                "greeting {} for {}, attempt {}",
                attempt.partition, attempt.pipeline, attempt.attempt
            ),
        );
        Ok(vec![
            TableSchema::configured(greetings()),
            TableSchema::named("golden_names", names()),
        ])
    }

    fn transform(&mut self, _: &dyn Context, input: RecordBatch) -> Result<Transformed> {
        let mut made = Transformed::default();
        let (mut kept, mut texts, mut called) = (Vec::new(), Vec::new(), Vec::new());
        for (row, name) in (0u32..).zip(column(&input, "name")?.as_string::<i32>()) {
            match name {
                None => made.filtered.push(row),
                Some("bad") => made.rejected.push(Rejection {
                    row,
                    column: Some("name".to_owned()),
                    reason: "nobody greets the bad one".to_owned(),
                }),
                Some(name) => {
                    kept.push(row);
                    texts.push(format!("{} {name}", self.greeting));
                    called.push(name);
                }
            }
        }
        let ids = take(
            column(&input, "id")?,
            &UInt32Array::from(kept.clone()),
            None,
        )?;
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        let called: ArrayRef = Arc::new(StringArray::from(called));
        made.outputs = vec![
            Output {
                table: 0,
                batch: RecordBatch::try_new(greetings(), vec![ids, texts])?,
                origin: Origin::Rows(kept.clone()),
            },
            Output {
                table: 1,
                batch: RecordBatch::try_new(names(), vec![called])?,
                origin: Origin::Rows(kept),
            },
        ];
        Ok(made)
    }
}

struct PassOn;

impl Loader for PassOn {
    fn open(&mut self, _: &dyn LoadContext, _: &[TableSchema]) -> Result<Option<CommitToken>> {
        Ok(None)
    }

    fn load(&mut self, cx: &dyn LoadContext, output: &Output) -> Result<Loaded> {
        let loaded = cx.write(output)?;
        cx.count("passed on", loaded.loaded);
        Ok(loaded)
    }

    fn commit(&mut self, cx: &dyn LoadContext, _: &CommitToken) -> Result<()> {
        cx.count("commits", 1);
        Ok(())
    }
}
