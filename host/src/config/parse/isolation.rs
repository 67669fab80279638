//! Where the plugin's code runs, what a worker may use, and what the plugin is let reach.
//!
//! Whether the plugin asks for it is decided in [`capabilities`](crate::capabilities).

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::{Component, PathBuf};
use std::time::Duration;

use super::super::model::{Grants, Isolation, Limits};
use super::super::section::{Reported, Section};
use super::super::value::{Value, all};
use super::super::{byte_size, duration};
use super::timeout;

/// Less leaves no room for a plugin's own code and one batch.
const LEAST_MEMORY: usize = 64 << 20;

pub(super) fn isolation(value: Value<'_>) -> Result<Isolation, Reported> {
    value.one_of(&[
        ("in-process", Isolation::InProcess),
        ("process", Isolation::Process),
    ])
}

pub(super) fn limits(mut section: Section<'_>) -> Result<Limits, Reported> {
    let default = Limits::default();
    let memory = section.or("memory", default.memory, |value| {
        let bytes = value.parsed(byte_size::parse)?;
        if bytes >= LEAST_MEMORY {
            Ok(bytes)
        } else {
            Err(value.unexpected("expected a size of at least 64MiB", None))
        }
    });
    let cpu_time = section.or("cpu_time", default.cpu_time, |value| {
        let read = value.parsed(|text| match text {
            "none" => Ok(None),
            text => duration::parse(text)
                .map(Some)
                .map_err(|error| format!("{error}, or none")),
        })?;
        match read {
            Some(Duration::ZERO) => {
                let fix = "write none for no limit".to_owned();
                Err(value.report("must be longer than 0s", Some(fix)))
            }
            read => Ok(read),
        }
    });
    let call_timeout = section.or("call_timeout", default.call_timeout, timeout);
    let open_files = section.or("open_files", default.open_files, |value| {
        value.integer("a number of open files", 16..=65_536)
    });
    section.finish();
    Ok(Limits {
        memory: memory?,
        cpu_time: cpu_time?,
        call_timeout: call_timeout?,
        open_files: open_files?,
    })
}

pub(super) fn capabilities(mut section: Section<'_>) -> Result<Grants, Reported> {
    let hosts = section.or("hosts", Vec::new(), |value| {
        all(value.list()?.into_iter().map(host).collect())
    });
    let paths = section.or("paths", Vec::new(), |value| {
        all(value.list()?.into_iter().map(path).collect())
    });
    let writable = section.or("writable", Vec::new(), |value| {
        all(value.list()?.into_iter().map(path).collect())
    });
    let secrets = section.or("secrets", BTreeMap::new(), |value| {
        let secrets = value.section()?.into_entries().map(|(name, value)| {
            let secret = value.secret()?;
            if secret.expose().is_empty() {
                let fix = "give the variable a value, or leave the secret out".to_owned();
                return Err(value.report("must not be empty", Some(fix)));
            }
            Ok((name.to_owned(), secret))
        });
        all(secrets.collect()).map(|secrets| secrets.into_iter().collect())
    });
    section.finish();
    Ok(Grants {
        hosts: hosts?,
        paths: paths?,
        writable: writable?,
        secrets: secrets?,
    })
}

fn host(value: Value<'_>) -> Result<String, Reported> {
    value.parsed(|text| {
        if is_host(text) {
            Ok(text.to_owned())
        } else {
            Err(r#"expected a host with its port such as "api.example.com:443""#)
        }
    })
}

/// Whether it is a name or address, a colon and a port. An address of IPv6 stands in brackets.
pub fn is_host(text: &str) -> bool {
    let Some((name, port)) = text.rsplit_once(':') else {
        return false;
    };
    let name_fits = match name.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => {
            name.starts_with(|first: char| first.is_ascii_alphanumeric())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    name_fits
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn path(value: Value<'_>) -> Result<PathBuf, Reported> {
    let path = PathBuf::from(value.text()?);
    // Where `..` leads depends on links, so nobody could tell what it grants.
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(value.unexpected("expected a path without `..`", None));
    }
    Ok(path)
}
