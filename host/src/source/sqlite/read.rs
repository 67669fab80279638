//! Runs one statement on a blocking thread and hands its batches over.

use arrow_schema::DataType;
use etl_plugin_api::Cursor;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, InterruptHandle, Statement};
use tokio::sync::{mpsc, oneshot};

use super::decode::{Decoder, declared_type, value_type};
use super::timestamp::Shape;
use super::{bind, bind_further, bind_range, end_of_window};
use crate::error::{Error, Result};
use crate::source::channel::{ChannelStream, Columns, Stop};
use crate::source::{ReadRequest, RowStream, SourceBatch};
use crate::task;

/// Rows that are looked at for the type of a column without a declaration.
const ROWS_LOOKED_AT: usize = 10_000;
/// Batches that wait between the reading thread and the runtime.
const BATCHES_AHEAD: usize = 1;

impl Stop for InterruptHandle {
    /// A statement that is still looking for its next row would keep its thread.
    fn stop(&self) {
        self.interrupt();
    }
}

/// Starts reading; the connection goes with the stream.
pub async fn start(
    connection: Connection,
    request: ReadRequest,
    shape: Option<Shape>,
    give_back: oneshot::Sender<Connection>,
) -> Result<impl RowStream> {
    let interrupt = connection.get_interrupt_handle();
    let (batches_in, batches) = mpsc::channel(BATCHES_AHEAD);
    let (schema_in, columns) = oneshot::channel();
    task::spawn_blocking(move || {
        if let Err(error) = read(&connection, &request, shape, schema_in, &batches_in) {
            // If nobody listens any more the attempt is over.
            let _ = batches_in.blocking_send(Err(error));
        }
        // The session may read again; if it is gone, so is the connection.
        let _ = give_back.send(connection);
    });
    ChannelStream::open(columns, batches, interrupt).await
}

fn read(
    connection: &Connection,
    request: &ReadRequest,
    shape: Option<Shape>,
    columns: oneshot::Sender<Columns>,
    batches: &mpsc::Sender<Result<Option<SourceBatch>>>,
) -> Result<()> {
    let describe = |error: rusqlite::Error| Error::from(error).while_trying("run the query");
    let mut statement = connection.prepare(&request.sql).map_err(describe)?;
    let declared: Vec<(String, Option<String>)> = statement
        .columns()
        .map(|column| {
            (
                column.name().to_owned(),
                column.decl_type().map(str::to_owned),
            )
        })
        .collect();
    if declared.is_empty() {
        return Err(Error::config("the query returns no columns").hint("use a SELECT statement"));
    }
    if !statement.readonly() {
        return Err(
            Error::config("the query would change the source").hint("use a SELECT statement")
        );
    }
    let (names, declared): (Vec<_>, Vec<_>) = declared.into_iter().unzip();
    let mut types: Vec<_> = declared
        .iter()
        .map(|declaration| declaration.as_deref().and_then(declared_type))
        .collect();
    let window = (request.from.as_ref(), request.until.as_ref());
    if let Some(range) = &request.range
        && types.contains(&None)
    {
        // By rows of all ranges, so that all of them find the same.
        bind_window(&mut statement, request, (None, None))?;
        bind_range(&mut statement, Some(&range.widest()))?;
        look_for_types(&mut statement, &mut types).map_err(describe)?;
    }
    bind_window(&mut statement, request, window)?;
    look_for_types(&mut statement, &mut types).map_err(describe)?;
    if request.cursor.is_some() && types.contains(&None) {
        // A window without rows has the columns of the others all the same.
        bind_window(&mut statement, request, (None, None))?;
        look_for_types(&mut statement, &mut types).map_err(describe)?;
        bind_window(&mut statement, request, window)?;
    }
    let types = types
        .into_iter()
        .map(|known| known.unwrap_or(DataType::Utf8));
    let types = names.into_iter().zip(types).collect();
    let mut rows = statement.raw_query();
    let mut first = rows.next().map_err(describe)?;
    let mut decoder = Decoder::new(types, request, shape)?;
    let known = Columns {
        schema: decoder.schema(),
        declared,
        empty: first.is_none(),
    };
    if columns.send(known).is_err() {
        return Ok(());
    }
    while let Some(row) = first {
        decoder.push(row)?;
        if decoder.is_full() && batches.blocking_send(Ok(Some(decoder.finish()?))).is_err() {
            return Ok(());
        }
        first = rows.next().map_err(describe)?;
    }
    if !decoder.is_empty() && batches.blocking_send(Ok(Some(decoder.finish()?))).is_err() {
        return Ok(());
    }
    // The end is a message of its own: a thread that dies must not look like one that is done.
    let _ = batches.blocking_send(Ok(None));
    Ok(())
}

fn bind_window(
    statement: &mut Statement<'_>,
    request: &ReadRequest,
    (from, until): (Option<&Cursor>, Option<&Cursor>),
) -> Result<()> {
    bind_range(statement, request.range.as_ref())?;
    match &request.cursor {
        Some(cursor) => {
            let until = end_of_window(cursor, until);
            bind(statement, cursor, from, &until, &request.parameters)
        }
        None => bind_further(statement, &request.parameters),
    }
}

/// A column without a declaration has the type of its first value that is not NULL. For that the statement runs a little
/// way ahead and starts again; both times it sees the same snapshot.
fn look_for_types(
    statement: &mut Statement<'_>,
    types: &mut [Option<DataType>],
) -> rusqlite::Result<()> {
    let mut rows = statement.raw_query();
    let mut looked_at = 0;
    while types.contains(&None)
        && looked_at < ROWS_LOOKED_AT
        && let Some(row) = rows.next()?
    {
        looked_at += 1;
        for (index, data_type) in types.iter_mut().enumerate() {
            let value = row.get_ref(index)?;
            if data_type.is_none() && value != ValueRef::Null {
                *data_type = Some(value_type(value));
            }
        }
    }
    Ok(())
}
