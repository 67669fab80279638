//! Writes small MMDB files, so that no database needs to be kept for the tests.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde_yaml::Value;
use tempfile::TempDir;

use crate::location::Locator;

pub(super) struct MmdbFile {
    pub(super) path: PathBuf,
    _folder: TempDir,
}

#[derive(Clone, Copy)]
enum Branch {
    Empty,
    Node(usize),
    Data(usize),
}

impl MmdbFile {
    /// A file of `kind` that holds the YAML `records` by network.
    pub(super) fn new(kind: &str, version: u8, records: &[(&str, &str)]) -> Self {
        let mut nodes = vec![[Branch::Empty; 2]];
        let mut data = Vec::new();
        for (network, yaml) in records {
            let (bits, length) = prefix(network, version);
            let offset = data.len();
            encode(&serde_yaml::from_str(yaml).unwrap(), &mut data);
            let mut at = 0;
            for depth in 0..length {
                let side = usize::from(bits >> (127 - depth) & 1 == 1);
                if depth + 1 == length {
                    nodes[at][side] = Branch::Data(offset);
                } else if let Branch::Node(next) = nodes[at][side] {
                    at = next;
                } else {
                    nodes.push([Branch::Empty; 2]);
                    let next = nodes.len() - 1;
                    nodes[at][side] = Branch::Node(next);
                    at = next;
                }
            }
        }
        let mut bytes = Vec::new();
        for branch in nodes.iter().flatten() {
            let value = match *branch {
                Branch::Empty => nodes.len(),
                Branch::Node(node) => node,
                Branch::Data(offset) => nodes.len() + 16 + offset,
            };
            bytes.extend_from_slice(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
        }
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&data);
        bytes.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
        let metadata = format!(
            "{{binary_format_major_version: 2, binary_format_minor_version: 0, build_epoch: 1, database_type: {kind}, \
             description: {{}}, ip_version: {version}, languages: [], node_count: {}, record_size: 24}}",
            nodes.len()
        );
        encode(&serde_yaml::from_str(&metadata).unwrap(), &mut bytes);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("places.mmdb");
        std::fs::write(&path, bytes).unwrap();
        Self {
            path,
            _folder: folder,
        }
    }

    pub(super) fn locator(&self) -> Locator {
        Locator::open(&self.path).unwrap()
    }
}

/// The bits of `network` from the top, and how many count. IPv4 sits at `::/96` of an IPv6 tree.
fn prefix(network: &str, version: u8) -> (u128, u32) {
    let (address, length) = network.split_once('/').unwrap();
    let length: u32 = length.parse().unwrap();
    match address.parse::<IpAddr>().unwrap() {
        IpAddr::V6(address) => (address.to_bits(), length),
        IpAddr::V4(address) if version == 6 => {
            (u128::from(Ipv4Addr::to_bits(address)), length + 96)
        }
        IpAddr::V4(address) => (u128::from(Ipv4Addr::to_bits(address)) << 96, length),
    }
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::String(text) => {
            head(2, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Number(number) => {
            head(5, 2, out);
            out.extend_from_slice(
                &u16::try_from(number.as_u64().unwrap())
                    .unwrap()
                    .to_be_bytes(),
            );
        }
        Value::Mapping(map) => {
            head(7, map.len(), out);
            for (key, value) in map {
                encode(key, out);
                // Readers insist on these two types.
                match key.as_str() {
                    Some("node_count") => head(6, 4, out),
                    Some("build_epoch") => head(9, 8, out),
                    _ => {
                        encode(value, out);
                        continue;
                    }
                }
                let number = value.as_u64().unwrap().to_be_bytes();
                let size = if key == "node_count" { 4 } else { 8 };
                out.extend_from_slice(&number[8 - size..]);
            }
        }
        Value::Sequence(items) => {
            head(11, items.len(), out);
            for item in items {
                encode(item, out);
            }
        }
        other => panic!("no such type in the tests: {other:?}"),
    }
}

fn head(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (short, long) = if size < 29 {
        (size, None)
    } else {
        (29, Some(size - 29))
    };
    let short = u8::try_from(short).unwrap();
    if kind < 8 {
        out.push(kind << 5 | short);
    } else {
        out.extend_from_slice(&[short, kind - 7]);
    }
    out.extend(long.map(|size| u8::try_from(size).unwrap()));
}
