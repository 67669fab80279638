//! What the kernel tells of a process: who started it and when, memory, CPU time.
//!
//! It only reads `/proc`; what follows from it is decided by others.

use std::fs;
use std::time::Duration;

use serde::Serialize;

/// A process as `/proc/<pid>/stat` has it, `proc_pid_stat(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Who started it.
    pub parent: u32,
    /// When it began, in ticks since the machine's start: numbers of processes are used again.
    pub started: u64,
    /// CPU time, user and system.
    pub cpu: Duration,
}

impl Stat {
    /// Of a process; `None` if there is none, or only what is left of one.
    pub fn of(process: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }

    fn parse(line: &str) -> Option<Self> {
        // The second field is a name in parentheses, which may itself hold spaces and parentheses.
        let (_, rest) = line.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let parent = fields.next()?.parse().ok()?;
        // Fields 14 and 15, then 22.
        let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        let ticks = number(9)? + number(0)?;
        let per_second = rustix::param::clock_ticks_per_second();
        Some(Self {
            parent,
            started: number(6)?,
            cpu: Duration::from_millis(ticks * 1000 / per_second.max(1)),
        })
    }
}

/// Memory and CPU time of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Resident memory now, bytes.
    pub resident_bytes: u64,
    /// The most it ever was, bytes.
    pub peak_bytes: u64,
    /// CPU time, user and system, milliseconds.
    pub cpu_ms: u64,
}

impl Usage {
    /// Of a process; `None` if there is none.
    pub fn of(process: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let cpu = Stat::of(process)?.cpu;
        Some(Self {
            resident_bytes: kibibytes(&status, "VmRSS:")? * 1024,
            peak_bytes: kibibytes(&status, "VmHWM:")? * 1024,
            cpu_ms: u64::try_from(cpu.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Of this process.
    pub fn of_this_process() -> Option<Self> {
        Self::of(std::process::id())
    }
}

/// One line of `/proc/<pid>/status`, `proc_pid_status(5)`.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_and_one_that_is_gone_does_not() {
        let usage = Usage::of_this_process().unwrap();
        assert!(usage.resident_bytes > 1 << 20);
        assert!(usage.peak_bytes >= usage.resident_bytes / 2);
        assert_eq!(Usage::of(u32::MAX), None);
        let own = Stat::of(std::process::id()).unwrap();
        assert_eq!(own.parent, std::os::unix::process::parent_id());
    }

    #[test]
    fn names_with_parentheses_do_no_harm_and_the_dead_are_none() {
        let line = "7 (a) (b) c) S 3 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 4711 1 1";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.parent, stat.started), (3, 4711));
        let ticks = u128::from(rustix::param::clock_ticks_per_second());
        assert_eq!(stat.cpu.as_millis(), 200 * 1000 / ticks);
        assert_eq!(Stat::parse(&line.replace(" S ", " Z ")), None);
    }
}
