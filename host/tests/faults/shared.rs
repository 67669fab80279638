//! The `PostgreSQL` servers that the cases share, and how a configuration names a database behind a proxy.

use std::path::Path;

use etl_testkit::fault_proxy::FaultProxy;
use etl_testkit::postgres::{PostgresServer, TestDatabase};

/// The server of the tests; with TLS, one of its own.
pub fn server(tls: bool) -> &'static PostgresServer {
    use etl_testkit::postgres::{PostgresOptions, Tls};
    use std::sync::OnceLock;
    static WITH_TLS: OnceLock<PostgresServer> = OnceLock::new();
    if !tls {
        return PostgresServer::shared();
    }
    WITH_TLS.get_or_init(|| {
        PostgresServer::start(&PostgresOptions {
            tls: Tls::Required,
            ..PostgresOptions::default()
        })
        .unwrap()
    })
}

/// The sink belongs to somebody who may do no more than a host in production: limits hold for him.
pub const PLAIN_USER: &str = "etl_test_plain";

pub async fn give_to_plain_user(database: &TestDatabase) {
    let client = database.connect().await.unwrap();
    let TestDatabase { name, password, .. } = database;
    let sql = format!(
        "DO $$ BEGIN CREATE ROLE {PLAIN_USER} LOGIN PASSWORD '{password}'; \
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; \
         ALTER DATABASE \"{name}\" OWNER TO {PLAIN_USER}"
    );
    // Two tests at once may meet on the catalogue's row of the role.
    while let Err(error) = client.batch_execute(&sql).await {
        let code = error.code().map_or("", |code| code.code()).to_owned();
        assert_eq!(code, "XX000", "{error}");
    }
}

pub fn certificate(server: &PostgresServer, tls: bool) -> Option<&Path> {
    server.ca_file().filter(|_| tls)
}

pub fn address(
    proxy: &FaultProxy,
    database: &TestDatabase,
    user: &str,
    certificate: Option<&Path>,
    password: &str,
) -> String {
    let tls = match certificate {
        Some(file) => format!("mode: require, ca_file: '{}'", file.display()),
        None => "mode: disable".to_owned(),
    };
    format!(
        "host: '{}', port: {}, database: '{}', credentials: {{ username: '{user}', password: '${{{password}}}' }}, \
         tls: {{ {tls} }}",
        proxy.host, proxy.port, database.name
    )
}
