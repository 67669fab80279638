//! Leases on partitions: who may try. What may be committed is decided by the epoch, whatever the leases say.

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, Result};
use crate::holder::Holder;
use crate::sink::{Claim, Tenure, held};

/// Takes the partition's lease, inside a transaction that the caller holds, unless another run has one that has not run
/// out and whose process may still live.
pub fn take(connection: &Connection, claim: &Claim) -> Result<()> {
    let tenure = &claim.tenure;
    let other = connection
        .query_row(
            "SELECT run_id, holder, until - unixepoch('subsec') FROM etl_host_leases \
             WHERE pipeline = ?1 AND partition = ?2 AND run_id <> ?3 AND until > unixepoch('subsec')",
            params![tenure.pipeline, claim.leased, tenure.run_id],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?)),
        )
        .optional()?;
    if let Some((run_id, holder, seconds)) = other {
        // What cannot be read says nothing, and is waited for.
        let holder: Holder = serde_json::from_str(&holder).unwrap_or_default();
        if !holder.is_gone() {
            return Err(held(claim, &run_id, &holder, seconds));
        }
    }
    let holder = serde_json::to_string(&tenure.holder)
        .map_err(|error| Error::internal("a holder cannot be written down").caused_by(error))?;
    connection.execute(
        "INSERT OR REPLACE INTO etl_host_leases (pipeline, partition, run_id, holder, until) \
         VALUES (?1, ?2, ?3, ?4, unixepoch('subsec') + ?5)",
        params![
            tenure.pipeline,
            claim.leased,
            tenure.run_id,
            holder,
            tenure.lease.as_secs_f64()
        ],
    )?;
    Ok(())
}

/// Prolongs the leases of a run.
pub fn renew(connection: &Connection, tenure: &Tenure) -> Result<()> {
    connection.execute(
        "UPDATE etl_host_leases SET until = unixepoch('subsec') + ?3 WHERE pipeline = ?1 AND run_id = ?2",
        params![tenure.pipeline, tenure.run_id, tenure.lease.as_secs_f64()],
    )?;
    Ok(())
}

/// Gives up the lease of this name, or all leases of a run.
pub fn release(connection: &Connection, tenure: &Tenure, leased: Option<&str>) -> Result<()> {
    connection.execute(
        "DELETE FROM etl_host_leases WHERE pipeline = ?1 AND run_id = ?2 AND partition = coalesce(?3, partition)",
        params![tenure.pipeline, tenure.run_id, leased],
    )?;
    Ok(())
}
