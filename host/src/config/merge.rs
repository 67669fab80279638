//! Lays a later layer over an earlier one.
//!
//! Mappings merge key by key, everything else replaces; `key: null` takes a key away. Values are not looked
//! at, with two exceptions: another connector does not inherit its predecessor's keys, and another write mode
//! does not inherit a key.

use super::document::{Data, Map, Node};
use super::interpolate::{Env, interpolate};

/// What of `source` and `sink` has nothing to do with the connector.
const KEPT_OF_SOURCE: [&str; 1] = ["query"];
const KEPT_OF_SINK: [&str; 5] = [
    "table",
    "write_mode",
    "key",
    "key_scope",
    "partition_column",
];

/// Lays `over` on `base`, both whole documents.
pub(super) fn layers(mut base: Node, over: Node, env: &Env<'_>) -> Node {
    if let (Data::Map(base), Data::Map(over)) = (&mut base.data, &over.data) {
        for (section, kept) in [("source", &KEPT_OF_SOURCE[..]), ("sink", &KEPT_OF_SINK[..])] {
            if let (Some(base), Some(over)) =
                (map_mut(base.get_mut(section)), map(over.get(section)))
            {
                if changes("type", base, over, env) {
                    // What is not opened is not asked either.
                    let kept = if is_none(over) { &[] } else { kept };
                    base.retain(|key, _| kept.contains(&key.as_str()));
                }
                if changes("write_mode", base, over, env) {
                    base.retain(|key, _| key != "key" && key != "key_scope");
                }
            }
        }
    }
    nodes(base, over)
}

/// Lays `over` on `base`, whatever they are.
pub(super) fn nodes(base: Node, over: Node) -> Node {
    let Node {
        key,
        key_at,
        at,
        data,
    } = over;
    let data = match (base.data, data) {
        (Data::Map(mut map), Data::Map(over)) => {
            for (name, value) in over {
                let value = match map.remove(&name) {
                    Some(below) => nodes(below, value),
                    None => value,
                };
                map.insert(name, value);
            }
            Data::Map(map)
        }
        (_, data) => data,
    };
    Node {
        key,
        key_at,
        at,
        data,
    }
}

/// Whether `over` gives `key` another value than `base` has. What cannot be read counts as another.
fn changes(key: &str, base: &Map, over: &Map, env: &Env<'_>) -> bool {
    let word = |node: &Node| match &node.data {
        Data::Text(text) => interpolate(text, env).ok().map(|word| word.text),
        _ => None,
    };
    match (base.get(key), over.get(key)) {
        (Some(base), Some(over)) => word(base).is_none_or(|base| word(over) != Some(base)),
        _ => false,
    }
}

fn is_none(over: &Map) -> bool {
    matches!(over.get("type").map(|kind| &kind.data), Some(Data::Text(word)) if word == "none")
}

fn map(node: Option<&Node>) -> Option<&Map> {
    match &node?.data {
        Data::Map(map) => Some(map),
        _ => None,
    }
}

fn map_mut(node: Option<&mut Node>) -> Option<&mut Map> {
    match &mut node?.data {
        Data::Map(map) => Some(map),
        _ => None,
    }
}
