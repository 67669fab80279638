//! One try of one partition: claim, window, read, transform, load, commit.
//!
//! Three workers side by side with bounded channels between them: the feeder reads, a blocking thread transforms, and
//! the chunker writes. The first error ends all three; what was not committed is rolled back by the sink.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicU32, Ordering as Atomic};

use arrow_schema::{Schema, SchemaRef};
use etl_plugin_api::{AttemptInfo, Cursor, Delivery, Outcome, TableSchema};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::RunContext;
use super::chunk::{Chunker, Signature, Target};
use super::feed::{Feed, Feeder, Reader};
use super::quarantine;
use super::ties::TieSplitter;
use crate::checkpoint::{Checkpoint, Ledger, compare};
use crate::config::WriteMode;
use crate::error::{Error, ErrorKind, Result};
use crate::literal;
use crate::plan::PartitionPlan;
use crate::sink::{
    Chunk, Claim, CursorChange, DeadLetter, DryRunWriter, PartitionWriter, RangeDelete,
};
use crate::source::{CursorQuery, ReadRequest, SourceSession};
use crate::stage::blocking;
use crate::stage::context::HostContext;
use crate::stage::extract::{ExtractQueries, ExtractStage};
use crate::stage::load::LoadStage;
use crate::stage::transform::{TransformStage, TransformedBatch};

/// Batches that wait between two workers.
const BATCHES_AHEAD: usize = 2;

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

/// The slice of rows that an attempt reads: `(from, until]`.
#[derive(Clone, Debug, Default)]
struct Window {
    from: Option<Cursor>,
    until: Option<Cursor>,
    /// There is certainly nothing in it.
    empty: bool,
}

/// What travels from the transforming to the writing side.
enum Ready {
    Rows {
        extracted: u64,
        batch: TransformedBatch,
        letters: Vec<DeadLetter>,
        safe: Option<Cursor>,
    },
    End(Option<Cursor>),
    Stopped {
        safe: bool,
    },
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
    reader: Reader,
    splitter: TieSplitter,
    ordered: bool,
    transform: TransformStage,
    chunker: Chunker,
    /// A commit is possible on the way, not only at the end.
    may_drain: bool,
}

/// Runs one attempt. `commits` counts its commits, also when it fails.
pub async fn run(
    run: &RunContext,
    partition: &PartitionPlan,
    number: u32,
    commits: &AtomicU32,
) -> Result<Ended> {
    let writer = begin(run, partition).await?;
    let checkpoint = writer.checkpoint().clone();
    let mut session = match (&partition.shard, &run.source) {
        (Some(shard), Some(source)) => Some(source.open(shard).await?),
        _ => None,
    };
    let fingerprint = fingerprint(run, session.as_deref_mut()).await?;
    check_fingerprint(run, partition, &checkpoint, &fingerprint)?;
    let window = fix_window(run, &checkpoint, session.as_deref_mut()).await?;
    let cx = context(run, partition, number, &window);
    let opened = open(
        run,
        partition,
        &checkpoint,
        fingerprint,
        &window,
        session,
        writer,
        &cx,
    )
    .await?;
    let Some(opened) = opened else {
        return Ok(Ended::Settled);
    };
    let (chunker, cancelled) = pump(run, opened, commits).await?;
    let finished = Finished {
        cancelled,
        ledger: *chunker.ledger(),
        from: window.from,
        to: chunker.committed_cursor().cloned().or(checkpoint.cursor),
        epoch: checkpoint.epoch,
    };
    close(chunker.into_target(), cancelled).await?;
    Ok(Ended::Finished(finished))
}

fn context(
    run: &RunContext,
    partition: &PartitionPlan,
    number: u32,
    window: &Window,
) -> HostContext {
    let mut info = AttemptInfo::default();
    info.run_id.clone_from(&run.run_id);
    info.pipeline.clone_from(&run.plan.config.name);
    info.partition.clone_from(&partition.name);
    info.attempt = number;
    info.from.clone_from(&window.from);
    info.until.clone_from(&window.until);
    info.started_at = jiff::Timestamp::now().as_microsecond();
    HostContext::new(info, run.cancel.clone(), run.counters.clone())
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
    fingerprint: String,
    window: &Window,
    session: Option<Box<dyn SourceSession>>,
    writer: Box<dyn PartitionWriter>,
    cx: &HostContext,
) -> Result<Option<Opened>> {
    let plan = &run.plan;
    let (reader, splitter, ordered) = open_reader(run, window, session, cx).await?;
    let transform = open_transform(run, reader.schema(), cx).await?;
    let tables = transform.tables().to_vec();
    let aggregates = transform.aggregates();
    let resumed = checkpoint.run_id.as_deref() == Some(run.run_id.as_str());
    let fresh_books = plan.options.since.is_some() || plan.replaces() || !resumed;
    let ledger = if fresh_books {
        Ledger::default()
    } else {
        checkpoint.ledger
    };
    let single_commit = plan.rewinds() && plan.config.sink.write_mode == WriteMode::Append;
    let signature = Signature {
        partition: partition.name.clone(),
        run_id: run.run_id.clone(),
        fingerprint,
        keep_cursor: plan.options.since.is_some() || plan.replaces(),
        single_commit,
        aggregates,
    };
    let nothing = matches!(reader, Reader::Nothing(_));
    let Some(target) = open_target(run, writer, &tables, nothing, window, cx, &signature).await?
    else {
        return Ok(None);
    };
    let names = plan
        .table_specs(&tables)?
        .iter()
        .map(|spec| spec.name.to_string())
        .collect();
    let chunker = Chunker::new(
        target,
        signature,
        plan.clone(),
        run.books.clone(),
        names,
        ledger,
    );
    Ok(Some(Opened {
        reader,
        splitter,
        ordered,
        transform,
        chunker,
        may_drain: !aggregates && !single_commit && !plan.replaces(),
    }))
}

/// Moves all rows, and says whether the run was asked to stop before the end.
async fn pump(run: &RunContext, opened: Opened, commits: &AtomicU32) -> Result<(Chunker, bool)> {
    let Opened {
        reader,
        splitter,
        ordered,
        transform,
        mut chunker,
        may_drain,
    } = opened;
    let (feed_in, feed) = mpsc::channel(BATCHES_AHEAD);
    let (ready_in, mut ready) = mpsc::channel(BATCHES_AHEAD);
    // Dropped with this future, which ends the task.
    let mut workers = JoinSet::new();
    workers.spawn(Feeder::new(splitter, ordered, run.cancel.clone(), feed_in).run(reader));
    tokio::task::spawn_blocking(move || transform_all(transform, feed, &ready_in));
    loop {
        let message = ready.recv().await.unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::Unproven,
                "the transforming thread ended before the last row",
            ))
        })?;
        match message {
            Ready::Rows {
                extracted,
                batch,
                letters,
                safe,
            } => {
                let result = chunker.push(extracted, batch, letters, safe).await;
                commits.store(chunker.commits, Atomic::Relaxed);
                result?;
            }
            Ready::End(cursor) => {
                chunker.finish(cursor).await?;
                return Ok((chunker, false));
            }
            Ready::Stopped { safe } if safe && may_drain => {
                chunker.drain().await?;
                return Ok((chunker, true));
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

async fn begin(run: &RunContext, partition: &PartitionPlan) -> Result<Box<dyn PartitionWriter>> {
    let pipeline = &run.plan.config.name;
    if run.plan.options.dry_run {
        let mut checkpoints = run.sink.load_checkpoints(pipeline).await?;
        let checkpoint = checkpoints.remove(&partition.name).unwrap_or_default();
        return Ok(Box::new(DryRunWriter::new(checkpoint)));
    }
    run.sink
        .begin(&Claim {
            pipeline: pipeline.clone(),
            partition: partition.name.clone(),
            index: partition.index,
        })
        .await
}

async fn fingerprint(
    run: &RunContext,
    session: Option<&mut (dyn SourceSession + '_)>,
) -> Result<String> {
    let server = match session {
        Some(session) => session.fingerprint().await?,
        None => format!("plugin:{}", run.plan.config.name),
    };
    Ok(format!("{server} query:{}", run.plan.query_digest))
}

fn check_fingerprint(
    run: &RunContext,
    partition: &PartitionPlan,
    checkpoint: &Checkpoint,
    fingerprint: &str,
) -> Result<()> {
    let Some(known) = checkpoint
        .fingerprint
        .as_deref()
        .filter(|_| checkpoint.cursor.is_some())
    else {
        return Ok(());
    };
    if known == fingerprint || run.plan.replaces() || run.plan.options.full_refresh {
        return Ok(());
    }
    let server = |text: &str| {
        text.rsplit_once(" query:")
            .map_or(text.to_owned(), |(server, _)| server.to_owned())
    };
    let what = if server(known) == server(fingerprint) {
        "was read by another query or cursor column".to_owned()
    } else {
        format!(
            "belongs to {}, but the configuration now names {}",
            server(known),
            server(fingerprint)
        )
    };
    Err(Error::new(
        ErrorKind::Fingerprint,
        format!("the checkpoint of partition {} {what}", partition.name),
    )
    .hint(format!(
        "if this is meant, take the position over with `etl-host checkpoint set {} --partition {} --accept-fingerprint`, \
         or start at the beginning with `etl-host checkpoint reset {} --partition {}`; if two shards swapped places in \
         the configuration, swap them back",
        run.plan.config.name, partition.name, run.plan.config.name, partition.name
    )))
}

/// Fixes the window by the checkpoint, the flags and the source's clock.
async fn fix_window(
    run: &RunContext,
    checkpoint: &Checkpoint,
    session: Option<&mut (dyn SourceSession + '_)>,
) -> Result<Window> {
    let plan = &run.plan;
    let options = &plan.options;
    let resumed = checkpoint.run_id.as_deref() == Some(run.run_id.as_str());
    let restart = plan.replaces() || (options.full_refresh && !resumed);
    let mut from = checkpoint.cursor.clone().filter(|_| !restart);
    let (Some(cursor), Some(query), Some(session)) = (&plan.config.cursor, &plan.query, session)
    else {
        return Ok(Window {
            from,
            ..Window::default()
        });
    };
    let bounded_by_hand = options.since.is_some() || options.until.is_some();
    let found = session
        .upper_bound(&CursorQuery {
            sql: query.sql.clone(),
            cursor: cursor.clone(),
            from: from.clone().filter(|_| !bounded_by_hand),
        })
        .await?;
    let Some(mut until) = found else {
        return Ok(Window {
            from,
            until: None,
            empty: true,
        });
    };
    if let Some(text) = &options.until {
        until = least(until, session.parse_cursor(cursor, text)?)?;
    }
    if let Some(text) = &options.since {
        from = Some(session.parse_cursor(cursor, text)?);
        if plan.config.sink.write_mode == WriteMode::Append
            && !options.allow_duplicates
            && !options.dry_run
        {
            // Beyond the checkpoint the next run would load the rows once more.
            let Some(loaded) = checkpoint.cursor.clone() else {
                return Err(Error::config(
                    "--since reads again what was loaded, but nothing was loaded yet",
                )
                .hint("run without --since"));
            };
            until = least(until, loaded)?;
        }
    }
    let empty = from
        .as_ref()
        .is_some_and(|from| compare(from, &until).is_some_and(Ordering::is_ge));
    Ok(Window {
        from,
        until: Some(until),
        empty,
    })
}

fn least(a: Cursor, b: Cursor) -> Result<Cursor> {
    match compare(&a, &b) {
        Some(Ordering::Greater) => Ok(b),
        Some(_) => Ok(a),
        None => Err(Error::config("the bound is not of the cursor's type")),
    }
}

async fn open_reader(
    run: &RunContext,
    window: &Window,
    session: Option<Box<dyn SourceSession>>,
    cx: &HostContext,
) -> Result<(Reader, TieSplitter, bool)> {
    let plan = &run.plan;
    let config = &plan.config;
    let Some(query) = &plan.query else {
        let stages = run.stages.clone();
        let extractor = blocking(move || stages.extractor())
            .await?
            .ok_or_else(|| Error::internal("the pipeline's extractor is gone"))?;
        let queries = ExtractQueries {
            cursor: config.cursor.clone(),
            batch_rows: config.tuning.batch_rows,
        };
        let stage = ExtractStage::open(extractor, cx.clone(), session, queries).await?;
        let splitter = TieSplitter::new(true, None, plan.options.limit);
        return Ok((
            Reader::Extractor(stage, config.cursor.clone()),
            splitter,
            true,
        ));
    };
    let until = window.until.clone().filter(|_| !query.bounded);
    let splitter = TieSplitter::new(query.ordered, until, plan.options.limit);
    // Rewinding deletes even where there is nothing to read any more.
    if window.empty && !plan.rewinds() && !plan.replaces() {
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
            sql: query.sql.clone(),
            cursor: config.cursor.clone(),
            from: window.from.clone(),
            until: window.until.clone(),
            parameters: Vec::new(),
            batch_rows: config.tuning.batch_rows,
        })
        .await?;
    Ok((Reader::Source(stream), splitter, query.ordered))
}

async fn open_transform(
    run: &RunContext,
    input: SchemaRef,
    cx: &HostContext,
) -> Result<TransformStage> {
    let stages = run.stages.clone();
    let cardinality = run.plan.manifest.cardinality;
    let cx = cx.clone();
    // Nothing will be read, so there is nothing to open a transformer with.
    let idle = input.fields().is_empty();
    blocking(move || {
        let transformer = if idle { None } else { stages.transformer()? };
        TransformStage::open(transformer, cardinality, &input, cx)
    })
    .await
}

/// Makes tables and target ready. `None` if the loader held a commit that the checkpoint did not know, now settled.
async fn open_target(
    run: &RunContext,
    mut writer: Box<dyn PartitionWriter>,
    tables: &[TableSchema],
    nothing: bool,
    window: &Window,
    cx: &HostContext,
    signature: &Signature,
) -> Result<Option<Target>> {
    let plan = &run.plan;
    if nothing {
        return Ok(Some(Target::Sink(writer)));
    }
    let stages = run.stages.clone();
    let loader = if plan.options.dry_run {
        None
    } else {
        blocking(move || stages.loader()).await?
    };
    let delivery = plan.manifest.delivery;
    if !plan.options.dry_run && (loader.is_none() || delivery == Delivery::Transactional) {
        run.sink.prepare(&plan.table_specs(tables)?).await?;
        writer.open_tables().await?;
        if signature.single_commit && !plan.options.allow_duplicates {
            for range in ranges_to_delete(run, tables, window)? {
                writer.delete_range(&range).await?;
            }
        }
    }
    let Some(loader) = loader else {
        return Ok(Some(Target::Sink(writer)));
    };
    let (mut stage, unknown) =
        LoadStage::open(loader, delivery, cx.clone(), writer, tables.to_vec()).await?;
    if let Some(cursor) = unknown {
        stage
            .settle(&Chunk {
                cursor: CursorChange::Set(cursor),
                fingerprint: signature.fingerprint.clone(),
                run_id: signature.run_id.clone(),
                ledger: Ledger::default(),
                dead_letters: Vec::new(),
            })
            .await?;
        return Ok(None);
    }
    Ok(Some(Target::Loader(Box::new(stage))))
}

/// What a rewinding `append` deletes before it loads: the whole partition, or the window.
fn ranges_to_delete(
    run: &RunContext,
    tables: &[TableSchema],
    window: &Window,
) -> Result<Vec<RangeDelete>> {
    let plan = &run.plan;
    let (Some(partition_column), Some(cursor)) =
        (&plan.config.sink.partition_column, &plan.config.cursor)
    else {
        return Ok(Vec::new());
    };
    tables
        .iter()
        .enumerate()
        .map(|(index, table)| {
            let missing = |column: &str| {
                Error::config(format!(
                    "--full-refresh and --since need the column `{column}` in the output, to delete what they load again"
                ))
                .hint("keep the column in the transformer, or give --allow-duplicates")
            };
            table.schema.field_with_name(partition_column).map_err(|_| missing(partition_column))?;
            let range = if plan.options.full_refresh {
                None
            } else {
                let field = table.schema.field_with_name(&cursor.column).map_err(|_| missing(&cursor.column))?;
                let bound = |cursor: &Option<Cursor>| {
                    cursor
                        .as_ref()
                        .map(|cursor| {
                            literal::in_sink(cursor, field.data_type()).ok_or_else(|| {
                                Error::config("the cursor column has a type that cannot be compared in the sink")
                            })
                        })
                        .transpose()
                };
                Some((cursor.column.clone(), bound(&window.from)?, bound(&window.until)?))
            };
            Ok(RangeDelete {
                table: index,
                partition_column: partition_column.clone(),
                range,
            })
        })
        .collect()
}

/// The transforming thread: one batch after the other, in order.
fn transform_all(
    mut stage: TransformStage,
    mut feed: mpsc::Receiver<Result<Feed>>,
    out: &mpsc::Sender<Result<Ready>>,
) {
    while let Some(message) = feed.blocking_recv() {
        let last = !matches!(message, Ok(Feed::Rows(..)));
        let ready = message.and_then(|message| transform_one(&mut stage, message, out));
        if out.blocking_send(ready).is_err() || last {
            return;
        }
    }
}

fn transform_one(
    stage: &mut TransformStage,
    message: Feed,
    out: &mpsc::Sender<Result<Ready>>,
) -> Result<Ready> {
    match message {
        Feed::Rows(piece, mut letters) => {
            let extracted = piece.batch.num_rows() as u64 + letters.len() as u64;
            let input = piece.batch.clone();
            let mut batch = stage.transform(piece.batch)?;
            for rejection in std::mem::take(&mut batch.rejected) {
                letters.push(quarantine::from_transform(&input, rejection)?);
            }
            Ok(Ready::Rows {
                extracted,
                batch,
                letters,
                safe: piece.safe,
            })
        }
        Feed::End(cursor, letters) => {
            let batch = stage.finish()?;
            stage.close(Outcome::Succeeded)?;
            let rest = Ready::Rows {
                extracted: letters.len() as u64,
                batch,
                letters,
                safe: None,
            };
            // If nobody listens any more, the last message will find out too.
            let _ = out.blocking_send(Ok(rest));
            Ok(Ready::End(cursor))
        }
        Feed::Stopped { safe } => {
            stage.close(Outcome::Cancelled)?;
            Ok(Ready::Stopped { safe })
        }
    }
}

async fn close(target: Target, cancelled: bool) -> Result<()> {
    let outcome = if cancelled {
        Outcome::Cancelled
    } else {
        Outcome::Succeeded
    };
    let writer = match target {
        Target::Sink(writer) => writer,
        Target::Loader(loader) => loader.close(outcome).await?,
    };
    // All rows are committed; a connection that is lost now harms nothing.
    if let Err(error) = writer.close().await {
        tracing::debug!(%error, "the sink's connection did not close cleanly");
    }
    Ok(())
}
