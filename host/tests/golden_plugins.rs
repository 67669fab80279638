//! Plugins built against released versions of the plugin interface, with another major version of arrow than the
//! host's: they load, and run as they did; so does one of the next minor, and one of the next major is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

use std::fs;
use std::path::Path;

use etl_testkit::golden;
use etl_testkit::process::Program;
use etl_testkit::project::Project;
use expect_test::expect;
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_etl-host");
const SINK: &str = "data/warehouse.db";
/// Where the plugins are run.
const ISOLATIONS: [&str; 2] = ["in-process", "process"];
/// What the plugin of minor 0 asks for.
const GRANTED: &str = "capabilities: { secrets: { token: sesame } }\n";

/// A project with one golden plugin and five people.
fn project(package: &str) -> Project {
    let project = Project::new(HOST);
    let library = golden::plugin(package).unwrap();
    let name = library.file_name().unwrap();
    fs::copy(&library, project.path("plugins").join(name)).unwrap();
    project.execute(
        "data/people.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO people VALUES (1, 'ann'), (2, 'bob'), (3, NULL), (4, 'bad'), (5, 'eve');",
    );
    project
}

/// Runs the pipeline in each kind of isolation, each time in a project of its own.
fn everywhere(package: &str, pipeline: &str, config: &str, test: impl Fn(&Project)) {
    for isolation in ISOLATIONS {
        let project = project(package);
        project.config(pipeline, &format!("isolation: {isolation}\n{config}"));
        test(&project);
    }
}

fn interface() -> &'static str {
    etl_plugin_api::abi::ABI_VERSION
}

#[test]
fn a_plugin_of_each_released_minor_is_listed_with_the_interface_it_was_built_for() {
    let project = project("golden-minor-0");
    let list = project.result(&["list"], 0);
    assert_eq!(list["refused"], Value::Array(Vec::new()), "{list}");
    let pipelines: Vec<String> = list["pipelines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap().to_owned();
            assert!(text("abi").starts_with("1.0."), "{one}");
            format!("{} {}", text("name"), text("version"))
        })
        .collect();
    assert_eq!(
        pipelines,
        [
            "golden-people 1.0.0-golden",
            "golden-numbers 1.0.0-golden",
            "golden-fails 1.0.0-golden"
        ]
    );
    project.config("golden-people", GRANTED);
    let info = project.result(&["info", "golden-people"], 0);
    assert_eq!(info["plugin"]["abi"], list["pipelines"][0]["abi"], "{info}");
}

#[test]
fn the_plugin_of_minor_0_reads_changes_and_writes_through_the_host() {
    let config =
        format!("{GRANTED}error_handling: {{ max_bad_rows: 1 }}\nsettings: {{ greeting: hi }}\n");
    everywhere("golden-minor-0", "golden-people", &config, |project| {
        let finished = project.run(&["run", "golden-people"]);
        let finished = finished.require_code(0).unwrap();
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        expect![[r#"{"extracted":5,"filtered":1,"loaded":6,"quarantined":1,"superseded":0,"transformed":6}"#]]
            .assert_eq(&report["rows"].to_string());
        expect![[
            r#"{"commits":1,"letters of the secret":6,"passed on":6,"read":5,"secrets refused":1}"#
        ]]
        .assert_eq(&report["counters"].to_string());
        let told = "greeting eu for golden-people, attempt 1";
        assert!(finished.stderr.contains(told), "{}", finished.stderr);
        let text = [
            "SELECT * FROM golden_people ORDER BY id",
            "SELECT * FROM golden_names ORDER BY name",
            "SELECT stage, column_name, reason, payload FROM etl_host_dead_letters",
        ]
        .map(|query| project.query(SINK, query));
        expect![[r#"
            1|hi ann
            2|hi bob
            5|hi eve
            ann
            bob
            eve
            transform|name|nobody greets the bad one|{"id":4,"name":"bad"}
        "#]]
        .assert_eq(&text.concat());
        let again = project.result(&["run", "golden-people"], 0);
        assert_eq!(again["rows"]["extracted"], 0, "{again}");
    });
}

#[test]
fn the_plugin_of_minor_0_gets_its_parameters() {
    let config = format!("{GRANTED}settings: {{ step: 2 }}\n");
    everywhere("golden-minor-0", "golden-people", &config, |project| {
        project.execute("data/people.db", "DELETE FROM people WHERE id = 4");
        project.result(&["run", "golden-people"], 0);
        let rows = project.query(SINK, "SELECT * FROM golden_people ORDER BY id");
        assert_eq!(rows, "2|hello bob\n");
    });
}

#[test]
fn the_plugin_of_minor_0_checks_its_settings() {
    for (settings, key, expected) in [
        ("{ step: 0 }", "settings.step", "must be 1 or more"),
        (
            "{ steps: 1 }",
            "settings.steps",
            "is not a setting of the plugin",
        ),
    ] {
        let config = format!("{GRANTED}settings: {settings}\n");
        everywhere("golden-minor-0", "golden-people", &config, |project| {
            let answer = project.result(&["validate", "golden-people"], 2);
            let problem = &answer["pipelines"][0]["error"]["problems"][0];
            assert_eq!(problem["key"], key, "{answer}");
            let message = problem["message"].as_str().unwrap();
            assert!(message.contains(expected), "{answer}");
        });
    }
}

#[test]
fn the_plugin_of_minor_0_has_partitions_and_positions_of_its_own() {
    everywhere("golden-minor-0", "golden-numbers", "", |project| {
        let report = project.result(&["run", "golden-numbers"], 0);
        assert_eq!(report["rows"]["filtered"], 2, "{report}");
        let query = "SELECT * FROM golden_numbers ORDER BY partition, number";
        expect![[r#"
            left|1|1
            left|3|9
            left|4|16
            left|5|25
            right|1|1
            right|3|9
            right|4|16
            right|5|25
        "#]]
        .assert_eq(&project.query(SINK, query));
        let again = project.result(&["run", "golden-numbers"], 0);
        assert_eq!(again["rows"]["extracted"], 0, "{again}");
    });
}

#[test]
fn errors_of_the_plugin_of_minor_0_arrive_as_what_they_are() {
    for (kind, retries, code, expected) in [
        ("config", 3, 2, "a setting is wrong"),
        ("fatal", 3, 1, "never"),
        ("panic", 0, 1, "panicked: a golden panic"),
    ] {
        let config =
            format!("settings: {{ kind: {kind} }}\nerror_handling: {{ max_retries: {retries} }}\n");
        everywhere("golden-minor-0", "golden-fails", &config, |project| {
            let report = project.result(&["run", "golden-fails"], code);
            let partition = &report["partitions"][0];
            assert_eq!(partition["attempts"], 1, "{kind}: {report}");
            let message = partition["error"]["message"].as_str().unwrap();
            assert!(message.contains(expected), "{kind}: {message}");
        });
    }
    let config = "settings: { kind: transient }\nerror_handling: { retry_delay: 1ms }\n";
    everywhere("golden-minor-0", "golden-fails", config, |project| {
        let report = project.result(&["run", "golden-fails"], 0);
        assert_eq!(report["partitions"][0]["attempts"], 2, "{report}");
        assert_eq!(report["rows"]["loaded"], 5, "{report}");
    });
}

#[test]
fn a_plugin_of_the_next_minor_runs_and_does_without_what_this_host_lacks() {
    everywhere("golden-newer-minor", "golden-hosts", "", |project| {
        let list = project.result(&["list"], 0);
        let theirs = list["pipelines"][0]["abi"].as_str().unwrap();
        assert_ne!(minor(theirs), minor(interface()), "{list}");
        let report = project.result(&["run", "golden-hosts"], 0);
        assert_eq!(report["rows"]["loaded"], 5, "{report}");
        let rows = project.query(SINK, "SELECT DISTINCT host, count(*) FROM hosts");
        assert_eq!(rows, "an older host|5\n");
    });
}

fn minor(version: &str) -> &str {
    version.split('.').nth(1).unwrap()
}

#[test]
fn a_plugin_of_the_next_major_is_refused_with_both_versions_and_what_to_do() {
    let project = project("golden-newer-major");
    let list = project.result(&["list"], 0);
    let refused = &list["refused"][0];
    assert_eq!(
        refused["reason"].as_str().unwrap(),
        format!(
            "built for plugin interface 2.0.0, this host speaks {} and takes every 1.x",
            interface()
        )
    );
    assert_eq!(
        refused["fix"].as_str().unwrap(),
        "build the plugin against etl-plugin-api 1, or use a host of the plugin's generation"
    );
    let answer = project.result(&["run", "golden-newer-major"], 3);
    assert_eq!(answer["error"]["next_step"], refused["fix"], "{answer}");
}

/// What a host of the next minor finds when it calls a plugin.
fn called_by_a_newer_host(library: &Path) -> String {
    let program = Program::new(golden::newer_host().unwrap());
    let finished = program.arg(library).run().unwrap();
    finished.require_code(0).unwrap().stdout
}

#[test]
fn a_host_of_the_next_minor_does_without_what_an_older_plugin_lacks() {
    let older = called_by_a_newer_host(&golden::plugin("golden-minor-0").unwrap());
    expect![[r#"
        generation: None
        golden-people: maker: an older plugin
        golden-people: partitions: []
        golden-numbers: maker: an older plugin
        log: left and right
        golden-numbers: partitions: ["left", "right"]
        golden-fails: maker: an older plugin
        golden-fails: partitions: []
    "#]]
    .assert_eq(&older);
    // What is missing there is there in a plugin of its own time.
    let newer = called_by_a_newer_host(&golden::plugin("golden-newer-minor").unwrap());
    expect![[r#"
        generation: Some(2)
        golden-hosts: maker: a newer plugin
        log: run by a newer host
        golden-hosts: partitions: []
    "#]]
    .assert_eq(&newer);
}
