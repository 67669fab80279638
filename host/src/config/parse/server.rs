//! How to reach a server: the keys that shards and sinks have in common.

use std::net::IpAddr;
use std::path::PathBuf;

use super::super::model::{
    ApplicationIntent, PoolLimits, ReadTimeouts, Server, SqlServer, SqlServerDriver, Tls, TlsMode,
};
use super::super::secret::Secret;
use super::super::section::{Reported, Section};
use super::super::value::Value;
use super::timeout;

/// What differs from one kind of server to the next.
#[derive(Clone, Copy)]
pub(super) struct Flavor {
    /// The port it listens on unless told otherwise.
    pub port: u16,
    /// Whether nobody gets in without a password.
    pub needs_password: bool,
}

pub(super) const SQLSERVER: Flavor = Flavor {
    port: 1433,
    needs_password: true,
};
pub(super) const POSTGRES: Flavor = Flavor {
    port: 5432,
    needs_password: false,
};

/// The keys [`server`] reads.
pub(super) const KEYS: [&str; 6] = ["host", "port", "database", "credentials", "tls", "pool"];

/// Reads a server's keys from a section that may hold others.
pub(super) fn server(section: &mut Section<'_>, flavor: Flavor) -> Result<Server, Reported> {
    let host = section.required("host", Value::text);
    let port = section.or("port", flavor.port, |value| {
        value.integer("a port", 1..=u16::MAX)
    });
    let database = section.required("database", Value::text);
    let credentials = section
        .child("credentials")
        .and_then(|section| credentials(section, flavor));
    let tls = section
        .child("tls")
        .and_then(|section| tls(section, host.as_deref().unwrap_or_default()));
    let pool = section.child("pool").and_then(pool);
    let (username, password) = credentials?;
    Ok(Server {
        host: host?,
        port: port?,
        database: database?,
        username,
        password,
        tls: tls?,
        pool: pool?,
    })
}

/// The keys that only SQL Server has.
pub(super) const SQLSERVER_KEYS: [&str; 4] =
    ["instance", "application_intent", "packet_size", "driver"];
/// With TLS a packet may have 16,383 bytes.
const PACKET_SIZE: u32 = 16_000;

/// Reads a SQL Server's keys from a section that may hold others.
pub(super) fn sql_server(section: &mut Section<'_>) -> Result<SqlServer, Reported> {
    let server = server(section, SQLSERVER);
    let instance = section.optional("instance", Value::text);
    let application_intent = section.or(
        "application_intent",
        ApplicationIntent::default(),
        |value| {
            value.one_of(&[
                ("read-write", ApplicationIntent::ReadWrite),
                ("read-only", ApplicationIntent::ReadOnly),
            ])
        },
    );
    let packet_size = section.or("packet_size", PACKET_SIZE, |value| {
        value.integer("a number of bytes", 512..=32_767)
    });
    let driver = section.or("driver", SqlServerDriver::default(), driver);
    if matches!(driver, Ok(SqlServerDriver::MssqlTds)) {
        only_known_authorities(section)?;
    }
    Ok(SqlServer {
        server: server?,
        instance: instance?,
        application_intent: application_intent?,
        packet_size: packet_size?,
        driver: driver?,
    })
}

fn driver(value: Value<'_>) -> Result<SqlServerDriver, Reported> {
    let driver = value.one_of(&[
        ("tiberius", SqlServerDriver::Tiberius),
        ("mssql-tds", SqlServerDriver::MssqlTds),
    ])?;
    if driver == SqlServerDriver::MssqlTds && cfg!(not(feature = "mssql-tds")) {
        let fix = "build it with `cargo build --release -p etl-host --features mssql-tds`, or leave the key out";
        return Err(value.report(
            "this etl-host was built without the driver mssql-tds",
            Some(fix.into()),
        ));
    }
    Ok(driver)
}

/// The driver `mssql-tds` trusts the authorities of the machine and cannot be given others.
fn only_known_authorities(section: &mut Section<'_>) -> Result<(), Reported> {
    let tls = section.get("tls").filter(Value::is_mapping);
    let tls = tls.map(Value::section).transpose()?;
    match tls.and_then(|mut tls| tls.get("ca_file")) {
        None => Ok(()),
        Some(file) => Err(file.report(
            "the driver mssql-tds trusts the authorities of this machine and no others",
            Some(
                "add the authority to the machine's, or name the file in the environment variable SSL_CERT_FILE, \
                 and leave the key out; or set `driver: tiberius`"
                    .into(),
            ),
        )),
    }
}

/// Reads `timeouts`.
pub(super) fn read_timeouts(mut section: Section<'_>) -> Result<ReadTimeouts, Reported> {
    let default = ReadTimeouts::default();
    let statement = section.or("statement", default.statement, timeout);
    let idle_read = section.or("idle_read", default.idle_read, timeout);
    section.finish();
    Ok(ReadTimeouts {
        statement: statement?,
        idle_read: idle_read?,
    })
}

fn credentials(mut section: Section<'_>, flavor: Flavor) -> Result<(String, Secret), Reported> {
    let username = section.required("username", Value::text);
    let password = if flavor.needs_password {
        section.required("password", |value| {
            let password = value.secret()?;
            if password.expose().is_empty() {
                Err(value.report("must not be empty", None))
            } else {
                Ok(password)
            }
        })
    } else {
        section.or("password", Secret::default(), Value::secret)
    };
    section.finish();
    Ok((username?, password?))
}

fn tls(mut section: Section<'_>, host: &str) -> Result<Tls, Reported> {
    let default = if is_loopback(host) {
        TlsMode::Prefer
    } else {
        TlsMode::Require
    };
    let mode = section.or("mode", default, |value| {
        value.one_of(&[
            ("disable", TlsMode::Disable),
            ("prefer", TlsMode::Prefer),
            ("require", TlsMode::Require),
        ])
    });
    let trust_server_certificate = section.or("trust_server_certificate", false, Value::boolean);
    let ca_file = section.optional("ca_file", Value::text);
    section.finish();
    Ok(Tls {
        mode: mode?,
        trust_server_certificate: trust_server_certificate?,
        ca_file: ca_file?.map(PathBuf::from),
    })
}

fn pool(mut section: Section<'_>) -> Result<PoolLimits, Reported> {
    let default = PoolLimits::default();
    // One connection holds the lock of a run while another one works.
    let max_connections = section.or("max_connections", default.max_connections, |value| {
        value.integer("a number of connections", 2..=65_535)
    });
    let wait_timeout = section.or("wait_timeout", default.wait_timeout, timeout);
    let connect_timeout = section.or("connect_timeout", default.connect_timeout, timeout);
    let login_timeout = section.or("login_timeout", default.login_timeout, timeout);
    let breaker_failures = section.or("breaker_failures", default.breaker_failures, |value| {
        value.integer("a number of failures", 1..=u32::MAX)
    });
    let breaker_pause = section.or("breaker_pause", default.breaker_pause, timeout);
    let breaker_max_pause = section.or("breaker_max_pause", default.breaker_max_pause, timeout);
    section.finish();
    let breaker_pause = breaker_pause?;
    Ok(PoolLimits {
        max_connections: max_connections?,
        wait_timeout: wait_timeout?,
        connect_timeout: connect_timeout?,
        login_timeout: login_timeout?,
        breaker_failures: breaker_failures?,
        breaker_pause,
        // Who asks for a longer first pause means it.
        breaker_max_pause: breaker_max_pause?.max(breaker_pause),
    })
}

/// Whether the way to `host` leaves the machine.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical());
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn knows_what_stays_on_the_machine() {
        for host in [
            "localhost",
            "LocalHost",
            "127.0.0.1",
            "127.8.9.1",
            "::1",
            "::ffff:127.0.0.1",
            "/run/postgresql",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "db",
            "localhost.evil.org",
            "10.0.0.1",
            "::2",
            "128.0.0.1",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
