//! Configuration, manifest and flags into a plan: everything a run needs to know before it opens anything.
//!
//! Pure. All mistakes are reported together.

mod ranges;

use std::sync::Arc;

use etl_plugin_api::{Cardinality, Delivery, Manifest, Partition, TableSchema};
use sha2::{Digest, Sha256};

pub use self::ranges::RangePlace;
use self::ranges::{build_statements, expand, partitions_of_shards};
use crate::capabilities::Granted;
use crate::config::{Config, KeyScope, SourceConnector, TableName, WriteMode};
use crate::error::{Error, Result};
use crate::literal::hex;
use crate::sink::{Keep, TableSpec};
use crate::source::ranges::RangeStatements;
use crate::source::sql;

/// What a run is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// It goes on from the checkpoint, or back where its flags say so.
    #[default]
    Load,
    /// It loads a past range again, never beyond the checkpoint.
    Backfill,
    /// It reads what is loaded again and hands it to a sink that only compares.
    Verify,
    /// It reads the first rows, shows what becomes of them, and goes no further.
    Preview,
}

/// The last stage that the rows of a preview go through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastStage {
    /// Rows as they are read.
    Extract,
    /// Rows as they would be loaded.
    #[default]
    Transform,
}

/// What the command line asks of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// What it is for.
    pub purpose: Purpose,
    /// Only these partitions; all if empty.
    pub partitions: Vec<String>,
    /// Start at the beginning.
    pub full_refresh: bool,
    /// Start after this, without moving the checkpoint.
    pub since: Option<String>,
    /// Stop at this.
    pub until: Option<String>,
    /// Most rows per partition.
    pub limit: Option<u64>,
    /// Write nothing.
    pub dry_run: bool,
    /// Let `append` load rows again that may be there already.
    pub allow_duplicates: bool,
    /// For a backfill: its windows.
    pub windows: WindowOptions,
    /// For a preview: the last stage that rows go through.
    pub shown_after: LastStage,
}

/// How a backfill goes through its range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowOptions {
    /// The length of a window; the whole range is one without.
    pub length: Option<String>,
    /// Begin with the first, also where some are done.
    pub restart: bool,
}

impl RunOptions {
    /// The words for going back and for bounds, as they were typed.
    pub fn words(&self) -> (&'static str, &'static str) {
        match self.purpose {
            Purpose::Load => ("--full-refresh and --since", "--since, --until and --limit"),
            Purpose::Preview => ("--full-refresh and --since", "--since and --until"),
            Purpose::Backfill => ("backfill", "the ends of a range"),
            Purpose::Verify => ("verify", "--from and --to"),
        }
    }
}

/// A statement and what the host knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The statement.
    pub sql: String,
    /// Its rows come in the cursor's order, so that commits are possible on the way.
    pub ordered: bool,
    /// It binds `@until`; otherwise the host leaves out what lies beyond.
    pub bounded: bool,
    /// What partitions run that read a range each.
    pub ranges: Option<RangeStatements>,
}

/// One partition to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPlan {
    /// Its number among all partitions of the pipeline.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// The shard it reads from; `None` if the pipeline's extractor needs none.
    pub shard: Option<String>,
    /// The range of the shard that it reads; the whole shard without one.
    pub range: Option<RangePlace>,
}

/// Everything a run needs to know before it opens anything.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The configuration.
    pub config: Config,
    /// The pipeline's manifest.
    pub manifest: Manifest,
    /// What the plugin may reach.
    pub granted: Arc<Granted>,
    /// The flags.
    pub options: RunOptions,
    /// The host's own statement; `None` if the pipeline has an extractor of its own.
    pub query: Option<Query>,
    /// The partitions to run.
    pub partitions: Vec<PartitionPlan>,
    /// How many partitions the pipeline has.
    pub all_partitions: usize,
    /// Identifies statement and cursor, for the fingerprint.
    pub query_digest: String,
}

impl Plan {
    /// The tables that a transformer's output goes to.
    pub fn table_specs(&self, tables: &[TableSchema]) -> Result<Vec<TableSpec>> {
        tables
            .iter()
            .map(|table| {
                let name = match &table.name {
                    None => self.config.sink.table.clone(),
                    Some(name) => name.parse::<TableName>().map_err(|error| {
                        Error::data(format!(
                            "the transformer names a table `{}`",
                            name.escape_debug()
                        ))
                        .caused_by(error)
                    })?,
                };
                Ok(TableSpec {
                    name,
                    schema: table.schema.clone(),
                    mode: self.config.sink.write_mode.clone(),
                    on_schema_change: self.config.error_handling.on_schema_change,
                    keep: Keep::default(),
                })
            })
            .collect()
    }

    /// Whether this run goes back behind the checkpoint, so that `append` must delete first.
    pub fn rewinds(&self) -> bool {
        let back = self.options.full_refresh || self.options.since.is_some();
        back && !matches!(self.options.purpose, Purpose::Verify | Purpose::Preview)
    }

    /// Whether it only shows the first rows.
    pub fn previews(&self) -> bool {
        self.options.purpose == Purpose::Preview
    }

    /// Rows after which reading stops wherever that is, since nothing is committed there.
    pub fn most_rows(&self) -> Option<u64> {
        let ordered = self.query.as_ref().is_some_and(|query| query.ordered);
        let anywhere = self.previews() || (self.options.dry_run && !ordered);
        self.options.limit.filter(|_| anywhere)
    }

    /// Rows after which reading stops where a commit is possible.
    pub fn most_committed(&self) -> Option<u64> {
        let anywhere = self.most_rows().is_some();
        self.options.limit.filter(|_| !anywhere)
    }

    /// Whether what was loaded before is read again, and nothing beyond the checkpoint.
    pub fn reloads(&self) -> bool {
        let options = &self.options;
        matches!(options.purpose, Purpose::Backfill | Purpose::Verify)
            || (options.since.is_some()
                && self.config.sink.write_mode == WriteMode::Append
                && !options.allow_duplicates
                && !options.dry_run)
    }

    /// Whether rows are swapped in at the end.
    pub fn replaces(&self) -> bool {
        self.config.sink.write_mode == WriteMode::Replace
    }

    /// The name of the lease that a partition needs. `replace` succeeds as a whole, so its partitions share one: two runs
    /// that had one partition each would wait for each other.
    pub fn leased<'a>(&self, partition: &'a str) -> &'a str {
        if self.replaces() { "*" } else { partition }
    }
}

/// What the plugin says of itself when it is loaded.
#[derive(Clone, Debug, Default)]
pub struct StageFacts {
    /// It has an extractor of its own.
    pub extractor: bool,
    /// It has a loader of its own.
    pub loader: bool,
    /// Its own partitions.
    pub partitions: Option<Vec<Partition>>,
}

/// Builds the plan.
pub fn build(
    config: Config,
    manifest: Manifest,
    granted: Arc<Granted>,
    facts: &StageFacts,
    mut options: RunOptions,
) -> Result<Plan> {
    let mut problems = Vec::new();
    let mut query = build_query(&config, facts, &mut problems);
    let statements = build_statements(&config, facts, query.as_ref(), &mut problems);
    if let Some(query) = &mut query {
        query.ranges = statements;
    }
    expand(&config, &mut options);
    let (partitions, all_partitions) = build_partitions(&config, facts, &options, &mut problems);
    check_writing(&config, &manifest, facts, &options, &mut problems);
    check_key(&config, facts, &mut problems);
    if options.limit.is_some()
        && !options.dry_run
        && !query.as_ref().is_some_and(|query| query.ordered)
    {
        problems.push(format!(
            "--limit needs a query that ends in ORDER BY the cursor column, or --dry-run (pipeline {})",
            config.name
        ));
    }
    if (options.since.is_some() || options.until.is_some()) && config.cursor.is_none() {
        let (_, bounds) = options.words();
        problems.push(format!("{bounds} need a `cursor` in the configuration"));
    }
    if options.full_refresh && options.since.is_some() {
        problems.push("--full-refresh and --since exclude each other".to_owned());
    }
    if !problems.is_empty() {
        return Err(Error::config(problems.join("\n")));
    }
    let query_digest = digest(&config);
    Ok(Plan {
        config,
        manifest,
        granted,
        options,
        query,
        partitions,
        all_partitions,
        query_digest,
    })
}

fn build_query(config: &Config, facts: &StageFacts, problems: &mut Vec<String>) -> Option<Query> {
    if facts.extractor {
        return None;
    }
    let Some(sql) = config.source.query.clone() else {
        let missing = match &config.source.connector {
            SourceConnector::None => {
                "`source.type` is none, but the pipeline has no extractor of its own: name a database, its shards and a query"
            }
            _ => "`source.query` is missing, and the pipeline has no extractor of its own",
        };
        problems.push(missing.to_owned());
        return None;
    };
    let parameters = sql::parameters(&sql);
    let uses = |name: &str| parameters.iter().any(|parameter| parameter == name);
    let starts = uses("from") || uses("lastRun");
    for unknown in parameters
        .iter()
        .filter(|name| !["from", "fromId", "lastRun", "until"].contains(&name.as_str()))
    {
        problems.push(format!(
            "`source.query` uses @{unknown}; known are @from (or @lastRun), @fromId and @until"
        ));
    }
    match &config.cursor {
        Some(cursor) if !starts => problems.push(format!(
            "`source.query` does not use @from, so every run would read every row: add WHERE {} > @from AND {} <= @until",
            cursor.column, cursor.column
        )),
        None if starts || uses("until") => {
            problems.push("`source.query` uses @from or @until, but there is no `cursor`".to_owned());
        }
        _ => {}
    }
    if let (Some(word), Some(_)) = (sql::row_limit(&sql), &config.cursor) {
        problems.push(format!(
            "`source.query` cuts its rows with {word}, so that those left out would never be read: leave it out, commits are made on the way"
        ));
    }
    let ordered = config.cursor.as_ref().is_some_and(|cursor| {
        let columns: Vec<&str> = std::iter::once(&cursor.column)
            .chain(&cursor.id)
            .map(String::as_str)
            .collect();
        sql::is_ordered_by(&sql, &columns)
    });
    let id = config
        .cursor
        .as_ref()
        .and_then(|cursor| Some((&cursor.column, cursor.id.as_ref()?)));
    match id {
        Some((time, id)) if !uses("fromId") || !ordered => problems.push(format!(
            "`cursor.id` needs a query that goes on inside a time: WHERE ({time} > @from OR ({time} = @from AND {id} > @fromId)) \
             AND {time} <= @until ORDER BY {time}, {id}"
        )),
        None if uses("fromId") => {
            problems.push("`source.query` uses @fromId, but `cursor.id` is not set".to_owned());
        }
        _ => {}
    }
    let bounded = uses("until");
    Some(Query {
        sql,
        ordered,
        bounded,
        ranges: None,
    })
}

fn build_partitions(
    config: &Config,
    facts: &StageFacts,
    options: &RunOptions,
    problems: &mut Vec<String>,
) -> (Vec<PartitionPlan>, usize) {
    let shards = config.source.connector.shard_names();
    let all: Vec<PartitionPlan> = match &facts.partitions {
        None => partitions_of_shards(config),
        Some(own) => own
            .iter()
            .enumerate()
            .map(|(index, partition)| PartitionPlan {
                index,
                name: partition.name.clone(),
                shard: match shards.as_slice() {
                    [only] => Some((*only).to_owned()),
                    many => many
                        .iter()
                        .find(|shard| **shard == partition.name)
                        .map(|shard| (*shard).to_owned()),
                },
                range: None,
            })
            .collect(),
    };
    let mut names: Vec<&str> = all
        .iter()
        .map(|partition| partition.name.as_str())
        .collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair.first() == pair.last()) {
        problems.push("the pipeline names the same partition twice".to_owned());
    }
    if all.is_empty() {
        problems.push("the pipeline has no partitions".to_owned());
    }
    for wanted in &options.partitions {
        if !all.iter().any(|partition| &partition.name == wanted) {
            problems.push(format!(
                "there is no partition `{wanted}`; there are {}",
                names.join(", ")
            ));
        }
    }
    let loads = !matches!(options.purpose, Purpose::Verify | Purpose::Preview);
    if loads && !options.partitions.is_empty() && config.sink.write_mode == WriteMode::Replace {
        problems.push(
            "`write_mode: replace` replaces all partitions' rows, so single partitions cannot be chosen"
                .to_owned(),
        );
    }
    let count = all.len();
    let chosen = all
        .into_iter()
        .filter(|partition| {
            options.partitions.is_empty() || options.partitions.contains(&partition.name)
        })
        .collect();
    (chosen, count)
}

/// Append never doubles: whatever could load a row twice is refused, unless it deletes first or is allowed to.
fn check_writing(
    config: &Config,
    manifest: &Manifest,
    facts: &StageFacts,
    options: &RunOptions,
    problems: &mut Vec<String>,
) {
    let replace = config.sink.write_mode == WriteMode::Replace;
    let through_host = !facts.loader || manifest.delivery == Delivery::Transactional;
    let (back, bounds) = options.words();
    check_purpose(config, manifest, options, through_host, problems);
    if replace && config.source.split.is_some() {
        problems.push("`write_mode: replace` does not go with `source.splits`: its ranges are read one after the other, and a row that changes in between would be missing from the table or be there twice; leave out `split_by` and `splits`, or use `upsert`".to_owned());
    }
    if replace && !through_host {
        problems.push("`write_mode: replace` needs the host's sink, but the pipeline's loader does not write to it".to_owned());
    }
    let limited = options.limit.is_some() && !options.dry_run;
    if facts.extractor && (options.since.is_some() || options.until.is_some() || limited) {
        problems.push(format!(
            "{bounds} need the host's own extractor, but the pipeline has one of its own"
        ));
    }
    if replace
        && options.purpose == Purpose::Load
        && (options.since.is_some() || options.until.is_some() || options.limit.is_some())
        && !options.dry_run
    {
        problems.push(
            "`write_mode: replace` replaces all rows, so --since, --until and --limit would lose the others".to_owned(),
        );
    }
    if config.sink.write_mode != WriteMode::Append
        || options.dry_run
        || options.allow_duplicates
        || options.purpose == Purpose::Verify
        || !through_host
    {
        return;
    }
    if config.cursor.is_none() && !facts.extractor {
        problems.push(
            "`write_mode: append` without a `cursor` would load every row again in each run: set `cursor`, or use `upsert` or `replace`"
                .to_owned(),
        );
    }
    if (options.full_refresh || options.since.is_some()) && config.sink.partition_column.is_none() {
        let allow = if options.purpose == Purpose::Load {
            ", or give --allow-duplicates"
        } else {
            ""
        };
        problems.push(format!(
            "{back} would load rows twice with `write_mode: append`: set `sink.partition_column`, \
             so that the host can delete this partition's range first{allow}"
        ));
    }
    if (options.full_refresh || options.since.is_some())
        && manifest.cardinality == Cardinality::Aggregate
    {
        problems.push(format!(
            "{back} cannot delete the rows that an aggregating pipeline made: use `upsert` or `replace`"
        ));
    }
}

/// What a purpose asks of the pipeline beside its flags.
fn check_purpose(
    config: &Config,
    manifest: &Manifest,
    options: &RunOptions,
    through_host: bool,
    problems: &mut Vec<String>,
) {
    let aggregates = manifest.cardinality == Cardinality::Aggregate;
    match options.purpose {
        Purpose::Load | Purpose::Preview => {}
        Purpose::Backfill => {
            if config.sink.write_mode == WriteMode::Replace {
                problems.push(
                    "`write_mode: replace` loads everything in each run: use `etl-host run`"
                        .to_owned(),
                );
            }
        }
        Purpose::Verify => {
            if aggregates {
                problems.push(
                    "verify cannot compare an aggregating pipeline: its rows depend on which rows came in one run"
                        .to_owned(),
                );
            }
            if !through_host {
                problems.push(
                    "verify compares with the host's sink, but the pipeline's loader does not write to it"
                        .to_owned(),
                );
            }
        }
    }
}

/// The pipeline's own partitions are known only now: their rows must not overwrite each other either.
fn check_key(config: &Config, facts: &StageFacts, problems: &mut Vec<String>) {
    let WriteMode::Upsert {
        key,
        key_scope: KeyScope::Partition,
    } = &config.sink.write_mode
    else {
        return;
    };
    let several = facts
        .partitions
        .as_ref()
        .is_some_and(|partitions| partitions.len() > 1);
    let inside = config
        .sink
        .partition_column
        .as_ref()
        .is_some_and(|column| key.contains(column));
    if several && !inside {
        problems.push(
            "`sink.key` does not contain the partition, so partitions would overwrite each other's rows: set `sink.partition_column` \
             and add it to the key, or set `key_scope: global`"
                .to_owned(),
        );
    }
}

/// Statement and cursor, short. White space does not count.
fn digest(config: &Config) -> String {
    let query = config.source.query.as_deref().unwrap_or_default();
    let mut hasher = Sha256::new();
    for word in query.split_whitespace() {
        hasher.update(word);
        hasher.update(" ");
    }
    if let Some(cursor) = &config.cursor {
        hasher.update(&cursor.column);
        hasher.update(format!("{:?}", cursor.kind));
        if let Some(id) = &cursor.id {
            hasher.update(id);
        }
    }
    hex(hasher.finalize().get(..8).unwrap_or_default())
}
