//! Copies orders with the names of their customers. What is read and where it goes stands in `config.yaml`.

use etl_plugin_api::prelude::*;

/// The pipeline. It leaves every stage to the host: the query's rows are loaded as they are.
///
/// To change rows on their way, give it a `transformer`; `etl-host generate --template rows` shows one.
pub struct {{type_name}};

impl Pipeline for {{type_name}} {
    // Settings would be a struct of your own; the host reads it from `settings:` in the configuration.
    type Settings = NoSettings;

    fn manifest(&self) -> Manifest {
        Manifest::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
            .default_config(include_str!("../config.yaml"))
            .stateless()
    }
}

etl_plugin_api::export_pipelines!({{type_name}});
