//! Values of every type through three clients that know nothing of each other: tiberius, python-tds and `FreeTDS`.
//! The part of tiberius also runs on a real server where the environment names one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

mod tds;
#[path = "tds/values.rs"]
mod values;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use etl_testkit::stand_in::{SqlServer, StandInOptions, StandInServer, StandInTls};
use serde_json::{Value, json};
use tds::{Connection, connect, only, rows, value};
use tiberius::{AuthMethod, Config, EncryptionLevel};
use values::CASES;

const MISSING: &str = "run scripts/setup-dev.sh test";

fn address(server: &SqlServer, database: &str) -> Config {
    let mut config = Config::new();
    config.host(&server.host);
    config.port(server.port);
    config.database(database);
    config.authentication(AuthMethod::sql_server(&server.user, &server.password));
    config.encryption(EncryptionLevel::Off);
    config.trust_cert();
    config
}

/// A database of one's own, on the server of the environment or on a stand-in.
async fn database(server: &SqlServer) -> (String, Connection) {
    let name = server
        .create_database(|sql| async move {
            let mut client = connect(address(server, &server.database)).await?;
            rows(&mut client, &sql).await?;
            Ok(())
        })
        .await
        .unwrap();
    let client = connect(address(server, &name)).await.unwrap();
    (name, client)
}

async fn drop_database(server: &SqlServer, name: &str, client: Connection) {
    drop(client);
    if server.stand_in().is_none() {
        let mut client = connect(address(server, &server.database)).await.unwrap();
        rows(&mut client, &SqlServer::drop_statement(name))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn tiberius_reads_every_type() {
    let server = SqlServer::start_or_env().unwrap();
    let (name, mut client) = database(&server).await;
    for (at, table) in values::tables().iter().enumerate() {
        let case = &CASES[at];
        if case.declared == "sql_variant" && case.value.starts_with("CAST") {
            continue;
        }
        rows(&mut client, table)
            .await
            .unwrap_or_else(|error| panic!("{table}: {error}"));
        let found = only(&mut client, &values::query(at)).await;
        assert_eq!(
            found,
            [[case.shown, case.shown], ["NULL", case.shown]],
            "{}",
            case.declared
        );
    }
    let long = only(
        &mut client,
        "SELECT REPLICATE(CAST(N'aé' AS nvarchar(max)), 12500000)",
    )
    .await;
    assert_eq!(long[0][0].chars().count(), 25_000_000);
    drop_database(&server, &name, client).await;
}

#[tokio::test]
async fn values_compare_as_they_should() {
    let server = SqlServer::start_or_env().unwrap();
    let (name, mut client) = database(&server).await;
    rows(
        &mut client,
        "CREATE TABLE t (id int NOT NULL PRIMARY KEY, d datetime NULL, o datetimeoffset(7) NULL, n decimal(38,10) NULL, s nvarchar(10) NULL, g uniqueidentifier NULL, m money NULL);
         INSERT INTO t VALUES
            (1, '2026-01-30T00:00:00.003', '2026-01-30T12:00:00+02:00', -1.5, N'Äb ', '00000000-0000-0000-0000-0100000000FF', 1.5),
            (2, '2026-01-30T00:00:00.007', '2026-01-30T11:00:00+00:00', 10, N'x', 'FF000000-0000-0000-0000-000000000001', -2),
            (3, NULL, NULL, 2, NULL, NULL, NULL)",
    )
    .await
    .unwrap();
    for (condition, ids) in [
        (
            "d = CAST('2026-01-30T00:00:00.0033333' AS datetime2(7))",
            "1",
        ),
        (
            "d > CAST('2026-01-30T00:00:00.0033333' AS datetime2(7))",
            "2",
        ),
        ("d = '2026-01-30T00:00:00.003'", "1"),
        (
            "o = CAST('2026-01-30T10:00:00+00:00' AS datetimeoffset)",
            "1",
        ),
        (
            "o < CAST('2026-01-30T13:00:00+02:00' AS datetimeoffset)",
            "1",
        ),
        ("n < 0", "1"),
        ("n BETWEEN 1.5 AND 9", "3"),
        ("n > CAST(1.9 AS decimal(5,1))", "2,3"),
        ("s = N'äB'", "1"),
        ("s LIKE N'ä%'", "1"),
        ("s IN (N'X', N'y')", "2"),
        ("s IS NULL OR m < 0", "2,3"),
        ("NOT (id = 1)", "2,3"),
        ("id IN (1, 3) AND n <> 2", "1"),
        ("g = 'ff000000-0000-0000-0000-000000000001'", "2"),
        ("m = 1.50", "1"),
        ("CASE WHEN id = 2 THEN 'yes' ELSE 'no' END = 'YES'", "2"),
        ("COALESCE(s, N'none') = N'none'", "3"),
        (
            "EXISTS (SELECT q.id FROM t AS q WHERE q.id = t.id + 2)",
            "1",
        ),
    ] {
        let found = only(
            &mut client,
            &format!("SELECT id FROM t WHERE {condition} ORDER BY id"),
        )
        .await;
        let found: Vec<&str> = found.iter().map(|row| &*row[0]).collect();
        assert_eq!(found.join(","), ids, "{condition}");
    }
    for (order, ids) in [
        ("d DESC", "2,1,3"),
        ("o", "3,1,2"),
        ("n", "1,3,2"),
        ("g", "3,2,1"),
        ("m", "3,2,1"),
    ] {
        let found = only(&mut client, &format!("SELECT id FROM t ORDER BY {order}")).await;
        let found: Vec<&str> = found.iter().map(|row| &*row[0]).collect();
        assert_eq!(found.join(","), ids, "{order}");
    }
    for (expression, shown) in [
        ("CONVERT(varchar(30), d, 126)", "2026-01-30T00:00:00.003"),
        (
            "CONVERT(varchar(40), o, 127)",
            "2026-01-30T10:00:00.0000000Z",
        ),
        (
            "CONVERT(varchar(40), o, 121)",
            "2026-01-30 12:00:00.0000000 +02:00",
        ),
        ("CAST(n AS float)", "-1.5"),
        ("n * 2", "-3.00000000"),
        ("CAST(m AS decimal(10,2))", "1.50"),
        ("CAST(0x0000000000000010 AS bigint)", "16"),
        ("LEN(s)", "2"),
        ("DATALENGTH(s)", "6"),
        ("s + N'!'", "Äb !"),
        (
            "DATEADD(millisecond, 4, CAST(d AS datetime2(3)))",
            "2026-01-30 00:00:00.007",
        ),
        ("5 / 2", "2"),
        ("5 % 3", "2"),
        ("7.0 / 2", "3.500000"),
    ] {
        let found = value(
            &mut client,
            &format!("SELECT {expression} FROM t WHERE id = 1"),
        )
        .await;
        assert_eq!(found, shown, "{expression}");
    }
    drop_database(&server, &name, client).await;
}

// --- python-tds -----------------------------------------------------------------------------------------------

struct Python<'a> {
    server: &'a StandInServer,
    password: &'a str,
    database: &'a str,
    ca_file: Option<&'a Path>,
    login_only: bool,
}

impl Python<'_> {
    fn run(&self, statements: &Value) -> Value {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tds/client.py");
        let packages = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools/python-tds");
        let mut python = Command::new("python3")
            .arg(here)
            .env("PYTHONPATH", packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python3: {error}; {MISSING}"));
        let asked = json!({
            "host": "localhost", "port": self.server.port, "database": self.database, "user": self.server.user,
            "password": self.password, "ca_file": self.ca_file, "login_only": self.login_only, "statements": statements,
        });
        python
            .stdin
            .take()
            .unwrap()
            .write_all(asked.to_string().as_bytes())
            .unwrap();
        let output = python.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "python-tds: {error}; if it is not there, {MISSING}"
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn stand_in(tls: StandInTls) -> StandInServer {
    let server = StandInServer::start(StandInOptions {
        tls,
        databases: vec!["conformance".to_owned()],
        ..StandInOptions::default()
    })
    .unwrap();
    for table in values::tables() {
        server.execute("conformance", &table).unwrap();
    }
    server
}

#[test]
fn python_tds_reads_every_type() {
    let server = stand_in(StandInTls::OptionalFresh);
    let statements: Vec<Value> = (0..CASES.len())
        .map(|at| json!([values::query(at)]))
        .collect();
    let client = Python {
        server: &server,
        password: &server.password,
        database: "conformance",
        ca_file: None,
        login_only: false,
    };
    let answers = client.run(&json!(statements));
    for (at, case) in CASES.iter().enumerate() {
        let shown = case.python.unwrap_or(case.shown);
        let expected = json!({ "results": [[[shown, shown], ["NULL", shown]]] });
        assert_eq!(
            answers["answers"][at], expected,
            "{} {}",
            case.declared, case.value
        );
    }
}

#[test]
fn python_tds_logs_in_asks_and_cancels() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    for (tls, with_tls, login_only) in [
        (StandInTls::Off, false, false),
        (StandInTls::OptionalFresh, false, false),
        (StandInTls::OptionalFresh, true, true),
        (StandInTls::OptionalFresh, true, false),
        (StandInTls::RequiredFresh, true, false),
    ] {
        let server = stand_in(tls.clone());
        std::fs::write(&ca_file, server.ca_pem().unwrap_or_default()).unwrap();
        let client = |password, database| Python {
            server: &server,
            password,
            database,
            ca_file: with_tls.then_some(ca_file.as_path()),
            login_only,
        };
        let wrong = client("wrong", "conformance").run(&json!([]));
        assert_eq!(wrong["refused"], 18_456, "{wrong}");
        let nowhere = client(&server.password, "nowhere").run(&json!([]));
        assert!(
            nowhere["refused"] == 4060 || nowhere["refused"] == 18_456,
            "{nowhere}"
        );
        let answers = client(&server.password, "conformance").run(&json!([
            ["SELECT %s, %s, %s", ["int", 5_000_000_000_i64], ["text", "añ😀"], ["null", ""]],
            ["SELECT %s, %s", ["decimal", "-12345.678"], ["datetime", "2026-01-30T15:04:05.123456"]],
            ["SELECT %s, %s, %s", ["float", "0.5"], ["uuid", "6f9619ff-8b86-d011-b42d-00c04fc964ff"], ["date", "2026-01-30"]],
            ["SELECT 1 SELECT 2, 3"],
            ["SELECT * FROM nothing"],
            ["cancel", ["text", "SELECT REPLICATE('x', 8000) FROM c0 AS a CROSS JOIN c1 AS b CROSS JOIN c2 AS c CROSS JOIN c3 AS d CROSS JOIN c4 AS e CROSS JOIN c5 AS f CROSS JOIN c6 AS g CROSS JOIN c7 AS h"]],
            ["SELECT LEN(REPLICATE(CAST('x' AS varchar(max)), 5000000)), REPLICATE(CAST('y' AS varchar(max)), 100000)"],
        ]));
        let answers = &answers["answers"];
        assert_eq!(
            answers[0]["results"],
            json!([[["5000000000", "añ😀", "NULL"]]]),
            "{tls:?}"
        );
        assert_eq!(
            answers[1]["results"],
            json!([[["-12345.678", "2026-01-30 15:04:05.123456"]]]),
            "{tls:?}"
        );
        assert_eq!(
            answers[2]["results"],
            json!([[["0.5", "6F9619FF-8B86-D011-B42D-00C04FC964FF", "2026-01-30"]]]),
            "{tls:?}"
        );
        assert_eq!(answers[3]["results"], json!([[["1"]], [["2", "3"]]]));
        assert_eq!(answers[4]["error"], 208);
        assert_eq!(
            answers[6]["results"],
            json!([[["5000000", "y".repeat(100_000)]]])
        );
        assert_eq!(server.attentions(), 1, "{tls:?}");
        let last = server.logins().pop().unwrap();
        assert_eq!(
            (last.login_encrypted, last.encrypted),
            (with_tls, with_tls && !login_only),
            "{tls:?}"
        );
    }
}

// --- FreeTDS --------------------------------------------------------------------------------------------------

/// What tsql prints, without the headings.
fn tsql(
    server: &StandInServer,
    encryption: &str,
    database: &str,
    password: &str,
    statements: &[String],
) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("freetds.conf");
    let text = format!(
        "[standin]\nhost = 127.0.0.1\nport = {}\ntds version = 7.4\nclient charset = UTF-8\nencryption = {encryption}\n",
        server.port
    );
    std::fs::write(&settings, text).unwrap();
    let mut client = Command::new("tsql")
        .args([
            "-S",
            "standin",
            "-U",
            &server.user,
            "-D",
            database,
            "-P",
            password,
            "-o",
            "hq",
            "-t",
            "|",
        ])
        .env("FREETDSCONF", &settings)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("tsql of FreeTDS: {error}; {MISSING}"));
    let mut text = String::new();
    for statement in statements {
        let _ = writeln!(text, "{statement}\ngo");
    }
    // A client that is not let in reads nothing.
    let _ = client.stdin.take().unwrap().write_all(text.as_bytes());
    let output = client.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), printed)
}

#[test]
fn freetds_reads_every_type() {
    let server = stand_in(StandInTls::OptionalFresh);
    let statements: Vec<String> = (0..CASES.len()).map(values::query).collect();
    let (fine, printed) = tsql(
        &server,
        "request",
        "conformance",
        &server.password,
        &statements,
    );
    assert!(fine, "{printed}");
    let lines: Vec<&str> = printed.lines().collect();
    for (case, lines) in CASES.iter().zip(lines.chunks(2)) {
        let shown = case.freetds.unwrap_or(case.shown);
        assert_eq!(
            lines,
            [format!("{shown}|{shown}"), format!("NULL|{shown}")],
            "{} {}",
            case.declared,
            case.value
        );
    }
    assert_eq!(lines.len(), CASES.len() * 2);
}

#[test]
fn freetds_logs_in_and_reports_errors() {
    for (tls, encryption, login_encrypted, encrypted) in [
        (StandInTls::Off, "off", false, false),
        (StandInTls::OptionalFresh, "request", true, false),
        (StandInTls::OptionalFresh, "require", true, true),
        (StandInTls::RequiredFresh, "require", true, true),
    ] {
        let server = stand_in(tls.clone());
        let (_, printed) = tsql(&server, encryption, "conformance", "wrong", &[]);
        assert!(printed.contains("18456"), "{tls:?}: {printed}");
        let (_, printed) = tsql(&server, encryption, "nowhere", &server.password, &[]);
        assert!(printed.contains("4060"), "{tls:?}: {printed}");
        let statements = [
            "SELECT 1/0".to_owned(),
            "SELECT 41 + 1; SELECT LEN(REPLICATE('x', 8000))".to_owned(),
        ];
        let (_, printed) = tsql(
            &server,
            encryption,
            "conformance",
            &server.password,
            &statements,
        );
        assert!(
            printed.contains("8134") && printed.starts_with("42\n8000\n"),
            "{tls:?}: {printed}"
        );
        let last = server.logins().pop().unwrap();
        assert_eq!(
            (last.login_encrypted, last.encrypted),
            (login_encrypted, encrypted),
            "{tls:?} {encryption}"
        );
    }
}
