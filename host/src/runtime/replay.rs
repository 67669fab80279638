//! Loads dead letters again: each through the stages behind the one that refused it, in a transaction of its own that
//! also marks it as replayed.
//!
//! It moves no checkpoint and counts in no run's books. Rows that were never read into Arrow cannot be replayed.

use std::sync::Arc;

use arrow_array::RecordBatch;
use etl_plugin_api::{AttemptInfo, Cardinality, Outcome, TableSchema};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use utoipa::ToSchema;

use super::spans;
use crate::config::{SchemaChange, TableName, WriteMode};
use crate::dead_letter::{Stage, StoredLetter, decode};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Plan;
use crate::policy::{Policy, policy};
use crate::pool::Pools;
use crate::sink::{
    Chunk, Claim, CursorChange, Flush, Keep, LetterFilter, PartitionWriter, Sink, TableSpec,
    Tenure, build_sink,
};
use crate::stage::context::{Counters, HostContext};
use crate::stage::transform::TransformStage;
use crate::stage::{Stages, blocking};

/// Dead letters that are read at a time.
const PAGE: u32 = 200;

/// A replay of one pipeline's dead letters.
pub struct Replay {
    plan: Plan,
    stages: Arc<dyn Stages>,
    pools: Arc<Pools>,
    cancel: CancellationToken,
    run_id: String,
}

/// A partition's writer with its tables: where the last letter went, as the next one may.
struct Open {
    partition: String,
    tables: Vec<TableSpec>,
    writer: Box<dyn PartitionWriter>,
}

/// What became of the letters.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ReplayReport {
    /// The replay's identifier, which its letters carry.
    pub run_id: String,
    /// The pipeline.
    pub pipeline: String,
    /// Letters whose rows are loaded, or left out by the transformer.
    pub replayed: u64,
    /// Letters whose rows yielded to newer ones that were there already.
    pub superseded: u64,
    /// Letters that stay in quarantine.
    pub left: Vec<Left>,
    /// It was asked to stop before the last letter.
    pub cancelled: bool,
}

/// A letter that stays in quarantine.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Left {
    /// Its number.
    pub id: i64,
    /// Why.
    pub reason: String,
}

/// What became of one letter.
enum Fate {
    Replayed,
    Superseded,
    Left(String),
}

impl Replay {
    /// A replay. Opens nothing. Fails if the pipeline's rows cannot be loaded one by one.
    pub fn new(
        plan: Plan,
        stages: Arc<dyn Stages>,
        pools: Arc<Pools>,
        cancel: CancellationToken,
        has_loader: bool,
    ) -> Result<Self> {
        let refuse = |why: &str, hint: &str| Err(Error::config(why).hint(hint));
        if plan.replaces() {
            return refuse(
                "`write_mode: replace` loads all rows in every run, so single rows are not replayed",
                "mend the rows or the pipeline and run it",
            );
        }
        if has_loader {
            return refuse(
                "the pipeline has a loader of its own, which single rows do not pass",
                "mend the rows and use `etl-host backfill`",
            );
        }
        Ok(Self {
            plan,
            stages,
            pools,
            cancel,
            run_id: uuid::Uuid::now_v7().to_string(),
        })
    }

    /// Replays the letters that the filter names, in the order of their numbers.
    pub async fn run(self, filter: LetterFilter) -> Result<ReplayReport> {
        let span = spans::of_run(&self.plan.config.name, &self.run_id);
        let recorded = span.clone();
        async {
            tracing::info!("replay of dead letters started");
            let replayed = self.run_in_span(filter).await;
            match &replayed {
                Ok(report) => tracing::info!(
                    superseded = report.superseded,
                    left = report.left.len(),
                    "replay ended: {} dead letters replayed",
                    report.replayed
                ),
                Err(error) => {
                    spans::record_error(&recorded, error);
                    tracing::error!("{error}");
                }
            }
            replayed
        }
        .instrument(span)
        .await
    }

    async fn run_in_span(self, mut filter: LetterFilter) -> Result<ReplayReport> {
        let mut report = ReplayReport {
            run_id: self.run_id.clone(),
            pipeline: self.plan.config.name.clone(),
            ..ReplayReport::default()
        };
        let sink = self.sink();
        filter.limit = PAGE;
        filter.replayed = false;
        let mut open = None;
        let replayed = self
            .replay_all(sink.as_ref(), filter, &mut report, &mut open)
            .await;
        if let Some(open) = open {
            let _ = open.writer.close().await;
        }
        if let Err(error) = sink.release(&self.tenure(), None).await {
            tracing::debug!(%error, "the leases were not given up");
        }
        replayed.map_err(|error| {
            error.while_trying(format!(
                "pipeline {}: replay dead letters ({} done)",
                report.pipeline,
                report.replayed + report.superseded
            ))
        })?;
        Ok(report)
    }

    async fn replay_all(
        &self,
        sink: &dyn Sink,
        mut filter: LetterFilter,
        report: &mut ReplayReport,
        open: &mut Option<Open>,
    ) -> Result<()> {
        loop {
            let letters = sink
                .load_dead_letters(&self.plan.config.name, &filter)
                .await?;
            let Some(last) = letters.last() else {
                return Ok(());
            };
            filter.after = last.id;
            for letter in letters {
                if self.cancel.is_cancelled() {
                    report.cancelled = true;
                    return Ok(());
                }
                let id = letter.id;
                match self.replay_one(letter, open).await {
                    Ok(Fate::Replayed) => report.replayed += 1,
                    Ok(Fate::Superseded) => report.superseded += 1,
                    Ok(Fate::Left(reason)) => report.left.push(Left { id, reason }),
                    // One letter that does not fit any more must not keep back those behind it.
                    Err(error) if is_about_one(&error) => report.left.push(Left {
                        id,
                        reason: error.to_string(),
                    }),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn replay_one(&self, letter: StoredLetter, open: &mut Option<Open>) -> Result<Fate> {
        let Some(arrow) = &letter.arrow else {
            return Ok(Fate::Left(format!(
                "the row could not be read{}: mend it in the source, then read it again with `etl-host backfill`",
                letter
                    .position
                    .map_or(String::new(), |position| format!(" (at {position})"))
            )));
        };
        let row = match decode(arrow) {
            Ok(row) => row,
            Err(error) => return Ok(Fate::Left(error.to_string())),
        };
        let (tables, outputs) = if letter.stage == Stage::Transform.name() {
            if self.plan.manifest.cardinality == Cardinality::Aggregate {
                return Ok(Fate::Left(
                    "the transformer aggregates, so a single row has no output".to_owned(),
                ));
            }
            match self.transform(&letter.partition, row).await {
                Ok(Ok(transformed)) => transformed,
                Ok(Err(reason)) => return Ok(Fate::Left(reason)),
                Err(error) if matches!(error.kind(), ErrorKind::Stage(_)) => {
                    return Ok(Fate::Left(error.to_string()));
                }
                Err(error) => return Err(error),
            }
        } else {
            let name = letter.table.as_deref().unwrap_or_default();
            let table = self.table_spec(name, &row)?;
            (vec![table], vec![(0, row)])
        };
        self.load(letter.id, &letter.partition, tables, outputs, open)
            .await
    }

    /// One row through the transformer. The inner error says why it is still rejected.
    async fn transform(
        &self,
        partition: &str,
        row: RecordBatch,
    ) -> Result<Result<(Vec<TableSpec>, Vec<(usize, RecordBatch)>), String>> {
        let mut info = AttemptInfo::default();
        info.run_id.clone_from(&self.run_id);
        info.pipeline.clone_from(&self.plan.config.name);
        info.partition = partition.to_owned();
        info.attempt = 1;
        info.started_at = jiff::Timestamp::now().as_microsecond();
        let cx = HostContext::new(
            info,
            self.cancel.child_token(),
            Counters::default(),
            self.plan.granted.clone(),
        );
        let (stages, cardinality) = (self.stages.clone(), self.plan.manifest.cardinality);
        let (tables, outputs, rejected) = blocking(move || {
            let mut stage =
                TransformStage::open(stages.transformer()?, cardinality, &row.schema(), cx)?;
            let tables: Vec<TableSchema> = stage.tables().to_vec();
            let mut outputs = Vec::new();
            let mut rejected = None;
            for batch in [stage.transform(row)?, stage.finish()?] {
                rejected = rejected.or(batch.rejected.into_iter().next());
                outputs.extend(
                    batch
                        .outputs
                        .into_iter()
                        .map(|output| (output.table as usize, output.batch)),
                );
            }
            stage.close(Outcome::Succeeded)?;
            Ok((tables, outputs, rejected))
        })
        .await?;
        if let Some(rejection) = rejected {
            return Ok(Err(rejection.reason));
        }
        let mut tables = self.plan.table_specs(&tables)?;
        for table in &mut tables {
            table.on_schema_change = self.on_schema_change();
            table.keep = self.keep(table);
        }
        Ok(Ok((tables, outputs)))
    }

    fn table_spec(&self, name: &str, row: &RecordBatch) -> Result<TableSpec> {
        let name: TableName = name
            .parse()
            .map_err(|error| Error::data("a dead letter names no table").caused_by(error))?;
        let mut table = TableSpec {
            name,
            schema: row.schema(),
            mode: self.plan.config.sink.write_mode.clone(),
            on_schema_change: self.on_schema_change(),
            keep: Keep::Last,
        };
        table.keep = self.keep(&table);
        Ok(table)
    }

    /// A replay changes no table.
    fn on_schema_change(&self) -> SchemaChange {
        match self.plan.config.error_handling.on_schema_change {
            SchemaChange::Ignore => SchemaChange::Ignore,
            SchemaChange::Strict | SchemaChange::Evolve => SchemaChange::Strict,
        }
    }

    /// A row that comes late must not overwrite a newer one.
    fn keep(&self, table: &TableSpec) -> Keep {
        let cursor = self
            .plan
            .config
            .cursor
            .as_ref()
            .map(|cursor| &cursor.column);
        match table.mode {
            WriteMode::Upsert { .. } => Keep::Newer(
                cursor
                    .filter(|column| table.schema.field_with_name(column).is_ok())
                    .cloned(),
            ),
            _ => Keep::Last,
        }
    }

    async fn load(
        &self,
        id: i64,
        partition: &str,
        tables: Vec<TableSpec>,
        outputs: Vec<(usize, RecordBatch)>,
        kept: &mut Option<Open>,
    ) -> Result<Fate> {
        // Whatever goes wrong, the writer is dropped with it: what it had not committed is rolled back.
        let mut open = match kept.take() {
            Some(open) if open.partition == partition && open.tables == tables => open,
            other => {
                if let Some(other) = other {
                    let _ = other.writer.close().await;
                }
                self.open_writer(partition, tables).await?
            }
        };
        let (mut loaded, mut superseded) = (0, 0);
        for (table, batch) in outputs {
            let flush = Flush {
                table,
                batches: vec![batch],
            };
            let written = open.writer.write(&flush, 0).await?;
            if let Some(refusal) = written.refused.into_iter().next() {
                return Ok(Fate::Left(refusal.reason));
            }
            loaded += written.loaded;
            superseded += written.superseded;
        }
        let checkpoint = open.writer.checkpoint().clone();
        let committed = open
            .writer
            .commit(&Chunk {
                cursor: CursorChange::Keep,
                fingerprint: None,
                run_id: checkpoint.run_id.unwrap_or_else(|| self.run_id.clone()),
                ledger: checkpoint.ledger,
                dead_letters: Vec::new(),
                replayed: vec![id],
                most_refused: 0,
            })
            .await;
        let committed = match committed {
            Ok(committed) => committed,
            Err(error) if *error.kind() == ErrorKind::TooManyBadRows => {
                return Ok(Fate::Left(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        *kept = Some(open);
        superseded += committed.superseded;
        loaded -= committed.superseded;
        Ok(if superseded > 0 && loaded == 0 {
            Fate::Superseded
        } else {
            Fate::Replayed
        })
    }

    /// A sink of its own for each writer: what one letter's tables are must not bind another one's.
    async fn open_writer(&self, partition: &str, tables: Vec<TableSpec>) -> Result<Open> {
        let index = self
            .plan
            .partitions
            .iter()
            .find(|plan| plan.name == partition)
            .map_or(0, |plan| plan.index);
        let mut writer = self
            .sink()
            .begin(&Claim {
                tenure: self.tenure(),
                partition: partition.to_owned(),
                leased: self.plan.leased(partition).to_owned(),
                index,
                retry: false,
                replay: true,
            })
            .await?;
        writer.open_tables(&tables).await?;
        Ok(Open {
            partition: partition.to_owned(),
            tables,
            writer,
        })
    }

    fn sink(&self) -> Box<dyn Sink> {
        build_sink(&self.plan.config.sink, &self.pools)
    }

    fn tenure(&self) -> Tenure {
        Tenure::of_this_process(&self.plan.config, &self.run_id)
    }
}

/// Whether a failure tells of the letter and its table, rather than of the sink or the replay.
fn is_about_one(error: &Error) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::Data)
        || (matches!(kind, ErrorKind::SqlState(_) | ErrorKind::Sqlite(_))
            && policy(error) == Policy::Fatal)
}
