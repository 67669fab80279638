//! Runs one statement and gives its rows in batches, as they come.
//!
//! The rows stay on the server until somebody asks for them: the connection reads no further ahead than its buffers.

use std::pin::Pin;
use std::time::Duration;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_postgres::{CancelToken, Client, Row, RowStream as Rows};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::bind::Argument;
use super::decode::Decoder;
use super::describe::Prepared;
use super::failed;
use crate::config::{ReadTimeouts, Tls};
use crate::error::{Error, ErrorKind, Result};
use crate::pool::PostgresLease;
use crate::source::{RowStream, SourceBatch};
use crate::task;
use crate::tls::build_client;

/// Longest wait for a server to take note of an end, asked for or reached.
const LAST_WORD: Duration = Duration::from_secs(10);

/// A connection whose statement is under way. Dropped before its end, it asks the server to stop and is closed.
pub struct Running {
    lease: Option<PostgresLease>,
    tls: Tls,
}

impl Running {
    /// A connection on which a statement is about to start.
    pub fn new(lease: PostgresLease, tls: Tls) -> Self {
        Self {
            lease: Some(lease),
            tls,
        }
    }

    fn lease(&self) -> Result<&PostgresLease> {
        self.lease
            .as_ref()
            .ok_or_else(|| Error::internal("a statement without a connection"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(lease), Ok(runtime)) = (self.lease.take(), Handle::try_current()) else {
            return;
        };
        // A connection that is lost has nothing to stop.
        if let Ok(token) = lease.client().map(Client::cancel_token) {
            let tls = self.tls.clone();
            let work = async move {
                if let Err(error) = cancel(&token, &tls).await {
                    tracing::debug!(%error, "a statement could not be cancelled; the server notices that its reader is gone");
                }
                // Not before: the server asks nobody any more whose connection is closed.
                drop(lease);
            };
            runtime.spawn(task::carried(work));
        }
    }
}

async fn cancel(token: &CancelToken, tls: &Tls) -> Result<()> {
    let connect = MakeRustlsConnect::new(build_client(tls)?);
    tokio::time::timeout(LAST_WORD, token.cancel_query(connect))
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, "the server did not answer in time"))??;
    Ok(())
}

pub struct PostgresStream {
    running: Running,
    rows: Pin<Box<Rows>>,
    /// The row that was waited for at the start.
    first: Option<Row>,
    decoder: Decoder,
    declared: Vec<String>,
    received: u64,
    ended: bool,
    empty: bool,
    idle_read: Duration,
    give_back: Option<oneshot::Sender<PostgresLease>>,
}

/// Starts a statement and waits for its first row. The connection goes with the stream; at the end it is sent back, or
/// returned to the pool if nobody waits for it.
pub async fn start(
    running: Running,
    timeouts: &ReadTimeouts,
    prepared: &Prepared,
    arguments: Vec<Argument>,
    decoder: Decoder,
    give_back: oneshot::Sender<PostgresLease>,
) -> Result<PostgresStream> {
    let client = running.lease()?.client()?;
    let begun = async {
        // The server would count the time that the sink needs as well; here waits are measured one by one.
        client
            .batch_execute("SET LOCAL statement_timeout = 0")
            .await?;
        let rows = client.query_raw(&prepared.statement, arguments).await?;
        let mut rows = Box::pin(rows);
        let first = rows.next().await.transpose()?;
        Ok::<_, tokio_postgres::Error>((rows, first))
    };
    let (rows, first) = tokio::time::timeout(timeouts.statement, begun)
        .await
        .map_err(|_| too_slow("first row", "timeouts.statement", timeouts.statement))?
        .map_err(failed)?;
    let mut stream = PostgresStream {
        running,
        rows,
        empty: first.is_none(),
        first,
        decoder,
        declared: prepared.type_names.clone(),
        received: 0,
        ended: false,
        idle_read: timeouts.idle_read,
        give_back: Some(give_back),
    };
    if stream.empty {
        stream.end().await?;
    }
    Ok(stream)
}

fn too_slow(what: &str, key: &str, limit: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("the query gave no {what} within {} s", limit.as_secs_f64()),
    )
    .hint(format!(
        "make the query faster (an index on the cursor's column), or raise `{key}`"
    ))
}

impl PostgresStream {
    async fn next_row(&mut self) -> Result<Option<Row>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        // Most rows are here already, and a timer for each would cost more than the row.
        let row = match self.rows.next().now_or_never() {
            Some(row) => row,
            None => tokio::time::timeout(self.idle_read, self.rows.next())
                .await
                .map_err(|_| too_slow("further row", "timeouts.idle_read", self.idle_read))?,
        };
        row.transpose().map_err(failed)
    }

    /// Believes the end only if the server counted as many rows, and lets the connection go.
    async fn end(&mut self) -> Result<()> {
        let counted = self.rows.rows_affected();
        if counted != Some(self.received) {
            let kind = match counted {
                Some(_) => ErrorKind::Miscounted,
                None => ErrorKind::Unproven,
            };
            return Err(Error::new(
                kind,
                format!(
                    "{} rows were received, but the server counted {}",
                    self.received,
                    counted.map_or_else(|| "none".to_owned(), |rows| rows.to_string())
                ),
            ));
        }
        self.ended = true;
        let (Some(lease), Some(session)) = (self.running.lease.take(), self.give_back.take())
        else {
            return Ok(());
        };
        let unwanted = session.send(lease).err();
        // The session is gone. All rows are here: a connection that is lost now harms nothing.
        if let Some(lease) = unwanted {
            let commit = lease.client()?.batch_execute("COMMIT");
            if let Ok(Ok(())) = tokio::time::timeout(LAST_WORD, commit).await {
                lease.give_back();
            }
        }
        Ok(())
    }
}

#[async_trait]
impl RowStream for PostgresStream {
    fn schema(&self) -> SchemaRef {
        self.decoder.schema()
    }

    fn declared(&self) -> Vec<Option<String>> {
        self.declared.iter().cloned().map(Some).collect()
    }

    fn is_empty(&self) -> bool {
        self.empty
    }

    async fn next(&mut self) -> Result<Option<SourceBatch>> {
        while !self.ended {
            let Some(row) = self.next_row().await? else {
                self.end().await?;
                break;
            };
            self.received += 1;
            self.decoder.push(&row)?;
            if self.decoder.is_full() {
                return self.decoder.finish().map(Some);
            }
        }
        if self.decoder.is_empty() {
            return Ok(None);
        }
        self.decoder.finish().map(Some)
    }
}
