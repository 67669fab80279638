//! What lies in the plugins folder: good plugins, files that are none, and files that would harm whoever loads them.
//! Each is a real file; the host that looks at them is the real program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use etl_plugin_api::abi::ABI_VERSION;
use etl_testkit::artifact;
use etl_testkit::project::Project;
use expect_test::expect;
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_etl-host");
const ROOT_SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";

/// A project with the good plugin and something for it to read.
fn project() -> Project {
    let project = Project::new(HOST);
    project.plugin("fixture-kinds");
    people(&project);
    project
}

fn people(project: &Project) {
    project.execute(
        "data/people.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT);
         INSERT INTO people (id, name) VALUES (1, 'ann'), (2, 'bob'), (3, NULL);",
    );
}

fn list(project: &Project) -> Value {
    project.result(&["list"], 0)
}

/// Each refused file with its reason and fix.
fn refused(project: &Project) -> String {
    refusals(project, &list(project))
}

fn refusals(project: &Project, list: &Value) -> String {
    let mut text = String::new();
    for refused in list["refused"].as_array().unwrap() {
        let path = Path::new(refused["path"].as_str().unwrap());
        let name = path.file_name().unwrap().to_string_lossy();
        let (reason, fix) = (&refused["reason"], &refused["fix"]);
        let (reason, fix) = (reason.as_str().unwrap(), fix.as_str().unwrap());
        assert!(!fix.is_empty(), "{name} has no fix");
        writeln!(text, "{name}: {reason}\n  fix: {fix}").unwrap();
    }
    project.redact(&text)
}

fn pipelines(list: &Value) -> Vec<&str> {
    let pipelines = list["pipelines"].as_array().unwrap();
    pipelines
        .iter()
        .map(|pipeline| pipeline["name"].as_str().unwrap())
        .collect()
}

/// The good plugin still does its work.
fn assert_unharmed(project: &Project) {
    let report = project.result(&["run", "copy", "--full-refresh", "--allow-duplicates"], 0);
    assert_eq!(report["rows"]["loaded"], 3, "{report}");
}

/// Compiles a shared library from C, straight into the plugins folder.
fn compile_c(project: &Project, name: &str, source: &str) -> PathBuf {
    let file = project.write(format!("{name}.c"), source);
    let target = project.path(format!("plugins/{name}.so"));
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&target, &file])
        .output()
        .expect("a C compiler (cc), which Rust itself needs to link");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    target
}

/// A library that looks like a plugin and does something else the moment it is loaded.
fn constructor(project: &Project, name: &str, work: &str) {
    compile_c(
        project,
        name,
        &format!(
            "#include <stdlib.h>\n#include <stdio.h>\n#include <unistd.h>\n\
             char {ROOT_SYMBOL}[4096] = {{0}};\n\
             __attribute__((constructor)) static void at_load(void) {{ {work} }}\n"
        ),
    );
}

#[test]
fn files_that_are_no_plugins_are_refused_for_what_they_are() {
    let project = project();
    let good = artifact::plugin("fixture-kinds").unwrap();
    let bytes = fs::read(&good).unwrap();
    project.write("plugins/notes.txt", "remember the milk\n");
    project.write("plugins/empty.so", "");
    project.write("plugins/random.so", b"\x00\x01\x02\xff\xfe");
    project.write("plugins/cut-early.so", &bytes[..64]);
    project.write("plugins/cut-in-the-middle.so", &bytes[..bytes.len() / 2]);
    project.write("plugins/cut-at-the-end.so", &bytes[..bytes.len() - 1]);
    let mut foreign = bytes.clone();
    // e_machine: SPARC.
    foreign[18] = 2;
    project.write("plugins/for-another-machine.so", &foreign);
    fs::copy(HOST, project.path("plugins/a-program")).unwrap();
    project.plugin("fixture-not-a-plugin");
    // Passed over without a word: folders, configuration, hidden files.
    project.write("plugins/folder/notes.txt", "");
    project.write("plugins/other.yaml", "");
    project.write("plugins/.hidden.so", "");

    let list = list(&project);
    expect![[r#"
        a-program: a shared library, but no plugin: it exports no pipelines
          fix: call `etl_plugin_api::export_pipelines!` in the crate, or move the file out of the plugins folder
        cut-at-the-end.so: a damaged or incomplete shared library
          fix: build the plugin again with `cargo build --release` and copy the finished file
        cut-early.so: a damaged or incomplete shared library
          fix: build the plugin again with `cargo build --release` and copy the finished file
        cut-in-the-middle.so: a damaged or incomplete shared library
          fix: build the plugin again with `cargo build --release` and copy the finished file
        empty.so: an empty file
          fix: move the file out of the plugins folder
        for-another-machine.so: a library for another kind of machine (2)
          fix: build the plugin for x86_64
        libfixture_not_a_plugin.so: a shared library, but no plugin: it exports no pipelines
          fix: call `etl_plugin_api::export_pipelines!` in the crate, or move the file out of the plugins folder
        notes.txt: a text file
          fix: move the file out of the plugins folder
        random.so: not a shared library
          fix: move the file out of the plugins folder
    "#]].assert_eq(&refusals(&project, &list));
    assert_eq!(pipelines(&list)[0], "copy");
    assert_unharmed(&project);
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let project = project();
    let closed = project.write("plugins/closed.so", "a text file");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    symlink("nowhere.so", project.path("plugins/dangling.so")).unwrap();
    symlink("round.so", project.path("plugins/round.so")).unwrap();
    let fifo = project.path("plugins/pipe.so");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );

    // Root reads everything.
    let root = fs::read(&closed).is_ok();
    let text = refused(&project);
    let expected = if root {
        "closed.so: a text file\n"
    } else {
        "closed.so: it cannot be read: Permission denied"
    };
    assert!(text.starts_with(expected), "{text}");
    let (_, rest) = text.split_once("dangling.so").unwrap();
    expect![[r#"
        : it cannot be read: No such file or directory (os error 2)
          fix: put the file where the link points, or remove the link
        pipe.so: not a regular file
          fix: move it out of the plugins folder
        round.so: it cannot be read: Too many levels of symbolic links (os error 40)
          fix: mend the file or the link, or move it out of the plugins folder
    "#]]
    .assert_eq(rest);
    assert_unharmed(&project);
}

#[test]
fn plugins_of_another_interface_are_refused_with_both_versions() {
    let project = project();
    project.plugin("fixture-other-abi-version");
    project.plugin("fixture-other-layout");
    project.plugin("fixture-panics-in-manifest");
    expect![[r#"
        libfixture_other_abi_version.so: built for plugin interface 2.0.0, this host speaks <its own> and takes every 1.x
          fix: build the plugin against etl-plugin-api 1, or use a host of the plugin's generation
        libfixture_other_layout.so: built against another etl-plugin-api: field 0 of type PluginModuleFields: mismatched package (expected etl-plugin-api, found fixture-other-layout)
          fix: build the plugin against the etl-plugin-api of this host
        libfixture_panics_in_manifest.so: it fails while it starts: panicked: no manifest today at host/testkit/fixtures/panics_in_manifest/src/lib.rs:12
          fix: read the plugin's own message and mend it
    "#]].assert_eq(&refused(&project).replace(ABI_VERSION, "<its own>"));
    assert_unharmed(&project);
}

#[test]
fn libraries_that_harm_whoever_loads_them_harm_only_the_probe() {
    let project = project();
    constructor(&project, "aborts", "abort();");
    constructor(&project, "exits", "_exit(0);");
    constructor(&project, "crashes", "*(volatile int *)0 = 1;");
    constructor(
        &project,
        "talks",
        "puts(\"etl-host-probe: {}\"); fflush(stdout); _exit(0);",
    );
    // No constructor at all: what it exports is not what it should be.
    constructor(&project, "zeros", "");
    compile_c(
        &project,
        "needs-another",
        &format!(
            "extern int missing_function(void);\nchar {ROOT_SYMBOL}[64] = {{0}};\nint call(void) {{ return missing_function(); }}\n"
        ),
    );
    let list = list(&project);
    expect![[r#"
        aborts.so: loading it crashes: the process that tried it ended with signal 6 (SIGABRT)
          fix: the file is damaged or misbehaves: build it again and copy the finished file
        crashes.so: loading it crashes: the process that tried it ended with signal 11 (SIGSEGV)
          fix: the file is damaged or misbehaves: build it again and copy the finished file
        exits.so: loading it crashes: the process that tried it called exit(0)
          fix: the file is damaged or misbehaves: build it again and copy the finished file
        needs-another.so: the system cannot load it: undefined symbol: missing_function
          fix: install the library it names where the system keeps libraries (ldconfig), or build the plugin on a machine like this one
        talks.so: loading it crashes: the process that tried it called exit(0): etl-host-probe: {}
          fix: the file is damaged or misbehaves: build it again and copy the finished file
        zeros.so: what it exports is no plugin, or one of another generation of plugins
          fix: build the plugin against the etl-plugin-api of this host
    "#]]
    .assert_eq(&refusals(&project, &list));
    assert_eq!(pipelines(&list)[0], "copy");
    assert_unharmed(&project);
}

/// Whether a look at the folder has a process try a file.
fn tries_a_file(project: &Project) -> bool {
    let finished = project.program(&["list", "-vv"]).run().unwrap();
    let finished = finished.require_code(0).unwrap();
    finished.stderr.contains("a worker process tries the file")
}

#[test]
fn a_library_that_never_finishes_loading_is_given_up_once() {
    let project = project();
    constructor(&project, "hangs", "for (;;) pause();");
    expect![[r#"
        hangs.so: it does not finish loading within 10 s
          fix: do no work in constructors or in `manifest`; if the machine was only slow, copy the file again
    "#]]
    .assert_eq(&refused(&project));
    // The answer is remembered.
    assert!(!tries_a_file(&project));
    let again = refused(&project);
    assert!(again.starts_with("hangs.so"), "{again}");
    assert_unharmed(&project);
}

#[test]
fn a_library_that_only_lacks_another_one_is_tried_again() {
    let project = project();
    let helper = compile_c(&project, "helper", "int helper(void) { return 1; }");
    let moved = project.path("libhelper.so");
    fs::rename(&helper, &moved).unwrap();
    let source = project.write(
        "wants.c",
        format!(
            "extern int helper(void);\nchar {ROOT_SYMBOL}[4096] = {{0}};\n\
             __attribute__((constructor)) static void at_load(void) {{ helper(); }}\n",
        ),
    );
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(project.path("plugins/wants.so"))
        .arg(&source)
        .arg("-L")
        .arg(project.dir())
        .arg("-lhelper")
        .status();
    assert!(output.unwrap().success());
    let text = refused(&project);
    assert!(text.contains("libhelper.so: cannot open"), "{text}");
    // It may be installed any time.
    assert!(tries_a_file(&project));
}

#[test]
fn damaged_copies_harm_nothing() {
    let project = project();
    let bytes = fs::read(artifact::plugin("fixture-kinds").unwrap()).unwrap();
    for seed in 1u64..=6 {
        let mut damaged = bytes.clone();
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for _ in 0..512 {
            // An LCG is random enough to hit code, tables and strings alike.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let middle = bytes.len() / 16..bytes.len() * 15 / 16;
            let at = middle.start + usize::try_from(state >> 33).unwrap() % middle.len();
            damaged[at] ^= 0x5A;
        }
        // By name behind the good one, so that a copy that still loads is a duplicate.
        project.write(format!("plugins/z-damaged-{seed}.so"), &damaged);
    }
    let list = list(&project);
    assert_eq!(list["refused"].as_array().unwrap().len(), 6, "{list}");
    refusals(&project, &list);
    assert_unharmed(&project);
}

#[test]
fn a_second_file_with_the_same_pipelines_is_refused() {
    let project = project();
    project.plugin_as("fixture-kinds", "second-copy.so");
    symlink("libfixture_kinds.so", project.path("plugins/third.so")).unwrap();
    expect![[r#"
        second-copy.so: pipeline `configured` is supplied by plugins/libfixture_kinds.so already
          fix: remove one of the two files, or rename the pipeline
        third.so: pipeline `configured` is supplied by plugins/libfixture_kinds.so already
          fix: remove one of the two files, or rename the pipeline
    "#]]
    .assert_eq(&refused(&project));
    assert_unharmed(&project);
}

#[test]
fn a_link_to_a_plugin_is_a_plugin() {
    let project = Project::new(HOST);
    people(&project);
    let built = artifact::plugin("fixture-kinds").unwrap();
    symlink(built, project.path("plugins/current.so")).unwrap();
    let list = list(&project);
    assert_eq!(list["pipelines"][0]["plugin"], "current");
    assert_unharmed(&project);
}

#[test]
fn a_refused_plugin_is_not_run_and_the_reason_is_told() {
    let project = project();
    project.plugin("fixture-not-a-plugin");
    let answer = project.result(&["run", "fixture-not-a-plugin"], 3);
    let text = serde_json::to_string_pretty(&answer["error"]).unwrap();
    expect![[r#"
        {
          "message": "the plugin plugins/libfixture_not_a_plugin.so is refused: a shared library, but no plugin: it exports no pipelines",
          "next_step": "call `etl_plugin_api::export_pipelines!` in the crate, or move the file out of the plugins folder"
        }"#]].assert_eq(&project.redact(&text));
}

#[test]
fn an_unchanged_file_is_probed_once_and_known_from_then_on() {
    let project = project();
    let first = list(&project);
    // If it were probed again, this would no longer be there.
    let marked = "UPDATE probes SET probed = replace(probed, '7.1.0-fixture', '7.1.0-fromnote')";
    project.execute(".etl-host/state.db", marked);
    let second = list(&project);
    assert_eq!(first["pipelines"][0]["version"], "7.1.0-fixture");
    assert_eq!(second["pipelines"][0]["version"], "7.1.0-fromnote");
    // Without its copy the file is read again; the same content needs no second probe.
    fs::remove_dir_all(project.path(".etl-host/plugins")).unwrap();
    assert_eq!(list(&project)["pipelines"][0]["version"], "7.1.0-fromnote");
    assert_unharmed(&project);
}

#[test]
fn a_file_that_was_replaced_is_a_new_plugin() {
    let project = project();
    let path = project.path("plugins/libfixture_kinds.so");
    assert_eq!(list(&project)["pipelines"][0]["version"], "7.1.0-fixture");
    let before = fs::metadata(&path).unwrap();
    let bytes = replaced(
        &fs::read(&path).unwrap(),
        b"7.1.0-fixture",
        b"7.2.0-fixture",
    );
    // The worst case: written in place, of the same size, with the old time of modification.
    fs::write(&path, bytes).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    drop(file);
    let list = list(&project);
    assert_eq!(list["pipelines"][0]["version"], "7.2.0-fixture");
    assert_unharmed(&project);
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter_map(|(at, window)| (window == from).then_some(at))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

#[test]
fn several_plugins_run_side_by_side_in_one_process() {
    let project = project();
    project.plugin("fixture-misbehaving");
    project.execute(
        "data/eu.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO people VALUES (1, 'ann'), (2, 'bob');",
    );
    let reports = project.results(&["run", "steady", "copy", "upper"], 0);
    let loaded: Vec<String> = reports
        .iter()
        .map(|report| format!("{} {}", report["pipeline"], report["rows"]["loaded"]))
        .collect();
    assert_eq!(loaded, ["\"steady\" 2", "\"copy\" 3", "\"upper\" 3"]);
    assert_eq!(
        project.query(
            "data/warehouse.db",
            "SELECT id, name FROM upper ORDER BY id"
        ),
        "1|ANN\n2|BOB\n3|NULL\n"
    );
}
