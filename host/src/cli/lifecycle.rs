//! `etl-host start`, `stop` and `delete`: asked of the daemon; without one, done to the state as far as that goes.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Failure, Globals, Output, build_runtime, print, print_json};
use crate::daemon::client::Client;
use crate::daemon::{process_of, trash};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;
use crate::state::{RunningRecord, State};

/// How often is looked whether a run in another process is over.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a run may take to end once it was asked to: longer than the usual `drain_timeout`.
const DRAIN_LIMIT: Duration = Duration::from_mins(10);

/// The same for one that drains nothing.
const STOP_LIMIT: Duration = Duration::from_mins(1);

/// How long the daemon may take to move the files of a pipeline whose run has ended.
const MOVE_LIMIT: Duration = Duration::from_mins(1);

/// Flags of `start`.
#[derive(Debug, Args)]
pub struct Start {
    /// Pipelines, or plugins for all of their pipelines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Only let them run again, by their schedule or somebody else's; needs no daemon
    #[arg(long)]
    no_run: bool,
}

/// Flags of `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    /// Pipelines, or plugins for all of their pipelines
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Roll back what is in flight instead of committing it
    #[arg(long)]
    now: bool,
}

/// Flags of `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// The pipeline, or a plugin with all of its pipelines
    name: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Enables pipelines and starts a run of each in the daemon.
pub fn start(globals: &Globals, command: &Start) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let names = pipelines(&session, &command.names)?;
    for name in &names {
        session.state.set_disabled(name, false)?;
        session.state.forget_crashes(name)?;
        if command.no_run && globals.output == Output::Json {
            print_json(&json!({ "pipeline": name, "run_id": null }))?;
        } else if command.no_run {
            print(&format!("{name}: may run again\n"));
        }
    }
    if command.no_run {
        return Ok(0);
    }
    build_runtime()?.block_on(async {
        let Some(daemon) = Client::open(&globals.state_dir).await? else {
            let names = names.join(" ");
            return Err(Failure::from(
                Error::new(
                    ErrorKind::Refused,
                    format!("no daemon works with {}", globals.state_dir.display()),
                )
                .hint(format!(
                    "start it with `etl-host serve`, or run once in the foreground with `etl-host run {names}`; \
                     what was stopped is enabled again"
                )),
            ));
        };
        for name in &names {
            let started = daemon.post(&path(name, "start"), None).await?;
            let run = started.get("run_id").and_then(Value::as_str);
            if globals.output == Output::Json {
                print_json(&json!({ "pipeline": name, "run_id": run }))?;
            } else if let Some(run) = run {
                print(&format!("{name}: started, run {run}\n"));
            } else {
                print(&format!("{name}: runs already\n"));
            }
        }
        Ok(0)
    })
}

/// Disables pipelines and waits until their runs have ended, in the daemon and elsewhere.
pub fn stop(globals: &Globals, command: &Stop) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let names = pipelines(&session, &command.names)?;
    for name in &names {
        session.state.set_disabled(name, true)?;
    }
    build_runtime()?.block_on(async {
        let daemon = Client::open(&globals.state_dir).await?;
        for name in &names {
            if let Some(daemon) = &daemon {
                let body = json!({ "now": command.now });
                daemon.post(&path(name, "stop"), Some(&body)).await?;
            }
            let ended = end_runs(&session.state, name, command.now).await?;
            if globals.output == Output::Json {
                print_json(&json!({ "pipeline": name, "ended_runs": ended }))?;
            } else {
                print(&format!(
                    "{name}: stopped; `etl-host start {name}` lets it run again\n"
                ));
            }
        }
        Ok(0)
    })
}

/// Moves a pipeline's files to the trash and forgets it.
pub fn delete(globals: &Globals, command: &Delete) -> Result<u8, Failure> {
    let session = Session::open(&globals.folders())?;
    let name = &command.name;
    // What is refused must not have stopped anything.
    let found = trash::check(&session, name)?;
    let names: Vec<String> = found.into_iter().map(|it| it.manifest.name).collect();
    if !command.yes {
        confirm(&names)?;
    }
    let trash = build_runtime()?.block_on(async {
        for name in &names {
            session.state.set_disabled(name, true)?;
        }
        let Some(daemon) = Client::open(&globals.state_dir).await? else {
            for name in &names {
                end_runs(&session.state, name, false).await?;
            }
            return Ok(trash::delete(&session, name)?.display().to_string());
        };
        let deleted = daemon.delete(&format!("/api/v1/pipelines/{name}")).await?;
        if let Some(trash) = deleted.get("trash").and_then(Value::as_str) {
            return Ok(trash.to_owned());
        }
        wait_until_gone(&daemon, &names).await?;
        Ok::<_, Failure>(globals.state_dir.join("trash").display().to_string())
    })?;
    if globals.output == Output::Json {
        print_json(&json!({ "pipelines": names, "trash": trash }))?;
    } else {
        print(&format!(
            "{}: deleted; library, configuration and logs are in {trash}\n\
             What it has loaded stays in the sink, and so do its checkpoints: installed again it goes on where it was.\n",
            names.join(", ")
        ));
    }
    Ok(0)
}

/// Waits for a deletion that the daemon goes on with: first the runs drain, then the files are moved.
async fn wait_until_gone(daemon: &Client, names: &[String]) -> Result<(), Failure> {
    eprintln!("Its run commits what is in flight, which may take as long as `drain_timeout`.");
    for name in names {
        let mut idle_since = None;
        while let Some(view) = daemon.find(&format!("/api/v1/pipelines/{name}")).await? {
            if view.get("current_run").is_some_and(Value::is_null) {
                let since = *idle_since.get_or_insert_with(Instant::now);
                if since.elapsed() > MOVE_LIMIT {
                    return Err(not_gone(name));
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Ok(())
}

fn not_gone(name: &str) -> Failure {
    Error::new(
        ErrorKind::Timeout,
        format!("{name} was stopped, but is still there: the daemon has not deleted it"),
    )
    .hint("`etl-host logs` shows what the daemon said; then delete it again")
    .into()
}

/// The pipelines of these names.
fn pipelines(session: &Session, names: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in names {
        for found in session.find(name)? {
            if !all.contains(&found.manifest.name) {
                all.push(found.manifest.name);
            }
        }
    }
    Ok(all)
}

fn path(name: &str, action: &str) -> String {
    format!("/api/v1/pipelines/{name}/{action}")
}

/// Asks the runs of a pipeline to end wherever they go on, and waits for it. Gives their identifiers.
async fn end_runs(state: &State, name: &str, now: bool) -> Result<Vec<String>> {
    let of_pipeline = |state: &State| -> Result<Vec<RunningRecord>> {
        let mut running = state.running()?;
        running.retain(|run| run.pipeline == name);
        Ok(running)
    };
    // Its runs are ended by asking it.
    let daemon = process_of(state.folder());
    let first = of_pipeline(state)?;
    let other = |run: &&RunningRecord| Some(run.process) != daemon || !run.is_here;
    for run in first.iter().filter(other) {
        if !run.is_here {
            return Err(elsewhere(run));
        }
        let process = i32::try_from(run.process).ok().and_then(Pid::from_raw);
        // The second signal ends it at once. One that has ended meanwhile is what is wanted.
        for _ in 0..=usize::from(now) {
            let _ = process.map(|process| kill_process(process, Signal::TERM));
        }
    }
    let limit = if now { STOP_LIMIT } else { DRAIN_LIMIT };
    let began = Instant::now();
    while let Some(run) = of_pipeline(state)?.first() {
        if began.elapsed() > limit {
            return Err(goes_on(run, now));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(first.into_iter().map(|run| run.run_id).collect())
}

/// The error of one whose process no signal from here reaches.
fn elsewhere(run: &RunningRecord) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!(
            "run {} of {} goes on in process {} of another machine or container",
            run.run_id, run.pipeline, run.process
        ),
    )
    .hint(
        "stop it there, and ask again; the pipeline is stopped already, so it begins no other run",
    )
}

/// The error of one that was asked to end and has not.
fn goes_on(run: &RunningRecord, now: bool) -> Error {
    let RunningRecord {
        run_id,
        pipeline,
        process,
        ..
    } = run;
    let hint = if now {
        format!("kill process {process}: what it has not committed is rolled back")
    } else {
        format!("wait, or roll back what is in flight with `etl-host stop {pipeline} --now`")
    };
    let what = format!(
        "run {run_id} of {pipeline} was asked to end and still goes on in process {process}"
    );
    Error::new(ErrorKind::Timeout, what).hint(hint)
}

fn confirm(names: &[String]) -> Result<()> {
    let what = names.join(", ");
    if !std::io::stdin().is_terminal() {
        return Err(
            Error::config(format!("delete {what}: nobody is there to be asked"))
                .hint("say --yes if it is meant"),
        );
    }
    eprint!(
        "Delete {what}? Library, configuration, schedule, history and logs go; loaded data stay. [y/N] "
    );
    // What cannot be asked is not done.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Error::config("nothing was deleted"))
}
