//! How full the pools are, for people and for `/metrics`. It only looks.

use std::sync::PoisonError;

use deadpool::managed::Manager;
use serde::Serialize;
use utoipa::ToSchema;

use super::{PoolTable, Pools};

/// The connections of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PoolUse {
    /// The server and the database.
    pub server: String,
    /// Connections that somebody works with.
    pub in_use: usize,
    /// Connections that are open and free.
    pub idle: usize,
    /// Who waits for one.
    pub waiting: usize,
    /// Most connections at a time.
    pub max: usize,
}

impl<M: Manager> PoolTable<M> {
    fn usage(&self, kind: &str, found: &mut Vec<PoolUse>) {
        let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (identity, pool) in pools.iter() {
            let status = pool.status();
            let idle = status.available.min(status.size);
            let server = format!(
                "{kind} at {}:{}/{}",
                identity.host, identity.port, identity.database
            );
            let one = PoolUse {
                server,
                in_use: status.size - idle,
                idle,
                waiting: status.waiting,
                max: status.max_size,
            };
            // Two users of one server have a pool each.
            match found.iter_mut().find(|other| other.server == one.server) {
                Some(other) => {
                    other.in_use += one.in_use;
                    other.idle += one.idle;
                    other.waiting += one.waiting;
                    other.max += one.max;
                }
                None => found.push(one),
            }
        }
    }
}

impl Pools {
    /// How full the pools are, by server. The connections for leases are not counted.
    pub fn usage(&self) -> Vec<PoolUse> {
        let mut found = Vec::new();
        self.postgres.usage("PostgreSQL", &mut found);
        self.sqlserver.usage("SQL Server", &mut found);
        found.sort_by(|a, b| a.server.cmp(&b.server));
        found
    }
}
