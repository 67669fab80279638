//! What 200 new versions of a plugin cost a host that lives long: memory, and copies on disk. Alone in its program,
//! since memory is measured for the whole of it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod reloads;

use std::fs;

use etl_host::plugin::load;

use reloads::{Followed, stripped, version};

const RELOADS: u64 = 200;
/// A library that is loaded stays; so many show what each of them costs.
const LOADED: u64 = 40;
/// Most that a host may grow by that lets others load.
const MOST_GROWTH_MIB: f64 = 16.0;
/// Most that a version may cost a host that loads it itself; the libraries of a debug build are larger.
const MOST_PER_LOAD_MIB: f64 = 12.0;

#[test]
fn two_hundred_new_versions_are_bounded_in_memory_and_on_disk() {
    let plugin = stripped("fixture-kinds");
    let mut folder = Followed::new();
    let reload = |folder: &mut Followed, number| {
        folder.put("libfixture_kinds.so", &version(&plugin, number));
        assert_eq!(folder.settle().len(), 1);
        // The present one, the one before it until the next look, and nothing else.
        assert!(folder.copies() <= 2, "{}", folder.copies());
        folder.plugin_of("copy").unwrap()
    };
    // What is grown once: buffers, caches of the database, the allocator's heap.
    for number in 0..20 {
        reload(&mut folder, number);
    }
    let before = resident_mib();
    for number in 20..20 + RELOADS {
        reload(&mut folder, number);
    }
    let growth = resident_mib() - before;

    let before = resident_mib();
    for number in 1000..1000 + LOADED {
        load::load(&reload(&mut folder, number).copy).unwrap();
    }
    let loaded = (resident_mib() - before) / f64::from(u32::try_from(LOADED).unwrap());
    println!(
        "{RELOADS} reloads, loaded by others: {growth:.1} MiB; loaded in-process: {loaded:.2} MiB each, {:.0} MiB for {RELOADS}",
        loaded * 200.0
    );
    assert!(growth < MOST_GROWTH_MIB, "{growth:.1} MiB");
    assert!(loaded < MOST_PER_LOAD_MIB, "{loaded:.2} MiB");
}

fn resident_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib / 1024.0
}
