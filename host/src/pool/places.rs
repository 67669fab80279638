//! Places of partitions: who will hold connections until it is done takes all of them at once, before it opens the
//! first. Otherwise two partitions could each keep a connection that the other one waits for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Identity, Pools, identity, sqlserver_identity};
use crate::config::{Server, SqlServer};

/// How many partitions may hold something at a time: connections of a pool, as a rule.
#[derive(Clone, Debug)]
pub struct Places {
    most: u32,
    free: Arc<Semaphore>,
}

/// What a partition has taken; free again when this is dropped.
#[derive(Debug)]
pub struct Taken {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Places {
    /// So many places, for whoever holds this value or a clone of it.
    pub fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            most,
            free: Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1))),
        }
    }

    /// Takes one of each, and waits until they are free. The same places may be asked for twice.
    pub async fn take(wanted: impl IntoIterator<Item = Self>) -> Taken {
        let mut wanted: Vec<(Self, u32)> = wanted.into_iter().map(|places| (places, 1)).collect();
        // One order for everybody: whoever waits holds only what comes before, so there is no circle.
        wanted.sort_by_key(|(places, _)| Arc::as_ptr(&places.free).addr());
        wanted.dedup_by(|again, first| {
            let same = Arc::ptr_eq(&again.0.free, &first.0.free);
            first.1 += u32::from(same);
            same
        });
        let mut permits = Vec::with_capacity(wanted.len());
        for (places, count) in wanted {
            // The smallest pool has two connections and one place: its only partition may take both.
            let count = count.min(places.most);
            // The semaphore is never closed.
            permits.extend(places.free.acquire_many_owned(count).await.ok());
        }
        Taken { _permits: permits }
    }
}

/// The places of each pool.
#[derive(Default)]
pub(super) struct PlacesTable(Mutex<HashMap<Identity, Places>>);

impl PlacesTable {
    fn of(&self, identity: Identity, connections: u32) -> Places {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table
            .entry(identity)
            // One connection is left for reading checkpoints and for the swap.
            .or_insert_with(|| Places::new(connections.saturating_sub(1)))
            .clone()
    }
}

impl Pools {
    /// The places of a `PostgreSQL` server's pool.
    pub fn postgres_places(&self, server: &Server) -> Places {
        self.postgres_places
            .of(identity(server, ""), server.pool.max_connections)
    }

    /// The places of a SQL Server's pool.
    pub fn sqlserver_places(&self, server: &SqlServer) -> Places {
        let most = server.server.pool.max_connections;
        self.sqlserver_places.of(sqlserver_identity(server), most)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_same_places_count_twice_and_the_smallest_pool_is_enough() {
        let places = Places::new(3);
        let taken = Places::take([places.clone(), places.clone()]).await;
        assert_eq!(places.free.available_permits(), 1);
        drop(taken);
        let one = Places::new(0);
        let _taken = Places::take([one.clone(), one.clone()]).await;
        assert_eq!(one.free.available_permits(), 0);
    }

    #[tokio::test]
    async fn whoever_takes_two_in_either_order_comes_through() {
        let (a, b) = (Places::new(1), Places::new(1));
        let mut tasks = tokio::task::JoinSet::new();
        for round in 0..200 {
            let mut pair = [a.clone(), b.clone()];
            if round % 2 == 0 {
                pair.reverse();
            }
            tasks.spawn(async move {
                let _taken = Places::take(pair).await;
                tokio::task::yield_now().await;
            });
        }
        tokio::time::timeout(Duration::from_secs(30), tasks.join_all())
            .await
            .unwrap();
    }
}
