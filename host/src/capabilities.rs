//! What a plugin may reach beyond its batches: what its manifest asks for and the configuration grants. Pure.
//!
//! The one place where the two meet. How the grants are read is in [`config`](crate::config); that a plugin reaches
//! nothing else is for the fence around its process.

mod redactor;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Component, Path, PathBuf};

use etl_plugin_api::Capabilities;
use serde_json::Value;

pub use self::redactor::Redactor;
use crate::config::{Grants, Secret, is_host};

/// Begins a path of a manifest that stands for what a setting holds.
const SETTINGS: &str = "settings.";

/// What a plugin asks for and is granted.
#[derive(Clone, Debug, Default)]
pub struct Granted {
    /// Network hosts, `name:port`.
    pub hosts: Vec<String>,
    /// Files and folders that may be read, absolute.
    pub paths: Vec<PathBuf>,
    /// Folders in which files may be written, absolute. They are what the configuration grants: a file that is yet to be
    /// made could not be granted by itself.
    pub writable: Vec<PathBuf>,
    /// Secrets by their names.
    pub secrets: BTreeMap<String, Secret>,
}

/// Something that a plugin asks for and does not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotGranted {
    /// What it is.
    pub kind: Kind,
    /// What is missing.
    pub message: String,
    /// What grants it, as YAML; `None` if nothing does.
    pub entry: Option<String>,
}

/// The kinds of capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A network host.
    Host,
    /// A file or folder that is read.
    Path,
    /// A file or folder that is written.
    Writable,
    /// A secret.
    Secret,
}

impl Kind {
    /// The key of the configuration that grants it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Host => "capabilities.hosts",
            Self::Path => "capabilities.paths",
            Self::Writable => "capabilities.writable",
            Self::Secret => "capabilities.secrets",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Path => "path",
            Self::Writable => "writable path",
            Self::Secret => "secret",
        }
    }
}

/// The line of YAML that grants all that is missing and can be granted.
pub fn line(missing: &[NotGranted]) -> Option<String> {
    let entries = |kind: Kind| -> Option<String> {
        let entries: Vec<&str> = missing
            .iter()
            .filter(|one| one.kind == kind)
            .filter_map(|one| one.entry.as_deref())
            .collect();
        (!entries.is_empty()).then(|| entries.join(", "))
    };
    let hosts = entries(Kind::Host).map(|hosts| format!("hosts: [{hosts}]"));
    let paths = entries(Kind::Path).map(|paths| format!("paths: [{paths}]"));
    let secrets = entries(Kind::Secret).map(|secrets| format!("secrets: {{ {secrets} }}"));
    let writable = entries(Kind::Writable).map(|paths| format!("writable: [{paths}]"));
    let keys: Vec<String> = hosts
        .into_iter()
        .chain(paths)
        .chain(writable)
        .chain(secrets)
        .collect();
    (!keys.is_empty()).then(|| format!("capabilities: {{ {} }}", keys.join(", ")))
}

/// What a plugin asks for and is granted, and nothing else; or all that it asks for and is not granted. Relative paths
/// start at `working_dir`.
pub fn grant(
    asked: &Capabilities,
    grants: &Grants,
    settings: &Value,
    working_dir: &Path,
) -> Result<Granted, Vec<NotGranted>> {
    let mut granted = Granted::default();
    let mut missing = Vec::new();
    for host in &asked.hosts {
        if !is_host(host) {
            missing.push(NotGranted {
                kind: Kind::Host,
                message: format!(
                    "the plugin asks for the host {host:?}, which is not written as name:port; its manifest is wrong"
                ),
                entry: None,
            });
        } else if grants.hosts.iter().any(|known| same_host(known, host)) {
            granted.hosts.push(host.clone());
        } else {
            missing.push(not_granted(Kind::Host, host, quoted(host)));
        }
    }
    for Wanted { path, told } in asked_paths(&asked.paths, settings) {
        match covering(path, &grants.paths, working_dir) {
            Some((wanted, Some(_))) => granted.paths.push(wanted),
            Some((_, None)) => {
                missing.push(not_granted(Kind::Path, &told, quoted(&path.display())));
            }
            None => missing.push(never_granted(Kind::Path, &told)),
        }
    }
    for Wanted { path, told } in asked_paths(&asked.writable, settings) {
        match covering(path, &grants.writable, working_dir) {
            Some((_, Some(folder))) => granted.writable.push(folder),
            Some((_, None)) => {
                let folder = path.parent().unwrap_or(path);
                let entry = quoted(&folder.display());
                missing.push(not_granted(Kind::Writable, &told, entry));
            }
            None => missing.push(never_granted(Kind::Writable, &told)),
        }
    }
    for name in &asked.secrets {
        if let Some(secret) = grants.secrets.get(name) {
            granted.secrets.insert(name.clone(), secret.clone());
        } else {
            let entry = format!("{}: {}", quoted(name), quoted(&variable(name)));
            missing.push(not_granted(Kind::Secret, name, entry));
        }
    }
    if missing.is_empty() {
        Ok(granted)
    } else {
        Err(missing)
    }
}

/// The settings as the plugin gets them: with the paths that its manifest names made absolute, since a worker process has a
/// working directory of its own.
pub fn with_absolute_paths(asked: &Capabilities, mut settings: Value, working_dir: &Path) -> Value {
    for entry in asked.paths.iter().chain(&asked.writable) {
        let Some(keys) = entry.strip_prefix(SETTINGS) else {
            continue;
        };
        let held = keys
            .split('.')
            .try_fold(&mut settings, |value, key| value.get_mut(key));
        if let Some(Value::String(path)) = held
            && !path.is_empty()
            && let Some(whole) = absolute(Path::new(path), working_dir)
            && let Some(whole) = whole.to_str()
        {
            whole.clone_into(path);
        }
    }
    settings
}

/// What is granted although the plugin does not ask for it, each by its key and name.
pub fn unasked(
    asked: &Capabilities,
    grants: &Grants,
    settings: &Value,
    working_dir: &Path,
) -> Vec<String> {
    let hosts = grants
        .hosts
        .iter()
        .filter(|host| !asked.hosts.iter().any(|wanted| same_host(wanted, host)))
        .map(|host| format!("capabilities.hosts: {host}"));
    let unasked = |kind: Kind, asked: &[String], granted: &[PathBuf]| -> Vec<String> {
        let wanted: Vec<PathBuf> = asked_paths(asked, settings)
            .into_iter()
            .filter_map(|wanted| absolute(wanted.path, working_dir))
            .collect();
        granted
            .iter()
            .filter(|path| {
                let allowed = absolute(path, working_dir);
                !allowed.is_some_and(|allowed| wanted.iter().any(|path| path.starts_with(&allowed)))
            })
            .map(|path| format!("{}: {}", kind.key(), path.display()))
            .collect()
    };
    let paths = unasked(Kind::Path, &asked.paths, &grants.paths);
    let writable = unasked(Kind::Writable, &asked.writable, &grants.writable);
    let secrets = grants
        .secrets
        .keys()
        .filter(|name| !asked.secrets.contains(name))
        .map(|name| format!("capabilities.secrets: {name}"));
    hosts.chain(paths).chain(writable).chain(secrets).collect()
}

/// A path that a manifest asks for.
struct Wanted<'a> {
    path: &'a Path,
    /// The path with the setting that it comes from.
    told: String,
}

/// The paths that a manifest asks for. A setting that is not set, or holds no path, asks for nothing: whether it must be
/// there is for the plugin to say.
fn asked_paths<'a>(asked: &'a [String], settings: &'a Value) -> Vec<Wanted<'a>> {
    asked
        .iter()
        .filter_map(|entry| {
            let setting = entry.strip_prefix(SETTINGS);
            let path = match setting {
                Some(keys) => keys
                    .split('.')
                    .try_fold(settings, |value, key| value.get(key))?
                    .as_str()?,
                None => entry,
            };
            let told = setting.map_or_else(|| path.to_owned(), |_| format!("{path} ({entry})"));
            let path = Path::new(path);
            (!path.as_os_str().is_empty()).then_some(Wanted { path, told })
        })
        .collect()
}

/// The path from the root on, and the granted one that covers it, if any. `None` for a path that is never granted.
fn covering(
    path: &Path,
    granted: &[PathBuf],
    working_dir: &Path,
) -> Option<(PathBuf, Option<PathBuf>)> {
    let wanted = absolute(path, working_dir)?;
    let folder = granted
        .iter()
        .filter_map(|allowed| absolute(allowed, working_dir))
        .find(|allowed| wanted.starts_with(allowed));
    Some((wanted, folder))
}

fn never_granted(kind: Kind, told: &str) -> NotGranted {
    NotGranted {
        kind,
        message: format!(
            "the plugin asks for the {} {told}, and a path with `..` is never granted",
            kind.word()
        ),
        entry: None,
    }
}

/// The path from the root on; `None` with `..`, since where that leads depends on links.
fn absolute(path: &Path, working_dir: &Path) -> Option<PathBuf> {
    let whole = working_dir.join(path);
    let plain = |part: &Component<'_>| *part != Component::ParentDir;
    // Collecting leaves out `.` and double slashes.
    path.components()
        .all(|part| plain(&part))
        .then(|| whole.components().collect())
}

/// Names of hosts are the same in capital letters.
fn same_host(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn not_granted(kind: Kind, what: &str, entry: String) -> NotGranted {
    NotGranted {
        kind,
        message: format!(
            "the plugin asks for the {} {what}, which is not granted",
            kind.word()
        ),
        entry: Some(entry),
    }
}

/// As YAML takes it, also within `{ }` and `[ ]`.
fn quoted(text: &impl Display) -> String {
    Value::from(text.to_string()).to_string()
}

/// The variable that a secret would come from: `api-token` -> `${API_TOKEN}`.
fn variable(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|letter| match letter {
            letter if letter.is_ascii_alphanumeric() => letter.to_ascii_uppercase(),
            _ => '_',
        })
        .collect();
    format!("${{{name}}}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(hosts: &[&str], paths: &[&str], secrets: &[&str]) -> Capabilities {
        let mut asked = Capabilities::none();
        let all = [
            (&mut asked.hosts, hosts),
            (&mut asked.paths, paths),
            (&mut asked.secrets, secrets),
        ];
        for (names, wanted) in all {
            names.extend(wanted.iter().map(ToString::to_string));
        }
        asked
    }

    fn grants(hosts: &[&str], paths: &[&str], secrets: &[&str]) -> Grants {
        Grants {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            paths: paths.iter().map(PathBuf::from).collect(),
            writable: Vec::new(),
            secrets: secrets
                .iter()
                .map(|name| ((*name).to_owned(), Secret::new(format!("value of {name}"))))
                .collect(),
        }
    }

    #[test]
    fn a_file_that_is_written_needs_a_granted_folder_and_gets_that() {
        let asked = Capabilities::none().writable("settings.file");
        let granting = |folder: &str| Grants {
            writable: vec![folder.into()],
            ..Grants::default()
        };
        let settings = serde_json::json!({ "file": "out/ids.txt" });
        let granted = decide(&asked, &granting("out"), &settings).unwrap();
        assert_eq!(granted.writable, [PathBuf::from("/opt/etl/out")]);
        assert!(granted.paths.is_empty());
        let missing = decide(&asked, &granting("out2"), &settings).unwrap_err();
        assert_eq!(
            line(&missing).unwrap(),
            r#"capabilities: { writable: ["out"] }"#
        );
        let unasked = unasked(&asked, &granting("other"), &settings, Path::new("/opt/etl"));
        assert_eq!(unasked, ["capabilities.writable: other"]);
    }

    fn decide(
        asked: &Capabilities,
        grants: &Grants,
        settings: &Value,
    ) -> Result<Granted, Vec<NotGranted>> {
        grant(asked, grants, settings, Path::new("/opt/etl"))
    }

    /// Whether a path that a setting holds is granted by this grant.
    fn lets(granted: &str, wanted: &str) -> bool {
        let asked = asked(&[], &["settings.file"], &[]);
        decide(
            &asked,
            &grants(&[], &[granted], &[]),
            &json!({ "file": wanted }),
        )
        .is_ok()
    }

    #[test]
    fn what_is_asked_for_and_granted_is_given_and_nothing_else() {
        let asked = asked(
            &["API.example.com:443"],
            &[
                "settings.geo.file",
                "settings.none",
                "data",
                "settings.empty",
                "settings.number",
            ],
            &["token"],
        );
        let grants = grants(
            &["other.example.com:443", "api.example.com:443"],
            &["/srv/geo", "./data", "/etc"],
            &["token", "other"],
        );
        let settings =
            json!({ "geo": { "file": "/srv/./geo//city.mmdb" }, "empty": "", "number": 7 });
        let granted = decide(&asked, &grants, &settings).unwrap();
        assert_eq!(granted.hosts, ["API.example.com:443"]);
        assert_eq!(
            granted.paths,
            [Path::new("/srv/geo/city.mmdb"), Path::new("/opt/etl/data")]
        );
        assert_eq!(granted.secrets["token"].expose(), "value of token");
        assert_eq!(granted.secrets.len(), 1);
        assert_eq!(
            unasked(&asked, &grants, &settings, Path::new("/opt/etl")),
            [
                "capabilities.hosts: other.example.com:443",
                "capabilities.paths: /etc",
                "capabilities.secrets: other"
            ]
        );
    }

    #[test]
    fn everything_that_is_missing_is_told_with_its_line() {
        let asked = asked(
            &["a.example.com:443", "a.example.com"],
            &["/srv/geo", "settings.file", "settings.up"],
            &["api-token"],
        );
        let grants = grants(&["a.example.com:80"], &["/srv/geo/city.mmdb"], &[]);
        let settings = json!({ "file": "data/it's \"x\"", "up": "/srv/../etc" });
        let missing = decide(&asked, &grants, &settings).unwrap_err();
        let told: Vec<_> = missing
            .iter()
            .map(|one| format!("{}: {}", one.kind.key(), one.message))
            .collect();
        expect_test::expect![[r#"
            capabilities.hosts: the plugin asks for the host a.example.com:443, which is not granted
            capabilities.hosts: the plugin asks for the host "a.example.com", which is not written as name:port; its manifest is wrong
            capabilities.paths: the plugin asks for the path /srv/geo, which is not granted
            capabilities.paths: the plugin asks for the path data/it's "x" (settings.file), which is not granted
            capabilities.paths: the plugin asks for the path /srv/../etc (settings.up), and a path with `..` is never granted
            capabilities.secrets: the plugin asks for the secret api-token, which is not granted"#]].assert_eq(&told.join("\n"));
        expect_test::expect![[r#"capabilities: { hosts: ["a.example.com:443"], paths: ["/srv/geo", "data/it's \"x\""], secrets: { "api-token": "${API_TOKEN}" } }"#]].assert_eq(&line(&missing).unwrap());
    }

    #[test]
    fn the_line_grants_what_was_missing() {
        let asked = asked(&["a:1", "b:2"], &["data"], &["api-token"]);
        let missing = decide(&asked, &Grants::default(), &json!({})).unwrap_err();
        let text = format!(
            "name: p\nsource: {{ type: sqlite, shards: [{{ path: a }}] }}\nsink: {{ type: sqlite, path: b, table: t }}\n{}",
            line(&missing).unwrap()
        );
        let layer = crate::config::Layer {
            name: "p.yaml".to_owned(),
            text,
            of_plugin: false,
        };
        let env = |name: &str| (name == "API_TOKEN").then(|| "open sesame".to_owned());
        let config = crate::config::load(&[layer], &env).unwrap().config;
        assert!(decide(&asked, &config.capabilities, &json!({})).is_ok());
        assert_eq!(line(&[]), None);
    }

    #[test]
    fn paths_in_settings_are_absolute_for_the_plugin() {
        let asked = asked(
            &[],
            &[
                "settings.file",
                "settings.deep.file",
                "settings.none",
                "settings.empty",
                "data",
            ],
            &[],
        );
        let settings = json!({
            "file": "./a//b", "deep": { "file": "/x/./y", "other": "c" }, "empty": "", "other": "c", "none": 7
        });
        assert_eq!(
            with_absolute_paths(&asked, settings, Path::new("/opt/etl")),
            json!({
                "file": "/opt/etl/a/b", "deep": { "file": "/x/y", "other": "c" }, "empty": "", "other": "c", "none": 7
            })
        );
    }

    #[test]
    fn a_path_is_granted_by_itself_and_by_a_folder_above_it() {
        for (granted, wanted) in [
            ("/srv/geo", "/srv/geo"),
            ("/srv/geo/", "/srv/geo/deep/city.mmdb"),
            ("/", "/srv"),
            ("data", "/opt/etl/data/x"),
            ("/opt/etl/data", "./data/x"),
            (".", "x"),
        ] {
            assert!(lets(granted, wanted), "{granted} {wanted}");
        }
        for (granted, wanted) in [
            ("/srv/geo", "/srv/geo2"),
            ("/srv/geo", "/srv/geo2/city.mmdb"),
            ("/srv/geo", "/srv"),
            ("/srv/geo", "/srv/geo/../secret"),
            ("/srv/geo", "srv/geo"),
            ("srv/geo", "/srv/geo"),
            ("/srv/Geo", "/srv/geo"),
            (".", ".."),
        ] {
            assert!(!lets(granted, wanted), "{granted} {wanted}");
        }
    }
}
