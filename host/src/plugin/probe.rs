//! The second door: a worker process loads the file first, behind the fence that every plugin runs behind.
//!
//! Whatever the library does there (crash, hang, exit) happens to the worker. Its word counts only if it is complete;
//! an exit code of 0 proves nothing, because a library can exit too.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use etl_plugin_api::{ErrorKind, Manifest};
use serde::{Deserialize, Serialize};

use super::Refused;
use super::cache::StoredCopy;
use crate::error::Result;
use crate::worker::{Fence, Label, Launch, NotStarted, Worker};

/// Longest time a library may take to load and describe itself.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What a library says of itself, or why it cannot be used.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probed {
    /// It loads; these are its pipelines.
    Usable {
        /// The interface it was built for.
        abi: String,
        /// Its pipelines.
        pipelines: Vec<Manifest>,
    },
    /// It does not.
    Unusable(Refused),
}

/// Lets a worker of this very program load the file.
pub fn ask(host_binary: &Path, copy: &StoredCopy) -> Result<Probed> {
    let name = copy.file_name().unwrap_or_default().to_string_lossy();
    tracing::debug!(file = %name, "a worker process tries the file");
    let launch = Launch {
        program: host_binary.to_owned(),
        copy: copy.clone(),
        pipeline: None,
        settings: String::new(),
        fence: Fence::of_probe(),
        label: Label {
            pipeline: name.into_owned(),
            partition: String::new(),
        },
        redactor: std::sync::Arc::default(),
        patience: PATIENCE,
    };
    let crashed = |what: String| {
        Probed::Unusable(Refused::new(
            format!("loading it crashes: the process that tried it {what}"),
            "the file is damaged or misbehaves: build it again and copy the finished file",
        ))
    };
    Ok(match Worker::launch(&launch) {
        Ok(worker) => match worker.hello().loaded.clone() {
            Ok(description) => Probed::Usable {
                abi: description.abi,
                pipelines: description.pipelines,
            },
            Err(refused) => Probed::Unusable(refused),
        },
        Err(NotStarted::Host(error)) => return Err(error),
        Err(NotStarted::Garbage(what)) => crashed(format!("sent {what}")),
        Err(NotStarted::TooLate(_)) => Probed::Unusable(Refused::new(
            format!("it does not finish loading within {} s", PATIENCE.as_secs()),
            "do no work in constructors or in `manifest`; if the machine was only slow, copy the file again",
        )),
        Err(NotStarted::Ended(ending)) => {
            // Whoever was ended by a limit has nothing to add.
            let last = ending
                .last_lines
                .last()
                .filter(|_| ending.kind() == ErrorKind::Crashed)
                .map_or_else(String::new, |line| format!(": {line}"));
            let signal = ending.status.and_then(|status| status.signal());
            match crashed(format!("{}{last}", ending.words())) {
                // Not by the file's own doing: perhaps the machine was out of memory.
                Probed::Unusable(refused) if signal == Some(libc::SIGKILL) => {
                    Probed::Unusable(refused.for_now())
                }
                probed => probed,
            }
        }
    })
}
