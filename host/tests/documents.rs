//! The commands in the documents. Those of `docs/operations.md` and `docs/api.md` are run by tests of their own; here the
//! tutorial runs as it stands, and every other command is one that there is: of the host, of cargo or of make.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod authors;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use authors::{Folder, HOST, require};
use clap::Parser;
use etl_host::cli::Arguments;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A block of commands, and the line at which it begins.
struct Block {
    line: usize,
    commands: Vec<String>,
}

/// The blocks of `sh`. What is given to a command as a text of several lines is left out.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line != "```sh" {
            continue;
        }
        let mut commands = Vec::new();
        let mut text_until = None;
        for (_, line) in lines.by_ref().take_while(|(_, line)| *line != "```") {
            if let Some(end) = &text_until {
                if line == end {
                    text_until = None;
                }
                continue;
            }
            text_until = line
                .split_once("<<'")
                .map(|(_, end)| end.trim_end_matches('\'').to_owned());
            let command = line.split(" # ").next().unwrap().trim();
            if !command.is_empty() {
                commands.push(command.to_owned());
            }
        }
        blocks.push(Block {
            line: number + 1,
            commands,
        });
    }
    blocks
}

fn document(name: &str) -> Vec<Block> {
    blocks(&fs::read_to_string(root().join(name)).unwrap())
}

/// The documents that people read, with their names.
fn documents() -> Vec<String> {
    let mut names = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for folder in ["docs", "plugins"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let page = if path.is_dir() {
                path.join("README.md")
            } else {
                path
            };
            if page.extension().is_some_and(|kind| kind == "md") && page.exists() {
                names.push(page.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    names.retain(|name| !["docs/operations.md", "docs/api.md"].contains(&name.as_str()));
    names
}

/// Whether this workspace has such a package.
fn is_package(name: &str) -> bool {
    let folders = ["", "plugins", "plugins/login-analytics", "host"];
    let known = match name {
        "etl-host" => root().join("host"),
        "etl-plugin-api" => root().join("plugin-api"),
        "etl-testkit" => root().join("host/testkit"),
        _ => match folders
            .iter()
            .map(|folder| root().join(folder).join(name))
            .find(|path| path.join("Cargo.toml").exists())
        {
            Some(path) => path,
            None => return false,
        },
    };
    let manifest = fs::read_to_string(known.join("Cargo.toml")).unwrap();
    manifest.contains(&format!("name = \"{name}\""))
}

/// What is wrong with a command, if it is none.
fn problem(command: &str) -> Option<String> {
    let words: Vec<&str> = command
        .split_whitespace()
        .skip_while(|word| word.contains('=') && !word.starts_with('-'))
        .collect();
    let after = |flag: &str| {
        let places = words.windows(2).filter(|pair| pair[0] == flag);
        places.map(|pair| pair[1].to_owned()).collect::<Vec<_>>()
    };
    match words[0] {
        "etl-host" | "target/release/etl-host" => Arguments::try_parse_from(&words)
            .err()
            .map(|error| error.to_string()),
        "make" => {
            let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
            let unknown = words[1..]
                .iter()
                .filter(|word| !word.contains('='))
                .find(|target| !makefile.contains(&format!("\n{target}:")))?;
            Some(format!("no target {unknown}"))
        }
        "cargo" => {
            if !["build", "test", "doc", "bench", "fmt", "clippy", "run"].contains(&words[1]) {
                return Some("not a command of cargo that is known here".to_owned());
            }
            if let Some(package) = after("-p").iter().find(|package| !is_package(package)) {
                return Some(format!("no package {package}"));
            }
            let tests = after("--test");
            let missing = tests
                .iter()
                .find(|test| !root().join(format!("host/tests/{test}.rs")).exists())?;
            Some(format!("no test {missing}"))
        }
        "mkdir" => {
            let library = words
                .iter()
                .find_map(|word| word.strip_prefix("target/release/lib")?.strip_suffix(".so"))?;
            (!is_package(&library.replace('_', "-"))).then(|| format!("no library {library}"))
        }
        "cd" | "cat" => None,
        script if script.starts_with("scripts/") => {
            (!root().join(script).exists()).then(|| "no such script".to_owned())
        }
        other => Some(format!("{other} is not known here")),
    }
}

#[test]
fn every_command_is_one() {
    let mut count = 0;
    let mut wrong = String::new();
    for name in documents() {
        for block in document(&name) {
            for command in block.commands {
                count += 1;
                if let Some(problem) = problem(&command) {
                    let line = block.line;
                    writeln!(wrong, "{name}, block of line {line}: {command}: {problem}").unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count > 40, "{count}");
}

#[test]
fn what_is_no_command_is_found() {
    for wrong in [
        "etl-host runn x",
        "etl-host run x --no-such-flag",
        "make coffee",
        "cargo test -p no-such-package",
        "cargo test -p etl-host --test no_such_test",
        "mkdir -p plugins && cp target/release/libno_such.so plugins/",
        "scripts/no-such.sh",
        "frobnicate",
    ] {
        assert!(problem(wrong).is_some(), "{wrong}");
    }
}

/// Runs commands one after another in one shell. The host shares with other tests what is compiled, in the profile of the
/// tests, and asks no registry; nothing else differs.
fn run(folder: &Folder, commands: &[String]) -> String {
    let lock = root().join("Cargo.lock");
    let lock = lock.display();
    let host = format!(
        "#!/bin/sh
case $1 in
install) shift; exec '{HOST}' install --debug \"$@\" ;;
generate) '{HOST}' \"$@\" && cp '{lock}' customer-analytics/ ;;
*) exec '{HOST}' \"$@\" ;;
esac
"
    );
    folder.executable("bin/etl-host", &host);
    let script = format!("set -eu\n{}\n", commands.join("\n"));
    require(folder.shell(&script), 0).stdout
}

#[test]
fn the_tutorial_runs_as_it_stands() {
    let folder = Folder::new("documents-tutorial");
    let commands: Vec<String> = document("docs/writing-a-plugin.md")
        .into_iter()
        .flat_map(|block| block.commands)
        // It opens a browser.
        .filter(|command| !command.starts_with("cargo doc"))
        .collect();
    assert_eq!(commands.len(), 9, "{commands:?}");
    let said = run(&folder, &commands);
    for expected in [
        "customer-analytics: 0.1.0 installed",
        "customer-analytics: succeeded",
        "6 rows read, 6 loaded",
        "the table takes these columns as it is",
        "dry run: nothing was written",
    ] {
        assert!(said.contains(expected), "{expected} is missing in\n{said}");
    }
}

#[test]
fn the_four_lines_of_the_readme_run_as_they_stand() {
    let folder = Folder::new("documents-readme");
    let four = document("README.md")
        .into_iter()
        .find(|block| block.commands[0].starts_with("etl-host generate"));
    let said = run(&folder, &four.unwrap().commands);
    assert!(said.contains("6 rows read, 6 loaded"), "{said}");
}
