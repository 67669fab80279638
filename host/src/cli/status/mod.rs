//! `etl-host status`: what every pipeline does, and what its run uses. On a terminal a table that is drawn anew each
//! second.

mod overview;
mod screen;
mod text;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;

use self::overview::{Overview, Watch};
use self::screen::Screen;
pub use self::text::{mebibytes, seconds};
use super::{Failure, Globals, Output, build_runtime, print, print_json};
use crate::error::Error;
use crate::worker::Running;

/// How often the table is drawn.
const PACE: Duration = Duration::from_secs(1);

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Only this pipeline
    pipeline: Option<String>,
    /// Draw the table anew each second, until `q` or Ctrl-C; as on a terminal
    #[arg(long, conflicts_with = "once")]
    watch: bool,
    /// Show it once; as where there is no terminal
    #[arg(long)]
    once: bool,
}

/// Shows what goes on.
pub fn status(globals: &Globals, command: &Status) -> Result<u8, Failure> {
    let is_terminal = std::io::stdout().is_terminal();
    if command.watch && (!is_terminal || globals.output == Output::Json) {
        return Err(
            Error::config("--watch draws on a terminal, and there is none here")
                .hint("leave it out; `--output json` is for programs")
                .into(),
        );
    }
    let only = command.pipeline.as_deref();
    let mut watch = Watch::open(globals, only)?;
    if globals.output == Output::Json {
        print_json(&watch.look()?.to_json())?;
        return Ok(0);
    }
    if !is_terminal || command.once {
        print(&text::plain(&watch.look()?));
        return Ok(0);
    }
    keep_drawing(globals, &mut watch)
}

fn keep_drawing(globals: &Globals, watch: &mut Watch) -> Result<u8, Failure> {
    // For the signals; it ends with the command.
    let runtime = build_runtime()?;
    let mut screen = Screen::open(&runtime)?;
    let colour = globals.color.on_stdout();
    loop {
        let overview: Overview = watch.look()?;
        let (columns, lines) = screen.size();
        screen.draw(&text::live(&overview, columns, lines, colour))?;
        if screen.wait_for_end(PACE) {
            runtime.shutdown_background();
            return Ok(0);
        }
    }
}

/// Workers as `status` and `info` give them.
pub fn workers_to_json(workers: &[Running]) -> Vec<serde_json::Value> {
    workers
        .iter()
        .map(|worker| {
            serde_json::json!({
                "process": worker.process,
                "partition": worker.label.partition,
                "usage": worker.usage,
            })
        })
        .collect()
}
