//! What is installed beside the program: units of systemd and the rotation of logs, each tried by the program it is for.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod kinds;
mod operators;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use etl_testkit::process::{Program, Signal};
use etl_testkit::project::Project;
use operators::{HOST, scripts, systemd_analyze};

/// The most that `systemd-analyze security` may find exposed, of 10; docs/operations.md states it.
const MOST_EXPOSED: f64 = 2.0;

/// What install-service.sh puts into a folder of the project.
fn installed(project: &Project) -> PathBuf {
    let root = project.path("root");
    Program::new(scripts().join("install-service.sh"))
        .args(["--root", root.to_str().unwrap()])
        .env("ETL_HOST", HOST)
        .run()
        .unwrap()
        .require_code(0)
        .unwrap();
    root
}

fn exposure(unit: &Path) -> f64 {
    let text = systemd_analyze(&["security", "--offline=true", unit.to_str().unwrap()]);
    let overall = text.lines().find(|line| line.contains("Overall exposure"));
    let words: Vec<&str> = overall.unwrap().split_whitespace().collect();
    words.iter().find_map(|word| word.parse().ok()).unwrap()
}

#[test]
fn the_service_is_understood_and_exposes_little() {
    let project = Project::new(HOST);
    let root = installed(&project);
    let path = root.join("etc/systemd/system/etl-host.service");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("ExecStart=/usr/local/bin/etl-host --config-dir /etc/etl-host serve\n"));
    // The program is not installed on this machine; all else is looked at as it is.
    fs::write(&path, text.replace("/usr/local/bin/etl-host", HOST)).unwrap();
    assert_eq!(systemd_analyze(&["verify", path.to_str().unwrap()]), "");
    let exposed = exposure(&path);
    assert!(exposed <= MOST_EXPOSED, "{exposed}");

    let template = fs::read_to_string(scripts().join("systemd/etl-pipeline.service.in")).unwrap();
    let template = template
        .replace("@COMMAND@", HOST)
        .replace("@WORKING_DIR@", "/var/lib/etl-host")
        .replace("@WRITABLE@", "");
    let path = project.write("of-a-pipeline.service", template);
    let exposed = exposure(&path);
    assert!(exposed <= MOST_EXPOSED, "{exposed}");
    let documented = fs::read_to_string(scripts().join("../docs/operations.md")).unwrap();
    assert!(documented.contains(&format!("at most {MOST_EXPOSED:.1} of 10")));
}

/// The two units fence off the same: they run the same program.
#[test]
fn a_pipelines_service_is_hardened_as_the_daemons_is() {
    let fences = |name: &str| -> BTreeSet<String> {
        let text = fs::read_to_string(scripts().join("systemd").join(name)).unwrap();
        let hardened = text
            .lines()
            .skip_while(|line| !line.starts_with("NoNewPrivileges="));
        let settings = hardened.take_while(|line| !line.starts_with("[Install]"));
        let settings = settings.filter(|line| !line.is_empty() && !line.starts_with('#'));
        settings.map(str::to_owned).collect()
    };
    let daemon = fences("etl-host.service");
    assert!(daemon.len() > 15, "{daemon:?}");
    let other: Vec<_> = fences("etl-pipeline.service.in")
        .symmetric_difference(&daemon)
        .cloned()
        .collect();
    assert_eq!(other, [""; 0]);
}

#[test]
fn an_installation_holds_what_it_needs_and_keeps_settings() {
    let project = Project::new(HOST);
    let root = installed(&project);
    let daemon = root.join("etc/etl-host/etl-host.yaml");
    assert_eq!(
        fs::read_to_string(&daemon).unwrap(),
        "logs: { rotate: false }\n"
    );
    fs::write(&daemon, "max_concurrent_runs: 2\n").unwrap();
    fs::write(root.join("var/lib/etl-host/.env"), "A=1\n").unwrap();
    installed(&project);
    assert_eq!(
        fs::read_to_string(&daemon).unwrap(),
        "max_concurrent_runs: 2\n"
    );
    let env = root.join("var/lib/etl-host/.env");
    assert_eq!(fs::read_to_string(&env).unwrap(), "A=1\n");
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("var/lib/etl-host/.env"), 0o600);
    assert_eq!(mode("var/lib/etl-host/plugins"), 0o750);
    assert_eq!(mode("var/log/etl-pipelines"), 0o750);
    assert_eq!(mode("usr/local/bin/etl-host"), 0o755);
    for name in ["manage-pipeline", "monitor-pipelines"] {
        let help = Command::new(root.join("usr/local/bin").join(name))
            .arg("--help")
            .output()
            .unwrap();
        assert!(help.status.success(), "{name}");
        assert!(
            String::from_utf8_lossy(&help.stdout).contains(".sh"),
            "{name}"
        );
    }
}

#[test]
fn logrotate_takes_no_line_from_a_run_that_goes_on() {
    let project = kinds::misbehaving(10);
    project.config(
        "misbehaving",
        "settings: { misbehave: waits-until-cancelled }\n",
    );
    let file = scripts().join("logrotate/etl-pipelines");
    let text = fs::read_to_string(file).unwrap();
    for line in [
        "daily",
        "rotate 7",
        "compress",
        "delaycompress",
        "missingok",
        "notifempty",
        "create 0640 etl etl",
    ] {
        assert!(text.lines().any(|it| it.trim() == line), "{line}");
    }
    let logs = project.path("logs");
    fs::create_dir(&logs).unwrap();
    // logrotate refuses a folder that others may write to.
    fs::set_permissions(&logs, fs::Permissions::from_mode(0o750)).unwrap();
    let own = fs::metadata(&logs).unwrap();
    let text = text
        .replace("/var/log/etl-pipelines", logs.to_str().unwrap())
        .replace("etl etl", &format!("{} {}", name("-un"), name("-gn")));
    let config = project.write("etl-pipelines", text);
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let rotate = || {
        let output = Command::new("logrotate")
            .args(["--force", "--state"])
            .arg(project.path("rotated"))
            .arg(&config)
            .output()
            .unwrap_or_else(|error| panic!("logrotate: {error}; run scripts/setup-dev.sh test"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
    };
    let mut all = Vec::new();
    for round in 0..3 {
        let mut running = project
            .program(&["--log-dir", "logs", "-vv", "run", "misbehaving"])
            .start()
            .unwrap();
        running
            .wait_for_stderr(|line| line.contains("waiting to be cancelled"))
            .unwrap();
        let inode = fs::metadata(logs.join("misbehaving.log")).unwrap().ino();
        rotate();
        // logrotate makes it, for its owner and nobody else.
        let current = fs::metadata(logs.join("misbehaving.log")).unwrap();
        assert_ne!(current.ino(), inode, "round {round}");
        assert_eq!((current.mode() & 0o777, current.uid()), (0o640, own.uid()));
        running.signal(Signal::INT).unwrap();
        running.finish().unwrap().require_code(130).unwrap();
        let shown = project
            .program(&[
                "--log-dir",
                "logs",
                "--output",
                "json",
                "logs",
                "misbehaving",
            ])
            .args(["--run", "last"])
            .run()
            .unwrap()
            .require_code(0)
            .unwrap();
        let lines: Vec<String> = shown.stdout.lines().map(str::to_owned).collect();
        let message = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["message"].as_str().unwrap().to_owned()
        };
        assert_eq!(message(&lines[0]), "run started");
        assert!(
            message(lines.last().unwrap()).starts_with("run cancelled"),
            "{lines:?}"
        );
        all.extend(lines);
    }
    // What lies in the folder is what was shown, line by line: nothing is lost, nothing comes twice.
    let mut kept = String::new();
    for file in ["misbehaving.log.3.gz", "misbehaving.log.2.gz"] {
        let unpacked = Command::new("gzip")
            .arg("-dc")
            .arg(logs.join(file))
            .output()
            .unwrap();
        assert!(unpacked.status.success(), "{file}");
        kept.push_str(&String::from_utf8(unpacked.stdout).unwrap());
    }
    for file in ["misbehaving.log.1", "misbehaving.log"] {
        kept.push_str(&fs::read_to_string(logs.join(file)).unwrap());
    }
    let kept: Vec<&str> = kept.lines().collect();
    assert_eq!(kept, all);
}

/// The name of this user or group.
fn name(option: &str) -> String {
    let output = Command::new("id").arg(option).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
