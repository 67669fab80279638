//! Where each key of a loaded configuration stands, for those who find a mistake later.
//!
//! A plugin that dislikes `settings.geoip_database` can so be answered with file and line.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::{Data, Node};
use super::error::{ConfigProblem, Position};
use super::interpolate::variables;

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
    /// It holds no other keys.
    is_leaf: bool,
    /// Variables of the environment that it is made of.
    variables: Vec<String>,
}

/// Where a value of a configuration comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Its dotted key.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Where it was written; `None` if nobody has, so that it is the default.
    pub position: Option<Position>,
    /// Variables of the environment that it is made of.
    pub variables: Vec<String>,
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

    /// Where each value comes from, of a configuration as JSON.
    pub fn origins(&self, config: &Value) -> Vec<Origin> {
        let mut origins = Vec::new();
        self.collect_origins("", config, &mut origins);
        origins
    }

    fn collect_origins(&self, key: &str, value: &Value, origins: &mut Vec<Origin>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (name, value) in map {
                    let key = match key {
                        "" => name.clone(),
                        key => format!("{key}.{name}"),
                    };
                    self.collect_origins(&key, value, origins);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (index, item) in items.iter().enumerate() {
                    self.collect_origins(&format!("{key}[{index}]"), item, origins);
                }
            }
            value => {
                // A word may stand for several values, but a section says nothing of what it leaves out.
                let exact = self.by_key.get(key).or_else(|| self.credential(key));
                let written = exact.or_else(|| self.place(key).filter(|place| place.is_leaf));
                origins.push(Origin {
                    key: key.to_owned(),
                    value: value.clone(),
                    position: written.map(|place| place.value.clone()),
                    variables: written.map_or_else(Vec::new, |place| place.variables.clone()),
                });
            }
        }
    }

    /// A server's name and password are written in a section of their own.
    fn credential(&self, key: &str) -> Option<&Place> {
        let (server, name) = key.rsplit_once('.')?;
        self.by_key.get(&format!("{server}.credentials.{name}"))
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
        is_leaf: !matches!(node.data, Data::Map(_) | Data::List(_)),
        variables: match &node.data {
            Data::Text(text) => variables(text),
            _ => Vec::new(),
        },
    };
    by_key.insert(node.key.clone(), place);
    match &node.data {
        Data::Map(map) => map.values().for_each(|node| collect(node, by_key)),
        Data::List(items) => items.iter().for_each(|node| collect(node, by_key)),
        Data::Null | Data::Bool(_) | Data::Number(_) | Data::Text(_) => {}
    }
}
