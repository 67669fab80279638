//! Errors of the kind that the settings ask for.

use etl_plugin_api::prelude::*;

use crate::manifest;

pub struct Fails;

#[derive(Deserialize, JsonSchema, Default)]
#[serde(crate = "etl_plugin_api::serde", default, deny_unknown_fields)]
#[schemars(crate = "etl_plugin_api::schemars")]
pub struct Settings {
    /// `config`, `panic`, `transient` or any other word for a fatal error.
    kind: String,
}

impl Pipeline for Fails {
    type Settings = Settings;

    fn manifest(&self) -> Manifest {
        manifest("golden-fails", "golden_fails")
    }

    fn transformer(&self, settings: &Settings) -> Result<Option<Box<dyn Transformer>>> {
        let kind = settings.kind.clone();
        Ok(Some(Box::new(map_batches(
            move |cx, batch: RecordBatch| {
                if batch.num_rows() == 0 || cx.attempt().attempt > 1 {
                    return Ok(batch);
                }
                match kind.as_str() {
                    "config" => Err(StageError::config("a setting is wrong").in_column("name")),
                    "panic" => panic!("a golden panic"),
                    "transient" => Err(StageError::transient("not just now")),
                    _ => Err(StageError::fatal("never")),
                }
            },
        ))))
    }
}
