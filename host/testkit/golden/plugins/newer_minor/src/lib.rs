//! For the next minor of the interface. It uses `Context::host_name`, which only that one has; a host of today
//! answers with the default of the plugin's own interface.

use std::sync::Arc;

use etl_plugin_api::arrow::array::{ArrayRef, StringArray};
use etl_plugin_api::prelude::*;

const CONFIG: &str = "
source:
  type: sqlite
  shards: [{ name: eu, path: data/people.db }]
  query: SELECT id FROM people WHERE id > @from AND id <= @until ORDER BY id
cursor: { column: id, kind: integer }
sink: { type: sqlite, path: data/warehouse.db, table: hosts }
";

/// Adds the host's name to every row.
struct Hosts;

impl Pipeline for Hosts {
    type Settings = NoSettings;

    fn manifest(&self) -> Manifest {
        Manifest::new("golden-hosts", "1.0.0")
            .default_config(CONFIG)
            .stateless()
    }

    fn partitions(&self, _: &NoSettings, cx: &dyn Context) -> Result<Option<Vec<Partition>>> {
        cx.log(Level::Info, &format!("run by {}", cx.host_name()));
        Ok(None)
    }

    fn transformer(&self, _: &NoSettings) -> Result<Option<Box<dyn Transformer>>> {
        Ok(Some(Box::new(map_batches(|cx, batch: RecordBatch| {
            let names = vec![cx.host_name(); batch.num_rows()];
            let hosts: ArrayRef = Arc::new(StringArray::from(names));
            Ok(RecordBatch::try_from_iter([
                ("id", batch.column(0).clone()),
                ("host", hosts),
            ])?)
        }))))
    }
}

etl_plugin_api::export_pipelines!(Hosts);
