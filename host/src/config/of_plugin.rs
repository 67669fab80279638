//! What a plugin may not write into its default configuration: whatever would give it more than the operator has granted.
//!
//! It takes such keys out of the layer and says so; the rest is read like any other layer.

use super::document::{Data, Node};
use super::error::ConfigProblem;
use super::interpolate::interpolate;

/// Takes out of a plugin's own layer what is not for a plugin to decide.
pub(super) fn refuse(root: &mut Node) -> Vec<ConfigProblem> {
    let Data::Map(map) = &mut root.data else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    if let Some(node) = map.remove("capabilities") {
        problems.push(problem(&node, "a plugin cannot grant itself capabilities"));
    }
    let leaves_its_process = map.get("isolation").is_some_and(|node| match &node.data {
        Data::Text(text) => text == "in-process" || text.contains('$'),
        _ => false,
    });
    if leaves_its_process && let Some(node) = map.remove("isolation") {
        problems.push(problem(
            &node,
            "a plugin cannot choose to run inside the host",
        ));
    }
    if let Some(settings) = map.get_mut("settings") {
        refuse_variables(settings, &mut problems);
    }
    if let Some(Data::Map(source)) = map.get_mut("source").map(|node| &mut node.data) {
        if let Some(query) = source.get_mut("query") {
            refuse_variables(query, &mut problems);
        }
        if let Some(Data::List(shards)) = source.get_mut("shards").map(|node| &mut node.data) {
            for shard in shards {
                if let Data::Map(shard) = &mut shard.data
                    && let Some(name) = shard.get_mut("name")
                {
                    refuse_variables(name, &mut problems);
                }
            }
        }
    }
    problems
}

/// The plugin sees these values, so a variable in them would hand it any password of the environment.
fn refuse_variables(node: &mut Node, problems: &mut Vec<ConfigProblem>) {
    match &mut node.data {
        Data::Text(text) => {
            // What cannot be read is told when it is read.
            let has_any =
                interpolate(text, &|_| Some(String::new())).is_ok_and(|done| done.substituted);
            if has_any {
                problems.push(problem(
                    node,
                    "a plugin cannot put environment variables where it sees them",
                ));
                node.data = Data::Null;
            }
        }
        Data::List(items) => {
            for item in items {
                refuse_variables(item, problems);
            }
        }
        Data::Map(map) => {
            for value in map.values_mut() {
                refuse_variables(value, problems);
            }
        }
        Data::Null | Data::Bool(_) | Data::Number(_) => {}
    }
}

fn problem(node: &Node, message: &str) -> ConfigProblem {
    ConfigProblem {
        position: node.key_at.clone(),
        key: node.key.clone(),
        message: message.to_owned(),
        fix: Some("leave it out of the plugin, and write it into PIPELINE.yaml".to_owned()),
    }
}
