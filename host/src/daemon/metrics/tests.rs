//! What a scrape shows, judged by `promtool` too.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use etl_plugin_api::Delivery;

use super::*;
use crate::checkpoint::Ledger;
use crate::daemon::stage_daemon::StageDaemon;
use crate::runtime::report::{PartitionReport, Rows};

fn report(pipeline: &str, status: Status, attempts: u32) -> RunReport {
    let rows = Rows {
        extracted: 10,
        transformed: 9,
        loaded: 8,
        quarantined: 1,
        filtered: 1,
        superseded: 0,
    };
    RunReport {
        run_id: "run".to_owned(),
        pipeline: pipeline.to_owned(),
        status,
        dry_run: false,
        delivery: Delivery::AtLeastOnce,
        started_at: "2026-03-01T10:00:00Z".to_owned(),
        finished_at: "2026-03-01T10:00:07Z".to_owned(),
        seconds: 7.0,
        rows,
        bytes: 1000,
        rows_per_second: 1,
        peak_memory_bytes: None,
        attempts,
        partitions: vec![PartitionReport {
            name: "eu".to_owned(),
            status,
            attempts,
            rows,
            cursor_from: None,
            cursor_to: Some("2026-03-01T09:59:00".to_owned()),
            error: None,
            worker: None,
            ledger: Ledger::default(),
            timeline: Vec::new(),
        }],
        error: None,
        counters: BTreeMap::new(),
        backfill: None,
    }
}

/// A scrape of a daemon after some runs.
fn scraped(form: Form) -> String {
    let daemon = StageDaemon::default();
    let metrics = daemon.metrics();
    metrics.run_started("logins", Some(Duration::from_millis(300)));
    metrics.run_ended(&report("logins", Status::Succeeded, 3));
    metrics.run_ended(&report("logins", Status::Failed, 1));
    metrics.not_run("logins", "missed");
    metrics.scrape(&daemon, form).unwrap()
}

/// A folder of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn promtool(arguments: &[&str], input: &str) {
    let own = repository("target/tools/bin/promtool");
    let program = if own.exists() { own } else { "promtool".into() };
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(repository("scripts/monitoring"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: scripts/setup-dev.sh test");
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn a_scrape_shows_what_happened() {
    let text = scraped(Form::OpenMetrics);
    for line in [
        r#"etl_runs_total{pipeline="logins",status="succeeded"} 1"#,
        r#"etl_runs_total{pipeline="logins",status="failed"} 1"#,
        r#"etl_runs_total{pipeline="logins",status="partial"} 0"#,
        r#"etl_rows_total{pipeline="logins",outcome="loaded"} 16"#,
        r#"etl_bytes_total{pipeline="logins"} 2000"#,
        r#"etl_retries_total{pipeline="logins"} 2"#,
        r#"etl_dead_letters_total{pipeline="logins"} 2"#,
        r#"etl_due_not_run_total{pipeline="logins",status="missed"} 1"#,
        r#"etl_due_not_run_total{pipeline="logins",status="skipped"} 0"#,
        r#"etl_due_not_run_total{pipeline="logins",status="cancelled"} 0"#,
        r#"etl_due_not_run_total{pipeline="logins",status="interrupted"} 0"#,
        r#"etl_overdue_seconds{pipeline="logins"} 0.0"#,
        r#"etl_run_duration_seconds_bucket{le="10.0",pipeline="logins"} 2"#,
        r#"etl_run_duration_seconds_bucket{le="5.0",pipeline="logins"} 0"#,
        r#"etl_schedule_delay_seconds_sum{pipeline="logins"} 0.3"#,
        r#"etl_last_success_timestamp_seconds{pipeline="logins"} 1772359207.0"#,
        r#"etl_last_run_rows{pipeline="logins"} 8.0"#,
        r#"etl_running{pipeline="logins"} 1.0"#,
        r#"etl_pipeline_enabled{pipeline="logins"} 1.0"#,
        r#"etl_pipeline_state{pipeline="logins",state="running"} 1.0"#,
        r#"etl_pool_connections{server="PostgreSQL at db:5432/etl",state="in_use"} 2.0"#,
        r#"etl_breaker_open{guards="PostgreSQL at db:5432"} 1.0"#,
        r#"etl_process_resident_bytes{process="worker",pipeline="logins",partition="eu"} 1048576.0"#,
        r#"etl_process_resident_bytes{process="host",pipeline="",partition=""} 1048576.0"#,
        r#"etl_build_info{version="1.0.0"} 1.0"#,
        "process_start_time_seconds 0.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains(r#"etl_source_lag_seconds{pipeline="logins",partition="eu"} "#));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_daemon_that_was_restarted_knows_the_last_success() {
    let daemon = StageDaemon::default();
    let text = daemon.metrics().scrape(&daemon, Form::Text).unwrap();
    for line in [
        r#"etl_last_success_timestamp_seconds{pipeline="logins"} 1772323202.0"#,
        r#"etl_last_run_rows{pipeline="logins"} 42.0"#,
        r#"etl_runs_total{pipeline="logins",status="failed"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn what_is_counted_goes_with_its_pipeline() {
    let daemon = StageDaemon::default();
    let metrics = daemon.metrics();
    metrics.run_started("gone", Some(Duration::ZERO));
    metrics.run_ended(&report("gone", Status::Succeeded, 1));
    metrics.not_run("gone", "skipped");
    let text = metrics.scrape(&daemon, Form::Text).unwrap();
    assert!(!text.contains("gone"), "{text}");
    assert!(text.contains(r#"pipeline="logins""#));
}

#[test]
fn only_times_have_an_age() {
    let utc = |text: &str| time_of(text).map(|time| time.to_string());
    let expected = Some("2026-03-01T09:59:00Z".to_owned());
    for text in [
        "2026-03-01T09:59:00",
        "2026-03-01 09:59:00.000",
        "2026-03-01T10:59:00+01:00",
        "2026-03-01T09:59:00Z",
    ] {
        assert_eq!(utc(text), expected, "{text}");
    }
    for text in [
        "20260301",
        "4711",
        "0x00000000000007d1",
        "",
        "2026-03-01",
        "a:b-c",
    ] {
        assert_eq!(utc(text), None, "{text}");
    }
}

#[test]
fn promtool_accepts_the_metrics() {
    promtool(&["check", "metrics"], &scraped(Form::Text));
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    promtool(&["check", "rules", "etl-host.rules.yml"], "");
    promtool(&["test", "rules", "etl-host.rules.test.yml"], "");
}

#[test]
fn rules_and_dashboard_name_metrics_that_exist() {
    let text = scraped(Form::Text);
    let exist: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    for file in ["etl-host.rules.yml", "etl-host.grafana.json"] {
        let path = repository("scripts/monitoring").join(file);
        let content = std::fs::read_to_string(&path).unwrap();
        let mut named = 0;
        for word in content.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            if word.starts_with("etl_") {
                named += 1;
                assert!(exist.contains(word), "{file} names {word}");
            }
        }
        assert!(named > 5, "{file}");
    }
}
