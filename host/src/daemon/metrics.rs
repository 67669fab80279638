//! What is counted for `/metrics`.

use std::time::Duration;

use super::operations::Operations;
use crate::runtime::report::RunReport;

/// How the metrics are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text format that came before it, version 0.0.4.
    Text,
}

impl Form {
    /// The form's media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

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

    /// Everything as it is now.
    pub fn scrape(&self, _daemon: &dyn Operations, _form: Form) -> Result<String, std::fmt::Error> {
        Ok(String::new())
    }
}
