//! Reads SQL Server databases, each shard a database on a server or instance.
//!
//! A session holds one pooled connection. It fixes the window by the server's clock or counters, binds it in the type of
//! the cursor's column, and reads under SNAPSHOT isolation where the database allows it. It never writes.
//!
//! There are two drivers: `read`, `batches` and `decode` are about rows of `tiberius`, the room `mssql_tds` about those of
//! the other one. All else knows no driver; short answers are values of `tiberius` whoever has carried them.

mod batches;
mod bind;
mod decode;
mod describe;
mod examine;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "mssql-tds")]
mod mssql_tds;
mod read;
mod server;
mod types;

use std::sync::Arc;

use arrow_schema::DataType;
use async_trait::async_trait;
use etl_plugin_api::Cursor;
use tokio::sync::oneshot;

use self::batches::build_cursors;
use self::bind::{
    Bounds, Parameter, declarations, further, of_range, position, type_of, window, wrong_column,
};
use self::describe::{Described, describe};
use self::read::Reading;
use self::types::SqlType;
use super::ranges::Dialect;
use super::time::TimeForm;
use super::{
    CursorQuery, Examination, Range, ReadRequest, RowStream, ShardQuery, Source, SourceSession,
    Survey, Surveyed, no_split_column, no_whole_numbers, parse_position, rowversion,
};
use crate::config::{
    ApplicationIntent, BeyondMicroseconds, Clock, Cursor as CursorConfig, CursorKind,
    SqlServerShard,
};
use crate::error::{Error, Result};
use crate::pool::{Places, Pools, SqlServerLease};

/// The Arrow type for a column that is declared so, such as `decimal(38,10)`; `None` for types that are not read.
pub fn arrow_type(declared: &str) -> Option<DataType> {
    SqlType::parse(declared).map(SqlType::arrow)
}

/// All shards of one configuration.
pub struct SqlServerSource {
    shards: Vec<SqlServerShard>,
    beyond: BeyondMicroseconds,
    pools: Arc<Pools>,
}

impl SqlServerSource {
    /// A source over these databases. Opens nothing.
    pub fn new(shards: &[SqlServerShard], beyond: BeyondMicroseconds, pools: Arc<Pools>) -> Self {
        Self {
            shards: shards.to_vec(),
            beyond,
            pools,
        }
    }
}

impl SqlServerSource {
    fn shard(&self, name: &str) -> Result<&SqlServerShard> {
        let found = self.shards.iter().find(|known| known.name == name);
        found.ok_or_else(|| Error::config(format!("the source has no shard `{name}`")))
    }
}

#[async_trait]
impl Source for SqlServerSource {
    fn shards(&self) -> Vec<String> {
        self.shards.iter().map(|shard| shard.name.clone()).collect()
    }

    fn places(&self, shard: &str) -> Option<Places> {
        let shard = self.shard(shard).ok()?;
        Some(self.pools.sqlserver_places(&shard.server))
    }

    async fn open(&self, shard: &str) -> Result<Box<dyn SourceSession>> {
        let shard = self.shard(shard)?;
        let mut lease = self.pools.sqlserver(&shard.server).await?;
        server::set_isolation(
            lease.client()?,
            shard.read_isolation,
            shard.timeouts.statement,
        )
        .await?;
        Ok(Box::new(SqlServerSession {
            shard: shard.clone(),
            beyond: self.beyond,
            lease: Some(lease),
            lent: None,
            described: None,
        }))
    }

    async fn examine(&self, shard: &str, query: Option<&ShardQuery>) -> Examination {
        match self.shard(shard) {
            Ok(shard) => examine::examine(self, shard, query).await,
            Err(_) => Examination::default(),
        }
    }
}

struct SqlServerSession {
    shard: SqlServerShard,
    beyond: BeyondMicroseconds,
    /// `None` while a stream reads.
    lease: Option<SqlServerLease>,
    /// Where the stream's task gives the connection back.
    lent: Option<oneshot::Receiver<SqlServerLease>>,
    /// The last statement that was described, with what it returns.
    described: Option<(String, Option<Vec<Described>>)>,
}

impl SqlServerSession {
    /// Waits for the stream before to end; who drops a stream early loses the connection.
    async fn lease(&mut self) -> Result<&mut SqlServerLease> {
        if let Some(lent) = self.lent.take() {
            self.lease = lent.await.ok();
        }
        self.lease
            .as_mut()
            .ok_or_else(|| Error::internal("a session was used after its connection was lost"))
    }

    /// What a statement returns, asked once. The window's bounds are declared with the widest types, which the result
    /// does not depend on.
    async fn describe(
        &mut self,
        sql: &str,
        cursor: Option<&CursorConfig>,
        range: Option<&Range>,
        more: Vec<Parameter>,
    ) -> Result<Option<Vec<Described>>> {
        if let Some((known, described)) = &self.described
            && known == sql
        {
            return Ok(described.clone());
        }
        let mut parameters = match cursor {
            Some(cursor) => window(sql, cursor, None, Bounds::default())?,
            None => Vec::new(),
        };
        parameters.extend(range.iter().flat_map(|range| of_range(range, None)));
        parameters.extend(more);
        let declared = declarations(&parameters);
        let limit = self.shard.timeouts.statement;
        let client = self.lease().await?.client()?;
        let described = server::within(limit, describe(client, sql, &declared)).await?;
        self.described = Some((sql.to_owned(), described.clone()));
        Ok(described)
    }

    /// The type of the cursor's column; `None` if the server does not describe the statement.
    async fn cursor_type(
        &mut self,
        sql: &str,
        cursor: &CursorConfig,
        range: Option<&Range>,
    ) -> Result<Option<SqlType>> {
        let described = self.describe(sql, Some(cursor), range, Vec::new()).await?;
        let Some(columns) = described else {
            return Ok(None);
        };
        let sql_type = column_type(&columns, &cursor.column)?;
        build_cursors(cursor, sql_type)?;
        if let Some(id) = &cursor.id
            && !column_type(&columns, id)?.is_whole()
        {
            return Err(
                Error::config(format!("the column `{id}` does not hold whole numbers"))
                    .hint("correct `cursor.id`"),
            );
        }
        Ok(Some(sql_type))
    }

    fn known_type(&self, column: &str) -> Option<SqlType> {
        let (_, columns) = self.described.as_ref()?;
        column_type(columns.as_ref()?, column).ok()
    }

    /// The bounds of a range, once its statement was described.
    fn range_parameters(&self, range: Option<&Range>) -> Vec<Parameter> {
        range.map_or_else(Vec::new, |range| {
            of_range(range, self.known_type(&range.column))
        })
    }
}

fn column_type(columns: &[Described], name: &str) -> Result<SqlType> {
    let found = columns.iter().find(|column| column.name == name);
    found.map(|column| column.sql_type).ok_or_else(|| {
        Error::config(format!(
            "the query returns no column `{name}`, which is the cursor"
        ))
        .hint("add the column to the query, or correct `cursor` in the configuration")
    })
}

#[async_trait]
impl SourceSession for SqlServerSession {
    async fn fingerprint(&mut self) -> Result<String> {
        let limit = self.shard.timeouts.statement;
        let address = crate::pool::sqlserver_address(&self.shard.server);
        let client = self.lease().await?.client()?;
        server::within(limit, server::fingerprint(client, &address)).await
    }

    async fn upper_bound(&mut self, query: &CursorQuery) -> Result<Option<Cursor>> {
        let cursor = &query.cursor;
        let range = query.range.as_ref();
        let sql_type = self.cursor_type(&query.sql, cursor, range).await?;
        let of_range = self.range_parameters(range);
        let limit = self.shard.timeouts.statement;
        let may_lag = self.shard.server.application_intent == ApplicationIntent::ReadOnly;
        let client = self.lease().await?.client()?;
        match cursor.kind {
            CursorKind::Rowversion if may_lag && server::within(limit, server::is_replica(client)).await? => {
                Err(Error::config("a secondary does not know the transactions that are open on the primary, so a `rowversion` cursor may lose rows there")
                    .hint("set `application_intent: read-write`, or use another cursor"))
            }
            CursorKind::Rowversion => {
                let first_open =
                    server::within(limit, server::min_active_rowversion(client)).await?;
                Ok(Some(rowversion(first_open.saturating_sub(1))))
            }
            CursorKind::Integer => {
                let bounds = Bounds {
                    from: query.from.as_ref(),
                    until: None,
                };
                let mut parameters = window(&query.sql, cursor, sql_type, bounds)?;
                parameters.extend(of_range);
                let sql = server::max_of(&query.sql, &cursor.column);
                let max =
                    server::within(limit, server::whole_number(client, &sql, &parameters)).await?;
                let max = max.map(Cursor::Integer);
                if max.is_some() && max != query.from {
                    // Lower numbers may be in transactions that are still open; the rows are read behind this wait.
                    tokio::time::sleep(cursor.settle_delay).await;
                }
                Ok(max)
            }
            CursorKind::Timestamp => {
                let known = match &query.from {
                    Some(Cursor::Text(from) | Cursor::Keyset { time: from, .. }) => type_of(from),
                    _ => SqlType::DateTime2(7),
                };
                let sql_type = sql_type.unwrap_or(known);
                let form = sql_type
                    .time_form()
                    .ok_or_else(|| wrong_column(cursor, sql_type))?;
                if let Some(Cursor::Text(from) | Cursor::Keyset { time: from, .. }) = &query.from {
                    position(cursor, sql_type, from)?;
                }
                let mut clocks = server::within(limit, server::clocks(client)).await?;
                if may_lag {
                    let lag = server::within(limit, server::lag(client)).await?;
                    clocks.utc -= lag;
                    clocks.local -= lag;
                }
                let now = match (cursor.clock, sql_type) {
                    (Clock::Utc, _) | (_, SqlType::DateTimeOffset(_)) => clocks.utc,
                    (Clock::ServerLocal, _) => clocks.local,
                };
                let settled = sql_type.settled(now, cursor.settle_delay);
                let settled = settled.ok_or_else(|| wrong_column(cursor, sql_type))?;
                Ok(Some(time_cursor(cursor, form, settled, i64::MAX)))
            }
        }
    }

    fn parse_cursor(&self, cursor: &CursorConfig, text: &str) -> Result<Cursor> {
        let known = self.known_type(&cursor.column);
        let known = known.and_then(SqlType::time_form);
        let form = known.unwrap_or(TimeForm::local(7));
        parse_position(cursor, text, |time| {
            form.parse_any(time).map(|ticks| form.write(ticks))
        })
    }

    async fn survey(&mut self, survey: &Survey) -> Result<Surveyed> {
        let cursor = survey.cursor.as_ref();
        let described = self.describe(&survey.sql, cursor, None, Vec::new()).await?;
        let column = &survey.column;
        let Some(columns) = described else {
            return Err(Error::config(
                "the server does not describe the query, so what its columns hold is not known",
            )
            .hint("leave `source.split_by` out, or read from tables and views only"));
        };
        let found = columns.iter().find(|known| known.name == *column);
        let found = found.ok_or_else(|| no_split_column(column))?;
        if !found.sql_type.is_whole() {
            return Err(no_whole_numbers(column, &found.sql_type.declaration()));
        }
        let parameters = match cursor {
            Some(cursor) => {
                let sql_type = self.known_type(&cursor.column);
                window(&survey.sql, cursor, sql_type, Bounds::default())?
            }
            None => Vec::new(),
        };
        let sql = Dialect::SqlServer.survey(&survey.sql, column, &survey.below)?;
        let limit = self.shard.timeouts.statement;
        let client = self.lease().await?.client()?;
        let counted = server::within(limit, server::whole_numbers(client, &sql, &parameters));
        Surveyed::read(&counted.await?)
    }

    async fn read(&mut self, request: ReadRequest) -> Result<Box<dyn RowStream>> {
        let cursor = request.cursor.clone();
        let range = request.range.as_ref();
        let more = further(&request.parameters)?;
        let described = self
            .describe(&request.sql, cursor.as_ref(), range, more)
            .await?;
        let mut parameters = match &cursor {
            Some(cursor) => {
                let sql_type = self.known_type(&cursor.column);
                let bounds = Bounds {
                    from: request.from.as_ref(),
                    until: request.until.as_ref(),
                };
                window(&request.sql, cursor, sql_type, bounds)?
            }
            None => Vec::new(),
        };
        parameters.extend(self.range_parameters(range));
        parameters.extend(further(&request.parameters)?);
        self.lease().await?;
        let lease = self.lease.take();
        let lease = lease.ok_or_else(|| Error::internal("a session has lost its connection"))?;
        let (give_back, lent) = oneshot::channel();
        self.lent = Some(lent);
        let reading = Reading {
            shard: self.shard.name.clone(),
            request,
            parameters,
            described,
            beyond: self.beyond,
            timeouts: self.shard.timeouts.clone(),
        };
        Ok(Box::new(read::start(lease, reading, give_back).await?))
    }
}

fn time_cursor(cursor: &CursorConfig, form: TimeForm, ticks: i64, id: i64) -> Cursor {
    let time = form.write(ticks);
    match cursor.id {
        None => Cursor::Text(time),
        Some(_) => Cursor::Keyset { time, id },
    }
}
