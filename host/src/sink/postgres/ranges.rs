//! The bounds of split shards, which are chosen once. Their table is made by the first pipeline that needs it.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::checkpoint::{DDL_LOCK, LOCK_TIMEOUT};
use crate::error::Result;
use crate::policy::{Policy, policy};
use crate::sink::StoredRanges;

// What an administrator may run too; docs/operations.md shows it.
const TABLE: &str = r"CREATE TABLE IF NOT EXISTS etl_host.ranges (
    pipeline text NOT NULL,
    shard text NOT NULL,
    split_by text NOT NULL,
    bounds text NOT NULL,
    chosen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (pipeline, shard)
);
";

async fn exists(client: &Client) -> Result<bool> {
    let sql = "SELECT to_regclass('etl_host.ranges') IS NOT NULL";
    Ok(client.query_one(sql, &[]).await?.try_get(0)?)
}

/// The bounds of all shards of a pipeline. Creates nothing.
pub async fn load(client: &Client, pipeline: &str) -> Result<BTreeMap<String, StoredRanges>> {
    if !exists(client).await? {
        return Ok(BTreeMap::new());
    }
    let sql = "SELECT shard, split_by, bounds FROM etl_host.ranges WHERE pipeline = $1";
    let rows = client.query(sql, &[&pipeline]).await?;
    rows.iter()
        .map(|row| {
            let stored = StoredRanges::parse(row.try_get(1)?, row.try_get(2)?)?;
            Ok((row.try_get(0)?, stored))
        })
        .collect()
}

/// Keeps a shard's bounds, unless there are some already; gives those that are kept. Who asks second waits for the first.
pub async fn keep(
    client: &Client,
    pipeline: &str,
    shard: &str,
    chosen: &StoredRanges,
) -> Result<StoredRanges> {
    ensure(client).await?;
    client
        .execute(
            "INSERT INTO etl_host.ranges (pipeline, shard, split_by, bounds) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            &[&pipeline, &shard, &chosen.column, &chosen.text()],
        )
        .await?;
    let row = client
        .query_one(
            "SELECT split_by, bounds FROM etl_host.ranges WHERE pipeline = $1 AND shard = $2",
            &[&pipeline, &shard],
        )
        .await?;
    StoredRanges::parse(row.try_get(0)?, row.try_get(1)?)
}

async fn ensure(client: &Client) -> Result<()> {
    if exists(client).await? {
        return Ok(());
    }
    let script = format!(
        "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SELECT pg_advisory_xact_lock({DDL_LOCK}); {TABLE} COMMIT"
    );
    let Err(error) = client
        .batch_execute(&script)
        .await
        .map_err(crate::error::Error::from)
    else {
        return Ok(());
    };
    let _ = client.batch_execute("ROLLBACK").await;
    let error = error
        .while_trying("make the table etl_host.ranges, which keeps the bounds of split shards");
    if policy(&error) == Policy::Retry {
        return Err(error);
    }
    Err(error.hint(
        "grant CREATE on the schema etl_host to the sink's user, or let an administrator make the table as docs/operations.md shows",
    ))
}

/// Forgets a shard's bounds, and the positions of the shard and of all its ranges with them. Their epochs count up, so that
/// no attempt under way can bring one back.
pub async fn forget(
    client: &Client,
    pipeline: &str,
    shard: &str,
    only_unloaded: bool,
) -> Result<bool> {
    let known = exists(client).await?;
    client.batch_execute("BEGIN").await?;
    let of_shard = "WHERE pipeline = $1 AND (partition = $2 \
         OR (left(partition, length($2) + 1) = $2 || '/' AND substr(partition, length($2) + 2) ~ '^[0-9]+$'))";
    let forgetting = async {
        // Locked, so that none is loaded between the look and the change.
        let sql = format!(
            "SELECT cursor IS NOT NULL OR fingerprint IS NOT NULL FROM etl_host.checkpoints {of_shard} FOR UPDATE"
        );
        let loaded = client.query(&sql, &[&pipeline, &shard]).await?;
        if only_unloaded && loaded.iter().any(|row| row.get(0)) {
            return Ok(false);
        }
        let sql = format!(
            "UPDATE etl_host.checkpoints SET epoch = epoch + 1, edited_epoch = epoch + 1, claimed_by = NULL, \
             updated_at = now(), cursor = NULL, fingerprint = NULL, columns = NULL {of_shard}"
        );
        client.execute(&sql, &[&pipeline, &shard]).await?;
        if known {
            let sql = "DELETE FROM etl_host.ranges WHERE pipeline = $1 AND shard = $2";
            client.execute(sql, &[&pipeline, &shard]).await?;
        }
        Ok(true)
    };
    let forgotten: Result<bool> = forgetting.await;
    let end = if forgotten.is_ok() {
        "COMMIT"
    } else {
        "ROLLBACK"
    };
    client.batch_execute(end).await?;
    forgotten
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_this_very_statement() {
        let text = include_str!("../../../../docs/operations.md");
        assert!(text.contains(&format!("```sql\n{TABLE}```")));
    }
}
