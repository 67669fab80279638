//! Tells by a program on this machine: the notice on its standard input, little in its environment, no shell.
//!
//! The program leads a process group of its own, which ends with it or when its time is over.

use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, Command};

use super::notice::Notice;
use crate::config::Secret;
use crate::config::duration::DisplayDuration;
use crate::config::notifications::CommandHook;
use crate::error::{Error, ErrorKind, Result};

/// So much of what it complains of is read; the end of it is told.
const COMPLAINT: u64 = 64 * 1024;
const TOLD_CHARS: usize = 300;

/// What it wrote and what it left behind may keep its standard error open for so long after its end.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Ends a process group when it goes out of scope, so that nothing is left behind however the wait ends.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs the program and waits for its end.
pub async fn deliver(hook: &CommandHook, notice: &Notice, body: &str) -> Result<()> {
    let program = &hook.program;
    let mut child = start(hook, notice).map_err(|error| {
        Error::new(ErrorKind::Refused, format!("cannot run {program}: {error}"))
            .hint("name an executable file by its whole path")
    })?;
    let ending = tokio::time::timeout(hook.timeout, wait(&mut child, body)).await;
    match ending {
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((status, complaint))) => Err(Error::new(
            ErrorKind::Refused,
            format!("{program} ended with {status}{complaint}"),
        )
        .hint("it gets the notice as JSON on its standard input; run it by hand")),
        Ok(Err(error)) => Err(Error::internal(format!("{program} was lost")).caused_by(error)),
        Err(_) => {
            let _ = child.wait().await;
            Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "{program} did not end within {} and was killed",
                    DisplayDuration(hook.timeout)
                ),
            )
            .hint("raise `command.timeout` if it only needs longer"))
        }
    }
}

fn start(hook: &CommandHook, notice: &Notice) -> std::io::Result<Child> {
    let mut command = Command::new(&hook.program);
    command
        .args(hook.arguments.iter().map(Secret::expose))
        .env_clear()
        .env("ETL_EVENT", notice.event.word())
        .env("ETL_PIPELINE", &notice.pipeline)
        .env("ETL_RUN_ID", notice.run_id.as_deref().unwrap_or_default())
        .env("ETL_STATUS", &notice.status)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.spawn()
}

async fn wait(child: &mut Child, body: &str) -> std::io::Result<(ExitStatus, String)> {
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (input, errors) = (child.stdin.take(), child.stderr.take());
    let mut written = pin!(async {
        if let Some(mut input) = input {
            // Who does not read it to the end may still do its work.
            let _ = input.write_all(body.as_bytes()).await;
        }
    });
    let mut complaint = Vec::new();
    let status = {
        let mut read = pin!(read(errors, &mut complaint));
        let (mut all_written, mut all_read) = (false, false);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut written, if !all_written => all_written = true,
                () = &mut read, if !all_read => all_read = true,
            }
        };
        // What it left behind ends with it.
        drop(group);
        if !all_read {
            let _ = tokio::time::timeout(AFTERMATH, &mut read).await;
        }
        status
    };
    Ok((status?, shown(&complaint)))
}

/// The beginning of what it writes to its standard error. Who writes more is not stopped by a full pipe.
async fn read(errors: Option<ChildStderr>, complaint: &mut Vec<u8>) {
    if let Some(mut errors) = errors {
        let _ = (&mut errors).take(COMPLAINT).read_to_end(complaint).await;
        let _ = tokio::io::copy(&mut errors, &mut tokio::io::sink()).await;
    }
}

fn shown(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let text = text.trim();
    let skipped = text.chars().count().saturating_sub(TOLD_CHARS);
    let end: String = text.chars().skip(skipped).collect();
    if end.is_empty() {
        end
    } else {
        format!(": {end}")
    }
}
