//! What is counted for `/metrics`. What can be looked up when somebody asks is gathered in `gauges`; here is what would
//! be forgotten.
//!
//! Labels are those of pipelines that exist: what is counted of a pipeline goes with it.

mod gauges;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::HistoryQuery;
use super::operations::Operations;
use super::view::PipelineView;
use crate::runtime::report::{RunReport, Status};

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

/// Names and values.
type Labels = Vec<(&'static str, String)>;

const STATUSES: [Status; 4] = [
    Status::Succeeded,
    Status::Partial,
    Status::Failed,
    Status::Cancelled,
];
/// How a due instant ends that was not run to its end.
const NOT_RUN: [&str; 4] = ["skipped", "missed", "cancelled", "interrupted"];
const OUTCOMES: [&str; 5] = [
    "extracted",
    "loaded",
    "quarantined",
    "filtered",
    "superseded",
];

/// From a tenth of a second to four hours.
const DURATIONS: [f64; 15] = [
    0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0,
];
/// From a tenth of a second to an hour.
const DELAYS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// Counters, and what is remembered of each pipeline's last run.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    runs: Family<Labels, Counter>,
    rows: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    retries: Family<Labels, Counter>,
    dead_letters: Family<Labels, Counter>,
    not_run: Family<Labels, Counter>,
    durations: Family<Labels, Histogram>,
    delays: Family<Labels, Histogram>,
    last: Mutex<BTreeMap<String, Last>>,
}

/// What is remembered of a pipeline's last runs.
#[derive(Clone, Debug, Default)]
struct Last {
    success: Option<Timestamp>,
    rows: Option<u64>,
    /// How far each partition has come, for cursors that are times.
    cursors: BTreeMap<String, Timestamp>,
}

impl Default for Metrics {
    fn default() -> Self {
        let durations = || Histogram::new(DURATIONS);
        let delays = || Histogram::new(DELAYS);
        let mut metrics = Self {
            registry: Registry::with_prefix("etl"),
            runs: Family::default(),
            rows: Family::default(),
            bytes: Family::default(),
            retries: Family::default(),
            dead_letters: Family::default(),
            not_run: Family::default(),
            durations: Family::new_with_constructor(durations),
            delays: Family::new_with_constructor(delays),
            last: Mutex::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let counters = [
            ("runs", "Runs that have ended, by how", &self.runs),
            (
                "rows",
                "Rows that runs have committed, by what became of them",
                &self.rows,
            ),
            ("bytes", "Bytes of Arrow data written", &self.bytes),
            (
                "retries",
                "Attempts beyond the first of each partition",
                &self.retries,
            ),
            ("dead_letters", "Rows set aside", &self.dead_letters),
            (
                "due_not_run",
                "Due instants that were not run",
                &self.not_run,
            ),
        ];
        for (name, help, family) in counters {
            self.registry.register(name, help, family.clone());
        }
        self.registry.register_with_unit(
            "run_duration",
            "How long runs took",
            Unit::Seconds,
            self.durations.clone(),
        );
        self.registry.register_with_unit(
            "schedule_delay",
            "How long after its due instant a run began",
            Unit::Seconds,
            self.delays.clone(),
        );
    }

    /// A run has begun so long after its due instant.
    pub fn run_started(&self, pipeline: &str, delay: Option<Duration>) {
        if let Some(delay) = delay {
            let delays = self.delays.get_or_create_owned(&of(pipeline));
            delays.observe(delay.as_secs_f64());
        }
    }

    /// A run is over.
    pub fn run_ended(&self, report: &RunReport) {
        let pipeline = of(&report.pipeline);
        let count = |family: &Family<Labels, Counter>, labels: &Labels, by: u64| {
            family.get_or_create_owned(labels).inc_by(by);
        };
        count(
            &self.runs,
            &and(&report.pipeline, "status", report.status.word()),
            1,
        );
        let rows = &report.rows;
        for (outcome, number) in OUTCOMES.into_iter().zip([
            rows.extracted,
            rows.loaded,
            rows.quarantined,
            rows.filtered,
            rows.superseded,
        ]) {
            count(
                &self.rows,
                &and(&report.pipeline, "outcome", outcome),
                number,
            );
        }
        count(&self.bytes, &pipeline, report.bytes);
        count(&self.dead_letters, &pipeline, rows.quarantined);
        let tries = report.partitions.iter().map(|partition| partition.attempts);
        let retries: u64 = tries.map(|tries| u64::from(tries.saturating_sub(1))).sum();
        count(&self.retries, &pipeline, retries);
        self.durations
            .get_or_create_owned(&pipeline)
            .observe(report.seconds);
        let mut last = self.last();
        let last = last.entry(report.pipeline.clone()).or_default();
        last.rows = Some(rows.loaded);
        if report.status == Status::Succeeded {
            last.success = report.finished_at.parse().ok();
        }
        // A backfill ends in the past, and moves no checkpoint.
        let moved = report
            .partitions
            .iter()
            .filter(|_| report.backfill.is_none());
        for partition in moved {
            if let Some(time) = partition.cursor_to.as_deref().and_then(time_of) {
                last.cursors.insert(partition.name.clone(), time);
            }
        }
    }

    /// A due instant was not run, or not to its end: `skipped`, `missed`, `cancelled` or `interrupted`.
    pub fn not_run(&self, pipeline: &str, status: &str) {
        self.not_run
            .get_or_create_owned(&and(pipeline, "status", status))
            .inc();
    }

    /// Everything as it is now. Asks the daemon, which may block.
    pub fn scrape(&self, daemon: &dyn Operations, form: Form) -> Result<String, std::fmt::Error> {
        // Without the pipelines, the rest is still worth telling.
        let pipelines = daemon.pipelines().ok();
        if let Some(pipelines) = &pipelines {
            self.settle(pipelines, daemon);
        }
        let pipelines = pipelines.unwrap_or_default();
        let last = self.last().clone();
        let (own, process) = gauges::gather(daemon, &pipelines, &last, Timestamp::now());
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &own)?;
        encode_registry(&mut text, &process)?;
        encode_eof(&mut text)?;
        Ok(match form {
            Form::OpenMetrics => text,
            Form::Text => text::older(&text),
        })
    }

    /// Begins with zeros for pipelines that are new, so that the first failure is seen as an increase, and forgets
    /// those that are gone.
    fn settle(&self, pipelines: &[PipelineView], daemon: &dyn Operations) {
        let exist: BTreeSet<&str> = pipelines.iter().map(|it| it.name.as_str()).collect();
        let known: BTreeSet<String> = self.last().keys().cloned().collect();
        for gone in known.iter().filter(|name| !exist.contains(name.as_str())) {
            self.forget(gone);
        }
        for pipeline in pipelines {
            let name = &pipeline.name;
            for labels in series(name, "status", STATUSES.map(Status::word)) {
                self.runs.get_or_create_owned(&labels);
            }
            for labels in series(name, "status", NOT_RUN) {
                self.not_run.get_or_create_owned(&labels);
            }
            for labels in series(name, "outcome", OUTCOMES) {
                self.rows.get_or_create_owned(&labels);
            }
            for family in [&self.bytes, &self.retries, &self.dead_letters] {
                family.get_or_create_owned(&of(name));
            }
            if known.contains(name) {
                continue;
            }
            // From the time before this daemon.
            let query = HistoryQuery {
                since: None,
                pipeline: Some(name.clone()),
                status: Some("succeeded".to_owned()),
                limit: 1,
                ..HistoryQuery::default()
            };
            let succeeded = daemon
                .history(&query)
                .ok()
                .and_then(|runs| runs.into_iter().next());
            let finished = succeeded.and_then(|run| run.finished_at?.parse().ok());
            let rows = pipeline.last_run.as_ref().and_then(|run| run.loaded);
            let mut last = self.last();
            let last = last.entry(name.clone()).or_default();
            last.success = last.success.or(finished);
            last.rows = last.rows.or(rows);
        }
    }

    fn forget(&self, pipeline: &str) {
        for labels in series(pipeline, "status", STATUSES.map(Status::word)) {
            self.runs.remove(&labels);
        }
        for labels in series(pipeline, "status", NOT_RUN) {
            self.not_run.remove(&labels);
        }
        for labels in series(pipeline, "outcome", OUTCOMES) {
            self.rows.remove(&labels);
        }
        for family in [&self.bytes, &self.retries, &self.dead_letters] {
            family.remove(&of(pipeline));
        }
        for family in [&self.durations, &self.delays] {
            family.remove(&of(pipeline));
        }
        self.last().remove(pipeline);
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<String, Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of(pipeline: &str) -> Labels {
    vec![("pipeline", pipeline.to_owned())]
}

fn and(pipeline: &str, label: &'static str, value: &str) -> Labels {
    let mut labels = of(pipeline);
    labels.push((label, value.to_owned()));
    labels
}

fn series<const N: usize>(pipeline: &str, label: &'static str, values: [&str; N]) -> [Labels; N] {
    values.map(|value| and(pipeline, label, value))
}

/// A cursor that is a time; without a zone it counts as UTC. `None` for numbers and for anything else.
pub fn time_of(cursor: &str) -> Option<Timestamp> {
    // A number of eight digits would pass for a day. A keyset has its number behind the time.
    let length = cursor
        .find(|c: char| !(c.is_ascii_digit() || "-+:.TZ ".contains(c)))
        .unwrap_or(cursor.len());
    let time = cursor.get(..length)?.trim();
    if !time.contains('-') || !time.contains(':') {
        return None;
    }
    let zoned = time.parse::<Timestamp>().ok();
    zoned.or_else(|| {
        let civil: DateTime = time.parse().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

#[cfg(test)]
mod tests;
