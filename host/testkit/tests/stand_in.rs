//! The stand-in for SQL Server as a client sees it: logins, statements, transactions, faults.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod tds;

use std::time::Duration;

use etl_testkit::stand_in::{StandInOptions, StandInServer, StandInTls};
use tds::{config, connect, connected, error, only, rows, value};
use tiberius::{AuthMethod, EncryptionLevel};

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
