//! Changes of checkpoints by hand, and what is refused of them: the same for the command line and the HTTP API.
//!
//! The sink makes the change; whether it would load rows twice is decided here.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use etl_plugin_api::Cursor;

use super::{Checkpoint, compare};
use crate::config::{Config, KeyScope, Split, WriteMode};
use crate::error::{Error, Result};
use crate::sink::{CheckpointEdit, Sink};
use crate::source::parse_position;

/// How both say that rows may be loaded twice.
const ALLOW: &str = "allow it with --allow-duplicates (in the HTTP API `allow_duplicates`)";

/// Changes checkpoints of one pipeline.
pub struct ByHand<'a> {
    sink: &'a dyn Sink,
    config: &'a Config,
    allow_duplicates: bool,
}

/// Where a partition is put.
#[derive(Clone, Debug, Default)]
pub struct Position {
    /// Go on after this, written as the source writes it; where it is if not given.
    pub cursor: Option<String>,
    /// Take the next run's server, database and query for the right ones.
    pub accept_fingerprint: bool,
}

impl<'a> ByHand<'a> {
    /// Changes in this sink. `allow_duplicates` lets `append` load rows again.
    pub fn new(sink: &'a dyn Sink, config: &'a Config, allow_duplicates: bool) -> Self {
        Self {
            sink,
            config,
            allow_duplicates,
        }
    }

    /// Forgets a partition's position. A shard that is split, or was, is started over as a whole: its next run chooses the
    /// ranges anew.
    pub async fn reset(&self, partition: &str) -> Result<()> {
        let name = &self.config.name;
        let known = self.sink.load_checkpoints(name).await?;
        let shards = self.config.source.connector.shard_names();
        let splits = self.config.source.split.is_some() && shards.contains(&partition);
        if splits || self.sink.load_ranges(name).await?.contains_key(partition) {
            let loaded = known.iter().any(|(name, stored)| {
                let of_shard = name == partition || Split::is_range_of(partition, name);
                of_shard && stored.was_loaded()
            });
            if loaded {
                self.refuse_moving(partition)?;
            }
            return self.sink.forget_ranges(name, partition).await;
        }
        let stored = known
            .get(partition)
            .ok_or_else(|| unknown_partition(self.config, partition, &known))?;
        if stored.cursor.is_some() {
            self.refuse_doubling("reset")?;
        }
        self.sink
            .edit_checkpoint(name, partition, &CheckpointEdit::Reset)
            .await
    }

    /// Moves a partition's position. A shard's name stands for all its ranges.
    pub async fn set(&self, partition: &str, position: &Position) -> Result<()> {
        let shards = self.config.source.connector.shard_names();
        match &self.config.source.split {
            Some(split) if shards.contains(&partition) => {
                for range in split.partitions(partition) {
                    self.set_one(&range, position).await?;
                }
                Ok(())
            }
            _ => self.set_one(partition, position).await,
        }
    }

    async fn set_one(&self, partition: &str, position: &Position) -> Result<()> {
        let name = &self.config.name;
        let known = self.sink.load_checkpoints(name).await?;
        let configured = self.config.source.partition_names();
        let stored = match known.get(partition) {
            Some(stored) => stored.clone(),
            // A first position may be set by hand before the first run.
            None if configured.iter().any(|known| known == partition) => Checkpoint::default(),
            None => return Err(unknown_partition(self.config, partition, &known)),
        };
        if let Some(text) = &position.cursor {
            let cursor = parse(self.config, text)?;
            let back = stored
                .cursor
                .as_ref()
                .is_some_and(|known| compare(&cursor, known).is_none_or(Ordering::is_lt));
            if back {
                self.refuse_doubling("set")?;
            }
            self.sink
                .edit_checkpoint(name, partition, &CheckpointEdit::Set(cursor))
                .await?;
        }
        if position.accept_fingerprint {
            self.sink
                .edit_checkpoint(name, partition, &CheckpointEdit::AcceptFingerprint)
                .await?;
        }
        Ok(())
    }

    /// Rows that are read again may then belong to another range, under whose name they are new to the sink.
    fn refuse_moving(&self, partition: &str) -> Result<()> {
        let sink = &self.config.sink;
        let keyed_apart = matches!(
            sink.write_mode,
            WriteMode::Append
                | WriteMode::Upsert {
                    key_scope: KeyScope::Partition,
                    ..
                }
        );
        if !keyed_apart || self.allow_duplicates {
            return Ok(());
        }
        Err(Error::config(format!(
            "checkpoint reset would let the next run load rows of shard {partition} again, in other ranges than those \
             that are in {} already",
            sink.table
        ))
        .hint(format!(
            "delete the shard's rows from the table first, then {ALLOW}"
        )))
    }

    /// Going back behind the checkpoint would load rows twice with `append`.
    fn refuse_doubling(&self, what: &str) -> Result<()> {
        let sink = &self.config.sink;
        if sink.write_mode != WriteMode::Append || self.allow_duplicates {
            return Ok(());
        }
        Err(Error::config(format!(
            "checkpoint {what} would let the next run load rows again that are in {} already",
            sink.table
        ))
        .hint(format!(
            "use `etl-host run --full-refresh` with `sink.partition_column`, which deletes them first, or {ALLOW}"
        )))
    }
}

fn unknown_partition(
    config: &Config,
    partition: &str,
    known: &BTreeMap<String, Checkpoint>,
) -> Error {
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
