//! What both drivers of SQL Server are asked for: the few rows of a short statement or of a procedure.
//!
//! The values that go out and come back are tiberius', whichever driver carries them. Results of any size are read in
//! `source::sqlserver`, by each driver in its own way.

use std::time::Duration;

use futures_util::StreamExt;
use tiberius::{ColumnData, Command, IntoSql, Row};
use tokio::time::timeout;

use super::TiberiusClient;
#[cfg(feature = "mssql-tds")]
use super::mssql_tds;
use crate::error::Result;

/// Longest wait for the server to acknowledge that it has stopped.
pub const ATTENTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The parameters of a procedure, with the `@` of their names.
pub type Arguments = Vec<(String, ColumnData<'static>)>;

/// A connection to SQL Server, which does one thing at a time.
pub enum SqlServerClient {
    /// By `tiberius`.
    Tiberius(Box<TiberiusClient>),
    /// By Microsoft's `mssql-tds`.
    #[cfg(feature = "mssql-tds")]
    MssqlTds(Box<mssql_tds::TdsClient>),
}

impl SqlServerClient {
    /// The first result of a statement without parameters. The whole answer is read.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Row>> {
        match self {
            Self::Tiberius(client) => {
                let answer = client.simple_query(sql).await?;
                Ok(answer.into_first_result().await?)
            }
            #[cfg(feature = "mssql-tds")]
            Self::MssqlTds(client) => Box::pin(mssql_tds::query(client, sql)).await,
        }
    }

    /// The first result of a procedure. The whole answer is read.
    pub async fn call(
        &mut self,
        procedure: &'static str,
        arguments: Arguments,
    ) -> Result<Vec<Row>> {
        match self {
            Self::Tiberius(client) => {
                let command = tiberius_command(procedure, arguments);
                let mut answer = command.exec(client).await?;
                let (mut rows, mut results) = (Vec::new(), 0);
                while let Some(item) = answer.next().await.transpose()? {
                    if item.as_metadata().is_some() {
                        results += 1;
                    } else if let Some(row) = item.into_row()
                        && results == 1
                    {
                        rows.push(row);
                    }
                }
                Ok(rows)
            }
            #[cfg(feature = "mssql-tds")]
            Self::MssqlTds(client) => Box::pin(mssql_tds::call(client, procedure, arguments)).await,
        }
    }

    /// Tells the server to stop (ATTENTION, MS-TDS 2.2.1.7), and waits for a while until it says that it has.
    pub async fn cancel(&mut self) {
        match self {
            Self::Tiberius(client) => {
                let _ = timeout(ATTENTION_TIMEOUT, client.cancel_query()).await;
            }
            #[cfg(feature = "mssql-tds")]
            Self::MssqlTds(client) => {
                let _ = timeout(ATTENTION_TIMEOUT, Box::pin(client.cancel_query(0))).await;
            }
        }
    }
}

/// A call of a procedure by `tiberius`.
pub fn tiberius_command(procedure: &'static str, arguments: Arguments) -> Command<'static> {
    let mut command = Command::new(procedure);
    for (name, value) in arguments {
        command.bind_param(name, AsItIs(value));
    }
    command
}

/// A value that is one of the driver's already.
struct AsItIs(ColumnData<'static>);

impl IntoSql<'static> for AsItIs {
    fn into_sql(self) -> ColumnData<'static> {
        self.0
    }
}
