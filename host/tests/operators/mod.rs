//! The scripts for operators as they are called in a project, and a daemon beside them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests; each test file uses its own part"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use etl_testkit::process::{Program, Running};
use etl_testkit::project::Project;

pub const HOST: &str = env!("CARGO_BIN_EXE_etl-host");

/// Where the scripts are.
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts")
}

/// A script in the project: `units/` is the folder of systemd's units, and nothing of the test's own environment that
/// would configure the host reaches it.
pub fn script(project: &Project, name: &str, args: &[&str]) -> Program {
    let units = project.path("units");
    std::fs::create_dir_all(&units).unwrap();
    let mut program = Program::new(scripts().join(name))
        .current_dir(project.dir())
        .args(args);
    for name in [
        "ETL_PLUGINS_DIR",
        "ETL_STATE_DIR",
        "ETL_CONFIG_DIR",
        "ETL_LOG_DIR",
        "ETL_LOG",
    ] {
        program = program.env_remove(name);
    }
    program
        .env("ETL_HOST", HOST)
        .env("ETL_SYSTEMD_DIR", units)
        .env("ETL_SERVICE_USER", "daemon")
        .env("TZ", "UTC")
}

/// Runs a script, which must end with this code, and gives what it said on stdout and stderr.
pub fn said(project: &Project, name: &str, args: &[&str], code: i32) -> (String, String) {
    let finished = script(project, name, args).run().unwrap();
    let finished = finished.require_code(code).unwrap();
    (finished.stdout, finished.stderr)
}

/// A daemon of the project, once it listens.
pub fn daemon(project: &Project) -> Running {
    project.write(
        "conf/etl-host.yaml",
        "http: { listen: \"127.0.0.1:0\" }\nlogs: { rotate: false }\n",
    );
    let mut daemon = project
        .program(&["--config-dir", "conf", "-v", "serve"])
        .start()
        .unwrap();
    daemon
        .wait_for_stderr(|line| line.contains("listening on"))
        .unwrap();
    daemon
}

/// What a program of systemd says; it must be there and content.
pub fn systemd_analyze(args: &[&str]) -> String {
    let output = Command::new("systemd-analyze")
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("systemd-analyze: {error}; run scripts/setup-dev.sh test"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(
        output.status.success(),
        "systemd-analyze {}: {text}",
        args.join(" ")
    );
    text
}
