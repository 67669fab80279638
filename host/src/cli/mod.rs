//! The command line: one file per subcommand, results on stdout, everything else on stderr.
//!
//! Commands decide nothing about rows; they build what the other rooms need, call them, and show what came out.

mod backfill;
mod checkpoint;
mod completions;
mod dead_letters;
mod doctor;
mod enable;
mod generate;
mod history;
mod info;
mod install;
mod lifecycle;
mod list;
mod logs;
mod monitor;
mod preview;
mod progress;
mod rows;
mod run;
mod schedule;
mod schema;
mod serve;
mod signals;
mod sparkline;
mod status;
mod table;
pub mod telemetry;
mod validate;
mod verify;
mod worker;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;

use crate::error::Error;
pub(crate) use crate::failure::Failure;
use crate::plugin::load;
use crate::session::Folders;

/// Runs ETL pipelines that are compiled as plugins: drop one into the plugins folder and run it.
#[derive(Debug, Parser)]
#[command(
    name = "etl-host",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Arguments {
    /// What all commands share.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What all commands share.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct Globals {
    /// Folder of PIPELINE.yaml files; they go before those beside the plugins
    #[arg(long, global = true, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// Folder of the plugin libraries
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ETL_PLUGINS_DIR",
        default_value = "plugins"
    )]
    pub plugins_dir: PathBuf,
    /// Folder for what the host keeps for itself (history, copies of plugins)
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ETL_STATE_DIR",
        default_value = ".etl-host"
    )]
    pub state_dir: PathBuf,
    /// Folder of the pipelines' log files [default: `logs` in the state folder]
    #[arg(long, global = true, value_name = "DIR", env = "ETL_LOG_DIR")]
    pub log_dir: Option<PathBuf>,
    /// Form of the log on stderr
    #[arg(
        long,
        global = true,
        value_enum,
        env = "ETL_LOG_FORMAT",
        default_value_t = LogFormat::Text
    )]
    pub log_format: LogFormat,
    /// Form of the results on stdout
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Say more on stderr; twice for every detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

impl Globals {
    /// The folder of the pipelines' log files.
    pub fn log_dir(&self) -> PathBuf {
        self.log_dir
            .clone()
            .unwrap_or_else(|| self.state_dir.join("logs"))
    }

    /// Where the host works.
    pub fn folders(&self) -> Folders {
        Folders {
            config_dir: self.config_dir.clone(),
            plugins_dir: self.plugins_dir.clone(),
            state_dir: self.state_dir.clone(),
            log_dir: self.log_dir(),
        }
    }
}

/// The form of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs; documented in docs/json.md.
    Json,
}

/// The form of the log on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, as in the log files.
    Json,
}

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether stderr is written in colours.
    pub fn on_stderr(self) -> bool {
        self.on(&std::io::stderr())
    }

    /// Whether stdout is written in colours.
    pub fn on_stdout(self) -> bool {
        self.on(&std::io::stdout())
    }

    fn on(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every plugin in the folder with its pipelines; refused files with the reason and the fix
    List,
    /// All about one pipeline: stages, configuration, partitions, checkpoints, last runs
    Info(info::Info),
    /// Run pipelines once, in the foreground
    Run(run::Run),
    /// Run pipelines on their schedules until stopped: the daemon
    Serve(serve::Serve),
    /// Let pipelines run, and start a run of each in the daemon
    Start(lifecycle::Start),
    /// Stop pipelines: their runs end, and none is started by itself
    Stop(lifecycle::Stop),
    /// Move a pipeline's library, configuration and logs to the trash; loaded data stay
    Delete(lifecycle::Delete),
    /// What runs now, with the memory and CPU time of each process
    Status(status::Status),
    /// The runs of the past: how long they took, what they loaded, why they failed
    History(history::History),
    /// What the runs of a pipeline said
    Logs(logs::Logs),
    /// What scripts/monitor-pipelines.sh shows
    #[command(hide = true)]
    Monitor(monitor::Monitor),
    /// Let a pipeline run again that was parked because its plugin crashed too often
    Enable(enable::Enable),
    /// Show or change when a pipeline runs by itself
    Schedule(schedule::ScheduleCommand),
    /// Check plugins and configuration without touching a database
    Validate(validate::Validate),
    /// Connect everywhere a run would, and say what is wrong and how to mend it; writes nothing
    Doctor(doctor::Doctor),
    /// Show the first rows as a table, read and transformed; writes nothing
    Preview(preview::Preview),
    /// Show each column's types from source to sink, and the DDL that a run would execute; writes nothing
    Schema(schema::Schema),
    /// Load a past range again, window by window; goes on where it was stopped
    Backfill(backfill::Backfill),
    /// Compare the sink's rows with the source's, by count and checksum; writes nothing
    Verify(verify::Verify),
    /// Show or change how far partitions have been read
    #[command(subcommand)]
    Checkpoint(checkpoint::Checkpoint),
    /// Show rows in quarantine, and load them again
    #[command(subcommand)]
    DeadLetters(dead_letters::DeadLetters),
    /// Make a new plugin crate that compiles, passes its own tests and runs
    Generate(generate::Generate),
    /// Build a plugin crate, check it, and put it into the plugins folder with its configuration
    Install(install::Install),
    /// Write completions for a shell to stdout
    Completions(completions::Completions),
    /// The process in which a plugin's code runs; the host starts it
    #[command(hide = true)]
    Worker(worker::Worker),
}

/// Runs a command and gives its exit code.
pub fn main(arguments: Arguments) -> ExitCode {
    let Arguments { globals, command } = arguments;
    worker::protect_host();
    let _work = load::OwnWork;
    let result = match command {
        Command::List => list::list(&globals),
        Command::Info(command) => info::info(&globals, &command),
        Command::Run(command) => run::run(&globals, command),
        Command::Start(command) => lifecycle::start(&globals, &command),
        Command::Stop(command) => lifecycle::stop(&globals, &command),
        Command::Delete(command) => lifecycle::delete(&globals, &command),
        Command::Serve(command) => serve::serve(&globals, &command),
        Command::Status(command) => status::status(&globals, &command),
        Command::History(command) => history::history(&globals, &command),
        Command::Logs(command) => logs::logs(&globals, &command),
        Command::Monitor(command) => monitor::monitor(&globals, &command),
        Command::Enable(command) => enable::enable(&globals, &command),
        Command::Schedule(command) => schedule::schedule(&globals, &command),
        Command::Validate(command) => validate::validate(&globals, &command),
        Command::Doctor(command) => doctor::doctor(&globals, &command),
        Command::Schema(command) => schema::schema(&globals, command),
        Command::Preview(command) => preview::preview(&globals, command),
        Command::Backfill(command) => backfill::backfill(&globals, command),
        Command::Verify(command) => verify::verify(&globals, command),
        Command::Checkpoint(command) => checkpoint::checkpoint(&globals, command),
        Command::DeadLetters(command) => dead_letters::dead_letters(&globals, command),
        Command::Generate(command) => generate::generate(&globals, &command),
        Command::Install(command) => install::install(&globals, &command),
        Command::Completions(command) => {
            completions::completions(&command);
            Ok(0)
        }
        Command::Worker(command) => return worker::worker(&command),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if globals.output == Output::Json {
                print(&format!("{}\n", json!({ "error": failure.to_json() })));
            } else {
                eprintln!("error: {}", failure.to_text());
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Writes to stdout. Whoever closes it early (`| head`) wants no more, and that is no error.
pub(crate) fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a result as JSON.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Error> {
    let text = serde_json::to_string(value)
        .map_err(|error| Error::internal("a result cannot be written as JSON").caused_by(error))?;
    print(&format!("{text}\n"));
    Ok(())
}

/// The runtime that commands with connections need.
pub(crate) fn build_runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal("cannot start the runtime").caused_by(error))
}
