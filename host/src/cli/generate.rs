//! `etl-host generate`: a new plugin crate.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Failure, Globals, Output, print, print_json};
use crate::generate::{self, Generated, PluginApi, Template, Wanted};
use crate::session::Session;

/// Flags of `generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// The name of crate and pipeline: lower-case letters, digits and dashes, such as customer-analytics
    #[arg(long)]
    name: String,
    /// What the crate begins with
    #[arg(long, value_enum, default_value_t = Template::Sql)]
    template: Template,
    /// The folder in which the crate gets a folder of its own
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// The folder of etl-plugin-api, or a version of it [default: the sources of this host, or its version]
    #[arg(long, value_name = "DIR|VERSION")]
    plugin_api: Option<String>,
}

/// Makes a crate, and says what comes next.
pub fn generate(globals: &Globals, command: &Generate) -> Result<u8, Failure> {
    // In an empty folder there is nothing that could clash, and nothing else to leave behind.
    let session = globals
        .plugins_dir
        .is_dir()
        .then(|| Session::open(&globals.folders()))
        .transpose()?;
    let made = generate::generate(
        &Wanted {
            name: &command.name,
            template: command.template,
            parent: &command.path,
            plugin_api: command.plugin_api.as_deref(),
        },
        session.as_ref().map(|session| &*session.registry),
    )?;
    let place = place(&command.path, &made);
    let next = next(&place, &made);
    if globals.output == Output::Json {
        print_json(&json!({
            "name": made.name.as_str(),
            "template": command.template.word(),
            "folder": made.folder,
            "plugin_api": plugin_api_to_json(&made.plugin_api),
            "workspace": made.workspace,
            "next": next,
        }))?;
    } else {
        print(&to_text(command.template, &place, &made, &next));
    }
    Ok(0)
}

/// The crate's folder as the user would name it.
fn place(parent: &Path, made: &Generated) -> PathBuf {
    let relative = parent.strip_prefix(".").unwrap_or(parent);
    relative.join(made.name.as_str())
}

fn next(place: &Path, made: &Generated) -> [String; 3] {
    let place = quoted(&place.display().to_string());
    [
        format!(
            "cargo test --manifest-path {}",
            quoted_below(&place, "Cargo.toml")
        ),
        format!("etl-host install {place}"),
        format!("etl-host run {}", made.name),
    ]
}

/// As a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+@:".contains(letter);
    if path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

fn quoted_below(folder: &str, file: &str) -> String {
    match folder.strip_suffix('\'') {
        Some(open) => format!("{open}/{file}'"),
        None => format!("{folder}/{file}"),
    }
}

fn plugin_api_to_json(plugin_api: &PluginApi) -> serde_json::Value {
    match plugin_api {
        PluginApi::Folder { path, .. } => json!({ "path": path, "version": null }),
        PluginApi::Version { version, .. } => json!({ "path": null, "version": version }),
    }
}

fn to_text(template: Template, place: &Path, made: &Generated, next: &[String]) -> String {
    let mut text = format!(
        "{}: a new crate in {}, from the template {}\n",
        made.name,
        place.display(),
        template.word()
    );
    let plugin_api = match &made.plugin_api {
        PluginApi::Folder { path, own: true } => format!("{path} (where this host was built)"),
        PluginApi::Folder { path, own: false } => path.clone(),
        PluginApi::Version {
            version,
            own: false,
        } => format!("version {version}, from a registry"),
        PluginApi::Version { version, own: true } => format!(
            "version {version}, from a registry: the sources that this host was built from are not here.\n    \
             To take it from a folder, say --plugin-api DIR"
        ),
    };
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "  etl-plugin-api: {plugin_api}");
    if let Some(workspace) = &made.workspace {
        let _ = writeln!(text, "  a member of the workspace {}", workspace.display());
    }
    text.push_str("\nNext:\n");
    for command in next {
        let _ = writeln!(text, "  {command}");
    }
    text
}
