//! How a process ended, in words.
//!
//! Whether that is a failure, and whose, is decided where it is waited for.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use etl_plugin_api::{ErrorKind, StageError};

/// The code with which a worker ends that cannot speak to its host any more.
pub const LOST_HOST: u8 = 117;

/// What Rust prints before it gives up a thread that has no room left.
const STACK: &str = "has overflowed its stack";
/// What Rust's allocator prints before it gives up.
const MEMORY: &str = "memory allocation of";

/// How a process ended, and what it printed before.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Its status; `None` if it still runs.
    pub status: Option<ExitStatus>,
    /// The last lines that it printed.
    pub last_lines: Vec<String>,
    /// What it was allowed.
    pub limits: Limits,
}

impl Ending {
    /// The status in words: `ended with signal 11 (SIGSEGV)`.
    pub fn words(&self) -> String {
        let limits = &self.limits;
        let Some(status) = self.status else {
            return "closed its connection to the host".to_owned();
        };
        match (status.signal(), status.code()) {
            (Some(libc::SIGABRT), _) if self.said(STACK) => {
                "overflowed its stack (signal 6, SIGABRT)".to_owned()
            }
            (Some(libc::SIGABRT), _) if self.said(MEMORY) => format!(
                "ran out of the {} MiB of memory that `limits.memory` grants (signal 6, SIGABRT)",
                limits.memory >> 20
            ),
            (Some(libc::SIGXCPU), _) => format!(
                "used more CPU time than `limits.cpu_time` grants{} (signal 24, SIGXCPU)",
                limits
                    .cpu_seconds
                    .map_or_else(String::new, |seconds| format!(", {seconds} s"))
            ),
            (Some(libc::SIGKILL), _) => {
                let ignored = limits
                    .cpu_seconds
                    .map_or("", |_| ", or when the signal for `limits.cpu_time` is ignored");
                format!(
                    "was killed from outside (signal 9, SIGKILL); the system does that when memory runs out{ignored}"
                )
            }
            (Some(signal), _) => match signal_name(signal) {
                Some(name) => format!("ended with signal {signal} ({name})"),
                None => format!("ended with signal {signal}"),
            },
            (_, Some(code)) if code == i32::from(LOST_HOST) => {
                "lost its connection to the host: something closed descriptors that were not its own".to_owned()
            }
            (_, Some(code)) => format!("called exit({code})"),
            _ => "ended in an unknown way".to_owned(),
        }
    }

    /// Whether it ended by its own doing, by one of its limits, or by somebody else's.
    pub fn kind(&self) -> ErrorKind {
        match self.status.and_then(|status| status.signal()) {
            Some(libc::SIGXCPU) => ErrorKind::Killed,
            Some(libc::SIGABRT) if self.said(MEMORY) => ErrorKind::Killed,
            // The end of whoever ignores the signal before.
            Some(libc::SIGKILL) if self.limits.cpu_seconds.is_some() => ErrorKind::Killed,
            // Somebody else did it, and the plugin may be as good as any.
            Some(libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP) => {
                ErrorKind::Transient
            }
            _ => ErrorKind::Crashed,
        }
    }

    fn said(&self, text: &str) -> bool {
        self.last_lines.iter().any(|line| line.contains(text))
    }

    /// The error of whoever was waiting for the process, with the last lines if there are any.
    pub fn error(&self, kind: ErrorKind, message: String) -> StageError {
        let error = StageError::new(kind, message);
        if self.last_lines.is_empty() {
            return error;
        }
        error.with_backtrace(format!(
            "last lines of the worker:\n{}",
            self.last_lines.join("\n")
        ))
    }
}

/// What a process was allowed, for the words about its end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub memory: u64,
    pub cpu_seconds: Option<u64>,
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(raw: i32, last: &str) -> String {
        Ending {
            status: Some(ExitStatus::from_raw(raw)),
            last_lines: vec![last.to_owned()],
            limits: Limits {
                memory: 64 << 20,
                cpu_seconds: Some(7),
            },
        }
        .words()
    }

    #[test]
    fn each_end_is_named_for_its_cause() {
        assert_eq!(words(11, ""), "ended with signal 11 (SIGSEGV)");
        assert_eq!(words(6, ""), "ended with signal 6 (SIGABRT)");
        assert_eq!(words(0, ""), "called exit(0)");
        assert_eq!(words(3 << 8, ""), "called exit(3)");
        assert!(words(6, "thread 'x' (12) has overflowed its stack").contains("stack"));
        assert!(words(6, "memory allocation of 99 bytes failed").contains("64 MiB"));
        assert!(words(24, "").contains("7 s"));
        assert!(words(i32::from(LOST_HOST) << 8, "").contains("descriptors"));
        assert!(words(9, "").contains("from outside"));
    }

    #[test]
    fn a_limit_and_a_signal_from_outside_are_told_from_a_crash() {
        let kind_under = |cpu_seconds, raw: i32, last: &str| {
            Ending {
                status: Some(ExitStatus::from_raw(raw)),
                last_lines: vec![last.to_owned()],
                limits: Limits {
                    memory: 64 << 20,
                    cpu_seconds,
                },
            }
            .kind()
        };
        let kind = |raw, last| kind_under(None, raw, last);
        for raw in [11, 6, 7, 0, 3 << 8] {
            assert_eq!(kind(raw, ""), ErrorKind::Crashed, "{raw}");
        }
        for raw in [9, 15] {
            assert_eq!(kind(raw, ""), ErrorKind::Transient, "{raw}");
        }
        assert_eq!(kind(24, ""), ErrorKind::Killed);
        assert_eq!(kind_under(Some(1), 9, ""), ErrorKind::Killed);
        assert_eq!(
            kind(6, "memory allocation of 9 bytes failed"),
            ErrorKind::Killed
        );
    }
}
