//! What the ranges of one shard share in a run: the bounds between them, and the end of their window. Both are fixed once,
//! by whichever of them comes first, before any of them opens the session that it reads from.
//!
//! A session that was opened earlier might not see rows that the window's end promises.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use etl_plugin_api::Cursor;
use tokio::sync::OnceCell;

use super::RunContext;
use super::attempt::{of_sink, of_source};
use crate::checkpoint::{Checkpoint, compare};
use crate::config::Split;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{PartitionPlan, Plan, Purpose, Query, RangePlace};
use crate::sink::StoredRanges;
use crate::source::ranges::{BoundSearch, Range, RangeStatements, Survey};
use crate::source::{CursorQuery, Source, SourceSession};

/// What has been fixed so far, by shard.
#[derive(Debug, Default)]
pub struct SharedShards(Mutex<HashMap<String, Arc<OnceCell<SharedShard>>>>);

impl SharedShards {
    fn of(&self, shard: &str) -> Arc<OnceCell<SharedShard>> {
        let mut shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shards.entry(shard.to_owned()).or_default().clone()
    }
}

/// What the ranges of a shard share.
#[derive(Clone, Debug)]
struct SharedShard {
    /// `None` as long as there is nothing to go by: then there is nothing to read either.
    bounds: Option<Vec<i64>>,
    /// Some range has been loaded before.
    loaded: bool,
    until: SharedEnd,
}

/// The end of the window, as far as it is shared.
#[derive(Clone, Debug)]
pub enum SharedEnd {
    /// Each partition fixes its own.
    Own,
    /// It is the same for all; `None` where the shard has nothing to read.
    Fixed(Option<Cursor>),
}

/// What a partition asks of its shard.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The statement.
    pub sql: String,
    /// The range that it is restricted to.
    pub range: Option<Range>,
    /// The end of the window.
    pub until: SharedEnd,
    /// It may be that a partition was never loaded because nothing ever belonged to it.
    pub may_be_empty: bool,
    /// The shard has no rows, so its ranges are not chosen yet.
    pub nothing: bool,
}

/// What a partition asks of its shard; `None` if the pipeline has an extractor of its own.
pub async fn ask(run: &RunContext, partition: &PartitionPlan) -> Result<Option<Asked>> {
    let Some(query) = &run.plan.query else {
        return Ok(None);
    };
    let (Some(place), Some(split), Some(statements), Some(shard)) = (
        partition.range,
        &run.plan.config.source.split,
        &query.ranges,
        &partition.shard,
    ) else {
        return Ok(Some(Asked {
            sql: query.sql.clone(),
            range: None,
            until: SharedEnd::Own,
            may_be_empty: false,
            nothing: false,
        }));
    };
    if run.plan.previews() {
        return Ok(Some(ask_as_it_is(
            run, query, place, split, statements, shard,
        )));
    }
    let cell = run.shared.of(shard);
    let fixing = cell.get_or_try_init(|| fix(run, query, shard, split));
    let of_shard = fixing.await.map_err(|error| match error.kind() {
        ErrorKind::Fingerprint => error,
        _ => error.while_trying(format!("find the ranges of shard {shard}")),
    })?;
    let range = match &of_shard.bounds {
        Some(bounds) => Range::between(&split.column, bounds, place.number),
        None => Range::empty(&split.column),
    };
    Ok(Some(Asked {
        sql: statements.of(&range).to_owned(),
        range: Some(range),
        until: of_shard.until.clone(),
        may_be_empty: of_shard.loaded,
        nothing: of_shard.bounds.is_none(),
    }))
}

/// What a preview asks: the range as it was cut, or the whole shard as long as it is not. To choose bounds takes a look at
/// all rows.
fn ask_as_it_is(
    run: &RunContext,
    query: &Query,
    place: RangePlace,
    split: &Split,
    statements: &RangeStatements,
    shard: &str,
) -> Asked {
    let stored = run.known.as_ref().and_then(|known| known.ranges.get(shard));
    let stored = stored.filter(|stored| {
        stored.column == split.column && u32::try_from(stored.count()) == Ok(split.ranges)
    });
    let range = stored.map(|stored| Range::between(&split.column, &stored.bounds, place.number));
    Asked {
        sql: match &range {
            Some(range) => statements.of(range).to_owned(),
            None => query.sql.clone(),
        },
        range,
        until: SharedEnd::Own,
        may_be_empty: true,
        nothing: false,
    }
}

/// Fixes what the ranges of a shard share, in a session of its own.
async fn fix(run: &RunContext, query: &Query, shard: &str, split: &Split) -> Result<SharedShard> {
    let (plan, sink) = (&run.plan, &run.sink);
    let pipeline = &plan.config.name;
    let stored = sink
        .load_ranges(pipeline)
        .await
        .map_err(of_sink)?
        .remove(shard);
    let checkpoints = sink.load_checkpoints(pipeline).await.map_err(of_sink)?;
    let fits = require_same_split(plan, shard, split, stored.as_ref(), &checkpoints)?;
    let loaded = checkpoints
        .iter()
        .any(|(name, checkpoint)| Split::is_range_of(shard, name) && checkpoint.was_loaded());
    let source = run.source.as_ref();
    let source = source.ok_or_else(|| Error::config("the pipeline has no source to read from"))?;
    let mut session = None;
    let bounds = match stored {
        Some(stored) if fits => Some(stored.bounds),
        // What was never loaded is not read again.
        _ if plan.options.purpose != Purpose::Load => None,
        _ => {
            let session = open(&mut session, source.as_ref(), shard).await?;
            let chosen = choose(plan, session, query, split).await;
            match chosen.map_err(of_source)? {
                Some(bounds) if !plan.options.dry_run => {
                    let chosen = StoredRanges {
                        column: split.column.clone(),
                        bounds,
                    };
                    let kept = sink.keep_ranges(pipeline, shard, &chosen).await;
                    let kept = kept.map_err(of_sink)?;
                    require_same_split(plan, shard, split, Some(&kept), &BTreeMap::new())?;
                    Some(kept.bounds)
                }
                chosen => chosen,
            }
        }
    };
    let until = match &plan.config.cursor {
        Some(cursor) if !plan.reloads() => {
            let options = &plan.options;
            let by_hand = options.since.is_some() || options.until.is_some();
            let restart = by_hand || options.full_refresh;
            let from = (!restart).then(|| least(plan, shard, &checkpoints));
            let session = open(&mut session, source.as_ref(), shard).await?;
            let query = CursorQuery {
                sql: query.sql.clone(),
                cursor: cursor.clone(),
                from: from.flatten(),
                range: None,
            };
            SharedEnd::Fixed(session.upper_bound(&query).await.map_err(of_source)?)
        }
        _ => SharedEnd::Own,
    };
    Ok(SharedShard {
        bounds,
        loaded,
        until,
    })
}

/// The one session of these questions, opened when it is needed.
async fn open<'a>(
    session: &'a mut Option<Box<dyn SourceSession>>,
    source: &dyn Source,
    shard: &str,
) -> Result<&'a mut Box<dyn SourceSession>> {
    match session {
        Some(open) => Ok(open),
        None => Ok(session.insert(source.open(shard).await.map_err(of_source)?)),
    }
}

/// Looks for bounds among all rows of the shard; `None` if it has no rows.
async fn choose(
    plan: &Plan,
    session: &mut Box<dyn SourceSession>,
    query: &Query,
    split: &Split,
) -> Result<Option<Vec<i64>>> {
    let mut survey = Survey {
        sql: query.sql.clone(),
        cursor: plan.config.cursor.clone(),
        column: split.column.clone(),
        below: Vec::new(),
    };
    let found = session.survey(&survey).await?;
    if found.rows == 0 {
        return Ok(None);
    }
    let count = usize::try_from(split.ranges).unwrap_or(usize::MAX);
    let Some(mut search) = BoundSearch::new(count, &found) else {
        tracing::warn!(
            "`{}` is NULL in every row, so the first range has them all",
            split.column
        );
        return Ok(Some(vec![0; count.saturating_sub(1)]));
    };
    loop {
        survey.below = search.points();
        if survey.below.is_empty() {
            return Ok(Some(search.bounds()));
        }
        let found = session.survey(&survey).await?;
        search.learn(&survey.below, &found.below);
    }
}

/// How far the range that is least far has come; `None` if one has not begun.
fn least(plan: &Plan, shard: &str, checkpoints: &BTreeMap<String, Checkpoint>) -> Option<Cursor> {
    let of_shard = |partition: &&PartitionPlan| partition.shard.as_deref() == Some(shard);
    let mut least: Option<Cursor> = None;
    for partition in plan.partitions.iter().filter(of_shard) {
        let cursor = checkpoints.get(&partition.name)?.cursor.clone()?;
        if least
            .as_ref()
            .is_none_or(|known| compare(&cursor, known).is_none_or(std::cmp::Ordering::is_lt))
        {
            least = Some(cursor);
        }
    }
    least
}

/// Whether the sink's bounds are those of this configuration. Fails where going on would lose or double rows: a row
/// would move to a range that has another position.
pub fn require_same_split(
    plan: &Plan,
    shard: &str,
    split: &Split,
    stored: Option<&StoredRanges>,
    checkpoints: &BTreeMap<String, Checkpoint>,
) -> Result<bool> {
    let as_a_whole = checkpoints.get(shard).is_some_and(Checkpoint::was_loaded);
    let in_ranges = checkpoints
        .iter()
        .any(|(name, checkpoint)| Split::is_range_of(shard, name) && checkpoint.was_loaded());
    let fits = stored.is_some_and(|stored| {
        stored.column == split.column && u32::try_from(stored.count()) == Ok(split.ranges)
    });
    let now = format!("{} ranges of `{}`", split.ranges, split.column);
    match stored {
        Some(stored) if !fits => Err(changed(
            plan,
            shard,
            &format!(
                "was split into {} ranges of `{}`",
                stored.count(),
                stored.column
            ),
            &format!("now asks for {now}"),
        )),
        _ if as_a_whole => Err(changed(
            plan,
            shard,
            "was read as a whole",
            &format!("now asks for {now}"),
        )),
        None if in_ranges => Err(changed(
            plan,
            shard,
            "was split into ranges whose bounds are not in the sink any more",
            &format!("asks for {now}"),
        )),
        _ => Ok(fits),
    }
}

/// Fails where a shard that is to be read as a whole was split before. Asked only where a partition has no position.
pub async fn require_never_split(run: &RunContext, partition: &PartitionPlan) -> Result<()> {
    let plan = &run.plan;
    let Some(shard) = partition.shard.as_ref().filter(|shard| {
        plan.query.is_some() && partition.range.is_none() && **shard == partition.name
    }) else {
        return Ok(());
    };
    if plan.replaces() {
        return Ok(());
    }
    let stored = run.sink.load_ranges(&plan.config.name).await?;
    match stored.get(shard) {
        None => Ok(()),
        Some(stored) => Err(changed(
            plan,
            shard,
            &format!(
                "was split into {} ranges of `{}`",
                stored.count(),
                stored.column
            ),
            "now reads it as a whole",
        )),
    }
}

fn changed(plan: &Plan, shard: &str, before: &str, now: &str) -> Error {
    let (name, table) = (&plan.config.name, &plan.config.sink.table);
    Error::new(
        ErrorKind::Fingerprint,
        format!("shard {shard} {before}, but the configuration {now}"),
    )
    .hint(format!(
        "put `split_by` and `splits` back as they were; or delete the shard's rows from {table} and start the shard over with \
         `etl-host checkpoint reset {name} --partition {shard} --allow-duplicates`"
    ))
}
