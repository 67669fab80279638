//! Which system calls a worker may make, by seccomp(2).
//!
//! What is refused fails with EPERM, as if the user had no right to it; a plugin that tries goes on.

use std::collections::BTreeMap;
use std::fmt::Display;

#[cfg(target_arch = "x86_64")]
use seccompiler::sock_filter;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Fence;

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
    libc::SYS_shmat,
    libc::SYS_shmctl,
    // What all processes of a user share.
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
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

/// Closes it around this process.
pub fn close(fence: &Fence) -> Result<String, String> {
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
    refused.insert(libc::SYS_prlimit64, vec![rule(other.clone())?]);
    refused.insert(libc::SYS_sched_setaffinity, vec![rule(other)?]);
    // A pair of another kind than streams could be pointed at any local socket.
    let pairs: Result<Vec<_>, String> = [libc::SOCK_DGRAM, libc::SOCK_SEQPACKET, libc::SOCK_RAW]
        .into_iter()
        .map(|kind| {
            let kind = u64::from(kind.unsigned_abs());
            rule([only(1, SeccompCmpOp::MaskedEq(0xf), kind)?])
        })
        .collect();
    refused.insert(libc::SYS_socketpair, pairs?);
    // A descriptor's owner gets signals.
    let owners = [libc::F_SETOWN, F_SETOWN_EX].map(i32::unsigned_abs);
    refused.insert(libc::SYS_fcntl, for_values(1, owners.map(u64::from))?);
    refused.insert(libc::SYS_ioctl, for_values(1, TERMINALS_AND_OWNERS)?);
    let shared = (libc::MAP_SHARED | libc::MAP_ANONYMOUS).unsigned_abs();
    let shared = only(3, SeccompCmpOp::MaskedEq(shared.into()), shared.into())?;
    // Grows without being counted.
    let growing = u64::from(libc::MAP_GROWSDOWN.unsigned_abs());
    let growing = only(3, SeccompCmpOp::MaskedEq(growing), growing)?;
    refused.insert(libc::SYS_mmap, vec![rule([shared])?, rule([growing])?]);
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
