//! What a worker may use, and what a plugin is let reach.

// `UPDATE_EXPECT` writes every golden with hashes.
#![allow(clippy::unwrap_used, clippy::needless_raw_string_hashes)]

use expect_test::expect;

use super::super::*;
use super::{SMALL, check_problems, env, layer, loaded};

#[test]
fn limits_and_grants_are_read() {
    let config = loaded(&[
        SMALL,
        "limits: { memory: 64MiB, cpu_time: 90s, call_timeout: 5s, open_files: 16 }
error_handling: { park_after: 0 }
capabilities:
  hosts: [\"api.example.com:443\", \"127.0.0.1:1\", \"[::1]:65535\", \"${POSTGRES_HOST}:${POSTGRES_PORT}\"]
  paths: [/srv/geo, data/city.mmdb]
  secrets: { api_token: \"${POSTGRES_PASSWORD}\" }
",
    ]);
    assert_eq!(config.error_handling.park_after, 0);
    let token = &config.capabilities.secrets["api_token"];
    assert_eq!(token.expose(), "hunter2");
    expect![[r#"
        [
          {
            "memory": 67108864,
            "cpu_time": "90s",
            "call_timeout": "5s",
            "open_files": 16
          },
          {
            "hosts": [
              "api.example.com:443",
              "127.0.0.1:1",
              "[::1]:65535",
              "localhost:5432"
            ],
            "paths": [
              "/srv/geo",
              "data/city.mmdb"
            ],
            "writable": [],
            "secrets": {
              "api_token": "***"
            }
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&(&config.limits, &config.capabilities)).unwrap());
    let limits = loaded(&[SMALL, "limits: { cpu_time: none }"]).limits;
    assert_eq!(limits, Limits::default());
}

#[test]
fn later_layers_add_secrets_and_take_them_away() {
    let config = loaded(&[
        SMALL,
        "capabilities: { hosts: [\"a:1\"], secrets: { one: first, two: second } }",
        "capabilities: { hosts: [\"b:1\"], secrets: { two: ~, three: third } }",
    ]);
    assert_eq!(config.capabilities.hosts, ["b:1"]);
    let names: Vec<&String> = config.capabilities.secrets.keys().collect();
    assert_eq!(names, ["one", "three"]);
}

#[test]
fn mistakes_are_told_at_once_without_any_secret() {
    check_problems(
        &[
            SMALL,
            "limits: { memory: 63MiB, cpu_time: never, call_timeout: 0s, open_files: 8, threads: 2 }
capabilities:
  hosts: [example.com, \"example.com:0\", \"example.com:65536\", \"https://example.com:443\", \"::1:80\", \"[nine]:80\", \":80\", \"a:+1\", 7]
  paths: [/srv/../etc, \"\", [a]]
  secrets: { empty: \"${EMPTY}\", number: 12345, missing: \"${NOT_SET}\", list: [hunter2] }
  ports: [80]
error_handling: { park_after: -1 }
",
        ],
        &expect![[r#"
            p.yaml:1:19: limits.memory: expected a size of at least 64MiB, found "63MiB"
            p.yaml:1:36: limits.cpu_time: expected a duration such as "500ms", "5s", "15m", "1h" or "2d", or none, found "never"
            p.yaml:1:57: limits.call_timeout: must be longer than 0s
            p.yaml:1:73: limits.open_files: expected a number of open files between 16 and 65536, found 8
            p.yaml:1:76: limits.threads: is not a known key (known here: call_timeout, cpu_time, memory, open_files)
            p.yaml:3:11: capabilities.hosts[0]: expected a host with its port such as "api.example.com:443", found "example.com"
            p.yaml:3:24: capabilities.hosts[1]: expected a host with its port such as "api.example.com:443", found "example.com:0"
            p.yaml:3:41: capabilities.hosts[2]: expected a host with its port such as "api.example.com:443", found "example.com:65536"
            p.yaml:3:62: capabilities.hosts[3]: expected a host with its port such as "api.example.com:443", found "https://example.com:443"
            p.yaml:3:89: capabilities.hosts[4]: expected a host with its port such as "api.example.com:443", found "::1:80"
            p.yaml:3:99: capabilities.hosts[5]: expected a host with its port such as "api.example.com:443", found "[nine]:80"
            p.yaml:3:112: capabilities.hosts[6]: expected a host with its port such as "api.example.com:443", found ":80"
            p.yaml:3:119: capabilities.hosts[7]: expected a host with its port such as "api.example.com:443", found "a:+1"
            p.yaml:3:127: capabilities.hosts[8]: expected a host with its port such as "api.example.com:443", found 7
            p.yaml:4:11: capabilities.paths[0]: expected a path without `..`, found "/srv/../etc"
            p.yaml:4:24: capabilities.paths[1]: must not be empty
            p.yaml:4:28: capabilities.paths[2]: expected text, found a list
            p.yaml:5:21: capabilities.secrets.empty: must not be empty (give the variable a value, or leave the secret out)
            p.yaml:5:41: capabilities.secrets.number: expected text, found a number (put it in quotes)
            p.yaml:5:57: capabilities.secrets.missing: environment variable NOT_SET is not set (set NOT_SET, or write ${NOT_SET:-default})
            p.yaml:5:71: capabilities.secrets.list: expected text, found a list (put it in quotes)
            p.yaml:6:3: capabilities.ports: is not a known key (known here: hosts, paths, secrets, writable)
            p.yaml:7:31: error_handling.park_after: expected a number of runs between 0 and 4294967295, found -1"#]],
    );
    check_problems(
        &[
            SMALL,
            "limits: { cpu_time: 0s }\ncapabilities: { hosts: \"a:1\", paths: /srv, secrets: hunter2 }\n",
        ],
        &expect![[r#"
            p.yaml:1:21: limits.cpu_time: must be longer than 0s (write none for no limit)
            p.yaml:2:24: capabilities.hosts: expected a list, found text
            p.yaml:2:38: capabilities.paths: expected a list, found text
            p.yaml:2:53: capabilities.secrets: expected keys and values, found text"#]],
    );
}

#[test]
fn a_plugin_grants_itself_nothing() {
    let of_plugin = |text: &str| Layer {
        of_plugin: true,
        ..layer("p (default config)", text)
    };
    let default = r#"name: p
source:
  type: postgres
  host: "${DB_HOST}"
  database: d
  query: "SELECT '${POSTGRES_PASSWORD}'"
  credentials: { username: u, password: "${POSTGRES_PASSWORD}" }
  shards: [{ name: "${POSTGRES_PASSWORD}" }, { name: "a$b" }]
sink: { type: sqlite, path: out.db, table: t }
isolation: in-process
capabilities:
  secrets: { token: "${NOT_SET}" }
settings:
  price: $$5
  list: [a, { deep: "x${NOT_SET:-y}" }]
  open: "${"
"#;
    let errors = load(
        &[
            of_plugin(default),
            layer("p.yaml", "schedule: {}\ncapabilities: { paths: [/srv] }\n"),
        ],
        &env,
    )
    .unwrap_err();
    expect![[r#"
        p (default config):4:9: source.host: environment variable DB_HOST is not set (set DB_HOST, or write ${DB_HOST:-default})
        p (default config):6:3: source.query: a plugin cannot put environment variables where it sees them (leave it out of the plugin, and write it into PIPELINE.yaml)
        p (default config):8:14: source.shards[0].name: a plugin cannot put environment variables where it sees them (leave it out of the plugin, and write it into PIPELINE.yaml)
        p (default config):10:1: isolation: a plugin cannot choose to run inside the host (leave it out of the plugin, and write it into PIPELINE.yaml)
        p (default config):11:1: capabilities: a plugin cannot grant itself capabilities (leave it out of the plugin, and write it into PIPELINE.yaml)
        p (default config):15:15: settings.list[1].deep: a plugin cannot put environment variables where it sees them (leave it out of the plugin, and write it into PIPELINE.yaml)
        p (default config):16:9: settings.open: `${` without a closing `}` (write ${NAME}, or $${ for the two characters themselves)
        p.yaml:1:1: schedule.cron: is required but not given"#]].assert_eq(&errors.to_string());
    // The same text is right where the operator writes it, and the rest is right where the plugin does.
    let text = default
        .replace("NOT_SET", "TRUE")
        .replace("DB_HOST", "POSTGRES_HOST");
    let text = text.replace("  open: \"${\"\n", "");
    assert!(load(&[layer("p.yaml", &text)], &env).is_ok());
    let default = format!(
        "{SMALL}isolation: process\nlimits: {{ memory: 2GiB }}\nsettings: {{ price: $$5 }}\n"
    );
    assert!(load(&[of_plugin(&default)], &env).is_ok());
}
