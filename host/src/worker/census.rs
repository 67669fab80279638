//! The workers of a host, as the system knows them: for whoever looks from another process.

use std::fs;

use super::launch::Label;
use crate::process::{Stat, Usage};

/// A worker that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its process number.
    pub process: u32,
    /// For whom it works.
    pub label: Label,
    /// What it uses.
    pub usage: Usage,
}

/// The workers of a host's process, by their numbers.
pub fn workers_of(host: u32) -> Vec<Running> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut running: Vec<Running> = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process| Stat::of(*process).is_some_and(|stat| stat.parent == host))
        .filter_map(|process| {
            Some(Running {
                process,
                label: label(process)?,
                usage: Usage::of(process)?,
            })
        })
        .collect();
    running.sort_by_key(|worker| worker.process);
    running
}

/// What the process was started for, if it is a worker.
fn label(process: u32) -> Option<Label> {
    let arguments = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let arguments = String::from_utf8_lossy(&arguments);
    let mut arguments = arguments.split('\0').skip(1);
    (arguments.next()? == "worker").then(|| Label {
        pipeline: arguments.next().unwrap_or_default().to_owned(),
        partition: arguments.next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_that_are_workers_are_found_and_others_are_not() {
        let start = |program: &str, arguments: &[&str]| {
            Command::new("sh")
                .arg0(program)
                .args(["-c", "read line", "worker"])
                .args(arguments)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap()
        };
        // A shell is no worker, whatever follows.
        let mut other = start("etl-host", &["p", "eu"]);
        assert!(
            workers_of(std::process::id())
                .iter()
                .all(|worker| worker.process != other.id())
        );
        let of_other = Stat::of(other.id()).unwrap();
        assert_eq!(of_other.parent, std::process::id());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(workers_of(0).is_empty());
    }
}
