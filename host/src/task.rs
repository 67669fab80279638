//! Blocking threads that stay in the span of whoever starts them, so that what they log is told with its run.
//!
//! It starts threads only; when one may be waited for is its caller's matter.

use tokio::task::JoinHandle;
use tracing::Span;

/// Runs work on a thread that may block.
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let span = Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
}
