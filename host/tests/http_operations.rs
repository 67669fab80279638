//! Checkpoints, dead letters and backfills by the HTTP API of a real daemon: what they do in the sink, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, which look into JSON"
)]

mod kinds;
mod served;

use etl_testkit::project::Project;
use kinds::{SINK, copied, kinds, misbehaving, refusal, says};
use serde_json::{Value, json};
use served::{Served, answer};

const COPY: &str = "/api/v1/pipelines/copy";
const PEOPLE: &str = "CREATE TABLE people (id INTEGER, name TEXT, amount REAL, team TEXT);
                      INSERT INTO people (id) VALUES (1), (2), (3), (4), (5);";

fn next_step(answer: &Value) -> &str {
    answer["error"]["next_step"].as_str().unwrap()
}

#[test]
fn checkpoints_are_shown_and_reset_by_the_rules_of_the_command() {
    let served = Served::start(kinds(PEOPLE));
    let path = format!("{COPY}/checkpoints");
    let reset = format!("{COPY}/checkpoints/reset");
    assert_eq!(
        served.get(&path),
        json!({"pipeline": "copy", "partitions": []})
    );
    let (status, refused) = served.ask(&reset, &json!({"partition": "eu"}));
    assert_eq!(
        (status, next_step(&refused)),
        (422, "run the pipeline first")
    );

    let run = served.run("copy");
    let shown = served.get(&path);
    let show = ["checkpoint", "show", "copy"];
    assert_eq!(shown, served.project.result(&show, 0));
    let partition = &shown["partitions"][0];
    assert_eq!(
        (&partition["name"], &partition["cursor"]),
        (&json!("eu"), &json!("5"))
    );
    assert_eq!(partition["run_id"], run["summary"]["run_id"]);

    for (body, words, next) in [
        (
            json!({"partition": ""}),
            "`partition` is missing",
            "name one",
        ),
        (
            json!({"partition": "us"}),
            "no checkpoint of a partition `us`",
            "there are eu",
        ),
        (
            json!({"partition": "eu"}),
            "load rows again that are in copy already",
            "--allow-duplicates (in the HTTP API `allow_duplicates`)",
        ),
    ] {
        let (status, refused) = served.ask(&reset, &body);
        assert_eq!(status, 422, "{body}");
        says(refusal(&refused), words);
        says(next_step(&refused), next);
    }
    assert_eq!(served.get(&path), shown);
    let wanted = json!({"partition": "eu", "allow_duplicates": true});
    let (status, after) = served.ask(&reset, &wanted);
    assert_eq!((status, &after), (200, &served.get(&path)));
    assert_eq!(after["partitions"][0]["cursor"], Value::Null);
    assert_eq!(copied(&served.project), 5);
    served.run("copy");
    assert_eq!(copied(&served.project), 10);
    let (status, _) = served.ask("/api/v1/pipelines/nope/checkpoints/reset", &wanted);
    assert_eq!(status, 404);
}

/// Five people, of whom the sink refuses the second and the fourth.
fn choosy() -> Served {
    let project = kinds(PEOPLE);
    project.execute(
        SINK,
        "CREATE TABLE copy (id INTEGER, name TEXT, amount REAL, team TEXT);
         CREATE TRIGGER no BEFORE INSERT ON copy WHEN NEW.id IN (2, 4) BEGIN SELECT RAISE(ABORT, 'not this one'); END;",
    );
    project.config("copy", "error_handling: { max_bad_rows: 9 }\n");
    Served::start(project)
}

#[test]
fn dead_letters_come_in_pages_and_are_replayed_once() {
    let served = choosy();
    let path = format!("{COPY}/dead-letters");
    let replay = format!("{COPY}/dead-letters/replay");
    let none = json!({"pipeline": "copy", "dead_letters": [], "next": null});
    assert_eq!(served.get(&path), none);
    let run = served.run("copy");
    assert_eq!(run["report"]["rows"]["quarantined"], 2);

    let first = served.get(&format!("{path}?limit=1"));
    assert_eq!(first["next"], 1);
    let second = served.get(&format!("{path}?limit=1&after={}", first["next"]));
    assert_eq!(second["next"], Value::Null);
    let shown = ["dead-letters", "show", "copy", "1", "2"];
    let shown = served.project.result(&shown, 0);
    assert_eq!(
        [&first["dead_letters"][0], &second["dead_letters"][0]],
        [&shown["dead_letters"][0], &shown["dead_letters"][1]]
    );
    assert_eq!(first["dead_letters"][0]["row"]["id"], 2);
    let run_id = run["summary"]["run_id"].as_str().unwrap();
    let count = |query: &str| {
        let page = served.get(&format!("{path}?{query}"));
        page["dead_letters"].as_array().unwrap().len()
    };
    assert_eq!(count(&format!("run={run_id}&stage=load&partition=eu")), 2);
    assert_eq!(
        [
            count("run=other"),
            count("stage=extract"),
            count("partition=us")
        ],
        [0, 0, 0]
    );
    for wrong in ["limit=0", "limit=501", "stage=nope", "after=x", "al=true"] {
        let got = served.curl(&format!("{path}?{wrong}"), &["--write-out", "%{http_code}"]);
        assert!(got.stdout.ends_with("400"), "{wrong}: {}", got.stdout);
    }

    let (status, report) = served.ask(&replay, &json!({}));
    assert_eq!((status, &report["replayed"]), (200, &json!(0)));
    let left = report["left"].as_array().unwrap();
    assert_eq!((left.len(), &left[0]["id"]), (2, &json!(1)));
    says(left[0]["reason"].as_str().unwrap(), "not this one");
    served.project.execute(SINK, "DROP TRIGGER no");
    let (status, report) = served.ask(&replay, &json!({"ids": [2]}));
    assert_eq!((status, &report["replayed"]), (200, &json!(1)));
    assert_eq!(count("all=true"), 2);
    let replayed = &served.get(&format!("{path}?all=true"))["dead_letters"][1];
    assert_eq!(replayed["replayed_by"], report["run_id"]);
    for expected in [1, 0] {
        let (_, report) = served.ask(&replay, &json!({"stage": "load", "partitions": ["eu"]}));
        assert_eq!(report["replayed"], expected);
        assert_eq!(report["left"], json!([]));
    }
    assert_eq!(copied(&served.project), 5);
    assert_eq!(served.get(&path), none);
    let (status, _) = served.ask(&replay, &json!({"stage": "nope"}));
    assert_eq!(status, 422);
    served
        .project
        .config("copy", "error_handling: { max_bad_rows: many }\n");
    let (status, refused) = served.ask(&replay, &json!({}));
    assert_eq!(
        (status, &refused["error"]["problems"][0]["line"]),
        (422, &json!(1))
    );
}

#[test]
fn one_replay_of_a_pipeline_goes_on_at_a_time() {
    let served = choosy();
    served.run("copy");
    served.project.execute(SINK, "DROP TRIGGER no");
    // Whoever is first waits for the file.
    let holding = served.project.sqlite(SINK);
    holding.execute_batch("BEGIN IMMEDIATE").unwrap();
    let replay = format!("{COPY}/dead-letters/replay");
    let asking = || served.asking(&replay, &json!({}));
    let (one, other) = (asking(), asking());
    while !one.has_ended() && !other.has_ended() {}
    let (second, first) = if one.has_ended() {
        (one, other)
    } else {
        (other, one)
    };
    let (status, refused) = answer(second);
    assert_eq!(status, 409, "{refused}");
    says(
        refusal(&refused),
        "a replay of copy's dead letters goes on already",
    );
    holding.execute_batch("ROLLBACK").unwrap();
    let (status, report) = answer(first);
    assert_eq!((status, &report["replayed"]), (200, &json!(2)), "{report}");
}

const LOADER: &str = "/api/v1/pipelines/misbehaving";
/// A hundred people by their numbers, merged by them, whose windows are done in order.
const MERGED: &str = "source: { shards: [{ name: eu, path: data/eu.db }] }
sink: { write_mode: upsert, key: [id], path: data/warehouse.db, table: copy }
error_handling: { max_retries: 0, park_after: 1 }
";
const CHANGED: &str = "SELECT count(*) FROM copy WHERE name = 'new'";

/// A hundred people, loaded, who have changed at the source.
fn changed() -> Served {
    let project = misbehaving(100);
    project.config("misbehaving", MERGED);
    let served = Served::start(project);
    assert_eq!(served.run("misbehaving")["report"]["rows"]["loaded"], 100);
    served
        .project
        .execute("data/eu.db", "UPDATE people SET name = 'new'");
    served
}

/// The plugin misbehaves at the person 45, in the third window.
fn misbehave(project: &Project, how: &str) {
    let settings = format!("{MERGED}settings: {{ misbehave: {how}, at_id: 45 }}\n");
    project.config("misbehaving", &settings);
}

fn five_windows() -> Value {
    json!({"from": "0", "to": "100", "window": "20"})
}

/// Starts a backfill, and gives its identifier.
fn backfill(served: &Served, wanted: &Value) -> String {
    let (status, accepted) = served.ask(&format!("{LOADER}/backfills"), wanted);
    assert_eq!(status, 202, "{accepted}");
    accepted["run_id"].as_str().unwrap().to_owned()
}

fn done(progress: &Value) -> (u64, u64) {
    let number = |name: &str| progress[name].as_u64().unwrap();
    (number("windows"), number("windows_done"))
}

#[test]
fn a_backfill_is_followed_cancelled_and_goes_on() {
    let mut served = changed();
    let checkpoints = format!("{LOADER}/checkpoints");
    let before = served.get(&checkpoints)["partitions"][0]["cursor"].clone();
    let new = |served: &Served| served.project.number(SINK, CHANGED);
    for now in [false, true] {
        misbehave(&served.project, "waits-until-cancelled");
        let wanted = json!({"from": "0", "to": "100", "window": "20", "restart": true});
        let run_id = backfill(&served, &wanted);
        let waits = served
            .daemon
            .wait_for_stderr(|line| line.contains("waiting to be cancelled"));
        waits.unwrap();
        let path = format!("/api/v1/runs/{run_id}");
        let current = &served.get(&path)["current"];
        assert_eq!(
            (&current["trigger"], &current["pipeline"]),
            (&json!("backfill"), &json!("misbehaving"))
        );
        assert_eq!(done(&current["backfill"]), (5, 2));
        assert_eq!(current["partitions"][0]["activity"], "running");
        for other in ["runs", "backfills"] {
            let (status, refused) = served.ask(
                &format!("{LOADER}/{other}"),
                &match other {
                    "runs" => json!({}),
                    _ => five_windows(),
                },
            );
            assert_eq!(status, 409, "{refused}");
            says(refusal(&refused), "goes on already");
        }
        let (status, _) = served.ask(&format!("{path}/cancel"), &json!({"now": now}));
        assert_eq!(status, 202);
        let ended = served.end_of(&run_id);
        assert_eq!(
            (&ended["summary"]["status"], &ended["summary"]["trigger"]),
            (&json!("cancelled"), &json!("backfill"))
        );
        let report = &ended["report"];
        assert_eq!(done(&report["backfill"]), (5, 2));
        // What an earlier window has committed is not counted once more.
        assert_eq!(
            (&report["rows"]["loaded"], &report["run_id"]),
            (&json!(40), &json!(run_id))
        );
        assert_eq!(new(&served), 40);
        served.wait_until_idle("misbehaving");
    }

    served.project.config("misbehaving", MERGED);
    let run_id = backfill(&served, &five_windows());
    let report = served.end_of(&run_id)["report"].clone();
    assert_eq!(
        (&report["status"], &report["rows"]["loaded"]),
        (&json!("succeeded"), &json!(60))
    );
    assert_eq!((done(&report["backfill"]), new(&served)), ((5, 5), 100));
    let after = &served.get(&checkpoints)["partitions"][0];
    assert_eq!(after["cursor"], before);
    assert_eq!(after["run_id"], format!("{run_id}/window-5"));
    let history = served.project.result(&["history", "misbehaving"], 0);
    let triggers: Vec<&Value> = history["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| &run["trigger"])
        .collect();
    assert_eq!(triggers, ["backfill", "backfill", "backfill", "manual"]);
    assert_eq!(history["runs"][0]["extracted"], 60);
    let metrics = served.curl("/metrics", &[]).require_code(0).unwrap().stdout;
    let loaded = r#"etl_rows_total{pipeline="misbehaving",outcome="loaded"} 240"#;
    assert!(metrics.lines().any(|line| line == loaded), "{metrics}");
    let log = served.get(&format!("{LOADER}/logs?run={run_id}&lines=500"));
    let started = log["lines"].as_array().unwrap().iter();
    assert_eq!(
        started
            .filter(|line| line["message"] == "run started")
            .count(),
        3
    );

    // All is done, so the same order loads the range once more.
    served.wait_until_idle("misbehaving");
    let run_id = backfill(&served, &five_windows());
    assert_eq!(served.end_of(&run_id)["report"]["rows"]["loaded"], 100);
}

#[test]
fn what_an_earlier_window_has_loaded_is_not_counted_again_and_the_command_line_goes_on() {
    let served = changed();
    misbehave(&served.project, "fatal");
    let run_id = backfill(&served, &five_windows());
    let report = served.end_of(&run_id)["report"].clone();
    assert_eq!(
        (&report["status"], done(&report["backfill"])),
        (&json!("failed"), (5, 2))
    );
    assert_eq!(report["rows"]["loaded"], 40);
    says(
        report["partitions"][0]["error"]["message"]
            .as_str()
            .unwrap(),
        "the service knows no such thing",
    );
    served.wait_until_idle("misbehaving");
    served.project.config("misbehaving", MERGED);
    let command = [
        "backfill",
        "misbehaving",
        "--from",
        "0",
        "--to",
        "100",
        "--window",
        "20",
    ];
    let report = served.project.result(&command, 0);
    assert_eq!(
        (&report["windows_done_before"], &report["rows"]["loaded"]),
        (&json!(2), &json!(60))
    );
}

#[test]
fn what_cannot_be_loaded_again_is_refused_at_once() {
    let project = misbehaving(100);
    project.config("misbehaving", MERGED);
    let served = Served::start(project);
    let refused = |body: &Value, status: u16, words: &str| {
        let (found, refused) = served.ask(&format!("{LOADER}/backfills"), body);
        assert_eq!(found, status, "{refused}");
        says(refusal(&refused), words);
        refused
    };
    refused(
        &five_windows(),
        422,
        "pipeline misbehaving was never loaded",
    );
    served.run("misbehaving");
    refused(&json!({}), 422, "missing field `from`");
    refused(
        &json!({"from": "9", "to": ""}),
        422,
        "`from` and `to` are needed",
    );
    refused(
        &json!({"from": "9", "to": "9"}),
        422,
        "the range begins at 9, which is not before its end 9",
    );
    refused(
        &json!({"from": "0", "to": "9", "window": "1d"}),
        422,
        "no length of a window",
    );
    refused(
        &json!({"from": "0", "to": "9", "windows": "1"}),
        422,
        "unknown field `windows`",
    );
    let unknown = json!({"from": "0", "to": "9", "partitions": ["us"]});
    let answered = refused(&unknown, 422, "there is no partition `us`");
    assert_eq!(next_step(&answered), "there are eu");
    let without = format!("{MERGED}cursor: null\n");
    served.project.config("misbehaving", &without);
    refused(&five_windows(), 422, "the ends of a range need a `cursor`");
    let (status, _) = served.ask("/api/v1/pipelines/nope/backfills", &five_windows());
    assert_eq!(status, 404);

    // What only the plugin knows is told by the run.
    misbehave(&served.project, "segfault");
    let run_id = backfill(&served, &json!({"from": "40", "to": "60"}));
    assert_eq!(served.end_of(&run_id)["report"]["status"], "failed");
    served.wait_until_idle("misbehaving");
    let parked = refused(&five_windows(), 409, "the pipeline is parked");
    says(next_step(&parked), "etl-host enable misbehaving");
    let (status, parked) = served.ask(&format!("{LOADER}/dead-letters/replay"), &json!({}));
    assert_eq!(status, 409);
    says(refusal(&parked), "the pipeline is parked");
}
