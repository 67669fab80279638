//! Keeps a run's leases alive while it works, and gives them up at its end.
//!
//! A lease only says who may try; that nobody commits what another one has taken over is the epoch's business.

use std::convert::Infallible;

use tokio::time::{sleep, timeout};

use super::RunContext;
use crate::sink::{Sink, Tenure};

/// Renewals within the time of one lease: two may fail before it runs out.
const RENEWALS: u32 = 3;

/// Renews the leases for ever.
pub async fn keep(sink: &dyn Sink, tenure: &Tenure) -> Infallible {
    let pause = tenure.lease / RENEWALS;
    loop {
        sleep(pause).await;
        let failure = match timeout(pause, sink.renew(tenure)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the sink did not answer in time".to_owned(),
        };
        tracing::warn!(
            "the leases could not be renewed: {failure}; if they run out, another run may take over"
        );
    }
}

/// Gives up the lease of a partition that has ended. Whoever waits for it must not wait for the others, or two runs with
/// one partition each would wait for each other. The partitions of a `replace` end together.
pub async fn release(run: &RunContext, partition: &str) {
    if !run.plan.options.dry_run && !run.plan.replaces() {
        give_up(run, Some(run.plan.leased(partition))).await;
    }
}

/// Gives all leases up.
pub async fn release_all(run: &RunContext) {
    give_up(run, None).await;
}

/// If the sink cannot be reached they run out by themselves.
async fn give_up(run: &RunContext, leased: Option<&str>) {
    let tenure = run.tenure();
    let released = timeout(tenure.lease / RENEWALS, run.sink.release(&tenure, leased)).await;
    if let Ok(Err(error)) = released {
        tracing::debug!(%error, "the leases were not given up");
    }
}
