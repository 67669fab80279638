//! Blocking threads and tasks that know whose run they work for, so that what they log is told with it.
//!
//! They carry the facts of the span, not the span itself: what goes on working for an attempt that is over must not keep
//! it open. When one may be waited for is its caller's matter.

use tokio::task::JoinHandle;

use crate::logs::Facts;

/// Runs work on a thread that may block.
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let facts = Facts::current();
    tokio::task::spawn_blocking(move || facts.within(work))
}

/// Work for a task of its own.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    Facts::current().along(work)
}
