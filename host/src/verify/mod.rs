//! Proves that a sink holds what its source gives: the rows up to the checkpoint are read and transformed once more,
//! and compared with those of the sink by count and checksum, partition by partition and range by range.
//!
//! It writes nothing. Reading, retries and stages are the runtime's; how a sink is read is a source's business, which is
//! why this room may use both.

mod expected;
mod form;
mod holding;
mod json;
mod keys;
mod letters;
mod range;
pub mod report;
mod table;
mod tally;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value as Json;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use self::expected::{ComparingSink, Comparison, Expected};
use self::holding::Holding;
use self::keys::{KeyFile, contested};
use self::letters::Letters;
use self::range::Step;
use self::report::{Sides, TableReport, VerifyReport, compare};
use self::table::{ComparedTable, Scope};
use self::tally::{Cell, Checksum, Tallies, checksum};
use crate::checkpoint::Checkpoint;
use crate::config::{BadRowLimit, KeyScope, TableName, WriteMode};
use crate::error::{Error, Result};
use crate::literal::parse_position;
use crate::plan::Plan;
use crate::pool::Pools;
use crate::runtime::RunContext;
use crate::sink::{Keep, Sink, TableSpec};
use crate::source::{Source, SourceRejection};
use crate::stage::Stages;

/// What is asked of a comparison, beside the plan's flags.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Columns whose values do not count.
    pub exclude: Vec<String>,
    /// The length of the ranges.
    pub window: Option<String>,
}

/// A comparison under way.
pub struct Verification {
    plan: Arc<Plan>,
    comparison: Arc<Comparison>,
    window: Option<String>,
    partitions: Vec<String>,
}

impl Verification {
    /// Looks how far the partitions are loaded. The plan must be one for [`Purpose::Verify`](crate::plan::Purpose).
    pub async fn open(
        plan: Plan,
        sink: Arc<dyn Sink>,
        pools: &Arc<Pools>,
        options: VerifyOptions,
    ) -> Result<Self> {
        let config = &plan.config;
        let checkpoints = sink.load_checkpoints(&config.name).await?;
        let known = plan
            .partitions
            .iter()
            .any(|partition| checkpoints.contains_key(&partition.name));
        if !known {
            return Err(
                Error::config("there is nothing to compare: nothing was ever loaded")
                    .hint(format!("run it first: etl-host run {}", config.name)),
            );
        }
        let several = plan.all_partitions > 1;
        let global = matches!(
            config.sink.write_mode,
            WriteMode::Upsert {
                key_scope: KeyScope::Global,
                ..
            }
        );
        let partition_column = config.sink.partition_column.clone();
        let apart = partition_column.is_some() && !(global && several);
        let chosen = !plan.options.partitions.is_empty();
        if several && chosen && !apart {
            return Err(Error::config(
                "--partition needs rows that tell their partition, but with this sink all are compared together",
            )
            .hint(if global {
                "leave --partition out: with `key_scope: global` a row may come from any partition"
            } else {
                "leave --partition out, or set `sink.partition_column`"
            }));
        }
        let scope = build_scope(&plan, &checkpoints, options.window.as_deref())?;
        let upserts = matches!(config.sink.write_mode, WriteMode::Upsert { .. });
        let comparison = Comparison {
            sink,
            pipeline: config.name.clone(),
            holding: Holding::new(&config.sink, &config.tuning, pools),
            scope,
            nuls: config.sink.nul_characters,
            exclude: options.exclude,
            partition_column: partition_column.filter(|_| apart),
            cursor_column: config.cursor.as_ref().map(|cursor| cursor.column.clone()),
            opened: OnceCell::new(),
            expected: Mutex::new(Expected::default()),
            keys: Mutex::new(if upserts {
                Some(KeyFile::open()?)
            } else {
                None
            }),
            checkpoints,
        };
        let partitions = if chosen && apart {
            plan.options.partitions.clone()
        } else {
            Vec::new()
        };
        Ok(Self {
            plan: Arc::new(plan),
            comparison: Arc::new(comparison),
            window: options.window,
            partitions,
        })
    }

    /// The run that gives the source's side. [`Self::finish`] needs its success.
    pub fn context(
        &self,
        stages: Arc<dyn Stages>,
        source: Option<Arc<dyn Source>>,
        cancel: CancellationToken,
    ) -> RunContext {
        let mut plan = Plan::clone(&self.plan);
        // Bad rows of all runs so far are counted together here.
        plan.config.error_handling.max_bad_rows = BadRowLimit::Rows(u64::MAX);
        let sink = ComparingSink::new(self.comparison.clone());
        RunContext::new(plan, stages, source, Arc::new(sink), cancel)
    }

    /// Reads the sink's side and compares.
    pub async fn finish(&self) -> Result<VerifyReport> {
        let comparison = &self.comparison;
        let config = &self.plan.config;
        let mut expected = {
            let mut expected = comparison
                .expected
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *expected)
        };
        let (tables, letters) = self.tables().await?;
        expected.tallies.resize_with(tables.len(), Tallies::default);
        let mut scope = comparison.scope.clone();
        let placed = tables.iter().filter(|table| table.axis.is_some()).count();
        if placed < tables.len() {
            self.refuse_ranges(&scope)?;
        }
        if expected.strays {
            if scope.is_bounded() {
                return Err(Error::config(
                    "the transformer changes the cursor's column, so --from and --to cannot be found in the sink",
                )
                .hint("leave --from and --to out"));
            }
            scope.loaded.clear();
        }
        if let Some(keys) = comparison
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            keys.settle(&mut expected.tallies)?;
        }
        let only = match self.plan.partitions.as_slice() {
            [only] if self.plan.all_partitions == 1 => Some(only.name.as_str()),
            _ => None,
        };
        let mut reports = Vec::new();
        let Expected {
            tallies,
            quarantined,
            ..
        } = expected;
        for ((index, table), mut expected) in tables.iter().enumerate().zip(tallies) {
            let (found, letters_found) = self.read_table(index, table, &scope, &letters).await?;
            let quarantined = letters.take_out(index, &mut expected, &quarantined, &letters_found);
            let sides = Sides {
                expected: &expected,
                found: &found,
                quarantined: &quarantined,
            };
            reports.push(compare(table, scope.step, &sides, &letters, only));
        }
        let now = comparison.sink.load_checkpoints(&config.name).await?;
        let cursor = |checkpoint: Option<&Checkpoint>| {
            checkpoint.map(|checkpoint| (checkpoint.cursor.clone(), checkpoint.run_id.clone()))
        };
        // A replay moves no cursor and keeps the run.
        let commit = |checkpoint: Option<&Checkpoint>| {
            checkpoint.and_then(|checkpoint| checkpoint.updated_at.clone())
        };
        let (mut moved, mut written) = (false, false);
        for partition in &self.plan.partitions {
            let name = &partition.name;
            let (before, now) = (comparison.checkpoints.get(name), now.get(name));
            moved |= cursor(now) != cursor(before);
            written |= commit(now) != commit(before);
        }
        if moved {
            // What a run has loaded since lies behind the checkpoint that was compared up to.
            reports.iter_mut().for_each(TableReport::forget_beyond);
        }
        Ok(VerifyReport {
            pipeline: config.name.clone(),
            agrees: reports.iter().all(|report| report.agrees),
            window: scope.step.filter(|_| placed > 0).map(|step| {
                let asked = self.window.clone();
                asked.unwrap_or_else(|| step.by_default().to_owned())
            }),
            changed_meanwhile: moved || written,
            tables: reports,
        })
    }

    /// The tables. If the source gave nothing at all, the sink's must hold nothing either, whatever their other columns.
    async fn tables(&self) -> Result<(Vec<ComparedTable>, Letters)> {
        let comparison = &self.comparison;
        if let Some(opened) = comparison.opened.get() {
            return Ok(opened.clone());
        }
        let (holding, wanted) = (&comparison.holding, comparison.wanted());
        let mut tables = Vec::new();
        for name in self.remembered_tables() {
            let spec = TableSpec {
                schema: Arc::new(holding.placing_columns(&name, &wanted).await?),
                name,
                mode: WriteMode::Append,
                keep: Keep::default(),
                on_schema_change: self.plan.config.error_handling.on_schema_change,
            };
            tables.push(holding.match_table(&spec, &wanted).await?);
        }
        Ok((tables, Letters::default()))
    }

    /// The tables that the partitions have written; where they do not remember it, the configured one.
    fn remembered_tables(&self) -> Vec<TableName> {
        let mut names: Vec<TableName> = Vec::new();
        for partition in &self.plan.partitions {
            let checkpoint = self.comparison.checkpoints.get(&partition.name);
            for written in checkpoint.iter().flat_map(|known| &known.columns) {
                if let Ok(name) = written.table.parse()
                    && !names.contains(&name)
                {
                    names.push(name);
                }
            }
        }
        if names.is_empty() {
            names.push(self.plan.config.sink.table.clone());
        }
        names
    }

    /// What was asked for by places needs the column that tells them.
    fn refuse_ranges(&self, scope: &Scope) -> Result<()> {
        if !scope.is_bounded() && self.window.is_none() {
            return Ok(());
        }
        let column = self.comparison.cursor_column.as_deref().unwrap_or_default();
        Err(Error::config(format!(
            "--from, --to and --window need the cursor's column `{column}` in the output"
        ))
        .hint("leave them out, or keep the column in the transformer"))
    }

    async fn read_table(
        &self,
        index: usize,
        table: &ComparedTable,
        scope: &Scope,
        letters: &Letters,
    ) -> Result<(Tallies, HashMap<Checksum, u64>)> {
        let comparison = &self.comparison;
        let mut found = Tallies::default();
        let mut letters_found = HashMap::new();
        if !table.exists {
            return Ok((found, letters_found));
        }
        let mut rows = comparison
            .holding
            .rows(table, scope, &self.partitions)
            .await?;
        while let Some((batch, unreadable)) = rows.next().await? {
            let keys = comparison
                .keys
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            table.digest(batch.columns(), batch.num_rows(), comparison.nuls, |row| {
                if let (Some(keys), Some(key)) = (keys.as_ref(), row.key)
                    && keys.is_one_of(index, key, row.checksum)?
                {
                    let cell = contested(&mut found);
                    return found.add(cell, key);
                }
                let Some(range) = scope.place(row.partition, row.position) else {
                    return Ok(());
                };
                if letters.hold(index, row.checksum) {
                    *letters_found.entry(row.checksum).or_default() += 1;
                }
                let partition = found.partition(row.partition);
                found.add(Cell { partition, range }, row.checksum)
            })?;
            for row in &unreadable {
                add_unreadable(table, scope, row, &mut found)?;
            }
        }
        Ok((found, letters_found))
    }
}

/// A row with a value that no pipeline writes, such as an infinite date, is there all the same.
fn add_unreadable(
    table: &ComparedTable,
    scope: &Scope,
    row: &SourceRejection,
    found: &mut Tallies,
) -> Result<()> {
    let value = |column: Option<usize>| row.payload.get(&table.columns.get(column?)?.name);
    let partition = value(table.partition).and_then(Json::as_str);
    let position = match value(table.axis) {
        Some(Json::Number(number)) => number.as_i64().map(i128::from),
        Some(Json::String(text)) => match scope.step {
            Some(Step::Number(_)) => text.parse().ok(),
            _ => parse_position(text),
        },
        _ => None,
    };
    let Some(range) = scope.place(partition, position) else {
        return Ok(());
    };
    let partition = found.partition(partition);
    found.add(
        Cell { partition, range },
        checksum(row.payload.to_string().as_bytes()),
    )
}

fn build_scope(
    plan: &Plan,
    checkpoints: &BTreeMap<String, Checkpoint>,
    window: Option<&str>,
) -> Result<Scope> {
    let Some(cursor) = &plan.config.cursor else {
        return match window {
            Some(_) => Err(Error::config(
                "--window needs a `cursor` in the configuration",
            )),
            None => Ok(Scope::default()),
        };
    };
    let step = Step::new(cursor.kind, window)?;
    let parse = |text: &Option<String>| match (text, step) {
        (Some(text), Some(step)) => step.parse(text).map(Some),
        (Some(_), None) => Err(
            Error::config("--from and --to need a cursor of times or integers")
                .hint("leave them out"),
        ),
        (None, _) => Ok(None),
    };
    let loaded = plan.partitions.iter().map(|partition| {
        let checkpoint = checkpoints.get(&partition.name);
        let cursor = checkpoint.and_then(|checkpoint| checkpoint.cursor.as_ref());
        let place = cursor
            .zip(step)
            .and_then(|(cursor, step)| step.place(cursor));
        (partition.name.clone(), place)
    });
    Ok(Scope {
        step,
        from: parse(&plan.options.since)?,
        to: parse(&plan.options.until)?,
        loaded: loaded.collect(),
    })
}
