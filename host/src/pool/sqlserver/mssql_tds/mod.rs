//! Connections by Microsoft's driver `mssql-tds`, and what they are asked for besides rows in any number.
//!
//! The driver reconnects and tries again by itself; that is off, since pool, breakers and runs do it by their own rules.

mod error;
mod values;

use std::time::Duration;

use mssql_tds::connection::client_context::ClientContext;
pub use mssql_tds::connection::tds_client::TdsClient;
use mssql_tds::connection::tds_client::{ExecuteOptions, ResultSet, StatementResult};
use mssql_tds::connection_provider::tds_connection_provider::TdsConnectionProvider;
use mssql_tds::core::{EncryptionOptions, EncryptionSetting};
use mssql_tds::message::login_options::ApplicationIntent as Intent;
use mssql_tds::message::parameters::rpc_parameters::RpcParameter;
use tiberius::Row;
use tokio::time::timeout;

pub use self::values::{
    column_data, column_type, decode_text, decode_xml, signed, ten_thousandths,
};
use super::Arguments;
use crate::config::{ApplicationIntent, SqlServer, TlsMode};
use crate::error::{Error, ErrorKind, Result};

/// Connects and logs in. Not `encrypted`, the login alone is encrypted, where the server can (MS-TDS 2.2.6.5).
pub async fn connect(server: &SqlServer, port: u16, encrypted: bool) -> Result<TdsClient> {
    let limits = &server.server.pool;
    let limit = limits.connect_timeout + limits.login_timeout;
    let address = format!("tcp:{},{port}", server.server.host);
    let context = build_context(server, encrypted);
    let provider = TdsConnectionProvider {};
    // The handshake is long, and its future as large.
    let login = Box::pin(provider.create_client(context, &address, None));
    let client = timeout(limit, login)
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, format!("no login within {limit:?}")))??;
    if !encrypted && client.is_encrypted() {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "the server insists on encryption",
        ));
    }
    Ok(client)
}

fn build_context(server: &SqlServer, encrypted: bool) -> ClientContext {
    let SqlServer {
        server,
        application_intent,
        packet_size,
        ..
    } = server;
    let tls = &server.tls;
    let mut context = ClientContext::default();
    "etl-host".clone_into(&mut context.application_name);
    context.database.clone_from(&server.database);
    context.user_name.clone_from(&server.username);
    server.password.expose().clone_into(&mut context.password);
    // The login's own.
    context.language.clear();
    context.packet_size = u16::try_from(*packet_size).unwrap_or(32_767);
    context.application_intent = match application_intent {
        ApplicationIntent::ReadWrite => Intent::ReadWrite,
        ApplicationIntent::ReadOnly => Intent::ReadOnly,
    };
    // All addresses of the name at once: a listener has one in each subnet, and answers at one of them.
    context.multi_subnet_failover = Some(true);
    context.connect_retry_count = 0;
    context.connect_timeout = whole_seconds(server.pool.connect_timeout);
    // Limited where it is awaited, to the millisecond.
    context.login_timeout = Some(0);
    context.encryption_options = EncryptionOptions {
        mode: if encrypted {
            EncryptionSetting::On
        } else {
            EncryptionSetting::PreferOff
        },
        trust_server_certificate: tls.trust_server_certificate || tls.mode != TlsMode::Require,
        host_name_in_cert: None,
        server_certificate: None,
    };
    context
}

fn whole_seconds(limit: Duration) -> u32 {
    u32::try_from(limit.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// The first result of a statement without parameters. The whole answer is read.
pub async fn query(client: &mut TdsClient, sql: &str) -> Result<Vec<Row>> {
    let result = Box::pin(client.execute(sql.to_owned(), ())).await?;
    first_result(client, result).await
}

/// The first result of a procedure. The whole answer is read.
pub async fn call(
    client: &mut TdsClient,
    procedure: &str,
    arguments: Arguments,
) -> Result<Vec<Row>> {
    let parameters = build_parameters(arguments)?;
    let options = ExecuteOptions::new();
    let call =
        client.execute_stored_procedure(procedure.to_owned(), None, Some(parameters), options);
    let result = Box::pin(call).await?;
    first_result(client, result).await
}

/// The parameters of a procedure.
pub fn build_parameters(arguments: Arguments) -> Result<Vec<RpcParameter>> {
    arguments.into_iter().map(values::parameter).collect()
}

async fn first_result(client: &mut TdsClient, mut result: StatementResult) -> Result<Vec<Row>> {
    while matches!(result, StatementResult::NoRows { .. }) {
        result = client.advance().await?;
    }
    let mut rows = Vec::new();
    if matches!(result, StatementResult::Rows) {
        let columns: Vec<_> = client
            .get_metadata()
            .iter()
            .map(|column| (column.column_name.clone(), column_type(column)))
            .collect();
        while let Some(values) = client.next_row().await? {
            let mut row = Row::builder();
            for ((name, column_type), value) in columns.iter().zip(values) {
                row = row.column(name.clone(), *column_type, column_data(value)?);
            }
            rows.push(row.build());
        }
    }
    // What comes behind, an error perhaps.
    client.close_query().await?;
    Ok(rows)
}
