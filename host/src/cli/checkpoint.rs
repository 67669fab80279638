//! `etl-host checkpoint`: how far partitions have been read, shown and changed by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::{Args, Subcommand};
use etl_plugin_api::Cursor;
use serde_json::json;

use super::table::{indented, shortened, table, thousands};
use super::{Failure, Globals, Output, build_runtime, print, print_json};
use crate::checkpoint::{Checkpoint as Stored, display};
use crate::config::{Config, KeyScope, Split, WriteMode};
use crate::error::{Error, Result};
use crate::pool::Pools;
use crate::session::Session;
use crate::sink::{CheckpointEdit, Sink, build_sink};
use crate::source::parse_position;

/// What to do with checkpoints.
#[derive(Debug, Subcommand)]
pub enum Checkpoint {
    /// Every partition's position
    Show(Show),
    /// Move a partition's position, or accept that its server or query has changed
    Set(Set),
    /// Forget a partition's position: the next run starts at the beginning
    Reset(Reset),
}

/// Flags of `checkpoint show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The pipeline
    pipeline: String,
}

/// Flags of `checkpoint set`.
#[derive(Clone, Debug, Args)]
pub struct Set {
    /// The pipeline
    pipeline: String,
    /// The partition; the name of a split shard stands for all its ranges
    #[arg(long, value_name = "NAME")]
    partition: String,
    /// Go on after this position, written as the source writes it
    #[arg(long, required_unless_present = "accept_fingerprint")]
    cursor: Option<String>,
    /// Take the next run's server, database and query for the right ones
    #[arg(long)]
    accept_fingerprint: bool,
    /// With `write_mode: append` a position further back loads rows again
    #[arg(long)]
    allow_duplicates: bool,
}

/// Flags of `checkpoint reset`.
#[derive(Debug, Args)]
pub struct Reset {
    /// The pipeline
    pipeline: String,
    /// The partition; the name of a split shard stands for all its ranges
    #[arg(long, value_name = "NAME")]
    partition: String,
    /// With `write_mode: append` the next run loads every row again
    #[arg(long)]
    allow_duplicates: bool,
}

/// Shows or changes checkpoints.
pub fn checkpoint(globals: &Globals, command: Checkpoint) -> Result<u8, Failure> {
    let name = match &command {
        Checkpoint::Show(show) => &show.pipeline,
        Checkpoint::Set(set) => &set.pipeline,
        Checkpoint::Reset(reset) => &reset.pipeline,
    };
    let session = Session::open(&globals.folders())?;
    let found = session.find_one(name)?;
    let config = session.load_config(&found)?.config;
    let sink = build_sink(&config.sink, &Arc::new(Pools::new()));
    let runtime = build_runtime()?;
    runtime.block_on(async {
        match command {
            Checkpoint::Show(_) => {}
            Checkpoint::Set(set) => apply_set(sink.as_ref(), &config, set).await?,
            Checkpoint::Reset(reset) => {
                apply_reset(sink.as_ref(), &config, &reset).await?;
            }
        }
        let stored = sink.load_checkpoints(&config.name).await?;
        show(globals, &config, &stored)
    })?;
    Ok(0)
}

/// A shard that is split, or was, is started over as a whole: its next run chooses the ranges anew.
async fn apply_reset(sink: &dyn Sink, config: &Config, reset: &Reset) -> Result<()> {
    let (name, partition) = (&config.name, &reset.partition);
    let known = sink.load_checkpoints(name).await?;
    let shards = config.source.connector.shard_names();
    let splits = config.source.split.is_some() && shards.contains(&partition.as_str());
    if splits || sink.load_ranges(name).await?.contains_key(partition) {
        let loaded = known.iter().any(|(name, stored)| {
            let of_shard = name == partition || Split::is_range_of(partition, name);
            of_shard && stored.was_loaded()
        });
        if loaded {
            refuse_moving(config, reset)?;
        }
        return sink.forget_ranges(name, partition).await;
    }
    let stored = known
        .get(partition)
        .ok_or_else(|| unknown_partition(config, partition, &known))?;
    if stored.cursor.is_some() {
        refuse_doubling(config, reset.allow_duplicates, "reset")?;
    }
    sink.edit_checkpoint(name, partition, &CheckpointEdit::Reset)
        .await
}

/// Rows that are read again may then belong to another range, under whose name they are new to the sink.
fn refuse_moving(config: &Config, reset: &Reset) -> Result<()> {
    let keyed_apart = matches!(
        config.sink.write_mode,
        WriteMode::Append
            | WriteMode::Upsert {
                key_scope: KeyScope::Partition,
                ..
            }
    );
    if !keyed_apart || reset.allow_duplicates {
        return Ok(());
    }
    Err(Error::config(format!(
        "checkpoint reset would let the next run load rows of shard {} again, in other ranges than those that are in {} already",
        reset.partition, config.sink.table
    ))
    .hint("delete the shard's rows from the table first, then give --allow-duplicates"))
}

async fn apply_set(sink: &dyn Sink, config: &Config, set: Set) -> Result<()> {
    let split = config.source.split.as_ref();
    let shards = config.source.connector.shard_names();
    let Some(split) = split.filter(|_| shards.contains(&set.partition.as_str())) else {
        return set_one(sink, config, &set).await;
    };
    // A shard's name stands for all its ranges.
    for partition in split.partitions(&set.partition) {
        let of_range = Set {
            partition,
            ..set.clone()
        };
        set_one(sink, config, &of_range).await?;
    }
    Ok(())
}

async fn set_one(sink: &dyn Sink, config: &Config, set: &Set) -> Result<()> {
    let known = sink.load_checkpoints(&config.name).await?;
    let configured = config.source.partition_names();
    let stored = match known.get(&set.partition) {
        Some(stored) => stored.clone(),
        // A first position may be set by hand before the first run.
        None if configured.contains(&set.partition) => Stored::default(),
        None => return Err(unknown_partition(config, &set.partition, &known)),
    };
    if let Some(text) = &set.cursor {
        let cursor = parse(config, text)?;
        let back = stored.cursor.as_ref().is_some_and(|known| {
            crate::checkpoint::compare(&cursor, known).is_none_or(std::cmp::Ordering::is_lt)
        });
        if back {
            refuse_doubling(config, set.allow_duplicates, "set")?;
        }
        sink.edit_checkpoint(&config.name, &set.partition, &CheckpointEdit::Set(cursor))
            .await?;
    }
    if set.accept_fingerprint {
        sink.edit_checkpoint(
            &config.name,
            &set.partition,
            &CheckpointEdit::AcceptFingerprint,
        )
        .await?;
    }
    Ok(())
}

fn unknown_partition(config: &Config, partition: &str, known: &BTreeMap<String, Stored>) -> Error {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    Error::config(format!(
        "pipeline {} has no checkpoint of a partition `{partition}`",
        config.name
    ))
    .hint(if names.is_empty() {
        "run the pipeline first".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    })
}

/// Going back behind the checkpoint would load rows twice with `append`.
fn refuse_doubling(config: &Config, allowed: bool, what: &str) -> Result<()> {
    if config.sink.write_mode != WriteMode::Append || allowed {
        return Ok(());
    }
    Err(Error::config(format!(
        "checkpoint {what} would let the next run load rows again that are in {} already",
        config.sink.table
    ))
    .hint("use `etl-host run --full-refresh` with `sink.partition_column`, which deletes them first, or give --allow-duplicates"))
}

fn parse(config: &Config, text: &str) -> Result<Cursor> {
    let Some(cursor) = &config.cursor else {
        return Err(Error::config(format!(
            "pipeline {} has no `cursor`",
            config.name
        )));
    };
    // The source says at the next run if this is not how its times are written.
    parse_position(cursor, text, |time| Some(time.to_owned()))
}

fn show(globals: &Globals, config: &Config, stored: &BTreeMap<String, Stored>) -> Result<()> {
    if globals.output == Output::Json {
        let partitions: Vec<_> = stored
            .iter()
            .map(|(name, checkpoint)| to_json(name, checkpoint))
            .collect();
        return print_json(&json!({ "pipeline": config.name, "partitions": partitions }));
    }
    if stored.is_empty() {
        print(&format!("{}: nothing was ever committed\n", config.name));
        return Ok(());
    }
    print(&to_text(stored));
    Ok(())
}

/// A checkpoint as `--output json` shows it.
pub fn to_json(name: &str, checkpoint: &Stored) -> serde_json::Value {
    json!({
        "name": name,
        "cursor": checkpoint.cursor.as_ref().map(display),
        "epoch": checkpoint.epoch,
        "fingerprint": checkpoint.fingerprint,
        "run_id": checkpoint.run_id,
        "updated_at": checkpoint.updated_at,
    })
}

/// Checkpoints as people read them.
pub fn to_text(stored: &BTreeMap<String, Stored>) -> String {
    let mut lines = table(
        &[
            "partition",
            "cursor",
            "epoch",
            "loaded last",
            "updated",
            "from",
        ],
        &[2, 3],
    );
    for (name, checkpoint) in stored {
        lines.add_row([
            name.clone(),
            checkpoint
                .cursor
                .as_ref()
                .map_or_else(|| "-".to_owned(), |cursor| shortened(&display(cursor))),
            checkpoint.epoch.to_string(),
            thousands(checkpoint.ledger.loaded),
            checkpoint.updated_at.clone().unwrap_or_default(),
            checkpoint
                .fingerprint
                .clone()
                .unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    indented(&lines)
}
