//! Reads `PostgreSQL` databases, each shard a database.
//!
//! A session is one `REPEATABLE READ READ ONLY` transaction, so that fingerprint, window and rows come from the same
//! snapshot. The server's clock is read before the snapshot is taken: a later time would promise rows that it lacks.
//! Only where numbers of open transactions are waited for, the rows come from a second snapshot behind the wait.

mod bind;
mod decode;
mod describe;
mod examine;
mod read;
mod text;
mod types;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etl_plugin_api::Cursor;
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row, Statement};

use self::decode::{Decoder, Raw, fixed, ticks_of_micros, whole};
use self::describe::{Prepared, Window, prepare};
use self::types::{CursorType, SqlType};
use super::ranges::Dialect;
use super::{
    CursorQuery, Examination, Range, ReadRequest, RowStream, ShardQuery, Source, SourceSession,
    Survey, Surveyed, no_split_column, no_whole_numbers, parse_position,
};
use crate::config::{Clock, Cursor as CursorConfig, CursorKind, PostgresShard};
use crate::error::{Error, ErrorKind, Result};
use crate::identifier::quote;
use crate::pool::{Places, Pools, PostgresLease};

/// How often a server that works on a statement looks whether its reader is still there.
const LOOK_FOR_THE_READER: &str = "10s";

/// What a server is given beyond its own limit to say that a statement reached it.
const ANSWER_GRACE: Duration = Duration::from_secs(10);

/// All shards of one configuration.
pub struct PostgresSource {
    shards: Vec<PostgresShard>,
    pools: Arc<Pools>,
}

impl PostgresSource {
    /// A source over these databases. Opens nothing.
    pub fn new(shards: &[PostgresShard], pools: Arc<Pools>) -> Self {
        Self {
            shards: shards.to_vec(),
            pools,
        }
    }

    fn shard(&self, name: &str) -> Result<&PostgresShard> {
        let found = self.shards.iter().find(|known| known.name == name);
        found.ok_or_else(|| Error::config(format!("the source has no shard `{name}`")))
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn shards(&self) -> Vec<String> {
        self.shards.iter().map(|shard| shard.name.clone()).collect()
    }

    fn places(&self, shard: &str) -> Option<Places> {
        let shard = self.shard(shard).ok()?;
        Some(self.pools.postgres_places(&shard.server))
    }

    async fn open(&self, shard: &str) -> Result<Box<dyn SourceSession>> {
        let shard = self.shard(shard)?;
        let lease = self.pools.postgres(&shard.server).await?;
        let clocks = answered(shard, begin(lease.client()?, shard))
            .await
            .map_err(|error| {
                error.while_trying(format!("open a transaction on shard {}", shard.name))
            })?;
        Ok(Box::new(PostgresSession {
            shard: shard.clone(),
            lease: Some(lease),
            clocks,
            lent: None,
            cursor: None,
        }))
    }

    async fn examine(&self, shard: &str, query: Option<&ShardQuery>) -> Examination {
        match self.shard(shard) {
            Ok(shard) => examine::examine(self, shard, query).await,
            Err(_) => Examination::default(),
        }
    }
}

/// What the server's clock said before the snapshot, in ticks.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    utc: i64,
    local: i64,
}

/// Reads the clock, then opens the transaction. `None` if a standby does not say how far it has come.
async fn begin(client: &Client, shard: &PostgresShard) -> Result<Option<Clocks>> {
    client
        .execute(
            "SELECT set_config('application_name', $1, false)",
            &[&format!("etl-host reads {}", shard.name)],
        )
        .await?;
    // Rows of a standby are as old as what it has replayed, so its own clock would promise too much.
    let row = client
        .query_one(
            "SELECT now, now::timestamp FROM (SELECT CASE WHEN pg_is_in_recovery() \
             THEN pg_last_xact_replay_timestamp() ELSE clock_timestamp() END AS now OFFSET 0) AS clock",
            &[],
        )
        .await?;
    let ticks = |column| -> Result<Option<i64>> {
        let raw: Option<Raw<'_>> = row.try_get(column)?;
        Ok(raw
            .and_then(|raw| fixed(raw.0).ok())
            .and_then(|raw| ticks_of_micros(i64::from_be_bytes(raw))))
    };
    let (utc, local) = (ticks(0)?, ticks(1)?);
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}; \
         SET LOCAL idle_in_transaction_session_timeout = 0; SAVEPOINT look",
        statement_timeout(shard)
    );
    client.batch_execute(&begin).await?;
    // So that a statement ends also if this process is killed. Servers before version 14 do not know it, some systems
    // cannot do it.
    let look = format!(
        "SELECT set_config(name, '{LOOK_FOR_THE_READER}', true) FROM pg_settings \
         WHERE name = 'client_connection_check_interval'"
    );
    if let Err(error) = client.batch_execute(&look).await {
        if error.as_db_error().is_none() {
            return Err(error.into());
        }
        client.batch_execute("ROLLBACK TO look").await?;
    }
    Ok(utc.zip(local).map(|(utc, local)| Clocks { utc, local }))
}

/// Waits for answers that are due soon. The server ends a statement by itself; but one that is gone without a word is
/// not told from one that thinks.
async fn answered<T>(
    shard: &PostgresShard,
    work: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    let limit = shard.timeouts.statement + ANSWER_GRACE;
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Timeout,
            format!("shard {} did not answer in time", shard.name),
        ))
    })
}

fn statement_timeout(shard: &PostgresShard) -> String {
    let limit = shard.timeouts.statement.max(Duration::from_millis(1));
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    format!("SET LOCAL statement_timeout = {limit}")
}

struct PostgresSession {
    shard: PostgresShard,
    /// `None` while a stream reads.
    lease: Option<PostgresLease>,
    clocks: Option<Clocks>,
    /// Where a stream gives the connection back.
    lent: Option<oneshot::Receiver<PostgresLease>>,
    /// The cursor's column, once a statement has shown it.
    cursor: Option<CursorType>,
}

impl PostgresSession {
    /// The connection, with its transaction. A stream that was dropped before its end has taken both along.
    async fn lease(&mut self) -> Result<&PostgresLease> {
        if let Some(lent) = self.lent.take() {
            self.lease = lent.await.ok();
        }
        let lease = self.lease.as_ref().ok_or_else(closed)?;
        lease
            .client()?
            .batch_execute(&statement_timeout(&self.shard))
            .await?;
        Ok(lease)
    }

    /// The end of a window of times. Needs no look at the rows.
    fn settled(&self, window: Window, cursor: &CursorConfig) -> Result<Option<Cursor>> {
        let (Some(form), Some(unit)) = (window.cursor.form(), window.cursor.resolution()) else {
            return Ok(None);
        };
        let clocks = self.clocks.ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                format!("shard {} is a standby that does not say up to when it has replayed its primary", self.shard.name),
            )
            .hint("wait until it has replayed a transaction, read from the primary, or use a cursor of `kind: integer`")
        })?;
        let instant = matches!(window.cursor, CursorType::Timestamptz(_));
        let now = match cursor.clock {
            Clock::ServerLocal if !instant => clocks.local,
            _ => clocks.utc,
        };
        let time = form.write(unit.settled(now, cursor.settle_delay));
        Ok(Some(match window.id {
            None => Cursor::Text(time),
            Some(_) => Cursor::Keyset { time, id: i64::MAX },
        }))
    }
}

impl PostgresSession {
    async fn identify(&mut self) -> Result<String> {
        let server = self.shard.server.clone();
        let client = self.lease().await?.client()?;
        let row = client
            .query_one(
                "SELECT current_database()::text, has_function_privilege('pg_control_system()', 'execute')",
                &[],
            )
            .await?;
        let (database, may_ask): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        // Made when the cluster was, and the same on its standbys: it stays when one of them takes over, and no other
        // cluster has it, wherever its address points.
        let cluster = if may_ask {
            client
                .query_one(
                    "SELECT system_identifier::text FROM pg_control_system()",
                    &[],
                )
                .await?
                .try_get::<_, String>(0)?
        } else {
            // Nothing else tells clusters apart for sure. The address does, and where a service hides the identifier
            // the address stays as well when a standby takes over.
            format!("{}:{}", server.host, server.port)
        };
        Ok(format!("postgres:{cluster}/{database}"))
    }

    async fn bound(&mut self, query: &CursorQuery) -> Result<Option<Cursor>> {
        let sql = query.sql.trim().trim_end_matches(';');
        let client = self.lease().await?.client()?;
        let further = names_of(query.range.as_ref());
        let prepared = prepare(client, sql, Some(&query.cursor), &further).await?;
        let window = prepared
            .window
            .ok_or_else(|| Error::internal("a cursor without a column"))?;
        check_position(window, &query.cursor, query.from.as_ref())?;
        let bound = match query.cursor.kind {
            CursorKind::Integer => greatest(client, &prepared, query, window).await?,
            _ => self.settled(window, &query.cursor)?,
        };
        self.cursor = Some(window.cursor);
        Ok(bound)
    }

    async fn count(&mut self, survey: &Survey) -> Result<Surveyed> {
        let client = self.lease().await?.client()?;
        let prepared = prepare(client, &survey.sql, survey.cursor.as_ref(), &[]).await?;
        let name = &survey.column;
        let found = prepared.columns.iter().find(|(known, _)| known == name);
        let (_, sql_type) = found.ok_or_else(|| no_split_column(name))?;
        let whole_numbers = sql_type.cursor().filter(|column| column.form().is_none());
        if whole_numbers.is_none() {
            return Err(no_whole_numbers(name, &format!("{:?}", sql_type.arrow())));
        }
        let sql = Dialect::Postgres.survey(&prepared.rewritten.sql, name, &survey.below)?;
        let statement = client
            .prepare_typed(&sql, &prepared.declared)
            .await
            .map_err(refused)?;
        let arguments = bind::arguments(
            &prepared.rewritten.names,
            &open_request(None, None),
            prepared.window,
        )?;
        let row = one_row(client, &statement, arguments).await?;
        let numbers = (0..row.len()).map(|index| {
            let raw: Option<Raw<'_>> = row.try_get(index)?;
            raw.map(|raw| whole(SqlType::Int8, raw.0))
                .transpose()
                .map_err(Error::data)
        });
        Surveyed::read(&numbers.collect::<Result<Vec<_>>>()?)
    }

    async fn prepare(&mut self, request: &ReadRequest) -> Result<Prepared> {
        let further = request.parameters.iter().map(|(name, _)| name.as_str());
        let further: Vec<&str> = further.chain(names_of(request.range.as_ref())).collect();
        let client = self.lease().await?.client()?;
        let prepared = prepare(client, &request.sql, request.cursor.as_ref(), &further).await?;
        if let (Some(window), Some(cursor)) = (prepared.window, &request.cursor) {
            check_position(window, cursor, request.from.as_ref())?;
        }
        Ok(prepared)
    }
}

#[async_trait]
impl SourceSession for PostgresSession {
    async fn fingerprint(&mut self) -> Result<String> {
        let shard = self.shard.clone();
        answered(&shard, self.identify()).await
    }

    async fn upper_bound(&mut self, query: &CursorQuery) -> Result<Option<Cursor>> {
        let shard = self.shard.clone();
        let bound = answered(&shard, self.bound(query)).await?;
        let numbers = query.cursor.kind == CursorKind::Integer;
        let wait = query.cursor.settle_delay;
        if numbers && bound.is_some() && bound != query.from && !wait.is_zero() {
            // Lower numbers may be in transactions that are still open; the rows are read in a snapshot that is taken
            // behind this wait.
            self.lease()
                .await?
                .client()?
                .batch_execute("ROLLBACK")
                .await?;
            tokio::time::sleep(wait).await;
            let client = self.lease.as_ref().ok_or_else(closed)?.client()?;
            self.clocks = answered(&shard, begin(client, &shard)).await?;
        }
        Ok(bound)
    }

    fn parse_cursor(&self, cursor: &CursorConfig, text: &str) -> Result<Cursor> {
        let form = self.cursor.and_then(CursorType::form);
        if form.is_none() && cursor.kind != CursorKind::Integer {
            return Err(Error::internal(
                "a position was read before its column was known",
            ));
        }
        parse_position(cursor, text, |time| {
            let form = form?;
            form.parse_any(time).map(|ticks| form.write(ticks))
        })
    }

    async fn survey(&mut self, survey: &Survey) -> Result<Surveyed> {
        let shard = self.shard.clone();
        answered(&shard, self.count(survey)).await
    }

    async fn read(&mut self, request: ReadRequest) -> Result<Box<dyn RowStream>> {
        let shard = self.shard.clone();
        let prepared = answered(&shard, self.prepare(&request)).await?;
        let arguments = bind::arguments(&prepared.rewritten.names, &request, prepared.window)?;
        let decoder = Decoder::new(&prepared, &request)?;
        let lease = self.lease.take().ok_or_else(closed)?;
        let (give_back, lent) = oneshot::channel();
        self.lent = Some(lent);
        let running = read::Running::new(lease, shard.server.tls);
        let stream = read::start(
            running,
            &shard.timeouts,
            &prepared,
            arguments,
            decoder,
            give_back,
        )
        .await?;
        Ok(Box::new(stream))
    }
}

/// The parameters of a range take the type of its column, which they are compared with.
fn names_of(range: Option<&Range>) -> Vec<&'static str> {
    let parameters = range.into_iter().flat_map(Range::parameters);
    parameters.map(|(name, _)| name).collect()
}

fn closed() -> Error {
    Error::internal("a session was used after its connection was closed")
}

/// The largest number that the query gives now; `None` if it gives none.
async fn greatest(
    client: &Client,
    prepared: &Prepared,
    query: &CursorQuery,
    window: Window,
) -> Result<Option<Cursor>> {
    let sql = format!(
        "SELECT max({})::bigint FROM ({}\n) AS rows",
        quote(&query.cursor.column),
        prepared.rewritten.sql
    );
    let statement = client
        .prepare_typed(&sql, &prepared.declared)
        .await
        .map_err(refused)?;
    let request = open_request(query.from.clone(), query.range.clone());
    let arguments = bind::arguments(&prepared.rewritten.names, &request, Some(window))?;
    let row = one_row(client, &statement, arguments).await?;
    let most: Option<Raw<'_>> = row.try_get(0)?;
    most.map(|raw| whole(SqlType::Int8, raw.0).map(Cursor::Integer))
        .transpose()
        .map_err(Error::data)
}

/// What a statement of the host's own binds: no end of the window.
fn open_request(from: Option<Cursor>, range: Option<Range>) -> ReadRequest {
    ReadRequest {
        sql: String::new(),
        cursor: None,
        from,
        until: None,
        parameters: Vec::new(),
        range,
        batch_rows: 1,
        batch_bytes: 1,
    }
}

/// The row of an aggregate.
async fn one_row(
    client: &Client,
    statement: &Statement,
    arguments: Vec<bind::Argument>,
) -> Result<Row> {
    let rows = client
        .query_raw(statement, arguments)
        .await
        .map_err(failed)?;
    futures_util::pin_mut!(rows);
    futures_util::StreamExt::next(&mut rows)
        .await
        .transpose()
        .map_err(failed)?
        .ok_or_else(|| Error::data("an aggregate gave no row"))
}

/// A position that is not written as the column's values are would be compared wrongly.
fn check_position(window: Window, cursor: &CursorConfig, position: Option<&Cursor>) -> Result<()> {
    let found = match (position, window.cursor.form(), window.id) {
        // An extractor's own position is nobody else's matter.
        (None | Some(Cursor::Opaque(_)), ..) | (Some(Cursor::Integer(_)), None, None) => {
            return Ok(());
        }
        (Some(Cursor::Text(text)), Some(form), None)
        | (Some(Cursor::Keyset { time: text, .. }), Some(form), Some(_)) => {
            if form.parse(text).is_some() {
                return Ok(());
            }
            text.clone()
        }
        (Some(other), ..) => crate::checkpoint::display(other),
    };
    let (form, id) = (window.cursor.form(), window.id);
    let example = form.map_or_else(
        || "4711".to_owned(),
        |form| {
            let time = form
                .parse_any(&found)
                .or_else(|| form.parse_any("2024-01-31"));
            form.write(time.unwrap_or_default())
        },
    );
    let example = if id.is_some() {
        format!("{example},4711")
    } else {
        example
    };
    Err(Error::data(format!(
        "the position `{found}` is not written as the values of the cursor column `{}` ({}) are, so it cannot be compared with them",
        cursor.column,
        window.cursor.parameter()
    ))
    .hint(format!(
        "set it in the column's own form with `etl-host checkpoint set`, such as {example}"
    )))
}

/// An error of the source's server. What to do about some of them differs from what a sink needs.
fn refused(error: tokio_postgres::Error) -> Error {
    let error = Error::from(error).while_trying("run the query");
    let hint = match error.kind() {
        ErrorKind::SqlState(state) => match state.as_str() {
            "25006" => {
                return Error::config("the query would change the source")
                    .hint("use a SELECT statement");
            }
            "42501" => "grant the source's user SELECT on the tables of the query",
            "42P01" => "correct the table's name or schema in `source.query`",
            "42703" => "correct the column's name in `source.query`",
            _ => return error,
        },
        _ => return error,
    };
    error.hint(hint)
}

/// As [`refused`], of a statement that has rows before it. Errors of class 22 quote the value that they fail on.
fn failed(error: tokio_postgres::Error) -> Error {
    match error.code().map(SqlState::code) {
        Some(state) if state.starts_with("22") => Error::new(
            ErrorKind::SqlState(state.to_owned()),
            format!("the query failed on a value (SQLSTATE {state})"),
        )
        .hint("look for a cast or a calculation in `source.query` that not every row allows; the server's log names the value"),
        _ => refused(error),
    }
}
