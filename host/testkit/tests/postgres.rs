//! The server of the tests: real, private, gone with its process.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use etl_testkit::certificates::Authority;
use etl_testkit::postgres::{PostgresOptions, PostgresServer, TestDatabase, Tls, URL_VARIABLE};
use etl_testkit::process::Program;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

const TESTKIT: &str = env!("CARGO_BIN_EXE_etl-testkit");

async fn number(client: &tokio_postgres::Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

async fn databases(server: &PostgresServer, name: &str) -> i64 {
    let (client, connection) = server
        .url("postgres")
        .parse::<Config>()
        .unwrap()
        .connect(NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    number(&client, &query).await
}

#[tokio::test]
async fn every_test_has_a_database_of_its_own_until_it_ends() {
    let server = PostgresServer::shared();
    let one = server.create_database().await.unwrap();
    let two = server.create_database().await.unwrap();
    assert_ne!(one.name, two.name);

    let client = one.connect().await.unwrap();
    client
        .batch_execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)")
        .await
        .unwrap();
    assert_eq!(number(&client, "SELECT count(*) FROM t").await, 2);
    let other = two.connect().await.unwrap();
    other.query("SELECT * FROM t", &[]).await.unwrap_err();

    // `client` is still connected.
    let name = one.name.clone();
    drop(one);
    assert_eq!(databases(server, &name).await, 0);
    client.simple_query("SELECT 1").await.unwrap_err();
}

#[tokio::test]
async fn the_url_connects_and_a_wrong_password_does_not() {
    let database = PostgresServer::shared().create_database().await.unwrap();
    let url: Config = database.url.parse().unwrap();
    drop(url.connect(NoTls).await.unwrap());

    let mut wrong: Config = database.url.parse().unwrap();
    let Err(error) = wrong.password("wrong").connect(NoTls).await else {
        panic!("the server takes any password");
    };
    assert_eq!(error.code().map(SqlState::code), Some("28P01"));
}

#[tokio::test]
async fn prepared_transactions_are_available() {
    let database = PostgresServer::shared().create_database().await.unwrap();
    let client = database.connect().await.unwrap();
    let prepared = "BEGIN; CREATE TABLE t (); PREPARE TRANSACTION 'kept'";
    client.batch_execute(prepared).await.unwrap();
    client
        .batch_execute("ROLLBACK PREPARED 'kept'")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_of_ones_own_comes_back_with_its_data_after_a_hard_stop() {
    let mut server = PostgresServer::start(&PostgresOptions {
        fsync: true,
        settings: vec![("application_name".into(), "it's mine".into())],
        ..PostgresOptions::default()
    })
    .unwrap();
    let database = server.create_database().await.unwrap();
    let client = database.connect().await.unwrap();
    client
        .batch_execute("CREATE TABLE t AS SELECT 7::bigint AS id")
        .await
        .unwrap();

    server.stop_immediate().unwrap();
    client.simple_query("SELECT 1").await.unwrap_err();
    assert!(database.connect().await.is_err());

    server.start_again().unwrap();
    let client = database.connect().await.unwrap();
    assert_eq!(number(&client, "SELECT id FROM t").await, 7);
    let row = client.query_one("SHOW fsync", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "on");
    assert!(
        server
            .log()
            .unwrap()
            .contains("database system was not properly shut down")
    );

    let dir = server.dir().unwrap().to_owned();
    let port = server.port;
    drop(server);
    assert!(!dir.exists());
    TcpStream::connect(("127.0.0.1", port)).unwrap_err();
}

fn trusting(ca_pem: &str) -> MakeRustlsConnect {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
}

async fn connects_with(database: &TestDatabase, ca_pem: &str) -> bool {
    let url = format!("{}?sslmode=require", database.url);
    let connected = url
        .parse::<Config>()
        .unwrap()
        .connect(trusting(ca_pem))
        .await;
    connected.is_ok()
}

#[tokio::test]
async fn tls_can_be_required_and_verified() {
    let server = PostgresServer::start(&PostgresOptions {
        tls: Tls::Required,
        ..PostgresOptions::default()
    })
    .unwrap();
    let database = server.create_database().await.unwrap();
    let ca = std::fs::read_to_string(server.ca_file().unwrap()).unwrap();
    assert!(connects_with(&database, &ca).await);
    let other = Authority::new().unwrap();
    assert!(!connects_with(&database, other.certificate_pem()).await);

    let plain: Config = database.url.parse().unwrap();
    let Err(error) = plain.connect(NoTls).await else {
        panic!("the server takes a client without TLS");
    };
    assert_eq!(error.code().map(SqlState::code), Some("28000"));
    // The testkit itself still gets in.
    database.connect().await.unwrap();
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_accepted() {
    let server = PostgresServer::start(&PostgresOptions {
        tls: Tls::Offered,
        certificate_names: vec!["db.example".into()],
        ..PostgresOptions::default()
    })
    .unwrap();
    let database = server.create_database().await.unwrap();
    let ca = std::fs::read_to_string(server.ca_file().unwrap()).unwrap();
    assert!(!connects_with(&database, &ca).await);
    let url: Config = database.url.parse().unwrap();
    drop(url.connect(NoTls).await.unwrap());
}

/// A directory for the temporary files of one process, open to the user that the server runs as.
fn temporary() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

fn testkit(temporary: &Path, script: &str) -> Program {
    Program::new(TESTKIT)
        .args(["postgres", "--", "sh", "-c", script])
        .env("TMPDIR", temporary)
        .env_remove(URL_VARIABLE)
}

#[test]
fn the_whole_run_has_one_server_and_the_commands_exit_code() {
    let dir = temporary();
    let script = format!("ls \"$TMPDIR\"; echo \"${URL_VARIABLE}\"; exit 7");
    let finished = testkit(dir.path(), &script).run().unwrap();
    assert_eq!(finished.code, Some(7), "{}", finished.stderr);
    assert!(
        finished.stdout.starts_with("etl-test-postgres-"),
        "{}",
        finished.stdout
    );
    assert!(
        finished.stdout.contains("postgres://etl_test:"),
        "{}",
        finished.stdout
    );
    assert_eq!(entries(dir.path()), 0);
}

#[test]
fn a_server_that_the_environment_names_is_left_alone() {
    let dir = temporary();
    let finished = testkit(
        dir.path(),
        &format!("ls \"$TMPDIR\"; echo \"${URL_VARIABLE}\""),
    )
    .env(URL_VARIABLE, "postgres://a:b@127.0.0.1:1/postgres")
    .run()
    .unwrap();
    assert_eq!(finished.stdout, "postgres://a:b@127.0.0.1:1/postgres\n");
    assert!(finished.success());
}

#[test]
fn a_wrong_usage_is_told() {
    for arguments in [
        &["postgres"][..],
        &["postgres", "--"],
        &["mysql", "--", "true"],
        &[],
    ] {
        let finished = Program::new(TESTKIT).args(arguments).run().unwrap();
        assert_eq!(finished.code, Some(2));
        assert!(
            finished.stderr.starts_with("usage: "),
            "{}",
            finished.stderr
        );
    }
}

/// The command kills its parent, the process that owns the server, in the hardest way there is.
#[test]
fn the_server_goes_when_its_process_is_killed() {
    let dir = temporary();
    let script = format!(
        "cat \"$TMPDIR\"/*/data/postmaster.pid; echo \"${URL_VARIABLE}\"; kill -KILL $PPID"
    );
    let finished = testkit(dir.path(), &script).run().unwrap();
    assert_eq!(finished.signal, Some(9), "{}", finished.stderr);
    let server = finished.stdout.lines().next().unwrap();
    let url: Config = finished.stdout.lines().last().unwrap().parse().unwrap();
    let port = *url.get_ports().first().unwrap();
    assert!(port > 0);

    // Nobody is left to tell us when, so we look until it is so.
    let until = Instant::now() + Duration::from_secs(30);
    let process = Path::new("/proc").join(server);
    while entries(dir.path()) > 0 || process.exists() {
        assert!(Instant::now() < until, "the server outlives its process");
        std::thread::sleep(Duration::from_millis(20));
    }
    TcpStream::connect(("127.0.0.1", port)).unwrap_err();
}

#[tokio::test]
async fn a_full_disk_refuses_what_would_make_a_table_longer() {
    let server = PostgresServer::start(&PostgresOptions {
        disk_may_fill: true,
        ..PostgresOptions::default()
    })
    .unwrap();
    let database = server.create_database().await.unwrap();
    let client = database.connect().await.unwrap();
    let fill = "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 1000)";
    client
        .batch_execute("CREATE TABLE t (x text)")
        .await
        .unwrap();
    client.batch_execute(fill).await.unwrap();
    server.fill_disk().unwrap();
    let error = client.batch_execute(fill).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::DISK_FULL));
    // What is there can be changed.
    client.batch_execute("DELETE FROM t").await.unwrap();
    server.free_disk().unwrap();
    client.batch_execute(fill).await.unwrap();
}
