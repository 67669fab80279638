//! The second door: a child process loads the file first.
//!
//! Whatever the library does there (crash, hang, exit) happens to the child. The child's word counts only if it is
//! complete; an exit code of 0 proves nothing, because a library can exit too.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use etl_plugin_api::Manifest;
use serde::{Deserialize, Serialize};

use super::{Refused, load};
use crate::error::{Error, Result};

/// Longest time a library may take to load and describe itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// Stands before the child's word, since a library may print too.
const MARK: &str = "etl-host-probe: ";

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

/// The child's side: loads the file and says what it found. The caller exits right after.
pub fn answer(copy: &Path, mut out: impl Write) -> std::io::Result<()> {
    let probed = match load::load(copy) {
        Ok(handle) => Probed::Usable {
            abi: handle.description().abi.clone(),
            pipelines: handle.description().pipelines.clone(),
        },
        Err(refused) => Probed::Unusable(refused),
    };
    let json = serde_json::to_string(&probed)?;
    // On a line of its own, whatever the library has printed before.
    writeln!(out, "\n{MARK}{json}")?;
    out.flush()
}

/// The host's side: lets a child of this very program load the file.
pub fn ask(host_binary: &PathBuf, copy: &Path) -> Result<Probed> {
    let mut child = Command::new(host_binary)
        .arg("probe")
        .arg(copy)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            Error::internal("cannot start the process that tries plugins").caused_by(error)
        })?;
    let output = read_in_background(child.stdout.take());
    let complaints = read_in_background(child.stderr.take());
    let Ok(text) = output.recv_timeout(PATIENCE) else {
        stop(&mut child);
        return Ok(Probed::Unusable(Refused::new(
            format!("it does not finish loading within {} s", PATIENCE.as_secs()),
            "do no work in constructors or in `manifest`; if the machine was only slow, copy the file again",
        )));
    };
    let word = text.lines().rev().find_map(|line| line.strip_prefix(MARK));
    if let Some(Ok(probed)) = word.map(serde_json::from_str) {
        stop(&mut child);
        return Ok(probed);
    }
    let status = child.wait().map_err(|error| {
        Error::internal("cannot wait for the process that tries plugins").caused_by(error)
    })?;
    let complaint = complaints
        .recv_timeout(Duration::from_secs(1))
        .unwrap_or_default();
    let detail = complaint
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("");
    let detail = if detail.is_empty() {
        String::new()
    } else {
        format!(": {}", detail.trim())
    };
    Ok(Probed::Unusable(Refused::new(
        format!("loading it ends the process ({}){detail}", describe(status)),
        "the file is damaged or misbehaves: build it again and copy the finished file",
    )))
}

fn read_in_background(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            // What a broken pipe leaves out is missed by the reader below.
            let _ = stream.take(16 * 1024 * 1024).read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}{}", signal_name(signal)),
        (_, Some(code)) => format!("exit code {code}, without a word"),
        _ => "unknown status".to_owned(),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " SIGILL",
        6 => " SIGABRT",
        7 => " SIGBUS",
        8 => " SIGFPE",
        9 => " SIGKILL",
        11 => " SIGSEGV",
        _ => "",
    }
}
