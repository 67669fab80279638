//! Reads SQL Server databases, each shard a database on a server.
mod describe;
mod types;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Source, SourceSession};
use crate::config::{BeyondMicroseconds, SqlServerShard};
use crate::error::{Error, Result};
use crate::pool::Pools;

/// All shards of one configuration.
pub struct SqlServerSource {
    shards: Vec<SqlServerShard>,
    beyond: BeyondMicroseconds,
    pools: Arc<Pools>,
}

impl SqlServerSource {
    /// A source over these databases. Opens nothing.
    pub fn new(shards: &[SqlServerShard], beyond: BeyondMicroseconds, pools: Arc<Pools>) -> Self {
        Self {
            shards: shards.to_vec(),
            beyond,
            pools,
        }
    }
}

#[async_trait]
impl Source for SqlServerSource {
    fn shards(&self) -> Vec<String> {
        self.shards.iter().map(|shard| shard.name.clone()).collect()
    }

    async fn open(&self, _: &str) -> Result<Box<dyn SourceSession>> {
        Err(Error::config(
            "this build of etl-host has no source of type `postgres`",
        ))
    }
}
