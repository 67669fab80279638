//! Leases on partitions: who may try. What may be committed is decided by the epoch, whatever the leases say.

use tokio_postgres::Client;

use crate::error::{Error, Result};
use crate::holder::Holder;
use crate::sink::{Claim, Tenure, held};

/// Takes the partition's lease, unless another run has one that has not run out and whose process may still live.
pub async fn take(client: &Client, claim: &Claim) -> Result<()> {
    let other = other_holder(client, claim).await?;
    let gone = match &other {
        Some((_, holder, _)) if !holder.is_gone() => return Err(busy(claim, other)),
        Some((run_id, ..)) => Some(run_id.as_str()),
        None => None,
    };
    let tenure = &claim.tenure;
    let holder = serde_json::to_string(&tenure.holder)
        .map_err(|error| Error::internal("a holder cannot be written down").caused_by(error))?;
    let taken = client
        .execute(
            "INSERT INTO etl_host.leases AS l (pipeline, partition, run_id, holder, until) \
             VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5)) ON CONFLICT (pipeline, partition) DO UPDATE \
             SET run_id = excluded.run_id, holder = excluded.holder, until = excluded.until \
             WHERE l.run_id = $3 OR l.until <= now() OR l.run_id = $6",
            &[
                &tenure.pipeline,
                &claim.leased,
                &tenure.run_id,
                &holder,
                &tenure.lease.as_secs_f64(),
                &gone,
            ],
        )
        .await?;
    if taken == 1 {
        return Ok(());
    }
    // Somebody was faster.
    Err(busy(claim, other_holder(client, claim).await?))
}

/// Prolongs the leases of a run.
pub async fn renew(client: &Client, tenure: &Tenure) -> Result<()> {
    client
        .execute(
            "UPDATE etl_host.leases SET until = now() + make_interval(secs => $3) WHERE pipeline = $1 AND run_id = $2",
            &[
                &tenure.pipeline,
                &tenure.run_id,
                &tenure.lease.as_secs_f64(),
            ],
        )
        .await?;
    Ok(())
}

/// Gives up the lease of this name, or all leases of a run.
pub async fn release(client: &Client, tenure: &Tenure, leased: Option<&str>) -> Result<()> {
    client
        .execute(
            "DELETE FROM etl_host.leases WHERE pipeline = $1 AND run_id = $2 AND partition = coalesce($3, partition)",
            &[&tenure.pipeline, &tenure.run_id, &leased],
        )
        .await?;
    Ok(())
}

/// The other run that holds the lease now: its identifier, its process, and the seconds left.
async fn other_holder(client: &Client, claim: &Claim) -> Result<Option<(String, Holder, f64)>> {
    let row = client
        .query_opt(
            "SELECT run_id, holder, extract(epoch FROM until - now())::float8 FROM etl_host.leases \
             WHERE pipeline = $1 AND partition = $2 AND run_id <> $3 AND until > now()",
            &[&claim.tenure.pipeline, &claim.leased, &claim.tenure.run_id],
        )
        .await?;
    row.map(|row| {
        let holder: String = row.try_get(1)?;
        // What cannot be read says nothing, and is waited for.
        let holder = serde_json::from_str(&holder).unwrap_or_default();
        Ok((row.try_get(0)?, holder, row.try_get(2)?))
    })
    .transpose()
}

fn busy(claim: &Claim, other: Option<(String, Holder, f64)>) -> Error {
    match other {
        Some((run_id, holder, seconds)) => held(claim, &run_id, &holder, seconds),
        None => held(claim, "?", &Holder::default(), 0.0),
    }
}
