//! What a host that lives long makes of files that come, change and go in its plugins folder. Each is a real library;
//! time is a parameter, so nothing here waits for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod reloads;

use std::fs;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use etl_host::plugin::live::{RETRY, STABLE};
use etl_host::plugin::{Change, load};
use etl_testkit::artifact;

use reloads::{Followed, stripped, version};

static KINDS: LazyLock<Vec<u8>> = LazyLock::new(|| stripped("fixture-kinds"));
const FILE: &str = "libfixture_kinds.so";

/// A folder in which version 1 of the good plugin serves.
fn serving() -> Followed {
    let mut folder = Followed::new();
    folder.put(FILE, &version(&KINDS, 1));
    assert_eq!(folder.settle().len(), 1);
    folder
}

fn sha256(folder: &Followed) -> Option<String> {
    folder.plugin_of("copy").map(|plugin| plugin.sha256.clone())
}

#[test]
fn a_new_file_serves_once_it_has_looked_the_same_for_a_while() {
    let mut folder = Followed::new();
    assert!(folder.after(Duration::ZERO).is_empty());
    folder.put(FILE, &KINDS);
    assert!(folder.after(Duration::ZERO).is_empty());
    let rest = Duration::from_millis(1);
    assert!(folder.after(STABLE.saturating_sub(rest)).is_empty());
    assert!(folder.live.registry().entries().is_empty());

    let subscriber = folder.live.subscribe();
    let changes = folder.after(rest);
    let sentence = folder.project.redact(&changes[0].to_string());
    let sha256 = sha256(&folder).unwrap();
    let expected = format!(
        "plugin file <project>/plugins/{FILE} is in use: version 7.1.0-fixture ({}), with pipelines copy, same, ",
        &sha256[..12]
    );
    assert!(sentence.starts_with(&expected), "{sentence}");
    assert!(subscriber.has_changed().unwrap());
    assert_eq!(subscriber.borrow().find("copy").len(), 1);
    // Nothing more happens to a file that stays as it is.
    assert!(folder.after(RETRY * 2).is_empty());
}

#[test]
fn a_file_that_grows_is_neither_read_nor_tried() {
    let mut folder = Followed::new();
    let whole = &*KINDS;
    folder.after(Duration::ZERO);
    for part in 1..=8 {
        // In place and from the front, as `cp` does.
        fs::write(folder.file(FILE), &whole[..whole.len() * part / 8]).unwrap();
        assert!(folder.after(STABLE * 2).is_empty());
        assert_eq!(folder.copies(), 0);
    }
    let changes = folder.after(STABLE);
    assert!(matches!(changes[..], [Change::Added { .. }]), "{changes:?}");
}

#[test]
fn a_copy_that_stops_halfway_replaces_nothing() {
    let mut folder = serving();
    let old = sha256(&folder);
    let new = version(&KINDS, 2);
    fs::write(folder.file(FILE), &new[..new.len() / 2]).unwrap();
    let told = folder.settle();
    assert!(told[0].contains("incomplete"), "{told:?}");
    assert!(told[0].contains("serves on"), "{told:?}");
    assert_eq!(sha256(&folder), old);
    assert_eq!(folder.copies(), 1);

    fs::write(folder.file(FILE), &new).unwrap();
    let told = folder.settle();
    assert!(told[0].contains("has a new version"), "{told:?}");
    assert_ne!(sha256(&folder), old);
}

#[test]
fn a_new_version_is_for_the_next_run_and_the_old_one_for_those_under_way() {
    let mut folder = serving();
    let running = folder.plugin_of("copy").unwrap();
    let mut new = version(&KINDS, 1);
    let (from, to) = (b"7.1.0-fixture", b"7.2.0-fixture");
    while let Some(at) = new.windows(from.len()).position(|window| window == from) {
        new[at..at + to.len()].copy_from_slice(to);
    }
    folder.put(FILE, &new);
    let changes = {
        folder.after(Duration::ZERO);
        folder.after(STABLE)
    };
    let Change::Replaced { from, to, .. } = &changes[0] else {
        unreachable!("{changes:?}");
    };
    assert!(Arc::ptr_eq(from, &running));
    assert_eq!(to.pipelines[0].version, "7.2.0-fixture");
    assert_eq!(folder.plugin_of("copy").unwrap().sha256, to.sha256);
    drop(changes);

    // The run under way loads its version only now, after the cache was looked at.
    folder.after(Duration::ZERO);
    assert_eq!(folder.copies(), 2);
    let old = load::load(&running.copy).unwrap();
    assert_eq!(old.description().pipelines[0].version, "7.1.0-fixture");
    drop(running);
    folder.after(RETRY * 60);
    assert_eq!(folder.copies(), 1);
}

#[test]
fn a_bad_new_version_leaves_the_old_one_serving_and_says_why() {
    let mut folder = serving();
    let old = sha256(&folder).unwrap();
    let other_interface = fs::read(artifact::plugin("fixture-other-abi-version").unwrap()).unwrap();
    let bad = [
        (b"remember the milk\n".to_vec(), "a text file"),
        (crashing(&folder), "SIGABRT"),
        (other_interface, "built for plugin interface 2.0.0"),
        // The same reason as before, and another file: told again.
        (b"and the eggs\n".to_vec(), "a text file"),
        (b"and the flour\n".to_vec(), "a text file"),
    ];
    for (bytes, reason) in bad {
        folder.put(FILE, &bytes);
        let told = folder.settle();
        let serves = format!("version 7.1.0-fixture ({}) serves on", &old[..12]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(reason), "{told:?}");
        assert!(told[0].contains(&serves), "{told:?}");
        assert!(told[0].contains("next: "), "{told:?}");

        let registry = folder.live.registry();
        let entry = registry.entry(&folder.file(FILE)).unwrap();
        assert_eq!(entry.serving().unwrap().sha256, old);
        let newer = entry.newer.as_ref().unwrap();
        assert!(newer.reason.contains(reason), "{newer:?}");
        assert!(!newer.fix.is_empty());
        assert!(folder.after(STABLE).is_empty(), "told once");
    }
    folder.put(FILE, &version(&KINDS, 1));
    let told = folder.settle();
    assert!(told[0].contains("has served all along"), "{told:?}");
    let registry = folder.live.registry();
    assert!(registry.entries()[0].newer.is_none());
    // Copies of the bad ones are not kept.
    folder.after(Duration::ZERO);
    assert_eq!(folder.copies(), 1);
}

/// A library that ends whoever loads it.
fn crashing(folder: &Followed) -> Vec<u8> {
    let source = folder.project.write(
        "crash.c",
        "#include <stdlib.h>\nchar _1as_0lib_1header_0root_bmodule_bloader[4096] = {0};\n\
         __attribute__((constructor)) static void at_load(void) { abort(); }\n",
    );
    let target = folder.project.path("crash.so");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&target, &source])
        .status()
        .expect("a C compiler (cc), which Rust itself needs to link");
    assert!(status.success());
    fs::read(target).unwrap()
}

#[test]
fn a_bad_file_that_replaces_nothing_is_refused() {
    let mut folder = serving();
    folder.put("notes.txt", b"remember the milk\n");
    let told = folder.settle();
    assert_eq!(
        told,
        [
            "plugin file <project>/plugins/notes.txt is refused: a text file; next: move the file out of the \
             plugins folder"
        ]
    );
    let registry = folder.live.registry();
    let entry = registry.entry(&folder.file("notes.txt")).unwrap();
    assert!(entry.outcome.is_err());
    fs::remove_file(folder.file("notes.txt")).unwrap();
    assert!(folder.settle().is_empty());
    assert_eq!(folder.live.registry().entries().len(), 1);
}

#[test]
fn a_file_that_is_deleted_takes_no_new_runs_and_running_ones_finish() {
    let mut folder = serving();
    let running = folder.plugin_of("copy").unwrap();
    fs::remove_file(folder.file(FILE)).unwrap();
    let changes = folder.after(Duration::ZERO);
    assert!(
        matches!(changes[..], [Change::Retired { .. }]),
        "{changes:?}"
    );
    assert!(changes[0].to_string().contains("no new runs"));
    assert!(folder.plugin_of("copy").is_none());
    drop(changes);

    folder.after(Duration::ZERO);
    assert!(load::load(&running.copy).is_ok());
    assert!(running.copy.exists());
    drop(running);
    folder.after(RETRY * 60);
    assert_eq!(folder.copies(), 0);
}

#[test]
fn a_file_that_is_renamed_serves_on_without_a_gap() {
    let mut folder = serving();
    let old = sha256(&folder);
    fs::rename(folder.file(FILE), folder.file("libother_name.so")).unwrap();
    let changes = folder.after(Duration::ZERO);
    assert!(matches!(changes[..], [Change::Moved { .. }]), "{changes:?}");
    assert_eq!(sha256(&folder), old);
    // Its content is looked at as that of any file that has changed, and is the same.
    assert!(folder.after(STABLE).is_empty());
    assert_eq!(sha256(&folder), old);
    assert_eq!(folder.plugin_of("copy").unwrap().name, "other-name");
    assert!(folder.live.registry().entry(&folder.file(FILE)).is_none());
}

#[test]
fn a_new_file_takes_no_name_from_one_that_serves_until_that_one_goes() {
    let mut folder = serving();
    let old = sha256(&folder);
    // By name it is the first.
    folder.put("a.so", &version(&KINDS, 2));
    let told = folder.settle();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("plugins/a.so is refused: pipeline `configured` is supplied by"),
        "{told:?}"
    );
    assert_eq!(sha256(&folder), old);

    fs::remove_file(folder.file(FILE)).unwrap();
    let changes = folder.after(Duration::ZERO);
    assert!(
        matches!(changes[..], [Change::Retired { .. }, Change::Added { .. }]),
        "{changes:?}"
    );
    assert_ne!(sha256(&folder), old);

    // Both there before anything serves: the first by name, as with a scan.
    folder.put(FILE, &version(&KINDS, 1));
    folder.settle();
    folder.restart();
    folder.after(Duration::ZERO);
    assert_ne!(sha256(&folder), old);
}

#[test]
fn a_new_version_that_was_copied_beside_the_old_one_takes_its_place() {
    let mut folder = serving();
    folder.put("new.so", &version(&KINDS, 2));
    assert!(folder.settle()[0].contains("new.so is refused"));
    fs::rename(folder.file("new.so"), folder.file(FILE)).unwrap();
    let told = folder.settle();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("has a new version"), "{told:?}");
    assert_eq!(folder.live.registry().entries().len(), 1);
}

#[test]
fn a_host_that_starts_serves_at_once_what_was_examined_before() {
    let mut folder = serving();
    let old = sha256(&folder);
    folder.restart();
    let changes = folder.after(Duration::ZERO);
    assert!(matches!(changes[..], [Change::Added { .. }]), "{changes:?}");
    assert_eq!(sha256(&folder), old);

    // What has changed meanwhile may be half a copy.
    folder.put(FILE, &version(&KINDS, 2));
    folder.restart();
    assert!(folder.after(Duration::ZERO).is_empty());
    assert_eq!(folder.after(STABLE).len(), 1);
}

#[test]
fn a_folder_that_cannot_be_listed_retires_nothing() {
    let mut folder = serving();
    let old = sha256(&folder);
    let away = folder.project.path("away");
    fs::rename(folder.project.path("plugins"), &away).unwrap();
    let error = folder.live.refresh(folder.now).unwrap_err();
    assert!(error.to_string().contains("plugins folder"), "{error}");
    assert_eq!(sha256(&folder), old);
    fs::rename(&away, folder.project.path("plugins")).unwrap();
    assert!(folder.settle().is_empty());
    assert_eq!(sha256(&folder), old);
}

#[test]
fn what_keeps_the_host_from_looking_is_told_and_passes() {
    let mut folder = Followed::new();
    // No copy can be kept where a file is in the way.
    let blocked = folder.project.write(".etl-host/plugins", "");
    folder.put(FILE, &KINDS);
    folder.put("notes.txt", b"remember the milk\n");
    let told = folder.settle();
    assert!(told[0].contains("cannot keep a copy"), "{told:?}");
    assert!(told[1].contains("a text file"), "{told:?}");
    fs::remove_file(blocked).unwrap();
    assert!(folder.after(STABLE).is_empty());
    let changes = folder.after(RETRY);
    assert!(matches!(changes[..], [Change::Added { .. }]), "{changes:?}");
}

#[test]
fn another_process_removes_no_copy_that_is_in_use() {
    let mut folder = serving();
    let running = folder.plugin_of("copy").unwrap();
    fs::remove_file(folder.file(FILE)).unwrap();
    drop(folder.after(Duration::ZERO));
    // Each command looks at the cache.
    folder.project.result(&["list"], 0);
    assert!(running.copy.exists());
    drop(running);
    folder.project.result(&["list"], 0);
    assert_eq!(folder.copies(), 0);
}

#[test]
fn commands_keep_the_copies_of_the_files_that_are_there() {
    let folder = Followed::new();
    for number in 1..=5 {
        folder.put(FILE, &version(&KINDS, number));
        folder.project.result(&["list"], 0);
        assert_eq!(folder.copies(), 1);
    }
    // A draft of a process that died.
    folder.project.write(".etl-host/plugins/abc.1.tmp", "half");
    folder.project.result(&["list"], 0);
    assert_eq!(folder.copies(), 1);
}
