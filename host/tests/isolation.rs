//! A plugin that misbehaves in a worker process: the host lives, its neighbour is unharmed, the error names the cause,
//! nothing is lost or doubled, and no password is readable. Each fault is a line of `docs/isolation.md`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

mod workers;

use std::fmt::Write;
use std::net::TcpListener;

use etl_host::worker::workers_of;
use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use expect_test::{Expect, expect};
use serde_json::Value;
use workers::{
    ROWS, check_secrecy, describe, loaded, message, program, project, reports, require_whole_fence,
    table,
};

const TABLE: &str = "isolation.rs";

/// Runs a fault beside a pipeline that does nothing wrong, and then again without the fault.
fn run_fault(project: &Project, pipeline: &str, fault: &str, yaml: &str) -> String {
    let settings = if yaml.contains("settings:") {
        yaml.to_owned()
    } else {
        format!("settings: {{ misbehave: {fault} }}\n{yaml}")
    };
    let sink = format!("sink: {{ path: data/{fault}.db }}\nisolation: process\n");
    project.config(pipeline, &(sink.clone() + &settings));
    project.config(
        "steady",
        &format!("sink: {{ path: data/{fault}-steady.db }}\nisolation: process\n"),
    );
    let finished = program(project, &["run", pipeline, "steady"])
        .run()
        .unwrap();
    let code = finished
        .code
        .unwrap_or_else(|| panic!("{fault}: the host was ended: {}", finished.stderr));
    let reports = reports(&finished);
    assert_eq!(reports[1]["status"], "succeeded", "{fault}");
    assert_eq!(
        loaded(project, &format!("data/{fault}-steady.db")),
        format!("{ROWS}|{ROWS}\n"),
        "{fault}"
    );
    check_secrecy(project, &finished, fault);
    check_row(fault, &reports[0], &finished.stderr);

    let grant = yaml.lines().find(|line| line.starts_with("capabilities:"));
    project.config(pipeline, &(sink + grant.unwrap_or_default()));
    program(project, &["run", pipeline])
        .run()
        .unwrap()
        .require_code(0)
        .unwrap();
    assert_eq!(
        loaded(project, &format!("data/{fault}.db")),
        format!("{ROWS}|{ROWS}\n"),
        "{fault}"
    );
    format!("{fault}: exit {code}\n{}", describe(&reports[0]))
}

/// The run must say what the table promises.
fn check_row(fault: &str, report: &Value, log: &str) {
    let row = table()
        .into_iter()
        .find(|row| row.faults.iter().any(|known| known == fault))
        .unwrap_or_else(|| panic!("{fault} has no line in docs/isolation.md"));
    for words in row.says {
        let said = message(report).contains(&words) || log.contains(&words);
        assert!(said, "{fault} should say {words:?}, and says {report:#}");
    }
}

fn check_faults(faults: &[(&str, &str)], expected: &Expect) {
    let project = project();
    let text = faults.iter().fold(String::new(), |text, (fault, yaml)| {
        text + &run_fault(&project, "misbehaving", fault, yaml)
    });
    expected.assert_eq(&text);
}

const ONE_SECOND: &str = "limits: { call_timeout: 1s }\n";

#[test]
fn a_crash_or_an_exit_fails_its_attempt_only() {
    check_faults(
        &[
            ("abort", ""),
            ("segfault", ""),
            ("stack-overflow", ""),
            ("exit-zero", ""),
            ("exit-zero-in-open", ""),
            ("exit-three", ""),
            ("panic-while-panicking", ""),
            ("panic-in-a-thread", ""),
        ],
        &expect![[r#"
            abort: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process ended with signal 6 (SIGABRT), the same way as before at the same position
                next: tell the plugin's author, with what the worker printed last, if it is shown below
            segfault: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process ended with signal 11 (SIGSEGV), the same way as before at the same position
                next: tell the plugin's author, with what the worker printed last, if it is shown below
            stack-overflow: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process overflowed its stack (signal 6, SIGABRT), the same way as before at the same position
                next: tell the plugin's author, with what the worker printed last, if it is shown below
            exit-zero: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process called exit(0), the same way as before at the same position
                next: tell the plugin's author, with what the worker printed last, if it is shown below
            exit-zero-in-open: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: open the transformer: the worker process called exit(0), the same way as before at the same position
                next: tell the plugin's author, with what the worker printed last, if it is shown below
            exit-three: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process called exit(3), the same way as before at the same position
                next: tell the plugin's author, with what the worker printed last, if it is shown below
            panic-while-panicking: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process ended with signal 6 (SIGABRT), the same way as before at the same position
                next: tell the plugin's author, with what the worker printed last, if it is shown below
            panic-in-a-thread: exit 0
              succeeded after 1
        "#]],
    );
}

#[test]
fn what_takes_too_long_or_too_much_is_ended_by_its_limit() {
    check_faults(
        &[
            ("endless-loop", ONE_SECOND),
            ("endless-loop-in-drop", ""),
            ("logs-endlessly", ONE_SECOND),
            ("stops-itself", ONE_SECOND),
            ("outlives", ONE_SECOND),
            ("burns-cpu", "limits: { cpu_time: 1s }\n"),
            (
                "ignores-the-cpu-limit",
                "limits: { cpu_time: 1s }\nerror_handling: { max_retries: 0 }\n",
            ),
            ("endless-allocation", "limits: { memory: 128MiB }\n"),
            ("endless-shared-memory", "limits: { memory: 128MiB }\n"),
            ("opens-many-files", "limits: { open_files: 32 }\n"),
            ("raises-its-limits", "limits: { cpu_time: 1m }\n"),
            ("prints-much", ""),
        ],
        &expect![[r#"
            endless-loop: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: `transform` did not come back within 1 s (`limits.call_timeout`): the worker process was ended, the same way as before at the same position
                next: raise the limit that it names; if that does not help, tell the plugin's author
            endless-loop-in-drop: exit 0
              succeeded after 1
            logs-endlessly: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: `transform` did not come back within 1 s (`limits.call_timeout`): the worker process was ended, the same way as before at the same position
                next: raise the limit that it names; if that does not help, tell the plugin's author
            stops-itself: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: `transform` did not come back within 1 s (`limits.call_timeout`): the worker process was ended, the same way as before at the same position
                next: raise the limit that it names; if that does not help, tell the plugin's author
            outlives: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: `transform` did not come back within 1 s (`limits.call_timeout`): the worker process was ended, the same way as before at the same position
                next: raise the limit that it names; if that does not help, tell the plugin's author
            burns-cpu: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process used more CPU time than `limits.cpu_time` grants, 1 s (signal 24, SIGXCPU), the same way as before at the same position
                next: raise the limit that it names; if that does not help, tell the plugin's author
            ignores-the-cpu-limit: exit 4
              failed after 1
                pipeline misbehaving, partition eu, attempt 1: transform: the worker process was killed from outside (signal 9, SIGKILL); the system does that when memory runs out, or when the signal for `limits.cpu_time` is ignored
                next: raise the limit that it names; if that does not help, tell the plugin's author
            endless-allocation: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process ran out of the 128 MiB of memory that `limits.memory` grants (signal 6, SIGABRT), the same way as before at the same position
                next: raise the limit that it names; if that does not help, tell the plugin's author
            endless-shared-memory: exit 4
              failed after 1
                pipeline misbehaving, partition eu, attempt 1: transform: 0 MiB of shared memory, then: Operation not permitted (os error 1)
            opens-many-files: exit 4
              failed after 1
                pipeline misbehaving, partition eu, attempt 1: transform: few files, then: Too many open files (os error 24)
            raises-its-limits: exit 4
              failed after 1
                pipeline misbehaving, partition eu, attempt 1: transform: memory: permission denied; files: permission denied; CPU time: permission denied
            prints-much: exit 0
              succeeded after 1
        "#]],
    );
}

#[test]
fn what_breaks_the_channel_is_noticed() {
    check_faults(
        &[
            ("closes-descriptors", ""),
            ("garbage-on-channel", ""),
            ("promises-endless-data", "limits: { memory: 128MiB }\n"),
        ],
        &expect![[r#"
            closes-descriptors: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process lost its connection to the host: something closed descriptors that were not its own, the same way as before at the same position
                next: tell the plugin's author, with what the worker printed last, if it is shown below
            garbage-on-channel: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process sent bytes that are no message, perhaps because something wrote to a descriptor that was not its own: it was ended, the same way as before at the same position
                next: tell the plugin's author, with what the worker printed last, if it is shown below
            promises-endless-data: exit 4
              failed after 2
                pipeline misbehaving, partition eu, attempt 2: transform: the worker process sent a message that is too long, perhaps because something wrote to a descriptor that was not its own: it was ended, the same way as before at the same position
                next: tell the plugin's author, with what the worker printed last, if it is shown below
        "#]],
    );
}

#[test]
fn a_plugin_reaches_nothing_beyond_its_process() {
    let project = project();
    require_whole_fence(&project);
    check_faults(
        &[
            ("forks", ""),
            ("starts-a-program", ""),
            ("reads-host-environment", ""),
            ("kills-the-host", ""),
            ("looks-around", ""),
        ],
        &expect![[r#"
            forks: exit 4
              failed after 1
                pipeline misbehaving, partition eu, attempt 1: transform: fork: permission denied; fork by its other number: unsupported
            starts-a-program: exit 4
              failed after 1
                pipeline misbehaving, partition eu, attempt 1: transform: start: permission denied; exec: permission denied
            reads-host-environment: exit 4
              failed after 1
                pipeline misbehaving, partition eu, attempt 1: transform: environ: permission denied; cmdline: permission denied; mem: permission denied; processes: permission denied; other processes: 0
            kills-the-host: exit 4
              failed after 1
                pipeline misbehaving, partition eu, attempt 1: transform: kill all: permission denied; kill the group: permission denied; renice: permission denied; limits: permission denied; own: permission denied; queue: permission denied; tgkill: permission denied; kill: permission denied
            looks-around: exit 4
              failed after 1
                pipeline misbehaving, partition eu, attempt 1: transform: 0 variables; socket, pipe, pipe, socket, socket
        "#]],
    );
}

#[test]
fn a_plugin_reaches_no_file_that_is_not_granted() {
    let project = project();
    require_whole_fence(&project);
    // State and sink are there to be read.
    let steady = "sink: { path: data/warehouse.db }\n";
    project.config("steady", steady);
    project.result(&["run", "steady"], 0);
    let state = project.path(".etl-host/state.db");
    assert!(state.exists());
    let files = [
        project.path(".env"),
        project.path("plugins/misbehaving.yaml"),
        project.path("data/warehouse.db"),
        state,
    ];
    let list: Vec<String> = files.iter().map(|file| format!("{file:?}")).collect();
    let mut text = String::new();
    for fault in ["reads-files", "writes-files"] {
        let yaml = format!(
            "settings: {{ misbehave: {fault}, reach: [{}] }}\n",
            list.join(", ")
        );
        text += &run_fault(&project, "misbehaving", fault, &yaml);
    }
    for file in &files {
        assert!(file.exists(), "{}", file.display());
        assert!(!file.with_extension("new").exists(), "{}", file.display());
    }
    assert_eq!(loaded(&project, "data/warehouse.db"), "300|300\n");
    expect![[r#"
        reads-files: exit 4
          failed after 1
            pipeline misbehaving, partition eu, attempt 1: transform: .env: permission denied; misbehaving.yaml: permission denied; warehouse.db: permission denied; state.db: permission denied
        writes-files: exit 4
          failed after 1
            pipeline misbehaving, partition eu, attempt 1: transform: write .env: permission denied; create: permission denied; rename: permission denied; remove: permission denied; write misbehaving.yaml: permission denied; create: permission denied; rename: permission denied; remove: permission denied; write warehouse.db: permission denied; create: permission denied; rename: permission denied; remove: permission denied; write state.db: permission denied; create: permission denied; rename: permission denied; remove: permission denied
    "#]].assert_eq(&text);
}

#[test]
fn a_plugin_reaches_no_server_that_is_not_granted() {
    let project = project();
    require_whole_fence(&project);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let local = project.path("local.sock");
    let _local = std::os::unix::net::UnixListener::bind(&local).unwrap();
    let connect = format!("connect: [\"127.0.0.1:{port}\"]");
    let mut text = run_fault(
        &project,
        "misbehaving",
        "connects",
        &format!("settings: {{ misbehave: connects, {connect} }}\n"),
    );
    let granted = "capabilities: { hosts: [\"127.0.0.1:1\"] }\n";
    text += "with a grant of port 1\n";
    // Nobody is at the port that is granted: it is refused by the network, and not by the fence.
    let connect = format!("connect: [\"127.0.0.1:{port}\", \"127.0.0.1:1\"]");
    let yaml = format!("{granted}settings: {{ misbehave: connects, {connect} }}\n");
    std::fs::remove_file(project.path("data/connects.db")).unwrap();
    std::fs::remove_file(project.path("data/connects-steady.db")).unwrap();
    text += &run_fault(&project, "networked", "connects", &yaml);
    let reach = format!("reach: [{local:?}]");
    let yaml = format!("{granted}settings: {{ misbehave: connects-to-a-local-socket, {reach} }}\n");
    text += &run_fault(&project, "networked", "connects-to-a-local-socket", &yaml);
    server.set_nonblocking(true).unwrap();
    assert!(server.accept().is_err(), "somebody came through the fence");
    expect![[r#"
        connects: exit 4
          failed after 1
            pipeline misbehaving, partition eu, attempt 1: transform: TCP: permission denied; UDP: permission denied
        with a grant of port 1
        connects: exit 4
          failed after 1
            pipeline networked, partition eu, attempt 1: transform: TCP: permission denied; TCP: connection refused; UDP: DONE
        connects-to-a-local-socket: exit 4
          failed after 1
            pipeline networked, partition eu, attempt 1: transform: local socket: permission denied
    "#]].assert_eq(&text);
}

/// Without a fence the same plugin gets it all, so the tests above can fail.
#[test]
fn inside_the_host_the_same_plugin_reads_everything() {
    let project = project();
    let env = project.path(".env");
    for (fault, password) in [
        ("reads-host-environment", workers::PASSWORD),
        ("reads-files", workers::OTHER_PASSWORD),
    ] {
        project.config(
            "misbehaving",
            &format!("settings: {{ misbehave: {fault}, reach: [{env:?}] }}\n"),
        );
        let run = ["run", "misbehaving", "--isolation", "in-process"];
        let finished = program(&project, &run).run().unwrap();
        let finished = finished.require_code(1).unwrap();
        let said = finished.stderr.contains(password);
        assert!(said, "{fault}: {}", finished.stderr);
    }
}

#[test]
fn inside_the_host_a_loop_that_looks_for_it_ends_when_the_run_is_stopped() {
    let project = project();
    project.config(
        "misbehaving",
        "settings: { misbehave: waits-until-cancelled }\n",
    );
    let run = ["run", "misbehaving", "--isolation", "in-process"];
    let mut running = program(&project, &run).start().unwrap();
    running
        .wait_for_stderr(|line| line.contains("waiting to be cancelled"))
        .unwrap();
    assert_eq!(workers_of(running.id()), []);
    running.signal(Signal::INT).unwrap();
    let finished = running.finish().unwrap().require_code(130).unwrap();
    assert!(
        finished.stderr.contains("was told to stop"),
        "{}",
        finished.stderr
    );
}

/// A plugin's `exit(0)` is nobody's success, not even where it ends the host.
#[test]
fn an_exit_inside_the_host_is_no_success() {
    let project = project();
    project.config("misbehaving", "settings: { misbehave: exit-zero }\n");
    let run = ["run", "misbehaving", "--isolation", "in-process"];
    let finished = program(&project, &run).run().unwrap();
    assert_ne!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stderr.contains("exit"), "{}", finished.stderr);
}

/// Faults that the host survives in its own process too: the runtime does not know where a stage runs.
const CALMER: &[&str] = &[
    "panic-in-validate",
    "panic-in-partitions",
    "panic-in-transformer",
    "panic-in-open",
    "panic-in-transform",
    "panic-in-finish",
    "panic-in-close",
    "panic-in-drop",
    "panic-without-text",
    "panic-with-a-bomb",
    "panic-in-a-thread",
    "transient",
    "fatal",
    "config",
    "rejected",
    "cancelled-unasked",
    "other-columns",
    "unknown-table",
    "loses-rows",
    "invents-rows",
    "filters-on-the-sly",
    "panic-in-extractor",
    "panic-in-extractor-open",
    "panic-in-extractor-next",
    "panic-in-extractor-close",
    "extractor-other-columns",
    "panic-in-loader",
    "panic-in-loader-open",
    "panic-in-loader-load",
    "panic-in-loader-commit",
    "panic-in-loader-close",
    "loader-miscounts",
];

#[test]
fn what_both_survive_reads_the_same() {
    let project = project();
    for fault in CALMER {
        let told = ["in-process", "process"].map(|isolation| {
            let sink = format!("sink: {{ path: data/{fault}-{isolation}.db }}\n");
            let settings = format!("settings: {{ misbehave: {fault} }}\n");
            project.config("misbehaving", &(sink + &settings));
            let run = ["run", "misbehaving", "--isolation", isolation];
            let finished = program(&project, &run).run().unwrap();
            let reports = reports(&finished);
            check_row(fault, &reports[0], &finished.stderr);
            format!("exit {:?}\n{}", finished.code, describe(&reports[0]))
        });
        assert_eq!(told[0], told[1], "{fault}");
    }
}

/// The file of the plugin that misbehaves while it is loaded, with this fault.
fn misbehaving_file(project: &Project, fault: &str) {
    const PLACE: &[u8] = b"load-fault:nothing..............";
    let file = project.plugin("fixture-misbehaves-on-loading");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes
        .windows(PLACE.len())
        .position(|window| window == PLACE)
        .unwrap();
    let mut name = format!("load-fault:{fault}").into_bytes();
    name.resize(PLACE.len(), b'.');
    bytes[at..at + PLACE.len()].copy_from_slice(&name);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
}

#[test]
fn a_library_that_misbehaves_while_it_is_loaded_is_refused_and_the_others_are_not() {
    let project = project();
    require_whole_fence(&project);
    let mut text = String::new();
    for fault in [
        "crashes",
        "exits",
        "allocates",
        "forks",
        "reads",
        "writes",
        "loops",
    ] {
        misbehaving_file(&project, fault);
        let finished = program(&project, &["list"]).run().unwrap();
        let finished = finished.require_code(0).unwrap();
        check_secrecy(&project, &finished, fault);
        let list = finished.json().unwrap();
        let [refused] = list["refused"].as_array().unwrap().as_slice() else {
            panic!("{fault}: {list:#}")
        };
        writeln!(text, "{fault}: {}", refused["reason"].as_str().unwrap()).unwrap();
        assert!(list.to_string().contains("steady"), "{list:#}");
    }
    expect![[r#"
        crashes: loading it crashes: the process that tried it ended with signal 6 (SIGABRT)
        exits: loading it crashes: the process that tried it called exit(0)
        allocates: loading it crashes: the process that tried it ran out of the 1024 MiB of memory that `limits.memory` grants (signal 6, SIGABRT)
        forks: loading it crashes: the process that tried it called exit(3): fork: permission denied
        reads: loading it crashes: the process that tried it called exit(3): environment: nothing, memory: nothing, own variables: 0
        writes: loading it crashes: the process that tried it sent bytes that are no message
        loops: it does not finish loading within 10 s
    "#]].assert_eq(&text);
}

#[test]
fn the_table_of_faults_is_complete_and_names_its_tests() {
    let project = project();
    project.config("misbehaving", "isolation: process\n");
    let info = project.result(&["info", "misbehaving"], 0);
    let faults = info["settings_schema"]["$defs"]["Fault"]["enum"]
        .as_array()
        .unwrap_or_else(|| panic!("{:#}", info["settings_schema"]));
    let rows = table();
    assert!(faults.len() > 60, "{}", faults.len());
    for fault in faults {
        let fault = fault.as_str().unwrap();
        let known = rows
            .iter()
            .filter(|row| row.faults.iter().any(|known| known == fault))
            .count();
        assert_eq!(known, 1, "lines of docs/isolation.md for {fault}");
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let sources: String = [TABLE, "worker_life.rs", "stages.rs"]
        .iter()
        .map(|file| std::fs::read_to_string(format!("{folder}/{file}")).unwrap())
        .collect();
    for row in rows {
        assert!(
            sources.contains(&format!("fn {}(", row.test)),
            "{:?} names the test `{}`, which there is not",
            row.faults,
            row.test
        );
        for fault in row.faults {
            let said = faults.iter().any(|known| *known == *fault);
            assert!(said, "there is no fault {fault}");
        }
    }
}
