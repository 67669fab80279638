//! What is told about mistakes, word for word.

// `UPDATE_EXPECT` writes every golden with hashes.
#![allow(clippy::unwrap_used, clippy::needless_raw_string_hashes)]

use expect_test::expect;

use super::super::*;
use super::{CONTRACT, SMALL, check_problems, env, layer, loaded};

#[test]
fn many_mistakes_are_told_at_once() {
    let text = r#"name: "Login Analytics"
descripton: "typo in the key"
source:
  type: "sqlserver"
  database: 2024
  shards:
    - host: "${SHARD_HOST}"
      port: "abc"
    - name: "shard-1"
      host: "db2"
      port: 70000
      hots: "x"
  credentials:
    username: "sa"
    password: 12345
  tls: { mode: "required", trust_server_certificate: "yes" }
sink:
  type: "postgresql"
  table: "my table"
  write_mode: "append"
  key: ["id"]
cursor: { column: "t", kind: "timestmp", settle_delay: 5 }
error_handling:
  max_retries: -1
  retry_delay: "1h"
  max_retry_delay: "5 min"
  max_bad_rows: "200%"
schedule: { cron: "0 25 * * *", timezone: europe/berlin, jitter: 2d, catch_up: { all: 0, al: 1 }, overlap: wait }
isolation: [process]
tuning: { batch_rows: 0, flush_bytes: "16MB" }
settings: { file: "${SETTINGS_FILE}", "a.b": "${" }
"#;
    check_problems(
        &[text],
        &expect![[r#"
        p (default config):1:7: name: expected a name of at most 63 lower case letters, digits and dashes, starting with a letter, found "Login Analytics"
        p (default config):2:1: descripton: is not a known key (did you mean description?)
        p (default config):5:13: source.database: expected text, found 2024 (put it in quotes)
        p (default config):7:13: source.shards[0].host: environment variable SHARD_HOST is not set (set SHARD_HOST, or write ${SHARD_HOST:-default})
        p (default config):8:13: source.shards[0].port: expected a port between 1 and 65535, found "abc"
        p (default config):9:13: source.shards[1].name: another shard is already named "shard-1" (give it a name of its own)
        p (default config):11:13: source.shards[1].port: expected a port between 1 and 65535, found 70000
        p (default config):12:7: source.shards[1].hots: is not a known key (did you mean host?)
        p (default config):15:15: source.credentials.password: expected text, found a number (put it in quotes)
        p (default config):16:16: source.tls.mode: expected one of disable, prefer, require, found "required" (did you mean require?)
        p (default config):16:54: source.tls.trust_server_certificate: expected true or false, found "yes" (write true)
        p (default config):18:9: sink.type: expected one of postgres, sqlite, found "postgresql" (did you mean postgres?)
        p (default config):19:10: sink.table: expected a table name such as orders or sales.orders, with parts that hold other characters in double quotes, found "my table"
        p (default config):21:3: sink.key: is only for write_mode upsert (remove it, or set write_mode: upsert)
        p (default config):22:30: cursor.kind: expected one of timestamp, integer, rowversion, found "timestmp" (did you mean timestamp?)
        p (default config):22:56: cursor.settle_delay: expected a duration such as "500ms", "5s", "15m", "1h" or "2d", found 5
        p (default config):24:16: error_handling.max_retries: expected a number of retries between 0 and 4294967295, found -1
        p (default config):26:20: error_handling.max_retry_delay: expected a duration such as "500ms", "5s", "15m", "1h" or "2d", found "5 min"
        p (default config):27:17: error_handling.max_bad_rows: expected a number of rows such as 10, or a share of the rows from "0%" to "100%", found "200%"
        p (default config):28:19: schedule.cron: expected numbers from 0 to 23 such as 6, */2, 9-17 or 8,20 for the hour instead of "25", found "0 25 * * *"
        p (default config):28:43: schedule.timezone: expected the name of a time zone such as "UTC" or "Europe/Berlin", found "europe/berlin" (did you mean Europe/Berlin?)
        p (default config):28:66: schedule.jitter: expected a duration of at most 1d
        p (default config):28:87: schedule.catch_up.all: expected a number of runs between 1 and 1000, found 0
        p (default config):28:90: schedule.catch_up.al: is not a known key (did you mean all?)
        p (default config):28:108: schedule.overlap: expected one of skip, queue, cancel, found "wait"
        p (default config):29:1: isolation: expected one of in-process, process, found a list
        p (default config):30:23: tuning.batch_rows: expected a number of rows between 1 and 65536, found 0
        p (default config):30:39: tuning.flush_bytes: expected a size such as 65536, "64KiB", "16MiB" or "1GiB", found "16MB"
        p (default config):31:19: settings.file: environment variable SETTINGS_FILE is not set (set SETTINGS_FILE, or write ${SETTINGS_FILE:-default})
        p (default config):31:46: settings."a.b": `${` without a closing `}` (write ${NAME}, or $${ for the two characters themselves)"#]],
    );
}

#[test]
fn problems_as_json() {
    let errors = load(
        &[layer("p.yaml", &format!("{SMALL}isolation: proces\n"))],
        &env,
    )
    .unwrap_err();
    expect![[r#"[{"file":"p.yaml","line":4,"column":12,"key":"isolation","message":"expected one of in-process, process, found \"proces\"","fix":"did you mean process?"}]"#]].assert_eq(&serde_json::to_string(&errors).unwrap());
}

#[test]
fn an_empty_configuration_misses_what_is_required() {
    check_problems(
        &["", "# nothing\n"],
        &expect![[r#"
        p.yaml:1:1: name: is required but not given
        p.yaml:1:1: sink: is required but not given
        p.yaml:1:1: source: is required but not given"#]],
    );
    assert!(load(&[], &env).is_err());
}

#[test]
fn a_source_that_is_not_opened_has_nothing_to_ask() {
    check_problems(
        &["
name: p
source:
  type: none
  shards: [{ path: a.db }]
  query: SELECT 1
sink: { type: sqlite, path: out.db, table: t }
"],
        &expect![[r#"
            p (default config):5:3: source.shards: means nothing to a source of type none, which the host does not open (leave it out, or name the type of the database)
            p (default config):6:10: source.query: means nothing to a source of type none, which the host does not open (leave it out, or name the type of the database)"#]],
    );
}

#[test]
fn problems_of_every_layer_are_told() {
    check_problems(
        &["name: a\nname: b\n", "a: [\n"],
        &expect![[r#"
        p (default config):2:1: name: is given twice, first on line 1 (remove one)
        p.yaml:2:1: a[0]: while parsing a node, did not find expected node content (check indentation and quotes here and on the line above; within { } and [ ] a ${NAME} needs quotes)"#]],
    );
    check_problems(
        &["- a list\n"],
        &expect![[
            r#"p (default config):1:1: expected keys and values at the top of the file (write lines such as name: "my-pipeline")"#
        ]],
    );
    check_problems(
        &["1: a\ntrue: b\n~: c\nsettings: { x: .inf }\n"],
        &expect![[r#"
            p (default config):1:1: "": expected text as a key (put the key in quotes)
            p (default config):1:1: 1: expected text as a key (put the key in quotes)
            p (default config):2:1: true: expected text as a key (put the key in quotes)
            p (default config):4:16: settings.x: expected a finite number"#]],
    );
}

#[test]
fn a_bad_default_is_told_once() {
    check_problems(
        &["name: p
source:
  type: postgres
  port: x
  database: d
  credentials: { user: me }
  shards: [{ host: a }, { host: b }]
sink: { type: sqlite, path: out.db, table: t }
"],
        &expect![[r#"
            p (default config):4:9: source.port: expected a port between 1 and 65535, found "x"
            p (default config):6:3: source.credentials.username: is required but not given
            p (default config):6:18: source.credentials.user: is not a known key (did you mean username?)"#]],
    );
}

#[test]
fn quoted_numbers_without_a_variable_are_text() {
    let text = format!(
        "{SMALL}error_handling: {{ max_retries: \"7\", exponential_backoff: \"true\" }}\nisolation: ''\n"
    );
    check_problems(
        &[&text],
        &expect![[r#"
        p (default config):4:32: error_handling.max_retries: expected a number of retries between 0 and 4294967295, found "7" (remove the quotes)
        p (default config):4:58: error_handling.exponential_backoff: expected true or false, found "true" (remove the quotes)
        p (default config):5:12: isolation: expected one of in-process, process, found """#]],
    );
    let text = format!(
        "{SMALL}error_handling: {{ max_retries: \"${{YAML}}\", retry_delay: \"${{EMPTY}}\" }}\n"
    );
    check_problems(
        &[&text],
        &expect![[r#"
            p (default config):4:32: error_handling.max_retries: expected a number of retries between 0 and 4294967295, found the value of "${YAML}"
            p (default config):4:56: error_handling.retry_delay: expected a duration such as "500ms", "5s", "15m", "1h" or "2d", found the empty value of "${EMPTY}""#]],
    );
}

#[test]
fn secrets_are_never_printed() {
    for (layer_text, secret) in [
        (
            "credentials: { username: u, password: 918273645 }",
            "918273645",
        ),
        (
            "credentials: { username: u, password: [hunter2] }",
            "hunter2",
        ),
        (
            "credentials: { username: u, password: { a: hunter2 } }",
            "hunter2",
        ),
        (
            "credentials: { username: u, password: \"hunter2${\" }",
            "hunter2",
        ),
        (
            "credentials: { username: u, password: \"${X:-hunter2${\" }",
            "hunter2",
        ),
        (
            "credentials: { username: u, password: !hunter2 x }",
            "hunter2",
        ),
        (
            "credentials: { username: u, password: &hunter2 x }",
            "hunter2",
        ),
        (
            "credentials: { username: u, password: *hunter2 }",
            "hunter2",
        ),
        (
            "credentials: { username: u, password: 12345678901234567890123456789012345678901234567890 }",
            "1234567890",
        ),
        ("credentials: { username: u, pasword: hunter2 }", "hunter2"),
        ("credentials: hunter2", "hunter2"),
        ("credentials: [hunter2]", "hunter2"),
        (
            "credentials: { username: u, password: hunter2: x }",
            "hunter2",
        ),
        (
            "credentials: { username: u, password: \"hunter2 }",
            "hunter2",
        ),
        (
            "credentials: { username: u, password: \"hunter2\\q\" }",
            "hunter2",
        ),
    ] {
        let text = format!(
            "name: p\nsource:\n  type: sqlserver\n  shards: [{{ host: h, database: d }}]\n  {layer_text}\n"
        );
        let errors = load(&[layer("p.yaml", &text)], &env)
            .unwrap_err()
            .to_string();
        assert!(errors.contains("p.yaml:5:"), "{layer_text}: {errors}");
        assert!(!errors.contains(secret), "{layer_text}: {errors}");
    }
    let misplaced = format!("{SMALL}isolation: \"${{POSTGRES_PASSWORD}}\"\n");
    let errors = load(&[layer("p.yaml", &misplaced)], &env)
        .unwrap_err()
        .to_string();
    assert!(
        errors.contains("POSTGRES_PASSWORD") && !errors.contains("hunter2"),
        "{errors}"
    );
    let config = loaded(&[CONTRACT]);
    assert!(!format!("{config:?} {}", serde_json::to_string(&config).unwrap()).contains("hunter2"));
}

#[test]
fn upsert_keys_are_checked() {
    let with = |shards: &str, sink: &str| {
        format!(
            "name: p\nsource: {{ type: sqlite, shards: [{shards}] }}\n\
             sink: {{ type: sqlite, path: o.db, table: t, {sink} }}\n"
        )
    };
    let (one, two) = ("{ path: a }", "{ path: a }, { path: b }");
    for (shards, sink) in [
        (one, "write_mode: upsert, key: [id]"),
        (two, "write_mode: upsert, key: [id], key_scope: global"),
        (
            two,
            "write_mode: upsert, key: [shard, id], partition_column: shard",
        ),
        (two, "write_mode: replace, partition_column: shard"),
    ] {
        loaded(&[&with(shards, sink)]);
    }
    let bad = [
        with(one, "write_mode: upsert"),
        with(one, "write_mode: upsert, key: []"),
        with(one, "write_mode: upsert, key: [id, id, 7, ~, '']"),
        with(one, "write_mode: replace, key: [id], key_scope: global"),
        with(two, "write_mode: upsert, key: [id]"),
        with(
            two,
            "write_mode: upsert, key: [id], partition_column: shard",
        ),
        with(
            "{ path: a }, { name: shard-1, path: b }, x, ~",
            "write_mode: append",
        ),
        with("", "write_mode: append"),
    ];
    let found: Vec<String> = bad
        .iter()
        .map(|text| load(&[layer("p", text)], &env).unwrap_err().to_string())
        .collect();
    expect![[r#"
        p:3:1: sink.key: is required but not given
        --
        p:3:65: sink.key: expected at least one column
        --
        p:3:75: sink.key[1]: column "id" is in the key twice (remove one)
        p:3:79: sink.key[2]: expected text, found 7 (put it in quotes)
        p:3:82: sink.key[3]: expected text, found nothing
        p:3:85: sink.key[4]: must not be empty
        --
        p:3:66: sink.key: is only for write_mode upsert (remove it, or set write_mode: upsert)
        p:3:88: sink.key_scope: is only for write_mode upsert (remove it, or set write_mode: upsert)
        --
        p:3:65: sink.key: 2 shards may hold the same key, and with key_scope partition only the partition column in the key keeps their rows apart (set partition_column and add that column to key, or set key_scope: global if a key means the same row in every shard)
        --
        p:3:65: sink.key: 2 shards may hold the same key, and with key_scope partition only the partition column in the key keeps their rows apart (add "shard" to key, or set key_scope: global if a key means the same row in every shard)
        --
        p:2:55: source.shards[1].name: another shard is already named "shard-1" (give it a name of its own)
        p:2:75: source.shards[2]: expected keys and values, found text
        p:2:78: source.shards[3]: expected keys and values, found nothing
        --
        p:2:25: source.shards: expected at least one shard"#]].assert_eq(&found.join("\n--\n"));
}

#[test]
fn limits_are_checked() {
    let over = "
error_handling: { retry_delay: 20m, attempt_timeout: 0s, max_bad_rows: 1.5 }
tuning: { flush_bytes: 1KiB, batch_rows: 65537, flushes_per_commit: 1.5 }
sink: { type: postgres, host: h, database: d, port: 0, pool: { max_connections: 1, wait_timeout: 0ms, sise: 1 } }
settings: 5
";
    check_problems(
        &[SMALL, over],
        &expect![[r#"
            p.yaml:2:32: error_handling.retry_delay: the first wait, retry_delay "20m", is longer than the longest, max_retry_delay 15m (raise max_retry_delay to "20m" or more)
            p.yaml:2:54: error_handling.attempt_timeout: must be longer than 0s
            p.yaml:2:72: error_handling.max_bad_rows: expected a number of rows such as 10, or a share of the rows from "0%" to "100%", found 1.5
            p.yaml:3:24: tuning.flush_bytes: expected a size between 64KiB and 1GiB, found "1KiB"
            p.yaml:3:42: tuning.batch_rows: expected a number of rows between 1 and 65536, found 65537
            p.yaml:3:69: tuning.flushes_per_commit: expected a number of flushes between 1 and 1000, found 1.5
            p.yaml:4:1: sink.credentials.username: is required but not given
            p.yaml:4:53: sink.port: expected a port between 1 and 65535, found 0
            p.yaml:4:81: sink.pool.max_connections: expected a number of connections between 2 and 65535, found 1
            p.yaml:4:98: sink.pool.wait_timeout: must be longer than 0s
            p.yaml:4:103: sink.pool.sise: is not a known key (known here: breaker_failures, breaker_max_pause, breaker_pause, connect_timeout, login_timeout, max_connections, wait_timeout)
            p.yaml:5:11: settings: expected keys and values, found a number"#]],
    );
    let tuning = loaded(&[SMALL, "tuning: { flush_bytes: 65536, batch_rows: 1 }"]).tuning;
    assert_eq!((tuning.flush_bytes, tuning.batch_rows), (65_536, 1));
}

#[test]
fn what_postgres_cannot_keep_is_not_asked_of_it() {
    check_problems(
        &[
            CONTRACT,
            "name: login-analytics\nsink: { nul_characters: keep }\n",
        ],
        &expect![[
            r#"p.yaml:2:25: sink.nul_characters: expected one of strip, replace, quarantine, fail, found "keep""#
        ]],
    );
    let words = |text: &str| loaded(&[SMALL, text]).sink.nul_characters;
    assert_eq!(words("name: small"), NulCharacters::Keep);
    assert_eq!(words("sink: { nul_characters: fail }"), NulCharacters::Fail);
    assert_eq!(
        loaded(&[CONTRACT]).sink.nul_characters,
        NulCharacters::Quarantine
    );
}

#[test]
fn what_a_variable_holds_is_not_told() {
    let env = |name: &str| (name == "PIN").then(|| "8642097531".to_owned());
    let shards = "source: { shards: [{ path: a }, { path: b, name: '${PIN}' }, { path: c, name: '${PIN}' }] }\n";
    let texts = [
        "tuning: { flush_bytes: '${PIN}' }".to_owned(),
        "error_handling: { retry_delay: '${PIN}s' }".to_owned(),
        shards.to_owned(),
        "sink: { write_mode: upsert, key: ['${PIN}', '${PIN}'] }".to_owned(),
        format!("{shards}sink: {{ write_mode: upsert, partition_column: '${{PIN}}', key: [a] }}")
            .replace(", { path: c, name: '${PIN}' }", ""),
    ];
    for text in texts {
        let told = load(&[layer("base", SMALL), layer("p", &text)], &env)
            .unwrap_err()
            .to_string();
        assert!(!told.contains("8642097531"), "{told}");
        assert!(told.contains("the value of \"${PIN}"), "{told}");
    }
}

const DRIVER: &str = r#"name: p
source:
  type: sqlserver
  driver: mssql-tds
  host: db
  database: d
  credentials: { username: sa, password: pw }
  tls: { ca_file: /etc/ssl/corp.pem }
  shards: [{ name: a }]
sink: { type: sqlite, path: s.db, table: t }
"#;

#[cfg(feature = "mssql-tds")]
#[test]
fn a_driver_that_cannot_be_given_authorities_says_so() {
    check_problems(
        &[DRIVER],
        &expect![[r#"
            p (default config):8:19: source.tls.ca_file: the driver mssql-tds trusts the authorities of this machine and no others (add the authority to the machine's, or name the file in the environment variable SSL_CERT_FILE, and leave the key out; or set `driver: tiberius`)"#]],
    );
}

#[cfg(not(feature = "mssql-tds"))]
#[test]
fn a_driver_that_this_build_lacks_says_how_to_get_it() {
    check_problems(
        &[DRIVER],
        &expect![[r#"
            p (default config):4:11: source.driver: this etl-host was built without the driver mssql-tds (build it with `cargo build --release -p etl-host --features mssql-tds`, or leave the key out)"#]],
    );
}
