//! Runs one statement in a task of its own and hands its batches over.
//!
//! The statement is followed by one that asks for its row count, in the same request: the driver takes a stream that
//! was cut at the right place for a success, so the end is believed only when the count has come and is right.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use arrow_schema::SchemaRef;
use futures_util::{StreamExt, TryStream};
use tiberius::{Column, ColumnType, CommandStream, Row};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::batches::Batches;
use super::bind::{EXECUTE, Parameter, build_arguments};
use super::decode::{size, whole};
use super::describe::{Described, unknown_type};
use super::types::SqlType;
use crate::config::{BeyondMicroseconds, ReadTimeouts};
use crate::error::{Error, ErrorKind, Result};
use crate::pool::{Arguments, SqlServerClient, SqlServerLease, TiberiusClient, tiberius_command};
use crate::source::channel::{ChannelStream, Columns, Stop};
use crate::source::{ReadRequest, RowStream, SourceBatch};
use crate::task;

/// Batches that wait between the reading task and the runtime.
const BATCHES_AHEAD: usize = 1;
/// Rows that are looked at for the scale of a decimal, where the server does not describe the statement.
const ROWS_LOOKED_AT: usize = 10_000;
/// Follows the statement. SET NOCOUNT does not change what it answers.
const COUNT_ROWS: &str = "\n;SELECT ROWCOUNT_BIG() AS etl_host_rows";

/// A statement that is ready to run.
pub struct Reading {
    /// The shard, for the log.
    pub shard: String,
    pub request: ReadRequest,
    pub parameters: Vec<Parameter>,
    /// What the server says it returns.
    pub described: Option<Vec<Described>>,
    pub beyond: BeyondMicroseconds,
    pub timeouts: ReadTimeouts,
}

impl Reading {
    /// What runs: the statement, and behind it the one that counts its rows.
    pub fn arguments(&self) -> Arguments {
        let sql = format!("{}{COUNT_ROWS}", self.request.sql);
        build_arguments(&sql, &self.parameters)
    }
}

impl Reading {
    /// The types of the columns in the server's own words, if it has described the statement.
    fn declared(&self) -> Vec<Option<String>> {
        let columns = self.described.iter().flatten();
        columns
            .map(|column| Some(column.declared.clone()))
            .collect()
    }
}

/// Where the task sends what it reads.
pub struct Outlet {
    schema: Option<oneshot::Sender<Columns>>,
    declared: Vec<Option<String>>,
    batches: mpsc::Sender<Result<Option<SourceBatch>>>,
}

/// Nobody wants the rows any more.
pub const CLOSED: &str = "the reader of the rows is gone";

/// Starts reading. The connection goes with the stream, and comes back if the statement ends well.
pub async fn start(
    mut lease: SqlServerLease,
    reading: Reading,
    give_back: oneshot::Sender<SqlServerLease>,
) -> Result<impl RowStream> {
    let (batches_in, batches) = mpsc::channel(BATCHES_AHEAD);
    let (schema_in, columns) = oneshot::channel();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let work = async move {
        let mut outlet = Outlet {
            schema: Some(schema_in),
            declared: reading.declared(),
            batches: batches_in,
        };
        let result = read_by_driver(&mut lease, &reading, &mut outlet, &stopped).await;
        match result {
            Ok(()) => {
                if let Err(lease) = give_back.send(lease) {
                    lease.give_back();
                }
                // The end is a message of its own: a task that dies must not look like one that is done.
                let _ = outlet.batches.send(Ok(None)).await;
            }
            Err(error) => {
                // Who waits for the columns looks into the channel when they do not come.
                outlet.schema = None;
                let unfinished = [ErrorKind::Cancelled, ErrorKind::Timeout].contains(error.kind());
                let told = outlet.batches.send(Err(error));
                if unfinished {
                    let _ = tokio::join!(told, stop_statement(lease));
                } else {
                    drop(lease);
                    let _ = told.await;
                }
            }
        }
    };
    tokio::spawn(task::carried(work));
    ChannelStream::open(columns, batches, Reader(stop)).await
}

/// The task that reads.
struct Reader(CancellationToken);

impl Stop for Reader {
    fn stop(&self) {
        self.0.cancel();
    }
}

/// Tells the server to stop. The connection is closed in any case: what is left of the answer may begin in the middle of
/// a row.
async fn stop_statement(mut lease: SqlServerLease) {
    if let Ok(client) = lease.client() {
        client.cancel().await;
    }
}

async fn read_by_driver(
    lease: &mut SqlServerLease,
    reading: &Reading,
    outlet: &mut Outlet,
    stopped: &CancellationToken,
) -> Result<()> {
    match lease.client()? {
        SqlServerClient::Tiberius(client) => tokio::select! {
            biased;
            () = stopped.cancelled() => Err(Error::new(ErrorKind::Cancelled, CLOSED)),
            result = read(client, reading, outlet) => result,
        },
        #[cfg(feature = "mssql-tds")]
        SqlServerClient::MssqlTds(client) => {
            super::mssql_tds::read(client, reading, outlet, stopped).await
        }
    }
}

async fn read(client: &mut TiberiusClient, reading: &Reading, outlet: &mut Outlet) -> Result<()> {
    let patience = reading.timeouts.statement;
    let command = tiberius_command(EXECUTE, reading.arguments());
    let stream = timeout(patience, command.exec(client));
    let mut stream = stream
        .await
        .map_err(|_| late(patience))?
        .map_err(describe)?;
    let mut result = RowsOrCount::Nothing;
    let mut waits = patience;
    while let Some(item) = next(&mut stream, waits).await? {
        if let Some(metadata) = item.as_metadata() {
            let columns = metadata.columns();
            result = match result {
                RowsOrCount::Nothing if columns.first().is_some_and(is_count) => {
                    RowsOrCount::NoColumns
                }
                RowsOrCount::Nothing => RowsOrCount::Rows(Box::new(Rows::new(reading, columns)?)),
                RowsOrCount::Rows(rows) if columns.first().is_some_and(is_count) => {
                    let (schema, read) = rows.end(outlet).await?;
                    RowsOrCount::Count {
                        schema,
                        read,
                        counted: None,
                    }
                }
                _ => return Err(several_results()),
            };
        } else if let Some(row) = item.into_row() {
            match &mut result {
                RowsOrCount::Nothing => {
                    return Err(Error::data("the server sent a row before its columns"));
                }
                RowsOrCount::Rows(rows) => {
                    rows.push(row, outlet).await?;
                    waits = reading.timeouts.idle_read;
                }
                RowsOrCount::Count { counted, .. } => {
                    *counted = row.get_column_data(0).ok().and_then(whole);
                }
                RowsOrCount::NoColumns => {}
            }
        }
    }
    // An error of the statement comes only here, behind everything else: the driver keeps it until the answer ends.
    match result {
        RowsOrCount::Count {
            schema,
            read,
            counted,
        } => {
            prove(read, counted)?;
            outlet.announce(&schema, read == 0);
            Ok(())
        }
        RowsOrCount::NoColumns => Err(no_columns()),
        _ => Err(uncounted()),
    }
}

/// Believes the end only if the server has counted as many rows as arrived.
pub fn prove(read: u64, counted: Option<i64>) -> Result<()> {
    let count = counted.ok_or_else(uncounted)?;
    if u64::try_from(count) == Ok(read) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Miscounted,
        format!("the server counted {count} rows, but {read} arrived"),
    ))
}

/// The error for an answer without the count.
pub fn uncounted() -> Error {
    Error::new(
        ErrorKind::Unproven,
        "the answer ended before the server had counted its rows",
    )
}

/// The error for a statement that is no SELECT.
pub fn no_columns() -> Error {
    Error::config("the query returns no columns").hint("use a SELECT statement")
}

/// The error for a text of several statements.
pub fn several_results() -> Error {
    Error::config("the query returns several results").hint("use one SELECT statement")
}

/// What of the answer is being read.
enum RowsOrCount {
    Nothing,
    Rows(Box<Rows>),
    /// The count came without rows before it.
    NoColumns,
    /// How many rows there were, and how many the server says.
    Count {
        schema: SchemaRef,
        read: u64,
        counted: Option<i64>,
    },
}

/// The column of the count.
pub const COUNT: &str = "etl_host_rows";

fn is_count(column: &Column) -> bool {
    column.name() == COUNT
}

/// A part of an answer; the driver does not give its type a public name.
type Item<'a> = <CommandStream<'a> as TryStream>::Ok;

/// The next part of the answer. A timer is set only if it has not come yet.
async fn next<'a>(stream: &mut CommandStream<'a>, limit: Duration) -> Result<Option<Item<'a>>> {
    let ready = poll_fn(|cx| Poll::Ready(stream.poll_next_unpin(cx))).await;
    let item = match ready {
        Poll::Ready(item) => item,
        Poll::Pending => timeout(limit, stream.next())
            .await
            .map_err(|_| late(limit))?,
    };
    item.transpose().map_err(describe)
}

/// The error for a server that has kept the reader waiting.
pub fn late(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("the server sent nothing for {limit:?}")).hint(
        "raise `timeouts.statement` or `timeouts.idle_read`, or give the query an index that serves its WHERE and ORDER BY",
    )
}

fn describe(error: tiberius::error::Error) -> Error {
    Error::from(error).while_trying("run the query")
}

/// The rows of the statement on their way into batches.
struct Rows {
    shard: String,
    request: ReadRequest,
    beyond: BeyondMicroseconds,
    names: Vec<String>,
    /// What the driver says, if the server did not describe the statement; used up when the first rows have told the rest.
    undescribed: Option<Vec<ColumnType>>,
    waiting: Vec<Row>,
    waiting_bytes: usize,
    batches: Option<Batches>,
    read: u64,
}

impl Rows {
    fn new(reading: &Reading, columns: &[Column]) -> Result<Self> {
        let names: Vec<String> = columns
            .iter()
            .map(|column| column.name().to_owned())
            .collect();
        let mut rows = Self {
            shard: reading.shard.clone(),
            request: reading.request.clone(),
            beyond: reading.beyond,
            names,
            undescribed: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            batches: None,
            read: 0,
        };
        match &reading.described {
            Some(described) => {
                agree(described, &rows.names)?;
                let raw = |(told, sent): &(&Described, &Column)| {
                    use ColumnType::{BigChar, BigVarChar, Text};
                    told.utf8 && matches!(sent.column_type(), BigChar | BigVarChar | Text)
                };
                if let Some((told, _)) = described.iter().zip(columns).find(raw) {
                    return Err(Error::data(format!(
                        "column `{}` comes as UTF-8, which the driver would take for another code page",
                        told.name
                    ))
                    .hint("CAST it AS nvarchar in `source.query`"));
                }
                let types = described.iter().map(|column| column.sql_type).collect();
                rows.batches = Some(rows.build_batches(types)?);
            }
            None => {
                rows.undescribed = Some(columns.iter().map(Column::column_type).collect());
            }
        }
        Ok(rows)
    }

    async fn push(&mut self, row: Row, outlet: &mut Outlet) -> Result<()> {
        self.read += 1;
        let Some(batches) = &mut self.batches else {
            self.waiting_bytes += row.cells().map(|(_, value)| size(value)).sum::<usize>();
            self.waiting.push(row);
            return self.learn_types(false, outlet).await;
        };
        outlet.announce(batches.builder.schema(), false);
        batches.push(&row)?;
        hand_over(batches, false, outlet).await
    }

    /// Hands over what is left, and says how many rows of which columns there were. That there were none is not said
    /// yet: an error may have ended them, which comes behind the count.
    async fn end(mut self, outlet: &mut Outlet) -> Result<(SchemaRef, u64)> {
        if self.batches.is_none() {
            self.learn_types(true, outlet).await?;
        }
        let Some(mut batches) = self.batches.take() else {
            return Err(Error::internal(
                "the columns' types are not known at the end",
            ));
        };
        hand_over(&mut batches, true, outlet).await?;
        warn_of_cuts(&self.shard, &self.names, &batches);
        Ok((batches.builder.schema().clone(), self.read))
    }

    /// Without a description, a decimal's scale is that of its first value.
    async fn learn_types(&mut self, ended: bool, outlet: &mut Outlet) -> Result<()> {
        let Some(columns) = &self.undescribed else {
            return Ok(());
        };
        let enough = ended
            || self.waiting.len() >= ROWS_LOOKED_AT
            || self.waiting_bytes >= self.request.batch_bytes;
        let mut types = Vec::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            let name = self.names.get(index).map_or("", String::as_str);
            if name.is_empty() {
                return Err(nameless(index));
            }
            let scale = self
                .waiting
                .iter()
                .find_map(|row| match row.get_column_data(index) {
                    Ok(tiberius::ColumnData::Numeric(Some(value))) => Some(value.scale()),
                    _ => None,
                });
            // A column without a single value may have any scale.
            let scale = scale.or(ended.then_some(0));
            match SqlType::of(*column, scale) {
                Some(sql_type) => types.push(sql_type),
                None if matches!(column, ColumnType::Decimaln | ColumnType::Numericn) => {
                    if enough {
                        return Err(Error::data(format!("the scale of the decimal column `{name}` is not known: its first {} values are NULL", self.waiting.len()))
                            .hint("CAST it AS decimal(p,s) and turn NULL into a number, or use a server that knows sp_describe_first_result_set"));
                    }
                    return Ok(());
                }
                None => return Err(unknown_type(name, "")),
            }
        }
        self.batches = Some(self.build_batches(types)?);
        self.undescribed = None;
        let waiting = std::mem::take(&mut self.waiting);
        self.read -= waiting.len() as u64;
        for row in waiting {
            Box::pin(self.push(row, outlet)).await?;
        }
        Ok(())
    }

    fn build_batches(&self, types: Vec<SqlType>) -> Result<Batches> {
        Batches::new(&self.names, types, &self.request, self.beyond)
    }
}

/// Whether the statement returns what was described.
pub fn agree(described: &[Described], names: &[String]) -> Result<()> {
    if described.iter().map(|column| &column.name).eq(names) {
        return Ok(());
    }
    Err(Error::data(
        "the query returned other columns than the server had described",
    ))
}

/// The error for a column without a name.
pub fn nameless(index: usize) -> Error {
    Error::config(format!("column {} of the query has no name", index + 1))
        .hint("name it with AS in `source.query`")
}

/// Says which columns have lost digits.
pub fn warn_of_cuts(shard: &str, names: &[String], batches: &Batches) {
    for (column, values) in &batches.decoder.cut {
        let column = names.get(*column).map_or("", String::as_str);
        tracing::warn!(
            shard,
            column,
            values,
            "digits beyond a microsecond were cut; `source.beyond_microseconds` can refuse them"
        );
    }
}

impl Outlet {
    /// Tells the columns, once.
    pub fn announce(&mut self, schema: &SchemaRef, empty: bool) {
        if let Some(sender) = self.schema.take() {
            // Who does not wait for it any more does not want the rows either.
            let _ = sender.send(Columns {
                schema: schema.clone(),
                declared: std::mem::take(&mut self.declared),
                empty,
            });
        }
    }
}

/// Sends a full batch, and at the end whatever there is.
pub async fn hand_over(batches: &mut Batches, all: bool, outlet: &Outlet) -> Result<()> {
    if batches.builder.is_full() || (all && !batches.builder.is_empty()) {
        let batch = batches.builder.finish()?;
        let sent = outlet.batches.send(Ok(Some(batch))).await;
        sent.map_err(|_| Error::new(ErrorKind::Cancelled, CLOSED))?;
    }
    Ok(())
}
