//! Pipeline configuration: from the text of YAML files to a [`Config`] that passed every check.
//!
//! The way of a configuration: each [`Layer`] becomes a tree of values that know their places (`document`,
//! `marks`), later layers are laid over earlier ones (`merge`), and what remains is read key by key
//! (`section`, `value`, `parse`), where `${NAME}` is filled in (`interpolate`). Every mistake is collected and
//! all are told at once, with file, line, key and fix (`error`).
//!
//! This room does no I/O apart from [`load_env_file`]: its callers find and read the files. It does not know
//! plugins either; their settings are passed on as they are, and [`Positions`] tells where each one stands.

pub mod duration;

mod bad_rows;
mod byte_size;
mod daemon;
mod document;
mod env_file;
mod error;
mod interpolate;
mod marks;
mod merge;
mod model;
pub mod notifications;
mod of_plugin;
mod parse;
mod positions;
mod schedule_words;
mod secret;
mod section;
pub mod settings;
mod suggest;
mod table;
#[cfg(test)]
mod tests;
mod value;

pub use bad_rows::NotALimit;
pub use daemon::{Daemon, Http, HttpTls};
pub use env_file::{EnvFileError, env_with, load_env_file};
pub use error::{ConfigErrors, ConfigProblem, Position};
pub use model::{
    ApplicationIntent, BadRowLimit, BeyondMicroseconds, CatchUp, Clock, Config, Cursor, CursorKind,
    Dependency, ErrorHandling, FileShard, Grants, Isolation, KeyScope, Limits, NulCharacters,
    Overlap, PoolLimits, PostgresShard, ReadIsolation, ReadTimeouts, Schedule, SchemaChange,
    Server, Sink, SinkConnector, Source, SourceConnector, Split, SqlServer, SqlServerDriver,
    SqlServerShard, TableName, Tls, TlsMode, Tuning, WriteMode, WriteTimeouts,
};
pub use parse::is_host;
pub use positions::Positions;
pub use schedule_words::NotAWord;
pub use secret::Secret;
pub(crate) use suggest::closest;
pub use table::TableNameError;

/// One YAML text that takes part in a configuration.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What messages call it: a path, or such as `login-analytics (default config)`.
    pub name: String,
    /// The YAML.
    pub text: String,
    /// The plugin wrote it, so it may not hold what is the operator's to decide.
    pub of_plugin: bool,
}

/// A configuration, with the places its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where every key stands.
    pub positions: Positions,
}

/// Reads a configuration from its layers, later ones over earlier ones.
///
/// Mappings merge, everything else replaces, `key: null` takes away what an earlier layer gave. A layer that
/// names another `source.type` or `sink.type` starts that section anew, apart from the keys that do not depend
/// on the connector. A layer of the plugin may not decide what is
/// the operator's. `env` is asked only for variables of values that
/// survived.
pub fn load(
    layers: &[Layer],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigErrors> {
    read(layers, env, parse::config).map(|(config, positions)| Loaded { config, positions })
}

/// Reads the configuration of the daemon, `etl-host.yaml`.
pub fn load_daemon(
    layer: &Layer,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Daemon, ConfigErrors> {
    read(std::slice::from_ref(layer), env, parse::daemon).map(|(daemon, _)| daemon)
}

fn read<T>(
    layers: &[Layer],
    env: &dyn Fn(&str) -> Option<String>,
    parse: fn(section::Section<'_>) -> Result<T, section::Reported>,
) -> Result<(T, Positions), ConfigErrors> {
    let mut problems = Vec::new();
    let mut presumed = Vec::new();
    let mut merged = None;
    for layer in layers {
        match document::parse(layer) {
            Ok(mut node) => {
                if layer.of_plugin {
                    presumed.extend(of_plugin::refuse(&mut node));
                }
                merged = Some(match merged {
                    Some(base) => merge::layers(base, node, env),
                    None => node,
                });
            }
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        problems.extend(presumed);
        return Err(problems.into());
    }
    let root = merged.unwrap_or_else(|| document::Node::empty("configuration"));
    let reader = section::Reader::new(env);
    let parsed = value::Value::new(&root, &reader).section().and_then(parse);
    let mut problems = reader.into_problems();
    problems.extend(presumed);
    match parsed {
        Ok(parsed) if problems.is_empty() => Ok((parsed, Positions::of(&root))),
        _ => Err(problems.into()),
    }
}
