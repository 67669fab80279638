//! The web console in a browser: each test starts a daemon with pipelines of all kinds, and has a script of `console/`
//! drive Chromium against it. What the scripts need is installed by `scripts/setup-dev.sh test`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, which look into JSON"
)]

use std::path::Path;
use std::time::Duration;

use etl_testkit::process::{Program, Running, Signal};
use etl_testkit::project::Project;
use serde_json::json;

const HOST: &str = env!("CARGO_BIN_EXE_etl-host");
const TOKEN: &str = "a-token-nobody-guesses-0123456789";
/// The password in a configuration.
const SECRET: &str = "nobody-may-see-this";
/// A browser on a machine that does much else is slow.
const DEADLINE: Duration = Duration::from_mins(10);

/// One pipeline's configuration.
type Configured = (&'static str, &'static str);

const PIPELINES: [Configured; 9] = [
    // Succeeds, may be done again, and has a schedule.
    (
        "copy",
        "sink: { write_mode: upsert, key: [id] }
schedule: { cron: '0 3 * * *', timezone: Europe/Berlin }
",
    ),
    // Its second shard has no such table.
    (
        "upper",
        "source:
  shards: [{ name: eu, path: data/people.db }, { name: us, path: data/empty.db }]
error_handling: { max_retries: 1, retry_delay: 1ms, max_retry_delay: 1ms }
",
    ),
    // Fails in each attempt, of which there are three.
    (
        "misbehaving",
        "source:
  shards: [{ name: eu, path: data/people.db }]
settings: { misbehave: transient }
",
    ),
    // Hangs until somebody cancels it.
    (
        "networked",
        "source:
  shards: [{ name: eu, path: data/people.db }]
capabilities: { hosts: ['127.0.0.1:1'] }
settings: { misbehave: waits-until-cancelled }
",
    ),
    // Its sink is away, where nobody listens, and left alone for as long as a test takes.
    (
        "same",
        "sink:
  type: postgres
  host: 127.0.0.1
  port: 1
  database: warehouse
  credentials: { username: etl, password: nobody-may-see-this }
  pool: { breaker_failures: 1, breaker_pause: 10m, breaker_max_pause: 10m }
error_handling: { max_retries: 0 }
",
    ),
    // Sets rows aside.
    ("row-style", "error_handling: { max_bad_rows: 10 }\n"),
    // Depend on others.
    ("even", "depends_on: [copy]\n"),
    ("words", "depends_on: [even, row-style]\n"),
    // Has a mistake.
    (
        "totals",
        "sink: { write_mode: upsort, partition_colum: team }\n",
    ),
];

const PEOPLE: &str = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, amount REAL, team TEXT);
     WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 240)
     INSERT INTO people
     SELECT i, CASE WHEN i % 80 = 0 THEN 'bad' WHEN i % 60 = 7 THEN 'skip' ELSE 'name ' || i END, i * 1.5, 'team ' || i % 7
     FROM n;";

/// Pipelines that succeed, fail, hang and are not even tried, with what their first runs left behind.
fn workshop() -> Project {
    let project = Project::new(HOST);
    for plugin in [
        "fixture-kinds",
        "fixture-misbehaving",
        "fixture-not-a-plugin",
    ] {
        project.plugin(plugin);
    }
    project.execute("data/people.db", PEOPLE);
    project.execute("data/empty.db", "CREATE TABLE others (id INTEGER)");
    for (name, yaml) in PIPELINES {
        project.config(name, yaml);
    }
    for (name, code) in [
        ("copy", 0),
        ("even", 0),
        ("row-style", 0),
        ("upper", 4),
        ("misbehaving", 1),
    ] {
        project.result(&["run", name], code);
    }
    // A history of more than one run.
    for more in 0..4 {
        project.execute(
            "data/people.db",
            &format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
                 INSERT INTO people (name, amount, team) SELECT 'later', 1, 'team 1' FROM n",
                20 + more * 15
            ),
        );
        project.result(&["run", "copy"], 0);
    }
    project
}

/// Two hundred pipelines that have run fifty times each.
fn crowd() -> Project {
    let project = Project::new(HOST);
    project.plugin("fixture-many");
    project.execute("data/people.db", PEOPLE);
    // It makes the database of the history, too.
    let list = project.result(&["list"], 0);
    let names = list["pipelines"].as_array().unwrap().iter();
    let names: Vec<&str> = names
        .map(|pipeline| pipeline["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 200);
    let message = "cannot connect to the server db-7.example.com:1433: the connection was refused";
    project.execute(
        ".etl-host/state.db",
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 49),
             pipelines(place, name) AS (SELECT key, value FROM json_each('{names}')),
             runs_of(run_id, name, started, status, seconds, read) AS (
                 SELECT printf('01a2%04x-%04x-7000-8000-%012x', i, place, i * 1000 + place), name,
                        unixepoch('now') - (50 - i) * 3600 + place,
                        CASE WHEN (i * 7 + place) % 41 = 0 THEN 'failed' WHEN (i * 5 + place) % 59 = 0 THEN 'partial' ELSE 'succeeded' END,
                        1.5 + (i * 31 + place * 17) % 90, 1000 + (i * 271 + place * 37) % 9000
                 FROM n, pipelines)
             INSERT INTO runs (run_id, pipeline, status, started_at, finished_at, cause, report)
             SELECT run_id, name, status, strftime('%Y-%m-%dT%H:%M:%SZ', started, 'unixepoch'),
                    strftime('%Y-%m-%dT%H:%M:%SZ', started + seconds, 'unixepoch'), 'schedule',
                    json_object('run_id', run_id, 'pipeline', name, 'status', status, 'seconds', seconds, 'attempts', 1,
                        'rows', json_object('extracted', read, 'transformed', read, 'loaded', iif(status = 'failed', 0, read),
                            'quarantined', 0, 'filtered', 0, 'superseded', 0),
                        'partitions', json_array(json_object('name', 'eu', 'status', status, 'attempts', 1,
                            'error', iif(status = 'failed', json_object('message', '{message}', 'next_step', 'start the server'), NULL))))
             FROM runs_of",
            names = json!(names),
        ),
    );
    let runs = project.number(".etl-host/state.db", "SELECT count(*) FROM runs");
    assert_eq!(runs, 10_000);
    project
}

/// A daemon, and where it listens.
struct Console {
    project: Project,
    daemon: Running,
    address: String,
}

impl Console {
    /// With a token, as a daemon has that more than one person uses. A script clicks faster than people do.
    fn start(project: Project) -> Self {
        Self::serve(
            project,
            &format!("listen: '127.0.0.1:0', token: '{TOKEN}', requests_per_second: 2000"),
        )
    }

    fn serve(project: Project, http: &str) -> Self {
        project.write("etl-host.yaml", format!("http: {{ {http} }}\n"));
        let mut daemon = project
            .program(&["serve", "--config", "etl-host.yaml"])
            .deadline(DEADLINE)
            .start()
            .unwrap();
        let line = daemon.wait_for_stderr(|line| line.contains("listening on http://"));
        let line = line.unwrap();
        let (_, address) = line.split_once("listening on ").unwrap();
        let address = address.split_whitespace().next().unwrap().to_owned();
        Self {
            project,
            daemon,
            address,
        }
    }

    /// Runs a script to its end, and then ends the daemon.
    fn passes(self, script: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/console")
            .join(script);
        let finished = Program::new("node")
            .args(["--test-reporter=spec", "--test-force-exit"])
            .arg(script)
            .env("ETL_CONSOLE_ADDRESS", &self.address)
            .env("ETL_CONSOLE_TOKEN", TOKEN)
            .env("ETL_CONSOLE_SECRET", SECRET)
            .env("ETL_CONSOLE_PROJECT", self.project.dir())
            .deadline(DEADLINE)
            .run()
            .unwrap();
        // Each check has a line, and what was measured too: `cargo test -- --nocapture` shows them.
        println!("{}", finished.stdout);
        finished.require_code(0).unwrap();
        self.daemon.signal(Signal::TERM).unwrap();
        let ended = self.daemon.finish().unwrap();
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        for secret in [TOKEN, SECRET] {
            assert!(!ended.stderr.contains(secret), "{}", ended.stderr);
        }
    }
}

#[test]
fn every_page_shows_its_data_and_can_be_used_by_all() {
    Console::start(workshop()).passes("pages.mjs");
}

#[test]
fn every_action_does_what_it_says() {
    Console::start(workshop()).passes("actions.mjs");
}

#[test]
fn the_keyboard_is_enough_and_what_happens_is_shown() {
    Console::start(workshop()).passes("keyboard.mjs");
}

#[test]
fn nobody_gets_in_without_the_token_or_from_elsewhere() {
    Console::start(workshop()).passes("security.mjs");
}

#[test]
fn two_hundred_pipelines_come_a_page_at_a_time() {
    Console::start(crowd()).passes("many.mjs");
}

#[test]
fn an_empty_daemon_says_what_to_do_next() {
    let project = Project::new(HOST);
    Console::serve(project, "listen: '127.0.0.1:0', requests_per_second: 2000").passes("empty.mjs");
}
