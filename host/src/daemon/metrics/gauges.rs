//! What is looked up at each scrape: pipelines, pools, breakers, memory.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Labels, Last, and, of};
use crate::daemon::operations::Operations;
use crate::daemon::view::{PipelineState, PipelineView};
use crate::pool::Condition;

type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

const STATES: [(PipelineState, &str); 7] = [
    (PipelineState::Running, "running"),
    (PipelineState::Queued, "queued"),
    (PipelineState::Idle, "idle"),
    (PipelineState::Paused, "paused"),
    (PipelineState::Disabled, "disabled"),
    (PipelineState::Parked, "parked"),
    (PipelineState::Broken, "broken"),
];

/// What is true now: the host's own, and that of any process.
pub fn gather(
    daemon: &dyn Operations,
    pipelines: &[PipelineView],
    last: &BTreeMap<String, Last>,
    now: Timestamp,
) -> (Registry, Registry) {
    let mut own = Registry::with_prefix("etl");
    of_pipelines(&mut own, pipelines, last, now);
    of_servers(&mut own, daemon);
    of_processes(&mut own, daemon);
    let view = daemon.view();
    let build = gauges(&mut own, "build_info", "The version of etl-host", None);
    set(&build, &vec![("version", view.version)], 1.0);
    let limit = Gauge::<f64, AtomicU64>::default();
    limit.set(number(view.max_concurrent_runs));
    own.register("max_concurrent_runs", "Most runs at once", limit);

    let mut process = Registry::default();
    let started = Gauge::<f64, AtomicU64>::default();
    started.set(seconds(view.started_at));
    process.register_with_unit(
        "process_start_time",
        "When the daemon began, since the Unix epoch",
        Unit::Seconds,
        started,
    );
    (own, process)
}

fn of_pipelines(
    own: &mut Registry,
    pipelines: &[PipelineView],
    last: &BTreeMap<String, Last>,
    now: Timestamp,
) {
    let running = gauges(own, "running", "Whether a run goes on", None);
    let enabled = gauges(own, "pipeline_enabled", "Whether it was not stopped", None);
    let states = gauges(own, "pipeline_state", "1 for what the pipeline does", None);
    let next = gauges(
        own,
        "next_run_timestamp",
        "When the pipeline is due next, since the Unix epoch",
        Some(Unit::Seconds),
    );
    let overdue = gauges(
        own,
        "overdue",
        "How long ago the oldest instant came that has not begun; 0 if all have",
        Some(Unit::Seconds),
    );
    let success = gauges(
        own,
        "last_success_timestamp",
        "When the last run ended that succeeded, since the Unix epoch",
        Some(Unit::Seconds),
    );
    let rows = gauges(own, "last_run_rows", "Rows that the last run loaded", None);
    let lag = gauges(
        own,
        "source_lag",
        "Age of the last cursor, where cursors are times",
        Some(Unit::Seconds),
    );
    for pipeline in pipelines {
        let name = &pipeline.name;
        let current = pipeline.current_run.as_ref();
        let begun = current.is_some_and(|run| run.started_at.is_some());
        set(&running, &of(name), truth(begun));
        let disabled = pipeline.state == PipelineState::Disabled;
        set(&enabled, &of(name), truth(!disabled));
        for (state, word) in STATES {
            set(
                &states,
                &and(name, "state", word),
                truth(pipeline.state == state),
            );
        }
        if let Some(time) = pipeline.next_run {
            set(&next, &of(name), seconds(time));
        }
        set(&overdue, &of(name), waited(pipeline.overdue_since, now));
        let Some(last) = last.get(name) else {
            continue;
        };
        if let Some(time) = last.success {
            set(&success, &of(name), seconds(time));
        }
        if let Some(loaded) = last.rows {
            set(&rows, &of(name), number(loaded));
        }
        for (partition, time) in &last.cursors {
            let age = waited(Some(*time), now);
            set(&lag, &and(name, "partition", partition), age);
        }
    }
}

fn of_servers(own: &mut Registry, daemon: &dyn Operations) {
    let connections = gauges(
        own,
        "pool_connections",
        "Connections of a pool, by state",
        None,
    );
    let limit = gauges(
        own,
        "pool_max_connections",
        "Most connections of a pool",
        None,
    );
    let waiting = gauges(own, "pool_waiting", "Who waits for a connection", None);
    for pool in daemon.pools() {
        let of = |state: &str| vec![("server", pool.server.clone()), ("state", state.to_owned())];
        set(&connections, &of("in_use"), number(pool.in_use));
        set(&connections, &of("idle"), number(pool.idle));
        let server = vec![("server", pool.server.clone())];
        set(&limit, &server, number(pool.max));
        set(&waiting, &server, number(pool.waiting));
    }
    let open = gauges(own, "breaker_open", "Whether a server is left alone", None);
    for breaker in daemon.breakers() {
        let closed = breaker.condition == Condition::Closed;
        set(&open, &vec![("guards", breaker.guards)], truth(!closed));
    }
}

fn of_processes(own: &mut Registry, daemon: &dyn Operations) {
    let resident = gauges(
        own,
        "process_resident",
        "Memory that the daemon and each worker have resident",
        Some(Unit::Bytes),
    );
    for process in daemon.processes() {
        let Some(usage) = process.usage else {
            continue;
        };
        let kind = if process.pipeline.is_some() {
            "worker"
        } else {
            "host"
        };
        let labels = vec![
            ("process", kind.to_owned()),
            ("pipeline", process.pipeline.unwrap_or_default()),
            ("partition", process.partition.unwrap_or_default()),
        ];
        // An attempt's worker may still be there when the next one's is.
        resident
            .get_or_create_owned(&labels)
            .inc_by(number(usage.resident_bytes));
    }
}

fn gauges(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>) -> Gauges {
    let family = Gauges::default();
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, family.clone()),
        None => registry.register(name, help, family.clone()),
    }
    family
}

fn set(gauges: &Gauges, labels: &Labels, value: f64) {
    gauges.get_or_create_owned(labels).set(value);
}

/// Seconds since then; 0 if there is no such time or it is yet to come.
fn waited(since: Option<Timestamp>, now: Timestamp) -> f64 {
    since.map_or(0.0, |since| {
        now.duration_since(since).as_secs_f64().max(0.0)
    })
}

fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to nine million gigabytes"
)]
fn number(value: impl TryInto<u64>) -> f64 {
    value.try_into().unwrap_or(u64::MAX) as f64
}

fn seconds(time: Timestamp) -> f64 {
    time.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::stage_daemon::StageDaemon;

    #[test]
    fn what_has_not_begun_is_overdue_since_its_instant() {
        let daemon = StageDaemon::default();
        let now = Timestamp::from_second(1_000).unwrap();
        for (since, expected) in [(None, "0.0"), (Some(600), "400.0"), (Some(2_000), "0.0")] {
            let mut view = daemon.pipeline("logins").unwrap();
            view.overdue_since = since.map(|second| Timestamp::from_second(second).unwrap());
            let (own, _) = gather(&daemon, &[view], &BTreeMap::new(), now);
            let mut text = String::new();
            prometheus_client::encoding::text::encode_registry(&mut text, &own).unwrap();
            let line = format!(r#"etl_overdue_seconds{{pipeline="logins"}} {expected}"#);
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
