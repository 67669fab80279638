//! `etl-host generate`: what an author gets in an empty folder, and what stands in the way of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

mod authors;

use std::fs;

use authors::{Folder, require, result};
use etl_testkit::project::Project;
use expect_test::expect;
use rusqlite::Connection;

const TEMPLATES: [&str; 4] = ["sql", "rows", "custom-source", "custom-sink"];

/// Generate, test, install, run: no edit, exit 0 each, from the parent folder and from the crate's own. Gives the rows that
/// the first run has loaded.
fn from_nothing_to_running(template: &str) -> (Folder, u64) {
    let folder = Folder::new(&format!("generate-{template}"));
    let name = format!("my-{template}");
    folder.generate(&name, template);
    assert_eq!(
        folder.list(""),
        [name.as_str()],
        "nothing else is left behind"
    );

    let tested = require(folder.cargo(&name, &["test"]), 0);
    assert!(
        tested.stdout.contains("conformance::rows_8193 ... ok"),
        "{}",
        tested.stdout
    );

    let installed = require(folder.host("", &["install", "--debug", &name]), 0);
    assert!(
        installed.stdout.contains("0.1.0 installed"),
        "{}",
        installed.stdout
    );
    let first = require(folder.host("", &["run", &name]), 0);
    let second = require(folder.host("", &["run", &name]), 0);
    let readme = folder.read(&format!("{name}/README.md"));
    for shown in [&first.stdout, &second.stdout] {
        let shown = without_times(shown);
        assert!(without_times(&readme).contains(&shown), "{shown}\n{readme}");
    }

    // The same data and the same sink, whatever the working directory: nothing is new.
    let installed = result(folder.host(&name, &["install", "--debug", "."]), 0);
    assert_eq!(installed["state"], "new");
    assert_eq!(installed["pipelines"][0]["config_state"], "new");
    let again = result(folder.host(&name, &["run", &name]), 0);
    assert_eq!(again["rows"]["extracted"], 0, "{again}");

    // What else its README says.
    require(folder.host(&name, &["validate", &name]), 0);
    require(folder.host(&name, &["run", &name, "--dry-run"]), 0);
    let whole = ["run", &name, "--full-refresh", "--allow-duplicates"];
    let whole = result(folder.host(&name, &whole), 0);

    let reports = result(folder.host("", &["history", &name]), 0);
    let loaded = reports["runs"][1]["loaded"].as_u64().unwrap();
    assert_eq!(whole["rows"]["loaded"], loaded, "{whole}");
    (folder, loaded)
}

/// Durations and rates are different every time.
fn without_times(text: &str) -> String {
    let number = |word: &str| word.starts_with(|first: char| first.is_ascii_digit());
    let words = |line: &str| -> String {
        let mut words: Vec<&str> = line.split(' ').collect();
        for at in 1..words.len() {
            if number(words[at - 1]) && matches!(words[at], "s" | "rows/s") {
                words[at - 1] = "N";
            }
        }
        words.join(" ")
    };
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

fn count(folder: &Folder, name: &str) -> i64 {
    let sink = folder.path(name).join("data/warehouse.db");
    let table = name.replace('-', "_");
    let sql = format!("SELECT count(*) FROM {table}");
    let sink = Connection::open(sink).unwrap();
    sink.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn sql_runs_as_it_is() {
    let (folder, loaded) = from_nothing_to_running("sql");
    assert_eq!(loaded, 6);
    assert_eq!(count(&folder, "my-sql"), 2 * 6);
}

#[test]
fn rows_run_as_they_are() {
    let (folder, loaded) = from_nothing_to_running("rows");
    assert_eq!(loaded, 4);
    assert_eq!(count(&folder, "my-rows"), 2 * 4);
}

#[test]
fn a_custom_source_runs_as_it_is() {
    let (folder, loaded) = from_nothing_to_running("custom-source");
    assert_eq!(loaded, 2_500);
    assert_eq!(count(&folder, "my-custom-source"), 2 * 2_500);
}

#[test]
fn a_custom_sink_runs_as_it_is() {
    let (folder, loaded) = from_nothing_to_running("custom-sink");
    assert_eq!(loaded, 6);
    let export = "my-custom-sink/data/export/shop";
    assert_eq!(folder.list(export), ["00000001.jsonl", "00000002.jsonl"]);
    let lines = folder.read(&format!("{export}/00000001.jsonl"));
    assert_eq!(lines.lines().count(), 1 + 6);
}

/// Whatever the name's length makes of a line.
#[test]
fn a_crate_is_formatted() {
    let folder = Folder::new("generate-formatted");
    let long = format!("{}x", "abcdefghi-".repeat(5).trim_end_matches('-'));
    assert_eq!(long.len(), 50);
    for (number, template) in TEMPLATES.into_iter().enumerate() {
        for (parent, name) in [("short", ["q", "r", "s", "t"][number]), ("long", &long)] {
            let parent = format!("{parent}-{template}");
            fs::create_dir(folder.path(&parent)).unwrap();
            let args = ["generate", "--name", name, "--template", template];
            require(folder.host(&parent, &args), 0);
            let args = ["fmt", "--check", "--manifest-path"];
            let manifest = format!("{parent}/{name}/Cargo.toml");
            require(folder.cargo("", &args).arg(manifest), 0);
        }
    }
}

#[test]
fn below_a_workspace_a_crate_is_a_member_or_has_a_workspace_of_its_own() {
    let folder = Folder::new("generate-workspace");
    folder.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"plugins/*\"]\n",
    );
    fs::create_dir(folder.path("plugins")).unwrap();
    let member = ["generate", "--name", "member", "--path", "plugins"];
    let member = result(folder.host("", &member), 0);
    assert_eq!(
        member["workspace"],
        folder.path("").to_str().unwrap().trim_end_matches('/')
    );
    let foreign = result(folder.host("", &["generate", "--name", "foreign"]), 0);
    assert_eq!(foreign["workspace"], serde_json::Value::Null);
    for below in ["", "plugins/member", "foreign"] {
        let args = ["metadata", "--no-deps", "--format-version", "1"];
        require(folder.cargo(below, &args), 0);
    }
    assert!(
        folder
            .read("foreign/Cargo.toml")
            .ends_with("\n[workspace]\n")
    );
    assert!(
        !folder
            .read("plugins/member/Cargo.toml")
            .contains("[workspace]")
    );
}

#[test]
fn what_was_made_is_told_with_the_next_commands() {
    let folder = Folder::new("generate-told");
    fs::create_dir(folder.path("of mine")).unwrap();
    let args = [
        "generate",
        "--name",
        "customer-analytics",
        "--path",
        "of mine",
    ];
    let args = [&args[..], &["--plugin-api", "1.0", "--template", "rows"]].concat();
    let told = require(folder.host("", &args), 0).stdout;
    expect![[r#"
        customer-analytics: a new crate in of mine/customer-analytics, from the template rows
          etl-plugin-api: version 1.0, from a registry

        Next:
          cargo test --manifest-path 'of mine/customer-analytics/Cargo.toml'
          etl-host install 'of mine/customer-analytics'
          etl-host run customer-analytics
    "#]]
    .assert_eq(&told);
    let manifest = folder.read("of mine/customer-analytics/Cargo.toml");
    assert!(
        manifest.contains("etl-plugin-api = { version = \"1.0\" }"),
        "{manifest}"
    );

    let args = ["generate", "--name", "other", "--plugin-api", "1.0"];
    let told = result(folder.host("", &args), 0);
    expect![[r#"
        {
          "folder": "<folder>/other",
          "name": "other",
          "next": [
            "cargo test --manifest-path other/Cargo.toml",
            "etl-host install other",
            "etl-host run other"
          ],
          "plugin_api": {
            "path": null,
            "version": "1.0"
          },
          "template": "sql",
          "workspace": null
        }
    "#]]
    .assert_eq(&folder.redact(&format!("{told:#}\n")));
}

#[test]
fn every_obstacle_is_told_and_nothing_is_touched() {
    let folder = Folder::new("generate-obstacles");
    folder.write("orders/notes.txt", "mine");
    let refused = |args: &[&str], code: i32| {
        let program = folder.host("", &["generate"]).args(args);
        folder.redact(&require(program, code).stderr)
    };
    let told = [
        refused(
            &[
                "--name",
                "Orders_EU",
                "--path",
                "nowhere",
                "--plugin-api",
                ".",
            ],
            2,
        ),
        refused(&["--name", "../orders"], 2),
        refused(&["--name", "orders"], 2),
        refused(&["--name", "order-lines", "--path", "nowhere"], 3),
        refused(&["--name", "order-lines", "--path", "orders/notes.txt"], 3),
    ];
    expect![[r#"
        error: no crate was made for `Orders_EU`:
          --name cannot have `E` `O` `U` `_`
            fix: use lower-case letters, digits and single dashes: orders-eu
          --path nowhere: No such file or directory (os error 2)
            fix: name a folder that is there; the crate gets a folder of its own in it
          --plugin-api .: there is no package etl-plugin-api
            fix: name the folder whose Cargo.toml says `name = "etl-plugin-api"`, or a version
          next: put that right and call it again; nothing was written

        error: no crate was made for `../orders`:
          --name is no path
            fix: use lower-case letters, digits and single dashes: orders; the folder goes to --path
          next: put that right and call it again; nothing was written

        error: no crate was made for `orders`:
          <folder>/orders is there already
            fix: choose another --name or --path, or move it away; nothing is overwritten
          next: put that right and call it again; nothing was written

        error: no crate was made for `order-lines`:
          --path nowhere: No such file or directory (os error 2)
            fix: name a folder that is there; the crate gets a folder of its own in it
          next: put that right and call it again; nothing was written

        error: no crate was made for `order-lines`:
          --path orders/notes.txt: this is no folder
            fix: name the folder in which the crate's own folder is to be made
          next: put that right and call it again; nothing was written
    "#]]
    .assert_eq(&told.join("\n"));
    assert_eq!(folder.list(""), ["orders"]);
    assert_eq!(folder.list("orders"), ["notes.txt"]);
}

#[test]
fn a_name_that_the_plugins_folder_has_is_refused() {
    let project = Project::new(authors::HOST);
    project.plugin("fixture-kinds");
    project.write("plugins/libsome_orders.so", "no plugin, but in the way");
    let refused = |name: &str| {
        let program = project.program(&["generate", "--name", name]);
        require(program, 2).stderr
    };
    let told = [refused("copy"), refused("some-orders")];
    expect![[r#"
        error: no crate was made for `copy`:
          plugins/libfixture_kinds.so supplies a pipeline or plugin `copy` already
            fix: choose another --name, or remove that plugin with `etl-host delete fixture-kinds`
          next: put that right and call it again; nothing was written

        error: no crate was made for `some-orders`:
          plugins/libsome_orders.so has the name that the library would get
            fix: choose another --name, or move that file out of the plugins folder
          next: put that right and call it again; nothing was written
    "#]]
    .assert_eq(&told.join("\n"));
    assert!(!project.path("copy").exists());
}
