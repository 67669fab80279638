//! Writes to a `SQLite` file: the embedded default.
//!
//! A file has one writer at a time. Partitions therefore stage their rows in TEMP tables of their own, and only the
//! short merge takes the file's write lock, under a mutex of the host so that partitions queue instead of failing.

mod checkpoint;
mod dead_letters;
mod due;
mod examine;
mod host_tables;
mod lease;
mod merge;
mod ranges;
pub(super) mod table;
mod types;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Mutex;

use self::table::SqliteTable;
use self::write::Staged;
use super::drift::{self, SharedTables};
use super::nul::NulFilter;
use super::{
    CheckpointEdit, Chunk, Claim, Committed, EditIf, Examination, Flush, LetterFilter,
    PartitionWriter, RangeDelete, Sink, StoredRanges, Swap, TableLayout, TablePreview, TableSpec,
    Tenure, Written, table_gone,
};
use crate::checkpoint::{Checkpoint, WrittenTable};
use crate::config::{NulCharacters, WriteMode};
use crate::dead_letter::StoredLetter;
use crate::error::{Error, Result};
use crate::finding::Finding;
use crate::pool::Places;
use crate::task;

/// Longest wait for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Partitions that stage at a time: each takes two threads of its own while it works.
const PARTITIONS_AT_ONCE: u32 = 32;

/// A `SQLite` file, for one run.
pub struct SqliteSink {
    path: PathBuf,
    nuls: NulCharacters,
    shared: Arc<Shared>,
    places: Places,
}

#[derive(Default)]
struct Shared {
    tables: Mutex<SharedTables<SqliteTable>>,
    /// Held by the partition that writes to the file; by its blocking thread, which may outlive the attempt.
    writer: Arc<Mutex<()>>,
}

impl SqliteSink {
    /// A sink on this file. Opens nothing.
    pub fn new(path: PathBuf, nuls: NulCharacters) -> Self {
        Self {
            path,
            nuls,
            shared: Arc::default(),
            places: Places::new(PARTITIONS_AT_ONCE),
        }
    }

    /// Runs work on a connection that writes nothing. What is not there yet holds nothing.
    async fn as_reader<T: Default + Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if !self.path.exists() {
            return Ok(T::default());
        }
        let path = self.path.clone();
        task::spawn_blocking(move || work(&open_to_read(&path)?))
            .await?
            .map_err(|error| error.while_trying(format!("read the sink {}", self.path.display())))
    }

    /// Runs work on a connection of its own, as the only writer of this host.
    async fn as_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let writer = self.shared.writer.clone().lock_owned().await;
        let path = self.path.clone();
        task::spawn_blocking(move || {
            let _writer = writer;
            work(&open_file(&path)?)
        })
        .await?
    }
}

fn open_file(path: &Path) -> Result<Connection> {
    let describe = |error: rusqlite::Error| {
        Error::from(error).while_trying(format!("open the sink {}", path.display()))
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|error| {
            Error::new(
                crate::error::ErrorKind::Refused,
                format!("cannot create the folder {}: {error}", folder.display()),
            )
        })?;
    }
    let connection = Connection::open(path).map_err(describe)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(describe)?;
    // Readers are not stopped by a merge, and a commit is one write to the log.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .map_err(describe)?;
    Ok(connection)
}

fn open_to_read(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // The first read finds out whether this is a database at all.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// The file to read; an empty database for one that is not there yet.
fn open_as_is(path: &Path) -> Result<Connection> {
    if path.exists() {
        open_to_read(path)
    } else {
        Ok(Connection::open_in_memory()?)
    }
}

#[async_trait]
impl Sink for SqliteSink {
    async fn load_checkpoints(&self, pipeline: &str) -> Result<BTreeMap<String, Checkpoint>> {
        let pipeline = pipeline.to_owned();
        self.as_reader(move |connection| checkpoint::load(connection, &pipeline))
            .await
    }

    async fn load_dead_letters(
        &self,
        pipeline: &str,
        filter: &LetterFilter,
    ) -> Result<Vec<StoredLetter>> {
        let (pipeline, filter) = (pipeline.to_owned(), filter.clone());
        self.as_reader(move |connection| dead_letters::load(connection, &pipeline, &filter))
            .await
    }

    async fn edit_checkpoint(
        &self,
        pipeline: &str,
        partition: &str,
        edit: &CheckpointEdit,
        edit_if: &EditIf,
    ) -> Result<bool> {
        let (pipeline, partition) = (pipeline.to_owned(), partition.to_owned());
        let (edit, edit_if) = (edit.clone(), edit_if.clone());
        self.as_writer(move |connection| {
            host_tables::ensure(connection)?;
            write::transaction(connection, || {
                checkpoint::edit(connection, &pipeline, &partition, &edit, &edit_if)
            })
        })
        .await
    }

    async fn load_ranges(&self, pipeline: &str) -> Result<BTreeMap<String, StoredRanges>> {
        let pipeline = pipeline.to_owned();
        self.as_reader(move |connection| ranges::load(connection, &pipeline))
            .await
    }

    async fn keep_ranges(
        &self,
        pipeline: &str,
        shard: &str,
        chosen: &StoredRanges,
    ) -> Result<StoredRanges> {
        let (pipeline, shard, chosen) = (pipeline.to_owned(), shard.to_owned(), chosen.clone());
        self.as_writer(move |connection| {
            write::transaction(connection, || {
                ranges::keep(connection, &pipeline, &shard, &chosen)
            })
        })
        .await
    }

    async fn forget_ranges(
        &self,
        pipeline: &str,
        shard: &str,
        only_unloaded: bool,
    ) -> Result<bool> {
        let (pipeline, shard) = (pipeline.to_owned(), shard.to_owned());
        self.as_writer(move |connection| {
            host_tables::ensure(connection)?;
            write::transaction(connection, || {
                ranges::forget(connection, &pipeline, &shard, only_unloaded)
            })
        })
        .await
    }

    async fn begin(&self, claim: &Claim) -> Result<Box<dyn PartitionWriter>> {
        let path = self.path.clone();
        let owned = claim.clone();
        let writer = self.shared.writer.clone().lock_owned().await;
        let (connection, checkpoint) = task::spawn_blocking(move || {
            let _writer = writer;
            let connection = open_file(&path)?;
            host_tables::ensure(&connection)?;
            let checkpoint =
                write::transaction(&connection, || checkpoint::begin(&connection, &owned))?;
            Ok::<_, Error>((connection, checkpoint))
        })
        .await??;
        Ok(Box::new(SqliteWriter {
            connection: Some(connection),
            claim: claim.clone(),
            checkpoint,
            shared: self.shared.clone(),
            tables: Arc::default(),
            staged: Staged::default(),
            nuls: NulFilter::new(self.nuls, claim),
        }))
    }

    async fn renew(&self, tenure: &Tenure) -> Result<()> {
        let tenure = tenure.clone();
        self.as_writer(move |connection| lease::renew(connection, &tenure))
            .await
    }

    async fn release(&self, tenure: &Tenure, leased: Option<&str>) -> Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        let (tenure, leased) = (tenure.clone(), leased.map(str::to_owned));
        self.as_writer(move |connection| {
            // A run that came to no partition has made nothing.
            if host_tables::exist(connection)? {
                lease::release(connection, &tenure, leased.as_deref())?;
            }
            Ok(())
        })
        .await
    }

    fn places(&self) -> Places {
        self.places.clone()
    }

    async fn swap(&self, swap: &Swap) -> Result<()> {
        let tables = self.shared.tables.lock().await.tables();
        let swap = swap.clone();
        self.as_writer(move |connection| write::swap(connection, &tables, &swap))
            .await
    }

    async fn discard(&self, swap: &Swap) -> Result<()> {
        let tables = self.shared.tables.lock().await.tables();
        let swap = swap.clone();
        self.as_writer(move |connection| write::discard(connection, tables.len(), &swap))
            .await
    }

    async fn examine(&self, _: &WriteMode) -> Examination {
        examine::examine(&self.path).await
    }

    async fn examine_tables(&self, tables: &[TableSpec]) -> Vec<Finding> {
        examine::examine_tables(&self.path, tables).await
    }

    async fn preview_tables(
        &self,
        partition: &str,
        before: &[WrittenTable],
        tables: &[TableSpec],
    ) -> Result<TablePreview> {
        let path = self.path.clone();
        let (partition, before) = (partition.to_owned(), before.to_vec());
        let tables = tables.to_vec();
        task::spawn_blocking(move || {
            let connection = open_as_is(&path)?;
            let mut preview = TablePreview::default();
            for spec in &tables {
                let (ddl, table) = table::compare(&connection, spec)?;
                preview.statements.extend(ddl);
                if let Some(table) = table {
                    let warnings = drift::check(&partition, spec, &before, &table)?;
                    preview.warnings.extend(warnings);
                }
            }
            Ok(preview)
        })
        .await?
    }

    async fn load_layouts(&self, tables: &[TableSpec]) -> Result<Vec<TableLayout>> {
        let (path, tables) = (self.path.clone(), tables.to_vec());
        task::spawn_blocking(move || {
            let connection = open_as_is(&path)?;
            let layouts = tables.iter();
            layouts
                .map(|spec| table::load_layout(&connection, spec))
                .collect()
        })
        .await?
    }
}

/// Makes the tables ready. Each attempt looks for itself: somebody may have changed a table.
async fn prepare(
    shared: &Shared,
    writer: &mut SqliteWriter,
    specs: &[TableSpec],
) -> Result<Arc<Vec<SqliteTable>>> {
    let mut prepared = shared.tables.lock().await;
    let partition = writer.claim.partition.clone();
    prepared.require_alike(&partition, specs)?;
    let wanted = specs.to_vec();
    let replay = writer.claim.replay;
    let tables = writer
        .writing(move |connection| {
            write::transaction(connection, || {
                wanted
                    .iter()
                    .map(|spec| {
                        // A replay makes no table: under another name by now, its rows are elsewhere.
                        if replay && !table::exists(connection, spec)? {
                            return Err(table_gone(spec));
                        }
                        table::prepare(connection, spec)
                    })
                    .collect::<Result<Vec<_>>>()
            })
        })
        .await?;
    for table in &tables {
        let before = writer.claim.columns_before(&writer.checkpoint);
        for warning in drift::check(&partition, &table.spec, before, table)? {
            tracing::warn!(pipeline = writer.claim.tenure.pipeline, "{warning}");
        }
    }
    let tables = Arc::new(tables);
    prepared.keep(&partition, specs, tables.clone());
    Ok(tables)
}

struct SqliteWriter {
    /// `None` while a blocking thread uses it, and for ever after that thread was lost.
    connection: Option<Connection>,
    claim: Claim,
    checkpoint: Checkpoint,
    shared: Arc<Shared>,
    tables: Arc<Vec<SqliteTable>>,
    staged: Staged,
    nuls: NulFilter,
}

impl SqliteWriter {
    /// As [`blocking`](Self::blocking), as the only writer of this host.
    async fn writing<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let writer = self.shared.writer.clone().lock_owned().await;
        self.blocking(move |connection| {
            let _writer = writer;
            work(connection)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = self
            .connection
            .take()
            .ok_or_else(|| Error::internal("a writer was used after it failed"))?;
        let (connection, result) = task::spawn_blocking(move || {
            let result = work(&connection);
            (connection, result)
        })
        .await?;
        self.connection = Some(connection);
        result
    }
}

#[async_trait]
impl PartitionWriter for SqliteWriter {
    fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    async fn open_tables(&mut self, tables: &[TableSpec]) -> Result<()> {
        let shared = self.shared.clone();
        let tables = prepare(&shared, self, tables).await?;
        self.tables = tables.clone();
        self.staged.rows = vec![0; tables.len()];
        let claim = self.claim.clone();
        self.writing(move |connection| write::open_tables(connection, &tables, &claim))
            .await
    }

    async fn delete_range(&mut self, range: &RangeDelete) -> Result<()> {
        self.staged.deletes.push(range.clone());
        Ok(())
    }

    // What the table itself refuses shows when staged rows are merged.
    async fn write(&mut self, flush: &Flush, _most_refused: u64) -> Result<Written> {
        let Some(table) = self.tables.get(flush.table).cloned() else {
            return Err(Error::internal(format!(
                "there is no output table number {}",
                flush.table
            )));
        };
        let index = flush.table;
        let columns = table
            .columns
            .iter()
            .map(|(index, name)| (*index, name.as_str()))
            .collect::<Vec<_>>();
        let batches = self
            .nuls
            .clean(&table.spec.name, &columns, &flush.batches)?
            .into_owned();
        let refuse_nul = self.nuls.sets_aside();
        let written = self
            .blocking(move |connection| {
                write::stage(connection, &table, index, &batches, refuse_nul)
            })
            .await?;
        if let Some(rows) = self.staged.rows.get_mut(index) {
            *rows += written.loaded;
        }
        Ok(written)
    }

    async fn commit(&mut self, chunk: &Chunk) -> Result<Committed> {
        let rows = vec![0; self.tables.len()];
        let staged = std::mem::replace(
            &mut self.staged,
            Staged {
                rows,
                deletes: Vec::new(),
            },
        );
        let (tables, claim) = (self.tables.clone(), self.claim.clone());
        let mut chunk = chunk.clone();
        let epoch = self.checkpoint.epoch;
        self.writing(move |connection| {
            write::commit(connection, &tables, &claim, epoch, &staged, &mut chunk)
        })
        .await
    }

    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
