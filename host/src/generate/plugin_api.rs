//! Where a new crate takes `etl-plugin-api` from: a folder that was named, the sources of this host, or a registry.

use std::fs;
use std::path::{Component, Path, PathBuf};

use etl_plugin_api::abi::ABI_VERSION;

use super::Obstacle;

const PACKAGE: &str = "etl-plugin-api";

/// Where `etl-plugin-api` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginApi {
    /// A folder.
    Folder {
        /// As `Cargo.toml` writes it: relative to the crate if both lie in one tree of sources.
        path: String,
        /// Nobody named it: it is where this host was built.
        own: bool,
    },
    /// A registry.
    Version {
        /// The version that is wanted.
        version: String,
        /// Nobody named it: it is the one that this host was built with.
        own: bool,
    },
}

impl PluginApi {
    /// As it stands in a dependency's braces.
    pub fn to_toml(&self) -> String {
        let (key, value) = match self {
            Self::Folder { path, .. } => ("path", path),
            Self::Version { version, .. } => ("version", version),
        };
        // A text of JSON is one of TOML.
        format!("{key} = {}", serde_json::Value::from(value.as_str()))
    }
}

/// Decides for a crate in this folder.
pub(super) fn choose(named: Option<&str>, crate_folder: &Path) -> Result<PluginApi, Obstacle> {
    let Some(named) = named else {
        return Ok(own(crate_folder));
    };
    let is_version = named.starts_with(|first: char| first.is_ascii_digit())
        && named
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '+'));
    if is_version {
        return Ok(PluginApi::Version {
            version: named.to_owned(),
            own: false,
        });
    }
    let folder = Path::new(named).canonicalize().map_err(|error| {
        Obstacle::new(
            format!("--plugin-api {named}: {error}"),
            format!("name the folder of {PACKAGE}, or a version of it such as {ABI_VERSION}"),
        )
    })?;
    if package(&folder).is_none() {
        let within = folder.join("plugin-api");
        let fix = if package(&within).is_some() {
            format!("--plugin-api {}", within.display())
        } else {
            format!("name the folder whose Cargo.toml says `name = \"{PACKAGE}\"`, or a version")
        };
        return Err(Obstacle::new(
            format!("--plugin-api {named}: there is no package {PACKAGE}"),
            fix,
        ));
    }
    Ok(PluginApi::Folder {
        path: written(&folder, crate_folder),
        own: false,
    })
}

/// The sources that this host was built from, if they are still there and the same; else its version.
fn own(crate_folder: &Path) -> PluginApi {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-api");
    match folder.canonicalize() {
        Ok(folder) if package(&folder).as_deref() == Some(ABI_VERSION) => PluginApi::Folder {
            path: written(&folder, crate_folder),
            own: true,
        },
        _ => PluginApi::Version {
            version: ABI_VERSION.to_owned(),
            own: true,
        },
    }
}

/// The version of the package in this folder; `None` if it is another one. The version may be empty: it need not stand there.
fn package(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
    let value = |key: &str| {
        let mut lines = text.lines().skip_while(|line| line.trim() != "[package]");
        let of_package = lines
            .by_ref()
            .skip(1)
            .take_while(|line| !line.starts_with('['));
        let mut values = of_package.filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
        });
        values.next()
    };
    (value("name")? == PACKAGE).then(|| value("version").unwrap_or_default())
}

/// The path as `Cargo.toml` says it: relative within the tree of sources that holds both, so that the tree may move.
fn written(folder: &Path, crate_folder: &Path) -> String {
    let tree = folder.parent().unwrap_or(folder);
    let Ok(below) = crate_folder.strip_prefix(tree) else {
        return folder.to_string_lossy().into_owned();
    };
    let up = below
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .map(|_| Component::ParentDir);
    let mut path: PathBuf = up.collect();
    path.extend(folder.file_name());
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(chosen: PluginApi) -> String {
        match chosen {
            PluginApi::Folder { path, .. } => path,
            PluginApi::Version { version, .. } => panic!("version {version}"),
        }
    }

    #[test]
    fn the_sources_of_this_host_are_near_or_far() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .canonicalize()
            .unwrap();
        let within = choose(None, &tree.join("plugins/orders")).unwrap();
        assert_eq!(within.to_toml(), r#"path = "../../plugin-api""#);
        let outside = path_of(choose(None, Path::new("/somewhere/orders")).unwrap());
        assert_eq!(outside, tree.join("plugin-api").to_str().unwrap());
    }

    #[test]
    fn a_version_is_told_from_a_folder() {
        let chosen = choose(Some("1.2.0"), Path::new("/orders")).unwrap();
        assert_eq!(chosen.to_toml(), r#"version = "1.2.0""#);
        let host = env!("CARGO_MANIFEST_DIR");
        let message = choose(Some(host), Path::new("/orders"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("no package etl-plugin-api"), "{message}");
        let tree = Path::new(host).join("..");
        let message = choose(tree.to_str(), Path::new("/orders"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("/plugin-api"), "{message}");
    }

    #[test]
    fn the_package_is_read_from_its_own_section() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        let write = |text: &str| fs::write(&manifest, text).unwrap();
        write(
            "[workspace.package]\nversion = \"9\"\n[package]\nname = \"etl-plugin-api\"\nversion = \"1.4.0\"\n",
        );
        assert_eq!(package(folder.path()).as_deref(), Some("1.4.0"));
        write("[package]\nname = \"other\"\n[dependencies]\nname = \"etl-plugin-api\"\n");
        assert_eq!(package(folder.path()), None);
        write("[package]\nversion.workspace = true\nname = \"etl-plugin-api\"\n");
        assert_eq!(package(folder.path()).as_deref(), Some(""));
    }
}
