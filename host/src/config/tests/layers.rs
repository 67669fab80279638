//! What later layers and shards take over from those before them.

#![allow(clippy::unwrap_used, clippy::panic)]

use expect_test::expect;

use super::super::*;
use super::{CONTRACT, SMALL, check_problems, env, layer, loaded};

#[test]
fn shards_inherit_and_override() {
    let config = loaded(&[r"
name: p
source:
  type: postgres
  host: localhost
  port: 5433
  database: app
  credentials: { username: reader, password: one }
  tls: { ca_file: /ca.pem }
  pool: { max_connections: 4 }
  shards:
    - {}
    - { name: far, host: db.example.org, database: other, credentials: { password: two }, pool: { wait_timeout: 1m } }
    - { host: /run/postgresql, port: 1, tls: { mode: disable, ca_file: null } }
sink: { type: sqlite, path: out.db, table: t }
"]);
    let SourceConnector::Postgres { shards } = config.source.connector else {
        panic!("not postgres")
    };
    let names: Vec<&str> = shards.iter().map(|shard| shard.name.as_str()).collect();
    assert_eq!(names, ["shard-1", "far", "shard-3"]);
    let seen: Vec<String> = shards
        .iter()
        .map(|PostgresShard { server: it, .. }| {
            format!(
                "{}:{}/{} {}:{} {:?} {:?} {} {:?}",
                it.host,
                it.port,
                it.database,
                it.username,
                it.password.expose(),
                it.tls.mode,
                it.tls.ca_file,
                it.pool.max_connections,
                it.pool.wait_timeout
            )
        })
        .collect();
    expect![[r#"
        localhost:5433/app reader:one Prefer Some("/ca.pem") 4 30s
        db.example.org:5433/other reader:two Require Some("/ca.pem") 4 60s
        /run/postgresql:1/app reader:one Disable None 4 30s"#]]
    .assert_eq(&seen.join("\n"));
}

#[test]
fn later_layers_win() {
    let config = loaded(&[
        CONTRACT,
        "sink: { table: other }\nsource: { shards: [{ host: one }] }\ncursor: null\nerror_handling: { max_retries: 9 }\n",
    ]);
    assert_eq!(config.sink.table.to_string(), "other");
    assert_eq!(config.source.connector.shard_names(), ["shard-1"]);
    assert!(config.cursor.is_none());
    assert_eq!(
        config.error_handling,
        ErrorHandling {
            max_retries: 9,
            ..ErrorHandling::default()
        }
    );
}

#[test]
fn another_connector_starts_anew() {
    let base = "name: p
source: { type: sqlserver, query: select 1, database: \"${NOT_SET}\", shards: [{ host: \"${NOT_SET}\" }] }
sink: { type: postgres, host: h, table: t, write_mode: upsert, key: [id], tls: { mode: require } }
";
    let over = "source: { type: sqlite, shards: [{ path: a.db }] }\nsink: { type: \"${SINK:-sqlite}\", path: o.db }\n";
    let config = loaded(&[base, over]);
    assert_eq!(config.source.query.as_deref(), Some("select 1"));
    assert_eq!(config.sink.connector.kind(), "sqlite");
    assert!(matches!(config.sink.write_mode, WriteMode::Upsert { .. }));

    let config = loaded(&[base, over, "sink: { write_mode: append }"]);
    assert_eq!(config.sink.write_mode, WriteMode::Append);

    let config = loaded(&[base, over, "sink: { type: sqlite, write_mode: upsert }"]);
    assert_eq!(
        config.sink.write_mode,
        WriteMode::Upsert {
            key: vec!["id".into()],
            key_scope: KeyScope::Partition
        }
    );
}

#[test]
fn overridden_values_need_no_variables() {
    let base = SMALL.replace("out.db", "\"${NOT_SET}\"");
    check_problems(
        &[&base],
        &expect![
            "p (default config):3:29: sink.path: environment variable NOT_SET is not set (set NOT_SET, or write ${NOT_SET:-default})"
        ],
    );
    assert_eq!(
        loaded(&[&base, "sink: { path: b.db }"])
            .sink
            .connector
            .kind(),
        "sqlite"
    );
}

#[test]
fn positions_lead_to_file_and_line() {
    let layers = [
        layer(
            "default",
            &format!("{SMALL}settings:\n  geo:\n    file: a\n"),
        ),
        layer("p.yaml", "\nsettings:\n  geo: { limits: [1, { a: 2 }] }\n"),
    ];
    let positions = load(&layers, &env).unwrap().positions;
    for (key, place) in [
        ("settings.geo.file", "default:6:11"),
        ("settings.geo.limits[1].a", "p.yaml:3:27"),
        ("settings.geo.limits[1].b", "p.yaml:3:22"),
        ("settings.geo.limits[7]", "p.yaml:3:10"),
        ("settings.other", "p.yaml:2:1"),
        ("cursor.kind", "p.yaml:1:1"),
        ("", "p.yaml:1:1"),
    ] {
        assert_eq!(positions.find(key).to_string(), place, "{key}");
    }
    let problem = positions.problem(
        "settings.geo.file",
        "is missing",
        Some("put it there".into()),
    );
    assert_eq!(
        problem.to_string(),
        "default:6:11: settings.geo.file: is missing (put it there)"
    );
}
