//! `etl-host completions`: what a shell needs to complete commands and flags.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, print};

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes completions to stdout.
pub fn completions(command: &Completions) {
    let mut script = Vec::new();
    clap_complete::generate(
        command.shell,
        &mut Arguments::command(),
        "etl-host",
        &mut script,
    );
    print(&String::from_utf8_lossy(&script));
}
