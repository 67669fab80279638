//! Puts a plugin into the plugins folder: the library of a crate, which is built first, or a library that is there.
//!
//! A library goes through the doors that a dropped file goes through before it has its place, as a draft in the
//! plugins folder that scans pass over: what was looked at is what is installed. The callers check the configuration
//! in between, as it would be. A daemon that runs finds the file by itself.

pub mod cargo;
mod settled;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etl_plugin_api::Manifest;
use uuid::Uuid;

pub use self::settled::{ConfigFile, ConfigState};
use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::plugin::{self, Plugin, gate};
use crate::session::{Found, Session, host_binary};

/// A library that could be installed.
#[derive(Debug)]
pub struct Candidate {
    /// Where it goes.
    pub path: PathBuf,
    /// What it holds.
    pub plugin: Arc<Plugin>,
    /// What has served from that path so far.
    pub before: Option<Arc<Plugin>>,
    /// The configuration of each pipeline, in the plugin's order.
    pub configs: Vec<ConfigFile>,
    draft: Draft,
}

impl Candidate {
    /// Brings a library through the doors. `config_of` gives the file that is to configure a pipeline, if there is one.
    pub fn open(
        session: &Session,
        library: &Path,
        config_of: impl Fn(&Plugin, &Manifest) -> Result<Option<PathBuf>>,
        replace_config: bool,
    ) -> Result<Self> {
        let folder = &session.folders().plugins_dir;
        let file_name = file_name(library)?;
        let path = folder.join(&file_name);
        let draft = Draft::copy(library, folder, &file_name)?;
        let found = plugin::examine_as(&draft.0, &path, &session.state, &host_binary()?)?;
        let plugin = found.map_err(|refused| {
            // Nothing of it is in the plugins folder.
            let fix = if refused.fix == gate::REMOVE {
                "name a library that cargo has built, or the folder of its crate"
            } else {
                &refused.fix
            };
            Error::new(
                ErrorKind::Plugin,
                format!("{} is refused: {}", library.display(), refused.reason),
            )
            .hint(format!("{fix}; nothing was installed"))
        })?;
        let before = session
            .registry
            .entry(&path)
            .and_then(|entry| entry.serving().cloned());
        refuse_clash(session, &path, &plugin, before.as_deref())?;
        let home = session.folders().config_dir.as_ref().unwrap_or(folder);
        let configs: Result<Vec<_>> = plugin
            .pipelines
            .iter()
            .map(|manifest| {
                let source = config_of(&plugin, manifest)?;
                let target = home.join(format!("{}.yaml", manifest.name));
                let before = before.iter().flat_map(|plugin| &plugin.pipelines);
                let as_before = before
                    .filter(|before| before.name == manifest.name)
                    .map(|before| before.default_config.as_str())
                    .next();
                // One beside the library would no longer count.
                let beside = folder.join(format!("{}.yaml", manifest.name));
                let hidden = (beside != target).then_some(beside);
                ConfigFile::settle(source, target, hidden, as_before, replace_config)
            })
            .collect();
        Ok(Self {
            path,
            plugin,
            before,
            configs: configs?,
            draft,
        })
    }

    /// Each pipeline as a session will find it once it is installed.
    pub fn found(&self) -> impl Iterator<Item = (Found, &ConfigFile)> {
        let found = |manifest: &Manifest| Found {
            folder: self.path.parent().map(PathBuf::from).unwrap_or_default(),
            plugin: Arc::clone(&self.plugin),
            manifest: manifest.clone(),
        };
        self.plugin.pipelines.iter().map(found).zip(&self.configs)
    }

    /// Whether this very content is there already.
    pub fn is_there(&self) -> bool {
        self.before
            .as_ref()
            .is_some_and(|before| before.sha256 == self.plugin.sha256)
    }

    /// Gives configurations and library their places. A file is there whole or not at all; the library comes last, since a
    /// daemon takes it up at once.
    pub fn put_in_place(self) -> Result<(), Failure> {
        for config in &self.configs {
            config.write()?;
        }
        let failed = |error: io::Error| {
            Error::new(
                ErrorKind::Refused,
                format!("cannot install {}", self.path.display()),
            )
            .caused_by(error)
        };
        fs::rename(&self.draft.0, &self.path).map_err(failed)?;
        sync_folder(&self.path).map_err(failed)?;
        Ok(())
    }
}

/// Under which name a library is installed.
fn file_name(library: &Path) -> Result<String> {
    let name = library
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if name.starts_with('.') || library.extension().is_none_or(|ending| ending != "so") {
        return Err(Error::config(format!(
            "{} cannot be installed under its name: a plugin's file is named like libmy_plugin.so",
            library.display()
        ))
        .hint("rename it, or name the folder of a crate"));
    }
    Ok(name.to_owned())
}

/// Refuses what would not serve, or would end what does.
fn refuse_clash(
    session: &Session,
    path: &Path,
    plugin: &Plugin,
    before: Option<&Plugin>,
) -> Result<()> {
    for manifest in &plugin.pipelines {
        let name = &manifest.name;
        let owner = session
            .registry
            .entries()
            .iter()
            .filter(|entry| entry.path != path)
            .find_map(|entry| {
                let serving = entry.serving()?;
                let has = serving.pipelines.iter().any(|known| known.name == *name);
                has.then_some((&entry.path, serving))
            });
        if let Some((owner, serving)) = owner {
            return Err(Error::config(format!(
                "{} supplies a pipeline `{name}` already, and two files cannot supply the same one",
                owner.display()
            ))
            .hint(format!(
                "rename the new pipeline, or remove the other file with `etl-host delete {}`; nothing was installed",
                serving.name
            )));
        }
    }
    let Some(before) = before else {
        return Ok(());
    };
    let old = |name: &str| before.pipelines.iter().any(|known| known.name == name);
    if plugin.pipelines.iter().any(|new| old(&new.name)) {
        return Ok(());
    }
    let names: Vec<&str> = before.pipelines.iter().map(|it| it.name.as_str()).collect();
    Err(Error::config(format!(
        "{} is another plugin, with the pipelines {}, and would be lost",
        path.display(),
        names.join(", ")
    ))
    .hint(format!(
        "give the new library another name, or remove that one with `etl-host delete {}`; nothing was installed",
        before.name
    )))
}

/// Makes a file's new name durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// A hidden file that is removed unless it was renamed.
#[derive(Debug)]
struct Draft(PathBuf);

impl Draft {
    fn copy(from: &Path, folder: &Path, name: &str) -> Result<Self> {
        let draft = Self(folder.join(format!(".{name}.{}.new", Uuid::now_v7().simple())));
        let copied = fs::copy(from, &draft.0).and_then(|_| File::open(&draft.0)?.sync_all());
        copied.map_err(|error| {
            Error::new(
                ErrorKind::Refused,
                format!("cannot copy {} into {}", from.display(), folder.display()),
            )
            .caused_by(error)
        })?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What stays is hidden, so nothing takes it for a plugin.
        let _ = fs::remove_file(&self.0);
    }
}
