//! What the repository shows to people loads: the files under `examples/`, with the names of `.env.template`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

use super::super::*;
use super::layer;

const DEFAULT: &str = include_str!("../../../../plugins/login-analytics/config.yaml");

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn examples_load_over_the_default_with_the_names_of_the_template() {
    let names = load_env_file(&repository().join(".env.template")).unwrap();
    // Nothing but passwords is left to fill in.
    let env = |name: &str| {
        let value = names.get(name)?;
        if name.ends_with("_PASSWORD") {
            return Some("hunter2".to_owned());
        }
        assert!(!value.is_empty(), "{name} has no value in .env.template");
        Some(value.clone())
    };
    let mut seen = 0;
    for folder in fs::read_dir(repository().join("examples")).unwrap() {
        for file in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(path.file_name().unwrap(), "login-analytics.yaml");
            let text = fs::read_to_string(&path).unwrap();
            let loaded = load(&[layer("default", DEFAULT), layer("example", &text)], &env)
                .unwrap_or_else(|errors| panic!("{}\n{errors}", path.display()));
            // What the example leaves out stays the plugin's.
            assert!(loaded.config.source.query.is_some());
            assert_eq!(loaded.config.source.connector.shard_names().len(), 2);
            assert_eq!(
                loaded.config.sink.partition_column.as_deref(),
                Some("source_shard")
            );
            seen += 1;
        }
    }
    assert!(seen > 0);
}
