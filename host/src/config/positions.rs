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
    by_key: BTreeMap<String, Position>,
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
        let mut key = key;
        loop {
            if let Some(position) = self.by_key.get(key) {
                return position;
            }
            match key.rfind(['.', '[']).and_then(|end| key.get(..end)) {
                Some(parent) => key = parent,
                None => return &self.root,
            }
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
}

fn collect(node: &Node, by_key: &mut BTreeMap<String, Position>) {
    by_key.insert(node.key.clone(), node.at.clone());
    match &node.data {
        Data::Map(map) => map.values().for_each(|node| collect(node, by_key)),
        Data::List(items) => items.iter().for_each(|node| collect(node, by_key)),
        Data::Null | Data::Bool(_) | Data::Number(_) | Data::Text(_) => {}
    }
}
