//! Reads `PostgreSQL` databases.

mod examine;

use std::sync::Arc;

use async_trait::async_trait;

use super::{Examination, ShardQuery, Source, SourceSession};
use crate::config::PostgresShard;
use crate::error::{Error, Result};
use crate::pool::Pools;

/// All shards of one configuration.
pub struct PostgresSource {
    shards: Vec<PostgresShard>,
    pools: Arc<Pools>,
}

impl PostgresSource {
    /// A source over these databases. Opens nothing.
    pub fn new(shards: &[PostgresShard], pools: Arc<Pools>) -> Self {
        Self {
            shards: shards.to_vec(),
            pools,
        }
    }
}

#[async_trait]
impl Source for PostgresSource {
    fn shards(&self) -> Vec<String> {
        self.shards.iter().map(|shard| shard.name.clone()).collect()
    }

    async fn open(&self, _: &str) -> Result<Box<dyn SourceSession>> {
        Err(Error::config(
            "this build of etl-host has no source of type `postgres`",
        ))
    }

    async fn examine(&self, shard: &str, query: Option<&ShardQuery>) -> Examination {
        match self.shards.iter().find(|known| known.name == shard) {
            Some(shard) => examine::examine(self, shard, query).await,
            None => Examination::default(),
        }
    }
}
