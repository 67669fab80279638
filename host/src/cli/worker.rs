//! `etl-host worker`: the process in which a plugin's code runs. Hidden; the host starts it.

use std::process::ExitCode;

use clap::Args;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::worker::serve;

/// Flags of `worker`. They only tell people who look at the processes for whom it works.
#[derive(Debug, Args)]
pub struct Worker {
    /// The pipeline, or the file that is tried
    #[arg(default_value = "")]
    pipeline: String,
    /// The partition
    #[arg(default_value = "")]
    partition: String,
}

/// Serves the host that started this process, by its stdin.
pub fn worker(_command: &Worker) -> ExitCode {
    serve()
}

/// A plugin must not read the memory of the host, nor the environment it was started with.
pub fn protect_host() {
    // Where the kernel refuses, the fence of the worker still stands.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
