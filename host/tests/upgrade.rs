//! A sink whose host tables are those of an older host: read as they are, extended by whoever may.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod databases;
mod findings;
mod kinds;

use databases::{Database, configure, project, sink, source};
use etl_testkit::postgres::PostgresServer;
use etl_testkit::project::Project;
use findings::complaints;
use kinds::{RUN, SINK, kinds, loaded, message, query, refusal, says};
use serde_json::Value;

const QUERY: &str = "SELECT id, name FROM people WHERE id > @from AND id <= @until ORDER BY id";
const HANDLING: &str = "cursor: { column: id, kind: integer, settle_delay: 0s }\n\
                        error_handling: { max_retries: 0 }\n";
/// Makes the host's tables those of an older host, with a dead letter of its.
const OLDER: &str = "DROP TABLE etl_host.leases, etl_host.due_runs;
     ALTER TABLE etl_host.checkpoints DROP columns;
     ALTER TABLE etl_host.dead_letters DROP arrow, DROP position, DROP replayed_by;
     INSERT INTO etl_host.dead_letters (pipeline, partition, run_id, stage, reason, payload)
         VALUES ('copy', 'eu', 'older', 'load', 'no such team', '{}');";

/// A source with five people, and a sink that holds them, by whose configuration the given user writes.
struct Installed {
    from: Database,
    to: Database,
    project: Project,
}

impl Installed {
    async fn new() -> Self {
        let (from, to) = (Database::new().await, Database::new().await);
        from.execute(
            "CREATE TABLE people (id integer PRIMARY KEY, name text);
             INSERT INTO people SELECT i, 'name ' || i FROM generate_series(1, 5) AS i",
        )
        .await;
        let installed = Self {
            from,
            to,
            project: project(),
        };
        installed.configure();
        assert_eq!(loaded(&installed.project.result(RUN, 0)), 5);
        installed.to.execute(OLDER).await;
        installed
    }

    fn configure(&self) {
        let yaml = source(&[("eu", &self.from)], QUERY, "") + &sink(&self.to, "") + HANDLING;
        configure(&self.project, &yaml);
    }

    /// From now on the sink is written by a user who may use what is there, and create nothing.
    async fn by_a_plain_user(&mut self) -> String {
        let (user, password) = (
            format!("u_{}", self.to.at.name),
            &PostgresServer::shared().password,
        );
        self.to
            .execute(&format!(
                "CREATE ROLE {user} LOGIN PASSWORD '{password}';
                 GRANT USAGE ON SCHEMA etl_host TO {user};
                 GRANT SELECT, INSERT, UPDATE ON etl_host.checkpoints, etl_host.dead_letters TO {user};
                 GRANT INSERT ON copy TO {user};"
            ))
            .await;
        self.to.at.user.clone_from(&user);
        self.configure();
        user
    }

    async fn drop_user(self, user: &str) {
        self.to
            .execute(&format!("DROP OWNED BY {user} CASCADE; DROP ROLE {user}"))
            .await;
    }
}

/// Nothing that an older host has kept is overlooked.
fn is_read(project: &Project, partition: &str) {
    let shown = project.result(&["checkpoint", "show", "copy"], 0);
    assert_eq!(shown["partitions"][0]["cursor"], "5", "{shown}");
    let back = ["checkpoint", "set", "copy", "--cursor", "2", "--partition"];
    let back: Vec<&str> = back.into_iter().chain([partition]).collect();
    says(
        refusal(&project.result(&back, 2)),
        "load rows again that are in copy already",
    );
    let dry = project.result(&["run", "copy", "--dry-run"], 0);
    assert_eq!(dry["rows"]["extracted"], 0, "{dry}");
    let letters = project.result(&["dead-letters", "list", "copy"], 0);
    let reasons: Vec<&Value> = letters["dead_letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| &letter["reason"])
        .collect();
    assert_eq!(reasons, ["no such team"]);
}

#[tokio::test]
async fn an_older_host_s_checkpoints_and_dead_letters_are_read_as_they_are() {
    let installed = Installed::new().await;
    let (project, to) = (&installed.project, &installed.to);
    is_read(project, "eu");
    let leases = "SELECT count(*) FROM pg_tables WHERE schemaname = 'etl_host' AND tablename IN ('leases', 'due_runs')";
    assert_eq!(to.number(leases).await, 0, "nothing is changed by reading");
    installed
        .from
        .execute("INSERT INTO people VALUES (6, 'Fay')")
        .await;
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    assert_eq!(to.number(leases).await, 2);
    is_read_after(project);
}

fn is_read_after(project: &Project) {
    let letters = project.result(&["dead-letters", "list", "copy"], 0);
    assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 1);
}

#[test]
fn an_older_host_s_file_is_read_as_it_is() {
    let project = kinds(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO people VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e');",
    );
    project.config("copy", &(query(QUERY) + HANDLING));
    assert_eq!(loaded(&project.result(RUN, 0)), 5);
    project.execute(
        SINK,
        "DROP TABLE etl_host_leases;
         DROP TABLE etl_host_due_runs;
         ALTER TABLE etl_host_checkpoints DROP COLUMN columns;
         ALTER TABLE etl_host_dead_letters DROP COLUMN arrow;
         ALTER TABLE etl_host_dead_letters DROP COLUMN position;
         ALTER TABLE etl_host_dead_letters DROP COLUMN replayed_by;
         INSERT INTO etl_host_dead_letters (pipeline, partition, run_id, stage, reason, payload)
             SELECT pipeline, partition, 'older', 'load', 'no such team', x'7b7d' FROM etl_host_checkpoints;",
    );
    let shown = project.result(&["checkpoint", "show", "copy"], 0);
    let partition = shown["partitions"][0]["name"].as_str().unwrap();
    is_read(&project, partition);
    project.execute("data/people.db", "INSERT INTO people VALUES (6, 'f')");
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    is_read_after(&project);
}

#[tokio::test]
async fn who_may_not_create_is_told_the_statements_and_runs_once_they_have_been_run() {
    let mut installed = Installed::new().await;
    let user = installed.by_a_plain_user().await;
    let project = &installed.project;
    let extend = "ALTER TABLE etl_host.checkpoints ADD COLUMN IF NOT EXISTS columns text";
    let report = project.result(RUN, 3);
    says(message(&report), "SQLSTATE 42501");
    let next = &report["partitions"][0]["error"]["next_step"];
    says(next.as_str().unwrap(), extend);
    says(next.as_str().unwrap(), "CREATE on the schema etl_host");
    says(
        &complaints(project, "copy", 3),
        "tables are missing in the schema etl_host",
    );

    // As docs/operations.md has it, but for the columns.
    let leases = "CREATE TABLE etl_host.leases (pipeline text NOT NULL, partition text NOT NULL, run_id text NOT NULL, \
                  holder text NOT NULL, until timestamptz NOT NULL, PRIMARY KEY (pipeline, partition))";
    let due_runs = "CREATE TABLE etl_host.due_runs (pipeline text NOT NULL, scheduled_for timestamptz NOT NULL, \
                    ended_at timestamptz, PRIMARY KEY (pipeline, scheduled_for))";
    installed.to.execute(leases).await;
    says(
        &complaints(project, "copy", 3),
        "tables are missing in the schema etl_host",
    );
    installed.to.execute(due_runs).await;
    let lacks = complaints(project, "copy", 3);
    says(&lacks, "those of an older version");
    says(&lacks, extend);
    let report = project.result(RUN, 3);
    let next = &report["partitions"][0]["error"]["next_step"];
    says(next.as_str().unwrap(), extend);

    // The tables' owner needs no CREATE for what is there.
    let own = format!(
        "ALTER TABLE etl_host.checkpoints OWNER TO {user}; ALTER TABLE etl_host.dead_letters OWNER TO {user}"
    );
    installed.to.execute(&own).await;
    let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON etl_host.leases TO {user}");
    let lacks = complaints(project, "copy", 3);
    says(
        &lacks,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON etl_host.leases",
    );
    installed.to.execute(&grant).await;
    let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON etl_host.due_runs TO {user}");
    let lacks = complaints(project, "copy", 3);
    says(
        &lacks,
        "GRANT SELECT, INSERT, UPDATE, DELETE ON etl_host.due_runs",
    );
    installed.to.execute(&grant).await;
    assert_eq!(complaints(project, "copy", 0), "");
    installed
        .from
        .execute("INSERT INTO people VALUES (6, 'Fay')")
        .await;
    assert_eq!(loaded(&project.result(RUN, 0)), 1);
    assert_eq!(complaints(project, "copy", 0), "");
    installed.drop_user(&user).await;
}
