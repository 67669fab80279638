//! Dead letters in the sink: written and marked as replayed in the transaction of a commit, and read by themselves.

use tokio_postgres::{Client, Row};

use super::host_tables::find_columns;
use crate::config::TableName;
use crate::dead_letter::{DeadLetter, StoredLetter};
use crate::error::Result;
use crate::sink::{Claim, LetterFilter, RangeDelete, replayed_before};

/// Writes dead letters inside the current transaction: one statement for all of them.
pub async fn write(client: &Client, claim: &Claim, letters: &[DeadLetter]) -> Result<()> {
    if letters.is_empty() {
        return Ok(());
    }
    let texts = |field: fn(&DeadLetter) -> Option<&str>| -> Vec<Option<&str>> {
        letters.iter().map(field).collect()
    };
    let stages: Vec<&str> = letters.iter().map(|letter| letter.stage.name()).collect();
    let targets = texts(|letter| letter.table.as_deref());
    let columns = texts(|letter| letter.column.as_deref());
    let positions = texts(|letter| letter.position.as_deref());
    // A reason may quote text that PostgreSQL cannot hold.
    let reasons: Vec<String> = letters
        .iter()
        .map(|letter| letter.reason.replace('\0', "\u{fffd}"))
        .collect();
    let payloads: Vec<&[u8]> = letters
        .iter()
        .map(|letter| letter.payload.as_slice())
        .collect();
    let rows: Vec<Option<&[u8]>> = letters
        .iter()
        .map(|letter| letter.arrow.as_deref())
        .collect();
    client
        .execute(
            "INSERT INTO etl_host.dead_letters (pipeline, partition, run_id, stage, target, column_name, reason, payload, arrow, position) \
             SELECT $1, $2, $3, * FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::bytea[], $10::text[])",
            &[
                &claim.tenure.pipeline,
                &claim.partition,
                &claim.tenure.run_id,
                &stages,
                &targets,
                &columns,
                &reasons,
                &payloads,
                &rows,
                &positions,
            ],
        )
        .await?;
    Ok(())
}

/// Marks dead letters as loaded by this run, inside the current transaction. Fails if another replay was faster.
pub async fn mark_replayed(client: &Client, claim: &Claim, ids: &[i64]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let marked = client
        .execute(
            "UPDATE etl_host.dead_letters SET replayed_by = $3 WHERE pipeline = $1 AND id = ANY($2) AND replayed_by IS NULL",
            &[&claim.tenure.pipeline, &ids, &claim.tenure.run_id],
        )
        .await?;
    if marked == ids.len() as u64 {
        Ok(())
    } else {
        Err(replayed_before())
    }
}

/// Closes the letters of rows that are deleted, because they are read again, inside the current transaction. Those that are
/// still refused become letters anew; replayed, the old ones would double their rows.
pub async fn close(
    client: &Client,
    claim: &Claim,
    table: &TableName,
    range: &RangeDelete,
) -> Result<()> {
    let mut filter = LetterFilter::open_of(&claim.partition);
    loop {
        let letters = load(client, &claim.tenure.pipeline, &filter).await?;
        let Some(last) = letters.last() else {
            return Ok(());
        };
        filter.after = last.id;
        let ids = range.covered(&letters, table);
        mark_replayed(client, claim, &ids).await?;
    }
}

/// Reads dead letters in the order of their numbers. Creates nothing.
pub async fn load(
    client: &Client,
    pipeline: &str,
    filter: &LetterFilter,
) -> Result<Vec<StoredLetter>> {
    let later = [
        ("arrow", "bytea"),
        ("position", "text"),
        ("replayed_by", "text"),
    ];
    let Some([arrow, position, replayed_by]) = find_columns(client, "dead_letters", later).await?
    else {
        return Ok(Vec::new());
    };
    let rows = client
        .query(
            &format!(
                "SELECT id, partition, run_id, stage, target, column_name, reason, payload, {arrow}, {position}, {replayed_by}, \
                 created_at::text FROM etl_host.dead_letters WHERE pipeline = $1 AND id > $2 \
                 AND (cardinality($3::bigint[]) = 0 OR id = ANY($3)) AND (cardinality($4::text[]) = 0 OR partition = ANY($4)) \
                 AND ($5::text IS NULL OR run_id = $5) AND ($6::text IS NULL OR stage = $6) AND ($7 OR {replayed_by} IS NULL) \
                 ORDER BY id LIMIT $8"
            ),
            &[
                &pipeline,
                &filter.after,
                &filter.ids,
                &filter.partitions,
                &filter.run_id,
                &filter.stage,
                &filter.replayed,
                &i64::from(filter.limit),
            ],
        )
        .await?;
    rows.iter().map(letter).collect()
}

fn letter(row: &Row) -> Result<StoredLetter> {
    Ok(StoredLetter {
        id: row.try_get(0)?,
        partition: row.try_get(1)?,
        run_id: row.try_get(2)?,
        stage: row.try_get(3)?,
        table: row.try_get(4)?,
        column: row.try_get(5)?,
        reason: row.try_get(6)?,
        payload: row.try_get(7)?,
        arrow: row.try_get(8)?,
        position: row.try_get(9)?,
        replayed_by: row.try_get(10)?,
        created_at: row.try_get(11)?,
    })
}
