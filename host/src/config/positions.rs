//! Where each key of a loaded configuration stands, for those who find a mistake later.
//!
//! A plugin that dislikes `settings.geoip_database` can so be answered with file and line.

use std::collections::BTreeMap;

use super::document::{Data, Node};
use super::error::{ConfigProblem, Position};

/// The place of every key, after all layers were laid over each other.
#[derive(Clone, Debug)]
pub struct Positions {
    root: Position,
    by_key: BTreeMap<String, Place>,
}

/// Where a value stands, and its key.
#[derive(Clone, Debug)]
struct Place {
    value: Position,
    key: Position,
}

impl Positions {
    pub(super) fn of(root: &Node) -> Self {
        let mut by_key = BTreeMap::new();
        collect(root, &mut by_key);
        Self {
            root: root.at.clone(),
            by_key,
        }
    }

    /// The place of a dotted key such as `settings.limits[2].name`, or of the nearest parent that was written
    /// down; the file itself as a last resort.
    pub fn find(&self, key: &str) -> &Position {
        self.place(key).map_or(&self.root, |place| &place.value)
    }

    fn place(&self, key: &str) -> Option<&Place> {
        let mut key = key;
        loop {
            if let Some(place) = self.by_key.get(key) {
                return Some(place);
            }
            key = key.rfind(['.', '[']).and_then(|end| key.get(..end))?;
        }
    }

    /// A problem with the value of `key` that was found after loading.
    pub fn problem(
        &self,
        key: &str,
        message: impl Into<String>,
        fix: Option<String>,
    ) -> ConfigProblem {
        ConfigProblem {
            position: self.find(key).clone(),
            key: key.to_owned(),
            message: message.into(),
            fix,
        }
    }

    /// A problem with `key` itself.
    pub fn problem_of_key(
        &self,
        key: &str,
        message: impl Into<String>,
        fix: Option<String>,
    ) -> ConfigProblem {
        let position = self.place(key).map_or(&self.root, |place| &place.key);
        ConfigProblem {
            position: position.clone(),
            ..self.problem(key, message, fix)
        }
    }
}

fn collect(node: &Node, by_key: &mut BTreeMap<String, Place>) {
    let place = Place {
        value: node.at.clone(),
        key: node.key_at.clone(),
    };
    by_key.insert(node.key.clone(), place);
    match &node.data {
        Data::Map(map) => map.values().for_each(|node| collect(node, by_key)),
        Data::List(items) => items.iter().for_each(|node| collect(node, by_key)),
        Data::Null | Data::Bool(_) | Data::Number(_) | Data::Text(_) => {}
    }
}
