//! Typed access to a mapping: what is missing and what is unknown.
//!
//! Nothing here stops at the first mistake: each one is reported and the rest is read on. Which keys a section
//! has is decided by the reader that asks for them; a key that nobody asked for is unknown.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::document::{Data, Map, Node};
use super::error::{ConfigProblem, Position};
use super::interpolate::Env;
use super::marks::entry_key;
use super::suggest::closest;
use super::value::Value;

/// A value cannot be had, and the reason is already among the problems.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported(());

impl Reported {
    /// For those who have just reported several problems.
    pub const ALREADY: Self = Self(());
}

/// What all sections of one configuration share: the variables, and the problems found so far.
pub(super) struct Reader<'a> {
    pub env: &'a Env<'a>,
    problems: RefCell<Vec<ConfigProblem>>,
}

impl<'a> Reader<'a> {
    pub fn new(env: &'a Env<'a>) -> Self {
        Self {
            env,
            problems: RefCell::default(),
        }
    }

    /// Notes a problem.
    pub fn report(
        &self,
        at: &Position,
        key: &str,
        message: impl Into<String>,
        fix: Option<String>,
    ) -> Reported {
        self.problems.borrow_mut().push(ConfigProblem {
            position: at.clone(),
            key: key.to_owned(),
            message: message.into(),
            fix,
        });
        Reported(())
    }

    /// All problems.
    pub fn into_problems(self) -> Vec<ConfigProblem> {
        self.problems.into_inner()
    }
}

/// One mapping that is being read.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    key: String,
    at: &'a Position,
    entries: &'a Map,
    asked: BTreeSet<&'static str>,
}

static NO_ENTRIES: Map = Map::new();

impl<'a> Section<'a> {
    /// The section that `node` holds, or `None` when it holds something else.
    pub fn of(node: &'a Node, reader: &'a Reader<'a>) -> Option<Self> {
        let Data::Map(entries) = &node.data else {
            return None;
        };
        Some(Self {
            reader,
            key: node.key.clone(),
            at: &node.at,
            entries,
            asked: BTreeSet::new(),
        })
    }

    /// The value of `name`, if there is one; `name: null` is as good as none.
    pub fn get(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.asked.insert(name);
        let node = self
            .entries
            .get(name)
            .filter(|node| !matches!(node.data, Data::Null))?;
        Some(Value::new(node, self.reader))
    }

    /// A value that has to be there.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value<'a>) -> Result<T, Reported>,
    ) -> Result<T, Reported> {
        match self.get(name) {
            Some(value) => read(value),
            None => Err(self.missing(name)),
        }
    }

    /// A value that may be there.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value<'a>) -> Result<T, Reported>,
    ) -> Result<Option<T>, Reported> {
        self.get(name).map(read).transpose()
    }

    /// A value, or `default` when it is not there.
    pub fn or<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl FnOnce(Value<'a>) -> Result<T, Reported>,
    ) -> Result<T, Reported> {
        self.get(name).map_or(Ok(default), read)
    }

    /// The mapping under `name`; an empty one when there is none, so that its required keys are missed there.
    pub fn child(&mut self, name: &'static str) -> Result<Section<'a>, Reported> {
        if let Some(value) = self.get(name) {
            return value.section();
        }
        let node = self.entries.get(name);
        Ok(Section {
            reader: self.reader,
            key: node.map_or_else(|| entry_key(&self.key, name), |node| node.key.clone()),
            at: node.map_or(self.at, |node| &node.at),
            entries: &NO_ENTRIES,
            asked: BTreeSet::new(),
        })
    }

    /// All entries, where the keys are the writer's own; those that are `null` are none.
    pub fn into_entries(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.entries
            .iter()
            .filter(|(_, node)| !matches!(node.data, Data::Null))
            .map(move |(name, node)| (name.as_str(), Value::new(node, self.reader)))
    }

    /// The entries among `names`, to be inherited by sections further down.
    pub fn inheritable(&mut self, names: &[&'static str]) -> Map {
        self.asked.extend(names);
        let inherited = self
            .entries
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()));
        inherited
            .map(|(name, node)| (name.clone(), node.clone()))
            .collect()
    }

    /// Reports that `name` is not there.
    pub fn missing(&self, name: &str) -> Reported {
        let node = self.entries.get(name);
        let at = node.map_or(self.at, |node| &node.at);
        let key = entry_key(&self.key, name);
        self.reader
            .report(at, &key, "is required but not given", None)
    }

    /// Reports every key that nobody asked for. Comes last.
    pub fn finish(&self) {
        for (name, node) in self.entries {
            if self.asked.contains(name.as_str()) {
                continue;
            }
            let fix = match closest(name, self.asked.iter().copied()) {
                Some(known) => format!("did you mean {known}?"),
                None => format!(
                    "known here: {}",
                    self.asked.iter().copied().collect::<Vec<_>>().join(", ")
                ),
            };
            self.reader
                .report(&node.key_at, &node.key, "is not a known key", Some(fix));
        }
    }
}
