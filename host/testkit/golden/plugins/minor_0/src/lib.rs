//! Every power of interface 1.0. The sources stay as they are: that they still build against the released interface,
//! and that what they build still runs, is what they are for.

mod fails;
mod numbers;
mod people;

use etl_plugin_api::prelude::*;

fn manifest(name: &str, table: &str) -> Manifest {
    let config = format!(
        "
source:
  type: sqlite
  shards: [{{ name: eu, path: data/people.db }}]
  query: SELECT id, name FROM people WHERE id > @from AND id <= @until ORDER BY id
cursor: {{ column: id, kind: integer }}
sink: {{ type: sqlite, path: data/warehouse.db, table: {table} }}
"
    );
    Manifest::new(name, "1.0.0-golden")
        .description("Stands for every plugin built against interface 1.0")
        .default_config(config)
}

etl_plugin_api::export_pipelines!(people::People, numbers::Numbers, fails::Fails);
