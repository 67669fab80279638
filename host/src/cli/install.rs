//! `etl-host install`: a plugin into the plugins folder, with its configuration.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use etl_plugin_api::Manifest;
use serde_json::json;

use super::{Failure, Globals, Output, build_runtime, print, print_json, validate};
use crate::config::ConfigErrors;
use crate::daemon::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::install::cargo::{Package, Profile};
use crate::install::{Candidate, ConfigFile, ConfigState};
use crate::plugin::Plugin;
use crate::session::{PlannedFile, Session};

/// Flags of `install`.
#[derive(Debug, Args)]
pub struct Install {
    /// The folder of a plugin's crate, or a library that is built already
    #[arg(value_name = "CRATE|FILE.so")]
    plugin: PathBuf,
    /// Build the crate unoptimised: built sooner, runs slower
    #[arg(long)]
    debug: bool,
    /// Put the crate's config.yaml in the place of a configuration that is there
    #[arg(long)]
    replace_config: bool,
}

/// Builds, checks, and puts library and configuration in their places.
pub fn install(globals: &Globals, command: &Install) -> Result<u8, Failure> {
    let library = build(command)?;
    let made = fs::create_dir_all(&globals.plugins_dir);
    made.map_err(|error| {
        Error::new(
            ErrorKind::Refused,
            format!(
                "cannot make the plugins folder {}",
                globals.plugins_dir.display()
            ),
        )
        .hint("name another one with --plugins-dir or ETL_PLUGINS_DIR")
        .caused_by(error)
    })?;
    let session = Session::open(&globals.folders())?;
    let config_of = |plugin: &Plugin, manifest: &Manifest| config_of(command, plugin, manifest);
    let candidate = Candidate::open(&session, &library, config_of, command.replace_config)?;
    check_configs(globals, &session, &candidate)?;
    let told = Told::of(&candidate);
    candidate.put_in_place()?;
    // That nobody can be asked is no reason to call the installation failed.
    let follows = build_runtime()?
        .block_on(Client::open(&globals.state_dir))
        .ok()
        .flatten()
        .is_some();
    if globals.output == Output::Json {
        print_json(&told.to_json(follows))?;
    } else {
        print(&told.to_text(follows));
    }
    Ok(0)
}

/// Checks the configuration of every pipeline as it will be.
fn check_configs(
    globals: &Globals,
    session: &Session,
    candidate: &Candidate,
) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for (found, config) in candidate.found() {
        let planned = config.planned().map(|(source, text)| PlannedFile {
            path: &config.path,
            source,
            text,
        });
        let checked = session
            .load_config_with(&found, planned.as_ref())
            .and_then(|loaded| validate::check_with(&found, loaded));
        let Err(failure) = checked else {
            continue;
        };
        if globals.output == Output::Text {
            eprintln!("{}", not_installed(&found.manifest.name, config));
        }
        match failure {
            Failure::Config(errors) => problems.extend_from_slice(errors.problems()),
            failure @ Failure::Host(_) => return Err(failure),
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ConfigErrors::from(problems).into())
}

/// The library: the crate's, fresh, or the one that was named.
fn build(command: &Install) -> Result<PathBuf> {
    let path = &command.plugin;
    let kind = fs::metadata(path).map_err(|error| {
        Error::new(
            ErrorKind::Refused,
            format!("cannot read {}", path.display()),
        )
        .hint("name the folder of a plugin's crate, or a built library (.so)")
        .caused_by(error)
    })?;
    if !kind.is_dir() {
        return Ok(path.clone());
    }
    let profile = if command.debug {
        Profile::Dev
    } else {
        Profile::Release
    };
    Package::open(path)?.build(profile)
}

/// The file that is to configure a pipeline: beside a library `PIPELINE.yaml`; in a crate that too, or `config.yaml` if it is
/// this pipeline's.
fn config_of(command: &Install, plugin: &Plugin, manifest: &Manifest) -> Result<Option<PathBuf>> {
    let by_name = format!("{}.yaml", manifest.name);
    if !command.plugin.is_dir() {
        let beside = command.plugin.with_file_name(by_name);
        return Ok(beside.is_file().then_some(beside));
    }
    let [by_name, config] = [by_name.as_str(), "config.yaml"].map(|it| command.plugin.join(it));
    if by_name.is_file() {
        return Ok(Some(by_name));
    }
    if !config.is_file() {
        return Ok(None);
    }
    if plugin.pipelines.len() == 1 {
        return Ok(Some(config));
    }
    let text = fs::read_to_string(&config).map_err(|error| {
        Error::new(
            ErrorKind::Refused,
            format!("cannot read {}", config.display()),
        )
        .caused_by(error)
    })?;
    Ok((named(&text) == Some(manifest.name.as_str())).then_some(config))
}

/// The pipeline that a configuration names at its top level.
fn named(yaml: &str) -> Option<&str> {
    let value = yaml.lines().find_map(|line| line.strip_prefix("name:"))?;
    let value = value.split(" #").next().unwrap_or(value);
    Some(value.trim().trim_matches(['"', '\'']))
}

fn not_installed(pipeline: &str, config: &ConfigFile) -> String {
    let fix = match (config.state, &config.source) {
        (ConfigState::Kept, Some(source)) => format!(
            "correct {}, or take {} in its place with --replace-config",
            config.path.display(),
            source.display()
        ),
        (_, Some(source)) => format!("correct {}", source.display()),
        (_, None) => format!("write what is missing into {}", config.path.display()),
    };
    format!("{pipeline}: nothing was installed, since its configuration would have mistakes; {fix}")
}

/// What is told of an installation.
struct Told {
    library: PathBuf,
    plugin: String,
    sha256: String,
    state: &'static str,
    pipelines: Vec<ToldPipeline>,
    /// Pipelines that the version before had.
    gone: Vec<String>,
}

struct ToldPipeline {
    name: String,
    version: String,
    before: Option<String>,
    config: ConfigFile,
}

impl Told {
    fn of(candidate: &Candidate) -> Self {
        let plugin = &candidate.plugin;
        let before = candidate.before.as_deref();
        let old = |name: &str| {
            let mut all = before.into_iter().flat_map(|plugin| &plugin.pipelines);
            all.find(|manifest| manifest.name == name)
        };
        let gone = before.into_iter().flat_map(|plugin| &plugin.pipelines);
        let is_gone = |name: &str| !plugin.pipelines.iter().any(|new| new.name == name);
        Self {
            library: candidate.path.clone(),
            plugin: plugin.name.clone(),
            sha256: plugin.sha256.clone(),
            state: match before {
                None => "new",
                Some(_) if candidate.is_there() => "unchanged",
                Some(_) => "updated",
            },
            pipelines: candidate
                .found()
                .map(|(found, config)| ToldPipeline {
                    before: old(&found.manifest.name).map(|old| old.version.clone()),
                    name: found.manifest.name,
                    version: found.manifest.version,
                    config: config.clone(),
                })
                .collect(),
            gone: gone
                .map(|manifest| manifest.name.clone())
                .filter(|name| is_gone(name))
                .collect(),
        }
    }

    fn to_json(&self, follows: bool) -> serde_json::Value {
        let pipelines: Vec<_> = self
            .pipelines
            .iter()
            .map(|pipeline| {
                json!({
                    "name": pipeline.name,
                    "version": pipeline.version,
                    "previous_version": pipeline.before,
                    "config": pipeline.config.path,
                    "config_source": pipeline.config.source,
                    "config_state": pipeline.config.state,
                })
            })
            .collect();
        json!({
            "plugin": self.plugin,
            "library": self.library,
            "sha256": self.sha256,
            "state": self.state,
            "pipelines": pipelines,
            "removed_pipelines": self.gone,
            "daemon": follows,
        })
    }

    fn to_text(&self, follows: bool) -> String {
        let mut text = String::new();
        for pipeline in &self.pipelines {
            let ToldPipeline { name, version, .. } = pipeline;
            let what = match (&pipeline.before, self.state) {
                (_, "unchanged") => format!("{version} is installed already"),
                (None, _) => format!("{version} installed"),
                (Some(before), _) if before == version => {
                    format!("{version} updated, the version is the same")
                }
                (Some(before), _) => format!("updated from {before} to {version}"),
            };
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "{name}: {what}");
            let _ = writeln!(text, "  library  {}", self.library.display());
            if let Some(line) = config_line(&pipeline.config) {
                let _ = writeln!(text, "  config   {line}");
            }
        }
        for name in &self.gone {
            let _ = writeln!(text, "{name}: the new version does not have it any more");
        }
        if follows {
            text.push_str("The daemon that runs takes it up within seconds.\n");
        } else if let Some(first) = self.pipelines.first() {
            let _ = writeln!(text, "\nNext:\n  etl-host run {}", first.name);
        }
        text
    }
}

fn config_line(config: &ConfigFile) -> Option<String> {
    let path = config.path.display();
    let source = config.source.as_deref().unwrap_or(Path::new(""));
    Some(match config.state {
        ConfigState::New => path.to_string(),
        ConfigState::Replaced => {
            let kept = config.backup.as_deref();
            let kept = kept.map_or(String::new(), |kept| {
                format!("; what was there is {}", kept.display())
            });
            format!("{path}, replaced by {}{kept}", source.display())
        }
        ConfigState::Unchanged => format!("{path}, unchanged"),
        ConfigState::Kept => format!(
            "{path} is kept, and differs from {}; --replace-config takes that one",
            source.display()
        ),
        ConfigState::None => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_a_configuration_is_found_at_its_top_level_only() {
        assert_eq!(
            named("# orders\nname: \"orders\"  # ours\n"),
            Some("orders")
        );
        assert_eq!(named("source:\n  name: eu\n"), None);
    }
}
