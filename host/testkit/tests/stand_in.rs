//! The stand-in for SQL Server as a client sees it: logins, statements, transactions, faults.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

mod tds;

use std::time::Duration;

use etl_testkit::process::{Program, Signal};
use etl_testkit::stand_in::{
    BulkValue, Fault, Release, ServerError, StandInOptions, StandInServer, StandInTls,
};
use futures_util::TryStreamExt;
use tds::{Connection, config, connect, connected, error, only, rows, value};
use tiberius::{AuthMethod, EncryptionLevel, IntoRow};

const SOON: Duration = Duration::from_secs(20);

fn server() -> StandInServer {
    StandInServer::start(StandInOptions {
        databases: vec!["logins".to_owned()],
        ..StandInOptions::default()
    })
    .unwrap()
}

fn server_with(tls: StandInTls) -> StandInServer {
    StandInServer::start(StandInOptions {
        tls,
        databases: vec!["logins".to_owned()],
        ..StandInOptions::default()
    })
    .unwrap()
}

fn number(error: &tiberius::error::Error) -> Option<u32> {
    match error {
        tiberius::error::Error::Server(token) => Some(token.code()),
        _ => None,
    }
}

#[tokio::test]
async fn encryption_is_what_both_sides_agree_on() {
    for (tls, wanted, login_encrypted, encrypted) in [
        (StandInTls::Off, EncryptionLevel::NotSupported, false, false),
        (
            StandInTls::OptionalFresh,
            EncryptionLevel::NotSupported,
            false,
            false,
        ),
        (StandInTls::OptionalFresh, EncryptionLevel::Off, true, false),
        (StandInTls::OptionalFresh, EncryptionLevel::On, true, true),
        (
            StandInTls::OptionalFresh,
            EncryptionLevel::Required,
            true,
            true,
        ),
        (
            StandInTls::RequiredFresh,
            EncryptionLevel::Required,
            true,
            true,
        ),
        (StandInTls::RequiredFresh, EncryptionLevel::On, true, true),
    ] {
        let server = server_with(tls.clone());
        let mut config = config(&server, "logins");
        config.encryption(wanted);
        let mut client = connect(config)
            .await
            .unwrap_or_else(|error| panic!("{tls:?} {wanted:?}: {error}"));
        assert_eq!(value(&mut client, "SELECT 1").await, "1");
        let facts = server.logins().remove(0);
        assert_eq!(
            (facts.login_encrypted, facts.encrypted),
            (login_encrypted, encrypted),
            "{tls:?} {wanted:?}"
        );
    }
}

#[tokio::test]
async fn a_client_without_tls_is_not_let_in_where_it_is_required() {
    let server = server_with(StandInTls::RequiredFresh);
    let mut config = config(&server, "logins");
    config.encryption(EncryptionLevel::NotSupported);
    assert!(connect(config).await.is_err());
    let server = server_with(StandInTls::Off);
    let mut config = tds::config(&server, "logins");
    config.encryption(EncryptionLevel::Required);
    assert!(connect(config).await.is_err());
}

#[tokio::test]
async fn a_certificate_can_be_verified() {
    let server = server_with(StandInTls::RequiredFresh);
    let verified = |ca: &str| {
        let mut config = tiberius::Config::new();
        config.host("localhost");
        config.port(server.port);
        config.authentication(AuthMethod::sql_server(&server.user, &server.password));
        config.encryption(EncryptionLevel::Required);
        config.trust_cert_ca_bundle(ca.as_bytes().to_vec());
        config
    };
    let ca = server.ca_pem().unwrap();
    let mut client = connect(verified(ca)).await.unwrap();
    assert_eq!(value(&mut client, "SELECT DB_NAME()").await, "master");
    let other = server_with(StandInTls::RequiredFresh);
    assert!(connect(verified(other.ca_pem().unwrap())).await.is_err());
}

#[tokio::test]
async fn who_may_not_enter_learns_why_by_number() {
    for tls in [
        StandInTls::Off,
        StandInTls::OptionalFresh,
        StandInTls::RequiredFresh,
    ] {
        let server = server_with(tls.clone());
        let level = match tls {
            StandInTls::Off => EncryptionLevel::NotSupported,
            StandInTls::RequiredFresh => EncryptionLevel::Required,
            _ => EncryptionLevel::Off,
        };
        let mut wrong = config(&server, "logins");
        wrong.encryption(level);
        wrong.authentication(AuthMethod::sql_server(&server.user, "wrong"));
        assert_eq!(number(&connect(wrong).await.unwrap_err()), Some(18_456));
        let mut nowhere = config(&server, "nowhere");
        nowhere.encryption(level);
        assert!(matches!(
            number(&connect(nowhere).await.unwrap_err()),
            Some(4060 | 18_456)
        ));
        let mut right = config(&server, "logins");
        right.encryption(level);
        right.readonly(true);
        right.packet_size(16_000);
        let mut client = connect(right).await.unwrap();
        assert_eq!(value(&mut client, "SELECT APP_NAME()").await, "conformance");
        let logins = server.logins();
        assert_eq!(
            logins.iter().map(|it| it.accepted).collect::<Vec<_>>(),
            [false, false, true]
        );
        assert!(logins[2].read_only_intent);
        assert_eq!(logins[2].packet_size, 16_000);
        assert_eq!(logins[2].app_name, "conformance");
    }
}

#[tokio::test]
async fn statements_give_results_counts_and_errors() {
    let server = server();
    let mut client = connected(&server, "logins").await;
    client
        .simple_query(
            "CREATE TABLE dbo.t (id int NOT NULL IDENTITY(1,1) PRIMARY KEY, name nvarchar(20) NULL, amount decimal(10,2) NOT NULL DEFAULT 0);
             INSERT INTO t (name, amount) VALUES (N'a', 1.5), (N'b', 2), (NULL, 3.25)
             CREATE INDEX by_name ON t (name)",
        )
        .await
        .unwrap()
        .into_results()
        .await
        .unwrap();
    let results = rows(
        &mut client,
        "SELECT * FROM t ORDER BY id DESC\n;SELECT ROWCOUNT_BIG() AS [n]",
    )
    .await
    .unwrap();
    assert_eq!(
        results[0],
        [
            ["3", "NULL", "3.25"],
            ["2", "b", "2.00"],
            ["1", "a", "1.50"]
        ]
    );
    assert_eq!(results[1], [["3"]]);
    assert_eq!(
        only(
            &mut client,
            "SELECT COUNT(*), SUM(amount), MIN(name) FROM t"
        )
        .await,
        [["3", "6.75", "a"]]
    );
    assert_eq!(
        only(&mut client, "SELECT q.id FROM (SELECT id, name FROM t WHERE amount > 1.5) AS q WHERE q.name IS NOT NULL").await,
        [["2"]]
    );
    assert_eq!(error(&mut client, "SELECT id FROM nothing").await, 208);
    assert_eq!(error(&mut client, "SELECT nothing FROM t").await, 207);
    assert_eq!(error(&mut client, "SELECT nonsense(1)").await, 195);
    assert_eq!(
        error(
            &mut client,
            "SELECT q.id FROM (SELECT id FROM t ORDER BY id) AS q"
        )
        .await,
        1033
    );
    assert_eq!(
        error(&mut client, "SELECT q.id FROM (SELECT id + 1 FROM t) AS q").await,
        8155
    );
    assert_eq!(
        error(&mut client, "INSERT INTO t (amount) VALUES (NULL)").await,
        515
    );
    assert_eq!(error(&mut client, "SELECT 1/0").await, 8134);
    assert_eq!(error(&mut client, "GO").await, 102);
    assert_eq!(error(&mut client, "THROW 51000, N'mine', 3").await, 51_000);
}

#[tokio::test]
async fn parameters_arrive_with_their_types() {
    let server = server();
    let mut client = connected(&server, "logins").await;
    let stream = client
        .query(
            "SELECT @P1 + 1, @P2, @P3, CAST(@P4 AS nvarchar(10)), @P5",
            &[&41_i32, &"naïve 😀", &7_i64, &true, &Some(1.5_f64)],
        )
        .await
        .unwrap();
    let row = stream.into_row().await.unwrap().unwrap();
    assert_eq!(tds::texts(&row), ["42", "naïve 😀", "7", "1", "1.5"]);
}

#[tokio::test]
async fn a_query_is_described() {
    let server = server();
    server
        .execute("logins", "CREATE TABLE t (id bigint NOT NULL PRIMARY KEY, at datetime2(3) NULL, n nvarchar(max), d decimal(38,10))")
        .unwrap();
    let mut client = connected(&server, "logins").await;
    let described = only(&mut client, "EXEC sp_describe_first_result_set N'SELECT at, n, d, id AS [x] FROM t WHERE id > @a', N'@a bigint'").await;
    let short: Vec<_> = described
        .iter()
        .map(|row| [&*row[1], &*row[2], &*row[3], &*row[5]])
        .collect();
    assert_eq!(
        short,
        [
            ["1", "at", "true", "datetime2(3)"],
            ["2", "n", "true", "nvarchar(max)"],
            ["3", "d", "true", "decimal(38,10)"],
            ["4", "x", "false", "bigint"],
        ]
    );
    let browsed = only(
        &mut client,
        "EXEC sp_describe_first_result_set N'SELECT at FROM t', NULL, 1",
    )
    .await;
    assert_eq!(browsed.len(), 2);
    assert_eq!([&*browsed[0][25], &*browsed[0][26]], ["t", "at"]);
    assert_eq!([&*browsed[1][0], &*browsed[1][2]], ["true", "id"]);
}

#[tokio::test]
async fn connections_are_counted_and_go_with_the_server() {
    let server = server();
    let mut client = connected(&server, "logins").await;
    server.wait_for_connections(1, SOON).unwrap();
    server.close_connections();
    server.wait_for_connections(0, SOON).unwrap();
    assert!(client.simple_query("SELECT 1").await.is_err());
}

fn table(server: &StandInServer) {
    server
        .execute(
            "logins",
            "CREATE TABLE t (id int NOT NULL IDENTITY PRIMARY KEY, v rowversion NOT NULL, at datetime2(7) NOT NULL DEFAULT SYSUTCDATETIME(), n int NULL)",
        )
        .unwrap();
}

async fn run(client: &mut Connection, sql: &str) {
    rows(client, sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test]
async fn transactions_overlap_and_take_their_versions_when_they_write() {
    let server = server();
    table(&server);
    let mut slow = connected(&server, "logins").await;
    let mut fast = connected(&server, "logins").await;
    let mut reader = connected(&server, "logins").await;
    run(&mut slow, "BEGIN TRAN").await;
    run(&mut slow, "INSERT INTO t (n) VALUES (1)").await;
    let open = value(
        &mut reader,
        "SELECT CAST(MIN_ACTIVE_ROWVERSION() AS bigint)",
    )
    .await;
    run(
        &mut fast,
        "BEGIN TRAN; INSERT INTO t (n) VALUES (2); COMMIT",
    )
    .await;
    assert_eq!(only(&mut reader, "SELECT id, n FROM t").await, [["2", "2"]]);
    assert_eq!(
        value(
            &mut reader,
            "SELECT CAST(MIN_ACTIVE_ROWVERSION() AS bigint)"
        )
        .await,
        open
    );
    assert_eq!(error(&mut slow, "SELECT * FROM t").await, 40_517);
    run(&mut slow, "COMMIT").await;
    assert_eq!(
        only(&mut reader, "SELECT id, n FROM t ORDER BY v").await,
        [["1", "1"], ["2", "2"]]
    );
    assert_eq!(
        only(&mut reader, "SELECT id FROM t ORDER BY at").await,
        [["1"], ["2"]]
    );
    assert_eq!(
        value(
            &mut reader,
            "SELECT CAST(MIN_ACTIVE_ROWVERSION() AS bigint) - CAST(@@DBTS AS bigint)"
        )
        .await,
        "1"
    );
    run(
        &mut slow,
        "BEGIN TRAN; UPDATE t SET n = 9 WHERE id = 1; ROLLBACK",
    )
    .await;
    assert_eq!(
        value(&mut reader, "SELECT COUNT(*) FROM t WHERE n = 9").await,
        "0"
    );
    run(
        &mut slow,
        "UPDATE t SET n = n + 10; DELETE FROM t WHERE n = 12",
    )
    .await;
    assert_eq!(
        only(&mut reader, "SELECT id, n FROM t").await,
        [["1", "11"]]
    );
    assert_eq!(error(&mut slow, "COMMIT").await, 3902);
}

#[tokio::test]
async fn a_transaction_manager_request_is_a_transaction_too() {
    let server = server();
    table(&server);
    let mut client = connected(&server, "logins").await;
    client.begin_transaction().await.unwrap();
    run(&mut client, "INSERT INTO t (n) VALUES (1)").await;
    assert_eq!(value(&mut client, "SELECT @@TRANCOUNT").await, "1");
    client.rollback_transaction().await.unwrap();
    client.begin_transaction().await.unwrap();
    run(&mut client, "INSERT INTO t (n) VALUES (2)").await;
    client.commit_transaction().await.unwrap();
    assert_eq!(only(&mut client, "SELECT n FROM t").await, [["2"]]);
}

#[tokio::test]
async fn a_snapshot_stays_as_it_is_where_the_database_allows_it() {
    let server = server();
    table(&server);
    let mut reader = connected(&server, "logins").await;
    run(
        &mut reader,
        "SET TRANSACTION ISOLATION LEVEL SNAPSHOT; BEGIN TRAN",
    )
    .await;
    assert_eq!(value(&mut reader, "SELECT COUNT(*) FROM t").await, "0");
    server
        .execute("logins", "INSERT INTO t (n) VALUES (1)")
        .unwrap();
    assert_eq!(value(&mut reader, "SELECT COUNT(*) FROM t").await, "0");
    run(&mut reader, "COMMIT").await;
    assert_eq!(value(&mut reader, "SELECT COUNT(*) FROM t").await, "1");
    run(
        &mut reader,
        "ALTER DATABASE logins SET ALLOW_SNAPSHOT_ISOLATION OFF",
    )
    .await;
    assert_eq!(
        value(
            &mut reader,
            "SELECT snapshot_isolation_state FROM sys.databases WHERE name = DB_NAME()"
        )
        .await,
        "0"
    );
    assert_eq!(error(&mut reader, "SELECT * FROM t").await, 3952);
}

/// A table with so many rows of a hundred bytes or so.
fn filled(server: &StandInServer, rows: i64) {
    server
        .execute(
            "logins",
            "CREATE TABLE big (id int NOT NULL PRIMARY KEY, text varchar(100) NOT NULL)",
        )
        .unwrap();
    let rows = (0..rows).map(|id| vec![BulkValue::Int(id), BulkValue::Text("x".repeat(90))]);
    server
        .bulk("logins", "dbo.big", &["id", "text"], rows)
        .unwrap();
}

/// How many rows arrive, and how it ends.
async fn read(client: &mut Connection, sql: &str) -> (u64, tiberius::Result<()>) {
    let mut stream = match client.simple_query(sql).await {
        Ok(stream) => stream.into_row_stream(),
        Err(error) => return (0, Err(error)),
    };
    let mut count = 0;
    loop {
        match stream.try_next().await {
            Ok(Some(_)) => count += 1,
            Ok(None) => return (count, Ok(())),
            Err(error) => return (count, Err(error)),
        }
    }
}

#[tokio::test]
async fn faults_strike_where_they_are_told_to() {
    let server = server();
    filled(&server, 1000);
    let select = "SELECT * FROM big ORDER BY id";
    let faults = server.faults();
    let deadlock = Fault::ErrorAfterRows {
        rows: 7,
        error: ServerError::known(1205),
    };

    let mut client = connected(&server, "logins").await;
    faults.push(deadlock.on("FROM big"));
    assert_eq!(value(&mut client, "SELECT 1").await, "1");
    let (count, end) = read(&mut client, select).await;
    assert_eq!((count, number(&end.unwrap_err())), (7, Some(1205)));
    assert_eq!(read(&mut client, select).await.0, 1000);

    faults.push(Fault::WrongRowCount { more: 3 }.on("ROWCOUNT_BIG"));
    let results = rows(&mut client, &format!("{select}; SELECT ROWCOUNT_BIG()"))
        .await
        .unwrap();
    assert_eq!((results[0].len(), &*results[1][0][0]), (1000, "1003"));

    for fault in [
        Fault::Cut {
            after_bytes: 20_000,
        },
        Fault::Reset {
            after_bytes: 20_000,
        },
        Fault::EndWithoutDone {
            after_rows: Some(100),
        },
        Fault::EndWithoutDone { after_rows: None },
        Fault::ErrorAfterRows {
            rows: 5,
            error: ServerError::known(596),
        },
    ] {
        let mut client = connected(&server, "logins").await;
        faults.push(fault.clone());
        let (count, end) = read(&mut client, select).await;
        let whole = matches!(fault, Fault::EndWithoutDone { after_rows: None });
        assert!(
            if whole { count == 1000 } else { count < 250 },
            "{fault:?}: {count}"
        );
        // Whether an end without DONE is an error is the client's to say.
        assert!(
            end.is_err() || matches!(fault, Fault::EndWithoutDone { .. }),
            "{fault:?}"
        );
        assert_eq!(faults.armed(), 0);
    }

    faults.push(Fault::LoginError(ServerError::known(40_613)));
    assert_eq!(
        number(&connect(config(&server, "logins")).await.unwrap_err()),
        Some(40_613)
    );
    faults.push(Fault::DropAtLogin);
    assert!(connect(config(&server, "logins")).await.is_err());
    connected(&server, "logins").await;
}

#[tokio::test]
async fn a_stall_lasts_until_it_is_released() {
    let server = server();
    filled(&server, 1000);
    let until = Release::new();
    server.faults().push(Fault::Stall {
        after_bytes: 9_000,
        until: until.clone(),
    });
    let mut client = connected(&server, "logins").await;
    let reading = tokio::spawn(async move { read(&mut client, "SELECT * FROM big").await });
    let reached = until.clone();
    tokio::task::spawn_blocking(move || reached.wait_until_reached(SOON))
        .await
        .unwrap()
        .unwrap();
    assert!(!reading.is_finished());
    until.release();
    let (count, end) = reading.await.unwrap();
    end.unwrap();
    assert_eq!(count, 1000);

    // Whoever leaves a stalled server is gone for it, too.
    server.faults().push(Fault::Stall {
        after_bytes: 0,
        until: Release::new(),
    });
    let mut client = connected(&server, "logins").await;
    let reading = tokio::spawn(async move { read(&mut client, "SELECT * FROM big").await.0 });
    server.wait_for_statement("big", SOON).unwrap();
    reading.abort();
    let _ = reading.await;
    server.wait_for_connections(0, SOON).unwrap();
}

#[tokio::test]
async fn an_attention_stops_a_result_and_a_wait() {
    let server = server();
    filled(&server, 200_000);
    let mut client = connected(&server, "logins").await;
    {
        let mut stream = client
            .simple_query("SELECT * FROM big")
            .await
            .unwrap()
            .into_row_stream();
        assert!(stream.try_next().await.unwrap().is_some());
    }
    client.cancel_query().await.unwrap();
    assert_eq!(value(&mut client, "SELECT 1").await, "1");
    assert_eq!(server.attentions(), 1);

    let until = Release::new();
    server.faults().push(Fault::Block {
        until: until.clone(),
    });
    let reached = tokio::task::spawn_blocking(move || until.wait_until_reached(SOON));
    tokio::select! {
        _ = client.simple_query("SELECT 2") => panic!("a blocked statement was answered"),
        reached = reached => reached.unwrap().unwrap(),
    }
    client.cancel_query().await.unwrap();
    assert_eq!(value(&mut client, "SELECT 3").await, "3");
    assert_eq!(server.attentions(), 2);
}

#[tokio::test]
async fn a_server_that_was_stopped_comes_back_with_its_data() {
    let mut server = server();
    filled(&server, 3);
    let mut client = connected(&server, "logins").await;
    server.stop().unwrap();
    assert!(client.simple_query("SELECT 1").await.is_err());
    assert!(std::net::TcpStream::connect((&*server.host, server.port)).is_err());
    server.start_again().unwrap();
    let mut client = connected(&server, "logins").await;
    assert_eq!(value(&mut client, "SELECT COUNT(*) FROM big").await, "3");
}

#[tokio::test]
async fn the_questions_of_the_host_are_answered() {
    let server = server();
    server.make_logins("logins", 100).unwrap();
    let mut client = connected(&server, "logins").await;
    let index = client
        .query(
            "SELECT TOP (1) i.name FROM sys.indexes AS i JOIN sys.index_columns AS ic ON ic.object_id = i.object_id AND ic.index_id = i.index_id WHERE i.object_id = OBJECT_ID(@P1) AND i.is_disabled = 0 AND i.has_filter = 0 AND ic.key_ordinal = 1 AND COL_NAME(ic.object_id, ic.column_id) = @P2",
            &[&"dbo.user_logins", &"login_time"],
        )
        .await
        .unwrap()
        .into_row()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(tds::texts(&index), ["user_logins_by_time"]);
    let facts = only(&mut client, "SELECT @@SERVERNAME, DB_NAME(), HAS_PERMS_BY_NAME('dbo.user_logins', 'OBJECT', 'SELECT'), CAST(SERVERPROPERTY('ProductMajorVersion') AS nvarchar(10))").await;
    assert_eq!(facts, [["STANDIN", "logins", "1", "16"]]);
    assert_eq!(
        only(&mut client, "SELECT COUNT_BIG(*), MIN(login_id), MAX(login_id) FROM dbo.user_logins WHERE login_time < DATEADD(day, 0, SYSUTCDATETIME())").await,
        [["100", "1", "100"]]
    );
    let page = only(&mut client, "SELECT * FROM (SELECT login_id, login_time FROM dbo.user_logins) AS q ORDER BY q.login_time, q.login_id OFFSET 10 ROWS FETCH NEXT 5 ROWS ONLY").await;
    assert_eq!(page.len(), 5);
}

#[tokio::test]
async fn a_table_may_have_more_rows_than_are_kept() {
    let server = server();
    server.synthesise_logins("logins", 120_000).unwrap();
    let mut client = connected(&server, "logins").await;
    let all = only(
        &mut client,
        "SELECT login_id, login_time, user_agent FROM dbo.user_logins ORDER BY login_time",
    )
    .await;
    assert_eq!(all.len(), 120_000);
    // Those that are kept come again, later and with other numbers.
    assert_eq!((&*all[0][0], &*all[119_999][0]), ("1", "120000"));
    assert_eq!(all[7][2], all[100_007][2]);
    assert!(all.windows(2).all(|pair| pair[0][1] < pair[1][1]));
    let window = "SELECT login_id FROM dbo.user_logins WHERE login_time > '2020-01-01T00:10:00' AND login_time <= '2020-01-01T00:10:00.0200000'";
    assert_eq!(only(&mut client, window).await, [["60002"], ["60003"]]);
    let collected = server.query("logins", window).unwrap();
    assert_eq!(collected[0][0].as_deref(), Some("60002"));
    let other = "SELECT login_id FROM dbo.user_logins WHERE user_id = 1";
    assert_eq!(error(&mut client, other).await, 40_517);
}

#[tokio::test]
async fn long_values_may_come_with_their_length_unknown() {
    let options = StandInOptions {
        unknown_lengths: true,
        largest_packet: 512,
        ..StandInOptions::default()
    };
    let server = StandInServer::start(options).unwrap();
    let mut client = connected(&server, "master").await;
    let select = "SELECT REPLICATE(CAST(N'é😀' AS nvarchar(max)), 10000), CAST(0x AS varbinary(max)), CAST('' AS varchar(max))";
    let row = only(&mut client, select).await.remove(0);
    assert_eq!(row, ["é😀".repeat(10_000), "0x".to_owned(), String::new()]);
    assert_eq!(server.logins()[0].packet_size, 512);
}

#[tokio::test]
async fn the_program_runs_until_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed.sql");
    std::fs::write(
        &seed,
        "CREATE TABLE seeded (n int)\nGO\nINSERT INTO seeded VALUES (1), (2)\n",
    )
    .unwrap();
    let mut program = Program::new(env!("CARGO_BIN_EXE_etl-testkit"))
        .args(["stand-in", "--name", "SHARD7", "--logins", "500", "--seed"])
        .arg(&seed)
        .arg("--tls-dir")
        .arg(folder.path())
        .env("ETL_STAND_IN_PASSWORD", "of the program")
        .start()
        .unwrap();
    let line = program
        .wait_for_stdout(|line| line.contains("ready"))
        .unwrap();
    let port: u16 = line.split([':', ',']).nth(2).unwrap().parse().unwrap();
    let ca = std::fs::read(folder.path().join("ca.pem")).unwrap();
    let mut config = tiberius::Config::new();
    config.host("localhost");
    config.port(port);
    config.database("logins");
    config.authentication(AuthMethod::sql_server("sa", "of the program"));
    config.encryption(EncryptionLevel::Required);
    config.trust_cert_ca_bundle(ca);
    let mut client = connect(config).await.unwrap();
    let answer = only(
        &mut client,
        "SELECT @@SERVERNAME, COUNT(*) FROM user_logins",
    )
    .await;
    assert_eq!(answer, [["SHARD7", "500"]]);
    assert_eq!(value(&mut client, "SELECT COUNT(*) FROM seeded").await, "2");
    program.signal(Signal::TERM).unwrap();
    program.finish().unwrap().require_code(0).unwrap();
}

#[tokio::test]
async fn rows_may_come_in_bulk() {
    let server = server();
    let table = "CREATE TABLE loaded (id bigint NOT NULL PRIMARY KEY, name nvarchar(20) NULL, amount float NOT NULL, v rowversion)";
    server.execute("logins", table).unwrap();
    let mut client = connected(&server, "logins").await;
    let mut load = client
        .bulk_insert_columns("loaded", &["id", "name", "amount"])
        .await
        .unwrap();
    for id in 0..5_000_i64 {
        let name = (id % 3 > 0).then(|| format!("añ{id}"));
        load.send((id, name, 0.5_f64).into_row()).await.unwrap();
    }
    assert_eq!(load.finalize().await.unwrap().total(), 5_000);
    let found = only(
        &mut client,
        "SELECT COUNT(*), COUNT(name), SUM(amount), MAX(name), COUNT(v) FROM loaded",
    )
    .await;
    assert_eq!(found, [["5000", "3333", "2500.0", "añ998", "5000"]]);
}
