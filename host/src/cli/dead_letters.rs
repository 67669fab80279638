//! `etl-host dead-letters`: rows in quarantine, listed, shown and loaded again.

use std::fmt::Write;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::table::{indented, table};
use super::{Failure, Globals, Output, build_runtime, print, print_json, signals};
use crate::dead_letter::StoredLetter;
use crate::dead_letter::view::{LetterView, row};
use crate::error::{Error, Result};
use crate::launch::Launch;
use crate::pool::Pools;
use crate::runtime::replay::ReplayReport;
use crate::session::Session;
use crate::sink::{LetterFilter, build_sink};

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// Rows in quarantine with the reason
    List(List),
    /// Everything about single dead letters, with the row
    Show(Show),
    /// Load rows again after whatever refused them was mended; never overwrites a newer row
    Replay(Selection),
}

/// Flags of `dead-letters list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    selection: Selection,
    /// Also those that were replayed
    #[arg(long)]
    all: bool,
    /// Most lines
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// Flags of `dead-letters show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The pipeline
    pipeline: String,
    /// Numbers of dead letters, from `dead-letters list`
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
pub struct Selection {
    /// The pipeline
    pipeline: String,
    /// Only these, by their numbers; all if none is given
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// Only those of this partition; may be given again
    #[arg(long, value_name = "NAME")]
    partition: Vec<String>,
    /// Only those that this run set aside
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Only those that this stage refused
    #[arg(long, value_enum)]
    stage: Option<StageFlag>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StageFlag {
    /// A value did not fit its column when it was read
    Extract,
    /// The transformer rejected the row
    Transform,
    /// The sink refused the row
    Load,
}

impl Selection {
    fn filter(&self) -> LetterFilter {
        let stage = self.stage.as_ref().and_then(ValueEnum::to_possible_value);
        LetterFilter {
            ids: self.ids.clone(),
            partitions: self.partition.clone(),
            run_id: self.run.clone(),
            stage: stage.map(|value| value.get_name().to_owned()),
            ..LetterFilter::default()
        }
    }
}

/// Lists, shows or replays dead letters.
pub fn dead_letters(globals: &Globals, command: DeadLetters) -> Result<u8, Failure> {
    match command {
        DeadLetters::List(list) => {
            let filter = LetterFilter {
                replayed: list.all,
                limit: list.limit,
                ..list.selection.filter()
            };
            let letters = load(globals, &list.selection.pipeline, &filter)?;
            show_list(globals, &list.selection.pipeline, &letters, list.limit)?;
            Ok(0)
        }
        DeadLetters::Show(show) => {
            let filter = LetterFilter {
                ids: show.ids.clone(),
                replayed: true,
                limit: u32::MAX,
                ..LetterFilter::default()
            };
            let letters = load(globals, &show.pipeline, &filter)?;
            require_all(&show, &letters)?;
            show_all(globals, &show.pipeline, &letters)?;
            Ok(0)
        }
        DeadLetters::Replay(selection) => replay(globals, &selection),
    }
}

fn load(
    globals: &Globals,
    pipeline: &str,
    filter: &LetterFilter,
) -> Result<Vec<StoredLetter>, Failure> {
    let session = Session::open(&globals.folders())?;
    let found = session.find_one(pipeline)?;
    let config = session.load_config(&found)?.config;
    let sink = build_sink(&config.sink, &Arc::new(Pools::new()));
    let letters = build_runtime()?.block_on(sink.load_dead_letters(&config.name, filter))?;
    Ok(letters)
}

fn require_all(show: &Show, letters: &[StoredLetter]) -> Result<()> {
    let missing: Vec<String> = show
        .ids
        .iter()
        .filter(|id| !letters.iter().any(|letter| letter.id == **id))
        .map(i64::to_string)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::config(format!(
        "pipeline {} has no dead letter {}",
        show.pipeline,
        missing.join(", ")
    ))
    .hint(format!(
        "`etl-host dead-letters list {} --all` shows their numbers",
        show.pipeline
    )))
}

fn show_list(
    globals: &Globals,
    pipeline: &str,
    letters: &[StoredLetter],
    limit: u32,
) -> Result<()> {
    if globals.output == Output::Json {
        let letters: Vec<_> = letters.iter().map(LetterView::of).collect();
        return print_json(&json!({ "pipeline": pipeline, "dead_letters": letters }));
    }
    if letters.is_empty() {
        print(&format!("{pipeline}: nothing in quarantine\n"));
        return Ok(());
    }
    let mut lines = table(
        &[
            "id",
            "partition",
            "stage",
            "table",
            "column",
            "set aside",
            "reason",
        ],
        &[0],
    );
    for letter in letters {
        let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let replayed = if letter.replayed_by.is_some() {
            " (replayed)"
        } else {
            ""
        };
        lines.add_row([
            letter.id.to_string(),
            letter.partition.clone(),
            letter.stage.clone(),
            optional(&letter.table),
            optional(&letter.column),
            letter.created_at.clone(),
            format!("{}{replayed}", letter.reason),
        ]);
    }
    let mut text = indented(&lines);
    if letters.len() as u64 >= u64::from(limit) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "the first {limit}; --limit shows more");
    }
    print(&text);
    Ok(())
}

fn show_all(globals: &Globals, pipeline: &str, letters: &[StoredLetter]) -> Result<()> {
    if globals.output == Output::Json {
        let letters: Vec<_> = letters.iter().map(LetterView::with_row).collect();
        return print_json(&json!({ "pipeline": pipeline, "dead_letters": letters }));
    }
    let mut text = String::new();
    for letter in letters {
        let Ok(Value::Object(facts)) = serde_json::to_value(LetterView::of(letter)) else {
            continue;
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "dead letter {}", letter.id);
        for (name, value) in facts.iter().filter(|(name, _)| *name != "id") {
            match value {
                Value::Null => {}
                Value::String(value) => drop(writeln!(text, "  {name}: {value}")),
                value => drop(writeln!(text, "  {name}: {value}")),
            }
        }
        let _ = writeln!(text, "  row:");
        match row(letter) {
            Value::Object(columns) => {
                for (name, value) in columns {
                    let _ = writeln!(text, "    {name}: {value}");
                }
            }
            other => drop(writeln!(text, "    {other}")),
        }
    }
    print(&text);
    Ok(())
}

fn replay(globals: &Globals, selection: &Selection) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let found = session.find_one(&selection.pipeline)?;
    let loaded = session.load_config(&found)?;
    session.refuse_parked(&found, &loaded)?;
    let launch = Launch { found, loaded };
    let stages = launch.open()?;
    let (report, stopped_by) = signals::drive(async |cancel| {
        let pools = Arc::new(Pools::new());
        let replay = launch.build_replay(stages, &pools, &cancel).await?;
        replay.run(selection.filter()).await
    })?;
    if globals.output == Output::Json {
        print_json(&report)?;
    } else {
        print(&to_text(&report));
    }
    Ok(match stopped_by {
        Some(code) if report.cancelled => code,
        _ => u8::from(!report.left.is_empty()),
    })
}

fn to_text(report: &ReplayReport) -> String {
    let mut text = format!(
        "{}: {} dead letters replayed, {} needless because a newer row is there, {} left in quarantine\n",
        report.pipeline,
        report.replayed,
        report.superseded,
        report.left.len()
    );
    for left in &report.left {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}: {}", left.id, left.reason);
    }
    if report.cancelled {
        text.push_str("stopped before the last one; run the command again to go on\n");
    }
    text
}
