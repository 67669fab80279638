//! Connects for `etl-host doctor`, step by step, so that what fails is known by its name: network, TLS, login, database.
//!
//! What is checked on a connection that came about is the connectors' matter.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::CertificateError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Pools, PostgresLease, SqlServerLease, sqlserver};
use crate::config::{Server, SqlServer, Tls, TlsMode};
use crate::error::{Error, ErrorKind, Result};
use crate::finding::Findings;
use crate::identifier::quote;
use crate::tls;

/// A client's question whether the server speaks TLS (PostgreSQL's `SSLRequest`): length and code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Connects to a `PostgreSQL` server. `None` if something failed, which is among the findings then.
pub async fn postgres(
    pools: &Pools,
    server: &Server,
    findings: &mut Findings,
) -> Option<PostgresLease> {
    if server.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", server.host, server.port);
        let stream = within(server.pool.connect_timeout, async {
            UnixStream::connect(&path).await.map_err(unreachable)
        });
        match stream.await {
            Ok(_) => findings.ok("reachable", path),
            Err(error) => {
                findings.failed("reachable", &error);
                return None;
            }
        }
    } else {
        let (stream, address) = reach(server, findings).await?;
        let asked = within(server.pool.login_timeout, offers_tls(stream, server));
        let local = address.ip().is_loopback();
        match asked.await {
            Ok(encrypted) => judge_tls(findings, &server.tls, Some(encrypted), local),
            Err(error) => {
                findings.failed("tls", &error);
                return None;
            }
        }
    }
    let (database, user) = (&server.database, &server.username);
    match pools.lease_postgres(server).await {
        Ok(lease) => {
            findings.ok("login", format!("as `{user}`"));
            findings.ok("database", format!("`{database}`"));
            Some(lease)
        }
        Err(error) => {
            // A server looks for the database once it knows who asks.
            let knows_user = matches!(error.kind(), ErrorKind::SqlState(state) if ["3D000", "42501", "55000"].contains(&state.as_str()));
            if !knows_user {
                findings.failed("login", &error);
                return None;
            }
            findings.ok("login", format!("as `{user}`"));
            let refused = *error.kind() == ErrorKind::SqlState("42501".to_owned());
            let error = if refused {
                error.hint(format!(
                    "GRANT CONNECT ON DATABASE {} TO {}",
                    quote(database),
                    quote(user)
                ))
            } else {
                error
            };
            findings.failed("database", &error);
            None
        }
    }
}

/// Connects to a SQL Server. `None` if something failed, which is among the findings then.
pub async fn sqlserver(
    pools: &Pools,
    server: &SqlServer,
    findings: &mut Findings,
) -> Option<SqlServerLease> {
    let local = match &server.instance {
        None => reach(&server.server, findings).await?.1.ip().is_loopback(),
        Some(instance) => reach_instance(server, instance, findings).await?,
    };
    let Server {
        username,
        database,
        tls,
        ..
    } = &server.server;
    let mut lease = match pools.lease_sqlserver(server).await {
        Ok(lease) => lease,
        Err(error) if tls.mode == TlsMode::Disable && *error.kind() == ErrorKind::Unavailable => {
            findings.failed(
                "tls",
                &error.hint("if the server insists on encryption, set `tls.mode: require`"),
            );
            return None;
        }
        Err(error) => {
            let step = failed_step(&error);
            if step != "tls" && tls.mode != TlsMode::Prefer {
                // The login is under way only when the two have come to terms about TLS.
                judge_tls(findings, tls, Some(tls.mode == TlsMode::Require), local);
            }
            if step == "database" {
                findings.ok("login", format!("as `{username}`"));
            }
            findings.failed(step, &error);
            return None;
        }
    };
    let encrypted = match tls.mode {
        TlsMode::Require => Some(true),
        TlsMode::Disable => Some(false),
        TlsMode::Prefer => is_encrypted(&mut lease).await,
    };
    judge_tls(findings, tls, encrypted, local);
    findings.ok("login", format!("as `{username}`"));
    findings.ok("database", format!("`{database}`"));
    Some(lease)
}

/// Which step of connecting to SQL Server an error belongs to.
fn failed_step(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::NoTls | ErrorKind::Refused => "tls",
        ErrorKind::SqlServer(4060 | 911 | 916 | 976 | 978 | 979) => "database",
        _ => "login",
    }
}

/// What the server says of this connection; only who may look at the server's state learns it.
async fn is_encrypted(lease: &mut SqlServerLease) -> Option<bool> {
    let sql = "SELECT encrypt_option FROM sys.dm_exec_connections WHERE session_id = @@SPID";
    let rows = lease.client().ok()?.query(sql).await.ok()?;
    let option: Option<&str> = rows.first()?.try_get(0).ok().flatten();
    option.map(|option| option.eq_ignore_ascii_case("true"))
}

async fn reach(server: &Server, findings: &mut Findings) -> Option<(TcpStream, SocketAddr)> {
    let place = format!("{}:{}", server.host, server.port);
    let start = Instant::now();
    let reached = within(server.pool.connect_timeout, async {
        let addresses = lookup_host((server.host.as_str(), server.port)).await;
        let addresses: Vec<SocketAddr> = addresses
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, format!("the name `{}` cannot be resolved", server.host))
                    .caused_by(error)
                    .hint("correct `host`, or make the name known to this machine; in a container `localhost` is the container")
            })?
            .collect();
        let stream = TcpStream::connect(addresses.as_slice())
            .await
            .map_err(unreachable)?;
        let address = stream.peer_addr().map_err(unreachable)?;
        Ok((stream, address))
    });
    match reached.await {
        Ok((stream, address)) => {
            let resolved = address.to_string();
            let place = if resolved == place {
                place
            } else {
                format!("{place} ({})", address.ip())
            };
            findings.ok("reachable", answered(&place, start));
            Some((stream, address))
        }
        Err(error) => {
            findings.failed("reachable", &error.while_trying(place));
            None
        }
    }
}

/// Whether the instance is on this machine.
async fn reach_instance(
    server: &SqlServer,
    instance: &str,
    findings: &mut Findings,
) -> Option<bool> {
    let place = format!("{}\\{instance}", server.server.host);
    let start = Instant::now();
    match sqlserver::reach(server)
        .await
        .map(|stream| stream.peer_addr())
    {
        Ok(Ok(address)) => {
            let place = format!("{place} ({address})");
            findings.ok("reachable", answered(&place, start));
            Some(address.ip().is_loopback())
        }
        Ok(Err(error)) => {
            findings.failed("reachable", &unreachable(error).while_trying(place));
            None
        }
        Err(error) if *error.kind() == ErrorKind::Refused => {
            findings.failed("tls", &error);
            None
        }
        Err(error) => {
            let error = error.while_trying(place).hint(
                "start the SQL Server Browser and let UDP 1434 through, or give the instance a fixed port and configure \
                 `port` in place of `instance`",
            );
            findings.failed("reachable", &error);
            None
        }
    }
}

fn answered(place: &str, start: Instant) -> String {
    format!("{place} answered in {} ms", start.elapsed().as_millis())
}

async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, asked).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, format!("no answer within {limit:?}")).hint(
            "correct `host` and `port`, or open the port in the firewall: packets vanish on the way",
        ))
    })
}

fn unreachable(error: std::io::Error) -> Error {
    let nobody = error.kind() == std::io::ErrorKind::ConnectionRefused;
    let what = if nobody {
        "nobody listens"
    } else {
        "no connection"
    };
    Error::new(ErrorKind::Unavailable, what)
        .caused_by(error)
        .hint("start the server, or correct `host` and `port`")
}

/// Asks for TLS and shakes hands, if the configuration wants it. `false` if the connection stays open to readers.
async fn offers_tls(mut stream: TcpStream, server: &Server) -> Result<bool> {
    if server.tls.mode == TlsMode::Disable {
        return Ok(false);
    }
    let client = tls::build_client(&server.tls)?;
    stream.write_all(&SSL_REQUEST).await.map_err(unreachable)?;
    match stream.read_u8().await.map_err(unreachable)? {
        b'S' => {}
        b'N' if server.tls.mode == TlsMode::Prefer => return Ok(false),
        b'N' => {
            return Err(Error::new(ErrorKind::NoTls, "the server does not encrypt")
                .hint("give it a certificate and set `ssl = on`, or set `tls.mode: disable` where nobody can listen"));
        }
        _ => {
            return Err(
                Error::new(ErrorKind::Refused, "this is no PostgreSQL server")
                    .hint("correct `host` and `port`"),
            );
        }
    }
    let mut make = MakeRustlsConnect::new(client);
    let Ok(connect) = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut make, &server.host);
    connect.connect(stream).await.map_err(untrusted)?;
    Ok(true)
}

/// The error of a handshake, with what would help.
fn untrusted(error: std::io::Error) -> Error {
    let found = error.get_ref().and_then(|inner| inner.downcast_ref());
    let hint = match found {
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => {
            "connect by a name that is in the certificate, or have it issued with the name in `host`"
        }
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => "renew the server's certificate, or set the clock of this machine right",
        _ => {
            "name the server's authority with `tls.ca_file`, or set `tls.trust_server_certificate: true` where nobody can \
             sit in between"
        }
    };
    Error::new(ErrorKind::Refused, "TLS")
        .caused_by(error)
        .hint(hint)
}

/// Says what protects the connection. `encrypted` is `None` where the server does not tell.
fn judge_tls(findings: &mut Findings, tls: &Tls, encrypted: Option<bool>, local: bool) {
    let verified =
        !tls.trust_server_certificate && (tls.mode == TlsMode::Require || tls.ca_file.is_some());
    let (detail, fix) = match encrypted {
        Some(true) if verified => {
            return findings.ok("tls", "encrypted, and the certificate is verified");
        }
        Some(true) => (
            "encrypted, but the certificate is not verified",
            "set `tls.mode: require` and `tls.ca_file`, and leave out `tls.trust_server_certificate`: whoever sits in \
             between can pretend to be the server",
        ),
        Some(false) => (
            "not encrypted",
            "set `tls.mode: require`: whoever can listen on the way reads password and rows",
        ),
        None => (
            "encrypted if the server can, which it does not tell",
            "set `tls.mode: require`",
        ),
    };
    if local {
        findings.ok("tls", format!("{detail}; the server is on this machine"));
    } else {
        findings.warning("tls", detail, fix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PoolLimits;
    use crate::finding::{Finding, Verdict};

    fn server(host: &str, port: u16) -> Server {
        Server {
            host: host.to_owned(),
            port,
            database: "logins".to_owned(),
            username: "reader".to_owned(),
            password: crate::config::Secret::new("very-Secret-42".to_owned()),
            tls: Tls::default(),
            pool: PoolLimits::default(),
        }
    }

    async fn examined(host: &str, port: u16) -> Vec<Finding> {
        let mut findings = Findings::default();
        let server = SqlServer {
            server: server(host, port),
            instance: None,
            application_intent: crate::config::ApplicationIntent::ReadWrite,
            packet_size: 16_000,
            driver: crate::config::SqlServerDriver::default(),
        };
        assert!(
            sqlserver(&Pools::new(), &server, &mut findings)
                .await
                .is_none()
        );
        assert!(
            postgres(&Pools::new(), &server.server, &mut findings)
                .await
                .is_none()
        );
        findings.into_vec()
    }

    #[tokio::test]
    async fn nobody_listens() {
        // Bound and not listening: nobody else gets the port meanwhile.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = examined("127.0.0.1", port).await;
        assert_eq!(found.len(), 2);
        for found in found {
            assert_eq!((found.check, found.verdict), ("reachable", Verdict::Failed));
            assert!(found.detail.contains("nobody listens"), "{}", found.detail);
            assert_eq!(
                found.fix.as_deref(),
                Some("start the server, or correct `host` and `port`")
            );
        }
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows() {
        for found in examined("no-such-host.invalid", 1433).await {
            assert_eq!((found.check, found.verdict), ("reachable", Verdict::Failed));
            assert!(
                found.detail.contains("cannot be resolved"),
                "{}",
                found.detail
            );
        }
    }

    #[tokio::test]
    async fn another_program_at_the_port() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
                let _ = stream.read(&mut [0; 64]).await;
            }
        });
        let mut server = server("127.0.0.1", port);
        server.tls.mode = TlsMode::Prefer;
        let mut findings = Findings::default();
        assert!(
            postgres(&Pools::new(), &server, &mut findings)
                .await
                .is_none()
        );
        let found = findings.into_vec();
        assert_eq!(found[0].verdict, Verdict::Ok);
        assert_eq!(
            (found[1].check, found[1].detail.as_str()),
            ("tls", "this is no PostgreSQL server")
        );
    }

    #[test]
    fn an_error_of_the_server_belongs_to_a_step() {
        let step = |kind| failed_step(&Error::new(kind, "no"));
        assert_eq!(step(ErrorKind::NoTls), "tls");
        assert_eq!(step(ErrorKind::SqlServer(18456)), "login");
        assert_eq!(step(ErrorKind::SqlServer(4060)), "database");
        assert_eq!(step(ErrorKind::Unavailable), "login");
    }

    #[test]
    fn what_is_open_to_others_is_a_warning_unless_it_stays_on_the_machine() {
        let verdict = |mode, encrypted, local| {
            let mut findings = Findings::default();
            let tls = Tls {
                mode,
                ..Tls::default()
            };
            judge_tls(&mut findings, &tls, encrypted, local);
            findings.into_vec().remove(0).verdict
        };
        assert_eq!(verdict(TlsMode::Require, Some(true), false), Verdict::Ok);
        assert_eq!(
            verdict(TlsMode::Prefer, Some(true), false),
            Verdict::Warning
        );
        assert_eq!(
            verdict(TlsMode::Disable, Some(false), false),
            Verdict::Warning
        );
        assert_eq!(verdict(TlsMode::Disable, Some(false), true), Verdict::Ok);
        assert_eq!(verdict(TlsMode::Prefer, None, false), Verdict::Warning);
    }
}
