//! What is counted for `/metrics`.

use std::time::Duration;

use crate::runtime::report::RunReport;

/// Counters and gauges.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// A run has begun so long after its due instant.
    pub fn run_started(&self, _pipeline: &str, _delay: Option<Duration>) {}

    /// A run is over.
    pub fn run_ended(&self, _report: &RunReport) {}

    /// A due instant was not run: `skipped` or `missed`.
    pub fn not_run(&self, _pipeline: &str, _status: &str) {}
}
