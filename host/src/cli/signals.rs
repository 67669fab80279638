//! The runtime of a command, and how signals end its work: the first asks it to finish what is in flight, the second
//! ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{build_runtime, progress};
use crate::error::{Error, Result};
use crate::plugin::load;

/// Exit codes of work that a signal stopped: 128 and the signal's number.
pub const SIGINT_CODE: u8 = 130;
pub const SIGTERM_CODE: u8 = 143;

/// Does `work` on a runtime of its own. Gives what it gives, and the exit code of the signal that stopped it, if one did.
pub fn drive<T>(work: impl AsyncFnOnce(CancellationToken) -> Result<T>) -> Result<(T, Option<u8>)> {
    drive_saying("what is in flight is committed", work)
}

/// The same for work that writes nothing.
pub fn drive_reading<T>(
    work: impl AsyncFnOnce(CancellationToken) -> Result<T>,
) -> Result<(T, Option<u8>)> {
    drive_saying("nothing was written", work)
}

fn drive_saying<T>(
    what: &'static str,
    work: impl AsyncFnOnce(CancellationToken) -> Result<T>,
) -> Result<(T, Option<u8>)> {
    let runtime = build_runtime()?;
    let stopped_by = Arc::new(AtomicU8::new(0));
    let done = runtime.block_on(async {
        let cancel = CancellationToken::new();
        watch(what, cancel.clone(), stopped_by.clone())?;
        work(cancel).await
    });
    // Blocking threads of a plugin that does not return must not keep the host.
    runtime.shutdown_background();
    let code = stopped_by.load(Ordering::SeqCst);
    Ok((done?, (code != 0).then_some(code)))
}

fn watch(what: &'static str, cancel: CancellationToken, stopped_by: Arc<AtomicU8>) -> Result<()> {
    let describe =
        |error: std::io::Error| Error::internal("cannot listen for signals").caused_by(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(describe)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(describe)?;
    tokio::spawn(async move {
        loop {
            let code = tokio::select! {
                _ = interrupt.recv() => SIGINT_CODE,
                _ = terminate.recv() => SIGTERM_CODE,
            };
            if cancel.is_cancelled() {
                load::allow_exit();
                // Open transactions are rolled back by the sinks.
                std::process::exit(code.into());
            }
            stopped_by.store(code, Ordering::SeqCst);
            progress::around_bars(|| {
                eprintln!("stopping: {what}; a second signal ends at once");
            });
            cancel.cancel();
        }
    });
    Ok(())
}
