//! Any text as a configuration of one or two layers: it is loaded or refused with a reason, and no reason holds what a
//! variable does.
//!
//! The input is text in up to three parts with a form feed, which YAML has no use for, between them: a layer, one over
//! it, and lines `NAME=value` of the environment. Then the same layers are read with a secret in every variable.

#![no_main]

use etl_host::config::{ConfigErrors, Layer, load};
use libfuzzer_sys::fuzz_target;

/// A secret that is text, and one that any number, size or wait would take.
const SECRETS: [&str; 2] = ["correct-horse", "8642097531"];
const NAMES: [&str; 2] = ["base.yaml", "over.yaml"];

fuzz_target!(|input: &[u8]| {
    let input = String::from_utf8_lossy(input);
    let parts: Vec<&str> = input.splitn(3, '\u{c}').collect();
    let layers: Vec<Layer> = parts
        .iter()
        .zip(NAMES)
        .map(|(text, name)| Layer {
            name: name.to_owned(),
            text: (*text).to_owned(),
            of_plugin: false,
        })
        .collect();
    let given = parts.get(2).copied().unwrap_or_default();
    read(&layers, &|name| {
        let mut lines = given.lines().filter_map(|line| line.split_once('='));
        let value = lines.find(|(known, _)| *known == name)?.1;
        Some(value.to_owned())
    });
    for secret in SECRETS {
        // What is written in the files themselves may be told.
        if let Some(errors) = read(&layers, &|_| Some(secret.to_owned()))
            && !input.contains(secret)
        {
            let told = errors.to_string();
            assert!(!told.contains(secret), "a variable's value is told");
        }
    }
});

/// Reads a configuration, and looks whether the answer is one.
fn read(layers: &[Layer], env: &dyn Fn(&str) -> Option<String>) -> Option<ConfigErrors> {
    match load(layers, env) {
        Ok(loaded) => {
            serde_json::to_string(&loaded.config).expect("a configuration is JSON");
            None
        }
        Err(errors) => {
            assert!(!errors.problems().is_empty(), "refused without a problem");
            for problem in errors.problems() {
                let at = &problem.position;
                assert!(!problem.message.is_empty(), "a problem without a message");
                assert!(NAMES.contains(&at.file.as_str()), "a problem of no layer");
                assert!(at.line > 0 && at.column > 0, "a problem nowhere");
            }
            Some(errors)
        }
    }
}
