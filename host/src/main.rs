//! The `etl-host` program: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use etl_host::cli::{self, Arguments};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::telemetry::install(&arguments);
    let code = cli::main(arguments);
    cli::telemetry::end();
    code
}
