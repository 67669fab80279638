//! The bounds of split shards, which are chosen once. Their table is made by the first pipeline that needs it.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::error::Result;
use crate::sink::StoredRanges;

const TABLE: &str = r"
CREATE TABLE IF NOT EXISTS etl_host_ranges (
    pipeline TEXT NOT NULL,
    shard TEXT NOT NULL,
    split_by TEXT NOT NULL,
    bounds TEXT NOT NULL,
    chosen_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%fZ', 'now')),
    PRIMARY KEY (pipeline, shard)
) WITHOUT ROWID;
";

fn exists(connection: &Connection) -> Result<bool> {
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'etl_host_ranges'";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// The bounds of all shards of a pipeline. Creates nothing.
pub fn load(connection: &Connection, pipeline: &str) -> Result<BTreeMap<String, StoredRanges>> {
    if !exists(connection)? {
        return Ok(BTreeMap::new());
    }
    let sql = "SELECT shard, split_by, bounds FROM etl_host_ranges WHERE pipeline = ?1";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([pipeline])?;
    let mut found = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(2)?;
        found.insert(row.get(0)?, StoredRanges::parse(row.get(1)?, &text)?);
    }
    Ok(found)
}

/// Keeps a shard's bounds, unless there are some already, inside a transaction that the caller holds; gives those that are
/// kept.
pub fn keep(
    connection: &Connection,
    pipeline: &str,
    shard: &str,
    chosen: &StoredRanges,
) -> Result<StoredRanges> {
    connection.execute_batch(TABLE)?;
    connection.execute(
        "INSERT INTO etl_host_ranges (pipeline, shard, split_by, bounds) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        params![pipeline, shard, chosen.column, chosen.text()],
    )?;
    let (column, text): (String, String) = connection.query_row(
        "SELECT split_by, bounds FROM etl_host_ranges WHERE pipeline = ?1 AND shard = ?2",
        [pipeline, shard],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    StoredRanges::parse(column, &text)
}

/// Forgets a shard's bounds, and the positions of the shard and of all its ranges with them, inside a transaction that the
/// caller holds. Their epochs count up, so that no attempt under way can bring one back.
pub fn forget(
    connection: &Connection,
    pipeline: &str,
    shard: &str,
    only_unloaded: bool,
) -> Result<bool> {
    let of_shard = "WHERE pipeline = ?1 AND (partition = ?2 OR (substr(partition, 1, length(?2) + 1) = ?2 || '/' \
         AND substr(partition, length(?2) + 2) <> '' AND substr(partition, length(?2) + 2) NOT GLOB '*[^0-9]*'))";
    let sql = format!(
        "SELECT count(*) > 0 FROM etl_host_checkpoints {of_shard} AND (cursor IS NOT NULL OR fingerprint IS NOT NULL)"
    );
    let loaded: bool = connection.query_row(&sql, [pipeline, shard], |row| row.get(0))?;
    if only_unloaded && loaded {
        return Ok(false);
    }
    let sql = format!(
        "UPDATE etl_host_checkpoints SET epoch = epoch + 1, edited_epoch = epoch + 1, claimed_by = NULL, \
         updated_at = strftime('%Y-%m-%d %H:%M:%fZ', 'now'), cursor = NULL, fingerprint = NULL, columns = NULL {of_shard}"
    );
    connection.execute(&sql, [pipeline, shard])?;
    if exists(connection)? {
        let sql = "DELETE FROM etl_host_ranges WHERE pipeline = ?1 AND shard = ?2";
        connection.execute(sql, [pipeline, shard])?;
    }
    Ok(true)
}
