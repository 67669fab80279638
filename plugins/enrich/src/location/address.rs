//! Reads the text of an address and tells public addresses from the rest.
//!
//! Follows the IANA special-purpose address registries. Knows nothing about places.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address has no place on the public Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotPublic {
    Missing,
    Malformed,
    Loopback,
    Private,
    Reserved,
}

impl NotPublic {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Missing => super::country::UNKNOWN,
            Self::Malformed => "invalid address",
            Self::Loopback => "loopback",
            Self::Private => "private network",
            Self::Reserved => "reserved address",
        }
    }
}

/// The public address in `text`.
pub(super) fn public(text: Option<&str>) -> Result<IpAddr, NotPublic> {
    let text = text.map_or("", str::trim);
    if text.is_empty() {
        return Err(NotPublic::Missing);
    }
    match parse(text).ok_or(NotPublic::Malformed)? {
        IpAddr::V4(address) => public_v4(address),
        IpAddr::V6(address) => match carried(address) {
            Some(inner) => public_v4(inner),
            None => public_v6(address),
        },
    }
}

fn parse(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let well_ended = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        return well_ended.then(|| parse_v6(inside)).flatten();
    }
    // A bare IPv6 address never gets here with a port: its last group could be either.
    match text.split_once(':') {
        Some((host, port)) if is_port(port) => host.parse().ok().map(IpAddr::V4),
        _ => parse_v6(text),
    }
}

fn parse_v6(text: &str) -> Option<IpAddr> {
    let address = match text.split_once('%') {
        Some((_, "")) => return None,
        Some((address, _zone)) => address,
        None => text,
    };
    address.parse().ok().map(IpAddr::V6)
}

fn is_port(text: &str) -> bool {
    // `u16::from_str` would also take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// The IPv4 address inside an IPv6 one.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let ([0, 0, 0, 0, 0, 0xffff, high, low]
    | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
    | [0x2002, high, low, ..]) = address.segments()
    else {
        return None;
    };
    Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

fn public_v4(address: Ipv4Addr) -> Result<IpAddr, NotPublic> {
    match address.octets() {
        [127, ..] => Err(NotPublic::Loopback),
        [10, ..] | [100, 64..=127, ..] | [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] => {
            Err(NotPublic::Private)
        }
        // This network, protocol assignments, three documentation blocks, 6to4 relays, benchmarking, and
        // from 224 on: multicast, future use, broadcast.
        [0 | 224.., ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Err(NotPublic::Reserved),
        _ => Ok(IpAddr::V4(address)),
    }
}

fn public_v6(address: Ipv6Addr) -> Result<IpAddr, NotPublic> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Err(NotPublic::Loopback),
        // Unique local; link-local and the site-local block it replaced.
        [0xfc00..=0xfdff | 0xfe80..=0xfeff, ..] => Err(NotPublic::Private),
        // Protocol assignments (Teredo, ORCHID, benchmarking), two documentation blocks, the 6bone.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] | [0x3ffe, ..] => {
            Err(NotPublic::Reserved)
        }
        [0x2000..=0x3fff, ..] => Ok(IpAddr::V6(address)),
        // Nothing outside 2000::/3 is handed out.
        _ => Err(NotPublic::Reserved),
    }
}
