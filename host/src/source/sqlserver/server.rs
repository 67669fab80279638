//! What the host asks the server itself: who it is, what time it is, and how far its data is settled.

use std::future::Future;
use std::time::Duration;

use tiberius::{ColumnData, Row};
use tokio::time::timeout;

use super::bind::{EXECUTE, Parameter, build_arguments};
use super::decode::{ticks, whole};
use crate::config::ReadIsolation;
use crate::error::{Error, ErrorKind, Result};
use crate::pool::SqlServerClient;
use crate::source::sql;
use crate::source::time::TICKS_PER_SECOND;

/// The server's clock, in ticks since 0001-01-01.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    pub utc: i64,
    pub local: i64,
}

/// Gives the server so long and no longer.
pub async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, asked).await.map_err(|_| {
        Error::new(
            ErrorKind::Timeout,
            format!("the server did not answer within {limit:?}"),
        )
        .hint("raise `timeouts.statement`, or look for what blocks the server")
    })?
}

/// Reads under SNAPSHOT where the database allows it: then a statement sees all that was committed when it began, and
/// waits for nobody. Elsewhere under READ COMMITTED; `doctor` says so.
pub async fn set_isolation(
    client: &mut SqlServerClient,
    wanted: ReadIsolation,
    limit: Duration,
) -> Result<()> {
    within(limit, async {
        let snapshot = wanted == ReadIsolation::Snapshot && snapshot_allowed(client).await?;
        let level = if snapshot {
            "SNAPSHOT"
        } else {
            "READ COMMITTED"
        };
        let set = format!("SET TRANSACTION ISOLATION LEVEL {level}");
        client.query(&set).await.map(drop)
    })
    .await
}

/// Whether the database allows SNAPSHOT isolation. A server that does not tell is taken for one that does not.
pub async fn snapshot_allowed(client: &mut SqlServerClient) -> Result<bool> {
    let sql = "SELECT snapshot_isolation_state FROM sys.databases WHERE database_id = DB_ID()";
    match one_row(client, sql).await {
        Ok(row) => Ok(row.and_then(|row| row.get_column_data(0).ok().and_then(whole)) == Some(1)),
        Err(error) if matches!(error.kind(), ErrorKind::SqlServer(_)) => {
            tracing::debug!("the server does not say whether it allows SNAPSHOT: {error}");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// What identifies server and database. Within an availability group that is the group's database, which all replicas
/// share: a failover is no other shard.
pub async fn fingerprint(client: &mut SqlServerClient, address: &str) -> Result<String> {
    let names = one_row(client, "SELECT @@SERVERNAME, DB_NAME()").await?;
    let text = |index: usize| {
        let row = names.as_ref()?;
        row.try_get::<&str, _>(index).ok().flatten()
    };
    let server = text(0).unwrap_or(address).to_owned();
    let database = text(1).unwrap_or_default().to_owned();
    let sql = "SELECT CONVERT(nvarchar(36), group_database_id) FROM sys.databases WHERE database_id = DB_ID()";
    let group = match one_row(client, sql).await {
        Ok(row) => row.and_then(|row| row.try_get::<&str, _>(0).ok().flatten().map(str::to_owned)),
        // Servers without availability groups do not have the column, and some not the view.
        Err(error) if matches!(error.kind(), ErrorKind::SqlServer(207 | 208)) => None,
        Err(error) => return Err(error.while_trying("identify the server")),
    };
    Ok(match group {
        Some(group) => format!("sqlserver:group:{}/{database}", group.to_lowercase()),
        None => format!("sqlserver:{server}/{database}"),
    })
}

/// Both clocks, read in one statement.
pub async fn clocks(client: &mut SqlServerClient) -> Result<Clocks> {
    let row = one_row(client, "SELECT SYSUTCDATETIME(), SYSDATETIME()").await?;
    let time = |index: usize| {
        row.as_ref()
            .and_then(|row| ticks(row.get_column_data(index).ok()?))
    };
    match (time(0), time(1)) {
        (Some(utc), Some(local)) => Ok(Clocks { utc, local }),
        _ => Err(Error::data("the server does not tell the time")),
    }
}

/// Whether this is a copy that is only read: a secondary of an availability group, or a database that nobody writes.
pub async fn is_replica(client: &mut SqlServerClient) -> Result<bool> {
    let sql = "SELECT CONVERT(nvarchar(20), DATABASEPROPERTYEX(DB_NAME(), 'Updateability'))";
    let row = one_row(client, sql).await?;
    let text = row
        .as_ref()
        .and_then(|row| row.try_get::<&str, _>(0).ok().flatten());
    Ok(text == Some("READ_ONLY"))
}

/// How far the data of a secondary is behind its clock, in ticks: since the last commit that it has replayed. A later
/// bound would promise rows that are still on their way. Nothing on a primary.
pub async fn lag(client: &mut SqlServerClient) -> Result<i64> {
    if !is_replica(client).await? {
        return Ok(0);
    }
    let sql = "SELECT DATEDIFF_BIG(millisecond, MAX(last_commit_time), SYSDATETIME()) \
               FROM sys.dm_hadr_database_replica_states WHERE database_id = DB_ID() AND is_local = 1";
    let refused = || {
        Error::new(
            ErrorKind::Refused,
            "the secondary does not say up to when it has replayed its primary",
        )
        .hint("grant the login VIEW SERVER STATE, or set `application_intent: read-write`")
    };
    let row = one_row(client, sql)
        .await
        .map_err(|error| refused().caused_by(error))?;
    let millis = row.and_then(|row| row.get_column_data(0).ok().and_then(whole));
    // A second less than nothing may be two clocks; more is a time of another zone, which cannot be compared.
    match millis {
        Some(millis) if millis >= -1_000 => {
            Ok(millis.max(0).saturating_mul(TICKS_PER_SECOND / 1_000))
        }
        _ => Err(refused()),
    }
}

/// The lowest `rowversion` that a transaction still open may have: all below are settled.
pub async fn min_active_rowversion(client: &mut SqlServerClient) -> Result<u64> {
    let row = one_row(client, "SELECT MIN_ACTIVE_ROWVERSION()").await?;
    let value = row
        .as_ref()
        .and_then(|row| match row.get_column_data(0).ok()? {
            ColumnData::Binary(Some(bytes)) => {
                Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?))
            }
            _ => None,
        });
    value.ok_or_else(|| Error::data("the server does not tell its lowest open rowversion"))
}

/// The whole number that a statement with parameters returns; `None` for NULL and for no row.
pub async fn whole_number(
    client: &mut SqlServerClient,
    sql: &str,
    parameters: &[Parameter],
) -> Result<Option<i64>> {
    let rows = client.call(EXECUTE, build_arguments(sql, parameters)).await;
    let rows =
        rows.map_err(|error| error.while_trying("find the highest value of the cursor column"))?;
    let row = rows.first();
    Ok(row.and_then(|row| row.get_column_data(0).ok().and_then(whole)))
}

/// The whole numbers in the one row that a statement with parameters returns.
pub async fn whole_numbers(
    client: &mut SqlServerClient,
    sql: &str,
    parameters: &[Parameter],
) -> Result<Vec<Option<i64>>> {
    let rows = client.call(EXECUTE, build_arguments(sql, parameters)).await;
    let rows = rows.map_err(|error| error.while_trying("count the rows of each range"))?;
    let row = rows.first();
    let numbers = row.map(|row| {
        (0..row.len())
            .map(|index| row.get_column_data(index).ok().and_then(whole))
            .collect()
    });
    Ok(numbers.unwrap_or_default())
}

/// A statement for the highest value of a column of another one. That becomes a derived table, which may have an order
/// only with OFFSET; its WITH comes before it all, and its OPTION behind.
pub fn max_of(statement: &str, column: &str) -> String {
    let statement = statement.trim().trim_end_matches(';');
    let words = sql::outer_words(statement);
    let place = |word: &str| {
        let found = words
            .iter()
            .find(|(_, found)| found.eq_ignore_ascii_case(word));
        found.map(|(at, _)| *at)
    };
    let select = place("select").unwrap_or(0);
    let end = place("option").unwrap_or(statement.len());
    let (with, inner) = (statement.get(..select), statement.get(select..end));
    let option = statement.get(end..).unwrap_or_default();
    let offset = if sql::is_ordered(statement) {
        "\nOFFSET 0 ROWS"
    } else {
        ""
    };
    format!(
        "{}SELECT MAX(q.[{}]) FROM ({}{offset}\n) AS q {option}",
        with.unwrap_or_default(),
        column.replace(']', "]]"),
        inner.unwrap_or(statement).trim_end()
    )
    .trim_end()
    .to_owned()
}

async fn one_row(client: &mut SqlServerClient, sql: &str) -> Result<Option<Row>> {
    Ok(client.query(sql).await?.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_becomes_a_derived_table() {
        assert_eq!(
            max_of("SELECT id FROM t WHERE id > @from ORDER BY id;", "id"),
            "SELECT MAX(q.[id]) FROM (SELECT id FROM t WHERE id > @from ORDER BY id\nOFFSET 0 ROWS\n) AS q"
        );
        assert_eq!(
            max_of(
                "WITH a AS (SELECT 1 AS i) SELECT i AS [a]]b] FROM a OPTION (RECOMPILE)",
                "a]b"
            ),
            "WITH a AS (SELECT 1 AS i) SELECT MAX(q.[a]]b]) FROM (SELECT i AS [a]]b] FROM a\n) AS q OPTION (RECOMPILE)"
        );
    }
}
