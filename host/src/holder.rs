//! Which process has a partition, in a form that other processes can read and judge.
//!
//! It says who holds a lease and whether that process is certainly gone. It takes no lease itself; the sinks do.

use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::process::Stat;

/// A process, as others know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holder {
    /// The host's name, for people.
    host: String,
    /// Since which start of the machine, and in which namespace, the process number means anything.
    machine: String,
    /// The process number.
    process: u32,
    /// When the process began, in ticks since the machine's start: numbers are used again.
    started: u64,
}

impl Holder {
    /// This process.
    pub fn of_this_process() -> Self {
        let process = std::process::id();
        Self {
            host: host(),
            machine: machine(),
            process,
            started: started(process).unwrap_or_default(),
        }
    }

    /// The name of its machine, for people.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The process number.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Whether the process has certainly ended. A process of another machine may always live.
    pub fn is_gone(&self) -> bool {
        !self.machine.is_empty()
            && self.machine == machine()
            && self.started != 0
            && started(self.process) != Some(self.started)
    }
}

impl Holder {
    /// Whether the process is certainly there, on this machine, so that a signal reaches it and nobody else.
    pub fn is_here(&self) -> bool {
        !self.machine.is_empty()
            && self.machine == machine()
            && self.started != 0
            && started(self.process) == Some(self.started)
    }

    /// Whether this machine, by its name, has been started again since, or its container has. Names are not unique: only
    /// for what nobody else writes.
    pub fn is_of_another_boot(&self) -> bool {
        let machine = machine();
        !self.machine.is_empty()
            && !machine.is_empty()
            && self.machine != machine
            && self.host == host()
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.process, self.host)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn host() -> String {
    read("/proc/sys/kernel/hostname")
}

/// Boot and process namespace. Empty where they cannot be told, so that nothing is concluded from them.
fn machine() -> String {
    let boot = read("/proc/sys/kernel/random/boot_id");
    match fs::read_link("/proc/self/ns/pid") {
        Ok(namespace) if !boot.is_empty() => format!("{boot} {}", namespace.display()),
        _ => String::new(),
    }
}

/// When a process began. `None` if there is none, or only what is left of one.
fn started(process: u32) -> Option<u64> {
    Stat::of(process).map(|stat| stat.started)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn this_process_lives() {
        let own = Holder::of_this_process();
        assert!(!own.is_gone() && own.is_here() && !own.is_of_another_boot());
        assert!(own.to_string().starts_with("process "));
        assert_ne!(own.started, 0);
    }

    #[test]
    fn a_process_that_ended_is_gone_and_so_is_one_whose_number_is_used_again() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let other = Holder {
            process: child.id(),
            started: started(child.id()).unwrap(),
            ..Holder::of_this_process()
        };
        assert!(!other.is_gone());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(other.is_gone() && !other.is_here());
        let earlier = Holder {
            started: 1,
            ..Holder::of_this_process()
        };
        assert!(earlier.is_gone() && !earlier.is_here());
    }

    #[test]
    fn nothing_is_known_of_another_machine() {
        let elsewhere = Holder {
            machine: "another boot".to_owned(),
            started: 1,
            ..Holder::of_this_process()
        };
        assert!(!elsewhere.is_gone() && !elsewhere.is_here());
    }

    #[test]
    fn another_boot_is_told_apart_from_another_machine() {
        let rebooted = Holder {
            machine: "another boot".to_owned(),
            ..Holder::of_this_process()
        };
        assert!(rebooted.is_of_another_boot());
        let elsewhere = Holder {
            host: "another".to_owned(),
            ..rebooted.clone()
        };
        assert!(!elsewhere.is_of_another_boot());
        let unknown = Holder {
            machine: String::new(),
            ..rebooted
        };
        assert!(!unknown.is_of_another_boot());
    }
}
