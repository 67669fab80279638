//! Reads the sink as any other program would; knows nothing of the host.

use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls};

/// Where the table `login_analytics` is.
pub enum Sink {
    /// A file.
    Sqlite(Connection),
    /// A server, with what drives its client.
    Postgres(Runtime, Client),
}

impl Sink {
    /// A file that must be there: a report must not make the file that it reports on.
    pub fn sqlite(file: &Path) -> Result<Self> {
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map(Self::Sqlite)
            .with_context(|| format!("cannot read the sink {}", file.display()))
    }

    /// The server that the environment names. Without TLS: it is for the servers of the demo, on this machine.
    pub fn postgres() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let config = postgres_config(|name| std::env::var(name).ok())?;
        let client = runtime.block_on(async {
            let (client, connection) = config
                .connect(NoTls)
                .await
                .context("cannot connect to PostgreSQL; POSTGRES_HOST and _PORT say where it is")?;
            tokio::spawn(connection);
            anyhow::Ok(client)
        })?;
        Ok(Self::Postgres(runtime, client))
    }

    /// How many rows the table holds.
    pub fn rows(&self) -> Result<i64> {
        let query = "SELECT count(*) FROM login_analytics";
        match self {
            Self::Sqlite(db) => Ok(db.query_row(query, [], |row| row.get(0))?),
            Self::Postgres(runtime, client) => runtime
                .block_on(client.query_one(query, &[]))
                .and_then(|row| row.try_get(0))
                .map_err(anyhow::Error::from),
        }
        .context("the sink has no readable table login_analytics")
    }

    /// Rows per value, most first; a missing value counts as "(unknown)".
    pub fn counts(&self, column: &str) -> Result<Vec<(String, i64)>> {
        let query = format!(
            "SELECT coalesce(nullif(\"{column}\", ''), '(unknown)'), count(*) FROM login_analytics \
             GROUP BY 1 ORDER BY 2 DESC, 1"
        );
        match self {
            Self::Sqlite(db) => {
                let mut statement = db
                    .prepare(&query)
                    .with_context(|| format!("login_analytics has no column {column}"))?;
                let counts = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(counts.collect::<Result<_, _>>()?)
            }
            Self::Postgres(runtime, client) => runtime
                .block_on(client.query(&query, &[]))
                .with_context(|| format!("cannot count login_analytics by {column}"))?
                .iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .collect(),
        }
    }
}

/// The variables and defaults of `.env.template`.
fn postgres_config(env: impl Fn(&str) -> Option<String>) -> Result<Config> {
    let of = |name: &str, default: &str| {
        env(name)
            .filter(|value| !value.is_empty())
            .unwrap_or_else(|| default.to_owned())
    };
    let mut config = Config::new();
    config
        .host(of("POSTGRES_HOST", "localhost"))
        .port(
            of("POSTGRES_PORT", "5432")
                .parse()
                .context("POSTGRES_PORT is no port")?,
        )
        .dbname(of("POSTGRES_DB", "etl_sink"))
        .user(of("POSTGRES_USER", "etl_user"))
        .password(of("POSTGRES_PASSWORD", ""));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_are_counted_together() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE login_analytics (location TEXT, device TEXT);
             INSERT INTO login_analytics VALUES ('Japan', 'bot'), (NULL, 'bot'), ('', NULL);",
        )
        .unwrap();
        let expected = [("(unknown)".to_owned(), 2), ("Japan".to_owned(), 1)];
        let sink = Sink::Sqlite(db);
        assert_eq!(sink.counts("location").unwrap(), expected);
        assert_eq!(sink.rows().unwrap(), 3);
    }

    #[test]
    fn an_empty_variable_has_its_default() {
        let config = postgres_config(|name| match name {
            "POSTGRES_PORT" => Some("5433".to_owned()),
            "POSTGRES_DB" => Some(String::new()),
            _ => None,
        })
        .unwrap();
        assert_eq!(config.get_ports(), [5433]);
        assert_eq!(config.get_dbname(), Some("etl_sink"));
        assert!(postgres_config(|_| Some("x".to_owned())).is_err());
    }
}
