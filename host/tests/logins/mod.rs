//! The flagship's data for tests: shards of logins, and what the sink must hold in the end.
//!
//! Every row is compared, column by column, not a checksum of them.
#![allow(dead_code, reason = "each test file uses its own part")]

use etl_testkit::artifact;
use etl_testkit::postgres::TestDatabase;
use etl_testkit::process::Program;
use etl_testkit::project::Project;

/// A project with the flagship's plugin and two shards of so many logins each.
pub fn project(rows: u32) -> Project {
    let project = Project::new(env!("CARGO_BIN_EXE_etl-host"));
    project.plugin("login-analytics");
    demo(&project, &["--dir", "data", "--rows", &rows.to_string()]);
    project
}

/// Adds newer logins to the first shard.
pub fn append(project: &Project, rows: u32) {
    demo(project, &["--dir", "data", "--append", &rows.to_string()]);
}

fn demo(project: &Project, args: &[&str]) {
    let maker = artifact::binary("login-analytics-demo", "login-analytics-demo").unwrap();
    let finished = Program::new(&maker)
        .current_dir(project.dir())
        .args(args)
        .run()
        .unwrap();
    finished.require_code(0).unwrap();
}

/// Configuration that loads the shards into a `PostgreSQL` database. `sink` is more lines under `sink:`, `rest` more keys.
pub fn config(project: &Project, database: &TestDatabase, sink: &str, rest: &str) {
    project.config(
        "login-analytics",
        &format!(
            r#"
sink:
  type: postgres
  host: "{host}"
  port: {port}
  database: "{name}"
  credentials: {{ username: "{user}", password: "${{SINK_PASSWORD}}" }}
  table: login_analytics
  partition_column: source_shard
  {sink}
{rest}
"#,
            host = database.host,
            port = database.port,
            name = database.name,
            user = database.user,
        ),
    );
    project.write(".env", format!("SINK_PASSWORD='{}'\n", database.password));
}

/// A query that also gives the row's own id, so that an upsert has a key.
pub const QUERY_WITH_ID: &str = r"source:
  query: |
    SELECT login_id, user_id, login_time, ip_address, user_agent FROM user_logins
    WHERE login_time > @from AND login_time <= @until ORDER BY login_time
";

/// Every source row as text, sorted: shard, user, time, address, agent.
pub fn source_rows(project: &Project) -> Vec<String> {
    let mut rows = Vec::new();
    for shard in ["shard-1", "shard-2"] {
        let text = project.query(
            format!("data/{shard}.db"),
            &format!(
                "SELECT '{shard}', user_id, strftime('%Y-%m-%d %H:%M:%f', login_time), ip_address, user_agent FROM user_logins"
            ),
        );
        rows.extend(text.lines().map(str::to_owned));
    }
    rows.sort_unstable();
    rows
}

/// Every sink row as text, sorted, in the same form.
pub async fn sink_rows(database: &TestDatabase) -> Vec<String> {
    let client = database.connect().await.unwrap();
    let found = client
        .query(
            "SELECT concat_ws('|', source_shard, user_id, to_char(login_time, 'YYYY-MM-DD HH24:MI:SS.MS'), \
             coalesce(ip_address, 'NULL'), coalesce(user_agent, 'NULL')) FROM login_analytics",
            &[],
        )
        .await
        .unwrap();
    let mut rows: Vec<String> = found.iter().map(|row| row.get(0)).collect();
    rows.sort_unstable();
    rows
}

/// Fails with the first difference instead of thousands of rows.
pub fn assert_same(sink: &[String], source: &[String]) {
    let difference = sink.iter().zip(source).find(|(a, b)| a != b);
    assert!(
        sink.len() == source.len() && difference.is_none(),
        "the sink holds {} rows, the source {}; the first difference is {difference:?}",
        sink.len(),
        source.len()
    );
}
