//! What nearly every command and the daemon need: the state folder, the plugins, a pipeline's configuration.
//!
//! It finds and reads; what is done with a pipeline is its callers' business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use etl_plugin_api::Manifest;

use crate::capabilities::{self, Granted};
use crate::config::settings::{self, Mistake, Unknown};
use crate::config::{self, ConfigErrors, ConfigProblem, Layer, Loaded, Positions};
use crate::error::{Error, ErrorKind, Result};
use crate::failure::Failure;
use crate::logs;
use crate::plugin::{Entry, Plugin, Registry};
use crate::runtime::report::{RunReport, Status};
use crate::stage::{self, Stages};
use crate::state::State;

/// The file that is read for variables, in the working directory.
const ENV_FILE: &str = ".env";

/// Where the host works.
#[derive(Clone, Debug)]
pub struct Folders {
    /// `PIPELINE.yaml` files that go before those beside the plugins.
    pub config_dir: Option<PathBuf>,
    /// The plugin libraries.
    pub plugins_dir: PathBuf,
    /// What the host keeps for itself.
    pub state_dir: PathBuf,
    /// The log files of pipelines.
    pub log_dir: PathBuf,
}

/// The state folder, the plugins and the environment.
pub struct Session {
    /// The state folder.
    pub state: State,
    /// The plugins.
    pub registry: Arc<Registry>,
    folders: Folders,
    env_file: BTreeMap<String, String>,
}

/// One pipeline of one plugin.
#[derive(Clone, Debug)]
pub struct Found {
    /// The folder that the library lies in.
    pub folder: PathBuf,
    /// The plugin.
    pub plugin: Arc<Plugin>,
    /// The pipeline.
    pub manifest: Manifest,
}

/// A configuration file that is about to be written.
#[derive(Clone, Copy, Debug)]
pub struct PlannedFile<'a> {
    /// Where it goes.
    pub path: &'a Path,
    /// The file that it comes from, for messages.
    pub source: &'a Path,
    /// What it will hold.
    pub text: &'a str,
}

impl Session {
    /// Opens the state folder and scans the plugins.
    pub fn open(folders: &Folders) -> Result<Self, Failure> {
        let env_file = load_env()?;
        let state = State::open(&folders.state_dir)?;
        let registry = Registry::scan(&folders.plugins_dir, &state, &host_binary()?)?;
        Ok(Self {
            state,
            registry: Arc::new(registry),
            folders: folders.clone(),
            env_file,
        })
    }

    /// The pipelines of a name: one pipeline's, or all of a plugin's.
    pub fn find(&self, name: &str) -> Result<Vec<Found>> {
        let found: Vec<Found> = self.registry.find(name).into_iter().map(found).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let refused = self.registry.entries().iter().find_map(|entry| {
            let refused = entry.outcome.as_ref().err()?;
            let stem = entry.path.file_stem()?.to_string_lossy().replace('_', "-");
            (stem.strip_prefix("lib").unwrap_or(&stem) == name).then_some((entry, refused))
        });
        if let Some((entry, refused)) = refused {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "the plugin {} is refused: {}",
                    entry.path.display(),
                    refused.reason
                ),
            )
            .hint(refused.fix.clone()));
        }
        let known: Vec<String> = self
            .all()
            .into_iter()
            .map(|found| found.manifest.name)
            .collect();
        let hint = if known.is_empty() {
            "the plugins folder holds no usable plugin: copy one there, and look at `etl-host list`"
                .to_owned()
        } else {
            format!("the pipelines are {}", known.join(", "))
        };
        Err(Error::config(format!("there is no pipeline or plugin `{name}`")).hint(hint))
    }

    /// One pipeline.
    pub fn find_one(&self, name: &str) -> Result<Found> {
        let mut found = self.find(name)?;
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(
                Error::config(format!("plugin `{name}` has several pipelines"))
                    .hint("name one of them"),
            ),
        }
    }

    /// The pipelines of a name, or all; there must be one.
    pub fn find_or_all(&self, name: Option<&str>) -> Result<Vec<Found>> {
        let found = match name {
            Some(name) => self.find(name)?,
            None => self.all(),
        };
        if found.is_empty() {
            let folder = self.folders.plugins_dir.display();
            return Err(Error::config(format!("no pipelines in {folder}"))
                .hint("copy a plugin there, and look at `etl-host list`"));
        }
        Ok(found)
    }

    /// All pipelines of all plugins.
    pub fn all(&self) -> Vec<Found> {
        self.registry
            .entries()
            .iter()
            .filter_map(|entry| Some((entry, entry.serving()?)))
            .flat_map(|(entry, plugin)| {
                plugin
                    .pipelines
                    .iter()
                    .map(move |manifest| found((entry, plugin, manifest)))
            })
            .collect()
    }

    /// What the files look like that configure pipelines, to notice that one has changed: path, size, time of change.
    pub fn config_files(&self) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
        let folders = std::iter::once(&self.folders.plugins_dir).chain(&self.folders.config_dir);
        let entries = folders.filter_map(|folder| std::fs::read_dir(folder).ok());
        let mut files: Vec<_> = entries
            .flat_map(Iterator::flatten)
            .filter(|entry| entry.path().extension().is_some_and(|it| it == "yaml"))
            .filter_map(|entry| {
                let seen = std::fs::metadata(entry.path()).ok()?;
                Some((entry.path(), seen.len(), seen.modified().ok()))
            })
            .collect();
        files.sort();
        files
    }

    /// The files that configure a pipeline, those that are there.
    pub fn config_paths(&self, found: &Found) -> Vec<PathBuf> {
        let folders = std::iter::once(&found.folder).chain(&self.folders.config_dir);
        let paths = folders.map(|folder| folder.join(format!("{}.yaml", found.manifest.name)));
        paths.filter(|path| path.exists()).collect()
    }

    /// Where this session works.
    pub fn folders(&self) -> &Folders {
        &self.folders
    }

    /// A pipeline's configuration: the plugin's default, the file beside the library, the file in `--config-dir`.
    pub fn load_config(&self, found: &Found) -> Result<Loaded, Failure> {
        self.load_config_with(found, None)
    }

    /// The same as it will be once a file has another text.
    pub fn load_config_with(
        &self,
        found: &Found,
        planned: Option<&PlannedFile<'_>>,
    ) -> Result<Loaded, Failure> {
        let name = &found.manifest.name;
        // The plugin has said its name already; a configuration need not say it again.
        let mut layers = vec![
            Layer {
                name: format!("{name} (the plugin's manifest)"),
                text: format!("name: {name}\n"),
                of_plugin: true,
            },
            Layer {
                name: format!("{name} (the plugin's default config)"),
                text: found.manifest.default_config.clone(),
                of_plugin: true,
            },
        ];
        let folders = std::iter::once(&found.folder).chain(&self.folders.config_dir);
        for folder in folders {
            let path = folder.join(format!("{name}.yaml"));
            if let Some(planned) = planned.filter(|planned| planned.path == path) {
                layers.push(Layer {
                    name: planned.source.display().to_string(),
                    text: planned.text.to_owned(),
                    of_plugin: false,
                });
                continue;
            }
            match std::fs::read_to_string(&path) {
                Ok(text) => layers.push(Layer {
                    name: path.display().to_string(),
                    text,
                    of_plugin: false,
                }),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Error::new(
                        ErrorKind::Refused,
                        format!("cannot read {}: {error}", path.display()),
                    )
                    .into());
                }
            }
        }
        let loaded = config::load(&layers, &config::env_with(self.env_file.clone()))?;
        logs::hide(loaded.config.secrets());
        if &loaded.config.name == name {
            return Ok(loaded);
        }
        let problem = loaded.positions.problem(
            "name",
            format!(
                "this is the configuration of pipeline `{name}`, not of `{}`",
                loaded.config.name
            ),
            Some("leave `name` out, or write the pipeline's own".to_owned()),
        );
        Err(ConfigErrors::from(vec![problem]).into())
    }

    /// Why the pipeline is not run, if its plugin has crashed too often.
    pub fn parked(&self, found: &Found, loaded: &Loaded) -> Result<Option<Error>> {
        let name = &found.manifest.name;
        let most = loaded.config.error_handling.park_after;
        let crashes = self.state.crashes(&found.plugin.sha256, name)?;
        Ok(crashes
            .filter(|crashes| most > 0 && crashes.runs >= most)
            .map(|crashes| {
                Error::new(
                    ErrorKind::Plugin,
                    format!(
                        "the pipeline is parked: its plugin crashed in {} runs in a row, last at {}: {}",
                        crashes.runs, crashes.at, crashes.message
                    ),
                )
                .hint(format!(
                    "replace the plugin with a version that is mended, or try it again with `etl-host enable {name}`"
                ))
            }))
    }

    /// Fails if the pipeline's plugin has crashed too often.
    pub fn refuse_parked(&self, found: &Found, loaded: &Loaded) -> Result<()> {
        match self.parked(found, loaded)? {
            Some(parked) => Err(parked.while_trying(format!("pipeline {}", found.manifest.name))),
            None => Ok(()),
        }
    }

    /// Keeps count of the runs in a row that a crash of the plugin failed.
    pub fn note_crashes(&self, sha256: &str, report: &RunReport) -> Result<()> {
        let crash = report.failures().find(|failure| failure.crashed);
        match crash {
            Some(crash) => {
                let (name, at) = (&report.pipeline, &report.finished_at);
                self.state
                    .record_crash(sha256, name, &crash.message, at)
                    .map(drop)
            }
            None if matches!(report.status, Status::Succeeded | Status::Partial) => {
                self.state.forget_crashes(&report.pipeline).map(drop)
            }
            None => Ok(()),
        }
    }

    /// What the plugin asks for and is granted. What it asks for in vain is a mistake of the configuration.
    pub fn granted(found: &Found, loaded: &Loaded) -> Result<Granted, Failure> {
        let (asked, grants) = (&found.manifest.capabilities, &loaded.config.capabilities);
        let settings = &loaded.config.settings;
        let missing = match capabilities::grant(asked, grants, settings, &working_dir()?) {
            Ok(granted) => return Ok(granted),
            Err(missing) => missing,
        };
        let fix = capabilities::line(&missing)
            .map(|line| format!("to grant it, add to {}.yaml: {line}", found.manifest.name));
        let problems: Vec<_> = missing
            .into_iter()
            .map(|missing| {
                let fix = missing.entry.is_some().then(|| fix.clone()).flatten();
                loaded
                    .positions
                    .problem(missing.kind.key(), missing.message, fix)
            })
            .collect();
        Err(ConfigErrors::from(problems).into())
    }

    /// What is granted although the plugin does not ask for it.
    pub fn unasked(found: &Found, loaded: &Loaded) -> Result<Vec<String>> {
        let (asked, grants) = (&found.manifest.capabilities, &loaded.config.capabilities);
        let settings = &loaded.config.settings;
        Ok(capabilities::unasked(
            asked,
            grants,
            settings,
            &working_dir()?,
        ))
    }

    /// Opens the plugin where it is to run and lets it check its settings, once it is granted what it asks for.
    pub fn open_stages(found: &Found, loaded: &Loaded) -> Result<Arc<dyn Stages>, Failure> {
        let granted = Self::granted(found, loaded)?;
        let mut config = loaded.config.clone();
        config.settings = capabilities::with_absolute_paths(
            &found.manifest.capabilities,
            config.settings,
            &working_dir()?,
        );
        let stages = stage::open(
            &found.plugin,
            &found.manifest,
            &config,
            &granted,
            &host_binary()?,
        )?;
        let schema = &found.manifest.settings_schema;
        let problems: Vec<Mistake> = stages
            .validate()?
            .into_iter()
            .map(|problem| settings::explain(schema, &problem.key, &problem.message))
            .collect();
        if problems.is_empty() {
            return Ok(stages);
        }
        // A deserializer stops at the first key that it does not know.
        let refused = |unknown: &Unknown| {
            unknown.refused && problems.iter().all(|known| known.key != unknown.key)
        };
        let others: Vec<Mistake> = settings::unknown(schema, &config.settings)
            .into_iter()
            .filter(|_| problems.iter().any(|problem| problem.of_key))
            .filter(refused)
            .map(Mistake::from)
            .collect();
        let all = problems.into_iter().chain(others);
        let all: Vec<_> = all
            .map(|mistake| place(mistake, &loaded.positions))
            .collect();
        Err(ConfigErrors::from(all).into())
    }

    /// Settings that are given although the plugin passes over them.
    pub fn ignored_settings(found: &Found, loaded: &Loaded) -> Vec<ConfigProblem> {
        let unknown = settings::unknown(&found.manifest.settings_schema, &loaded.config.settings);
        let ignored = unknown.into_iter().filter(|unknown| !unknown.refused);
        ignored
            .map(|unknown| place(unknown.into(), &loaded.positions))
            .collect()
    }
}

fn place(mistake: Mistake, positions: &Positions) -> ConfigProblem {
    let Mistake {
        key, message, fix, ..
    } = mistake;
    let key = match key.as_str() {
        "" => "settings".to_owned(),
        key => format!("settings.{key}"),
    };
    if mistake.of_key {
        positions.problem_of_key(&key, message, fix)
    } else {
        positions.problem(&key, message, fix)
    }
}

/// The variables of `.env` in the working directory.
pub fn load_env() -> Result<BTreeMap<String, String>> {
    config::load_env_file(ENV_FILE.as_ref()).map_err(|error| Error::config(error.to_string()))
}

/// The program that workers are started from: this very one, even if a newer version lies in its place by now.
pub fn host_binary() -> Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() {
        return Ok(own);
    }
    std::env::current_exe()
        .map_err(|error| Error::internal("cannot find the host's own file").caused_by(error))
}

/// Where relative paths of a configuration start.
fn working_dir() -> Result<PathBuf> {
    std::env::current_dir().map_err(|error| {
        Error::new(ErrorKind::Refused, "the working directory cannot be read").caused_by(error)
    })
}

fn found((entry, plugin, manifest): (&Entry, &Arc<Plugin>, &Manifest)) -> Found {
    Found {
        folder: entry.path.parent().map(PathBuf::from).unwrap_or_default(),
        plugin: Arc::clone(plugin),
        manifest: manifest.clone(),
    }
}
