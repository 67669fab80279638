//! What a process uses: memory and CPU time, as the kernel tells it.

use std::fs;
use std::time::Duration;

use serde::Serialize;

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
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        Some(Self {
            resident_bytes: kibibytes(&status, "VmRSS:")? * 1024,
            peak_bytes: kibibytes(&status, "VmHWM:")? * 1024,
            cpu_ms: u64::try_from(cpu(&stat)?.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Of this process.
    pub fn of_this_process() -> Option<Self> {
        Self::of(std::process::id())
    }
}

/// One line of `/proc/<pid>/status` (`proc_pid_status(5)`).
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Fields 14 and 15 of `/proc/<pid>/stat` (`proc_pid_stat(5)`), in ticks.
fn cpu(stat: &str) -> Option<Duration> {
    // The second field is a name in parentheses, which may itself hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let both = ticks()? + ticks()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(both * 1000 / per_second.max(1)))
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
    }

    #[test]
    fn names_with_parentheses_do_no_harm() {
        let stat = "7 (a) (b) c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1";
        let per_second = rustix::param::clock_ticks_per_second();
        assert_eq!(
            cpu(stat).unwrap(),
            Duration::from_millis(200 * 1000 / per_second)
        );
    }
}
