//! The two ways into a table: COPY, and COPY into a staging table with a merge behind it.

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use tokio_postgres::Client;

use super::encode::{Encoder, HEADER, TRAILER};
use super::fault::Fault;
use super::table::PgTable;
use crate::error::{Error, ErrorKind, Result};
use crate::identifier::quote_list;
use crate::sink::key::{Comparison, OnConflict, on_conflict};
use crate::sink::part::Part;
use crate::sink::{Keep, Refusal, Written};

/// Bytes that are handed to the connection at a time.
const FRAME: usize = 256 * 1024;

/// Sends rows by binary COPY. Those that a column cannot hold are left out and told.
pub async fn copy(
    client: &Client,
    target: &str,
    table: &PgTable,
    part: &Part,
) -> Result<Written, Fault> {
    let sql = format!(
        "COPY {target} ({}) FROM STDIN (FORMAT binary)",
        table.column_list()
    );
    let sink = client.copy_in::<_, Bytes>(&sql).await?;
    futures_util::pin_mut!(sink);
    let mut frame = BytesMut::with_capacity(FRAME + FRAME / 4);
    let mut row_bytes = Vec::with_capacity(1024);
    let mut written = Written::default();
    let fields = i16::try_from(table.columns.len())
        .map_err(|_| Error::data("PostgreSQL tables have at most 1,600 columns"))?
        .to_be_bytes();
    frame.extend_from_slice(HEADER);
    for slice in part.slices() {
        let rows = &slice.rows;
        let mut row = 0;
        while row < rows.num_rows() {
            // Scoped so that no borrowed encoder lives across an await.
            {
                let encoders = table
                    .columns
                    .iter()
                    .map(|(column, _, data_type)| Encoder::new(rows.column(*column), *data_type))
                    .collect::<Result<Vec<_>>>()?;
                while row < rows.num_rows() && frame.len() < FRAME {
                    row_bytes.clear();
                    row_bytes.extend_from_slice(&fields);
                    let fault =
                        encoders
                            .iter()
                            .zip(&table.columns)
                            .find_map(|(encoder, (_, name, _))| {
                                encoder
                                    .encode(row, &mut row_bytes)
                                    .err()
                                    .map(|reason| (name, reason))
                            });
                    match fault {
                        None => {
                            frame.extend_from_slice(&row_bytes);
                            written.loaded += 1;
                        }
                        Some((column, reason)) => written.refused.push(Refusal {
                            batch: slice.batch,
                            row: slice.first + row,
                            column: column.clone(),
                            reason: reason.to_owned(),
                            told: String::new(),
                        }),
                    }
                    row += 1;
                }
            }
            if frame.len() >= FRAME {
                sink.send(frame.split().freeze()).await?;
            }
        }
    }
    frame.extend_from_slice(TRAILER);
    sink.send(frame.freeze()).await?;
    let counted = sink.finish().await?;
    if counted != written.loaded {
        return Err(Fault::Other(Error::new(
            ErrorKind::Ledger,
            format!(
                "sent {} rows by COPY, but the server took {counted}",
                written.loaded
            ),
        )));
    }
    Ok(written)
}

/// Sends rows into the staging table and merges them from there: new keys are inserted, known ones updated. A row that is
/// there as it is costs no write.
pub async fn merge(
    client: &Client,
    stage: &str,
    table: &PgTable,
    part: &Part,
    key: &[String],
) -> Result<Written, Fault> {
    let mut written = copy(client, stage, table, part).await?;
    let (name, columns) = (table.name(), table.column_list());
    let conflict = conflict_of(table, key);
    let key = quote_list(key.iter().map(String::as_str));
    // In the key's order, so that two writers cannot wait for each other.
    let merged = client
        .execute(
            &format!(
                "INSERT INTO {name} AS t ({columns}) SELECT {columns} FROM {stage} ORDER BY {key}{}",
                conflict.clause
            ),
            &[],
        )
        .await?;
    if (conflict.every && merged != written.loaded) || merged > written.loaded {
        return Err(Fault::Other(Error::new(
            ErrorKind::Ledger,
            format!("the merge took {merged} of {} rows", written.loaded),
        )));
    }
    if table.spec.keep != Keep::Last {
        written.superseded = written.loaded.saturating_sub(merged);
        written.loaded = merged;
    }
    client.batch_execute(&format!("TRUNCATE {stage}")).await?;
    Ok(written)
}

fn conflict_of(table: &PgTable, key: &[String]) -> OnConflict {
    let columns = table.columns.iter().map(|(_, name, _)| name.as_str());
    let compare = Comparison {
        in_order: &str::to_owned,
        differ: table.tells_unchanged.then_some(&differ),
    };
    on_conflict(columns, key, &table.spec.keep, &compare)
}

/// By the bytes of the values, whatever the columns' types and collations take for equal: a name whose letters change
/// their case is another one.
fn differ(one: &str, other: &str) -> String {
    // The function of the operator `*<>`, which the parser would take apart into one for each column.
    format!("record_image_ne(ROW({one}), ROW({other}))")
}
