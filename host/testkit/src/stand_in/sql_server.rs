//! One handle for tests that run on SQL Server as well as on its stand-in: on the server that the environment names, or
//! else on a stand-in of their own. It speaks no TDS itself.

use anyhow::{Context, Result, bail};

use super::{StandInOptions, StandInServer};

/// Names a server for [`SqlServer::start_or_env`], as
/// `sqlserver://user:password@host:port/database?trust_server_certificate=true`, or with `ca_file=/path/ca.pem`. The
/// user must be allowed to create databases.
pub const URL_VARIABLE: &str = "ETL_TEST_SQLSERVER_URL";

/// A server to test on.
#[derive(Debug)]
pub struct SqlServer {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A user who may create databases.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// The database of the URL; `master` where it names none.
    pub database: String,
    /// The authority of its certificate, as PEM, where it is known.
    pub ca_pem: Option<String>,
    /// Whether its certificate is to be taken as it is.
    pub trust_server_certificate: bool,
    stand_in: Option<StandInServer>,
}

impl SqlServer {
    /// The server that the environment names (see [`URL_VARIABLE`]), or a stand-in.
    pub fn start_or_env() -> Result<Self> {
        match std::env::var(URL_VARIABLE) {
            Ok(url) if !url.is_empty() => Self::at(&url),
            _ => Self::stand_in_with(StandInOptions::default()),
        }
    }

    /// A stand-in, whatever the environment says: for tests with faults.
    pub fn stand_in_with(options: StandInOptions) -> Result<Self> {
        StandInServer::start(options).map(Self::from)
    }

    /// The stand-in, if it is one.
    pub fn stand_in(&self) -> Option<&StandInServer> {
        self.stand_in.as_ref()
    }

    /// The same, to stop and start it.
    pub fn stand_in_mut(&mut self) -> Option<&mut StandInServer> {
        self.stand_in.as_mut()
    }

    /// Makes an empty database with a random name and gives the name. `run` runs a statement in `master` with the
    /// test's own client; the stand-in needs none.
    pub async fn create_database<F, R>(&self, run: F) -> Result<String>
    where
        F: FnOnce(String) -> R,
        R: Future<Output = Result<()>>,
    {
        let name = format!("etl_test_{:016x}", rand::random::<u64>());
        match &self.stand_in {
            Some(stand_in) => stand_in.create_database(&name)?,
            None => run(format!("CREATE DATABASE [{name}]")).await?,
        }
        Ok(name)
    }

    /// What removes a database again, for the test's own client.
    pub fn drop_statement(name: &str) -> String {
        format!(
            "ALTER DATABASE [{name}] SET SINGLE_USER WITH ROLLBACK IMMEDIATE; DROP DATABASE [{name}]"
        )
    }

    /// The server of such a URL.
    pub fn at(url: &str) -> Result<Self> {
        let wrong =
            || format!("{URL_VARIABLE} is not sqlserver://user:password@host:port/database");
        let rest = url.strip_prefix("sqlserver://").with_context(wrong)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (rest, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = rest.rsplit_once('@').with_context(wrong)?;
        let (user, password) = login.split_once(':').with_context(wrong)?;
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "1433"));
        let mut server = Self {
            host: host.to_owned(),
            port: port.parse().with_context(wrong)?,
            user: decoded(user).with_context(wrong)?,
            password: decoded(password).with_context(wrong)?,
            database: if database.is_empty() {
                "master".to_owned()
            } else {
                decoded(database).with_context(wrong)?
            },
            ca_pem: None,
            trust_server_certificate: false,
            stand_in: None,
        };
        for option in query.split('&').filter(|it| !it.is_empty()) {
            match option.split_once('=').unwrap_or((option, "")) {
                ("trust_server_certificate", value) => {
                    server.trust_server_certificate = value == "true";
                }
                ("ca_file", file) => {
                    let file = decoded(file).with_context(wrong)?;
                    server.ca_pem = Some(
                        std::fs::read_to_string(&file)
                            .with_context(|| format!("cannot read {file}"))?,
                    );
                }
                (other, _) => bail!("{URL_VARIABLE}: {other} is not known"),
            }
        }
        Ok(server)
    }
}

impl From<StandInServer> for SqlServer {
    fn from(stand_in: StandInServer) -> Self {
        Self {
            host: stand_in.host.clone(),
            port: stand_in.port,
            user: stand_in.user.clone(),
            password: stand_in.password.clone(),
            database: "master".to_owned(),
            ca_pem: stand_in.ca_pem().map(str::to_owned),
            trust_server_certificate: false,
            stand_in: Some(stand_in),
        }
    }
}

/// `%40` to `@`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.as_bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = after.get(2..)?;
    }
    bytes.extend(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_server_is_taken_apart() {
        let url = "sqlserver://sa:p%40ss%3A@db.example:1444/logins?trust_server_certificate=true";
        let server = SqlServer::at(url).unwrap();
        assert_eq!(
            (&*server.user, &*server.password, &*server.host, server.port),
            ("sa", "p@ss:", "db.example", 1444)
        );
        assert_eq!(server.database, "logins");
        assert!(server.trust_server_certificate && server.stand_in().is_none());
    }

    #[test]
    fn a_wrong_url_is_refused_and_not_repeated() {
        for url in [
            "postgres://sa:secret@h/x",
            "sqlserver://sa@h",
            "sqlserver://sa:secret@h:x/",
        ] {
            let message = format!("{:#}", SqlServer::at(url).unwrap_err());
            assert!(
                message.contains(URL_VARIABLE) && !message.contains("secret"),
                "{message}"
            );
        }
    }
}
