//! `etl-host install`: what comes into the plugins folder, and what does not.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

mod authors;
mod operators;

use std::fs;

use authors::{Folder, HOST, require, result};
use etl_testkit::artifact;
use etl_testkit::process::Signal;
use etl_testkit::project::Project;
use expect_test::expect;
use serde_json::Value;

/// A crate that depends on nothing.
fn small_crate(folder: &Folder, library: &str, code: &str) {
    let package = "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[lib]\n";
    folder.write("small/Cargo.toml", &format!("{package}{library}\n"));
    folder.write("small/src/lib.rs", code);
}

/// What is said of an installation that fails. Nothing of it may be left in the plugins folder.
fn refused(folder: &Folder, args: &[&str], code: i32) -> String {
    let plugins = || {
        if folder.path("plugins").exists() {
            folder.list("plugins")
        } else {
            Vec::new()
        }
    };
    let before = plugins();
    let finished = require(folder.host("", &["install"]).args(args), code);
    let after = plugins();
    assert_eq!(before, after);
    assert_eq!(finished.stdout, "");
    // Before that cargo speaks.
    let ours = |line: &&str| line.starts_with("error: ") || line.contains(": nothing was");
    let lines = finished.stderr.split_inclusive('\n');
    let said: String = lines.skip_while(|line| !ours(line)).collect();
    folder.redact(&said)
}

#[test]
fn what_is_no_plugin_is_refused_with_what_to_do() {
    let folder = Folder::new("install-refused");
    fs::create_dir(folder.path("empty")).unwrap();
    folder.write("libtext.so", "not a library");
    folder.write("orders.txt", "not a library either");
    let whole = artifact::plugin("fixture-kinds").unwrap();
    let whole = fs::read(whole).unwrap();
    fs::write(folder.path("libhalf.so"), &whole[..whole.len() / 2]).unwrap();
    let told = [
        refused(&folder, &["nowhere"], 3),
        refused(&folder, &["empty"], 3),
        refused(&folder, &["libtext.so"], 1),
        refused(&folder, &["libhalf.so"], 1),
        refused(&folder, &["orders.txt"], 2),
    ];
    expect![[r#"
        error: cannot read nowhere: No such file or directory (os error 2)
          next: name the folder of a plugin's crate, or a built library (.so)

        error: <folder>/empty has no Cargo.toml
          next: name the folder of a plugin's crate, or a built library (.so); `etl-host generate` makes a new crate

        error: libtext.so is refused: a text file
          next: name a library that cargo has built, or the folder of its crate; nothing was installed

        error: libhalf.so is refused: a damaged or incomplete shared library
          next: build the plugin again with `cargo build --release` and copy the finished file; nothing was installed

        error: orders.txt cannot be installed under its name: a plugin's file is named like libmy_plugin.so
          next: rename it, or name the folder of a crate
    "#]].assert_eq(&told.join("\n"));
}

#[test]
fn a_crate_that_makes_no_plugin_is_refused_with_what_to_do() {
    let folder = Folder::new("install-crates");
    // Which folder it builds into does not matter: cargo says it.
    let target = folder.path("built");
    let refused = |code: i32| {
        let program = folder.host("", &["install", "small"]);
        let finished = require(program.env("CARGO_TARGET_DIR", &target), code);
        let lines = finished.stderr.lines();
        let said: Vec<&str> = lines
            .skip_while(|line| !line.starts_with("error: "))
            .collect();
        folder.redact(&format!("{}\n", said.join("\n")))
    };
    small_crate(&folder, "", "");
    let no_library = refused(2);
    let cdylib = "crate-type = [\"cdylib\", \"rlib\"]";
    small_crate(&folder, cdylib, "fn broken(");
    let broken = refused(1);
    // What the compiler says is not ours.
    let broken = &broken[broken.find("error: cargo could not").unwrap()..];
    small_crate(&folder, cdylib, "");
    let no_pipelines = refused(1).replace(&target.display().to_string(), "<target>");
    assert!(
        target.join("release/libsmall.so").exists(),
        "optimised, if nothing else is said"
    );
    folder.write("small/Cargo.toml", "[workspace]\nmembers = []\n");
    let workspace = refused(2);
    expect![[r#"
        error: the crate small makes no library that can be loaded
          next: let these lines stand in <folder>/small/Cargo.toml, and `etl_plugin_api::export_pipelines!` in its src/lib.rs:

            [lib]
            crate-type = ["cdylib", "rlib"]


        error: cargo could not build small
          next: correct what cargo says above, and install again; nothing was installed

        error: <folder>/built/release/libsmall.so is refused: a shared library, but no plugin: it exports no pipelines
          next: call `etl_plugin_api::export_pipelines!` in the crate, or move the file out of the plugins folder; nothing was installed

        error: <folder>/small/Cargo.toml is a workspace, not a crate
          next: make a crate with `etl-host generate`, and name its folder
    "#]].assert_eq(&[&*no_library, broken, &no_pipelines, &workspace].join("\n"));
    assert!(folder.list("plugins").is_empty());
}

#[test]
fn without_cargo_the_message_says_where_to_get_it() {
    let folder = Folder::new("install-no-cargo");
    small_crate(&folder, "", "");
    let program = folder
        .host("", &["install", "small"])
        .env("CARGO", "/no/such/cargo");
    let said = require(program, 3).stderr;
    expect![[r#"
        error: cannot start /no/such/cargo: No such file or directory (os error 2)
          next: install Rust from https://rustup.rs, or say where cargo is in the variable CARGO; a library that was built elsewhere is installed as `etl-host install libmy_plugin.so`
    "#]].assert_eq(&said);
}

#[test]
fn an_update_tells_both_versions_and_keeps_what_the_operator_has_changed() {
    let folder = Folder::new("install-update");
    folder.generate("my-update", "sql");
    let install = |more: &[&str]| {
        let args = [&["install", "--debug", "my-update"], more].concat();
        folder.redact(&require(folder.host("", &args), 0).stdout)
    };
    let mut told = vec![install(&[]), install(&[])];
    let new_version = |version: &str, comment: &str| {
        let manifest = folder.read("my-update/Cargo.toml");
        let old = manifest
            .lines()
            .find(|line| line.starts_with("version = "))
            .unwrap();
        let new = format!("version = \"{version}\"");
        folder.write("my-update/Cargo.toml", &manifest.replace(old, &new));
        let config = folder.read("my-update/config.yaml");
        folder.write("my-update/config.yaml", &format!("{config}# {comment}\n"));
    };
    new_version("0.2.0", "better");
    told.push(install(&[]));
    assert!(
        folder
            .read("plugins/my-update.yaml")
            .ends_with("# better\n")
    );

    let mine = folder
        .read("plugins/my-update.yaml")
        .replace("append", "replace");
    folder.write("plugins/my-update.yaml", &mine);
    new_version("0.3.0", "best");
    told.push(install(&[]));
    assert_eq!(folder.read("plugins/my-update.yaml"), mine);
    told.push(install(&["--replace-config"]));
    assert!(folder.read("plugins/my-update.yaml").ends_with("# best\n"));
    expect![[r#"
        my-update: 0.1.0 installed
          library  plugins/libmy_update.so
          config   plugins/my-update.yaml

        Next:
          etl-host run my-update

        my-update: 0.1.0 is installed already
          library  plugins/libmy_update.so
          config   plugins/my-update.yaml, unchanged

        Next:
          etl-host run my-update

        my-update: updated from 0.1.0 to 0.2.0
          library  plugins/libmy_update.so
          config   plugins/my-update.yaml, replaced by my-update/config.yaml

        Next:
          etl-host run my-update

        my-update: updated from 0.2.0 to 0.3.0
          library  plugins/libmy_update.so
          config   plugins/my-update.yaml is kept, and differs from my-update/config.yaml; --replace-config takes that one

        Next:
          etl-host run my-update

        my-update: 0.3.0 is installed already
          library  plugins/libmy_update.so
          config   plugins/my-update.yaml, replaced by my-update/config.yaml; what was there is plugins/my-update.yaml.bak

        Next:
          etl-host run my-update
    "#]].assert_eq(&told.join("\n"));
    assert_eq!(
        folder.list("plugins"),
        ["libmy_update.so", "my-update.yaml", "my-update.yaml.bak"]
    );

    // A mistake that it would have is told before anything changes.
    folder.write("plugins/my-update.yaml", "source: { shards: 5 }\n");
    let said = refused(&folder, &["--debug", "my-update"], 2);
    expect![[r#"
        my-update: nothing was installed, since its configuration would have mistakes; correct plugins/my-update.yaml, or take my-update/config.yaml in its place with --replace-config
        error: plugins/my-update.yaml:1:19: source.shards: expected a list, found a number
    "#]].assert_eq(&said);
    folder.write("my-update/config.yaml", "nmae: my-update\n");
    let args = ["install", "--debug", "my-update", "--replace-config"];
    let failed = result(folder.host("", &args), 2);
    let problem = &failed["error"]["problems"][0];
    assert_eq!(problem["file"], "my-update/config.yaml", "{failed}");
}

/// A project with a library that was built elsewhere, of pipelines of which one needs a grant.
fn with_library() -> Project {
    let project = Project::new(HOST);
    let built = artifact::plugin("fixture-misbehaving").unwrap();
    fs::create_dir(project.path("built")).unwrap();
    fs::copy(built, project.path("built/libsome.so")).unwrap();
    project
}

const GRANT: &str = "capabilities: { hosts: [\"127.0.0.1:1\"] }\n";

#[test]
fn a_library_is_installed_with_the_configuration_beside_it() {
    let project = with_library();
    let args = ["install", "built/libsome.so", "--config-dir", "etc"];
    let missing = require(project.program(&args), 2);
    expect![[r#"
        networked: nothing was installed, since its configuration would have mistakes; write what is missing into etc/networked.yaml
        error: networked (the plugin's default config):1:1: capabilities.hosts: the plugin asks for the host 127.0.0.1:1, which is not granted (to grant it, add to networked.yaml: capabilities: { hosts: ["127.0.0.1:1"] })
    "#]].assert_eq(&missing.stderr);
    assert_eq!(fs::read_dir(project.path("plugins")).unwrap().count(), 0);

    project.write("built/networked.yaml", GRANT);
    let installed = project.result(&args, 0);
    assert_eq!(installed["library"], "plugins/libsome.so");
    assert_eq!(installed["daemon"], false);
    let networked = |installed: &Value| installed["pipelines"][1].clone();
    assert_eq!(networked(&installed)["config"], "etc/networked.yaml");
    assert_eq!(networked(&installed)["config_state"], "new");
    assert_eq!(
        fs::read_to_string(project.path("etc/networked.yaml")).unwrap(),
        GRANT
    );
    let again = project.result(&args, 0);
    assert_eq!(again["state"], "unchanged");
    assert_eq!(networked(&again)["config_state"], "unchanged");
}

#[test]
fn two_files_cannot_have_a_pipeline_and_no_plugin_is_lost() {
    let project = with_library();
    project.write("built/networked.yaml", GRANT);
    project.plugin_as("fixture-misbehaving", "libother.so");
    project.plugin_as("fixture-kinds", "libkinds.so");
    fs::copy(
        project.path("built/libsome.so"),
        project.path("built/libkinds.so"),
    )
    .unwrap();
    let clash = require(project.program(&["install", "built/libsome.so"]), 2).stderr;
    fs::remove_file(project.path("plugins/libother.so")).unwrap();
    let lost = require(project.program(&["install", "built/libkinds.so"]), 2).stderr;
    // The fixture gets more of them now and then.
    let (before, rest) = lost.split_once("with the pipelines ").unwrap();
    let (names, after) = rest.split_once(", and ").unwrap();
    assert!(names.starts_with("copy, same, "), "{names}");
    let lost = format!("{before}with the pipelines <all>, and {after}");
    expect![[r#"
        error: plugins/libother.so supplies a pipeline `misbehaving` already, and two files cannot supply the same one
          next: rename the new pipeline, or remove the other file with `etl-host delete other`; nothing was installed

        error: plugins/libkinds.so is another plugin, with the pipelines <all>, and would be lost
          next: give the new library another name, or remove that one with `etl-host delete kinds`; nothing was installed
    "#]].assert_eq(&[clash, lost].join("\n"));
}

#[test]
fn a_daemon_that_runs_is_told_of() {
    let project = with_library();
    project.write("built/networked.yaml", GRANT);
    let daemon = operators::daemon(&project);
    let installed = project.result(&["install", "built/libsome.so"], 0);
    assert_eq!(installed["daemon"], true);
    daemon.signal(Signal::TERM).unwrap();
    daemon.finish().unwrap();
}
