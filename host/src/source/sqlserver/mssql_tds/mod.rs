//! Reads a statement by the driver `mssql-tds`, which decodes rows into the columns without a copy of its own.
//!
//! The driver stops a statement by itself when it is told to, and reads the rest of the answer. So nothing here is
//! dropped in the middle of a row.

mod columns;

use std::pin::pin;
use std::time::Duration;

use arrow_schema::SchemaRef;
use mssql_tds::connection::tds_client::{
    BufferedRowPoll, ExecuteOptions, ResultSet, StatementResult,
};
use mssql_tds::core::{CancelHandle, TdsResult};
use mssql_tds::datatypes::column_values::ColumnValues;
use mssql_tds::error::Error as Tds;
use mssql_tds::query::metadata::ColumnMetadata;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::columns::Columns;
use super::batches::Batches;
use super::bind::EXECUTE;
use super::describe::unknown_type;
use super::read::{
    CLOSED, COUNT, Outlet, Reading, agree, hand_over, late, nameless, no_columns, prove,
    several_results, uncounted, warn_of_cuts,
};
use super::types::SqlType;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::ATTENTION_TIMEOUT;
use crate::pool::mssql_tds::{TdsClient, build_parameters, column_type};

/// Reads a statement to its end.
pub async fn read(
    client: &mut TdsClient,
    reading: &Reading,
    outlet: &mut Outlet,
    stopped: &CancellationToken,
) -> Result<()> {
    // Stops the statement, because nobody wants the rows any more or because they do not come.
    let stop = stopped.child_token();
    let handle = CancelHandle::from(stop.clone());
    let mut waits = reading.timeouts.statement;
    let call = client.execute_stored_procedure(
        EXECUTE.to_owned(),
        None,
        Some(build_parameters(reading.arguments())?),
        ExecuteOptions::new().cancel(&handle),
    );
    let mut result = patiently(Box::pin(call), waits, &stop).await?;
    let mut rows = None;
    loop {
        match result {
            StatementResult::NoRows { .. } => {}
            StatementResult::End => return Err(uncounted()),
            StatementResult::Rows if is_count(client.get_metadata()) => break,
            StatementResult::Rows if rows.is_some() => return Err(several_results()),
            StatementResult::Rows => {
                rows = Some(read_rows(client, reading, outlet, &stop).await?);
                waits = reading.timeouts.idle_read;
            }
        }
        result = patiently(client.advance(), waits, &stop).await?;
    }
    let row = patiently(client.next_row(), waits, &stop).await?;
    let counted = match row.as_deref() {
        Some([ColumnValues::BigInt(count)]) => Some(*count),
        _ => None,
    };
    // An error may come behind it.
    patiently(client.close_query(), waits, &stop).await?;
    let (schema, read) = rows.ok_or_else(no_columns)?;
    prove(read, counted)?;
    outlet.announce(&schema, read == 0);
    Ok(())
}

fn is_count(columns: &[ColumnMetadata]) -> bool {
    columns
        .first()
        .is_some_and(|column| column.column_name == COUNT)
}

/// Reads the rows, and says how many of which columns there were.
async fn read_rows(
    client: &mut TdsClient,
    reading: &Reading,
    outlet: &mut Outlet,
    stop: &CancellationToken,
) -> Result<(SchemaRef, u64)> {
    let sent = client.get_metadata();
    let names: Vec<String> = sent
        .iter()
        .map(|column| column.column_name.clone())
        .collect();
    let types = match &reading.described {
        Some(described) => {
            agree(described, &names)?;
            described.iter().map(|column| column.sql_type).collect()
        }
        None => undescribed(sent)?,
    };
    let batches = Batches::new(&names, types.clone(), &reading.request, reading.beyond)?;
    let schema = batches.builder.schema().clone();
    let mut columns = Columns::new(batches, names, types);
    let mut waits = reading.timeouts.statement;
    let mut read = 0;
    loop {
        // What has arrived already needs no timer.
        let found = match client.try_next_buffered_row_into(&mut columns) {
            Ok(BufferedRowPoll::Complete) => true,
            Ok(BufferedRowPoll::Exhausted) => false,
            Ok(BufferedRowPoll::Partial) => {
                patiently(client.finish_row_into(&mut columns), waits, stop).await?;
                true
            }
            Ok(BufferedRowPoll::Pending) => {
                patiently(client.next_row_into(&mut columns), waits, stop).await?
            }
            Err(error) => return Err(describe(error)),
        };
        if !found {
            break;
        }
        columns.check()?;
        read += 1;
        outlet.announce(&schema, false);
        hand_over(&mut columns.batches, false, outlet).await?;
        waits = reading.timeouts.idle_read;
    }
    hand_over(&mut columns.batches, true, outlet).await?;
    warn_of_cuts(&reading.shard, &columns.names, &columns.batches);
    Ok((schema, read))
}

/// The types by what the server says of the result, with the same rules as for the other driver: a decimal has its own
/// scale, and times are taken as the finest of their kind.
fn undescribed(sent: &[ColumnMetadata]) -> Result<Vec<SqlType>> {
    let known = sent.iter().enumerate().map(|(index, column)| {
        let name = &column.column_name;
        if name.is_empty() {
            return Err(nameless(index));
        }
        SqlType::of(column_type(column), column.get_scale()).ok_or_else(|| unknown_type(name, ""))
    });
    known.collect()
}

/// Waits so long and no longer. Then the driver stops the statement, and what is left of the answer is read.
async fn patiently<T>(
    answer: impl Future<Output = TdsResult<T>>,
    limit: Duration,
    stop: &CancellationToken,
) -> Result<T> {
    let mut answer = pin!(answer);
    if let Ok(answer) = timeout(limit, &mut answer).await {
        return answer.map_err(describe);
    }
    stop.cancel();
    let _ = timeout(ATTENTION_TIMEOUT, answer).await;
    Err(late(limit))
}

fn describe(error: Tds) -> Error {
    match error {
        Tds::OperationCancelledError(_) => Error::new(ErrorKind::Cancelled, CLOSED),
        other => Error::from(other).while_trying("run the query"),
    }
}
