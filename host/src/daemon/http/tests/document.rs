//! The description of the API: it is valid, its routes exist, and docs/api.md names them all.

use std::collections::BTreeSet;
use std::process::Command;

use super::*;

/// Method and path of everything that is described.
fn described() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(api::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let methods = |(path, item): (&String, &Value)| {
        let methods = item.as_object().unwrap().keys();
        let all: Vec<_> = methods
            .filter(|key| ["get", "put", "post", "delete"].contains(&key.as_str()))
            .map(|method| (method.to_uppercase(), path.clone()))
            .collect();
        all
    };
    paths.iter().flat_map(methods).collect()
}

#[test]
fn the_document_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    let document = serde_json::to_string(&api::document()).unwrap();
    std::fs::write(&file, document).unwrap();
    let tools = root.join("target/tools/openapi-spec-validator");
    let output = Command::new("python3")
        .args(["-m", "openapi_spec_validator"])
        .arg(&file)
        .env("PYTHONPATH", tools)
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "is openapi-spec-validator there (scripts/setup-dev.sh test)? {said}"
    );
}

#[test]
fn the_page_names_every_route_and_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let page = std::fs::read_to_string(page).unwrap();
    let named: BTreeSet<(String, String)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .filter_map(|(route, _)| route.split_once(' '))
        .map(|(method, path)| (method.to_owned(), path.to_owned()))
        .collect();
    assert_eq!(named, described());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_described_route_is_there() {
    let stage = Stage::open(None).await;
    let client = stage.client().await;
    for (method, path) in described() {
        let concrete = path.replace("{name}", "nope").replace("{id}", "nope");
        let answer = match method.as_str() {
            "GET" if path.ends_with("/events") => {
                client.follow(&concrete).await.map(|_| Value::Null)
            }
            // Not JSON, so the answer is an error of the client's.
            "GET" if path == "/metrics" => continue,
            "GET" => client.get(&concrete).await,
            "PUT" => client.put(&concrete, &json!({})).await,
            "POST" => client.post(&concrete, None).await,
            _ => client.delete(&concrete).await,
        };
        if let Err(failure) = answer {
            let said = text(&failure);
            assert!(!said.contains("no such address"), "{method} {path}");
            assert!(!said.contains("does not take"), "{method} {path}");
        }
    }
}
