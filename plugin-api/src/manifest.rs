//! What a pipeline says of itself before anything runs.
//!
//! A manifest is data: the host reads it in a child process, keeps it in a cache and decides by it. It crosses
//! the boundary as JSON, so that fields may be added without a new ABI.

use serde::{Deserialize, Serialize};

/// What a loader promises when the same batch reaches it again. See [loaders](crate::guide::loaders).
///
/// ```
/// use etl_plugin_api::{Delivery, Manifest};
///
/// let manifest = Manifest::new("order-mail", "1.0.0").delivery(Delivery::AtLeastOnce);
/// assert_eq!(Manifest::default().delivery, Delivery::Transactional);
/// # assert_ne!(manifest.delivery, Delivery::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// It writes through the host's transaction: exactly once.
    #[default]
    Transactional,
    /// It keeps the token of its last commit and tells it when opened: exactly once.
    Idempotent,
    /// After a fault rows may arrive again.
    AtLeastOnce,
}

/// How many rows a transformer makes of one; the host holds it to that.
///
/// ```
/// use etl_plugin_api::{Cardinality, Manifest};
///
/// let manifest = Manifest::new("large-orders", "1.0.0").cardinality(Cardinality::Filter);
/// # assert_eq!(manifest.cardinality, Cardinality::Filter);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cardinality {
    /// Exactly one.
    #[default]
    OnePerRow,
    /// One or none.
    Filter,
    /// Any number, each with a known origin.
    Expand,
    /// Output rows stand for many input rows; only the output ledger is held against it.
    Aggregate,
}

/// What a pipeline asks to reach beyond its batches. It gets what the configuration grants of it, and runs only if that is
/// everything.
///
/// ```
/// use etl_plugin_api::Capabilities;
///
/// let asked = Capabilities::none()
///     .host("api.example.com:443")
///     // Where the file lies is the operator's to say, so the manifest names the setting that tells it.
///     .path("settings.geo.database")
///     .secret("api_token");
/// # assert_eq!(asked.paths.len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Capabilities {
    /// Network hosts, `name:port`.
    pub hosts: Vec<String>,
    /// Files and folders that are read. `settings.KEY`, or `settings.KEY.KEY` and so on, means the path that this setting
    /// holds, if it is set; the plugin gets such a setting as an absolute path. Any other path should be absolute.
    pub paths: Vec<String>,
    /// Files that are made or written, and folders in which that happens; written as `paths` are.
    pub writable: Vec<String>,
    /// Names of secrets, for [`Context::secret`](crate::Context::secret).
    pub secrets: Vec<String>,
}

impl Capabilities {
    /// Nothing beyond the batches.
    pub fn none() -> Self {
        Self::default()
    }

    /// And this network host, `name:port`.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// And this file or folder, to read.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.paths.push(path.into());
        self
    }

    /// And this file or folder, to write.
    #[must_use]
    pub fn writable(mut self, path: impl Into<String>) -> Self {
        self.writable.push(path.into());
        self
    }

    /// And this secret.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>) -> Self {
        self.secrets.push(name.into());
        self
    }
}

/// What a pipeline says of itself.
///
/// ```
/// use etl_plugin_api::{Cardinality, Manifest};
///
/// let manifest = Manifest::new("orders", "1.2.0")
///     .description("Copies orders")
///     .default_config("source: { type: sqlite, shards: [{ path: orders.db }] }")
///     .cardinality(Cardinality::Filter)
///     .stateless();
/// assert!(manifest.stateless);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Manifest {
    /// The pipeline's name, kebab-case, unique among all plugins.
    pub name: String,
    /// The pipeline's version.
    pub version: String,
    /// What it is for, in a sentence.
    pub description: String,
    /// YAML that a file beside the library may override.
    pub default_config: String,
    /// How many rows the transformer makes of one.
    pub cardinality: Cardinality,
    /// What a custom loader promises.
    pub delivery: Delivery,
    /// The output of a row depends on that row alone, so the host may run a batch again in parts.
    pub stateless: bool,
    /// What the pipeline asks to reach beyond its batches.
    pub capabilities: Capabilities,
    /// JSON schema of the settings; filled in on export.
    pub settings_schema: serde_json::Value,
}

impl Manifest {
    /// A manifest with a name and a version, usually `env!("CARGO_PKG_VERSION")`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            ..Self::default()
        }
    }

    /// What the pipeline is for, in a sentence.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// The configuration it runs with when nothing else is said, usually `include_str!("../config.yaml")`.
    #[must_use]
    pub fn default_config(mut self, yaml: impl Into<String>) -> Self {
        self.default_config = yaml.into();
        self
    }

    /// How many rows the transformer makes of one.
    #[must_use]
    pub fn cardinality(mut self, cardinality: Cardinality) -> Self {
        self.cardinality = cardinality;
        self
    }

    /// What a custom loader promises.
    #[must_use]
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// The output of a row depends on that row alone. Where rows may be set aside, the host then looks for the row at which
    /// the transformer fails, by giving parts of the batch to new instances.
    #[must_use]
    pub fn stateless(mut self) -> Self {
        self.stateless = true;
        self
    }

    /// What the pipeline asks to reach beyond its batches.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }
}

/// One mistake in a pipeline's settings. The host adds file, line and column.
///
/// ```
/// use etl_plugin_api::Problem;
///
/// let problem = Problem::new("api.timeout", "expected a time, such as 30s");
/// assert_eq!(problem.key, "api.timeout");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The key, dotted, relative to `settings`; empty for the settings as a whole.
    pub key: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl Problem {
    /// A problem of one key.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}
