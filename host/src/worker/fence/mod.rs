//! What a worker process may still do, closed around it before any code of the plugin runs.
//!
//! Each measure is taken where the kernel has it, and what is in force is told to the host, which shows it in `info`.
//! The process is expected to be single-threaded still: most measures hold for the calling thread and what it starts.
//!
//! | measure | against |
//! | --- | --- |
//! | descriptors | files and sockets that the host inherited from whoever started it |
//! | death with the host | a worker that outlives its host |
//! | not dumpable, no core files | other processes of the user that read its memory |
//! | limits | endless allocation, endless computing, endless opening |
//! | capabilities(7) | root's power over other processes |
//! | no new privileges | set-user-ID programs |
//! | landlock | files that are not granted, TCP ports that are not granted, signals to other processes |
//! | seccomp | new processes, network where no host is granted, power over other processes, and calls that no stage needs |

mod landlock;
mod seccomp;

use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use serde::{Deserialize, Serialize};

use crate::capabilities::Granted;
use crate::config::{Config, Limits};
use crate::plugin::probe::PATIENCE;

/// Seconds between the signal for too much CPU time and the end that cannot be put off.
const CPU_GRACE: u64 = 5;

/// What a worker may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Bytes of memory for data.
    pub memory: u64,
    /// CPU time; `None` for any.
    pub cpu_time: Option<Duration>,
    /// Descriptors.
    pub open_files: u64,
    /// Files and folders that may be read beyond what every program needs.
    pub paths: Vec<PathBuf>,
    /// Folders in which files may be made, written and removed.
    pub writable: Vec<PathBuf>,
    /// Servers that may be connected to, `name:port`.
    pub hosts: Vec<String>,
}

impl Fence {
    /// For a plugin that is configured like this and was granted that.
    pub fn of(config: &Config, granted: &Granted) -> Self {
        let limits = &config.limits;
        Self {
            memory: limits.memory as u64,
            cpu_time: limits.cpu_time,
            open_files: limits.open_files,
            paths: granted.paths.clone(),
            writable: granted.writable.clone(),
            hosts: granted.hosts.clone(),
        }
    }

    /// For a file of which nothing is known yet.
    pub fn of_probe() -> Self {
        let limits = Limits::default();
        Self {
            memory: limits.memory as u64,
            // It is for the clock to end it: a limit of the same length would sometimes be first.
            cpu_time: Some(PATIENCE * 2),
            open_files: limits.open_files,
            paths: Vec::new(),
            writable: Vec::new(),
            hosts: Vec::new(),
        }
    }
}

/// One part of the fence, and whether it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// What it is.
    pub name: String,
    /// Whether it is in force.
    pub in_force: bool,
    /// How far, or why not.
    pub detail: String,
}

impl Measure {
    fn taken<E: Display>(name: &str, result: Result<impl Into<String>, E>) -> Self {
        let (in_force, detail) = match result {
            Ok(detail) => (true, detail.into()),
            Err(error) => (false, error.to_string()),
        };
        Self {
            name: name.to_owned(),
            in_force,
            detail,
        }
    }
}

/// Closes the fence around this process. `copy` is the plugin that it will load.
pub fn close(fence: &Fence, copy: &Path) -> Vec<Measure> {
    let landlock = landlock::close(fence, copy);
    let confined = landlock.is_ok();
    vec![
        Measure::taken("environment", empty_environment()),
        Measure::taken(
            "death with the host",
            set_parent_process_death_signal(Some(Signal::KILL)).map(|()| "SIGKILL"),
        ),
        Measure::taken("not dumpable", not_dumpable()),
        Measure::taken("limits", limits(fence)),
        Measure::taken("capabilities dropped", drop_capabilities(confined)),
        Measure::taken(
            "no new privileges",
            set_no_new_privs(true).map(|()| String::new()),
        ),
        Measure::taken("landlock", landlock),
        Measure::taken("seccomp", seccomp::close(fence)),
    ]
}

/// Closes every descriptor but stdin, stdout and stderr.
#[allow(unsafe_code)]
pub fn close_inherited_descriptors() {
    // SAFETY: called as the first thing in the process: nothing in it owns a descriptor above 2 yet.
    let closed = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    // Kernels before 5.9 do not know it; what was inherited then stays open, as in any other program.
    let _ = closed;
}

/// Whoever stops the host and all its processes at once (a service manager does) means the host, which drains and then
/// ends its workers itself.
#[allow(unsafe_code)]
pub fn leave_signals_to_the_host() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: to ignore a signal installs no handler.
        let _ = unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn empty_environment() -> Result<String, String> {
    match std::env::vars_os().count() {
        0 => Ok("empty".to_owned()),
        many => Err(format!("{many} variables")),
    }
}

fn not_dumpable() -> rustix::io::Result<String> {
    let core = limit(Resource::Core, 0, 0);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    core.map(|_| "no core files".to_owned())
}

/// Sets a limit, or keeps the one that holds for the host where that is lower already: nobody may raise it.
fn limit(resource: Resource, soft: u64, hard: u64) -> rustix::io::Result<u64> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let (soft, hard) = (soft.min(most), hard.min(most));
    setrlimit(
        resource,
        Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        },
    )?;
    Ok(soft)
}

/// Each is set, whatever becomes of the others.
fn limits(fence: &Fence) -> rustix::io::Result<String> {
    let memory = limit(Resource::Data, fence.memory, fence.memory);
    let files = limit(Resource::Nofile, fence.open_files, fence.open_files);
    let cpu = fence.cpu_time.map(|time| {
        let seconds = time.as_secs().max(1);
        limit(Resource::Cpu, seconds, seconds.saturating_add(CPU_GRACE))
    });
    let mut text = format!("memory {} MiB, {} open files", memory? >> 20, files?);
    if let Some(seconds) = cpu.transpose()? {
        // Writing to a String cannot fail.
        let _ = write!(text, ", CPU time {seconds} s");
    }
    Ok(text)
}

/// Root's powers go; that of reading any file stays where landlock says which files there are.
fn drop_capabilities(confined: bool) -> rustix::io::Result<String> {
    let kept = if confined && rustix::process::geteuid().is_root() {
        CapabilitySet::DAC_READ_SEARCH
    } else {
        CapabilitySet::empty()
    };
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(if kept.is_empty() {
        "all".to_owned()
    } else {
        "all but reading of files that landlock allows".to_owned()
    })
}
