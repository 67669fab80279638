//! `etl-host list`: every file of the plugins folder.

use std::fmt::Write;

use jiff::Timestamp;
use serde_json::json;

use super::schedule::{self, Shown};
use super::table::{indented, table};
use super::{Failure, Globals, Output, print, print_json};
use crate::plugin::Refused;
use crate::session::{Found, Session};
use crate::state::RunRecord;

struct Row {
    found: Found,
    schedule: Option<Shown>,
    config_error: Option<String>,
    parked: bool,
    disabled: bool,
    last_run: Option<RunRecord>,
}

/// Shows all pipelines, and the files that are refused.
pub fn list(globals: &Globals) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for found in session.all() {
        let mut parked = false;
        let (schedule, config_error) = match session.load_config(&found) {
            Ok(loaded) => {
                parked = session.parked(&found, &loaded)?.is_some();
                let effective =
                    schedule::holding(&session, &found, loaded.config.schedule.as_ref())?;
                let shown = Shown::new(&found.manifest.name, effective, now, 1)?;
                (Some(shown), None)
            }
            Err(failure) => (None, Some(failure.to_text())),
        };
        let last_run = session.state.last_run(&found.manifest.name)?;
        rows.push(Row {
            disabled: session.state.is_disabled(&found.manifest.name)?,
            found,
            schedule,
            config_error,
            parked,
            last_run,
        });
    }
    let refused: Vec<(String, &Refused)> = session
        .registry
        .entries()
        .iter()
        .filter_map(|entry| {
            Some((
                entry.path.display().to_string(),
                entry.outcome.as_ref().err()?,
            ))
        })
        .collect();
    if globals.output == Output::Json {
        print_json(&to_json(globals, &rows, &refused))?;
    } else {
        print(&to_text(globals, &rows, &refused));
    }
    Ok(0)
}

fn to_json(globals: &Globals, rows: &[Row], refused: &[(String, &Refused)]) -> serde_json::Value {
    let pipelines: Vec<_> = rows
        .iter()
        .map(|row| {
            let plugin = &row.found.plugin;
            let shown = row.schedule.as_ref();
            json!({
                "name": row.found.manifest.name,
                "version": row.found.manifest.version,
                "description": row.found.manifest.description,
                "plugin": plugin.name,
                "abi": plugin.abi,
                "sha256": plugin.sha256,
                "schedule": shown.and_then(|shown| Some(&shown.effective.schedule.as_ref()?.cron)),
                "schedule_origin": shown.map(|shown| shown.effective.origin),
                "schedule_paused": shown.is_some_and(|shown| shown.effective.paused),
                "last_run": row.last_run,
                "next_run": shown.filter(|_| !row.disabled).and_then(|shown| shown.next.first()),
                "config_error": row.config_error,
                "parked": row.parked,
                "disabled": row.disabled,
            })
        })
        .collect();
    let refused: Vec<_> = refused
        .iter()
        .map(
            |(path, refused)| json!({ "path": path, "reason": refused.reason, "fix": refused.fix }),
        )
        .collect();
    json!({
        "plugins_dir": globals.plugins_dir,
        "pipelines": pipelines,
        "refused": refused,
    })
}

fn to_text(globals: &Globals, rows: &[Row], refused: &[(String, &Refused)]) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            text,
            "No pipelines in {}. `etl-host generate` makes a plugin, `etl-host install` puts it there.",
            globals.plugins_dir.display()
        );
    } else {
        let mut lines = table(
            &[
                "pipeline", "version", "plugin", "abi", "schedule", "last run", "next run",
            ],
            &[],
        );
        for row in rows {
            let last = row.last_run.as_ref().map_or_else(
                || "never".to_owned(),
                |run| {
                    format!(
                        "{} {}",
                        run.started_at.get(..19).unwrap_or(&run.started_at),
                        run.status
                    )
                },
            );
            let schedule = row
                .schedule
                .as_ref()
                .map_or_else(|| "config error".to_owned(), Shown::in_short);
            let next = if row.disabled {
                "stopped".to_owned()
            } else {
                let shown = row.schedule.as_ref();
                shown
                    .and_then(|shown| shown.local(*shown.next.first()?))
                    .unwrap_or_else(|| "-".to_owned())
            };
            lines.add_row([
                row.found.manifest.name.as_str(),
                &row.found.manifest.version,
                &row.found.plugin.name,
                &row.found.plugin.abi,
                &schedule,
                &last,
                &next,
            ]);
        }
        text.push_str(&indented(&lines));
    }
    for row in rows {
        if let Some(error) = &row.config_error {
            let _ = writeln!(
                text,
                "\n{}: the configuration has mistakes\n{error}",
                row.found.manifest.name
            );
        }
    }
    for row in rows.iter().filter(|row| row.parked) {
        let name = &row.found.manifest.name;
        let _ = writeln!(
            text,
            "\n{name}: parked, its plugin crashed in run after run (`etl-host info {name}`); `etl-host enable {name}` lets it run again"
        );
    }
    if !refused.is_empty() {
        text.push_str("\nRefused files:\n");
        for (path, refused) in refused {
            let _ = writeln!(
                text,
                "  {path}\n    why: {}\n    fix: {}",
                refused.reason, refused.fix
            );
        }
    }
    text
}
