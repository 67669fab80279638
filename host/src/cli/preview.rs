//! `etl-host preview`: the first rows of a pipeline, read and transformed, and written nowhere.

use std::fmt::Write;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::rows::{self, Room};
use super::run::{IsolationFlag, failure_to_text};
use super::table::thousands;
use super::{Failure, Globals, Output, print, print_json, signals};
use crate::config::Sink as SinkConfig;
use crate::error::{ErrorKind, Result};
use crate::launch::build_plan;
use crate::plan::{LastStage, Purpose, RunOptions};
use crate::pool::Pools;
use crate::runtime::preview::{self, Beginning, Place};
use crate::runtime::report;
use crate::sample::ShownTable;
use crate::session::Session;
use crate::sink::{Sink, build_sink};
use crate::source::build_source;

/// Flags of `preview`.
#[derive(Debug, Args)]
pub struct Preview {
    /// The pipeline
    pipeline: String,
    /// The last stage that the rows go through
    #[arg(long, value_enum, default_value_t = StageFlag::Transform)]
    stage: StageFlag,
    /// Most rows that are read
    #[arg(long, value_name = "ROWS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// This partition, instead of the first
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Start at the beginning instead of the checkpoint
    #[arg(long)]
    full_refresh: bool,
    /// Start after this position
    #[arg(long, value_name = "CURSOR")]
    since: Option<String>,
    /// Stop at this position
    #[arg(long, value_name = "CURSOR")]
    until: Option<String>,
    /// Whole values and all columns, however long the lines become
    #[arg(long)]
    wide: bool,
    /// Where the plugin's code runs, in place of what the configuration says
    #[arg(long, value_enum)]
    isolation: Option<IsolationFlag>,
}

/// The last stage that rows go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StageFlag {
    /// As they are read.
    Extract,
    /// As they would be loaded.
    Transform,
}

impl From<StageFlag> for LastStage {
    fn from(flag: StageFlag) -> Self {
        match flag {
            StageFlag::Extract => Self::Extract,
            StageFlag::Transform => Self::Transform,
        }
    }
}

/// Shows the rows.
pub fn preview(globals: &Globals, command: Preview) -> Result<u8, Failure> {
    let options = RunOptions {
        purpose: Purpose::Preview,
        partitions: command.partition.into_iter().collect(),
        full_refresh: command.full_refresh,
        since: command.since,
        until: command.until,
        limit: Some(command.limit),
        dry_run: true,
        shown_after: command.stage.into(),
        ..RunOptions::default()
    };
    let (looked, stopped_by) = look(
        globals,
        &command.pipeline,
        command.isolation,
        options,
        async |seen, _, _| Ok(seen),
    )?;
    show(globals, looked, stopped_by, |seen| {
        to_text(seen, Room::of_stdout(command.wide))
    })
}

/// Looks at a pipeline's rows, and lets `work` go on with what was seen and with the sink. Gives what came out, and the
/// code of the signal that stopped it, if one did.
pub fn look<T>(
    globals: &Globals,
    pipeline: &str,
    isolation: Option<IsolationFlag>,
    options: RunOptions,
    work: impl AsyncFnOnce(preview::Preview, Arc<dyn Sink>, &SinkConfig) -> Result<T>,
) -> Result<(Result<T>, Option<u8>), Failure> {
    let session = Session::open(&globals.folders())?;
    let found = session.find_one(pipeline)?;
    let mut loaded = session.load_config(&found)?;
    if let Some(isolation) = isolation {
        loaded.config.isolation = isolation.into();
    }
    let stages = Session::open_stages(&found, &loaded)?;
    let (looked, stopped_by) = signals::drive_reading(async |cancel| {
        let pools = Arc::new(Pools::new());
        let plan = build_plan(found, loaded, &stages, options, &cancel).await?;
        let source = build_source(&plan.config.source, &pools);
        let config = plan.config.sink.clone();
        let sink: Arc<dyn Sink> = Arc::from(build_sink(&plan.config.sink, &pools));
        let seen = preview::preview(plan, &stages, source, &sink, &cancel).await;
        Ok(match seen {
            Ok(seen) => work(seen, sink, &config).await,
            Err(error) => Err(error),
        })
    })?;
    Ok((looked, stopped_by))
}

/// Shows what came out, or why nothing did: with what the plugin said last, as a run's report has it.
pub fn show<T: serde::Serialize>(
    globals: &Globals,
    looked: Result<T>,
    stopped_by: Option<u8>,
    to_text: impl FnOnce(&T) -> String,
) -> Result<u8, Failure> {
    let error = match looked {
        Ok(seen) if globals.output == Output::Json => {
            print_json(&seen)?;
            return Ok(0);
        }
        Ok(seen) => {
            print(&to_text(&seen));
            return Ok(0);
        }
        Err(error) => error,
    };
    if let (ErrorKind::Cancelled, Some(code)) = (error.kind(), stopped_by) {
        return Ok(code);
    }
    let failure = report::Failure::new(error.to_string(), &error);
    if globals.output == Output::Json {
        print_json(&json!({ "error": failure }))?;
    } else {
        eprint!("{}", failure_to_text(&failure));
    }
    Ok(Failure::Host(error).exit_code())
}

fn to_text(seen: &preview::Preview, room: Room) -> String {
    let mut text = String::new();
    let several = match seen.partitions {
        1 => String::new(),
        many => format!(", one of {many} (--partition shows another one)"),
    };
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        text,
        "{}, after {}: partition {}{several}",
        seen.pipeline, seen.stage, seen.partition
    );
    let _ = writeln!(text, "  {}", beginning(&seen.begins));
    let mut fates = vec![format!("{} read", rows::rows(seen.rows.extracted))];
    if seen.rows.extracted >= seen.limit {
        fates.push(format!("as many as --limit {} allows", seen.limit));
    }
    if seen.rows.filtered > 0 {
        fates.push(format!("{} filtered", thousands(seen.rows.filtered)));
    }
    if seen.rows.quarantined > 0 {
        fates.push(format!("{} set aside", thousands(seen.rows.quarantined)));
    }
    let _ = writeln!(text, "  {}", fates.join(", "));
    if seen.aggregates {
        let read = rows::rows(seen.rows.extracted);
        let _ = writeln!(
            text,
            "  the transformer aggregates, and has seen these {read} only"
        );
    }
    for (name, count) in &seen.counters {
        let _ = writeln!(text, "  {name}: {}", thousands(*count));
    }
    if seen.shown.tables.is_empty() {
        text.push_str("\nthe source has no rows; its columns are\n");
        text.push_str(&rows::table_to_text(
            &ShownTable {
                table: String::new(),
                columns: seen.source_columns.clone(),
                rows: Vec::new(),
                total: 0,
            },
            room,
        ));
    }
    text.push_str(&rows::to_text(&seen.shown, room));
    text
}

fn beginning(begins: &Beginning) -> String {
    let position = begins.position.as_deref().unwrap_or_default();
    match (begins.at, &begins.reason) {
        (Place::Checkpoint, _) => format!("rows after {position}, where the next run begins"),
        (Place::Since, _) => format!("rows after {position}"),
        (Place::Beginning, None) => "rows from the beginning".to_owned(),
        (Place::Beginning, Some(reason)) => format!("rows from the beginning: {reason}"),
    }
}
