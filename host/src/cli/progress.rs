//! Progress bars of a run, one line per partition.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::table::thousands;
use crate::runtime::books::{Activity, Books, Page};

/// All bars of this process, so that runs side by side share the screen.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Does something with the bars out of the way.
pub fn around_bars(work: impl FnOnce()) {
    match BARS.get() {
        Some(bars) => bars.suspend(work),
        None => work(),
    }
}

/// Watches a run's books until it is dropped.
pub struct Watcher {
    task: JoinHandle<()>,
    lines: Vec<ProgressBar>,
}

/// Starts to show a run. Draws on stderr, ten times a second.
pub fn watch(pipeline: &str, books: Arc<Books>) -> Watcher {
    let bars = BARS
        .get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
    let mut lines = HashMap::new();
    for page in books.pages() {
        let line = bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:24!} {msg}") {
            line.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        line.set_prefix(format!("{pipeline} {}", page.partition));
        line.enable_steady_tick(Duration::from_millis(100));
        lines.insert(page.partition, line);
    }
    let shown = lines.values().cloned().collect();
    let task = tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_millis(100));
        loop {
            interval.tick().await;
            for page in books.pages() {
                if let Some(line) = lines.get(&page.partition) {
                    line.set_message(describe(&page, line.elapsed()));
                }
            }
        }
    });
    Watcher { task, lines: shown }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
        for line in &self.lines {
            line.finish_and_clear();
        }
    }
}

fn describe(page: &Page, elapsed: Duration) -> String {
    let rows = format!(
        "{:>12} read  {:>12} loaded",
        thousands(page.ledger.extracted),
        thousands(page.ledger.loaded)
    );
    match &page.activity {
        Activity::Waiting => "waiting".to_owned(),
        Activity::Running => {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate is rounded"
            )]
            let rate = (page.ledger.extracted as f64 / elapsed.as_secs_f64().max(0.1)) as u64;
            format!("{rows}  {:>10}/s", thousands(rate))
        }
        Activity::Retrying { reason } => {
            format!("{rows}  waits for attempt {}: {reason}", page.attempt + 1)
        }
        Activity::Succeeded => format!("{rows}  done"),
        Activity::Failed => format!("{rows}  failed"),
        Activity::Cancelled => format!("{rows}  stopped"),
    }
}
