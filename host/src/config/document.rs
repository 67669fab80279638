//! A layer's YAML text as a tree of values, each with its key and place.
//!
//! The only file that knows `serde_yaml`, which is no longer developed: whoever replaces it changes nothing
//! else. What the values mean is no concern of this file.

use std::collections::BTreeMap;

use serde_json::Number;
use serde_yaml::Value as Yaml;

use super::Layer;
use super::error::{ConfigProblem, Position};
use super::marks::{self, Mark, Marks, entry_key, item_key};

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The dotted key, such as `source.shards[1].port`; empty for the whole document.
    pub key: String,
    /// Where the key stands.
    pub key_at: Position,
    /// Where to point when the value is wrong: the value itself, or the key when the value has several lines
    /// or none.
    pub at: Position,
    pub data: Data,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

/// A mapping.
pub(super) type Map = BTreeMap<String, Node>;

impl Node {
    /// A document without any key.
    pub fn empty(file: &str) -> Self {
        let at = Position {
            file: file.to_owned(),
            line: 1,
            column: 1,
        };
        Self {
            key: String::new(),
            key_at: at.clone(),
            at,
            data: Data::Map(Map::new()),
        }
    }
}

/// Reads one layer; an empty text is an empty mapping.
pub(super) fn parse(layer: &Layer) -> Result<Node, Vec<ConfigProblem>> {
    // Editors on other systems leave a byte order mark; the two parsers disagree about it.
    let text = layer.text.strip_prefix('\u{feff}').unwrap_or(&layer.text);
    let marks = marks::scan(&layer.name, text)?;
    let empty = Node::empty(&layer.name);
    if marks.is_empty() {
        return Ok(empty);
    }
    let yaml = serde_yaml::from_str(text).map_err(|error| vec![problem(&empty, &error)])?;
    let mut tree = Tree {
        marks: &marks,
        problems: Vec::new(),
    };
    let top = Mark {
        key: empty.at.clone(),
        value: empty.at.clone(),
    };
    let root = tree.node(String::new(), &top, yaml);
    if !tree.problems.is_empty() {
        return Err(tree.problems);
    }
    match root.data {
        Data::Map(_) => Ok(Node {
            at: empty.at,
            ..root
        }),
        Data::Null => Ok(empty),
        _ => Err(vec![ConfigProblem {
            position: root.at,
            key: String::new(),
            message: "expected keys and values at the top of the file".into(),
            fix: Some(r#"write lines such as name: "my-pipeline""#.into()),
        }]),
    }
}

/// What `serde_yaml` refuses although the scan let it pass.
fn problem(document: &Node, error: &serde_yaml::Error) -> ConfigProblem {
    let mut position = document.at.clone();
    if let Some(location) = error.location() {
        position.line = location.line();
        position.column = location.column();
    }
    // The place is told already, and what serde says about a value may hold the value.
    let message = error.to_string();
    let reason = message.split(" at line ").next().unwrap_or_default();
    let message = if reason.contains("invalid ") {
        "is not valid YAML"
    } else {
        reason
    };
    ConfigProblem {
        position,
        key: String::new(),
        message: message.to_owned(),
        fix: None,
    }
}

struct Tree<'a> {
    marks: &'a Marks,
    problems: Vec<ConfigProblem>,
}

impl Tree<'_> {
    /// Recursive, but the scan has bounded the depth.
    fn node(&mut self, key: String, parent: &Mark, yaml: Yaml) -> Node {
        let mark = self.marks.get(&key).unwrap_or(parent);
        let data = match yaml {
            Yaml::Null => Data::Null,
            Yaml::Bool(value) => Data::Bool(value),
            Yaml::Number(number) => self.number(&key, mark, &number),
            Yaml::String(text) => Data::Text(text),
            Yaml::Sequence(items) => {
                let items = items.into_iter().enumerate();
                Data::List(
                    items
                        .map(|(index, item)| self.node(item_key(&key, index), mark, item))
                        .collect(),
                )
            }
            Yaml::Mapping(entries) => self.map(&key, mark, entries),
            Yaml::Tagged(_) => self.refuse(&key, mark, "tags are not supported"),
        };
        let at = match data {
            Data::Null | Data::List(_) | Data::Map(_) => &mark.key,
            Data::Bool(_) | Data::Number(_) | Data::Text(_) => &mark.value,
        };
        Node {
            key,
            key_at: mark.key.clone(),
            at: at.clone(),
            data,
        }
    }

    fn map(&mut self, key: &str, mark: &Mark, entries: serde_yaml::Mapping) -> Data {
        let mut map = Map::new();
        for (name, value) in entries {
            match name {
                Yaml::String(name) => {
                    let node = self.node(entry_key(key, &name), mark, value);
                    map.insert(name, node);
                }
                Yaml::Number(number) => self.bad_key(key, mark, &number.to_string()),
                Yaml::Bool(value) => self.bad_key(key, mark, &value.to_string()),
                _ => self.bad_key(key, mark, ""),
            }
        }
        Data::Map(map)
    }

    fn bad_key(&mut self, parent: &str, mark: &Mark, name: &str) {
        let key = entry_key(parent, name);
        let position = self
            .marks
            .get(&key)
            .map_or_else(|| mark.key.clone(), |mark| mark.key.clone());
        let message = "expected text as a key".to_owned();
        self.problems.push(ConfigProblem {
            position,
            key,
            message,
            fix: Some("put the key in quotes".into()),
        });
    }

    fn number(&mut self, key: &str, mark: &Mark, number: &serde_yaml::Number) -> Data {
        let whole = number
            .as_i64()
            .map(Number::from)
            .or_else(|| number.as_u64().map(Number::from));
        match whole.or_else(|| number.as_f64().and_then(Number::from_f64)) {
            Some(number) => Data::Number(number),
            None => self.refuse(key, mark, "expected a finite number"),
        }
    }

    fn refuse(&mut self, key: &str, mark: &Mark, message: &str) -> Data {
        let position = mark.value.clone();
        self.problems.push(ConfigProblem {
            position,
            key: key.to_owned(),
            message: message.to_owned(),
            fix: None,
        });
        Data::Null
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    /// The tree as JSON, provided that every value has a mark of its own.
    fn json(node: &Node, marks: &Marks) -> Json {
        assert!(marks.contains_key(&node.key), "no mark for {}", node.key);
        match &node.data {
            Data::Null => Json::Null,
            Data::Bool(value) => (*value).into(),
            Data::Number(number) => number.clone().into(),
            Data::Text(text) => text.clone().into(),
            Data::List(items) => items.iter().map(|item| json(item, marks)).collect(),
            Data::Map(map) => Json::Object(
                map.iter()
                    .map(|(name, node)| (name.clone(), json(node, marks)))
                    .collect(),
            ),
        }
    }

    /// Whether the scan lets `text` through even when `serde_yaml` or JSON writes it without quotes or escapes.
    fn plain(text: &String) -> bool {
        text != "<<" && !text.contains(['\u{85}', '\u{2028}', '\u{2029}'])
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            "\\PC{0,8}|[a-z:# \n'\"-]{0,8}"
                .prop_filter("refused", plain)
                .prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let name = "[a-z_]{1,6}|\\PC{1,6}".prop_filter("refused", plain);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map(name, inner, 0..4)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn both_parsers_see_the_same(value in prop::collection::btree_map("[a-z]{1,4}", any_json(), 1..4)) {
            let value = Json::Object(value.into_iter().collect());
            for text in [serde_yaml::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
                let marks = marks::scan("f", &text).unwrap();
                let root = parse(&Layer { name: "f".into(), text, of_plugin: false }).unwrap();
                prop_assert_eq!(&json(&root, &marks), &value);
            }
        }
    }
}
