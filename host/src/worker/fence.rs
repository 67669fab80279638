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

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
#[cfg(target_arch = "x86_64")]
use seccompiler::sock_filter;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize};

use crate::capabilities::Granted;
use crate::config::{Config, Limits};
use crate::plugin::probe::PATIENCE;

/// Seconds between the signal for too much CPU time and the end that cannot be put off.
const CPU_GRACE: u64 = 5;
/// The newest generation of landlock that is made use of.
const LANDLOCK: ABI = ABI::V6;

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
    let landlock = landlock(fence, copy);
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
        Measure::taken("seccomp", seccomp(fence)),
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

fn empty_environment() -> Result<String, String> {
    match std::env::vars_os().count() {
        0 => Ok("empty".to_owned()),
        many => Err(format!("{many} variables")),
    }
}

fn not_dumpable() -> rustix::io::Result<String> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    limit(Resource::Core, 0, 0)?;
    Ok("no core files".to_owned())
}

fn limit(resource: Resource, soft: u64, hard: u64) -> rustix::io::Result<()> {
    setrlimit(
        resource,
        Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        },
    )
}

fn limits(fence: &Fence) -> rustix::io::Result<String> {
    limit(Resource::Data, fence.memory, fence.memory)?;
    limit(Resource::Nofile, fence.open_files, fence.open_files)?;
    let mut text = format!(
        "memory {} MiB, {} open files",
        fence.memory >> 20,
        fence.open_files
    );
    if let Some(time) = fence.cpu_time {
        let seconds = time.as_secs().max(1);
        limit(Resource::Cpu, seconds, seconds.saturating_add(CPU_GRACE))?;
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

/// What every program reads: libraries, the clock's zone, its own process.
const ALWAYS: [&str; 12] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/urandom",
    "/dev/zero",
    "/proc/self",
];
/// What a name needs to be found, and a certificate to be checked.
const FOR_NETWORK: [&str; 10] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ssl",
    "/etc/pki",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/run/systemd/resolve",
];
const DNS: u16 = 53;

/// Folders that the machine's administrator has told the loader of, ld.so.conf(5). Patterns of files to include other
/// than the usual one are passed over.
fn folders_of_libraries() -> Vec<PathBuf> {
    let more = std::fs::read_dir("/etc/ld.so.conf.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    std::iter::once(PathBuf::from("/etc/ld.so.conf"))
        .chain(more)
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .collect()
}

fn landlock(fence: &Fence, copy: &Path) -> Result<String, String> {
    let told = |error: landlock::RulesetError| error.to_string();
    let mut readable: Vec<PathBuf> = ALWAYS.iter().map(PathBuf::from).collect();
    readable.extend(folders_of_libraries());
    readable.push(copy.to_owned());
    readable.extend(std::env::current_exe());
    if !fence.hosts.is_empty() {
        readable.extend(FOR_NETWORK.iter().map(PathBuf::from));
    }
    readable.extend(fence.paths.iter().cloned());
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        // A path that does not exist is passed over.
        .and_then(|ruleset| {
            ruleset.add_rules(path_beneath_rules(&readable, AccessFs::from_read(LANDLOCK)))
        })
        .and_then(|ruleset| {
            let writable = AccessFs::from_file(LANDLOCK);
            ruleset.add_rules(path_beneath_rules(["/dev/null"], writable))
        })
        .and_then(|ruleset| {
            let all = AccessFs::from_all(LANDLOCK) & !AccessFs::Execute;
            ruleset.add_rules(path_beneath_rules(&fence.writable, all))
        })
        .and_then(|ruleset| {
            let ports = ports(&fence.hosts)
                .into_iter()
                .map(|port| Ok(NetPort::new(port, AccessNet::ConnectTcp)));
            ruleset.add_rules(ports)
        })
        .map_err(told)?;
    let status = ruleset.restrict_self().map_err(told)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok("files, TCP ports, signals".to_owned()),
        RulesetStatus::PartiallyEnforced => {
            Ok("as far as this kernel knows it: files, and what came later in part".to_owned())
        }
        RulesetStatus::NotEnforced => Err("this kernel does not have it".to_owned()),
    }
}

fn ports(hosts: &[String]) -> Vec<u16> {
    if hosts.is_empty() {
        return Vec::new();
    }
    let granted = hosts
        .iter()
        .filter_map(|host| host.rsplit_once(':')?.1.parse().ok());
    std::iter::once(DNS).chain(granted).collect()
}

/// Calls that no stage needs, and that could reach beyond the process.
const FORBIDDEN: &[libc::c_long] = &[
    // New processes and programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    // Memory that does not count as the process's own.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    // Who it is and what it sees of the system.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_open_by_handle_at,
    libc::SYS_personality,
    // Doors into the kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
];

fn seccomp(fence: &Fence) -> Result<String, String> {
    let own = u64::from(std::process::id());
    let any = Vec::new;
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        FORBIDDEN.iter().map(|call| (*call, any())).collect();
    #[cfg(target_arch = "x86_64")]
    refused.extend([
        (libc::SYS_fork, any()),
        (libc::SYS_vfork, any()),
        (libc::SYS_ioperm, any()),
        (libc::SYS_iopl, any()),
    ]);
    // A thread is a new process that shares everything; anything else is a process.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    refused.insert(
        libc::SYS_clone,
        vec![rule([only(0, SeccompCmpOp::MaskedEq(thread), 0)?])?],
    );
    for call in [libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo] {
        refused.insert(call, vec![rule([only(0, SeccompCmpOp::Ne, own)?])?]);
    }
    refused.insert(libc::SYS_tkill, any());
    let other = [
        only(0, SeccompCmpOp::Ne, 0)?,
        only(0, SeccompCmpOp::Ne, own)?,
    ];
    refused.insert(libc::SYS_prlimit64, vec![rule(other)?]);
    // A descriptor's owner gets signals.
    let owners = [libc::F_SETOWN, F_SETOWN_EX].map(i32::unsigned_abs);
    refused.insert(libc::SYS_fcntl, for_values(1, owners.map(u64::from))?);
    refused.insert(libc::SYS_ioctl, for_values(1, TERMINALS_AND_OWNERS)?);
    let shared = (libc::MAP_SHARED | libc::MAP_ANONYMOUS).unsigned_abs();
    let shared = only(3, SeccompCmpOp::MaskedEq(shared.into()), shared.into())?;
    refused.insert(libc::SYS_mmap, vec![rule([shared])?]);
    let undone = [libc::PR_SET_PDEATHSIG, libc::PR_SET_DUMPABLE].map(i32::unsigned_abs);
    refused.insert(libc::SYS_prctl, for_values(0, undone.map(u64::from))?);
    // `connect` goes over what `socket` made, so that is where the network ends. Sockets in the file system are never
    // granted: landlock does not know them, and servers behind them often trust whoever has the right user.
    let kinds: &[libc::c_int] = if fence.hosts.is_empty() {
        &[]
    } else {
        &[libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]
    };
    let other_kinds: Result<Vec<_>, String> = kinds
        .iter()
        .map(|kind| only(0, SeccompCmpOp::Ne, u64::from(kind.unsigned_abs())))
        .collect();
    let other_kinds = other_kinds?;
    let sockets = if other_kinds.is_empty() {
        any()
    } else {
        vec![rule(other_kinds)?]
    };
    refused.insert(libc::SYS_socket, sockets);
    #[cfg(target_arch = "x86_64")]
    seccompiler::apply_filter(&OTHER_NUMBERS).map_err(|error| error.to_string())?;
    install(refused, libc::EPERM)?;
    // What it is to do lies in memory, where a filter cannot look. Libraries then use `clone`.
    install(BTreeMap::from([(libc::SYS_clone3, any())]), libc::ENOSYS)?;
    let network = if fence.hosts.is_empty() {
        "no network"
    } else {
        "network"
    };
    Ok(format!("no new processes, {network}"))
}

/// What fcntl(2) names so, and the `libc` crate does not.
const F_SETOWN_EX: libc::c_int = 15;
/// FIOSETOWN and SIOCSPGRP: a socket's owner gets signals. TIOCSTI and TIOCLINUX: typing at somebody's terminal.
const TERMINALS_AND_OWNERS: [u64; 4] = [0x8901, 0x8902, 0x5412, 0x541c];

/// The calls have second numbers on this machine (x32), which the filter below does not look at: refused with ENOSYS.
#[cfg(target_arch = "x86_64")]
const OTHER_NUMBERS: [sock_filter; 4] = [
    // Load the number of the call, compare it, allow or refuse.
    statement(0x20, 0, 0, 0),
    statement(0x35, 0, 1, 0x4000_0000),
    statement(0x06, 0, 0, 0x0005_0000 | libc::ENOSYS.unsigned_abs()),
    statement(0x06, 0, 0, 0x7fff_0000),
];

#[cfg(target_arch = "x86_64")]
const fn statement(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// One rule for each value of an argument.
fn for_values<const N: usize>(argument: u8, values: [u64; N]) -> Result<Vec<SeccompRule>, String> {
    values
        .into_iter()
        .map(|value| rule([only(argument, SeccompCmpOp::Eq, value)?]))
        .collect()
}

fn only(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompCondition, String> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)
        .map_err(|error| error.to_string())
}

fn rule(all: impl IntoIterator<Item = SeccompCondition>) -> Result<SeccompRule, String> {
    SeccompRule::new(all.into_iter().collect()).map_err(|error| error.to_string())
}

fn install(refused: BTreeMap<i64, Vec<SeccompRule>>, with: libc::c_int) -> Result<(), String> {
    let told = |error: &dyn Display| error.to_string();
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| told(&error))?;
    let filter = SeccompFilter::new(
        refused,
        SeccompAction::Allow,
        SeccompAction::Errno(with.unsigned_abs()),
        machine,
    )
    .map_err(|error| told(&error))?;
    let program = BpfProgram::try_from(filter).map_err(|error| told(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| told(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_hosts_and_that_of_names() {
        assert!(ports(&[]).is_empty());
        assert_eq!(
            ports(&["api.example.com:443".to_owned(), "[::1]:8080".to_owned()]),
            [53, 443, 8080]
        );
    }
}
