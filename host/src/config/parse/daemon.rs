//! Reads `etl-host.yaml`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::notifications::notifications;
use super::timeout;
use crate::config::daemon::{Daemon, Http, HttpTls, Logs};
use crate::config::section::{Reported, Section};
use crate::config::value::Value;

/// The shortest token that is not guessed.
const TOKEN_LENGTH: usize = 16;

/// Reads the whole document.
pub fn daemon(mut root: Section<'_>) -> Result<Daemon, Reported> {
    let default = Daemon::default();
    let max_concurrent_runs = root.or(
        "max_concurrent_runs",
        default.max_concurrent_runs,
        |value| value.integer("a number of runs", 1..=1_000),
    );
    let http = root.or("http", default.http, |value| {
        if value.is_off() {
            return Ok(None);
        }
        http(value.section()?).map(Some)
    });
    let notifications = root.or("notifications", Vec::new(), notifications);
    let lateness = root.optional("lateness", timeout);
    let logs = root.or("logs", default.logs, |value| logs(value.section()?));
    root.finish();
    Ok(Daemon {
        max_concurrent_runs: max_concurrent_runs?,
        http: http?,
        notifications: notifications?,
        lateness: lateness?,
        logs: logs?,
    })
}

fn logs(mut section: Section<'_>) -> Result<Logs, Reported> {
    let rotate = section.or("rotate", Logs::default().rotate, Value::boolean);
    section.finish();
    Ok(Logs { rotate: rotate? })
}

fn http(mut section: Section<'_>) -> Result<Http, Reported> {
    let default = Http::default();
    let token = section.optional("token", |value| {
        let token = value.secret()?;
        if token.expose().len() < TOKEN_LENGTH {
            let fix = "make one with `openssl rand -hex 32`".to_owned();
            return Err(value.report("a token needs 16 characters or more", Some(fix)));
        }
        Ok(token)
    });
    let tls = section.optional("tls", |value| tls(value.section()?));
    let allow_plain = section.or("allow_plain", default.allow_plain, Value::boolean);
    let requests_per_second = section.or(
        "requests_per_second",
        default.requests_per_second,
        |value| value.integer("a number of requests", 1..=100_000),
    );
    let (has_token, has_tls) = (matches!(token, Ok(None)), matches!(tls, Ok(None)));
    let plain = matches!(allow_plain, Ok(false));
    let listen = section.or("listen", default.listen, |value| {
        let listen: SocketAddr = value.parsed(|text| {
            text.parse()
                .map_err(|_| r#"expected an address and a port such as "127.0.0.1:8484""#)
        })?;
        if listen.ip().is_loopback() {
            return Ok(listen);
        }
        let mut lacking = Vec::new();
        if has_token {
            lacking.push("`token: \"${ETL_API_TOKEN}\"`");
        }
        if has_tls && plain {
            lacking.push("`tls: { cert_file: …, key_file: … }` (or `allow_plain: true` if a proxy in front of it encrypts)");
        }
        if lacking.is_empty() {
            return Ok(listen);
        }
        let fix = format!("add {}, or listen on 127.0.0.1", lacking.join(" and "));
        Err(value.report(
            "everybody who reaches this address could start and stop pipelines, or read the token on its way",
            Some(fix),
        ))
    });
    section.finish();
    Ok(Http {
        listen: listen?,
        token: token?,
        tls: tls?,
        allow_plain: allow_plain?,
        requests_per_second: requests_per_second?,
    })
}

fn tls(mut section: Section<'_>) -> Result<HttpTls, Reported> {
    let path = |value: Value<'_>| value.text().map(PathBuf::from);
    let cert_file = section.required("cert_file", path);
    let key_file = section.required("key_file", path);
    section.finish();
    Ok(HttpTls {
        cert_file: cert_file?,
        key_file: key_file?,
    })
}
