//! Which of a configuration's values must never be shown.

use super::{Config, SinkConnector, SourceConnector};
use crate::config::secret::Secret;

impl Config {
    /// All that must never be shown: passwords, and what is granted to the plugin.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let of_sink = match &self.sink.connector {
            SinkConnector::Postgres(server) => Some(&server.password),
            SinkConnector::Sqlite { .. } => None,
        };
        let of_source: Vec<&Secret> = match &self.source.connector {
            SourceConnector::Sqlite { .. } | SourceConnector::None => Vec::new(),
            SourceConnector::Postgres { shards } => {
                shards.iter().map(|shard| &shard.server.password).collect()
            }
            SourceConnector::SqlServer { shards } => shards
                .iter()
                .map(|shard| &shard.server.server.password)
                .collect(),
        };
        of_source
            .into_iter()
            .chain(of_sink)
            .chain(self.capabilities.secrets.values())
    }
}
