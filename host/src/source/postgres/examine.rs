//! Looks whether a shard can be read, for `etl-host doctor`. Changes nothing, and keeps no lock.

use arrow_schema::SchemaRef;
use jiff::Timestamp;
use tokio_postgres::{Client, Statement};

use super::PostgresSource;
use super::describe::prepare;
use crate::config::{Cursor as CursorConfig, CursorKind, PostgresShard};
use crate::error::Error;
use crate::finding::Findings;
use crate::identifier::quote;
use crate::pool::examine as connecting;
use crate::source::examine::{SLOW, hint_at_query, judge_clock, read_nothing};
use crate::source::{Examination, ShardQuery, Source};

/// A replica that is so many seconds behind is worth a word.
const LAG_SECONDS: i64 = 10;

/// Examines one shard.
pub async fn examine(
    source: &PostgresSource,
    shard: &PostgresShard,
    query: Option<&ShardQuery>,
) -> Examination {
    let mut findings = Findings::default();
    let Some(lease) = connecting::postgres(&source.pools, &shard.server, &mut findings).await
    else {
        return Examination {
            findings: findings.into_vec(),
            ..Examination::default()
        };
    };
    let mut may_run = false;
    if let Ok(client) = lease.client() {
        check_replica(&mut findings, client).await;
        if let Some(query) = query {
            check_clock(&mut findings, client, query).await;
            may_run = check_query(&mut findings, client, query).await;
        }
    }
    // In what state an error has left it is unknown; the session below takes one of its own.
    drop(lease);
    let session = findings.ask("identity", async {
        let mut session = source.open(&shard.name).await?;
        let fingerprint = session.fingerprint().await?;
        Ok((session, fingerprint))
    });
    let Some((mut session, fingerprint)) = session.await else {
        return Examination {
            findings: findings.into_vec(),
            ..Examination::default()
        };
    };
    let mut schema: Option<SchemaRef> = None;
    if let Some(query) = query.filter(|_| may_run) {
        let read = read_nothing(session.as_mut(), query);
        schema = findings.ask_patiently("read", read, SLOW).await;
        if schema.is_some() {
            findings.ok("read", "the query runs");
        }
    }
    Examination {
        findings: findings.into_vec(),
        fingerprint: Some(fingerprint),
        schema,
    }
}

/// How far a replica is behind its primary. One that has nothing left to replay is not behind, however old that is.
async fn check_replica(findings: &mut Findings, client: &Client) {
    let sql = "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() \
               AND pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn() \
               THEN extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::bigint ELSE 0 END";
    let asked = async {
        let row = client.query_one(sql, &[]).await?;
        Ok((
            row.try_get::<_, bool>(0)?,
            row.try_get::<_, Option<i64>>(1)?,
        ))
    };
    match findings.ask("replica", asked).await {
        Some((true, Some(lag))) if lag > LAG_SECONDS => findings.warning(
            "replica",
            format!("this is a replica, {lag} s behind its primary: rows wait longer by that"),
            "look for what holds up its replay, or read from the primary",
        ),
        Some((true, _)) => findings.ok("replica", "this is a replica, and not behind its primary"),
        _ => {}
    }
}

/// The clock that bounds the window of a timestamp.
async fn check_clock(findings: &mut Findings, client: &Client, query: &ShardQuery) {
    let cursor = query.cursor.as_ref();
    if cursor.is_some_and(|cursor| cursor.kind == CursorKind::Timestamp) {
        let asked = Timestamp::now();
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let now = async { Ok(client.query_one(sql, &[]).await?.try_get(0)?) };
        if let Some(server) = findings.ask("clock", now).await {
            judge_clock(findings, server, asked, Timestamp::now());
        }
    }
}

/// Whether it makes sense to run the query.
async fn check_query(findings: &mut Findings, client: &Client, query: &ShardQuery) -> bool {
    let prepared = async {
        // Looking for the cursor's type takes savepoints.
        client.batch_execute("BEGIN READ ONLY").await?;
        let prepared = prepare(client, &query.sql, query.cursor.as_ref(), &[]).await;
        client.batch_execute("ROLLBACK").await?;
        prepared.map_err(hint_at_query)
    };
    let Some(prepared) = findings.ask("query", prepared).await else {
        return false;
    };
    findings.ok("query", format!("{} columns", prepared.columns.len()));
    if let (Some(cursor), Some(window)) = (&query.cursor, prepared.window) {
        let mut detail = format!("`{}` is {}", cursor.column, window.cursor.parameter());
        if let (Some(id), Some(id_type)) = (&cursor.id, window.id) {
            detail = format!("{detail}, `{id}` is {}", id_type.parameter());
        }
        findings.ok("cursor", detail);
        check_index(findings, client, &prepared.statement, cursor).await;
    }
    true
}

async fn check_index(
    findings: &mut Findings,
    client: &Client,
    statement: &Statement,
    cursor: &CursorConfig,
) {
    let mut columns = statement.columns().iter();
    let column = columns.find(|column| column.name() == cursor.column);
    let Some((table, number)) =
        column.and_then(|column| column.table_oid().zip(column.column_id()))
    else {
        // An expression: then the plan decides, which is not looked at.
        return;
    };
    let sql = "SELECT c.oid::regclass::text, a.attname::text, \
               (SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid \
               JOIN pg_am m ON m.oid = x.relam WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL \
               AND m.amname = 'btree' AND i.indkey[0] = a.attnum LIMIT 1) \
               FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = $2 \
               WHERE c.oid = $1 AND c.relkind IN ('r', 'p', 'm')";
    let asked = async {
        let row = client.query_opt(sql, &[&table, &number]).await?;
        let names = |row: tokio_postgres::Row| {
            Ok::<_, Error>((
                row.try_get::<_, String>(0)?,
                row.try_get::<_, String>(1)?,
                row.try_get::<_, Option<String>>(2)?,
            ))
        };
        row.map(names).transpose()
    };
    match findings.ask("index", asked).await.flatten() {
        Some((_, _, Some(index))) => findings.ok("index", format!("`{index}` serves the cursor")),
        Some((table, column, None)) => {
            let keys: Vec<String> = std::iter::once(column.as_str())
                .chain(cursor.id.as_deref())
                .map(quote)
                .collect();
            findings.warning(
                "index",
                format!("no index of {table} begins with `{column}`: every run reads and sorts the whole table"),
                format!("CREATE INDEX CONCURRENTLY ON {table} ({})", keys.join(", ")),
            );
        }
        // A view: its tables' indexes serve it or not.
        None => {}
    }
}
