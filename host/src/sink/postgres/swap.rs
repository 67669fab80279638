//! The last step of a `replace`: the rows of all shadows in place of the old ones, in one transaction.

use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use super::checkpoint::{IDLE_TIMEOUT, LOCK_TIMEOUT, cursor_text};
use super::table::PgTable;
use crate::error::{Error, ErrorKind, Result};
use crate::literal::hex;
use crate::sink::{Swap, fenced};

/// The shadow of one partition. Names are cut at 63 bytes, hence the digest.
pub fn shadow_name(pipeline: &str, partition: usize, table: usize) -> String {
    let digest = Sha256::digest(pipeline.as_bytes());
    let short = hex(digest.get(..6).unwrap_or_default());
    format!("etl_host.shadow_{short}_{partition}_{table}")
}

/// Puts the shadows' rows in place of the old ones. Readers see the old rows until the commit and never wait.
///
/// The checkpoints are locked first: a predecessor whose commit is in doubt has ended by then, and its mark is seen.
pub async fn swap(client: &Client, tables: &[PgTable], swap: &Swap) -> Result<()> {
    client
        .batch_execute(&format!(
            "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; \
             SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}'"
        ))
        .await?;
    let marked = client
        .query(
            "SELECT run_id FROM etl_host.checkpoints WHERE pipeline = $1 FOR UPDATE",
            &[&swap.pipeline],
        )
        .await?
        .iter()
        .any(|row| row.get::<_, Option<String>>(0).as_deref() == Some(swap.mark().as_str()));
    if marked {
        client.batch_execute("ROLLBACK").await?;
        return Ok(());
    }
    let mut moved = 0;
    for (index, table) in tables.iter().enumerate() {
        let (name, columns) = (table.name(), table.column_list());
        client
            .batch_execute(&format!(
                "LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE; DELETE FROM {name}"
            ))
            .await?;
        for partition in &swap.partitions {
            let shadow = shadow_name(&swap.pipeline, partition.index, index);
            moved += client
                .execute(
                    &format!("INSERT INTO {name} ({columns}) SELECT {columns} FROM {shadow}"),
                    &[],
                )
                .await?;
            client
                .batch_execute(&format!("DROP TABLE {shadow}"))
                .await?;
        }
    }
    let expected: u64 = swap.partitions.iter().map(|partition| partition.rows).sum();
    if moved != expected {
        return Err(Error::new(
            ErrorKind::Ledger,
            format!("the partitions loaded {expected} rows, but {moved} are there to swap in"),
        ));
    }
    client
        .batch_execute("SET CONSTRAINTS ALL IMMEDIATE")
        .await?;
    for partition in &swap.partitions {
        let cursor = partition.cursor.as_ref().map(cursor_text).transpose()?;
        let mine = client
            .execute(
                "UPDATE etl_host.checkpoints SET run_id = $4, cursor = $5, updated_at = now() \
                 WHERE pipeline = $1 AND partition = $2 AND epoch = $3",
                &[
                    &swap.pipeline,
                    &partition.name,
                    &partition.epoch,
                    &swap.mark(),
                    &cursor,
                ],
            )
            .await?;
        if mine != 1 {
            return Err(fenced(&partition.name));
        }
    }
    client.batch_execute("COMMIT").await?;
    Ok(())
}

/// Drops the shadows of partitions that this run still owns.
pub async fn discard(client: &Client, tables: usize, swap: &Swap) -> Result<()> {
    client
        .batch_execute(&format!(
            "BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; \
             SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT}'"
        ))
        .await?;
    for partition in &swap.partitions {
        let mine = client
            .query_opt(
                "SELECT 1 FROM etl_host.checkpoints WHERE pipeline = $1 AND partition = $2 AND claimed_by = $3 FOR UPDATE",
                &[&swap.pipeline, &partition.name, &swap.run_id],
            )
            .await?;
        if mine.is_some() {
            for table in 0..tables {
                let shadow = shadow_name(&swap.pipeline, partition.index, table);
                client
                    .batch_execute(&format!("DROP TABLE IF EXISTS {shadow}"))
                    .await?;
            }
        }
    }
    client.batch_execute("COMMIT").await?;
    Ok(())
}
