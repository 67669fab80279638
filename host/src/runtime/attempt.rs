//! One try of one partition: claim, window, read, transform, load, commit.
//!
//! Three workers side by side with bounded channels between them: the feeder reads, a blocking thread transforms, and
//! the chunker writes. The first error ends all three; what was not committed is rolled back by the sink.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering as Atomic};
use std::sync::{Mutex, PoisonError};

use arrow_schema::{Schema, SchemaRef};
use etl_plugin_api::{AttemptInfo, Cardinality, Cursor, Delivery, Outcome, TableSchema};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::RunContext;
use super::chunk::{Chunker, Signature, Target};
use super::feed::{Feeder, Reader};
use super::ranges::{self, Asked};
use super::report::WorkerUsage;
use super::ties::TieSplitter;
use super::transform::{Ready, transform_all};
use super::window::{Start, Window, check_fingerprint, fingerprint, fix_window, ranges_to_delete};
use crate::checkpoint::{Checkpoint, Ledger, WrittenTable};
use crate::config::{BadRowLimit, WriteMode};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{LastStage, PartitionPlan, Purpose};
use crate::sink::{Chunk, Claim, CursorChange, DryRunWriter, PartitionWriter};
use crate::source::{ReadRequest, SourceSession};
use crate::stage::context::HostContext;
use crate::stage::extract::{ExtractQueries, ExtractStage};
use crate::stage::load::LoadStage;
use crate::stage::transform::{Search, TransformStage};
use crate::stage::{AttemptStages, blocking};
use crate::task;

/// Batches that wait between two workers.
const BATCHES_AHEAD: usize = 1;

/// How an attempt ended that did not fail.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Whether it was asked to stop before the end.
    pub cancelled: bool,
    /// The books of this run for this partition.
    pub ledger: Ledger,
    /// Where it began.
    pub from: Option<Cursor>,
    /// Where it ended.
    pub to: Option<Cursor>,
    /// Its number among all attempts that the partition ever saw.
    pub epoch: i64,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// It came to its end, or was asked to stop.
    Finished(Finished),
    /// It only settled a commit that was in doubt; the next attempt reads on from there.
    Settled,
}

/// An attempt with everything open, before its first row.
struct Opened {
    rows: Rows,
    chunker: Chunker,
    /// A commit is possible on the way, not only at the end.
    may_drain: bool,
}

/// Where rows come from and what changes them.
struct Rows {
    reader: Reader,
    splitter: TieSplitter,
    ordered: bool,
    transform: TransformStage,
}

impl Rows {
    /// Whether they are made or changed by the plugin.
    fn call_plugin(&self) -> bool {
        matches!(self.reader, Reader::Extractor { .. }) || self.transform.calls_plugin()
    }
}

/// What remains of an attempt that fails.
#[derive(Debug, Default)]
pub struct Progress {
    /// The run has had the partition.
    pub claimed: AtomicBool,
    /// Commits of the attempt that moved the cursor.
    pub commits: AtomicU32,
    /// What the worker processes of the partition have used.
    worker: Mutex<Option<WorkerUsage>>,
}

impl Progress {
    fn note_usage(&self, stages: &AttemptStages) {
        if let Some(usage) = stages.share().usage() {
            let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
            worker.get_or_insert_default().add(usage);
        }
    }

    /// What the worker processes of the partition have used; `None` if there was none.
    pub fn worker(&self) -> Option<WorkerUsage> {
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The plugin's side of an attempt: its stages and what they may use.
struct Guest<'a> {
    stages: &'a AttemptStages,
    cx: HostContext,
}

/// Runs one attempt.
pub async fn run(
    run: &RunContext,
    partition: &PartitionPlan,
    number: u32,
    progress: &Progress,
) -> Result<Ended> {
    // Dropped with this future, it stops what a stage still does.
    let stages = AttemptStages::new(&run.stages, &partition.name);
    let ended = run_with(run, partition, number, progress, &stages).await;
    // Nothing is being called any more, so the stages may end in their own time.
    stages.rest();
    ended
}

async fn run_with(
    run: &RunContext,
    partition: &PartitionPlan,
    number: u32,
    progress: &Progress,
    stages: &AttemptStages,
) -> Result<Ended> {
    let asking = ranges::ask(run, partition);
    let asked = unless_cancelled(run, asking).await?;
    let writer = unless_cancelled(run, begin(run, partition, progress)).await?;
    let checkpoint = writer.checkpoint().clone();
    let start = Start::new(run, &checkpoint);
    let opening = open_source(run, partition, &checkpoint, start, asked.as_ref());
    let (session, fingerprint, window) = unless_cancelled(run, opening).await.map_err(of_source)?;
    // Ends with this future, also when it is dropped: a stage that still works for a lost attempt learns that it may
    // stop.
    let cancel = run.cancel.child_token();
    let _ends = cancel.clone().drop_guard();
    let guest = Guest {
        stages,
        cx: context(run, partition, number, &window, cancel),
    };
    let opening = open(
        run,
        partition,
        &checkpoint,
        start,
        fingerprint,
        &window,
        asked,
        session,
        writer,
        &guest,
    );
    let Some(opened) = unless_cancelled(run, opening).await? else {
        return Ok(Ended::Settled);
    };
    let Opened {
        rows,
        mut chunker,
        may_drain,
    } = opened;
    if !rows.call_plugin() && !chunker.calls_plugin() {
        // A worker that nobody will call keeps no memory.
        progress.note_usage(stages);
        stages.rest();
    }
    let cancelled = match pump(run, rows, &mut chunker, may_drain, &progress.commits).await {
        Ok(cancelled) => cancelled,
        Err(error) => {
            chunker.into_target().fail().await;
            progress.note_usage(stages);
            return Err(error);
        }
    };
    let finished = Finished {
        cancelled,
        ledger: *chunker.ledger(),
        from: window.from,
        to: chunker.position(checkpoint.cursor),
        epoch: checkpoint.epoch,
    };
    close(chunker.into_target(), cancelled).await;
    progress.note_usage(stages);
    Ok(Ended::Finished(finished))
}

/// Nothing is read before the first row, so a run that is asked to stop need not wait for a server that takes its time.
async fn unless_cancelled<T>(
    run: &RunContext,
    opening: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = run.cancel.cancelled() => Err(Error::new(ErrorKind::Cancelled, "stopped before the first row")),
        opened = opening => opened,
    }
}

/// The session on the shard, which must be the one of the checkpoint, and the window.
async fn open_source(
    run: &RunContext,
    partition: &PartitionPlan,
    checkpoint: &Checkpoint,
    start: Start,
    asked: Option<&Asked>,
) -> Result<(Option<Box<dyn SourceSession>>, String, Window)> {
    let previews = run.plan.previews();
    if checkpoint.cursor.is_none() && !previews {
        ranges::require_never_split(run, partition).await?;
    }
    let mut session = match (&partition.shard, &run.source) {
        (Some(shard), Some(source)) => Some(source.open(shard).await?),
        _ => None,
    };
    let range = asked.and_then(|asked| asked.range.as_ref());
    let fingerprint = fingerprint(run, session.as_deref_mut(), range).await?;
    let fits = check_fingerprint(&run.plan, partition, checkpoint, &fingerprint);
    let beginning = Checkpoint::default();
    let checkpoint = match (fits, &run.sample) {
        // The author has changed the query, and wants to see what it gives.
        (Err(error), Some(sample)) if previews => {
            let why = format!("{error}, so a run would stop");
            sample.begin_anew(&partition.name, why);
            &beginning
        }
        (fits, _) => {
            fits?;
            checkpoint
        }
    };
    let window = fix_window(run, checkpoint, start, asked, session.as_deref_mut()).await?;
    Ok((session, fingerprint, window))
}

fn context(
    run: &RunContext,
    partition: &PartitionPlan,
    number: u32,
    window: &Window,
    cancel: CancellationToken,
) -> HostContext {
    let mut info = AttemptInfo::default();
    info.run_id.clone_from(&run.run_id);
    info.pipeline.clone_from(&run.plan.config.name);
    info.partition.clone_from(&partition.name);
    info.attempt = number;
    info.from.clone_from(&window.from);
    info.until.clone_from(&window.until);
    info.started_at = jiff::Timestamp::now().as_microsecond();
    HostContext::new(info, cancel, run.counters.clone(), run.plan.granted.clone())
}

/// Opens reader, transformer, tables and target. `None` if all there was to do was to settle a commit in doubt.
#[expect(
    clippy::too_many_arguments,
    reason = "everything an attempt has gathered by then"
)]
async fn open(
    run: &RunContext,
    partition: &PartitionPlan,
    checkpoint: &Checkpoint,
    start: Start,
    fingerprint: String,
    window: &Window,
    asked: Option<Asked>,
    session: Option<Box<dyn SourceSession>>,
    writer: Box<dyn PartitionWriter>,
    guest: &Guest<'_>,
) -> Result<Option<Opened>> {
    let plan = &run.plan;
    let (reader, splitter, ordered) =
        open_reader(run, checkpoint, start, window, asked, session, guest)
            .await
            .map_err(of_source)?;
    if let Some(sample) = &run.sample {
        sample.open_input(&partition.name, &reader.schema(), &reader.declared());
    }
    let reader = if plan.previews() && plan.options.limit != Some(0) {
        reader.unless_empty()
    } else {
        reader
    };
    let transform = open_transform(run, reader.schema(), guest).await?;
    let untouched = !transform.calls_plugin();
    let tables = transform.tables().to_vec();
    let aggregates = transform.aggregates();
    let fresh_books = plan.options.since.is_some() || plan.replaces() || !start.resumed;
    let ledger = if fresh_books {
        Ledger::default()
    } else {
        checkpoint.ledger
    };
    let single_commit = start.rewinding && plan.config.sink.write_mode == WriteMode::Append;
    let signature = Signature {
        partition: partition.name.clone(),
        mark: run.mark(),
        fingerprint,
        keep_cursor: plan.options.since.is_some() || plan.replaces(),
        single_commit,
        clear_if_empty: plan.options.full_refresh && start.rewinding,
        adopt_fingerprint: checkpoint.fingerprint.is_none()
            && checkpoint.cursor.is_some()
            && !window.untouched,
        aggregates,
    };
    let nothing = matches!(reader, Reader::Nothing(_));
    let Some(target) = open_target(
        run, writer, &tables, nothing, window, guest, &signature, ledger,
    )
    .await?
    else {
        return Ok(None);
    };
    let specs = plan.table_specs(&tables)?;
    if let Some(sample) = run.sample.as_ref().filter(|_| !nothing) {
        sample.open_tables(&partition.name, &specs, untouched);
    }
    let names = specs.iter().map(|spec| spec.name.to_string()).collect();
    let chunker = Chunker::new(
        target,
        signature,
        plan.clone(),
        run.books.clone(),
        names,
        ledger,
    );
    Ok(Some(Opened {
        rows: Rows {
            reader,
            splitter,
            ordered,
            transform,
        },
        chunker,
        may_drain: !aggregates && !single_commit && !plan.replaces(),
    }))
}

/// Moves all rows, and says whether the run was asked to stop before the end.
async fn pump(
    run: &RunContext,
    rows: Rows,
    chunker: &mut Chunker,
    may_drain: bool,
    commits: &AtomicU32,
) -> Result<bool> {
    let Rows {
        reader,
        splitter,
        ordered,
        transform,
    } = rows;
    let (feed_in, feed) = mpsc::channel(BATCHES_AHEAD);
    let (ready_in, mut ready) = mpsc::channel(BATCHES_AHEAD);
    // Dropped with this future, which ends the task.
    let mut workers = JoinSet::new();
    let feeder = Feeder::new(
        splitter,
        ordered,
        chunker.partition().to_owned(),
        run.books.clone(),
        run.cancel.clone(),
        feed_in,
    )
    .stopping_after(run.plan.most_rows());
    workers.spawn(task::carried(feeder.run(reader)));
    task::spawn_blocking(move || transform_all(transform, feed, &ready_in));
    loop {
        let message = match ready.recv().await {
            Some(message) => message.map_err(of_source)?,
            None => {
                return Err(Error::new(
                    ErrorKind::Unproven,
                    "the transforming thread ended before the last row",
                ));
            }
        };
        match message {
            Ready::Rows {
                extracted,
                batch,
                letters,
                safe,
            } => {
                let result = chunker.push(extracted, batch, letters, safe).await;
                commits.store(chunker.advances, Atomic::Relaxed);
                result.map_err(of_sink)?;
            }
            Ready::End(cursor) => {
                chunker.finish(cursor).await.map_err(of_sink)?;
                return Ok(false);
            }
            Ready::Stopped { safe } if safe && may_drain => {
                chunker.drain().await.map_err(of_sink)?;
                return Ok(true);
            }
            Ready::Stopped { .. } => {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    "stopped where no commit is possible; rows since the last commit are rolled back",
                ));
            }
        }
    }
}

/// A server's own words do not tell which of the two servers speaks.
pub fn of_sink(error: Error) -> Error {
    spoken_by("sink", error)
}

pub fn of_source(error: Error) -> Error {
    spoken_by("source", error)
}

fn spoken_by(side: &str, error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Unproven
        | ErrorKind::Miscounted
        | ErrorKind::SqlState(_)
        | ErrorKind::SqlServer(_)
        | ErrorKind::Sqlite(_) => error.while_trying(side),
        _ => error,
    }
}

async fn begin(
    run: &RunContext,
    partition: &PartitionPlan,
    progress: &Progress,
) -> Result<Box<dyn PartitionWriter>> {
    let pipeline = &run.plan.config.name;
    if let Some(sample) = &run.sample {
        let mut checkpoints = match &run.known {
            Some(known) => known.checkpoints.clone(),
            None => run.sink.load_checkpoints(pipeline).await?,
        };
        let checkpoint = checkpoints.remove(&partition.name).unwrap_or_default();
        let writer = DryRunWriter::new(checkpoint, &partition.name, sample.clone());
        return Ok(Box::new(writer));
    }
    let writer = run
        .sink
        .begin(&Claim {
            tenure: run.tenure(),
            partition: partition.name.clone(),
            leased: run.plan.leased(&partition.name).to_owned(),
            index: partition.index,
            retry: progress.claimed.load(Atomic::Relaxed),
            replay: false,
        })
        .await
        .map_err(of_sink)?;
    progress.claimed.store(true, Atomic::Relaxed);
    Ok(writer)
}

async fn open_reader(
    run: &RunContext,
    checkpoint: &Checkpoint,
    start: Start,
    window: &Window,
    asked: Option<Asked>,
    session: Option<Box<dyn SourceSession>>,
    guest: &Guest<'_>,
) -> Result<(Reader, TieSplitter, bool)> {
    let plan = &run.plan;
    let config = &plan.config;
    let never_loaded = checkpoint.run_id.is_none() && checkpoint.cursor.is_none();
    if plan.options.purpose == Purpose::Verify && never_loaded {
        let nothing = Reader::Nothing(SchemaRef::new(Schema::empty()));
        return Ok((nothing, TieSplitter::new(true, None, None, None), true));
    }
    let (Some(query), Some(asked)) = (&plan.query, asked) else {
        let stages = guest.stages.share();
        let extractor = blocking(move || stages.extractor())
            .await?
            .ok_or_else(|| Error::internal("the pipeline's extractor is gone"))?;
        let queries = ExtractQueries {
            cursor: config.cursor.clone(),
            batch_rows: config.tuning.batch_rows,
            batch_bytes: config.tuning.flush_bytes,
        };
        let stage = ExtractStage::open(extractor, guest.cx.clone(), session, queries).await?;
        let loads = matches!(plan.options.purpose, Purpose::Load | Purpose::Preview);
        // An extractor reads as far as it can; what is not loaded yet is not compared.
        let stop_at = checkpoint.cursor.clone().filter(|_| !loads);
        let splitter = TieSplitter::new(
            true,
            window.from.clone(),
            stop_at.clone(),
            plan.most_committed(),
        );
        return Ok((
            Reader::Extractor {
                stage,
                cursor: config.cursor.clone(),
                stop_at,
                must_resume: plan.options.purpose == Purpose::Load
                    && config.sink.write_mode == WriteMode::Append
                    && !plan.options.allow_duplicates,
            },
            splitter,
            true,
        ));
    };
    let until = window.until.clone().filter(|_| !query.bounded);
    let splitter = TieSplitter::new(
        query.ordered,
        window.from.clone(),
        until,
        plan.most_committed(),
    );
    // Rewinding deletes even where there is nothing to read any more.
    let must_read = start.rewinding || plan.replaces() || plan.previews();
    if window.untouched || (window.empty && !must_read) {
        return Ok((
            Reader::Nothing(SchemaRef::new(Schema::empty())),
            splitter,
            query.ordered,
        ));
    }
    let mut session =
        session.ok_or_else(|| Error::config("the pipeline has no source to read from"))?;
    let stream = session
        .read(ReadRequest {
            sql: asked.sql,
            cursor: config.cursor.clone(),
            from: window.from.clone(),
            until: window.until.clone(),
            parameters: Vec::new(),
            range: asked.range,
            batch_rows: config.tuning.batch_rows,
            batch_bytes: config.tuning.flush_bytes,
        })
        .await?;
    // Columns of a statement without rows may be guesses, and nothing is done with them.
    if stream.is_empty() && !must_read {
        return Ok((
            Reader::Nothing(SchemaRef::new(Schema::empty())),
            splitter,
            query.ordered,
        ));
    }
    Ok((Reader::Source(stream), splitter, query.ordered))
}

async fn open_transform(
    run: &RunContext,
    input: SchemaRef,
    guest: &Guest<'_>,
) -> Result<TransformStage> {
    let stages = guest.stages.share();
    let cardinality = run.plan.manifest.cardinality;
    let cx = guest.cx.clone();
    // A row at which the plugin fails is looked for if it may be set aside at all.
    let most = match run.plan.config.error_handling.max_bad_rows {
        // An author wants to see the failure itself.
        _ if run.plan.previews() => None,
        _ if !run.plan.manifest.stateless || cardinality == Cardinality::Aggregate => None,
        BadRowLimit::Rows(0) => None,
        BadRowLimit::Rows(most) => Some(most),
        BadRowLimit::Percent(_) => Some(u64::MAX),
    };
    // Nothing will be read, so there is nothing to open a transformer with.
    let idle = input.fields().is_empty();
    let transforms = !idle && run.plan.options.shown_after == LastStage::Transform;
    blocking(move || {
        let transformer = if transforms {
            stages.transformer()?
        } else {
            None
        };
        let stage = TransformStage::open(transformer, cardinality, &input, cx)?;
        Ok(match most {
            Some(most) => stage.searching(Search {
                another: Box::new(move || stages.transformer()),
                most,
            }),
            None => stage,
        })
    })
    .await
}

/// Makes tables and target ready. `None` if the loader held a commit that the checkpoint did not know, now settled.
#[expect(
    clippy::too_many_arguments,
    reason = "everything an attempt has gathered by then"
)]
async fn open_target(
    run: &RunContext,
    mut writer: Box<dyn PartitionWriter>,
    tables: &[TableSchema],
    nothing: bool,
    window: &Window,
    guest: &Guest<'_>,
    signature: &Signature,
    ledger: Ledger,
) -> Result<Option<Target>> {
    let plan = &run.plan;
    if nothing {
        return Ok(Some(Target::Sink(writer)));
    }
    let stages = guest.stages.share();
    let loader = blocking(move || stages.loader()).await?;
    let delivery = plan.manifest.delivery;
    let writes_tables = loader.is_none() || delivery == Delivery::Transactional;
    if plan.options.dry_run {
        if writes_tables && !plan.previews() {
            let before = &writer.checkpoint().columns;
            preview_tables(run, &signature.partition, before, tables).await?;
        }
        return Ok(Some(Target::Sink(writer)));
    }
    if writes_tables {
        writer.open_tables(&plan.table_specs(tables)?).await?;
        if signature.single_commit && !plan.options.allow_duplicates {
            for range in ranges_to_delete(run, tables, window)? {
                writer.delete_range(&range).await?;
            }
        }
    }
    let Some(loader) = loader else {
        return Ok(Some(Target::Sink(writer)));
    };
    let (mut stage, unknown) = LoadStage::open(
        loader,
        delivery,
        guest.cx.clone(),
        writer,
        tables.to_vec(),
        ledger,
    )
    .await?;
    if let Some(unknown) = unknown {
        stage
            .settle(&Chunk {
                cursor: CursorChange::Set(unknown.cursor),
                fingerprint: Some(signature.fingerprint.clone()),
                run_id: unknown.run_id,
                ledger: unknown.ledger,
                dead_letters: Vec::new(),
                replayed: Vec::new(),
                most_refused: 0,
            })
            .await?;
        return Ok(None);
    }
    Ok(Some(Target::Loader(Box::new(stage))))
}

/// For `--dry-run`: fails where a run would, and says what it would change.
async fn preview_tables(
    run: &RunContext,
    partition: &str,
    before: &[WrittenTable],
    tables: &[TableSchema],
) -> Result<()> {
    let specs = run.plan.table_specs(tables)?;
    let preview = run.sink.preview_tables(partition, before, &specs).await?;
    for statement in preview.statements {
        tracing::warn!("a run would execute {statement}");
    }
    for warning in preview.warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// All rows are committed: whatever fails from here on is told, and harms nothing.
async fn close(target: Target, cancelled: bool) {
    let outcome = if cancelled {
        Outcome::Cancelled
    } else {
        Outcome::Succeeded
    };
    let writer = match target {
        Target::Sink(writer) => writer,
        Target::Loader(loader) => {
            let (closed, writer) = loader.close(outcome).await;
            if let Err(error) = closed {
                tracing::warn!("{error}; all rows are committed");
            }
            match writer {
                Some(writer) => writer,
                None => return,
            }
        }
    };
    if let Err(error) = writer.close().await {
        tracing::debug!(%error, "the sink's connection did not close cleanly");
    }
}
