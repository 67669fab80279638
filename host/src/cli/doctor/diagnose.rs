//! Builds what a run of one pipeline builds and has it examined: shards and sink side by side, then what needs both.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use etl_plugin_api::{AttemptInfo, Delivery, Outcome, TableSchema};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::Check;
use crate::checkpoint::Checkpoint;
use crate::config::Loaded;
use crate::error::{Error, Result};
use crate::extension::same_columns;
use crate::finding::{Finding, Findings, Verdict};
use crate::launch::build_plan;
use crate::plan::{Plan, RunOptions};
use crate::pool::Pools;
use crate::runtime::{check_fingerprint, require_same_split, with_query};
use crate::session::Found;
use crate::sink::{Sink, StoredRanges, TableSpec, build_sink};
use crate::source::ranges::{Range, no_split_column, no_whole_numbers};
use crate::source::{Examination, ShardQuery, Source, build_source};
use crate::stage::context::{Counters, HostContext};
use crate::stage::transform::TransformStage;
use crate::stage::{Stages, blocking};

/// Where findings about the plugin, and those about the sink, are shown.
const PLUGIN: &str = "plugin";
const SINK: &str = "sink";

/// What was found out about the sink.
struct SinkSide {
    findings: Findings,
    usable: bool,
    checkpoints: BTreeMap<String, Checkpoint>,
    ranges: BTreeMap<String, StoredRanges>,
}

/// Examines everything that a run of the pipeline would use.
pub async fn examine(
    found: &Found,
    loaded: Loaded,
    stages: Arc<dyn Stages>,
    pools: &Arc<Pools>,
) -> Result<Vec<Check>> {
    let cancel = CancellationToken::new();
    let options = RunOptions::default();
    let plan = build_plan(found.clone(), loaded, &stages, options, &cancel).await?;
    let source = build_source(&plan.config.source, pools);
    let sink = build_sink(&plan.config.sink, pools);
    let (mut shards, mut of_sink) = tokio::join!(
        examine_shards(source.as_deref(), &plan),
        examine_sink(sink.as_ref(), &plan)
    );
    for (shard, examination) in &mut shards {
        let found = check_checkpoints(&plan, shard, examination, &of_sink);
        examination.findings.extend(found);
    }
    let mut of_plugin = Findings::default();
    if of_sink.usable && writes_tables(&plan, &stages).await? {
        let tables = find_tables(&plan, &stages, &mut shards, &mut of_plugin).await;
        let known = !tables.is_empty();
        let tables = if known {
            tables
        } else {
            let unknown = TableSchema::configured(SchemaRef::new(Schema::empty()));
            plan.table_specs(&[unknown])?
        };
        let of_tables = sink.examine_tables(&tables).await;
        // Where the tables do not fit, that is said already.
        let fits = known && !has_failed(&of_tables);
        of_sink.findings.extend(of_tables);
        if fits {
            check_drift(&mut of_sink, sink.as_ref(), &plan, &tables).await;
        }
        if !known {
            let failed = shards.iter().any(|(_, shard)| has_failed(&shard.findings))
                || has_failed(of_plugin.as_slice());
            say_unknown(&mut of_sink.findings, &plan, failed);
        }
    }
    let of_shards = shards
        .into_iter()
        .flat_map(|(shard, examination)| placed(&shard, examination.findings));
    Ok(of_shards
        .chain(placed(PLUGIN, of_plugin.into_vec()))
        .chain(placed(SINK, of_sink.findings.into_vec()))
        .collect())
}

fn placed(place: &str, findings: Vec<Finding>) -> Vec<Check> {
    let check = |finding| Check {
        place: place.to_owned(),
        finding,
    };
    findings.into_iter().map(check).collect()
}

fn has_failed(findings: &[Finding]) -> bool {
    findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Failed)
}

/// All shards that a run would open, side by side.
async fn examine_shards(source: Option<&dyn Source>, plan: &Plan) -> Vec<(String, Examination)> {
    let Some(source) = source else {
        return Vec::new();
    };
    let mut names: Vec<&String> = Vec::new();
    for shard in plan
        .partitions
        .iter()
        .filter_map(|partition| partition.shard.as_ref())
    {
        if !names.contains(&shard) {
            names.push(shard);
        }
    }
    let query = plan.query.as_ref().map(|query| ShardQuery {
        sql: query.sql.clone(),
        cursor: plan.config.cursor.clone(),
    });
    let examined = names
        .iter()
        .map(|name| source.examine(name, query.as_ref()));
    let examined = join_all(examined).await;
    names.into_iter().cloned().zip(examined).collect()
}

async fn examine_sink(sink: &dyn Sink, plan: &Plan) -> SinkSide {
    let examination = sink.examine(&plan.config.sink.write_mode).await;
    let mut side = SinkSide {
        usable: examination.usable,
        findings: Findings::default(),
        checkpoints: BTreeMap::new(),
        ranges: BTreeMap::new(),
    };
    // Where the host's tables are closed to the user, that is said already.
    let readable = side.usable && !has_failed(&examination.findings);
    side.findings.extend(examination.findings);
    if readable {
        let load = sink.load_checkpoints(&plan.config.name);
        if let Some(checkpoints) = side.findings.ask("checkpoints", load).await {
            let detail = match checkpoints.len() {
                0 => "none yet: the first run begins at the beginning".to_owned(),
                1 => "of 1 partition".to_owned(),
                many => format!("of {many} partitions"),
            };
            side.findings.ok("checkpoints", detail);
            side.checkpoints = checkpoints;
            let load = sink.load_ranges(&plan.config.name);
            if let Some(ranges) = side.findings.ask("ranges", load).await {
                side.ranges = ranges;
            }
        }
    }
    side
}

/// Whether a shard is still the one that its partitions' checkpoints were read from.
fn check_checkpoints(
    plan: &Plan,
    shard: &str,
    examination: &Examination,
    of_sink: &SinkSide,
) -> Vec<Finding> {
    let mut findings = Findings::default();
    let stored = of_sink.ranges.get(shard);
    check_split(plan, shard, examination, of_sink, &mut findings);
    let Some(server) = &examination.fingerprint else {
        return findings.into_vec();
    };
    for partition in &plan.partitions {
        if partition.shard.as_deref() == Some(shard)
            && let Some(checkpoint) = of_sink.checkpoints.get(&partition.name)
        {
            let range = partition.range.zip(stored).map(|(place, stored)| {
                Range::between(&stored.column, &stored.bounds, place.number)
            });
            let fingerprint = with_query(server, plan, range.as_ref());
            match check_fingerprint(plan, partition, checkpoint, &fingerprint) {
                Ok(()) => findings.ok("checkpoint", "belongs to this shard and this query"),
                Err(error) => findings.failed("checkpoint", &error),
            }
        }
    }
    findings.into_vec()
}

/// Whether a shard is still split as it was, and by a column that can be split.
fn check_split(
    plan: &Plan,
    shard: &str,
    examination: &Examination,
    of_sink: &SinkSide,
    findings: &mut Findings,
) {
    let Some(split) = &plan.config.source.split else {
        return;
    };
    if let Some(schema) = &examination.schema {
        match schema.field_with_name(&split.column).map(Field::data_type) {
            Err(_) => findings.failed("split", &no_split_column(&split.column)),
            Ok(DataType::Decimal128(..=18, 0)) => {}
            Ok(found) if found.is_integer() => {}
            Ok(found) => {
                findings.failed(
                    "split",
                    &no_whole_numbers(&split.column, &found.to_string()),
                );
            }
        }
    }
    let stored = of_sink.ranges.get(shard);
    match require_same_split(plan, shard, split, stored, &of_sink.checkpoints) {
        Ok(true) => findings.ok("split", "its ranges are chosen, and still the same"),
        Ok(false) => findings.ok("split", "the first run chooses its ranges"),
        Err(error) => findings.failed("split", &error),
    }
}

/// Whether the partitions would still give the columns that they have written before. Says something only where not.
async fn check_drift(side: &mut SinkSide, sink: &dyn Sink, plan: &Plan, tables: &[TableSpec]) {
    for partition in &plan.partitions {
        let Some(checkpoint) = side.checkpoints.get(&partition.name) else {
            continue;
        };
        if checkpoint.columns.is_empty() {
            continue;
        }
        let preview = sink.preview_tables(&partition.name, &checkpoint.columns, tables);
        let Some(preview) = side.findings.ask("drift", preview).await else {
            continue;
        };
        for warning in preview.warnings {
            side.findings.warning(
                "drift",
                warning,
                "nothing, if the change is meant; else give the column in `source.query` as it was",
            );
        }
    }
}

/// Whether rows go into tables of the sink, rather than where a loader of the plugin takes them.
async fn writes_tables(plan: &Plan, stages: &Arc<dyn Stages>) -> Result<bool> {
    let asked = stages.clone();
    let loader = blocking(move || Ok(asked.loader()?.is_some())).await?;
    Ok(!loader || plan.manifest.delivery == Delivery::Transactional)
}

/// The tables that the pipeline would write, by the columns of the first shard that tells; the others must agree. Empty
/// if none tells.
async fn find_tables(
    plan: &Plan,
    stages: &Arc<dyn Stages>,
    shards: &mut [(String, Examination)],
    of_plugin: &mut Findings,
) -> Vec<TableSpec> {
    let mut known: Vec<TableSpec> = Vec::new();
    for (shard, examination) in shards {
        let Some(input) = examination.schema.clone() else {
            continue;
        };
        let opened = open_transformer(plan, stages, shard, input);
        let Some(tables) = of_plugin.ask("transformer", opened).await else {
            continue;
        };
        if known.is_empty() {
            known = tables;
        } else if !same_tables(&known, &tables) {
            let mut findings = Findings::default();
            let error = Error::data("its columns are not those of the other shards")
                .hint("make the shards' tables alike, or name and cast the columns in the query");
            findings.failed("columns", &error);
            examination.findings.extend(findings.into_vec());
        }
    }
    known
}

fn same_tables(some: &[TableSpec], others: &[TableSpec]) -> bool {
    some.len() == others.len()
        && some
            .iter()
            .zip(others)
            .all(|(a, b)| a.name == b.name && same_columns(&a.schema, &b.schema))
}

/// The tables that the transformer makes of these columns. It sees no row.
async fn open_transformer(
    plan: &Plan,
    stages: &Arc<dyn Stages>,
    shard: &str,
    input: SchemaRef,
) -> Result<Vec<TableSpec>> {
    let mut info = AttemptInfo::default();
    info.pipeline.clone_from(&plan.config.name);
    shard.clone_into(&mut info.partition);
    info.attempt = 1;
    info.started_at = jiff::Timestamp::now().as_microsecond();
    let cx = HostContext::new(
        info,
        CancellationToken::new(),
        Counters::default(),
        plan.granted.clone(),
    );
    let (stages, cardinality) = (stages.clone(), plan.manifest.cardinality);
    let tables = blocking(move || {
        let mut stage = TransformStage::open(stages.transformer()?, cardinality, &input, cx)?;
        let tables = stage.tables().to_vec();
        stage.close(Outcome::Cancelled)?;
        Ok(tables)
    });
    plan.table_specs(&tables.await?)
}

/// Says why the columns were not compared with the sink's.
fn say_unknown(findings: &mut Findings, plan: &Plan, failed: bool) {
    let table = &plan.config.sink.table;
    if failed {
        findings.warning(
            "table",
            format!("{table}: its columns are not checked, because what the pipeline would write is not known"),
            "mend what failed, and ask again",
        );
    } else if plan.query.is_none() {
        findings.ok(
            "table",
            format!(
                "{table}: its columns are checked by a run; the plugin's own extractor tells them"
            ),
        );
    } else {
        findings.ok(
            "table",
            format!("{table}: its columns are checked by a run, once there are rows"),
        );
    }
}
