//! Every command of `docs/operations.md` is run, block by block, in a project that is like an operator's.
//!
//! A block of `sh` or `console` runs as it stands. Marked `with a daemon`, one is there; marked `on an installed service`,
//! it finds what `install-service.sh` puts into a folder, and stand-ins for what needs a machine of its own, which know
//! the units and refuse any other. Commands in the running text are parsed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod operators;

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use etl_host::cli::Arguments;
use etl_testkit::artifact;
use etl_testkit::process::{Finished, Program, Signal};
use etl_testkit::project::Project;
use operators::{HOST, daemon, scripts};

const DAEMON: &str = "<!-- with a daemon -->";
const SERVICE: &str = "<!-- on an installed service -->";
const CONFIG: &str = "sink: { partition_column: source_shard }\n";

/// Stand-ins for what needs a machine of its own.
const STAND_INS: [(&str, &str); 6] = [
    // It only asks what `make` would do.
    (
        "make",
        "exec /usr/bin/make --dry-run --directory \"$REPOSITORY\" \"$@\" >/dev/null\n",
    ),
    (
        "sudo",
        "if [ \"$1\" = scripts/install-service.sh ]; then exec \"$REPOSITORY/$1\" --root \"$ROOT\"; fi\nexec \"$@\"\n",
    ),
    // There is no user etl here.
    (
        "runuser",
        "[ \"$1 $2 $3\" = '-u etl --' ] || exit 1\nshift 3\nexec \"$@\"\n",
    ),
    (
        "install",
        "set -e\n[ \"$1 $2 $3 $4\" = '-o etl -g etl' ] || exec /usr/bin/install \"$@\"\nshift 4\nexec /usr/bin/install \"$@\"\n",
    ),
    ("systemctl", UNITS),
    ("journalctl", UNITS),
];

/// Fails unless what it is asked for is a verb of systemd's and a unit that is installed.
const UNITS: &str = r#"seen=
for word in "$@"; do
    case $word in
    daemon-reload) exit 0 ;;
    enable | disable | start | stop | restart | status | list-timers | --now | --no-block | --no-pager | -u) ;;
    etl-*)
        unit=$word
        case $unit in *.timer | *.service) ;; *) unit=$unit.service ;; esac
        [ -e "$ROOT/etc/systemd/system/$unit" ] || { echo "no unit $unit" >&2; exit 1; }
        seen=$unit
        ;;
    *) echo "what is $word?" >&2; exit 1 ;;
    esac
done
[ -n "$seen" ]
"#;

/// Commands of a block, and whether something must be there first.
struct Block {
    line: usize,
    mark: &'static str,
    commands: Vec<String>,
}

fn document() -> String {
    fs::read_to_string(scripts().join("../docs/operations.md")).unwrap()
}

/// The blocks of commands, in order.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line == "```sh" || line == "```console" {
            let mark = [DAEMON, SERVICE].into_iter().find(|mark| before == *mark);
            let inside: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "```")
                .collect();
            let prompted = line == "```console";
            let commands = inside
                .iter()
                .filter_map(|line| {
                    if prompted {
                        line.strip_prefix("$ ")
                    } else {
                        Some(*line)
                    }
                })
                .filter(|line| !line.trim().is_empty())
                .map(str::to_owned)
                .collect();
            blocks.push(Block {
                line: number + 1,
                mark: mark.unwrap_or_default(),
                commands,
            });
        } else if line.starts_with("```") {
            lines.by_ref().find(|(_, line)| *line == "```");
        }
        before = line;
    }
    blocks
}

/// A project with two shards of logins that were loaded, and `etl-host` in its PATH.
fn project() -> Project {
    let project = Project::new(HOST);
    project.plugin("login-analytics");
    project.config("login-analytics", CONFIG);
    let maker = artifact::binary("login-analytics-demo", "login-analytics-demo").unwrap();
    Program::new(maker)
        .current_dir(project.dir())
        .args(["--dir", "data", "--rows", "200"])
        .run()
        .unwrap()
        .require_code(0)
        .unwrap();
    project.result(&["run", "login-analytics"], 0);
    fs::create_dir(project.path("bin")).unwrap();
    symlink(HOST, project.path("bin/etl-host")).unwrap();
    symlink(scripts(), project.path("scripts")).unwrap();
    project
}

/// What a block needs besides what all of them have.
fn prepare(project: &Project, block: &Block) {
    let text = block.commands.join("\n");
    if text.contains("new-name") {
        let shards = "source: { shards: [{ name: new-name, path: data/shard-1.db }, { name: shard-2, path: data/shard-2.db }] }\n";
        project.config("login-analytics", &format!("{CONFIG}{shards}"));
    }
    if text.contains("dead-letters") {
        // The sink refuses every row of a second load, until the cause is mended.
        project.execute(
            "data/warehouse.db",
            "CREATE TRIGGER refuse BEFORE INSERT ON login_analytics BEGIN SELECT RAISE(ABORT, 'no'); END;",
        );
        project.config(
            "login-analytics",
            &format!("{CONFIG}error_handling: {{ max_bad_rows: 1000 }}\n"),
        );
        project.result(&["run", "login-analytics", "--full-refresh"], 0);
        project.execute("data/warehouse.db", "DROP TRIGGER refuse");
    }
}

/// Runs a command as a shell in the project would.
fn run(project: &Project, command: &str, root: &Path) -> Finished {
    let path = std::env::var("PATH").unwrap();
    let bin = project.path("bin");
    let installed = root.join("usr/local/bin");
    let path = format!("{}:{}:{path}", bin.display(), installed.display());
    let follows = command.contains(" -f ");
    let mut program = Program::new("/bin/bash")
        .args(["-euo", "pipefail", "-c"])
        // The shell makes way, so that a signal reaches what it was given.
        .arg(if follows {
            format!("exec {command}")
        } else {
            command.to_owned()
        })
        .current_dir(project.dir())
        .env("PATH", path)
        .env("ROOT", root)
        .env("REPOSITORY", scripts().join(".."))
        .env("ETL_HOST", HOST)
        .env("ETL_SYSTEMD_DIR", root.join("etc/systemd/system"))
        .env("ETL_SERVICE_USER", "daemon")
        .env("ETL_SERVICE_DIR", root.join("var/lib/etl-host"))
        .env("ETL_PLUGINS_DIR", project.path("plugins"))
        .env("ETL_STATE_DIR", project.path(".etl-host"))
        .env("ETL_CONFIG_DIR", project.path("conf"))
        .env("ETL_LOG_DIR", project.path(".etl-host/logs"));
    program = program.env_remove("ETL_LOG");
    if follows {
        let mut running = program.start().unwrap();
        running.wait_for_stdout(|_| true).unwrap();
        running.signal(Signal::KILL).unwrap();
        let finished = running.finish().unwrap();
        return Finished {
            code: Some(0),
            ..finished
        };
    }
    program.run().unwrap()
}

/// As on a machine where the service is installed, but in a folder.
fn install(project: &Project) -> PathBuf {
    let root = project.path("root");
    for (name, text) in STAND_INS {
        let path = project.write(format!("bin/{name}"), format!("#!/bin/sh\n{text}"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let command = "sudo scripts/install-service.sh";
    run(project, command, &root).require_code(0).unwrap();
    // logrotate wants to know the user.
    let rotation = root.join("etc/logrotate.d/etl-pipelines");
    let text = fs::read_to_string(&rotation).unwrap();
    fs::write(&rotation, text.replace("etl etl", "daemon daemon")).unwrap();
    // What a release build would have left.
    fs::create_dir_all(project.path("target/release")).unwrap();
    let library = artifact::plugin("login-analytics").unwrap();
    fs::copy(
        library,
        project.path("target/release/liblogin_analytics.so"),
    )
    .unwrap();
    // Where the service's pipelines find their data.
    symlink(project.path("data"), root.join("var/lib/etl-host/data")).unwrap();
    root
}

#[test]
fn every_block_of_commands_runs_as_it_stands() {
    let document = document();
    let blocks = blocks(&document);
    let of_service = blocks.iter().filter(|block| block.mark == SERVICE).count();
    assert!(
        blocks.len() > 14 && of_service > 4,
        "{} blocks",
        blocks.len()
    );
    let mut failed = String::new();
    for block in blocks {
        let project = project();
        fs::create_dir(project.path("conf")).unwrap();
        prepare(&project, &block);
        let served = (block.mark == DAEMON).then(|| daemon(&project));
        let root = if block.mark == SERVICE {
            install(&project)
        } else {
            project.path("root")
        };
        for command in &block.commands {
            let mut command = command.clone();
            for folder in ["/var/lib/etl-host", "/etc/etl-host", "/etc/logrotate.d"] {
                command = command.replace(folder, &format!("{}{folder}", root.display()));
            }
            if command.contains("RUN_ID") {
                let report = project.result(&["run", "login-analytics"], 0);
                command = command.replace("RUN_ID", report["run_id"].as_str().unwrap());
            }
            let finished = run(&project, &command, &root);
            if finished.code != Some(0) {
                writeln!(
                    failed,
                    "line {}: {command}\n  ended with {:?}\n{}{}",
                    block.line, finished.code, finished.stdout, finished.stderr
                )
                .unwrap();
            }
        }
        if let Some(daemon) = served {
            daemon.signal(Signal::TERM).unwrap();
            daemon.finish().unwrap().require_code(143).unwrap();
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

#[test]
fn every_command_in_the_running_text_is_one() {
    let document = document();
    let mut fenced = false;
    let text: Vec<&str> = document
        .lines()
        .filter(|line| {
            let fence = line.starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
        .collect();
    let text = text.join("\n");
    let mut count = 0;
    for span in text.split('`').skip(1).step_by(2) {
        let Some(rest) = span.strip_prefix("etl-host ") else {
            continue;
        };
        // A pool's name in PostgreSQL, and the program without a command.
        if rest.starts_with('<') {
            continue;
        }
        let rest = rest
            .replace(" P ", " login-analytics ")
            .replace("--partition N", "--partition shard-1")
            .replace("--cursor …", "--cursor 1")
            .replace("PIPELINE", "login-analytics")
            .replace("<pipeline>", "login-analytics")
            .replace('\'', "\"");
        let mut words = vec!["etl-host".to_owned()];
        for (index, part) in rest.split('"').enumerate() {
            if index % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(|word| {
                    if word == "P" {
                        "login-analytics".to_owned()
                    } else {
                        word.to_owned()
                    }
                }));
            }
        }
        count += 1;
        let commands = Arguments::command();
        if words.len() == 2 && commands.find_subcommand(&words[1]).is_some() {
            continue;
        }
        if let Err(error) = Arguments::try_parse_from(&words) {
            panic!("`{span}`: {error}");
        }
    }
    assert!(count > 10, "{count}");
}
