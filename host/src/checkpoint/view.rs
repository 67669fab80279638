//! Checkpoints in the form that `checkpoint --output json` and the HTTP API give them. The JSON is stable: `docs/json.md`.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Checkpoint, display};

/// How far a pipeline has been read.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CheckpointsView {
    /// The pipeline.
    pub pipeline: String,
    /// Every partition that was ever begun.
    pub partitions: Vec<CheckpointView>,
}

/// How far a partition has been read.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CheckpointView {
    /// The partition.
    pub name: String,
    /// Everything up to here is loaded.
    pub cursor: Option<String>,
    /// Attempts and changes by hand so far.
    pub epoch: i64,
    /// Server, database and query it was read from.
    pub fingerprint: Option<String>,
    /// The run that committed last; behind a slash, what of it did.
    pub run_id: Option<String>,
    /// When, as the sink writes it.
    pub updated_at: Option<String>,
}

impl CheckpointsView {
    /// Of all partitions of a pipeline.
    pub fn of(pipeline: &str, stored: &BTreeMap<String, Checkpoint>) -> Self {
        let partitions = stored.iter();
        Self {
            pipeline: pipeline.to_owned(),
            partitions: partitions
                .map(|(name, checkpoint)| CheckpointView::of(name, checkpoint))
                .collect(),
        }
    }
}

impl CheckpointView {
    /// Of a partition.
    pub fn of(name: &str, checkpoint: &Checkpoint) -> Self {
        Self {
            name: name.to_owned(),
            cursor: checkpoint.cursor.as_ref().map(display),
            epoch: checkpoint.epoch,
            fingerprint: checkpoint.fingerprint.clone(),
            run_id: checkpoint.run_id.clone(),
            updated_at: checkpoint.updated_at.clone(),
        }
    }
}
