//! The first rows of one partition: read, transformed, and shown instead of written.
//!
//! One attempt, as a run would make it, but without a claim, retries, history or a commit. The sink is asked how far the
//! partition is loaded; nothing else of it is needed, and nothing is written there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etl_plugin_api::{Cardinality, Cursor, Delivery};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::RunContext;
use super::attempt::{self, Ended, Finished, Progress};
use super::report::Rows;
use crate::checkpoint::{Checkpoint, display};
use crate::config::BadRowLimit;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{LastStage, Plan};
use crate::sample::{Shown, ShownColumn};
use crate::sink::{Sink, StoredRanges, TableSpec};
use crate::source::Source;
use crate::stage::Stages;

/// Longest wait for a sink: without its answer, rows are shown from the beginning.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the sink has said of the pipeline.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// How far its partitions are loaded.
    pub checkpoints: BTreeMap<String, Checkpoint>,
    /// How its shards are cut.
    pub ranges: BTreeMap<String, StoredRanges>,
}

/// Where rows are shown from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Beginning {
    /// What decides it.
    pub at: Place,
    /// Rows after this position are shown; `None` for all.
    pub position: Option<String>,
    /// Why it is not where the next run begins.
    pub reason: Option<String>,
}

/// What decides where rows are shown from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Where the next run begins.
    Checkpoint,
    /// The first row there is.
    Beginning,
    /// A position that was given.
    Since,
}

/// The first rows of a partition.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// The pipeline.
    pub pipeline: String,
    /// The partition.
    pub partition: String,
    /// How many partitions there are.
    pub partitions: usize,
    /// The last stage that the rows have gone through.
    pub stage: &'static str,
    /// Where they begin.
    pub begins: Beginning,
    /// The most rows that were to be read.
    pub limit: u64,
    /// What became of the rows that were read.
    pub rows: Rows,
    /// The transformer aggregates, so what it made is made of those rows alone.
    pub aggregates: bool,
    /// The columns as they were read.
    pub source_columns: Vec<ShownColumn>,
    /// The rows.
    #[serde(flatten)]
    pub shown: Shown,
    /// The plugin's counters.
    pub counters: BTreeMap<String, u64>,
    /// What the pipeline's loader promises.
    #[serde(skip)]
    pub delivery: Delivery,
    /// Why the sink could not be asked.
    #[serde(skip)]
    pub sink_error: Option<String>,
    /// The tables, for whoever asks the sink for them.
    #[serde(skip)]
    pub tables: Vec<TableSpec>,
    /// What the partition has written before.
    #[serde(skip)]
    pub checkpoint: Checkpoint,
}

/// Shows the first partition of a plan for [`Purpose::Preview`](crate::plan::Purpose). With a limit of no rows it only
/// finds out about the columns.
pub async fn preview(
    mut plan: Plan,
    stages: &Arc<dyn Stages>,
    source: &Arc<dyn Source>,
    sink: &Arc<dyn Sink>,
    cancel: &CancellationToken,
) -> Result<Preview> {
    plan.partitions.truncate(1);
    let Some(partition) = plan.partitions.first().cloned() else {
        return Err(Error::internal("a plan without partitions"));
    };
    let limit = plan.options.limit.unwrap_or_default();
    let tuning = &mut plan.config.tuning;
    // A source that is asked for small batches gives its first rows at once.
    let batch = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
    tuning.batch_rows = tuning.batch_rows.min(batch);
    // All of them are shown.
    plan.config.error_handling.max_bad_rows = BadRowLimit::Rows(u64::MAX);
    let by_hand = plan.options.since.is_some() || plan.options.full_refresh;
    let (known, sink_error) = if by_hand && plan.config.source.split.is_none() && limit > 0 {
        (Known::default(), None)
    } else {
        load_known(&plan.config.name, sink.as_ref()).await
    };
    let checkpoint = known.checkpoints.get(&partition.name).cloned();
    let checkpoint = checkpoint.unwrap_or_default();
    let look = |plan: Plan| {
        let context = RunContext {
            known: Some(known.clone()),
            ..RunContext::new(
                plan,
                stages.clone(),
                Some(source.clone()),
                sink.clone(),
                cancel.clone(),
            )
        };
        look(context)
    };
    let mut seen = look(plan.clone()).await?;
    let mut nothing_new = None;
    if seen.finished.ledger.extracted == 0
        && limit > 0
        && !by_hand
        && let Some(from) = &seen.finished.from
    {
        nothing_new = Some(format!(
            "there is nothing new after {}, where the next run begins",
            display(from)
        ));
        plan.options.full_refresh = true;
        seen = look(plan.clone()).await?;
    }
    let unknown = sink_error
        .as_ref()
        .map(|error| format!("how far it is loaded cannot be read from the sink: {error}"));
    let begins = begin(&plan, &seen, nothing_new.or(unknown), &checkpoint);
    let sample = &seen.context.sample;
    let sample = sample
        .as_ref()
        .ok_or_else(|| Error::internal("a preview without a sample"))?;
    let name = partition.name.as_str();
    let transforms = plan.options.shown_after == LastStage::Transform;
    Ok(Preview {
        pipeline: plan.config.name.clone(),
        partition: partition.name.clone(),
        partitions: plan.all_partitions,
        stage: if transforms { "transform" } else { "extract" },
        begins,
        limit,
        rows: Rows::from(seen.finished.ledger),
        aggregates: transforms && plan.manifest.cardinality == Cardinality::Aggregate,
        source_columns: sample.input(name),
        shown: sample.show([name])?,
        counters: seen.context.counters.snapshot(),
        tables: sample.tables(name),
        checkpoint,
        delivery: plan.manifest.delivery,
        sink_error,
    })
}

/// An attempt that has come to its end.
struct Seen {
    context: RunContext,
    finished: Finished,
    /// Why it did not go on from the checkpoint.
    anew: Option<String>,
}

async fn look(context: RunContext) -> Result<Seen> {
    let plan = context.plan.clone();
    let partition = plan.partitions.first();
    let partition = partition.ok_or_else(|| Error::internal("a plan without partitions"))?;
    let limit = plan.config.error_handling.attempt_timeout;
    let progress = Progress::default();
    let attempt = attempt::run(&context, partition, 1, &progress);
    let ended = tokio::time::timeout(limit, attempt)
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Timeout,
                format!("it took longer than {} s", limit.as_secs()),
            )
            .hint("raise `error_handling.attempt_timeout`"))
        });
    let place = format!(
        "pipeline {}, partition {}",
        plan.config.name, partition.name
    );
    let ended = ended.map_err(|error| error.while_trying(place.clone()))?;
    let Ended::Finished(finished) = ended else {
        return Err(Error::internal("a preview settled a commit").while_trying(place));
    };
    if finished.cancelled {
        return Err(Error::new(
            ErrorKind::Cancelled,
            "stopped before the rows were there",
        ));
    }
    let sample = context.sample.as_ref();
    let anew = sample.and_then(|sample| sample.why_anew(&partition.name));
    Ok(Seen {
        context,
        finished,
        anew,
    })
}

/// What the sink knows; and if it cannot be asked, why.
async fn load_known(pipeline: &str, sink: &dyn Sink) -> (Known, Option<String>) {
    let asking = async {
        Ok::<_, Error>(Known {
            checkpoints: sink.load_checkpoints(pipeline).await?,
            ranges: sink.load_ranges(pipeline).await?,
        })
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await;
    let asked = asked.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Timeout,
            format!("the sink did not answer within {} s", PATIENCE.as_secs()),
        ))
    });
    match asked {
        Ok(known) => (known, None),
        Err(error) => (Known::default(), Some(error.to_string())),
    }
}

fn begin(plan: &Plan, seen: &Seen, why: Option<String>, checkpoint: &Checkpoint) -> Beginning {
    let position = seen.finished.from.as_ref().map(display);
    let at = match (&position, &plan.options.since) {
        (_, Some(_)) => Place::Since,
        (Some(_), None) => Place::Checkpoint,
        (None, None) => Place::Beginning,
    };
    let loaded: Option<&Cursor> = checkpoint.cursor.as_ref();
    let every_time = plan.replaces() || plan.options.full_refresh;
    let reason = match at {
        Place::Beginning => seen.anew.clone().or(why).or_else(|| {
            (loaded.is_none() && !every_time).then(|| "nothing is loaded yet".to_owned())
        }),
        Place::Checkpoint | Place::Since => None,
    };
    Beginning {
        at,
        position,
        reason,
    }
}
