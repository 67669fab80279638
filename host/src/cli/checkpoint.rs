//! `etl-host checkpoint`: how far partitions have been read, shown and changed by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::table::{indented, shortened, table, thousands};
use super::{Failure, Globals, Output, build_runtime, print, print_json};
use crate::checkpoint::by_hand::{ByHand, Position};
use crate::checkpoint::view::CheckpointsView;
use crate::checkpoint::{Checkpoint as Stored, display};
use crate::config::Config;
use crate::error::Result;
use crate::pool::Pools;
use crate::session::Session;
use crate::sink::build_sink;

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
#[derive(Debug, Args)]
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
            Checkpoint::Set(set) => {
                let wanted = Position {
                    cursor: set.cursor,
                    accept_fingerprint: set.accept_fingerprint,
                };
                let by_hand = ByHand::new(sink.as_ref(), &config, set.allow_duplicates);
                by_hand.set(&set.partition, &wanted).await?;
            }
            Checkpoint::Reset(reset) => {
                let by_hand = ByHand::new(sink.as_ref(), &config, reset.allow_duplicates);
                by_hand.reset(&reset.partition).await?;
            }
        }
        let stored = sink.load_checkpoints(&config.name).await?;
        show(globals, &config, &stored)
    })?;
    Ok(0)
}

fn show(globals: &Globals, config: &Config, stored: &BTreeMap<String, Stored>) -> Result<()> {
    if globals.output == Output::Json {
        return print_json(&CheckpointsView::of(&config.name, stored));
    }
    if stored.is_empty() {
        print(&format!("{}: nothing was ever committed\n", config.name));
        return Ok(());
    }
    print(&to_text(stored));
    Ok(())
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
