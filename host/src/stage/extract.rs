//! Drives a plugin's own extractor on a blocking thread, and lends it the host's source.

use std::cell::{RefCell, RefMut};

use arrow_array::{Array, RecordBatch, cast::AsArray};
use arrow_schema::{DataType, SchemaRef};
use etl_plugin_api::{
    BatchReader, Context, ExtractContext, Extracted, Extractor, Outcome, StageError, Value,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::context::{HostContext, delegate_context};
use crate::config::Cursor as CursorConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::extension::same_columns;
use crate::source::{CursorColumn, ReadRequest, RowStream, SourceSession};
use crate::task;

/// Batches that wait between the extractor's thread and the runtime.
const BATCHES_AHEAD: usize = 1;

/// A plugin's extractor at work.
pub struct ExtractStage {
    schema: SchemaRef,
    batches: mpsc::Receiver<Result<Option<Extracted>>>,
}

/// What its queries start from.
#[derive(Clone, Debug)]
pub struct ExtractQueries {
    /// The cursor, whose column's type the window is bound with.
    pub cursor: Option<CursorConfig>,
    /// Most rows per batch.
    pub batch_rows: usize,
    /// Bytes at which a batch ends.
    pub batch_bytes: usize,
}

impl ExtractStage {
    /// Opens the extractor. `session` is where its queries go, if there is a configured source.
    pub async fn open(
        extractor: Box<dyn Extractor>,
        cx: HostContext,
        session: Option<Box<dyn SourceSession>>,
        queries: ExtractQueries,
    ) -> Result<Self> {
        let (batches_in, mut batches) = mpsc::channel(BATCHES_AHEAD);
        let (schema_in, schema) = oneshot::channel();
        let handle = Handle::current();
        task::spawn_blocking(move || {
            let cx = HostExtractContext {
                cx,
                handle,
                session: RefCell::new(session),
                queries,
            };
            if let Err(error) = drive(extractor, &cx, schema_in, &batches_in) {
                let _ = batches_in.blocking_send(Err(error));
            }
        });
        match schema.await {
            Ok(schema) => Ok(Self { schema, batches }),
            Err(_) => match batches.recv().await {
                Some(Err(error)) => Err(error),
                _ => Err(Error::internal(
                    "the extractor's thread ended without a word",
                )),
            },
        }
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next batch; `None` once the extractor has said that there are no more.
    pub async fn next(&mut self) -> Result<Option<Extracted>> {
        self.batches.recv().await.unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::Unproven,
                "the extractor's thread ended before the last row",
            ))
        })
    }
}

fn drive(
    mut extractor: Box<dyn Extractor>,
    cx: &HostExtractContext,
    schema: oneshot::Sender<SchemaRef>,
    batches: &mpsc::Sender<Result<Option<Extracted>>>,
) -> Result<()> {
    let opened = extractor
        .open(cx)
        .map_err(|error| cx.cx.stage_error("open the extractor", error))?;
    if schema.send(opened.clone()).is_err() {
        return Ok(());
    }
    loop {
        let extracted = extractor
            .next(cx)
            .map_err(|error| cx.cx.stage_error("extract", error))?;
        if let Some(extracted) = &extracted
            && !same_columns(extracted.batch.schema_ref(), &opened)
        {
            return Err(Error::data(
                "the extractor returned other columns than it announced",
            ));
        }
        let ended = extracted.is_none();
        if ended {
            extractor
                .close(Outcome::Succeeded)
                .map_err(|error| cx.cx.stage_error("close the extractor", error))?;
        }
        if batches.blocking_send(Ok(extracted)).is_err() || ended {
            return Ok(());
        }
    }
}

struct HostExtractContext {
    cx: HostContext,
    handle: Handle,
    session: RefCell<Option<Box<dyn SourceSession>>>,
    queries: ExtractQueries,
}

delegate_context!(HostExtractContext);

impl ExtractContext for HostExtractContext {
    fn query(
        &self,
        sql: &str,
        params: &[(&str, Value)],
    ) -> etl_plugin_api::Result<Box<dyn BatchReader + '_>> {
        let mut session = self
            .session
            .try_borrow_mut()
            .map_err(|_| StageError::fatal("an extractor runs one query at a time"))?;
        let Some(open) = session.as_mut() else {
            return Err(StageError::config(
                "this pipeline has no source to query: `source.type` is none, so name a database there",
            ));
        };
        let attempt = self.attempt();
        let request = ReadRequest {
            sql: sql.to_owned(),
            cursor: self.queries.cursor.clone(),
            from: attempt.from.clone(),
            until: attempt.until.clone(),
            parameters: params
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            range: None,
            batch_rows: self.queries.batch_rows,
            batch_bytes: self.queries.batch_bytes,
        };
        let stream = self.handle.block_on(open.read(request))?;
        Ok(Box::new(StreamReader {
            stream,
            handle: &self.handle,
            _session: session,
        }))
    }
}

struct StreamReader<'a> {
    stream: Box<dyn RowStream>,
    handle: &'a Handle,
    /// Held so that a second query is refused as long as this one is open.
    _session: RefMut<'a, Option<Box<dyn SourceSession>>>,
}

impl BatchReader for StreamReader<'_> {
    fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }

    fn next(&mut self) -> etl_plugin_api::Result<Option<RecordBatch>> {
        let Some(read) = self.handle.block_on(self.stream.next())? else {
            return Ok(None);
        };
        if let Some(rejected) = read.rejected.first() {
            return Err(StageError::fatal(format!(
                "column `{}`: {}",
                rejected.column, rejected.reason
            )));
        }
        Ok(Some(read.batch))
    }
}

/// The cursor of each row of a batch that an extractor made.
pub fn cursor_column(batch: &RecordBatch, cursor: &CursorConfig) -> Result<CursorColumn> {
    let values = one_column(batch, &cursor.column)?;
    match (&cursor.id, &values) {
        (None, _) => Ok(values),
        (Some(id), CursorColumn::Text(_)) => match one_column(batch, id)? {
            CursorColumn::Integer(ids) => Ok(CursorColumn::Keyset(Box::new(values), ids)),
            _ => Err(Error::data(format!("the cursor column `{id}` is no Int64"))),
        },
        (Some(_), _) => Err(Error::data(format!(
            "the cursor column `{}` must be Utf8, since it has a number beside it",
            cursor.column
        ))),
    }
}

fn one_column(batch: &RecordBatch, name: &str) -> Result<CursorColumn> {
    let column = batch.column_by_name(name).ok_or_else(|| {
        Error::data(format!(
            "the extractor returned no column `{name}`, which is the cursor"
        ))
    })?;
    if column.null_count() > 0 {
        return Err(Error::data(format!(
            "the cursor column `{name}` holds NULL"
        )));
    }
    match column.data_type() {
        DataType::Int64 => Ok(CursorColumn::Integer(
            column
                .as_primitive::<arrow_array::types::Int64Type>()
                .values()
                .to_vec(),
        )),
        DataType::Utf8 => Ok(CursorColumn::Text(column.as_string::<i32>().clone())),
        // How the source writes its times is not known here, and another form would compare wrongly.
        DataType::Timestamp(..) => Err(Error::data(format!(
            "the cursor column `{name}` is a timestamp, whose form in the source the host cannot know"
        ))
        .hint("return `Resume::After` with the position, or the column as text or number")),
        other => Err(Error::data(format!(
            "the cursor column `{name}` has Arrow type {other}; a cursor is Int64 or Utf8"
        ))),
    }
}
