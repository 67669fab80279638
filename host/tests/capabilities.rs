//! What a plugin asks for, and what the configuration grants: a real plugin, the real program.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    reason = "tests, with texts as expect-test writes them"
)]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use etl_testkit::process::Finished;
use etl_testkit::project::Project;
use expect_test::expect;
use serde_json::Value;

const HOST: &str = env!("CARGO_BIN_EXE_etl-host");
/// With a quote, which other texts hold in another form.
const TOKEN: &str = "tok\"en-4711-sesame";
/// What nobody may read.
const GIVEAWAY: &str = "4711-sesame";
const HOST_AND_SECRET: &str =
    "hosts: [\"api.example.com:443\"], secrets: { api_token: \"${API_TOKEN}\" }";

/// A project with three people, a file, and a configuration of `reaching`.
fn reaching(config: &str) -> Project {
    let project = Project::new(HOST);
    project.plugin("fixture-kinds");
    project.execute(
        "data/people.db",
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT);
         INSERT INTO people (id) VALUES (1), (2), (3);",
    );
    project.write("data/geo/city.mmdb", "0123456789");
    project.config("reaching", config);
    project
}

/// Runs the host with the token in its environment.
fn run(project: &Project, args: &[&str]) -> Finished {
    project
        .program(&["--output", "json"])
        .args(args)
        .env("API_TOKEN", TOKEN)
        .run()
        .unwrap()
}

fn result(project: &Project, args: &[&str], code: i32) -> Value {
    let finished = run(project, args).require_code(code).unwrap();
    finished.json().unwrap()
}

/// Each mistake on a line.
fn problems(answer: &Value) -> String {
    let mut text = String::new();
    for problem in answer["error"]["problems"].as_array().unwrap() {
        let (file, line) = (&problem["file"], &problem["line"]);
        let (key, message, fix) = (&problem["key"], &problem["message"], &problem["fix"]);
        writeln!(text, "{file} {line} {key} {message} {fix}").unwrap();
    }
    text
}

#[test]
fn what_is_granted_can_be_used() {
    let project = reaching(&format!(
        "settings: {{ file: ./data/geo/city.mmdb }}\ncapabilities: {{ {HOST_AND_SECRET}, paths: [data/geo] }}\n"
    ));
    let report = result(&project, &["run", "reaching"], 0);
    assert_eq!(report["rows"]["loaded"], 3);
    expect![[r#"{"bytes of the file":10,"characters of the secret":18}"#]]
        .assert_eq(&report["counters"].to_string());
}

#[test]
fn what_is_not_granted_is_told_before_the_plugin_runs() {
    let project =
        reaching("settings: { file: data/geo2/city.mmdb }\ncapabilities: { paths: [data/geo] }\n");
    let answer = result(&project, &["run", "reaching"], 2);
    let told = problems(&answer);
    expect![[r#"
        "plugins/reaching.yaml" 2 "capabilities.hosts" "the plugin asks for the host api.example.com:443, which is not granted" "to grant it, add to reaching.yaml: capabilities: { hosts: [\"api.example.com:443\"], paths: [\"data/geo2/city.mmdb\"], secrets: { \"api_token\": \"${API_TOKEN}\" } }"
        "plugins/reaching.yaml" 2 "capabilities.secrets" "the plugin asks for the secret api_token, which is not granted" "to grant it, add to reaching.yaml: capabilities: { hosts: [\"api.example.com:443\"], paths: [\"data/geo2/city.mmdb\"], secrets: { \"api_token\": \"${API_TOKEN}\" } }"
        "plugins/reaching.yaml" 2 "capabilities.paths" "the plugin asks for the path data/geo2/city.mmdb (settings.file), which is not granted" "to grant it, add to reaching.yaml: capabilities: { hosts: [\"api.example.com:443\"], paths: [\"data/geo2/city.mmdb\"], secrets: { \"api_token\": \"${API_TOKEN}\" } }"
    "#]].assert_eq(&told);
    for command in ["info", "backfill", "verify"] {
        let range: &[&str] = if command == "backfill" {
            &["--from", "0", "--to", "9"]
        } else {
            &[]
        };
        let answer = result(&project, &[&[command, "reaching"], range].concat(), 2);
        assert_eq!(problems(&answer), told, "{command}");
    }
    for command in ["validate", "doctor"] {
        let answer = result(&project, &[command, "reaching"], 2);
        assert_eq!(problems(&answer["pipelines"][0]), told, "{command}");
    }
    // What needs no code of the plugin goes on.
    result(&project, &["checkpoint", "show", "reaching"], 0);
    assert!(!project.path("data/warehouse.db").exists());
}

#[test]
fn a_path_that_leads_out_of_a_granted_folder_is_refused() {
    for file in ["data/geo/../people.db", "/etc/passwd", "data"] {
        let project = reaching(&format!(
            "settings: {{ file: {file} }}\ncapabilities: {{ {HOST_AND_SECRET}, paths: [data/geo] }}\n"
        ));
        let told = problems(&result(&project, &["run", "reaching"], 2));
        assert!(
            told.contains("capabilities.paths") && told.contains(file),
            "{told}"
        );
    }
}

#[test]
fn a_secret_that_the_manifest_does_not_name_cannot_be_had() {
    let project = reaching(
        "settings: { secret: other }\n\
         capabilities: { hosts: [\"api.example.com:443\", \"b:1\"], secrets: { api_token: a, other: b } }\n",
    );
    let report = result(&project, &["run", "reaching"], 2);
    expect!["pipeline reaching, partition eu, attempt 1: open the transformer: the plugin's manifest does not name the secret `other`, so nothing can grant it; the plugin's author adds it to `Capabilities::secrets`"].assert_eq(
        report["partitions"][0]["error"]["message"]
            .as_str()
            .unwrap(),
    );
    let validated = run(&project, &["validate", "reaching"])
        .require_code(0)
        .unwrap();
    for needless in ["capabilities.hosts: b:1", "capabilities.secrets: other"] {
        assert!(validated.stderr.contains(needless), "{}", validated.stderr);
    }
    assert!(!validated.stderr.contains("api"), "{}", validated.stderr);
}

#[test]
fn a_plugin_cannot_grant_itself_anything() {
    let project = reaching("");
    let told = problems(&result(&project, &["run", "granting-itself"], 2));
    expect![[r#"
        "granting-itself (the plugin's default config)" 8 "capabilities" "a plugin cannot grant itself capabilities" "leave it out of the plugin, and write it into PIPELINE.yaml"
    "#]].assert_eq(&told);
}

#[test]
fn an_optional_file_is_granted_where_it_is_configured() {
    let project = Project::new(HOST);
    project.plugin("login-analytics");
    project.result(&["validate", "login-analytics"], 0);
    let settings = "settings: { geoip_database: data/geo/city.mmdb }\n";
    project.config("login-analytics", settings);
    let told = problems(&project.result(&["run", "login-analytics"], 2));
    assert!(
        told.contains("capabilities: { paths: [\\\"data/geo/city.mmdb\\\"] }"),
        "{told}"
    );
    let grant = "capabilities: { paths: [\"data/geo\"] }\n";
    project.config("login-analytics", &format!("{settings}{grant}"));
    project.result(&["validate", "login-analytics"], 0);
    // Granted or not, an empty setting is a mistake that the plugin tells itself.
    project.config("login-analytics", "settings: { geoip_database: \"\" }\n");
    let told = problems(&project.result(&["run", "login-analytics"], 2));
    assert!(told.contains("settings.geoip_database"), "{told}");
}

/// Every file below a folder that holds the token.
fn files_with_the_token(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with_the_token(&path));
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        if bytes
            .windows(GIVEAWAY.len())
            .any(|window| window == GIVEAWAY.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_that_the_plugin_tells_is_readable_nowhere() {
    for (telling, code, words) in [
        ("log", 0, "the token is ***, in quotes \"***\""),
        ("reject", 0, "the server does not take it with ***"),
        ("fail", 1, "the server refused ***"),
        ("panic", 1, "no server takes ***"),
    ] {
        let project = reaching(&format!(
            "settings: {{ telling: {telling} }}\ncapabilities: {{ {HOST_AND_SECRET} }}\n\
             error_handling: {{ max_retries: 1, retry_delay: 1ms, max_bad_rows: {} }}\n",
            if telling == "reject" { 3 } else { 0 }
        ));
        for output in ["text", "json"] {
            let told = project
                .program(&[
                    "-vv",
                    "--output",
                    output,
                    "run",
                    "reaching",
                    "--full-refresh",
                    "--allow-duplicates",
                ])
                .env("API_TOKEN", TOKEN)
                .run()
                .unwrap()
                .require_code(code)
                .unwrap();
            let all = format!("{}{}", told.stdout, told.stderr);
            assert!(all.contains(words), "{telling}: {all}");
            assert!(!all.contains(GIVEAWAY), "{telling}: {all}");
        }
        for args in [
            &["info", "reaching"][..],
            &["dead-letters", "list", "reaching"],
            &["dead-letters", "replay", "reaching"],
        ] {
            let told = run(&project, args);
            let all = format!("{}{}", told.stdout, told.stderr);
            assert!(!all.contains(GIVEAWAY), "{telling} {args:?}: {all}");
        }
        // The run's history, the dead letters, the configuration: none holds it.
        let found = files_with_the_token(project.dir());
        assert!(found.is_empty(), "{telling}: {found:?}");
    }
}
