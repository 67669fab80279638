use expect_test::expect;
use serde_json::json;

use super::*;
use crate::cli::status::overview::DaemonLine;
use crate::daemon::view::{DaemonView, RunView};
use crate::state::{RunRecord, RunningRecord};
use crate::worker::{Label, Running};

const MIB: u64 = 1 << 20;

fn usage(resident: u64) -> Usage {
    Usage {
        resident_bytes: resident * MIB,
        peak_bytes: 2 * resident * MIB,
        cpu_ms: resident * 100,
    }
}

fn pipeline(name: &str, state: PipelineState, last: Option<&str>) -> PipelineLine {
    PipelineLine {
        name: name.to_owned(),
        state,
        schedule: Some("every day at 02:00".to_owned()),
        next_run: (state != PipelineState::Disabled).then(|| at("2026-11-24T02:00:00Z")),
        last_run: last.map(|status| RunRecord {
            run_id: "run-0".to_owned(),
            status: status.to_owned(),
            started_at: "2026-11-23T02:00:00.5Z".to_owned(),
            finished_at: Some("2026-11-23T02:10:00.5Z".to_owned()),
            loaded: Some(7),
            trigger: "schedule".to_owned(),
            scheduled_for: None,
        }),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn run(run_id: &str, pipeline: &str, waits_for: Option<&str>) -> RunView {
    serde_json::from_value(json!({
        "run_id": run_id, "pipeline": pipeline, "trigger": "schedule", "scheduled_for": null,
        "started_at": null, "waits_for": waits_for, "stopping": false,
        "partitions": [
            { "name": "eu", "activity": "running", "reason": null, "attempt": 1, "extracted": 1_234_567,
              "loaded": 1_234_000, "quarantined": 3, "bytes": 1 },
            { "name": "us", "activity": "retrying", "reason": "the server did not answer\nmore", "attempt": 1,
              "extracted": 10, "loaded": 0, "quarantined": 0, "bytes": 1 },
        ],
    }))
    .unwrap()
}

fn overview() -> Overview {
    let daemon = DaemonView {
        version: "1.0.0".to_owned(),
        process: 4711,
        started_at: at("2026-11-20T00:00:00Z"),
        running: 2,
        max_concurrent_runs: 4,
        draining: false,
    };
    Overview {
        at: at("2026-11-23T12:34:56.7Z"),
        daemon: Some(DaemonLine {
            process: 4711,
            told: Some(daemon),
            usage: Some(usage(88)),
        }),
        pipelines: vec![
            pipeline("logins", PipelineState::Running, Some("failed")),
            pipeline("orders", PipelineState::Queued, Some("succeeded")),
            pipeline("returns", PipelineState::Disabled, None),
        ],
        running: vec![RunLine {
            record: RunningRecord {
                run_id: "run-1".to_owned(),
                pipeline: "logins".to_owned(),
                started_at: "2026-11-23T12:30:00.25Z".to_owned(),
                process: 4711,
                is_here: true,
            },
            told: Some(run("run-1", "logins", None)),
            rows_per_second: Some(45_210),
            host: Some(usage(88)),
            workers: vec![Running {
                process: 4720,
                label: Label {
                    pipeline: "logins".to_owned(),
                    partition: "eu".to_owned(),
                },
                usage: usage(36),
            }],
        }],
        queued: vec![run("run-2", "orders", Some("logins"))],
    }
}

#[test]
fn once_it_is_told_in_full() {
    expect![[r"
        Daemon: process 4711 since 2026-11-20T00:00:00, 88 MiB; 1 of 4 runs
          PIPELINE  STATE     SCHEDULE            LAST RUN                       NEXT RUN
          logins    running   every day at 02:00  2026-11-23T02:00:00 failed     2026-11-24T02:00:00
          orders    queued    every day at 02:00  2026-11-23T02:00:00 succeeded  2026-11-24T02:00:00
          returns   disabled  every day at 02:00  never                          -

        orders: waits for logins, run run-2

        logins: running since 2026-11-23T12:30:00, run run-1
          PARTITION  DOES                                            ATTEMPT       READ     LOADED  BAD
          eu         running                                               1  1,234,567  1,234,000    3
          us         waits for attempt 2: the server did not answer        1         10          0    0
          PROCESS                MEMORY     PEAK    CPU
             4711  host          88 MiB  176 MiB  8.8 s
             4720  worker of eu  36 MiB   72 MiB  3.6 s
    "]].assert_eq(&plain(&overview()));
}

#[test]
fn nothing_is_little_to_tell() {
    let nothing = Overview {
        daemon: None,
        pipelines: Vec::new(),
        running: Vec::new(),
        queued: Vec::new(),
        ..overview()
    };
    expect![[r"
        No daemon works with this state folder: `etl-host serve`.

        Nothing runs.
    "]]
    .assert_eq(&plain(&nothing));
}

#[test]
fn on_a_terminal_each_pipeline_has_a_line() {
    expect![[r"
        12:34:56 UTC   Daemon: process 4711 since 2026-11-20T00:00:00, 88 MiB; 1 of 4 runs   q: quit

          PIPELINE  STATE                              READ  ROWS/S  MEMORY  SINCE  LAST RUN            NEXT RUN
          logins    running                       1,234,577  45,210  36 MiB  4 min  failed 10 h ago     in 13 h
            eu      running                       1,234,567
            us      waits for attempt 2: the ser         10
          orders    waits for logins                      -       -       -      -  succeeded 10 h ago  in 13 h
          returns   disabled                              -       -       -      -  never               -"]].assert_eq(&live(&overview(), 200, 50, false).join("\n"));
}

#[test]
fn a_small_terminal_shows_what_fits() {
    let page = live(&overview(), 30, 5, false);
    assert_eq!(page.len(), 5);
    assert!(
        page.iter().all(|line| line.chars().count() <= 30),
        "{page:?}"
    );
    assert_eq!(page.last().unwrap(), "… 4 more lines");
    assert_eq!(live(&overview(), 200, 8, false).len(), 8);
    let mut late = overview();
    late.pipelines.rotate_left(2);
    assert!(live(&late, 200, 8, false)[3].contains("returns"));
    assert!(
        live(&late, 200, 6, false)[3].contains("logins"),
        "what runs comes first"
    );
    assert!(live(&overview(), 200, 1, false).len() <= 1);
}

#[test]
fn colours_are_closed_on_each_line() {
    let page = live(&overview(), 200, 50, true);
    let painted = page.iter().filter(|line| line.contains('\x1b'));
    let mut count = 0;
    for line in painted {
        count += 1;
        assert!(line.ends_with(PLAIN), "{line:?}");
        assert_eq!(line.matches('\x1b').count(), 2);
    }
    assert!(count >= 4);
}

#[test]
fn lengths_of_time_are_read_at_a_glance() {
    let shown = |seconds| length(Duration::from_secs(seconds));
    assert_eq!(
        [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(shown),
        ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]
    );
}
