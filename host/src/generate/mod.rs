//! New plugin crates: from a name and a template to a folder that compiles, passes its own tests and runs as it is.
//!
//! The templates are real files in `host/templates`: a folder for each, and `shared` for what all have. In them stand
//!
//! | placeholder | is replaced by | such as |
//! | --- | --- | --- |
//! | `{{name}}` | the name of crate and pipeline | `customer-analytics` |
//! | `{{crate_name}}` | the name as Rust and SQL write it | `customer_analytics` |
//! | `{{type_name}}` | the name as Rust writes a type | `CustomerAnalytics` |
//! | `{{plugin_api}}` | where `etl-plugin-api` comes from | `path = "../plugin-api"` |
//! | `{{folder}}` | the crate's folder, as a quoted text of YAML takes it | `/home/ann/customer-analytics` |
//!
//! A crate is written into a draft beside its place and renamed at the end, so that it appears whole or not at all.
//! Building and installing it is left to [`install`](crate::install).

mod name;
mod plugin_api;
mod sample;
mod template;

use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uuid::Uuid;

pub use self::name::Name;
pub use self::plugin_api::PluginApi;
pub use self::template::Template;
use crate::error::{Error, ErrorKind, Result};
use crate::install::cargo;
use crate::plugin::{Entry, Registry};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The name of crate and pipeline.
    pub name: &'a str,
    /// What it begins with.
    pub template: Template,
    /// The folder in which the crate's own folder is made.
    pub parent: &'a Path,
    /// Where `etl-plugin-api` is to come from: a folder or a version.
    pub plugin_api: Option<&'a str>,
}

/// A crate that was made.
#[derive(Clone, Debug)]
pub struct Generated {
    /// Its name.
    pub name: Name,
    /// Its folder, from the root on.
    pub folder: PathBuf,
    /// Where its `etl-plugin-api` comes from.
    pub plugin_api: PluginApi,
    /// The workspace that it is a member of.
    pub workspace: Option<PathBuf>,
}

/// Something that is in the way of a new crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    message: String,
    fix: String,
}

impl Obstacle {
    fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            fix: fix.into(),
        }
    }
}

impl Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    fix: {}", self.message, self.fix)
    }
}

/// Makes a crate. `plugins` are those that its pipeline will live with, if there are any.
pub fn generate(wanted: &Wanted<'_>, plugins: Option<&Registry>) -> Result<Generated> {
    let (name, mut obstacles) = Name::parse(wanted.name);
    let parent = open_parent(wanted.parent);
    if let Some(name) = &name {
        obstacles.extend(plugins.and_then(|plugins| clash(name, plugins)));
        if let Ok(parent) = &parent {
            obstacles.extend(taken(&parent.join(name.as_str())));
        }
    }
    let plugin_api = match &parent {
        Ok(parent) => plugin_api::choose(wanted.plugin_api, &parent.join(wanted.name)),
        // Where the crate lies makes no difference to whether this is right.
        Err(_) => plugin_api::choose(wanted.plugin_api, wanted.parent),
    };
    match (name, parent, plugin_api) {
        (Some(name), Ok(parent), Ok(plugin_api)) if obstacles.is_empty() => {
            write_crate(name, wanted.template, &parent, plugin_api)
        }
        (_, parent, plugin_api) => {
            let environment = obstacles.is_empty() && parent.is_err();
            obstacles.extend(parent.err());
            obstacles.extend(plugin_api.err());
            Err(refused(wanted.name, environment, &obstacles))
        }
    }
}

fn refused(name: &str, environment: bool, obstacles: &[Obstacle]) -> Error {
    let kind = if environment {
        ErrorKind::Refused
    } else {
        ErrorKind::Config
    };
    let told: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
    let message = format!(
        "no crate was made for `{}`:\n  {}",
        name.escape_debug(),
        told.join("\n  ")
    );
    Error::new(kind, message).hint("put that right and call it again; nothing was written")
}

/// The folder that the crate's own is made in, from the root on: it is written into its configuration.
fn open_parent(parent: &Path) -> Result<PathBuf, Obstacle> {
    let there = parent.canonicalize().map_err(|error| {
        Obstacle::new(
            format!("--path {}: {error}", parent.display()),
            "name a folder that is there; the crate gets a folder of its own in it",
        )
    })?;
    if !there.is_dir() {
        return Err(Obstacle::new(
            format!("--path {}: this is no folder", parent.display()),
            "name the folder in which the crate's own folder is to be made",
        ));
    }
    if there.to_str().is_none() {
        return Err(Obstacle::new(
            format!("--path {}: the path is no UTF-8", parent.display()),
            "choose another folder: a configuration could not name it",
        ));
    }
    Ok(there)
}

fn taken(folder: &Path) -> Option<Obstacle> {
    folder.symlink_metadata().ok()?;
    Some(Obstacle::new(
        format!("{} is there already", folder.display()),
        "choose another --name or --path, or move it away; nothing is overwritten",
    ))
}

/// A pipeline or a library that has the name already: the new one could not be installed beside it.
fn clash(name: &Name, plugins: &Registry) -> Option<Obstacle> {
    let library = format!("lib{}.so", name.crate_name());
    if let Some((entry, plugin, _)) = plugins.find(name.as_str()).first() {
        return Some(Obstacle::new(
            format!(
                "{} supplies a pipeline or plugin `{name}` already",
                entry.path.display()
            ),
            format!(
                "choose another --name, or remove that plugin with `etl-host delete {}`",
                plugin.name
            ),
        ));
    }
    let has_name = |entry: &&Entry| {
        entry
            .path
            .file_name()
            .is_some_and(|it| it == library.as_str())
    };
    let entry = plugins.entries().iter().find(has_name)?;
    Some(Obstacle::new(
        format!(
            "{} has the name that the library would get",
            entry.path.display()
        ),
        "choose another --name, or move that file out of the plugins folder",
    ))
}

fn write_crate(
    name: Name,
    template: Template,
    parent: &Path,
    plugin_api: PluginApi,
) -> Result<Generated> {
    let folder = parent.join(name.as_str());
    let draft = Draft(parent.join(format!(".{name}.{}.new", Uuid::now_v7().simple())));
    let failed = |error: std::io::Error| {
        Error::new(
            ErrorKind::Refused,
            format!("cannot write into {}", parent.display()),
        )
        .hint("choose a folder that you may write to with --path, or make room")
        .caused_by(error)
    };
    for (path, text) in template.files() {
        let path = draft.0.join(path);
        if let Some(holder) = path.parent() {
            fs::create_dir_all(holder).map_err(failed)?;
        }
        fs::write(&path, filled_in(text, &name, &plugin_api, &folder)).map_err(failed)?;
    }
    sample::write(template, &draft.0)?;
    let workspace = match workspace_of(&draft.0) {
        Workspace::Member(root) => Some(root),
        Workspace::Alone => None,
        Workspace::Foreign => {
            let manifest = draft.0.join("Cargo.toml");
            let text = fs::read_to_string(&manifest).map_err(failed)?;
            fs::write(&manifest, text + OWN_WORKSPACE).map_err(failed)?;
            None
        }
    };
    // An empty folder would be replaced by it.
    if let Some(obstacle) = taken(&folder) {
        return Err(refused(name.as_str(), false, &[obstacle]));
    }
    fs::rename(&draft.0, &folder).map_err(failed)?;
    Ok(Generated {
        name,
        folder,
        plugin_api,
        workspace,
    })
}

const OWN_WORKSPACE: &str = "
# A folder above is a workspace that does not have this crate among its members. To make it one, name it there and remove
# this line.
[workspace]
";

fn filled_in(text: &str, name: &Name, plugin_api: &PluginApi, folder: &Path) -> String {
    text.replace("{{name}}", name.as_str())
        .replace("{{crate_name}}", &name.crate_name())
        .replace("{{type_name}}", &name.type_name())
        .replace("{{plugin_api}}", &plugin_api.to_toml())
        .replace("{{folder}}", &within_quotes(folder))
}

/// A path as it stands between the quotes of a text in YAML, where `$` may begin a variable.
fn within_quotes(path: &Path) -> String {
    let quoted = serde_json::Value::from(path.to_string_lossy()).to_string();
    quoted.trim_matches('"').replace('$', "$$")
}

/// What cargo takes a crate for.
enum Workspace {
    /// A member of the workspace with this root.
    Member(PathBuf),
    /// A crate by itself.
    Alone,
    /// A crate below a workspace that does not know it: cargo refuses it.
    Foreign,
}

/// Asks cargo, which alone knows what `members` and `exclude` of a folder above say.
fn workspace_of(folder: &Path) -> Workspace {
    let manifest = folder.join("Cargo.toml");
    let output = Command::new(cargo::program())
        .args(["locate-project", "--workspace", "--message-format", "plain"])
        .arg("--manifest-path")
        .arg(&manifest)
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let root = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
            if root == manifest {
                Workspace::Alone
            } else {
                Workspace::Member(root.parent().map(PathBuf::from).unwrap_or_default())
            }
        }
        Ok(_) => Workspace::Foreign,
        // Without cargo the crate is for another machine.
        Err(_) => Workspace::Alone,
    }
}

/// A folder that is removed unless it was renamed.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // What stays is hidden, and is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(name: &'a str, parent: &'a Path) -> Wanted<'a> {
        Wanted {
            name,
            template: Template::Sql,
            parent,
            plugin_api: Some("1.0"),
        }
    }

    #[test]
    fn a_crate_that_cannot_be_finished_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let name = Name::parse("some-orders").0.unwrap();
        // Whoever makes the folder meanwhile keeps what it holds.
        fs::create_dir(parent.path().join("some-orders")).unwrap();
        let version = plugin_api::choose(Some("1.0"), parent.path()).unwrap();
        let error = write_crate(name, Template::Sql, parent.path(), version).unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let error = generate(
            &Wanted {
                plugin_api: Some("/no/such/folder"),
                ..wanted("Bad_Name", Path::new("/no/such/parent"))
            },
            None,
        )
        .unwrap_err();
        let text = error.to_string();
        for part in ["Bad_Name", "--path", "--plugin-api"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(*error.kind(), ErrorKind::Config);
    }

    #[test]
    fn nothing_of_a_template_stays_unfilled() {
        let parent = tempfile::tempdir().unwrap();
        for (number, template) in Template::ALL.into_iter().enumerate() {
            let name = format!("pipeline-{number}");
            let made = generate(
                &Wanted {
                    template,
                    ..wanted(&name, parent.path())
                },
                None,
            )
            .unwrap();
            for (path, _) in template.files() {
                let text = fs::read_to_string(made.folder.join(path)).unwrap();
                assert!(!text.contains("{{"), "{path}: {text}");
            }
        }
    }

    #[test]
    fn a_path_with_a_dollar_and_quotes_stays_a_path() {
        let path = Path::new("/a \"b\"/${HOME}/c\\d");
        assert_eq!(within_quotes(path), r#"/a \"b\"/$${HOME}/c\\d"#);
    }
}
