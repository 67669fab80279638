//! Which files a worker may open, and which TCP ports it may connect to, by landlock(7).

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use super::Fence;

/// The newest generation of landlock that is made use of.
const LANDLOCK: ABI = ABI::V6;

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

/// Closes it around this process.
pub fn close(fence: &Fence, copy: &Path) -> Result<String, String> {
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
            // No links: where one leads to would be granted the next time.
            let refused = AccessFs::Execute
                | AccessFs::MakeSym
                | AccessFs::MakeChar
                | AccessFs::MakeBlock
                | AccessFs::MakeSock
                | AccessFs::MakeFifo;
            let all = AccessFs::from_all(LANDLOCK) & !refused;
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
