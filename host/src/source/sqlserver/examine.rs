//! Looks whether a shard can be read, for `etl-host doctor`. Changes nothing, and keeps no lock.

use arrow_schema::SchemaRef;
use etl_plugin_api::Value;
use jiff::Timestamp;

use super::batches::build_cursors;
use super::bind::{Bounds, EXECUTE, build_arguments, declarations, further, window};
use super::describe::{Described, describe};
use super::{SqlServerSource, column_type, server};
use crate::config::{Cursor as CursorConfig, CursorKind, ReadIsolation, SqlServerShard};
use crate::error::{Error, Result};
use crate::finding::Findings;
use crate::pool::{SqlServerClient, examine as connecting};
use crate::source::examine::{SLOW, hint_at_query, judge_clock, read_nothing};
use crate::source::time::TICKS_TO_1970;
use crate::source::{Examination, ShardQuery, Source};

/// Ticks of 100 ns in a microsecond.
const TICKS_PER_MICROSECOND: i64 = 10;

/// An index whose first column is the cursor's, that is in use and holds all rows.
const FIND_INDEX: &str = "SELECT TOP (1) i.name FROM sys.indexes AS i JOIN sys.index_columns AS ic \
     ON ic.object_id = i.object_id AND ic.index_id = i.index_id WHERE i.object_id = OBJECT_ID(@table) \
     AND i.is_disabled = 0 AND i.has_filter = 0 AND ic.key_ordinal = 1 AND COL_NAME(ic.object_id, ic.column_id) = @column";

/// Examines one shard.
pub async fn examine(
    source: &SqlServerSource,
    shard: &SqlServerShard,
    query: Option<&ShardQuery>,
) -> Examination {
    let mut findings = Findings::default();
    let Some(mut lease) = connecting::sqlserver(&source.pools, &shard.server, &mut findings).await
    else {
        return Examination {
            findings: findings.into_vec(),
            ..Examination::default()
        };
    };
    // Its own text, so that the plan the server makes for an empty window is not kept for runs.
    let query = query.map(|query| ShardQuery {
        sql: format!("/* etl-host doctor */ {}", query.sql),
        cursor: query.cursor.clone(),
    });
    let mut fingerprint = None;
    let mut may_run = false;
    if let Ok(client) = lease.client() {
        let address = crate::pool::sqlserver_address(&shard.server);
        let asked = findings.ask("identity", server::fingerprint(client, &address));
        fingerprint = asked.await;
        check_isolation(&mut findings, client, shard).await;
        if let Some(query) = &query {
            check_clock(&mut findings, client, query).await;
            may_run = check_query(&mut findings, client, query).await;
        }
    }
    // What it has set is unknown after an error: the next one gets another.
    drop(lease);
    let schema = match &query {
        Some(query) if may_run => check_read(&mut findings, source, &shard.name, query).await,
        _ => None,
    };
    Examination {
        findings: findings.into_vec(),
        fingerprint,
        schema,
    }
}

async fn check_isolation(
    findings: &mut Findings,
    client: &mut SqlServerClient,
    shard: &SqlServerShard,
) {
    if shard.read_isolation == ReadIsolation::ReadCommitted {
        findings.ok(
            "isolation",
            "reads under READ COMMITTED, as the configuration says",
        );
        return;
    }
    let database = &shard.server.server.database;
    let asked = findings.ask("isolation", server::snapshot_allowed(client));
    match asked.await {
        Some(true) => findings.ok("isolation", "reads under SNAPSHOT"),
        Some(false) => findings.warning(
            "isolation",
            "the database does not allow SNAPSHOT: readers and writers wait for each other, and rows that change meanwhile \
             may be read twice or not at all",
            format!(
                "ALTER DATABASE {} SET ALLOW_SNAPSHOT_ISOLATION ON",
                bracketed(database)
            ),
        ),
        None => {}
    }
}

/// The clock that bounds the window of a timestamp.
async fn check_clock(findings: &mut Findings, client: &mut SqlServerClient, query: &ShardQuery) {
    let cursor = query.cursor.as_ref();
    if cursor.is_some_and(|cursor| cursor.kind == CursorKind::Timestamp) {
        let asked = Timestamp::now();
        if let Some(clocks) = findings.ask("clock", server::clocks(client)).await {
            let server = (clocks.utc - TICKS_TO_1970) / TICKS_PER_MICROSECOND;
            judge_clock(findings, server, asked, Timestamp::now());
        }
    }
}

/// Whether it makes sense to run the query.
async fn check_query(
    findings: &mut Findings,
    client: &mut SqlServerClient,
    query: &ShardQuery,
) -> bool {
    let parameters = match &query.cursor {
        Some(cursor) => window(&query.sql, cursor, None, Bounds::default()),
        None => Ok(Vec::new()),
    };
    let described = async {
        let declared = declarations(&parameters?);
        let described = describe(client, &query.sql, &declared).await;
        described.map_err(hint_at_query)
    };
    let Some(described) = findings.ask("query", described).await else {
        return false;
    };
    let Some(columns) = described else {
        let unknown = "the server does not describe it; its columns are known once it runs";
        findings.ok("query", unknown);
        return true;
    };
    findings.ok("query", format!("{} columns", columns.len()));
    let Some(cursor) = &query.cursor else {
        return true;
    };
    match judge_cursor(&columns, cursor) {
        Ok(detail) => findings.ok("cursor", detail),
        Err(error) => {
            findings.failed("cursor", &error);
            return false;
        }
    }
    check_index(findings, client, &columns, cursor).await;
    true
}

/// Whether the cursor's columns are there and of a type that orders.
fn judge_cursor(columns: &[Described], cursor: &CursorConfig) -> Result<String> {
    let sql_type = column_type(columns, &cursor.column)?;
    build_cursors(cursor, sql_type)?;
    let mut detail = format!("`{}` is {}", cursor.column, sql_type.declaration());
    if let Some(id) = &cursor.id {
        let id_type = column_type(columns, id)?;
        if !id_type.is_whole() {
            return Err(
                Error::config(format!("the column `{id}` does not hold whole numbers"))
                    .hint("correct `cursor.id`"),
            );
        }
        detail = format!("{detail}, `{id}` is {}", id_type.declaration());
    }
    Ok(detail)
}

async fn check_index(
    findings: &mut Findings,
    client: &mut SqlServerClient,
    columns: &[Described],
    cursor: &CursorConfig,
) {
    let origin = |name: &str| {
        let found = columns.iter().find(|column| column.name == name);
        found.and_then(|column| column.origin.clone())
    };
    let Some((table, column)) = origin(&cursor.column) else {
        // The server does not say, or it is an expression: then the plan decides, which is not looked at.
        return;
    };
    let found = findings.ask("index", find_index(client, &table, &column));
    match found.await {
        Some(Some(index)) => findings.ok("index", format!("`{index}` serves the cursor")),
        Some(None) => {
            let id = cursor.id.as_deref().and_then(origin);
            let id = id.filter(|(other, _)| *other == table);
            findings.warning(
                "index",
                format!("no index of {table} begins with `{column}`: every run reads and sorts the whole table"),
                create_index(&table, &column, id.as_ref().map(|(_, id)| id.as_str())),
            );
        }
        None => {}
    }
}

async fn find_index(
    client: &mut SqlServerClient,
    table: &str,
    column: &str,
) -> Result<Option<String>> {
    let parameters = further(&[
        ("table".to_owned(), Value::Text(table.to_owned())),
        ("column".to_owned(), Value::Text(column.to_owned())),
    ])?;
    let rows = client.call(EXECUTE, build_arguments(FIND_INDEX, &parameters));
    // A heap has no index of a name; the catalogue gives none for key columns.
    Ok(rows.await?.first().map(|row| {
        let name: Option<&str> = row.try_get(0).ok().flatten();
        name.unwrap_or_default().to_owned()
    }))
}

fn create_index(table: &str, column: &str, id: Option<&str>) -> String {
    let keys: Vec<String> = std::iter::once(column).chain(id).map(bracketed).collect();
    let name = bracketed(&format!("ix_{column}"));
    format!("CREATE INDEX {name} ON {table} ({})", keys.join(", "))
}

/// Runs the query as a run does, over a window in which there is nothing.
async fn check_read(
    findings: &mut Findings,
    source: &SqlServerSource,
    shard: &str,
    query: &ShardQuery,
) -> Option<SchemaRef> {
    let read = async {
        let mut session = source.open(shard).await?;
        read_nothing(session.as_mut(), query)
            .await
            .map_err(hint_at_query)
    };
    let schema = findings.ask_patiently("read", read, SLOW).await?;
    findings.ok("read", "the query runs");
    Some(schema)
}

fn bracketed(name: &str) -> String {
    format!("[{}]", name.replace(']', "]]"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::types::SqlType;
    use super::*;
    use crate::config::Clock;

    fn cursor(column: &str, kind: CursorKind, id: Option<&str>) -> CursorConfig {
        CursorConfig {
            column: column.to_owned(),
            kind,
            id: id.map(str::to_owned),
            clock: Clock::Utc,
            settle_delay: Duration::ZERO,
        }
    }

    fn columns() -> Vec<Described> {
        let column = |name: &str, sql_type| Described {
            utf8: false,
            name: name.to_owned(),
            sql_type,
            declared: String::new(),
            origin: Some(("[dbo].[t]".to_owned(), name.to_owned())),
        };
        vec![
            column("at", SqlType::DateTime2(3)),
            column("id", SqlType::BigInt),
            column("name", SqlType::Text),
        ]
    }

    #[test]
    fn the_cursor_must_be_there_and_order() {
        let judge = |column, kind, id| {
            judge_cursor(&columns(), &cursor(column, kind, id)).map_err(|error| error.to_string())
        };
        let keyset = judge("at", CursorKind::Timestamp, Some("id"));
        assert_eq!(keyset.unwrap(), "`at` is datetime2(3), `id` is bigint");
        assert_eq!(
            judge("id", CursorKind::Integer, None).unwrap(),
            "`id` is bigint"
        );
        for (column, kind, id, says) in [
            ("no", CursorKind::Integer, None, "no column `no`"),
            ("name", CursorKind::Timestamp, None, "does not hold times"),
            (
                "at",
                CursorKind::Rowversion,
                None,
                "does not hold a rowversion",
            ),
            ("at", CursorKind::Timestamp, Some("name"), "whole numbers"),
        ] {
            let error = judge(column, kind, id).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn the_fix_is_a_statement_to_run() {
        assert_eq!(
            create_index("[dbo].[t]", "a]b", Some("id")),
            "CREATE INDEX [ix_a]]b] ON [dbo].[t] ([a]]b], [id])"
        );
    }
}
