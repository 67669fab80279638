//! Whole configurations through [`load`]: what loads, and that nothing panics.

#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines)]

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

mod examples;
mod isolation;
mod layers;
mod problems;

/// The block of the contract, as it stands there.
const CONTRACT: &str = r#"name: "login-analytics"
description: "Analyzes user login patterns across shards"
source:
  type: "sqlserver"            # sqlserver | postgres | sqlite (| …)
  database: "logins"           # default for all shards
  shards:
    - name: "eu"               # optional; default shard-1, shard-2, …
      host: "${SQLSERVER_SHARD1_HOST}"
      port: "${SQLSERVER_SHARD1_PORT}"
    - host: "${SQLSERVER_SHARD2_HOST}"
      port: "${SQLSERVER_SHARD2_PORT}"
      database: "logins_us"
  credentials:
    username: "${SQLSERVER_USER}"
    password: "${SQLSERVER_PASSWORD}"
  tls: { mode: "require", trust_server_certificate: false, ca_file: "/etc/ssl/corp.pem" }
sink:
  type: "postgres"             # postgres | sqlite (| …)
  host: "${POSTGRES_HOST}"
  port: "${POSTGRES_PORT}"
  database: "${POSTGRES_DB}"
  credentials:
    username: "${POSTGRES_USER}"
    password: "${POSTGRES_PASSWORD}"
  table: "login_analytics"
  write_mode: "append"         # append | upsert (key: […], key_scope) | replace
cursor: { column: "login_time", kind: "timestamp", clock: "utc", settle_delay: "5s" }
error_handling:
  max_retries: 3
  retry_delay: "5s"
  max_retry_delay: "15m"
  exponential_backoff: true
  max_bad_rows: 0
  attempt_timeout: "2h"
  on_schema_change: "strict"   # strict | evolve | ignore
schedule: { cron: "0 0 * * *", timezone: "UTC", catch_up: "last", overlap: "skip" }
isolation: "process"           # process | in-process
settings: {}                   # the pipeline's own; checked by the plugin
"#;

/// The least that loads.
const SMALL: &str = "name: small
source: { type: sqlite, shards: [{ path: a.db }] }
sink: { type: sqlite, path: out.db, table: t }
";

fn env(name: &str) -> Option<String> {
    let value = match name {
        "SQLSERVER_SHARD1_HOST" => "sql1",
        "SQLSERVER_SHARD2_HOST" => "127.0.0.1",
        "SQLSERVER_SHARD1_PORT" => "1433",
        "SQLSERVER_SHARD2_PORT" => "1434",
        "SQLSERVER_USER" => "sa",
        "SQLSERVER_PASSWORD" | "POSTGRES_PASSWORD" => "hunter2",
        "POSTGRES_HOST" => "localhost",
        "POSTGRES_PORT" => "5432",
        "POSTGRES_DB" => "etl_sink",
        "POSTGRES_USER" => "etl_user",
        "TRUE" => "true",
        "YAML" => "[1, 2]",
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn layer(name: &str, text: &str) -> Layer {
    Layer {
        name: name.to_owned(),
        text: text.to_owned(),
        of_plugin: false,
    }
}

fn loaded(texts: &[&str]) -> Config {
    let layers: Vec<Layer> = texts.iter().map(|text| layer("p.yaml", text)).collect();
    load(&layers, &env)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .config
}

fn check_problems(texts: &[&str], expected: &Expect) {
    let names = ["p (default config)", "p.yaml"];
    let layers: Vec<Layer> = texts
        .iter()
        .zip(names)
        .map(|(text, name)| layer(name, text))
        .collect();
    expected.assert_eq(
        &load(&layers, &env)
            .map(|loaded| loaded.config)
            .unwrap_err()
            .to_string(),
    );
}

#[test]
fn the_contract_loads_as_it_stands() {
    let json = serde_json::to_string_pretty(&loaded(&[CONTRACT])).unwrap();
    expect![[r#"
        {
          "name": "login-analytics",
          "description": "Analyzes user login patterns across shards",
          "source": {
            "type": "sqlserver",
            "shards": [
              {
                "name": "eu",
                "host": "sql1",
                "port": 1433,
                "database": "logins",
                "username": "sa",
                "password": "***",
                "tls": {
                  "mode": "require",
                  "trust_server_certificate": false,
                  "ca_file": "/etc/ssl/corp.pem"
                },
                "pool": {
                  "max_connections": 16,
                  "wait_timeout": "30s",
                  "connect_timeout": "15s",
                  "login_timeout": "15s",
                  "breaker_failures": 5,
                  "breaker_pause": "30s",
                  "breaker_max_pause": "5m"
                },
                "application_intent": "read-write",
                "packet_size": 16000,
                "driver": "tiberius",
                "read_isolation": "snapshot",
                "timeouts": {
                  "statement": "10m",
                  "idle_read": "2m"
                }
              },
              {
                "name": "shard-2",
                "host": "127.0.0.1",
                "port": 1434,
                "database": "logins_us",
                "username": "sa",
                "password": "***",
                "tls": {
                  "mode": "require",
                  "trust_server_certificate": false,
                  "ca_file": "/etc/ssl/corp.pem"
                },
                "pool": {
                  "max_connections": 16,
                  "wait_timeout": "30s",
                  "connect_timeout": "15s",
                  "login_timeout": "15s",
                  "breaker_failures": 5,
                  "breaker_pause": "30s",
                  "breaker_max_pause": "5m"
                },
                "application_intent": "read-write",
                "packet_size": 16000,
                "driver": "tiberius",
                "read_isolation": "snapshot",
                "timeouts": {
                  "statement": "10m",
                  "idle_read": "2m"
                }
              }
            ],
            "query": null,
            "beyond_microseconds": "truncate"
          },
          "sink": {
            "type": "postgres",
            "host": "localhost",
            "port": 5432,
            "database": "etl_sink",
            "username": "etl_user",
            "password": "***",
            "tls": {
              "mode": "prefer",
              "trust_server_certificate": false,
              "ca_file": null
            },
            "pool": {
              "max_connections": 16,
              "wait_timeout": "30s",
              "connect_timeout": "15s",
              "login_timeout": "15s",
              "breaker_failures": 5,
              "breaker_pause": "30s",
              "breaker_max_pause": "5m"
            },
            "table": "login_analytics",
            "write_mode": "append",
            "partition_column": null,
            "nul_characters": "quarantine",
            "timeouts": {
              "step": "10m"
            }
          },
          "cursor": {
            "column": "login_time",
            "kind": "timestamp",
            "clock": "utc",
            "settle_delay": "5s"
          },
          "error_handling": {
            "max_retries": 3,
            "retry_delay": "5s",
            "max_retry_delay": "15m",
            "exponential_backoff": true,
            "max_bad_rows": 0,
            "attempt_timeout": "2h",
            "drain_timeout": "1m",
            "on_schema_change": "strict",
            "park_after": 3
          },
          "schedule": {
            "cron": "0 0 * * *",
            "timezone": "UTC",
            "jitter": "0s",
            "catch_up": "last",
            "overlap": "skip"
          },
          "isolation": "process",
          "limits": {
            "memory": 1073741824,
            "cpu_time": "none",
            "call_timeout": "10m",
            "open_files": 256
          },
          "capabilities": {
            "hosts": [],
            "paths": [],
            "writable": [],
            "secrets": {}
          },
          "tuning": {
            "batch_rows": 8192,
            "flush_bytes": 4194304,
            "flushes_per_commit": 16,
            "lease": "1m"
          },
          "settings": {}
        }"#]]
    .assert_eq(&json);
}

#[test]
fn a_byte_order_mark_is_no_key() {
    assert_eq!(loaded(&[&format!("\u{feff}{SMALL}")]).name, "small");
}

#[test]
fn defaults_fill_the_rest() {
    let config = loaded(&[SMALL]);
    assert_eq!(config.source.connector.shard_names(), ["shard-1"]);
    assert_eq!(config.error_handling, ErrorHandling::default());
    assert_eq!(config.tuning, Tuning::default());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.sink.write_mode, WriteMode::Append);
    assert_eq!(config.isolation, Isolation::Process);
    assert_eq!(config.settings, serde_json::json!({}));
    assert!(config.cursor.is_none() && config.schedule.is_none());
}

#[test]
fn variables_fill_numbers_and_truths_but_are_never_yaml() {
    let config = loaded(&[&format!(
        "{SMALL}error_handling: {{ max_retries: \"${{N:-7}}\", exponential_backoff: \"${{TRUE}}\", max_bad_rows: \"${{N:-7}}\" }}
settings: {{ list: \"${{YAML}}\", empty: \"${{EMPTY}}\", price: $$5, number: 1.5, nothing: ~ }}\n"
    )]);
    assert_eq!(config.error_handling.max_retries, 7);
    assert_eq!(config.error_handling.max_bad_rows, BadRowLimit::Rows(7));
    assert!(config.error_handling.exponential_backoff);
    let settings = serde_json::json!({ "list": "[1, 2]", "empty": "", "price": "$5", "number": 1.5, "nothing": null });
    assert_eq!(config.settings, settings);
}

#[test]
fn cursors_have_defaults_by_kind() {
    let cursor = |text: &str| loaded(&[SMALL, text]).cursor.unwrap();
    let timestamp = cursor("cursor: { column: t, kind: timestamp, clock: server-local }");
    assert_eq!(
        (timestamp.settle_delay.as_secs(), timestamp.clock),
        (5, Clock::ServerLocal)
    );
    assert!(
        cursor("cursor: { column: id, kind: integer }")
            .settle_delay
            .is_zero()
    );
    check_problems(
        &[SMALL, "cursor: { column: v, kind: rowversion }"],
        &expect![
            "p.yaml:1:28: cursor.kind: rowversion exists only in SQL Server, the source is sqlite (use timestamp or integer)"
        ],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_loaded_or_refused(text in any::<String>()) {
        let _ = load(&[layer("p", &text)], &env);
    }

    #[test]
    fn anything_like_yaml_is_loaded_or_refused(
        text in r#"((name|source|sink|type|shards|a)?[-:?,#&*!|>%@`'"\[\]{}<$ \t\n\r~.0-9]{1,4}){0,20}"#
    ) {
        let _ = load(&[layer("base", SMALL), layer("p", &text)], &env);
    }

    #[test]
    fn a_damaged_contract_is_loaded_or_refused(at in 0..CONTRACT.len(), piece in "\\PC{0,3}|\n|\t|- |: ") {
        let at = (0..=at).rev().find(|at| CONTRACT.is_char_boundary(*at)).unwrap();
        let (before, after) = CONTRACT.split_at(at);
        if let Err(errors) = load(&[layer("p", &format!("{before}{piece}{after}"))], &env) {
            prop_assert!(!errors.problems().is_empty());
            prop_assert!(!errors.to_string().contains("hunter2"));
        }
    }
}

#[test]
fn a_schedule_says_how_many_runs_it_makes_up_for() {
    let catch_up = |written: &str| {
        let text =
            format!("{SMALL}schedule: {{ cron: '@daily', jitter: 90s, catch_up: {written} }}\n");
        let schedule = loaded(&[&text]).schedule.unwrap();
        assert_eq!(schedule.cron, "@daily");
        assert_eq!(schedule.jitter, std::time::Duration::from_secs(90));
        // What the state keeps is read back as the same.
        let json = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule);
        schedule.catch_up
    };
    assert_eq!(catch_up("none"), CatchUp::None);
    assert_eq!(catch_up("last"), CatchUp::Last);
    assert_eq!(catch_up("all"), CatchUp::All(100));
    assert_eq!(catch_up("{ all: 3 }"), CatchUp::All(3));
}
